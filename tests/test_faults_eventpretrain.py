"""Faults of the official EventPretrain code, each with what must hold here instead; more stand beside the parts."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eventfm.api.run_config import parse_run, read_recipe
from eventfm.api.stages import read_stages
from eventfm.config import load_recipe, recipe_names
from eventfm.data.build import DataConfig, build_samples, open_source
from eventfm.data.loader import Loader, evaluation_batches
from eventfm.engine.distributed import World
from eventfm.engine.optim import parameter_groups
from eventfm.engine.plan import resolve
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, save_recordings
from eventfm.methods import build_method
from eventfm.models import build_backbone
from eventfm.models.configs import BackboneConfig
from eventfm.models.convvit import ConvViT
from eventfm.models.encoder import EncoderCard, EncoderError, initialise, load_encoder, save_encoder
from eventfm.models.teachers import StoredTeacher
from eventfm.models.vit import ViT
from eventfm.representations import VoxelGrid, describe

BACKBONES = ("vit_nano", "convvit_nano", "swin_nano")
SIZE = (32, 32)
TEACHER = StoredTeacher(6, (4, 4), {"name": "stored", "input_size": [32, 32]})


def method(name: str, backbone: str, **settings: Any) -> Any:
    arguments = {"name": backbone, "arguments": {"patch_size": 8}}
    if name != "difference":
        settings["contrast"] = {"hidden_dim": 16, "queue_length": 8}
    return build_method({"name": name, "backbone": arguments, **settings}, 2, SIZE, TEACHER)


def groups(objective: Any) -> dict[str, dict[str, Any]]:
    """Return the optimiser's group of each parameter by name."""
    names = {id(parameter): name for name, parameter in objective.named_parameters()}
    found = parameter_groups(objective.named_parameters(), objective.parameter_rules(), 0.05)
    return {names[id(parameter)]: group for group in found for parameter in group["params"]}


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of three recordings of noise without frames, 4000 events in 40 ms each."""
    rng = np.random.default_rng(0)

    def recording() -> ArrayRecording:
        x, y = rng.integers(0, 32, (2, 4000))
        t = np.sort(rng.integers(0, 40_000, 4000))
        return ArrayRecording(Events.checked(x, y, t, rng.integers(0, 2, 4000), Sensor(*SIZE)))

    folder = tmp_path_factory.mktemp("faults")
    return save_recordings(folder / "noise.h5", [(f"r{number}", recording()) for number in range(3)])


def samples(path: Path, **augment: Any) -> Any:
    window = {"by": "time", "duration_us": 10_000}
    config = DataConfig.parse({"path": str(path), "window": window, "holdout": 0.25, "augment": augment}, "data")
    return build_samples(open_source(config), config, VoxelGrid(2), VoxelGrid(1), SIZE)


def encoder(folder: Path, weights: Any, **arguments: Any) -> EncoderCard:
    card = EncoderCard(
        backbone=BackboneConfig(name="vit_nano", arguments={"patch_size": 8, **arguments}),
        in_channels=2,
        input_size=SIZE,
        representation=describe(VoxelGrid(2)),
        window={"by": "time", "duration_us": 10_000},
        sensor={"width": 32, "height": 32, "name": "", "inferred": False},
        method="difference",
    )
    return save_encoder(folder, weights, card)


def test_evaluation_sees_the_same_events_every_time(events: Path) -> None:
    """D5: where recordings were longer than a limit, evaluation drew another stretch of events each time."""
    made = samples(events, max_events=50, crop_min=1, erase=0, add=0)
    first, second = ([batch["input"] for batch in evaluation_batches(made.held_out, 2)] for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert sum(len(batch) for batch in first) == len(made.held_out)
    assert torch.cat(first).abs().sum() > 3 * 50 * len(made.held_out)  # all events of a window, not the limit
    trained = next(Loader(made.training, 4, seed=0)(0))["input"]
    assert trained.abs().sum(dim=(1, 2, 3)).max() <= 50.001


def test_an_encoder_without_its_last_norm_is_refused(tmp_path: Path) -> None:
    """D7: loading was not strict, so that a norm under an older name silently kept its initial weights."""
    backbone = build_backbone("vit_nano", 2, SIZE, patch_size=8, fusion=False)
    renamed = {name.replace("norm.", "norm_h.") if name[:5] == "norm." else name: value
               for name, value in backbone.state_dict().items()}  # fmt: skip
    encoder(tmp_path / "renamed", renamed)
    for load in (load_encoder, partial(initialise, backbone, representation=VoxelGrid(2))):
        with pytest.raises(EncoderError, match=r"norm\.weight|norm_h\.weight"):
            load(folder=tmp_path / "renamed")
    encoder(tmp_path / "good", backbone)
    other = build_backbone("convvit_nano", 2, SIZE, patch_size=8, fusion=False)
    with pytest.raises(EncoderError, match="does not fit"):
        initialise(other, tmp_path / "good", VoxelGrid(2))


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize(("rates", "slowest"), [("decay", 0.1**2), ("grafted", 0.01)])
def test_rates_of_layers_reach_every_backbone(backbone: str, rates: str, slowest: float) -> None:
    """D8: layer decay and layer-grafted rates knew no Swin and gave every one of its blocks the full rate."""
    objective = method("contrast", backbone, rates=rates, layer_decay=0.1)
    scales = {name: group["lr_scale"] for name, group in groups(objective).items()}
    layers = [next(scales[f"backbone.{n}"] for n, _ in objective.backbone.named_parameters() if n.startswith(part[0]))
              for part in objective.backbone.layers()]  # fmt: skip
    assert layers == sorted(layers)
    assert layers[0] <= slowest * 1.001
    assert layers[-1] == (0.1 if rates == "grafted" and backbone != "swin_nano" else 1)  # of two blocks none is a third
    assert scales["backbone.norm.weight"] == scales["projector.layers.0.weight"] == 1
    inside = [scale for name, scale in scales.items() if "blocks." in name and name.startswith("backbone.")]
    assert min(inside) < 1


@pytest.mark.parametrize("backbone", BACKBONES)
def test_what_a_sample_is_compared_to_does_not_depend_on_its_batch(backbone: str) -> None:
    """D10: a sum over the batch in place of the channels made a sample's loss one of its neighbours."""
    torch.manual_seed(0)
    objective = method("contrast", backbone).eval()
    batch = {
        "input": torch.randn(4, 2, *SIZE),
        "teacher_tokens": torch.randn(4, 16, 6),
        "view": torch.tensor([[0.1, 0, 1, 0.9, 1], [0, 0, 1, 1, 0]] * 2),
    }
    together = objective.inspect(batch)["similarity"]
    assert together.abs().max() <= 1 + 1e-6
    for number in range(4):
        alone = objective.inspect({name: value[number : number + 1] for name, value in batch.items()})["similarity"]
        torch.testing.assert_close(together[number : number + 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_reaches_its_learning_rate(name: str) -> None:
    """D11: by default a run had 5 epochs and a warm-up of 20, and never came to the rate that was asked for."""
    values, changes = read_recipe(name, {"data": "here", "out": "there"})
    if load_recipe(name).get("stages"):
        staged = read_stages(values, changes, name)
    else:
        staged = [("", parse_run({key: value for key, value in values.items() if key != "stages"}, changes, name))]
    for stage, run in staged:
        train = run.train.model_copy(update={"device": "cpu", "precision": "fp32"})
        plan = resolve(train, 50, World(0, 1, 0))
        if plan.num_steps == 0:
            continue
        assert 0 <= plan.warmup_steps < plan.num_steps / 2, stage
        rates = [plan.lr_at(step) for step in range(plan.num_steps)]
        assert max(rates) == pytest.approx(plan.lr)
        if plan.epoch_decay is None:
            assert rates[-1] < 0.01 * plan.lr


def test_features_drop_nothing(tmp_path: Path) -> None:
    """D16: the linear probe ran while the backbone was training, with a tenth of its paths dropped."""
    torch.manual_seed(0)
    backbone = build_backbone("vit_nano", 2, SIZE, patch_size=8, drop_path=0.5, fusion=False)
    encoder(tmp_path / "encoder", backbone, drop_path=0.5)
    loaded, _ = load_encoder(tmp_path / "encoder")
    x = torch.randn(8, 2, *SIZE)
    plain = build_backbone("vit_nano", 2, SIZE, patch_size=8, fusion=False)
    plain.load_state_dict(backbone.state_dict())
    assert torch.equal(loaded(x).tokens, plain.eval()(x).tokens)
    objective = method("transition", "vit_nano").train()
    assert not objective.backbone.training


def test_blocks_are_counted_alike_with_and_without_a_mask() -> None:
    """D17: the taps of the masked forward were blocks 2 and 4, those of the plain one 1 and 2."""
    torch.manual_seed(0)
    net = ViT(2, SIZE, 8, 16, depth=6, num_heads=2).eval()
    seen: dict[int, torch.Tensor] = {}
    for number, block in enumerate(net.blocks, start=1):
        block.register_forward_hook(lambda _, __, out, number=number: seen.__setitem__(number, out))
    x = torch.randn(2, 2, *SIZE)
    with torch.no_grad():
        fused = net(x, keep=torch.arange(16).expand(2, -1)).tokens
        torch.testing.assert_close(fused, net.norm(sum(seen[number] for number in net.fused_blocks)))
        maps = net.pyramid(x)
        for tap, found in zip(net.taps, maps, strict=True):
            torch.testing.assert_close(found.flatten(2).transpose(1, 2), seen[tap])


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("name", ["difference", "transition", "contrast", "joint"])
def test_weights_decay_and_nothing_else(name: str, backbone: str) -> None:
    """D18: tables of position bias and the mask token decayed, as all that is not one-dimensional."""
    objective = method(name, backbone)
    learned = {key: value for key, value in objective.named_parameters() if value.requires_grad}
    decays = {key: group["weight_decay"] for key, group in groups(objective).items()}
    assert decays.keys() == learned.keys()
    for key, value in learned.items():
        spared = value.ndim == 1 or key.endswith(("position_bias", "mask_token"))
        assert decays[key] == (0 if spared else 0.05), key


def test_ranks_draw_anew_in_every_pass_and_never_the_same(events: Path) -> None:
    """D19: ranks took the samples unshuffled, in the same order in every pass."""
    made = samples(events)
    count = len(made.training) // 2 * 2
    passes = []
    for number in range(3):
        ranks = [next(Loader(made.training, count // 2, 0, rank, 2)(number))["index"].tolist() for rank in range(2)]
        if number == 0:
            assert len({*ranks[0], *ranks[1]}) == count
        passes.append(tuple(ranks[0]))
    assert len(set(passes)) == 3
    assert passes[0] != tuple(sorted(passes[0]))


@pytest.mark.parametrize("depths", [(1, 3, 2), (3, 1, 2)])
def test_each_stage_of_convolutions_has_its_own_depth(depths: tuple[int, int, int]) -> None:
    """D31: the second stage had as many blocks as the first."""
    net = ConvViT(2, SIZE, 8, (8, 8, 16), depths, 2)
    assert tuple(len(stage) for stage in net.stages) == depths[:2]
    assert len(net.blocks) == depths[2]
    assert net(torch.randn(1, 2, *SIZE)).tokens.shape == (1, 16, 16)
