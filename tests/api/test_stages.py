"""Recipes of several stages: one command, folders that resume, an encoder after each."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from eventfm.api import prepare_teacher
from eventfm.api.pretraining import RunResult, pretrain
from eventfm.api.run_config import read_recipe
from eventfm.api.run_pictures import _rows
from eventfm.api.stages import read_stages
from eventfm.config import ConfigError, load_recipe
from eventfm.deployment.predict import load
from eventfm.engine.run_folder import RunFolderError
from eventfm.methods import build_method
from eventfm.models.encoder import read_card
from eventfm.models.teachers import StoredTeacher

TINY: dict[str, Any] = {
    "method.backbone.name": "vit_nano",
    "data.window.duration_us": 10_000,
    "train": {"batch_size": 4, "log_every": 2, "save_every": 2, "device": "cpu", "num_steps": 4},
    "stages.difference.method.decoder": {"dim": 32, "depth": 1, "num_heads": 2},
    "stages.transition.method.contrast": {"hidden_dim": 32, "queue_length": 8},
    "stages.contrast.method.contrast": {"hidden_dim": 32, "queue_length": 8},
    "stages.contrast.train.num_steps": 6,
}
STAGES = ("1_difference", "2_transition", "3_contrast")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny CLIP, saved as its publishers would."""
    import transformers

    config = transformers.CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8,
        projection_dim=16,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("teachers") / "tiny-clip"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def staged(store: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    out = tmp_path_factory.mktemp("staged") / "run"
    return pretrain("eventpretrain-vit-tiny", data=store, out=out, teacher=teacher, **TINY)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load(folder).backbone.state_dict()


def read(recipe: str = "eventpretrain-vit-tiny", **changes: Any) -> list[tuple[str, Any]]:
    values, dotted = read_recipe(recipe, {"data": "here", "out": "there", **changes})
    return read_stages(values, dotted, recipe)


def test_every_stage_leaves_an_encoder_that_starts_the_next(staged: RunResult) -> None:
    assert staged.out.name == "run"
    assert {path.name for path in staged.out.iterdir()} == {*STAGES, "config.yaml", "encoder", "report.html"}
    cards = [read_card(staged.out / stage / "encoder") for stage in STAGES]
    assert [card.method for card in cards] == ["difference", "transition", "contrast"]
    for earlier, later in itertools.pairwise(cards):
        assert later.parents[0] == f"encoder {earlier.method} {earlier.weights_sha256}"
        assert json.loads(later.parents[1].removeprefix("teacher "))["name"] == "tiny-clip"
        assert set(earlier.trained_on) <= set(later.trained_on)
    assert read_card(staged.encoder) == cards[2]
    assert load(staged.out).card == cards[2]


def test_the_transition_moves_the_last_norm_alone_and_the_contrast_all(staged: RunResult) -> None:
    first, second, third = (tensors(staged.out / stage) for stage in STAGES)
    moved = {name for name in first if not torch.equal(first[name], second[name])}
    assert moved == {"norm.weight", "norm.bias"}
    assert {name for name in third if not torch.equal(second[name], third[name])} == set(third)


def test_a_complete_run_is_left_as_it_is(staged: RunResult, store: Path, teacher: Path) -> None:
    before = {path: path.read_bytes() for path in staged.out.rglob("*.safetensors")}
    again = pretrain("eventpretrain-vit-tiny", data=store, out=staged.out, teacher=teacher, **TINY)
    assert again.metrics["loss"] == staged.metrics["loss"]
    assert before == {path: path.read_bytes() for path in staged.out.rglob("*.safetensors")}


def test_stopped_in_any_stage_it_ends_as_if_never_stopped(
    staged: RunResult, store: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eventfm.methods.contrast import FeatureContrast

    steps = FeatureContrast.after_step
    calls = []

    def fails(self: FeatureContrast, progress: Any) -> None:
        calls.append(progress.step)
        if len(calls) == 7:  # in stage 3, between two checkpoints
            raise KeyboardInterrupt
        steps(self, progress)

    monkeypatch.setattr(FeatureContrast, "after_step", fails)
    with pytest.raises(KeyboardInterrupt):
        pretrain("eventpretrain-vit-tiny", data=store, out=tmp_path / "run", teacher=teacher, **TINY)
    assert not (tmp_path / "run" / "encoder").exists()
    monkeypatch.undo()
    resumed = pretrain("eventpretrain-vit-tiny", data=store, out=tmp_path / "run", teacher=teacher, **TINY)
    for name, value in tensors(staged.out).items():
        assert torch.equal(value, tensors(resumed.out)[name]), name


def losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_a_cache_stands_for_the_teacher(staged: RunResult, store: Path, teacher: Path, tmp_path: Path) -> None:
    built = prepare_teacher(data=store, teacher=teacher, out=tmp_path / "cache", quiet=True)
    assert built.num_tokens_written == 12 * 5
    assert prepare_teacher(data=store, teacher=teacher, out=tmp_path / "cache", quiet=True).num_tokens_written == 0
    cached = {"teacher.cache": str(tmp_path / "cache")}
    ours = pretrain("eventpretrain-vit-tiny", data=store, out=tmp_path / "run", **cached, **TINY)
    live, half = losses(staged.out / "3_contrast"), losses(ours.out / "3_contrast")
    np.testing.assert_allclose(half, live, rtol=2e-3)
    assert half != live
    with pytest.raises(ConfigError, match=r"made by the teacher 'tiny-clip', and the run asks for 'other'"):
        pretrain(
            "eventpretrain-vit-tiny", data=store, out=tmp_path / "no",
            **{**cached, "teacher.name": "other", "stages.difference": None}, **TINY,
        )  # fmt: skip


def test_a_cache_of_other_pictures_is_refused_before_training(
    store: Path, teacher: Path, write: Callable[..., Path], tmp_path: Path
) -> None:
    other = write(tmp_path / "other.h5", 3)
    prepare_teacher(data=other, teacher=teacher, out=tmp_path / "cache", quiet=True)
    settings = {"teacher.cache": str(tmp_path / "cache"), "teacher.name": str(teacher), "stages.difference": None}
    with pytest.raises(ValueError, match=r"lacks the tokens of \d+ of 60 pictures"):
        pretrain("eventpretrain-vit-tiny", data=store, out=tmp_path / "run", **settings, **TINY)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher.name": "no/such-teacher"}, "no/such-teacher"),
        ({"stages.contrast.method.contrast.as_published": True, "data.image_size": 24}, "as_published pairs tokens"),
        ({"stages.contrast.method.contrast.queue_length": 6}, "multiple of the 4 samples of a step, got 6"),
        ({"stages.contrast.method.rates": "slow"}, "'method.rates': input should be"),
    ],
)
def test_what_a_later_stage_lacks_is_told_before_the_first_begins(
    changes: dict[str, Any], message: str, store: Path, teacher: Path, tmp_path: Path
) -> None:
    settings = {**TINY, "teacher.name": str(teacher), **changes}
    with pytest.raises(ValueError, match=message):
        pretrain("eventpretrain-vit-tiny", data=store, out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_a_changed_stage_is_refused_by_name_and_nothing_is_lost(staged: RunResult, store: Path, teacher: Path) -> None:
    before = {path: path.read_bytes() for path in staged.out.rglob("*.safetensors")}
    changed = {**TINY, "stages.contrast.method.contrast.temperature": 0.2}
    with pytest.raises(RunFolderError, match=r"temperature: 0\.07 there, 0\.2 now"):
        pretrain("eventpretrain-vit-tiny", data=store, out=staged.out, teacher=teacher, **changed)
    assert before == {path: path.read_bytes() for path in staged.out.rglob("*.safetensors")}


def test_a_folder_of_something_else_is_refused(store: Path, teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("not a run")
    with pytest.raises(RunFolderError, match="holds something else"):
        pretrain("eventpretrain-vit-tiny", data=store, out=tmp_path, teacher=teacher, **TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_without_a_teacher_the_stage_that_needs_one_says_so(store: Path, tmp_path: Path) -> None:
    settings = {"teacher.name": None, "stages.difference": None}
    with pytest.raises(ConfigError, match=r"teacher\.name=NAME"):
        pretrain("eventpretrain-vit-tiny", data=store, out=tmp_path / "run", **settings, **TINY)


def test_a_batch_that_does_not_divide_the_queue_is_refused_before_a_run_is_begun(
    store: Path, teacher: Path, tmp_path: Path
) -> None:
    settings = {**TINY, "stages.difference": None, "stages.transition.method.contrast.queue_length": 10}
    with pytest.raises(ValueError, match=r"multiple of the 4 samples of a step, got 10; 8 or 12 would do"):
        pretrain("eventpretrain-vit-tiny", data=store, out=tmp_path / "run", teacher=teacher, **settings)
    assert not (tmp_path / "run" / "1_transition").exists()


@pytest.mark.parametrize("backbone", ["convvit_nano", "swin_nano"])
def test_other_backbones_and_the_joint_ablation(backbone: str, store: Path, teacher: Path, tmp_path: Path) -> None:
    settings = {**TINY, "method.backbone.name": backbone}
    result = pretrain("eventpretrain-vit-tiny", data=store, out=tmp_path / "run", teacher=teacher, **settings)
    assert load(result.out).card.backbone.name == backbone
    assert not any(name.startswith("fusion.") for name in tensors(result.out / "1_difference"))
    joint = pretrain(
        "eventpretrain-ablation-joint", data=store, out=tmp_path / "joint", teacher=teacher,
        method={
            "backbone": {"name": backbone, "arguments": {"patch_size": "auto"}},
            "decoder": {"dim": 32, "depth": 1, "num_heads": 2},
            "contrast": {"hidden_dim": 32, "queue_length": 8},
        },
        train=TINY["train"], **{"data.image_size": "auto", "representation.span": "window"},
    )  # fmt: skip
    assert {"difference_loss", "contrast_loss"} <= joint.metrics.keys()


def test_report_shows_every_stage_and_names_the_teacher(staged: RunResult) -> None:
    page = (staged.out / "report.html").read_text()
    assert all(f"Stage {name}: How it went" in page for name in ("difference", "transition", "contrast"))
    assert "tiny-clip" in page
    assert page.count("<img") == 9  # of each stage its curves, and what it saw before and after


def test_pictures_show_what_is_compared() -> None:
    config = {
        "name": "contrast",
        "backbone": {"name": "vit_nano", "arguments": {"patch_size": 8}},
        "contrast": {"hidden_dim": 16, "queue_length": 0},
    }
    objective = build_method(config, 5, (32, 48), StoredTeacher(6, (2, 3), {"name": "some"})).eval()
    batch = {
        "input": torch.randn(2, 5, 32, 48),
        "teacher_tokens": torch.randn(2, 6, 6),
        "view": torch.tensor([[0.0, 0, 1, 1, 0], [0.2, 0.1, 0.9, 0.8, 1]]),
    }
    rows = _rows(objective, batch)
    assert [label for label, _ in rows[0]] == ["events, summed", "teacher, PCA", "agreement"]
    assert all(picture.shape == (32, 48, 3) for row in rows for _, picture in row)


def test_settings_for_all_stages_and_for_one() -> None:
    changes = {"train.batch_size": 8, "stages.contrast.train.epochs": 3, "stages.contrast.train.batch_size": 2}
    stages = dict(read(**changes))
    assert [run.train.batch_size for run in stages.values()] == [8, 8, 2]
    assert (stages["contrast"].train.epochs, stages["contrast"].train.num_steps) == (3, None)
    assert (stages["difference"].train.epochs, stages["difference"].train.num_steps) == (None, 2500)
    assert [run.init for run in stages.values()] == [None, "there/1_difference/encoder", "there/2_transition/encoder"]
    assert [run.out for run in stages.values()] == [f"there/{name}" for name in STAGES]
    nested = read(stages={"contrast": {"train": {"epochs": 3, "batch_size": 2}}}, **{"train.batch_size": 8})
    assert nested == list(stages.items())


def test_stages_are_left_out_by_null_and_start_where_they_are_told() -> None:
    stages = read(init="elsewhere", **{"stages.difference": None, "stages.contrast": None})
    assert [(name, run.out, run.init) for name, run in stages] == [("transition", "there/1_transition", "elsewhere")]
    with pytest.raises(ConfigError, match="all are set to null"):
        read(stages={"difference": None, "transition": None, "contrast": None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method.mask_ratio": 0.7}, r"say stages\.difference\.method\.mask_ratio"),
        ({"method": {"mask_ratio": 0.7}}, r"say stages\.difference\.method\.mask_ratio"),
        ({"stages.contrasts.train.epochs": 3}, "unknown stage 'contrasts'; did you mean 'contrast'"),
        ({"stages.contrast.train.epoch": 3}, "unknown key 'train.epoch'; did you mean 'epochs'"),
        ({"teacher.nam": "x"}, "unknown key 'teacher.nam'"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(**changes)


def test_a_recipe_builds_on_one_other(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("train: {epochs: 3, batch_size: 8}\nmethod: {name: difference}\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\ntrain: {batch_size: 2}\n")
    (tmp_path / "c.yaml").write_text("base: b.yaml\n")
    merged = {"train": {"epochs": 3, "batch_size": 2}, "method": {"name": "difference"}}
    assert load_recipe(tmp_path / "b.yaml") == merged
    with pytest.raises(ConfigError, match=r"which has a base itself; name 'a\.yaml' instead"):
        load_recipe(tmp_path / "c.yaml")
    assert load_recipe("eventpretrain-convvit-small")["method"]["backbone"]["name"] == "convvit_small"
    assert yaml.safe_dump(merged)


def test_other_stages_do_not_take_the_place_of_those_that_are_there(
    staged: RunResult, store: Path, teacher: Path
) -> None:
    before = {path: path.read_bytes() for path in staged.out.rglob("*") if path.is_file()}
    with pytest.raises(RunFolderError, match="holds the stage 1_difference, and this recipe has 1_transition"):
        pretrain("eventpretrain-vit-tiny", data=store, out=staged.out, teacher=teacher,
                 **{**TINY, "stages.difference": None})  # fmt: skip
    with pytest.raises(RunFolderError, match="temperature"):
        pretrain("eventpretrain-vit-tiny", data=store, out=staged.out, teacher=teacher,
                 **{**TINY, "stages.transition.method.contrast.temperature": 0.3})  # fmt: skip
    kept = {path: path.read_bytes() for path in staged.out.rglob("*") if path in before}
    assert kept[staged.out / "config.yaml"] == before[staged.out / "config.yaml"]
    assert {p: b for p, b in kept.items() if p.suffix == ".safetensors"} == {
        p: b for p, b in before.items() if p.suffix == ".safetensors"
    }


def test_weights_beyond_bounds_are_said_to_be_so(store: Path, teacher: Path, tmp_path: Path) -> None:
    settings = {**TINY, "stages.difference": None, "stages.transition": None, "stages.contrast.train.lr": 1e30}
    with pytest.raises(ValueError, match="features of held-out samples are NaN or infinite after step"):
        pretrain("eventpretrain-vit-tiny", data=store, out=tmp_path / "run", teacher=teacher, **settings)


def test_held_out_pictures_that_cannot_be_read_do_not_end_a_run(teacher: Path, tmp_path: Path) -> None:
    import cv2

    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(10):
        cv2.imwrite(str(folder / f"p{number}.png"), np.full((40, 40, 3), 20 * number, np.uint8))
    (folder / "p6.png").write_text("not a picture")  # the one whose hash has it held out
    settings = {key: value for key, value in TINY.items() if key != "data.window.duration_us"}
    with pytest.warns(UserWarning, match="nothing is held out: none of 1 pictures can be read"):
        run = pretrain("eventpretrain-vit-tiny", **{"data.images": folder, "data.sensor": (32, 32)}, out=tmp_path / "r",
                       teacher=teacher, **{**settings, "stages.transition": None, "stages.contrast": None})  # fmt: skip
    assert "held_out/loss" not in run.metrics
