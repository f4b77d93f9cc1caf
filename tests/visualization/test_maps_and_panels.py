from __future__ import annotations

import numpy as np
import pytest

from eventfm.visualization.dense import (
    HIDDEN_COLOUR,
    UNKNOWN_COLOUR,
    grey_picture,
    hide_patches,
    signed_limit,
    signed_map,
)
from eventfm.visualization.events import OFF_COLOUR, ON_COLOUR
from eventfm.visualization.features import pca_map, pca_maps
from eventfm.visualization.flow import flow_picture, flow_wheel
from eventfm.visualization.panel import panel, upscaled


def test_signed_maps_are_symmetric_about_white() -> None:
    values = np.array([[-2.0, -1.0, 0.0, 1.0, 2.0, 9.0, np.nan]])
    row = signed_map(values, limit=2.0)[0]
    assert [tuple(row[i]) for i in (0, 2, 4, 5, 6)] == [OFF_COLOUR, (255,) * 3, ON_COLOUR, ON_COLOUR, UNKNOWN_COLOUR]
    np.testing.assert_allclose(row[1], (255 + np.array(OFF_COLOUR)) / 2, atol=0.5)
    np.testing.assert_allclose(row[3], (255 + np.array(ON_COLOUR)) / 2, atol=0.5)
    np.testing.assert_array_equal(signed_map(values), signed_map(values, limit=signed_limit(values)))


def test_the_limit_ignores_zeros_and_outliers() -> None:
    values = np.zeros(10_000)
    values[:1000] = 0.5
    values[0] = 1e9
    assert signed_limit(values.reshape(100, 100)) == 0.5
    assert signed_limit(np.zeros((3, 3))) == 1.0
    assert (signed_map(np.zeros((3, 3))) == 255).all()


def test_grey_pictures() -> None:
    np.testing.assert_array_equal(grey_picture(np.array([[0.0, 0.5, 1.0, 2.0, -1.0]]))[0, :, 1], [0, 128, 255, 255, 0])
    np.testing.assert_array_equal(grey_picture(np.array([[0.0, 0.5029, 1.0]]), linear=True)[0, :, 2], [0, 188, 255])


def test_hidden_patches_are_painted_and_the_rest_is_kept() -> None:
    picture = np.random.default_rng(0).integers(0, 100, (4, 6, 3)).astype(np.uint8)
    hidden = np.array([[True, False, False], [False, False, True]])
    out = hide_patches(picture, hidden)
    assert (out[:2, :2] == HIDDEN_COLOUR).all()
    assert (out[2:, 4:] == HIDDEN_COLOUR).all()
    np.testing.assert_array_equal(out[:2, 2:], picture[:2, 2:])
    with pytest.raises(ValueError, match="divides 4x6"):
        hide_patches(picture, np.zeros((3, 3), bool))


def test_pca_colours_follow_the_main_directions() -> None:
    rng = np.random.default_rng(0)
    strengths = np.array([10.0, 3.0, 1.0])
    coordinates = rng.uniform(-1, 1, (2, 48, 3)) * strengths
    basis = np.linalg.qr(rng.normal(size=(16, 16)))[0][:3]
    tokens = coordinates @ basis + 5 + 1e-3 * rng.normal(size=(2, 48, 16))
    maps = pca_maps(tokens, (6, 8))
    assert (maps.shape, maps.dtype) == ((2, 6, 8, 3), np.uint8)
    for channel in range(3):
        sign = np.sign(basis[channel, np.abs(basis[channel]).argmax()])
        correlation = np.corrcoef(maps[..., channel].ravel(), sign * coordinates[..., channel].ravel())[0, 1]
        assert correlation > 0.97
    np.testing.assert_array_equal(maps, pca_maps(tokens, (6, 8)))
    np.testing.assert_array_equal(maps, pca_maps(tokens + 100, (6, 8)))
    alone = pca_map(tokens[0], (6, 8))
    assert not np.array_equal(alone, maps[0]), "several images share one scale"


def test_pca_of_too_little_is_grey() -> None:
    assert (pca_map(np.ones((6, 4)), (2, 3)) == 128).all()
    line = pca_map(np.arange(6.0)[:, None] * np.ones((1, 2)), (2, 3))
    assert (line[..., 1:] == 128).all()
    assert line[0, 0, 0] == 0
    assert line[1, 2, 0] == 255
    with pytest.raises(ValueError, match="2 x 3"):
        pca_map(np.ones((5, 4)), (2, 3))
    with pytest.raises(ValueError, match="finite"):
        pca_map(np.full((6, 4), np.nan), (2, 3))


def test_flow_colours() -> None:
    flow = np.zeros((2, 1, 5))
    flow[:, 0, 1:] = np.array([[1, 0], [-1, 0], [0, 1], [np.nan, 0]]).T
    row = flow_picture(flow, limit=1.0)[0].astype(int)
    assert (row[0] == 255).all()
    assert row[1].argmax() == 0, "to the right is red"
    assert row[2].argmin() == 0, "to the left is the opposite of red"
    assert len(np.unique(row[1:4], axis=0)) == 3
    assert (row[4] == UNKNOWN_COLOUR).all()
    hidden = flow_picture(flow, valid=np.array([[True, False, True, True, True]]), limit=1.0)[0]
    assert (hidden[1] == UNKNOWN_COLOUR).all()
    with pytest.raises(ValueError, match=r"flow \(2, H, W\)"):
        flow_picture(np.zeros((3, 4, 4)))


def test_the_flow_wheel_is_its_own_key() -> None:
    wheel = flow_wheel(101)
    for dx, dy in [(40, 0), (-20, 30), (5, -45)]:
        vector = np.array([dx / 50, dy / 50]).reshape(2, 1, 1)
        np.testing.assert_allclose(wheel[50 + dy, 50 + dx].astype(int), flow_picture(vector, limit=1.0)[0, 0], atol=1)
    assert (wheel[0, 0] == 255).all()


def test_panels_hold_every_picture_at_whole_factors() -> None:
    rng = np.random.default_rng(0)
    small, grey, large = (
        rng.integers(0, 255, shape).astype(np.uint8) for shape in [(20, 30, 3), (64, 64), (300, 200, 3)]
    )
    out = panel([[("input", small), ("a label longer than its picture", grey)], [("target", large)]], cell_height=60)
    assert out.dtype == np.uint8
    for expected in (upscaled(small, 3), np.repeat(grey[..., None], 3, axis=2), large):
        corners = np.argwhere((out == expected[0, 0]).all(axis=2))
        fits = [np.array_equal(out[y : y + expected.shape[0], x : x + expected.shape[1]], expected) for y, x in corners]
        assert sum(fits) == 1
    assert (out[:, -1] == 255).all()
    assert (out[10:22, 8:45] < 128).any(), "a label stands above its picture"


def test_bad_panels_are_named() -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        panel([[]])
    with pytest.raises(ValueError, match="'mask', got float64"):
        panel([[("mask", np.zeros((3, 3)))]])
    with pytest.raises(ValueError, match="factor of at least 1"):
        upscaled(np.zeros((3, 3), np.uint8), 0)
