"""Masks: the generator's bits, the order of tokens, independence of batch mates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.models.masking import EMPTY_ACTIVITY, density_masking, random_masking, take_tokens, take_units, uniform
from eventfm.random import splitmix64

WORD = 2**64


def splitmix64_by_hand(z):
    z = (z + 0x9E3779B97F4A7C15) % WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % WORD
    return z ^ (z >> 31)


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4), st.integers(1, 9))
def test_uniforms_have_the_bits_of_splitmix64(keys, n):
    found = uniform(torch.tensor(keys, dtype=torch.int64), n)
    assert found.dtype == torch.float32
    with np.errstate(over="ignore"):
        base = splitmix64(np.array(keys, np.int64).astype(np.uint64))[:, None]
        bits = splitmix64(base + np.arange(n, dtype=np.uint64))
    np.testing.assert_array_equal(found.numpy(), (bits >> np.uint64(40)).astype(np.float64) * 2.0**-24)
    for row, key in zip(found.tolist(), keys, strict=True):
        base = splitmix64_by_hand(key % WORD)
        assert row == [(splitmix64_by_hand((base + i) % WORD) >> 40) * 2.0**-24 for i in range(n)]


def test_uniforms_are_uniform():
    values = uniform(torch.arange(200), 500).double()
    assert values.min() >= 0
    assert values.max() < 1
    counts = torch.histc(values, bins=20, min=0, max=1)
    chi_square = ((counts - 5000) ** 2 / 5000).sum()
    assert chi_square < 50  # 19 degrees of freedom: beyond 1 in 10,000
    assert abs(np.corrcoef(values[:-1].flatten(), values[1:].flatten())[0, 1]) < 0.02


@settings(deadline=None)
@given(st.integers(2, 60), st.floats(0, 0.95), st.integers(0, 2**62))
def test_masks_count_and_undo_the_shuffle(num_patches, ratio, key):
    if int(num_patches * (1 - ratio) + 1e-6) < 1:
        return
    keys = torch.tensor([key, key + 1])
    keep, restore, mask = random_masking(keys, num_patches, ratio)
    num_keep = keep.shape[1]
    assert num_keep == pytest.approx(num_patches * (1 - ratio), abs=1)
    assert num_keep <= num_patches * (1 - ratio) + 1e-5
    assert (mask.sum(dim=1) == num_patches - num_keep).all()
    assert (mask.gather(1, keep) == 0).all()
    # Visible tokens, then masked ones, put back by `restore`, are in raster order again.
    hidden = (mask == 1).nonzero()[:, 1].view(2, -1)
    shuffled = torch.cat([keep, hidden], dim=1)
    back = shuffled.gather(1, restore)
    visible = mask == 0
    assert (back[visible] == torch.arange(num_patches).expand(2, -1)[visible]).all()
    assert (restore.sort(dim=1).values == torch.arange(num_patches)).all()


def test_kept_patches_are_those_of_the_smallest_uniforms():
    keys = torch.arange(5)
    keep, _, _ = random_masking(keys, 24, 0.5)
    values = uniform(keys, 24)
    assert (values.gather(1, keep).max(dim=1).values <= values.median(dim=1).values).all()
    assert (values.gather(1, keep).diff(dim=1) >= 0).all()


def test_a_mask_depends_on_its_key_alone():
    alone = random_masking(torch.tensor([77]), 49, 0.5)
    among = random_masking(torch.tensor([5, 77, 6]), 49, 0.5)
    for one, many in zip(alone, among, strict=True):
        assert torch.equal(one[0], many[1])
    assert not torch.equal(among[0][0], among[0][1])


@pytest.mark.parametrize(("num_patches", "ratio", "kept"), [(196, 0.5, 98), (49, 0.5, 24), (10, 0.9, 1), (7, 0.0, 7)])
def test_number_of_visible_patches(num_patches, ratio, kept):
    assert random_masking(torch.tensor([1]), num_patches, ratio)[0].shape == (1, kept)


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 0.99])
def test_ratios_that_leave_nothing_are_refused(ratio):
    with pytest.raises(ValueError, match="mask ratio"):
        random_masking(torch.tensor([1]), 16, ratio)


def test_take_tokens():
    tokens = torch.arange(12.0).view(1, 4, 3)
    assert take_tokens(tokens, torch.tensor([[2, 0]])).tolist() == [[[6, 7, 8], [0, 1, 2]]]


def test_take_units():
    x = torch.randn(2, 3, 8, 12)
    keep = torch.tensor([[5, 0], [1, 4]])
    found = take_units(x, keep, 4)
    assert found.shape == (2, 2, 3, 4, 4)
    for b in range(2):
        for k in range(2):
            row, col = divmod(int(keep[b, k]), 3)
            assert torch.equal(found[b, k], x[b, :, 4 * row : 4 * row + 4, 4 * col : 4 * col + 4])


@pytest.mark.parametrize("order", ["density", "anti-density"])
@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 40), st.sampled_from([0.5, 0.75, 0.0]))
def test_without_noise_the_rule_is_the_published_one(order, seed, num_patches, ratio):
    if int(num_patches * (1 - ratio)) < 1:
        return
    rng = np.random.default_rng(seed)
    values = (rng.gamma(0.5, size=(2, num_patches)) ** 4).astype(np.float32)  # from nearly nothing to much
    values[:, rng.integers(num_patches)] = 0
    keep, restore, mask = density_masking(torch.tensor([1, 2]), torch.from_numpy(values), ratio, order, noise=0.0)
    shuffle = np.argsort(values if order == "density" else -values, axis=1, kind="stable")
    num_keep = int(num_patches * (1 - ratio))
    assert (keep.numpy() == shuffle[:, :num_keep]).all()
    assert (restore.numpy() == np.argsort(shuffle, axis=1)).all()
    assert (mask.numpy() == (np.argsort(shuffle, axis=1) >= num_keep)).all()


@pytest.mark.parametrize(("order", "hidden"), [("density", [2, 0]), ("anti-density", [1, 3])])
def test_density_hides_the_densest_and_anti_density_the_sparsest(order, hidden):
    _, _, mask = density_masking(torch.tensor([5]), torch.tensor([[3.0, 0.0, 9.0, 1.0]]), 0.5, order, noise=0.0)
    assert sorted(mask[0].nonzero()[:, 0].tolist()) == sorted(hidden)


def test_with_noise_units_are_hidden_by_odds():
    # One of two is hidden: the first with odds of a : b for noise 1, of a**2 : b**2 for noise 1/2.
    keys, (a, b) = torch.arange(20_000), (3.0, 1.0)
    activity = torch.tensor([[a, b]]).expand(len(keys), -1)
    first, second = (value / 2 + EMPTY_ACTIVITY for value in (a, b))  # beside a mean of 2
    for noise in (1.0, 0.5):
        odds = (first / second) ** (1 / noise)
        for order, expected in (("density", odds / (1 + odds)), ("anti-density", 1 / (1 + odds))):
            _, _, mask = density_masking(keys, activity, 0.5, order, noise)
            assert mask[:, 0].mean().item() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(("order", "sign"), [("density", 1), ("anti-density", -1)])
def test_noisy_masks_differ_between_epochs_and_share_the_tendency(order, sign):
    activity = torch.linspace(0, 2, 64).exp()[None].expand(400, -1)
    _, _, mask = density_masking(torch.arange(400), activity, 0.5, order, noise=0.5)
    assert (mask.sum(dim=1) == 32).all()
    assert len({tuple(row) for row in mask.tolist()}) == 400
    often = mask.mean(dim=0)
    assert sign * (often[-16:].mean() - often[:16].mean()) > 0.5
    assert often.min() > 0  # nothing is always seen
    assert often.max() < 1  # and nothing never
    for one, many in zip(
        density_masking(torch.tensor([7]), activity[:1], 0.5, order, 0.5),
        density_masking(torch.arange(400), activity, 0.5, order, 0.5),
        strict=True,
    ):
        assert torch.equal(one[0], many[7])


def test_units_without_events_are_drawn_by_lot():
    activity = torch.zeros(40, 16)
    _, _, empty = density_masking(torch.arange(40), activity, 0.5, "density", 0.5)
    assert 0.2 < empty.mean(dim=0).min() <= empty.mean(dim=0).max() < 0.8
    activity[:, 3] = 5.0
    _, _, one = density_masking(torch.arange(40), activity, 0.5, "density", 0.5)
    assert one[:, 3].all()


def test_the_scale_of_activity_does_not_matter():
    activity = torch.rand(4, 30)
    keep, _, _ = density_masking(torch.arange(4), activity, 0.5, "density", 0.5)
    again, _, _ = density_masking(torch.arange(4), activity * 1024, 0.5, "density", 0.5)
    assert torch.equal(keep, again)


@pytest.mark.parametrize(
    ("order", "noise", "ratio", "message"),
    [
        ("dense", 0.5, 0.5, "density or anti-density.*got 'dense'"),
        ("density", -1.0, 0.5, "noise of at least 0.*-1.0"),
        ("density", 0.5, 0.99, "mask ratio"),
    ],
)
def test_density_masks_that_make_no_sense_are_refused(order, noise, ratio, message):
    with pytest.raises(ValueError, match=message):
        density_masking(torch.tensor([1]), torch.ones(1, 16), ratio, order, noise)
