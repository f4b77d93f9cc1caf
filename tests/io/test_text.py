"""Text and CSV: orders, units, headers, cuts."""

from dataclasses import replace

import numpy as np
import pytest
from fuzzing import fuzz
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.events import EventError, Sensor
from eventfm.io import ArrayRecording, ArrayTrack, FormatError, open_recording
from eventfm.io.searched import SearchedRecording
from eventfm.io.text_writer import save_csv


def rows(events, order="txyp", delimiter=" ", seconds=False):
    columns = {
        "x": map(str, events.x.tolist()),
        "y": map(str, events.y.tolist()),
        "t": (f"{t // 10**6}.{t % 10**6:06d}" if seconds else str(t) for t in events.t.tolist()),
        "p": map(str, events.p.tolist()),
    }
    return "".join(delimiter.join(row) + "\n" for row in zip(*(columns[name] for name in order), strict=True))


@pytest.mark.parametrize("order", ["txyp", "xytp", "xypt"])
@pytest.mark.parametrize("delimiter", [" ", ",", "\t", ", "])
@pytest.mark.parametrize("seconds", [True, False])
def test_order_delimiter_and_unit_are_told_by_content(
    tmp_path, make_events, assert_contract, order, delimiter, seconds
):
    events = make_events()
    path = tmp_path / "events.dat"
    path.write_text(rows(events, order, delimiter, seconds))
    recording = open_recording(path)
    assert recording.format == "text"
    assert recording.sensor == Sensor(40, 30, inferred=True)
    assert_contract(recording, events)


def test_metavision_csv_states_the_size(tmp_path, make_events, assert_contract):
    events = make_events()
    path = tmp_path / "events.csv"
    path.write_text("%geometry:640,480\n" + rows(events, "xypt", ","))
    recording = open_recording(path)
    assert recording.sensor == Sensor(640, 480)
    assert_contract(recording, events)


def test_first_line_may_be_the_size(tmp_path, make_events, assert_contract):
    events = make_events()
    path = tmp_path / "events.txt"
    path.write_text("240 180\n" + rows(events, seconds=True))
    recording = open_recording(path)
    assert recording.sensor == Sensor(240, 180)
    assert_contract(recording, events)


@pytest.mark.parametrize("header", ["polarity,y,x,timestamp,extra", "# p, y, x, t, note"])
def test_a_header_names_the_columns_in_any_order(tmp_path, make_events, assert_contract, header):
    events = make_events()
    body = "".join(line + ",7\n" for line in rows(events, "pyxt", ",").splitlines())
    path = tmp_path / "events.csv"
    path.write_text(header + "\n" + body)
    assert_contract(open_recording(path), events)


def test_faery_writes_the_size_into_the_names(tmp_path, make_events, assert_contract):
    events = make_events()
    path = tmp_path / "events.csv"
    path.write_text("t,x@640,y@480,on\n" + rows(events, delimiter=","))
    recording = open_recording(path, "text")
    assert recording.sensor == Sensor(640, 480)
    assert_contract(recording, events)


@pytest.fixture
def large(monkeypatch):
    """Every file counts as large, and has many blocks."""
    monkeypatch.setattr("eventfm.io.text._LARGEST_IN_MEMORY", 0)
    monkeypatch.setattr("eventfm.io.text_source._ROWS", 32)
    monkeypatch.setattr("eventfm.io.text_source._PIECE", 97)
    monkeypatch.setattr("eventfm.io.searched._BLOCK", 64)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("header", ["", "240 180\n", "%geometry:240,180\n", "t,x,y,p\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("seconds", [True, False])
def test_large_files_are_read_where_asked(tmp_path, make_events, assert_contract, header, end, seconds):
    events = make_events()
    path = tmp_path / "events.txt"
    text = header + rows(events, delimiter="," if "," in header else " ", seconds=seconds).rstrip("\n")
    path.write_bytes((text.replace("\n", end) + end).encode())
    recording = open_recording(path, "text")
    assert isinstance(recording, SearchedRecording)
    assert recording.sensor.inferred == ("240" not in header)
    assert_contract(recording, events)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("count", [2, 31, 32, 33, 64])
def test_a_large_file_may_end_without_newline_or_be_cut(tmp_path, make_events, assert_same, count):
    events = make_events(count)
    path = tmp_path / "events.txt"
    path.write_text("40 30\n" + rows(events).rstrip("\n"))
    assert_same(open_recording(path, "text").events_by_index(0, count), events)
    path.write_text("40 30\n" + rows(events)[:-5].rstrip())
    with pytest.raises(FormatError, match=f"cut off in the middle of event {count - 1}"):
        open_recording(path, "text")
    with pytest.warns(UserWarning, match="cut off"):
        recording = open_recording(path, "text", on_error="sort")
    assert_same(recording.events_by_index(0, count), events.take(0, count - 1))


@pytest.mark.usefixtures("large")
def test_a_damaged_row_of_a_large_file_is_refused_where_it_is_read(tmp_path, make_events, assert_same):
    events = make_events(9000)
    lines = ("40 30\n" + rows(events)).splitlines()
    lines[8001] = "12 3 x 4"
    path = tmp_path / "events.txt"
    path.write_text("\n".join(lines) + "\n")
    recording = open_recording(path, "text")
    assert_same(recording.events_by_index(7900, 7990), events.take(7900, 7990))
    with pytest.raises(FormatError, match=r"events\.txt: a row from event 7990 on is damaged"):
        recording.events_by_index(7990, 8010)


@pytest.mark.parametrize("inferred", [True, False])
def test_csv_reads_back(tmp_path, make_events, assert_contract, inferred):
    events = make_events()
    sensor = Sensor(40, 30, inferred=True) if inferred else Sensor(64, 48)
    source = ArrayRecording(replace(events, sensor=sensor), {"imu": ArrayTrack([1], np.zeros((1, 6)))})
    with pytest.warns(UserWarning, match="cannot hold the tracks imu"):
        path = save_csv(tmp_path / "events.csv", source)
    recording = open_recording(path, "text")
    assert recording.sensor == sensor
    assert_contract(recording, events)
    with pytest.raises(FileExistsError):
        save_csv(path, source)


@given(st.integers(0, 2 * 10**15))
@settings(max_examples=50, deadline=None)
def test_seconds_are_rounded_to_the_nearest_microsecond(tmp_path_factory, time_us):
    path = tmp_path_factory.mktemp("text") / "events.txt"
    path.write_text(f"{time_us // 10**6}.{time_us % 10**6:06d} 3 4 1\n{time_us // 10**6 + 1}.5 5 6 0\n")
    found = open_recording(path).events(0, 2**62).t.tolist()
    assert found == [time_us, (time_us // 10**6 + 1) * 10**6 + 500_000]


def test_polarity_may_be_minus_one(tmp_path):
    path = tmp_path / "events.txt"
    path.write_text("10 1 2 -1\n20 3 4 1\n")
    assert open_recording(path).events(0, 99).p.tolist() == [0, 1]


def test_truncated_last_row(tmp_path, make_events, assert_same):
    events = make_events()
    path = tmp_path / "events.txt"
    path.write_text(rows(events)[:-4].rstrip())
    with pytest.raises(FormatError, match="cut off in the middle of event 499"):
        open_recording(path)
    with pytest.warns(UserWarning, match="cut off"):
        recording = open_recording(path, on_error="clamp")
    assert_same(recording.events_by_index(0, 500), events.take(0, 499))


def test_a_last_row_without_newline_is_whole(tmp_path, make_events, assert_contract):
    events = make_events()
    path = tmp_path / "events.txt"
    path.write_text(rows(events).rstrip("\n"))
    assert_contract(open_recording(path), events)


def test_blank_lines_do_not_count(tmp_path, make_events, assert_contract):
    events = make_events(count=60)
    path = tmp_path / "events.txt"
    path.write_text("\n# made by hand\n\n" + rows(events).replace("\n", "\n\n") + "\n\n")
    assert_contract(open_recording(path), events)


def test_only_a_size_is_a_recording_without_events(tmp_path):
    path = tmp_path / "events.txt"
    path.write_text("240 180\n")
    recording = open_recording(path)
    assert (recording.num_events, recording.t_range, recording.sensor) == (0, (0, -1), Sensor(240, 180))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.bin,3\n", "no row of numbers"),
        ("1 2 3 4\n5 6 7 8\n9 9 9 9\n", "none of the orders"),
        ("1 2 3\n4 5 6\n", "not four numbers"),
        ("just some words\n", "no row of numbers"),
    ],
)
def test_other_text_is_no_recording(tmp_path, text, message):
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(FormatError, match=message):
        open_recording(path)


@pytest.mark.parametrize("bad", ["12 3 4\n", "12 3 4 x\n", "nan 3 4 1\n", "1e300 3 4 1\n", "12 3.5 4 1\n"])
def test_a_damaged_row_far_down_is_named(tmp_path, make_events, bad):
    events = make_events(count=9000)
    text = rows(events) + bad + "99999999 1 1 0\n"
    path = tmp_path / "events.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"events\.txt"):
        open_recording(path)


def test_outside_the_sensor_is_refused_or_dropped(tmp_path, make_events):
    events = make_events()
    path = tmp_path / "events.txt"
    path.write_text("39 30\n" + rows(events))
    outside = int((events.x >= 39).sum())
    with pytest.raises(EventError, match=f"{outside} of 500 events lie outside the 39x30 sensor"):
        open_recording(path)
    with pytest.warns(UserWarning, match="dropped"):
        assert open_recording(path, on_error="sort").num_events == 500 - outside


def test_damage_is_survived(tmp_path, make_events):
    assert 0 < fuzz(rows(make_events(200), seconds=True).encode(), tmp_path, count=60) < 60


def test_guessing_prefers_the_column_that_runs_forward(tmp_path):
    t = np.arange(0, 4000, 10)
    x = (t * 7) % 50
    path = tmp_path / "events.txt"
    path.write_text("".join(f"{a} {b} {c} {i % 2}\n" for i, (a, b, c) in enumerate(zip(x, x[::-1], t, strict=True))))
    found = open_recording(path).events(0, 10**6)
    np.testing.assert_array_equal(found.t, t)
    np.testing.assert_array_equal(found.x, x)
