"""The misalignment score: the parts against plain sums, the whole on simulated and real windows."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from eventfm.data import misalignment as module
from eventfm.data.misalignment import misalignment
from eventfm.data.windows import WindowError
from eventfm.events import Events, Sensor
from eventfm.io import open_recording
from eventfm.random import generator
from eventfm.simulation.light import linear
from eventfm.simulation.paths import translation
from eventfm.simulation.render import make_clip, render
from eventfm.simulation.sensor import SensorConfig

SIZE = (120, 160)
FRAME_US = 60_000


@lru_cache
def filmed(speed_px_s: float = 250.0, angle: float = 0.7, size: tuple[int, int] = SIZE) -> tuple[Events, np.ndarray]:
    """Return 150 ms of events of a photograph that moves evenly, and the frame (uint16) at 60 ms."""
    light = linear(data.astronaut())
    velocity = speed_px_s * np.array([np.cos(angle), np.sin(angle)])
    path = translation(*velocity)
    events = make_clip(light, path, (0, 150_000), size, SensorConfig(c_pos=0.2, c_neg=0.2), enlarge=True).events
    return events, render(light, path, np.array([FRAME_US]), size, enlarge=True)[0]


def moved(events: Events, dx: int, dy: int) -> Events:
    x, y = events.x.astype(int) + dx, events.y.astype(int) + dy
    kept = (x >= 0) & (x < events.sensor.width) & (y >= 0) & (y < events.sensor.height)
    columns = x[kept].astype(np.uint16), y[kept].astype(np.uint16), events.t[kept], events.p[kept]
    return replace(Events(*columns, events.sensor), window=events.window)


def area(negative: list[float], positive: list[float]) -> float:
    return float((np.array(positive)[:, None] > np.array(negative)).mean())


@pytest.mark.parametrize("start", [30_000, 45_000, 60_000])
def test_what_belongs_together(start: int) -> None:
    """Whether the frame ends the window, lies in it or starts it."""
    events, frame = filmed()
    found = misalignment(events.between(start, start + 30_000), frame, FRAME_US)
    assert found.score < -10
    assert found.shift_px == (0, 0)
    assert found.offset_us is None
    assert found.num_tiles == 6


def test_the_frame_is_at_the_start_unless_said() -> None:
    events, frame = filmed()
    window = events.between(FRAME_US, FRAME_US + 30_000)
    assert misalignment(window, frame) == misalignment(window, frame, FRAME_US)
    assert misalignment(window, frame, FRAME_US + 30_000).score > 0


@pytest.mark.parametrize("by", [(7, -4), (-2, 0), (0, 15), (-9, -12)])
def test_displaced_events_are_found_where_they_are(by: tuple[int, int]) -> None:
    events, frame = filmed()
    found = misalignment(moved(events.between(FRAME_US, FRAME_US + 30_000), *by), frame)
    assert found.score > 10
    assert np.hypot(*np.subtract(found.shift_px, by)) <= 1.5


@pytest.mark.parametrize("late", [-25_000, 20_000, 50_000])
def test_mistimed_events_are_found_when_they_are(late: int) -> None:
    events, frame = filmed()
    found = misalignment(events.between(FRAME_US + late, FRAME_US + late + 30_000), frame, FRAME_US + late)
    assert found.score > 5
    assert found.offset_us is not None
    assert abs(found.offset_us - late) <= 10_000


def test_polarity_counts() -> None:
    """Edges lie where they are either way, but brightness rises where the picture says it falls."""
    events, frame = filmed()
    window = events.between(FRAME_US, FRAME_US + 30_000)
    inverted = replace(window, p=1 - window.p)
    assert misalignment(inverted, frame).score > misalignment(window, frame).score + 10


def test_a_picture_is_a_picture_however_stored() -> None:
    events, frame = filmed()
    window = events.between(FRAME_US, FRAME_US + 30_000)
    as_floats = misalignment(window, (frame / 65535).astype(np.float32))
    assert as_floats.score == pytest.approx(misalignment(window, frame).score, rel=1e-3)
    coded = np.rint(255 * (frame / 65535) ** (1 / 2.2)).astype(np.uint8)
    grey, colour = misalignment(window, coded), misalignment(window, np.stack([coded] * 3, axis=-1))
    assert grey.score == pytest.approx(colour.score, rel=0.05)
    assert grey.score < -10


def test_large_sensors_are_reduced() -> None:
    """Twice as large, twice as fast: what is found is in pixels of the sensor."""
    events, frame = filmed(400.0, 2.0, (480, 640))
    window = events.between(FRAME_US, FRAME_US + 30_000)
    assert misalignment(window, frame).score < 0
    found = misalignment(moved(window, -12, 8), frame)
    assert found.score > 10
    assert np.hypot(*np.subtract(found.shift_px, (-12, 8))) <= 3


def test_where_nothing_can_be_told() -> None:
    sensor = Sensor(64, 48)
    frame = np.zeros((48, 64), np.uint8)
    assert misalignment(Events.empty(sensor, (0, 1000)), frame) == module.Misalignment(0.0, (0.0, 0.0), None, 0)
    few = Events.checked([3, 9], [4, 5], [10, 20], [0, 1], sensor, window=(0, 1000))
    assert misalignment(few, frame) == module.Misalignment(0.0, (0.0, 0.0), None, 0)
    rng = np.random.default_rng(0)
    columns = rng.integers(0, 64, 5000), rng.integers(0, 48, 5000), np.arange(5000), rng.integers(0, 2, 5000)
    flat = misalignment(Events.checked(*columns, sensor), frame)
    assert flat.num_tiles == 1
    assert flat.score == pytest.approx(0, abs=1e-9)
    with pytest.raises(WindowError, match="64x48 pixels, got 48x64"):
        misalignment(few, frame.T)


def test_matches_and_likelihood_are_the_plain_sums() -> None:
    """Of one tile: sums over its pixels at a place, and the average over flows of -n/2 log(1 - q)."""
    rng = np.random.default_rng(3)
    slices = rng.normal(size=(4, 50, 52)).astype(np.float32)
    gradient = rng.normal(size=(2, 50, 52)).astype(np.float32)
    gradient[1] += 0.8 * gradient[0]
    ((matches, tensor, energy, size),) = module._tiles(slices, gradient)
    margin = module._MARGIN
    padded = np.pad(gradient, ((0, 0), (margin, margin), (margin, margin))).astype(float)

    def frame_at(dx: int, dy: int) -> np.ndarray:
        """Return the gradient that lies under the tile when the events are displaced by (dx, dy)."""
        return padded[:, margin - dy : margin - dy + 50, margin - dx : margin - dx + 52]

    assert energy == pytest.approx((slices**2).sum(), rel=1e-4)
    middles = np.array([0.1, 0.4, 0.6, 0.9], np.float32)
    flows = np.array([[1, 0, 4], [0.6, -0.8, 10], [0, 1, 0]], np.float32)
    placed = np.array([[0, 0, 0], [3, -2, 0], [0, 0, -0.5]], np.float32)
    expected = []
    for x, y, late in placed:
        likelihood = []
        for nx, ny, speed in flows:
            along, norm = 0.0, 0.02 * 4 * (tensor[0].mean() + tensor[2].mean())
            for image, middle in zip(slices, middles, strict=True):
                moved_by = speed * (middle + late)
                gx, gy = frame_at(int(np.rint(x + nx * moved_by)), int(np.rint(y + ny * moved_by)))
                slope = nx * gx + ny * gy
                along -= (slope * image).sum()
                norm += (slope**2).sum()
            share = max(along, 0) ** 2 / (norm * energy)
            likelihood.append((1 - share) ** (-size / 2))
        expected.append(np.log(np.mean(likelihood)))
    found = module._log_likelihood(matches, tensor, energy, size, placed, flows, middles)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_scores_separate_simulated_windows() -> None:
    """Photographs, motions and sensors at random; benchmarks/misalignment.py asks more of them, and slower ones."""
    from eventfm.data.animate import MotionConfig, random_shot

    motion = MotionConfig(sensor=(160, 120), duration_us=100_000, speed_px_s=(60.0, 500.0), pause_probability=0)
    aligned, displaced, mistimed = [], [], []
    for number, picture in enumerate([data.astronaut(), data.chelsea(), data.coffee(), data.camera()] * 5):
        rng = generator(1, "separate", number)
        light = linear(picture)
        path, config = random_shot(motion, Sensor(160, 120), rng)
        events = make_clip(light, path, (0, 100_000), SIZE, config, enlarge=True).events
        frame = render(light, path, np.array([20_000]), SIZE, enlarge=True)[0]
        window = events.between(20_000, 50_000)
        aligned.append(misalignment(window, frame).score)
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(2, 20)
        by = np.rint(distance * np.array([np.cos(angle), np.sin(angle)])).astype(int)
        displaced.append(misalignment(moved(window, *by), frame).score)
        late = int(rng.uniform(5_000, 50_000))
        mistimed.append(misalignment(events.between(20_000 + late, 50_000 + late), frame).score)
    assert area(aligned, displaced) >= 0.97
    assert area(aligned, mistimed) >= 0.85
    assert area(aligned, displaced + mistimed) >= 0.9


@pytest.mark.filterwarnings("ignore:.*pictures are missing")
def test_scores_separate_real_windows(real_data: Path) -> None:
    aligned, displaced = [], []
    for name in ("slider_depth", "davis346_street.aedat4"):
        recording = open_recording(real_data / "pairs" / name)
        first, last = recording.t_range
        rng = generator(2, name)
        for i, taken in enumerate(map(int, recording.tracks["frames"].times)):
            if not first - 5000 <= taken <= last - 30_000:
                continue
            window, frame = recording.events(taken, taken + 30_000), recording.tracks["frames"].read(i)
            aligned.append(misalignment(window, frame).score)
            for distance in (4, 12):
                angle = rng.uniform(0, 2 * np.pi)
                by = np.rint(distance * np.array([np.cos(angle), np.sin(angle)])).astype(int)
                displaced.append(misalignment(moved(window, *by), frame).score)
    assert len(aligned) >= 6
    assert area(aligned, displaced) >= 0.95
