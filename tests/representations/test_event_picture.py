from __future__ import annotations

import math

import numpy as np
import pytest

from eventfm.representations.event_picture import released_mask

GRID = (30, 40)


def white(height: int = 480, width: int = 640) -> np.ndarray:
    return np.full((height, width, 3), 255, np.uint8)


def bilinear(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return `picture` resized pixel by pixel, centres at half pixels, edges repeated, halves rounded up."""
    out = np.empty((height, width, picture.shape[2]))
    for row in range(height):
        for column in range(width):
            y = min(max((row + 0.5) * picture.shape[0] / height - 0.5, 0), picture.shape[0] - 1)
            x = min(max((column + 0.5) * picture.shape[1] / width - 0.5, 0), picture.shape[1] - 1)
            top, left = math.floor(y), math.floor(x)
            low, right = min(top + 1, picture.shape[0] - 1), min(left + 1, picture.shape[1] - 1)
            above = picture[top, left] * (1 - (x - left)) + picture[top, right] * (x - left)
            below = picture[low, left] * (1 - (x - left)) + picture[low, right] * (x - left)
            out[row, column] = np.floor(above * (1 - (y - top)) + below * (y - top) + 0.5)
    return out


def test_white_is_nowhere_active_and_any_colour_is() -> None:
    assert not released_mask(white(), GRID).any()
    for channel in range(3):
        picture = white()
        picture[..., channel] = 200
        assert released_mask(picture, GRID).all()


def test_sixteen_pixels_of_a_patch_are_looked_at() -> None:
    """At 640x480 a patch has 16x16 pixels in 4x4 blocks, and either resize takes the mean of the middle 2x2 of 4x4."""
    active = []
    for y in range(16):
        for x in range(16):
            picture = white()
            picture[16 * 7 + y, 16 * 11 + x] = 0
            mask = released_mask(picture, GRID)
            if mask.any():
                assert (*np.argwhere(mask)[0],) == (7, 11)
                assert mask.sum() == 1
                active.append((y, x))
    middle = (5, 6, 9, 10)
    assert active == [(y, x) for y in middle for x in middle]


@pytest.mark.parametrize(("grey", "active"), [(250, False), (247, False), (243, True), (240, True)])
def test_a_pixel_has_to_be_dark_enough(grey: int, active: bool) -> None:
    picture = white()
    picture[5, 5] = grey
    assert released_mask(picture, GRID)[0, 0] == active


@pytest.mark.parametrize(
    ("size", "grid"), [((48, 64), (6, 8)), ((30, 44), (3, 4)), ((21, 35), (5, 3)), ((7, 9), (4, 6))]
)
def test_any_size_and_grid(size: tuple[int, int], grid: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    picture = white(*size)
    spots = rng.random(size) < 0.05
    picture[spots] = rng.integers(0, 120, (int(spots.sum()), 3))
    first = bilinear(picture.astype(float), 4 * grid[0], 4 * grid[1])
    expected = bilinear(first, *grid).sum(2) < 765
    found = released_mask(picture, grid)
    assert found.shape == grid
    assert expected.any()
    assert (found != expected).mean() <= 1 / 24  # OpenCV's weights are of eleven bits
    if size == (48, 64):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_picture_of_events(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected a picture of events \(h, w, 3\) uint8"):
        released_mask(picture, (1, 1))
