"""Sequence folders of DSEC, written by the tests at their true sizes: what frames show, when, and what is missing."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stereo_rig import Rig, sky

from eventfm.data.alignment import CalibrationError
from eventfm.data.dsec_sequence import find_sequences, open_sequence
from eventfm.data.opening import DataConfig, open_source
from eventfm.data.table import CollectionError
from eventfm.data.windows import WindowError
from eventfm.io import FormatError

OFFSET_US = 5_000_000


def write_events(folder: Path, seed: int = 0) -> None:
    """Write 2000 events over 200 ms."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    t = np.sort(rng.integers(0, 200_000, 2000))
    with h5py.File(folder / "events.h5", "w") as file:
        file["events/x"], file["events/y"] = (rng.integers(0, n, 2000).astype(np.uint16) for n in (640, 480))
        file["events/t"], file["events/p"] = t.astype(np.uint32), rng.integers(0, 2, 2000).astype(np.uint8)
        file["ms_to_idx"] = np.searchsorted(t, 1000 * np.arange(201)).astype(np.uint64)
        file["t_offset"] = np.int64(OFFSET_US)


def write_distorted(folder: Path, count: int = 2, size: tuple[int, int] = (480, 640), seed: int = 0) -> None:
    """Write a sequence as DSEC-Detection has it; frame `n` is `10 n` all over."""
    write_events(folder / "events/left", seed)
    pictures = folder / "images/left/distorted"
    pictures.mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(pictures / f"{number:06d}.png"), np.full((*size, 3), 10 * number, np.uint8))
    times = [OFFSET_US + 50_000 * number for number in range(count)]
    (folder / "images/timestamps.txt").write_text("".join(f"{time}\n" for time in times))


def write_rectified(folder: Path, turn: float = 0.0) -> Rig:
    """Write a sequence as DSEC has it, with one frame of the sky, in colours that differ."""
    write_events(folder / "events/left")
    (folder / "calibration").mkdir()
    rig = Rig(folder / "calibration", 10, turn)
    rig.rectify_map(folder / "events/left", 0)
    picture = sky(rig.rectified(1))
    pictures = folder / "images/left/rectified"
    pictures.mkdir(parents=True)
    rgb = np.rint(255 * np.stack([picture, 1 - picture, picture / 2], axis=-1)).astype(np.uint8)
    cv2.imwrite(str(pictures / "000000.png"), rgb[..., ::-1])
    (folder / "images/timestamps.txt").write_text(f"{OFFSET_US + 10}\n")
    return rig


@pytest.mark.parametrize("turn", [0.0, 0.04])
def test_rectified_frames_show_what_the_event_camera_sees(turn: float, tmp_path: Path) -> None:
    rig = write_rectified(tmp_path, turn)
    recording = open_sequence(tmp_path)
    assert (recording.format, recording.sensor.width, recording.sensor.height) == ("dsec", 640, 480)
    track = pickle.loads(pickle.dumps(recording)).tracks["frames"]
    assert list(track.times) == [OFFSET_US + 10]
    frame = track.read(0)
    assert (frame.shape, frame.dtype) == ((480, 640, 3), np.uint8)
    seen = frame.any(axis=-1)
    assert seen.mean() > 0.6
    expected = sky(rig.raw(0))
    inner = cv2.erode(seen.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=0).astype(bool)
    for channel, value in enumerate((expected, 1 - expected, expected / 2)):
        np.testing.assert_allclose(frame[inner][:, channel] / 255, value[inner], atol=0.015)


def test_events_are_those_of_the_file(tmp_path: Path) -> None:
    write_distorted(tmp_path)
    recording = open_sequence(tmp_path)
    with h5py.File(tmp_path / "events/left/events.h5") as file:
        t = file["events/t"][:].astype(int) + OFFSET_US
        x = file["events/x"][:]
    events = recording.events(OFFSET_US + 50_000, OFFSET_US + 90_000)
    inside = (t >= OFFSET_US + 50_000) & (t < OFFSET_US + 90_000)
    np.testing.assert_array_equal(events.t, t[inside])
    np.testing.assert_array_equal(events.x, x[inside])


def test_frames_that_were_warped_already_are_taken_as_they_are(tmp_path: Path) -> None:
    write_distorted(tmp_path)
    (tmp_path / "images/left/rectified").mkdir()
    cv2.imwrite(str(tmp_path / "images/left/rectified/000000.png"), np.zeros((1080, 1440), np.uint8))
    track = open_sequence(tmp_path).tracks["frames"]
    assert [int(track.read(number).mean()) for number in range(2)] == [0, 10]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    spans=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 30_000)), min_size=1, max_size=3),
    comma=st.sampled_from([", ", ",", " "]),
    header=st.booleans(),
)
def test_a_frame_is_of_the_middle_of_its_exposure(
    spans: list[tuple[int, int]], comma: str, header: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("sequence")
    write_distorted(folder, len(spans))
    starts = np.cumsum([60_000 + gap for gap, _ in spans]).tolist()
    lines = [f"{start}{comma}{start + length}" for start, (_, length) in zip(starts, spans, strict=True)]
    lines = ["# start, end", *lines] if header else lines
    (folder / "images/left/exposure_timestamps.txt").write_text("\n".join(lines) + "\n")
    times = open_sequence(folder).tracks["frames"].times
    assert times.dtype == np.int64
    assert [2 * time in (2 * s + n, 2 * s + n - 1) for time, s, (_, n) in zip(times, starts, spans, strict=True)] == [
        True
    ] * len(spans)


def test_what_is_missing_is_named_with_where_to_get_it(tmp_path: Path) -> None:
    write_rectified(tmp_path)
    (tmp_path / "calibration/cam_to_cam.yaml").rename(tmp_path / "aside.yaml")
    with pytest.raises(CalibrationError, match=r"cam_to_cam.*_calibration.zip from https://dsec"):
        open_source(DataConfig(path=str(tmp_path)))
    (tmp_path / "aside.yaml").rename(tmp_path / "calibration/cam_to_cam.yaml")
    (tmp_path / "events/left/rectify_map.h5").unlink()
    with pytest.raises(CalibrationError, match=r"rectify_map.*_events_left.zip.*https://dsec"):
        open_sequence(tmp_path)
    (tmp_path / "images/timestamps.txt").unlink()
    with pytest.raises(FormatError, match=r"download <sequence>_image_timestamps.txt from https://dsec"):
        open_sequence(tmp_path)


def test_times_and_sizes_have_to_fit(tmp_path: Path) -> None:
    write_distorted(tmp_path / "a")
    times = tmp_path / "a/images/timestamps.txt"
    times.write_text("5000000\n")
    with pytest.raises(FormatError, match=r"a picture for each of 1 timestamps in .*got 2 in distorted"):
        open_sequence(tmp_path / "a")
    for text in ("5000000, 1\n5100000, 1\n", "5000000\n5.1e6\n"):
        times.write_text(text)
        with pytest.raises(FormatError, match="1 whole numbers of microseconds on every line"):
            open_sequence(tmp_path / "a")
    write_distorted(tmp_path / "b", size=(240, 320))
    with pytest.raises(WindowError, match="as large as the sensor, 640x480 pixels, got 320x240"):
        open_sequence(tmp_path / "b")
    write_rectified(tmp_path / "c")
    with h5py.File(tmp_path / "c/events/left/rectify_map.h5", "a") as file:
        small = file["rectify_map"][::2, ::2]
        del file["rectify_map"]
        file["rectify_map"] = small
    with pytest.raises(CalibrationError, match=r"rectify_map.h5 of 640x480 pixels, got 320x240"):
        open_sequence(tmp_path / "c")


def test_a_folder_of_sequences_is_opened_by_its_path(tmp_path: Path) -> None:
    for number, name in enumerate(("zurich_city_00_b", "zurich_city_00_a", "zurich_city_13_a")):
        write_distorted(tmp_path / "train" / name, seed=number)
    write_events(tmp_path / "train/zurich_city_01_a/events/left")
    with pytest.warns(UserWarning, match="sequences") as said:
        source = open_source(DataConfig(path=str(tmp_path)))
    assert [str(one.message).split(" in ")[0] for one in said] == [
        "1 of 4 sequences of DSEC",
        "1 of 3 recordings or sequences are test sequences, e.g. train/zurich_city_13_a "
        "(DSEC-Semantic, DSEC test split), and are left out; data.keep_test_sequences=true keeps them",
    ]
    assert source.collection is not None
    assert [entry.name for entry in source.collection.entries] == ["train/zurich_city_00_a", "train/zurich_city_00_b"]
    assert (source.sensor.width, source.sensor.height) == (640, 480)
    single = open_source(DataConfig(path=str(tmp_path / "train/zurich_city_00_a"))).collection
    assert single is not None
    assert [entry.name for entry in single.entries] == [""]


def test_a_table_chooses_sequences(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_distorted(tmp_path / "set" / name, 1)
    table = tmp_path / "table.csv"
    table.write_text("path,label,split,fold\nc,night,train,1\na,day,test,0\n")
    config = DataConfig(path=str(tmp_path / "set"), labels=str(table))
    found = open_source(config).collection
    assert found is not None
    assert [(e.name, e.label, e.split, e.fold) for e in found.entries] == [("c", 1, "train", 1), ("a", 0, "test", 0)]
    assert found.classes == ("day", "night")
    chosen = open_source(config.model_copy(update={"split": "test"})).collection
    assert chosen is not None
    assert [entry.name for entry in chosen.entries] == ["a"]
    table.write_text("path\nd\n")
    with pytest.raises(CollectionError, match=r"names 'd', and the sequences of DSEC in .* are a, b, c"):
        open_source(config)
    with pytest.raises(CollectionError, match=r"sequences of DSEC.*leave images out"):
        open_source(DataConfig(path=str(tmp_path / "set"), images=str(tmp_path)))


def test_events_alone_are_recordings_as_before(tmp_path: Path) -> None:
    write_events(tmp_path / "a/events/left")
    assert find_sequences(tmp_path) == ()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = open_source(DataConfig(path=str(tmp_path))).collection
    assert found is not None
    assert [entry.name for entry in found.entries] == ["a/events/left/events.h5"]
    assert find_sequences(tmp_path / "a/events/left/events.h5") == ()
    with pytest.raises(FormatError, match="expected pictures in"):
        open_sequence(tmp_path / "a")
