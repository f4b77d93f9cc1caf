"""Work done here, by processes of this machine, or by a Ray cluster: one call, results as they come.

Every runner takes a function `(task, tick) -> result` and tasks, and yields an `Outcome` for each task, in any order.
What the function passes to `tick` goes to the runner's `tick` while the work goes on (not from a Ray cluster).
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from eventfm.registry import require

Tick = Callable[[Any], None]
Work = Callable[[Any, Tick], Any]

_STOP = None
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_RAY_TASKS_AHEAD = 1000
_GRACE_S = 30.0
"""What a process has to end in after it was told to: training saves the step under way first."""


class WorkerDiedError(RuntimeError):
    """A process ended in the middle of a task: killed by the system, or crashed."""


class Outcome(NamedTuple):
    """What became of a task: a result, or the error that it ended in."""

    task: Any
    result: Any = None
    error: Exception | None = None


def num_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_here(work: Work, tasks: Sequence[Any], tick: Tick) -> Generator[Outcome, None, None]:
    """Do the tasks one after the other in this process."""
    for task in tasks:
        try:
            result = work(task, tick)
        except Exception as error:
            yield Outcome(task, error=error)
        else:
            yield Outcome(task, result)


def run_in_processes(work: Work, tasks: Sequence[Any], tick: Tick, num_workers: int) -> Generator[Outcome, None, None]:
    """Do the tasks in `num_workers` fresh processes of one thread each; `work` and tasks are pickled.

    A process that dies takes its one task with it, whose outcome is a `WorkerDiedError`, and is replaced. The
    processes end with this one, however it ends.

    Raises:
        RuntimeError: A process ended before it took a task.
    """
    waiting = deque(tasks)
    workers: dict[Connection, _Worker] = {}
    try:
        for _ in range(min(num_workers, len(waiting))):
            worker = _Worker(work)
            workers[worker.pipe] = worker
        while workers:
            for pipe in wait(list(workers)):
                worker = workers[pipe]  # type: ignore[index]
                try:
                    word, value = worker.pipe.recv()
                except (EOFError, ConnectionResetError):
                    del workers[worker.pipe]
                    task, code = worker.task, worker.end(patience_s=5)
                    if not worker.began:
                        raise RuntimeError(
                            f"a worker process ended before it began (exit code {code}); a script that starts workers "
                            "must keep its own work under `if __name__ == '__main__':`, or say workers=0"
                        ) from None
                    if task is not None:
                        yield Outcome(task, error=WorkerDiedError(_how_it_died(code)))
                    if waiting:
                        worker = _Worker(work)
                        workers[worker.pipe] = worker
                    continue
                if word == "tick":
                    tick(value)
                    continue
                done = worker.take(waiting.popleft() if waiting else _STOP)
                if word == "done":
                    yield Outcome(done, value)
                elif word == "failed":
                    yield Outcome(done, error=value)
    finally:
        for worker in workers.values():
            worker.stop()
        for worker in workers.values():
            worker.end(patience_s=_GRACE_S)


def run_on_ray(work: Work, tasks: Sequence[Any], tick: Tick, address: str) -> Generator[Outcome, None, None]:
    """Do the tasks on the Ray cluster at `address` (`auto`: the one that this machine belongs to), one core each.

    The cluster's machines must see the same files under the same paths.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    ray = require("ray", "corpora")
    if not ray.is_initialized():
        ray.init(address=address)
    remote = ray.remote(num_cpus=1)(_without_ticks)
    waiting = deque(tasks)
    running: dict[Any, Any] = {}
    while waiting or running:
        while waiting and len(running) < _RAY_TASKS_AHEAD:
            task = waiting.popleft()
            running[remote.remote(work, task)] = task
        finished, _ = ray.wait(list(running), num_returns=1)
        for reference in finished:
            task = running.pop(reference)
            try:
                result = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                cause = getattr(error, "cause", None)
                yield Outcome(task, error=cause if isinstance(cause, Exception) else error)
            except ray.exceptions.RayError as error:
                yield Outcome(task, error=WorkerDiedError(str(error)))
            else:
                yield Outcome(task, result)


class _Worker:
    """One process, and the task that it has."""

    def __init__(self, work: Work) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.task: Any = None
        self.began = False
        self._process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        with _one_thread_each():
            self._process.start()
        theirs.close()

    def take(self, task: Any) -> Any:
        """Give it the next task and return the one before."""
        before, self.task, self.began = self.task, task, True
        with suppress(BrokenPipeError):  # its death is found out when its answer is waited for
            self.pipe.send(task)
        return before

    def stop(self) -> None:
        """Tell it to end."""
        self.pipe.close()
        self._process.terminate()

    def end(self, patience_s: float) -> int | None:
        """Return its exit code, once it has ended by itself or was ended after a while."""
        self._process.join(patience_s)
        self._process.kill()
        self._process.join()
        self.pipe.close()
        return self._process.exitcode


def _serve(pipe: Connection, work: Work) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends this one
    import cv2

    cv2.setNumThreads(1)
    with suppress(EOFError, ConnectionError):  # nobody is at the other end any more
        pipe.send(("ready", None))
        while (task := pipe.recv()) is not _STOP:
            try:
                answer = "done", work(task, lambda value: pipe.send(("tick", value)))
            except Exception as error:
                answer = "failed", _portable(error)
            pipe.send(answer)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _without_ticks(work: Work, task: Any) -> Any:
    return work(task, lambda value: None)


def _portable(error: Exception) -> Exception:
    try:
        return error if type(pickle.loads(pickle.dumps(error))) is type(error) else RuntimeError(str(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


def _how_it_died(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            name = signal.Signals(-code).name
            memory = ", often for want of memory" if name == "SIGKILL" else ""
            return f"its process was ended by {name}{memory}"
    return f"its process ended with exit code {code}"


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes that are started meanwhile use one thread each: libraries look at this when they are imported."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
