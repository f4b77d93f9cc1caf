"""Small recordings side by side: what comes back, how they lie in the file, damage, how many files are open."""

import gc
import os
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import h5py
import numpy as np
import pytest
from fuzzing import REFUSED, mutated, read_all

from eventfm.events import EventError, Events, Sensor
from eventfm.io import (
    ArrayRecording,
    ArrayTrack,
    FormatError,
    hdf5_file,
    list_recordings,
    open_recording,
    save_recordings,
    store_packing,
)
from eventfm.io import store_layout as layout
from eventfm.io.fingerprint import fingerprint

LIMIT = 300


@pytest.fixture
def made(make_events):
    """Recordings by id: of several sizes, sensors and clocks, empty, of one event."""
    named = Sensor(40, 30, "DVS", inferred=True)
    late = make_events(LIMIT, seed=9, start_us=1_663_249_605_734_020, span_us=2_000_000_000)
    early = make_events(100, seed=5)
    return {
        "b": make_events(50, seed=1),
        "a": make_events(17, seed=2),
        "none": make_events(5).take(0, 0),
        "one": make_events(5, seed=3).take(2, 3),
        "late": late,
        "named": replace(make_events(99, seed=4), sensor=named),
        "ä ö": Events(early.x, early.y, early.t - 50_000, early.p, early.sensor),
    }


@pytest.fixture
def path(tmp_path, made):
    """A store of them, all packed."""
    recordings = ((name, ArrayRecording(events, format="atis")) for name, events in made.items())
    return save_recordings(tmp_path / "packed.h5", recordings, {"source": "x"}, pack_up_to=LIMIT)


def test_everything_comes_back(path, made, assert_contract):
    assert list_recordings(path) == sorted(made)
    for name, events in made.items():
        found = open_recording(f"{path}::{name}")
        assert_contract(found, events)
        assert found.sensor == events.sensor
        assert found.format == "eventfm"
        assert dict(found.tracks) == {}
        assert found.provenance == {"source": "x"}
    assert open_recording(f"{path}::a", sensor=(70, 50)).sensor == Sensor(70, 50)
    with pytest.raises(FormatError, match=r"holds 7 recordings: 'a', 'b', .*open_recording\(.*packed\.h5::a"):
        open_recording(path)
    with pytest.raises(FormatError, match="holds no recording 'c'; it holds 'a', 'b'"):
        open_recording(f"{path}::c")


def test_columns_are_those_of_all_one_after_the_other(path, made):
    with h5py.File(path, "r") as file:
        assert file.attrs[layout.VERSION_KEY] == 2
        assert list(file["recordings"]) == []
        group = file["packed"]
        assert [one.decode() for one in group["ids"][()]] == list(made)
        counts = [len(events) for events in made.values()]
        assert group["first"][()].tolist() == [sum(counts[:n]) for n in range(len(counts) + 1)]
        for name, dtype in (("x", np.uint16), ("y", np.uint16), ("t", np.uint32), ("p", np.uint8)):
            column = group[f"events/{name}"]
            assert column.dtype == dtype
            assert "32001" in column._filters  # blosc
            each = [e.t - e.t[:1] if name == "t" else getattr(e, name) for e in made.values()]
            np.testing.assert_array_equal(column[()], np.concatenate(each))
        assert group["t_offset"][()].tolist() == [int(e.t[0]) if len(e) else 0 for e in made.values()]
        assert group["duration"][()].tolist() == [int(np.ptp(e.t)) if len(e) else 0 for e in made.values()]


def test_pieces_do_not_show(tmp_path, monkeypatch, path, made):
    monkeypatch.setattr(store_packing, "_HELD", 60)
    recordings = {name: ArrayRecording(events, format="atis") for name, events in made.items()}
    again = save_recordings(tmp_path / "b.h5", recordings, {"source": "x"}, pack_up_to=LIMIT)
    with h5py.File(path, "r") as one, h5py.File(again, "r") as other:
        for name in ("ids", "first", "t_offset", "duration", "fingerprint", "kind", *(f"events/{c}" for c in "xytp")):
            np.testing.assert_array_equal(one[f"packed/{name}"][()], other[f"packed/{name}"][()])


@pytest.mark.parametrize(("typical", "chunk"), [(10, 4096), (4200, 4096), (9000, 8192), (100_000, 32_768)])
def test_chunks_are_about_as_long_as_a_recording(tmp_path, typical, chunk):
    flat = np.zeros(typical, np.uint16)
    events = Events(flat, flat, np.arange(typical), flat.astype(np.uint8), Sensor(4, 4))
    path = save_recordings(tmp_path / "a.h5", {"a": ArrayRecording(events)}, pack_up_to=typical)
    with h5py.File(path, "r") as file:
        assert file["packed/events/t"].chunks == (chunk,)


def test_what_is_large_or_has_more_than_events_stays_by_itself(tmp_path, make_events, assert_contract):
    small, large, slow = make_events(20, seed=1), make_events(LIMIT + 1, seed=2), make_events(20, span_us=1 << 32)
    noisy = replace(small, noise=(np.arange(20) % 2).astype(np.uint8))
    track = {"label": ArrayTrack([5], np.array([4]))}
    recordings = {
        "small": ArrayRecording(small),
        "large": ArrayRecording(large),
        "noisy": ArrayRecording(noisy),
        "slow": ArrayRecording(slow),
        "tracked": ArrayRecording(small, track),
    }
    path = save_recordings(tmp_path / "a.h5", recordings, pack_up_to=LIMIT)
    with h5py.File(path, "r") as file:
        assert sorted(file["recordings"]) == ["large", "noisy", "slow", "tracked"]
        assert file["packed/ids"][()].tolist() == [b"small"]
    assert list_recordings(path) == sorted(recordings)
    for name, events in (("small", small), ("large", large), ("tracked", small), ("slow", slow)):
        assert_contract(open_recording(f"{path}::{name}"), events)
    assert open_recording(f"{path}::tracked").tracks["label"].read(0) == 4
    np.testing.assert_array_equal(open_recording(f"{path}::noisy").events_by_index(0, 20).noise, noisy.noise)


def test_stores_without_packed_recordings_are_as_they_were(tmp_path, make_events):
    recordings = {"a": ArrayRecording(make_events(20), {"packed": ArrayTrack([5], np.array([4]))})}
    for limit in (None, 5):
        path = save_recordings(tmp_path / f"{limit}.h5", recordings, pack_up_to=limit)
        with h5py.File(path, "r") as file:
            assert file.attrs[layout.VERSION_KEY] == 1
            assert "packed" not in file
        assert list(open_recording(f"{path}::a").tracks) == ["packed"]


@pytest.mark.parametrize("second", [20, 400])
def test_an_id_that_comes_twice_is_refused(tmp_path, make_events, second):
    pairs = [("a", ArrayRecording(make_events(20))), ("a", ArrayRecording(make_events(second)))]
    with pytest.raises(FormatError, match="two recordings have the id 'a'"):
        save_recordings(tmp_path / "a.h5", pairs, pack_up_to=LIMIT)
    assert not list(tmp_path.iterdir())


def test_a_fingerprint_is_known_and_that_of_the_events(path, made, tmp_path, monkeypatch, make_events):
    long = make_events(2500, seed=8)
    made = {**made, "long": long}
    recordings = {name: ArrayRecording(events) for name, events in made.items()}
    packed = save_recordings(tmp_path / "a.h5", recordings, pack_up_to=3000)
    apart = save_recordings(tmp_path / "b.h5", recordings)
    marks = {fingerprint(ArrayRecording(events)) for events in made.values()}
    assert len(marks) == len(made)
    for name, events in made.items():
        expected = fingerprint(open_recording(f"{apart}::{name}"))
        assert expected == fingerprint(ArrayRecording(events))
        found = open_recording(f"{packed}::{name}")
        with monkeypatch.context() as patched:
            patched.setattr(type(found), "events_by_index", None)  # no event is read for it
            assert fingerprint(found) == expected


def test_a_recording_is_opened_without_a_look_at_the_file(path, monkeypatch):
    def opened():
        return len(calls)

    calls = []
    plain = h5py.File
    monkeypatch.setattr(hdf5_file.h5py, "File", lambda *a, **k: calls.append(a) or plain(*a, **k))
    found = [open_recording(f"{path}::{name}") for name in ("a", "b", "late")]
    assert opened() == 1
    assert [one.num_events for one in found] == [17, 50, LIMIT]
    assert found[0].t_range[1] > 0
    assert opened() == 1
    del found
    open_recording(f"{path}::one")
    assert opened() == 1


def test_a_store_that_takes_the_place_of_another_is_looked_at_anew(path, make_events):
    old = open_recording(f"{path}::a")
    other = make_events(60, seed=77)
    save_recordings(path, {"a": ArrayRecording(other)}, overwrite=True, pack_up_to=LIMIT)
    new = open_recording(f"{path}::a")
    np.testing.assert_array_equal(new.events_by_index(0, 60).t, other.t)
    assert list_recordings(path) == ["a"]
    with pytest.raises(FormatError, match="holds no recording 'b'"):
        open_recording(f"{path}::b")
    assert old.num_events == 17
    with pytest.raises(FormatError, match="was replaced"):
        old.events_by_index(0, 17)


def change(path, name, at, value):
    with h5py.File(path, "r+") as file:
        file[f"packed/{name}"][at] = value


@pytest.mark.parametrize(
    ("name", "at", "value"),
    [
        ("first", 2, 10**6),
        ("first", 0, 3),
        ("first", -1, 5),
        ("kind", 1, 9),
        ("t_offset", 0, 2**62 + 1),
        ("ids", 1, b"b"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(path, name, at, value):
    change(path, name, at, value)
    with pytest.raises(FormatError, match=r"packed\.h5"):
        open_recording(f"{path}::b")


@pytest.mark.parametrize("name", ["ids", "first", "t_offset", "duration", "fingerprint", "kind", "kinds", "events/p"])
def test_parts_that_are_missing_or_too_short_are_refused(path, name):
    with h5py.File(path, "r+") as file:
        part = file[f"packed/{name}"][:-1]
        del file[f"packed/{name}"]
        file[f"packed/{name}"] = part
    with pytest.raises(FormatError):
        open_recording(f"{path}::b")
    with h5py.File(path, "r+") as file:
        del file[f"packed/{name}"]
    with pytest.raises(FormatError):
        open_recording(f"{path}::b")


def test_no_text_of_variable_length(path):
    with h5py.File(path, "r+") as file:
        del file["packed/ids"]
        file["packed/ids"] = ["a"] * 7
    with pytest.raises(FormatError, match="fixed length as ids"):
        open_recording(f"{path}::a")


def test_events_that_are_not_those_of_the_table_are_refused(path, made):
    change(path, "events/t", 49, 7)  # the last of b: time goes backwards, and ends elsewhere
    found = open_recording(f"{path}::b")
    with pytest.raises(FormatError, match="not those that were packed"):
        found.events_by_index(0, 50)
    mended = open_recording(f"{path}::b", on_error="sort")
    with pytest.warns(UserWarning, match="time goes backwards"):
        assert len(mended.events_by_index(0, 50)) == 50
    del found, mended
    gc.collect()
    change(path, "events/x", 20, 999)
    with pytest.raises(EventError, match="outside the 40x30 sensor"):
        open_recording(f"{path}::b").events_by_index(10, 30)


def test_damage_is_survived(path, tmp_path):
    data = path.read_bytes()
    refused = 0
    for number in range(60):
        rng = np.random.default_rng(number)
        file = tmp_path / f"{number}.h5"
        file.write_bytes(mutated(data, rng)[0])
        for name in ("b", "late"):
            try:
                read_all(f"{file}::{name}", rng, None, ("raise", "sort", "clamp")[number % 3])
            except REFUSED:
                refused += 1
        file.unlink()
    assert 20 < refused < 115


def _num_open():
    return h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)


@pytest.fixture
def stores(tmp_path, make_events):
    """Ten stores with two recordings each, by seed: one packed, one not."""
    for seed in range(10):
        pair = {"s": ArrayRecording(make_events(40, seed=seed)), "l": ArrayRecording(make_events(400, seed=seed))}
        save_recordings(tmp_path / f"{seed}.h5", pair, pack_up_to=LIMIT)
    gc.collect()
    return tmp_path


def test_few_files_stay_open(stores, monkeypatch, make_events):
    monkeypatch.setattr(hdf5_file, "MAX_FILES", 3)
    monkeypatch.setattr(hdf5_file, "_OPEN", hdf5_file._OPEN.__class__())
    before = _num_open()
    found = {(seed, kind): open_recording(f"{stores}/{seed}.h5::{kind}") for seed in range(10) for kind in "sl"}
    assert _num_open() <= before + 3
    for seed, kind in np.random.default_rng(0).permutation(list(found)).tolist():
        expected = make_events(40 if kind == "s" else 400, seed=int(seed))
        np.testing.assert_array_equal(found[int(seed), kind].events_by_index(0, 400).t, expected.t)
        assert _num_open() <= before + 3
    again = pickle.loads(pickle.dumps(found))
    assert all(len(one.events(*one.t_range)) for one in again.values())
    del found, again
    gc.collect()
    assert _num_open() == before


def test_threads_do_not_take_files_from_each_other(stores, monkeypatch, make_events):
    monkeypatch.setattr(hdf5_file, "MAX_FILES", 1)
    monkeypatch.setattr(hdf5_file, "_OPEN", hdf5_file._OPEN.__class__())
    found = [open_recording(f"{stores}/{seed}.h5::s") for seed in range(10)]
    expected = [make_events(40, seed=seed).t for seed in range(10)]

    def read(number):
        return np.array_equal(found[number % 10].events_by_index(0, 40).t, expected[number % 10])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(200)))


def test_a_file_that_was_replaced_while_it_was_let_go_is_refused(stores, monkeypatch, make_events):
    monkeypatch.setattr(hdf5_file, "MAX_FILES", 1)
    found = open_recording(f"{stores}/0.h5::l")
    found.events_by_index(0, 5)
    open_recording(f"{stores}/1.h5::l").events_by_index(0, 5)
    save_recordings(stores / "0.h5", {"l": ArrayRecording(make_events(400, seed=5))}, overwrite=True)
    with pytest.raises(FormatError, match=r"0\.h5 was replaced since it was opened"):
        found.events_by_index(0, 5)


def test_each_process_opens_the_file_itself(path, made):
    found = open_recording(f"{path}::b")
    assert len(found.events_by_index(0, 50)) == 50
    child = os.fork()
    if child == 0:
        with warnings.catch_warnings():
            os._exit(0 if np.array_equal(found.events_by_index(0, 50).t, made["b"].t) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
