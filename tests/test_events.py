from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfm.events import EventBatch, EventError, Events, Sensor

SENSOR = Sensor(10, 8)


def make(t: list[int], x: int = 1, y: int = 2) -> Events:
    return Events.checked([x] * len(t), [y] * len(t), t, [1] * len(t), SENSOR)


def test_checked_gives_the_contract() -> None:
    events = Events.checked([1, 2], [3, 4], [5, 6], [-1, 1], SENSOR)
    assert (events.x.dtype, events.y.dtype, events.t.dtype, events.p.dtype) == (
        np.uint16,
        np.uint16,
        np.int64,
        np.uint8,
    )
    assert events.p.tolist() == [0, 1]
    assert len(events) == 2


@pytest.mark.parametrize("polarity", [[0, 1, 1], [-1, 1, 1], [False, True, True], [0.0, 1.0, 1.0]])
def test_polarities_of_every_convention(polarity: list[float]) -> None:
    assert Events.checked([0] * 3, [0] * 3, [0] * 3, np.array(polarity), SENSOR).p.tolist() == [0, 1, 1]


def test_other_polarity_is_refused() -> None:
    with pytest.raises(EventError, match="polarity 0/1, -1/1 or bool, got 2 at event 1"):
        Events.checked([0, 0], [0, 0], [0, 0], [1, 2], SENSOR)


@pytest.mark.parametrize(("x", "y"), [(10, 0), (0, 8), (-1, 0), (0, -3)])
def test_outside_is_refused_and_named(x: int, y: int) -> None:
    with pytest.raises(EventError, match=rf"1 of 2 events lie outside the 10x8 sensor.*event 1 at x={x}, y={y}"):
        Events.checked([0, x], [0, y], [0, 1], [0, 1], SENSOR)
    with pytest.warns(UserWarning, match="dropped"):
        assert len(Events.checked([0, x], [0, y], [0, 1], [0, 1], SENSOR, on_error="sort")) == 1


@pytest.mark.parametrize(("x", "y"), [(np.nan, 0), (0, np.inf)])
def test_coordinates_that_are_not_numbers_are_outside(x: float, y: float) -> None:
    with pytest.raises(EventError, match="1 of 2 events lie outside"):
        Events.checked([0.0, x], [0.0, y], [0, 1], [0, 1], SENSOR)


def test_time_backwards_is_refused_sorted_or_clamped() -> None:
    x, y, t, p = [0, 1, 2, 3], [0] * 4, [5, 3, 7, 6], [1] * 4
    with pytest.raises(EventError, match=r"backwards 2 times.*from 5 us to 3 us at event 1.*sort.*clamp"):
        Events.checked(x, y, t, p, SENSOR)
    with pytest.warns(UserWarning, match="mended by sort"):
        assert Events.checked(x, y, t, p, SENSOR, on_error="sort").x.tolist() == [1, 0, 3, 2]
    with pytest.warns(UserWarning, match="mended by clamp"):
        assert Events.checked(x, y, t, p, SENSOR, on_error="clamp").t.tolist() == [5, 5, 7, 7]
    with pytest.raises(EventError, match="on_error"):
        Events.checked(x, y, t, p, SENSOR, on_error="ignore")  # type: ignore[arg-type]


def test_seconds_by_mistake_are_refused() -> None:
    with pytest.raises(EventError, match="seconds"):
        Events.checked([0], [0], [0.25], [1], SENSOR)
    with pytest.raises(EventError, match="finite"):
        Events.checked([0], [0], [np.nan], [1], SENSOR)


def test_columns_of_two_lengths_are_refused() -> None:
    with pytest.raises(EventError, match="one length"):
        Events.checked([0, 1], [0], [0], [1], SENSOR)


@given(st.lists(st.integers(0, 50)), st.integers(-5, 60), st.integers(-5, 60))
def test_between_is_half_open(times: list[int], a: int, b: int) -> None:
    events = make(sorted(times))
    low, high = min(a, b), max(a, b)
    part = events.between(low, high)
    assert part.t.tolist() == [t for t in sorted(times) if low <= t < high]
    assert part.window == (low, high)
    assert part.t.base is not None or not len(part)


@pytest.mark.parametrize("order", ["txyp", "xytp", "xypt"])
def test_structured_round_trip(order: str) -> None:
    events = Events.checked([1, 9], [3, 4], [5, 6], [0, 1], SENSOR)
    back = Events.from_any(events.to_structured(order), SENSOR)
    for name in "xytp":
        np.testing.assert_array_equal(getattr(back, name), getattr(events, name))


def test_from_any_finds_columns() -> None:
    plain = np.array([[0.5, 3, 4, 1], [0.75, 5, 6, 0]])
    events = Events.from_any(plain, unit="s")
    assert events.t.tolist() == [500_000, 750_000]
    assert (events.sensor.width, events.sensor.height, events.sensor.inferred) == (6, 7, True)
    other = Events.from_any({"xs": [1], "ys": [2], "timestamps": [3], "polarity": [True]})
    assert (other.x[0], other.y[0], other.t[0], other.p[0]) == (1, 2, 3, 1)
    with pytest.raises(EventError, match="no p among"):
        Events.from_any({"x": [1], "y": [2], "t": [3]})
    with pytest.raises(EventError, match=r"\(N, 4\)"):
        Events.from_any(np.zeros((3, 5)))


def test_input_is_not_written_to() -> None:
    t = np.array([3, 1, 2])
    with pytest.warns(UserWarning, match="backwards"):
        Events.checked([0] * 3, [0] * 3, t, [1] * 3, SENSOR, on_error="sort")
    assert t.tolist() == [3, 1, 2]


def test_collate_keeps_samples_apart() -> None:
    first, second = make([1, 2]).between(0, 10), make([5]).between(5, 7)
    batch = EventBatch.collate([first, second])
    assert batch.offsets.tolist() == [0, 2, 3]
    assert batch.t.tolist() == [1, 2, 5]
    assert batch.windows is not None
    assert batch.windows.tolist() == [[0, 10], [5, 7]]
    with pytest.raises(EventError, match="one sensor size"):
        EventBatch.collate([first, Events.empty(Sensor(3, 3))])


def test_events_pickle() -> None:
    events = pickle.loads(pickle.dumps(make([1, 2])))
    assert events.t.tolist() == [1, 2]


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (70000, 5)])
def test_impossible_sensor(size: tuple[int, int]) -> None:
    with pytest.raises(EventError, match="1 to 65536"):
        Sensor(*size)
