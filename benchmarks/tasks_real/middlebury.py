"""Real pictures with measured motion or depth as recordings: the pairs of Middlebury Flow, and two views of Cones.

Flow: `frame10` moves along s times its measured flow, s from -1 to 1, so that a window before the one that is scored is
there for models that compare two. Depth: what view 2 (6) of Cones shows as the camera comes over from the place of view
6 (2) to its own, on a straight line.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from eventfm.data.pictures import decode
from eventfm.events import Events
from eventfm.io import ArrayRecording, ArrayTrack
from eventfm.simulation import EventSimulator, SensorConfig, linear
from eventfm.simulation.light import coded
from tasks_real.settings import Settings
from tasks_real.warping import Moving, from_behind

UNKNOWN_FLOW = 1e9
"""Middlebury's mark of a pixel without flow: a length beyond this."""
DISPARITY_SCALE = 4
"""Grey levels of a disparity map per pixel; 0 is unknown."""
MATCHED_PX = 1.5
"""Standard deviation of the neighbourhood in which the pictures of a pair are compared."""
NEAR = 100.0
"""Relative depth is this over the disparity."""
VIEWS = {2: ((3, 4, 5, 6), -1), 6: ((5, 4, 3, 2), 1)}
"""Of each view of Cones with disparities: the views on the way to the other one, and which way its pixels go there."""


@dataclass(frozen=True)
class Scene:
    """A recording of a real picture in motion, and how it compares with other pictures of the same."""

    name: str
    recording: ArrayRecording
    check: dict[str, Any]
    """`known`, the share of pixels with a label; and, for each real picture of a later moment, the mean absolute
    difference in grey levels of 255 of the moved picture (`moved`) and of that at rest (`at_rest`)."""


def flow_pairs(data: Path, settings: Settings) -> dict[str, Any]:
    """Return how to make the scene of each pair, by name."""
    folders = sorted(folder for folder in (data / "images" / "middlebury_flow").iterdir() if folder.is_dir())
    return {folder.name: partial(flow_scene, folder, settings) for folder in folders[: settings.num_pairs]}


def depth_views(data: Path, settings: Settings) -> dict[str, Any]:
    """Return how to make the scene of each view of Cones, by name."""
    folder = data / "images" / "middlebury_cones"
    return {f"Cones, view {view}": partial(depth_scene, folder, view, settings) for view in VIEWS}


def flow_scene(folder: Path, settings: Settings) -> Scene:
    """Return a pair as a recording with `flow` of one window of `settings.window_us`, NaN where unknown or hidden.

    The window before it goes on straight backwards.
    """
    motion = read_flow(folder / "flow10.flo")
    known = np.isfinite(motion).all(axis=0)
    before, after = (light_of(folder / f"frame{number}.png", settings.lens_px) for number in (10, 11))
    moving = flow_surface(before, after, motion)
    window = settings.window_us
    steps = moving.steps(2.0, settings.step_px)
    events = filmed(moving, np.linspace(-1, 1, steps + 1), 2 * window, settings)
    truth = np.where(known & moving.visible(1.0), motion, np.nan).astype(np.float32)
    frames = [moving.frame(s) for s in (-1.0, 0.0, 1.0)]
    tracks = {
        "frames": ArrayTrack([0, window, 2 * window], np.stack(frames)),
        "flow": ArrayTrack([window], truth[None]),
    }
    check = {
        "known": float(np.isfinite(truth[0]).mean()),
        "frame11": {"moved": difference(frames[2], after), "at_rest": difference(frames[1], after)},
    }
    return Scene(folder.name, ArrayRecording(events, tracks, "simulated"), check)


def flow_surface(before: NDArray[np.float32], after: NDArray[np.float32], motion: NDArray[np.float32]) -> Moving:
    """Return the picture `before` (H, W) moving by `motion` (2, H, W), and as what is slower nearby where that is NaN.

    Of pixels that come to one place that is in front which the picture `after` shows there.
    """
    import cv2

    known = np.isfinite(motion).all(axis=0)
    whole = motion.reshape(2, -1)[:, from_behind(known, np.hypot(*np.where(known, motion, 0)))]
    moving = Moving(before, whole, np.zeros_like(before))
    found = cv2.remap(after, *moving.landed(1.0), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return replace(moving, front=-cv2.GaussianBlur(np.abs(coded(found) - coded(before)), (0, 0), MATCHED_PX))


def depth_scene(folder: Path, view: int, settings: Settings) -> Scene:
    """Return a view as a recording of `settings.depth_windows` windows, each with `depth` at its end.

    Depth is relative, `NEAR` over the disparity, and NaN where that is unknown or neither view shows what is seen.
    """
    first, second = (
        Cone.read(folder, number, settings) for number in (view, *(other for other in VIEWS if other != view))
    )
    moving = replace(first.moving, other=second.moving)
    count, window = settings.depth_windows, settings.window_us
    steps = moving.steps(1.0, settings.step_px)
    events = filmed(moving, np.linspace(1, 0, steps + 1), count * window, settings)
    ends = [1 - number / count for number in range(1, count + 1)]
    depth = np.stack([np.where(moving.view(s).shown, first.depth(s), second.depth(1 - s)) for s in ends])
    times = [window * number for number in range(1, count + 1)]
    check: dict[str, Any] = {"known": float(np.isfinite(depth).mean())}
    for number, other in enumerate(first.others, 1):
        real, s = light_of(folder / f"im{other}.png", settings.lens_px), number / len(first.others)
        check[f"im{other}"] = {
            "moved": difference(moving.frame(s), real),
            "at_rest": difference(moving.frame(0.0), real),
            "other": float((~moving.view(s).shown).mean()),
        }
    recording = ArrayRecording(events, {"depth": ArrayTrack(times, depth)}, "simulated")
    return Scene(f"Cones, view {view}", recording, check)


@dataclass(frozen=True)
class Cone:
    """A view of Cones that moves by its disparity to one side."""

    moving: Moving
    disparity: NDArray[np.float32]
    """(H, W) pixels between the two views; 0 where unknown."""
    others: tuple[int, ...]
    """The views on the way, and the other one."""

    @classmethod
    def read(cls, folder: Path, view: int, settings: Settings) -> Self:
        """Return a view; where its disparity is unknown, it moves as what is behind."""
        disparity = decode(folder / f"disp{view}.png")[..., 0].astype(np.float32) / DISPARITY_SCALE
        others, way = VIEWS[view]
        whole = disparity.ravel()[from_behind(disparity > 0, disparity)]
        light = light_of(folder / f"im{view}.png", settings.lens_px)
        return cls(Moving(light, np.stack([way * whole, np.zeros_like(whole)]), whole), disparity, others)

    def depth(self, s: float) -> NDArray[np.float32]:
        """Return the relative depth (H, W) of what is seen at `s`, NaN where this view does not know it."""
        source, _, shown = self.moving.view(s)
        disparity = np.where(shown, self.disparity.ravel()[source], 0)
        return np.where(disparity > 0, NEAR / np.maximum(disparity, 1 / DISPARITY_SCALE), np.nan).astype(np.float32)


def filmed(moving: Moving, path: NDArray[np.float64], duration_us: int, settings: Settings) -> Events:
    """Return what a sensor as large as the picture sends while `s` follows `path`, evenly over the time."""
    config = SensorConfig.preset(settings.preset)
    simulator = EventSimulator(*moving.size, config)
    times = np.rint(np.linspace(0, duration_us, len(path))).astype(np.int64)
    parts = [simulator.push(moving.frame(s)[None], [t]) for s, t in zip(path.tolist(), times.tolist(), strict=True)]
    columns = (np.concatenate([getattr(part, name) for part in parts]) for name in "xytp")
    return Events(*columns, simulator.sensor)


def light_of(file: Path, lens_px: float) -> NDArray[np.float32]:
    """Return a picture as linear light (H, W), softened as by a lens.

    Between its pixels a picture is blurred by interpolation, and on them it is not: without a lens a sensor would see
    it flicker as it moves.
    """
    import cv2

    light = linear(decode(file))
    return np.asarray(cv2.GaussianBlur(light, (0, 0), lens_px)) if lens_px else light


def difference(frame: NDArray[np.uint16], light: NDArray[np.float32]) -> float:
    """Return the mean absolute difference of a frame and light, in grey levels of 255 as a screen shows them."""
    return float(255 * np.abs(coded(frame / 65535) - coded(light)).mean())


def read_flow(file: Path) -> NDArray[np.float32]:
    """Return the flow (2, H, W) of a Middlebury file, pixels right and down, NaN where unknown.

    Raises:
        ValueError: It is none.
    """
    with file.open("rb") as opened:
        if opened.read(4) != b"PIEH":
            raise ValueError(f"expected a file of Middlebury flow, got {file}, which does not begin with PIEH")
        width, height = (int(n) for n in np.frombuffer(opened.read(8), "<i4"))
        values = np.frombuffer(opened.read(), "<f4")
    if values.size != 2 * width * height:
        raise ValueError(
            f"expected {2 * width * height} numbers for {width}x{height} pixels in {file}, got {values.size}"
        )
    flow = np.moveaxis(values.reshape(height, width, 2), 2, 0)
    return np.where((np.abs(flow) < UNKNOWN_FLOW).all(axis=0), flow, np.nan).astype(np.float32)
