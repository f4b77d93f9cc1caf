"""What is written as AEDAT4 reads back equal, here and by the packages of others."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack, FormatError, aedat4_writer, convert, flatbuffer, open_recording
from eventfm.io.aedat4_file import read_header, read_packet, walk

SENSOR = Sensor(40, 30, "a & <b> ü")
EPOCH_US = 1_589_163_005_536_052
TYPES = {
    0: (1, 5), 1: (1, 0), 2: (0, 0), 3: (1, 4), 4: (1, 1), 5: (0, 1), 6: (1, 2), 7: (0, 2), 8: (1, 3), 9: (0, 3),
    10: (1, 10), 127: (1, 127), -1: (1, -1), -128: (1, -128),
}  # fmt: skip
"""Edge and channel by the numbers that iniVation gives to its types of triggers; 0 to 9 are known."""
TRIGGERS = list(TYPES.values())
LONG_GAPS = st.one_of(st.integers(0, 3), st.integers(0, 5_000), st.integers(0, 1 << 40))


def times_of(data, count, start):
    gaps = data.draw(st.lists(LONG_GAPS, min_size=count, max_size=count))
    return start + np.cumsum(np.array(gaps, np.int64))


def tracks_of(data, start):
    """Any of the tracks that AEDAT4 holds, each with any number of entries."""
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    made = {
        "frames": lambda n: [
            rng.integers(0, 256, (*rng.integers(1, 9, 2), *[3] * rng.integers(0, 2)), dtype=np.uint8) for _ in range(n)
        ],
        "imu": lambda n: rng.normal(size=(n, 10)).astype(np.float32),
        "triggers": lambda n: np.array([TRIGGERS[i] for i in rng.integers(0, len(TRIGGERS), n)]).reshape(n, 2),
    }
    chosen = data.draw(st.dictionaries(st.sampled_from(sorted(made)), st.integers(0, 7)))
    return {name: ArrayTrack(times_of(data, n, start), made[name](n)) for name, n in chosen.items()}


def assert_tracks(found, expected):
    assert set(found) == set(expected)
    for name, track in expected.items():
        assert len(found[name]) == len(track.times)
        np.testing.assert_array_equal(found[name].times, track.times)
        for i in range(len(track.times)):
            entry = found[name].read(i)
            assert entry.dtype == track.read(i).dtype
            np.testing.assert_array_equal(entry, track.read(i))


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_recordings_read_back_equal(tmp_path_factory, data):
    width, height = data.draw(st.sampled_from([(40, 30), (1, 1), (32768, 32768)]))
    name = data.draw(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=5))
    sensor = Sensor(width, height, name, data.draw(st.booleans()))
    pixels = st.tuples(st.integers(0, width - 1), st.integers(0, height - 1), st.integers(0, 1))
    x, y, p = np.array(data.draw(st.lists(pixels, max_size=40)), np.int64).reshape(-1, 3).T
    start = data.draw(st.sampled_from([-(1 << 33), -5, 0, 1 << 33, EPOCH_US]))
    events = Events.checked(x, y, times_of(data, len(x), start), p, sensor)
    tracks = tracks_of(data, start)
    path = tmp_path_factory.mktemp("written") / "a.aedat4"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aedat4_writer, "_PIECE", 14)
        patch.setattr(aedat4_writer, "_EVENTS_PER_PACKET", 7)
        patch.setattr(aedat4_writer, "_SAMPLES_PER_PACKET", 3)
        convert(ArrayRecording(events, tracks), path)
    found = open_recording(path)
    assert (found.format, found.sensor, found.num_events) == ("aedat4", sensor, len(events))
    for column in "xytp":
        np.testing.assert_array_equal(
            getattr(found.events_by_index(0, len(events)), column), getattr(events, column), column
        )
    assert_tracks(found.tracks, tracks)


@pytest.fixture
def recording(make_events):
    """Events, frames of both kinds, inertial samples and triggers of the same half second, as of a DAVIS."""
    rng = np.random.default_rng(5)
    events = make_events(20_000, start_us=EPOCH_US, span_us=500_000)
    pictures = [rng.integers(0, 256, (30, 40, *rest), dtype=np.uint8) for rest in ((3,), (), ())]
    tracks = {
        "frames": ArrayTrack(EPOCH_US + np.array([100, 200_000, 499_000]), pictures),
        "imu": ArrayTrack(EPOCH_US + np.arange(500) * 1000, rng.normal(size=(500, 10)).astype(np.float32)),
        "triggers": ArrayTrack(EPOCH_US + np.arange(5, 15), TRIGGERS[:10]),
    }
    return ArrayRecording(Events(events.x, events.y, events.t, events.p, SENSOR), tracks)


def test_random_access_and_tracks(recording, assert_contract, tmp_path):
    found = open_recording(convert(recording, tmp_path / "a.aedat4"))
    assert found.sensor == SENSOR
    assert_contract(found, recording.events_by_index(0, recording.num_events))
    assert_tracks(found.tracks, recording.tracks)


def test_the_data_table_lists_the_packets_in_the_order_of_their_times(recording, tmp_path):
    path = convert(recording, tmp_path / "a.aedat4")
    header, data = read_header(path), path.read_bytes()
    assert header.stop is not None
    (tmp_path / "table").write_bytes(data[header.stop :])
    with path.open("rb") as file, (tmp_path / "table").open("rb") as rest:
        packets = list(walk(file, header, len(data)))
        contents = [read_packet(file, packet, header.compression) for packet in packets]
        table = read_packet(rest, packets[0]._replace(offset=0, size=len(data)), header.compression)
    rows = [
        [row.scalar(0, "q", 0), *(row.scalar(1, "q", 0) >> shift & 0xFFFFFFFF for shift in (0, 32))]
        + [row.scalar(field, "q", 0) for field in (2, 3, 4)]
        for row in flatbuffer.root(table, b"FTAB").tables(0)
    ]
    # In a packet of events, and only there, the items are 16 bytes and not offsets.
    kinds = [header.streams[packet.stream].kind for packet in packets]
    counts = [
        1 if kind == "FRME" else flatbuffer.root(content, kind.encode()).vector(0, 16 if kind == "EVTS" else 4)[1]
        for kind, content in zip(kinds, contents, strict=True)
    ]
    assert [row[:4] for row in rows] == [
        [packet.offset, packet.stream, packet.size, count] for packet, count in zip(packets, counts, strict=True)
    ]
    assert sum(counts[i] for i, kind in enumerate(kinds) if kind == "EVTS") == recording.num_events
    assert max(counts) <= 1 << 13
    lasts = [row[5] for row in rows]
    assert lasts == sorted(lasts)
    assert len(set(kinds)) == 4
    expected = {"EVTS": recording.t_range}
    for kind, name in (("FRME", "frames"), ("IMUS", "imu"), ("TRIG", "triggers")):
        times = recording.tracks[name].times
        expected[kind] = int(times[0]), int(times[-1])
    for kind, (first, last) in expected.items():
        spans = [row[4:] for row, found in zip(rows, kinds, strict=True) if found == kind]
        assert (spans[0][0], spans[-1][1]) == (first, last)
        assert all(a <= b for a, b in itertools.chain(spans, ((a[1], b[0]) for a, b in itertools.pairwise(spans))))


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_numbers_of_flatbuffers_lie_at_multiples_of_their_size(count):
    rows = np.zeros(count, [("small", "i1"), ("large", "<i8"), ("pair", "<i4", (2,))])
    rows["small"], rows["large"], rows["pair"] = range(count), range(-count, 0), np.arange(2 * count).reshape(-1, 2)
    data = flatbuffer.pack(b"TEST", [("i1", -3), ("<i8", 1 << 40), ("<i2", 7)], flatbuffer.tables(rows))
    root = flatbuffer.root(data, b"TEST")
    assert [root.scalar(0, "b", 0), root.scalar(1, "q", 0), root.scalar(2, "h", 0)] == [-3, 1 << 40, 7]
    found = root.tables(3)
    assert [one.scalar(0, "b", 9) for one in found] == list(range(count))
    assert [one.scalar(1, "q", 9) for one in found] == list(range(-count, 0))
    assert [one.scalar(2, "q", -1) for one in found] == [2 * i | (2 * i + 1) << 32 for i in range(count)]
    for table in (root, *found):
        assert (table._position + table._slots[1]) % 8 == 0
        assert table._position % 4 == 0
    assert int.from_bytes(data[:4], "little") == len(data) - 4
    assert root.vector(3, 4)[0] % 8 == 0


def test_the_package_aedat_reads_it(recording, tmp_path):
    peer = pytest.importorskip("aedat")
    found = {"events": [], "frame": [], "imus": [], "triggers": []}
    decoder = peer.Decoder(str(convert(recording, tmp_path / "a.aedat4")))
    streams = {stream["type"]: stream for stream in decoder.id_to_stream().values()}
    assert {(s["width"], s["height"]) for name, s in streams.items() if name in ("events", "frame")} == {(40, 30)}
    for packet in decoder:
        (kind,) = set(packet) & set(found)
        found[kind].append(packet[kind])
    rows, events = np.concatenate(found["events"]), recording.events_by_index(0, recording.num_events)
    for name, theirs in (("t", "t"), ("x", "x"), ("y", "y"), ("p", "on")):
        np.testing.assert_array_equal(rows[theirs].astype(np.int64), getattr(events, name))
    for i, frame in enumerate(found["frame"]):
        assert frame["t"] == frame["exposure_begin_t"] == recording.tracks["frames"].times[i]
        np.testing.assert_array_equal(frame["pixels"], recording.tracks["frames"].read(i))
    assert i == 2
    for kind, name in (("imus", "imu"), ("triggers", "triggers")):
        samples = np.concatenate(found[kind])
        np.testing.assert_array_equal(samples["t"].astype(np.int64), recording.tracks[name].times)
        values = np.stack([samples[field] for field in samples.dtype.names[1:]], 1)
        if name == "triggers":
            values = [TYPES[int(number)] for number in values[:, 0]]
        np.testing.assert_array_equal(values, [recording.tracks[name].read(k) for k in range(len(samples))])


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("inferred", [False, True])
def test_the_package_aedat_opens_nearly_empty_files(count, inferred, tmp_path):
    peer = pytest.importorskip("aedat")
    events = Events.checked([3] * count, [4] * count, [5] * count, [1] * count, Sensor(6, 7, inferred=inferred))
    decoder = peer.Decoder(str(convert(ArrayRecording(events), tmp_path / "a.aedat4")))
    assert [(s["width"], s["height"]) for s in decoder.id_to_stream().values()] == [(6, 7)]
    assert sum(len(packet["events"]) for packet in decoder) == count


def test_dv_processing_reads_it(recording, tmp_path):
    peer = pytest.importorskip("dv_processing")
    found = peer.io.MonoCameraRecording(str(convert(recording, tmp_path / "a.aedat4")))
    assert found.getEventResolution() == (40, 30)
    assert found.getCameraName() == SENSOR.name
    batches = list(iter(found.getNextEventBatch, None))
    rows, events = (
        np.concatenate([batch.numpy() for batch in batches]),
        recording.events_by_index(0, recording.num_events),
    )
    for name, theirs in (("t", "timestamp"), ("x", "x"), ("y", "y"), ("p", "polarity")):
        np.testing.assert_array_equal(rows[theirs], getattr(events, name))
    frames = recording.tracks["frames"]
    for i, frame in enumerate(iter(found.getNextFrame, None)):
        assert frame.timestamp == frames.times[i]
        image = frame.image[..., ::-1] if frame.image.ndim == 3 else frame.image
        np.testing.assert_array_equal(image, frames.read(i))
    assert i == 2
    samples = list(itertools.chain(*iter(found.getNextImuBatch, None)))
    assert [one.timestamp for one in samples] == recording.tracks["imu"].times.tolist()
    np.testing.assert_array_equal(
        [one.temperature for one in samples], [recording.tracks["imu"].read(i)[0] for i in range(len(samples))]
    )
    triggers = list(itertools.chain(*iter(found.getNextTriggerBatch, None)))
    assert [one.timestamp for one in triggers] == recording.tracks["triggers"].times.tolist()
    start, stop = recording.t_range[0] + 100_000, recording.t_range[0] + 200_000
    np.testing.assert_array_equal(
        found.getEventsTimeRange(start, stop).numpy()["timestamp"], recording.events(start, stop).t
    )


def test_real_files_are_written_again_without_loss(real_data, assert_same, tmp_path):
    source = open_recording(real_data / "pairs/davis346_street.aedat4")
    found = open_recording(convert(source, tmp_path / "a.aedat4"))
    assert found.sensor == source.sensor
    assert_same(found.events_by_index(0, found.num_events), source.events_by_index(0, source.num_events))
    assert set(source.tracks) == {"frames", "imu", "triggers"}
    assert_tracks(found.tracks, source.tracks)


OTHER = {
    "depth": [np.zeros((3, 4), np.float32)],
    "frames": [np.zeros((3, 4), np.uint16)],
    "imu": [np.zeros(6, np.float32)],
    "triggers": [np.zeros(1, np.int64)],
}


def test_tracks_of_another_form_are_left_behind_with_a_warning(make_events, tmp_path):
    recording = ArrayRecording(make_events(), {name: ArrayTrack([1], data) for name, data in OTHER.items()})
    with pytest.warns(UserWarning, match="AEDAT4 cannot hold the tracks depth, frames, imu, triggers"):
        found = open_recording(convert(recording, tmp_path / "a.aedat4"))
    assert not found.tracks


@pytest.mark.parametrize("other", [(0, 5), (2, 0), (0, 10), (1, 7), (1, 128), (1, -129)])
def test_triggers_of_which_it_has_no_type_are_left_behind(other, make_events, tmp_path):
    recording = ArrayRecording(make_events(), {"triggers": ArrayTrack([1, 2], [(1, 0), other])})
    with pytest.warns(UserWarning, match="AEDAT4 cannot hold the tracks triggers"):
        assert not open_recording(convert(recording, tmp_path / "a.aedat4")).tracks


def test_triggers_of_raw_come_along(make_events, tmp_path):
    rows = [(1, 0), (0, 0), (1, 0)]
    recording = ArrayRecording(make_events(), {"triggers": ArrayTrack([1, 2, 3], rows)})
    raw = open_recording(convert(recording, tmp_path / "a.raw"))
    found = open_recording(convert(raw, tmp_path / "a.aedat4"))
    again = open_recording(convert(found, tmp_path / "b.raw"))
    for one in (raw, found, again):
        assert [one.tracks["triggers"].read(i).tolist() for i in range(3)] == [list(row) for row in rows]
        assert one.tracks["triggers"].read(0).dtype == np.int64


GOOD = {"frames": np.zeros((3, 4), np.uint8), "imu": np.zeros(10, np.float32)}


@pytest.mark.parametrize("name", GOOD)
def test_an_entry_unlike_the_first_ends_it_and_leaves_nothing(name, make_events, tmp_path):
    track = ArrayTrack([1, 2, 3], [GOOD[name], GOOD[name], OTHER[name][0]])
    path = tmp_path / "a.aedat4"
    path.write_bytes(b"precious")
    with pytest.raises(FormatError, match=r"expected entry 2 to be.*got (uint16|float32|int64) of shape"):
        convert(ArrayRecording(make_events(), {name: track}), path, overwrite=True)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_a_sensor_too_large_is_refused(tmp_path):
    events = Events.checked([32768], [0], [0], [1], Sensor(32769, 1))
    with pytest.raises(FormatError, match="at most 32768 pixels a side for AEDAT4, got 32769x1"):
        convert(ArrayRecording(events), tmp_path / "a.aedat4")
    assert not list(tmp_path.iterdir())


class Endless:
    """Many events and large frames, made when asked for; time goes back after `turn` events."""

    format, sensor, num_events, tracks = "made", Sensor(640, 480), 1_500_000, {}
    t_range = (0, num_events - 1)

    def __init__(self, turn=num_events):
        self.turn = turn

    def events_by_index(self, start, stop):
        i = np.arange(start, min(stop, self.num_events))
        t = np.where(i < self.turn, i, i - self.turn)
        return Events((i % 640).astype("u2"), (i % 480).astype("u2"), t, (i % 2).astype("u1"), self.sensor)


class LargeFrames:
    times = np.arange(60) * 10_000

    def __len__(self):
        return 60

    def read(self, i):
        return np.full((480, 640, 3), i, np.uint8)


def test_memory_does_not_grow_with_the_recording(tmp_path):
    recording = Endless()
    recording.tracks = {"frames": LargeFrames()}
    tracemalloc.start()
    try:
        convert(recording, tmp_path / "a.aedat4")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20e6  # 20 MB of events and 55 MB of frames went through


def test_time_that_goes_back_between_pieces_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(FormatError, match="time goes backwards from 262143 us to 0 us between two pieces"):
        convert(Endless(1 << 18), tmp_path / "a.aedat4")
    assert not list(tmp_path.iterdir())
