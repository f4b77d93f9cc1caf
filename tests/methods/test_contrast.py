"""Stages 2 and 3: what they train, what enters the queue and when, how the teacher's tokens are paired."""

from __future__ import annotations

import copy
import math
import os
import signal

import pytest
import torch
from contrast_toy import (
    DIM,
    GRID,
    PROGRESS,
    SIZE,
    TEACHER_DIM,
    FakeTeacher,
    TaughtBatches,
    batch_of,
    contrast_of,
)
from engine_toy import assert_same_bits, final_tensors, losses, metrics, settings_of
from torch.nn import functional

from eventfm.config import ConfigError
from eventfm.engine import train
from eventfm.events import Events, Sensor
from eventfm.methods import METHODS, build_method
from eventfm.methods.contrast import ContrastConfig, ContrastTerm, FeatureContrast, TransitionConfig
from eventfm.methods.focus import attention_weights, density_weights
from eventfm.methods.pairing import auto_patch
from eventfm.models.token_grid import crop_tokens
from eventfm.protocols import Objective, Progress
from eventfm.representations import VoxelGrid

HEADS = ("projector.", "predictor.", "teacher_projection.")


def loss_by_hand(objective, batch, weight=1.0):
    """Return the loss from the parts of `objective` (in evaluation mode), put together anew in float64."""
    tokens = objective.backbone(batch["input"]).tokens
    patch = objective.teacher_projection.patch
    fine = (GRID[0] * patch, GRID[1] * patch)
    taught = batch["teacher_tokens"]
    if not objective.as_published:
        taught = crop_tokens(taught, objective.teacher.grid, batch["view"], fine)
    q = functional.normalize(objective.predictor(objective.projector(tokens)).double(), dim=2)
    k = functional.normalize(objective.teacher_projection(taught, fine).double(), dim=2)
    if objective.queue is None:
        logits = torch.einsum("bld,mld->blm", q, k) / objective.temperature
        right = torch.arange(len(q))[:, None].expand(q.shape[:2])
    else:
        others = torch.einsum("bld,dlk->blk", q, objective.queue.entries.double())
        logits = torch.cat([(q * k).sum(2, keepdim=True), others], dim=2) / objective.temperature
        right = torch.zeros(q.shape[:2], dtype=torch.int64)
    each = functional.cross_entropy(logits.flatten(0, 1), right.flatten(), reduction="none").view(right.shape)
    return (each * weight).mean().item()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"queue_length": 0},
        {"temperature": 0.2, "patch": 2, "grid": (9, 11)},
        {"as_published": True},
        {"as_published": True, "patch": 2, "grid": (8, 12)},
    ],
)
def test_the_loss_is_that_of_its_parts(options):
    objective = contrast_of(**options).eval()
    batch = batch_of(range(3), objective.teacher.grid)
    out = objective(batch, PROGRESS)
    assert out["loss"].item() == pytest.approx(loss_by_hand(objective, batch), rel=1e-4)
    assert out["chance"].item() == pytest.approx(1 / 33 if objective.queue else 1 / 3)
    assert out["chance_loss"].item() == pytest.approx(math.log(33 if objective.queue else 3))


@pytest.mark.parametrize("focus", ["density", "attention"])
@pytest.mark.parametrize("patch", [1, 2])
def test_focus_weighs_the_loss(focus, patch):
    objective = contrast_of(focus=focus, patch=patch, as_published=True, grid=(4 * patch, 6 * patch)).eval()
    batch = batch_of(range(3), objective.teacher.grid)
    batch["input"][0, :, :8] = 0
    if focus == "density":
        weight = density_weights(batch["input"], 4)
    else:
        cells = batch["teacher_tokens"].view(3, 4, patch, 6, patch, TEACHER_DIM).mean((2, 4))
        weight = attention_weights(cells.flatten(1, 2))
    found = objective(batch, PROGRESS)["loss"].item()
    assert found == pytest.approx(loss_by_hand(objective, batch, weight), rel=1e-4)
    assert found != pytest.approx(loss_by_hand(objective, batch), rel=1e-4)
    torch.testing.assert_close(objective.inspect(batch)["weight"], weight)


@pytest.mark.parametrize("options", [{}, {"queue_length": 0}, {"train_backbone": "norm"}, {"focus": "attention"}])
def test_contract(options):
    objective = contrast_of(**options)
    assert isinstance(objective, Objective)
    out = objective(batch_of(range(4)), PROGRESS)
    assert set(out) == {"loss", "positive_cosine", "accuracy", "chance", "chance_loss", "image_cosine"}
    assert all(value.ndim == 0 and torch.isfinite(value) for value in out.values())
    assert [name for name, value in out.items() if value.requires_grad] == ["loss"]
    out["loss"].backward()
    for name, parameter in objective.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if parameter.requires_grad:
            assert parameter.grad.isfinite().all(), name
            # The first batch norm takes away what the last norm's bias adds, for all samples alike.
            assert parameter.grad.abs().max() > 1e-6 or name == "backbone.norm.bias", name
    assert objective.encoder() is objective.backbone
    assert len(objective.shard_units()) == 2 + 3 + 2
    assert all(isinstance(unit, torch.nn.Module) for unit in objective.shard_units())


def test_the_transition_trains_the_norm_and_the_heads_and_the_contrast_everything():
    fixed, free = contrast_of(train_backbone="norm"), contrast_of()
    names = {name for name, parameter in fixed.named_parameters() if parameter.requires_grad}
    heads = {name for name, _ in fixed.named_parameters() if name.startswith(HEADS)}
    assert names == heads | {"backbone.norm.weight", "backbone.norm.bias"}
    assert all(parameter.requires_grad for parameter in free.parameters())


def test_a_fixed_backbone_keeps_nothing_for_a_backward_pass_and_drops_nothing():
    objective = contrast_of(train_backbone="norm", drop_path=0.9).train()
    assert objective.training
    assert objective.projector.training
    assert not any(module.training for module in objective.backbone.modules())
    seen = []
    objective.backbone.blocks[-1].register_forward_hook(lambda module, args, out: seen.append(out))
    for _ in range(2):
        objective(batch_of(range(4)), PROGRESS)["loss"].backward()
    assert torch.equal(*seen)
    assert not seen[0].requires_grad
    free = contrast_of(drop_path=0.9).train()
    assert all(module.training for module in free.backbone.modules())


def test_the_keys_of_a_step_enter_the_queue_in_order_once_it_is_taken():
    objective = contrast_of(queue_length=8)
    batches = [batch_of(range(2)), batch_of(range(2, 4))]
    before = objective.queue.entries.clone()
    for batch in batches:
        objective(batch, PROGRESS)
    assert torch.equal(objective.queue.entries, before)
    objective.after_step(PROGRESS)
    taught = [crop_tokens(batch["teacher_tokens"], GRID, batch["view"], GRID) for batch in batches]
    keys = functional.normalize(objective.teacher_projection(torch.cat(taught), GRID), dim=2)
    torch.testing.assert_close(objective.queue.entries[:, :, :4], keys.permute(2, 1, 0))
    assert torch.equal(objective.queue.entries[:, :, 4:], before[:, :, 4:])
    assert objective.queue.pointer.item() == 4
    torch.testing.assert_close(objective.queue.entries.norm(dim=0), torch.ones(24, 8))
    assert not objective.queue.entries.requires_grad
    entries = objective.queue.entries.clone()
    objective.after_step(PROGRESS)
    assert torch.equal(objective.queue.entries, entries)


def test_a_skipped_step_leaves_nothing():
    objective, twin = contrast_of(queue_length=8), contrast_of(queue_length=8)
    objective(batch_of(range(8, 12)), Progress(0, 10))  # no after_step: it was skipped
    for each in (objective, twin):
        each(batch_of(range(4)), Progress(1, 10))
        each.after_step(Progress(1, 10))
    assert objective.queue.pointer.item() == 4
    torch.testing.assert_close(objective.queue.entries, twin.queue.entries)
    objective(batch_of(range(4)), Progress(2, 10))
    objective.after_step(Progress(3, 10))  # of a step that this rank has not computed
    assert objective.queue.pointer.item() == 4


def test_evaluation_changes_nothing():
    objective = contrast_of(queue_length=8).eval()
    before = copy.deepcopy(objective.state_dict())
    objective(batch_of(range(4)), PROGRESS)
    objective.inspect(batch_of(range(3)))
    objective.after_step(PROGRESS)
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())
    objective.train()(batch_of(range(4)), PROGRESS)
    objective.eval()(batch_of(range(4, 7)), PROGRESS)  # a look between forward pass and update
    objective.after_step(PROGRESS)
    assert objective.queue.pointer.item() == 4


def test_a_step_that_does_not_divide_the_queue_is_refused():
    objective = contrast_of(queue_length=8)
    objective(batch_of(range(3)), PROGRESS)
    with pytest.raises(ValueError, match="multiple of the 3 samples of a step, got 8; 6 or 9 would do"):
        objective.after_step(PROGRESS)


@pytest.mark.parametrize("options", [{}, {"queue_length": 0}, {"train_backbone": "norm", "focus": "density"}])
def test_overfits_one_batch(options):
    objective = contrast_of(**options)
    parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)
    batch = batch_of(range(4))
    first = objective(batch, PROGRESS)["loss"].item()
    for _ in range(60):
        out = objective(batch, PROGRESS)
        optimizer.zero_grad()
        out["loss"].backward()
        optimizer.step()
    assert out["loss"] < 0.1 * first
    assert out["accuracy"] > 0.95
    assert out["positive_cosine"] > 0.3


def test_cached_and_live_tokens_are_the_same():
    objective = contrast_of().eval()
    batch = batch_of(range(3))
    pictures = torch.rand(3, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    live = {**batch, "teacher_picture": pictures}
    del live["teacher_tokens"]
    cached = {**batch, "teacher_tokens": objective.teacher(pictures)}
    assert objective.teacher.num_calls == 1
    assert objective(cached, PROGRESS)["loss"] == objective(live, PROGRESS)["loss"]
    assert objective.teacher.num_calls == 2


def test_the_teacher_is_no_part_of_the_state_and_copies_are_the_teacher():
    objective = contrast_of()
    assert not [name for name in objective.state_dict() if name.startswith("teacher.")]
    assert copy.deepcopy(objective).teacher is objective.teacher
    with pytest.raises(AssertionError, match="trained and saved"):
        type(objective)(*(torch.nn.Identity() for _ in range(4)), None, torch.nn.Identity())


def test_the_view_moves_the_teacher_unless_as_published():
    batch = batch_of(range(3))
    turned = {**batch, "view": batch["view"] * torch.tensor([1, 1, 1, 1, -1.0]) + torch.tensor([0, 0, 0, 0, 1.0])}
    blind = {name: value for name, value in batch.items() if name != "view"}
    aligned, published = contrast_of().eval(), contrast_of(as_published=True).eval()
    assert aligned(batch, PROGRESS)["loss"] != aligned(turned, PROGRESS)["loss"]
    assert (
        published(batch, PROGRESS)["loss"] == published(turned, PROGRESS)["loss"] == published(blind, PROGRESS)["loss"]
    )
    whole = {**batch, "view": torch.tensor([[0, 0, 1, 1, 0.0]]).expand(3, 5)}
    assert aligned(whole, PROGRESS)["loss"] == published(whole, PROGRESS)["loss"]
    with pytest.raises(ValueError, match="expected 'view' in a batch"):
        aligned(blind, PROGRESS)


def test_a_flip_of_events_and_view_is_a_flip_of_what_is_compared():
    """Keys of flipped views are the flipped keys, so that left stays beside left."""
    objective = contrast_of().eval()
    batch = batch_of(range(2))
    turned = {**batch, "view": batch["view"].clone()}
    turned["view"][:, 4] = 1 - turned["view"][:, 4]
    straight, flipped = (objective.inspect(each)["teacher"].view(2, *GRID, -1) for each in (batch, turned))
    torch.testing.assert_close(flipped, straight.flip(2))


def test_inspect_shows_what_the_loss_compares():
    objective = contrast_of(patch=2, grid=(9, 11)).eval()
    batch = batch_of(range(3), (9, 11))
    shown = objective.inspect(batch)
    assert {name: tuple(value.shape) for name, value in shown.items()} == {
        "student": (3, 24, DIM),
        "student_grid": (2,),
        "teacher": (3, 96, TEACHER_DIM),
        "teacher_grid": (2,),
        "similarity": (3, 24),
        "weight": (3, 24),
    }
    assert shown["student_grid"].tolist() == [4, 6]
    assert shown["teacher_grid"].tolist() == [8, 12]
    torch.testing.assert_close(shown["similarity"].mean(), objective(batch, PROGRESS)["positive_cosine"])
    torch.testing.assert_close(shown["student"], objective.backbone(batch["input"]).tokens)
    assert not any(value.requires_grad for value in shown.values())


def test_batches_that_do_not_fit_have_clear_errors():
    objective = contrast_of()
    batch = batch_of(range(2))
    with pytest.raises(ValueError, match=r"expected teacher tokens \(2, 24, 6\), got \(2, 24, 5\)"):
        objective({**batch, "teacher_tokens": batch["teacher_tokens"][:, :, :5]}, PROGRESS)
    del batch["teacher_tokens"]
    with pytest.raises(ValueError, match="'teacher_tokens' or 'teacher_picture' in a batch, got"):
        objective(batch, PROGRESS)
    other = batch_of(range(2))
    with pytest.raises(ValueError, match="24 positions, as the queue has, got 12"):
        objective({**other, "input": other["input"][:, :, :8]}, PROGRESS)
    assert torch.isfinite(contrast_of(queue_length=0)({**other, "input": other["input"][:, :, :8]}, PROGRESS)["loss"])


@pytest.mark.parametrize("focus", ["none", "density"])
def test_empty_and_one_event_windows_give_a_finite_loss_and_gradient(focus):
    sensor = Sensor(24, 16)
    grid = VoxelGrid(2)
    x = torch.stack([grid(Events.empty(sensor)), grid(Events.checked([5], [9], [100], [1], sensor))])
    for size in (2, 1):
        objective = contrast_of(focus=focus)
        out = objective({**batch_of(range(size)), "input": x[:size]}, PROGRESS)
        out["loss"].backward()
        assert all(torch.isfinite(value) for value in out.values())
        assert all(torch.isfinite(parameter.grad).all() for parameter in objective.parameters())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close(precision):
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    objective, batch = contrast_of().eval(), batch_of(range(4))
    full = objective(batch, PROGRESS)["loss"].item()
    with torch.autocast("cpu", dtype=dtype):
        out = objective.train()(batch, PROGRESS)
        half = objective.eval()(batch, PROGRESS)["loss"].item()
    out["loss"].backward()
    assert out["loss"].dtype == torch.float32
    assert half == pytest.approx(full, rel=0.05)


def run(out, objective, **changes):
    settings = settings_of(num_steps=8, save_every=3, **changes)
    return train(objective, lambda rank, size: TaughtBatches(settings.per_rank(size), rank, size), settings, out)


class Stopping(FeatureContrast):
    """Asks the run to stop in step 4."""

    def forward(self, batch, progress):
        if progress.step == 4:
            os.kill(os.getpid(), signal.SIGUSR1)
        return super().forward(batch, progress)


def test_a_stopped_run_resumes_to_the_same_bits_queue_included(tmp_path):
    options = {"queue_length": 24, "drop_path": 0.3}
    run(tmp_path / "straight", contrast_of(**options), accumulate=2)
    stopped = contrast_of(**options)
    stopped.__class__ = Stopping
    assert run(tmp_path / "stopped", stopped, accumulate=2).interrupted
    again = contrast_of(**options)
    with torch.no_grad():
        again.queue.entries.zero_()
    run(tmp_path / "stopped", again, accumulate=2)
    tensors = final_tensors(tmp_path / "straight")
    assert_same_bits(final_tensors(tmp_path / "stopped"), tensors)
    assert losses(tmp_path / "stopped") == losses(tmp_path / "straight")
    assert tensors["model.queue.pointer"].item() == 8 * 8 % 24
    assert not [name for name in tensors if "teacher." in name]


class Broken(FeatureContrast):
    """Has one loss that is not finite."""

    def forward(self, batch, progress):
        outputs = super().forward(batch, progress)
        if progress.step == 2:
            outputs["loss"] = outputs["loss"] * torch.nan
        return outputs


def test_a_step_that_is_not_finite_enters_no_keys(tmp_path):
    objective = contrast_of(queue_length=64)
    before = objective.queue.entries.clone()
    objective.__class__ = Broken
    run(tmp_path / "run", objective, accumulate=2)
    assert metrics(tmp_path / "run")[-1]["skipped"] == 1
    assert objective.queue.pointer.item() == 7 * 8
    assert torch.equal(objective.queue.entries[:, :, 56:], before[:, :, 56:])


def test_accumulated_micro_batches_make_the_queue_of_one_big_batch(tmp_path):
    """With the keys' weights at rest only the split could make a difference."""
    queues = []
    for name, accumulate in (("whole", 1), ("parts", 4)):
        objective = contrast_of(queue_length=64)
        objective.teacher_projection.requires_grad_(False)
        run(tmp_path / name, objective, accumulate=accumulate)
        queues.append(objective.queue.entries)
    torch.testing.assert_close(*queues)


@pytest.mark.parametrize(
    ("teacher", "student", "patch"),
    [((14, 14), (14, 14), 1), ((14, 14), (7, 7), 2), ((16, 16), (14, 14), 1), ((16, 16), (7, 7), 2),
     ((37, 37), (14, 14), 3), ((14, 14), (28, 28), 1), ((14, 14), (6, 8), 2), ((4, 4), (16, 16), 1)],
)  # fmt: skip
def test_auto_patch_is_the_ratio_of_the_grids(teacher, student, patch):
    assert auto_patch(teacher, student) == patch


TINY = {
    "backbone": {"name": "vit_nano", "arguments": {"patch_size": 4}},
    "contrast": {"hidden_dim": 32, "queue_length": 16},
}


def built(name, teacher_grid=GRID, contrast=None, **changes):
    config = {"name": name, **TINY, "contrast": {**TINY["contrast"], **(contrast or {})}, **changes}
    return build_method(config, 2, SIZE, FakeTeacher(teacher_grid))


@pytest.mark.parametrize("name", ["transition", "contrast"])
def test_build_by_name(name):
    assert name in METHODS
    objective = built(name, (8, 12))
    assert objective.teacher_projection.patch == 2
    assert (objective.queue.num_positions, objective.queue.length) == (24, 16)
    out = objective(batch_of(range(4), (8, 12)), PROGRESS)
    assert torch.isfinite(out["loss"])
    assert built(name, contrast={"queue_length": 0}).queue is None
    num_trained = sum(p.requires_grad for p in objective.backbone.parameters())
    assert num_trained == (2 if name == "transition" else len(list(objective.backbone.parameters())))


@pytest.mark.parametrize("name", ["convvit_nano", "swin_nano"])
def test_backbones_are_built_without_what_only_masks_use(name):
    backbone = {"name": name, "arguments": {"patch_size": 8}}
    with torch.random.fork_rng(devices=[]):
        objective = build_method({"name": "contrast", **TINY, "backbone": backbone}, 2, (32, 48), FakeTeacher((4, 6)))
        batch = {**batch_of(range(4)), "input": torch.randn(4, 2, 32, 48)}
    objective(batch, PROGRESS)["loss"].backward()
    assert not [key for key in objective.state_dict() if "fusion" in key]
    assert not [key for key, parameter in objective.named_parameters() if parameter.grad is None]


def test_the_transition_without_a_fixed_backbone():
    objective = built("transition", train="all")
    assert all(parameter.requires_grad for parameter in objective.parameters())


@pytest.mark.parametrize(
    ("rates", "scales"), [("same", [1, 1, 1]), ("decay", [0.75**2, 0.75, 1]), ("grafted", [0.01, 0.01, 0.1])]
)
def test_rates_of_the_layers(rates, scales):
    from eventfm.engine.optim import parameter_groups

    objective = built("contrast", rates=rates)
    names = {parameter: name for name, parameter in objective.named_parameters()}
    groups = parameter_groups(objective.named_parameters(), objective.parameter_rules(), 0.05)
    settings = {
        names[parameter]: (group["lr_scale"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }
    assert len(settings) == len(names)
    assert settings["backbone.blocks.0.mlp.fc1.weight"][1] == 0.05
    assert settings["backbone.blocks.0.mlp.fc1.bias"][1] == settings["backbone.norm.weight"][1] == 0
    assert settings["projector.layers.0.weight"] == (1, 0.05)
    assert settings["projector.layers.1.weight"] == settings["teacher_projection.norm.bias"] == (1, 0)
    assert settings["backbone.norm.weight"][0] == 1
    layers = ("patch_embed.proj.weight", "blocks.0.mlp.fc1.weight", "blocks.1.norm1.bias")
    assert [settings[f"backbone.{name}"][0] for name in layers] == scales


def test_config_round_trip_and_defaults_as_published():
    for kind in (TransitionConfig, ContrastConfig):
        assert kind.parse(kind().model_dump()) == kind()
    assert ContrastTerm().model_dump() == {
        "hidden_dim": 4096,
        "queue_length": 1024,
        "temperature": 0.07,
        "focus": "none",
        "teacher_patch": "auto",
        "as_published": False,
    }
    assert TransitionConfig().train == "norm"
    assert ContrastConfig().rates == "same"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"contrast": {"queue": 3}}, ConfigError, r"unknown key 'method\.contrast\.queue'"),
        ({"contrast": {"temperature": 0}}, ConfigError, "temperature"),
        ({"rates": "slow"}, ConfigError, "'method.rates'"),
        (
            {"teacher_grid": (5, 6), "contrast": {"as_published": True}},
            ValueError,
            "teacher grid of 4x6.*got 5x6; change",
        ),
        (
            {"contrast": {"as_published": True, "teacher_patch": 2}},
            ValueError,
            "teacher grid of 8x12 for the student's 4x6 with teacher_patch 2, got 4x6",
        ),
    ],
)
def test_configs_that_do_not_fit_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        built("contrast", **changes)


def test_a_method_without_its_teacher_says_what_to_give():
    for name in ("transition", "contrast"):
        with pytest.raises(ConfigError, match=r"teacher\.name="):
            build_method({"name": name, **TINY}, 2, SIZE)
