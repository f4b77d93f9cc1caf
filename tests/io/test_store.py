"""The native store: everything comes back, nothing is half written."""

import errno
import gc
import os
import pickle
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from fuzzing import fuzz

from eventfm.events import Events, Sensor
from eventfm.io import (
    ArrayRecording,
    ArrayTrack,
    FormatError,
    WriteError,
    hdf5_file,
    list_recordings,
    open_recording,
    save_recording,
    save_recordings,
    store,
)
from eventfm.io import store_layout as layout


@pytest.fixture
def recording(make_events):
    rng = np.random.default_rng(5)
    events = make_events(5000, start_us=1_663_249_605_734_020, span_us=2_000_000)
    events = Events(events.x, events.y, events.t, events.p, Sensor(64, 48, "DAVIS", inferred=True))
    times = events.t[0] + np.arange(7) * 10_000
    ragged = [rng.integers(0, 9, (i, 4)) for i in range(7)]
    tracks = {
        "frames": ArrayTrack(times, rng.integers(0, 256, (7, 48, 64), dtype=np.uint8)),
        "imu": ArrayTrack(times[:3], rng.random((3, 6))),
        "label": ArrayTrack(times[:1], np.array([4])),
        "boxes": ArrayTrack(times, ragged),
        "nothing": ArrayTrack(times[:0], []),
    }
    return ArrayRecording(events, tracks, "aedat4"), events


def same_tracks(found, expected):
    assert set(found) == set(expected)
    for name, track in expected.items():
        np.testing.assert_array_equal(found[name].times, track.times)
        assert len(found[name]) == len(track.times)
        for i in range(len(track.times)):
            a, b = found[name].read(i), track.read(i)
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_everything_comes_back(tmp_path, recording, assert_contract):
    original, events = recording
    path = save_recording(tmp_path / "a.h5", original, provenance={"source": "a.aedat4", "licence": "CC0"})
    found = open_recording(path)
    assert found.format == "eventfm"
    assert found.sensor == Sensor(64, 48, "DAVIS", inferred=True)
    assert found.provenance == {"source": "a.aedat4", "licence": "CC0"}
    assert list_recordings(path) == []
    same_tracks(found.tracks, original.tracks)
    assert_contract(found, events)
    assert open_recording(path, sensor=(70, 50)).sensor == Sensor(70, 50)


def test_layout_is_that_of_dsec(tmp_path, recording):
    original, events = recording
    with h5py.File(save_recording(tmp_path / "a.h5", original), "r") as file:
        t, index = file["events/t"][:], file["ms_to_idx"][:]
        assert file["t_offset"][()] == events.t[0]
        np.testing.assert_array_equal(t + file["t_offset"][()], events.t)
        assert t.dtype == np.int64
        assert len(index) == t[-1] // 1000 + 1
        for ms, i in enumerate(index.tolist()):  # DSEC: t[i] >= 1000 ms > t[i - 1]
            assert t[i] >= 1000 * ms
            assert i == 0 or t[i - 1] < 1000 * ms
        for name in "xytp":
            assert "32001" in file[f"events/{name}"]._filters  # blosc
        assert file.attrs["source_format"] == b"aedat4"


def test_names_of_classes_stay_with_their_track(tmp_path, make_events):
    names = ("road", "Baum / Strauch", "car")
    maps = np.zeros((2, 4, 4), np.uint8)
    tracks = {"semantic": ArrayTrack([0, 5], maps, names), "other": ArrayTrack([0, 5], maps)}
    path = save_recording(tmp_path / "a.h5", ArrayRecording(make_events(5), tracks))
    again = save_recording(tmp_path / "b.h5", open_recording(path))
    for file in (path, again):
        assert {name: track.classes for name, track in open_recording(file).tracks.items()} == {
            "semantic": names, "other": ()
        }  # fmt: skip
    with h5py.File(path, "r+") as file:
        file["semantic"].attrs["classes"] = np.array(b"[1, ", "S4")
    with pytest.raises(FormatError, match="damaged"):
        dict(open_recording(path).tracks)


def test_tracks_are_looked_for_when_they_are_asked_for(tmp_path, monkeypatch, recording):
    path = save_recording(tmp_path / "a.h5", recording[0])
    looked = []
    plain = store._tracks
    monkeypatch.setattr(store, "_tracks", lambda *where: looked.append(where) or plain(*where))
    found = open_recording(path)
    found.events(*found.t_range)
    assert not looked
    assert len(found.tracks) == 5
    assert "frames" in found.tracks
    assert len(looked) == 1
    again = pickle.loads(pickle.dumps(open_recording(path)))
    same_tracks(again.tracks, recording[0].tracks)


class Piecewise:
    """A lazy recording that notes how much is asked for at once."""

    def __init__(self, events):
        self.whole = ArrayRecording(events)
        self.largest = 0
        self.format, self.sensor, self.tracks = "lazy", events.sensor, {}
        self.num_events, self.t_range = len(events), self.whole.t_range

    def events(self, t0, t1):
        raise AssertionError("the store reads by index")

    def events_by_index(self, start, stop):
        self.largest = max(self.largest, stop - start)
        return self.whole.events_by_index(start, stop)


@pytest.mark.parametrize("piece", [1, 17, 1000])
def test_pieces_do_not_show(tmp_path, monkeypatch, make_events, assert_contract, piece):
    monkeypatch.setattr(layout, "_PIECE", piece)
    monkeypatch.setattr(layout, "_CHUNK", 64)
    events = make_events(120, span_us=23_456)
    lazy = Piecewise(events)
    path = save_recording(tmp_path / "a.h5", lazy)
    assert lazy.largest == piece
    assert_contract(open_recording(path), events)


@pytest.mark.parametrize("count", [0, 1])
def test_hardly_any_events(tmp_path, make_events, assert_contract, count):
    events = make_events(5).take(0, count)
    path = save_recording(tmp_path / "a.h5", ArrayRecording(events))
    assert_contract(open_recording(path), events)


def test_many_recordings(tmp_path, make_events, assert_contract):
    made = {f"sample {i}": make_events(50 + i, seed=i) for i in range(7)}
    path = save_recordings(tmp_path / "many.h5", ((name, ArrayRecording(events)) for name, events in made.items()))
    assert list_recordings(path) == sorted(made)
    for name, events in made.items():
        assert_contract(open_recording(f"{path}::{name}"), events)
    with pytest.raises(FormatError, match=r"holds 7 recordings: 'sample 0', .*open_recording\(.*many\.h5::sample 0"):
        open_recording(path)
    with pytest.raises(FormatError, match="no recording 'sample 9'"):
        open_recording(f"{path}::sample 9")


@pytest.mark.parametrize("identifier", ["", "a/b", "a::b", ".."])
def test_ids_that_cannot_be_found_again_are_refused(tmp_path, recording, identifier):
    with pytest.raises(FormatError, match="expected an id"):
        save_recordings(tmp_path / "many.h5", {identifier: recording[0]})
    assert list(tmp_path.iterdir()) == []


def test_an_id_that_comes_twice_is_refused(tmp_path, recording):
    with pytest.raises(FormatError, match="two recordings have the id 'a'"):
        save_recordings(tmp_path / "many.h5", [("a", recording[0]), ("a", recording[0])])


def test_a_track_that_would_hide_the_events_is_refused(tmp_path, make_events):
    bad = ArrayRecording(make_events(), {"events": ArrayTrack([0], [1])})
    with pytest.raises(FormatError, match="cannot be called 'events'"):
        save_recording(tmp_path / "a.h5", bad)


def test_a_time_that_is_years_off_is_refused_at_once(tmp_path, make_events):
    events = make_events()
    t = events.t.copy()
    t[-1] = 2**60
    with pytest.raises(FormatError, match="more than 24 days"):
        save_recording(tmp_path / "a.h5", ArrayRecording(Events(events.x, events.y, t, events.p, events.sensor)))


def test_existing_files_are_kept_unless_asked(tmp_path, recording):
    path = tmp_path / "a.h5"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_recording(path, recording[0])
    assert path.read_bytes() == b"precious"
    save_recording(path, recording[0], overwrite=True)
    assert open_recording(path).num_events == 5000
    assert [item.name for item in tmp_path.iterdir()] == ["a.h5"]


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("stage", ["eventfm.io.store_layout.append", "os.fsync", "os.replace"])
def test_a_full_disk_leaves_the_target_untouched(tmp_path, monkeypatch, recording, stage):
    path = tmp_path / "a.h5"
    path.write_bytes(b"precious")
    monkeypatch.setattr(stage, full_disk)
    with pytest.raises(WriteError, match=r"could not write .*a\.h5.*No space left on device.*unchanged"):
        save_recording(path, recording[0], overwrite=True)
    monkeypatch.undo()
    assert path.read_bytes() == b"precious"
    assert [item.name for item in tmp_path.iterdir()] == ["a.h5"]


_LIMITED = """
import resource, signal, sys
import numpy as np
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, WriteError, save_recording
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
n = 400_000
rng = np.random.default_rng(0)
x, y, p = (rng.integers(0, top, n) for top in (640, 480, 2))
events = Events.checked(x, y, np.arange(n) * 9, p, Sensor(640, 480))
for limit in map(int, sys.argv[2:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        save_recording(sys.argv[1], ArrayRecording(events), overwrite=True)
    except WriteError as error:
        print("refused", error)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no file size limits on this system")
def test_the_system_refuses_to_write_on(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"precious")
    limits = [0, 100, 2_000, 50_000, 300_000, 1_000_000]
    command = [sys.executable, "-c", _LIMITED, str(path), *map(str, limits)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("refused could not write") == len(limits)
    assert done.stderr == ""
    assert path.read_bytes() == b"precious"
    assert [item.name for item in tmp_path.iterdir()] == ["a.h5"]


_ENDLESS = """
import sys, time
import numpy as np
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, save_recordings
n = 1000
events = Events.checked(np.zeros(n), np.zeros(n), np.arange(n), np.zeros(n), Sensor(4, 4))
def endless():
    i = 0
    while True:
        yield str(i), ArrayRecording(events)
        i += 1
        if i == 5:
            print("writing", flush=True)
save_recordings(sys.argv[1], endless(), overwrite=True)
"""


def test_a_killed_writer_leaves_the_target_untouched(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"precious")
    with subprocess.Popen([sys.executable, "-c", _ENDLESS, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"writing\n"
        time.sleep(0.05)
        writer.kill()
    assert path.read_bytes() == b"precious"
    assert all(item.name.startswith(".a.h5.") for item in tmp_path.iterdir() if item != path)


def test_a_source_that_fails_half_way_leaves_nothing(tmp_path, make_events):
    class Failing(Piecewise):
        def events_by_index(self, start, stop):
            raise FormatError("cut off")

    with pytest.raises(FormatError, match="cut off"):
        save_recording(tmp_path / "a.h5", Failing(make_events()))
    assert list(tmp_path.iterdir()) == []


def test_each_process_opens_the_file_itself(tmp_path, recording):
    found = open_recording(save_recording(tmp_path / "a.h5", recording[0]))
    expected = len(found.events(*found.t_range))
    child = os.fork()
    if child == 0:
        os._exit(
            0 if len(found.events(*found.t_range)) == expected and found._file._handle.process == os.getpid() else 1
        )
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_newer_store_is_refused(tmp_path, recording):
    path = save_recording(tmp_path / "a.h5", recording[0])
    with h5py.File(path, "r+") as file:
        file.attrs[layout.VERSION_KEY] = layout.VERSION + 1
    with pytest.raises(FormatError, match=f"version {layout.VERSION + 1}"):
        open_recording(path, format="eventfm")


def test_truncated(tmp_path, recording):
    path = save_recording(tmp_path / "a.h5", recording[0])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FormatError, match="cut off"):
        open_recording(path)


def test_damage_is_survived(tmp_path, recording):
    data = save_recording(tmp_path / "whole.h5", recording[0]).read_bytes()
    assert 20 < fuzz(data, tmp_path, count=60) < 60


def test_no_text_of_variable_length(tmp_path, recording):
    # HDF5 may look for it for ever in a damaged file.
    path = save_recording(tmp_path / "a.h5", recording[0], provenance={"über": "ß"})
    assert open_recording(path).provenance == {"über": "ß"}
    with h5py.File(path, "r+") as file:
        for name in file.attrs:
            assert file.attrs.get_id(name).dtype.kind in "Sib"
        file.attrs["provenance"] = "{}"
    with pytest.raises(FormatError, match="fixed length as attribute provenance"):
        open_recording(path)
    with pytest.raises(FormatError, match="at most 60000"):
        save_recording(tmp_path / "b.h5", recording[0], provenance={"note": "a" * 70_000})


def _open_files():
    return h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)


def test_recordings_of_a_store_share_one_handle_and_give_it_back(tmp_path, recording):
    path = save_recordings(tmp_path / "many.h5", {f"r{i}": recording[0] for i in range(6)})
    gc.collect()
    before = _open_files()
    found = [open_recording(f"{path}::{name}") for name in list_recordings(path)]
    for each in found:
        assert each.events(*each.t_range).t[0] == recording[1].t[0]
        each.tracks["frames"].read(0)
    assert _open_files() == before + 1
    del found, each
    gc.collect()
    assert _open_files() == before


def test_few_groups_and_data_sets_stay_open(tmp_path, recording, monkeypatch):
    monkeypatch.setattr(hdf5_file, "MAX_OPEN", 10)
    path = save_recordings(tmp_path / "many.h5", {f"r{i}": recording[0] for i in range(6)})
    found = [open_recording(f"{path}::{name}") for name in list_recordings(path)]
    for _ in range(2):
        for each in found:
            np.testing.assert_array_equal(each.events_by_index(0, 5000).t, recording[1].t)
    assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_DATASET | h5py.h5f.OBJ_GROUP) <= 10


def test_a_file_that_is_replaced_is_read_anew_and_the_old_one_stays_readable(tmp_path, recording, make_events):
    path = save_recording(tmp_path / "a.h5", recording[0])
    old = open_recording(path)
    old.events_by_index(0, 1)
    other = make_events(300)
    save_recording(path, ArrayRecording(other, {}, "aedat4"), overwrite=True)
    new = open_recording(path)
    assert (old.num_events, new.num_events) == (5000, 300)
    np.testing.assert_array_equal(new.events_by_index(0, 300).t, other.t)
    np.testing.assert_array_equal(old.events_by_index(0, 5000).t, recording[1].t)
