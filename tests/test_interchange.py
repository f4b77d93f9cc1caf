"""Events to and from what other libraries hold them in; their types are written out here by hand."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfm.events import EventError, Events, Sensor

SENSOR = Sensor(1280, 720)
ORDERS = ["".join(order) for order in itertools.permutations("txyp")]
X, Y, T, P = [3, 1279, 0], [5, 719, 0], [10, 10, 999_999], [1, 0, 1]

# What the libraries make, field by field.
TONIC = np.dtype([("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])
OPENEB = np.dtype([("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
DV = np.dtype([("timestamp", "<i8"), ("x", "<i2"), ("y", "<i2"), ("polarity", "i1")])
EXPELLIARMUS = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1")])
AEDAT = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), (("p", "on"), "?")])
LIBRARIES = {
    "tonic": (TONIC, 13, "xytp"),
    "openeb": (OPENEB, 14, "xypt"),
    "dv": (DV, 13, "txyp"),
    "expelliarmus": (EXPELLIARMUS, 13, "txyp"),
    "aedat": (AEDAT, 13, "txyp"),
}


def same(found, expected):
    for name in "xytp":
        a, b = getattr(found, name), getattr(expected, name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@st.composite
def some_events(draw, largest_us=2**52):
    n = draw(st.integers(0, 20))
    lists = [draw(st.lists(st.integers(0, top), min_size=n, max_size=n)) for top in (1279, 719, largest_us, 1)]
    x, y, t, p = lists
    return Events.checked(x, y, sorted(t), p, SENSOR)


def example():
    return Events.checked(X, Y, T, P, SENSOR)


@pytest.mark.parametrize("name", LIBRARIES)
def test_structured_of_libraries(name):
    kind, _, order = LIBRARIES[name]
    columns = {"x": X, "y": Y, "t": T, "p": P}
    rows = np.array(list(zip(*(columns[letter] for letter in order), strict=True)), kind)
    same(Events.from_any(rows, SENSOR), example())
    out = example().to_structured(name)
    expected = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("on", "?")]) if name == "aedat" else kind
    assert out.dtype == expected
    assert out.tolist() == rows.tolist()


def test_aligned_structures_are_read():
    padded = np.dtype({"names": ["x", "y", "p", "t"], "formats": ["u2", "u2", "i2", "i8"], "offsets": [0, 2, 4, 8]})
    rows = np.zeros(3, padded)
    rows["x"], rows["y"], rows["p"], rows["t"] = X, Y, P, T
    same(Events.from_any(rows, SENSOR), example())


@given(some_events(), st.sampled_from(ORDERS))
def test_structured_round_trip(events, order):
    rows = events.to_structured(order)
    assert rows.dtype.names == tuple(order)
    same(Events.from_any(rows, SENSOR), events)


@given(some_events(), st.sampled_from(sorted(LIBRARIES)))
def test_library_round_trip(events, name):
    same(Events.from_any(events.to_structured(name), SENSOR), events)


@given(some_events(), st.sampled_from(ORDERS))
def test_array_round_trip(events, order):
    table = events.to_array(order)
    assert (table.shape, table.dtype) == ((len(events), 4), np.float64)
    assert table[:, order.index("x")].tolist() == events.x.tolist()
    same(Events.from_any(table, SENSOR, order=order), events)


@given(some_events(largest_us=2**51), st.sampled_from(ORDERS))
def test_array_in_seconds_round_trip(events, order):
    table = events.to_array(order, unit="s")
    np.testing.assert_allclose(table[:, order.index("t")] * 1e6, events.t, rtol=1e-12)
    same(Events.from_any(table, SENSOR, order=order, unit="s"), events)


@given(some_events(), st.sampled_from([lambda p: p, lambda p: p * 2.0 - 1, lambda p: p == 1, np.int8, np.float32]))
def test_columns_round_trip(events, polarity):
    columns = events.to_dict()
    assert list(columns) == ["x", "y", "t", "p"]
    same(Events.from_any({**columns, "p": polarity(columns["p"])}, SENSOR), events)
    same(Events.from_any(SimpleNamespace(**columns), SENSOR), events)


def test_dicts_of_other_names():
    event_utils = {"xs": np.array(X), "ys": np.array(Y), "ts": np.array(T) / 1e6, "ps": np.array([True, False, True])}
    same(Events.from_any(event_utils, SENSOR), example())
    n_imagenet = {"x_pos": X, "y_pos": Y, "timestamp": T, "polarity": [1, -1, 1]}
    same(Events.from_any(n_imagenet, SENSOR), example())
    columns = {name: np.array(values)[:, None] for name, values in zip("xytp", (X, Y, T, P), strict=True)}
    same(Events.from_any(columns, SENSOR), example())


def test_tables_by_column_name():
    class Table:
        """As pandas and polars have them: names under `columns`, columns by item."""

        columns = ("x", "y", "t", "polarity")

        def __getitem__(self, name):
            times = np.array(T).astype("timedelta64[us]").astype("timedelta64[ns]")
            return {"x": X, "y": Y, "t": times, "polarity": [1, -1, 1]}[name]

    same(Events.from_any(Table(), SENSOR), example())


def test_event_stores_that_offer_numpy():
    rows = example().to_structured("dv")
    same(Events.from_any(SimpleNamespace(numpy=lambda: rows), SENSOR), example())


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    table = torch.from_numpy(example().to_array("xytp"))
    same(Events.from_any(table, SENSOR, order="xytp"), example())
    same(Events.from_any(table.requires_grad_(), SENSOR, order="xytp"), example())
    columns = example().to_torch()
    assert [columns[name].dtype for name in "xytp"] == [torch.int32, torch.int32, torch.int64, torch.int8]
    assert (2 * columns["p"] - 1).tolist() == [1, -1, 1]
    same(Events.from_any(columns, SENSOR), example())
    sized = {**columns, "height": torch.tensor(720), "width": torch.tensor(1280)}
    assert Events.from_any(sized).sensor == SENSOR
    assert Events.from_any(sized, Sensor(2000, 1000)).sensor == Sensor(2000, 1000)
    assert len(Events.from_any(Events.empty(SENSOR).to_torch(), SENSOR)) == 0


def test_units():
    def times(values, unit=None):
        return Events.from_any({"x": [0] * 2, "y": [0] * 2, "t": np.array(values), "p": [0] * 2}, unit=unit).t.tolist()

    assert times([0.25, 1.5]) == [250_000, 1_500_000]
    assert times([1.0, 2.0]) == [1, 2]
    assert times([1, 2]) == [1, 2]
    assert times([1.0, 2.0], "s") == times([1, 2], "s") == [1_000_000, 2_000_000]
    assert times([1.0000016, 2.5]) == [1_000_002, 2_500_000]
    with pytest.raises(EventError, match="seconds"):
        times([0.25, 1.5], "us")
    with pytest.raises(EventError, match="finite"):
        times([0.25, np.nan])
    with pytest.raises(EventError, match="'us' or 's', got 'ms'"):
        times([1, 2], "ms")


def test_refusals_say_why():
    with pytest.raises(EventError, match="rectified"):
        Events.from_any({"x": [0.5], "y": [0], "t": [0], "p": [0]})
    with pytest.raises(EventError, match="no p among x, y, t"):
        Events.from_any({"x": [1], "y": [2], "t": [3]})
    with pytest.raises(EventError, match=r"\(N, 4\) array, got shape \(4,\)"):
        Events.from_any([1, 2, 3, 4])
    with pytest.raises(EventError, match="expected an order of the letters"):
        Events.from_any(np.zeros((2, 4)), order="txy")
    with pytest.raises(EventError, match=r"letters t, x, y, p \(to_structured: or tonic"):
        example().to_structured("xyt")
    with pytest.raises(EventError, match="x from 40000 to 40000 does not fit the i2 of tonic"):
        Events.checked([40_000], [0], [0], [0], Sensor(65_000, 1)).to_structured("tonic")
    with pytest.raises(EventError, match="t from -1 to -1 does not fit the u8 of aedat"):
        Events.checked([4], [0], [-1], [0], SENSOR).to_structured("aedat")
