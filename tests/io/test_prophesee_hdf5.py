"""Prophesee's HDF5 files and the ECF codec, against an encoder written here from the layout."""

import struct

import h5py
import numpy as np
import pytest
from fuzzing import fuzz
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.events import EventError, Events, Sensor
from eventfm.io import FormatError, open_recording
from eventfm.io.contract import DamagedFileError
from eventfm.io.ecf import decode, decode_plainly, first_time

RECORD = np.dtype(
    {"names": ["x", "y", "p", "t"], "formats": ["<u2", "<u2", "<i2", "<i8"], "offsets": [0, 2, 4, 8], "itemsize": 16}
)
STYLES = ("packed24", "packed12", "runs")


def runs_of(values):
    """Split a list into (value, length)."""
    out = []
    for value in values:
        if out and out[-1][0] == value:
            out[-1][1] += 1
        else:
            out.append([value, 1])
    return out


def run_word(value, length, bits, kind):
    full = (1 << bits) - 1
    if length < full:
        return struct.pack(kind, value << bits | length)
    return struct.pack(kind, value << bits | full) + struct.pack("<H", length)


def encode_times(times):
    out, now = struct.pack("<q", times[0]), times[0]
    for time, length in runs_of(times):
        step = time - now
        if step >= 15:
            while step:
                out += bytes([0xF0 | step & 15])
                step >>= 4
        now = time
        out += run_word(step, length, 4, "<B")
    return out


def encode_masked(x):
    out, i = b"", 0
    while i < len(x):
        first, mask = x[i], 0
        i += 1
        for k in range(5):
            if i < len(x) and x[i] == first + k + 1:
                mask |= 1 << (4 - k)
                i += 1
        out += struct.pack("<H", first << 5 | mask)
    return out


def pack_bits(values, bits, kind):
    """Put four values of `bits` bits into three words, the first in the highest bits, as the codec does."""
    values = values + [0] * (-len(values) % 4)
    word = bits * 4 // 3
    out = b""
    for k in range(0, len(values), 4):
        a, b, c, d = values[k : k + 4]
        if bits == 24:
            words = (a << 8 | b & 0xFF, (b >> 8) << 16 | c & 0xFFFF, (c >> 16) << 24 | d)
        else:
            words = (a << 4 | b & 0xF, (b >> 4) << 8 | c & 0xFF, (c >> 8) << 12 | d)
        out += b"".join(struct.pack(kind, w) for w in words)
        assert all(w < 1 << word for w in words)
    return out


def encode(x, y, t, p, style):
    """Return one ECF chunk of Python lists."""
    flags = {"packed24": 2, "packed12": 1, "runs": 0}[style]
    out = struct.pack("<I", len(t) << 2 | flags) + encode_times(t)
    if style == "packed24":
        return out + pack_bits([b << 12 | a << 1 | c for a, b, c in zip(x, y, p, strict=True)], 24, "<I")
    out += b"".join(run_word(value, length, 5, "<H") for value, length in runs_of(y))
    if style == "packed12":
        return out + pack_bits([a << 1 | c for a, c in zip(x, p, strict=True)], 12, "<H")
    return out + encode_masked(x) + b"".join(run_word(value, length, 7, "<B") for value, length in runs_of(p))


def chunks_of(events, size):
    """Yield chunks as HDF5 hands them to the filter: the last is filled with zeros, whose time the codec holds back."""
    for k, start in enumerate(range(0, len(events), size)):
        part = events.take(start, start + size)
        fill = size - len(part)
        x, y, p = ([*getattr(part, name).tolist(), *[0] * fill] for name in "xyp")
        t = [*part.t.tolist(), *[int(part.t[-1])] * fill]
        yield encode(x, y, t, p, STYLES[k % 3])


def write(path, events, chunk=512, geometry="1280x720", triggers=()):
    """Write a file; `chunk` None leaves the ECF filter out."""
    with h5py.File(path, "w", track_order=False) as file:
        if geometry:
            file.attrs["geometry"] = np.bytes_(geometry)
        file.attrs["version"] = np.bytes_("1.0")
        if chunk is None:
            records = np.zeros(len(events), RECORD)
            for name in "xytp":
                records[name] = getattr(events, name)
            file.create_dataset("CD/events", data=records, chunks=(256,), compression="gzip")
        else:
            group = file.create_group("CD")
            kind = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            kind.set_chunk((chunk,))
            kind.set_filter(0x8ECF, h5py.h5z.FLAG_OPTIONAL, ())
            space = h5py.h5s.create_simple((len(events),), (h5py.h5s.UNLIMITED,))
            data = h5py.h5d.create(group.id, b"events", h5py.h5t.py_create(RECORD), space, kind)
            for k, raw in enumerate(chunks_of(events, chunk)):
                data.write_direct_chunk((k * chunk,), raw, 0)
        if triggers:
            kinds = [("p", "<i2"), ("t", "<i8"), ("id", "<i2")]
            file["EXT_TRIGGER/events"] = np.array(triggers, kinds)


@st.composite
def columns(draw):
    count = draw(st.integers(1, 200))
    steps = st.sampled_from([0, 0, 0, 1, 14, 15, 16, 255, 4096, 10**9])
    t = np.cumsum(draw(st.lists(steps, min_size=count, max_size=count))) + draw(st.integers(0, 2**40))
    near = st.sampled_from([0, 1, 2, 3, 7, 2047])
    x, y = (draw(st.lists(near, min_size=count, max_size=count)) for _ in "xy")
    p = draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    return x, y, t.tolist(), p


@given(columns(), st.sampled_from(STYLES))
@settings(max_examples=80, deadline=None)
def test_both_decoders_read_what_was_encoded(found, style):
    data = np.frombuffer(encode(*found, style), np.uint8)
    assert first_time(data) == found[2][0]
    for decoder in (decode, decode_plainly):
        decoded = decoder(data)
        assert [column.dtype for column in decoded] == [np.uint16, np.uint16, np.int64, np.uint8]
        for column, expected in zip(decoded, found, strict=True):
            assert column.tolist() == expected


@pytest.mark.parametrize("style", STYLES)
def test_long_runs(style):
    x, y, t, p = [5] * 40_000, [9] * 40_000, [7] * 40_000, [1] * 40_000
    decoded = decode(np.frombuffer(encode(x, y, t, p, style), np.uint8))
    assert [column.tolist() for column in decoded] == [x, y, t, p]


def test_a_mask_may_reach_beyond_the_last_event():
    data = bytearray(encode([3], [4], [5], [1], "runs"))
    data[-3:-1] = struct.pack("<H", 3 << 5 | 31)
    for decoder in (decode, decode_plainly):
        assert [column.tolist() for column in decoder(np.frombuffer(data, np.uint8))] == [[3], [4], [5], [1]]


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_both_decoders_agree_on_damaged_chunks(data):
    style = data.draw(st.sampled_from(STYLES))
    t = sorted(range(0, 2400, 20))
    raw = bytearray(encode([1, 2, 3, 9] * 30, [4, 4, 5, 5] * 30, t, [0, 1] * 60, style))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = np.frombuffer(raw[: data.draw(st.integers(0, len(raw)))], np.uint8)
    answers = []
    for decoder in (decode, decode_plainly):
        try:
            answers.append([column.tolist() for column in decoder(raw)])
        except DamagedFileError:
            answers.append("damaged")
    assert answers[0] == answers[1]


@pytest.mark.parametrize("size", [0, 3, 11])
def test_a_chunk_without_header_and_one_that_claims_too_much(size):
    for decoder in (decode, decode_plainly):
        with pytest.raises(DamagedFileError, match=f"{size} bytes has no header"):
            decoder(np.zeros(size, np.uint8))
        with pytest.raises(DamagedFileError, match="claims 1073741823 events"):
            decoder(np.full(64, 255, np.uint8))


@pytest.fixture
def recorded(tmp_path, make_events):
    events = make_events(3000, width=1280, height=720, span_us=80_000)
    write(tmp_path / "a.hdf5", events, triggers=[(1, 2_000, 0), (0, 50_000, 6)])
    return tmp_path / "a.hdf5", events


def test_ecf_file(recorded, assert_contract):
    path, events = recorded
    recording = open_recording(path, "prophesee_hdf5")
    assert recording.sensor == Sensor(1280, 720)
    assert_contract(recording, events)
    triggers = recording.tracks["triggers"]
    assert triggers.times.tolist() == [2_000, 50_000]
    assert [triggers.read(i).tolist() for i in range(2)] == [[1, 0], [0, 6]]
    assert triggers.read(0).dtype == np.int64


def test_it_is_told_by_content(recorded):
    assert open_recording(recorded[0]).format == "prophesee_hdf5"


def test_other_filters_and_no_size(tmp_path, make_events, assert_contract):
    events = make_events(700, width=600, height=400)
    write(tmp_path / "a.hdf5", events, chunk=None, geometry=None)
    recording = open_recording(tmp_path / "a.hdf5", "prophesee_hdf5")
    assert recording.sensor == Sensor(640, 480, "Prophesee VGA")
    assert_contract(recording, events)


def test_a_window_reads_few_chunks(recorded, monkeypatch):
    path, events = recorded
    recording = open_recording(path, "prophesee_hdf5")
    monkeypatch.setattr("eventfm.io.searched._BLOCK", 512)
    recording = open_recording(path, "prophesee_hdf5")
    decoded = []
    source = recording._source
    plain = source._decode
    source._decoded = lambda chunk: decoded.append(chunk) or plain(chunk)
    t0 = int(events.t[1200])
    assert len(recording.events(t0, t0 + 500))
    assert set(decoded) <= {1, 2, 3}


def test_a_damaged_chunk_is_named_and_the_others_are_read(recorded, assert_same):
    path, events = recorded
    with h5py.File(path, "r+") as file:
        file["CD/events"].id.write_direct_chunk((1024,), bytes(40), 0)
    recording = open_recording(path, "prophesee_hdf5")
    with pytest.raises(DamagedFileError, match=r"a\.hdf5: chunk 2 of CD/events holds 0 of 512 events"):
        recording.events_by_index(1000, 1100)
    assert_same(recording.events_by_index(0, 1024), events.take(0, 1024))


def test_only_damaged_chunks_are_lost_when_asked_to_mend(recorded, monkeypatch, assert_contract):
    path, events = recorded
    monkeypatch.setattr("eventfm.io.searched._BLOCK", 512)
    with h5py.File(path, "r+") as file:
        for chunk in (2, 3):
            file["CD/events"].id.write_direct_chunk((512 * chunk,), bytes(40), 0)
    with pytest.warns(UserWarning, match="chunk 2 of CD/events.*events 1024 to 1536 were left out"):
        recording = open_recording(path, "prophesee_hdf5", on_error="sort")
    columns = (np.delete(getattr(events, name), np.s_[1024:2048]) for name in "xytp")
    assert_contract(recording, Events.checked(*columns, events.sensor))


def test_a_chunk_that_the_filter_left_out_is_read_as_it_is(recorded, assert_same):
    path, events = recorded
    records = np.zeros(512, RECORD)
    for name in "xytp":
        records[name] = getattr(events, name)[512:1024]
    with h5py.File(path, "r+") as file:
        file["CD/events"].id.write_direct_chunk((512,), records.tobytes(), 1)
    assert_same(open_recording(path, "prophesee_hdf5").events_by_index(0, 3000), events)


def test_outside_the_sensor(recorded):
    path, _ = recorded
    with pytest.raises(EventError, match="outside the 640x480 sensor"):
        open_recording(path, "prophesee_hdf5", sensor=(640, 480)).events_by_index(0, 3000)
    mended = open_recording(path, "prophesee_hdf5", sensor=(640, 480), on_error="sort")
    with pytest.warns(UserWarning, match="dropped"):
        found = mended.events_by_index(0, 3000)
    assert len(found) == mended.num_events < 3000


def test_other_hdf5_files_are_declined(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["CD/events"] = np.zeros(4)
    with pytest.raises(FormatError, match="expected records"):
        open_recording(tmp_path / "a.h5", "prophesee_hdf5")


def test_no_events(tmp_path):
    events = Events.empty(Sensor(640, 480))
    write(tmp_path / "a.hdf5", events, geometry="640x480")
    recording = open_recording(tmp_path / "a.hdf5", "prophesee_hdf5")
    assert (recording.num_events, recording.t_range, len(recording.events(0, 9))) == (0, (0, -1), 0)


def test_damage_is_survived(tmp_path, make_events):
    write(tmp_path / "a.hdf5", make_events(800), chunk=256, triggers=[(1, 2_000, 0)])
    data = (tmp_path / "a.hdf5").read_bytes()
    assert 100 < fuzz(data, tmp_path, "prophesee_hdf5") < 500
