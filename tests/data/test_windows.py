from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfm.config import ConfigError
from eventfm.data.windows import (
    Window,
    WindowConfig,
    WindowError,
    before,
    cut,
    frame_difference,
    grey,
    is_covered,
    read,
    shifted,
    spread,
)
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack

SENSOR = Sensor(4, 3)


def recording(times: list[int], frame_times: list[int] | None = None) -> ArrayRecording:
    zeros = [0] * len(times)
    tracks = {}
    if frame_times is not None:
        frames = [np.full((3, 4), 10 * i, np.uint8) for i in range(len(frame_times))]
        tracks["frames"] = ArrayTrack(frame_times, frames)
    return ArrayRecording(Events.checked(zeros, zeros, times, zeros, SENSOR), tracks)


def by_time(duration: int, stride: int | None = None, **more: bool) -> WindowConfig:
    return WindowConfig(by="time", duration_us=duration, stride_us=stride, **more)


def test_time_windows_fit_and_tile() -> None:
    windows = cut(recording([10, 55, 99]), by_time(30))
    assert windows == [Window(10, 40), Window(40, 70), Window(70, 100)]
    assert cut(recording([10, 98]), by_time(30))[-1] == Window(40, 70)
    assert cut(recording([10, 55]), by_time(30, stride=10)) == [Window(10, 40), Window(20, 50)]


def test_short_recording_gives_one_whole_window() -> None:
    assert cut(recording([10, 15]), by_time(30)) == [Window(10, 40)]


@pytest.mark.parametrize("by", ["time", "count", "whole"])
def test_no_events_no_windows(by: str) -> None:
    empty = recording([])
    assert cut(empty, WindowConfig(by=by)) == []
    with pytest.raises(WindowError, match="empty"):
        spread(empty, WindowConfig(by=by), 3)


def test_count_windows_hold_their_number() -> None:
    source = recording(list(range(0, 70, 10)))
    windows = cut(source, WindowConfig(by="count", num_events=3))
    assert [read(source, window).t.tolist() for window in windows] == [[0, 10, 20], [30, 40, 50]]
    assert read(source, windows[0]).window == (0, 21)
    few = cut(source, WindowConfig(by="count", num_events=100))
    assert len(read(source, few[0])) == 7


def test_frame_windows_hold_exactly_the_events_that_their_frames_bound() -> None:
    source = recording([100, 101, 200, 201, 300], frame_times=[100, 200, 300, 900])
    config = WindowConfig(by="frames")
    windows = cut(source, config)
    assert [w.frames for w in windows] == [(0, 1), (1, 2)]
    assert [read(source, w).t.tolist() for w in windows] == [[101, 200], [201, 300]]
    np.testing.assert_allclose(frame_difference(source, windows[0]), np.full((3, 4), 10 / 255), rtol=1e-6)
    assert [w.frames for w in cut(source, WindowConfig(by="frames", frame_gap=2))] == [(0, 2)]
    with pytest.raises(WindowError, match="with frames"):
        cut(recording([1, 2]), config)


def at_frames(**values: object) -> WindowConfig:
    return WindowConfig(by="frame", **values)


def test_a_window_for_each_frame_from_it_on_or_up_to_it() -> None:
    source = recording(list(range(0, 100, 10)), frame_times=[0, 40, 60, 90, 300])
    after = cut(source, at_frames(duration_us=30))
    assert [(w.start, w.stop, w.frames) for w in after] == [(0, 30, (0, 0)), (40, 70, (1, 1)), (60, 90, (2, 2))]
    assert read(source, after[1]).t.tolist() == [40, 50, 60]
    before = cut(source, at_frames(duration_us=30, frame_at="end"))
    assert [(w.start, w.stop, w.frames) for w in before] == [(11, 41, (1, 1)), (31, 61, (2, 2)), (61, 91, (3, 3))]
    assert read(source, before[0]).t.tolist() == [20, 30, 40]
    assert shifted(after[0], source, at_frames(duration_us=30), np.random.default_rng(0)) == after[0]
    assert len(spread(source, at_frames(duration_us=30), 7)) == 7
    with pytest.raises(WindowError, match="windows at frames"):
        cut(recording([1, 2]), at_frames())


def test_windows_at_frames_by_count_hold_their_number_beside_the_frame() -> None:
    source = recording(list(range(0, 100, 10)), frame_times=[0, 40, 90])
    for frame_at, want in (("start", [[0, 10, 20], [40, 50, 60]]), ("end", [[20, 30, 40], [70, 80, 90]])):
        config = at_frames(length="count", num_events=3, max_us=50, frame_at=frame_at)
        found = [read(source, window) for window in cut(source, config)]
        assert [events.t.tolist() for events in found] == want
        edge = [events.window[0] if frame_at == "start" else events.window[1] - 1 for events in found]
        assert edge == ([0, 40] if frame_at == "start" else [40, 90])


def test_adaptive_windows_are_as_long_as_the_motion_asks_for() -> None:
    # One patch of 4x3 pixels: three events in it are 64 per 256 pixels.
    source = recording([0, 1, 2, 50, 80, 90, 95, 99], frame_times=[0, 40])
    config = at_frames(length="adaptive", max_us=60, active_share=1.0)
    windows = cut(source, config)
    assert [(w.start, w.stop) for w in windows] == [(0, 60), (40, 100)]
    assert [read(source, w).window for w in windows] == [(0, 3), (40, 91)]
    lazy = at_frames(length="adaptive", max_us=60, active_share=1.0, active_threshold=200)
    assert [read(source, w).window for w in cut(source, lazy)] == [(0, 60), (40, 100)]


def with_track(name: str, times: list[int], **more: list[int]) -> ArrayRecording:
    """Return events from 0 to 99, ten microseconds apart, and a track of empty maps, more of them by name."""
    plain = recording(list(range(0, 100, 10)))
    tracks = {key: ArrayTrack(each, np.zeros((len(each), 3, 4))) for key, each in {name: times, **more}.items()}
    return ArrayRecording(plain.events(0, 100), tracks)


def test_windows_at_the_entries_of_any_track() -> None:
    source = with_track("semantic", [40, 60, 90, 300], frames=[0, 35, 90])
    config = at_frames(duration_us=30, frame_at="end", track="semantic")
    windows = cut(source, config)
    assert [(w.start, w.stop, w.entry) for w in windows] == [(11, 41, 0), (31, 61, 1), (61, 91, 2)]
    # They are no frames: who asks for frames is not to be given the semantic ones' numbers.
    assert {w.frames for w in windows} == {None}
    assert read(source, windows[1]).t.tolist() == [40, 50, 60]
    assert [w.entry for w in cut(source, at_frames(duration_us=30, track="semantic"))] == [0, 1]
    between = cut(source, WindowConfig(by="frames", track="semantic", frame_gap=2))
    assert [(w.start, w.stop, w.entry, w.frames) for w in between] == [(41, 91, 0, None)]
    frames = cut(source, at_frames(duration_us=30, frame_at="end"))
    assert [(w.entry, w.frames) for w in frames] == [(1, (1, 1)), (2, (2, 2))]
    with pytest.raises(WindowError, match=r"a track 'depth' for windows at its entries, got tracks .*'semantic'"):
        cut(source, at_frames(track="depth"))


FLOW = WindowConfig(by="frames", track="flow")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # As simulated: one flow fewer than frames, each until the next frame.
        (with_track("flow", [0, 30, 60], frames=[0, 30, 60, 90]), [(0, 30), (30, 60), (60, 90)]),
        # Every third frame only: until the frame after it, and not until the next flow.
        (with_track("flow", [0, 60], frames=[0, 20, 40, 60, 80]), [(0, 20), (60, 80)]),
        # The last flow begins with the last frame: nobody knows its end.
        (with_track("flow", [0, 60], frames=[0, 60]), [(0, 60)]),
        # No frames, or other times than theirs: one after the other, the last without an end.
        (with_track("flow", [0, 30, 60]), [(0, 30), (30, 60)]),
        (with_track("flow", [5, 35, 65], frames=[0, 30, 60, 90]), [(5, 35), (35, 65)]),
        (with_track("flow", [70]), []),
    ],
)
def test_a_flow_holds_until_the_next_frame_or_flow(source: ArrayRecording, expected: list[tuple[int, int]]) -> None:
    windows = cut(source, FLOW)
    assert [(w.start - 1, w.stop - 1) for w in windows] == expected  # events of (start, end]
    assert [w.entry for w in windows] == list(range(len(expected)))


def test_a_flow_may_say_itself_until_when_it_holds() -> None:
    plain = with_track("flow", [0, 20, 50], frames=[0, 20, 50, 80])
    ends = ArrayTrack([0, 20, 50], np.array([40, 60, 95]))
    source = ArrayRecording(plain.events(0, 100), {**plain.tracks, "flow_until": ends})
    assert [(w.start - 1, w.stop - 1) for w in cut(source, FLOW)] == [(0, 40), (20, 60), (50, 95)]
    other = ArrayRecording(plain.events(0, 100), {**plain.tracks, "flow_until": ArrayTrack([0], [40])})
    with pytest.raises(WindowError, match="an entry of flow_until for each of flow, at the same times, got 1 for 3"):
        cut(other, FLOW)
    with pytest.raises(ConfigError, match="expected frame_gap=1"):
        WindowConfig.parse({"by": "frames", "track": "flow", "frame_gap": 2})


def test_the_window_before() -> None:
    source = recording([100, 140, 199])
    assert before(Window(150, 180, entry=3)) == Window(120, 150)
    # The recording lasts from 100 to 199: three quarters of the time before have to be in it.
    assert is_covered(source, before(Window(140, 180)))
    assert is_covered(source, before(Window(130, 170)))
    assert not is_covered(source, before(Window(129, 169)))
    assert not is_covered(source, before(Window(100, 140)))


def test_difference_of_logarithms() -> None:
    first, second = np.array([[0, 51, 255]], np.uint8), np.array([[255, 51, 0]], np.uint8)
    events = Events.checked([0, 0], [0, 0], [1, 10], [0, 0], Sensor(3, 1))
    source = ArrayRecording(events, {"frames": ArrayTrack([0, 10], [first, second])})
    (window,) = cut(source, WindowConfig(by="frames"))
    ratio = (1 + 1 / 255) / (1 / 255)
    np.testing.assert_allclose(frame_difference(source, window, "log"), [[np.log(ratio), 0, -np.log(ratio)]], rtol=1e-5)
    np.testing.assert_array_equal(frame_difference(source, window), [[1, 0, -1]])


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=50).map(sorted),
    st.integers(1, 400),
    st.integers(0, 2**32),
    st.sampled_from(["time", "count"]),
)
def test_jitter_stays_inside_and_keeps_the_length(times: list[int], length: int, seed: int, by: str) -> None:
    source = recording(times)
    config = WindowConfig(by=by, duration_us=length, num_events=length)
    rng = np.random.default_rng(seed)
    low, high = (0, len(times)) if by == "count" else (times[0], times[-1] + 1)
    for window in cut(source, config):
        moved = shifted(window, source, config, rng)
        assert moved.stop - moved.start == length
        assert moved == window or low <= moved.start <= moved.stop <= high
        assert abs(moved.start - window.start) <= length // 2


def test_jitter_keeps_off_what_is_held_out() -> None:
    source, config = recording(list(range(0, 1000, 10))), by_time(100)
    window = Window(300, 400, limit=410)
    moved = [shifted(window, source, config, np.random.default_rng(seed)) for seed in range(200)]
    assert max(w.stop for w in moved) == 410
    assert min(w.start for w in moved) < 270
    assert all(w.stop - w.start == 100 for w in moved)


def test_frames_must_be_as_large_as_the_sensor() -> None:
    frames = ArrayTrack([0, 10], [np.zeros((6, 8), np.uint8)] * 2)
    events = Events.checked([0, 0], [0, 0], [1, 10], [0, 0], SENSOR)
    source = ArrayRecording(events, {"frames": frames})
    (window,) = cut(source, WindowConfig(by="frames"))
    with pytest.raises(WindowError, match=r"as large as the sensor, 4x3 pixels, got 8x6; .*data\.target=events"):
        frame_difference(source, window)


@pytest.mark.parametrize("key", ["duration_us", "stride_us", "num_events", "frame_gap"])
def test_lengths_are_above_zero(key: str) -> None:
    with pytest.raises(ConfigError, match=f"'{key}'.*greater than 0"):
        WindowConfig.parse({key: 0})


def test_jitter_reaches_all_places() -> None:
    source = recording([0, 99])
    config = by_time(30)
    rng = np.random.default_rng(0)
    starts = {shifted(Window(30, 60), source, config, rng).start for _ in range(2000)}
    assert starts == set(range(15, 46))
    still = by_time(30, jitter=False)
    assert shifted(Window(30, 60), source, still, rng) == Window(30, 60)


def test_spread_reaches_both_ends() -> None:
    source = recording([0, 299])
    assert spread(source, by_time(100), 3) == [Window(0, 100), Window(100, 200), Window(200, 300)]
    assert spread(source, by_time(100), 2) == [Window(0, 100), Window(200, 300)]
    assert spread(source, WindowConfig(by="whole"), 2) == [Window(0, 300)] * 2


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (np.full((2, 2), 255, np.uint8), 1.0),
        (np.full((2, 2), 65535, np.uint16), 1.0),
        (np.full((2, 2, 3), 51, np.uint8), 0.2),
        (np.full((2, 2, 1), 0.5, np.float32), 0.5),
        (np.array([[[255, 0, 0]]], np.uint8), 0.299),
    ],
)
def test_grey(picture: np.ndarray, expected: float) -> None:
    values = grey(picture)
    assert values.dtype == np.float32
    assert values.shape == picture.shape[:2]
    np.testing.assert_allclose(values, expected, rtol=1e-5)
