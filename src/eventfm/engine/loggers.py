"""Where metrics go: a file always; TensorBoard and trackers as far as they work."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from eventfm.engine.run_folder import RunFolder, trim_metrics
from eventfm.registry import require

log = logging.getLogger(__name__)


class Logger(Protocol):
    """Takes lines of metrics."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of a step."""
        ...

    def close(self) -> None:
        """Finish what is under way."""
        ...


class JsonLines:
    """Appends one JSON object per step to a file; lines after `last_step`, to be written again, are dropped first.

    A figure that is not finite is written as null, which every JSON reader takes.
    """

    def __init__(self, path: Path, last_step: int) -> None:
        trim_metrics(path, last_step)
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line, at once."""
        figures = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._file.write(json.dumps({"step": step, **figures}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoard:
    """Writes scalars for TensorBoard into `folder`."""

    def __init__(self, folder: Path, last_step: int) -> None:
        module = require("torch.utils.tensorboard", "dev")
        self._writer: Any = module.SummaryWriter(str(folder), purge_step=last_step + 1 if last_step else None)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add every figure as a scalar."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is buffered."""
        self._writer.close()


class Tracker:
    """Sends metrics to wandb or trackio, whose calls are alike."""

    def __init__(self, name: str, folder: RunFolder, config: Mapping[str, Any]) -> None:
        self._module: Any = require(name, name)
        self._run: Any = self._module.init(project="eventfm", name=folder.path.name, config=dict(config))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send the figures of one step."""
        self._module.log(dict(metrics), step=step)

    def close(self) -> None:
        """Tell the tracker that the run is over."""
        self._module.finish()


class BestEffort:
    """A logger that may fail: the first failure is reported, and from then on it is left alone."""

    def __init__(self, name: str, make: Callable[[], Logger]) -> None:
        self._name = name
        self._logger: Logger | None = None
        self._try(lambda: self._open(make))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Pass the metrics on, if the logger still works."""
        if (logger := self._logger) is not None:
            self._try(lambda: logger.write(step, metrics))

    def close(self) -> None:
        """Close the logger, if it still works."""
        if (logger := self._logger) is not None:
            self._try(logger.close)

    def _open(self, make: Callable[[], Logger]) -> None:
        self._logger = make()

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # whatever a tracker throws, the run matters more
            self._logger = None
            log.warning("%s is switched off: %s", self._name, error)


def open_loggers(
    folder: RunFolder, last_step: int, tensorboard: bool, trackers: Iterable[str], config: Mapping[str, Any]
) -> list[Logger]:
    """Return the loggers of a run that has done `last_step` steps; for rank 0 only. A run without any starts anew."""
    loggers: list[Logger] = [JsonLines(folder.metrics, last_step or -1)]
    if tensorboard:
        loggers.append(BestEffort("TensorBoard", lambda: TensorBoard(folder.path / "tensorboard", last_step)))
    for name in trackers:
        loggers.append(BestEffort(name, lambda name=name: Tracker(name, folder, config)))  # type: ignore[misc]
    return loggers
