"""DDD17 and DDD20: packets of cAER in HDF5, written as their recorder writes them."""

import struct
from itertools import pairwise

import h5py
import numpy as np
import pytest
from fuzzing import fuzz

from eventfm.events import Sensor
from eventfm.io import FormatError, open_recording
from eventfm.io.contract import DamagedFileError

POLARITY, FRAME, IMU = 1, 2, 3


def packet(kind, size, overflow, number, valid, body):
    return struct.pack("<hhiiiiii", kind, 1, size, 4, overflow, number, number, valid), body


def polarity(events, overflow=0, num_invalid=0):
    body = b"".join(
        struct.pack("<II", int(x) << 17 | int(y) << 2 | int(p) << 1 | 1, int(t) & 0x7FFFFFFF)
        for x, y, t, p in zip(events.x, events.y, events.t, events.p, strict=True)
    )
    body += struct.pack("<II", 3 << 17, 5) * num_invalid
    return packet(POLARITY, 8, overflow, len(events) + num_invalid, len(events), body)


def frame(picture, begin, end, overflow=0):
    height, width = picture.shape
    head = struct.pack("<I8i", 1, begin - 10, end + 10, begin, end, width, height, 0, 0)
    body = head + picture.astype("<u2").tobytes()
    return packet(FRAME, len(body), overflow, 1, 1, body)


def write(path, packets, spare=40, rows=16):
    """Rows of three byte arrays; `spare` empty rows at the end, whose chunks are never written."""
    kind = h5py.special_dtype(vlen=np.uint8)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("dvs/data", (len(packets) + spare, 3), kind, maxshape=(None, 3), chunks=(rows, 3))
        for i, (head, body) in enumerate(packets):
            clock = str(1_487_417_411_000_000 + i).encode()
            for k, raw in enumerate((clock, head, body)):
                data[i, k] = np.frombuffer(raw, np.uint8)
        file["dvs/timestamp"] = np.arange(len(packets) + spare)
        file["vehicle_speed/data"] = np.zeros((3, 2))


@pytest.fixture
def recorded(tmp_path, make_events):
    events = make_events(2000, width=346, height=260, start_us=2**31 - 30_000, span_us=60_000)
    # The clock of a packet wraps with its first event, so that no packet reaches over the wrap.
    wrap = int(np.searchsorted(events.t, 2**31))
    bounds = sorted({*range(0, 2000, 150), wrap, 2000})
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 1024, (3, 260, 346))
    packets = []
    for k, (a, b) in enumerate(pairwise(bounds)):
        packets.append(polarity(events.take(a, b), int(a >= wrap), num_invalid=k % 3))
        if k % 5 == 1:
            begin = int(events.t[a])
            wrapped = begin >> 31
            packets.append(frame(pictures[k // 5], begin & 0x7FFFFFFF, (begin & 0x7FFFFFFF) + 200, wrapped))
        packets.append(packet(IMU, 4, 0, 0, 0, b"\0" * 4))
    write(tmp_path / "rec1487417411.hdf5", packets)
    return tmp_path / "rec1487417411.hdf5", events, pictures, [int(events.t[bounds[k]]) + 100 for k in (1, 6, 11)]


def test_events_and_frames(recorded, assert_contract):
    path, events, pictures, times = recorded
    recording = open_recording(path, "ddd")
    assert recording.sensor == Sensor(346, 260, "DAVIS346")
    assert_contract(recording, events)
    frames = recording.tracks["frames"]
    assert frames.times.tolist() == times
    for i, picture in enumerate(pictures):
        np.testing.assert_array_equal(frames.read(i), picture)


def test_it_is_told_by_content(recorded):
    assert open_recording(recorded[0]).format == "ddd"


def test_a_cut_file_is_read_up_to_the_cut(recorded, tmp_path, assert_same):
    path, events, _, _ = recorded
    data = bytearray(path.read_bytes())
    # The marker of the heap with the body of the last packet is damaged.
    at = data.find(polarity(events.take(1950, 2000))[1][:80])
    heap = data.rfind(b"GCOL", 0, at)
    data[heap] = 0
    cut = tmp_path / "cut.hdf5"
    cut.write_bytes(data)
    with pytest.raises(FormatError, match=r"packet \d+ of dvs/data is damaged: .*no whole heap at byte"):
        open_recording(cut, "ddd")
    with pytest.warns(UserWarning, match="the events before it were read"):
        recording = open_recording(cut, "ddd", on_error="sort")
    assert 1000 < recording.num_events <= 1950
    assert_same(recording.events_by_index(0, 2000), events.take(0, recording.num_events))


def test_a_packet_that_says_another_number_of_events_is_refused(tmp_path, make_events):
    _, body = polarity(make_events(10, width=346, height=260))
    write(tmp_path / "a.hdf5", [packet(POLARITY, 8, 0, 10, 9, body)])
    with pytest.raises(DamagedFileError, match="packet 0 of dvs/data says 9 valid events and has 10"):
        open_recording(tmp_path / "a.hdf5", "ddd").events_by_index(0, 9)
    write(tmp_path / "b.hdf5", [packet(POLARITY, 8, 0, 11, 10, body)])
    with pytest.raises(FormatError, match="claims 10 of 11 events of 8 bytes"):
        open_recording(tmp_path / "b.hdf5", "ddd")


def test_compressed_places_are_refused_with_a_remedy(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        kind = h5py.special_dtype(vlen=np.uint8)
        file.create_dataset("dvs/data", (4, 3), kind, chunks=(4, 3), compression="gzip")
    with pytest.raises(FormatError, match="h5repack"):
        open_recording(tmp_path / "a.hdf5", "ddd")


def test_damage_is_survived(tmp_path, make_events):
    events = make_events(200, width=346, height=260)
    packets = [polarity(events.take(k, k + 40)) for k in range(0, 200, 40)]
    packets.insert(2, frame(np.ones((4, 6)), 5, 9))
    write(tmp_path / "a.hdf5", packets, spare=4, rows=4)
    assert 100 < fuzz((tmp_path / "a.hdf5").read_bytes(), tmp_path, "ddd") < 500
