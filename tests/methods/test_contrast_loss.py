"""Both losses against scalar loops in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from eventfm.methods.contrast_loss import batch_contrast, image_cosine, queue_contrast

T = 0.07


def directions(seed, *shape):
    return functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def queue_by_hand(query, key, entries):
    q, k, e = (np.asarray(x, np.float64) for x in (query, key, entries))
    losses, picked = np.zeros(q.shape[:2]), np.zeros(q.shape[:2])
    for b in range(q.shape[0]):
        for place in range(q.shape[1]):
            own = float(np.dot(q[b, place], k[b, place])) / T
            others = [float(np.dot(q[b, place], e[:, place, r])) / T for r in range(e.shape[2])]
            top = max([own, *others])
            total = sum(np.exp(value - top) for value in [own, *others])
            losses[b, place] = -(own - top - np.log(total))
            picked[b, place] = own > max(others)
    return losses, picked


def test_queue_loss_equals_the_formula_by_hand():
    query, key = directions(1, 3, 5, 8), directions(2, 3, 5, 8)
    entries = directions(3, 5, 7, 8).permute(2, 0, 1)
    key[0] = functional.normalize(query[0] + 0.3 * key[0], dim=-1)
    found = queue_contrast(query, key, entries, T)
    losses, picked = queue_by_hand(query, key, entries)
    np.testing.assert_allclose(found.loss, losses, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.picked, picked)
    assert 0 < picked.mean() < 1
    np.testing.assert_allclose(found.cosine, (query * key).sum(-1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("offset", [0, 2])
def test_batch_loss_equals_the_formula_by_hand(offset):
    query, keys = directions(1, 2, 5, 8), directions(2, 4, 5, 8)
    keys[offset] = functional.normalize(query[0] + 0.3 * keys[offset], dim=-1)
    found = batch_contrast(query, keys, offset, T)
    q, k = query.double().numpy(), keys.double().numpy()
    for b in range(2):
        for place in range(5):
            logits = [float(np.dot(q[b, place], k[m, place])) / T for m in range(4)]
            own = logits[b + offset]
            want = max(logits) + np.log(sum(np.exp(value - max(logits)) for value in logits)) - own
            assert found.loss[b, place].item() == pytest.approx(want, rel=1e-4, abs=1e-5)
            assert found.picked[b, place].item() == (own == max(logits))


def test_the_gradient_of_the_queue_loss_reaches_keys_through_the_positive_alone():
    query, key = directions(1, 2, 3, 8).requires_grad_(), directions(2, 2, 3, 8).requires_grad_()
    entries = directions(3, 3, 4, 8).permute(2, 0, 1).requires_grad_()
    queue_contrast(query, key, entries, T).loss.sum().backward()
    assert entries.grad is None
    with torch.no_grad():
        own = (query * key).sum(-1, keepdim=True) / T
        others = torch.einsum("bld,dlk->blk", query, entries) / T
        shares = torch.cat([own, others], dim=2).softmax(dim=2)
        # d loss / d logit = share - 1 for the positive, share for the others.
        to_key = (shares[..., :1] - 1) * query / T
        to_query = ((shares[..., :1] - 1) * key + torch.einsum("blk,dlk->bld", shares[..., 1:], entries)) / T
    torch.testing.assert_close(key.grad, to_key, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(query.grad, to_query, rtol=1e-4, atol=1e-5)


def test_extreme_temperatures_stay_finite_and_half_precision_does_not_enter():
    query, key = directions(1, 2, 3, 8), directions(2, 2, 3, 8)
    entries = directions(3, 3, 4, 8).permute(2, 0, 1)
    assert queue_contrast(query, key, entries, 1e-4).loss.isfinite().all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = [queue_contrast(query, key, entries, T).loss, batch_contrast(query, key, 0, T).loss]
    full = [queue_contrast(query, key, entries, T).loss, batch_contrast(query, key, 0, T).loss]
    assert all(torch.equal(a, b) for a, b in zip(half, full, strict=True))


def test_a_tie_is_not_picked():
    same = directions(1, 1, 1, 8).expand(4, 3, 8)
    assert queue_contrast(same, same, same.permute(2, 1, 0), T).picked.sum() == 0
    assert batch_contrast(same, same, 0, T).picked.sum() == 0


def test_image_cosine_is_the_mean_over_pairs_of_samples_at_a_position():
    query = directions(1, 4, 5, 8)
    q = query.double().numpy()
    pairs = [np.dot(q[a, place], q[b, place]) for a in range(4) for b in range(4) if a != b for place in range(5)]
    assert image_cosine(query).item() == pytest.approx(np.mean(pairs), abs=1e-6)
    assert image_cosine(query[:1].expand(4, 5, 8)).item() == pytest.approx(1)
    assert image_cosine(query[:1]) == 0
