"""Teacher tokens go where the events go."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.data.transforms import Geometry
from eventfm.events import Events, Sensor
from eventfm.models.token_grid import crop_tokens
from eventfm.representations import VoxelGrid

WHOLE = (0.0, 0.0, 1.0, 1.0, 0.0)


def crop(field, view, out_grid):
    """Crop one field (rows, cols, D) and return (rows', cols', D)."""
    tokens = torch.as_tensor(field, dtype=torch.float32)
    out = crop_tokens(tokens.flatten(0, 1)[None], tokens.shape[:2], torch.tensor([view]), out_grid)
    return out[0].view(*out_grid, -1)


def bilinear(field, y, x):
    """Return the field at (y, x), in cells, by the four cells around it; outermost cells go on for ever."""
    rows, cols, _ = field.shape
    y, x = min(max(y - 0.5, 0), rows - 1), min(max(x - 0.5, 0), cols - 1)
    i, j = int(np.floor(y)), int(np.floor(x))
    a, b = y - i, x - j
    k, m = min(i + 1, rows - 1), min(j + 1, cols - 1)
    top = (1 - b) * field[i, j] + b * field[i, m]
    return (1 - a) * top + a * ((1 - b) * field[k, j] + b * field[k, m])


def by_hand(field, view, out_grid, num_samples):
    """Sample `num_samples` (rows, cols) points of each output cell one by one."""
    rows, cols, dim = field.shape
    left, top, right, bottom, flip = view
    out = np.zeros((*out_grid, dim))
    for i in range(out_grid[0]):
        for j in range(out_grid[1]):
            for a in range(num_samples[0]):
                for b in range(num_samples[1]):
                    down = (i + (a + 0.5) / num_samples[0]) / out_grid[0]
                    along = (j + (b + 0.5) / num_samples[1]) / out_grid[1]
                    along = 1 - along if flip else along
                    y, x = (top + (bottom - top) * down) * rows, (left + (right - left) * along) * cols
                    out[i, j] += bilinear(field, y, x) / (num_samples[0] * num_samples[1])
    return out


def noise(*shape):
    return np.random.default_rng(0).standard_normal(shape)


@pytest.mark.parametrize("grid", [(3, 5), (14, 14), (1, 7), (37, 29)])
def test_a_whole_view_on_an_equal_grid_changes_nothing(grid):
    field = noise(*grid, 4).astype(np.float32)
    assert np.array_equal(crop(field, WHOLE, grid), field)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.array_equal(crop(field, WHOLE, grid), field)
    assert np.array_equal(crop(field, (*WHOLE[:4], 1.0), grid), field[:, ::-1])


def test_parts_that_end_between_cells_are_those_cells():
    field = noise(8, 12, 2).astype(np.float32)
    np.testing.assert_allclose(crop(field, (0, 0, 0.5, 1, 0), (8, 6)), field[:, :6], atol=1e-6)
    np.testing.assert_allclose(crop(field, (0.5, 0.25, 1, 0.75, 0), (4, 6)), field[2:6, 6:], atol=1e-6)
    np.testing.assert_allclose(crop(field, (0.25, 0.5, 0.75, 1, 1), (4, 6)), field[4:, 3:9][:, ::-1], atol=1e-6)
    blocks = field.reshape(4, 2, 6, 2, 2).mean((1, 3))
    np.testing.assert_allclose(crop(field, WHOLE, (4, 6)), blocks, atol=1e-6)


@pytest.mark.parametrize(
    ("grid", "out_grid"), [((7, 9), (3, 5)), ((5, 4), (5, 8)), ((6, 6), (2, 4)), ((3, 3), (1, 1)), ((14, 14), (4, 4))]
)
@pytest.mark.parametrize(
    "view", [(0.13, 0.2, 0.91, 0.77, 0.0), (-0.05, 0.1, 0.6, 1.08, 1.0), (0.3, 0.0, 1.0, 0.4, 1.0)]
)
def test_sampling_by_hand(grid, out_grid, view):
    field = noise(*grid, 2)
    sides = view[3] - view[1], view[2] - view[0]
    num_samples = [ceil(side * size / out) for side, size, out in zip(sides, grid, out_grid, strict=True)]
    want = by_hand(field, view, out_grid, num_samples)
    np.testing.assert_allclose(crop(field, view, out_grid), want, atol=1e-5)


def test_cells_are_close_to_integrals_of_the_field():
    """A few samples stand for the mean over a cell; the integral is taken at 40 x 40 points."""
    rows, cols = np.meshgrid(np.arange(16), np.arange(20), indexing="ij")
    field = np.sin(rows / 5)[..., None] * np.cos(cols / 6)[..., None]
    for view in [(0.11, 0.23, 0.87, 0.94, 0.0), (0.11, 0.23, 0.87, 0.94, 1.0)]:
        want = by_hand(field, view, (7, 7), (40, 40))
        np.testing.assert_allclose(crop(field, view, (7, 7)), want, atol=0.02)


def test_a_smooth_field_comes_back():
    rows, cols = np.meshgrid(np.arange(24), np.arange(24), indexing="ij")
    field = (np.sin(rows / 6) + np.cos(cols / 5))[..., None]
    left, top, right, bottom = 0.1, 0.2, 0.9, 0.8
    part = crop(field, (left, top, right, bottom, 1.0), (48, 48))
    width, height = right - left, bottom - top
    back = (-(1 - right) / width, -top / height, 1 + left / width, (1 - top) / height, 1.0)
    np.testing.assert_allclose(crop(part, back, (24, 24))[6:18, 4:20], field[6:18, 4:20], atol=0.02)


def test_every_sample_has_its_own_view():
    field = noise(3, 4, 6, 2)
    views = [WHOLE, (0.2, 0.1, 0.8, 0.9, 1.0), (0.0, 0.0, 0.5, 0.5, 0.0)]
    tokens = torch.as_tensor(field, dtype=torch.float32).flatten(1, 2)
    together = crop_tokens(tokens, (4, 6), torch.tensor(views), (3, 3))
    for each, one, view in zip(together, field, views, strict=True):
        torch.testing.assert_close(each.view(3, 3, 2), crop(one, view, (3, 3)))


@given(
    seed=st.integers(0, 2**32),
    flip=st.booleans(),
    stride=st.sampled_from([2, 3]),
    student=st.tuples(st.integers(2, 6), st.integers(2, 6)),
    teacher=st.tuples(st.integers(4, 20), st.integers(4, 20)),
)
@settings(deadline=None, max_examples=60)
def test_an_event_and_the_teacher_cell_above_it_meet_in_one_student_cell(seed, flip, stride, student, teacher):
    """Where `Geometry` puts an event of pixel p, `crop_tokens` puts the teacher's token of p."""
    rng = np.random.default_rng(seed)
    sensor = Sensor(int(rng.integers(20, 60)), int(rng.integers(20, 60)))
    width, height = (int(rng.integers(side // 2, side + 1)) for side in (sensor.width, sensor.height))
    left, top = int(rng.integers(0, sensor.width - width + 1)), int(rng.integers(0, sensor.height - height + 1))
    geometry = Geometry(left, top, width, height, (student[0] * stride, student[1] * stride), flip)
    x, y = int(rng.integers(left, left + width)), int(rng.integers(top, top + height))
    small = VoxelGrid(1)(geometry.events(Events.checked([x], [y], [5], [1], sensor))).numpy()
    picture = np.empty((1, *geometry.out), np.float32)
    geometry.enlarge(small, picture)
    (rows, cols) = np.nonzero(picture[0])
    assert len(rows)
    cells = set(zip((rows // stride).tolist(), (cols // stride).tolist(), strict=True))
    view = (left / sensor.width, top / sensor.height, (left + width) / sensor.width, (top + height) / sensor.height)

    # The field says where on the sensor each teacher cell is: cropped, where each student cell looks.
    down = (np.arange(teacher[0]) + 0.5) / teacher[0] * sensor.height
    along = (np.arange(teacher[1]) + 0.5) / teacher[1] * sensor.width
    field = np.stack(np.meshgrid(down, along, indexing="ij"), axis=2)
    seen = crop(field, (*view, float(flip)), student).numpy()
    grid_rows, grid_cols = geometry.grid
    half_cell = (height / student[0] / 2, width / student[1] / 2)
    pixel = (1 + height / grid_rows, 1 + width / grid_cols)
    border = (sensor.height / teacher[0] / 2, sensor.width / teacher[1] / 2)  # there the outermost token goes on
    for cell in cells:
        off = np.abs(seen[cell] - (y + 0.5, x + 0.5))
        inside = [
            b < edge < side - b for edge, b, side in zip(seen[cell], border, (sensor.height, sensor.width), strict=True)
        ]
        limits = [h + p + (0 if i else b) for h, p, b, i in zip(half_cell, pixel, border, inside, strict=True)]
        assert (off <= np.array(limits) + 1e-3).all()

    # And a mark on the teacher's cell of p reaches that student cell, most of all its neighbours far away not at all.
    mark = np.zeros((*teacher, 1))
    mark[int((y + 0.5) / sensor.height * teacher[0]), int((x + 0.5) / sensor.width * teacher[1])] = 1
    reached = crop(mark, (*view, float(flip)), student).numpy()[..., 0]
    if teacher[0] >= 2 * student[0] and teacher[1] >= 2 * student[1] and len(cells) == 1:
        (cell,) = cells
        peak = np.unravel_index(reached.argmax(), reached.shape)
        assert max(abs(peak[0] - cell[0]), abs(peak[1] - cell[1])) <= 1


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"expected tokens \(B, 12, D\) over a grid of 3x4, got \(1, 11, 2\)"):
        crop_tokens(torch.zeros(1, 11, 2), (3, 4), torch.zeros(1, 5), (2, 2))
    with pytest.raises(ValueError, match=r"expected a view \(1, 5\), got \(1, 4\)"):
        crop_tokens(torch.zeros(1, 12, 2), (3, 4), torch.zeros(1, 4), (2, 2))
