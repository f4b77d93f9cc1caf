"""Prophesee RAW: every format and header, random access, wraps, and damage."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import fuzz
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_files import evt2_words, evt3_words, evt21_words

from eventfm.events import EventError, Events, Sensor
from eventfm.io import FormatError, detect_format, evt2, evt21, open_recording
from eventfm.io.prophesee_header import raw_kind, read_header

GEN4 = b"% evt 3.0\n% geometry 1280x720\n% integrator_name Prophesee\n"
FILES: dict[str, tuple[bytes, Any]] = {
    "evt2": (b"% format EVT2;height=30;width=40\n% end\n", evt2_words),
    "evt21": (b"% format EVT21;height=30;width=40;endianness=little\n% end\n", evt21_words),
    "evt21 legacy": (b"% evt 2.1\n% geometry 40x30\n% system_ID 41\n", partial(evt21_words, legacy=True)),
    "evt3": (b"% format EVT3;height=30;width=40\n% end\n", evt3_words),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", FILES)
def test_every_format_reads_back_and_at_random(
    name: str, make_events: Any, assert_contract: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventfm.io.raw._BLOCK_BYTES", 400)
    header, words = FILES[name]
    events = make_events(count=700)
    path = tmp_path / "file.raw"
    path.write_bytes(header + words(events))
    assert detect_format(path) == "raw"
    recording = open_recording(path)
    assert recording.sensor == Sensor(40, 30)
    assert_contract(recording, events)


@pytest.mark.parametrize("name", ["evt2", "evt21", "evt3"])
def test_words_without_a_header_are_read_as_the_hint_says(
    name: str, make_events: Any, assert_same: Any, tmp_path: Path
) -> None:
    events = make_events(count=300)
    path = tmp_path / "words.bin"
    path.write_bytes(FILES[name][1](events))
    recording = open_recording(path, format=name, sensor=(40, 30))
    assert_same(recording.events_by_index(0, 300), events)
    assert open_recording(path, format=name).sensor == Sensor(40, 30, inferred=True)


@pytest.mark.parametrize(("name", "loop_us"), [("evt2", 1 << 34), ("evt21", 1 << 34), ("evt3", 1 << 24)])
def test_a_clock_that_wraps_goes_on(name: str, loop_us: int, tmp_path: Path) -> None:
    t = np.array([loop_us - 90, loop_us - 1, loop_us, loop_us + 5000, 2 * loop_us - 1, 2 * loop_us + 3], np.int64)
    x = np.arange(len(t))
    events = Events.checked(x, x, t, x % 2, Sensor(40, 30))
    header, words = FILES[name]
    (tmp_path / "file.raw").write_bytes(header + words(events))
    found = open_recording(tmp_path / "file.raw")
    np.testing.assert_array_equal(found.events_by_index(0, len(t)).t, t)


words_32 = st.lists(st.integers(0, 0xFFFFFFFF), max_size=80)


@settings(deadline=None)
@given(words_32, st.integers(0, 80))
def test_evt2_is_its_plain_twin(values: list[int], cut: int) -> None:
    _twins(evt2, np.array(values, np.uint32), cut)


@settings(deadline=None)
@given(st.lists(st.integers(0, 0xFFFFFFFFFFFFFFFF), max_size=80), st.integers(0, 80))
def test_evt21_is_its_plain_twin(values: list[int], cut: int) -> None:
    _twins(evt21, np.array(values, np.uint64), cut)


def _twins(module: Any, words: Any, cut: int) -> None:
    columns, state = module.decode(words)
    plain, same = module.decode_plainly(words)
    first, middle = module.decode(words[:cut])
    second, end = module.decode(words[cut:], middle)
    assert state == same == end
    for one, two, a, b in zip(columns, plain, first, second, strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, np.concatenate([a, b]))


@pytest.mark.parametrize(
    ("header", "format", "sensor", "swapped"),
    [
        (b"% evt 3.0\n% geometry 320x320\n", "evt3", Sensor(320, 320), False),
        (b"% system_ID 21\n", "evt2", Sensor(640, 480), False),
        (b"% system_ID 177\n", "evt3", Sensor(1280, 720), False),  # 49 with the bit of a proxy
        (b"% format EVT21;width=1280;height=720\n% system_ID 60\n% end\n", "evt21", Sensor(1280, 720), False),
        (b"% format EVT21;width=1280;height=720\n% system_ID 46\n% end\n", "evt21", Sensor(1280, 720), True),
        (b"% evt 2.1\n% endianness legacy\n% geometry 8x8\n", "evt21", Sensor(8, 8), True),
    ],
)
def test_headers_of_all_generations(header: bytes, format: str, sensor: Sensor, swapped: bool, tmp_path: Path) -> None:
    path = tmp_path / "file.raw"
    path.write_bytes(header + bytes(16))
    found = read_header(path)
    assert raw_kind(found, path) == (format, sensor, swapped)
    assert found.end == len(header)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"% integrator_name Prophesee\n", "names no format"),
        (b"% format EVT4;width=4;height=4\n% end\n", "got 'evt4'"),
        (b"% format EVT3;width=4;height=4\n% geometry 5x5\n% end\n", "names two sizes"),
        (b"% evt 3.0" + b" " * 70_000, "the header has no end"),
    ],
)
def test_headers_that_say_too_little_or_too_much_are_refused(header: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "file.raw").write_bytes(header + bytes(8))
    with pytest.raises(FormatError, match=said):
        open_recording(tmp_path / "file.raw", format="raw")


def test_time_that_goes_backwards_is_counted_refused_and_mended(make_events: Any, tmp_path: Path) -> None:
    events = make_events(count=300)
    order = np.concatenate([np.arange(100, 200), np.arange(100), np.arange(200, 300)])
    shuffled = Events(events.x[order], events.y[order], events.t[order], events.p[order], events.sensor)
    path = tmp_path / "file.raw"
    path.write_bytes(FILES["evt2"][0] + evt2_words(shuffled))
    with pytest.raises(EventError, match=r"time goes backwards 1 times; .*eventfm doctor --fix"):
        open_recording(path)
    with pytest.warns(UserWarning, match="time goes backwards 1 times"):
        mended = open_recording(path, on_error="sort")
    np.testing.assert_array_equal(mended.events_by_index(0, 300).t, events.t)


def test_a_file_that_is_cut_off_is_read_up_to_there_if_asked(make_events: Any, tmp_path: Path) -> None:
    path = tmp_path / "file.raw"
    path.write_bytes(FILES["evt3"][0] + evt3_words(make_events(count=50)) + b"\x07")
    with pytest.raises(FormatError, match=r"cut off in the middle of a word \(1 of 2 bytes"):
        open_recording(path)
    with pytest.warns(UserWarning, match="cut off"):
        assert open_recording(path, on_error="clamp").num_events == 50


@pytest.mark.parametrize("name", FILES)
def test_damage_is_survived(name: str, make_events: Any, tmp_path: Path) -> None:
    header, words = FILES[name]
    data = header + words(make_events(count=120))
    opened = partial(open_recording, format="raw", on_error="sort")
    assert 0 < fuzz(data, opened, tmp_path, count=500, header=len(header)) < 500


REAL = [
    ("gen3_evt2.raw", {}, 521_252, (640, 480), 95.9),
    ("gen4_evt3.raw", {}, 219_596, (1280, 720), 8.8),
    ("genx320_evt2_headerless.bin", {"format": "evt2", "sensor": (320, 320)}, 119_317, (320, 320), 2947.6),
]


@pytest.mark.parametrize(("name", "hints", "count", "size", "length_ms"), REAL)
def test_real_files(name: str, hints: Any, count: int, size: Any, length_ms: float, real_data: Path) -> None:
    recording = open_recording(real_data / "formats" / name, **hints)
    first, last = recording.t_range
    assert recording.num_events == count
    assert (recording.sensor.width, recording.sensor.height) == size
    assert (last - first) / 1000 == pytest.approx(length_ms, abs=0.05)
    whole = recording.events_by_index(0, count)
    rng = np.random.default_rng(0)
    for _ in range(100):
        t0, t1 = np.sort(rng.integers(first - 10, last + 10, 2)).tolist()
        np.testing.assert_array_equal(recording.events(t0, t1).t, whole.between(t0, t1).t)


def test_a_real_file_whose_time_goes_backwards(real_data: Path) -> None:
    path, hints = real_data / "formats" / "evt2_time_goes_back.bin", {"format": "evt2", "sensor": (320, 320)}
    with pytest.raises(EventError, match="time goes backwards 1260 times"):
        open_recording(path, **hints)
    with pytest.warns(UserWarning, match="mended by sort"):
        mended = open_recording(path, **hints, on_error="sort")
    assert mended.num_events == 741_257
    assert (np.diff(mended.events_by_index(0, 741_257).t) >= 0).all()
