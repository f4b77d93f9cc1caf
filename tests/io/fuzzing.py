"""Damaged files by the hundred: whatever the bytes, only typed errors, in bounded time and memory."""

from __future__ import annotations

import time
import tracemalloc
import warnings
from collections.abc import Sized
from pathlib import Path
from typing import Any

import numpy as np

from eventfm.events import Events, OnError
from eventfm.io import open_recording

LONGEST_S = 5.0
REFUSED = (ValueError, OSError)
TREATMENTS: tuple[OnError, ...] = ("sort", "raise", "sort", "clamp")


def fuzz(
    data: bytes, tmp_path: Path, format: str | None = None, count: int = 500, header: int = 0, name: str = "bad"
) -> int:
    """Read `count` damaged copies of `data`, half of them whole up to `header`; return how many were refused.

    Refused means an error of the families ValueError and OSError; no other may come. `data` itself must be readable.
    """
    read_all(_written(tmp_path / f"whole-{name}", data), np.random.default_rng(0), format, "sort")
    refused = 0
    tracemalloc.start()
    try:
        for number in range(count):
            rng = np.random.default_rng(number)
            damaged, what = mutated(data, rng, header if number % 2 else 0)
            path = _written(tmp_path / f"{number}-{name}", damaged)
            tracemalloc.reset_peak()
            before, began = tracemalloc.get_traced_memory()[0], time.monotonic()
            try:
                read_all(path, rng, format, TREATMENTS[number // 2 % len(TREATMENTS)])
            except REFUSED:
                refused += 1
            except BaseException as error:
                error.add_note(f"file {number}: {what}")
                raise
            finally:
                path.unlink()
            seconds, peak = time.monotonic() - began, tracemalloc.get_traced_memory()[1] - before
            assert peak < most_bytes(len(damaged)), f"file {number}, {what}: {peak:,} bytes"
            assert seconds < LONGEST_S, f"file {number}, {what}: {seconds:.1f} s"
    finally:
        tracemalloc.stop()
    return refused


def most_bytes(size: int) -> int:
    """Return how much memory reading a file of `size` bytes may take."""
    return max(64 * 2**20, 50 * size)


def read_all(path: Path, rng: np.random.Generator, format: str | None, on_error: OnError, **hints: Any) -> None:
    """Open a recording, read it whole, at three random windows, and of each track the first entries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recording = open_recording(path, format=format, on_error=on_error, **hints)
        _check(recording.events_by_index(0, recording.num_events))
        first, last = recording.t_range
        for _ in range(3):
            t0 = first + int(rng.integers(0, max(last - first, 1), endpoint=True))
            found = recording.events(t0, t0 + 10_000)
            _check(found)
            assert not len(found) or (t0 <= found.t[0] and found.t[-1] < t0 + 10_000)
        for track in recording.tracks.values():
            assert not isinstance(track, Sized) or len(track) == len(track.times)
            for i in range(min(len(track.times), 3)):
                track.read(i)


def mutated(data: bytes, rng: np.random.Generator, header: int = 0) -> tuple[bytes, str]:
    """Return `data`, which is not empty, damaged behind its first `header` bytes, and what was done to it."""
    out = bytearray(data)
    low = min(header, len(out) - 1)
    at = int(rng.integers(low, len(out)))
    stop = min(at + int(rng.integers(1, 1 << rng.integers(1, 10), endpoint=True)), len(out))
    match int(rng.integers(0, 8)):
        case 0:
            del out[at:]
            return bytes(out), f"cut off at byte {at}"
        case 1:
            places = rng.integers(low, len(out), int(rng.integers(1, 9))).tolist()
            for place in places:
                out[place] ^= 1 << int(rng.integers(0, 8))
            return bytes(out), f"bits flipped at bytes {places}"
        case 2:
            places = rng.integers(low, len(out), int(rng.integers(1, 9))).tolist()
            for place in places:
                out[place] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(0, 256)]))
            return bytes(out), f"bytes {places} set to {[out[place] for place in places]}"
        case 3:
            out[at:stop] = bytes(stop - at)
            return bytes(out), f"bytes {at} to {stop} zeroed"
        case 4:
            out[at:stop] = b"\xff" * (stop - at)
            return bytes(out), f"bytes {at} to {stop} set to 255"
        case 5:
            out[at:at] = out[at:stop]
            return bytes(out), f"bytes {at} to {stop} doubled"
        case 6:
            del out[at:stop]
            return bytes(out), f"bytes {at} to {stop} removed"
        case _:
            width, order = int(rng.choice([2, 4, 8])), str(rng.choice(["little", "big"]))
            number = (1 << 8 * width - int(rng.integers(0, 3))) - int(rng.integers(1, 3))
            out[at : at + width] = number.to_bytes(width, order)[: len(out) - at]
            return bytes(out), f"bytes {at} to {at + width} say {number} ({order})"


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _check(events: Events) -> None:
    """Assert that events keep the promises of `Events`."""
    assert len({len(column) for column in (events.x, events.y, events.t, events.p)}) == 1
    if len(events):
        assert (np.diff(events.t) >= 0).all()
        assert events.x.max() < events.sensor.width
        assert events.y.max() < events.sensor.height
        assert events.p.max() <= 1
