"""The line that says how a run is doing: a live one in a terminal, spaced plain ones in a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

SPACING_S = 10.0
"""Seconds between two plain lines, so that a log file stays readable whatever `log_every` is."""

FIGURES_SHOWN = 3
"""Validation figures in a line, the first ones of those there are; the log has all."""


class ProgressLine:
    """Shows metrics on standard output; a logger like the others."""

    def __init__(self, num_steps: int, first_step: int, console: Console | None = None) -> None:
        self._num_steps, self._first_step = num_steps, first_step
        self._start = time.monotonic()
        self._last_line = -float("inf")
        self._console = console or Console(file=sys.stdout)
        self._progress: Progress | None = None
        if self._console.is_terminal:
            columns = (BarColumn(bar_width=20), TaskProgressColumn(), TextColumn("{task.description}"))
            self._progress = Progress(*columns, console=self._console)
            self._task = self._progress.add_task("starting", total=num_steps, completed=first_step)
            self._progress.start()

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show a step: always in a terminal and at the end, else when the last line is old enough."""
        now = time.monotonic()
        line = summary(step, self._num_steps, metrics, self._eta(step, now))
        if self._progress is not None:
            self._progress.update(self._task, completed=step, description=line)
        elif now - self._last_line >= SPACING_S or step == self._num_steps:
            self._last_line = now
            print(line, file=self._console.file, flush=True)

    def close(self) -> None:
        """Leave the last line standing."""
        if self._progress is not None:
            self._progress.stop()

    def _eta(self, step: int, now: float) -> float:
        done = step - self._first_step
        return (now - self._start) / done * (self._num_steps - step) if done > 0 else 0.0


def summary(step: int, num_steps: int, metrics: Mapping[str, float], eta_s: float) -> str:
    """Return one line: step, loss, learning rate, samples/s, memory, time to go, then the first validation figures."""
    width = len(str(num_steps))
    parts = [f"step {step:>{width}}/{num_steps}"]
    if "loss" in metrics:
        parts.append(f"loss {metrics['loss']:.4g}")
    if "lr" in metrics:
        parts.append(f"lr {metrics['lr']:.2e}")
    if "samples_per_s" in metrics:
        parts.append(f"{metrics['samples_per_s']:,.0f} samples/s")
    if "memory_gib" in metrics:
        parts.append(f"{metrics['memory_gib']:.1f} GiB")
    parts.append(f"eta {_clock(eta_s)}")
    figures = [f"{name} {value:.4g}" for name, value in metrics.items() if name.startswith("val")]
    parts += figures[:FIGURES_SHOWN]
    return "  ".join(parts)


def memory_gib(device: torch.device) -> float:
    """Return the largest memory use so far in GiB: of the CUDA device, else of this process (0 where unknown)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    try:
        import resource
    except ImportError:  # not on Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def _clock(seconds: float) -> str:
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}"
