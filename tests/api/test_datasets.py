"""Public data sets from Python and from the command line: table, card, check with pictures, native stores."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from eventfm.api import finetune
from eventfm.api.datasets import check_dataset, contact_sheet, list_datasets, prepare_dataset, show_dataset
from eventfm.api.pretraining import RunResult
from eventfm.cli import app
from eventfm.data.collection import open_collection
from eventfm.data.datasets.card import DatasetError
from eventfm.data.datasets.opening import locate
from eventfm.deployment.model import load_model
from eventfm.registry import UnknownNameError
from eventfm.visualization.files import read_picture

sys.path.insert(0, str(Path(__file__).parents[1] / "data/datasets"))
from fixtures import dsec_semantic, mvsec, ncaltech101, nmnist

pytestmark = pytest.mark.filterwarnings("ignore:.*eventfm datasets check")


def run(*words: Any, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def root(tmp_path: Path) -> Path:
    nmnist.write(tmp_path / "nmnist")
    return tmp_path / "nmnist"


def test_every_data_set_is_listed_and_shown() -> None:
    names = [card.name for card in list_datasets()]
    assert len(set(names)) == len(names)
    assert {"n-mnist", "mvsec-flow-dt4", "dsec-semantic-11"} <= set(names)
    lines = run("datasets", "list").splitlines()
    assert lines[0].split() == ["name", "task", "pixels", "samples", "licence"]
    assert [line.split()[0] for line in lines[1:]] == names
    assert "60,000 train, 10,000 test" in next(line for line in lines if line.startswith("n-mnist"))
    shown = run("datasets", "show", "dsec-semantic-11")
    assert "traffic sign" in shown
    assert "traps" in shown


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown dataset 'n-minst'; did you mean 'n-mnist'"):
        show_dataset("n-minst")


def test_check_says_what_is_there_and_draws_it(root: Path, tmp_path: Path) -> None:
    report = check_dataset("n-mnist", root, png=tmp_path / "look.png", looks=2)
    assert (report.num_looked_at, report.num_events) == (2, 800)
    picture = read_picture(tmp_path / "look.png")
    assert picture.shape[0] > 200  # four digits, enlarged, in one row
    assert picture.shape[1] > 4 * 150
    text = run("datasets", "check", "n-mnist", root, "--every", "--quiet", "--png", tmp_path / "2.png", code=1)
    assert "train: 3 samples, 60,000 published" in text
    assert "opened 4 samples" in text
    assert "missing: 69,996" in text
    assert "Train/<digit>/00002.bin" not in text
    assert "Train/<digit>/00003.bin: it is not there; unpack it from Train.zip" in text
    assert (tmp_path / "2.png").read_bytes() == (tmp_path / "look.png").read_bytes()


@pytest.mark.parametrize(
    ("name", "write", "colour"),
    [
        ("dsec-semantic-19", partial(dsec_semantic.write, num_classes=19), (102, 102, 156)),
        ("mvsec-flow-dt4", partial(mvsec.write_flow, gap=4), None),
        ("mvsec-depth", mvsec.write_depth, None),
    ],
)
def test_labels_of_pixels_stand_beside_their_events(name: str, write: Any, colour: Any, tmp_path: Path) -> None:
    truth = write(tmp_path)
    sheet = contact_sheet(locate(name, tmp_path))
    width, height = truth.sensor
    assert sheet.shape[0] > len(truth.samples) * height
    assert sheet.shape[1] > 2 * width
    rows, columns = np.nonzero((sheet != 255).any(axis=2))
    assert columns.max() > 1.5 * width  # labels are drawn, not only events
    assert rows.max() > (len(truth.samples) - 0.5) * height
    if colour is not None:
        assert (sheet == np.array(colour, np.uint8)).all(axis=2).sum() > 0.4 * width * height


def test_what_cannot_be_drawn_is_told(root: Path) -> None:
    for file in root.rglob("*.bin"):
        file.write_bytes(b"abc")
    with pytest.raises(DatasetError, match="not one of 4 samples of N-MNIST could be read"):
        contact_sheet(locate("n-mnist", root))


def test_prepare_writes_what_runs_read(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert prepare_dataset("n-mnist", root, out, workers=0, quiet=True).num_written == 4
    found = open_collection(out, labels=out / "labels.csv")
    assert found.classes == ("0", "5", "7")
    assert [entry.split for entry in found.entries] == ["test", "train", "train", "train"]
    assert "4 samples, 0 of them new" in run("prepare", "dataset", "n-mnist", root, out, "--workers", "0", "--quiet")


def test_prepare_ends_with_an_error_where_samples_are_damaged(root: Path, tmp_path: Path, caplog: Any) -> None:
    (root / "Train/0/00002.bin").write_bytes(b"abc")
    text = run("prepare", "dataset", "n-mnist", root, tmp_path / "out", "--workers", 0, "--quiet", code=1)
    assert "3 samples, 3 of them new" in text
    assert "train/0/00002" in caplog.text
    with pytest.raises(ValueError, match="expected workers as a number or auto, got 'two'"):
        run("prepare", "dataset", "n-mnist", root, tmp_path / "out", "--workers", "two")


@pytest.mark.parametrize(
    ("name", "task", "write", "more"),
    [
        ("n-caltech101", "recognition", ncaltech101.write, {}),
        (
            "dsec-semantic-11",
            "segmentation",
            partial(dsec_semantic.write, num_classes=11),
            {"task.head": {"name": "linear"}},
        ),
        ("mvsec-flow-dt1", "flow", partial(mvsec.write_flow, gap=1), {"task.head": {"name": "linear"}}),
        ("mvsec-depth", "depth", mvsec.write_depth, {"task.head": {"name": "linear"}}),
    ],
)
def test_a_task_is_learnt_from_it_and_scored(
    name: str, task: str, write: Any, more: dict[str, Any], trained: RunResult, tmp_path: Path
) -> None:
    write(tmp_path / "official")
    out = tmp_path / "prepared"
    prepare_dataset(name, tmp_path / "official", out, workers=0, quiet=True)
    result = finetune(
        task, data=out, encoder=trained.encoder, out=tmp_path / "run",
        **{
            "data.labels": out / "labels.csv", "data.image_size": 32, "data.holdout": 0.4,
            "data.window": dict(show_dataset(name).window),
            "train": {"num_steps": 1, "batch_size": 2, "device": "cpu"}, **more,
        },
    )  # fmt: skip
    figure = {"recognition": "top1", "segmentation": "miou", "flow": "epe", "depth": "abs_rel"}[task]
    assert np.isfinite(result.figures[figure])
    classes = {"recognition": 101, "segmentation": 11}.get(task)
    _, card = load_model(result.model)
    if task == "segmentation":
        assert card.classes == show_dataset(name).classes
    assert classes is None or len(card.classes) <= classes
