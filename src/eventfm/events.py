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
_Treatment = Literal["raise", "sort", "clamp", "keep"]
Unit = Literal["us", "s"]
Columns = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]

_COLUMN_NAMES = {
    "x": ("x", "xs", "x_pos"),
    "y": ("y", "ys", "y_pos"),
    "t": ("t", "ts", "timestamp", "timestamps", "time"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on"),
}
_TYPES = {"x": "u2", "y": "u2", "t": "i8", "p": "u1"}
# Field, column and type of each field of the events of other libraries.
_LAYOUTS = {
    "tonic": [("x", "x", "i2"), ("y", "y", "i2"), ("t", "t", "i8"), ("p", "p", "?")],
    "openeb": [("x", "x", "u2"), ("y", "y", "u2"), ("p", "p", "i2"), ("t", "t", "i8")],
    "dv": [("timestamp", "t", "i8"), ("x", "x", "i2"), ("y", "y", "i2"), ("polarity", "p", "i1")],
    "expelliarmus": [("t", "t", "i8"), ("x", "x", "i2"), ("y", "y", "i2"), ("p", "p", "u1")],
    "aedat": [("t", "t", "u8"), ("x", "x", "u2"), ("y", "y", "u2"), ("on", "p", "?")],
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
        on_error: _Treatment = "raise",
        window: tuple[int, int] | None = None,
        source: str = "events",
    ) -> Events:
        """Return events after checking lengths, bounds, polarity and order; the gate every file passes once.

        Polarity may be {0, 1}, {-1, 1} or bool; `t` must already be in microseconds. With `on_error="raise"`
        anything wrong raises. `"sort"` orders the events by time (stable); `"clamp"` raises each time that goes
        backwards to the latest time before it; both drop events outside the sensor. What was mended is counted
        in a warning. `"keep"`, which is for `eventfm doctor` alone and breaks the contract, leaves the events as they
        are; a coordinate outside the sensor becomes 65535.

        Raises:
            EventError: The message names the first bad event, how many there are, and what can be done.
        """
        if on_error not in ("raise", "sort", "clamp", "keep"):
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
        """Return one structured array, as other libraries hold events.

        `order` is one of the letters t, x, y, p for fields of this class' types in that order, or the name of a
        library for its very fields and types: `"tonic"`, `"openeb"`, `"dv"`, `"expelliarmus"`, `"aedat"`. Times stay
        microseconds and polarity 0 and 1 (or bool).

        Raises:
            EventError: A column does not fit the library's type.
        """
        layout = _LAYOUTS.get(order) or [(name, name, _TYPES[name]) for name in _check_order(order)]
        out = np.empty(len(self), np.dtype([(field, kind) for field, _, kind in layout]))
        for field, name, kind in layout:
            column = getattr(self, name)
            out[field] = column
            if (out[field] != column).any():
                low, high = column.min(), column.max()
                raise EventError(f"{name} from {low} to {high} does not fit the {kind} of {order} events")
        return out

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Return the columns `x`, `y`, `t`, `p` by name, as they are."""
        return {name: getattr(self, name) for name in "xytp"}

    def to_array(self, order: str = "txyp", *, unit: Unit = "us") -> NDArray[np.float64]:
        """Return one array (N, 4) whose columns are in `order`; times in microseconds, or seconds (`unit="s"`).

        Both are exact enough to be read back, also for times since 1970.
        """
        columns = {**self.to_dict(), "t": self.t / 1e6 if unit == "s" else self.t}
        return np.stack([np.asarray(columns[name], np.float64) for name in _check_order(order)], axis=1)

    def to_torch(self, device: Any = "cpu") -> dict[str, Tensor]:
        """Return the columns as tensors (N,): `x`, `y` int32, `t` int64 microseconds, `p` int8 (0 and 1)."""
        import torch

        kinds = {"x": np.int32, "y": np.int32, "t": np.int64, "p": np.int8}
        return {name: torch.from_numpy(getattr(self, name).astype(kind)).to(device) for name, kind in kinds.items()}

    @classmethod
    def from_any(
        cls,
        source: Any,
        sensor: Sensor | None = None,
        *,
        order: str = "txyp",
        unit: Unit | None = None,
        on_error: OnError = "raise",
    ) -> Events:
        """Return events from what another library holds them in.

        Understood are a structured array, a mapping or a table (pandas, polars) of columns, an object with columns,
        an `(N, 4)` array, and tensors in place of arrays, by the field names of tonic, OpenEB, dv-processing,
        expelliarmus, aedat, event_utils and SpikingJelly. An `(N, 4)` array has no names: `order` says which column
        is which. Polarity may be 0/1, -1/1 or bool.

        Without `unit`, whole times are microseconds, and times of which any has a fraction are seconds; seconds are
        rounded to microseconds. Without `sensor` the size is what a mapping states as `width` and `height`, else the
        largest coordinate plus one, flagged `inferred`. Note that float32 holds whole microseconds up to 16.8 s only.

        Raises:
            EventError: The columns cannot be found, or break the contract of `Events`.
        """
        if isinstance(source, Events):
            return source
        if unit not in (None, "us", "s"):
            raise EventError(f"expected unit to be 'us' or 's', got {unit!r}")
        columns = _find_columns(source, _check_order(order))
        for name in "xy":
            if columns[name].dtype.kind == "f" and (columns[name] != np.rint(columns[name])).any():
                raise EventError(f"expected whole pixels as {name}; rectified coordinates are not events")
        return cls.checked(
            columns["x"],
            columns["y"],
            _in_unit(columns["t"], unit),
            columns["p"],
            sensor or _stated_sensor(source) or infer_sensor(columns["x"], columns["y"]),
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


def _on_the_sensor(columns: Columns, sensor: Sensor, on_error: _Treatment, source: str) -> Columns:
    x, y, t, p = columns
    if x.dtype == y.dtype == np.uint16 and (not len(x) or (x.max() < sensor.width and y.max() < sensor.height)):
        return columns
    # Asked the other way round than one might: a coordinate that is not a number is not inside.
    outside = ~((x >= 0) & (x < sensor.width) & (y >= 0) & (y < sensor.height))
    if not outside.any():
        return columns
    if on_error == "keep":
        return np.where(outside, np.uint16(65535), x), np.where(outside, np.uint16(65535), y), t, p
    first = int(np.argmax(outside))
    what = (
        f"{source}: {int(outside.sum())} of {len(x)} events lie outside the {sensor.width}x{sensor.height} "
        f"sensor, the first is event {first} at x={x[first]}, y={y[first]}"
    )
    if on_error == "raise":
        raise EventError(f"{what}; give the right sensor size, or on_error='sort' to drop them")
    warnings.warn(f"{what}; they were dropped", stacklevel=3)
    return x[~outside], y[~outside], t[~outside], p[~outside]


def _in_order(columns: Columns, on_error: _Treatment, source: str) -> Columns:
    x, y, t, p = columns
    backwards = np.flatnonzero(t[1:] < t[:-1])
    if not len(backwards) or on_error == "keep":
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
    return np.asarray(t.astype(np.int64, copy=False))


def _as_polarity(p: NDArray[Any], source: str) -> NDArray[np.uint8]:
    if p.dtype == np.bool_:
        return p.view(np.uint8)
    if p.dtype == np.uint8 and (not len(p) or p.max() <= 1):
        return p
    bad = (p != 0) & (p != 1) & (p != -1)
    if bad.any():
        first = int(np.argmax(bad))
        raise EventError(f"{source}: expected polarity 0/1, -1/1 or bool, got {p[first]} at event {first}")
    return np.asarray((p > 0).astype(np.uint8))


def _check_order(order: str) -> str:
    if sorted(order) != ["p", "t", "x", "y"]:
        libraries = ", ".join(_LAYOUTS)
        raise EventError(f"expected an order of the letters t, x, y, p (to_structured: or {libraries}), got {order!r}")
    return order


def _in_unit(t: NDArray[Any], unit: Unit | None) -> NDArray[Any]:
    if t.dtype.kind == "m":
        return t.astype("timedelta64[us]").astype(np.int64)
    if unit is None:
        unit = "s" if t.dtype.kind == "f" and np.isfinite(t).all() and (t != np.rint(t)).any() else "us"
    # Times that are no numbers are left for `Events.checked` to refuse.
    return np.rint(np.asarray(t, np.float64) * 1e6) if unit == "s" else t


def _stated_sensor(source: Any) -> Sensor | None:
    if not isinstance(source, Mapping) or not {"width", "height"} <= set(source):
        return None
    return Sensor(int(source["width"]), int(source["height"]))


def _as_array(values: Any) -> NDArray[Any]:
    """Return `values` as a NumPy array; tensors of any device, without importing what they belong to."""
    for step in ("detach", "cpu", "numpy"):
        if not isinstance(values, np.ndarray) and callable(getattr(values, step, None)):
            values = getattr(values, step)()
    return np.asarray(values)


def _find_columns(source: Any, order: str) -> dict[str, NDArray[Any]]:
    names = tuple(source) if isinstance(source, Mapping) else getattr(source, "columns", None)
    if names is None:
        if not isinstance(source, np.ndarray) and all(hasattr(source, name) for name in "xytp"):
            return {name: _as_array(getattr(source, name)).reshape(-1) for name in "xytp"}
        source = _as_array(source)
        names = source.dtype.names
    if names is None:
        if source.ndim != 2 or source.shape[1] != 4:
            raise EventError(f"expected four named columns or an (N, 4) array, got shape {source.shape}")
        return {name: source[:, i] for i, name in enumerate(order)}
    found = {key: next((n for n in known if n in names), None) for key, known in _COLUMN_NAMES.items()}
    missing = [key for key, name in found.items() if name is None]
    if missing:
        raise EventError(f"expected columns x, y, t, p; no {', '.join(missing)} among {', '.join(map(str, names))}")
    return {key: _as_array(source[name]).reshape(-1) for key, name in found.items()}
