"""Are damaged files ever more than refused? Tens of thousands of them for each format, by one command.

    python benchmarks/fuzzing.py --out benchmarks/results/fuzzing

Small whole files of every format are cut off, flipped, overwritten, doubled, shortened, or told absurd numbers, half of
them past their header (`tests/io/fuzzing.py`), opened by name and by content, read whole, at random windows and by
their tracks. They must read by the rules of `Events` or be refused by an error of the families ValueError and OSError,
within a time and a memory. A process that a file kills or holds up is found, named, and begun anew behind it.

Samples come from our writers and the encoders of the tests, and where EVENTFM_TEST_DATA is set from real files. A
format that was done with the same seed and count is not done again, and its samples are kept: after a change, give
another folder as `--work`. `--one FORMAT NUMBER` does one file and says what happens.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fuzzed.makers import MAKERS
from fuzzed.report import write_report
from fuzzed.samples import lay_out
from fuzzed.worker import BROKEN, Job, Outcome, try_file, work

MOST_BROKEN = 20
"""Files of a format that may break before the rest are left."""


def try_format(case: str, given: argparse.Namespace) -> None:
    """Do what is left of a format, and keep what came of it."""
    file = given.work / f"{case}.json"
    wanted = {"seed": given.seed, "count": given.count}
    if file.exists() and wanted.items() <= json.loads(file.read_text()).items():
        return
    began = time.monotonic()
    found: dict[str, Any] = {**wanted, "files": 0, "read": 0, "refused": Counter(), "broken": []}
    for key in ("slowest", "largest"):
        found[key] = {"number": -1, "value": -1.0}
    while found["files"] < given.count and len(found["broken"]) < MOST_BROKEN:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place:
            samples = given.work / "samples" / case
            job = Job(case, given.seed, found["files"], given.count, samples, Path(place), given.longest)
            run(job, found)
    found["seconds"] = round(time.monotonic() - began, 1)
    partial_file = file.with_suffix(".tmp")
    partial_file.write_text(json.dumps(found, indent=2) + "\n")
    partial_file.replace(file)
    print(f"{case:20} {found['files']:7} files, {found['read']:6} read, {len(found['broken'])} broken", flush=True)


def run(job: Job, found: dict[str, Any]) -> None:
    """Add the outcomes of a job as far as its process comes; the file that ends it counts as broken."""
    context = multiprocessing.get_context("spawn")
    outcomes, end = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(job, end))
    process.start()
    end.close()
    try:
        found["samples"] = outcomes.recv()
    except EOFError:
        process.join()
        raise SystemExit(f"{job.case}: its samples cannot be made or read\n{job.log.read_text()[-3000:]}") from None
    number = job.first
    while number < job.stop and len(found["broken"]) < MOST_BROKEN:
        outcome = next_outcome(outcomes, job, number)
        if outcome is None:
            process.kill()
            process.join()
            log = job.log.read_text()[-3000:]
            add(found, Outcome(number, BROKEN, 0.0, 0, f"the process ended with {process.exitcode}\n{log}"))
            return
        add(found, outcome)
        number += 1
    process.kill()
    process.join()


def next_outcome(outcomes: Connection, job: Job, number: int) -> Outcome | None:
    """Return the next outcome, or None if the process is lost."""
    try:
        # The process ends itself when a file takes too long; where even that fails, it is ended from here.
        return outcomes.recv() if outcomes.poll(3 * job.longest_s) else None
    except EOFError:
        return None


def add(found: dict[str, Any], outcome: Outcome) -> None:
    """Count an outcome."""
    found["files"] += 1
    if outcome.kind == BROKEN:
        found["broken"].append({"number": outcome.number, "detail": outcome.detail})
    elif outcome.kind == "read":
        found["read"] += 1
    else:
        found["refused"][outcome.kind] += 1
    for key, value in (("slowest", outcome.seconds), ("largest", outcome.peak)):
        if value > found[key]["value"]:
            found[key] = {"number": outcome.number, "value": value}


def try_one(case: str, number: int, given: argparse.Namespace) -> None:
    """Do one file in this process, and say what was done to it and what came of it."""
    samples = given.work / "samples" / case
    with tempfile.TemporaryDirectory() as place:
        job = Job(case, given.seed, number, number + 1, samples, Path(place), given.longest)
        print(try_file(job, lay_out(case, samples), number, Path(place)))


def main() -> None:
    """Do the formats that are left, and write what it came to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="folder for README.md and results.json")
    parser.add_argument("--work", type=Path, default=Path("out/fuzzing"), help="folder of samples and of formats done")
    parser.add_argument("--formats", nargs="+", choices=sorted(MAKERS), default=list(MAKERS), metavar="FORMAT")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--longest", type=float, default=10.0, help="seconds that a file may take")
    parser.add_argument("--one", nargs=2, metavar=("FORMAT", "NUMBER"))
    given = parser.parse_args()
    if not Path("/proc/self/clear_refs").exists():
        parser.error("memory is measured as Linux shows it, which this system does not")
    given.work.mkdir(parents=True, exist_ok=True)
    if given.one:
        return try_one(given.one[0], int(given.one[1]), given)
    with ThreadPoolExecutor(given.processes) as pool:
        list(pool.map(partial(try_format, given=given), given.formats))
    results = {case: json.loads((given.work / f"{case}.json").read_text()) for case in given.formats}
    broken = sum(len(found["broken"]) for found in results.values())
    if given.out is not None:
        write_report(given.out, results)
    raise SystemExit(f"{broken} files broke something" if broken else 0)


if __name__ == "__main__":
    main()
