import logging

import pytest
import torch

from eventfm.config import ConfigError
from eventfm.engine import TrainSettings
from eventfm.engine.distributed import World
from eventfm.engine.distributed import world as current_world
from eventfm.engine.plan import resolve


def settings(**values):
    return TrainSettings.parse({"epochs": 3, "batch_size": 64, "device": "cpu"} | values)


def test_auto_values_are_settled_and_said(caplog):
    caplog.set_level(logging.INFO)
    plan = resolve(settings(base_lr=1e-3, accumulate=2, warmup_fraction=0.1), 21, World())
    assert plan.num_steps == 31
    assert plan.steps_per_epoch == 10.5
    assert plan.lr == pytest.approx(1e-3 * 64 / 256)
    assert plan.warmup_steps == 3
    assert plan.precision == "fp32"
    assert plan.device == torch.device("cpu")
    assert "lr = 0.00025 (base_lr 0.001 x 64 / 256)" in caplog.text
    assert "num_steps = 31 (3 epochs of 10.5 steps)" in caplog.text
    assert len(caplog.records) == len(plan.decisions)


def test_given_values_are_kept():
    plan = resolve(settings(lr=0.5, warmup_steps=7, precision="bf16", num_steps=9, epochs=None), 1, World())
    assert (plan.lr, plan.warmup_steps, plan.precision, plan.num_steps) == (0.5, 7, "bf16", 9)


def test_only_rank_0_speaks(caplog):
    caplog.set_level(logging.INFO)
    resolve(settings(), 4, World(1, 2, 1))
    assert not caplog.records


@pytest.mark.parametrize(
    ("values", "batches", "message"),
    [
        ({}, 0, "at least one batch"),
        ({"warmup_steps": 30}, 10, "never be reached"),
        ({"lr": 1e-5, "min_lr": 1e-4}, 10, "min_lr to be at most"),
        ({"device": "gpu"}, 10, "expected device"),
    ],
)
def test_what_does_not_fit_together_is_refused(values, batches, message):
    with pytest.raises(ValueError, match=message):
        resolve(settings(**values), batches, World())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_is_refused_where_there_is_none():
    with pytest.raises(ValueError, match="no CUDA device"):
        resolve(settings(device="cuda"), 10, World())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_steps": 5}, "one of num_steps and epochs"),
        ({"epochs": None}, "one of num_steps and epochs"),
        ({"warmup_steps": 5, "warmup_fraction": 0.1}, "one of warmup_steps"),
        ({"accumulate": 3}, "multiple of accumulate=3"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"lr": "fast"}, "lr"),
        ({"learning_rate": 0.1}, "unknown key 'learning_rate'"),
    ],
)
def test_settings_are_checked(values, message):
    with pytest.raises(ConfigError, match=message):
        settings(**values)


def test_a_batch_divides_over_ranks_and_micro_batches():
    assert settings(accumulate=4).per_rank(2) == 8
    with pytest.raises(ValueError, match="3 x 4, got 64; 60 would do"):
        settings(accumulate=4).per_rank(3)


def test_the_place_among_the_ranks_is_read_from_the_environment(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert current_world() == World(0, 1, 0)
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert current_world() == World(5, 8, 1)
    monkeypatch.setenv("RANK", "8")
    with pytest.raises(ValueError, match="RANK=8"):
        current_world()
    monkeypatch.setenv("RANK", "zero")
    with pytest.raises(ValueError, match="whole numbers"):
        current_world()


def test_the_rate_falls_by_epochs_where_that_is_asked_for():
    cosine = resolve(settings(lr=0.5, epochs=2, warmup_steps=0), 10, World())
    steps = resolve(settings(lr=0.5, epochs=2, warmup_steps=0, epoch_decay=0.9, min_lr=0.46), 10, World())
    assert [steps.lr_at(step) for step in (0, 9, 10, 19)] == pytest.approx([0.5, 0.5, 0.46, 0.46])
    assert cosine.lr_at(10) == pytest.approx(0.25)
