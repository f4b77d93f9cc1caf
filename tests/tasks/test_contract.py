"""What every task promises on every backbone, with every head, however the backbone is adapted."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from contract_cases import FACTORS, TASK_HEADS, cases, covering, fits, pairs
from contract_learning import LOSS_SHARE, is_learned, learn, opposites
from tasks_toy import BACKBONES, BUILT_FOR, CLASSES, EXPECTED, HEADS, NOW, SIZE, batch_of, toy

from eventfm.api.finetune_config import beginning_of, parse_finetune
from eventfm.config import ConfigError
from eventfm.protocols import Objective
from eventfm.registry import UnknownNameError
from eventfm.tasks import TASKS, build_task, wanted


def test_the_cover_has_all_pairs_and_is_small():
    rows = covering(FACTORS)
    every = {pair for row in filter(fits, product(*FACTORS)) for pair in pairs(row)}
    assert {pair for row in rows for pair in pairs(row)} == every
    assert all(map(fits, rows))
    assert len(rows) == len(set(rows)) <= 56, "no fewer than 51, the pairs of heads and backbones"
    assert rows == covering(FACTORS), "the same on every machine"


def state_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize(("task", "head", "backbone", "mode", "size"), list(cases()))
def test_a_step_of_training_and_an_answer(task, head, backbone, mode, size):
    objective, batch = toy(task, head, backbone, mode), batch_of(task, size)
    assert isinstance(objective, Objective)
    named = dict(objective.named_parameters())
    fixed = {name for name, parameter in named.items() if not parameter.requires_grad}
    with torch.no_grad():  # the first factor of a low-rank update has no gradient behind a second one of zeros
        for name, parameter in named.items():
            if name.endswith(".up"):
                parameter.normal_(std=0.02)
    before = state_of(objective)
    torch.manual_seed(0)
    out = objective(batch, NOW)
    assert all(value.ndim == 0 and value.isfinite() for value in out.values())
    assert out["unlabelled"] == 0
    out["loss"].backward()
    without = {name for name, parameter in named.items() if parameter.grad is None}
    assert without == fixed, "what learns has a gradient, what is fixed has none"
    learning = {name: parameter.grad for name, parameter in named.items() if name not in fixed}
    assert [name for name, grad in learning.items() if not grad.isfinite().all()] == []
    assert [name for name, grad in learning.items() if not grad.any()] == [], "no gradient anywhere"
    assert {name for name in learning if not name.startswith("backbone.")}, "a head always learns"

    torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.1).step()
    changed = {name for name, value in objective.state_dict().items() if not torch.equal(value, before[name])}
    assert not changed & fixed
    of_backbone = {name for name in changed if name.startswith("backbone.")}
    assert bool(of_backbone) == (mode != "frozen")

    objective.eval()
    answer = objective.predict({key: batch[key] for key in ("input", "before") if key in batch})
    key, width = EXPECTED[task]
    assert answer[key].shape == ((2, width) if task == "recognition" else (2, width, *size))
    assert answer[key].dtype == torch.float32
    assert answer[key].isfinite().all()


@pytest.mark.parametrize("task", ["segmentation", "flow"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_backbone_learns_from_the_main_head_where_there_is_no_other(task, backbone):
    objective = toy(task, "upernet", backbone, auxiliary=0.0)
    objective(batch_of(task), NOW)["loss"].backward()
    learning = {name: p.grad for name, p in objective.named_parameters() if p.requires_grad}
    assert [name for name, grad in learning.items() if grad is None or not grad.any()] == []


@pytest.mark.parametrize(("task", "head", "backbone", "mode", "size"), list(cases()))
def test_one_batch_can_be_learned(task, head, backbone, mode, size):
    objective, batch = toy(task, head, backbone, mode), opposites(task, size)
    share, learned, steps = learn(task, head, objective, batch)
    assert learned, f"after {steps} steps {share:.2f} of the loss is left"
    assert share < LOSS_SHARE


def right_answer(task, batch):
    if task in ("recognition", "segmentation"):
        labels = batch["label" if task == "recognition" else "semantic"]
        return torch.nn.functional.one_hot(labels.where(labels < CLASSES, 0), CLASSES).movedim(-1, 1).float()
    return batch[task].nan_to_num(1.0)


@pytest.mark.parametrize("task", list(HEADS))
def test_what_does_not_depend_on_the_input_is_not_learned(task):
    batch = opposites(task, SIZE)
    key, right = EXPECTED[task][0], right_answer(task, batch)
    assert is_learned(task, {key: right}, batch)
    for same in (right[:1], right[1:], right.mean(dim=0, keepdim=True)):
        assert not is_learned(task, {key: same.expand_as(right)}, batch)


@pytest.mark.parametrize(("task", "head"), TASK_HEADS)
def test_a_batch_without_labels_changes_nothing(task, head):
    objective, batch = toy(task, head), batch_of(task, labelled=False)
    out = objective(batch, NOW)
    assert out["unlabelled"] == 1
    assert out["loss"] == 0
    out["loss"].backward()
    for name, parameter in objective.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or not parameter.grad.any(), name


@pytest.mark.parametrize(("task", "head"), TASK_HEADS)
def test_one_sample_of_another_size_in_training_and_out_of_it(task, head):
    objective, batch = toy(task, head), batch_of(task, size=(41, 24), num=1)
    assert objective(batch, NOW)["loss"].isfinite()
    key, width = EXPECTED[task]
    shape = objective.eval().predict(batch)[key].shape
    assert shape == ((1, width) if task == "recognition" else (1, width, 41, 24))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_only_a_task_continues_an_input(backbone):
    objective, batch = toy("depth", backbone=backbone), batch_of("depth")
    assert objective.predict(batch)["depth"].shape[2:] == SIZE
    side = objective.backbone.stride
    with pytest.raises(ValueError, match=f"multiples of the patch of {side}, got 33x50"):
        objective.backbone(batch["input"])
    with pytest.raises(ValueError, match=f"multiples of the patch of {side}, got 33x50"):
        objective.backbone.pyramid(batch["input"])


def test_a_run_at_a_size_of_no_whole_patches_is_refused():
    for size, whole in ((BUILT_FOR, True), ((96, 32), True), (SIZE, False)):
        changes = {
            "task.backbone": {"name": "vit_nano", "arguments": {"patch_size": 8}},
            "representation": {"name": "voxel_grid"},
            "data.image_size": size,
            "out": "run",
        }
        config = parse_finetune("depth", changes)
        if whole:
            assert beginning_of(config, (60, 80)).input_size == size
        else:
            with pytest.raises(ConfigError, match="multiple of the patch of 8 pixels, got 50x33"):
                beginning_of(config, (60, 80))


@pytest.mark.parametrize(("task", "head"), [pair for pair in TASK_HEADS if pair[0] != "recognition"])
def test_an_input_is_continued_without_events(task, head):
    objective, batch = toy(task, head).eval(), batch_of(task)
    grown = {key: torch.nn.functional.pad(batch[key], (0, 6, 0, 7)) for key in ("input", "before") if key in batch}
    key, _ = EXPECTED[task]
    whole = objective.predict(grown)[key]
    assert whole.shape[2:] == (40, 56)
    torch.testing.assert_close(objective.predict(batch)[key], whole[:, :, : SIZE[0], : SIZE[1]])


@pytest.mark.parametrize(("task", "head"), TASK_HEADS)
def test_losses_stay_in_single_precision_under_autocast(task, head):
    objective, batch = toy(task, head), batch_of(task)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective(batch, NOW)["loss"]
    loss.backward()
    assert loss.dtype == torch.float32
    torch.manual_seed(0)
    torch.testing.assert_close(loss, objective(batch, NOW)["loss"], rtol=0.1, atol=0.05)


def test_what_a_task_learns_from():
    assert list(TASKS) == ["depth", "flow", "recognition", "segmentation"]
    assert wanted({"name": "recognition"}) == ("label",)
    assert wanted({"name": "segmentation", "head": {"name": "eomt"}}) == ("semantic",)
    assert wanted({"name": "flow"}) == ("flow", "seen")
    assert wanted({"name": "flow", "head": {"name": "raft"}}) == ("flow", "seen", "before")
    assert wanted({"name": "depth"}) == ("depth",)


def test_a_state_has_backbone_head_and_auxiliary_and_nothing_else():
    for task, head in TASK_HEADS:
        names = {name.partition(".")[0] for name in toy(task, head).state_dict()}
        assert names == {"backbone", "head"} | ({"auxiliary"} if head == "upernet" and task != "depth" else set())


def test_weights_are_given_before_the_backbone_is_adapted():
    seen = []
    config = {"name": "depth", "backbone": {"name": "vit_nano"}, "adapt": {"mode": "lora"}, "head": {"name": "linear"}}
    build_task(config, 2, (32, 32), start=lambda backbone: seen.append(set(backbone.state_dict())))
    from eventfm.models import build_backbone

    assert seen == [set(build_backbone("vit_nano", 2, (32, 32)).state_dict())]


def test_a_missing_label_is_named():
    batch = batch_of("depth")
    del batch["depth"]
    with pytest.raises(ValueError, match="'depth' in the batch"):
        toy("depth")(batch, NOW)


@pytest.mark.parametrize(
    ("config", "classes", "message"),
    [
        ({"name": "segmentation", "head": {"name": "upernet", "arguments": {"dropuot": 0.1}}}, 3, "dropout"),
        ({"name": "segmentation", "head": {"name": "dpt"}}, 3, "task|head"),
        ({"name": "segmentation"}, None, "classes"),
        ({"name": "recognition"}, 1, "classes"),
        ({"name": "segmentation", "head": {"name": "eomt"}, "backbone": {"name": "swin_nano"}}, 3, "plain transformer"),
        ({"name": "segmentation", "head": {"name": "eomt", "arguments": {"num_queries": 2}}}, 3, "queries"),
        ({"name": "depth", "adapt": {"mode": "partial", "last": 9}}, None, "adapt.last"),
        ({"name": "flow", "scale": "log"}, None, "unknown key"),
    ],
)
def test_what_does_not_fit_is_refused(config, classes, message):
    with pytest.raises(ConfigError, match=message):
        build_task({"backbone": {"name": "vit_nano"}, **config}, 2, (32, 32), classes)


def test_a_task_that_there_is_not_is_refused():
    with pytest.raises(UnknownNameError, match="segmentation"):
        wanted({"name": "segmentaton"})
