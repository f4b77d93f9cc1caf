from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import yaml

from eventfm import cli
from eventfm.api.pretraining import RunResult
from eventfm.config import recipe_names
from eventfm.io import open_recording, save_recording


class Answer(NamedTuple):
    status: int
    out: str
    err: str


Call = Callable[..., Answer]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Return the function that runs the command line in this process."""

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["eventfm", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return Answer(int(end.value.code or 0), *capsys.readouterr())

    return run


def refused(answer: Answer) -> str:
    """Return the one plain line that a mistake ends in."""
    assert answer.status == 2
    assert "Traceback" not in answer.err
    assert answer.err.startswith("eventfm: ")
    return answer.err


@pytest.fixture
def recording(store: Path, tmp_path: Path) -> Path:
    return save_recording(tmp_path / "one.h5", open_recording(f"{store}::r04"))


def test_info_as_json(call: Call, recording: Path) -> None:
    answer = call("info", recording, "--json")
    source = open_recording(recording)
    assert answer.status == 0
    first, last = source.t_range
    curve = np.bincount((source.events_by_index(0, 1600).t - first) // 1000)
    assert json.loads(answer.out) == {
        "format": "eventfm",
        "num_events": 1600,
        "t_first_us": first,
        "t_last_us": last,
        "duration_us": last - first + 1,
        "mean_rate_hz": 1600e6 / (last - first + 1),
        "peak_rate_hz": curve.max() * 1000,
        "rate_curve": {"bin_us": 1000, "events": curve.tolist()},
        "sensor": {"width": 32, "height": 32, "inferred": False},
        "tracks": {"frames": 5},
        "track_times_us": {"frames": [0, 40_000]},
    }
    assert answer.out.count("\n") == 1


def test_info_in_words_and_as_picture(call: Call, recording: Path, tmp_path: Path) -> None:
    answer = call("info", recording, "--png", tmp_path / "a.png")
    assert answer.status == 0
    for words in ("eventfm", "1,600", "32x32", "frames", "0 to 40000 us", "events/s"):
        assert words in answer.out
    both = cv2.imread(str(tmp_path / "a.png"))
    gap, label, side, curve = 8, 31, 256, 64
    assert both.shape[:2] == (2 * label + side + curve + gap, side + 2 * gap)
    picture = both[label : label + side : 8, gap : gap + side : 8]
    events = open_recording(recording).events_by_index(0, 1600)
    drawn = (picture != 255).any(2)
    hit = np.zeros((32, 32), bool)
    hit[events.y, events.x] = True
    np.testing.assert_array_equal(drawn, hit)


@pytest.mark.filterwarnings("ignore:.*mended by sort")
def test_info_of_text_takes_the_hints(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("100 1 2 1\n50 3 0 0\n300 2 2 1\n")
    assert "backwards" in refused(call("info", path))
    mended = json.loads(call("info", path, "--json", "--on-error", "sort", "--sensor", "40x30").out)
    assert mended["t_first_us"] == 50
    assert mended["sensor"] == {"width": 40, "height": 30, "inferred": False}
    inferred = json.loads(call("info", path, "--json", "--on-error", "sort").out)
    assert inferred["sensor"] == {"width": 4, "height": 3, "inferred": True}
    assert "WIDTHxHEIGHT, got '40'" in refused(call("info", path, "--sensor", "40"))


def test_convert(call: Call, recording: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.npz"
    assert call("convert", recording, target).out == f"wrote {target}\n"
    before, after = open_recording(recording), open_recording(target)
    for name in "xytp":
        columns = [getattr(source.events_by_index(0, 1600), name) for source in (before, after)]
        np.testing.assert_array_equal(*columns)
    assert "exists" in refused(call("convert", recording, target))
    assert call("convert", recording, target, "--overwrite").status == 0
    assert "extensions" in refused(call("convert", recording, tmp_path / "a.xyz"))
    assert "expected a source and a target" in refused(call("convert", recording))


def test_errors_are_one_plain_message(call: Call, store: Path, tmp_path: Path) -> None:
    assert refused(call("info", tmp_path / "gone")).count("\n") == 1
    assert "holds 12 recordings" in refused(call("info", store))
    assert "unknown recipe 'dfference'" in refused(call("pretrain", "dfference", "out=x"))
    assert "out=FOLDER is required" in refused(call("pretrain", "difference-vit-tiny", f"data={store}"))
    assert "expected key=value" in refused(call("pretrain", "difference-vit-tiny", "out"))
    assert "did you mean 'train'" in refused(call("pretrain", "difference-vit-tiny", "out=x", "trian.seed=1"))
    assert "unknown suite 'prob'" in refused(call("evaluate", "prob"))
    assert "'encoders' is required" in refused(call("evaluate", "probe", "out=x", "data=y", "data.labels=z"))


def test_embed_names_what_is_missing_or_unknown(call: Call, store: Path) -> None:
    missing = refused(call("embed", "encoder=x"))
    assert "'data' is required" in missing
    assert "'out' is required" in missing
    assert "'encodr'; did you mean 'encoder'" in refused(call("embed", "encodr=x", f"data={store}", "out=y"))
    unknown = refused(call("embed", "encoder=x", f"data={store}", "out=y", "data.fromat=text"))
    assert "'data.fromat'; did you mean 'format'" in unknown


def test_visualize(call: Call, trained: RunResult, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "tokens.png"
    answer = call("visualize", trained.out, f"{store}::r03", f"out={out}", "at=0.005,0.02", "anchors=0", "density=1,2")
    assert (answer.status, answer.out) == (0, f"wrote {out}\n")
    gap, side, label = 8, 240, 31
    assert cv2.imread(str(out)).shape == (4 * (label + side) + gap, 4 * (side + gap) + gap, 3)
    one = ["visualize", trained.out, f"{store}::r03"]
    assert "out=FILE.png is required" in refused(call(*one))
    assert "unknown key 'anchor'; did you mean 'anchors'" in refused(call(*one, f"out={out}", "anchor=2"))
    assert "'density.1'" in refused(call(*one, f"out={out}", "density=1,two"))
    assert "expected out to be a PNG" in refused(call(*one, f"out={tmp_path / 'a.jpg'}"))
    assert "no encoder in" in refused(call("visualize", tmp_path, store, f"out={out}"))


def test_usage_errors_and_help(call: Call) -> None:
    assert call("pretrian").status == 2
    assert call("info").status == 2
    help_ = call("--help")
    assert help_.status == 0
    for verb in ("info", "convert", "pretrain", "evaluate", "embed", "visualize", "demo"):
        assert verb in help_.out


def test_recipes_are_listed(call: Call) -> None:
    for arguments in (("--list",), ()):
        answer = call("pretrain", *arguments)
        assert (answer.status, answer.out.split()) == (0, recipe_names())


def test_a_recipe_is_shown_with_its_variant_and_changes(call: Call) -> None:
    shown = yaml.safe_load(call("pretrain", "scaleevent-vitb16", "--show", "variant=paper", "train.batch_size=3").out)
    assert shown["method"]["form"] == "paper"
    assert shown["method"]["backbone"]["name"] == "dinov3_base"
    assert shown["train"]["batch_size"] == 3
    assert not {"variant", "variants", "base"} & shown.keys()


def test_pretrain_evaluate_embed(call: Call, store: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    size = ["method.backbone.name=vit_nano", "method.decoder={dim: 32, depth: 1, num_heads: 2}"]
    train = ["train.num_steps=2", "train.batch_size=4", "train.lr=1e-3", "train.device=cpu"]
    data = [f"data={store}", f"data.labels={table}", "data.exclude_fold=2", "data.window.duration_us=10000"]
    answer = call("pretrain", "difference-vit-tiny", *size, *train, *data, f"out={out}")
    assert answer.status == 0
    assert f"encoder: {out / 'encoder'}" in answer.out

    splits = tmp_path / "splits.csv"
    splits.write_text("\n".join(row.rpartition(",")[0] for row in table.read_text().splitlines()))
    probe = [f"data={store}", f"data.labels={splits}", f"out={tmp_path / 'probe'}", "windows=1", "baselines=[ridge]"]
    answer = call("evaluate", "probe", f"encoders={out}", *probe)
    assert answer.status == 0
    assert f"report: {tmp_path / 'probe' / 'report.html'}" in answer.out
    assert "run, untrained" in answer.out

    features = tmp_path / "features.npz"
    one = [f"encoder={out}", f"data={store}::r09", f"out={features}", "window.by=count", "window.num_events=400"]
    assert call("embed", *one).out == "embedded 4 windows of 1 recording(s)\n"
    with np.load(features) as kept:
        assert kept["tokens"].shape == (4, 16, 64)
    wrong = refused(call("embed", *one, "representation={name: polarity_counts}"))
    assert "cannot read polarity_counts()" in wrong
    answer = call("embed", f"encoder={out}", f"data={store}", f"out={tmp_path / 'all'}")
    assert answer.out == "embedded 36 windows of 12 recording(s)\n"
    assert "did you mean 'polarity_counts'" in refused(call("embed", *one, "representation.name=polarity_count"))


def test_another_run_in_the_folder(call: Call, trained: RunResult, store: Path) -> None:
    message = refused(call("pretrain", "difference-vit-tiny", f"data={store}", f"out={trained.out}"))
    assert "holds a run with another config" in message
    assert "choose another out=" in message


def test_demo_says_by_its_status_whether_it_helped(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from eventfm import api

    asked = []
    for helped in (True, False):
        monkeypatch.setattr(api, "demo", lambda out, seeds, helped=helped: asked.append((out, seeds)) or helped)
        assert call("demo", "--out", tmp_path, "--seeds", "2").status == (0 if helped else 1)
    assert asked == [(tmp_path, 2)] * 2


def test_as_a_program(recording: Path) -> None:
    command = [sys.executable, "-m", "eventfm.cli", "info"]
    good = subprocess.run([*command, str(recording), "--json"], capture_output=True, text=True, check=False)
    assert (good.returncode, good.stderr) == (0, "")
    assert json.loads(good.stdout)["num_events"] == 1600
    bad = subprocess.run([*command, str(recording) + ".gone"], capture_output=True, text=True, check=False)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr == f"eventfm: no file or folder at {recording}.gone\n"
