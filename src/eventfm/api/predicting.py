"""`predict`: masks, flow, depth or classes of every window of a recording, as arrays and for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from eventfm.api.progress import counted
from eventfm.api.settings import nested
from eventfm.config import Config
from eventfm.data.sequences import open_one
from eventfm.data.windows import Window
from eventfm.deployment.predicted_files import MP4, NPZ, PNG, targets, write_answers
from eventfm.deployment.predicted_pictures import drawing
from eventfm.deployment.predicting import Answer, LoadedModel, load
from eventfm.events import OnError
from eventfm.protocols import Recording
from eventfm.visualization.files import save_picture

NUM_SHOWN = 6
"""Windows on the picture, evenly over the recording; they also set the scale of all colours."""
FPS = (1.0, 20.0)
"""Least and most frames a second of a video that is to run as fast as the recording."""


class PredictConfig(Config):
    """Settings of `predict`."""

    window: dict[str, Any] = Field(default_factory=dict)
    """What is otherwise than in training in how the recording is cut: fields of `WindowConfig`."""
    scale: float | None = Field(default=None, gt=0)
    """Pixels of the input per pixel of the sensor; where it is not given, such that the sensor's shorter side fits the
    model's input, as in training. 1 keeps the sensor's own pixels."""
    overlap: float = Field(default=0.25, ge=0, lt=1)
    """Share of their sides that neighbouring tiles have in common, where the sensor is larger than the input."""
    batch_size: PositiveInt = 4
    """Windows that are in memory at a time."""
    fps: float | None = Field(default=None, gt=0)
    """Frames a second of the video; as fast as the recording, but from 1 to 20, where it is not given."""
    codec: str = "libx264"
    """An encoder of FFmpeg for the video; H.264 plays everywhere."""
    format: str | None = None
    """A hint for files whose content does not say what they are."""
    sensor: tuple[PositiveInt, PositiveInt] | None = None
    """Width and height in pixels, for files that do not say."""
    on_error: OnError = "raise"
    """What to do with time that goes backwards and events outside the sensor: raise, sort or clamp."""
    device: str | None = None
    """Where the networks run: the CPU, or where a model that is loaded already is."""


@dataclass(frozen=True)
class Prediction:
    """What `predict` wrote."""

    task: str
    num_windows: int
    paths: tuple[Path, ...]
    classes: tuple[str, ...] = ()
    """Names of the classes, by number, of tasks that have such."""
    share: NDArray[np.float32] | None = None
    """(K,) of recognition: the share of each class, mean over the windows."""


def predict(
    recording: str | Path | Recording,
    model: str | Path | LoadedModel,
    out: str | Path,
    *,
    quiet: bool = False,
    **settings: Any,
) -> Prediction:
    """Write what `model` says of every window of `recording`: masks, flow, depth or classes, as large as the sensor.

    A folder `out` gets `predictions.npz` (`t_us` (W, 2), start and end of each window, and `semantic` (W, H, W) uint8,
    `flow` (W, 2, H, W), `depth` (W, H, W), or `share` (W, K), `label` (W,) and `mean_share` (K,), with `classes`),
    `predictions.mp4`, events beside answers (not of recognition), and `predictions.png`, a few windows. A path that
    ends in .npz, .mp4 or .png gets that alone. Windows are read, answered and written a few at a time.

    Args:
        recording: A file, a folder of one recording, a sequence of DSEC or M3ED, or an open recording.
        model: Folder of a model of a task or of its run, or a loaded one (`deployment.predicting.load`).
        out: Where to write.
        quiet: Show no progress.
        **settings: Those of `PredictConfig`: `window.*`, `scale`, `overlap`, `batch_size`, `fps`, `device`, ...

    Raises:
        ValueError: An unknown setting; a model or a recording that cannot be read; a recording without events or
            shorter than a window; an `out` that is something else.
        MissingExtraError: A video is asked for, and PyAV or its encoder is missing.
        OSError: The system refused to write; what was there before is untouched.
    """
    config = PredictConfig.parse(nested(settings), "predict")
    loaded = load(model) if isinstance(model, (str, Path)) else model
    loaded = loaded if config.device is None else loaded.to(config.device)
    files = targets(out, loaded.task)
    if isinstance(recording, (str, Path)):
        recording = open_one(recording, config.format, config.sensor, config.on_error)
    windows = loaded.windows(recording, config.window)
    next(iter(files.values())).parent.mkdir(parents=True, exist_ok=True)
    return _write(loaded, recording, windows, files, config, quiet)


def _write(
    loaded: LoadedModel,
    recording: Recording,
    windows: Sequence[Window],
    files: Mapping[str, Path],
    config: PredictConfig,
    quiet: bool,
) -> Prediction:
    recognition = loaded.task == "recognition"
    shares: list[NDArray[np.float32]] = []

    def answers(some: Sequence[Window]) -> Iterator[Answer]:
        return loaded.answers(recording, some, scale=config.scale, overlap=config.overlap, batch_size=config.batch_size)

    def remembered() -> Iterator[Answer]:
        for answer in answers(windows):
            if recognition:
                shares.append(answer.values)
            yield answer

    shown = sorted({int(n) for n in np.linspace(0, len(windows) - 1, NUM_SHOWN)})
    few = list(answers([windows[n] for n in shown])) if files.keys() & {MP4, PNG} else []
    first, last = recording.t_range
    pictures = drawing(loaded.task, loaded.classes, first, few)
    of_all = recognition or bool(files.keys() & {NPZ, MP4})
    if of_all:
        fps = config.fps or float(np.clip(len(windows) * 1e6 / (last + 1 - first), *FPS))
        with counted(f"{loaded.task} of windows", len(windows), quiet) as done:
            write_answers(remembered(), len(windows), files, pictures, fps, config.codec, done)
    if PNG in files:
        save_picture(files[PNG], pictures.sheet(few))
    share = np.mean(shares, axis=0, dtype=np.float32) if recognition else None
    return Prediction(loaded.task, len(windows if of_all else few), tuple(files.values()), loaded.classes, share)
