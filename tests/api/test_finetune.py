"""Runs on labels from one line: what they leave, how they choose, what they start from and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from eventfm.api import finetune
from eventfm.api.finetune_config import parse_finetune
from eventfm.api.finetuning import open_finetune
from eventfm.api.pretraining import RunResult
from eventfm.config import ConfigError, recipe_names
from eventfm.data.loader import evaluation_batches
from eventfm.data.table import CollectionError
from eventfm.deployment.model import ModelError, load_model, read_model_card
from eventfm.engine import RunFolderError
from eventfm.evaluation.scoring import score_task
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack, save_recording
from eventfm.models.encoder import EncoderError, read_card
from eventfm.simulation.scene import CLASS_NAMES

TASKS = ("recognition", "segmentation", "flow", "depth")
TINY: dict[str, Any] = {"train": {"num_steps": 4, "batch_size": 4, "log_every": 1, "save_every": 2, "device": "cpu"}}
SMALL_HEAD: dict[str, dict[str, Any]] = {
    "recognition": {},
    "segmentation": {"task.head": {"name": "upernet", "dim": 16}},
    "flow": {"task.head": {"name": "upernet", "dim": 16}},
    "depth": {"task.head": {"name": "dpt", "dim": 16}},
}


def start(task: str, worlds: Path, encoder: Path, out: Path, **changes: Any) -> Any:
    settings = {
        "data": worlds, "data.labels": worlds / "labels.csv", "encoder": encoder, "out": out,
        **TINY, **SMALL_HEAD[task], **({} if task == "recognition" else _windows(task)), **changes,
    }  # fmt: skip
    return finetune(task, **settings)


def _windows(task: str) -> dict[str, Any]:
    return {} if task == "flow" else {"data.window.duration_us": 10_000}


@pytest.mark.parametrize("task", TASKS)
def test_one_line_leaves_a_model_that_answers(task: str, worlds: Path, trained: RunResult, tmp_path: Path) -> None:
    result = start(task, worlds, trained.encoder, tmp_path / "run")
    objective, card = load_model(result.model)
    assert card.task["name"] == objective.task == task
    assert result.figures
    assert card.figures == pytest.approx(result.figures)
    assert f"at step {result.best_step}" in card.chosen_by
    assert len(card.trained_on) == 12, "the recordings of the split train, and no others"
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    figure = {"recognition": "top1", "segmentation": "miou", "flow": "epe", "depth": "abs_rel"}[task]
    best = (min if task in ("flow", "depth") else max)(line[f"validation/{figure}"] for line in lines[1:])
    assert result.figures[figure] == best, "the best of the steps after the first is kept"


def test_what_is_kept_is_what_was_scored(worlds: Path, trained: RunResult, tmp_path: Path) -> None:
    result = start("segmentation", worlds, trained.encoder, tmp_path / "run")
    objective, card = load_model(result.model)
    config = _config("segmentation", worlds, trained.encoder, tmp_path / "other")
    validation = open_finetune(config).validation
    again = score_task(objective.predict, "segmentation", validation, len(card.classes))
    assert again.figures == pytest.approx(result.figures, abs=1e-6)


def test_validation_is_scored_at_the_size_of_the_labels(worlds: Path, trained: RunResult, tmp_path: Path) -> None:
    """Learnt at 16 pixels, scored at the sensor's 32: what is said of a pixel holds for four."""
    config = _config("flow", worlds, trained.encoder, tmp_path / "run", **{"data.image_size": 16})
    opened = open_finetune(config)
    assert opened.training.shapes["flow"] == (2, 16, 16)
    assert opened.validation.shapes["flow"] == (2, 32, 32)
    assert opened.validation.shapes["seen"] == (32, 32)

    (batch,) = evaluation_batches(opened.validation, 100)
    still = score_task(lambda batch: {"flow": torch.zeros(len(batch["input"]), 2, 16, 16)}, "flow", opened.validation)
    assert still.figures["epe"] == pytest.approx(float(batch["flow"].norm(dim=1).nanmean()), rel=1e-5)
    entry, (_, window) = opened.validation.entry(0), opened.validation.windows[0]
    assert window.entry is not None
    stored = entry.recording.tracks["flow"].read(window.entry)
    known = entry.recording.tracks["valid"].read(window.entry) > 0
    np.testing.assert_array_equal(batch["flow"][0], np.where(known, stored, np.nan))


def test_classes_have_the_names_of_the_worlds(worlds: Path, trained: RunResult, tmp_path: Path) -> None:
    assert open_finetune(_config("segmentation", worlds, trained.encoder, tmp_path / "a")).classes == CLASS_NAMES
    own = tuple("abcdefghij")
    config = _config("segmentation", worlds, trained.encoder, tmp_path / "b", classes=own)
    assert open_finetune(config).classes == own


def test_every_class_has_a_figure_of_the_chosen_step(worlds: Path, trained: RunResult, tmp_path: Path) -> None:
    result = start("segmentation", worlds, trained.encoder, tmp_path / "run")
    noted = json.loads((tmp_path / "run" / "validation_classes.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {int(step) for step in noted} == {line["step"] for line in lines if "validation/miou" in line}
    chosen = noted[str(result.best_step)]
    assert len(chosen) == len(CLASS_NAMES)
    assert np.mean([value for value in chosen if value is not None]) == pytest.approx(result.figures["miou"])
    report = (tmp_path / "run" / "report.html").read_text()
    assert ">iou</th>" in report
    for name, value in zip(CLASS_NAMES, chosen, strict=True):
        assert f"<td>{name}</td><td>{'-' if value is None else f'{value:.4f}'}</td>" in report


def test_pretrained_weights_are_where_the_run_starts(worlds: Path, trained: RunResult, tmp_path: Path) -> None:
    ours = load_file(trained.encoder / "encoder.safetensors")
    for weights, same in (("pretrained", True), ("scratch", False)):
        config = _config("depth", worlds, trained.encoder, tmp_path / weights, weights=weights)
        state = open_finetune(config).objective.backbone.state_dict()
        learnt = [name for name, value in ours.items() if value.ndim > 1]
        assert all(torch.equal(ours[name], state[name]) for name in learnt) is same


@pytest.mark.parametrize("mode", ["frozen", "lora"])
def test_a_backbone_that_is_held_stays_as_it_was(mode: str, worlds: Path, trained: RunResult, tmp_path: Path) -> None:
    result = start(
        "recognition", worlds, trained.encoder, tmp_path / "run",
        **{"task.adapt.mode": mode, "train.lr": 0.1, "train.warmup_fraction": 0.0},
    )  # fmt: skip
    ours = load_file(trained.encoder / "encoder.safetensors")
    objective, _ = load_model(result.model)
    state = objective.backbone.state_dict()
    assert state.keys() == ours.keys(), "updates are merged into the weights"
    moved = {name for name in ours if not torch.equal(ours[name], state[name])}
    assert bool(moved) is (mode == "lora" and result.best_step > 0)


def test_a_run_that_was_stopped_goes_on_to_the_same_end(
    worlds: Path, trained: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights of every step are the same bits, and not only those of the step that is kept."""
    from eventfm.engine import reporter

    after = reporter.Reporter.after
    seen: dict[int, dict[str, torch.Tensor]] = {}
    stop_at = 0

    def watched(self: Any, step: int, lr: float, stopping: bool) -> None:
        after(self, step, lr, stopping)
        seen[step] = {name: value.clone() for name, value in self._state.objective.state_dict().items()}
        if step == stop_at:
            raise KeyboardInterrupt

    monkeypatch.setattr(reporter.Reporter, "after", watched)
    changes = {"train.warmup_fraction": 0.0, "train.lr": 0.01}  # so that every step moves the weights
    whole = start("segmentation", worlds, trained.encoder, tmp_path / "whole", **changes)
    steps, seen, stop_at = seen, {}, 2
    with pytest.raises(KeyboardInterrupt):
        start("segmentation", worlds, trained.encoder, tmp_path / "halves", **changes)
    seen, stop_at = {}, 0
    halves = start("segmentation", worlds, trained.encoder, tmp_path / "halves", **changes)

    assert (sorted(steps), sorted(seen)) == ([1, 2, 3, 4], [3, 4]), "the second half alone is done again"
    for step in (3, 4):
        assert steps[step].keys() == seen[step].keys()
        assert all(torch.equal(value, seen[step][name]) for name, value in steps[step].items()), step
        moved = [name for name, value in steps[step].items() if not torch.equal(value, steps[step - 1][name])]
        assert any(name.startswith("backbone.") for name in moved)
        assert any(name.endswith("running_mean") for name in moved)
    assert (halves.figures, halves.best_step) == (whole.figures, whole.best_step)
    a, b = (load_file(result.model / "model.safetensors") for result in (whole, halves))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_few_labels_are_few_and_nested(worlds: Path, trained: RunResult, tmp_path: Path) -> None:
    def used(**labels: Any) -> set[tuple[int, int]]:
        config = _config("segmentation", worlds, trained.encoder, tmp_path / "run", **labels)
        return {(number, window.start) for number, window in open_finetune(config).training.windows}

    everything, half, fifth = used(), used(**{"labels.share": 0.5}), used(**{"labels.share": 0.2})
    assert fifth < half < everything
    assert len(half) == pytest.approx(len(everything) / 2, abs=1)
    assert used(**{"labels.share": 0.2, "labels.seed": 1}) != fifth


def test_shots_are_counted_by_class(worlds: Path, trained: RunResult, tmp_path: Path) -> None:
    config = _config("recognition", worlds, trained.encoder, tmp_path / "run", **{"labels.shots": 1})
    training = open_finetune(config).training
    labels = [training.entry(n).label for n in range(len(training))]
    assert len(labels) == len(set(labels)) == len({e.label for e in training.collection.entries})


def test_mistakes_are_named(worlds: Path, store: Path, trained: RunResult, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown recipe 'segmentaton' of a task; did you mean 'segmentation'"):
        finetune("segmentaton", data=worlds, encoder=trained.encoder, out=tmp_path / "a")
    with pytest.raises(ConfigError, match="expected encoder=FOLDER"):
        finetune("flow", data=worlds, out=tmp_path / "a")
    with pytest.raises(EncoderError, match="no encoder in"):
        start("flow", worlds, tmp_path / "nothing", tmp_path / "a")
    with pytest.raises(ConfigError, match=r"leave task\.backbone out"):
        start("flow", worlds, trained.encoder, tmp_path / "a", **{"task.backbone": {"name": "vit_tiny"}})
    with pytest.raises(ConfigError, match=r"unknown key 'task\.head\.nam'; did you mean 'name'"):
        start("flow", worlds, trained.encoder, tmp_path / "a", **{"task.head": {"nam": "raft"}})
    with pytest.raises(ValueError, match="semantic"):
        finetune("segmentation", data=store, encoder=trained.encoder, out=tmp_path / "a", **TINY)
    with pytest.raises(CollectionError, match="label"):
        finetune("recognition", data=store, encoder=trained.encoder, out=tmp_path / "a", **TINY)
    with pytest.raises(ValueError, match=r"one of labels\.share and labels\.shots"):
        start("recognition", worlds, trained.encoder, tmp_path / "a", **{"labels.share": 0.5, "labels.shots": 1})
    with pytest.raises(ValueError, match=r"for segmentation give labels\.share"):
        start("segmentation", worlds, trained.encoder, tmp_path / "a", **{"labels.shots": 1})
    assert not (tmp_path / "a").exists(), "nothing is begun that cannot go on"


def test_a_run_does_not_go_on_with_other_labels(worlds: Path, trained: RunResult, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    rows = [row.split(",") for row in (worlds / "labels.csv").read_text().splitlines()]
    columns = {name: number for number, name in enumerate(rows[0])}

    def run(rows: list[list[str]]) -> None:
        table.write_text("\n".join(",".join(row) for row in rows))
        start("recognition", worlds, trained.encoder, tmp_path / "run", **{"data.labels": str(table)})

    run(rows)
    run(rows)  # the same is the same
    of = [columns["label"], columns["split"]]
    one = next(row for row in rows[1:] if row[of[1]] == "train")
    other = next(row for row in rows[1:] if row[of[1]] == "train" and row[of[0]] != one[of[0]])
    one[of[0]], other[of[0]] = other[of[0]], one[of[0]]
    with pytest.raises(RunFolderError, match="labels_sha256"):
        run(rows)


def test_recordings_of_one_window_are_held_out_whole(worlds: Path, trained: RunResult, tmp_path: Path) -> None:
    def windows(rows: list[str], **changes: Any) -> tuple[list[int], list[int]]:
        table = tmp_path / "labels.csv"
        table.write_text("\n".join(rows[:1] + [row.replace(",val,", ",train,") for row in rows[1:]]))
        changes = {"data.labels": str(table), **changes}
        opened = open_finetune(_config("recognition", worlds, trained.encoder, tmp_path / "run", **changes))
        parts = opened.training, opened.validation
        return tuple([number for number, _ in part.windows] for part in parts)  # type: ignore[return-value]

    rows = [row for row in (worlds / "labels.csv").read_text().splitlines() if ",test," not in row][:5]
    training, validation = windows(rows)
    assert len(training) == 3
    assert sorted(training + validation) == [0, 1, 2, 3]
    with pytest.raises(CollectionError, match=r"no window is left to choose.*or more recordings, or shorter windows"):
        windows(rows[:2])
    with pytest.raises(CollectionError, match=r"no window is left to choose.*or data\.holdout above 0"):
        windows(rows, **{"data.holdout": 0})


def test_a_class_that_validation_alone_has_is_a_class(trained: RunResult, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    for name, highest in (("a", 1), ("b", 4)):
        x, y, t = rng.integers(0, 32, 400), rng.integers(0, 32, 400), np.sort(rng.integers(0, 40_000, 400))
        maps = np.full((3, 32, 32), highest, np.uint8)
        track = ArrayTrack(np.array([10_000, 20_000, 30_000]), maps)
        events = Events.checked(x, y, t, rng.integers(0, 2, 400), Sensor(32, 32))
        save_recording(tmp_path / "data" / f"{name}.h5", ArrayRecording(events, {"semantic": track}))
    (tmp_path / "labels.csv").write_text("path,split\na.h5,train\nb.h5,val\n")
    changes = {"data.path": str(tmp_path / "data"), "data.labels": str(tmp_path / "labels.csv")}
    config = _config("segmentation", tmp_path, trained.encoder, tmp_path / "run", **changes)
    assert open_finetune(config).classes == tuple(f"class {n}" for n in range(5))


def test_a_damaged_model_is_refused(worlds: Path, trained: RunResult, tmp_path: Path) -> None:
    result = start("recognition", worlds, trained.encoder, tmp_path / "run")
    weights = result.model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="damaged or not the file of this card"):
        load_model(result.model)
    with pytest.raises(ModelError, match="eventfm finetune"):
        read_model_card(trained.encoder)
    with pytest.raises(ModelError, match="no model in"):
        read_model_card(tmp_path)


def _config(task: str, worlds: Path, encoder: Path, out: Path, **changes: Any) -> Any:
    values = {
        "data.path": str(worlds), "data.labels": str(worlds / "labels.csv"), "encoder": str(encoder), "out": str(out),
        **{f"train.{key}": value for key, value in TINY["train"].items()}, **SMALL_HEAD[task],
        **({} if task == "recognition" else _windows(task)), **changes,
    }  # fmt: skip
    return parse_finetune(task, values)


def test_classes_that_are_named_bound_the_labels(worlds: Path, trained: RunResult, tmp_path: Path) -> None:
    config = _config("segmentation", worlds, trained.encoder, tmp_path / "run")
    opened = open_finetune(config)
    highest = max(int(np.max(t[t < 255])) for t in _truths(opened.training) if (t < 255).any())
    assert len(opened.classes) == highest + 1
    with pytest.raises(ValueError, match="expected classes from 0 to 1"):
        open_finetune(config.model_copy(update={"classes": ("ground", "thing")}))


def _truths(samples: Any) -> list[Any]:
    return [entry.recording.tracks["semantic"].read(i) for entry in samples.collection.entries
            for i in range(len(entry.recording.tracks["semantic"].times))]  # fmt: skip


@pytest.mark.parametrize("name", recipe_names("finetune"))
def test_every_recipe_is_a_run(name: str, worlds: Path, trained: RunResult, tmp_path: Path) -> None:
    from eventfm.tasks import build_task, wanted

    config = parse_finetune(name, {"encoder": str(trained.encoder), "data.path": str(worlds), "out": str(tmp_path)})
    backbone = {"name": "dinov3_nano", "arguments": {"patch_size": 16}}
    head = config.task.get("head", {})
    if head.get("name") == "eomt":  # the smallest network has two blocks
        assert head["arguments"].pop("last") == 4
    task = {**config.task, "backbone": backbone}
    num_classes = len(config.classes) if config.classes else 7
    objective = build_task(task, 3, (64, 64), num_classes)
    assert objective.task in {"recognition", "segmentation", "flow", "depth"}
    assert set(wanted(task)) <= {"label", "semantic", "flow", "seen", "depth", "before"}


def test_drop_path_is_of_the_run_and_not_of_the_encoder(worlds: Path, trained: RunResult, tmp_path: Path) -> None:
    config = _config("depth", worlds, trained.encoder, tmp_path / "run", drop_path=0.2)
    backbone = open_finetune(config).objective.backbone
    assert max(block.drop_path.rate for block in backbone.blocks) == pytest.approx(0.2)
    assert read_card(trained.encoder).backbone.arguments.get("drop_path", 0.0) == 0.0
