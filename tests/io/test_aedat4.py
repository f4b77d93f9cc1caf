"""AEDAT 4.0 against a hand-written encoder, and against every kind of damage."""

import importlib.util
import itertools
import struct
import subprocess
import sys
from dataclasses import replace

import lz4.frame
import numpy as np
import pytest
import zstandard
from fuzzing import fuzz

from eventfm.events import EventError, Events, Sensor
from eventfm.io import FormatError, open_recording
from eventfm.io import aedat4 as module

MAGIC = b"#!AER-DAT4.0\r\n"
KINDS = ("EVTS", "FRME", "IMUS", "TRIG")


def table(fields, base):
    """A flatbuffer table whose vtable starts at `base`: bytes, and where the table itself is.

    A field is None, `(code, number)`, or bytes: a vector that is put behind the table and pointed at.
    """
    vtable_size = 4 + 2 * len(fields)
    start = base + vtable_size + (-(base + vtable_size) % 4)
    body, slots, blobs = bytearray(4), [], []
    for field in fields:
        slots.append(0 if field is None else len(body))
        if isinstance(field, bytes):
            blobs.append((len(body), field))
            body += bytes(4)
        elif field is not None:
            body += struct.pack("<" + field[0], field[1])
    body += bytes(-len(body) % 4)
    size = len(body)
    struct.pack_into("<i", body, 0, start - base)
    for at, blob in blobs:
        struct.pack_into("<I", body, at, len(body) - at)
        body += blob + bytes(-len(blob) % 4)
    head = struct.pack(f"<HH{len(slots)}H", vtable_size, size, *slots)
    return head + bytes(start - base - len(head)) + bytes(body), start


def buffer(identifier, fields):
    body, start = table(fields, 12)
    data = struct.pack("<I", start - 4) + identifier + body
    return struct.pack("<I", len(data)) + data


def vector(items, count):
    return struct.pack("<I", count) + items


def vector_of_tables(rows):
    offsets, body = [], b""
    for fields in rows:
        base = 4 + 4 * len(rows) + len(body)
        data, start = table(fields, base)
        offsets.append(start - 4 - 4 * len(offsets))
        body += data
    return struct.pack(f"<I{len(rows)}I", len(rows), *offsets) + body


def event_packet(events):
    items = b"".join(
        struct.pack("<qhhBxxx", t, x, y, p)
        for x, y, t, p in zip(*(getattr(events, name).tolist() for name in "xytp"), strict=True)
    )
    return buffer(b"EVTS", [vector(items, len(events))])


def frame_packet(picture, time, begin=0, end=0):
    code = {2: 0, 3: 16}[picture.ndim] if picture.ndim == 2 or picture.shape[2] == 3 else 24
    times = [("q", time), None, None, ("q", begin) if begin else None, ("q", end) if end else None]
    size = [("b", code), ("h", picture.shape[1]), ("h", picture.shape[0]), None, None]
    return buffer(b"FRME", [*times, *size, vector(picture.tobytes(), picture.size)])


def imu_packet(rows):
    return buffer(b"IMUS", [vector_of_tables([[("q", t), *(("f", v) for v in values)] for t, values in rows])])


def trigger_packet(rows):
    return buffer(b"TRIG", [vector_of_tables([[("q", t), ("b", kind)] for t, kind in rows])])


def stream_xml(number, kind, size):
    return (
        f'<node name="{number}"><attr key="typeIdentifier">{kind}</attr><node name="info">'
        f'<attr key="sizeX" type="int">{size[0]}</attr><attr key="sizeY" type="int">{size[1]}</attr>'
        f'<attr key="source">made</attr></node></node>'
    )


def encode(packets, compression=1, size=(40, 30), kinds=KINDS, close=True, xml=None):
    """A file of `(stream number, flatbuffer)` packets; `close` adds a data table and points at it."""
    pack = {0: bytes, 1: lz4.frame.compress, 2: lz4.frame.compress}.get(compression, zstandard.compress)
    body = b""
    for number, data in packets:
        payload = pack(data)
        body += struct.pack("<ii", number, len(payload)) + payload
    streams = "".join(stream_xml(i, kind, size) for i, kind in enumerate(kinds))
    text = xml or f'<dv version="2.0"><node name="outInfo">{streams}</node></dv>'.encode()

    def head(position):
        return MAGIC + buffer(b"IOHE", [("i", compression), ("q", position), vector(text, len(text))])

    position = len(head(0)) + len(body)
    return head(position if close else -1) + body + (pack(buffer(b"FTAB", [None])) if close else b"")


def slices(events, count):
    edges = np.linspace(0, len(events), count + 1).astype(int)
    return [events.take(a, b) for a, b in itertools.pairwise(edges)]


def full_packets(events, packets=11):
    rng = np.random.default_rng(3)
    picture = rng.integers(0, 256, (30, 40), dtype=np.uint8)
    out = [(0, event_packet(part)) for part in slices(events, packets)]
    out.insert(2, (1, frame_packet(picture, 5_000, 5_000, 6_001)))
    out.insert(5, (1, frame_packet(picture // 2, 9_000)))
    out.insert(3, (2, imu_packet([(1_000, range(10)), (2_000, range(10, 20))])))
    out.insert(7, (3, trigger_packet([(3_000, 6), (4_000, 7)])))
    return out, picture


@pytest.fixture
def write(tmp_path):
    def save(data, name="a.aedat4"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return save


@pytest.mark.parametrize("compression", range(5))
@pytest.mark.parametrize("close", [True, False])
def test_reads_what_was_written(write, make_events, assert_contract, compression, close):
    events = make_events()
    packets, picture = full_packets(events)
    recording = open_recording(write(encode(packets, compression, close=close), "renamed.bin"))
    assert recording.format == "aedat4"
    assert recording.sensor == Sensor(40, 30, "made")
    assert isinstance(recording, module.Aedat4Recording)
    frames, imu, triggers = (recording.tracks[name] for name in ("frames", "imu", "triggers"))
    assert frames.times.tolist() == [5_500, 9_000]  # mid-exposure where it is known
    np.testing.assert_array_equal(frames.read(0), picture)
    np.testing.assert_array_equal(frames.read(1), picture // 2)
    assert len(imu) == 2
    assert imu.times.tolist() == [1_000, 2_000]
    assert imu.read(1).tolist() == list(range(10, 20))
    assert triggers.times.tolist() == [3_000, 4_000]
    assert [triggers.read(i).tolist() for i in range(2)] == [[1, 2], [0, 2]]
    assert triggers.read(0).dtype == np.int64
    assert_contract(recording, events)


def test_windows_do_not_depend_on_what_was_read_before(write, make_events, assert_same):
    events = make_events(2000)
    recording = open_recording(write(encode([(0, event_packet(part)) for part in slices(events, 40)])))
    rng = np.random.default_rng(0)
    for t0 in rng.integers(0, 60_000, 60).tolist():
        assert_same(recording.events(t0, t0 + 9_000), events.between(t0, t0 + 9_000))


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_frames_come_as_rgb(write, channels):
    picture = np.random.default_rng(0).integers(0, 256, (30, 40, channels), dtype=np.uint8)
    frames = open_recording(write(encode([(1, frame_packet(picture, 10))]))).tracks["frames"]
    np.testing.assert_array_equal(frames.read(0), picture[..., [2, 1, 0]])


def test_of_two_cameras_the_first_is_read(write, make_events, assert_contract):
    events, other = make_events(), make_events(seed=9)
    packets = [(1, event_packet(other)), (0, event_packet(events)), (1, event_packet(other))]
    assert_contract(open_recording(write(encode(packets, kinds=("EVTS", "EVTS")))), events)


def test_without_events(write, assert_contract):
    recording = open_recording(write(encode([])))
    assert_contract(recording, Events.empty(Sensor(40, 30)))
    assert len(recording.tracks["frames"]) == 0


def test_without_a_stated_size_it_is_inferred(write, make_events):
    data = encode([(0, event_packet(make_events()))], size=(0, 0))
    assert open_recording(write(data)).sensor == Sensor(40, 30, inferred=True)
    assert open_recording(write(data), sensor=(64, 64)).sensor == Sensor(64, 64)


@pytest.mark.parametrize("across", [True, False], ids=["between packets", "within a packet"])
def test_time_that_goes_backwards(write, make_events, across):
    events = make_events(600)
    parts = slices(events, 6)
    if across:
        parts[2], parts[3] = parts[3], parts[2]
    else:
        t = parts[2].t.copy()
        t[50] -= 100_000
        parts[2] = Events(parts[2].x, parts[2].y, t, parts[2].p, parts[2].sensor)
    t = np.concatenate([part.t for part in parts])
    path = write(encode([(0, event_packet(part)) for part in parts]))
    with pytest.raises(EventError, match=r"time goes backwards 1 times in 600 events.*sort"):
        open_recording(path)
    with pytest.warns(UserWarning, match="mended"):
        sort = open_recording(path, on_error="sort")
    with pytest.warns(UserWarning, match="mended"):
        clamp = open_recording(path, on_error="clamp")
    np.testing.assert_array_equal(sort.events(-(10**9), 10**9).t, np.sort(t))
    np.testing.assert_array_equal(clamp.events(-(10**9), 10**9).t, np.maximum.accumulate(t))


def test_outside_the_sensor(write, make_events):
    path = write(encode([(0, event_packet(make_events()))], size=(39, 30)))
    with pytest.raises(EventError, match="outside the 39x30 sensor"):
        open_recording(path)
    with pytest.warns(UserWarning, match="dropped"):
        assert open_recording(path, on_error="sort").num_events < 500


def test_every_cut_is_refused_and_gives_whole_packets_on_request(write, make_events, assert_same):
    events = make_events(120)
    data = encode([(0, event_packet(part)) for part in slices(events, 4)], compression=0)
    table_size, header_size = len(buffer(b"FTAB", [None])), len(encode([], close=False))
    for size in range(len(MAGIC) + 1, len(data) - table_size, 37):
        path = write(data[:size])
        with pytest.raises(FormatError, match="cut off"):
            open_recording(path)
        if size < header_size:
            continue  # nothing can be read without the header
        with pytest.warns(UserWarning, match="cut off"):
            recording = open_recording(path, on_error="sort")
        n = recording.num_events
        assert n % 30 == 0
        assert_same(recording.events_by_index(0, n), events.take(0, n))
    assert n == 90


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda e: encode([(9, event_packet(e))]), "stream 9"),
        (lambda e: encode([(0, event_packet(e)[:-8])], compression=0), "flatbuffer"),
        (lambda e: encode([(0, trigger_packet([(1, 2)]))]), "expected kind EVTS"),
        (lambda e: encode([(1, buffer(b"FRME", [("q", 1), *[None] * 4, ("b", 5)]))]), "pixel format 5"),
        (lambda e: encode([], compression=7), "unknown compression 7"),
        (lambda e: encode([], xml=b"<dv><node"), "XML of the header is damaged"),
        (lambda e: encode([], xml=b'<!DOCTYPE a [<!ENTITY b "c">]><dv/>'), "declares entities"),
        (lambda e: encode([], xml=b"<dv></dv>"), "describes no stream"),
        (lambda e: MAGIC + struct.pack("<I", 0xFFFFFFF0) + bytes(100), "a header of 4294967280 bytes"),
        (lambda e: encode([(0, buffer(b"EVTS", [vector(bytes(16), 2**28)]))]), "268435456 items"),
    ],
)
def test_damage_is_named(write, make_events, damage, message):
    with pytest.raises(FormatError, match=message):
        open_recording(write(damage(make_events(20))))


@pytest.mark.parametrize("compression", [1, 3])
def test_a_payload_that_unpacks_without_end_is_refused(write, monkeypatch, compression):
    monkeypatch.setattr("eventfm.io.aedat4_file._LARGEST_PACKET", 1 << 20)
    monkeypatch.setattr("eventfm.io.aedat4_file._STEP", 1 << 16)
    with pytest.raises(FormatError, match="larger than 1048576 bytes"):
        open_recording(write(encode([(0, bytes(1 << 24))], compression)))


def test_events_years_away_are_damage(write, make_events):
    events = make_events(20)
    rows = full_packets(replace(events, t=events.t - np.int64(2**63 - 10)))[0]
    with pytest.raises(FormatError, match=r"the packet at byte \d+ has events years away"):
        open_recording(write(encode(rows)))


@pytest.mark.parametrize("compression", [0, 1, 3])
def test_damage_is_survived(tmp_path, make_events, compression):
    packets, _ = full_packets(make_events(100), packets=3)
    data = encode(packets, compression)
    assert 50 < fuzz(data, tmp_path, "aedat4", 250, header=len(MAGIC)) < 250


_ORACLE = """
import sys, aedat, numpy as np
parts = [p["events"] for p in aedat.Decoder(sys.argv[1]) if "events" in p]
whole = np.concatenate(parts)
np.savez(sys.argv[2], t=whole["t"].astype(np.int64), x=whole["x"], y=whole["y"], p=whole["on"].astype(np.uint8))
"""


@pytest.mark.skipif(importlib.util.find_spec("aedat") is None, reason="the oracle package aedat is not installed")
@pytest.mark.parametrize(
    "name",
    [
        "formats/dvxplorer640.aedat4",
        "formats/dvxplorer320.aedat4",
        "formats/davis346_static.aedat4",
        "pairs/davis346_street.aedat4",
        "pairs/davis346_arm.aedat4",
    ],
)
def test_equals_the_package_aedat_on_real_files(real_data, tmp_path, name):
    # In a process of its own: the package aborts its process on some files.
    out = tmp_path / "oracle.npz"
    subprocess.run([sys.executable, "-c", _ORACLE, str(real_data / name), str(out)], check=True, timeout=60)
    recording = open_recording(real_data / name)
    events = recording.events_by_index(0, recording.num_events)
    with np.load(out) as oracle:
        for column in "xytp":
            np.testing.assert_array_equal(getattr(events, column), oracle[column])
