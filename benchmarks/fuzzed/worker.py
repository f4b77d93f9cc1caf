"""The process that reads damaged files one after the other, and may be lost over one of them."""

from __future__ import annotations

import faulthandler
import os
import resource
import shutil
import time
import traceback
import zlib
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fuzzing import REFUSED, TREATMENTS, most_bytes, mutated, read_all

from fuzzed.makers import PACKED, PACKED_ID
from fuzzed.samples import header_of, lay_out

BROKEN = "broken"
ROOM = 512 * 2**20
"""Bytes of addresses that a file may be given, beyond what the process has: more is an error there and then."""


class Job(NamedTuple):
    """What a process is to do: files `first` to `stop` of a format."""

    case: str
    seed: int
    first: int
    stop: int
    samples: Path
    place: Path
    """A folder for the damaged files, and for `log`."""
    longest_s: float

    @property
    def log(self) -> Path:
        """Where the process leaves the traces of what killed it."""
        return self.place / "log.txt"


class Outcome(NamedTuple):
    """What became of one file."""

    number: int
    kind: str
    """`"read"`, `BROKEN`, or the name of the error that refused it."""
    seconds: float
    peak: int
    """Bytes, beyond what the process held before."""
    detail: str = ""
    """What was done to it and what happened, of a broken one."""


class Damaged(NamedTuple):
    """A damaged copy of a sample."""

    path: Path
    size: int
    said: str


def work(job: Job, out: Connection) -> None:
    """Send the outcome of each file; a file that takes too long or kills the process leaves its trace in the log."""
    with job.log.open("w") as log:
        os.dup2(log.fileno(), 2)  # libraries say there what they think of a file
        faulthandler.enable(log)
        samples = lay_out(job.case, job.samples)
        for sample in samples:  # imports and compiles what there is
            read_all(recording_in(sample), np.random.default_rng(0), job.case, "sort")
            with suppress(*REFUSED):
                read_all(recording_in(sample), np.random.default_rng(0), None, "sort")
        limit = _kilobytes("VmSize") * 1024 + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        out.send([sample.name for sample in samples])
        for number in range(job.first, job.stop):
            faulthandler.dump_traceback_later(job.longest_s, exit=True, file=log)
            outcome = try_file(job, samples, number, job.place)
            faulthandler.cancel_dump_traceback_later()
            out.send(outcome)


def try_file(job: Job, samples: list[Path], number: int, place: Path) -> Outcome:
    """Return what becomes of file `number`: read, refused, or broken where anything else happens."""
    rng = np.random.default_rng([job.seed, zlib.crc32(job.case.encode()), number])
    damaged = damage(samples, number, rng, place)
    on_error = TREATMENTS[number // 2 // len(samples) % len(TREATMENTS)]
    by_content = number // len(samples) % 5 == 4
    kind, detail = "read", ""
    before, began = _from_here(), time.perf_counter()
    try:
        read_all(recording_in(damaged.path), rng, None if by_content else job.case, on_error)
    except REFUSED as error:
        kind = type(error).__name__
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:  # such as the panic of a compiled library
        kind, detail = BROKEN, traceback.format_exc(limit=-6)
    seconds, peak = time.perf_counter() - began, _kilobytes("VmHWM") * 1024 - before
    if peak > most_bytes(damaged.size):
        kind, detail = BROKEN, f"it took {peak:,} bytes of memory; {kind} {detail}"
    (shutil.rmtree if damaged.path.is_dir() else Path.unlink)(damaged.path)
    told = f"{damaged.said}; {'by content' if by_content else job.case}, on_error={on_error}\n{detail}"
    return Outcome(number, kind, seconds, peak, told if kind == BROKEN else "")


def recording_in(sample: Path) -> Path:
    """Return how a sample is opened: of a store of several recordings, by the name of the only one."""
    return sample.with_name(f"{sample.name}::{PACKED_ID}") if sample.name.endswith(PACKED) else sample


def damage(samples: list[Path], number: int, rng: np.random.Generator, place: Path) -> Damaged:
    """Write the damaged copy `number` of a sample; of a folder, one file. Every second is whole up to its header."""
    sample = samples[number % len(samples)]
    copy = place / f"{number}-{sample.name}"
    files = sorted(file for file in sample.rglob("*") if file.is_file() and file.stat().st_size) or [sample]
    victim = files[int(rng.integers(len(files)))]
    if sample.is_dir():
        shutil.copytree(sample, copy)
    whole = victim.read_bytes()
    past_header = number // len(samples) % 2 == 1
    content, what = mutated(whole, rng, header_of(whole) if past_header else 0)
    target = copy / victim.relative_to(sample)
    target.unlink(missing_ok=True)
    target.write_bytes(content)
    size = sum(file.stat().st_size for file in [copy, *copy.rglob("*")] if file.is_file())
    return Damaged(copy, size, f"{victim.relative_to(sample.parent)}: {what}")


def _from_here() -> int:
    """Begin the peak of memory anew, and return how many bytes the process holds."""
    Path("/proc/self/clear_refs").write_text("5")
    return _kilobytes("VmRSS") * 1024


def _kilobytes(name: str) -> int:
    """Return a figure of this process' memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
