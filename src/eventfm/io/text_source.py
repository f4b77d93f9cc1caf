"""Rows of a large text file by position: the file is searched once for line ends, and parsed where it is read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eventfm.io.columns import Columns, table_columns
from eventfm.io.contract import FormatError

_ROWS = 1 << 12
_PIECE = 1 << 24
_NEWLINE, _RETURN = 10, 13


class TextSource:
    """Four columns in `order`, after `start` bytes; rows are counted without blank lines."""

    def __init__(self, path: Path, start: int, order: str, columns: list[int] | None, delimiter: str | None) -> None:
        self.name = str(path)
        self._path = path
        self._order = order
        self._columns = columns
        self._delimiter = delimiter
        self._offsets, self._length = _index(path, start)
        self._unit: Literal["s", "us"] | None = None
        t = self._table(0, min(_ROWS, self._length - 1))[:, order.index("t")]
        self._unit = "s" if (t != np.rint(t)).any() else "us"

    def __len__(self) -> int:
        return self._length

    def read(self, start: int, stop: int) -> Columns:
        """Return events `start` to `stop`.

        Raises:
            FormatError: A row is damaged, or has times in another unit than the first rows.
        """
        table = self._table(start, stop)
        t = table[:, self._order.index("t")]
        if self._unit == "us" and (t != np.rint(t)).any():
            raise FormatError(f"{self.name}: times begin in microseconds and have a fraction from event {start} on")
        return table_columns(table, self._order, self.name, self._unit)

    def time(self, i: int) -> int:
        """Return the time of event `i` in microseconds."""
        return int(self.read(i, i + 1).t[0])

    def drop_cut_row(self, num_columns: int) -> bool:
        """Leave out the last row if it has no line end and fewer fields than `num_columns`; return whether it does."""
        if not self._length:
            return False
        with self._path.open("rb") as file:
            file.seek(int(self._offsets[(self._length - 1) // _ROWS]))
            last = file.read().splitlines(keepends=True)[-1]
        is_cut = not last.endswith((b"\n", b"\r")) and len(last.replace(b",", b" ").split()) < num_columns
        self._length -= is_cut
        return is_cut

    def _table(self, start: int, stop: int) -> NDArray[np.float64]:
        if start >= stop:
            return np.empty((0, 4))
        first, last = start // _ROWS, -(-stop // _ROWS)
        with self._path.open("rb") as file:
            file.seek(int(self._offsets[first]))
            lines = file.read(int(self._offsets[last] - self._offsets[first])).splitlines()
        rows = [line for line in lines if line.strip()][start - first * _ROWS : stop - first * _ROWS]
        try:
            table = np.loadtxt(
                io.BytesIO(b"\n".join(rows)),
                delimiter=self._delimiter,
                comments=None,
                ndmin=2,
                usecols=self._columns,
                encoding="latin-1",
            )
        except ValueError as error:
            raise FormatError(f"{self.name}: a row from event {start} on is damaged: {error}") from None
        if table.shape != (stop - start, 4):
            raise FormatError(f"{self.name}: expected {stop - start} rows of 4 from event {start}, got {table.shape}")
        return table


def _index(path: Path, start: int) -> tuple[NDArray[np.int64], int]:
    """Return where every `_ROWS`th row begins, with the end of the file, and the number of rows."""
    offsets, count, at = [np.array([start])], 0, start
    left_over = 0
    with path.open("rb") as file:
        file.seek(start)
        while data := file.read(_PIECE):
            raw = np.frombuffer(data, np.uint8)
            ends = np.flatnonzero(raw == _NEWLINE) + at
            if len(ends):
                begins = np.append(at - left_over, ends[:-1] + 1)
                # A line of at most a line end is blank; one that holds only spaces is not looked for.
                lengths = ends - begins
                blank = (lengths == 0) | ((lengths == 1) & (raw[np.maximum(ends - at - 1, 0)] == _RETURN))
                begins = begins[~blank]
                numbers = count + np.arange(len(begins))
                offsets.append(begins[(numbers % _ROWS == 0) & (numbers > 0)])
                count += len(begins)
                left_over = at + len(raw) - int(ends[-1]) - 1
            else:
                left_over += len(raw)
            at += len(raw)
    if left_over:
        if count and count % _ROWS == 0:
            offsets.append(np.array([at - left_over]))
        count += 1
    return np.append(np.concatenate(offsets), at).astype(np.int64), count
