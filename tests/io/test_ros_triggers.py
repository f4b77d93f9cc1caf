"""Triggers of ROS bags: packets of their own, and those among the words of EVT3."""

import itertools
import pickle
import struct

import numpy as np
import pytest

pytest.importorskip("rosbags")

import rosbag_files as files
from rosbag_files import EPOCH_US, NS, array_topic, encoded, packet_topic

from eventfm.io import open_recording, rosbag
from eventfm.io.contract import DamagedFileError


@pytest.fixture
def events(make_events):
    """Random events with times of the Unix epoch."""
    return make_events(count=400, start_us=EPOCH_US)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(rosbag, "_BLOCK_BYTES", 600)


def trigger_rows(track):
    return [(int(t), *track.read(i).tolist()) for i, t in enumerate(track.times)]


@pytest.mark.parametrize("container", files.CONTAINERS)
def test_triggers_among_the_events(tmp_path, events, assert_contract, small_blocks, container):
    """Each packet begins with a trigger: the first at the time of its first event, the others at that of the last."""
    numbers = itertools.count()
    words, expected, last = encoded(events)["evt3"], [], [EPOCH_US]

    def payload(part):
        number, at = next(numbers), last.pop()
        expected.append((at, number % 2, 15 - number))
        last.append(int(part.t[-1]))
        signal = files.evt3_trigger(at - EPOCH_US + 5_000_000, *expected[-1][1:])
        return "evt3", (signal[-2:] if number else signal) + words(part)[1], 0

    kind, messages = packet_topic(container, events, payload)
    raw = files.Messages(container != "bag").packet("trigger", struct.pack("<Q", 7_000), EPOCH_US * NS)
    topics = {"/cam/events": (kind, messages), "/cam/trigger": (files.PACKET, [(EPOCH_US * NS, raw)])}
    recording = open_recording(files.write_bag(tmp_path / "a", container, topics))
    assert len(recording._blocks) > 2
    assert_contract(recording, events)
    assert set(recording.tracks) == {"triggers", "/cam/trigger"}
    again = pickle.loads(pickle.dumps(recording))
    assert trigger_rows(again.tracks["triggers"]) == expected
    assert trigger_rows(again.tracks["/cam/trigger"]) == [(EPOCH_US + 7, 0, 0)]


def test_triggers_and_no_events(tmp_path, small_blocks):
    """The first packet says where the clock stands, be there events or not."""
    make = files.Messages(True)
    times = [(i, 5_000_000 + 9_000 * i) for i in range(40)]
    messages = [
        ((EPOCH_US + i) * NS, make.packet("evt3", files.evt3_trigger(t, i % 2, 3) + bytes(60), EPOCH_US * NS))
        for i, t in times
    ]
    recording = open_recording(files.write_bag(tmp_path / "a", "db3", {"/e": (files.PACKET, messages)}))
    assert (recording.num_events, recording.t_range) == (0, (0, -1))
    assert trigger_rows(recording.tracks["triggers"]) == [(EPOCH_US + 9_000 * i, i % 2, 3) for i, _ in times]


def test_triggers_beyond_all_times_are_refused(tmp_path, events):
    raw = files.Messages(False).packet("trigger", bytes(8), base=(1 << 64) - 1)
    topics = {"/e": array_topic("bag", events), "/t": (files.PACKET, [(5, raw)])}
    track = open_recording(files.write_bag(tmp_path / "a", "bag", topics)).tracks["triggers"]
    with pytest.raises(DamagedFileError, match="/t: an event packet with a time base of 18446744073709551615 ns"):
        _ = track.times


def test_triggers_of_a_real_file_are_those_that_the_decoder_of_the_driver_finds(real_data):
    """Sums of times (of the sensor, us), edges and channels as the tests of `event_camera_codecs` state them."""
    recording = open_recording(real_data / "formats/ros2_evt3")
    events, track = recording.events_by_index(0, recording.num_events), recording.tracks["triggers"]
    sums = [int(column.sum(dtype=np.int64)) for column in (events.x, events.y, events.p)]
    assert sums == [42_078_718, 31_656_267, 41_439]
    shift, rest = divmod(sum(events.t.tolist()) - 1_222_326_831_810, len(events))
    assert rest == 0
    assert int((track.times - shift).sum()) == 29_096_982
    assert np.sum([track.read(i) for i in range(len(track))], 0).tolist() == [1, 0]
