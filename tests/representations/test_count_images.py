"""ECDP and MEM images against their formulas, done by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.events import EventBatch, Events, Sensor
from eventfm.representations import ECDPImage, MEMImage, PolarityCounts

WIDE = Sensor(20, 15)


def from_counts(counts, sensor=WIDE):
    """Return events that make `counts`: {(x, y, p): number}."""
    cells = [cell for cell, number in counts.items() for _ in range(number)]
    x, y, p = np.array(cells, int).reshape(-1, 3).T
    return Events.checked(x, y, np.arange(len(cells)), p, sensor)


@st.composite
def streams(draw):
    """Events on a 20 x 15 sensor; some of the pixels may be hot, by little or by much."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cells = [tuple(cell) for cell in rng.integers(0, (20, 15, 2), (draw(st.integers(0, 60)), 3)).tolist()]
    hot = draw(st.lists(st.integers(2, 200), max_size=3))
    counts = dict.fromkeys(cells, 1) | {(i, 2 * i, i % 2): number for i, number in enumerate(hot)}
    return from_counts(counts)


def by_hand(events):
    """Return the MEM image as published, step by step, with numpy's own mean and standard deviation in float64."""
    image = np.zeros((3, 15, 20))
    for x, y, p in zip(events.x, events.y, events.p, strict=True):
        image[0 if p else 2, y, x] += 1 / 255
    both = image[0::2]
    hot = both > both.mean() + 10 * both.std(ddof=1)
    for _, y, x in np.argwhere(hot):
        image[:, y, x] = 0
    return image / image.max() if image.any() else image


@settings(deadline=None)  # the first example may compile the kernel
@given(streams())
def test_mem_equals_the_published_steps(events):
    np.testing.assert_allclose(MEMImage()(events).numpy(), by_hand(events), rtol=0, atol=1e-6)


@settings(deadline=None)  # the first example may compile the kernel
@given(streams())
def test_ecdp_equals_the_published_formula_and_keeps_the_counts(events):
    image, counts = ECDPImage()(events), PolarityCounts()(events)
    largest = counts.amax(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(image, (counts / (largest + 1) - 0.5) * 2, rtol=0, atol=0)
    assert image.min() >= -1
    assert image.max() < 1
    torch.testing.assert_close((image + 1) / 2 * (largest + 1), counts, rtol=0, atol=1e-4)


def test_ecdp_normalises_each_polarity_by_itself():
    events = from_counts({(0, 0, 1): 3, (1, 0, 1): 1, (0, 0, 0): 1})
    assert ECDPImage()(events)[:, 0, :3].tolist() == [[0.5, -0.5, -1], [0, -1, -1]]
    assert (ECDPImage()(Events.empty(WIDE)) == -1).all()


def test_mem_is_on_zeros_off_by_the_joint_largest():
    counts = {(x, y, 1): 2 for x in range(20) for y in range(15)} | {(3, 0, 0): 4, (4, 0, 1): 1}
    image = MEMImage()(from_counts(counts))
    assert image[:, 0, 2:5].tolist() == [[0.5, 0.5, 0.25], [0, 0, 0], [0, 1, 0]]


def test_mem_drops_both_polarities_of_a_hot_pixel():
    counts = {(x, 1, 1): 1 for x in range(20)} | {(5, 1, 0): 500, (6, 1, 0): 2}
    image = MEMImage()(from_counts(counts))
    assert not image[:, :, 5].any()
    assert image[:, 1, 6].tolist() == [0.5, 0, 1]
    assert image.sum() == pytest.approx(1 + 19 * 0.5)


@pytest.mark.parametrize(("width", "left"), [(50, 1), (51, 0)])
def test_mem_takes_a_lone_event_for_hot_on_51_pixels_or_more(width, left):
    image = MEMImage()(from_counts({(0, 0, 1): 1}, Sensor(width, 1)))
    assert image.sum() == left


@settings(deadline=None)  # the first example may compile the kernel
@given(st.lists(streams(), min_size=1, max_size=4))
def test_hot_pixels_and_largest_counts_are_each_samples_own(samples):
    for image in (ECDPImage(), MEMImage()):
        batched = image.batched(EventBatch.collate(samples))
        assert torch.equal(batched, torch.stack([image(sample) for sample in samples]))


def test_mem_standard_deviation_is_divided_by_n_minus_1():
    events = from_counts({(0, 0, 1): 20, (5, 0, 0): 1}, Sensor(51, 1))  # hot above 20.02; above 19.93 if by n
    for image in (MEMImage()(events), MEMImage().batched(EventBatch.collate([events]))[0]):
        assert image[:, 0, 0].tolist() == [1, 0, 0]
