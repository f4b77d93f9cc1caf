"""Event Stream: an encoder written from the layout, the plain twin, real files and damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import fuzz
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.events import Events, Sensor
from eventfm.io import FormatError, detect_format, open_recording
from eventfm.io.event_stream import decode, decode_plainly


def written(events: Events, kind: int = 1) -> bytes:
    size = events.sensor.width.to_bytes(2, "little") + events.sensor.height.to_bytes(2, "little")
    out, time = bytearray(b"Event Stream\x02\x00\x00" + bytes([kind]) + size), 0
    for x, y, t, p in zip(events.x.tolist(), events.y.tolist(), events.t.tolist(), events.p.tolist(), strict=True):
        while t - time >= 127:
            out.append(0xFF)
            time += 127
        out.append((t - time) << 1 | p)
        out += x.to_bytes(2, "little") + (events.sensor.height - 1 - y).to_bytes(2, "little")
        time = t
    return bytes(out)


def test_it_reads_back_and_at_random(
    make_events: Any, assert_contract: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventfm.io.event_stream._CHUNK", 333)
    events = make_events(count=500)
    (tmp_path / "x.es").write_bytes(written(events))
    assert detect_format(tmp_path / "x.es") == "es"
    recording = open_recording(tmp_path / "x.es")
    assert recording.sensor == Sensor(40, 30)
    assert_contract(recording, events)


@settings(deadline=None)
@given(st.binary(max_size=120), st.integers(0, 1000))
def test_the_compiled_decoder_is_its_plain_twin(content: bytes, time: int) -> None:
    data = np.frombuffer(content, np.uint8)
    (columns, after, used), (plain, also, same) = decode(data, time), decode_plainly(data, time)
    assert (after, used) == (also, same)
    for one, two in zip(columns, plain, strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)


def test_what_cannot_be_read_is_refused(make_events: Any, tmp_path: Path) -> None:
    data, path = written(make_events(count=50)), tmp_path / "x.es"
    path.write_bytes(data[:-2])
    with pytest.raises(FormatError, match=r"cut off in the middle of an event \(3 of 5"):
        open_recording(path)
    with pytest.warns(UserWarning, match="cut off"):
        assert open_recording(path, on_error="sort").num_events == 49
    for change, said in (
        ((15, 0), "holds generic events; only those of a dvs"), ((12, 1), "expected version 2 of Event Stream, got 1"),
    ):  # fmt: skip
        wrong = bytearray(data)
        wrong[change[0]] = change[1]
        path.write_bytes(wrong)
        with pytest.raises(FormatError, match=said):
            open_recording(path)
    path.write_bytes(data[:18])
    with pytest.raises(FormatError, match="ends at byte 18, inside its header"):
        open_recording(path)


def test_damage_is_survived(make_events: Any, tmp_path: Path) -> None:
    data = written(make_events(count=100))
    assert 0 < fuzz(data, tmp_path, "es", header=20) < 500


def test_real_files(real_data: Path) -> None:
    recording = open_recording(real_data / "formats" / "dvs.es")
    first, last = recording.t_range
    assert recording.num_events == 473_225
    assert recording.sensor == Sensor(320, 240)
    assert (last - first) / 1e6 == pytest.approx(1.0, abs=0.05)
    assert open_recording(real_data / "formats" / "poker.es").num_events == 2_628
    with pytest.raises(FormatError, match="holds generic events"):
        open_recording(real_data / "formats" / "generic.es")
