from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import torch

import eventfm
from eventfm.api import visualizing
from eventfm.api.visualizing import visualize
from eventfm.config import ConfigError
from eventfm.data.table import CollectionError
from eventfm.data.windows import WindowConfig, WindowError
from eventfm.deployment.predict import LoadedEncoder, assemble
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack, save_recording
from eventfm.models import build_backbone
from eventfm.models.configs import BackboneConfig
from eventfm.models.encoder import EncoderCard, save_encoder
from eventfm.models.teachers import TeacherError
from eventfm.representations import VoxelGrid, describe
from eventfm.visualization.token_panel import TokenRow, token_panel

SIZE = (32, 48)
CARD = EncoderCard(
    backbone=BackboneConfig(name="vit_nano"),
    in_channels=3,
    input_size=SIZE,
    representation=describe(VoxelGrid(3, "window")),
    window={"by": "time", "duration_us": 10_000},
    method="difference",
)


def recording(height: int = 32, width: int = 48, frames: tuple[int, int] | None = (32, 48)) -> ArrayRecording:
    """Return 60 ms of events, and a frame each 10 ms."""
    rng = np.random.default_rng(0)
    t = 1_000_000 + np.sort(rng.integers(0, 60_000, 6000))
    x, y = rng.integers(0, width, 6000), (height * rng.random(6000) ** 2).astype(int)
    events = Events.checked(x, y, t, rng.integers(0, 2, 6000), Sensor(width, height))
    pictures = rng.integers(0, 256, (7, *(frames or (1, 1)), 3)).astype(np.uint8)
    return ArrayRecording(events, {"frames": ArrayTrack(1_000_000 + np.arange(7) * 10_000, pictures)} if frames else {})


def write_dsec(folder: Path, seed: int = 0) -> Path:
    """Write a sequence of DSEC, 41 ms, with two frames that were warped already."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 41_000, 4000))
    for name in ("events/left", "images/left/distorted"):
        (folder / name).mkdir(parents=True)
    with h5py.File(folder / "events/left/events.h5", "w") as file:
        file["events/x"], file["events/y"] = (rng.integers(0, side, 4000).astype("u2") for side in (640, 480))
        file["events/t"], file["events/p"] = t.astype("u4"), rng.integers(0, 2, 4000).astype("u1")
        file["ms_to_idx"], file["t_offset"] = np.searchsorted(t, 1000 * np.arange(42)).astype("u8"), np.int64(7_000_000)
    for number in range(2):
        picture = np.full((480, 640, 3), 100 * number, np.uint8)
        cv2.imwrite(str(folder / f"images/left/distorted/{number:06d}.png"), picture)
    (folder / "images/timestamps.txt").write_text("7000000\n7020000\n")
    return folder


@pytest.fixture(scope="module")
def encoder() -> LoadedEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = build_backbone("vit_nano", 3, SIZE)
    assert isinstance(backbone, torch.nn.Module)
    return assemble(backbone, CARD)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """Return a tiny ViT with a class token, and random weights."""
    from transformers import ViTConfig, ViTModel

    sizes = {"hidden_size": 64, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return ViTModel(ViTConfig(**sizes, image_size=32, patch_size=4), add_pooling_layer=False).eval()


@pytest.fixture(scope="module")
def teacher(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    network.save_pretrained(folder)
    return folder


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[TokenRow]:
    """Return a list that is filled with what the panel is made of."""
    seen: list[TokenRow] = []

    def spy(given: list[TokenRow], num_clusters: int) -> np.ndarray:
        seen.extend(given)
        return token_panel(given, num_clusters)

    monkeypatch.setattr(visualizing, "token_panel", spy)
    return seen


def asked(network: Any, frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return what transformers itself says of a frame, (rows, cols, D), normalised by 0.5 and 0.5."""
    picture = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255
    pixels = torch.from_numpy((picture - 0.5) / 0.5).permute(2, 0, 1)[None]
    with torch.no_grad():
        out = network(pixels, interpolate_pos_encoding=True).last_hidden_state
    return out[0, 1:].reshape(size[0] // 4, size[1] // 4, -1).numpy()


def test_rows_are_the_windows_at_the_moments(encoder: LoadedEncoder, rows: list[TokenRow], tmp_path: Path) -> None:
    source = recording()
    made = visualize(encoder, source, tmp_path / "new" / "a.png", at=[0.0, 0.0251, 0.06 - 1e-4], clusters=3)
    assert made.path == tmp_path / "new" / "a.png"
    np.testing.assert_array_equal(cv2.imread(str(made.path))[..., ::-1], made.picture)
    first = source.t_range[0]
    for row, window in zip(rows, (0, 2, 4), strict=True):
        (embedding,) = encoder.embed(source.events(first + window * 10_000, first + (window + 1) * 10_000))
        np.testing.assert_allclose(row.tokens.reshape(24, 64), embedding.tokens, atol=1e-5)
        assert row.label == f"{window / 100:.3f} to {window / 100 + 0.01:.3f} s"
        assert row.frame_tokens is None
        assert row.frame is not None, "a frame is shown even where nobody reads it"
        assert row.events.shape == (32, 48, 3)
        assert len(row.places) == 2
    frames = source.tracks["frames"]
    np.testing.assert_array_equal(rows[1].frame, frames.read(3))


def test_without_moments_three_spread_evenly(encoder: LoadedEncoder, rows: list[TokenRow]) -> None:
    picture, path = visualize(encoder, recording())
    assert path is None
    assert picture.dtype == np.uint8
    assert [row.label for row in rows] == ["0.000 to 0.010 s", "0.025 to 0.035 s", "0.050 to 0.060 s"]
    rows.clear()
    visualize(encoder, recording(), window={"by": "whole"})
    assert [row.label for row in rows] == ["0.000 to 0.060 s"]


def test_counted_windows_are_found_by_time(encoder: LoadedEncoder, rows: list[TokenRow]) -> None:
    source = recording()
    visualize(encoder, source, at=0.03, window=WindowConfig(by="count", num_events=500))
    begin, end = (float(text.removesuffix(" s")) for text in rows[0].label.split(" to "))
    assert begin <= 0.03 <= end
    assert end - begin == pytest.approx(0.005, abs=0.001)


def test_a_teacher_reads_the_frame_on_the_same_grid(
    encoder: LoadedEncoder, network: Any, teacher: Path, rows: list[TokenRow]
) -> None:
    source = recording()
    frames = source.tracks["frames"]
    visualize(encoder, source, teacher=teacher, at="0.001", density="1,2")
    assert [row.label for row in rows] == ["0.000 to 0.010 s", "0.000 to 0.010 s, x2"]
    assert rows[0].places == rows[1].places
    for row, factor in zip(rows, (1, 2), strict=True):
        assert row.tokens.shape[:2] == (4 * factor, 6 * factor)
        assert row.frame_tokens is not None
        expected = asked(network, frames.read(1), (16 * factor, 24 * factor))
        if factor == 1:  # by area, as everywhere where pictures get smaller
            shown = frames.read(1).reshape(16, 2, 24, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)
            expected = asked(network, shown, (16, 24))
        np.testing.assert_allclose(row.frame_tokens, expected, atol=0.05)
        assert np.abs(row.frame_tokens).mean() > 0.2
    first = source.t_range[0]
    tensor = encoder.tensors([source.events(first, first + 10_000)])
    larger = np.stack([cv2.resize(channel, (96, 64)) for channel in tensor[0].numpy()])
    with torch.no_grad():
        want = encoder.backbone(torch.from_numpy(larger)[None]).tokens[0]
    np.testing.assert_allclose(rows[1].tokens.reshape(-1, 64), want.numpy(), atol=1e-4)


def test_tokens_lie_on_the_part_that_the_encoder_sees(
    encoder: LoadedEncoder, network: Any, teacher: Path, rows: list[TokenRow]
) -> None:
    """The sensor is a quarter wider than the encoder's input: its middle is seen, of events and of frame."""
    source = recording(32, 64, (32, 64))
    visualize(encoder, source, teacher={"name": str(teacher), "input_size": [32, 64]}, at=0)
    whole = asked(network, source.tracks["frames"].read(1), (32, 64))
    # One of the encoder's tokens, 8 pixels, has the mean of two by two of the teacher's.
    middle = whole[:, 2:14].reshape(4, 2, 6, 2, 64).mean(axis=(1, 3))
    assert rows[0].frame_tokens is not None
    np.testing.assert_allclose(rows[0].frame_tokens, middle, atol=1e-4)
    np.testing.assert_array_equal(rows[0].frame, source.tracks["frames"].read(1)[:, 8:56])
    # Where no size is given, one of the teacher's tokens lies on each of the encoder's.
    visualize(encoder, source, teacher=teacher, at=0)
    half = source.tracks["frames"].read(1).reshape(16, 2, 32, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    assert rows[1].frame_tokens is not None
    np.testing.assert_allclose(rows[1].frame_tokens, asked(network, half, (16, 32))[:, 1:7], atol=0.05)


def test_anchors_lie_where_events_are(encoder: LoadedEncoder, rows: list[TokenRow]) -> None:
    x, y, t = np.full(500, 30), np.full(500, 20), np.arange(500) * 20
    few = np.arange(40) % 48
    columns = [np.concatenate(pair) for pair in ((x, few), (y, few % 32))]
    events = Events.checked(*columns, np.sort(np.concatenate([t, few])), np.ones(540), Sensor(48, 32))
    visualize(encoder, ArrayRecording(events), at=0, anchors=1)
    assert rows[0].places == [(2.5 / 4, 3.5 / 6)]
    assert rows[0].frame is None
    rows.clear()
    visualize(encoder, ArrayRecording(events), at=0, anchors=0)
    assert rows[0].places == []


def test_from_files_by_the_public_name(encoder: LoadedEncoder, teacher: Path, tmp_path: Path) -> None:
    save_encoder(tmp_path / "run" / "encoder", encoder.backbone, CARD)
    path = save_recording(tmp_path / "one.h5", recording())
    a = eventfm.visualize(tmp_path / "run", path, teacher=str(teacher), at=(0.0, 0.03))
    b = visualize(encoder, recording(), **{"teacher.name": teacher}, at="0,0.03", device="cpu")
    np.testing.assert_array_equal(a.picture, b.picture)
    assert a.picture.shape[1] == 10 * (360 + 8) + 8


def test_a_sequence_of_dsec_is_shown_with_its_frame(
    encoder: LoadedEncoder, teacher: Path, rows: list[TokenRow], tmp_path: Path
) -> None:
    folder = write_dsec(tmp_path / "zurich_city_14_c")
    visualize(encoder, folder, at=0.031, teacher=teacher)
    (row,) = rows
    assert row.label == "0.030 to 0.040 s"
    assert row.frame_tokens is not None
    np.testing.assert_array_equal(np.unique(row.frame), [100])
    write_dsec(tmp_path / "zurich_city_15_a")
    with pytest.raises(CollectionError, match=r"holds 2 sequences of DSEC; give one, e\.g\. .*zurich_city_14_c"):
        visualize(encoder, tmp_path)


def test_frames_that_no_teacher_can_read(encoder: LoadedEncoder, teacher: Path, rows: list[TokenRow]) -> None:
    with pytest.raises(ConfigError, match="the recording has none, only events; leave teacher out"):
        visualize(encoder, recording(frames=None), teacher=teacher)
    with pytest.raises(WindowError, match="as large as the sensor, 48x32 pixels, got 20x10"):
        visualize(encoder, recording(frames=(10, 20)), teacher=teacher)
    for frames in (None, (10, 20)):
        rows.clear()
        visualize(encoder, recording(frames=frames), at=0)
        assert rows[0].frame is None


def test_mistakes_are_named(encoder: LoadedEncoder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key 'cluster'; did you mean 'clusters'"):
        visualize(encoder, recording(), cluster=3)
    with pytest.raises(ConfigError, match=r"density 64 makes an input of 3072x2048 pixels with 98,304 tokens, more"):
        visualize(encoder, recording(), density=(1, 64))
    with pytest.raises(ConfigError, match=r"at=0.5 lies after the end of the recording, which is 0.060 s long"):
        visualize(encoder, recording(), at=[0.01, 0.5])
    with pytest.raises(ConfigError, match=r"'at\.0'"):
        visualize(encoder, recording(), at=-1)
    with pytest.raises(ConfigError, match=r"PNG, got .*a\.pdf"):
        visualize(encoder, recording(), tmp_path / "a.pdf")
    with pytest.raises(TeacherError, match="no teacher at"):
        visualize(encoder, recording(), teacher="./nowhere")
    empty = ArrayRecording(Events.empty(Sensor(48, 32)))
    for at in ((), (0,)):
        with pytest.raises(ValueError, match=r"(at=0 lies after the end|it is empty)"):
            visualize(encoder, empty, at=at)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:.*pictures are missing")
def test_a_real_recording(encoder: LoadedEncoder, teacher: Path, real_data: Path, rows: list[TokenRow]) -> None:
    visualize(encoder, real_data / "pairs" / "slider_depth", teacher=teacher, at=0.1, density=2)
    (row,) = rows
    assert row.frame is not None
    assert row.frame_tokens is not None
    assert row.tokens.shape == row.frame_tokens.shape == (8, 12, 64)
    assert row.frame.shape == (32, 48, 3)
    assert (row.events != 255).any(axis=2).mean() > 0.05
