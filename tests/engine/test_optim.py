import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from eventfm.engine.optim import (
    build_optimizer,
    clip_gradients,
    decayed,
    gradient_norm,
    parameter_groups,
    schedule,
    set_lr,
    trainable,
)
from eventfm.protocols import ParameterRule


def test_schedule_is_the_published_one():
    # EventPretrain per iteration: lr * e / w in the warm-up, then half a cosine to the minimum.
    lr, low, warmup, total = 1e-3, 1e-5, 4, 12
    got = [schedule(step, total, warmup, lr, low) for step in range(total + 1)]
    want = [lr * step / warmup for step in range(warmup)]
    want += [low + (lr - low) * (1 + math.cos(math.pi * k / (total - warmup))) / 2 for k in range(total - warmup + 1)]
    np.testing.assert_allclose(got, want, rtol=1e-12)
    assert got[0] == 0.0
    assert got[4] == lr
    assert got[-1] == pytest.approx(low)


@given(st.integers(1, 500), st.floats(0, 0.99), st.integers(0, 600))
def test_schedule_stays_between_its_bounds(num_steps, fraction, step):
    warmup = int(fraction * num_steps)
    value = schedule(step, num_steps, warmup, 0.1, 0.01)
    assert 0.0 <= value <= 0.1
    if step >= warmup:
        assert value >= 0.01 - 1e-12
        assert schedule(step + 1, num_steps, warmup, 0.1, 0.01) <= value + 1e-12


def test_decay_by_epoch_is_the_published_one():
    # ScaleEvent: 0.9 times the rate from one epoch to the next, and no warm-up.
    got = [decayed(step, 10, 0, 2e-6, 0.9) for step in range(30)]
    np.testing.assert_allclose(got, [2e-6] * 10 + [1.8e-6] * 10 + [1.62e-6] * 10)
    assert [decayed(step, 2.5, 0, 1.0, 0.5) for step in range(6)] == [1, 1, 1, 0.5, 0.5, 0.25]
    assert decayed(29, 10, 0, 2e-6, 0.9, 1.9e-6) == 1.9e-6
    np.testing.assert_allclose([decayed(step, 10, 4, 1.0, 0.9) for step in range(5)], [0, 0.25, 0.5, 0.75, 1])


def model():
    net = nn.Module()
    net.embed = nn.Linear(4, 4)
    net.norm = nn.LayerNorm(4)
    net.table_bias = nn.Parameter(torch.randn(3, 2))
    net.teacher = nn.Linear(4, 4).requires_grad_(False)
    net.head = nn.Linear(4, 2)
    return net


def test_first_rule_wins_and_every_trainable_parameter_is_in_one_group():
    net = model()
    rules = [ParameterRule(r"^embed\.weight", 0.1), ParameterRule("embed", 0.5, 0.3), ParameterRule("head", 2.0, 0.0)]
    groups = parameter_groups(net.named_parameters(), rules, weight_decay=0.05)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    got = {names[id(p)]: (group["lr_scale"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert got == {
        "embed.weight": (0.1, 0.05),
        "embed.bias": (0.5, 0.3),
        "norm.weight": (1.0, 0.0),
        "norm.bias": (1.0, 0.0),
        "table_bias": (1.0, 0.0),
        "head.weight": (2.0, 0.0),
        "head.bias": (2.0, 0.0),
    }
    assert sum(len(group["params"]) for group in groups) == len(got)


def test_nothing_to_train_is_an_error_and_an_idle_rule_a_warning(caplog):
    with pytest.raises(ValueError, match="nothing to train"):
        parameter_groups(nn.Linear(2, 2).requires_grad_(False).named_parameters(), [], 0.0)
    parameter_groups(nn.Linear(2, 2).named_parameters(), [ParameterRule("stem")], 0.0)
    assert "stem" in caplog.text


def test_the_optimiser_starts_as_a_fresh_adamw_and_has_all_its_state():
    torch.manual_seed(0)
    net, twin = nn.Linear(3, 2), nn.Linear(3, 2)
    twin.load_state_dict(net.state_dict())
    ours = build_optimizer(net, [], weight_decay=0.1, betas=(0.9, 0.95))
    theirs = torch.optim.AdamW(
        [{"params": [twin.weight], "weight_decay": 0.1}, {"params": [twin.bias], "weight_decay": 0.0}],
        lr=0.02,
        betas=(0.9, 0.95),
    )
    assert {int(state["step"]) for state in ours.state.values()} == {0}
    assert torch.equal(net.weight, twin.weight)
    set_lr(ours, 0.02)
    for seed in range(3):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
        for each, optimizer in ((net, ours), (twin, theirs)):
            optimizer.zero_grad()
            each(x).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(net.state_dict(), twin.state_dict(), rtol=1e-6, atol=1e-7)


def test_learning_rates_follow_the_groups_factor():
    net = model()
    optimizer = build_optimizer(net, [ParameterRule("head", 0.25)], 0.05, (0.9, 0.999))
    set_lr(optimizer, 0.4)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [0.1, 0.4]


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clipping_scales_all_gradients_by_one_factor(max_norm):
    net = model()
    optimizer = build_optimizer(net, [], 0.0, (0.9, 0.95))
    (net.head(net.norm(net.embed(torch.ones(2, 4)))).square().sum() * 50).backward()
    parameters = trainable(optimizer)
    assert net.table_bias not in set(parameters)
    before = [p.grad.clone() for p in parameters]
    norm = gradient_norm(parameters)
    assert norm.item() == pytest.approx(math.sqrt(sum(g.square().sum().item() for g in before)), rel=1e-5)
    clip_gradients(parameters, max_norm, norm)
    factor = min(1.0, max_norm / norm.item())
    for parameter, old in zip(parameters, before, strict=True):
        torch.testing.assert_close(parameter.grad, old * factor, rtol=1e-4, atol=1e-7)
