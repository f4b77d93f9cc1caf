"""Corpora whose making is killed with SIGKILL and goes on: the end is the same, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import corpus_run
import pytest

SCRIPT = Path(corpus_run.__file__)


def contents(out: Path) -> dict[str, bytes]:
    """Return every file of a corpus but the lock."""
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file() and p.name != "lock"}


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(SCRIPT), *map(str, arguments)]


def running(group: int) -> bool:
    """Return whether a process of the group still does something: one that has ended may wait to be noticed."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group, *_ = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(of_group) == group and state != "Z":
            return True
    return False


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus_run.write_pictures(tmp_path_factory.mktemp("source") / "pictures")


@pytest.fixture(scope="module")
def undisturbed(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("straight") / "out"
    assert corpus_run.simulate(pictures, out).num_clips == 12
    return contents(out)


@pytest.mark.parametrize(
    ("fault", "finished"),
    [
        ("in_a_clip", 1),
        ("in_a_write", 1),
        ("before clips-00001.h5", 1),
        ("before clips-00001.json", 2),
        ("before labels.csv", 4),
        ("before manifest.jsonl", 4),
    ],
)
def test_killed_and_continued(
    pictures: Path, undisturbed: dict[str, bytes], tmp_path: Path, fault: str, finished: int
) -> None:
    out = tmp_path / "out"
    done = subprocess.run(command(pictures, out, 0, fault), capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    # What stands under its own name is whole.
    visible = {p.name: p.read_bytes() for p in out.iterdir() if p.is_file() and not p.name.startswith(".")}
    assert sum(name.endswith(".h5") for name in visible) == finished
    assert all(undisturbed[name] == data for name, data in visible.items())
    kept = {p.name: p.stat().st_mtime_ns for p in out.glob("clips-00000.h5")}
    corpus_run.simulate(pictures, out)
    assert contents(out) == undisturbed
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to look for processes in")
def test_workers_end_with_a_killed_run(pictures: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(command(pictures, out, 2, "none"), start_new_session=True) as run:
        deadline = time.monotonic() + 60
        while not list(out.glob("clips-*.h5")) and time.monotonic() < deadline:
            time.sleep(0.01)
        run.kill()
    while running(run.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running(run.pid), "workers outlived the run that started them"
    corpus_run.simulate(pictures, out, workers=1)
    assert contents(out) == undisturbed


def test_interrupted_by_the_user(pictures: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(command(pictures, out, 1, "none"), stderr=subprocess.PIPE, start_new_session=True) as run:
        deadline = time.monotonic() + 60
        while not list(out.glob("clips-*.h5")) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(run.pid, signal.SIGINT)
        run.wait(timeout=30)
    assert not [p for p in out.iterdir() if p.name.endswith(".part") or p.name.startswith(".scratch")]
    corpus_run.simulate(pictures, out)
    assert contents(out) == undisturbed


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no file size limits on this system")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_disk(pictures: Path, undisturbed: dict[str, bytes], tmp_path: Path, workers: int) -> None:
    """A write that the system refuses ends the run in one plain message, with nothing half-written."""
    import resource

    out = tmp_path / "out"
    limit = min(len(data) for name, data in undisturbed.items() if name.endswith(".h5")) // 2
    settings = ["sensor=[32,32]", "motion.duration_us=20000", "pixel=noisy", "num_clips=2", "shard_clips=3"]
    done = subprocess.run(
        [sys.executable, "-m", "eventfm.cli", "simulate", pictures, out, *settings, f"workers={workers}", "--quiet"],
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("eventfm: could not write ")
    assert done.stderr.count("\n") == 1
    assert not [p for p in out.iterdir() if p.is_file()]
    corpus_run.simulate(pictures, out)
    assert contents(out) == undisturbed
