"""The 40-bit format of N-MNIST, against a scalar oracle and a hand-written encoder."""

import numpy as np
import pytest
from fuzzing import fuzz
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.events import EventError, Events, Sensor
from eventfm.io import FormatError, open_recording
from eventfm.io.atis import decode


def encode(events, overflow_after=()):
    """Write rows; `overflow_after` are indices before which an overflow row is put (2**13 us each)."""
    out = bytearray()
    passed = 0
    for i, (x, y, t, p) in enumerate(zip(events.x, events.y, events.t, events.p, strict=True)):
        if i in overflow_after:
            out += bytes([0, 240, 0, 0, 0])
            passed += 1 << 13
        word = int(p) << 23 | (int(t) - passed)
        out += bytes([int(x), int(y)]) + word.to_bytes(3, "big")
    return bytes(out)


def decode_slowly(data):
    rows, added = [], 0
    for i in range(0, len(data) - 4, 5):
        x, y, word = data[i], data[i + 1], int.from_bytes(data[i + 2 : i + 5], "big")
        if y == 240:
            added += 8192
        else:
            rows.append((x, y, (word & 0x7FFFFF) + added, word >> 23))
    return rows


@given(st.binary(max_size=400), st.lists(st.integers(0, 79), max_size=5))
@settings(max_examples=60, deadline=None)
def test_equals_the_scalar_decoder_on_any_bytes(data, overflow_rows):
    rows = bytearray(data)
    for row in overflow_rows:
        if 5 * row + 1 < len(rows):
            rows[5 * row + 1] = 240
    found = list(zip(*(column.tolist() for column in decode(bytes(rows))), strict=True))
    assert found == decode_slowly(bytes(rows))


@pytest.mark.parametrize("overflow_after", [(), (1, 300, 301)])
def test_reads_what_was_written(tmp_path, make_events, assert_contract, overflow_after):
    events = make_events(width=34, height=34, start_us=50_000)
    path = tmp_path / "digit.bin"
    path.write_bytes(encode(events, overflow_after))
    recording = open_recording(path)
    assert recording.format == "atis"
    assert recording.sensor == Sensor(34, 34, "N-MNIST")
    assert_contract(recording, events)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((34, 34), (34, 34, False)), ((200, 100), (240, 180, False)), ((250, 100), (250, 100, True))],
)
def test_size_is_that_of_the_known_data_sets_else_inferred(tmp_path, make_events, size, expected):
    path = tmp_path / "sample.bin"
    path.write_bytes(encode(make_events(width=size[0], height=size[1])))
    found = open_recording(path).sensor
    assert (found.width, found.height, found.inferred) == expected
    hinted = open_recording(path, sensor=(304, 239)).sensor
    assert (hinted.width, hinted.height, hinted.inferred) == (304, 239, False)


def test_told_by_content_without_an_extension(tmp_path, make_events):
    path = tmp_path / "no_extension"
    path.write_bytes(encode(make_events()))
    assert open_recording(path).format == "atis"


@pytest.mark.parametrize("name", ["a.bin", "a.bs2", "a.raw"])
@pytest.mark.parametrize("seed", range(10))
def test_random_bytes_are_not_swallowed(tmp_path, name, seed):
    path = tmp_path / name
    path.write_bytes(np.random.default_rng(seed).bytes(5 * 200))
    with pytest.raises(FormatError, match="no known format"):
        open_recording(path)


@pytest.mark.parametrize("data", [bytes(500), b"\x07" * 500, b"\0\0\x01\0\0" * 3], ids=["zeros", "constant", "short"])
def test_bytes_without_motion_are_not_swallowed(tmp_path, data):
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    with pytest.raises(FormatError, match="atis: "):
        open_recording(path)


def test_few_events_are_read_when_the_format_is_named(tmp_path, make_events, assert_same):
    events = make_events(count=3)
    path = tmp_path / "a.bin"
    path.write_bytes(encode(events))
    with pytest.raises(FormatError, match="too few to tell"):
        open_recording(path)
    assert_same(open_recording(path, format="atis").events_by_index(0, 3), events)


def test_truncated_is_refused_or_read_up_to_the_cut(tmp_path, make_events, assert_same):
    events = make_events()
    path = tmp_path / "a.bin"
    path.write_bytes(encode(events)[:-2])
    with pytest.raises(FormatError, match="cut off in the middle of event 499"):
        open_recording(path)
    with pytest.warns(UserWarning, match="cut off"):
        recording = open_recording(path, on_error="sort")
    assert_same(recording.events_by_index(0, 500), events.take(0, 499))


def test_time_that_goes_backwards_is_counted_and_mended(tmp_path, make_events):
    events = make_events()
    t = events.t.copy()
    t[[100, 200]] -= 30
    path = tmp_path / "a.bin"
    path.write_bytes(encode(Events(events.x, events.y, t, events.p, events.sensor)))
    backwards = int((np.diff(t) < 0).sum())
    assert backwards
    with pytest.raises(EventError, match=f"goes backwards {backwards} times.*on_error='sort' or on_error='clamp'"):
        open_recording(path)
    with pytest.warns(UserWarning, match="mended by sort"):
        sort = open_recording(path, on_error="sort")
    with pytest.warns(UserWarning, match="mended by clamp"):
        clamp = open_recording(path, on_error="clamp")
    np.testing.assert_array_equal(sort.events_by_index(0, 500).t, np.sort(t))
    np.testing.assert_array_equal(clamp.events_by_index(0, 500).t, np.maximum.accumulate(t))


def test_coordinates_outside_the_sensor_are_refused(tmp_path, make_events):
    path = tmp_path / "a.bin"
    path.write_bytes(encode(make_events(width=40, height=30)))
    with pytest.raises(EventError, match="outside the 34x34 sensor"):
        open_recording(path, sensor=(34, 34))


def test_damage_is_survived(tmp_path, make_events):
    assert 0 < fuzz(encode(make_events()), tmp_path, count=60, name="a.bin") < 60
