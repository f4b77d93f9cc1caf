"""Events and the sensor that saw them: the one data type every layer shares."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

OnError = Literal["raise", "sort", "clamp"]
Columns = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]

_COLUMN_NAMES = {
    "x": ("x", "xs", "x_pos"),
    "y": ("y", "ys", "y_pos"),
    "t": ("t", "ts", "timestamp", "timestamps", "time"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on"),
}


class EventError(ValueError):
    """Raised when events break the contract of `Events`: order, bounds, polarity, lengths."""


@dataclass(frozen=True, slots=True)
class Sensor:
    """Size of the pixel array; `inferred` says that the size was read off the largest coordinate."""

    width: int
    height: int
    name: str = ""
    inferred: bool = False

    def __post_init__(self) -> None:
        if not (0 < self.width <= 65536 and 0 < self.height <= 65536):
            raise EventError(f"expected a sensor of 1 to 65536 pixels a side, got {self.width}x{self.height}")


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Time-ordered events of one sensor.

    `x`, `y` are uint16 pixels with the origin at the top left, `t` is int64 microseconds in the file's own clock,
    `p` is uint8 with 0 = OFF and 1 = ON. All four have one length. The arrays are never written to.
    `window` is the half-open time range `[t0, t1)` that was asked for, when there was one.
    `noise` (uint8) is 1 where a simulator knows that an event is noise; None where nobody can know.
    """

    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    t: NDArray[np.int64]
    p: NDArray[np.uint8]
    sensor: Sensor
    window: tuple[int, int] | None = None
    noise: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.t)

    @classmethod
    def empty(cls, sensor: Sensor, window: tuple[int, int] | None = None) -> Events:
        """Return no events of `sensor`."""
        return cls(
            np.empty(0, np.uint16), np.empty(0, np.uint16), np.empty(0, np.int64), np.empty(0, np.uint8), sensor, window
        )

    @classmethod
    def checked(
        cls,
        x: Any,
        y: Any,
        t: Any,
        p: Any,
        sensor: Sensor,
        *,
        on_error: OnError = "raise",
        window: tuple[int, int] | None = None,
        source: str = "events",
    ) -> Events:
        """Return events after checking lengths, bounds, polarity and order; the gate every file passes once.

        Polarity may be {0, 1}, {-1, 1} or bool; `t` must already be in microseconds. With `on_error="raise"`
        anything wrong raises. `"sort"` orders the events by time (stable); `"clamp"` raises each time that goes
        backwards to the latest time before it; both drop events outside the sensor. What was mended is counted
        in a warning.

        Raises:
            EventError: The message names the first bad event, how many there are, and what can be done.
        """
        if on_error not in ("raise", "sort", "clamp"):
            raise EventError(f"expected on_error to be 'raise', 'sort' or 'clamp', got {on_error!r}")
        x, y, t, p = (np.asarray(column).reshape(-1) for column in (x, y, t, p))
        if len({len(x), len(y), len(t), len(p)}) != 1:
            raise EventError(
                f"{source}: expected four columns of one length, got x {len(x)}, y {len(y)}, t {len(t)}, p {len(p)}"
            )
        t = _as_microseconds(t, source)
        p = _as_polarity(p, source)
        columns = _on_the_sensor((x, y, t, p), sensor, on_error, source)
        x, y, t, p = _in_order(columns, on_error, source)
        return cls(
            np.ascontiguousarray(x, np.uint16),
            np.ascontiguousarray(y, np.uint16),
            np.ascontiguousarray(t, np.int64),
            np.ascontiguousarray(p, np.uint8),
            sensor,
            window,
        )

    def between(self, t0: int, t1: int) -> Events:
        """Return the events with `t0 <= t < t1` (microseconds) as views, with the window remembered."""
        start, stop = np.searchsorted(self.t, (t0, t1), side="left")
        return replace(self.take(int(start), int(stop)), window=(t0, t1))

    def take(self, start: int, stop: int) -> Events:
        """Return events `start` to `stop` (exclusive) by position, as views."""
        part = slice(start, stop)
        noise = None if self.noise is None else self.noise[part]
        return Events(self.x[part], self.y[part], self.t[part], self.p[part], self.sensor, noise=noise)

    def to_structured(self, order: str = "txyp") -> NDArray[np.void]:
        """Return one structured array with the fields in `order` (`"xypt"` is OpenEB's, `"xytp"` tonic's)."""
        if sorted(order) != ["p", "t", "x", "y"]:
            raise ValueError(f"expected an order of the letters t, x, y, p, got {order!r}")
        kinds = {"x": np.uint16, "y": np.uint16, "t": np.int64, "p": np.uint8}
        out = np.empty(len(self), np.dtype([(name, kinds[name]) for name in order]))
        for name in order:
            out[name] = getattr(self, name)
        return out

    @classmethod
    def from_any(
        cls,
        source: Any,
        sensor: Sensor | None = None,
        *,
        order: str = "txyp",
        unit: Literal["us", "s"] = "us",
        on_error: OnError = "raise",
    ) -> Events:
        """Return events from a structured array, a mapping of columns, an `(N, 4)` array, or an object of columns.

        Understands the field names of tonic, OpenEB, dv-processing, event_utils and SpikingJelly. An `(N, 4)`
        array has no names: `order` says which column is which. Times in seconds (`unit="s"`) are rounded to
        microseconds. Without `sensor` the size is the largest coordinate plus one, and flagged `inferred`.

        Raises:
            EventError: The columns cannot be found, or break the contract of `Events`.
        """
        if isinstance(source, Events):
            return source
        columns = _find_columns(source, order)
        t = columns["t"]
        if unit == "s":
            t = np.rint(np.asarray(t, np.float64) * 1e6).astype(np.int64)
        return cls.checked(
            columns["x"],
            columns["y"],
            t,
            columns["p"],
            sensor or infer_sensor(columns["x"], columns["y"]),
            on_error=on_error,
        )


@dataclass(frozen=True, slots=True, eq=False)
class EventBatch:
    """Events of several samples of one sensor, as torch tensors on one device, end to end.

    `x`, `y`, `t`, `p` are `(N,)` int64; sample `b` is `offsets[b]:offsets[b + 1]`, with `offsets` `(B + 1,)` int64.
    `windows` is `(B, 2)` int64, the half-open time range of each sample in microseconds, or None.
    """

    x: Tensor
    y: Tensor
    t: Tensor
    p: Tensor
    offsets: Tensor
    sensor: Sensor
    windows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def collate(cls, samples: list[Events], device: Any = "cpu") -> EventBatch:
        """Return the batch of `samples`, which must share one sensor size.

        Raises:
            EventError: No samples, or samples of several sensor sizes.
        """
        import torch

        sizes = {(sample.sensor.width, sample.sensor.height) for sample in samples}
        if len(sizes) != 1:
            raise EventError(f"expected samples of one sensor size, got {sorted(sizes) or 'no samples'}")

        def joined(name: str) -> Tensor:
            column = np.concatenate([getattr(sample, name) for sample in samples])
            return torch.from_numpy(column.astype(np.int64)).to(device)

        offsets = np.concatenate([[0], np.cumsum([len(sample) for sample in samples])]).astype(np.int64)
        windows = None
        if all(sample.window is not None for sample in samples):
            windows = torch.tensor([sample.window for sample in samples], dtype=torch.int64, device=device)
        return cls(
            joined("x"),
            joined("y"),
            joined("t"),
            joined("p"),
            torch.from_numpy(offsets).to(device),
            samples[0].sensor,
            windows,
        )


def infer_sensor(x: Any, y: Any) -> Sensor:
    """Return the smallest sensor that holds the coordinates, flagged `inferred` (1x1 for no events)."""
    x, y = np.asarray(x), np.asarray(y)
    if not len(x):
        return Sensor(1, 1, inferred=True)
    return Sensor(int(x.max()) + 1, int(y.max()) + 1, inferred=True)


def _on_the_sensor(columns: Columns, sensor: Sensor, on_error: OnError, source: str) -> Columns:
    x, y, t, p = columns
    # Asked the other way round than one might: a coordinate that is not a number is not inside.
    outside = ~((x >= 0) & (x < sensor.width) & (y >= 0) & (y < sensor.height))
    if not outside.any():
        return columns
    first = int(np.argmax(outside))
    what = (
        f"{source}: {int(outside.sum())} of {len(x)} events lie outside the {sensor.width}x{sensor.height} "
        f"sensor, the first is event {first} at x={x[first]}, y={y[first]}"
    )
    if on_error == "raise":
        raise EventError(f"{what}; give the right sensor size, or on_error='sort' to drop them")
    warnings.warn(f"{what}; they were dropped", stacklevel=3)
    return x[~outside], y[~outside], t[~outside], p[~outside]


def _in_order(columns: Columns, on_error: OnError, source: str) -> Columns:
    x, y, t, p = columns
    backwards = np.flatnonzero(t[1:] < t[:-1])
    if not len(backwards):
        return columns
    first = int(backwards[0])
    what = (
        f"{source}: time goes backwards {len(backwards)} times in {len(t)} events, "
        f"first from {t[first]} us to {t[first + 1]} us at event {first + 1}"
    )
    if on_error == "raise":
        raise EventError(f"{what}; pass on_error='sort' or on_error='clamp' to mend it")
    warnings.warn(f"{what}; mended by {on_error}", stacklevel=3)
    if on_error == "clamp":
        return x, y, np.maximum.accumulate(t), p
    order = np.argsort(t, kind="stable")
    return x[order], y[order], t[order], p[order]


def _as_microseconds(t: NDArray[Any], source: str) -> NDArray[np.int64]:
    if t.dtype.kind == "f":
        if not np.isfinite(t).all():
            raise EventError(f"{source}: expected finite times, got {t[~np.isfinite(t)][0]}")
        if (t != np.rint(t)).any():
            raise EventError(f"{source}: expected times in whole microseconds, got {t[t != np.rint(t)][0]}; seconds?")
    return np.asarray(t.astype(np.int64))


def _as_polarity(p: NDArray[Any], source: str) -> NDArray[np.uint8]:
    if p.dtype == np.bool_:
        return p.view(np.uint8)
    bad = (p != 0) & (p != 1) & (p != -1)
    if bad.any():
        first = int(np.argmax(bad))
        raise EventError(f"{source}: expected polarity 0/1, -1/1 or bool, got {p[first]} at event {first}")
    return np.asarray((p > 0).astype(np.uint8))


def _find_columns(source: Any, order: str) -> dict[str, NDArray[Any]]:
    names = getattr(getattr(source, "dtype", None), "names", None)
    if names is None and isinstance(source, Mapping):
        names = tuple(source)
    if names is not None:
        found = {key: next((n for n in known if n in names), None) for key, known in _COLUMN_NAMES.items()}
        missing = [key for key, name in found.items() if name is None]
        if missing:
            raise EventError(f"expected columns x, y, t, p; no {', '.join(missing)} among {', '.join(map(str, names))}")
        return {key: np.asarray(source[name]) for key, name in found.items()}
    array = np.asarray(source) if not hasattr(source, "t") else None
    if array is None:
        return {key: np.asarray(getattr(source, key)) for key in "xytp"}
    if array.ndim != 2 or array.shape[1] != 4:
        raise EventError(f"expected four named columns or an (N, 4) array, got shape {array.shape}")
    return {name: array[:, i] for i, name in enumerate(order)}
