from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eventfm.data.transforms import AugmentConfig, Geometry, disturb, draw, whole
from eventfm.events import Events, Sensor
from eventfm.representations import VoxelGrid


def events_of(rng: np.random.Generator, sensor: Sensor, count: int) -> Events:
    events = Events.checked(
        rng.integers(0, sensor.width, count),
        rng.integers(0, sensor.height, count),
        np.sort(rng.integers(100, 200, count)),
        rng.integers(0, 2, count),
        sensor,
    )
    return events.between(100, 200)


def grid_of(events: Events, num_bins: int = 3) -> np.ndarray:
    return VoxelGrid(num_bins, "window")(events).numpy()


@given(
    seed=st.integers(0, 2**32),
    width=st.integers(4, 20),
    height=st.integers(4, 20),
    flip=st.booleans(),
    time_flip=st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_events_and_picture_are_moved_alike(seed: int, width: int, height: int, flip: bool, time_flip: bool) -> None:
    """A crop at its own scale: the grid of moved events is the moved grid of events, and so is the target."""
    rng = np.random.default_rng(seed)
    sensor = Sensor(width, height)
    w, h = int(rng.integers(2, width + 1)), int(rng.integers(2, height + 1))
    left, top = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
    geometry = Geometry(left, top, w, h, (h, w), flip, time_flip)
    events = events_of(rng, sensor, 200)
    expected = grid_of(events)[:, top : top + h, left : left + w]
    expected = expected[:, :, ::-1] if flip else expected
    # EventPretrain, view augmentation: time reversed reverses the bins and negates.
    expected = -expected[::-1] if time_flip else expected
    moved = geometry.events(events)
    assert (np.diff(moved.t) >= 0).all()
    np.testing.assert_allclose(grid_of(moved), expected, atol=1e-5)
    integral = VoxelGrid(1)(events).numpy()[0]
    np.testing.assert_allclose(geometry.difference(integral), grid_of(moved).sum(0), atol=1e-4)


@given(
    seed=st.integers(0, 2**32),
    num_bins=st.integers(1, 12),
    count=st.integers(1, 60),
    flip=st.booleans(),
    time_flip=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_voxels_are_moved_as_their_events_are(
    seed: int, num_bins: int, count: int, flip: bool, time_flip: bool
) -> None:
    """The grid of moved events is the moved grid of events, for any number of bins and at any scale."""
    rng = np.random.default_rng(seed)
    geometry = Geometry(2, 1, 8, 6, (12, 24), flip, time_flip)
    # Those in the crop alone, so that both grids have one span.
    events = events_of(rng, Sensor(11, 9), count)
    inside = (events.x >= 2) & (events.x < 10) & (events.y >= 1) & (events.y < 7)
    events = Events(*(c[inside] for c in (events.x, events.y, events.t, events.p)), events.sensor, events.window)
    # At one instant alone, an event is at the beginning whichever way time runs.
    assume(len(events) and events.t[0] < events.t[-1])
    grid = VoxelGrid(num_bins)
    moved = grid(geometry.events(events)).numpy()
    expected, out = np.empty((2, num_bins, 12, 24), np.float32)
    geometry.enlarge(moved, expected)
    geometry.voxels(grid(events).numpy(), out)
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_voxels_are_resized_to_the_nearest_and_differences_bicubically() -> None:
    rng = np.random.default_rng(0)
    stored = rng.normal(size=(2, 10, 14)).astype(np.float32)
    geometry = Geometry(3, 2, 9, 7, (16, 20))
    part = stored[:, 2:9, 3:12]
    out = np.empty((2, 16, 20), np.float32)
    geometry.voxels(stored, out)
    nearest = torch.nn.functional.interpolate(torch.from_numpy(part)[None], (16, 20), mode="nearest")[0]
    np.testing.assert_array_equal(out, nearest)
    cubic = torch.nn.functional.interpolate(torch.from_numpy(part)[None], (16, 20), mode="bicubic")[0]
    np.testing.assert_allclose(geometry.difference(stored[0], cubic=True), cubic[0], atol=1e-4)


@given(
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    out=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=150)
def test_a_label_is_that_of_a_sensor_pixel_whose_events_are_shown_there(
    size: tuple[int, int], out: tuple[int, int], seed: int
) -> None:
    """Every pixel of the sensor has an event and a label of its own: where its label is, its event is."""
    sensor = Sensor(*size)
    rng = np.random.default_rng(seed)
    geometry = draw(sensor, out, AugmentConfig(crop_min=0.2, flip=0.5), rng)
    numbers = np.arange(size[0] * size[1]).reshape(size[1], size[0])
    drawn = geometry.nearest(numbers)
    assert drawn.shape == out
    for number in np.unique(drawn).tolist():
        y, x = divmod(number, size[0])
        moved = geometry.events(Events.checked([x], [y], [1], [1], sensor))
        shown, cells = np.empty((1, *out), np.float32), np.zeros((1, *geometry.grid), np.float32)
        cells[0, moved.y, moved.x] = 1
        geometry.enlarge(cells, shown)
        assert (shown[0][drawn == number] == 1).all()
    # And each row and column of the output is of the next one of the sensor, or of the same.
    assert (np.diff(drawn // size[0], axis=0) >= 0).all()
    assert (np.diff(drawn % size[0], axis=1) * (-1 if geometry.flip else 1) >= 0).all()


def test_maps_are_cropped_flipped_and_resized_to_the_nearest() -> None:
    stored = np.arange(48).reshape(6, 8)
    assert Geometry(2, 1, 3, 2, (2, 3)).nearest(stored).tolist() == [[10, 11, 12], [18, 19, 20]]
    assert Geometry(2, 1, 3, 2, (2, 3), flip=True).nearest(stored).tolist() == [[12, 11, 10], [20, 19, 18]]
    enlarged = Geometry(2, 1, 2, 2, (4, 6), flip=True).nearest(stored)
    np.testing.assert_array_equal(enlarged, np.array([[11, 10], [19, 18]]).repeat(2, 0).repeat(3, 1))
    # Three become one: the middle one, whichever way round.
    for flip, expected in ((False, [[17, 20]]), (True, [[20, 17]])):
        assert Geometry(0, 1, 6, 3, (1, 2), flip).nearest(stored).tolist() == expected
    both = Geometry(0, 0, 8, 6, (3, 4)).nearest(np.stack([stored, -stored]))
    np.testing.assert_array_equal(both[0], -both[1])
    assert Geometry(0, 0, 8, 6, (6, 8)).nearest(stored.astype(np.uint8)).dtype == np.uint8


def gathered(picture: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what is where each pixel's flow (2, H, W) leads in `picture`, and whether that is inside."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] + np.rint(flow[::-1]).astype(int)
    inside = (x >= 0) & (y >= 0) & (x < picture.shape[1]) & (y < picture.shape[0])
    return picture[np.where(inside, y, 0), np.where(inside, x, 0)], inside


@given(
    dx=st.integers(-4, 4),
    dy=st.integers(-4, 4),
    scale=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    corner=st.tuples(st.integers(0, 6), st.integers(0, 4)),
    flip=st.booleans(),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=80)
def test_flow_leads_from_one_drawn_picture_to_the_next(
    dx: int, dy: int, scale: tuple[int, int], corner: tuple[int, int], flip: bool, seed: int
) -> None:
    """A picture that moves by whole pixels: the drawn flow takes each drawn pixel to its like in the next picture."""
    first = np.random.default_rng(seed).random((20, 24))
    second = np.roll(first, (dy, dx), (0, 1))
    flow = np.stack([np.full((20, 24), dx), np.full((20, 24), dy)]).astype(np.float32)
    geometry = Geometry(*corner, 16, 12, (12 * scale[1], 16 * scale[0]), flip)
    drawn = geometry.flow(flow)
    assert drawn.dtype == np.float32
    moved, inside = gathered(geometry.nearest(second), drawn)
    assert inside.mean() > 0.3
    np.testing.assert_array_equal(moved[inside], geometry.nearest(first)[inside])


def test_flow_is_in_pixels_of_the_output() -> None:
    flow = np.stack([np.full((8, 16), 4.0), np.full((8, 16), 2.0)]).astype(np.float32)
    flow[:, 2, 4] = np.nan
    half = Geometry(0, 0, 16, 8, (4, 8)).flow(flow)
    assert np.argwhere(np.isnan(half)).tolist() == [[0, 1, 2], [1, 1, 2]]
    np.testing.assert_array_equal(half[:, 0, 0], [2, 1])
    np.testing.assert_array_equal(Geometry(0, 0, 16, 8, (8, 8), flip=True).flow(flow)[:, 0, 0], [-2, 2])
    np.testing.assert_array_equal(Geometry(4, 2, 8, 4, (12, 8)).flow(flow)[:, 0, 7], [4, 6])


def test_view_is_the_crop_in_units_of_the_sensor() -> None:
    geometry = Geometry(10, 6, 20, 12, (8, 8), flip=True, time_flip=True)
    np.testing.assert_allclose(geometry.view(Sensor(40, 24)), [0.25, 0.25, 0.75, 0.75, 1])
    np.testing.assert_array_equal(whole(Sensor(40, 40), (8, 8)).view(Sensor(40, 40)), [0, 0, 1, 1, 0])


@given(st.floats(-8, 8), st.floats(-8, 8), st.floats(0.8, 1.25), st.floats(-0.1, 0.1))
def test_view_follows_a_picture_that_has_moved(dx: float, dy: float, zoom: float, turn: float) -> None:
    """The middle of the crop looks at the middle of the view, and a turn changes its size by its cosine alone."""
    sensor, geometry = Sensor(40, 24), Geometry(10, 6, 20, 12, (8, 8))
    cos, sin = zoom * np.cos(turn), zoom * np.sin(turn)
    moved = np.array([[cos, -sin, dx], [sin, cos, dy], [0, 0, 1]])
    left, top, right, bottom, _ = geometry.view(sensor, moved) * [40, 24, 40, 24, 1]
    rest = np.linalg.inv(moved) @ [10 + 20 / 2 - 0.5, 6 + 12 / 2 - 0.5, 1]
    np.testing.assert_allclose([(left + right) / 2, (top + bottom) / 2], rest[:2] + 0.5, atol=1e-3)
    size = np.cos(turn) / zoom * np.array([20, 12])
    np.testing.assert_allclose([right - left, bottom - top], size, rtol=1e-4)


def test_shrinking_loses_no_event_and_enlarging_repeats() -> None:
    rng = np.random.default_rng(0)
    events = events_of(rng, Sensor(20, 12), 500)
    smaller = Geometry(0, 0, 20, 12, (6, 10)).events(events)
    assert len(smaller) == len(events)
    assert (smaller.sensor.width, smaller.sensor.height) == (10, 6)
    blocks = VoxelGrid(1)(events).numpy()[0].reshape(6, 2, 10, 2).sum((1, 3))
    np.testing.assert_array_equal(VoxelGrid(1)(smaller).numpy()[0], blocks)

    larger = Geometry(0, 0, 20, 12, (24, 40))
    assert larger.grid == (12, 20)
    out = np.empty((1, 24, 40), np.float32)
    grid = VoxelGrid(1)(larger.events(events)).numpy()
    larger.enlarge(grid, out)
    np.testing.assert_array_equal(out, grid.repeat(2, 1).repeat(2, 2))


@pytest.mark.parametrize(
    ("sensor", "out", "expected"),
    [
        ((34, 34), (32, 32), (1, 1, 32, 32)),
        ((240, 180), (96, 128), (0, 0, 240, 180)),
        ((346, 260), (224, 224), (43, 0, 260, 260)),
        ((20, 20), (40, 40), (0, 0, 20, 20)),
        # Not square, one side near the sensor's own and the other beyond it: the crop stays on the sensor.
        ((34, 34), (32, 40), (0, 3, 34, 27)),
        ((34, 34), (40, 32), (3, 0, 27, 34)),
        ((36, 20), (18, 32), (2, 1, 32, 18)),
    ],
)
def test_whole_is_the_largest_centred_crop(
    sensor: tuple[int, int], out: tuple[int, int], expected: tuple[int, int, int, int]
) -> None:
    geometry = whole(Sensor(*sensor), out)
    assert (geometry.left, geometry.top, geometry.width, geometry.height) == expected


def test_draw_covers_what_it_promises() -> None:
    sensor, config = Sensor(64, 48), AugmentConfig(crop_min=0.5, flip=0.5, time_flip=0.25)
    rng = np.random.default_rng(0)
    draws = [draw(sensor, (32, 32), config, rng) for _ in range(4000)]
    areas = np.array([g.width * g.height for g in draws]) / 48**2
    assert areas.min() > 0.48
    assert areas.max() <= 1.03
    assert all(0 <= g.left <= 64 - g.width and 0 <= g.top <= 48 - g.height for g in draws)
    assert abs(np.mean([g.flip for g in draws]) - 0.5) < 5 * 0.5 / np.sqrt(4000)
    assert abs(np.mean([g.time_flip for g in draws]) - 0.25) < 5 * 0.433 / np.sqrt(4000)
    assert len({(g.left, g.top, g.width, g.height, g.flip) for g in draws}) > 3000
    still = draw(sensor, (32, 32), AugmentConfig.none(), rng)
    assert still == whole(sensor, (32, 32))


@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=200)
def test_crops_of_any_shape_stay_on_the_sensor(size: tuple[int, int], out: tuple[int, int], seed: int) -> None:
    sensor, rng = Sensor(*size), np.random.default_rng(seed)
    picture = np.arange(size[0] * size[1], dtype=np.float32).reshape(size[1], size[0])
    for geometry in (whole(sensor, out), draw(sensor, out, AugmentConfig(crop_min=0.2), rng)):
        assert 0 <= geometry.left <= sensor.width - geometry.width
        assert 0 <= geometry.top <= sensor.height - geometry.height
        assert min(geometry.width, geometry.height) >= 1
        assert geometry.picture(picture).shape == out


def test_disturb_changes_a_little_and_keeps_the_contract() -> None:
    rng = np.random.default_rng(0)
    events = events_of(rng, Sensor(20, 12), 1000)
    config = AugmentConfig(erase=0.1, add=0.1)
    counts = []
    for seed in range(50):
        seen = disturb(events, config, np.random.default_rng(seed))
        assert (np.diff(seen.t) >= 0).all()
        assert seen.x.max() < 20
        assert seen.y.max() < 12
        assert seen.t.min() >= 100
        assert seen.t.max() < 200
        assert seen.window == (100, 200)
        counts.append(len(seen))
    assert 900 <= min(counts) < 1000 < max(counts) <= 1100
    assert disturb(events, AugmentConfig.none(), rng) is events


def test_subsampling_is_contiguous() -> None:
    events = events_of(np.random.default_rng(0), Sensor(20, 12), 1000)
    config = AugmentConfig(erase=0, add=0, max_events=100)
    part = disturb(events, config, np.random.default_rng(3))
    assert len(part) == 100
    start = next(i for i in range(901) if np.array_equal(events.x[i : i + 100], part.x))
    np.testing.assert_array_equal(events.t[start : start + 100], part.t)


def test_input_is_never_written_to() -> None:
    events = events_of(np.random.default_rng(0), Sensor(20, 12), 100)
    before = [column.copy() for column in (events.x, events.y, events.t, events.p)]
    geometry = Geometry(2, 2, 10, 8, (8, 10), flip=True, time_flip=True)
    disturb(geometry.events(events), AugmentConfig(erase=0.2, add=0.2), np.random.default_rng(0))
    for column, old in zip((events.x, events.y, events.t, events.p), before, strict=True):
        np.testing.assert_array_equal(column, old)
