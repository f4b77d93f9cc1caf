"""Tables and columns of numbers as files hold them, to the columns that `Events` checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.io.contract import FormatError


class Columns(NamedTuple):
    """Columns as `Events.checked` takes them: whole pixels, int64 microseconds, polarity as the file has it."""

    x: NDArray[Any]
    y: NDArray[Any]
    t: NDArray[np.int64]
    p: NDArray[Any]


ORDERS = ("txyp", "xytp", "xypt")
_LARGEST_US = 2.0**62
_STRAY = 0.05


def guess_order(rows: NDArray[Any]) -> str:
    """Return which of `ORDERS` the columns of `rows` (N, 4) are in, judged by their values.

    Polarity must be -1, 0 or 1 and pixels whole and not negative in 95 % of the rows; among the orders left, time is
    the column that goes backwards least (5 % do not count) and then spans most. Without rows the answer is `"txyp"`.

    Raises:
        FormatError: No order fits.
    """
    best: tuple[float, float] | None = None
    chosen = ORDERS[0]
    for order in ORDERS if len(rows) else ():
        x, y, t, p = (rows[:, order.index(name)] for name in "xytp")
        fits = np.isin(p, (-1, 0, 1)) & _is_pixel(x) & _is_pixel(y) & np.isfinite(t)
        if fits.mean() < 1 - _STRAY:
            continue
        times = t[fits]
        backwards = float(np.mean(np.diff(times) < 0)) if len(times) > 1 else 0.0
        rank = (max(backwards, _STRAY), -float(np.ptp(times)))
        if best is None or rank < best:
            best, chosen = rank, order
    if best is None and len(rows):
        raise FormatError(
            f"cannot tell which of the four columns are x, y, t and p: none of the orders {', '.join(ORDERS)} fits; "
            f"the first row is {' '.join(f'{value:g}' for value in rows[0].tolist())}"
        )
    return chosen


def table_columns(table: NDArray[Any], order: str, source: str, unit: Literal["s", "us"] | None = None) -> Columns:
    """Return the columns `x, y, t, p` of a table (N, 4) whose columns are in `order`; `t` in microseconds."""
    columns = {name: table[:, order.index(name)] for name in "xytp"}
    return file_columns(columns, source, unit)


def file_columns(columns: Mapping[str, NDArray[Any]], source: str, unit: Literal["s", "us"] | None = None) -> Columns:
    """Return the columns that a file names.

    Raises:
        FormatError: Pixels that are not whole, or times that are not finite.
    """
    for name in "xy":
        column = columns[name]
        if column.dtype.kind not in "iuf":
            raise FormatError(f"{source}: expected numbers as {name}, got {column.dtype}")
        if column.dtype.kind == "f" and not (np.isfinite(column) & (column == np.rint(column))).all():
            raise FormatError(f"{source}: expected whole pixels as {name}; rectified coordinates are not events")
    p = columns["p"]
    if p.dtype.kind not in "iufb":
        raise FormatError(f"{source}: expected numbers as p, got {p.dtype}")
    # Bytes of a damaged file may be truth values other than 0 and 1; as numbers they are found out.
    p = p.view(np.uint8) if p.dtype.kind == "b" else p
    return Columns(columns["x"], columns["y"], to_microseconds(columns["t"], source, unit), p)


def to_microseconds(t: NDArray[Any], source: str, unit: Literal["s", "us"] | None = None) -> NDArray[np.int64]:
    """Return times as int64 microseconds; seconds are rounded to the nearest.

    Without `unit`, whole numbers are microseconds, and floats of which any has a fraction are seconds.

    Raises:
        FormatError: Times that are not finite numbers or do not fit.
    """
    if t.dtype.kind not in "iuf":
        raise FormatError(f"{source}: expected numbers as t, got {t.dtype}")
    if t.dtype.kind in "iu" and unit != "s":
        if len(t) and int(t.max()) > _LARGEST_US:
            raise FormatError(f"{source}: time {int(t.max())} us is too large to be one")
        return t.astype(np.int64, copy=False)
    if not np.isfinite(t).all():
        raise FormatError(f"{source}: expected finite times, got {t[~np.isfinite(t)][0]}")
    times = t.astype(np.float64, copy=False)
    if unit == "s" or (unit is None and (times != np.rint(times)).any()):
        times = times * 1e6
    if len(times) and np.abs(times).max() > _LARGEST_US:
        raise FormatError(f"{source}: time {np.abs(times).max():g} us is too large to be one")
    return np.rint(times).astype(np.int64)


def _is_pixel(values: NDArray[Any]) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        return np.asarray((values >= 0) & (values < 65536) & (values == np.rint(values)))
