"""Difference-guided masked modelling: the loss by hand, the contract of a method, what it must not leak."""

from __future__ import annotations

import copy
import math
import re
import statistics

import numpy as np
import pytest
import torch

from eventfm.config import ConfigError
from eventfm.events import Events, Sensor
from eventfm.methods import METHODS, build_method, has_teacher
from eventfm.methods.difference import (
    DifferenceConfig,
    build,
    difference_loss,
    patch_activity,
    patchify,
    standardise,
    unpatchify,
)
from eventfm.models.masking import random_masking
from eventfm.protocols import Objective, Progress
from eventfm.representations import VoxelGrid

TINY = {
    "name": "difference",
    "backbone": {"name": "vit_nano", "arguments": {"patch_size": 4}},
    "decoder": {"dim": 32, "depth": 1, "num_heads": 2},
}
PROGRESS = Progress(0, 10)


def method(**changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build({**TINY, **changes}, in_channels=3, image_size=(16, 24))


def batch(size=2):
    generator = torch.Generator().manual_seed(5)
    return {
        "input": torch.randn(size, 3, 16, 24, generator=generator),
        "target": torch.randn(size, 1, 16, 24, generator=generator),
        "key": torch.arange(size) + 40,
    }


def loss_by_hand(prediction, target, mask, patch_size, activity_weight):
    total, weights = 0.0, 0.0
    num_cols = target.shape[3] // patch_size
    for b in range(target.shape[0]):
        for patch in range(mask.shape[1]):
            row, col = divmod(patch, num_cols)
            pixels = [
                float(target[b, 0, row * patch_size + i, col * patch_size + j])
                for i in range(patch_size)
                for j in range(patch_size)
            ]
            mean, spread = statistics.fmean(pixels), math.sqrt(statistics.variance(pixels) + 1e-6)
            errors = [(float(p) - (d - mean) / spread) ** 2 for p, d in zip(prediction[b, patch], pixels, strict=True)]
            weight = float(mask[b, patch]) if mask.any() else 1.0
            if activity_weight and len(set(pixels)) == 1:
                weight = 0.0
            total += weight * statistics.fmean(errors)
            weights += weight
    return total / weights


@pytest.mark.parametrize("activity_weight", [False, True])
@pytest.mark.parametrize("ratio", [0.5, 0.0])
def test_loss_equals_the_formula_by_hand(activity_weight, ratio):
    target = batch()["target"]
    target[0, 0, :4] = 0.25  # six flat patches, and six that are nearly flat, where the 1e-6 counts
    target[0, 0, 4:8] *= 1e-3
    _, _, mask = random_masking(torch.tensor([1, 2]), 24, ratio)
    mask[1, 3:] = 0  # samples may hide unequal numbers: sums run over the whole batch
    prediction = torch.randn(2, 24, 16)
    found = difference_loss(prediction, target, mask, 4, activity_weight=activity_weight)
    assert found.item() == pytest.approx(loss_by_hand(prediction, target, mask, 4, activity_weight), rel=1e-5)


def test_patches_are_in_raster_order_inside_and_out():
    image = torch.arange(16.0 * 24).view(1, 1, 16, 24)
    patches = patchify(image, 4)
    assert patches.shape == (1, 24, 16)
    assert patches[0, 7].tolist() == [float(24 * (4 + i) + 4 + j) for i in range(4) for j in range(4)]
    assert torch.equal(unpatchify(patches, (4, 6)), image)
    with pytest.raises(ValueError, match="multiples of 5"):
        patchify(image, 5)


def test_a_target_of_another_size_is_refused():
    data = batch()
    with pytest.raises(ValueError, match=r"expected a target with patches \(2, 24, 16\), got \(2, 1, 16\)"):
        method()({**data, "target": data["target"][:, :, :4, :4]}, PROGRESS)


def test_scale_and_offset_of_a_patch_do_not_matter():
    patches = torch.randn(1, 3, 16)
    torch.testing.assert_close(standardise(patches), standardise(7 * patches - 3), rtol=1e-4, atol=1e-4)


def test_contract():
    objective = method()
    assert isinstance(objective, Objective)
    out = objective(batch(), PROGRESS)
    assert set(out) == {"loss", "zero_loss"}
    assert all(value.ndim == 0 and torch.isfinite(value) for value in out.values())
    out["loss"].backward()
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert objective.encoder() is objective.backbone
    assert len(objective.shard_units()) == 3
    objective.after_step(PROGRESS)


def test_zero_loss_is_what_predicting_zero_costs():
    out = method()(batch(), PROGRESS)
    assert out["zero_loss"].item() == pytest.approx(15 / 16, rel=1e-4)  # unbiased variance over 16 pixels
    assert not out["zero_loss"].requires_grad


def test_overfits_one_batch():
    objective = method()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    data = batch()
    for _ in range(150):
        out = objective(data, PROGRESS)
        optimizer.zero_grad()
        out["loss"].backward()
        optimizer.step()
    assert out["loss"] < 0.2 * out["zero_loss"]


def test_masked_patches_do_not_reach_visible_tokens():
    objective = method()
    data = batch()
    x = data["input"].requires_grad_()
    keep, restore, mask = random_masking(data["key"], 24, 0.5)
    tokens, prediction = objective.predict(x, keep, restore)
    (tokens.square().sum() + prediction.square().sum()).backward()
    reached = patchify(x.grad.abs().sum(dim=1, keepdim=True), 4).sum(dim=2)
    assert (reached[mask == 1] == 0).all()
    assert (reached[mask == 0] > 0).all()


def test_the_mask_of_a_sample_does_not_depend_on_its_batch():
    objective = method()
    data = batch(3)
    alone = {name: value[1:2] for name, value in data.items()}
    together, single = objective.reconstruct(data), objective.reconstruct(alone)
    assert torch.equal(together["mask"][1:2], single["mask"])
    torch.testing.assert_close(together["prediction"][1:2], single["prediction"])


def test_reconstruction_is_what_the_loss_is_made_of():
    objective = method()
    data = batch()
    images = objective.reconstruct(data)
    assert {name: tuple(image.shape) for name, image in images.items()} == dict.fromkeys(
        ("input", "target", "prediction", "mask"), (2, 16, 24)
    )
    error = (images["prediction"] - images["target"]).square() * images["mask"]
    loss = objective(data, PROGRESS)["loss"]
    torch.testing.assert_close(error.sum() / images["mask"].sum(), loss)
    torch.testing.assert_close(images["input"], data["input"].sum(dim=1))


@pytest.mark.parametrize("activity_weight", [False, True])
def test_empty_and_one_event_windows_give_a_finite_loss_and_gradient(activity_weight):
    sensor = Sensor(24, 16)
    one = Events.checked([5], [9], [100], [1], sensor)
    grid = VoxelGrid(3)
    x = torch.stack([grid(Events.empty(sensor)), grid(one)])
    for samples in (x, x[:1]):
        objective = method(activity_weight=activity_weight)
        target = samples.sum(dim=1, keepdim=True)
        out = objective({"input": samples, "target": target, "key": torch.arange(len(samples))}, PROGRESS)
        out["loss"].backward()
        assert all(torch.isfinite(value) for value in out.values())
        assert all(torch.isfinite(parameter.grad).all() for parameter in objective.parameters())


def test_activity_weight_forgets_flat_patches():
    objective = method(activity_weight=True)
    data = batch()
    flat = {**data, "target": torch.zeros(2, 1, 16, 24)}
    assert objective(flat, PROGRESS)["loss"] == 0
    half = data["target"].clone()
    half[:, :, :8] = 3.0
    weighted, plain = objective({**data, "target": half}, PROGRESS), method()({**data, "target": half}, PROGRESS)
    assert weighted["zero_loss"].item() == pytest.approx(15 / 16, rel=1e-4)
    assert plain["zero_loss"] < 0.8


def test_state_round_trip():
    first, second = method(), method()
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.add_(0.1)
    assert first(batch(), PROGRESS)["loss"] != second(batch(), PROGRESS)["loss"]
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert first(batch(), PROGRESS)["loss"] == second(batch(), PROGRESS)["loss"]


def test_parameter_rules_spare_vectors_and_the_mask_token():
    objective = method()
    (rule,) = objective.parameter_rules()
    assert rule.weight_decay == 0
    spared = {name for name, _ in objective.named_parameters() if re.search(rule.pattern, name)}
    assert spared == {
        name for name, parameter in objective.named_parameters() if parameter.ndim <= 1 or name.endswith("mask_token")
    }


def test_config_round_trip_and_defaults_as_published():
    config = DifferenceConfig.parse(TINY)
    assert DifferenceConfig.parse(config.model_dump()) == config
    published = DifferenceConfig()
    assert published.backbone.name == "vit_small"
    assert published.decoder.model_dump() == {"dim": 256, "depth": 8, "num_heads": 8}
    assert published.mask_ratio == 0.5
    assert not published.activity_weight
    assert published.mask == "random"
    assert published.mask_noise > 0


def test_build_by_name():
    assert "difference" in METHODS
    objective = build_method({**TINY, "mask_ratio": 0.75}, 3, (16, 24))
    assert objective.mask_ratio == 0.75
    assert np.isclose(objective.reconstruct(batch())["mask"].mean().item(), 0.75)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"mask_rate": 0.5}, ConfigError, "unknown key 'method.mask_rate'.*did you mean 'mask_ratio'"),
        ({"mask": "dense"}, ConfigError, "'method.mask'.*'density'"),
        ({"mask_noise": -0.1}, ConfigError, "'method.mask_noise'.*greater than or equal to 0"),
        ({"mask_ratio": 1.0}, ConfigError, "'method.mask_ratio'.*less than 1"),
        ({"decoder": {"width": 8}}, ConfigError, r"unknown key 'method\.decoder\.width'"),
        ({"backbone": {"name": "vit_nano", "arguments": {"patch_size": 5}}}, ValueError, "multiples of the patch of 5"),
        ({"decoder": {"dim": 32, "depth": 1, "num_heads": 3}}, ValueError, "3 heads divide"),
    ],
)
def test_configs_that_do_not_fit_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        method(**changes)


@pytest.mark.parametrize(
    ("backbone", "patch_size"), [("vit_nano", 4), ("convvit_nano", 8), ("convvit_nano", 4), ("swin_nano", 8)]
)
@pytest.mark.parametrize("mask", ["random", "density", "anti-density"])
def test_every_backbone_learns_under_every_mask(backbone, patch_size, mask):
    objective = method(backbone={"name": backbone, "arguments": {"patch_size": patch_size}}, mask=mask)
    data = batch()
    data["input"].requires_grad_()
    out = objective(data, PROGRESS)
    out["loss"].backward()
    assert objective.patch_size == patch_size
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in objective.parameters())
    assert out["zero_loss"].item() == pytest.approx(1 - patch_size**-2, rel=1e-4)
    hidden = patchify(objective.reconstruct(data)["mask"][:, None], patch_size).mean(dim=2)
    reached = patchify(data["input"].grad.abs().sum(dim=1, keepdim=True), patch_size).sum(dim=2) > 0
    assert torch.equal(reached, hidden == 0)
    assert (hidden.sum(dim=1) == hidden.shape[1] / 2).all()


def test_activity_is_the_mean_of_the_summed_channels():
    x = batch()["input"]
    found = patch_activity(x, 4)
    values = np.abs(x.numpy().sum(axis=1))
    assert found.shape == (2, 24)
    for b in range(2):
        for patch in range(24):
            row, col = divmod(patch, 6)
            expected = values[b, 4 * row : 4 * row + 4, 4 * col : 4 * col + 4].mean()
            assert found[b, patch].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("mask", "sign"), [("density", 1), ("anti-density", -1)])
def test_masks_by_density_follow_the_input(mask, sign):
    objective = method(mask=mask, mask_noise=0.0)
    data = batch()
    data["input"] = data["input"] * 0.01
    data["input"][0, :, :8] *= 100
    data["input"][1, :, 8:] *= 100
    hidden = objective.reconstruct(data)["mask"]
    dense = torch.stack([hidden[0, :8], hidden[1, 8:]])
    assert (dense == (sign > 0)).all()
    another_epoch = {**data, "key": data["key"] + 100}
    assert torch.equal(objective.reconstruct(another_epoch)["mask"], hidden)
    # Where patches are nearly alike, the noise decides between one mask and many.
    data = batch()
    another_epoch = {**data, "key": data["key"] + 100}
    for noise in (0.0, 0.3):
        objective = method(mask=mask, mask_noise=noise)
        same = torch.equal(objective.reconstruct(another_epoch)["mask"], objective.reconstruct(data)["mask"])
        assert same == (noise == 0)


def test_a_backbone_that_does_not_check_its_input_is_checked(monkeypatch):
    class Loose(torch.nn.Module):
        stride, embed_dim = 12, 8

    monkeypatch.setattr("eventfm.methods.difference.build_backbone", lambda *_, **__: Loose())
    with pytest.raises(ValueError, match=r"multiples of vit_nano's patch of 12 pixels, got 16x24; .*image_size"):
        method()


def test_only_methods_that_learn_from_a_teacher_are_given_one():
    assert [name for name in METHODS if has_teacher(name)] == ["contrast", "distillation", "joint", "transition"]
    assert build_method(TINY, 3, (16, 24), teacher=None).encoder().stride == 4
