"""What enters the queue, where, and in which order."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from eventfm.models.position_queue import PositionQueue


def keys(first, count):
    """Return keys (count, 3, 4) whose first channel is the number of the sample plus a tenth of the position."""
    out = torch.zeros(count, 3, 4)
    out[:, :, 0] = torch.arange(first, first + count)[:, None] + torch.tensor([0.0, 0.1, 0.2])
    return out


def test_it_starts_with_random_directions():
    queue = PositionQueue(4, 3, 50)
    assert queue.entries.shape == (4, 3, 50)
    torch.testing.assert_close(queue.entries.norm(dim=0), torch.ones(3, 50))
    assert queue.entries.mean().abs() < 0.1
    assert torch.equal(queue.pointer, torch.zeros(1, dtype=torch.int64))
    assert set(queue.state_dict()) == {"entries", "pointer"}
    assert not list(queue.parameters())


def test_keys_take_the_places_of_the_oldest_in_order():
    queue = PositionQueue(4, 3, 6)
    old = queue.entries.clone()
    queue.enqueue(keys(10, 2))
    assert queue.pointer.item() == 2
    assert torch.equal(queue.entries[:, :, 2:], old[:, :, 2:])
    queue.enqueue(keys(20, 2))
    queue.enqueue(keys(30, 2))
    assert queue.pointer.item() == 0
    assert queue.entries[0, 0].tolist() == [10, 11, 20, 21, 30, 31]
    torch.testing.assert_close(queue.entries[0, 2] - queue.entries[0, 0], torch.full((6,), 0.2), atol=1e-5, rtol=0)
    queue.enqueue(keys(40, 3))
    assert queue.entries[0, 0].tolist() == [40, 41, 42, 21, 30, 31]
    queue.enqueue(keys(50, 6))  # in the middle and past the end
    assert queue.entries[0, 0].tolist() == [53, 54, 55, 50, 51, 52]
    assert queue.pointer.item() == 3


def test_no_gradient_stays_in_the_queue():
    queue = PositionQueue(4, 3, 6)
    queue.enqueue(keys(0, 2).requires_grad_())
    assert not queue.entries.requires_grad


def test_a_loaded_queue_goes_on_where_it_was():
    first, second = PositionQueue(4, 3, 6), PositionQueue(4, 3, 6)
    first.enqueue(keys(10, 2))
    second.load_state_dict(first.state_dict())
    for queue in (first, second):
        queue.enqueue(functional.normalize(keys(20, 3), dim=2))
    assert torch.equal(first.entries, second.entries)


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (4, "multiple of the 4 samples of a step, got 6; 4 or 8 would do"),
        (8, "multiple of the 8 samples of a step, got 6; 8 would do"),
    ],
)
def test_a_batch_that_does_not_divide_the_queue_is_refused(count, message):
    queue = PositionQueue(4, 3, 6)
    before = queue.entries.clone()
    with pytest.raises(ValueError, match=message):
        queue.enqueue(keys(0, count))
    assert torch.equal(queue.entries, before)


def test_an_empty_queue_is_refused():
    with pytest.raises(ValueError, match="at least one entry"):
        PositionQueue(4, 3, 0)
