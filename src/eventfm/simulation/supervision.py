"""What a moving picture teaches beside its events: flow, velocity, differences of light, an anchor; all of it exact."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eventfm.simulation.light import coded
from eventfm.simulation.motion import flow, velocity
from eventfm.simulation.paths import Path
from eventfm.simulation.render import Clip, Plane, check_linear, prepared, record, render, seen, view
from eventfm.simulation.response import FRACTION_BITS, FULL, brightness_table
from eventfm.simulation.sensor import SensorConfig


@dataclass(frozen=True, eq=False)
class Shot:
    """A picture, its motion, and the sensor before it: clips and targets at any times follow from these alone.

    `shoot` makes one; who has the plane of a picture at hand puts it together directly.
    """

    picture: NDArray[Any]
    """As it was given, coded or linear, grey or colour."""
    plane: Plane
    path: Path
    config: SensorConfig
    clip_id: int = 0

    @cached_property
    def anchor(self) -> NDArray[Any]:
        """The picture as the sensor sees it at rest, in its own coding, dtype and colours: (H, W) or (H, W, 3).

        `path.at(t)` takes its pixels to where they are at time t, and so do features that are computed from it.
        """
        full = 1 if self.picture.dtype.kind == "f" else np.iinfo(self.picture.dtype).max
        channels = [self.picture] if self.picture.ndim == 2 else np.moveaxis(self.picture, 2, 0)
        seen_at_rest = [view(prepared(channel, self.plane.size, enlarge=True), np.eye(3)) for channel in channels]
        if full > 1:
            seen_at_rest = [np.rint(coded(light) * full).astype(self.picture.dtype) for light in seen_at_rest]
        return seen_at_rest[0] if self.picture.ndim == 2 else np.stack(seen_at_rest, axis=-1)


def shoot(
    picture: ArrayLike,
    path: Path,
    size: tuple[int, int],
    config: SensorConfig,
    clip_id: int = 0,
    enlarge: bool = False,
) -> Shot:
    """Return a picture in motion before a sensor; arguments and errors are those of `make_clip`, without planes.

    The anchor is the picture in its own coding, which its plane does not know: see `Shot` for who has both.
    """
    check_linear(config)
    if isinstance(picture, Plane):
        raise ValueError("expected a picture, got its plane; Shot(picture, plane, path, config) takes both")
    array = np.asarray(picture)
    return Shot(array, prepared(array, size, enlarge), path, config, clip_id)


@dataclass(frozen=True, eq=False)
class Supervision:
    """Targets for the events of the window (t1, t2]; arrays are on the sensor's pixels (H, W)."""

    shot: Shot
    flow: NDArray[np.float32]
    """(2, H, W) pixels, (dx, dy): where what a pixel sees at t1 is at t2."""
    velocity: NDArray[np.float32]
    """(2, H, W) pixels per second, (vx, vy), at t1."""
    difference: NDArray[np.float32]
    """(H, W) linear luminance at t2 less that at t1."""
    log_difference: NDArray[np.float32]
    """(H, W) difference of the sensor's response to that light (`SensorConfig.log`), natural-log units. Without noise
    and with frames at t1 and t2, the events of the window times their thresholds sum up to this, to less than an ON and
    an OFF threshold together; from the first frame on and with `init="zero"`, to less than one of them."""
    valid: NDArray[np.bool_]
    """(H, W): the pixel looks at the picture, and not at its mirrored continuation, at both times, and what it sees at
    t1 is still on the sensor at t2."""
    homographies: NDArray[np.float64]
    """(2, 3, 3) from pixels of the anchor to the sensor at t1 and at t2."""

    @property
    def anchor(self) -> NDArray[Any]:
        """`Shot.anchor`, the same for all windows of a shot."""
        return self.shot.anchor


def supervise(shot: Shot, t1_us: int, t2_us: int) -> Supervision:
    """Return the targets for the window (t1, t2] of a shot, in microseconds; t2 may be before t1.

    The light is that of the 16-bit frames which a clip that starts or ends at these times is simulated from.
    """
    plane, path = shot.plane, shot.path
    start, stop = render(plane, path, [t1_us, t2_us], plane.size)
    table = brightness_table(shot.config)
    homographies = path.at([t1_us, t2_us])
    moved, lands = flow(path, t1_us, t2_us, plane.size)
    return Supervision(
        shot=shot,
        flow=moved,
        velocity=velocity(path, t1_us, plane.size),
        difference=stop / np.float32(FULL) - start / np.float32(FULL),
        log_difference=((table[stop].astype(np.int64) - table[start]) / (1 << FRACTION_BITS)).astype(np.float32),
        valid=lands & seen(plane, homographies[0]) & seen(plane, homographies[1]),
        homographies=homographies,
    )


class Twins(NamedTuple):
    """Two clips of one motion before one sensor, with the same thresholds."""

    clean: Clip
    """As if the sensor had thresholds and nothing else: no noise, no delays, no lag, no rest."""
    noisy: Clip
    """As the sensor is."""


def twins(shot: Shot, t_us_range: tuple[int, int]) -> Twins:
    """Return the events of a shot from t0 to t1 twice: without what troubles its sensor, and with it.

    Without is `SensorConfig.without_noise`.
    """
    clips = record(shot.plane, shot.path, t_us_range, [shot.config.without_noise(), shot.config], shot.clip_id)
    return Twins(*clips)
