"""As many processes as cores, which do jobs that do not wait for each other, a thread each.

Networks this small gain little from a second thread, and most of a probe has one thread only. What a job finds is a
file, so that a stopped benchmark goes on with the jobs that are left.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from signal import SIGTERM, signal
from typing import Any

import torch

from quality.memory import remembering

Job = tuple[str, tuple[Any, ...]]
"""Name of a method of the place where it is done, and its arguments."""


@contextmanager
def workers(place: Callable[..., Any], *arguments: Any) -> Iterator[Callable[[Iterable[Job]], None]]:
    """Let what is yielded do jobs: it returns when all are done, and raises what one of them raises.

    Each process has a place of its own, `place(*arguments, open_once)`, whose methods the jobs name; `open_once` opens
    collections, each once (`memory.remembering`). A job that is stopped, with the command or by the failure of
    another, keeps what it has.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # read when a new process starts
    pool = ProcessPoolExecutor(cores, get_context("spawn"), _begin, (place, arguments))

    def do(jobs: Iterable[Job]) -> None:
        for future in as_completed([pool.submit(_do, *job) for job in jobs]):
            future.result()

    signal(SIGTERM, lambda *_: sys.exit("stopped; the same command goes on from here"))
    with pool:
        try:
            yield do
        except BaseException:
            for process in active_children():
                process.terminate()
            pool.shutdown(cancel_futures=True)
            raise


_place: Any
_memory: Any


def _begin(place: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    global _place, _memory  # one process, one place
    torch.set_num_threads(1)
    _memory = remembering()
    _place = place(*arguments, _memory.__enter__())


def _do(name: str, arguments: tuple[Any, ...]) -> None:
    getattr(_place, name)(*arguments)
