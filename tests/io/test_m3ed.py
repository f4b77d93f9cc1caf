"""Event files of M3ED, written by the tests."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from eventfm.io import FormatError, detect_format, open_recording


def write(path: Path) -> np.ndarray:
    """Write 3000 events that end beyond their index, and return their times."""
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(700, 50_300, 3000))
    with h5py.File(path, "w") as file:
        camera = file.create_group("prophesee/left")
        camera["x"], camera["y"] = rng.integers(0, 1280, 3000).astype("u2"), rng.integers(0, 720, 3000).astype("u2")
        camera["t"], camera["p"] = t, rng.integers(0, 2, 3000).astype("i1")
        camera["ms_map_idx"] = np.array([(t < 1000 * ms).sum() for ms in range(t[-1] // 1000)], "u8")
        camera["calib/resolution"] = (1280, 720)
    return t


def test_the_left_camera_is_read(tmp_path: Path) -> None:
    t = write(tmp_path / "a_data.h5")
    assert detect_format(tmp_path / "a_data.h5") == "m3ed"
    recording = open_recording(tmp_path / "a_data.h5")
    assert (recording.sensor.width, recording.sensor.height) == (1280, 720)
    assert (recording.num_events, recording.t_range) == (3000, (t[0], t[-1]))
    for start, stop in ((0, 100), (0, 9999), (12_345, 23_456), (49_500, 60_000), (60_000, 70_000)):
        np.testing.assert_array_equal(recording.events(start, stop).t, t[(t >= start) & (t < stop)])


def test_damage_and_hints(tmp_path: Path) -> None:
    path = tmp_path / "a_data.h5"
    write(path)
    with h5py.File(path, "a") as file:
        del file["prophesee/left/calib"]
    with pytest.raises(FormatError, match="calib/resolution"):
        open_recording(path)
    assert open_recording(path, sensor=(1280, 720)).num_events == 3000
    with h5py.File(path, "a") as file:
        file["prophesee/left/ms_map_idx"][20:22] = 2900
    with pytest.raises(FormatError, match="prophesee/left/ms_map_idx does not fit the events"):
        open_recording(path, sensor=(1280, 720)).events(20_000, 21_000)
