"""Work by processes and by Ray: results, errors, deaths and progress come back for every task."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from eventfm.data import pool
from eventfm.data.pool import WorkerDiedError, run_here, run_in_processes, run_on_ray
from eventfm.registry import MissingExtraError

HERE = Path(__file__).parent


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(HERE)
    import pool_work

    return pool_work


def no_tick(value: Any) -> None:
    pass


def test_here(work: Any) -> None:
    ticks: list[int] = []
    outcomes = list(run_here(work.square, [3, 4], ticks.append))
    assert [(o.task, o.result, o.error) for o in outcomes] == [(3, 9, None), (4, 16, None)]
    assert ticks == [3, 4]
    (failed,) = run_here(work.picky, [1], no_tick)
    assert isinstance(failed.error, ValueError)


def test_processes_do_every_task_once(work: Any) -> None:
    ticks: list[int] = []
    outcomes = list(run_in_processes(work.square, range(20), ticks.append, 2))
    assert sorted((o.task, o.result) for o in outcomes) == [(n, n * n) for n in range(20)]
    assert sorted(ticks) == list(range(20))
    assert list(run_in_processes(work.square, [], no_tick, 2)) == []


def test_errors_and_deaths_are_told_by_task(work: Any) -> None:
    outcomes = {o.task: o for o in run_in_processes(work.picky, [0, 1, 2, 3, 4, 5], no_tick, 1)}
    assert sorted(outcomes) == [0, 1, 2, 3, 4, 5]
    assert (outcomes[0].result, outcomes[5].result) == (0, 5)
    assert str(outcomes[1].error) == "one is not liked"
    assert isinstance(outcomes[1].error, ValueError)
    assert isinstance(outcomes[2].error, WorkerDiedError)
    assert "ended by SIGKILL, often for want of memory" in str(outcomes[2].error)
    assert isinstance(outcomes[3].error, WorkerDiedError)
    assert "exit code 7" in str(outcomes[3].error)
    assert type(outcomes[4].error) is RuntimeError
    assert "Unsendable" in str(outcomes[4].error)


def test_one_thread_each_and_nothing_left_behind(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    (outcome,) = run_in_processes(work.threads, [0], no_tick, 1)
    assert outcome.result == (1, 1, 1)
    assert os.environ["OMP_NUM_THREADS"] == "2"
    assert "NUMBA_NUM_THREADS" not in os.environ


def test_leaving_early_ends_the_processes(work: Any) -> None:
    pids: list[int] = []
    running = run_in_processes(work.nap, [0.0, 60.0], pids.append, 1)
    assert next(running).result == pids[0]
    started = time.monotonic()
    running.close()
    assert time.monotonic() - started < 10
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


@pytest.mark.parametrize(("task_s", "grace_s"), [(1.0, 30.0), (60.0, 0.5)])
def test_processes_that_do_not_heed_a_signal_end_too(
    work: Any, monkeypatch: pytest.MonkeyPatch, task_s: float, grace_s: float
) -> None:
    """One leaves when its task is done, though there is no other end of its pipe; one that takes too long is ended."""
    monkeypatch.setattr(pool, "_GRACE_S", grace_s)

    class EnoughError(Exception):
        pass

    pids: list[int] = []

    def tick(pid: int) -> None:
        pids.append(pid)
        if len(pids) == 2:
            raise EnoughError

    started = time.monotonic()
    with pytest.raises(EnoughError):
        list(run_in_processes(work.heedless, [task_s] * 2, tick, 2))
    assert time.monotonic() - started < 20
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from eventfm.data.pool import run_in_processes\n"
        "def work(task, tick):\n    return task\n"
        "print(list(run_in_processes(work, [1], print, 1)))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "ended before it began (exit code 1)" in done.stderr
    assert "if __name__ == '__main__':" in done.stderr


def test_ray_gets_the_work(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = work.FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    outcomes = {o.task: o for o in run_on_ray(work.picky, [0, 1, 2, 5], no_tick, address="ray://head:10001")}
    assert fake.addresses == ["ray://head:10001"]
    assert fake.options == {"num_cpus": 1}
    assert (outcomes[0].result, outcomes[5].result) == (0, 5)
    assert isinstance(outcomes[1].error, ValueError)
    assert isinstance(outcomes[2].error, WorkerDiedError)
    assert sorted(outcomes) == [0, 1, 2, 5]
    list(run_on_ray(work.picky, [0], no_tick, address="ray://head:10001"))
    assert len(fake.addresses) == 1  # a connection that is there is used


def test_without_ray(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"ray is needed .* pip install 'eventfm\[corpora\]'"):
        next(run_on_ray(work.square, [1], no_tick, address="auto"))
