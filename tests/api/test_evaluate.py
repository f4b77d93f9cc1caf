from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest

from eventfm.api import evaluating
from eventfm.api.evaluating import ProbeResult, count_features, evaluate, features_of
from eventfm.api.pretraining import RunResult, untrained
from eventfm.api.probe_inputs import untrained_twins
from eventfm.config import ConfigError
from eventfm.data.collection import Collection, CollectionError, Entry, open_collection
from eventfm.data.windows import WindowConfig, WindowError, spread
from eventfm.deployment.predict import assemble, load
from eventfm.evaluation.probes import ProbeError
from eventfm.evaluation.protocol import ProtocolError
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, save_recordings

FAST = {"probes": ["linear"], "baselines": ["ridge"], "windows": 2}


def probe(trained: RunResult, store: Path, table: Path, out: Path, **settings: Any) -> ProbeResult:
    values = {"encoders": trained.out, "data": store, "data.labels": table, "out": out, **FAST, **settings}
    return evaluate("probe", **values)


@pytest.fixture(scope="module")
def by_split(store: Path, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the labels without folds, so that the splits count."""
    path = tmp_path_factory.mktemp("tables") / "splits.csv"
    rows = [row.rpartition(",")[0] for row in table.read_text().splitlines()]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def result(trained: RunResult, store: Path, by_split: Path, tmp_path_factory: pytest.TempPathFactory) -> ProbeResult:
    return probe(trained, store, by_split, tmp_path_factory.mktemp("probe") / "out", probes=["linear", "knn"])


def test_splits_are_scored(result: ProbeResult) -> None:
    rows = {(s.name, s.probe): s for s in result.scores}
    assert list(rows) == [
        ("counts", "ridge"),
        *(("ours", name) for name in ("linear", "knn")),
        *(("ours, untrained", name) for name in ("linear", "knn")),
    ]
    assert all(len(score.correct) == 4 for score in result.scores)
    assert (result.overlap, result.num_classes) == (False, 2)
    assert result.row("counts", "ridge").accuracy == rows["counts", "ridge"].correct.mean()
    assert set(result.differences) == {
        "ours (linear) - ours, untrained (linear)",
        "ours (linear) - counts (ridge)",
        "ours (knn) - ours, untrained (knn)",
    }


def test_separable_classes_are_told_apart(result: ProbeResult) -> None:
    """Bars to the right and bars downwards leave counts at other borders of the sensor."""
    assert result.row("counts", "ridge").accuracy == 1.0


def test_the_untrained_row_is_the_network_that_the_run_started_from(
    store: Path, by_split: Path, run: Callable[..., RunResult], tmp_path: Path
) -> None:
    """A run that learns next to nothing scores as its own twin, feature by feature; another seed's does not."""
    still = {"train.lr": 1e-30, "train.weight_decay": 0.0, "train.num_steps": 1, "train.seed": 7}
    encoder = load(run(store, tmp_path / "still", **still).out)
    (twin,) = untrained_twins([encoder])
    collection = open_collection(store, labels=by_split)
    ours, theirs = (features_of(collection, member, 1, "mean") for member in (encoder, twin))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    other = assemble(untrained(encoder.card, 8), encoder.card)
    assert not np.allclose(ours, features_of(collection, other, 1, "mean"), atol=1e-2)


def test_files_hold_the_figures(result: ProbeResult) -> None:
    assert sorted(path.name for path in result.out.iterdir()) == [
        "correct.npz",
        "report.html",
        "results.json",
        "table.md",
    ]
    values = json.loads((result.out / "results.json").read_text())
    assert sorted(values) == ["config", "differences", "overlap_of_pretraining_and_test", "rows"]
    assert values["config"]["windows"] == 2
    with np.load(result.out / "correct.npz") as correct:
        for row, score in zip(values["rows"], result.scores, strict=True):
            assert (row["name"], row["probe"], row["accuracy"]) == (score.name, score.probe, score.accuracy)
            assert row["num_samples"] == 4
            assert row["interval_95"] == list(score.interval())
            np.testing.assert_array_equal(correct[f"{score.name} | {score.probe}"], score.correct)
    text = (result.out / "table.md").read_text()
    assert f"| ours | linear | {100 * result.row('ours', 'linear').accuracy:.1f} % |" in text
    assert "ours, untrained" in (result.out / "report.html").read_text()


def test_same_figures_again(
    result: ProbeResult, trained: RunResult, store: Path, by_split: Path, tmp_path: Path
) -> None:
    again = probe(trained, store, by_split, tmp_path)
    for score in again.scores:
        np.testing.assert_array_equal(score.correct, result.row(score.name, score.probe).correct)


def test_scored_recordings_that_were_trained_on_are_refused(
    trained: RunResult, store: Path, table: Path, tmp_path: Path
) -> None:
    """The run saw folds 0 and 1; the table has folds, so all three are scored."""
    with pytest.raises(
        ProtocolError, match=r"pretrained on 4 of the 4 recordings of fold 0.*data\.exclude_fold.*allow_overlap"
    ):
        probe(trained, store, table, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    allowed = probe(trained, store, table, tmp_path / "allowed", allow_overlap=True)
    assert allowed.overlap
    assert json.loads((tmp_path / "allowed" / "results.json").read_text())["overlap_of_pretraining_and_test"] is True
    assert "Warning: an encoder was pretrained" in (tmp_path / "allowed" / "report.html").read_text()


def test_overlap_is_found_under_another_name(trained: RunResult, store: Path, tmp_path: Path) -> None:
    collection = open_collection(store)
    renamed = {f"clip{n}": entry.recording for n, entry in enumerate(collection.entries)}
    path = save_recordings(tmp_path / "renamed.h5", renamed)
    table = tmp_path / "t.csv"
    rows = [f"clip{n},{n % 2},{'test' if n < 4 else 'train'}" for n in range(12)]
    table.write_text("\n".join(["path,label,split", *rows]))
    with pytest.raises(
        ProtocolError, match=r"pretrained on 4 of the 4 recordings that it would be scored on, e\.g\. 'clip0'"
    ):
        probe(trained, path, table, tmp_path / "out")


def test_sequences_of_dsec_are_opened_even_those_of_tests(trained: RunResult, tmp_path: Path) -> None:
    names = ["zurich_city_13_a", "zurich_city_14_c"]
    for name in names:
        for folder in ("events/left", "images/left/distorted"):
            (tmp_path / "dsec" / name / folder).mkdir(parents=True)
        with h5py.File(tmp_path / "dsec" / name / "events/left/events.h5", "w") as file:
            for column in "xytp":
                file[f"events/{column}"] = np.zeros(5, np.uint16)
            file["ms_to_idx"], file["t_offset"] = np.zeros(1, np.uint64), np.int64(0)
        cv2.imwrite(str(tmp_path / "dsec" / name / "images/left/distorted/0.png"), np.zeros((480, 640), np.uint8))
        (tmp_path / "dsec" / name / "images/timestamps.txt").write_text("0\n")
    table = tmp_path / "table.csv"
    table.write_text("path,label\nzurich_city_13_a,night\nzurich_city_14_c,\n")
    with pytest.raises(CollectionError, match=r"1 of 2 recordings have no label, .*'zurich_city_14_c'"):
        probe(trained, tmp_path / "dsec", table, tmp_path / "out")


def test_one_encoder_per_fold(
    store: Path, table: Path, run: Callable[..., RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for fold in range(3):
        changes = {"data.labels": table, "data.exclude_fold": fold, "train.num_steps": 1}
        run(store, tmp_path / "runs" / f"fold{fold}", **changes)
    computed = []

    def counted(collection: Any, encoder: Any, *rest: Any) -> Any:
        computed.append(encoder)
        return features_of(collection, encoder, *rest)

    monkeypatch.setattr(evaluating, "features_of", counted)
    values = {"data": {"path": store, "labels": table}, "out": tmp_path / "out", **FAST}
    found = evaluate("probe", encoders=f"{tmp_path}/runs/fold{{fold}}/encoder", **values)
    assert len(found.row("runs/fold{fold}", "linear").correct) == 12
    assert len(found.row("runs/fold{fold}, untrained", "linear").settings) == 3
    # Three trained networks, and one that all three started from.
    assert len(computed) == 4
    with pytest.raises(ProtocolError, match="pretrained on 4 of the 4 recordings of fold 0"):
        evaluate("probe", encoders=tmp_path / "runs" / "fold1", **values)


def test_an_encoder_per_fold_needs_folds(trained: RunResult, store: Path, by_split: Path, tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="the table of recordings has no folds"):
        probe(trained, store, by_split, tmp_path, encoders="runs/fold{fold}")


def test_encoders_of_one_name_are_told_apart(
    trained: RunResult, store: Path, by_split: Path, run: Callable[..., RunResult], tmp_path: Path
) -> None:
    changes = {"data.labels": by_split, "data.split": "train", "train.num_steps": 1}
    other = run(store, tmp_path / "ours", **changes)
    found = probe(trained, store, by_split, tmp_path / "out", encoders=[trained.out, other.out])
    names = [score.name for score in found.scores if score.probe == "linear"]
    assert names == [f"{path}{twin}" for path in (trained.out, other.out) for twin in ("", ", untrained")]


def test_features_of_one_recording_are_those_of_its_windows(trained: RunResult, store: Path) -> None:
    encoder, collection = load(trained.out), open_collection(store)
    joined = features_of(collection, encoder, 3, "concat")
    assert joined.shape == (12, 3 * 64)
    np.testing.assert_allclose(
        features_of(collection, encoder, 3, "mean"), joined.reshape(12, 3, 64).mean(1), rtol=1e-5, atol=1e-6
    )
    recording = collection.entries[5].recording
    for place, window in enumerate(spread(recording, encoder.window, 3)):
        (alone,) = encoder.embed(recording.events(window.start, window.stop))
        np.testing.assert_allclose(joined[5, 64 * place : 64 * (place + 1)], alone.cls, rtol=1e-4, atol=1e-5)
    by_count = features_of(collection, encoder, 3, "concat", WindowConfig(by="count", num_events=100))
    assert by_count.shape == joined.shape
    assert not np.allclose(by_count, joined)


def test_counts_are_logs_of_events_per_pixel(store: Path) -> None:
    collection = open_collection(store)
    counts = count_features(collection)
    assert counts.shape == (12, 2 * 32 * 32)
    recording = collection.entries[3].recording
    events = recording.events_by_index(0, recording.num_events)
    expected = np.zeros((2, 32, 32))
    np.add.at(expected, (1 - events.p, events.y, events.x), 1)
    np.testing.assert_allclose(np.expm1(counts[3]), expected.ravel(), atol=1e-3)


def test_counts_of_large_sensors_are_brought_down() -> None:
    rng = np.random.default_rng(0)
    events = Events.checked(
        rng.integers(0, 192, 500), rng.integers(0, 96, 500), np.arange(500), np.ones(500), Sensor(192, 96)
    )
    counts = count_features(Collection((Entry("a", ArrayRecording(events)),)))
    assert counts.shape == (1, 2 * 48 * 24)
    assert np.expm1(counts).sum() == pytest.approx(500, rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"suite": "prob"}, ConfigError, "unknown suite 'prob'; did you mean 'probe'"),
        ({"task": "flow"}, ConfigError, "expected task=recognition or task=segmentation for a probe, got 'flow'"),
        ({"encodrs": "x"}, ConfigError, "unknown key 'encodrs'; did you mean 'encoders'"),
        ({"probes": ["linaer"]}, ConfigError, r"'probes\.0'"),
        ({"windows": 0}, ConfigError, "'windows': input should be greater than 0"),
        ({"encoders": "a,,b"}, ConfigError, "expected encoders=FOLDER"),
        ({"encoders": "nowhere"}, ValueError, "no encoder in nowhere"),
    ],
)
def test_mistakes_are_named(
    trained: RunResult, store: Path, by_split: Path, tmp_path: Path,
    settings: dict[str, Any], kind: type[Exception], message: str,
) -> None:  # fmt: skip
    values = {"encoders": trained.out, "data": store, "data.labels": by_split, "out": tmp_path / "out", **FAST}
    with pytest.raises(kind, match=message):
        evaluate(**{**values, **settings})


def written(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "table.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_labels_that_do_not_do(trained: RunResult, store: Path, tmp_path: Path) -> None:
    def fails(kind: type[Exception], message: str, *rows: str) -> None:
        with pytest.raises(kind, match=message):
            probe(trained, store, written(tmp_path, *rows), tmp_path / "out")

    names = [f"r{n:02d}" for n in range(8, 12)]
    fails(CollectionError, "4 of 4 recordings have no label", "path,split", *(f"{n},train" for n in names))
    fails(ProtocolError, "got fold 0 alone", "path,label,fold", *(f"{n},{n},0" for n in names))
    one_class = [f"{name},{'a' if fold else 'b'},{fold}" for name, fold in zip(names, (0, 0, 1, 1), strict=True)]
    fails(
        ProbeError, "counts, ridge, fold 0: expected at least 2 classes .* got 1 classes", "path,label,fold", *one_class
    )
    fails(
        ProtocolError, "the splits 'train' and 'test'; got splits", "path,label,split", *(f"{n},1,train" for n in names)
    )
    with pytest.raises(ConfigError, match=r"'data\.labels' is required"):
        evaluate("probe", encoders=trained.out, data=store, out=tmp_path / "out")


def test_an_empty_recording_is_named(trained: RunResult, store: Path, tmp_path: Path) -> None:
    recordings = {entry.name.strip(":"): entry.recording for entry in open_collection(store).entries}
    recordings["r09"] = ArrayRecording(Events.empty(Sensor(32, 32)))
    path = save_recordings(tmp_path / "a.h5", recordings)
    table = written(
        tmp_path, "path,label,split", *(f"r{n:02d},{n % 2},{'test' if n > 7 else 'train'}" for n in range(12))
    )
    with pytest.raises(WindowError, match=r"recording 'r09': .*it is empty"):
        probe(trained, path, table, tmp_path / "out")
