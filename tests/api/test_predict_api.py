"""`predict`, in Python and in the shell: what it writes, and what it refuses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import torch

from eventfm import cli
from eventfm.api import predict
from eventfm.config import ConfigError
from eventfm.deployment.model import ModelCard, save_model
from eventfm.deployment.predicted_pictures import drawing
from eventfm.deployment.predicting import LoadedModel, PredictError, load
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, open_recording, save_recording
from eventfm.models.configs import BackboneConfig
from eventfm.models.encoder import EncoderCard, save_encoder
from eventfm.registry import MissingExtraError
from eventfm.representations import VoxelGrid, describe
from eventfm.simulation import SensorConfig, simulate
from eventfm.tasks import build_task
from eventfm.visualization import video
from eventfm.visualization.files import read_picture

TASKS = ("recognition", "segmentation", "flow", "depth")
ARRAY = {"segmentation": "semantic", "flow": "flow", "depth": "depth"}
CLASSES = ("road", "car", "person")
GRID = VoxelGrid(3, "window")
NUM_WINDOWS = 8


class Answer(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Return the function that runs the command line in this process."""

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["eventfm", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return Answer(int(end.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a simulated recording, 56x40 pixels and 80 ms, of a bright bar that runs to the right."""
    frames = np.full((41, 40, 56), 40, np.uint8)
    for number, frame in enumerate(frames):
        frame[8:32, 4 + number : 10 + number] = 220
    found = simulate(frames, np.arange(41, dtype=np.int64) * 2_000, SensorConfig.preset("clean"))
    return save_recording(tmp_path_factory.mktemp("recording") / "bar.h5", ArrayRecording(found))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return folders of runs that left an untrained model, by task."""
    root = tmp_path_factory.mktemp("runs")
    backbone = BackboneConfig(name="vit_nano", arguments={"patch_size": 8})
    encoder = EncoderCard(
        backbone=backbone, in_channels=3, input_size=(32, 32), representation=describe(GRID), method="scratch",
        window={"by": "frame", "track": "semantic", "duration_us": 9_500},
    )  # fmt: skip
    for number, task in enumerate(TASKS):
        settings = {"name": task, "backbone": backbone.model_dump(mode="json"), "head": {"name": "linear"}}
        classes = CLASSES if task in ("recognition", "segmentation") else ()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            objective = build_task(settings, 3, (32, 32), len(classes) or None)
        for parameter in objective.head.parameters():  # an untrained head says nearly the same everywhere
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter.data, generator=torch.Generator().manual_seed(number))
        save_model(root / task / "model", objective, ModelCard(task=settings, encoder=encoder, classes=classes))
    save_encoder(root / "pretrained" / "encoder", objective.encoder(), encoder)
    return {path.name: path for path in root.iterdir()}


def decoded(path: Path) -> list[np.ndarray[Any, Any]]:
    source, frames = cv2.VideoCapture(str(path)), []
    while (step := source.read())[0]:
        frames.append(step[1][..., ::-1])
    return frames


@pytest.mark.parametrize("task", ARRAY)
def test_a_folder_gets_arrays_video_and_picture(
    task: str, runs: dict[str, Path], recording: Path, tmp_path: Path
) -> None:
    result = predict(recording, runs[task], tmp_path / "new" / "out", quiet=True, batch_size=3)
    folder = tmp_path / "new" / "out"
    assert sorted(path.name for path in folder.iterdir()) == ["predictions.mp4", "predictions.npz", "predictions.png"]
    assert sorted(result.paths) == sorted(folder.iterdir())
    assert (result.task, result.num_windows) == (task, NUM_WINDOWS)
    source, model = open_recording(recording), load(runs[task])
    windows = model.windows(source)
    expected = list(model.answers(source, windows, batch_size=3))
    with np.load(folder / "predictions.npz") as kept:
        assert set(kept) == {"t_us", ARRAY[task], *(["classes"] if task == "segmentation" else [])}
        np.testing.assert_array_equal(kept["t_us"], [[window.start, window.stop] for window in windows])
        assert kept["t_us"].dtype == np.int64
        values = kept[ARRAY[task]]
        assert values.shape == (NUM_WINDOWS, *{"flow": (2, 40, 56)}.get(task, (40, 56)))
        assert values.dtype == (np.uint8 if task == "segmentation" else np.float32)
        np.testing.assert_array_equal(values, np.stack([answer.values for answer in expected]))
        if task == "segmentation":
            assert tuple(kept["classes"]) == result.classes == CLASSES
            assert len(np.unique(values)) > 1
        else:
            assert values.std() > 0
    few = list(model.answers(source, [windows[n] for n in (0, 1, 2, 4, 5, 7)], batch_size=3))
    pictures = drawing(task, result.classes, source.t_range[0], few)
    frames = decoded(folder / "predictions.mp4")
    assert len(frames) == NUM_WINDOWS
    for frame, answer in zip(frames, expected, strict=True):
        drawn = pictures.frame(answer)
        assert frame.shape[:2] == tuple(side + side % 2 for side in drawn.shape[:2])
        shown = frame[: drawn.shape[0], : drawn.shape[1]].astype(int)
        assert np.abs(shown - drawn).mean() < 6, "chroma is kept at half the resolution"
    np.testing.assert_array_equal(read_picture(folder / "predictions.png"), pictures.sheet(few))


def test_recognition_has_shares(runs: dict[str, Path], recording: Path, tmp_path: Path) -> None:
    result = predict(open_recording(recording), load(runs["recognition"]), tmp_path, quiet=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.npz", "predictions.png"]
    with np.load(tmp_path / "predictions.npz") as kept:
        assert set(kept) == {"t_us", "share", "label", "mean_share", "classes"}
        assert kept["share"].shape == (NUM_WINDOWS, 3)
        np.testing.assert_allclose(kept["share"].sum(1), 1, rtol=1e-5)
        np.testing.assert_array_equal(kept["label"], kept["share"].argmax(1))
        np.testing.assert_allclose(kept["mean_share"], kept["share"].mean(0), rtol=1e-5)
        assert kept["share"].std(0).max() > 0
        np.testing.assert_array_equal(result.share, kept["mean_share"])
    with pytest.raises(PredictError, match="recognition has no video"):
        predict(recording, runs["recognition"], tmp_path / "a.mp4", quiet=True)


def test_one_file_alone(runs: dict[str, Path], recording: Path, tmp_path: Path) -> None:
    for kind, num_windows in (("npz", 4), ("mp4", 4), ("png", 4)):
        result = predict(
            recording, runs["depth"], tmp_path / kind / f"a.{kind}", quiet=True, window={"duration_us": 19_000}, scale=1
        )
        assert result.paths == (tmp_path / kind / f"a.{kind}",)
        assert list((tmp_path / kind).iterdir()) == list(result.paths)
        assert result.num_windows == num_windows


def test_what_is_interrupted_leaves_what_was_there(
    runs: dict[str, Path], recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(recording, runs["flow"], tmp_path, quiet=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    answers, seen = LoadedModel.answers, []

    def breaking(self: LoadedModel, *arguments: Any, **settings: Any) -> Iterator[Any]:
        for answer in answers(self, *arguments, **settings):
            seen.append(answer)
            if len(seen) == 10:  # six are looked at first
                raise KeyboardInterrupt
            yield answer

    monkeypatch.setattr(LoadedModel, "answers", breaking)
    with pytest.raises(KeyboardInterrupt):
        predict(recording, runs["flow"], tmp_path, quiet=True)
    assert len(seen) == 10
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_without_a_codec_arrays_can_be_had(
    runs: dict[str, Path], recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: str) -> None:
        raise MissingExtraError("PyAV is missing")

    monkeypatch.setattr(video, "require", missing)
    with pytest.raises(MissingExtraError, match=r"PyAV is missing; for the arrays alone, give out=FILE\.npz"):
        predict(recording, runs["depth"], tmp_path / "out", quiet=True)
    assert not any((tmp_path / "out").iterdir())
    predict(recording, runs["depth"], tmp_path / "out" / "a.npz", quiet=True)
    monkeypatch.undo()
    with pytest.raises(MissingExtraError, match=r"no encoder 'h999'.*give out=FILE\.npz"):
        predict(recording, runs["depth"], tmp_path / "a.mp4", quiet=True, codec="h999")
    predict(recording, runs["depth"], tmp_path / "a.mp4", quiet=True, codec="mpeg4")
    assert len(decoded(tmp_path / "a.mp4")) == NUM_WINDOWS


def test_a_recording_that_ends_in_ruins_is_not_blamed_on_the_disk(
    runs: dict[str, Path], recording: Path, tmp_path: Path
) -> None:
    class Ruined(ArrayRecording):
        def events(self, t0: int, t1: int) -> Events:
            if t0 > 50_000:
                raise OSError("input/output error")
            return super().events(t0, t1)

    source = open_recording(recording)
    ruined = Ruined(source.events(0, 90_000))
    with pytest.raises(PredictError, match=r"the recording cannot be read further \(input/output error\)"):
        predict(ruined, runs["depth"], tmp_path / "out.npz", quiet=True)
    assert not any(tmp_path.iterdir())


def test_out_is_something_else(runs: dict[str, Path], recording: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "old.runs").mkdir()
    for name, said in {
        "file": "is a file of another kind",
        "folder.npz": "is a folder; give another name",
        "a.avi": "expected out to be a folder or to end in",
    }.items():
        with pytest.raises(PredictError, match=said):
            predict(recording, runs["depth"], tmp_path / name, quiet=True)
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.npz", "old.runs"]
    assert predict(recording, runs["depth"], tmp_path / "old.runs", quiet=True).paths[0].parent.name == "old.runs"


def test_the_shell_says_the_same(
    call: Callable[..., Answer], runs: dict[str, Path], recording: Path, tmp_path: Path
) -> None:
    given = (f"model={runs['depth']}", f"out={tmp_path / 'a.npz'}", "window.duration_us=19000")
    answer = call("predict", recording, *given, "--quiet")
    assert answer == (0, f"depth of 4 window(s)\nwrote {tmp_path / 'a.npz'}\n", "")
    predict(recording, runs["depth"], tmp_path / "b.npz", quiet=True, window={"duration_us": 19_000})
    with np.load(tmp_path / "a.npz") as ours, np.load(tmp_path / "b.npz") as theirs:
        np.testing.assert_array_equal(ours["depth"], theirs["depth"])
    answer = call("predict", recording, f"model={runs['recognition']}", f"out={tmp_path / 'c.npz'}")
    assert answer.status == 0
    assert answer.out.splitlines()[-1].startswith("mean over the windows: ")
    assert "recognition of windows" in answer.err


def test_mistakes_end_in_one_line(
    call: Callable[..., Answer], runs: dict[str, Path], recording: Path, tmp_path: Path
) -> None:
    empty = save_recording(tmp_path / "empty.h5", ArrayRecording(Events.empty(Sensor(32, 32))))
    out = f"out={tmp_path / 'out'}"
    for arguments, said in (
        ((recording, out), "model=PATH is required"),
        ((recording, f"model={runs['depth']}"), "out=PATH is required"),
        ((recording, f"model={runs['pretrained']}", out), "eventfm finetune TASK encoder="),
        ((recording, f"model={tmp_path}", out), "no model in"),
        ((recording, f"model={runs['depth']}", out, "sclae=1"), "did you mean 'scale'"),
        ((recording, f"model={runs['depth']}", out, "window.duration_us=900000"), "give a shorter one"),
        ((empty, f"model={runs['depth']}", out), "nothing to answer for"),
    ):
        answer = call("predict", *arguments)
        assert answer.status == 2
        assert answer.err.startswith("eventfm: ")
        assert said in answer.err
        assert "Traceback" not in answer.err
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="did you mean 'batch_size'"):
        predict(recording, runs["depth"], tmp_path / "out", batchsize=2)
