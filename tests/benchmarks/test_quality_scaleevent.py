"""The benchmark of ScaleEvent: its labels, its probe and teacher, what rows come to, and, slow, that all of it runs."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def part(name: str) -> Any:
    return importlib.import_module(f"distilled.{name}")


def settings(**changes: Any) -> Any:
    return part("settings").Settings(**changes)


def test_labels_move_as_the_picture_does() -> None:
    from eventfm.random import generator
    from eventfm.simulation.random_paths import random_planar_motion
    from eventfm.simulation.render import fit, view

    y, x = np.mgrid[0:180, 0:240]
    labels = ((x - 100) ** 2 + (y - 70) ** 2 < 55**2).astype(np.uint8)
    plane = fit((0.1 + 0.8 * labels).astype(np.float32), (48, 64))
    for seed in range(4):
        h = random_planar_motion(generator(seed, "test"), (48, 64), 20_000, 150.0, 0.0).at(0)
        found = part("streets").moved_labels(labels, plane, h)
        looked_at = found != 11
        assert looked_at.mean() > 0.5
        # A disc of about 90 pixels round: the lens blurs its edge, and nothing else may differ.
        wrong = (view(plane, h) > 0.5) != (found == 1)
        assert wrong[looked_at].sum() <= 12
        shifted = np.roll(found, 2, axis=1)
        assert ((view(plane, h) > 0.5) != (shifted == 1))[looked_at].sum() > 40


def test_beyond_the_edge_of_a_picture_is_void() -> None:
    from eventfm.simulation.paths import translation
    from eventfm.simulation.render import fit

    plane = fit(np.full((48, 64), 0.5, np.float32), (48, 64))
    found = part("streets").moved_labels(np.zeros((48, 64), np.uint8), plane, translation(10, 0).at(1_000_000))
    assert (found[:, :9] == 11).all()
    assert (found[:, 11:] == 0).all()


def test_parts_of_the_streets_do_not_overlap_and_tests_are_left_alone_in_development(tmp_path: Path) -> None:
    for split, count in (("train", 12), ("val", 4), ("test", 5)):
        for kind in ("images", "labels"):
            (tmp_path / "images" / "camvid" / split / kind).mkdir(parents=True)
            for number in range(count):
                (tmp_path / "images" / "camvid" / split / kind / f"{split}{number:02d}.png").touch()
    found = part("streets").street(tmp_path, settings())
    assert [len(found[name]) for name in ("train", "choice", "test")] == [12, 4, 5]
    developed = part("streets").street(tmp_path, settings(develop=True))
    assert [len(developed[name]) for name in ("train", "choice", "test")] == [9, 3, 4]
    assert {picture.parts[-3] for pairs in developed.values() for picture, _ in pairs} == {"train", "val"}
    assert not {picture for picture, _ in developed["train"]} & {picture for picture, _ in developed["choice"]}
    assert all(picture.stem == labels.stem for pairs in found.values() for picture, labels in pairs)


def test_shares_count_the_pixels_of_each_class_and_leave_void_out() -> None:
    labels = torch.full((1, 4, 8), 11, dtype=torch.uint8)
    labels[0, :2, :4] = 3
    labels[0, :, 4:] = 5
    found = part("teacher").shares(labels, 4)
    assert found.shape == (1, 2, 11)
    assert found[0, 0].tolist() == [0, 0, 0, 0.5, 0, 0, 0, 0, 0, 0, 0]
    assert found[0, 1, 5] == 1
    scores = torch.zeros(1, 2, 11)
    assert part("teacher").soft_cross_entropy(scores, found).item() == pytest.approx(np.log(11))
    scores[0, 1, 5] = 100  # a share of 1 of 1.5 is right now
    assert part("teacher").soft_cross_entropy(scores, found).item() == pytest.approx(np.log(11) / 3)


def test_orientations_are_those_of_the_gradients() -> None:
    ramp = torch.linspace(0, 1, 16).expand(16, 16)
    across, down = (part("teacher").orientations(p[None, None], 8).view(2, 2, 8, 2, 2) for p in (ramp, ramp.T))
    # Channels are orientation first, then the cell; 0 is a gradient across, 4 of 8 one straight down.
    for found, place in ((across, 0), (down, 4)):
        assert (found[:, :, place] > 0.3).all()
        others = [i for i in range(8) if i != place]
        assert found[:, :, others].abs().max() < 1e-6
    flat = part("teacher").orientations(torch.full((1, 1, 16, 16), 0.5), 8)
    assert flat.abs().max() == 0


def test_whole_patches_are_hidden_about_as_many_as_asked_for() -> None:
    draws = torch.Generator().manual_seed(0)
    pictures = torch.rand(8, 1, 64, 64, generator=draws)
    found = part("teacher").hidden(pictures, 8, 0.4, draws)
    changed = (found != pictures).float()
    each = torch.nn.functional.avg_pool2d(changed, 8)
    assert set(each.round(decimals=1).unique().tolist()) == {0.0, 1.0}
    assert 0.3 < each.mean() < 0.5


def test_a_view_of_labels_is_that_of_the_picture() -> None:
    y, x = np.mgrid[0:72, 0:96]
    labels = torch.from_numpy(((x > 40) & (y > 20)).astype(np.uint8) * 2).expand(6, -1, -1)
    pictures = labels.float() / 2
    seen, truth = part("teacher").view(pictures, (48, 64), torch.Generator().manual_seed(1), labels)
    assert seen.shape == (6, 1, 48, 64)
    assert truth.dtype == torch.uint8
    for picture, label in zip(seen[:, 0], truth, strict=True):
        assert set(label.unique().tolist()) == {0, 2}
        middle = (picture.min() + picture.max()) / 2
        assert ((picture > middle) != (label == 2)).float().mean() < 0.03
    assert not torch.equal(truth[0], truth[1])


def test_scores_of_confusions_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

    rng = np.random.default_rng(0)
    true = rng.integers(0, 7, 500)  # four of the eleven classes are not there
    said = np.where(rng.random(500) < 0.6, true, rng.integers(0, 11, 500))
    counts = confusion_matrix(true, said, labels=range(11))
    segmentation = part("segmentation")
    expected = jaccard_score(true, said, labels=range(7), average="macro")
    assert segmentation.miou(counts) == pytest.approx(expected)
    assert segmentation.accuracy(counts) == pytest.approx(accuracy_score(true, said))
    np.testing.assert_allclose(segmentation.miou(np.stack([counts, np.diag(np.arange(11))])), [expected, 1])


def labelled(seed: int, count: int, noise: float) -> Any:
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, (count, 6, 6)).repeat(2, 1).repeat(2, 2)  # blocks of 2 x 2 patches
    labels = torch.from_numpy(classes.repeat(8, 1).repeat(8, 2).astype(np.uint8))
    known = np.pad(np.eye(3)[classes].reshape(count, -1, 3), ((0, 0), (0, 0), (0, 5)))
    tokens = torch.from_numpy(known + noise * rng.normal(size=known.shape)).float()
    return part("segmentation").Labelled(tokens, labels, torch.arange(count) // 2)


def test_the_probe_finds_what_tokens_say_and_no_more() -> None:
    parts = {name: labelled(seed, 8, 0.1) for seed, name in enumerate(("train", "choice", "test"))}
    found = part("segmentation").probe(parts, 8, (1e-1, 1e-4))
    counts = np.array(found["confusions"])
    assert counts.shape == (4, 11, 11)  # two views of each picture
    assert counts.sum() == 8 * 96 * 96
    assert found["accuracy"] > 0.85  # pixels between patches are interpolated
    assert found["penalty"] == 1e-4
    blind = {name: part_._replace(tokens=torch.randn_like(part_.tokens)) for name, part_ in parts.items()}
    assert part("segmentation").probe(blind, 8, (1e-1,))["accuracy"] < 0.42
    void = {**parts, "test": parts["test"]._replace(labels=torch.full_like(parts["test"].labels, 11))}
    assert np.sum(part("segmentation").probe(void, 8, (1e-1,))["confusions"]) == 0


def test_a_saved_teacher_says_what_it_said(tmp_path: Path) -> None:
    from eventfm.models.dino_sizes import dinov3_nano
    from eventfm.models.teachers import load_teacher

    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = dinov3_nano(3, (32, 48), patch_size=8).eval()
    part("teacher").save(tmp_path / "teacher", backbone, [{"step": 0.0}])
    grey = torch.rand(2, 1, 32, 48, generator=torch.Generator().manual_seed(0))
    taught = load_teacher(str(tmp_path / "teacher"), input_size=(32, 48))(grey.expand(-1, 3, -1, -1))
    with torch.no_grad():
        wanted = backbone(part("teacher").normalised(grey)).tokens
    torch.testing.assert_close(taught, wanted, rtol=1e-4, atol=1e-5)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["teacher", "teacher.json"]


def test_digits_are_probed_by_the_mean_token() -> None:
    from eventfm.models.dino_sizes import dinov3_nano

    backbone = dinov3_nano(3, 32, patch_size=8).eval()
    found = part("scoring").Pooled(backbone)(torch.zeros(1, 3, 32, 32))
    assert found.cls is None
    assert found.tokens.shape == (1, 16, 64)


def test_rows_are_the_method_part_by_part() -> None:
    students = part("students").STUDENTS
    assert [students[name].terms for name in ("token", "mask", "intra", "cross")] == [
        ("token",), ("token",), ("token", "intra"), ("token", "intra", "cross"),
    ]  # fmt: skip
    assert [name for name, student in students.items() if not student.masked] == ["token"]
    assert {name: student.form for name, student in students.items() if student.form != "robust"} == {
        "released": "released", "paper": "paper",
    }  # fmt: skip
    assert [name for name, student in students.items() if student.mended] == ["mended"]
    assert part("students").CONTROLS == ("untrained", "teacher_on_events")
    assert not students["untrained"].from_teacher
    changed = part("students").mend(settings())
    assert (changed.lr, changed.weights, changed.steps, changed.batch_size) == (3e-3, (1.0, 30.0, 4.0), 2_000, 16)
    chosen = settings(seeds=(4, 5))
    assert part("students").seeds_of("teacher_on_events", chosen) == (4,)
    assert len(part("jobs").jobs(chosen)) == 2 * 7 + 2 + 1 + 1


def confused(right: list[int], wrong: list[int]) -> list[list[list[int]]]:
    """Return confusions of pictures with two classes, as many pixels of each right and wrong as said."""
    out = np.zeros((len(right), 11, 11), int)
    for picture, (good, bad) in enumerate(zip(right, wrong, strict=True)):
        for a, b in ((0, 1), (1, 0)):
            out[picture, a, a], out[picture, a, b] = good, bad
    return out.tolist()


def write(folder: Path, name: str, column: str, seed: int, **values: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}-{column}-{seed}.json").write_text(json.dumps(values))


def write_table(folder: Path) -> None:
    rng = np.random.default_rng(0)
    hard = rng.integers(-10, 10, 30)
    for name, level, digits in (("untrained", 40, 40), ("teacher_on_events", 50, 50), ("cross", 80, 90)):
        for seed in (0, 1) if name != "teacher_on_events" else (0,):
            right = level + hard + seed
            write(folder, name, "streets", seed, confusions=confused(right.tolist(), (100 - right).tolist()))
            write(folder, name, "digits", seed, correct="1" * digits + "0" * (100 - digits))
            figures = {"density": 1.0, "effective_rank": 5.0 + seed, "teacher_effective_rank": 9.0}
            write(folder, name, "collapse", seed, groups=[[figures], [{**figures, "effective_rank": 7.0 + seed}]])


def test_intervals_of_differences_are_paired_by_picture(tmp_path: Path) -> None:
    write_table(tmp_path)
    rows = part("results").gather(tmp_path, settings(seeds=(0, 1)))
    assert set(rows) == {"untrained", "teacher_on_events", "cross"}
    row = rows["cross"]
    np.testing.assert_allclose(np.diff(row.each_seed("accuracy")), 0.01)
    assert row.each_seed("digits").tolist() == [0.9, 0.9]
    low, high = row.interval("accuracy")
    # Means of 30 pictures whose shares deviate by 0.058.
    assert high - low == pytest.approx(2 * 1.96 * 0.058 / np.sqrt(30), rel=0.35)
    middle, low, high = part("results").difference(row, rows["untrained"], "accuracy")
    assert middle == pytest.approx(0.4)
    assert high - low < 1e-9  # what makes pictures hard, does for both
    found = part("results").differences(rows)
    assert part("results").above(rows, found) == {"cross": "apart"}


def test_a_row_on_one_probe_only_is_not_above(tmp_path: Path) -> None:
    write_table(tmp_path)
    for seed in (0, 1):
        write(tmp_path, "cross", "digits", seed, correct="1" * 51 + "0" * 49)
    rows = part("results").gather(tmp_path, settings(seeds=(0, 1)))
    assert part("results").above(rows, part("results").differences(rows)) == {"cross": "not above"}
    (tmp_path / "cross-digits-1.json").unlink()
    rows = part("results").gather(tmp_path, settings(seeds=(0, 1)))
    assert rows["cross"].digits is None
    assert part("results").above(rows, part("results").differences(rows)) == {}


def test_figures_of_collapse_are_means_over_seeds_with_intervals_over_groups(tmp_path: Path) -> None:
    write_table(tmp_path)
    figures = part("results").gather(tmp_path, settings(seeds=(0, 1)))["cross"].collapse
    assert figures["x1"]["effective_rank"] == (6.5, 5.5, 7.5)
    assert figures["x1"]["teacher_effective_rank"] == (9.0, 9.0, 9.0)
    assert "cka" not in figures["x1"]


def test_the_page_says_who_is_above_whom(tmp_path: Path) -> None:
    write_table(tmp_path / "rows")
    (tmp_path / "notes.md").write_text("What was tried.")
    part("report").write_report(tmp_path, settings(seeds=(0, 1)))
    page = (tmp_path / "README.md").read_text()
    assert "| + cross: all of the method, `robust` form | 6" in page
    assert "90.0 ± 0.0 [" in page
    assert "* Above both controls on both probes, intervals apart: + cross" in page
    assert "| + cross: all of the method, `robust` form - untrained | **+4" in page
    assert "| x1 | 6.5 [5.5, 7.5] | - | - | - |" in page
    assert "What was tried." in page
    values = json.loads((tmp_path / "results.json").read_text())
    assert values["above_controls"] == {"cross": "apart"}
    assert all((tmp_path / f"{name}.png").stat().st_size > 1000 for name in ("scores", "collapse", "losses"))


def test_other_settings_are_another_folder_and_seeds_are_not() -> None:
    of = part("settings").Settings.of
    plain = of(False, [])
    assert of(False, ["seeds=[0]"]).digest == plain.digest
    others = {of(False, [change]).digest for change in ("develop=true", "steps=5", "size=[96,96]")}
    assert len(others | {plain.digest}) == 4
    with pytest.raises(SystemExit, match="unknown setting 'step'"):
        of(False, ["step=4"])


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    claim = importlib.import_module("quality.folder").claim
    claim(tmp_path / "out", "a", {"steps": 1})
    claim(tmp_path / "out", "a", {"steps": 1})
    with pytest.raises(SystemExit, match="other settings"):
        claim(tmp_path / "out", "b", {"steps": 2})
    assert json.loads((tmp_path / "out" / "settings.json").read_text()) == {"digest": "a", "steps": 1}


@pytest.mark.slow
@pytest.mark.skipif("EVENTFM_TEST_DATA" not in os.environ, reason="EVENTFM_TEST_DATA is unset")
def test_all_of_it_runs_and_a_second_time_nothing_is_left_to_do(tmp_path: Path) -> None:
    command = [
        sys.executable, str(BENCHMARKS / "quality_scaleevent.py"), "--quick",
        "--data", os.environ["EVENTFM_TEST_DATA"], "--out", str(tmp_path),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    rows = {path: path.read_bytes() for path in (tmp_path / "rows").iterdir()}
    assert len(rows) == 9 * 3 + 1
    (tmp_path / "rows" / "cross-streets-0.json").unlink()
    subprocess.run(command, check=True, capture_output=True)
    assert {path: path.read_bytes() for path in (tmp_path / "rows").iterdir()} == rows
