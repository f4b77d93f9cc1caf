"""Units and weights of flow."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tasks_toy import NOW, batch_of, toy

from eventfm.tasks.flow import DenseFlow, MatchedFlow


def networks(cells, auxiliary=None, stride=16):
    """Return stand-ins whose head says one cell to the right and one half down everywhere, on a grid of `cells`."""

    def head(pyramid):
        return torch.tensor([1.0, 0.5]).view(1, 2, 1, 1).expand(2, 2, *cells)

    return SimpleNamespace(
        backbone=SimpleNamespace(stride=stride, pyramid=lambda x: [x]), head=head, auxiliary=auxiliary
    )


def test_a_cell_is_as_many_pixels_as_it_covers_of_the_padded_input():
    flow = DenseFlow().predict(networks((6, 8)), {"input": torch.zeros(2, 1, 33, 50)})["flow"]  # padded to 48x64
    assert flow.shape == (2, 2, 33, 50)
    assert (flow[:, 0] == 8).all()
    assert (flow[:, 1] == 4).all()


def test_a_map_of_the_size_of_the_input_is_in_pixels():
    flow = DenseFlow().predict(networks((32, 48)), {"input": torch.zeros(2, 1, 32, 48)})["flow"]
    assert torch.equal(flow[0, :, 5, 5], torch.tensor([1.0, 0.5]))


def test_the_auxiliary_head_counts_by_its_weight():
    target = torch.zeros(2, 2, 32, 48)
    batch = {"input": torch.zeros(2, 1, 32, 48), "flow": target}
    out = DenseFlow(auxiliary=0.4).loss(networks((32, 48), auxiliary=lambda p: torch.ones(2, 2, 32, 48)), batch)
    assert out["l1"].item() == pytest.approx(1.5)
    assert out["auxiliary"].item() == pytest.approx(2.0)
    assert out["loss"].item() == pytest.approx(1.5 + 0.4 * 2.0)


def test_raft_is_given_the_earlier_window_first_and_pays_for_every_iteration():
    def head(pyramid, size):
        assert size == (48, 64)
        before, now = pyramid[0].chunk(2)
        assert (before[:, :, :33, :50] == 1).all()
        assert (now[:, :, :33, :50] == 2).all()
        return [torch.full((1, 2, 48, 64), 3.0), torch.full((1, 2, 48, 64), 1.0)]

    stand_in = SimpleNamespace(backbone=SimpleNamespace(stride=16, pyramid=lambda x: [x]), head=head)
    batch = {"input": torch.full((1, 1, 33, 50), 2.0), "before": torch.ones(1, 1, 33, 50)}
    batch["flow"] = torch.zeros(1, 2, 33, 50)
    out = MatchedFlow(gamma=0.5).loss(stand_in, batch)
    assert out["loss"].item() == pytest.approx(0.5 * 6 + 2)
    assert out["l1"].item() == pytest.approx(2)
    assert MatchedFlow().predict(stand_in, batch)["flow"].shape == (1, 2, 33, 50)


def test_raft_sees_the_window_before():
    objective, batch = toy("flow", "raft").eval(), batch_of("flow")
    one = objective.predict(batch)["flow"]
    other = objective.predict({**batch, "before": batch["before"].flip(3)})["flow"]
    assert not torch.allclose(one, other)
    assert objective.train()(batch, NOW)["loss"].isfinite()


def test_raft_without_the_window_before_says_so():
    batch = batch_of("flow")
    del batch["before"]
    with pytest.raises(ValueError, match="'before' in the batch"):
        toy("flow", "raft")(batch, NOW)
