"""What decoders of words write: columns, and what is to be known of them without looking at them again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventfm.io.columns import Columns

Seen = NDArray[np.int64]
"""(7,): rightmost and bottommost pixel, how often time went backwards, how many triggers there were, the earliest, the
latest and the last time, microseconds. It goes on from one stretch of words to the next, but for what is set anew."""
_NEVER = 1 << 62


def nothing_seen(last: int = -_NEVER) -> Seen:
    """Return what is known before the first event, or before the next stretch where the one before ended at `last`."""
    return np.array([0, 0, 0, 0, _NEVER, -_NEVER, last], np.int64)


def empty_columns(count: int) -> Columns:
    """Return columns of `count` places, as events have them."""
    return Columns(
        np.empty(count, np.uint16), np.empty(count, np.uint16), np.empty(count, np.int64), np.empty(count, np.uint8)
    )


def first_of(columns: Columns, count: int) -> Columns:
    """Return the first `count` rows, as views."""
    return Columns(*(column[:count] for column in columns))
