"""What every task promises on every backbone, with every head, however the backbone is adapted."""

from __future__ import annotations

import pytest
import torch
from tasks_toy import BACKBONES, EXPECTED, HEADS, MODES, NOW, SIZE, batch_of, toy

from eventfm.config import ConfigError
from eventfm.protocols import Objective
from eventfm.registry import UnknownNameError
from eventfm.tasks import TASKS, build_task, wanted

TASK_HEADS = [(task, head) for task, heads in HEADS.items() for head in heads]


def cases():
    """Yield the whole product; what does not belong to a cover of all pairs is marked slow."""
    for i, (task, head) in enumerate(TASK_HEADS):
        for j, backbone in enumerate(BACKBONES):
            for k, mode in enumerate(MODES):
                if (head, backbone) == ("eomt", "swin_nano"):
                    continue
                in_cover = (i + j) % len(MODES) == k or (head == "eomt" and backbone == "vit_nano")
                marks = [] if in_cover else [pytest.mark.slow]
                yield pytest.param(task, head, backbone, mode, marks=marks, id=f"{task}-{head}-{backbone}-{mode}")


def state_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize(("task", "head", "backbone", "mode"), list(cases()))
def test_a_step_of_training_and_an_answer(task, head, backbone, mode):
    objective, batch = toy(task, head, backbone, mode), batch_of(task)
    assert isinstance(objective, Objective)
    before = state_of(objective)
    named = dict(objective.named_parameters())
    fixed = {name for name, parameter in named.items() if not parameter.requires_grad}
    torch.manual_seed(0)
    out = objective(batch, NOW)
    assert all(value.ndim == 0 and value.isfinite() for value in out.values())
    assert out["unlabelled"] == 0
    out["loss"].backward()
    without = {name for name, parameter in named.items() if parameter.grad is None}
    assert without == fixed, "what learns has a gradient, what is fixed has none"
    assert all(parameter.grad.isfinite().all() for name, parameter in named.items() if name not in fixed)
    still = [n for n, p in named.items() if n not in fixed and not p.grad.any()]
    allowed = () if mode != "lora" else ("lora", "parametrizations")  # the first factor starts behind a zero
    assert [n for n in still if not n.startswith("backbone") or not any(part in n for part in allowed)] == []

    torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.1).step()
    changed = {name for name, value in objective.state_dict().items() if not torch.equal(value, before[name])}
    assert not changed & fixed
    of_backbone = {name for name in changed if name.startswith("backbone.")}
    assert bool(of_backbone) == (mode != "frozen")

    objective.eval()
    answer = objective.predict({key: batch[key] for key in ("input", "before") if key in batch})
    key, width = EXPECTED[task]
    assert answer[key].shape == ((2, width) if task == "recognition" else (2, width, *SIZE))
    assert answer[key].dtype == torch.float32
    assert answer[key].isfinite().all()


FAST = [
    ("recognition", "attentive"),
    ("segmentation", "upernet"),
    ("segmentation", "eomt"),
    ("flow", "raft"),
    ("depth", "dpt"),
]


@pytest.mark.parametrize(
    ("task", "head"),
    [pytest.param(*pair, marks=[] if pair in FAST else [pytest.mark.slow]) for pair in TASK_HEADS],
)
def test_one_batch_can_be_learned(task, head):
    objective, batch = toy(task, head, "dinov3_nano"), batch_of(task)
    optimizer = torch.optim.Adam(objective.parameters(), lr=5e-3)
    losses = []
    torch.manual_seed(0)
    for _ in range(20):
        optimizer.zero_grad()
        loss = objective(batch, NOW)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


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
