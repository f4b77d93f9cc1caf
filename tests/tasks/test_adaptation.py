"""What of a backbone learns, and how fast."""

from __future__ import annotations

import re

import pytest
import torch
from tasks_toy import NOW, batch_of, toy

from eventfm.engine.optim import parameter_groups
from eventfm.models import build_backbone
from eventfm.models.lora import merged_state
from eventfm.tasks.adaptation import AdaptConfig, adapt, leave_unread


def learning(module):
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


def test_a_frozen_backbone_stays_in_evaluation_mode():
    objective = toy("recognition", mode="frozen", arguments={"drop_path": 0.9})
    assert not any(module.training for module in objective.backbone.modules())
    assert objective.head.training
    batch = batch_of("recognition")
    assert objective(batch, NOW)["loss"] == objective(batch, NOW)["loss"], "paths were dropped"
    objective.eval()
    assert not objective.head.training
    objective.train()
    assert objective.head.training
    assert not objective.backbone.training


def test_a_full_backbone_does_not():
    objective = toy("recognition", arguments={"drop_path": 0.5})
    batch = batch_of("recognition")
    torch.manual_seed(0)
    assert len({objective(batch, NOW)["loss"].item() for _ in range(8)}) > 1


def test_statistics_of_a_frozen_backbone_are_fixed():
    objective = toy("segmentation", "upernet", "convvit_nano", "frozen", {"extra_level": True})
    before = {name: value.clone() for name, value in objective.backbone.state_dict().items()}
    assert any("running_mean" in name for name in before)
    objective({**batch_of("segmentation"), "input": 5 + batch_of("segmentation")["input"]}, NOW)
    assert all(torch.equal(value, before[name]) for name, value in objective.backbone.state_dict().items())


@pytest.mark.parametrize(
    ("backbone", "last", "expected"),
    [
        ("vit_nano", 1, r"blocks\.1\.|norm\."),
        ("vit_nano", 2, r"blocks\.[01]\.|norm\."),
        ("vit_nano", 3, r""),
        ("convvit_nano", 3, r"stages\.1\.|blocks\.[01]\.|norm\."),
        ("swin_nano", 1, r"stages\.3\.blocks\.1\.|norm\."),
        ("dinov3_nano", 1, r"blocks\.1\.|norm\."),
    ],
)
def test_the_last_layers_learn(backbone, last, expected):
    options = {"fusion": False} if backbone != "dinov3_nano" else {}
    network = build_backbone(backbone, 2, (32, 32), **options)
    before = learning(network)
    adapt(network, AdaptConfig(mode="partial", last=last))
    assert learning(network) == {name for name in before if re.match(expected, name)}


def test_what_no_head_reads_does_not_learn():
    dense, whole = toy("depth", "dpt"), toy("recognition")
    assert all(p.requires_grad for p in whole.backbone.parameters())
    fixed = {name for name, p in dense.backbone.named_parameters() if not p.requires_grad}
    assert fixed == {"norm.weight", "norm.bias"}, "dense heads of this backbone read blocks, not the last norm"


def test_looking_for_what_is_read_leaves_no_trace():
    backbone = build_backbone("convvit_nano", 2, (48, 48), extra_level=True, fusion=False).train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    state = torch.random.get_rng_state()
    leave_unread(backbone, 2, lambda x: [backbone(x).tokens])
    assert {n for n, p in backbone.named_parameters() if not p.requires_grad} == {
        f"extra_level.{n}" for n, _ in backbone.extra_level.named_parameters()
    }
    assert all(module.training for module in backbone.modules())
    assert all(parameter.grad is None for parameter in backbone.parameters())
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_merged_updates_leave_a_plain_task():
    objective, batch = toy("depth", "dpt", mode="lora"), batch_of("depth")
    with torch.no_grad():
        for name, parameter in objective.named_parameters():
            if parameter.requires_grad and name.startswith("backbone."):
                parameter.add_(0.1)
    expected = objective.eval().predict(batch)["depth"]
    plain = toy("depth", "dpt").eval()
    untouched = plain.predict(batch)["depth"]
    plain.load_state_dict(merged_state(objective))
    torch.testing.assert_close(plain.predict(batch)["depth"], expected)
    assert not torch.allclose(untouched, expected, rtol=0.01)


def rates(objective):
    """Return (learning rate, weight decay) of each parameter that learns, as the engine groups them."""
    names = {parameter: name for name, parameter in objective.named_parameters()}
    groups = parameter_groups(objective.named_parameters(), objective.parameter_rules(), 0.05)
    return {names[p]: (group["lr_scale"], group["weight_decay"]) for group in groups for p in group["params"]}


def test_layers_learn_slower_towards_the_input_and_the_head_at_the_full_rate():
    found = rates(toy("recognition", layer_decay=0.5, backbone_rate=0.1))
    assert found["head.linear.weight"] == (1.0, 0.05)
    assert found["head.linear.bias"] == (1.0, 0.0)
    assert found["backbone.norm.weight"] == (0.1, 0.0)
    assert found["backbone.blocks.1.mlp.fc1.weight"] == (pytest.approx(0.1), 0.05)
    assert found["backbone.blocks.0.mlp.fc1.weight"] == (pytest.approx(0.05), 0.05)
    assert found["backbone.blocks.0.mlp.fc1.bias"] == (pytest.approx(0.05), 0.0)
    assert found["backbone.patch_embed.proj.weight"] == (pytest.approx(0.025), 0.05)


def test_all_learn_alike_where_nothing_is_said():
    found = rates(toy("segmentation", "eomt"))
    assert {rate for rate, _ in found.values()} == {1.0}
    assert found["head.query_tokens"] == (1.0, 0.0)
    assert found["backbone.blocks.0.mlp.fc1.weight"] == (1.0, 0.05)


def test_rules_name_parameters_that_there_are(caplog):
    for mode in ("full", "frozen", "lora"):
        rates(toy("depth", "dpt", "swin_nano", mode, layer_decay=0.75, backbone_rate=0.5))
    assert not caplog.records
