from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from eventfm.api.embedding import embed
from eventfm.api.pretraining import RunResult
from eventfm.config import ConfigError
from eventfm.deployment.predict import load
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, open_recording, save_recordings
from eventfm.models.encoder import EncoderError
from eventfm.representations import PolarityCounts


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
    with pytest.raises(ConfigError, match="unknown key 'duration'; did you mean 'duration_us'"):
        embed(trained.out, store, window={"duration": 5})
    with pytest.raises(EncoderError, match="no encoder in"):
        embed(store.parent, store)
