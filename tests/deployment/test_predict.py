from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from eventfm.data.transforms import Geometry
from eventfm.data.windows import WindowConfig
from eventfm.deployment.predict import LoadedEncoder, assemble, load, save_embeddings
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, open_recording, save_recording
from eventfm.models import build_backbone
from eventfm.models.configs import BackboneConfig
from eventfm.models.encoder import EncoderCard, EncoderError, save_encoder
from eventfm.protocols import Features
from eventfm.representations import PolarityCounts, VoxelGrid, build, describe

WINDOW = WindowConfig(by="time", duration_us=10_000)


def card(representation: object = None) -> EncoderCard:
    grid = representation or VoxelGrid(3, "window")
    return EncoderCard(
        backbone=BackboneConfig(name="vit_nano"),
        in_channels=grid.channels,  # type: ignore[attr-defined]
        input_size=(32, 32),
        representation=describe(grid),  # type: ignore[arg-type]
        window=WINDOW.model_dump(mode="json"),
        method="difference",
    )


def network(seed: int = 0, channels: int = 3) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = build_backbone("vit_nano", channels, (32, 32))
    assert isinstance(backbone, torch.nn.Module)
    return backbone.eval()


@pytest.fixture(scope="module")
def encoder() -> LoadedEncoder:
    return assemble(network(), card())


def events(count: int = 3000, side: int = 32, duration_us: int = 35_000, seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, side, (2, count))
    t = 500 + np.sort(rng.integers(0, duration_us, count))
    return Events.checked(x, y, t, rng.integers(0, 2, count), Sensor(side, side))


def test_load_from_an_encoder_or_from_its_run(tmp_path: Path) -> None:
    save_encoder(tmp_path / "run" / "encoder", network(), card())
    for path in (tmp_path / "run", str(tmp_path / "run" / "encoder")):
        loaded = load(path)
        assert loaded.representation == VoxelGrid(3, "window")
        assert loaded.window == WINDOW
        assert loaded.input_size == (32, 32)
        assert not loaded.backbone.training
        ours, theirs = loaded.backbone.state_dict(), network().state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_there_is_not_is_refused(tmp_path: Path, encoder: LoadedEncoder) -> None:
    save_encoder(tmp_path, network(), card())
    with pytest.raises(ValueError, match="no CUDA device"):
        load(tmp_path, "cuda")
    with pytest.raises(ValueError, match="no CUDA device"):
        encoder.to("cuda:0")


def test_load_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="no encoder in"):
        load(tmp_path)
    with pytest.raises(EncoderError, match="no encoder in"):
        load(tmp_path / "nowhere")


def test_another_representation_than_the_one_named_is_refused(tmp_path: Path) -> None:
    save_encoder(tmp_path / "encoder", network(), card())
    assert load(tmp_path, representation=VoxelGrid(3, "window")).representation.channels == 3
    load(tmp_path, representation={"name": "voxel_grid", "num_bins": 3, "span": "window"})
    for other in (VoxelGrid(3), VoxelGrid(5, "window"), PolarityCounts(), {"name": "polarity_counts"}):
        with pytest.raises(EncoderError, match=r"trained on voxel_grid\(num_bins=3, span='window'\) and cannot read"):
            load(tmp_path, representation=other)


def test_embedding_is_what_the_backbone_says_of_the_representation(encoder: LoadedEncoder) -> None:
    window = events().between(5_000, 15_000)
    (found,) = encoder.embed(window)
    with torch.no_grad():
        expected = encoder.backbone(VoxelGrid(3, "window")(window)[None])
    np.testing.assert_allclose(found.tokens, expected.tokens[0].numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.cls, expected.tokens[0].mean(0).numpy(), rtol=1e-5, atol=1e-6)
    assert found.grid == (4, 4)
    assert found.t_us == 15_000


def test_class_token_is_the_summary_where_there_is_one() -> None:
    class WithToken(torch.nn.Module):
        embed_dim = 2

        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor) -> Features:
            return Features(x.flatten(2).mT * self.scale, torch.full((len(x), 2), 7.0), (32, 32))

    (found,) = assemble(WithToken(), card()).embed(events())
    assert found.cls.tolist() == [7, 7]


def test_recording_is_cut_as_in_training(encoder: LoadedEncoder) -> None:
    source = ArrayRecording(events())
    found = encoder.embed(source)
    first = source.t_range[0]
    assert [e.t_us for e in found] == [first + 10_000, first + 20_000, first + 30_000]
    for embedding in found:
        (alone,) = encoder.embed(source.events(embedding.t_us - 10_000, embedding.t_us))
        np.testing.assert_allclose(embedding.tokens, alone.tokens, rtol=1e-4, atol=1e-5)


def test_other_windows(encoder: LoadedEncoder) -> None:
    source = ArrayRecording(events())
    by_count = WindowConfig(by="count", num_events=700)
    found = encoder.embed(source, by_count)
    assert [e.t_us for e in found] == [int(source.events_by_index(0, 700 * n).t[-1]) + 1 for n in (1, 2, 3, 4)]
    # Events in memory are cut alike where a window is asked for.
    again = encoder.embed(events(), by_count)
    assert [e.t_us for e in again] == [e.t_us for e in found]


def test_batches_change_nothing(encoder: LoadedEncoder, tmp_path: Path) -> None:
    source = open_recording(save_recording(tmp_path / "a.h5", ArrayRecording(events())))
    short = WindowConfig(by="time", duration_us=2_000)
    one, many = encoder.embed(source, short, batch_size=1), encoder.embed(source, short, batch_size=64)
    assert len(one) == 17
    for a, b in zip(one, many, strict=True):
        assert a.t_us == b.t_us
        np.testing.assert_allclose(a.tokens, b.tokens, rtol=1e-4, atol=1e-5)
    windows = [source.events(e.t_us - 2000, e.t_us) for e in one]
    np.testing.assert_allclose(encoder.summaries(windows, 5), np.stack([e.cls for e in one]), rtol=1e-4, atol=1e-5)
    assert encoder.summaries([]).shape == (0, 64)


def test_windows_are_read_when_they_are_needed(encoder: LoadedEncoder) -> None:
    """A long recording must not lie in memory as a whole."""
    unread = 0

    class Counted(ArrayRecording):
        def events(self, t0: int, t1: int) -> Events:
            nonlocal unread
            unread += 1
            return super().events(t0, t1)

    most = 0
    tensors = type(encoder).tensors

    class Watched(LoadedEncoder):
        def tensors(self, windows: list[Events]) -> torch.Tensor:  # type: ignore[override]
            nonlocal unread, most
            most, unread = max(most, unread), 0
            return tensors(self, windows)

    watched = Watched(encoder.backbone, encoder.representation, encoder.window, encoder.input_size, encoder.card)
    assert len(watched.embed(Counted(events()), WindowConfig(by="time", duration_us=1000), batch_size=4)) == 34
    assert most == 4


def test_events_without_a_window_span_their_own_time(encoder: LoadedEncoder) -> None:
    bare = events()
    first, last = int(bare.t[0]), int(bare.t[-1])
    (found,) = encoder.embed(bare)
    (expected,) = encoder.embed(bare.between(first, last + 1))
    assert found.t_us == last + 1
    np.testing.assert_array_equal(found.tokens, expected.tokens)


@pytest.mark.parametrize("side", [34, 64, 20])
def test_other_sensors_are_cropped_and_resized(encoder: LoadedEncoder, side: int) -> None:
    window = events(side=side).between(500, 10_500)
    geometry = {
        34: Geometry(1, 1, 32, 32, (32, 32)),
        64: Geometry(0, 0, 64, 64, (32, 32)),
        20: Geometry(0, 0, 20, 20, (32, 32)),
    }[side]
    small = VoxelGrid(3, "window")(geometry.events(window)).numpy()
    expected = np.empty((3, 32, 32), np.float32)
    geometry.enlarge(small, expected)
    np.testing.assert_array_equal(encoder.tensors([window])[0].numpy(), expected)
    assert encoder.embed(window)[0].tokens.shape == (16, 64)


def test_no_events(encoder: LoadedEncoder) -> None:
    assert encoder.embed(ArrayRecording(Events.empty(Sensor(32, 32)))) == []
    (found,) = encoder.embed(Events.empty(Sensor(32, 32)))
    assert np.isfinite(found.tokens).all()
    (quiet,) = encoder.embed(events().between(10**8, 10**8 + 5))
    assert quiet.t_us == 10**8 + 5
    np.testing.assert_array_equal(quiet.tokens, found.tokens)


def test_saved_embeddings_read_back(encoder: LoadedEncoder, tmp_path: Path) -> None:
    found = encoder.embed(ArrayRecording(events()))
    target = tmp_path / "new" / "features.npz"
    save_embeddings(target, found)
    with np.load(target) as kept:
        assert sorted(kept) == ["cls", "grid", "t_us", "tokens"]
        np.testing.assert_array_equal(kept["t_us"], [e.t_us for e in found])
        np.testing.assert_array_equal(kept["cls"], np.stack([e.cls for e in found]))
        np.testing.assert_array_equal(kept["tokens"], np.stack([e.tokens for e in found]))
        assert kept["grid"].tolist() == [4, 4]
        assert kept["t_us"].dtype == np.int64
    assert [path.name for path in target.parent.iterdir()] == ["features.npz"]
    with pytest.raises(ValueError, match="at least one embedding"):
        save_embeddings(tmp_path / "none.npz", [])


def test_every_representation_is_served(tmp_path: Path) -> None:
    counts = PolarityCounts()
    served = assemble(network(channels=2), card(counts))
    assert served.representation == build(describe(counts))
    assert served.embed(events())[0].tokens.shape == (16, 64)
