"""MATLAB files: scipy writes them here, our reader reads them within their bounds."""

import h5py
import numpy as np
import pytest
import scipy.io
from fuzzing import fuzz

from eventfm.events import Sensor
from eventfm.io import FormatError, open_recording
from eventfm.io.contract import DamagedFileError
from eventfm.io.mat5 import read_numbers


def columns(events, kind=np.float64):
    return {
        "x": events.x[:, None].astype(kind),
        "y": events.y[:, None].astype(kind),
        "ts": events.t[:, None].astype(np.float64),
        "pol": events.p[:, None].astype(kind),
    }


@pytest.mark.parametrize("do_compression", [True, False])
@pytest.mark.parametrize("kind", [np.float64, np.uint16, np.int32])
def test_columns(tmp_path, make_events, assert_contract, do_compression, kind):
    events = make_events(width=240, height=180)
    scipy.io.savemat(tmp_path / "a.mat", columns(events, kind), do_compression=do_compression)
    recording = open_recording(tmp_path / "a.mat", "mat")
    assert recording.sensor == Sensor(240, 180, "DAVIS240")
    assert_contract(recording, events)


def test_a_structure_of_columns(tmp_path, make_events, assert_contract):
    events = make_events(width=34, height=34)
    named = {**{k: v for k, v in columns(events).items() if k in "xyts"}, "p": events.p}
    scipy.io.savemat(tmp_path / "a.mat", {"TD": named, "note": "recorded", "cells": np.array([{"a": 1}], object)})
    recording = open_recording(tmp_path / "a.mat", "mat")
    assert recording.sensor == Sensor(34, 34, "N-MNIST")
    assert_contract(recording, events)


@pytest.mark.parametrize("transposed", [True, False])
def test_a_table_in_a_structure(tmp_path, make_events, assert_contract, transposed):
    events = make_events()
    table = np.stack([events.t / 1e6, events.x, events.y, events.p])
    scipy.io.savemat(tmp_path / "a.mat", {"events": {"e_data": table.T if transposed else table}})
    assert_contract(open_recording(tmp_path / "a.mat", "mat"), events)


@pytest.mark.parametrize("nested", [True, False])
def test_version_7_3(tmp_path, make_events, assert_contract, nested):
    """HDF5 behind 512 bytes of text, with arrays transposed."""
    events = make_events()
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("TD") if nested else file
        for name, column in columns(events).items():
            group[name] = column.T
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))
    assert_contract(open_recording(path, "mat"), events)


def test_version_7_3_that_is_no_hdf5(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(900))
    with pytest.raises(DamagedFileError, match="damaged or cut off"):
        open_recording(tmp_path / "a.mat", "mat")


def test_other_numbers_are_named(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"weights": np.zeros((3, 5)), "x": np.zeros(3)})
    with pytest.raises(FormatError, match=r"it has weights float64\(3, 5\), x float64\(1, 3\)"):
        open_recording(tmp_path / "a.mat", "mat")


def test_equals_scipy_on_numbers_of_all_kinds(tmp_path):
    rng = np.random.default_rng(0)
    kinds = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
    arrays = {f"a_{kind}": rng.integers(0, 90, (3, k + 1)).astype(kind) for k, kind in enumerate(kinds)}
    arrays |= {"cube": rng.random((2, 3, 4)), "empty": np.zeros((0, 3)), "one": np.array([[7]], "u1")}
    for do_compression in (True, False):
        scipy.io.savemat(tmp_path / "a.mat", arrays, do_compression=do_compression)
        found, expected = read_numbers(tmp_path / "a.mat"), scipy.io.loadmat(tmp_path / "a.mat")
        assert set(found) == set(arrays)
        for name in arrays:
            np.testing.assert_array_equal(found[name], expected[name])


def test_the_real_file(real_data, assert_contract):
    recording = open_recording(real_data / "formats/shapes_rotation.mat", "mat")
    assert (recording.num_events, recording.t_range) == (120_000, (0, 1_428_658))
    assert (recording.sensor.width, recording.sensor.height) == (240, 180)
    found = recording.events_by_index(0, 120_000)
    table = scipy.io.loadmat(real_data / "formats/shapes_rotation.mat")["events"]["e_data"][0, 0]
    np.testing.assert_array_equal(np.stack([found.x, found.y, found.p]), table[1:])
    assert (found.t[:3].tolist(), found.x[:3].tolist()) == ([0, 11, 50], [33, 158, 88])
    assert_contract(recording, found)


def test_cut_files_say_where(tmp_path, make_events):
    scipy.io.savemat(tmp_path / "a.mat", columns(make_events()))
    data = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(data[:-9])
    with pytest.raises(DamagedFileError, match=r"a\.mat: cut off: the element at byte \d+ claims"):
        open_recording(tmp_path / "a.mat", "mat")
    (tmp_path / "a.mat").write_bytes(data[:130])
    with pytest.raises(DamagedFileError, match="cut off at byte 128"):
        open_recording(tmp_path / "a.mat", "mat")


@pytest.mark.parametrize("do_compression", [True, False])
def test_damage_is_survived(tmp_path, make_events, do_compression):
    events = make_events(100)
    named = {"events": {"e_data": np.stack([events.t, events.x, events.y, events.p]), "name": "shapes"}}
    scipy.io.savemat(tmp_path / "a.mat", named, do_compression=do_compression)
    data = (tmp_path / "a.mat").read_bytes()
    assert 50 < fuzz(data, tmp_path, "mat", header=128) < 500
