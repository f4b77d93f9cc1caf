"""The distillation objective: what it compares, what it trains, what it refuses. The terms are tested on their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from eventfm.config import ConfigError
from eventfm.engine.optim import parameter_groups
from eventfm.methods import build_method, has_teacher
from eventfm.methods.distillation import StructureDistillation, build
from eventfm.methods.structure_loss import structure_terms
from eventfm.models.token_grid import crop_tokens
from eventfm.protocols import Progress

SIZE, GRID, BINS, DIM = (32, 48), (2, 3), 3, 64
PROGRESS = Progress(0, 10)
DINO = {"name": "dinov3_nano", "arguments": {"patch_size": 16}}


class Taught:
    """A teacher that is only read from a batch."""

    def __init__(self, dim: int = DIM, grid: tuple[int, int] = GRID) -> None:
        self.dim, self.grid, self.input_size, self.identity = dim, grid, (16 * grid[0], 16 * grid[1]), {"name": "x"}

    def __call__(self, pictures: Tensor) -> Tensor:
        raise AssertionError("the batch brings tokens")


def batch(size: int = 3, dim: int = DIM) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {
        "input": torch.randn(size, BINS, *SIZE, generator=generator),
        "teacher_tokens": torch.randn(size, GRID[0] * GRID[1], dim, generator=generator),
        "view": torch.tensor([[0.0, 0.0, 1.0, 1.0, 0.0], [0.1, 0.0, 0.8, 0.9, 1.0], [0.0, 0.2, 1.0, 1.0, 0.0]])[:size],
        "activity": torch.tensor([[[64.0, 63.9, 200.0], [0.0, 5.0, 70.0]]] * size),
    }


def made(**config: Any) -> StructureDistillation:
    torch.manual_seed(3)
    return build({"backbone": DINO, **config}, BINS, SIZE, Taught())


def test_the_loss_is_the_weighted_sum_of_its_terms_on_the_students_view() -> None:
    given = batch()
    objective = made(form="paper")
    out = objective(given, PROGRESS)
    active = torch.tensor([[1, 0, 1, 0, 0, 1]] * 3, dtype=torch.bool)
    taught = crop_tokens(given["teacher_tokens"], GRID, given["view"], GRID)
    terms = structure_terms(objective.backbone(given["input"]).tokens, taught, active, "paper")
    torch.testing.assert_close(out["loss"], terms.token + 10 * terms.intra + 4 * terms.cross)
    for name, value in terms._asdict().items():
        torch.testing.assert_close(out[name], value)
    assert out["active_share"] == 0.5
    assert out["without_active"] == 0
    assert "mean_token_loss" not in out


def test_terms_are_switched_off_by_their_weights() -> None:
    out = made(weights={"intra": 0, "cross": 0})(batch(), PROGRESS)
    torch.testing.assert_close(out["loss"], out["token"])
    assert "intra" not in out
    with pytest.raises(ConfigError, match="at least one"):
        made(weights={"token": 0, "intra": 0, "cross": 0})


@pytest.mark.parametrize(("mask", "share"), [("none", 1.0), ("share", 1 / 3), ("threshold", 0.5), ("stored", 1 / 6)])
def test_masks(mask: str, share: float) -> None:
    given = batch() | {"active": torch.tensor([[[0.0, 0, 1], [0, 0, 0]]] * 3)}
    out = made(mask={"by": mask, "share": 1 / 3})(given, PROGRESS)
    torch.testing.assert_close(float(out["active_share"]), share, rtol=1e-6, atol=1e-6)


def test_without_active_patches_nothing_is_learnt_and_nothing_breaks() -> None:
    given = batch()
    given["activity"] = torch.zeros_like(given["activity"])
    objective = made()
    out = objective(given, PROGRESS)
    assert out["loss"] == 0
    assert out["without_active"] == 1
    out["loss"].backward()
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in objective.parameters())
    assert objective.eval()(given, PROGRESS)["mean_token_loss"] == 0


def test_a_student_that_says_the_mean_token_pays_the_mean_token_loss() -> None:
    given = batch()
    objective = made().eval()
    given["view"] = torch.tensor([[0.0, 0, 1, 1, 0]] * 3)
    flat = given["activity"].flatten(1) >= 64
    mean = given["teacher_tokens"][flat].mean(0)
    terms = structure_terms(mean.expand(3, 6, DIM), given["teacher_tokens"], flat, "robust")
    out = objective(given, PROGRESS)
    torch.testing.assert_close(out["mean_token_loss"], terms.token + 10 * terms.intra + 4 * terms.cross)


def test_every_trainable_parameter_learns_and_the_released_ones_are_fixed() -> None:
    for train, fixed in (("all", set()), ("released", {"embeddings.cls_token", "embeddings.register_tokens"})):
        objective = made(train=train)
        objective(batch(), PROGRESS)["loss"].backward()
        free = {name for name, p in objective.backbone.named_parameters() if p.requires_grad}
        silent = {n for n, p in objective.backbone.named_parameters() if p.requires_grad and p.grad is None}
        assert not silent
        assert not fixed & free
        assert ("norm.weight" in free) == (train == "all")
        assert "embeddings.mask_token" not in free


def test_the_first_layer_may_learn_slower() -> None:
    objective = made(first_layer_rate=0.5)
    groups = parameter_groups(objective.named_parameters(), objective.parameter_rules(), 0.1)
    names = {id(p): name for name, p in objective.named_parameters()}
    rates = {names[id(p)]: (g["lr_scale"], g["weight_decay"]) for g in groups for p in g["params"]}
    for name, (rate, decay) in rates.items():
        assert rate == (0.5 if ".embeddings." in name else 1.0), name
        assert decay == (0.0 if name.endswith(("bias", "lambda1", "norm1.weight", "norm2.weight")) or "norm." in name
                         else decay), name  # fmt: skip
    patch = next(name for name in rates if name.endswith("patch_embeddings.weight"))
    assert rates[patch] == (0.5, 0.1)
    assert rates[patch.replace("weight", "bias")] == (0.5, 0.0)


def test_several_layers_have_the_same_weight() -> None:
    torch.manual_seed(3)
    objective = build({"backbone": DINO, "layers": [1, 2]}, BINS, SIZE, Taught(2 * DIM))
    given = batch(dim=2 * DIM)
    given["view"] = torch.tensor([[0.0, 0, 1, 1, 0]] * 3)
    active = given["activity"].flatten(1) >= 64
    first, last = objective.backbone.tokens_at(given["input"], (1, 2))
    taught = given["teacher_tokens"].split(DIM, dim=2)
    each = [structure_terms(own, t, active, "robust") for own, t in zip((first, last), taught, strict=True)]
    torch.testing.assert_close(objective(given, PROGRESS)["token"], (each[0].token + each[1].token) / 2)


def test_another_backbone_learns_through_a_projection() -> None:
    vit = {"name": "vit_tiny", "arguments": {"patch_size": 16}}
    with pytest.raises(ValueError, match=r"64 numbers.*192.*projection"):
        build({"backbone": vit}, BINS, SIZE, Taught())
    objective = build({"backbone": vit, "projection": "linear"}, BINS, SIZE, Taught())
    objective(batch(), PROGRESS)["loss"].backward()
    assert objective.projection.weight.grad.abs().max() > 0
    assert not any("projection" in name for name in objective.encoder().state_dict())


def test_inspect_gives_what_is_drawn() -> None:
    seen = made().eval().inspect(batch())
    assert seen["student"].shape == seen["teacher"].shape == (3, 6, DIM)
    assert tuple(seen["student_grid"]) == GRID
    assert seen["similarity"].abs().max() <= 1 + 1e-6
    assert seen["weight"].tolist() == [[1, 0, 1, 0, 0, 1]] * 3


def test_refusals_say_what_to_do() -> None:
    assert has_teacher("distillation")
    with pytest.raises(ConfigError, match=r"teacher\.name"):
        build_method({"name": "distillation", "backbone": DINO}, BINS, SIZE)
    given = batch()
    del given["activity"]
    with pytest.raises(ValueError, match=r"activity.*method\.mask\.by"):
        made()(given, PROGRESS)
    with pytest.raises(ValueError, match="grid of 2x3"):
        made()(batch() | {"activity": torch.ones(3, 3, 3)}, PROGRESS)
    with pytest.raises(ConfigError, match="DINO"):
        build({"backbone": {"name": "vit_nano", "arguments": {"patch_size": 16}}, "layers": [1]}, BINS, SIZE, Taught())
