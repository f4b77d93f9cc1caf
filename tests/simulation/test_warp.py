"""The compiled views against bilinear interpolation of the mirrored picture in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.random import generator
from eventfm.simulation.warp import inside, warp


def reference(light: np.ndarray, back: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the bilinear view with mirrored borders, all in float64."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    u, v, w = (row[0] * x + row[1] * y + row[2] for row in back)
    u, v = u / w, v / w
    left, top = np.floor(u).astype(int), np.floor(v).astype(int)
    rows, columns = light.shape

    def mirrored(i: np.ndarray, extent: int) -> np.ndarray:
        i = np.abs(i) % (2 * extent - 2)
        return np.where(i >= extent, 2 * extent - 2 - i, i)

    def at(dy: int, dx: int) -> np.ndarray:
        return light.astype(np.float64)[mirrored(top + dy, rows), mirrored(left + dx, columns)]

    a, b = u - left, v - top
    return (1 - b) * ((1 - a) * at(0, 0) + a * at(0, 1)) + b * ((1 - a) * at(1, 0) + a * at(1, 1))


def smooth(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Return black and white blobs with edges as steep as a fitted picture has them: a third per sample."""
    import cv2

    noise = cv2.GaussianBlur(generator(seed, "blobs").normal(size=shape), (0, 0), 6)
    kernel = np.array([1, 2, 3, 2, 1]) / 9
    return np.clip(cv2.sepFilter2D((noise > 0).astype(np.float64), -1, kernel, kernel), 0, 1).astype(np.float32)


def views(light: np.ndarray, backs: np.ndarray, size: tuple[int, int], dtype: type = np.float32) -> np.ndarray:
    out = np.empty((len(backs), *size), dtype)
    scale, offset = (65535, 0.5) if dtype is np.uint16 else (1, 0)
    warp(light, backs, np.float32(scale), np.float32(offset), out)
    return out


@pytest.mark.parametrize("size", [(60, 80), (61, 224), (17, 64), (33, 65), (1, 1)])
def test_16_bit_frames_are_within_one_step_of_float64(size: tuple[int, int]) -> None:
    height, width = size
    light = smooth((3 * height + 40, 3 * width + 50), 1)
    angle = np.linspace(-0.3, 0.3, 7)
    backs = np.empty((7, 3, 3))
    backs[:, 0] = np.stack([3 * np.cos(angle), -3 * np.sin(angle), 20 + 17 * angle], 1)
    backs[:, 1] = np.stack([3 * np.sin(angle), 3 * np.cos(angle), 25 - 9 * angle], 1)
    backs[:, 2] = np.stack([1e-3 * angle, -5e-4 * angle, np.ones(7)], 1)
    frames = views(light, backs, size, np.uint16)
    error = np.abs(frames - np.stack([reference(light, back, size) for back in backs]) * 65535)
    assert error.max() <= 1.0, "half a step is rounding, the rest is positions"
    assert error.mean() < 0.27, "a quarter is rounding"


@given(
    entries=st.lists(st.floats(-1, 1), min_size=8, max_size=8),
    zoom=st.sampled_from([0.01, 1.0, 3.0, 40.0]),
    far=st.sampled_from([0.0, 30.0, 1000.0]),
    shape=st.sampled_from([(2, 2), (5, 90), (70, 100)]),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_view_is_the_mirrored_picture(
    entries: list[float], zoom: float, far: float, shape: tuple[int, int]
) -> None:
    light = generator(3).uniform(size=shape).astype(np.float32)
    back = np.array([*entries, 0.0]).reshape(3, 3) * np.array([[1, 1, far], [1, 1, far], [2e-3, 2e-3, 0]])
    back += np.diag([1.0, 1.0, 1.0])
    back[:2, :2] *= zoom
    size = (20, 130)
    (got,) = views(light, back[None], size)
    # white noise: a position off by 1e-4 samples shows as 1e-4
    np.testing.assert_allclose(got, reference(light, back, size), atol=5e-4)


def test_whole_samples_are_copied() -> None:
    light = generator(0).uniform(size=(30, 200)).astype(np.float32)
    back = np.array([[1, 0, 5.0], [0, 1, 3.0], [0, 0, 1.0]])
    np.testing.assert_array_equal(views(light, back[None], (20, 180))[0], light[3:23, 5:185])


def test_frames_do_not_depend_on_their_company() -> None:
    light = smooth((120, 150), 2)
    backs = np.repeat(np.eye(3)[None], 9, 0)
    backs[:, 0, 2] = np.arange(9) * 3.7 - 8
    together = views(light, backs, (50, 70), np.uint16)
    for back, frame in zip(backs, together, strict=True):
        np.testing.assert_array_equal(views(light, back[None], (50, 70), np.uint16)[0], frame)


def test_what_is_behind_the_camera_is_dark() -> None:
    light = np.ones((40, 40), np.float32)
    back = np.array([[1, 0, 0], [0, 1, 0], [-0.05, 0, 1.0]])
    (got,) = views(light, back[None], (4, 64))
    assert (got[:, :20] == 1).all()
    assert (got[:, 20:] == 0).all()
    assert not views(light, np.full((1, 3, 3), np.nan), (4, 64)).any()


def test_inside_is_the_picture_with_half_a_sample_round_it() -> None:
    out = np.empty((4, 8), np.bool_)
    inside(np.array([[1, 0, -1.5], [0, 1, 0.6], [0, 0, 1.0]]), (4, 5), out)
    expected = np.zeros((4, 8), bool)
    expected[:3, 1:7] = True
    np.testing.assert_array_equal(out, expected)
    inside(np.array([[0, 0, -1.0], [0, 0, -1.0], [0, 0, -1.0]]), (4, 5), out)
    assert not out.any()
