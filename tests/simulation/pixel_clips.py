"""Clips that many tests of the pixel model use, and events in a form that is easily compared."""

from __future__ import annotations

from itertools import groupby

import numpy as np
from oracle import Candidate, Maps, Sent

from eventfm.events import Events
from eventfm.simulation.maps import initial_distance, leak_map, threshold_maps
from eventfm.simulation.noise import NoiseClocks
from eventfm.simulation.pixel import EventSimulator
from eventfm.simulation.sensor import SensorConfig

IDEAL = SensorConfig(sigma=0.0, init="zero")
ONE = 1 << 24


def video(num_frames: int = 12, height: int = 13, width: int = 21, dtype: str = "uint16", seed: int = 3) -> np.ndarray:
    """Return a random walk over grey levels, so that most pixels fire several times, also twice in an interval."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(0, 0.12, (num_frames, height, width)), axis=0) + rng.uniform(0, 1, (height, width))
    folded = np.abs((walk % 2) - 1)
    return folded.astype(np.float32) if dtype == "float32" else np.rint(folded * np.iinfo(dtype).max).astype(dtype)


def times(num_frames: int, start: int = 0, seed: int = 4) -> np.ndarray:
    return start + np.cumsum(np.random.default_rng(seed).integers(300, 3000, num_frames))


def still(level: float, num_frames: int, height: int, width: int) -> np.ndarray:
    return np.full((num_frames, height, width), round(level * 65535), np.uint16)


def simulator(
    height: int, width: int, config: SensorConfig, clip_id: int = 0, backend: str = "numba"
) -> EventSimulator:
    return EventSimulator(height, width, config, clip_id, backend)


def run(frames: np.ndarray, t_us: np.ndarray, config: SensorConfig, clip_id: int = 0, backend: str = "numba") -> Events:
    return simulator(*frames.shape[1:], config, clip_id, backend).push(frames, np.asarray(t_us))


def columns(events: Events) -> np.ndarray:
    """Return (5, N) int64: x, y, t, p, noise (0 where the sensor has no noise)."""
    noise = np.zeros(len(events), np.uint8) if events.noise is None else events.noise
    return np.stack([events.x, events.y, events.t, events.p, noise]).astype(np.int64)


def joined(parts: list[Events]) -> np.ndarray:
    return np.concatenate([columns(part) for part in parts], axis=1)


def as_sent(events: Events) -> list[Sent]:
    x, y, t, p, noise = columns(events).tolist()
    return [Sent(*event) for event in zip(t, y, x, p, noise, strict=True)]


def maps_of(config: SensorConfig, height: int, width: int, clip_id: int = 0) -> Maps:
    c_pos, c_neg = threshold_maps(config, height, width, clip_id)
    distance = initial_distance(config, c_pos, c_neg, clip_id)
    return Maps(c_pos, c_neg, distance, leak_map(config, c_pos, clip_id))


def candidates_of(
    config: SensorConfig, height: int, width: int, clip_id: int, until: int
) -> dict[tuple[int, int], list[Candidate]]:
    """Return the noise candidates of each pixel (y, x) up to `until`, asked for in one go."""
    if not config.has_noise:
        return {}
    found = NoiseClocks(config, *threshold_maps(config, height, width, clip_id), clip_id).take(until)
    rows = zip(*(column.tolist() for column in (found.pixel, found.elapsed, found.polarity, found.draw)), strict=True)
    return {
        divmod(pixel, width): [Candidate(*row[1:]) for row in mine] for pixel, mine in groupby(rows, lambda r: r[0])
    }


def sums_of_thresholds(events: Events, c_pos: np.ndarray, c_neg: np.ndarray) -> np.ndarray:
    """Return (H, W) int64, the brightness that the events of each pixel add up to."""
    total = np.zeros(c_pos.shape, np.int64)
    step = np.where(events.p == 1, c_pos[events.y, events.x].astype(np.int64), -c_neg[events.y, events.x])
    np.add.at(total, (events.y, events.x), step)
    return total
