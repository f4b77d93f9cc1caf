"""What a reader offers, and the rules that all readers follow."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eventfm.events import OnError, Sensor, infer_sensor
from eventfm.protocols import Recording


class FormatError(ValueError):
    """Raised when a file is of no known format, or is damaged or cut off."""


class UnknownFormatError(FormatError):
    """Raised when no reader knows the format of a file."""


class DamagedFileError(FormatError):
    """Raised when a file begins as a known format does and cannot be read."""


class Reader(NamedTuple):
    """A reader of one format; other packages add theirs under the entry point group `eventfm.reader`.

    `sniff(path)` looks at the content and returns how sure it is: 1 for a magic number, 0.5 for a plausible guess,
    0 or False for another format. It may raise `FormatError` instead of returning 0 to say why.
    `open(path, sensor, on_error)` returns the recording; `sensor` is the caller's hint or None.
    """

    sniff: Callable[[Path], float]
    open: Callable[[Path, Sensor | None, OnError], Recording]


def choose_sensor(
    x: Any, y: Any, hint: Sensor | None, stated: Sensor | None = None, known: Sequence[Sensor] = ()
) -> Sensor:
    """Return the sensor: the hint, else what the file states, else the first known one that holds the coordinates.

    Where none applies, the size is the largest coordinate plus one and flagged `inferred`. `known` are the sensors
    of the public data sets that use the format.
    """
    if hint is not None or stated is not None:
        return hint or stated  # type: ignore[return-value]
    inferred = infer_sensor(x, y)
    fits = (card for card in known if inferred.width <= card.width and inferred.height <= card.height)
    return next(fits, inferred)


def report_cut(what: str, on_error: OnError) -> None:
    """Refuse a file that is cut off or damaged part of the way, or warn that only what is whole is read.

    Raises:
        FormatError: `on_error` is `"raise"`.
    """
    if on_error == "raise":
        raise FormatError(f"{what}; pass on_error='sort' or 'clamp' to read the events before it")
    warnings.warn(f"{what}; the events before it were read", stacklevel=2)
