"""Summaries, and recordings from format to format."""

import errno
import json
import tracemalloc

import numpy as np
import pytest

from eventfm.events import Events, Sensor
from eventfm.io import (
    ArrayRecording,
    ArrayTrack,
    FormatError,
    WriteError,
    convert,
    detect_format,
    open_recording,
    summarise,
)
from eventfm.io.summary import rate_curve, summary_lines
from eventfm.io.writers import WRITERS, target_format, target_suffix


@pytest.fixture
def recording(make_events):
    events = make_events(start_us=1_663_249_605_734_020)
    events = Events(events.x, events.y, events.t, events.p, Sensor(64, 48))
    tracks = {
        "frames": ArrayTrack(events.t[:2], np.arange(2 * 48 * 64, dtype=np.uint16).reshape(2, 48, 64)),
        "boxes": ArrayTrack(events.t[:2], [np.zeros((1, 4)), np.ones((2, 4))]),
        "none": ArrayTrack([], []),
    }
    return ArrayRecording(events, tracks), events


def test_summary_is_ready_for_json(recording):
    original, events = recording
    first, last = int(events.t[0]), int(events.t[-1])
    curve = np.histogram(events.t - first, np.arange(0, 62_000, 1000))[0].tolist()
    assert json.loads(json.dumps(summarise(original))) == {
        "format": "memory",
        "num_events": 500,
        "t_first_us": first,
        "t_last_us": last,
        "duration_us": 60_001,
        "mean_rate_hz": pytest.approx(500 / 0.060001),
        "peak_rate_hz": max(curve) * 1000,
        "rate_curve": {"bin_us": 1000, "events": curve},
        "sensor": {"width": 64, "height": 48, "inferred": False},
        "tracks": {"frames": 2, "boxes": 2, "none": 0},
        "track_times_us": {
            "frames": [first, int(events.t[1])],
            "boxes": [first, int(events.t[1])],
            "none": None,
        },
    }


def test_summary_without_events():
    found = summarise(ArrayRecording(Events.empty(Sensor(1, 1, inferred=True))))
    assert (found["num_events"], found["t_first_us"], found["t_last_us"]) == (0, 0, -1)
    assert found["sensor"]["inferred"] is True
    assert (found["duration_us"], found["mean_rate_hz"], found["peak_rate_hz"]) == (0, 0.0, 0.0)
    assert found["rate_curve"]["events"] == []


@pytest.mark.parametrize(("span_us", "bins", "bin_us"), [
    (1, 1, 1000), (1000, 1, 1000), (1001, 2, 1000), (100_000, 100, 1000), (100_001, 100, 1001), (10**15, 100, 10**13),
])  # fmt: skip
def test_the_rate_curve_has_at_most_100_bins_of_a_millisecond(span_us, bins, bin_us, monkeypatch):
    monkeypatch.setattr("eventfm.io.summary._PIECE", 2)
    t = np.array([7, 7, 7 + span_us // 2, 7 + span_us - 1])
    zeros = np.zeros(4, int)
    length, counts = rate_curve(ArrayRecording(Events.checked(zeros, zeros, t, zeros, Sensor(4, 4))))
    assert (length, len(counts), sum(counts)) == (bin_us, bins, 4)
    expected = np.zeros(bins, int)
    np.add.at(expected, (t - 7) // bin_us, 1)
    assert counts == expected.tolist()


class Long(ArrayRecording):
    """Events that are made when a slice asks for them, one each microsecond and then one each ten."""

    def __init__(self, num_events):
        super().__init__(Events.empty(Sensor(4, 4)))
        self.num_events, self._half = num_events, num_events // 2
        self.t_range = (5, 5 + self._half - 1 + 10 * (num_events - self._half))

    def events_by_index(self, start, stop):
        n = np.arange(start, min(stop, self.num_events))
        t = 5 + np.minimum(n, self._half - 1) + 10 * np.maximum(n - self._half + 1, 0)
        zeros = np.zeros(len(n), np.uint8)
        return Events(zeros.astype(np.uint16), zeros.astype(np.uint16), t, zeros, self.sensor)


def test_memory_is_bounded_whatever_the_length_and_the_curve_exact():
    recording = Long(1_200_000)
    rate_curve(Long(10))
    tracemalloc.start()
    bin_us, counts = rate_curve(recording)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20
    t = recording.events_by_index(0, 1_200_000).t
    assert counts == np.bincount((t - 5) // bin_us).tolist()
    assert (sum(counts), len(counts)) == (1_200_000, 100)


def test_lines_for_people(recording):
    lines = summary_lines({**summarise(recording[0]), "rate_curve": {"bin_us": 1000, "events": [0, 1, 4, 8]}})
    assert lines[0] == "  events  500 in 0.060001 s, from 1663249605734020 us"
    assert lines[1] == "  sensor  64x48"
    assert lines[3] == "          | ▁▄█|"
    assert lines[-1] == "  none    0"
    plain = summary_lines({**summarise(recording[0]), "rate_curve": {"bin_us": 1000, "events": [3] * 99}}, plain=True)
    assert plain[3] == f"          |{'@' * 49}=|"
    assert all(line.isascii() for line in plain)
    assert len(summary_lines(summarise(ArrayRecording(Events.empty(Sensor(1, 1)))))) == 2


def test_the_store_keeps_everything(tmp_path, recording, assert_contract, recwarn):
    original, events = recording
    found = open_recording(convert(original, tmp_path / "a.h5"))
    assert not recwarn.list
    assert {**summarise(found), "format": "memory"} == summarise(original)
    np.testing.assert_array_equal(found.tracks["boxes"].read(1), np.ones((2, 4)))
    assert_contract(found, events)


@pytest.mark.parametrize(
    ("suffix", "kept", "lost"),
    [
        (".npz", {"frames": 2, "none": 0}, "boxes"),
        (".npy", {}, "boxes, frames, none"),
        (".txt", {}, "boxes, frames, none"),
    ],
)
def test_other_formats_keep_what_they_can_and_name_the_rest(tmp_path, recording, assert_contract, suffix, kept, lost):
    original, events = recording
    with pytest.warns(UserWarning, match=f"cannot hold the tracks {lost};"):
        path = convert(original, tmp_path / f"a{suffix}")
    found = open_recording(path)
    assert summarise(found)["tracks"] == kept
    if suffix != ".npy":  # a structured array has no room for the size
        assert found.sensor == Sensor(64, 48)
    if "frames" in kept:
        np.testing.assert_array_equal(found.tracks["frames"].read(1), original.tracks["frames"].read(1))
        assert found.tracks["frames"].read(1).dtype == np.uint16
    assert_contract(found, events)


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".npy", ".txt"])
@pytest.mark.parametrize("count", [0, 1, 500])
def test_chain_of_conversions(tmp_path, make_events, assert_contract, suffix, count, monkeypatch):
    monkeypatch.setattr("eventfm.io.writers.PIECE", 70)
    events = make_events(500).take(0, count)
    first = convert(ArrayRecording(events), tmp_path / f"a{suffix}")
    second = convert(first, tmp_path / "b.h5")
    assert_contract(open_recording(second), events)


def test_an_inferred_size_stays_inferred(tmp_path, make_events):
    events = make_events()
    inferred = Events(events.x, events.y, events.t, events.p, Sensor(40, 30, inferred=True))
    for suffix in (".h5", ".npz", ".npy", ".txt"):
        assert open_recording(convert(ArrayRecording(inferred), tmp_path / f"a{suffix}")).sensor.inferred


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".npy", ".txt"])
def test_targets_are_never_replaced_unasked_nor_half_written(tmp_path, monkeypatch, make_events, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        convert(ArrayRecording(make_events()), path)

    def full_disk(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(WriteError, match="No space left"):
        convert(ArrayRecording(make_events()), path, overwrite=True)
    monkeypatch.undo()
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]
    convert(ArrayRecording(make_events()), path, overwrite=True)
    assert open_recording(path).num_events == 500


def test_unknown_targets_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(FormatError, match=r"\.h5, \.hdf5, \.npz, .*got 'a\.mat'"):
        convert(tmp_path / "no_such_file", tmp_path / "a.mat")
    with pytest.raises(FormatError, match=r"eventfm.*got 'matlab'"):
        convert(tmp_path / "no_such_file", tmp_path / "a.h5", to="matlab")


def test_a_format_by_name_wins_over_the_suffix(tmp_path, make_events, assert_contract):
    events = make_events()
    assert detect_format(convert(ArrayRecording(events), tmp_path / "a.data", to="npy")) == "numpy"
    assert_contract(open_recording(convert(ArrayRecording(events), tmp_path / "b", to=".h5")), events)


def test_every_writer_has_a_suffix_and_every_suffix_a_writer(tmp_path, make_events):
    events = ArrayRecording(make_events())
    for name in WRITERS:
        suffix = target_suffix(name)
        assert target_format(f"a{suffix}", name) == name
        path = tmp_path / f"{name}{suffix}"
        WRITERS.get(name)(path, events, False)
        assert path.stat().st_size > 500
        with pytest.raises(FileExistsError):
            WRITERS.get(name)(path, events, False)
    with pytest.raises(FormatError):
        target_suffix("nothing")


def test_on_error_reaches_the_reader(tmp_path):
    (tmp_path / "a.txt").write_text("200 10 10 0\n100 2 2 1\n300 3 3 1\n")
    with pytest.raises(ValueError, match="goes backwards"):
        convert(tmp_path / "a.txt", tmp_path / "a.h5")
    with pytest.warns(UserWarning, match="mended by sort"):
        convert(tmp_path / "a.txt", tmp_path / "a.h5", on_error="sort")
    assert open_recording(tmp_path / "a.h5").events(0, 999).t.tolist() == [100, 200, 300]
