"""DSEC, MVSEC and plain HDF5 files, written here as their authors write them."""

import h5py
import hdf5plugin
import numpy as np
import pytest
from fuzzing import fuzz

from eventfm.events import EventError, Sensor
from eventfm.io import FormatError, open_recording


def write_dsec(path, events, offset=1_000_000, chunk=64):
    """`ms_to_idx` by its definition: the first event with t >= 1000 ms."""
    t = events.t - offset
    with h5py.File(path, "w") as file:
        blosc = hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=hdf5plugin.Blosc.SHUFFLE)
        for name, column in {"x": events.x, "y": events.y, "p": events.p, "t": t.astype(np.uint32)}.items():
            file.create_dataset(f"events/{name}", data=column, chunks=(chunk,), **blosc)
        file["ms_to_idx"] = np.array([int((t < 1000 * ms).sum()) for ms in range(int(t[-1]) // 1000 + 1)], np.uint64)
        file["t_offset"] = offset


@pytest.fixture
def dsec(tmp_path, make_events):
    events = make_events(3000, width=640, height=480, start_us=1_000_700, span_us=90_000)
    write_dsec(tmp_path / "events.h5", events)
    return tmp_path / "events.h5", events


def test_dsec(dsec, assert_contract):
    path, events = dsec
    recording = open_recording(path)
    assert recording.format == "dsec"
    assert recording.sensor == Sensor(640, 480, "DSEC")
    assert_contract(recording, events)


def test_dsec_reads_only_what_a_window_needs(dsec, monkeypatch):
    path, events = dsec
    recording = open_recording(path)
    read = []
    plain = type(recording)._read
    monkeypatch.setattr(
        type(recording), "_read", lambda self, start, stop: read.append((start, stop)) or plain(self, start, stop)
    )
    found = recording.events(1_040_300, 1_041_200)
    ((start, stop),) = read
    assert len(found) > 10
    assert stop - start <= int(((events.t >= 1_040_000) & (events.t < 1_042_000)).sum()) + 2


def test_dsec_checks_each_slice(dsec):
    path, events = dsec
    with h5py.File(path, "r+") as file:
        file["events/t"][1500] = 0
        file["events/x"][20] = 700
    recording = open_recording(path)
    assert len(recording.events_by_index(100, 1400)) == 1300
    with pytest.raises(EventError, match=r"goes backwards 1 times.*sort"):
        recording.events_by_index(1400, 1600)
    with pytest.raises(EventError, match="outside the 640x480 sensor"):
        recording.events(int(events.t[0]), int(events.t[40]))
    mended = open_recording(path, on_error="sort")
    with pytest.warns(UserWarning, match="mended by sort"):
        assert (np.diff(mended.events_by_index(1400, 1600).t) >= 0).all()


@pytest.mark.parametrize("wrong", [0, 2999, 10**9])
def test_dsec_with_the_index_of_another_file_is_refused(dsec, wrong):
    path, _ = dsec
    with h5py.File(path, "r+") as file:
        file["ms_to_idx"][40:42] = wrong
    with pytest.raises(FormatError, match="ms_to_idx"):
        open_recording(path).events(1_040_300, 1_040_900)


def test_dsec_columns_of_unequal_length_are_refused(dsec):
    path, _ = dsec
    with h5py.File(path, "r+") as file:
        del file["events/p"]
        file["events/p"] = np.zeros(10, np.uint8)
    with pytest.raises(FormatError, match="four columns of one length"):
        open_recording(path)


def test_size_claimed_but_never_written_is_refused(tmp_path):
    path = tmp_path / "events.h5"
    with h5py.File(path, "w") as file:
        for name in "xytp":
            file.create_dataset(f"events/{name}", (2**45,), np.uint8, chunks=(2**16,))
    with pytest.raises(FormatError, match="not written in full"):
        open_recording(path)


def test_mvsec(tmp_path, make_events, assert_contract):
    events = make_events(346, 346, 260, start_us=1_504_645_177_000_000)
    seconds = events.t / 1e6
    pictures = np.random.default_rng(0).integers(0, 256, (3, 260, 346), dtype=np.uint8)
    path = tmp_path / "outdoor_day1_data.hdf5"
    with h5py.File(path, "w") as file:
        table = np.stack([events.x, events.y, seconds, events.p.astype(int) * 2.0 - 1], 1)
        file.create_dataset("davis/left/events", data=table, compression="gzip", chunks=(100, 4))
        file["davis/left/image_raw"] = pictures
        file["davis/left/image_raw_ts"] = seconds[:3]
        file["davis/right/events"] = np.zeros((2, 4))
    recording = open_recording(path)
    assert recording.format == "mvsec"
    assert recording.sensor == Sensor(346, 260, "MVSEC")
    np.testing.assert_array_equal(recording.tracks["frames"].times, events.t[:3])
    np.testing.assert_array_equal(recording.tracks["frames"].read(2), pictures[2])
    assert_contract(recording, events)


def test_mvsec_window_with_its_two_frames(tmp_path, make_events, assert_contract):
    events = make_events(100)
    path = tmp_path / "000000.hdf5"
    with h5py.File(path, "w") as file:
        file["events"] = np.stack([events.x, events.y, events.t / 1e6, events.p], 1)
        file["image1"], file["image2"] = np.full((30, 44), 1, np.uint8), np.full((30, 44), 2, np.uint8)
        file["start"], file["stop"] = 0.0009996, 0.0613
    recording = open_recording(path)
    assert recording.format == "hdf5"
    assert recording.sensor == Sensor(44, 30)
    frames = recording.tracks["frames"]
    assert frames.times.tolist() == [1000, 61_300]
    assert [int(frames.read(i)[0, 0]) for i in range(2)] == [1, 2]
    assert_contract(recording, events)


@pytest.mark.parametrize("group", ["events", "raw_events"])
@pytest.mark.parametrize("names", ["xytp", ("xs", "ys", "ts", "ps")])
@pytest.mark.parametrize("seconds", [True, False])
def test_one_data_set_per_column(tmp_path, make_events, assert_contract, group, names, seconds):
    events = make_events()
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        columns = (events.x.astype(np.int32), events.y, events.t / 1e6 if seconds else events.t, events.p == 1)
        for name, column in zip(names, columns, strict=True):
            file[f"{group}/{name}"] = column
    recording = open_recording(path)
    assert recording.sensor == Sensor(40, 30, inferred=True)
    assert_contract(recording, events)


def test_stated_sizes(tmp_path, make_events):
    events = make_events()
    for name in ("attribute", "data"):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            for column in "xytp":
                file[f"events/{column}"] = getattr(events, column)
            if name == "attribute":
                file.attrs["sensor_resolution"] = (180, 240)
            else:
                file["events/height"], file["events/width"] = 180, 240
        assert open_recording(tmp_path / f"{name}.h5").sensor == Sensor(240, 180)


def test_other_hdf5_names_what_it_holds(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["weights"] = np.zeros(3)
    with pytest.raises(FormatError, match="it has weights"):
        open_recording(path)


def test_rectified_coordinates_are_refused(tmp_path, make_events):
    events = make_events()
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for column in "ytp":
            file[f"events/{column}"] = getattr(events, column)
        file["events/x"] = events.x + np.float32(0.25)
    with pytest.raises(FormatError, match="whole pixels as x"):
        open_recording(path)


def test_damage_is_survived(dsec, tmp_path, make_events):
    path, _ = dsec
    assert 20 < fuzz(path.read_bytes(), tmp_path, count=60) < 60
    events = make_events(100)
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["events"] = np.stack([events.x, events.y, events.t / 1e6, events.p], 1)
    assert 10 < fuzz((tmp_path / "plain.h5").read_bytes(), tmp_path, count=60) < 60
