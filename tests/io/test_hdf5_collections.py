"""HDF5 files of RVT, event_utils and event-vision-library, and what the lazily read recordings promise."""

import h5py
import numpy as np
import pytest
from fuzzing import fuzz

from eventfm.events import EventError, Events, Sensor
from eventfm.io import FormatError, open_recording
from eventfm.io.hdf5_columns import Hdf5Columns
from eventfm.io.hdf5_file import Hdf5File
from eventfm.io.searched import SearchedRecording


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of 64 events, so that a small file has many."""
    monkeypatch.setattr("eventfm.io.searched._BLOCK", 64)


def write_rvt(path, events, p=None, t=None):
    with h5py.File(path, "w") as file:
        file["events/x"], file["events/y"] = events.x, events.y
        file["events/t"] = events.t if t is None else t
        file["events/p"] = events.p if p is None else p
        file["events/height"], file["events/width"] = events.sensor.height, events.sensor.width


def write_monash(path, events, pictures=(), times=(), sizes=True):
    with h5py.File(path, "w") as file:
        file["events/xs"], file["events/ys"] = events.x.astype(np.int16), events.y.astype(np.int16)
        file["events/ts"], file["events/ps"] = events.t / 1e6, events.p == 1
        for i, (picture, time) in enumerate(zip(pictures, times, strict=True)):
            data = file.create_dataset(f"images/image{i:09d}", data=picture)
            data.attrs["timestamp"] = time / 1e6
            data.attrs["event_idx"] = int(np.searchsorted(events.t, time))
            data.attrs["size"] = picture.shape
            flow = file.create_dataset(f"flow/flow{i:09d}", data=np.full((2, 30, 40), i, np.float32))
            flow.attrs["timestamp"] = time / 1e6
        if sizes:
            file.attrs["sensor_resolution"] = (events.sensor.height, events.sensor.width)
        file.attrs["num_events"] = len(events)


def test_rvt(tmp_path, make_events, assert_contract):
    events = make_events(1000, width=304, height=240)
    write_rvt(tmp_path / "a.h5", events, p=events.p.astype(np.int8) * 2 - 1)
    recording = open_recording(tmp_path / "a.h5", "rvt")
    assert recording.sensor == Sensor(304, 240)
    assert_contract(recording, events)


def test_a_polarity_that_is_neither_true_nor_false_is_refused(tmp_path, make_events):
    """HDF5 hands out the bytes of a truth value as they are."""
    write_monash(tmp_path / "a.h5", make_events())
    with h5py.File(tmp_path / "a.h5") as file:
        offset = file["events/ps"].id.get_offset()
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[offset + 70] = 127
    (tmp_path / "a.h5").write_bytes(content)
    recording = open_recording(tmp_path / "a.h5", "monash")
    with pytest.raises(EventError, match="expected polarity 0/1, -1/1 or bool, got 127 at event 70"):
        recording.events_by_index(0, 500)


def backwards(events, seed=3):
    """Make about 30 times earlier than some before them, within a few blocks."""
    t = events.t.copy()
    for i in np.random.default_rng(seed).integers(100, len(t), 30):
        t[i] -= 700
    return t


@pytest.mark.filterwarnings("ignore:.*mended by")
@pytest.mark.parametrize("on_error", ["sort", "clamp"])
def test_time_that_goes_backwards_is_mended_alike_in_every_slice(tmp_path, make_events, assert_contract, on_error):
    events = make_events(2000)
    t = backwards(events)
    write_rvt(tmp_path / "a.h5", events, t=t)
    whole = Events.checked(events.x, events.y, t, events.p, events.sensor, on_error=on_error)
    recording = open_recording(tmp_path / "a.h5", "rvt", on_error=on_error)
    assert len(recording._blocks.starts) > 10
    assert_contract(recording, whole)
    if on_error == "clamp":  # what RVT does
        np.testing.assert_array_equal(recording.events_by_index(0, 2000).t, np.maximum.accumulate(t))


def test_time_that_goes_backwards_is_refused_where_it_is_read(tmp_path, make_events):
    events = make_events(2000)
    write_rvt(tmp_path / "a.h5", events, t=backwards(events))
    recording = open_recording(tmp_path / "a.h5", "rvt")
    assert len(recording.events_by_index(0, 100)) == 100
    with pytest.raises(EventError, match=r"a\.h5, events 0 to 2000: time goes backwards \d+ times"):
        recording.events_by_index(0, 2000)


@pytest.mark.filterwarnings("ignore:.*(mended by|dropped)")
@pytest.mark.parametrize("on_error", ["sort", "clamp"])
def test_events_outside_the_sensor_are_not_counted(tmp_path, make_events, assert_contract, on_error):
    events = make_events(2000)
    t = backwards(events)
    write_rvt(tmp_path / "a.h5", events, t=t)
    sensor = Sensor(33, 30)
    whole = Events.checked(events.x, events.y, t, events.p, sensor, on_error=on_error)
    assert len(whole) < 1900
    assert_contract(open_recording(tmp_path / "a.h5", "rvt", sensor=sensor, on_error=on_error), whole)


def test_a_last_time_before_the_first_is_refused_at_once(tmp_path, make_events):
    events = make_events(100)
    write_rvt(tmp_path / "a.h5", events, t=events.t[::-1])
    with pytest.raises(FormatError, match="lies before the first"):
        open_recording(tmp_path / "a.h5", "rvt")


def test_a_window_reads_what_it_needs(tmp_path, make_events, monkeypatch):
    events = make_events(5000)
    write_rvt(tmp_path / "a.h5", events)
    recording = open_recording(tmp_path / "a.h5", "rvt")
    read = []
    plain = Hdf5Columns.read
    monkeypatch.setattr(Hdf5Columns, "read", lambda self, a, b: read.append(b - a) or plain(self, a, b))
    t0 = int(events.t[2500])
    assert 0 < len(recording.events(t0, t0 + 300)) < 60
    assert sum(read) <= 192


def test_monash(tmp_path, make_events, assert_contract):
    events = make_events(700)
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (30, 40), dtype=np.uint8)
    pictures = [grey, grey[..., None], rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)]
    write_monash(tmp_path / "a.h5", events, pictures, [1_500, 20_000, 61_000])
    recording = open_recording(tmp_path / "a.h5", "monash")
    assert recording.sensor == Sensor(40, 30)
    assert_contract(recording, events)
    frames, flow = recording.tracks["frames"], recording.tracks["flow"]
    assert frames.times.tolist() == flow.times.tolist() == [1_500, 20_000, 61_000]
    np.testing.assert_array_equal(frames.read(1), grey)
    np.testing.assert_array_equal(frames.read(2), pictures[2][..., ::-1])
    assert flow.read(2).shape == (2, 30, 40)
    assert flow.read(2).max() == 2


def test_monash_without_a_size_has_that_of_its_pictures(tmp_path, make_events):
    write_monash(tmp_path / "a.h5", make_events(700), [np.zeros((50, 60), np.uint8)], [1_500], sizes=False)
    assert open_recording(tmp_path / "a.h5", "monash").sensor == Sensor(60, 50)


def test_event_vision_library(tmp_path, make_events, assert_contract):
    events = make_events(700)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["raw_events/x"], file["raw_events/y"] = events.x.astype(np.int32), events.y.astype(np.int32)
        file["raw_events/t"], file["raw_events/p"] = events.t / 1e6, events.p == 1
    recording = open_recording(tmp_path / "a.hdf5", "evlib")
    assert recording.sensor == Sensor(40, 30, inferred=True)
    assert_contract(recording, events)


def test_they_are_told_by_content(tmp_path, make_events):
    events = make_events(100)
    write_rvt(tmp_path / "rvt.h5", events)
    write_monash(tmp_path / "monash.h5", events)
    assert [open_recording(tmp_path / f"{name}.h5").format for name in ("rvt", "monash")] == ["rvt", "monash"]


def test_the_real_file_of_event_vision_library(real_data, assert_contract):
    recording = open_recording(real_data / "formats/generic.hdf5", "evlib")
    assert recording.num_events == 17
    assert recording.t_range[1] - recording.t_range[0] == pytest.approx(5_700, abs=100)
    assert_contract(recording, recording.events_by_index(0, 17))


def test_columns_of_unequal_length_are_refused(tmp_path, make_events):
    write_rvt(tmp_path / "a.h5", make_events(100))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["events/p"]
        file["events/p"] = np.zeros(9, np.uint8)
    with pytest.raises(FormatError, match="four columns of one length"):
        open_recording(tmp_path / "a.h5", "rvt")


def test_no_events(tmp_path):
    write_rvt(tmp_path / "a.h5", Events.empty(Sensor(304, 240)))
    for on_error in ("raise", "sort"):
        recording = open_recording(tmp_path / "a.h5", "rvt", on_error=on_error)
        assert (recording.num_events, recording.t_range, len(recording.events(0, 9))) == (0, (0, -1), 0)


def test_seconds_of_every_slice_are_read_alike(tmp_path):
    """A slice of whole seconds would pass for microseconds if it were judged by itself."""
    events = Events.checked(
        [1] * 5, [1] * 5, [500_000, 1_000_000, 2_000_000, 3_000_000, 4_000_000], [1] * 5, Sensor(9, 9)
    )
    write_monash(tmp_path / "a.h5", events)
    source = Hdf5Columns(Hdf5File(tmp_path / "a.h5"), {k: f"events/{k}s" for k in "xytp"})
    recording = SearchedRecording(source, "monash", Sensor(9, 9), "raise")
    assert recording.events_by_index(2, 4).t.tolist() == [2_000_000, 3_000_000]


@pytest.mark.parametrize(("kind", "rounds"), [("rvt", 400), ("monash", 100)])
def test_damage_is_survived(tmp_path, make_events, kind, rounds):
    """Both read columns by the same code, so 500 files are shared between them."""
    events = make_events(150)
    if kind == "rvt":
        write_rvt(tmp_path / "a.h5", events)
    else:
        write_monash(tmp_path / "a.h5", events, [np.zeros((30, 40), np.uint8)], [1_500])
    assert rounds // 5 < fuzz((tmp_path / "a.h5").read_bytes(), tmp_path, kind, rounds) < rounds
