"""Active patches: by a number of events, or so many of each sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.methods.activation import active_patches, active_share


def test_a_patch_is_active_from_the_threshold_on_in_raster_order():
    activity = torch.tensor([[[64.0, 63.99, 0.0], [1e6, 64.01, 5.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 64.0]]])
    expected = torch.tensor([[1, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 1]], dtype=torch.bool)
    torch.testing.assert_close(active_patches(activity, 64), expected)


@settings(max_examples=80, deadline=None)
@given(
    activity=st.lists(st.lists(st.integers(0, 4), min_size=12, max_size=12), min_size=1, max_size=3),
    share=st.floats(0.01, 1.0),
)
def test_the_share_is_of_the_patches_with_most_events_first_ones_first(activity, share):
    counts = torch.tensor(activity, dtype=torch.float32).unflatten(1, (3, 4))
    found = active_share(counts, share)
    assert found.shape == (len(activity), 12)
    number = max(1, round(share * 12))
    for row, active in zip(activity, found, strict=True):
        ranked = sorted(range(12), key=lambda place: (-row[place], place))[:number]
        assert np.flatnonzero(active).tolist() == sorted(place for place in ranked if row[place] > 0)


@pytest.mark.parametrize(("share", "number"), [(1.0, 6), (1 / 3, 2), (0.001, 1)])
def test_the_share_is_a_whole_number_of_patches_and_at_least_one(share, number):
    assert active_share(torch.arange(1.0, 7.0).view(1, 2, 3), share).sum() == number
