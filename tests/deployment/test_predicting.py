"""Answers of models: which windows, at which scale, tile by tile, and back at the sensor's pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from eventfm.config import ConfigError
from eventfm.data.transforms import whole
from eventfm.data.windows import WindowError
from eventfm.deployment.model import ModelCard, ModelError, save_model
from eventfm.deployment.predicting import LoadedModel, PredictError, load, view
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack
from eventfm.models import build_backbone
from eventfm.models.configs import BackboneConfig
from eventfm.models.encoder import EncoderCard, save_encoder
from eventfm.representations import VoxelGrid, describe
from eventfm.tasks import build_task

GRID = VoxelGrid(3, "window")
SENSOR = Sensor(90, 50)
SIZE = (32, 32)
START = 500
WINDOW = {"by": "time", "duration_us": 10_000}
HEADS: dict[str, dict[str, Any]] = {
    "recognition": {"name": "linear"},
    "segmentation": {"name": "linear"},
    "flow": {"name": "raft", "dim": 32, "arguments": {"iterations": 1}},
    "depth": {"name": "linear"},
}
CLASSES = ("a", "b", "c")


def events(duration_us: int = 35_000, sensor: Sensor = SENSOR, seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    t = START + np.sort(np.r_[0, duration_us - 1, rng.integers(0, duration_us, 3998)])
    x, y = rng.integers(0, sensor.width, 4000), rng.integers(0, sensor.height, 4000)
    return Events.checked(x, y, t, rng.integers(0, 2, 4000), sensor)


RECORDING = ArrayRecording(events())


def card(task: str, window: dict[str, Any] = WINDOW, head: dict[str, Any] | None = None, num: int = 3) -> ModelCard:
    backbone = BackboneConfig(name="vit_nano", arguments={"patch_size": 8})
    return ModelCard(
        task={"name": task, "backbone": backbone.model_dump(mode="json"), "head": head or {"name": "linear"}},
        encoder=EncoderCard(
            backbone=backbone,
            in_channels=GRID.channels,
            input_size=SIZE,
            representation=describe(GRID),
            window=window,
            method="scratch",
        ),
        classes=tuple(str(n) for n in range(num)) if task in ("recognition", "segmentation") else (),
    )


class Pointwise(torch.nn.Module):
    """Says of a pixel what follows from its own channels, `weights` (K, C) of them and `bias` (K,)."""

    def __init__(self, key: str, weights: Tensor, bias: float | Tensor = 0.0) -> None:
        super().__init__()
        self.key, self.bias = key, torch.as_tensor(bias).view(-1, 1, 1)
        self.weights = torch.nn.Parameter(weights)

    def predict(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x = torch.cat([batch["before"], batch["input"]], 1) if "before" in batch else batch["input"]
        assert x.shape[2:] == SIZE, "a tile is as large as the inputs of training"
        return {self.key: (torch.einsum("kc,bchw->bkhw", self.weights, x) + self.bias).detach()}


def pointwise(task: str, key: str, weights: Any, bias: Any = 0.0, **kind: Any) -> LoadedModel:
    weights = torch.as_tensor(np.array(weights, np.float32))
    return LoadedModel(Pointwise(key, weights, bias), card(task, **kind), GRID)


def on_grid(part: Events, rows: int, columns: int) -> Events:
    """Return events where they fall on a coarser grid of pixels."""
    x, y = part.x.astype(int) * columns // part.sensor.width, part.y.astype(int) * rows // part.sensor.height
    return Events.checked(x, y, part.t, part.p, Sensor(columns, rows), window=part.window)


def test_tiles_of_a_large_sensor_are_one_answer() -> None:
    """At the sensor's own pixels, 50x90 in tiles of 32x32, a pointwise model answers as if it had seen all at once."""
    weights = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    masks = pointwise("segmentation", "logits", weights, num=4)
    depths = pointwise("depth", "depth", weights[:1], bias=2.0)
    windows = masks.windows(RECORDING)
    for overlap in (0.0, 0.25, 0.6):
        found = zip(
            masks.answers(RECORDING, windows, scale=1, overlap=overlap),
            depths.answers(RECORDING, windows, scale=1, overlap=overlap, batch_size=2),
            windows,
            strict=True,
        )
        for mask, depth, window in found:
            part = RECORDING.events(window.start, window.stop)
            grid = GRID(part).numpy()
            np.testing.assert_array_equal(mask.values, np.einsum("kc,chw->khw", weights, grid).argmax(0))
            np.testing.assert_allclose(depth.values, np.einsum("c,chw->hw", weights[0], grid) + 2, rtol=1e-5, atol=1e-5)
            assert mask.values.dtype == np.uint8
            assert depth.values.dtype == np.float32
            assert len(mask.events) == len(part)
            assert mask.t_us == (window.start, window.stop)


def test_the_shorter_side_fits_the_input_and_answers_come_back() -> None:
    """50x90 is seen as 32x58, and what is said there is resized, by an independent hand, to 50x90."""
    weights = np.random.default_rng(2).normal(size=(3, 3)).astype(np.float32)
    masks, depths = pointwise("segmentation", "logits", weights), pointwise("depth", "depth", weights[:1])
    windows = masks.windows(RECORDING)
    for mask, depth in zip(masks.answers(RECORDING, windows), depths.answers(RECORDING, windows), strict=True):
        said = np.einsum("kc,chw->khw", weights, GRID(on_grid(mask.events, 32, 58)).numpy())
        resized = np.stack([cv2.resize(plane, (90, 50), interpolation=cv2.INTER_LINEAR) for plane in said])
        np.testing.assert_allclose(depth.values, resized[0], rtol=1e-4, atol=1e-4)
        best = np.sort(resized, 0)
        clear = best[2] - best[1] > 1e-4
        assert clear.mean() > 0.8
        np.testing.assert_array_equal(mask.values[clear], resized.argmax(0)[clear])


def test_view_is_the_scale_of_training() -> None:
    for sensor, size, expected in (
        (Sensor(640, 480), (224, 224), (224, 299)),
        (Sensor(640, 480), (96, 128), (96, 128)),
        (Sensor(34, 34), (32, 32), (34, 34)),
        (Sensor(20, 40), (32, 32), (64, 32)),
    ):
        seen, part = view(sensor, size), whole(sensor, size)
        assert seen.out == expected
        assert (seen.left, seen.top, seen.width, seen.height) == (0, 0, sensor.width, sensor.height)
        assert seen.out[0] / seen.height == pytest.approx(size[0] / part.height, rel=0.01)
    assert view(Sensor(640, 480), (224, 224), 1).out == (480, 640)
    assert view(Sensor(640, 480), (224, 224), 0.25).out == (120, 160)


def test_a_scale_that_no_memory_holds_is_refused() -> None:
    with pytest.raises(PredictError, match=r"at most 12\.8 for a sensor of 1280x720, got 640: it is pixels"):
        view(Sensor(1280, 720), (64, 64), 640)


@pytest.mark.parametrize(
    ("scale", "expected"), [(None, (3 * 90 / 58, -2 * 50 / 32)), (1, (3.0, -2.0)), (2, (1.5, -1.0))]
)
def test_flow_is_in_pixels_of_the_sensor(scale: float | None, expected: tuple[float, float]) -> None:
    """3 pixels of the input to the right are as many of the sensor as one pixel of the input covers, times 3."""
    model = pointwise("flow", "flow", np.zeros((2, 3)), bias=torch.tensor([3.0, -2.0]))
    for answer in model.answers(RECORDING, model.windows(RECORDING), scale=scale):
        assert answer.values.shape == (2, 50, 90)
        assert answer.values.dtype == np.float32
        np.testing.assert_allclose(answer.values[0], expected[0], rtol=1e-5)
        np.testing.assert_allclose(answer.values[1], expected[1], rtol=1e-5)


def test_a_model_that_compares_has_the_window_before() -> None:
    """u says what the window before had, v what the window itself has: counts of events, here."""
    weights = [[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]
    model = pointwise("flow", "flow", weights, head=HEADS["flow"])
    windows = model.windows(RECORDING)
    assert [window.start for window in windows] == [START + 10_000, START + 20_000], "the first has none before it"
    for answer in model.answers(RECORDING, windows, scale=1):
        start, stop = answer.t_us
        before, now = (RECORDING.events(*span) for span in ((2 * start - stop, start), (start, stop)))
        for values, part in zip(answer.values, (before, now), strict=True):
            assert len(part) > 500
            np.testing.assert_allclose(values, GRID(part).sum(0).numpy(), rtol=1e-4, atol=1e-4)
    with pytest.raises(PredictError, match=r"give window\.by=time"):
        model.windows(RECORDING, {"by": "count", "num_events": 500})
    with pytest.raises(PredictError, match="lasts for one window only"):
        model.windows(RECORDING, {"duration_us": 30_000})


@pytest.mark.parametrize(
    "window",
    [
        {"by": "frame", "track": "semantic", "frame_at": "end", "duration_us": 7_000},
        {"by": "frames", "track": "flow", "duration_us": 7_000},
        {"by": "frames", "duration_us": 7_000},
        {"by": "time", "duration_us": 7_000},
    ],
)
def test_windows_need_no_labels(window: dict[str, Any]) -> None:
    model = pointwise("depth", "depth", np.zeros((1, 3)), window=window)
    starts = [START + 7_000 * n for n in range(5)]
    assert [(w.start, w.stop) for w in model.windows(RECORDING)] == [(start, start + 7_000) for start in starts]
    longer = model.windows(RECORDING, {"duration_us": 14_000, "stride_us": 10_000})
    assert [(w.start, w.stop) for w in longer] == [(START + at, START + at + 14_000) for at in (0, 10_000, 20_000)]


def test_changes_of_windows() -> None:
    model = pointwise("depth", "depth", np.zeros((1, 3)), window={**WINDOW, "stride_us": 5_000})
    assert [w.start - START for w in model.windows(RECORDING)] == [0, 5_000, 10_000, 15_000, 20_000, 25_000]
    # A step of training says nothing about windows of another length.
    assert [w.start - START for w in model.windows(RECORDING, {"duration_us": 15_000})] == [0, 15_000]
    by_count = model.windows(RECORDING, {"by": "count", "num_events": 1000})
    assert [a.t_us[1] for a in model.answers(RECORDING, by_count)] == [
        int(RECORDING.events_by_index(0, 1000 * n).t[-1]) + 1 for n in (1, 2, 3, 4)
    ]
    framed = ArrayRecording(events(), {"frames": ArrayTrack(START + np.arange(4) * 10_000, np.zeros((4, 50, 90)))})
    assert [(w.start, w.stop) for w in model.windows(framed, {"by": "frames"})] == [
        (START + at + 1, START + at + 10_001) for at in (0, 10_000, 20_000)
    ]
    with pytest.raises(WindowError, match="expected a recording with frames"):
        model.windows(RECORDING, {"by": "frames"})
    with pytest.raises(ConfigError, match="did you mean 'duration_us'"):
        model.windows(RECORDING, {"duration": 5})


def test_recordings_that_are_too_short() -> None:
    model = pointwise("depth", "depth", np.zeros((1, 3)))
    with pytest.raises(PredictError, match="nothing to answer for"):
        model.windows(ArrayRecording(Events.empty(SENSOR)))
    short = ArrayRecording(events(7_000))
    with pytest.raises(PredictError, match=r"got 7000 us; give a shorter one: window\.duration_us=7000"):
        model.windows(short)
    assert len(model.windows(short, {"duration_us": 7_000})) == 1
    assert len(model.windows(ArrayRecording(events(8_000)))) == 1, "most of a window will do, as in training"
    with pytest.raises(PredictError, match=r"got 4000; give a shorter one: window\.num_events=4000"):
        model.windows(RECORDING, {"by": "count", "num_events": 6000})


def test_a_few_windows_are_read_at_a_time() -> None:
    read: list[int] = []

    class Watched(ArrayRecording):
        def events(self, t0: int, t1: int) -> Events:
            read.append(t0)
            return super().events(t0, t1)

    model = pointwise("depth", "depth", np.zeros((1, 3)))
    source = Watched(events())
    windows = model.windows(source, {"duration_us": 1_000})
    assert len(windows) == 35
    ahead = [len(read) - n for n, _ in enumerate(model.answers(source, windows, batch_size=3))]
    assert max(ahead) == 3


@pytest.fixture(scope="module", params=HEADS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Return a task and the folder of a run that left an untrained model of it."""
    task = request.param
    about = card(task, head=HEADS[task])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        objective = build_task(about.task, GRID.channels, SIZE, len(about.classes) or None)
    run = tmp_path_factory.mktemp(task)
    save_model(run / "model", objective, about)
    return task, run


def test_models_as_they_are_kept(saved: tuple[str, Path]) -> None:
    task, run = saved
    model = load(run)
    assert model.task == load(str(run / "model")).task == task
    assert not model.objective.training
    windows = model.windows(RECORDING)
    one, many = (list(model.answers(RECORDING, windows, batch_size=size)) for size in (1, 4))
    shape = {"recognition": (3,), "segmentation": (50, 90), "flow": (2, 50, 90), "depth": (50, 90)}[task]
    for alone, among in zip(one, many, strict=True):
        assert alone.values.shape == shape
        assert np.isfinite(alone.values).all()
        if task != "segmentation":
            np.testing.assert_allclose(alone.values, among.values, rtol=1e-3, atol=1e-3)
    if task == "recognition":
        middle = events(sensor=Sensor(32, 32))
        source = ArrayRecording(middle)
        (first, *_) = model.answers(source, model.windows(source))
        with torch.no_grad():
            logits = model.objective.predict({"input": GRID(first.events)[None]})["logits"][0]
        np.testing.assert_allclose(first.values, logits.softmax(0).numpy(), rtol=1e-4)
        with pytest.raises(PredictError, match="leave scale out"):
            next(model.answers(source, windows, scale=1))


def test_recognition_sees_the_middle_of_the_sensor(saved: tuple[str, Path]) -> None:
    """A change at the far left and right, outside the square that training saw, changes the answers per pixel only."""
    task, run = saved
    model = load(run)
    whole_of_it = events()
    middle = (whole_of_it.x >= 20) & (whole_of_it.x < 70)
    columns = (getattr(whole_of_it, name)[middle] for name in "xytp")
    windows = model.windows(RECORDING)[-1:]
    (full,) = model.answers(RECORDING, windows)
    (cut,) = model.answers(ArrayRecording(Events.checked(*columns, SENSOR)), windows)
    same = bool(np.allclose(full.values, cut.values, atol=1e-6))
    assert same == (task == "recognition")


def test_more_classes_than_a_mask_holds() -> None:
    model = pointwise("segmentation", "logits", np.zeros((256, 3)), num=256)
    with pytest.raises(PredictError, match="at most 255 classes"):
        next(model.answers(RECORDING, model.windows(RECORDING)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_there_is_not_is_refused(saved: tuple[str, Path]) -> None:
    with pytest.raises(ValueError, match="no CUDA device"):
        load(saved[1], "cuda")


def test_folders_without_a_model(tmp_path: Path) -> None:
    backbone = build_backbone("vit_nano", GRID.channels, SIZE)
    save_encoder(tmp_path / "run" / "encoder", backbone, card("depth").encoder)
    for folder in (tmp_path / "run", tmp_path / "run" / "encoder"):
        with pytest.raises(PredictError, match=r"holds an encoder.*eventfm finetune TASK encoder=.*run.encoder data="):
            load(folder)
    with pytest.raises(ModelError, match="no model in"):
        load(tmp_path / "nowhere")
