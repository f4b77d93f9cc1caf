"""What a transfer suite checks before its first run, and by what it knows its results again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eventfm
from eventfm.api import evaluate, transferring
from eventfm.api.pretraining import RunResult
from eventfm.api.transfer_rows import rows_of
from eventfm.api.transferring import TransferResult
from eventfm.io import ArrayRecording, ArrayTrack, open_recording, save_recordings
from eventfm.models.encoder import EncoderCard

TRAIN: dict[str, Any] = {"num_steps": 1, "batch_size": 4, "device": "cpu"}


def suite(path: Path, labels: Path, encoders: Any, out: Path, **changes: Any) -> TransferResult:
    settings = {"recipe": "recognition", "protocols": ("linear",), "seeds": (0,), "train": TRAIN, **changes}
    data = {"path": str(path), "labels": str(labels)}
    names = [str(path) for path in encoders] if isinstance(encoders, list) else str(encoders)
    result = evaluate("transfer", encoders=names, data=data, out=str(out), **settings)
    assert isinstance(result, TransferResult)
    return result


@pytest.fixture
def no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(config: Any) -> Any:
        raise AssertionError(f"a run began: {config.out}")

    monkeypatch.setattr(transferring, "run_finetune", never)


def written(folder: Path, rows: list[str], name: str = "labels.csv") -> Path:
    file = folder / name
    file.write_text("\n".join(["path,label,split", *rows]) + "\n")
    return file


def bars(changes: dict[int, str] | None = None, first_test: int = 8, last_test: int = 11) -> list[str]:
    """Return rows of the store of bars; `changes` are other labels."""
    changes = changes or {}
    return [
        f"r{n:02d},{changes.get(n, 'down' if n % 2 else 'right')},{'test' if first_test <= n <= last_test else 'train'}"
        for n in range(12)
    ]


def test_all_runs_are_scored_on_the_windows_that_each_can_answer(
    worlds: Path, trained: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`raft` needs another window before each, and the linear head does not."""
    task = {"head": {"name": "raft", "dim": 16}}
    settings: dict[str, Any] = {"recipe": "flow", "task": task, "protocols": ("linear", "full")}
    result = suite(worlds, worlds / "labels.csv", trained.out, tmp_path / "out", **settings)
    assert {cell.cell.protocol for cell in result.cells} == {"linear", "full"}
    assert {cell.sums.shape for cell in result.cells} == {result.trivial.sums.shape}
    assert len(result.groups) == len(result.trivial.sums)
    without = suite(worlds, worlds / "labels.csv", trained.out, tmp_path / "other", recipe="flow")
    assert len(without.groups) == len(result.groups) + 4, "four recordings, each without its first window"
    text = (tmp_path / "out" / "table.md").read_text()
    assert text.count("ours, full, labels 1 - without pretraining") == 1, "rows are paired, window by window"

    monkeypatch.setattr(transferring, "run_finetune", None)
    alone = suite(
        worlds, worlds / "labels.csv", trained.out, tmp_path / "out", **{**settings, "protocols": ("linear",)}
    )
    assert [cell.figures for cell in alone.cells] == [cell.figures for cell in result.cells[:2]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shares": (0.5, 1.5)}, r"'shares\.1': input should be less than or equal to 1, got 1\.5"),
        ({"shares": (0.0,)}, r"'shares\.0': input should be greater than 0"),
        ({"shots": (1, 9)}, r"expected 9 or more samples of each class"),
        ({"shots": (0,)}, r"'shots\.0': input should be greater than 0"),
        ({"recipe": "segmentation", "shots": (2,)}, r"shots= counts labels .* for segmentation; give shares= instead"),
        ({"task": {"head": {"name": "upernet"}}}, r"'task\.head\.name': input should be 'linear'"),
        ({"task": {"heads": {}}}, r"unknown key 'task\.heads'; did you mean 'head'"),
        ({"recipe": "segmentation"}, r"semantic"),
    ],
)
@pytest.mark.usefixtures("no_run")
def test_mistakes_are_told_before_the_first_run(
    store: Path, trained: RunResult, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        suite(store, written(tmp_path, bars()), trained.out, tmp_path / "out", **changes)


@pytest.mark.usefixtures("no_run")
def test_data_that_cannot_be_scored_are_refused_before_the_first_run(
    store: Path, trained: RunResult, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no recording is for test"):
        suite(store, written(tmp_path, bars(first_test=99)), trained.out, tmp_path / "out")
    half = [row if n < 11 else "r11,,test" for n, row in enumerate(bars())]
    with pytest.raises(ValueError, match=r"1 of 4 recordings have no label, e\.g\. 'r11'"):
        suite(store, written(tmp_path, half), trained.out, tmp_path / "out")


@pytest.mark.usefixtures("no_run")
def test_a_class_that_only_the_last_test_map_has_is_refused_before_the_first_run(
    store: Path, trained: RunResult, tmp_path: Path
) -> None:
    """Of many maps a few are looked at when data are opened; what is scored by are all."""
    recordings = {}
    for number in range(3):
        events = open_recording(f"{store}::r{number:02d}").events(0, 50_000)
        maps = np.tile(np.arange(2, dtype=np.uint8).repeat(16), (120, 32, 1))
        if number == 2:
            maps[117] = 7  # not one of those 50 that lie evenly from the first to the last
        recordings[f"r{number}"] = ArrayRecording(events, {"semantic": ArrayTrack(10_000 + np.arange(120) * 250, maps)})
    path = save_recordings(tmp_path / "maps.h5", recordings)
    table = written(tmp_path, ["r0,,train", "r1,,val", "r2,,test"])
    with pytest.raises(ValueError, match="r2, semantic at 39250 us: expected classes from 0 to 1"):
        suite(path, table, trained.out, tmp_path / "out", recipe="segmentation")


@pytest.mark.usefixtures("no_run")
def test_an_encoder_that_does_not_fit_is_told_before_the_runs_of_another(
    store: Path, trained: RunResult, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(trained.encoder, broken)
    weights = broken / "encoder.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="broken"):
        suite(store, written(tmp_path, bars()), [trained.out, broken], tmp_path / "out")


@pytest.mark.parametrize("number", [9, 0], ids=["of a test recording", "of a training recording"])
def test_a_figure_is_not_kept_over_another_label(store: Path, trained: RunResult, tmp_path: Path, number: int) -> None:
    out = tmp_path / "out"
    first = suite(store, written(tmp_path, bars()), trained.out, out)
    assert [c.figures for c in suite(store, written(tmp_path, bars()), trained.out, out).cells] == [
        c.figures for c in first.cells
    ]
    other = written(tmp_path, bars({number: "right" if number % 2 else "down"}))
    with pytest.raises(
        ValueError, match=r"is of a run with other recordings or labels; choose another out=, or delete"
    ):
        suite(store, other, trained.out, out)

    for folder in ("cells", "runs"):
        shutil.rmtree(out / folder)
    again = suite(store, other, trained.out, out)
    assert len(again.cells) == len(first.cells)


def test_results_do_not_depend_on_the_order_of_encoders(
    store: Path, trained: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained.encoder, tmp_path / "twin")
    table, out, both = written(tmp_path, bars()), tmp_path / "out", [trained.out, tmp_path / "twin"]
    first = suite(store, table, both, out)
    assert [c.cell.row.name for c in first.cells] == ["ours", "without pretraining", "twin"]
    monkeypatch.setattr(transferring, "run_finetune", None)
    again = suite(store, table, both[::-1], out)
    assert [c.cell.row.name for c in again.cells] == ["twin", "without pretraining", "ours"]
    figures = {c.cell.row.name: c.figures for c in first.cells}
    assert {c.cell.row.name: c.figures for c in again.cells} == figures
    assert len(suite(store, table, [tmp_path / "twin"], out).cells) == 2, "the control is that of each of them"


def test_a_control_is_called_by_its_network_and_not_by_its_place(trained: RunResult, tmp_path: Path) -> None:
    text = (trained.encoder / "config.json").read_text()
    card = EncoderCard.model_validate_json(text)
    for name, size in (("a", (32, 32)), ("b", (64, 64))):
        (tmp_path / name).mkdir()
        other = card.model_copy(update={"input_size": size})
        (tmp_path / name / "config.json").write_text(other.model_dump_json())
    paths = [str(tmp_path / name) for name in "ab"]
    ways = [{row.encoder: row.folder for row in rows_of(way) if row.folder} for way in (paths, paths[::-1])]
    assert ways[0] == ways[1]
    assert len(set(ways[0].values())) == 2


def test_a_control_trains_what_the_encoder_has_from_scratch(store: Path, trained: RunResult, tmp_path: Path) -> None:
    """It names no encoder, and is the run that `weights=scratch` of the encoder is."""
    from eventfm.api import finetune
    from eventfm.deployment.model import load_model

    table, out = written(tmp_path, bars()), tmp_path / "out"
    result = suite(store, table, trained.out, out, protocols=("full",))
    control = next(c.cell for c in result.cells if c.cell.row.weights == "scratch")
    model, card = load_model(out / "runs" / control.slug / "model")
    assert card.recipe["encoder"] is None
    assert card.encoder.method == "scratch"
    plain = finetune(
        "recognition", data=store, encoder=trained.out, weights="scratch", out=tmp_path / "plain", train=TRAIN,
        **{"data.labels": table, "task.adapt.mode": "full"},
    )  # fmt: skip
    other, _ = load_model(plain.model)
    ours, theirs = model.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name].numpy(), theirs[name].numpy()) for name in ours)


def test_a_warning_of_seen_tests_is_on_the_terminal_and_in_the_table(
    store: Path, trained: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The encoder was pretrained on r00 to r07."""
    said = "Warning, pretraining saw test recordings: ours: 2 of 4 test recordings were seen in pretraining: r06, r07."
    suite(store, written(tmp_path, bars(first_test=6, last_test=9)), trained.out, tmp_path / "out")
    assert said in capsys.readouterr().out
    assert said in (tmp_path / "out" / "table.md").read_text()
    assert said in (tmp_path / "out" / "report.html").read_text()
    suite(store, written(tmp_path, bars()), trained.out, tmp_path / "clean")
    assert "Warning" not in capsys.readouterr().out + (tmp_path / "clean" / "table.md").read_text()


def test_the_linear_protocol_takes_nothing_of_another_head(worlds: Path, trained: RunResult, tmp_path: Path) -> None:
    """Recipes give their head arguments, which a linear one does not have."""
    recipe = tmp_path / "own.yaml"
    text = (Path(eventfm.__file__).parent / "recipes" / "finetune" / "segmentation.yaml").read_text()
    recipe.write_text(text.replace("head: {", "head: {arguments: {dropout: 0.2}, "))
    assert "dropout" in recipe.read_text()
    result = suite(worlds, worlds / "labels.csv", trained.out, tmp_path / "out", recipe=str(recipe))
    assert len(result.cells) == 2
