"""Prophesee RAW: every format and header, random access, wraps, and damage."""

from __future__ import annotations

import re
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
from eventfm.io import FormatError, detect_format, evt2, evt21, open_recording, raw
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
        (b"% system_ID 21\n% evt 3.0\n% format EVT3;height=6;width=8\n% geometry 8x6\n", "evt3", Sensor(8, 6), False),
    ],
)
def test_headers_of_all_generations(header: bytes, format: str, sensor: Sensor, swapped: bool, tmp_path: Path) -> None:
    path = tmp_path / "file.raw"
    path.write_bytes(header + bytes(16))
    found = read_header(path)
    assert raw_kind(found, path) == (format, sensor, swapped)
    assert found.end == len(header)


@pytest.mark.parametrize(
    ("lines", "swapped"),
    [
        ("system_ID 54", True),
        ("system_ID 55", False),
        ("system_ID 0", False),
        ("Date 2023-01-01 10:00:00", False),
        ("system_ID 46\n% integrator_name Prophesee", True),
        ("system_ID 46\n% integrator_name Acme", False),
        ("system_ID 46\n% camera_integrator_name Prophesee\n% plugin_integrator_name Prophesee", True),
        ("system_ID 46\n% camera_integrator_name Acme\n% plugin_integrator_name Prophesee", False),
        ("system_ID 46\n% camera_integrator_name Prophesee\n% plugin_integrator_name Acme", False),
        ("system_ID 46\n% camera_integrator_name Prophesee", False),
        ("system_ID 46\n% endianness little", False),
        ("system_ID 60\n% endianness legacy", True),
        ("integrator_name Acme\n% endianness legacy", True),
    ],
)
def test_word_order_is_said_or_that_of_the_maker_and_the_age_of_the_camera(
    lines: str, swapped: bool, make_events: Any, assert_same: Any, tmp_path: Path
) -> None:
    """Read back by what the encoder wrote, so that the order is the one that decodes, not only the one that is said."""
    path, events = tmp_path / "file.raw", make_events(count=60)
    header = f"% format EVT21;width=40;height=30\n% {lines}\n% end\n".encode()
    path.write_bytes(header + evt21_words(events, legacy=swapped))
    assert_same(open_recording(path).events_by_index(0, 60), events)
    # What `format` says of the order goes before all else.
    path.write_bytes(
        header.replace(b"EVT21;", b"EVT21;endianness=little;") + evt21_words(events),
    )
    assert_same(open_recording(path).events_by_index(0, 60), events)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"% format EVT21;width=40;height=30;endianness=little\n% end\n",
        b"% format EVT21;width=40;height=30;endianness=legacy\n% end\n",
        b"% format EVT21;width=40;height=30;endianness=big\n% end\n",
        b"% evt 9.9\n% geometry 40x30\n% system_ID 41\n",
        b"% format EVT7;width=40;height=30\n% end\n",
        b"% integrator_name Acme\n% geometry 40x30\n",
    ],
)
def test_hints_say_format_and_word_order_whatever_the_header_says(
    header: bytes, legacy: bool, make_events: Any, assert_same: Any, tmp_path: Path
) -> None:
    path, events = tmp_path / "file.raw", make_events(count=60)
    path.write_bytes(header + evt21_words(events, legacy=legacy))
    found = (raw.EVT21_LEGACY if legacy else raw.EVT21).open(path, None, "raise")
    assert_same(found.events_by_index(0, 60), events)
    assert found.sensor == Sensor(40, 30, inferred=not header)


_CHOICES = "format='evt2', 'evt21', 'evt21_legacy' or 'evt3'"


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("integrator_name Prophesee", f"names no format; say {_CHOICES}"),
        ("integrator_name Acme\n% system_ID 21", "names no format"),
        (
            "format EVT7;width=4;height=4",
            f"EVT2, EVT2.1 or EVT3, got 'EVT7'; convert it with OpenEB, or say {_CHOICES}",
        ),
        ("format HISTO3D;width=320;height=320\n% evt 3.0", "got 'HISTO3D'"),
        ("evt 9.9\n% geometry 4x4\n% system_ID 21", f"evt 2.0, 2.1 or 3.0, got '9.9'; say {_CHOICES}"),
        ("evt 9.9\n% format EVT3;width=4;height=4", "got '9.9'"),
        ("evt 2.0\n% format EVT3;width=4;height=4", f"two formats of words, EVT3 and evt 2.0; say {_CHOICES}"),
        ("format EVT21;endianness=big", "endianness little or legacy, got 'big'; say format='evt21' or 'evt21_legacy'"),
        ("evt 3.0" + " " * 70_000, "the header has no end"),
    ],
)
def test_headers_that_say_too_little_or_too_much_of_words_are_refused(header: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "file.raw").write_bytes(f"% {header}\n".encode() + bytes(8))
    with pytest.raises(FormatError, match=re.escape(said)):
        open_recording(tmp_path / "file.raw", format="raw")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("format EVT3;width=0;height=480", "1 to 2048 pixels a side in the header, got '0' by '480'"),
        ("format EVT3;width=640;height=99999999", "got '640' by '99999999'"),
        ("format EVT3;width=640;height=2049", "got '640' by '2049'"),
        ("format EVT3;width=-640;height=480", "got '-640' by '480'"),
        ("format EVT3;width=640", "got '640' by ''"),
        ("format EVT3;height=99999999999999999999", "got '' by '99999999999999999999'"),
        ("evt 3.0\n% geometry 0x480\n% system_ID 21", "got '0' by '480'"),
        ("evt 3.0\n% geometry large", "got 'large' by ''"),
        ("evt 3.0\n% geometry 640x480x3", "got '640' by '480x3'"),
        ("format EVT3;width=640;height=480\n% geometry 480x640", "two sizes of the sensor, 480x640 and 640x480"),
    ],
)
def test_sizes_that_no_sensor_has_are_refused_unless_the_size_is_said(header: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "file.raw"
    path.write_bytes(f"% {header}\n".encode() + evt3_words(Events.checked([39], [29], [5], [1], Sensor(40, 30))))
    with pytest.raises(FormatError, match=re.escape(said) + r".*sensor=\(width, height\)"):
        open_recording(path)
    assert open_recording(path, sensor=(40, 30)).sensor == Sensor(40, 30)


def test_the_largest_size_of_the_words_is_read(tmp_path: Path) -> None:
    events = Events.checked([2047], [2047], [5], [1], Sensor(2048, 2048))
    (tmp_path / "file.raw").write_bytes(b"% format EVT3;width=2048;height=2048\n% end\n" + evt3_words(events))
    assert open_recording(tmp_path / "file.raw").events_by_index(0, 1).x.tolist() == [2047]


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
    assert 0 < fuzz(data, tmp_path, "raw", header=len(header)) < 500


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


def test_real_words_do_not_say_the_size(real_data: Path) -> None:
    size = open_recording(real_data / "formats" / "genx320_evt2_headerless.bin", format="evt2").sensor
    assert size.inferred
    assert max(size.width, size.height) <= 320


def test_a_real_file_whose_time_goes_backwards(real_data: Path) -> None:
    path, hints = real_data / "formats" / "evt2_time_goes_back.bin", {"format": "evt2", "sensor": (320, 320)}
    with pytest.raises(EventError, match="time goes backwards 1260 times"):
        open_recording(path, **hints)
    with pytest.warns(UserWarning, match="mended by sort"):
        mended = open_recording(path, **hints, on_error="sort")
    assert mended.num_events == 741_257
    assert (np.diff(mended.events_by_index(0, 741_257).t) >= 0).all()
