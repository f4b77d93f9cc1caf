"""Geometry and augmentation: one draw for events, frame and target; event-level noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from eventfm.config import Config
from eventfm.data.kernels import crop_events, placement
from eventfm.events import Events, Sensor


class AugmentConfig(Config):
    """What is drawn anew for each sample while training; `AugmentConfig.none()` is what evaluation uses."""

    crop_min: float = Field(default=0.8, gt=0, le=1)
    """Smallest share of the area that a random crop keeps (EventPretrain, view augmentation); 1 = no crop."""
    flip: float = Field(default=0.5, ge=0, le=1)
    """Chance of a left-right flip."""
    time_flip: float = Field(default=0.0, ge=0, le=1)
    """Chance of running time backwards, which swaps polarity and negates the target."""
    erase: float = Field(default=0.01, ge=0, le=1)
    """Up to this share of the events is erased."""
    add: float = Field(default=0.01, ge=0)
    """Up to this share of the events is added, as jittered copies."""
    jitter_px: float = Field(default=1.5, ge=0)
    """Standard deviation of an added event's displacement, pixels."""
    jitter_us: float = Field(default=1000.0, ge=0)
    """Standard deviation of an added event's displacement in time, microseconds."""
    max_events: PositiveInt | None = None
    """Keep a random contiguous stretch of at most this many events."""

    @classmethod
    def none(cls) -> AugmentConfig:
        """Return the config that changes nothing."""
        return cls(crop_min=1.0, flip=0.0, time_flip=0.0, erase=0.0, add=0.0)


@dataclass(frozen=True, slots=True)
class Geometry:
    """One draw: crop `left, top, width, height` of the sensor, resized to `out` (height, width), then flips."""

    left: int
    top: int
    width: int
    height: int
    out: tuple[int, int]
    flip: bool = False
    time_flip: bool = False

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width that events are gathered at: the crop or the output, whichever is smaller per axis.

        Where the output is smaller, several sensor pixels add up in one; where it is larger, each is repeated
        (nearest), so that no event is lost and no hole opens.
        """
        return min(self.height, self.out[0]), min(self.width, self.out[1])

    def events(self, events: Events) -> Events:
        """Return the events inside the crop, on a sensor of size `grid`, flipped in space and time."""
        rows, columns = self.grid
        column_of = placement(events.sensor.width, self.left, self.width, columns, self.flip)
        row_of = placement(events.sensor.height, self.top, self.height, rows)
        x, y, t, p = crop_events(events.x, events.y, events.t, events.p, column_of, row_of)
        if self.time_flip:
            first, stop = events.window or ((int(t[0]), int(t[-1]) + 1) if len(t) else (0, 1))
            x, y, t, p = (np.ascontiguousarray(c[::-1]) for c in (x, y, first + stop - 1 - t, 1 - p))
        return Events(x, y, t, p, Sensor(columns, rows, events.sensor.name), events.window)

    def enlarge(self, grid: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Write `grid` (C, h, w) of size `self.grid` into `out` (C, H, W) of size `self.out`, nearest."""
        rows = np.arange(self.out[0]) * grid.shape[1] // self.out[0]
        columns = np.arange(self.out[1]) * grid.shape[2] // self.out[1]
        np.take(grid[:, rows], columns, axis=2, out=out)

    def nearest(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return the same draw of a map of the sensor (..., h, w), such as classes or depth: (..., H, W) of size `out`.

        A pixel gets the value of one sensor pixel whose events it shows, the middle one where it shows several.
        """
        rows = _shown(self.top, self.height, self.out[0])
        columns = _shown(self.left, self.width, self.out[1], self.flip)
        return values[..., rows[:, None], columns]

    def flow(self, flow: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the same draw of a flow (2, h, w), pixels of the sensor: (2, H, W) in pixels of the output, nearest.

        Where time runs backwards it has no meaning: what a pixel sees then came from somewhere.
        """
        assert not self.time_flip
        scale = np.array([-1 if self.flip else 1, 1]) * self.out[::-1] / np.array([self.width, self.height])
        return (self.nearest(flow) * scale[:, None, None]).astype(np.float32)

    def voxels(self, voxels: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Write the same draw of a signed voxel grid (B, h, w) of the sensor into `out` (B, H, W), nearest.

        Where time runs backwards the bins are reversed and negated, however many there are: for `span="events"` that
        is the grid of the reversed events.
        """
        rows = self.top + np.arange(self.out[0]) * self.height // self.out[0]
        columns = self.left + np.arange(self.out[1]) * self.width // self.out[1]
        part = voxels[:, rows[:, None], columns[::-1] if self.flip else columns]
        out[...] = -part[::-1] if self.time_flip else part

    def picture(self, picture: NDArray[np.float32], cubic: bool = False) -> NDArray[np.float32]:
        """Return the same crop and flip of a picture (h, w) or (h, w, 3) of the sensor, resized to `out`.

        By area where it gets smaller, else linearly; `cubic` resizes by bicubic interpolation whatever the sizes.
        """
        import cv2

        part = picture[self.top : self.top + self.height, self.left : self.left + self.width]
        smaller = self.out[0] < self.height or self.out[1] < self.width
        method = cv2.INTER_CUBIC if cubic else cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        resized = cv2.resize(np.ascontiguousarray(part), self.out[::-1], interpolation=method)
        return np.ascontiguousarray(resized[:, ::-1]) if self.flip else resized

    def difference(self, difference: NDArray[np.float32], cubic: bool = False) -> NDArray[np.float32]:
        """Return the same draw of a temporal difference (h, w): as a picture, negated where time runs backwards."""
        out = self.picture(difference, cubic)
        return -out if self.time_flip else out

    def view(self, sensor: Sensor, moved: NDArray[np.float64] | None = None) -> NDArray[np.float32]:
        """Return the crop in units of the sensor's sides: left, top, right, bottom, and 1 where it is flipped; (5,).

        With `moved`, the homography (3, 3) that takes pixels of a picture at rest to the sensor, it is the part of the
        picture at rest: the upright box whose sides run through the middles of the sides that the crop has there.
        """
        x = np.array([self.left, self.left + self.width] * 2, np.float64)
        y = np.repeat(np.array([self.top, self.top + self.height], np.float64), 2)
        if moved is not None:
            # The centre of the first pixel is at 0 for a homography, and its outer corner for a crop.
            x, y, depth = np.linalg.inv(moved) @ np.stack([x - 0.5, y - 0.5, np.ones(4)])
            x, y = x / depth + 0.5, y / depth + 0.5
        (left, right), (top, bottom) = x.reshape(2, 2).mean(0), y.reshape(2, 2).mean(1)
        sides = left / sensor.width, top / sensor.height, right / sensor.width, bottom / sensor.height
        return np.array([*sides, self.flip], np.float32)


def whole(sensor: Sensor, out: tuple[int, int]) -> Geometry:
    """Return the geometry without a draw: the largest centred crop of the shape of `out` (height, width).

    Pixels stay square. A sensor within 15 % of the output size is cropped at its own scale (34 pixels to 32).
    """
    height, width = out
    if height <= sensor.height <= 1.15 * height and width <= sensor.width <= 1.15 * width:
        crop_h, crop_w = height, width
    else:
        scale = min(sensor.height / height, sensor.width / width)
        crop_h, crop_w = max(1, round(height * scale)), max(1, round(width * scale))
    return Geometry((sensor.width - crop_w) // 2, (sensor.height - crop_h) // 2, crop_w, crop_h, out)


def draw(sensor: Sensor, out: tuple[int, int], config: AugmentConfig, rng: np.random.Generator) -> Geometry:
    """Return a random geometry: a crop of at least `crop_min` of the largest one's area, anywhere, and flips.

    The shape of the output is kept up to a factor 3/4 to 4/3 (EventPretrain, view augmentation).
    """
    base = whole(sensor, out)
    width, height = base.width, base.height
    if config.crop_min < 1:
        area = rng.uniform(config.crop_min, 1) * width * height
        ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3))) * width / height
        drawn = round(float(np.sqrt(area * ratio))), round(float(np.sqrt(area / ratio)))
        if 0 < drawn[0] <= sensor.width and 0 < drawn[1] <= sensor.height:
            width, height = drawn
    left = int(rng.integers(0, sensor.width - width + 1)) if config.crop_min < 1 else base.left
    top = int(rng.integers(0, sensor.height - height + 1)) if config.crop_min < 1 else base.top
    flip, time_flip = bool(rng.random() < config.flip), bool(rng.random() < config.time_flip)
    return Geometry(left, top, width, height, out, flip, time_flip)


def disturb(events: Events, config: AugmentConfig, rng: np.random.Generator) -> Events:
    """Return `events` with some erased and some added, as EventPretrain's event-level augmentation.

    The shares are drawn from U(0, erase) and U(0, add). Added events are copies moved by Gaussian noise and kept
    inside the sensor and the window; a contiguous stretch of `max_events` is taken first.
    """
    if config.max_events is not None and len(events) > config.max_events:
        start = int(rng.integers(0, len(events) - config.max_events + 1))
        events = _with_window(events.take(start, start + config.max_events), events.window)
    num_erased = int(rng.uniform(0, config.erase) * len(events))
    num_added = int(rng.uniform(0, config.add) * len(events))
    if not num_erased and not num_added:
        return events
    kept = np.ones(len(events), bool)
    kept[rng.choice(len(events), num_erased, replace=False)] = False
    source = rng.integers(0, len(events), num_added)
    t_low, t_high = (events.window[0], events.window[1] - 1) if events.window else (events.t[0], events.t[-1])
    moved_x = np.rint(events.x[source] + rng.normal(0, config.jitter_px, num_added))
    moved_y = np.rint(events.y[source] + rng.normal(0, config.jitter_px, num_added))
    moved_t = events.t[source] + np.rint(rng.normal(0, config.jitter_us, num_added)).astype(np.int64)
    x = np.concatenate([events.x[kept], np.clip(moved_x, 0, events.sensor.width - 1).astype(np.uint16)])
    y = np.concatenate([events.y[kept], np.clip(moved_y, 0, events.sensor.height - 1).astype(np.uint16)])
    t = np.concatenate([events.t[kept], np.clip(moved_t, t_low, t_high)])
    p = np.concatenate([events.p[kept], events.p[source]])
    order = np.argsort(t, kind="stable")
    return Events(x[order], y[order], t[order], p[order], events.sensor, events.window)


def _shown(start: int, length: int, out: int, mirrored: bool = False) -> NDArray[np.int64]:
    """Return which coordinate of `[start, start + length)` each of `out` output pixels shows; see `Geometry.grid`."""
    cells = min(length, out)
    cell = np.arange(out) * cells // out
    cell = cells - 1 - cell if mirrored else cell
    # `placement` puts the coordinates from the first to the last into a cell.
    first, last = -(-cell * length // cells), -(-(cell + 1) * length // cells) - 1
    return start + (first + last) // 2


def _with_window(events: Events, window: tuple[int, int] | None) -> Events:
    return Events(events.x, events.y, events.t, events.p, events.sensor, window)
