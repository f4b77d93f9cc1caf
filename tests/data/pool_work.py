"""Work for the tests of the pool, and a fake Ray, in a module of its own: fresh processes import it by name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np


def square(task: int, tick: Callable[[Any], None]) -> int:
    tick(task)
    return task * task


def picky(task: int, tick: Callable[[Any], None]) -> int:
    if task == 1:
        raise ValueError("one is not liked")
    if task == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if task == 3:
        os._exit(7)
    if task == 4:
        raise Unsendable(lambda: 0)
    return task


class Unsendable(Exception):
    """Has something in it that cannot be pickled."""


def threads(task: int, tick: Callable[[Any], None]) -> tuple[int, int, int]:
    import cv2
    import numba

    return cv2.getNumThreads(), numba.config.NUMBA_NUM_THREADS, int(os.environ["OMP_NUM_THREADS"])


def nap(task: float, tick: Callable[[Any], None]) -> int:
    tick(os.getpid())
    time.sleep(task)
    return os.getpid()


def heedless(task: float, tick: Callable[[Any], None]) -> str:
    """Go on for `task` seconds whoever asks it to stop, as training does for a step."""
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    tick(os.getpid())
    end = time.monotonic() + task
    while time.monotonic() < end:
        time.sleep(0.01)
    return "done"


def brittle(first: np.ndarray, last: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """An interpolator that ends its process when it sees white."""
    if first.max() == 65535:
        os.kill(os.getpid(), signal.SIGKILL)
    return np.repeat(first[None], len(shares), 0)


class FakeRay:
    """As much of Ray as the seam uses: tasks that run when they are waited for."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.options: dict[str, Any] = {}
        self.exceptions = SimpleNamespace(RayError=FakeRayError, RayTaskError=FakeRayTaskError)

    def is_initialized(self) -> bool:
        return bool(self.addresses)

    def init(self, address: str) -> None:
        self.addresses.append(address)

    def remote(self, **options: Any) -> Any:
        self.options = options
        return lambda function: SimpleNamespace(remote=lambda *arguments: Reference(function, arguments))

    def wait(self, references: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        return references[-num_returns:], references[:-num_returns]  # not in the order they were given

    def get(self, reference: Any) -> Any:
        if reference.arguments[1] == 2:
            raise FakeRayError("the worker died unexpectedly")
        try:
            return reference.function(*reference.arguments)
        except Exception as error:
            raise FakeRayTaskError(error) from error


class Reference:
    def __init__(self, function: Any, arguments: Any) -> None:
        self.function, self.arguments = function, arguments


class FakeRayError(Exception):
    pass


class FakeRayTaskError(FakeRayError):
    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause
