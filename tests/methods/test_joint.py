"""Masked modelling and the contrast at once: the sum, each part once."""

from __future__ import annotations

import copy

import pytest
import torch
from contrast_toy import GRID, PROGRESS, SIZE, FakeTeacher, batch_of, contrast_of, joint_of

from eventfm.config import ConfigError
from eventfm.methods import METHODS, build_method
from eventfm.methods.joint import JointConfig
from eventfm.protocols import Objective


def test_the_loss_is_the_weighted_sum_of_both():
    objective = joint_of().eval()
    difference, contrast = objective._objectives
    batch = batch_of(range(3))
    out = objective(batch, PROGRESS)
    one, two = difference(batch, PROGRESS), contrast(batch, PROGRESS)
    torch.testing.assert_close(out["loss"], one["loss"] + 0.5 * two["loss"])
    assert out["difference_loss"] == one["loss"]
    assert out["contrast_loss"] == two["loss"]
    assert set(out) == {"difference_loss", "contrast_loss", *one, *two}
    assert two["loss"] == contrast_of().eval()(batch, PROGRESS)["loss"]


def test_every_parameter_is_there_once_under_the_name_it_has_elsewhere():
    objective = joint_of()
    difference, contrast = objective._objectives
    assert set(objective.state_dict()) == {*difference.state_dict(), *contrast.state_dict()}
    names = [name for name, _ in objective.named_parameters(remove_duplicate=False)]
    assert len(names) == len({id(p) for p in objective.parameters()})
    units = objective.shard_units()
    assert len(units) == len({id(unit) for unit in units}) == 2 + 1 + 3 + 2
    assert len(objective.parameter_rules()) == 1


def test_contract():
    objective = joint_of()
    assert isinstance(objective, Objective)
    out = objective(batch_of(range(4)), PROGRESS)
    out["loss"].backward()
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    objective.after_step(PROGRESS)
    assert objective.queue.pointer.item() == 4
    assert objective.encoder() is objective.backbone
    assert set(objective.reconstruct(batch_of(range(2)))) == {"input", "target", "prediction", "mask"}
    assert objective.eval().inspect(batch_of(range(2)))["similarity"].shape == (2, 24)


def test_modes_reach_both_objectives():
    objective = joint_of().eval()
    objective(batch_of(range(4)), PROGRESS)
    objective.after_step(PROGRESS)
    assert objective.queue.pointer.item() == 0
    objective.train()(batch_of(range(4)), PROGRESS)
    objective.after_step(PROGRESS)
    assert objective.queue.pointer.item() == 4


def test_a_copy_is_whole_and_its_own():
    objective = joint_of()
    twin = copy.deepcopy(objective)
    assert twin._objectives[0].backbone is twin._objectives[1].backbone is twin.backbone is not objective.backbone
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.1)
    batch = batch_of(range(2))
    assert twin.eval()(batch, PROGRESS)["loss"] != objective.eval()(batch, PROGRESS)["loss"]
    twin.load_state_dict(objective.state_dict())
    assert twin(batch, PROGRESS)["loss"] == objective(batch, PROGRESS)["loss"]


def test_overfits_one_batch():
    objective = joint_of(queue_length=0)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=5e-3)
    batch = batch_of(range(3))
    first = {name: value.item() for name, value in objective(batch, PROGRESS).items()}
    for _ in range(150):
        out = objective(batch, PROGRESS)
        optimizer.zero_grad()
        out["loss"].backward()
        optimizer.step()
    assert out["contrast_loss"] < 0.2 * first["contrast_loss"]
    assert out["difference_loss"] < 0.6 * first["zero_loss"]


TINY = {
    "name": "joint",
    "decoder": {"dim": 32, "depth": 1, "num_heads": 2},
    "contrast": {"hidden_dim": 32, "queue_length": 16},
}
BACKBONES = [("vit_nano", 4, (16, 24)), ("convvit_nano", 8, (32, 48)), ("swin_nano", 8, (32, 48))]


@pytest.mark.parametrize(("name", "patch_size", "size"), BACKBONES)
def test_every_backbone_can(name, patch_size, size):
    config = {**TINY, "backbone": {"name": name, "arguments": {"patch_size": patch_size}}, "contrast_weight": 2}
    objective = build_method(config, 2, size, FakeTeacher((2 * size[0] // patch_size, 2 * size[1] // patch_size)))
    assert objective.contrast_weight == 2
    batch = batch_of(range(2))
    batch |= {"input": torch.randn(2, 2, *size), "target": torch.randn(2, 1, *size)}
    batch["teacher_tokens"] = torch.randn(2, 4 * size[0] * size[1] // patch_size**2, 6)
    out = objective(batch, PROGRESS)
    out["loss"].backward()
    assert objective.teacher_projection.patch == 2
    missing = [name for name, parameter in objective.named_parameters() if parameter.grad is None]
    assert not missing


def test_configs():
    assert "joint" in METHODS
    assert JointConfig.parse(JointConfig().model_dump()) == JointConfig()
    assert JointConfig().contrast_weight == 1
    config = {**TINY, "backbone": {"name": "vit_nano", "arguments": {"patch_size": 4}}}
    assert build_method({**config, "mask_ratio": 0.75}, 2, SIZE, FakeTeacher(GRID))._objectives[0].mask_ratio == 0.75
    with pytest.raises(ConfigError, match=r"teacher\.name="):
        build_method(config, 2, SIZE)
    with pytest.raises(ConfigError, match=r"'method\.contrast_weight'"):
        build_method({**config, "contrast_weight": -1}, 2, SIZE, FakeTeacher(GRID))
