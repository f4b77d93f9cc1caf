"""A model of a task on recordings: an answer for every window, as large as the sensor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from eventfm.data.pairs import write_grid
from eventfm.data.transforms import Geometry, whole
from eventfm.data.windows import MIN_COVERAGE, Window, WindowConfig, before, cut, is_covered, read
from eventfm.deployment.model import WEIGHTS, ModelCard, load_model, model_folder
from eventfm.deployment.tiling import tiled
from eventfm.engine.devices import find_device
from eventfm.events import Events, Sensor
from eventfm.models.encoder import WEIGHTS as ENCODER_WEIGHTS
from eventfm.protocols import Recording, Representation
from eventfm.representations import build as build_representation
from eventfm.tasks import wanted

ARRAY = {"recognition": "share", "segmentation": "semantic", "flow": "flow", "depth": "depth"}
"""What the answers of each task are called; those of a task but recognition are for every pixel."""
MAX_CLASSES = 255
"""Class numbers are kept as uint8, in which 255 means that there is none."""
MAX_SIDE = 2**14
"""Pixels of a side of what is looked at in tiles: more would not fit into memory."""


class PredictError(ValueError):
    """Raised when a folder holds no model, or a recording gives a model nothing to answer for."""


class Answer(NamedTuple):
    """What a model says of one window."""

    events: Events
    """Those of the window, as the recording has them."""
    values: NDArray[Any]
    """`share` (K,) float32 of each class; `semantic` (H, W) uint8, class numbers; `flow` (2, H, W) float32, pixels of
    the sensor until the end of the window, u right and v down; or `depth` (H, W) float32, metres."""

    @property
    def t_us(self) -> tuple[int, int]:
        """Start and end of the window, microseconds `[t0, t1)`."""
        assert self.events.window is not None
        return self.events.window


@dataclass(frozen=True)
class LoadedModel:
    """The networks of a task in evaluation mode, with the representation that they read."""

    objective: Any
    card: ModelCard
    representation: Representation

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self.card.task["name"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, by number, of tasks that have such."""
        return self.card.classes

    @property
    def reads_before(self) -> bool:
        """Whether it compares each window with the one right before it."""
        return "before" in wanted(self.card.task)

    def to(self, device: str | torch.device) -> LoadedModel:
        """Return the same model with its weights moved to `device`, `auto` or as torch names them.

        Raises:
            ValueError: This machine has no such device.
        """
        self.objective.to(find_device(device)[0])
        return self

    def windows(self, recording: Recording, changes: Mapping[str, Any] | None = None) -> list[Window]:
        """Return the windows that are answered for: as the model's card says, but for `changes`, as of `WindowConfig`.

        No label is needed: windows at the entries of a track, or between them, become windows by time of their length.
        A model that compares windows starts with the second.

        Raises:
            PredictError: The recording has no events, or is too short for one window.
            ConfigError: A change that `WindowConfig` does not know.
            WindowError: Windows by a track that the recording does not have.
        """
        if not recording.num_events:
            raise PredictError("expected a recording with events, got one without: there is nothing to answer for")
        config = _without_labels(self.card.encoder.window, changes or {})
        if self.reads_before and config.by == "count":
            raise PredictError(
                "the model compares each window with one of the same length before it, and windows by count have none; "
                "give window.by=time window.duration_us=N"
            )
        windows = [window for window in cut(recording, config) if _is_filled(recording, window)]
        if not windows:
            raise PredictError(_too_short(recording, config))
        if self.reads_before:
            windows = [window for window in windows if is_covered(recording, before(window))]
        if not windows:
            raise PredictError(
                "the model compares each window with the one before it, and the recording lasts for one window only; "
                "give shorter ones: window.by=time window.duration_us=N"
            )
        return windows

    def answers(
        self,
        recording: Recording,
        windows: Iterable[Window],
        *,
        scale: float | None = None,
        overlap: float = 0.25,
        batch_size: int = 4,
    ) -> Iterator[Answer]:
        """Yield what the model says of each of `windows`, which are read `batch_size` at a time.

        Recognition sees what it saw in training, the middle of the sensor in the shape of the input. Other tasks see
        the whole sensor: brought to the scale at which training saw a sensor of this size (its shorter side fills the
        input), in tiles of the input's size that share `overlap` of their sides at least and are blended, and the
        answers brought back to the sensor's pixels: logits before the class is chosen, flow in the sensor's pixels.

        Args:
            recording: What to answer for.
            windows: Which parts of it (`windows`).
            scale: Pixels of the input per pixel of the sensor, another than that of training; 1 keeps every pixel.
            overlap: Share of a tile's sides.
            batch_size: Windows at a time.

        Raises:
            PredictError: A scale for recognition, more classes than a mask can hold, or a recording that cannot be
                read to its end.
        """
        if self.task == "recognition" and scale is not None:
            raise PredictError("scale is for answers for every pixel, and recognition has none; leave scale out")
        if self.task == "segmentation" and len(self.classes) > MAX_CLASSES:
            raise PredictError(f"expected at most {MAX_CLASSES} classes to draw masks of, got {len(self.classes)}")
        size, sensor = self.card.encoder.input_size, recording.sensor
        geometry = whole(sensor, size) if self.task == "recognition" else view(sensor, size, scale)
        rest = iter(windows)
        while part := list(islice(rest, batch_size)):
            events = _read(recording, part)
            x = self._inputs(events, geometry)
            if self.reads_before:
                earlier = _read(recording, [before(Window(*_span(window))) for window in events])
                x = torch.cat([x, self._inputs(earlier, geometry)], 1)
            said = self._say(x.to(next(self.objective.parameters()).device), overlap)
            for window, one in zip(events, said, strict=True):
                yield Answer(window, _at_sensor(self.task, one, sensor).cpu().numpy())

    def _inputs(self, windows: Sequence[Events], geometry: Geometry) -> Tensor:
        """Return (B, C, H, W), the representations of windows of a sensor, as `geometry` has it."""
        batch = torch.empty((len(windows), self.representation.channels, *geometry.out))
        for events, out in zip(windows, batch.numpy(), strict=True):
            write_grid(self.representation, geometry.events(events), geometry, out)
        return batch

    def _say(self, x: Tensor, overlap: float) -> Tensor:
        """Return what the networks say of `x` (B, C, H, W), which has the windows before in further channels if any."""
        channels = self.representation.channels
        key = "logits" if self.task in ("recognition", "segmentation") else self.task

        def ask(tile: Tensor) -> Tensor:
            batch = {"input": tile[:, :channels]}
            if self.reads_before:
                batch["before"] = tile[:, channels:]
            said: Tensor = self.objective.predict(batch)[key]
            return said.float()

        if self.task == "recognition":
            return ask(x)
        rows, columns = self.card.encoder.input_size
        return tiled(ask, x, (rows, columns), (int(overlap * rows), int(overlap * columns)))


def load(path: str | Path, device: str = "cpu") -> LoadedModel:
    """Return the model kept in the folder `path` (`model` of a run on labels, or the run's folder itself).

    Raises:
        PredictError: The folder holds an encoder alone.
        ModelError: The folder holds no model, or a damaged one.
    """
    folder = model_folder(path)
    if not (folder / WEIGHTS).exists():
        for encoder in (folder, folder / "encoder"):
            if (encoder / ENCODER_WEIGHTS).exists():
                raise PredictError(
                    f"{encoder} holds an encoder, which has features and no answers; train a head for it with "
                    f"`eventfm finetune TASK encoder={encoder} data=PATH out=RUN`, then give model=RUN; `eventfm "
                    "embed` writes the features"
                )
    objective, card = load_model(folder)
    return LoadedModel(objective, card, build_representation(card.encoder.representation)).to(device)


def view(sensor: Sensor, size: tuple[int, int], scale: float | None = None) -> Geometry:
    """Return the geometry that has the whole of `sensor` at `scale`, or else where `whole` has a part of it.

    Raises:
        PredictError: The picture at that scale has a side of more than `MAX_SIDE` pixels.
    """
    if scale is None:
        part = whole(sensor, size)
        rows, columns = size[0] / part.height * sensor.height, size[1] / part.width * sensor.width
    else:
        rows, columns = scale * sensor.height, scale * sensor.width
        if max(rows, columns) > MAX_SIDE:
            raise PredictError(
                f"expected a scale of at most {MAX_SIDE / max(sensor.height, sensor.width):.3g} for a sensor of "
                f"{sensor.width}x{sensor.height}, got {scale:g}: it is pixels of the input per pixel of the sensor"
            )
    return Geometry(0, 0, sensor.width, sensor.height, (max(1, round(rows)), max(1, round(columns))))


def _without_labels(given: Mapping[str, Any], changes: Mapping[str, Any]) -> WindowConfig:
    """Return the windows of a model's card, with `changes`, such that they need no label."""
    values = dict(given)
    if values.get("by") in ("frame", "frames"):
        values |= {"by": "time", "track": "frames"}
    if "duration_us" in changes:  # the step of training belongs to its length
        values.pop("stride_us", None)
    return WindowConfig.parse({**values, **changes}, under="window")


def _is_filled(recording: Recording, window: Window) -> bool:
    """Return whether the recording has most of what a window asks for."""
    if window.counted:
        return min(window.stop, recording.num_events) - window.start >= MIN_COVERAGE * (window.stop - window.start)
    return is_covered(recording, window)


def _too_short(recording: Recording, config: WindowConfig) -> str:
    first, last = recording.t_range
    if config.by == "time":
        return (
            f"expected a recording of {config.duration_us} us at least, the length of a window, got {last + 1 - first} "
            f"us; give a shorter one: window.duration_us={last + 1 - first}"
        )
    if config.by == "count":
        return (
            f"expected a recording of {config.num_events} events at least, the length of a window, got "
            f"{recording.num_events}; give a shorter one: window.num_events={recording.num_events}"
        )
    return f"expected a window by {config.by} of the track {config.track!r} that events cover, got none"


def _read(recording: Recording, windows: Sequence[Window]) -> list[Events]:
    try:
        return [read(recording, window) for window in windows]
    except OSError as error:  # not to be taken for one of those who write what is said of it
        raise PredictError(f"the recording cannot be read further ({error})") from error


def _at_sensor(task: str, said: Tensor, sensor: Sensor) -> Tensor:
    """Return what the networks say of one window, (K,) or (K, h, w), as an `Answer` has it."""
    if task == "recognition":
        return said.softmax(0)
    size, (rows, columns) = (sensor.height, sensor.width), said.shape[1:]
    if (rows, columns) != size:
        said = functional.interpolate(said[None], size, mode="bilinear", align_corners=False)[0]
    if task == "segmentation":
        return said.argmax(0).to(torch.uint8)
    if task == "flow":
        return said * said.new_tensor([sensor.width / columns, sensor.height / rows]).view(2, 1, 1)
    return said[0]


def _span(events: Events) -> tuple[int, int]:
    assert events.window is not None
    return events.window
