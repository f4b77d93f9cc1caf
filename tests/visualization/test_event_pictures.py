from __future__ import annotations

from pathlib import Path

import numpy as np

from eventfm.events import Events, Sensor
from eventfm.visualization.events import OFF_COLOUR, ON_COLOUR, event_cloud, event_picture


def events_at(*rows: tuple[int, int, int, int]) -> Events:
    x, y, t, p = np.array(rows, np.int64).reshape(-1, 4).T
    return Events.checked(x, y, t, p, Sensor(4, 3))


def test_colour_says_polarity_and_strength_says_count() -> None:
    once, thrice, off = (0, 0, 1, 1), (2, 1, 2, 1), (3, 2, 5, 0)
    picture = event_picture(events_at(once, thrice, thrice, thrice, off, off, off))
    assert (picture.shape, picture.dtype) == ((3, 4, 3), np.uint8)
    assert tuple(picture[1, 2]) == ON_COLOUR
    assert tuple(picture[2, 3]) == OFF_COLOUR
    assert (picture[0, 0].astype(int) > picture[1, 2]).all(), "one event is paler than three"
    assert (picture[0, 0] < 255).any()
    hit = np.zeros((3, 4), bool)
    hit[[0, 1, 2], [0, 2, 3]] = True
    assert (picture[~hit] == 255).all()


def test_both_polarities_mix() -> None:
    picture = event_picture(events_at((1, 1, 0, 0), (1, 1, 5, 1)))
    np.testing.assert_array_equal(picture[1, 1], np.rint((np.array(ON_COLOUR) + OFF_COLOUR) / 2))


def test_upscaling_repeats_pixels_and_nothing_is_white() -> None:
    small, large = (event_picture(events_at((1, 2, 0, 0)), upscale=factor) for factor in (1, 5))
    np.testing.assert_array_equal(large[2::5, 2::5], small)
    assert large.shape == (15, 20, 3)
    assert (event_picture(Events.empty(Sensor(4, 3))) == 255).all()


def test_a_hot_pixel_does_not_bleach_the_rest() -> None:
    rng = np.random.default_rng(0)
    place = rng.permutation(400)[:200]
    x, y = place % 20, place // 20
    hot = Events.checked(
        np.r_[x, np.full(5000, 7)], np.r_[y, np.full(5000, 7)], np.arange(5200), np.ones(5200), Sensor(20, 20)
    )
    assert (event_picture(hot) == ON_COLOUR).all(axis=2).sum() >= 200


def test_a_cloud_has_every_shown_event_at_its_place() -> None:
    rng = np.random.default_rng(1)
    events = Events.checked(
        rng.integers(0, 30, 500),
        rng.integers(0, 20, 500),
        10**12 + np.arange(500) * 1000,
        np.arange(500) % 2,
        Sensor(30, 20),
    )
    axes = event_cloud(events).axes[0]
    t, x, y = axes.collections[0]._offsets3d
    np.testing.assert_allclose(t, np.arange(500))
    np.testing.assert_array_equal(x, events.x)
    np.testing.assert_array_equal(y, events.y)
    some = event_cloud(events, max_points=100).axes[0].collections[0]._offsets3d[0]
    assert len(some) == 100
    assert (some[0], some[-1]) == (0, 499)
    assert len(event_cloud(Events.empty(Sensor(4, 3))).axes) == 1


def test_real_events_draw_the_edges_of_the_scene(real_data: Path) -> None:
    file = real_data / "pairs" / "slider_depth" / "events.txt"
    events = Events.from_any(np.loadtxt(file, max_rows=20_000), Sensor(240, 180), unit="s")
    picture = event_picture(events)
    drawn = (picture < 255).any(axis=2)
    assert drawn.sum() == len(np.unique(events.y.astype(int) * 240 + events.x))
    assert 0.05 < drawn.mean() < 0.6
