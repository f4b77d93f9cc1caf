"""The benchmark of the tasks on real data: moved pictures, their truth, scores, what rows come to; slow, all of it."""

from __future__ import annotations

import csv
import importlib
import json
import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from eventfm.api.transfer_cells import Cell, CellResult, Labels, Row
from eventfm.api.transferring import TransferResult
from eventfm.deployment.model import ModelCard, save_model
from eventfm.evaluation.scoring import Scored
from eventfm.events import Events, Sensor
from eventfm.models.configs import BackboneConfig
from eventfm.models.encoder import EncoderCard
from eventfm.representations import VoxelGrid, describe
from eventfm.tasks import build_task
from eventfm.tasks.metrics import build_metrics

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def part(name: str) -> Any:
    return importlib.import_module(f"tasks_real.{name}")


def settings(**changes: Any) -> Any:
    return part("settings").Settings(**{"step_px": 1.0, "lens_px": 0.0, "block": 16, **changes})


def texture(x: Any, y: Any, seed: int = 0) -> Any:
    """Return a random picture in [0.2, 0.8] at any places, so smooth that cubic interpolation errs by under 0.005."""
    rng = np.random.default_rng(seed)
    waves = [np.sin(rng.uniform(-0.5, 0.5) * x + rng.uniform(-0.5, 0.5) * y + rng.uniform(0, 6)) for _ in range(6)]
    return 0.5 + 0.3 * np.mean(waves, axis=0)


def grid(height: int, width: int) -> tuple[Any, Any]:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return x, y


def square(height: int = 24, width: int = 32) -> Any:
    """Return where a square is, 8 pixels a side."""
    x, y = grid(height, width)
    return (x >= 8) & (x < 16) & (y >= 8) & (y < 16)


def over_background(front: float = 1.0) -> Any:
    """Return a square that moves 5 pixels right over a background at rest, in front of it or behind."""
    here = square()
    motion = np.stack([np.where(here, 5, 0), np.zeros(here.shape)]).astype(np.float32)
    light = np.where(here, 0.9, texture(*grid(*here.shape))).astype(np.float32)
    return part("warping").Moving(light, motion, np.where(here, front, 0.0).astype(np.float32))


def test_a_picture_that_moves_as_a_whole_is_the_shifted_picture() -> None:
    x, y = grid(24, 32)
    light = texture(x, y).astype(np.float32)
    motion = np.broadcast_to(np.array([3.25, -1.5], np.float32)[:, None, None], (2, 24, 32))
    moving = part("warping").Moving(light, motion, np.zeros((24, 32), np.float32))
    np.testing.assert_array_equal(moving.frame(0.0), np.rint(65535 * light))
    inside = np.s_[4:-4, 6:-6]
    for s in (0.5, 1.0, -1.0):
        expected = texture(x - 3.25 * s, y + 1.5 * s)
        np.testing.assert_allclose(moving.frame(s)[inside] / 65535, expected[inside], atol=0.008)
        assert moving.view(s).shown[inside].all()
    shown = moving.view(1.0).shown
    assert not shown[:, :3].any()
    assert not shown[-1].any()
    expected = (x + 3.25 <= 31) & (y - 1.5 >= 0)
    np.testing.assert_array_equal(moving.visible(1.0), expected)
    assert moving.steps(2.0, 0.5) == np.ceil(2 * np.hypot(3.25, 1.5) / 0.5)


@pytest.mark.parametrize("in_front", [True, False])
def test_what_is_in_front_is_seen_and_hides_the_rest(in_front: bool) -> None:
    moving = over_background(1.0 if in_front else -1.0)
    here, there = square(), np.roll(square(), 5, axis=1)
    frame = moving.frame(1.0) / 65535
    covered, uncovered = there & ~here, here & ~there
    visible = moving.visible(1.0)
    view = moving.view(1.0)
    assert not view.shown[uncovered].any()
    assert view.shown[~uncovered].all()
    if in_front:
        # The cubic kernel reaches over edges by two pixels.
        np.testing.assert_allclose(frame[10:14, 15:19], 0.9, atol=0.01)
        np.testing.assert_array_equal(visible, ~covered)
    else:
        np.testing.assert_allclose(frame[covered], moving.light[covered], atol=1e-4)
        # Five columns of it are behind the background now; those over its own gap are seen.
        np.testing.assert_array_equal(visible, ~(square() & np.roll(covered, -5, axis=1)))


def test_gaps_show_what_the_other_picture_has_there() -> None:
    moving = over_background()
    behind = texture(*grid(24, 32)).astype(np.float32)
    other = part("warping").Moving(
        np.where(np.roll(square(), 5, axis=1), 0.9, behind).astype(np.float32), -np.roll(moving.motion, 5, axis=2),
        np.roll(moving.front, 5, axis=1),
    )  # fmt: skip
    gap = square() & ~np.roll(square(), 5, axis=1)
    alone, both = (replace(moving, other=beside).frame(1.0) / 65535 for beside in (None, other))
    np.testing.assert_allclose(both[gap], behind[gap], atol=1e-4)
    np.testing.assert_array_equal(both[~gap], alone[~gap])
    assert np.abs(alone[gap] - behind[gap]).mean() > 0.05


def test_gaps_are_filled_across_where_narrow_and_from_behind() -> None:
    from_behind = part("warping").from_behind
    front = np.tile(np.array([5.0, 0, 0, 0, 1.0, 2.0]), (4, 1))
    known = np.tile(np.array([True, False, False, False, True, True]), (4, 1))
    found = from_behind(known, front)
    assert found[2].tolist() == [12, 16, 16, 16, 16, 17]
    # A gap one row high is crossed downwards, though along it is the one furthest behind.
    known, front = np.ones((5, 9), bool), np.full((5, 9), 3.0)
    known[2, 1:8], front[3], front[2, 0] = False, 2.0, -9.0
    assert from_behind(known, front)[2].tolist() == [18, *range(28, 35), 26]
    corner = np.zeros((4, 4), bool)
    corner[2:, 2:] = True
    assert from_behind(corner, np.zeros((4, 4)))[0, 0] in (10, 11, 14, 15)
    with pytest.raises(ValueError, match="known pixel"):
        from_behind(np.zeros((2, 2), bool), np.zeros((2, 2)))


def write_flow(file: Path, flow: Any) -> None:
    values = np.moveaxis(np.nan_to_num(flow, nan=1e10), 0, 2).astype("<f4")
    file.write_bytes(b"PIEH" + struct.pack("<ii", values.shape[1], values.shape[0]) + values.tobytes())


def write_picture(file: Path, light: Any) -> None:
    """Write light as what a screen shows."""
    coded = importlib.import_module("eventfm.simulation.light").coded
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), np.rint(255 * coded(light)).astype(np.uint8))


def test_flow_files_are_read_and_others_refused(tmp_path: Path) -> None:
    flow = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    flow[:, 1, 2] = np.nan
    write_flow(tmp_path / "a.flo", flow)
    read_flow = part("middlebury").read_flow
    np.testing.assert_array_equal(read_flow(tmp_path / "a.flo"), flow)
    whole = (tmp_path / "a.flo").read_bytes()
    for content, said in ((b"PIEX" + whole[4:], "PIEH"), (whole[:-4], "30 numbers")):
        (tmp_path / "b.flo").write_bytes(content)
        with pytest.raises(ValueError, match=said):
            read_flow(tmp_path / "b.flo")


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """Return a folder as Middlebury's, with a picture that goes 3 pixels right but for a square, which stays."""
    x, y = grid(40, 64)
    here = (x >= 30) & (x < 42) & (y >= 10) & (y < 22)
    for number in (0, 1):
        light = np.where(here, texture(x, y, 1), texture(x - 3 * number, y))
        write_picture(tmp_path / "Pair" / f"frame1{number}.png", light)
    flow = np.stack([np.where(here, 0.0, 3.0), np.zeros((40, 64))])
    flow[:, :2, :2] = np.nan
    write_flow(tmp_path / "Pair" / "flow10.flo", flow)
    return tmp_path / "Pair"


def test_a_pair_becomes_a_recording_with_flow_of_what_stays_visible(pair: Path) -> None:
    scene = part("middlebury").flow_scene(pair, settings())
    recording = scene.recording
    (window,) = part("dense")._windows("flow", recording, settings())
    assert (window.start, window.stop) == (50_001, 100_001)
    truth = recording.tracks["flow"].read(0)
    x, y = grid(40, 64)
    here = (x >= 30) & (x < 42) & (y >= 10) & (y < 22)
    hidden = (x >= 27) & (x < 30) & (y >= 10) & (y < 22)
    unknown = (x < 2) & (y < 2)
    gone = x + 3 > 63
    np.testing.assert_array_equal(np.isnan(truth[0]), hidden | gone | unknown)
    np.testing.assert_array_equal(
        truth[0][~(hidden | gone | unknown)], np.where(here, 0, 3)[~(hidden | gone | unknown)]
    )
    assert scene.check["known"] == pytest.approx(1 - (hidden | gone | unknown).mean())
    assert scene.check["frame11"]["moved"] < 0.25 * scene.check["frame11"]["at_rest"]
    # Both windows have motion, and inside of what stays nothing happens.
    inside = (recording.events(0, 100_001).x - 36) ** 2 + (recording.events(0, 100_001).y.astype(int) - 16) ** 2 < 9
    assert not inside.any()
    assert min(len(recording.events(1, 50_001)), len(recording.events(50_001, 100_001))) > 100


def test_the_second_picture_says_what_is_in_front(pair: Path) -> None:
    x, y = grid(40, 64)
    before = texture(x, y).astype(np.float32)
    here = (x >= 30) & (x < 42) & (y >= 10) & (y < 22)
    flow = np.stack([np.where(here, 6.0, 0.0), np.zeros((40, 64))]).astype(np.float32)
    there = np.roll(here, 6, axis=1)
    for seen in (True, False):
        after = np.where(there & (seen | here), np.roll(before, 6, axis=1), before).astype(np.float32)
        visible = part("middlebury").flow_surface(before, after, flow).visible(1.0)
        moved_over = np.roll(here & ~np.roll(here, -6, axis=1), 0, axis=1)  # its last six columns
        assert visible[moved_over].mean() > 0.8 if seen else visible[moved_over].mean() < 0.2


@pytest.fixture
def cones(tmp_path: Path) -> Path:
    """Return a folder as Middlebury's Cones: a near square before a wall, from five places in a row."""
    for view in range(2, 7):
        light, disparity = cone(view)
        write_picture(tmp_path / f"im{view}.png", light)
        if view in (2, 6):
            disparity[:2] = 0
            cv2.imwrite(str(tmp_path / f"disp{view}.png"), np.rint(4 * disparity).astype(np.uint8))
    return tmp_path


def cone(view: int) -> tuple[Any, Any]:
    """Return light and disparity (H, W) of a view; from 2 to 6 the wall goes 4 pixels left, the square 12."""
    x, y = grid(40, 72)
    wall, near = x + (view - 2), x + 3 * (view - 2)
    here = (near >= 32) & (near < 48) & (y >= 12) & (y < 28)
    return np.where(here, texture(near, y, 1), texture(wall, y)), np.where(here, 12.0, 4.0)


@pytest.mark.parametrize("view", [2, 6])
def test_the_way_between_two_views_has_the_depth_of_what_is_seen(cones: Path, view: int) -> None:
    scene = part("middlebury").depth_scene(cones, view, settings())
    for name, check in scene.check.items():
        if name != "known":
            assert check["moved"] < 0.35 * check["at_rest"], name
    assert scene.check["known"] > 0.9
    track = scene.recording.tracks["depth"]
    assert track.times.tolist() == [50_000, 100_000, 150_000, 200_000]
    windows = part("dense")._windows("depth", scene.recording, settings())
    assert [(w.start, w.stop, w.entry) for w in windows] == [(1 + 50_000 * n, 50_001 + 50_000 * n, n) for n in range(4)]
    on_the_way = {2: (5, 4, 3, 2), 6: (3, 4, 5, 6)}[view]
    for entry, other in enumerate(on_the_way):
        depth, expected = track.read(entry), 100 / cone(other)[1]
        known = np.isfinite(depth)
        assert not known[:2].any()
        assert np.mean(np.isclose(depth[known], expected[known])) > (0.97 if entry < 3 else 0.999)
        assert len(scene.recording.events(50_000 * entry, 50_000 * (entry + 1))) > 100


def seen(truth: Any, seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    height, width = truth.shape[-2:]
    x, y, t = rng.integers(0, width, 200), rng.integers(0, height, 200), np.arange(200)
    return Events.checked(x, y, t, t % 2, Sensor(width, height))


@pytest.mark.parametrize("task", ["flow", "depth"])
def test_blocks_add_up_to_the_figures_of_the_whole(task: str) -> None:
    rng = np.random.default_rng(1)
    shape = (2, 21, 37) if task == "flow" else (21, 37)
    truth, answer = (rng.uniform(1, 9, shape).astype(np.float32) for _ in range(2))
    truth[..., 3:5, :20] = np.nan
    events = seen(truth)
    mask = np.zeros((21, 37), np.float32)
    mask[events.y, events.x] = 1
    scoring = part("scoring")
    for align in scoring.ALIGNED[task]:
        sums = scoring.sums_of(task, answer, truth, events, align, 16)
        assert sums.shape[0] == 6
        options = {"align": align, "max_depth": 2 * float(np.nanmax(truth))} if task == "depth" else {}
        metrics = build_metrics(task, **options)
        maps = [torch.from_numpy(values).view(1, -1, 21, 37) for values in (answer, truth)]
        expected = metrics.per_sample({task: maps[0]}, {task: maps[1], "seen": torch.from_numpy(mask)[None]})
        found = build_metrics(task).from_sums(sums.sum(axis=0))
        for name, value in metrics.from_sums(expected[0]).items():
            assert found[name] == pytest.approx(value, rel=1e-5), (align, name)
        own = scoring.figures(task, sums)
        assert own[next(iter(own))].value == pytest.approx(found[next(iter(own))])


def test_one_depth_everywhere_becomes_the_median() -> None:
    truth = np.array([[1.0, 2.0, 7.0, np.nan]], np.float32)
    scoring = part("scoring")
    np.testing.assert_allclose(scoring.aligned(np.full((1, 4), 3.0, np.float32), truth, "median"), 2)
    flat = scoring.aligned(np.full((1, 4), 3.0, np.float32), truth, "scale_shift")
    np.testing.assert_allclose(flat, 1 / np.mean([1, 1 / 2, 1 / 7]), rtol=1e-6)


def small_model(folder: Path, task: str) -> Path:
    """Write an untrained model of 32x32 pixels as a run leaves one."""
    backbone = BackboneConfig(name="vit_nano", arguments={"patch_size": 8})
    given = {"name": task, "backbone": backbone.model_dump(mode="json"), "head": {"name": "linear"}}
    representation = VoxelGrid(3, "window")
    encoder = EncoderCard(
        backbone=backbone, in_channels=3, input_size=(32, 32), representation=describe(representation),
        window={"by": "time"}, method="scratch",
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_model(folder / "model", build_task(given, 3, (32, 32)), ModelCard(task=given, encoder=encoder))
    return folder


def test_models_of_flow_are_scored_beside_no_motion_once(pair: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    (data / "images").mkdir(parents=True)
    (data / "images" / "middlebury_flow").symlink_to(pair.parent)
    for file in ("data", "out", "runs"):
        (tmp_path / file).mkdir(exist_ok=True)
    sizes = settings(num_pairs=1)
    (pair.parent / "Pair").rename(pair.parent / "A_pair")
    model = small_model(tmp_path / "runs" / "flow_run", "flow")
    parts = part("dense_parts")
    found = parts.flow_part(data, out, [model], sizes)
    rows = found.values["rows"]
    titles = ["no motion", "flow_run, as `predict` scales it", "flow_run, scale 1"]
    assert list(rows) == titles
    truth = part("middlebury").flow_scene(pair.parent / "A_pair", sizes).recording.tracks["flow"].read(0)
    still = rows["no motion"]["none"]["figures"]["epe"]
    assert still[0] == pytest.approx(np.nanmean(np.hypot(*truth)), rel=1e-6)
    assert still[1] < still[0] < still[2]
    difference = rows[titles[1]]["none"]["differences"]["epe"]
    assert difference[0] == pytest.approx(rows[titles[1]]["none"]["figures"]["epe"][0] - still[0])
    assert all((out / picture).stat().st_size > 1000 for picture in found.pictures)
    assert len(found.pictures) == 2
    before = {file: file.stat().st_mtime_ns for file in sorted(out.rglob("*.*"))}
    assert parts.flow_part(data, out, [model], sizes) == found
    assert {file: file.stat().st_mtime_ns for file in sorted(out.rglob("*.*"))} == before
    with pytest.raises(ValueError, match="names of their own"):
        parts.flow_part(data, out, [model, model], sizes)
    with pytest.raises(ValueError, match="model of depth"):
        part("dense").scored_rows("depth", out, {}, [model], sizes)


def suite(cells: list[tuple[str, str, int, list[int]]], trivial: list[int], control: str = "control") -> TransferResult:
    """Return a suite of recognition whose test windows were right (1) or not."""

    def sums(right: list[int]) -> Any:
        return np.array([[1.0, value, 1.0] for value in right])

    done = tuple(
        CellResult(
            Cell(
                Row("folder", name, "scratch" if name == control else "pretrained", "" if name == control else control),
                "linear", Labels(1.0) if labels == "all" else Labels(None, int(labels)), seed,
            ),
            {"top1": float(np.mean(right))}, sums(right), 1,
        )
        for name, labels, seed, right in cells
    )  # fmt: skip
    groups = np.arange(len(trivial))
    return TransferResult(Path("out"), "recognition", done, Scored({}, sums(trivial)), groups, {}, ("a", "b"))


def test_folds_are_pooled_and_rows_paired_with_their_control(tmp_path: Path) -> None:
    folds = [
        suite([("a", "50", 0, [1, 1, 0]), ("a", "all", 0, [1, 1, 1]), ("control", "50", 0, [1, 0, 0]),
               ("control", "all", 0, [0, 0, 0])], [0, 0, 1]),
        suite([("a", "50", 0, [1] * 5), ("a", "all", 0, [1] * 5), ("control", "50", 0, [0] * 5),
               ("control", "all", 0, [1] * 5)], [0] * 5),
    ]  # fmt: skip
    transfers = part("transfers")
    lines = transfers.lines_of(folds)
    assert [line[:3] for line in lines] == [
        ("a", "linear", "50 shots"), ("control", "linear", "50 shots"), ("a", "linear", "all"),
        ("control", "linear", "all"), ("does not look", "", ""),
    ]  # fmt: skip
    found = transfers.scores(lines, "recognition", 2)
    few, every = found["a | linear | 50 shots"], found["a | linear | all"]
    assert few["mean"] == pytest.approx(7 / 8)
    assert few["difference"][0] == pytest.approx(6 / 8)
    assert every["difference"][0] == pytest.approx(3 / 8)
    assert every["interval_95"] == [1, 1]
    assert found["does not look"]["mean"] == pytest.approx(1 / 8)
    assert "difference" not in found["control | linear | all"]
    page = transfers.part_of("Title", "Text.", folds, "right", tmp_path / "plot.png")
    assert page.tables[0][1][0][3].startswith("87.5 [")
    assert (tmp_path / "plot.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="a run of a, linear, all"):
        transfers.lines_of([folds[0], replace(folds[1], cells=folds[1].cells[:1] + folds[1].cells[2:])])
    assert transfers.require_whole(folds[0], 1, 2) is folds[0]
    for stopped in (folds[0].cells[:3], ()):
        with pytest.raises(SystemExit, match="goes on"):
            transfers.require_whole(replace(folds[0], cells=stopped), 1, 2)


def test_windows_of_a_recording_are_drawn_together() -> None:
    found = part("transfers").by_recording(np.array([[1.0, 2], [3, 4], [5, 6]]), np.array([7, 2, 7]))
    np.testing.assert_array_equal(found, [[3, 4], [6, 8]])


def test_first_rows_of_a_table_have_as_many_of_each_class(tmp_path: Path) -> None:
    rows = [(f"{n}.bs2", label) for n, label in enumerate("aaabbaccb")]
    (tmp_path / "all.csv").write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label in rows))
    part("recognition").write_table(tmp_path / "all.csv", tmp_path / "few.csv", 6)
    with (tmp_path / "few.csv").open(newline="") as file:
        chosen = [row["path"] for row in csv.DictReader(file)]
    assert chosen == ["0.bs2", "1.bs2", "3.bs2", "4.bs2", "6.bs2", "7.bs2"]
    part("recognition").write_table(tmp_path / "all.csv", tmp_path / "every.csv", 100)
    assert (tmp_path / "every.csv").read_text().splitlines() == (tmp_path / "all.csv").read_text().splitlines()


def test_streets_keep_their_split_and_void_has_no_class(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for number in range(3):
            place = tmp_path / "images" / "camvid" / split
            write_picture(place / "images" / f"{split}{number}.png", np.full((6, 8), 0.5))
            (place / "labels").mkdir(exist_ok=True)
            mask = np.full((6, 8), 11, np.uint8)
            mask[0, 0], mask[1, 1] = number, 10
            cv2.imwrite(str(place / "labels" / f"{split}{number}.png"), mask)
    out = tmp_path / "streets"
    part("segmentation").lay_out(tmp_path, out, settings(num_streets=2, num_tests=1))
    pictures = sorted(str(file.relative_to(out / "pictures")) for file in out.glob("pictures/*/*"))
    assert pictures == ["test/test0.png", "train/train0.png", "train/train1.png", "val/val0.png"]
    mask = cv2.imread(str(out / "masks" / "train" / "train1.png"), cv2.IMREAD_UNCHANGED)
    assert (mask[0, 0], mask[1, 1], np.sum(mask == 255), mask.dtype) == (1, 10, 46, np.uint8)
    assert len((out / "masks" / "classes.txt").read_text().split()) == 11


def test_the_page_has_what_was_done_before_and_says_what_was_left_out(tmp_path: Path) -> None:
    report = part("report")
    done = report.Part("Title", ["Said."], [(["a", "b"], [["1", "2"]])], ["pictures/a.png"], {"x": 1})
    report.write_report(tmp_path, {"depth": done}, settings())
    report.write_report(tmp_path, {"flow": done._replace(title="Other")}, settings())
    page = (tmp_path / "README.md").read_text()
    for said in ("## Title", "## Other", "| 1 | 2 |", "![a](pictures/a.png)", "Small-scale"):
        assert said in page
    left = "recognition, which needs --encoders; segmentation, which needs --encoders"
    assert f"Left out: {left}.\n" in page
    values = json.loads((tmp_path / "results.json").read_text())
    assert values["parts"] == {"flow": {"x": 1}, "depth": {"x": 1}}
    assert values["scale"] == "small"


def test_seeds_and_workers_may_differ_in_a_folder_and_nothing_else() -> None:
    plain = settings()
    for change in ({"seeds": (0,)}, {"digit_seeds": (0, 1)}, {"num_workers": 1}):
        assert settings(**change).digest == plain.digest
    assert settings(digit_steps=7).digest != plain.digest
    assert part("settings").Settings.of(True, ["scales=[null,0.5]"]).scales == (None, 0.5)


@pytest.mark.slow
@pytest.mark.skipif("EVENTFM_TEST_DATA" not in os.environ, reason="EVENTFM_TEST_DATA is unset")
def test_all_of_it_runs_and_a_second_time_nothing_is_left_to_do(tmp_path: Path) -> None:
    from eventfm.api.pretraining import pretrain
    from eventfm.api.simulating import simulate_corpus

    simulate_corpus("scenes", tmp_path / "worlds", num_clips=4, sensor=(32, 32), seed=0, workers=0, quiet=True)
    tiny = {"method.backbone.name": "vit_nano", "method.decoder": {"dim": 32, "depth": 1, "num_heads": 2}}
    train = {"num_steps": 1, "batch_size": 2, "device": "cpu"}
    pretrain("difference-vit-tiny", **tiny, data=str(tmp_path / "worlds"), out=str(tmp_path / "encoder"), train=train)
    command = [
        sys.executable, str(BENCHMARKS / "quality_tasks_real.py"), "--quick", "--data", os.environ["EVENTFM_TEST_DATA"],
        "--out", str(tmp_path / "out"), "--encoders", str(tmp_path / "encoder"),
        "--flow-models", str(small_model(tmp_path / "flow", "flow")),
        "--depth-models", str(small_model(tmp_path / "depth", "depth")),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    cells = {path: path.read_bytes() for path in (tmp_path / "out").rglob("cells/*.json")}
    assert len(cells) == 2 * 2 * 2 * 2 + 2 * 2 + 2 + 2  # folds, protocols, labels, rows; streets; flow; depth
    page = (tmp_path / "out" / "README.md").read_text()
    assert "Left out: nothing." in page
    subprocess.run(command, check=True, capture_output=True)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("cells/*.json")} == cells
