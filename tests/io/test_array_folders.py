"""Folders and archives of NumPy arrays: RPG memmap, EVIMO, N-ImageNet, ES-ImageNet."""

import json

import numpy as np
import pytest
from fuzzing import fuzz

from eventfm.events import EventError, Sensor
from eventfm.io import FormatError, open_recording
from eventfm.io.contract import DamagedFileError


def write_rpg(folder, events, pictures=None, times=(), header=False, note=True):
    folder.mkdir(parents=True)
    xy = np.stack([events.x, events.y], 1).astype(np.int16)
    for name, array in (("t", events.t[:, None] / 1e6), ("xy", xy), ("p", events.p[:, None])):
        if header:
            np.save(folder / f"{name}.npy", array)
        else:
            (folder / f"{name}.npy").write_bytes(array.tobytes())
    if pictures is not None:
        (folder / "images.npy").write_bytes(pictures[..., None].tobytes())
        (folder / "timestamps.npy").write_bytes((np.array(times) / 1e6).tobytes())
    if note:
        size = [events.sensor.height, events.sensor.width]
        (folder / "metadata.json").write_text(json.dumps({"num_events": len(events), "sensor_resolution": size}))


def write_evimo(folder, events, p=None):
    folder.mkdir(parents=True)
    np.save(folder / "dataset_events_t.npy", (events.t / 1e6).astype(np.float64))
    np.save(folder / "dataset_events_xy.npy", np.stack([events.x, events.y], 1).astype(np.int16))
    np.save(folder / "dataset_events_p.npy", (events.p if p is None else p).astype(np.uint8))
    np.savez(folder / "dataset_info.npz", D=np.zeros(4), index=np.zeros(3))


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("inner", ["", "memmap"])
def test_rpg(tmp_path, make_events, assert_contract, header, inner):
    events = make_events()
    pictures = np.random.default_rng(0).integers(0, 256, (2, 30, 40), dtype=np.uint8)
    write_rpg(tmp_path / "a" / inner, events, pictures, [2_000, 30_000], header)
    recording = open_recording(tmp_path / "a", "rpg_memmap")
    assert recording.sensor == Sensor(40, 30)
    assert_contract(recording, events)
    frames = recording.tracks["frames"]
    assert frames.times.tolist() == [2_000, 30_000]
    np.testing.assert_array_equal(frames.read(1), pictures[1])


def test_rpg_without_pictures_or_note(tmp_path, make_events, assert_contract):
    """The writer leaves one byte where there are no pictures."""
    events = make_events()
    write_rpg(tmp_path / "a", events, np.zeros((1, 1, 1), np.uint8), [0])
    assert not open_recording(tmp_path / "a", "rpg_memmap").tracks
    write_rpg(tmp_path / "b", events, note=False)
    recording = open_recording(tmp_path / "b", "rpg_memmap")
    assert recording.sensor == Sensor(40, 30, inferred=True)
    assert_contract(recording, events)


def test_rpg_cut_files_are_refused(tmp_path, make_events):
    write_rpg(tmp_path / "a", make_events())
    path = tmp_path / "a" / "xy.npy"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DamagedFileError, match=r"xy\.npy: 1997 bytes are no whole number of items of 4"):
        open_recording(tmp_path / "a", "rpg_memmap")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match="files of one length"):
        open_recording(tmp_path / "a", "rpg_memmap")


def test_rpg_damaged_note(tmp_path, make_events):
    write_rpg(tmp_path / "a", make_events())
    (tmp_path / "a" / "metadata.json").write_text("{")
    with pytest.raises(FormatError, match=r"metadata\.json: damaged"):
        open_recording(tmp_path / "a", "rpg_memmap")


@pytest.mark.parametrize("camera", ["left_camera", "samsung_mono", "elsewhere"])
def test_evimo2(tmp_path, make_events, assert_contract, camera):
    events = make_events()
    folder = tmp_path / camera / "imo" / "train" / "scene13_dyn_train_00_000000"
    write_evimo(folder, events, 1 - events.p if camera == "samsung_mono" else None)
    recording = open_recording(folder, "evimo")
    assert (recording.sensor.width, recording.sensor.height) == (640, 480)
    assert_contract(recording, events)


def test_evimo2_is_never_unpickled(tmp_path, make_events):
    write_evimo(tmp_path / "a", make_events())
    np.save(tmp_path / "a" / "dataset_events_p.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(FormatError, match="pickled objects"):
        open_recording(tmp_path / "a", "evimo")


def test_evimo1(tmp_path, make_events, assert_contract):
    events = make_events()
    table = np.stack([events.t / 1e6, events.x, events.y, events.p], 1)
    # What else is in the file is pickled, and is not looked at.
    np.savez(tmp_path / "seq.npz", events=table, index=np.arange(5), discretization=0.01, meta=np.array({}, object))
    recording = open_recording(tmp_path / "seq.npz", "evimo")
    assert recording.sensor == Sensor(346, 260, "EVIMO")
    assert_contract(recording, events)


@pytest.mark.parametrize("names", [None, ("x_pos", "y_pos", "timestamp", "polarity")])
def test_n_imagenet(tmp_path, make_events, assert_contract, names):
    events = make_events()
    if names:
        columns = (events.x.astype("<i2"), events.y.astype("<i2"), events.t, events.p == 1)
        np.savez(tmp_path / "a.npz", **dict(zip(names, columns, strict=True)))
    else:
        data = np.empty(len(events), [("x", "<u2"), ("y", "<u2"), ("t", "<i8"), ("p", "?")])
        for name in "xytp":
            data[name] = getattr(events, name)
        np.savez_compressed(tmp_path / "a.npz", event_data=data)
    recording = open_recording(tmp_path / "a.npz", "numpy")
    assert recording.sensor == Sensor(640, 480, "N-ImageNet")
    assert_contract(recording, events)


def test_es_imagenet(tmp_path):
    pos = np.array([[10, 200, 1], [11, 3, 8], [255, 0, 4]], np.uint8)
    neg = np.array([[7, 9, 4]], np.uint8)
    np.savez(tmp_path / "a.npz", pos=pos, neg=neg)
    recording = open_recording(tmp_path / "a.npz", "es_imagenet")
    assert recording.sensor == Sensor(256, 256, "ES-ImageNet")
    found = recording.events(0, 9)
    rows = np.stack([found.y, found.x, found.t, found.p], 1).tolist()
    assert rows == [[10, 200, 1, 1], [7, 9, 4, 0], [255, 0, 4, 1], [11, 3, 8, 1]]
    assert len(recording.events(4, 5)) == 2
    with pytest.raises(EventError, match="outside the 224x224 sensor"):
        open_recording(tmp_path / "a.npz", "es_imagenet", sensor=(224, 224))


def test_es_imagenet_of_other_shape_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", pos=np.zeros((3, 2), np.uint8), neg=np.zeros((3, 3), np.uint8))
    with pytest.raises(FormatError, match=r"whole numbers \(n, 3\) as pos, got uint8\(3, 2\)"):
        open_recording(tmp_path / "a.npz", "es_imagenet")


def test_they_are_told_by_content(tmp_path, make_events):
    events = make_events()
    write_rpg(tmp_path / "rpg_memmap", events)
    write_evimo(tmp_path / "evimo", events)
    np.savez(tmp_path / "es_imagenet", pos=np.ones((2, 3), np.uint8), neg=np.ones((2, 3), np.uint8))
    np.savez(tmp_path / "numpy", events=events.to_structured())
    for name in ("rpg_memmap", "evimo", "es_imagenet.npz", "numpy.npz"):
        assert open_recording(tmp_path / name).format == name.removesuffix(".npz")


@pytest.mark.parametrize("name", ["t", "xy", "p"])
def test_damaged_folders(tmp_path, make_events, name):
    """The files of a folder are damaged one at a time."""
    write_evimo(tmp_path / "a", make_events(100))
    path = tmp_path / "a" / f"dataset_events_{name}.npy"
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for i in range(170):
        damaged = bytearray(whole)
        if i % 3 == 0:
            damaged = damaged[: int(rng.integers(0, len(whole)))]
        else:
            for at in rng.integers(0 if i % 2 else 128, len(whole), 4):
                damaged[at] = int(rng.integers(0, 256))
        path.unlink()
        path.write_bytes(damaged)
        try:
            recording = open_recording(tmp_path / "a", "evimo", sensor=(640, 480))
            recording.events(*recording.t_range)
        except ValueError:
            refused += 1
    assert refused > 50


def test_damaged_archives(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", pos=rng.integers(1, 9, (80, 3), np.uint8), neg=rng.integers(1, 9, (90, 3), np.uint8))
    assert 100 < fuzz((tmp_path / "a.npz").read_bytes(), tmp_path, "es_imagenet") < 500
