"""The probe of pixels: frozen patches of encoders beside those of the same networks untrained."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eventfm.api import evaluate
from eventfm.api.pretraining import RunResult, untrained
from eventfm.api.probing_pixels import TRIVIAL, PixelProbeResult
from eventfm.config import ConfigError
from eventfm.data.build import DataConfig, build_samples
from eventfm.data.collection import open_collection
from eventfm.data.splits import open_parts
from eventfm.data.windows import WindowError
from eventfm.deployment.predict import load
from eventfm.evaluation.patch_neighbours import PatchNeighbours, fill_bank
from eventfm.evaluation.protocol import ProtocolError
from eventfm.evaluation.scoring import score_task
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack, save_recordings
from eventfm.representations import VoxelGrid
from eventfm.simulation.scene import CLASS_NAMES
from eventfm.tasks.metrics import build_metrics

WINDOW = {"duration_us": 10_000}


def probe(worlds: Path, encoders: Any, out: Path, **changes: Any) -> PixelProbeResult:
    data = {"path": str(worlds), "labels": str(worlds / "labels.csv")}
    settings = {"task": "segmentation", "data": data, "window": WINDOW, "out": out, **changes}
    result = evaluate("probe", encoders=encoders, **settings)
    assert isinstance(result, PixelProbeResult)
    return result


@pytest.fixture(scope="module")
def result(worlds: Path, trained: RunResult, tmp_path_factory: pytest.TempPathFactory) -> PixelProbeResult:
    return probe(worlds, trained.out, tmp_path_factory.mktemp("probes") / "out", bank=150, neighbours=5)


@pytest.fixture(scope="module")
def small(worlds: Path, run: Callable[..., RunResult], tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """Return an encoder of half the pixels a side that the sensor has, pretrained on recordings of all splits."""
    out = tmp_path_factory.mktemp("runs") / "small"
    return run(worlds, out, **{"train.num_steps": 1, "data.image_size": 16})


def test_an_encoder_stands_beside_the_same_network_untrained(result: PixelProbeResult) -> None:
    assert list(result.rows) == [TRIVIAL, "ours", "ours, untrained"]
    assert result.classes == CLASS_NAMES
    assert len(np.unique(result.groups)) == 4, "of twenty recordings a fifth is for testing"
    metrics = build_metrics("segmentation", len(CLASS_NAMES))
    for scored in result.rows.values():
        assert scored.sums.shape[0] == len(result.groups)
        assert metrics.from_sums(scored.sums.sum(0)) == pytest.approx(scored.figures)
        known = [iou for iou in scored.by_class if iou is not None]
        assert np.mean(known) == pytest.approx(scored.figures["miou"])
    assert set(result.differences) == {"ours - ours, untrained", f"ours - {TRIVIAL}"}
    gain = result.rows["ours"].figures["miou"] - result.rows["ours, untrained"].figures["miou"]
    assert result.differences["ours - ours, untrained"].value == pytest.approx(gain)
    own = result.interval("ours")
    assert own is not None
    assert own.low <= own.value <= own.high
    assert not result.overlap


def test_rows_are_those_of_banks_filled_from_the_training_windows(
    result: PixelProbeResult, worlds: Path, trained: RunResult
) -> None:
    """The same by the road that `transfer` takes to its windows."""
    encoder = load(trained.out)
    values = {"path": str(worlds), "labels": str(worlds / "labels.csv"), "holdout": 0.0, "target": "none"}
    window = {"by": "frame", "track": "semantic", "frame_at": "end", **WINDOW}
    data = DataConfig.parse({**values, "window": window}, "data")
    found = open_parts(data, needed=("train", "test"))
    asked = (data, encoder.representation, VoxelGrid(1), encoder.input_size)
    training, test = (
        build_samples(found[name], *asked, wanted=("semantic",), num_classes=len(CLASS_NAMES)).training
        for name in ("train", "test")
    )
    names = [f"{training.entry(n).name}@{window.start}" for n, (_, window) in enumerate(training.windows)]
    twin = untrained(encoder.card, int(encoder.card.recipe["train"]["seed"])).eval()
    for name, backbone in (("ours", encoder.backbone), ("ours, untrained", twin)):
        bank = fill_bank(backbone, training, names, len(CLASS_NAMES), 150)
        assert len(bank.tokens) == 150
        predict = PatchNeighbours(backbone, bank, 5, 0.02)
        own = score_task(predict, "segmentation", replace(test, label_size="sensor"), len(CLASS_NAMES))
        np.testing.assert_array_equal(own.sums, result.rows[name].sums)
        assert own.by_class == result.rows[name].by_class


def test_files_hold_the_figures(result: PixelProbeResult) -> None:
    assert sorted(path.name for path in result.out.iterdir()) == ["report.html", "results.json", "table.md"]
    values = json.loads((result.out / "results.json").read_text())
    assert (values["config"]["bank"], values["config"]["task"]) == (150, "segmentation")
    assert values["num_test_windows"] == len(result.groups)
    for row, (name, scored) in zip(values["rows"], result.rows.items(), strict=True):
        assert (row["name"], row["figures"], row["iou_by_class"]) == (name, scored.figures, list(scored.by_class))
    table = (result.out / "table.md").read_text()
    miou = result.rows["ours, untrained"].figures["miou"]
    assert f"| ours, untrained | {miou:.4f} |" in table
    assert f"| {CLASS_NAMES[0]} | " in table
    assert f"<td>{CLASS_NAMES[1]}</td>" in (result.out / "report.html").read_text()


def test_every_recording_is_scored_once_by_folds(
    worlds: Path,
    trained: RunResult,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = [line.split(",")[0] for line in (worlds / "labels.csv").read_text().splitlines()[1:7]]
    table = tmp_path / "folds.csv"
    table.write_text("\n".join(["path,fold", *(f"{name},{n % 3}" for n, name in enumerate(names))]) + "\n")
    data = {"path": str(worlds), "labels": str(table)}
    found = probe(worlds, trained.out, tmp_path / "out", data=data)
    numbers, counts = np.unique(found.groups, return_counts=True)
    maps = [len(entry.recording.tracks["semantic"].times) for entry in open_collection(worlds, labels=table).entries]
    assert numbers.tolist() == list(range(6))
    assert (counts <= maps).all()
    assert counts.sum() >= 6 * 5
    assert found.groups.tolist() == sorted(found.groups.tolist(), key=lambda n: (n % 3, n))
    printed = capsys.readouterr().out.splitlines()
    assert max(map(len, printed)) <= 80
    assert sum(line.startswith("│ ours") for line in printed) == 4, "each row in a line"


def test_scored_recordings_that_were_trained_on_are_refused(worlds: Path, small: RunResult, tmp_path: Path) -> None:
    """One recording of the four was held out of the run, to watch its loss on."""
    with pytest.raises(ProtocolError, match="pretrained on 3 of the 4 recordings that it would be scored on"):
        probe(worlds, small.out, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_a_bank_of_one_patch_says_one_thing_of_every_pixel_of_the_sensor(
    worlds: Path, small: RunResult, tmp_path: Path
) -> None:
    """The encoder reads 16x16 pixels, of which each is scored as four."""
    found = probe(worlds, small.out, tmp_path / "out", bank=1, allow_overlap=True)
    assert found.overlap
    assert "Warning: an encoder was pretrained" in (tmp_path / "out" / "report.html").read_text()
    _, labelled, predicted = found.rows["small"].sums.sum(0).reshape(3, -1)
    assert (predicted > 0).sum() == 1
    tests = open_collection(worlds, labels=worlds / "labels.csv").select(split="test").entries
    _, counts = np.unique(found.groups, return_counts=True)
    maps = []
    for entry, count in zip(tests, counts, strict=True):
        track = entry.recording.tracks["semantic"]
        maps += [track.read(n) for n in range(len(track.times) - count, len(track.times))]
    assert labelled.sum() == sum((values != 255).sum() for values in maps) > 900 * len(maps)


def test_mistakes_are_named(worlds: Path, store: Path, table: Path, trained: RunResult, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key 'neighbors'; did you mean 'neighbours'"):
        probe(worlds, trained.out, tmp_path, neighbors=3)
    with pytest.raises(ConfigError, match="'bank': input should be greater than 0"):
        probe(worlds, trained.out, tmp_path, bank=0)
    with pytest.raises(WindowError, match=r"labels of semantic need windows at their own times: .*by=frame"):
        probe(worlds, trained.out, tmp_path, window={"by": "time"})
    with pytest.raises(WindowError, match="semantic"):
        probe(worlds, trained.out, tmp_path, data={"path": str(store), "labels": str(table)})


def test_a_part_without_maps_is_named(trained: RunResult, tmp_path: Path) -> None:
    """A map of the first microsecond has no events before it, and so no window."""
    events = Events.checked(
        np.arange(300) % 32, np.arange(300) % 32, np.arange(300) * 100, np.ones(300), Sensor(32, 32)
    )
    maps = np.zeros((3, 32, 32), np.uint8)
    late, early = ([0, 10_000, 20_000], [0])
    recordings = {
        name: ArrayRecording(events, {"semantic": ArrayTrack(times, maps[: len(times)], ("a", "b"))})
        for name, times in (("one", late), ("other", early))
    }
    path = save_recordings(tmp_path / "store.h5", recordings)
    for names in (("train", "test"), ("test", "train")):
        table = tmp_path / "table.csv"
        table.write_text("path,split\n" + "".join(f"{r},{s}\n" for r, s in zip(recordings, names, strict=True)))
        purpose = "score" if names[1] == "test" else "learn from"
        with pytest.raises(ProtocolError, match=f"none of the 1 recordings to {purpose} has a map of classes"):
            probe(path, trained.out, tmp_path / "out", data={"path": str(path), "labels": str(table)})
