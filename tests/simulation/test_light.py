"""Pictures to linear light and back."""

from __future__ import annotations

import numpy as np
import pytest

from eventfm.random import generator
from eventfm.simulation.light import coded, linear


def test_grey_values_by_hand() -> None:
    grey = linear(np.array([[0, 188, 255]], np.uint8))
    assert grey.dtype == np.float32
    np.testing.assert_allclose(grey, [[0, 0.5029, 1]], atol=1e-4)
    np.testing.assert_allclose(linear(np.array([[0, 188 * 257, 65535]], np.uint16)), grey, atol=1e-6)


def test_colours_by_hand() -> None:
    colours = np.eye(3, dtype=np.uint8)[None] * 255
    np.testing.assert_allclose(linear(colours), [[0.2126, 0.7152, 0.0722]], atol=1e-6)
    np.testing.assert_allclose(linear(np.full((2, 2, 3), 188, np.uint8)), 0.5029, atol=1e-4)
    assert linear(np.full((2, 2, 3), 65535, np.uint16)).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colour_is_the_weighted_sum_of_its_channels(dtype: type) -> None:
    picture = generator(1).integers(0, np.iinfo(dtype).max + 1, (7, 11, 3)).astype(dtype)
    expected = sum(w * linear(picture[..., c]).astype(float) for c, w in enumerate((0.2126, 0.7152, 0.0722)))
    np.testing.assert_allclose(linear(picture), expected, atol=2e-7)
    np.testing.assert_array_equal(
        linear(picture[:, ::-1, ::-1])[:, ::-1], linear(np.ascontiguousarray(picture[..., ::-1]))
    )


def test_16_bits_are_kept() -> None:
    ramp = np.arange(65536, dtype=np.uint16)[None]
    assert (np.diff(linear(ramp)) > 0).all()
    np.testing.assert_allclose(linear(ramp, gamma=None), ramp / 65535, atol=1e-7)
    np.testing.assert_allclose(linear(ramp, gamma=2.2), (ramp / 65535) ** 2.2, atol=1e-6)


def test_coded_undoes_linear() -> None:
    ramp = np.arange(256, dtype=np.uint8)[None]
    np.testing.assert_array_equal(np.rint(coded(linear(ramp)) * 255), ramp)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4), np.int32),
        np.zeros((4, 4), bool),
        np.zeros(5, np.uint8),
        np.array([["a"]]),
    ],
)
def test_other_pictures_are_refused(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8 or uint16 picture"):
        linear(picture)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"with pixels, got shape \(0, 5\)"):
        linear(np.zeros((0, 5), np.uint8))
    for gamma in ("rec709", -1.0, float("nan")):
        with pytest.raises(ValueError, match="gamma"):
            linear(np.zeros((2, 2), np.uint8), gamma=gamma)
