"""What is written in the layout of DSEC reads back equal, and has that layout."""

import h5py
import hdf5plugin  # noqa: F401  (registers blosc)
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack, FormatError, convert, dsec_writer, open_recording
from eventfm.io.writers import target_suffix

BLOSC = 32001
SENSOR = Sensor(40, 30)
MOST_US = 2**32 - 1


def make(t, sensor=SENSOR):
    rng = np.random.default_rng(len(t))
    x, y, p = (rng.integers(0, limit, len(t)) for limit in (sensor.width, sensor.height, 2))
    return Events.checked(x, y, np.array(t, np.int64), p, sensor)


def write(events, folder):
    return convert(ArrayRecording(events), folder / "a.h5", to="dsec")


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_random_events_read_back(tmp_path_factory, data):
    size = data.draw(st.sampled_from([(40, 30), (640, 480), (1, 1), (65536, 65536)]))
    name = data.draw(st.text(st.characters(exclude_characters="\0"), max_size=5).filter(encodes))
    sensor = Sensor(*size, name, data.draw(st.booleans()))
    gaps = st.one_of(st.integers(0, 3), st.integers(900, 1100), st.integers(0, 200_000))
    start = data.draw(st.sampled_from([-(1 << 40), -1, 0, 999, 1 << 33, 1_589_163_005_536_052]))
    events = make(start + np.cumsum(np.array(data.draw(st.lists(gaps, max_size=40)), np.int64)), sensor)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dsec_writer, "_PIECE", 7)
        path = write(events, tmp_path_factory.mktemp("written"))
    found = open_recording(path)
    assert (found.format, found.sensor, found.num_events) == ("dsec", sensor, len(events))
    windows = [(-(1 << 60), 1 << 60)]
    if len(events):
        first, last = found.t_range
        cuts = st.integers(first - 2000, last + 2000)
        windows += [tuple(sorted((data.draw(cuts), data.draw(cuts)))) for _ in range(3)]
    for t0, t1 in windows:
        for column in "xytp":
            np.testing.assert_array_equal(
                getattr(found.events(t0, t1), column), getattr(events.between(t0, t1), column), column
            )


def encodes(name):
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def test_the_layout_is_that_of_dsec(tmp_path):
    t = 49_599_300_523 + np.cumsum(np.random.default_rng(0).integers(0, 700, 500))
    events = make(t)
    with h5py.File(write(events, tmp_path)) as file:
        assert set(file) == {"events", "ms_to_idx", "t_offset"}
        assert {name: column.dtype.str for name, column in file["events"].items()} == {
            "p": "|u1", "x": "<u2", "y": "<u2", "t": "<u4",
        }  # fmt: skip
        assert file["ms_to_idx"].dtype == np.uint64
        assert int(file["t_offset"][()]) == t[0]
        for name in "pxyt":
            # The last three of the options: level, shuffle by bytes, zstd.
            options = file[f"events/{name}"].id.get_create_plist().get_filter(0)
            assert (options[0], options[2][4:7]) == (BLOSC, (1, 1, 5))
        relative = (t - t[0]).tolist()
        index = file["ms_to_idx"][()].tolist()
        assert len(index) == relative[-1] // 1000 + 1
        for ms, i in enumerate(index):
            assert i == sum(time < 1000 * ms for time in relative)


def test_a_tool_for_dsec_finds_the_events_of_a_window(tmp_path):
    # What such tools do: two look-ups by whole milliseconds, and then a search among what lies between.
    events = make(7_000_000_000 + np.cumsum(np.random.default_rng(1).integers(0, 90, 3000)))
    with h5py.File(write(events, tmp_path)) as file:
        offset, index = int(file["t_offset"][()]), file["ms_to_idx"][()].astype(np.int64)
        for begin, end in [(3_300, 9_050), (0, 1), (40_000, 90_001), (12_000, 13_000)]:
            low, high = index[begin // 1000], index[-(-end // 1000)]
            near = file["events/t"][low:high].astype(np.int64)
            t = near[(near >= begin) & (near < end)] + offset
            np.testing.assert_array_equal(t, events.between(offset + begin, offset + end).t)


@pytest.mark.parametrize("times", [[], [1 << 45], [-3]])
def test_none_or_one(times, assert_contract, tmp_path):
    events = make(times)
    assert_contract(open_recording(write(events, tmp_path)), events)


def test_times_fill_32_bits_and_no_more(tmp_path):
    events = make([5, 6, 5 + MOST_US])
    assert open_recording(write(events, tmp_path)).events_by_index(0, 3).t.tolist() == [5, 6, 5 + MOST_US]
    (tmp_path / "a.h5").unlink()
    with pytest.raises(FormatError, match=r"at most 4294967295 us .* for DSEC.* got 4294967296; the native store"):
        write(make([5, 6, 6 + MOST_US]), tmp_path)
    assert not list(tmp_path.iterdir())


def test_tracks_are_left_behind_with_a_warning(tmp_path):
    recording = ArrayRecording(make([1, 2]), {"frames": ArrayTrack([1], [[2]])})
    with pytest.warns(UserWarning, match="DSEC cannot hold the tracks frames"):
        found = open_recording(convert(recording, tmp_path / "a.h5", to="dsec"))
    assert not found.tracks


def test_an_error_in_the_middle_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(dsec_writer, "_PIECE", 2)
    whole = ArrayRecording(make([1, 2, 3, 4]))

    class Broken(ArrayRecording):
        def events_by_index(self, start, stop):
            if start:
                raise OSError("the disk is gone")
            return super().events_by_index(start, stop)

    with pytest.raises(OSError, match="the disk is gone"):
        convert(Broken(whole.events_by_index(0, 4)), tmp_path / "a.h5", to="dsec")

    class Back(ArrayRecording):
        def events_by_index(self, start, stop):
            return super().events_by_index(0, 2)

    with pytest.raises(FormatError, match="time goes backwards from 2 us to 1 us"):
        convert(Back(whole.events_by_index(0, 4)), tmp_path / "a.h5", to="dsec")
    assert not list(tmp_path.iterdir())


def test_the_suffix_is_that_of_hdf5_and_alone_means_the_native_store(tmp_path):
    assert target_suffix("dsec") == ".h5"
    assert open_recording(convert(ArrayRecording(make([1])), tmp_path / "a.h5")).format == "eventfm"
