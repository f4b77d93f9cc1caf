"""A recording piece by piece, as writers take it."""

from __future__ import annotations

from collections.abc import Iterator

from eventfm.events import Events
from eventfm.io.contract import FormatError
from eventfm.protocols import Recording


def pieces(recording: Recording, size: int) -> Iterator[Events]:
    """Yield the events in pieces of at most `size`; none of them is empty.

    Raises:
        FormatError: A piece begins before the one in front of it ends, as when slices of a damaged file are mended
            one by one.
    """
    last_us: int | None = None
    for start in range(0, recording.num_events, size):
        piece = recording.events_by_index(start, start + size)
        if not len(piece):
            continue
        if last_us is not None and piece.t[0] < last_us:
            raise FormatError(f"time goes backwards from {last_us} us to {piece.t[0]} us between two pieces")
        last_us = int(piece.t[-1])
        yield piece
