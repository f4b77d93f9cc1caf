"""`visualize`: what an encoder makes of moments of a recording, beside what a teacher makes of its frames."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveInt

from eventfm.api.settings import nested
from eventfm.config import Config, ConfigError, Several
from eventfm.data.collection import Entry
from eventfm.data.pairs import scene_of
from eventfm.data.sequences import open_one
from eventfm.data.transforms import Geometry, whole
from eventfm.data.windows import Window, WindowConfig, cut, read, require_frame_size, spread
from eventfm.deployment.predict import LoadedEncoder, load
from eventfm.evaluation.collapse import upsampled
from eventfm.events import Events, OnError
from eventfm.methods.pairing import taught_tokens
from eventfm.models.teachers import load_teacher
from eventfm.protocols import Recording, Teacher
from eventfm.visualization.events import event_picture
from eventfm.visualization.files import save_picture
from eventfm.visualization.panel import Picture
from eventfm.visualization.token_panel import TokenRow, token_panel
from eventfm.visualization.tokens import MAX_CLUSTERS, Map, Place, spread_places

NUM_MOMENTS = 3
"""Moments that are shown where none is named."""
MAX_TOKENS = 32_768
"""Tokens of one picture, beyond which attention takes minutes and memory runs out."""


class PictureTeacher(Config):
    """The network that reads the frames."""

    name: str
    """Name on the model hub, or a folder."""
    input_size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None
    """Side or height and width of its pictures, pixels; where it is not given, such that one of its tokens lies on
    each of the encoder's."""
    revision: str | None = None
    """Revision on the hub."""
    trust_remote_code: bool = False
    """Run code that comes with the weights."""


class VisualizeConfig(Config):
    """Settings of `visualize`."""

    teacher: PictureTeacher | None = None
    at: Several[NonNegativeFloat] = ()
    """Moments, in seconds since the first event; three, evenly over the recording, where none is named."""
    anchors: int = Field(default=2, ge=0, le=8)
    """Places whose likeness to all others is shown."""
    clusters: int = Field(default=6, ge=2, le=MAX_CLUSTERS)
    """Clusters of tokens."""
    density: Several[PositiveInt] = (1,)
    """Factors by which the input is up-sampled, so that tokens lie closer."""
    window: WindowConfig | None = None
    """How the recording is cut, where it is not as in training."""
    format: str | None = None
    """A hint for files whose content does not say what they are."""
    sensor: tuple[PositiveInt, PositiveInt] | None = None
    """Width and height in pixels, for files that do not say."""
    on_error: OnError = "raise"
    """What to do with time that goes backwards and events outside the sensor: raise, sort or clamp."""
    device: str | None = None
    """Where the networks run: the CPU, or where an encoder that is loaded already is."""


class Visualization(NamedTuple):
    """What `visualize` made."""

    picture: Picture
    """(H, W, 3) uint8."""
    path: Path | None
    """The PNG, if one was written."""


@dataclass(frozen=True)
class _Moment:
    """A moment of the recording, as the encoder is shown it."""

    label: str
    events: Events
    """Those that the encoder sees, on its own grid of pixels."""
    places: list[Place]
    """Anchors."""
    tensor: torch.Tensor
    """The encoder's input, (1, C, H, W)."""
    view: NDArray[np.float32]
    """The part of the sensor that is seen, (5,)."""
    scene: Any = None
    """What a teacher is shown, where the recording has frames."""
    frame: Picture | None = None
    """The same part of that frame as is seen of the events."""


def visualize(
    encoder: str | Path | LoadedEncoder,
    recording: str | Path | Recording,
    out: str | Path | None = None,
    **settings: Any,
) -> Visualization:
    """Draw what `encoder` makes of moments of `recording`; with `out`, write it as PNG too.

    Each moment is a row (with several densities, a row for each): the events; the frame, where there is one; the
    tokens' three main directions as colours, one basis for all rows, and for events and frames together where their
    tokens have as many numbers; the cosine of all tokens with those at the anchors, blue for like and vermilion for
    unlike, with the anchors in the same places of events and frame; and clusters of tokens, shared like the basis.
    Frames are read by a `teacher`; without one there are the encoder's tokens alone.

    Args:
        encoder: Folder of an encoder or of a run, or a loaded one.
        recording: A file, a folder of one recording, a sequence of DSEC or M3ED, or an open recording.
        out: The PNG to write.
        **settings: Those of `VisualizeConfig`: `teacher`, `at`, `anchors`, `clusters`, `density`, `window`, ...

    Raises:
        ValueError: An unknown setting; an encoder, a teacher or a recording that cannot be read; a teacher for a
            recording without frames; moments after its end; a density whose input would be too large.
    """
    config = VisualizeConfig.parse(nested(settings), "visualize")
    if out is not None and Path(out).suffix.lower() != ".png":
        raise ConfigError(f"expected out to be a PNG, got {str(out)!r}; let its name end in .png")
    loaded = load(encoder) if isinstance(encoder, (str, Path)) else encoder
    loaded = loaded if config.device is None else loaded.to(config.device)
    _check_density(loaded, config.density)
    if isinstance(recording, (str, Path)):
        name = str(recording)
        recording = open_one(name, config.format, config.sensor, config.on_error)
    else:
        name = "the recording"
    entry = Entry(name, recording)
    framed = _has_frames(entry, needed=config.teacher is not None)
    windows = _windows(entry, config.window or loaded.window, config.at)
    moments = [_moment(loaded, entry, window, config.anchors, framed) for window in windows]
    teachers = _teachers(config, loaded, whole(recording.sensor, loaded.input_size), entry)
    rows = [_row(loaded, moment, density, teachers.get(density)) for moment in moments for density in config.density]
    picture = token_panel(rows, config.clusters)
    if out is None:
        return Visualization(picture, None)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    return Visualization(picture, save_picture(out, picture))


def _check_density(loaded: LoadedEncoder, densities: Sequence[int]) -> None:
    for density in densities:
        height, width = (side * density for side in loaded.input_size)
        rows, cols = (side // loaded.backbone.stride for side in (height, width))
        if density > 1 and rows * cols > MAX_TOKENS:
            raise ConfigError(
                f"density {density} makes an input of {width}x{height} pixels with {rows * cols:,} tokens, more than "
                f"the {MAX_TOKENS:,} that are drawn; choose a smaller density"
            )


def _has_frames(entry: Entry, needed: bool) -> bool:
    """Return whether the recording has frames that show what its sensor saw.

    Raises:
        ValueError: They are `needed`, and there are none, or none as large as the sensor.
    """
    sensor, frames = entry.recording.sensor, entry.recording.tracks.get("frames")
    if frames is None or not len(frames.times):
        if needed:
            there = ", ".join(["events", *sorted(set(entry.recording.tracks) - {"frames"})])
            raise ConfigError(
                f"a teacher reads frames, and {entry.name} has none, only {there}; leave teacher out, or choose a "
                "recording with frames"
            )
        return False
    shape = frames.read(0).shape[:2]
    if needed:
        require_frame_size(sensor, shape)
    return bool(shape == (sensor.height, sensor.width))


def _windows(entry: Entry, config: WindowConfig, at: Sequence[float]) -> list[Window]:
    """Return the windows that hold the moments `at`, seconds since the first event, or some spread evenly.

    Raises:
        ValueError: There is no window, or a moment lies after the end.
    """
    if not at:
        return list(dict.fromkeys(spread(entry.recording, config, NUM_MOMENTS)))
    first, last = entry.recording.t_range
    if latest := [seconds for seconds in at if seconds * 1e6 > last - first]:
        raise ConfigError(
            f"at={latest[0]:g} lies after the end of {entry.name}, which is {(last - first) / 1e6:.3f} s long"
        )
    windows = cut(entry.recording, config)
    if not windows:
        raise ConfigError(f"expected a recording with a window by {config.by}, and {entry.name} has none")

    def start(window: Window) -> int:
        if not window.counted:
            return window.start
        return int(entry.recording.events_by_index(window.start, window.start + 1).t[0])

    return [windows[max(0, bisect_right(windows, first + round(s * 1e6), key=start) - 1)] for s in at]


def _moment(loaded: LoadedEncoder, entry: Entry, window: Window, num_anchors: int, framed: bool) -> _Moment:
    """Return what the encoder, and a teacher, are shown of `window`."""
    events = read(entry.recording, window)
    sensor, span = entry.recording.sensor, events.window
    assert span is not None
    geometry = whole(sensor, loaded.input_size)
    seen = geometry.events(events)
    grid = tuple(side // loaded.backbone.stride for side in loaded.input_size)
    borders = [[0, seen.sensor.height], [0, seen.sensor.width]]
    weight = np.histogram2d(seen.y, seen.x, bins=grid, range=borders)[0]
    begin, end = ((t - entry.recording.t_range[0]) / 1e6 for t in span)
    scene = scene_of(entry, window, span) if framed else None
    frame = None
    if scene is not None:
        shown = np.moveaxis(scene.read((sensor.height, sensor.width)), 0, 2)
        frame = np.rint(255 * geometry.picture(shown).clip(0, 1)).astype(np.uint8)
    return _Moment(
        f"{begin:.3f} to {end:.3f} s",
        seen,
        spread_places(weight, num_anchors),
        loaded.tensors([events]),
        geometry.view(sensor),
        scene,
        frame,
    )


def _teachers(config: VisualizeConfig, loaded: LoadedEncoder, geometry: Geometry, entry: Entry) -> dict[int, Teacher]:
    """Return the teacher for each density, with pictures of the whole sensor in the size that suits the encoder."""
    if config.teacher is None:
        return {}
    options: dict[str, Any] = {
        "revision": config.teacher.revision,
        "trust_remote_code": config.teacher.trust_remote_code,
    }
    first = load_teacher(config.teacher.name, input_size=config.teacher.input_size, **options)
    if config.teacher.input_size is not None:
        return dict.fromkeys(config.density, first)
    sensor = entry.recording.sensor
    shares = sensor.height / geometry.height, sensor.width / geometry.width
    teachers = {}
    for density in config.density:
        size = tuple(
            round(density * side / loaded.backbone.stride * share) * (pixels // tokens)
            for side, share, pixels, tokens in zip(loaded.input_size, shares, first.input_size, first.grid, strict=True)
        )
        same = size == tuple(first.input_size)
        teachers[density] = first if same else load_teacher(config.teacher.name, input_size=size, **options)
    return teachers


def _row(loaded: LoadedEncoder, moment: _Moment, density: int, teacher: Teacher | None) -> TokenRow:
    """Return the tokens of `moment` at `density`."""
    device = next(loaded.backbone.parameters()).device
    batch: dict[str, Any] = {"input": upsampled(moment.tensor.to(device), density)}
    with torch.inference_mode():
        features = loaded.backbone(batch["input"])
        taught = None
        if teacher is not None:
            batch["teacher_picture"] = torch.from_numpy(moment.scene.read(teacher.input_size))[None].to(device)
            batch["view"] = torch.from_numpy(moment.view)[None].to(device)
            taught = _map(taught_tokens(batch, teacher, features.grid), features.grid)
    label = moment.label if density == 1 else f"{moment.label}, x{density}"
    own = _map(features.tokens, features.grid)
    return TokenRow(label, event_picture(moment.events), own, moment.places, moment.frame, taught)


def _map(tokens: torch.Tensor, grid: tuple[int, int]) -> Map:
    return tokens[0].float().cpu().numpy().reshape(*grid, -1)
