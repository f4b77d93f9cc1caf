"""Learning rates by layer: the factor and the decay of every parameter, as the optimiser gets them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eventfm.engine.optim import parameter_groups
from eventfm.models import build_backbone
from eventfm.models.layer_rates import layer_decay, layer_grafted
from eventfm.models.layers import NO_DECAY
from eventfm.models.masked_decoder import MaskedDecoder
from eventfm.protocols import ParameterRule

LAST = {"vit_small": 12, "convvit_small": 13, "swin_tiny": 12}


class Whole(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.backbone = build_backbone(name, 3, 64)
        self.decoder = MaskedDecoder(self.backbone.embed_dim, 4, (2, 2), 8, 1, 2)
        self.head = nn.Linear(4, 4)


def whole(name):
    with torch.device("meta"):
        return Whole(name)


def given(module, rules):
    """Return {parameter name: (factor, decay)} after the optimiser's own grouping."""
    groups = parameter_groups(module.named_parameters(), [*rules, ParameterRule(NO_DECAY, weight_decay=0.0)], 0.05)
    by_id = {id(p): (group["lr_scale"], group["weight_decay"]) for group in groups for p in group["params"]}
    return {name: by_id[id(parameter)] for name, parameter in module.named_parameters()}


def published_id(name, backbone):
    """Return the layer of a parameter by the paper's code; for Swin, where that has none, blocks counted through."""
    parts = name.split(".")
    if parts[0] != "backbone" or parts[1] in ("norm", "fusion"):
        return LAST[backbone]
    if parts[1] in ("patch_embed", "stems", "to_tokens"):
        return 0
    if backbone == "swin_tiny":
        depths = (2, 2, 6, 2)
        stage = int(parts[2])
        return sum(depths[:stage]) + (depths[stage] if parts[3] == "merge" else int(parts[4]) + 1)
    if parts[1] == "stages":
        return 1 + int(parts[2])
    return int(parts[2]) + (3 if backbone == "convvit_small" else 1)


def decays(name, parameter):
    return parameter.ndim > 1 and not name.endswith(("mask_token", "position_bias"))


@pytest.mark.parametrize("backbone", list(LAST))
def test_layer_decay_gives_every_parameter_its_factor_and_decay(backbone):
    module = whole(backbone)
    found = given(module, layer_decay(module.backbone, "backbone.", 0.75))
    for name, parameter in module.named_parameters():
        factor, decay = found[name]
        assert factor == pytest.approx(0.75 ** (LAST[backbone] - published_id(name, backbone))), name
        assert decay == (0.05 if decays(name, parameter) else 0.0), name
    factors = {factor for factor, _ in found.values()}
    assert len(factors) == LAST[backbone] + 1


@pytest.mark.parametrize("backbone", list(LAST))
def test_layer_grafted_has_three_groups(backbone):
    module = whole(backbone)
    found = given(module, layer_grafted(module.backbone, "backbone."))
    before = 2 if backbone == "convvit_small" else 0  # layers of convolutions
    for name, parameter in module.named_parameters():
        block = published_id(name, backbone) - before - 1
        expected = 0.01 if block < 4 else 0.1 if block < 8 else 1.0
        assert found[name] == (expected, 0.05 if decays(name, parameter) else 0.0), name


@pytest.mark.parametrize(("depth", "groups"), [(1, (0.01,)), (2, (0.01, 0.1)), (5, (0.01, 0.01, 0.1, 0.1, 1.0))])
def test_thirds_of_other_depths_are_rounded_up(depth, groups):
    class Layers:
        def layers(self):
            return [["stem."], *([f"blocks.{i}."] for i in range(depth))]

    rules = layer_grafted(Layers(), "encoder.")
    assert [rule.lr_scale for rule in rules[1::2]] == [0.01, *groups]
    assert [rule.weight_decay for rule in rules] == [0.0, None] * (depth + 1)


def test_names_match_from_their_start_and_as_they_are():
    module = nn.ModuleDict({name: whole("vit_nano").backbone for name in ("student", "teacher_student")})
    found = given(module, layer_decay(module["student"], "student.", 0.5))
    assert found["student.patch_embed.proj.weight"] == (0.25, 0.05)
    assert found["teacher_student.patch_embed.proj.weight"] == (1.0, 0.05)


def test_no_transformer_blocks_is_an_error():
    class Layers:
        def layers(self):
            return [["stem."], ["stages.0."]]

    with pytest.raises(ValueError, match=r"names such as blocks\.0\."):
        layer_grafted(Layers(), "")
