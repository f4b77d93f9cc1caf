"""AEDAT 3: round trips through an encoder written from the layout, other packets, wraps and damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aedat_files import header3, packet, polarity
from fuzzing import fuzz, mutated

from eventfm.events import EventError, Events, Sensor
from eventfm.io import FormatError, aedat3, detect_format, open_recording
from eventfm.io.aedat3_packets import decode, decode_plainly

FRAME, IMU = packet(2, 44, 0, 1, 1, bytes(44)), packet(3, 36, 0, 2, 2, bytes(72))


def packets(events: Events, **facts: int) -> bytes:
    """Packets of 37 events, none across a wrap, others between them."""
    wrap = int(np.searchsorted(events.t, 1 << 31))
    bounds = sorted({*range(0, len(events), 37), wrap, len(events)} - {0})
    out, before = bytearray(FRAME), 0
    for k, stop in enumerate(bounds):
        out += polarity(events.take(before, stop), invalid=k % 3, spare=k % 2, **facts) + (FRAME, b"", IMU)[k % 3]
        before = stop
    return bytes(out)


@pytest.mark.parametrize("minor", [0, 1])
def test_it_reads_back_and_at_random(
    minor: int, make_events: Any, assert_contract: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventfm.io.aedat3._BLOCK_BYTES", 700)
    events = make_events(width=128, height=128, start_us=2**31 - 30_000)
    path = tmp_path / "x.aedat"
    path.write_bytes(header3(minor=minor) + packets(events, flip=0 if minor else 128))
    assert detect_format(path) == "aedat3"
    recording = open_recording(path)
    assert recording.sensor == Sensor(128, 128, "DVS128")
    assert_contract(recording, events)
    rng = np.random.default_rng(0)
    for t0, t1 in np.sort(rng.integers(2**31 - 32_000, 2**31 + 32_000, (100, 2)), 1).tolist():
        np.testing.assert_array_equal(recording.events(t0, t1).t, events.t[(events.t >= t0) & (events.t < t1)])


def test_the_size_is_that_of_the_camera_or_the_hint(make_events: Any, tmp_path: Path) -> None:
    body, path = packets(make_events()), tmp_path / "x.aedat"
    for name, size in (("DAVIS240C", (240, 180)), ("DAVIS346mini", (346, 260)), ("Other", (40, 30))):
        path.write_bytes(header3(name) + body)
        found = open_recording(path).sensor
        assert (found.width, found.height, found.inferred) == (*size, name == "Other")
    assert open_recording(path, sensor=(64, 48)).sensor == Sensor(64, 48)
    path.write_bytes(header3("Other", minor=0) + body)
    with pytest.raises(FormatError, match="'Other' is not known; say sensor="):
        open_recording(path)


def test_one_camera_of_two_is_read(make_events: Any, assert_contract: Any, tmp_path: Path) -> None:
    one, two = make_events(60, width=128, height=128), make_events(60, seed=4)
    body = polarity(one.take(0, 30)) + polarity(two, source=2) + polarity(one.take(30, 60))
    (tmp_path / "x.aedat").write_bytes(header3() + body)
    assert_contract(open_recording(tmp_path / "x.aedat"), one)


def test_the_compiled_decoder_is_its_plain_twin(make_events: Any) -> None:
    data, rng = packets(make_events(120)), np.random.default_rng(1)
    for number in range(200):
        damaged = np.frombuffer(mutated(data, rng)[0] if number else data, np.uint8)
        for one, two in zip(decode(damaged, 1), decode_plainly(damaged, 1), strict=True):
            assert one.dtype == two.dtype
            np.testing.assert_array_equal(one, two)
    assert len(decode(np.frombuffer(data, np.uint8), 1).t) == 120


def test_what_cannot_be_read_is_refused(make_events: Any, tmp_path: Path) -> None:
    events, path = make_events(100, width=128, height=128), tmp_path / "x.aedat"
    body = polarity(events.take(0, 60)) + polarity(events.take(60, 100))
    path.write_bytes(header3() + body[:-3])
    with pytest.raises(FormatError, match="inside the packet of 348 bytes at byte"):
        open_recording(path)
    with pytest.warns(UserWarning, match="the events before it were read"):
        assert open_recording(path, on_error="sort").num_events == 60
    path.write_bytes(header3(format="Serial-TS") + body)
    with pytest.raises(FormatError, match="expected packets of format RAW, got 'Serial-TS'"):
        open_recording(path)
    path.write_bytes(header3()[:-14] + body)
    with pytest.raises(FormatError, match="the header is cut off"):
        open_recording(path)
    path.write_bytes(header3() + packet(1, 8, 0, 3, 4, bytes(32)))
    with pytest.raises(FormatError, match="says 4 of 3 of 4 events"):
        open_recording(path)


@pytest.mark.filterwarnings("ignore:.*mended by")
def test_time_that_goes_back_between_blocks_is_noticed(
    make_events: Any, assert_same: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventfm.io.aedat3._BLOCK_BYTES", 700)
    events, path = make_events(200, width=128, height=128), tmp_path / "x.aedat"
    parts = [polarity(events.take(k, k + 50)) for k in (0, 100, 50, 150)]
    path.write_bytes(header3() + b"".join(parts))
    with pytest.raises(EventError, match="time goes backwards 1 times"):
        open_recording(path)
    assert_same(open_recording(path, on_error="sort").events_by_index(0, 200), events)


@pytest.mark.parametrize("cut", [0, 3])
def test_packets_are_looked_at_once(
    cut: int, make_events: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each header once, and where the file is damaged the one that is, again; so with an index from before."""
    monkeypatch.setattr("eventfm.io.blocks.WORTH_KEEPING", 0)
    walk, seen = aedat3._packets, []
    monkeypatch.setattr(aedat3, "_packets", lambda *where: (seen.append(one) or one for one in walk(*where)))
    events, path = make_events(200, width=128, height=128), tmp_path / "x.aedat"
    parts = [polarity(events.take(k, k + 50)) + IMU for k in (0, 50, 100, 150)]
    path.write_bytes(header3() + b"".join(parts)[: -cut or None])
    for fresh in (True, False):
        seen.clear()
        if cut:
            with pytest.warns(UserWarning, match="inside the packet of 100 bytes at byte"):
                assert open_recording(path, on_error="sort").num_events == 200
            with pytest.raises(FormatError, match="inside the packet of 100 bytes at byte"):
                open_recording(path)
        else:
            assert open_recording(path).num_events == 200
        assert len(seen) == (8 - bool(cut)) * fresh


def test_damage_is_survived(make_events: Any, tmp_path: Path) -> None:
    head = header3()
    data = head + packets(make_events(150, width=128, height=128))
    assert 0 < fuzz(data, tmp_path, header=len(head)) < 500
