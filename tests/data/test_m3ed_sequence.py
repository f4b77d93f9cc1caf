"""Sequences of M3ED, written by the tests: what frames show, when, and what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from m3ed_files import FRAME_EVERY_US, looks, write_m3ed
from stereo_rig import sky

from eventfm.data.alignment import CalibrationError, WarpedTrack
from eventfm.data.m3ed_sequence import find_sequences, open_sequence
from eventfm.data.opening import DataConfig, open_source
from eventfm.data.table import CollectionError
from eventfm.data.windows import WindowConfig, cut, read
from eventfm.io import FormatError
from eventfm.protocols import Recording


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_m3ed(tmp_path_factory.mktemp("m3ed") / "car_urban_day_horse_data.h5")


def assert_frame(frame: np.ndarray, expected: np.ndarray) -> None:
    """Compare where the frame reaches, away from its border: half a hundredth is lost by bytes, the rest by blur."""
    seen = (frame if frame.ndim == 2 else frame.any(axis=-1)) > 0
    assert seen.mean() > 0.6
    inner = cv2.erode(seen.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0).astype(bool)
    np.testing.assert_allclose(frame[inner] / 255, expected[inner], atol=0.03)


def test_colours_are_what_the_event_camera_sees(sequence: Path) -> None:
    recording = pickle.loads(pickle.dumps(open_sequence(sequence)))
    assert isinstance(recording, Recording)
    assert (recording.format, recording.sensor.width, recording.sensor.height) == ("m3ed", 64, 48)
    track = recording.tracks["frames"]
    assert (track.times.dtype, track.times.tolist()) == (np.int64, [0, FRAME_EVERY_US, 2 * FRAME_EVERY_US])
    shown = sky(looks("prophesee/left"))
    for number in range(3):
        frame = track.read(number)
        assert (frame.shape, frame.dtype) == ((48, 64, 3), np.uint8)
        assert_frame(frame, np.stack([shown, 1 - shown, shown / 2], axis=-1) - number / 100)


def test_without_colours_the_grey_camera_is_taken(tmp_path: Path) -> None:
    frame = open_sequence(write_m3ed(tmp_path / "a_data.h5", ("left",))).tracks["frames"].read(0)
    assert frame.shape == (48, 64)
    assert_frame(frame, 1 - sky(looks("prophesee/left")))
    assert dict(open_sequence(write_m3ed(tmp_path / "b_data.h5", ())).tracks) == {}


@settings(max_examples=60, deadline=None)
@given(start=st.integers(-3000, 90_000), length=st.integers(0, 60_000))
def test_events_are_those_of_the_file(sequence: Path, start: int, length: int) -> None:
    with h5py.File(sequence) as file:
        columns = {name: file[f"prophesee/left/{name}"][:] for name in "xytp"}
    recording = open_sequence(sequence)
    assert recording.t_range == (columns["t"][0], columns["t"][-1])
    inside = (columns["t"] >= start) & (columns["t"] < start + length)
    events = recording.events(start, start + length)
    for name, column in columns.items():
        np.testing.assert_array_equal(getattr(events, name), column[inside])
    np.testing.assert_array_equal(recording.events_by_index(2990, 4000).t, columns["t"][2990:])


def test_windows_begin_at_frames(sequence: Path) -> None:
    recording = open_sequence(sequence)
    windows = cut(recording, WindowConfig(by="frame", length="time", duration_us=10_000))
    assert [window.start for window in windows] == [0, FRAME_EVERY_US, 2 * FRAME_EVERY_US][: len(windows)]
    assert len(windows) >= 2
    assert len(read(recording, windows[1])) > 100


def test_sequences_are_found_by_what_they_hold(tmp_path: Path) -> None:
    write_m3ed(tmp_path / "all/train/spot_a/spot_a_data.h5", ("left",))
    write_m3ed(tmp_path / "all/train/car_b/car_b.h5", ("left",))
    write_m3ed(tmp_path / "all/train/car_b/copy.h5", ("left",))
    for name in ("spot_a_depth_gt.h5", "other_data.h5"):
        with h5py.File(tmp_path / "all/train/spot_a" / name, "w") as file:
            file["depth"] = [1.0]
    (tmp_path / "all/train/spot_a/text_data.h5").write_text("no")
    names = ("train/car_b/car_b.h5", "train/spot_a/spot_a_data.h5")
    assert find_sequences(tmp_path / "all") == names
    assert find_sequences(tmp_path / "all/train/car_b/copy.h5") == ("",)
    assert find_sequences(tmp_path / "all/train/spot_a/other_data.h5") == ()
    assert find_sequences(tmp_path / "gone") == ()

    found = open_source(DataConfig(path=str(tmp_path / "all"))).collection
    assert found is not None
    assert [entry.name for entry in found.entries] == list(names)
    tracks = [entry.recording.tracks["frames"] for entry in found.entries]
    warps = {id(track.warp) for track in tracks if isinstance(track, WarpedTrack)}
    assert len(warps) == 1, "sequences of one calibration share its warp"
    single = open_source(DataConfig(path=str(tmp_path / "all" / names[0]))).collection
    assert single is not None
    assert [entry.name for entry in single.entries] == [""]


def test_a_table_chooses_and_hints_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_m3ed(tmp_path / f"set/{name}_data.h5", ("left",))
    table = tmp_path / "table.csv"
    table.write_text("path,label\nb_data.h5,night\n")
    found = open_source(DataConfig(path=str(tmp_path / "set"), labels=str(table))).collection
    assert found is not None
    assert [(entry.name, entry.label) for entry in found.entries] == [("b_data.h5", 0)]
    table.write_text("path\nc_data.h5\n")
    with pytest.raises(CollectionError, match=r"names 'c_data\.h5', and .* of M3ED in .* are a_data\.h5, b_da"):
        open_source(DataConfig(path=str(tmp_path / "set"), labels=str(table)))
    with pytest.raises(CollectionError, match="sequences of M3ED, which say that themselves; leave sensor out"):
        open_source(DataConfig(path=str(tmp_path / "set"), sensor=(64, 48)))


def test_calibrations_that_warp_alike_are_not_confused(tmp_path: Path) -> None:
    path = write_m3ed(tmp_path / "a_data.h5")
    one = open_sequence(path).tracks["frames"]
    with h5py.File(write_m3ed(tmp_path / "b_data.h5"), "a") as file:
        file["ovc/rgb/calib/intrinsics"][2] += 8
    other = open_sequence(tmp_path / "b_data.h5").tracks["frames"]
    assert isinstance(one, WarpedTrack)
    assert isinstance(other, WarpedTrack)
    np.testing.assert_allclose(other.warp.positions - one.warp.positions, np.full((48, 64, 2), (8, 0)), atol=1e-4)


def _replace(file: Any, name: str, value: Any) -> None:
    del file[name]
    file[name] = value


SPOILT: dict[str, tuple[Callable[[Any], Any], type[ValueError], str]] = {
    "no calibration of the frames": (
        lambda f: f.__delitem__("ovc/rgb/calib"),
        CalibrationError,
        "the group ovc/rgb/calib in .*spoilt_data.h5; download it anew from https://m3ed.io",
    ),
    "no calibration of the events": (
        lambda f: f.__delitem__("prophesee/left/calib"),
        CalibrationError,
        "the group prophesee/left/calib in .*spoilt_data.h5",
    ),
    "no pose": (
        lambda f: f.__delitem__("ovc/rgb/calib/T_to_prophesee_left"),
        CalibrationError,
        "expected T_to_prophesee_left in .*ovc/rgb/calib",
    ),
    "frames that were made smaller": (
        lambda f: _replace(f, "ovc/rgb/data", f["ovc/rgb/data"][:, ::2, ::2]),
        CalibrationError,
        "frames of 144x108 pixels in ovc/rgb/data, as they were calibrated, got 72x54 with 3",
    ),
    "no times": (
        lambda f: f.__delitem__("ovc/ts"),
        FormatError,
        "expected the times of its frames in ovc/ts; download",
    ),
    "fewer times than frames": (
        lambda f: _replace(f, "ovc/ts", f["ovc/ts"][:2]),
        FormatError,
        r"a frame in ovc/rgb/data for each of 2 times in ovc/ts, got 3",
    ),
    "times that go back": (lambda f: _replace(f, "ovc/ts", f["ovc/ts"][:][::-1]), FormatError, "times of a track"),
    "seconds": (
        lambda f: _replace(f, "ovc/ts", f["ovc/ts"][:] / 1e6),
        FormatError,
        "whole microseconds in ovc/ts, got fl",
    ),
    "no index": (lambda f: f.__delitem__("prophesee/left/ms_map_idx"), FormatError, "a data set ms_map_idx of 1"),
    "no column": (lambda f: f.__delitem__("prophesee/left/p"), FormatError, "a data set p of 1 dimensions"),
    "columns of two lengths": (
        lambda f: f["prophesee/left/x"].resize((2500,)),
        FormatError,
        "four columns of one length, got .*2500",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_missing_or_does_not_fit_is_named(name: str, tmp_path: Path) -> None:
    spoil, error, said = SPOILT[name]
    with h5py.File(write_m3ed(tmp_path / "spoilt_data.h5"), "a") as file:
        spoil(file)
    with pytest.raises(error, match=said):
        open_source(DataConfig(path=str(tmp_path)))


@pytest.mark.parametrize(
    "other", [lambda t: 1000 * t, lambda t: t // 1000, lambda t: t + 1_700_000_000_000_000, lambda t: t[1:2] - 10**6]
)
def test_frames_of_another_clock_are_refused(other: Callable[[Any], Any], tmp_path: Path) -> None:
    with h5py.File(write_m3ed(tmp_path / "a_data.h5"), "a") as file:
        times = other(file["ovc/ts"][:])
        _replace(file, "ovc/ts", times)
        _replace(file, "ovc/rgb/data", file["ovc/rgb/data"][: len(times)])
    with pytest.raises(
        FormatError, match=rf"frames from {times[0]} to {times[-1]} and events from \d+ to \d+; download"
    ):
        open_sequence(tmp_path / "a_data.h5")


@pytest.mark.parametrize("kept", [slice(1), slice(0, 3, 2), slice(2)])
def test_frames_may_stop_before_the_events_do(kept: slice, tmp_path: Path) -> None:
    with h5py.File(write_m3ed(tmp_path / "a_data.h5"), "a") as file:
        _replace(file, "ovc/ts", file["ovc/ts"][kept] + 1000)
        _replace(file, "ovc/rgb/data", file["ovc/rgb/data"][kept])
    assert len(open_sequence(tmp_path / "a_data.h5").tracks["frames"].times) in (1, 2)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_refused(share: float, tmp_path: Path) -> None:
    write_m3ed(tmp_path / "a/a_data.h5")
    path = write_m3ed(tmp_path / "b/b_data.h5")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(FormatError, match=r"b_data\.h5: damaged or cut off: .*; download it anew from https://m3ed"):
        open_source(DataConfig(path=str(tmp_path)))
