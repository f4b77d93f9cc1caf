from __future__ import annotations

import importlib
import pickle
import struct
import tracemalloc

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags")

import rosbag_files as files
from fuzzing import fuzz
from rosbag_files import EPOCH_US, NS, array_topic, encoded, packet_topic, parts
from rosbags import rosbag1, rosbag2

from eventfm.events import EventError, Events, Sensor
from eventfm.io import open_recording, ros_container, rosbag
from eventfm.io.contract import DamagedFileError, FormatError
from eventfm.io.opening import detect_format
from eventfm.registry import MissingExtraError


@pytest.fixture
def epoch_events(make_events):
    """Random events with times of the Unix epoch."""

    def make(count=400, seed=0, span_us=60_000):
        return make_events(count=count, seed=seed, start_us=EPOCH_US, span_us=span_us)

    return make


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(rosbag, "_BLOCK_BYTES", 600)


@pytest.mark.parametrize("container", files.CONTAINERS)
@pytest.mark.parametrize("kind", [files.DVS, files.PROPHESEE])
def test_event_arrays(tmp_path, epoch_events, assert_contract, small_blocks, container, kind):
    events = epoch_events()
    topic = array_topic(container, events, kind, extra_ns=999, frame="camera")
    path = files.write_bag(tmp_path / "a", container, {"/dvs/events": topic})
    assert detect_format(path) == "rosbag"
    recording = open_recording(path)
    assert (recording.format, recording.sensor, recording.tracks) == ("rosbag", Sensor(40, 30), {})
    assert len(recording._blocks) > 3
    assert_contract(recording, events)


@pytest.mark.parametrize("frame", ["", "a", "ab", "abc", "abcd"])
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_alignment_of_ros2(epoch_events, assert_same, frame, count):
    events = epoch_events().take(0, count)
    raw = files.Messages(True).array(files.DVS, events, frame=frame)
    size, rows = rosbag.ros_messages.event_array(raw, True)
    assert size == (40, 30)
    assert_same(Events.checked(*rows, events.sensor), events)


@pytest.mark.parametrize("container", files.CONTAINERS)
@pytest.mark.parametrize("encoding", ["evt3", "mono", "libcaer", "libcaer_cmp"])
def test_event_packets(tmp_path, epoch_events, assert_contract, small_blocks, container, encoding):
    events = epoch_events()
    topic = packet_topic(container, events, encoded(events)[encoding])
    path = files.write_bag(tmp_path / "a", container, {"/event_camera/events": topic})
    recording = open_recording(path)
    assert recording.sensor == Sensor(40, 30)
    assert len(recording._blocks) > 2
    assert_contract(recording, events)


def test_libcaer_wraps_and_vectors(tmp_path):
    make = files.Messages(False)
    wrap = struct.pack("<IiIi", 3 << 17 | 2 << 2 | 1, (1 << 31) - 2, 4 << 17 | 1 << 2 | 3, 1)
    messages = [(1, make.packet("libcaer", wrap, base=10_000))]
    recording = open_recording(files.write_bag(tmp_path / "a", "bag", {"/e": (files.PACKET, messages)}))
    events = recording.events_by_index(0, 9)
    assert events.t.tolist() == [10 + (1 << 31) - 2, 10 + (1 << 31) + 1]
    assert (events.x.tolist(), events.y.tolist(), events.p.tolist()) == ([3, 4], [2, 1], [0, 1])
    # x 7 comes from the packet before; two masks, the second 8 rows further; then a new base, and a single event.
    words = [0x2007], [0x0001, 0x1002, 0x4805, 0x5081, 0x5002, 0x4003, 0x5001, 0x3804]
    messages = [
        (time, make.packet("libcaer_cmp", struct.pack(f"<{len(some)}H", *some), base=20_000))
        for time, some in enumerate(words)
    ]
    recording = open_recording(files.write_bag(tmp_path / "b", "bag", {"/e": (files.PACKET, messages)}))
    events = recording.events_by_index(0, 9)
    assert events.x.tolist() == [7] * 5
    assert events.y.tolist() == [5, 12, 14, 3, 4]
    assert events.p.tolist() == [1, 1, 1, 0, 1]
    assert events.t.tolist() == [20 + 4096 + 2] * 5


def test_big_endian_payload(tmp_path, epoch_events, assert_same):
    events = epoch_events(count=20)
    data = np.frombuffer(files.mono_payload(events, EPOCH_US), "<u8").astype(">u8").tobytes()
    raw = files.Messages(True).packet("mono", data, EPOCH_US * NS, EPOCH_US * NS, big=True)
    path = files.write_bag(tmp_path / "a", "db3", {"/e": (files.PACKET, [(1, raw)])})
    assert_same(open_recording(path).events_by_index(0, 99), events)


def test_sensor_clock_is_shifted_once(tmp_path, make_events):
    events = make_events(count=60, start_us=8_000, span_us=50_000)
    make = files.Messages(False)
    messages, state = [], (None, None)
    for i, part in enumerate(parts(events, 3)):
        data, state = files.evt3_words(part, *state)
        # Later stamps tremble, as those of a busy host do; only the first counts.
        messages.append((i, make.packet("evt3", data, stamp=(EPOCH_US + int(part.t[0]) - 8_000 + 300 * i) * NS)))
    recording = open_recording(files.write_bag(tmp_path / "a", "bag", {"/e": (files.PACKET, messages)}))
    np.testing.assert_array_equal(recording.events_by_index(0, 60).t, events.t - 8_000 + EPOCH_US)
    unset = [(EPOCH_US * NS, make.packet("evt3", files.evt3_words(events)[0]))]
    recording = open_recording(files.write_bag(tmp_path / "b", "bag", {"/e": (files.PACKET, unset)}))
    assert recording.t_range[0] == EPOCH_US


@pytest.mark.parametrize("container", files.CONTAINERS)
def test_topics_are_chosen_by_name(tmp_path, epoch_events, assert_same, container):
    left, right = epoch_events(seed=1), epoch_events(seed=2)
    topics = {"/left/events": array_topic(container, left), "/right/events": array_topic(container, right)}
    path = files.write_bag(tmp_path / "a", container, topics)
    with pytest.raises(FormatError, match=r"2 topics hold events: /left/events, /right/events; choose one.*::/left"):
        open_recording(path)
    for name, events in (("/left/events", left), ("/right/events", right)):
        assert_same(open_recording(f"{path}::{name}").events_by_index(0, 10**6), events)
    with pytest.raises(FormatError, match="no events under topic /other; it has events under: /left/events"):
        open_recording(f"{path}::/other")


def test_no_events_and_empty_topics(tmp_path):
    make = files.Messages(False)
    path = files.write_bag(tmp_path / "a", "bag", {"/imu": (files.IMU, [(1, make.imu((0, 0, 0), (0, 0, 0)))])})
    with pytest.raises(FormatError, match=r"no topic holds events.*/imu \(sensor_msgs/msg/Imu\)"):
        open_recording(path)
    none = Events.empty(Sensor(40, 30))
    path = files.write_bag(tmp_path / "b", "bag", {"/e": (files.DVS, [(1, make.array(files.DVS, none))])})
    recording = open_recording(path)
    assert (recording.num_events, recording.t_range, recording.sensor) == (0, (0, -1), Sensor(40, 30))
    assert len(recording.events(0, 10)) == len(recording.events_by_index(0, 10)) == 0


def test_frames_are_of_the_camera_where_a_simulator_wrote_depth_beside_them(tmp_path, epoch_events):
    make = files.Messages(False)
    picture = make.image("mono8", 7, 5, 7, bytes(35), EPOCH_US * NS)
    depth = make.image("32FC1", 7, 5, 28, bytes(140), EPOCH_US * NS)
    topics = {
        "/dvs/depthmap": (files.IMAGE, [(EPOCH_US * NS, depth)] * 2),
        "/dvs/events": array_topic("bag", epoch_events(count=50)),
        "/dvs/image_raw": (files.IMAGE, [(EPOCH_US * NS, picture)]),
    }
    tracks = open_recording(files.write_bag(tmp_path / "a.bag", "bag", topics)).tracks
    assert {name: len(track) for name, track in tracks.items()} == {"frames": 1, "/dvs/depthmap": 2}


@pytest.mark.parametrize("container", files.CONTAINERS)
def test_tracks(tmp_path, epoch_events, container):
    make = files.Messages(container != "bag")
    events = epoch_events(count=50)
    rng = np.random.default_rng(0)
    grey, colour = rng.integers(0, 256, (5, 7), np.uint8), rng.integers(0, 256, (5, 7, 3), np.uint8)
    deep = rng.integers(0, 65536, (5, 7), np.uint16)
    padded = np.pad(grey, ((0, 0), (0, 4))).tobytes()
    at = [(EPOCH_US + 1000 * i) * NS + 700 for i in range(5)]
    images = [
        make.image("mono8", 7, 5, 11, padded, at[0]),
        make.image("rgb8", 7, 5, 21, colour.tobytes(), at[1]),
        make.image("bgr8", 7, 5, 21, colour.tobytes(), at[2]),
        make.image("mono16", 7, 5, 14, deep.astype(">u2").tobytes(), at[3], big=1),
        make.image("mono16", 7, 5, 14, deep.astype("<u2").tobytes(), at[4]),
    ]
    png = cv2.imencode(".png", colour)[1].tobytes()
    compressed = [make.compressed(png, 0), make.compressed(b"no picture", 2 * NS)]
    samples = [make.imu((1, 2, 3), (4, 5, 6), at[1]), make.imu((7, 8, 9), (10, 11, 12), at[0])]
    edges = struct.pack("<QQ", 1 << 63 | 5 << 48 | 1_000_000, 2_000_000)
    topics = {
        "/cam/events": array_topic(container, events),
        # All were recorded at one time, which must not mix them up.
        "/cam/image_raw": (files.IMAGE, [(EPOCH_US * NS, raw) for raw in images]),
        "/other/image/compressed": (files.COMPRESSED, [(1 * NS, compressed[0]), (2 * NS, compressed[1])]),
        "/cam/imu": (files.IMU, [(EPOCH_US * NS + i, raw) for i, raw in enumerate(samples)]),
        "/cam/trigger": (files.PACKET, [(5, make.packet("trigger", edges, EPOCH_US * NS, base=9_000_000))]),
    }
    recording = open_recording(files.write_bag(tmp_path / "a", container, topics))
    assert recording.num_events == 50
    assert set(recording.tracks) == {"frames", "/other/image/compressed", "imu", "triggers"}
    for tracks in (recording.tracks, pickle.loads(pickle.dumps(recording)).tracks):
        frames = tracks["frames"]
        assert len(frames) == 5
        assert frames.times.tolist() == [EPOCH_US + 1000 * i for i in range(5)]
        found = {frames.read(i).tobytes(): i for i in range(5)}
        expected = [grey, colour, np.ascontiguousarray(colour[..., ::-1]), deep, deep]
        for i, picture in enumerate(expected):
            got = frames.read(i)
            assert got.dtype == picture.dtype
            np.testing.assert_array_equal(got, picture)
        assert len(found) == 4
        others = tracks["/other/image/compressed"]
        assert others.times.tolist() == [1, 2]
        np.testing.assert_array_equal(others.read(0), colour[..., ::-1])
        with pytest.raises(DamagedFileError, match=r"/other/image/compressed, picture 1: .*cannot be decoded"):
            others.read(1)
        assert tracks["imu"].times.tolist() == [EPOCH_US, EPOCH_US + 1000]
        assert tracks["imu"].read(1).tolist() == [1, 2, 3, 4, 5, 6]
        assert tracks["triggers"].times.tolist() == [EPOCH_US + 1000, EPOCH_US + 2000]
        assert [tracks["triggers"].read(i).tolist() for i in range(2)] == [[1, 5], [0, 0]]
        assert tracks["triggers"].read(0).dtype == np.int64


@pytest.mark.parametrize(("encoding", "step", "size"), [("bayer_rggb8", 7, 35), ("mono8", 6, 35), ("rgb8", 21, 104)])
def test_pictures_that_cannot_be_read(encoding, step, size):
    raw = files.Messages(False).image(encoding, 7, 5, step, bytes(size))
    with pytest.raises(FormatError, match=encoding):
        rosbag.ros_messages.picture(raw, False, False)


def test_compressed_containers(tmp_path, epoch_events, assert_same):
    events = epoch_events()
    lz4, bz2 = rosbag1.Writer.CompressionFormat.LZ4, rosbag1.Writer.CompressionFormat.BZ2
    made = [
        files.write_bag(tmp_path / f"a{i}", "bag", {"/e": array_topic("bag", events)}, compression=kind, chunk=900)
        for i, kind in enumerate((lz4, bz2))
    ]
    for i, mode in enumerate((rosbag2.CompressionMode.FILE, rosbag2.CompressionMode.MESSAGE)):
        topic = array_topic("db3", events)
        made.append(files.write_bag(tmp_path / f"b{i}", "db3", {"/e": topic}, mode=mode))
    for path in made:
        assert_same(open_recording(path).events_by_index(0, 10**6), events)


@pytest.mark.parametrize("container", ["db3", "mcap"])
def test_single_files_of_any_name(tmp_path, epoch_events, assert_contract, container):
    events = epoch_events()
    folder = files.write_bag(tmp_path / "a", container, {"/e": array_topic(container, events)})
    path = tmp_path / "renamed.bin"
    path.write_bytes(next(folder.glob(f"*.{container}")).read_bytes())
    recording = open_recording(path)
    assert recording.format == "rosbag"
    assert_contract(recording, events)


def test_disorder_is_refused_or_mended(tmp_path, epoch_events):
    events = epoch_events(count=30)
    kind, messages = array_topic("bag", events, pieces=3)
    swapped = [(messages[0][0], messages[1][1]), (messages[1][0], messages[0][1]), messages[2]]
    path = files.write_bag(tmp_path / "a", "bag", {"/e": (kind, swapped)})
    with pytest.raises(EventError, match="backwards 1 times"):
        open_recording(path)
    with pytest.warns(UserWarning, match="mended by sort"):
        recording = open_recording(path, on_error="sort")
    np.testing.assert_array_equal(recording.events_by_index(0, 30).t, events.t)
    with pytest.raises(EventError, match="outside the 20x20"):
        open_recording(path, sensor=(20, 20))


def test_messages_of_one_time_stay_together(tmp_path, epoch_events, small_blocks, assert_contract):
    events = epoch_events()
    kind, messages = array_topic("bag", events)
    # The first six were recorded at one time: they fill more than one block.
    same = [(messages[0][0] if i < 6 else time, raw) for i, (time, raw) in enumerate(messages)]
    recording = open_recording(files.write_bag(tmp_path / "a", "bag", {"/e": (kind, same)}))
    assert len(recording._blocks) == 4
    assert_contract(recording, events)


def test_index_is_kept(tmp_path, epoch_events, monkeypatch, assert_contract):
    monkeypatch.setattr("eventfm.io.blocks.WORTH_KEEPING", 0)
    events = epoch_events()
    topics = {name: array_topic("bag", part) for name, part in (("/a", events), ("/b", events.take(0, 200)))}
    path = files.write_bag(tmp_path / "x.bag", "bag", topics)
    open_recording(f"{path}::/a")
    monkeypatch.setattr(rosbag, "_scan", lambda source: pytest.fail("the bag was walked through again"))
    assert_contract(open_recording(f"{path}::/a"), events)
    monkeypatch.undo()
    monkeypatch.setattr("eventfm.io.blocks.WORTH_KEEPING", 0)
    assert open_recording(f"{path}::/b").num_events == 200
    assert open_recording(f"{path}::/a").num_events == 400


def test_cut_off_and_never_closed(tmp_path, epoch_events):
    path = files.write_bag(tmp_path / "a.bag", "bag", {"/e": array_topic("bag", epoch_events())})
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(DamagedFileError, match=r"a\.bag: damaged or cut off.*rosbag reindex"):
        open_recording(path)
    at = whole.index(b"index_pos=") + len(b"index_pos=")
    path.write_bytes(whole[:at] + bytes(8) + whole[at + 8 :])
    with pytest.raises(DamagedFileError, match=r"not indexed.*rosbag reindex"):
        open_recording(path)
    folder = files.write_bag(tmp_path / "b", "mcap", {"/e": array_topic("mcap", epoch_events())})
    path = next(folder.glob("*.mcap"))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DamagedFileError, match="mcap recover"):
        open_recording(path)
    (folder / "metadata.yaml").unlink()
    with pytest.raises(FormatError, match="ros2 bag reindex"):
        open_recording(folder)


def test_damage_part_of_the_way(tmp_path, epoch_events, small_blocks, assert_same):
    events = epoch_events()
    kind, messages = array_topic("bag", events)
    messages[6] = (messages[6][0], messages[6][1][:-5])
    path = files.write_bag(tmp_path / "a.bag", "bag", {"/e": (kind, messages)})
    with pytest.raises(FormatError, match=r"a\.bag: topic /e, near \d+ ns: a message of \d+ bytes.*on_error='sort'"):
        open_recording(path)
    with pytest.warns(UserWarning, match="the events before it were read"):
        recording = open_recording(path, on_error="sort")
    assert 0 < recording.num_events < 400
    assert_same(recording.events_by_index(0, 400), events.take(0, recording.num_events))


@pytest.mark.parametrize("container", files.CONTAINERS)
def test_damage_is_survived(tmp_path, epoch_events, container):
    events = epoch_events(count=60)
    payload = encoded(events)["evt3"]
    topics = {"/e": packet_topic(container, events, payload, pieces=4)}
    path = files.write_bag(tmp_path / "a", container, topics)
    if container != "bag":
        path = next(path.glob(f"*.{container}"))
    data = path.read_bytes()
    assert 0 < fuzz(data, tmp_path, "rosbag", count=60, header=len(data) // 2) < 60


def test_absurd_lengths_reserve_no_memory(tmp_path, epoch_events):
    path = files.write_bag(tmp_path / "a.bag", "bag", {"/e": array_topic("bag", epoch_events(count=30))})
    data = bytearray(path.read_bytes())
    data[13:17] = struct.pack("<I", 0xFFFFFFF0)  # the length of the first header
    path.write_bytes(bytes(data))
    tracemalloc.start()
    with pytest.raises(DamagedFileError):
        open_recording(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_without_rosbags(tmp_path, epoch_events, monkeypatch):
    path = files.write_bag(tmp_path / "a", "bag", {"/e": array_topic("bag", epoch_events())})

    def refuse(name):
        raise ImportError(f"No module named {name}")

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingExtraError, match=r"pip install 'eventfm\[ros\]'"):
        ros_container.Bag(path)


@pytest.mark.parametrize(
    ("name", "count", "seconds", "size"),
    [("event_camera_msgs_ros1.bag", 343_474, 2.08, (640, 480)), ("ros2_evt3", 82_469, 1.25, (1280, 720))],
)
def test_real_files(real_data, name, count, seconds, size):
    recording = open_recording(real_data / "formats" / name)
    assert (recording.num_events, (recording.sensor.width, recording.sensor.height)) == (count, size)
    first, last = recording.t_range
    assert (last - first) / 1e6 == pytest.approx(seconds, abs=0.006)
    whole = recording.events_by_index(0, count)
    rng = np.random.default_rng(0)
    for t0, t1 in np.sort(rng.integers(first - 1000, last + 1000, (100, 2)), axis=1).tolist():
        expected, found = whole.between(t0, t1), recording.events(t0, t1)
        for column in "xytp":
            np.testing.assert_array_equal(getattr(found, column), getattr(expected, column))


def test_messages_that_are_not_there_by_their_times(tmp_path, epoch_events, small_blocks, monkeypatch):
    events, make = epoch_events(), files.Messages(True)
    picture = make.image("mono8", 7, 5, 11, bytes(55), EPOCH_US * 1000)
    topics = {"/e": array_topic("db3", events), "/image": (files.IMAGE, [(EPOCH_US * 1000, picture)])}
    recording = open_recording(files.write_bag(tmp_path / "a", "db3", topics))
    frames = recording.tracks["frames"]
    assert frames.read(0).shape == (5, 7)
    monkeypatch.setattr(ros_container.Bag, "read", lambda self, topic, start, stop: [])
    with pytest.raises(DamagedFileError, match=r"topic /e: the messages from \d+ ns on.*index is damaged"):
        recording.events_by_index(0, 10)
    with pytest.raises(DamagedFileError, match=r"/image, picture 0: no message at \d+ ns"):
        frames.read(0)
