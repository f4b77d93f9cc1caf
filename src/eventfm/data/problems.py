"""Pictures that cannot be read: passed over, remembered, and no reason to end a run."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from eventfm.data.table import CollectionError
from eventfm.io import FormatError

_NOTING = threading.Lock()
"""Threads of a loader share the notes of a sample set."""


class UnreadableError(CollectionError):
    """Raised when a picture, or what stands for one, cannot be read. `name` says which, `reason` why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} {reason}")
        self.name = name
        self.reason = reason


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn what a reader of files raises into `UnreadableError`."""
    try:
        yield
    except (FormatError, OSError) as error:
        raise UnreadableError(name, f"cannot be read: {error}") from error


def first_readable(attempt: Callable[[int], None], index: int, count: int, problems: dict[str, str]) -> None:
    """Make sample `index` of `count`, or the next one after it that can be read.

    What cannot be read is noted in `problems` and warned of once. It is tried anew every time, so that what is drawn
    does not depend on what was tried before: batches stay a function of their number.

    Raises:
        CollectionError: None can be read.
    """
    for number in range(index, index + count):
        try:
            return attempt(number % count)
        except UnreadableError as error:
            with _NOTING:
                is_new = error.name not in problems
                problems[error.name] = error.reason
            if is_new:
                warnings.warn(f"{error}; passed over", stacklevel=2)
            last = error
    raise CollectionError(f"none of the {count} samples can be read, e.g. {last}")
