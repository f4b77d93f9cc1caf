from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from eventfm.api.embedding import embed
from eventfm.api.pretraining import RunResult
from eventfm.api.recordings import convert, info
from eventfm.config import ConfigError
from eventfm.deployment.predict import load
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, open_recording, save_recordings
from eventfm.models.encoder import EncoderError
from eventfm.representations import PolarityCounts


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


def write_m3ed(path: Path) -> Path:
    """Write a sequence of M3ED, 41 ms, whose cameras stand in one place and are 32 pixels wide and high."""
    rng = np.random.default_rng(3)
    path.parent.mkdir(parents=True)
    t = np.sort(rng.integers(0, 41_000, 4000))
    with h5py.File(path, "w") as file:
        for name, column in {"x": rng.integers(0, 32, 4000), "y": rng.integers(0, 32, 4000), "t": t}.items():
            file[f"prophesee/left/{name}"] = column
        file["prophesee/left/p"] = rng.integers(0, 2, 4000).astype("i1")
        file["prophesee/left/ms_map_idx"] = np.searchsorted(t, 1000 * np.arange(t[-1] // 1000)).astype("u8")
        file["ovc/ts"] = 10_000 * np.arange(5)
        file["ovc/left/data"] = rng.integers(0, 256, (5, 32, 32, 1)).astype("u1")
        for camera in ("prophesee/left", "ovc/left"):
            calibration = file.create_group(f"{camera}/calib")
            calibration["intrinsics"], calibration["resolution"] = (30.0, 30.0, 16.0, 16.0), (32, 32)
            calibration["distortion_coeffs"], calibration["distortion_model"] = np.zeros(4), "radtan"
            calibration["T_to_prophesee_left"] = np.eye(4)
    return path


def test_one_recording_however_it_is_given(trained: RunResult, store: Path, tmp_path: Path) -> None:
    path = f"{store}::r03"
    recording = open_recording(path)
    found = embed(trained.out, path, tmp_path / "new" / "a.npz")
    assert isinstance(found, list)
    assert len(found) == 3
    for again in (embed(load(trained.out), recording), embed(trained.encoder, recording)):
        assert isinstance(again, list)
        assert all(np.array_equal(a.tokens, b.tokens) and a.t_us == b.t_us for a, b in zip(found, again, strict=True))
    with np.load(tmp_path / "new" / "a.npz") as kept:
        np.testing.assert_array_equal(kept["tokens"], np.stack([e.tokens for e in found]))


def test_events_are_one_window(trained: RunResult, store: Path) -> None:
    events = open_recording(f"{store}::r03").events(5000, 9000)
    (only,) = embed(trained.out, events)
    assert only.t_us == 9000
    assert len(embed(trained.out, events, window={"by": "count", "num_events": len(events) // 4})) == 4


def test_a_store_gives_a_file_for_each(trained: RunResult, store: Path, tmp_path: Path) -> None:
    found = embed(trained.out, store, tmp_path / "features", window={"by": "whole"})
    assert isinstance(found, dict)
    assert list(found) == [f"::r{n:02d}" for n in range(12)]
    assert sorted(path.name for path in (tmp_path / "features").iterdir()) == [f"r{n:02d}.npz" for n in range(12)]
    with np.load(tmp_path / "features" / "r07.npz") as kept:
        np.testing.assert_array_equal(kept["cls"][0], found["::r07"][0].cls)


def test_a_folder_keeps_its_shape(trained: RunResult, write: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "data" / "a").mkdir(parents=True)
    write(tmp_path / "data" / "a" / "x.h5", 2)
    lines = [f"{t} {t % 32} {t % 30} 1" for t in range(0, 20_000, 50)]
    (tmp_path / "data" / "b.txt").write_text("\n".join(["32 32", *lines]))
    embed(trained.out, tmp_path / "data", tmp_path / "out")
    written = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.npz"))
    assert written == ["a/x.h5/r00.npz", "a/x.h5/r01.npz", "b.txt.npz"]


def test_sequences_of_dsec_are_embedded_whoever_tests_on_them(trained: RunResult, tmp_path: Path) -> None:
    names = ["thun_00_a", "zurich_city_13_a"]
    for seed, name in enumerate(names):
        write_dsec(tmp_path / "dsec" / name, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = embed(trained.out, tmp_path / "dsec", tmp_path / "out")
    assert isinstance(found, dict)
    assert list(found) == names
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{name}.npz" for name in names]
    one = embed(trained.out, tmp_path / "dsec" / names[1])
    events = embed(trained.out, tmp_path / "dsec" / names[1] / "events/left/events.h5")
    for other in (one, events):
        assert isinstance(other, list)
        assert len(other) == 4
        for a, b in zip(found[names[1]], other, strict=True):
            np.testing.assert_array_equal(a.tokens, b.tokens)
    assert not np.array_equal(found[names[0]][0].tokens, found[names[1]][0].tokens)
    at_frames = embed(trained.out, tmp_path / "dsec" / names[0], window={"by": "frames"})
    assert isinstance(at_frames, list)
    assert len(at_frames) == 1


def test_sequences_of_m3ed_are_trained_on_and_embedded(run: Callable[..., RunResult], tmp_path: Path) -> None:
    path = write_m3ed(tmp_path / "m3ed/spot_a/spot_a_data.h5")
    made = run(path.parent.parent, tmp_path / "run", **{"train.num_steps": 2, "data.target": "frames"})
    for data in (path, path.parent, path.parent.parent):
        found = embed(made.out, data)
        assert isinstance(found, list)
        assert len(found) == 4


def test_sequences_are_summed_up_and_converted(tmp_path: Path) -> None:
    path = write_m3ed(tmp_path / "spot_a/spot_a_data.h5")
    said = info(path.parent, png=tmp_path / "look.png")
    assert (said["format"], said["num_events"], said["tracks"]) == ("m3ed", 4000, {"frames": 5})
    assert said["sensor"] == {"width": 32, "height": 32, "inferred": False}
    assert cv2.imread(str(tmp_path / "look.png")).any()
    with pytest.raises(ValueError, match="leave sensor out"):
        convert(path, tmp_path / "a.h5", sensor=(32, 32))
    again = open_recording(convert(path, tmp_path / "a.h5"))
    with h5py.File(path) as file:
        np.testing.assert_array_equal(again.events_by_index(0, 4000).t, file["prophesee/left/t"])
        # Of cameras in one place nothing is warped, but at the border where rounding decides.
        inner = file["ovc/left/data"][3, 1:-1, 1:-1, 0]
    np.testing.assert_array_equal(again.tracks["frames"].read(3)[1:-1, 1:-1], inner)


def test_no_events(trained: RunResult, store: Path, tmp_path: Path) -> None:
    empty = ArrayRecording(Events.empty(Sensor(32, 32)))
    assert embed(trained.out, empty) == []
    with pytest.raises(ValueError, match="expected events to embed, the recording has none"):
        embed(trained.out, empty, tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists()
    path = save_recordings(tmp_path / "two.h5", {"full": open_recording(f"{store}::r00"), "none": empty})
    with pytest.warns(UserWarning, match="none has no events"):
        found = embed(trained.out, path, tmp_path / "out")
    assert [len(found["::full"]), len(found["::none"])] == [3, 0]  # type: ignore[call-overload]
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["full.npz"]


def test_hints_reach_the_files(trained: RunResult, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("".join(f"{t} {t % 9} {t % 7} 1\n" for t in range(0, 20_000, 50)))
    small, hinted = embed(trained.out, path), embed(trained.out, path, sensor=(32, 32))
    assert not np.allclose(small[0].tokens, hinted[0].tokens)
    with pytest.raises(ValueError, match="expected on_error"):
        embed(trained.out, path, on_error="ignore")  # type: ignore[arg-type]


def test_another_representation_is_refused(trained: RunResult, store: Path) -> None:
    path = f"{store}::r03"
    for encoder in (trained.out, load(trained.out)):
        with pytest.raises(EncoderError, match="cannot read polarity_counts"):
            embed(encoder, path, representation=PolarityCounts())
        with pytest.raises(EncoderError, match=r"cannot read voxel_grid\(num_bins=3"):
            embed(encoder, path, representation={"name": "voxel_grid", "num_bins": 3})
        embed(encoder, path, representation={"name": "voxel_grid", "num_bins": 5, "span": "window"})


def test_mistakes_are_named(trained: RunResult, store: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'window\.duration'; did you mean 'duration_us'"):
        embed(trained.out, store, window={"duration": 5})
    with pytest.raises(EncoderError, match="no encoder in"):
        embed(store.parent, store)
