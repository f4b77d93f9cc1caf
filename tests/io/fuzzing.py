"""Damaged files by the hundred: whatever the bytes, only typed errors, in bounded time and memory."""

from __future__ import annotations

import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from eventfm.protocols import Recording

LONGEST_S = 5.0
LEAST_BYTES = 64 * 2**20
TIMES_FILE = 50


def fuzz(
    data: bytes, open: Callable[[Path], Recording], tmp_path: Path, count: int = 500, header: int = 0, name: str = "bad"
) -> int:
    """Open `count` damaged copies of `data`, half of them whole up to `header`; return how many were read all the same.

    Each is opened, read whole and at three random windows. Only errors of the families ValueError and OSError may come.
    """
    rng = np.random.default_rng(0)
    survived = 0
    for number in range(count):
        damaged = mutated(data, rng, header if number % 2 else 0)
        path = tmp_path / f"{number}-{name}"
        path.write_bytes(damaged)
        began = time.monotonic()
        tracemalloc.start()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                recording = open(path)
                recording.events_by_index(0, recording.num_events)
                first, last = recording.t_range
                for _ in range(3):
                    t0 = first + int(rng.integers(0, max(last - first, 1) + 1))
                    recording.events(t0, t0 + 10_000)
            survived += 1
        except (ValueError, OSError):
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            path.unlink()
        assert peak < max(LEAST_BYTES, TIMES_FILE * len(damaged)), f"mutation {number}: {peak:,} bytes"
        assert time.monotonic() - began < LONGEST_S, f"mutation {number} took too long"
    return survived


def mutated(data: bytes, rng: np.random.Generator, header: int) -> bytes:
    """Return `data` damaged behind its first `header` bytes: cut, flipped, overwritten, doubled or with a part gone."""
    out = bytearray(data)
    low = min(header, max(len(out) - 1, 0))
    at = int(rng.integers(low, max(len(out), low + 1)))
    length = int(rng.integers(1, max(2, min(64, len(out) - at) + 1)))
    match int(rng.integers(0, 6)):
        case 0:
            del out[at:]
        case 1:
            for place in rng.integers(low, max(len(out), low + 1), int(rng.integers(1, 9))):
                if place < len(out):
                    out[place] ^= 1 << int(rng.integers(0, 8))
        case 2:
            out[at : at + length] = bytes(length)
        case 3:
            out[at : at + length] = b"\xff" * length
        case 4:
            out[at:at] = out[at : at + length]
        case _:
            del out[at : at + length]
    return bytes(out)
