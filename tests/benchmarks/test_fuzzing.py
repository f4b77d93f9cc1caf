"""The fuzzing benchmark: it knows every reader, counts what comes, finds what is lost, and does nothing twice."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags")

from eventfm.io import READERS

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
needs_linux = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="memory is measured as Linux shows it"
)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    # In front, for the encoders: a module of theirs is called as the benchmark is.
    monkeypatch.syspath_prepend(str(BENCHMARKS.parent / "tests" / "io"))


def fuzz(work: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "fuzzing.py"), "--work", str(work), "--processes", "1", *more]
    return subprocess.run(command, capture_output=True, text=True)


def test_every_reader_has_a_maker_of_samples() -> None:
    makers = importlib.import_module("fuzzed.makers").MAKERS
    assert set(makers) == set(READERS)


@needs_linux
def test_it_counts_reports_and_does_nothing_twice(tmp_path: Path) -> None:
    arguments = ("--formats", "atis", "--count", "24", "--out", str(tmp_path / "out"))
    done = fuzz(tmp_path / "work", *arguments)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "work/atis.json"
    found = json.loads(file.read_text())
    assert (found["files"], found["broken"]) == (24, [])
    assert found["read"] + sum(found["refused"].values()) == 24
    assert 0 < found["read"] < 24
    assert (tmp_path / "out/README.md").read_text().startswith("# 24 damaged files of 1 formats: none broke anything")
    file.write_text(json.dumps({**found, "seconds": 60.0 * 7}))
    assert "24 files" not in fuzz(tmp_path / "work", *arguments).stdout
    assert "7 minutes of one core" in (tmp_path / "out/README.md").read_text()
    one = fuzz(tmp_path / "work", "--one", "atis", "3").stdout
    assert re.match(r"Outcome\(number=3, kind='\w+', seconds=", one)


@needs_linux
def test_a_file_that_ends_the_process_is_named_and_the_rest_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the watch over each file found it too long at once."""
    hook = "import faulthandler, os; faulthandler.dump_traceback_later = lambda *_, **given: os._exit(7)\n"
    (tmp_path / "sitecustomize.py").write_text(hook)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = fuzz(tmp_path / "work", "--formats", "atis", "--count", "2", "--out", str(tmp_path))
    assert done.returncode == 1
    assert "2 files broke something" in done.stderr
    broken = json.loads((tmp_path / "results.json").read_text())["formats"]["atis"]["broken"]
    assert [one["number"] for one in broken] == [0, 1]
    assert all(one["detail"].startswith("the process ended with 7") for one in broken)
    assert "`--one atis 1`" in (tmp_path / "README.md").read_text()


@needs_linux
@pytest.mark.parametrize("fault", [None, KeyError("x"), MemoryError(), FileNotFoundError("x"), "memory"])
def test_what_counts_as_broken(fault: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = importlib.import_module("fuzzed.worker")
    kept = []

    def read_all(*_: object) -> None:
        if fault == "memory":
            kept.append(np.ones(100 * 2**20, np.uint8))
        elif fault is not None:
            raise fault

    monkeypatch.setattr(worker, "read_all", read_all)
    sample = tmp_path / "sample.bin"
    sample.write_bytes(bytes(range(200)))
    job = worker.Job("atis", 0, 0, 1, tmp_path, tmp_path, 9.0)
    outcome = worker.try_file(job, [sample], 0, tmp_path)
    expected = {None: "read", FileNotFoundError: "FileNotFoundError"}
    assert outcome.kind == expected.get(fault if fault is None else type(fault), worker.BROKEN)
    assert ("sample.bin: " in outcome.detail) == (outcome.kind == worker.BROKEN)
    if fault == "memory":
        assert re.search(r"it took 10\d,\d{3},\d{3} bytes of memory", outcome.detail)
    assert list(tmp_path.iterdir()) == [sample]
