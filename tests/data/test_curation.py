"""Curation: each fault alone is found with its figure, what is fine is kept, and the card counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
import pytest
from skimage import data

from eventfm.config import ConfigError
from eventfm.data.curation import (
    CurationConfig,
    Drop,
    Pair,
    curate,
    edge_width,
    perceptual_hash,
    share_of_bright,
    share_of_dark,
)
from eventfm.data.misalignment import misalignment
from eventfm.data.windows import WindowError
from eventfm.events import Events
from eventfm.simulation.light import coded, linear
from eventfm.simulation.paths import translation
from eventfm.simulation.render import make_clip, render
from eventfm.simulation.sensor import SensorConfig

SIZE = (96, 128)
TIMES_US = (20_000, 60_000, 100_000)


@lru_cache
def film() -> tuple[Pair, ...]:
    """Return three good pairs: 40 ms of events of a photograph that moves, after a frame as a camera stores it."""
    light = linear(data.coffee())
    path = translation(220.0, 120.0)
    events = make_clip(light, path, (0, 140_000), SIZE, SensorConfig(c_pos=0.2, c_neg=0.2), enlarge=True).events
    frames = render(light, path, np.array(TIMES_US), SIZE, enlarge=True)
    pictures = [np.rint(255 * coded(frame / 65535)).astype(np.uint8) for frame in frames]
    return tuple(
        Pair(f"coffee/{number:06d}", events.between(t, t + 40_000), picture)
        for number, (t, picture) in enumerate(zip(TIMES_US, pictures, strict=True))
    )


def test_good_pairs_are_kept_and_read_one_by_one() -> None:
    read = []

    def pairs() -> Iterator[Pair]:
        for pair in film():
            read.append(pair.name)
            yield pair

    found = curate(pairs())
    assert found.kept == read == [pair.name for pair in film()]
    assert found.dropped == []


def spoilt(fault: str) -> tuple[Pair, float, float]:
    """Return a pair with one fault, and the bounds of the figure that is to tell it."""
    pair = film()[0]
    low, high = 0.0, np.inf
    if fault == "few_events":
        pair = replace(pair, events=replace(pair.events.take(0, 61), window=pair.events.window))
        low = high = 61 / (96 * 128)
    elif fault == "under_exposed":
        pair = replace(pair, frame=(pair.frame // 64).astype(np.uint8))
        low = high = 1.0
    elif fault == "over_exposed":
        frame = pair.frame.copy()
        frame[:48] = 255
        pair = replace(pair, frame=frame)
        low, high = 0.5, 0.55
    elif fault == "blurred":
        pair = replace(pair, frame=cv2.GaussianBlur(pair.frame, (0, 0), 5))
        low, high = 4, 7
    elif fault == "misaligned":
        other = film()[2]
        pair = replace(pair, events=other.events)
        low = high = misalignment(other.events, pair.frame).score
    return pair, low, high


@pytest.mark.parametrize("fault", ["few_events", "under_exposed", "over_exposed", "blurred", "misaligned"])
def test_every_fault_is_found_with_its_figure(fault: str) -> None:
    pair, low, high = spoilt(fault)
    (drop,) = curate([pair]).dropped
    assert (drop.name, drop.reason) == (pair.name, fault)
    assert low <= drop.figure <= high
    limit = {"few_events": "min_events", "under_exposed": "max_dark", "over_exposed": "max_bright"}.get(fault)
    limit = limit or {"blurred": "max_blur_px", "misaligned": "max_misalignment"}[fault]
    config = CurationConfig()
    assert drop.limit == getattr(config, limit)
    # Unasked, the same pair is kept, or falls by what misalignment makes of a spoilt frame.
    unasked = curate([pair], CurationConfig.parse({limit: None, "max_misalignment": None}))
    assert unasked.kept == [pair.name]


def test_duplicates_are_compared_with_the_last_kept_of_their_source() -> None:
    first, second, third = film()
    config = CurationConfig(max_misalignment=None)
    again = replace(second, frame=first.frame)
    noisy = (first.frame.astype(int) + np.random.default_rng(0).integers(-2, 3, SIZE)).clip(0, 255).astype(np.uint8)
    found = curate([first, again, replace(third, frame=noisy), replace(first, name="other/000000")], config)
    assert found.kept == [first.name, "other/000000"]
    assert [(drop.name, drop.reason) for drop in found.dropped] == [(p.name, "duplicate") for p in (again, third)]
    assert found.dropped[0] == Drop(again.name, "duplicate", 0.0, 0.02)
    # A frame that was left out is nobody's predecessor.
    dark = replace(second, frame=second.frame // 64)
    assert [d.reason for d in curate([first, dark, again_after(third, first)], config).dropped] == [
        "under_exposed",
        "duplicate",
    ]
    assert curate([first, again], CurationConfig(max_same=None, max_misalignment=None)).kept == [first.name, again.name]


def again_after(pair: Pair, shown: Pair) -> Pair:
    return replace(pair, frame=shown.frame)


def test_the_card_counts_by_source_and_reason() -> None:
    pairs = [*film(), replace(spoilt("over_exposed")[0], name="b/x/0"), replace(spoilt("few_events")[0], name="b/x/1")]
    result = curate(pairs)
    card = json.loads(json.dumps(result.card()))
    assert (card["pairs"], card["kept"]) == (5, 3)
    assert {reason: count for reason, count in card["dropped"].items() if count} == {"few_events": 1, "over_exposed": 1}
    assert card["sources"] == {
        "b/x": {"kept": 0, "dropped": {"few_events": 1, "over_exposed": 1}},
        "coffee": {"kept": 3, "dropped": {}},
    }
    assert card["limits"] == CurationConfig().model_dump()
    assert curate([]).card()["pairs"] == 0


def test_the_time_of_the_frame_is_minded() -> None:
    """The same events and frame, which ends the window: only who says so keeps them."""
    first, second, _ = film()
    pair = replace(second, events=first.events.between(TIMES_US[1] - 25_000, TIMES_US[1]))
    assert [drop.reason for drop in curate([pair]).dropped] == ["misaligned"]
    assert curate([replace(pair, frame_us=TIMES_US[1])]).kept == [pair.name]


def test_errors() -> None:
    pair = film()[0]
    with pytest.raises(ValueError, match="two called 'coffee/000000'"):
        curate([pair, pair])
    with pytest.raises(WindowError, match="as large as the sensor, 128x96"):
        curate([replace(pair, frame=pair.frame[::2, ::2])])
    with pytest.raises(ConfigError, match="max_dark"):
        CurationConfig.parse({"max_dark": 1.5})


@pytest.mark.parametrize("contrast", [0.15, 0.8])
@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.5])
def test_the_width_of_a_blurred_step(sigma: float, contrast: float) -> None:
    """A step blurred by sigma has that width, however high it is, upright or slanting; so do several."""
    x, y = np.meshgrid(np.arange(160), np.arange(120))
    for phase in (x, x + 0.5 * y):
        step = 0.1 + contrast * (phase % 160 > 80).astype(np.float32)
        blurred = cv2.GaussianBlur(step, (0, 0), sigma)[20:100, 20:140]
        assert edge_width(blurred) == pytest.approx(sigma, rel=0.15)
    assert edge_width(np.full((40, 40), 0.5, np.float32)) == 0


def test_photographs_get_wider_edges_the_more_they_are_blurred() -> None:
    picture = data.astronaut()[:, :, 1]
    widths = [edge_width(cv2.GaussianBlur(picture, (0, 0), s)) for s in (0.5, 1.5, 3, 6)]
    assert widths == sorted(widths)
    assert widths[0] < 1.5
    assert widths[-1] > 4


def test_exposure_is_counted_in_pixels() -> None:
    frame = np.full((10, 10), 100, np.uint8)
    frame[0] = 5  # 5 / 255 is just below 2 %
    frame[1:3] = 250  # just above 98 %
    frame[3], frame[4] = 6, 249
    assert share_of_dark(frame) == pytest.approx(0.1)
    assert share_of_bright(frame) == pytest.approx(0.2)
    colour = np.stack([frame, np.full_like(frame, 100), np.full_like(frame, 100)], axis=-1)
    assert share_of_bright(colour) == pytest.approx(0.2), "one full channel is as lost as three"
    assert share_of_dark(colour) == 0
    assert share_of_dark(frame.astype(np.uint16) * 257) == pytest.approx(0.1)


def test_the_hash_is_of_gradients() -> None:
    ramp = np.tile(np.arange(170, dtype=np.uint8), (160, 1))
    assert perceptual_hash(ramp).all()
    assert perceptual_hash(ramp).shape == (256,)
    assert not perceptual_hash(ramp[:, ::-1]).any()
    half = np.concatenate([ramp[:80], ramp[:80, ::-1]])
    assert list(perceptual_hash(half)) == [True] * 128 + [False] * 128
    # Light that goes up all over changes nothing.
    np.testing.assert_array_equal(perceptual_hash(half), perceptual_hash(half + 20))


def test_empty_windows_are_few_events() -> None:
    pair = film()[0]
    empty = replace(pair, events=Events.empty(pair.events.sensor, (0, 10)))
    assert curate([empty]).dropped == [Drop(pair.name, "few_events", 0.0, 0.01)]
