"""When to go on: steps that are not finite, and requests to stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))
_ONE_PRESS_S = 1.0
"""A launcher of several ranks hands a Ctrl-C on that the ranks had from the terminal too."""


class TrainingError(ValueError):
    """Raised when a run cannot go on: its loss or gradients stay infinite or NaN."""


class FiniteGuard:
    """Counts steps in a row that were not finite; equal on every rank, since ranks agree on each."""

    def __init__(self, max_nonfinite: int) -> None:
        self.max_nonfinite = max_nonfinite
        self.in_a_row = 0
        self.skipped = 0

    def note(self, finite: bool, step: int) -> None:
        """Take note of a step.

        Raises:
            TrainingError: More than `max_nonfinite` steps in a row were not finite.
        """
        if finite:
            self.in_a_row = 0
            return
        self.in_a_row += 1
        self.skipped += 1
        if self.in_a_row > self.max_nonfinite:
            raise TrainingError(
                f"the loss or its gradient was not finite in {self.in_a_row} steps in a row, up to step {step} "
                f"(max_nonfinite={self.max_nonfinite}); the weights are those before. Lower the learning rate, set "
                "clip_norm or lengthen the warm-up; precision=fp32 tells whether the arithmetic is to blame"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as JSON values."""
        return {"in_a_row": self.in_a_row, "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a checkpoint's values."""
        self.in_a_row, self.skipped = int(state["in_a_row"]), int(state["skipped"])


class StopRequest:
    """While entered, SIGTERM, SIGUSR1 and a first SIGINT (Ctrl-C) set `requested`; the old handlers return after it.

    A second SIGINT raises KeyboardInterrupt at once. SIGINT is left alone where somebody else handles it. Outside the
    main thread, where Python allows no handlers, nothing is taken.
    """

    def __init__(self) -> None:
        self.requested = False
        self.by_user = False
        """Whether it was SIGINT."""
        self._asked_at = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                self._previous[signal.SIGINT] = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.by_user:
            os.write(2, b"\nstopping after the step under way; Ctrl-C once more stops at once\n")  # loggers have locks
            self.requested, self.by_user, self._asked_at = True, True, now
        elif now - self._asked_at > _ONE_PRESS_S:
            raise KeyboardInterrupt
