"""What is written as RAW or DAT reads back equal, also over loops of the clock and pieces."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack, FormatError, convert, open_recording, prophesee_writers
from eventfm.io.writers import target_suffix

SENSOR = Sensor(1280, 720)
WRITTEN = {"evt2": "a.raw", "evt3": "a.raw", "dat": "a.dat"}
LONGEST_GAP = {"evt2": 1 << 35, "evt3": 1 << 26, "dat": (1 << 31) - 1}


@pytest.fixture(params=WRITTEN)
def kind(request):
    return request.param


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_random_events_read_back(tmp_path_factory, data):
    kind = data.draw(st.sampled_from(sorted(WRITTEN)))
    gaps = st.one_of(st.integers(0, 3), st.integers(0, 5_000), st.integers(0, LONGEST_GAP[kind]))
    rows = data.draw(
        st.lists(st.tuples(st.integers(0, 1279), st.integers(0, 719), gaps, st.integers(0, 1)), max_size=40)
    )
    x, y, gap, p = np.array(rows, np.int64).reshape(-1, 4).T
    events = Events.checked(x, y, np.cumsum(gap), p, SENSOR)
    path = tmp_path_factory.mktemp("written") / WRITTEN[kind]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prophesee_writers, "_PIECE", 7)
        convert(ArrayRecording(events), path, to=kind)
    found = open_recording(path)
    assert found.sensor == SENSOR
    for name in "xytp":
        np.testing.assert_array_equal(getattr(found.events_by_index(0, len(events)), name), getattr(events, name))


@pytest.mark.parametrize(("kind", "loop"), [("evt2", 1 << 34), ("evt3", 1 << 24)])
def test_whole_loops_of_the_clock_may_pass_between_events(kind, loop, tmp_path):
    # At first, between two, with and without the higher bits at their largest, and with the same lower bits.
    times = np.array([3 * loop + 5, 5 * loop + 5, 7 * loop - 1, 7 * loop, 9 * loop - 1, 11 * loop, 11 * loop + 4096])
    events = Events.checked(np.arange(7), np.zeros(7, int), times, np.ones(7, int), SENSOR)
    found = open_recording(convert(ArrayRecording(events), tmp_path / "a.raw", to=kind))
    assert found.events_by_index(0, 7).t.tolist() == times.tolist()


def trigger_rows(track):
    return [(int(t), *track.read(i).tolist()) for i, t in enumerate(track.times)]


CHANNELS = {"evt2": 32, "evt3": 16}


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_triggers_read_back_among_the_events(tmp_path_factory, data):
    kind = data.draw(st.sampled_from(sorted(CHANNELS)))
    gaps = st.one_of(st.integers(0, 3), st.integers(0, 5_000), st.integers(0, LONGEST_GAP[kind]))
    pixels = st.tuples(gaps, st.integers(0, 1279), st.integers(0, 719), st.integers(0, 1))
    signals = st.tuples(gaps, st.integers(0, 1), st.integers(0, CHANNELS[kind] - 1))
    gap, x, y, p = np.array(data.draw(st.lists(pixels, max_size=20)), np.int64).reshape(-1, 4).T
    events = Events.checked(x, y, np.cumsum(gap), p, SENSOR)
    signal = np.array(data.draw(st.lists(signals, max_size=12)), np.int64).reshape(-1, 3)
    triggers = ArrayTrack(np.cumsum(signal[:, 0]), signal[:, 1:])
    path = tmp_path_factory.mktemp("written") / "a.raw"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prophesee_writers, "_PIECE", 7)
        convert(ArrayRecording(events, {"triggers": triggers}), path, to=kind)
    found = open_recording(path)
    assert (found.sensor, found.num_events) == (SENSOR, len(events))
    for name in "xytp":
        np.testing.assert_array_equal(getattr(found.events_by_index(0, len(events)), name), getattr(events, name))
    assert set(found.tracks) == ({"triggers"} if len(signal) else set())
    if len(signal):
        assert trigger_rows(found.tracks["triggers"]) == trigger_rows(triggers)


@pytest.mark.parametrize("kind", CHANNELS)
def test_triggers_lie_where_their_time_is(kind, tmp_path):
    # Of the same times, rows and lower bits, so that none is said twice: the words are few.
    events = Events.checked([5, 6, 7], [4, 4, 4], [100, 100, 200], [1, 0, 1], SENSOR)
    triggers = ArrayTrack([100, 150], [[1, 3], [0, 3]])
    path = convert(ArrayRecording(events, {"triggers": triggers}), tmp_path / "a.raw", to=kind)
    data = path.read_bytes().partition(b"% end\n")[2]
    words = np.frombuffer(data, "<u4" if kind == "evt2" else "<u2")
    kinds = (words >> (28 if kind == "evt2" else 12)).tolist()
    assert kinds == {"evt2": [8, 1, 0, 10, 8, 10, 8, 1], "evt3": [8, 6, 0, 2, 2, 10, 6, 10, 6, 2]}[kind]


def test_another_decoder_passes_over_the_triggers(make_events, tmp_path):
    peer = pytest.importorskip("evt3")
    events = make_events(width=1280, height=720, count=500, span_us=900_000)
    triggers = ArrayTrack(np.arange(0, 990_000, 9_000), np.arange(220).reshape(-1, 2) % 2)
    recording = ArrayRecording(events, {"triggers": triggers})
    found = peer.decode_file(str(convert(recording, tmp_path / "a.raw")))
    for name, theirs in (("x", "x"), ("y", "y"), ("t", "timestamp"), ("p", "polarity")):
        np.testing.assert_array_equal(np.asarray(getattr(found, theirs)).astype(np.int64), getattr(events, name))


def test_the_suffix_says_the_format(make_events, assert_contract, tmp_path):
    events = make_events()
    for name, kind in (("a.raw", "raw"), ("a.dat", "dat")):
        recording = open_recording(convert(ArrayRecording(events), tmp_path / name))
        assert recording.format == kind
        assert_contract(recording, events)
    assert b"EVT3" in (tmp_path / "a.raw").read_bytes()[:40]


def test_another_decoder_reads_what_is_written(make_events, tmp_path):
    peer = pytest.importorskip("evt3")
    events = make_events(width=1280, height=720, count=2000, span_us=900_000)
    found = peer.decode_file(str(convert(ArrayRecording(events), tmp_path / "a.raw")))
    for name, theirs in (("x", "x"), ("y", "y"), ("t", "timestamp"), ("p", "polarity")):
        np.testing.assert_array_equal(np.asarray(getattr(found, theirs)).astype(np.int64), getattr(events, name))


def _one(t, sensor=SENSOR, triggers=None):
    tracks = {} if triggers is None else {"triggers": ArrayTrack(*triggers)}
    return ArrayRecording(Events.checked([0] * len(t), [0] * len(t), t, [1] * len(t), sensor), tracks)


@pytest.mark.parametrize(
    ("to", "recording", "message"),
    [
        ("evt2", _one([-1, 5]), "from 0 us on for EVT2, got -1"),
        ("evt3", _one([1 << 50]), "loops of the clock of EVT3"),
        ("evt3", _one([0], Sensor(2049, 3)), "at most 2048 pixels a side for EVT3, got 2049x3"),
        ("evt2", _one([5], triggers=([-2], [[1, 0]])), "from 0 us on for EVT2, got -2"),
        ("evt2", _one([5], triggers=([1, 2], [[1, 31], [1, 32]])), "channel 0 to 31 for EVT2, got.* 32 as entry 1"),
        ("evt3", _one([5], triggers=([1], [[1, 16]])), "channel 0 to 15 for EVT3"),
        ("evt3", _one([5], triggers=([1], [[2, 1]])), "edge 0 or 1 .* got edge 2"),
        ("dat", _one([1 << 32]), "a first time of 0 to 2\\^32 us"),
        ("dat", _one([0, (1 << 31) + 1]), "at most 2\\^31 us between"),
        ("dat", _one([0], Sensor(16385, 3)), "at most 16384 pixels"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_left(to, recording, message, tmp_path):
    with pytest.raises(FormatError, match=message):
        convert(recording, tmp_path / "a", to=to)
    assert not list(tmp_path.iterdir())


def test_tracks_are_left_behind_with_a_warning(kind, make_events, tmp_path):
    recording = ArrayRecording(make_events(), {"imu": ArrayTrack([1], [[2]])})
    with pytest.warns(UserWarning, match="imu"):
        convert(recording, tmp_path / "a", to=kind)


@pytest.mark.parametrize("form", [np.ones((1, 1), np.float32), np.ones((1, 2), np.float32)])
def test_triggers_of_another_form_are_left_behind_with_a_warning(form, make_events, tmp_path):
    recording = ArrayRecording(make_events(), {"triggers": ArrayTrack([1], form)})
    with pytest.warns(UserWarning, match="EVT3 cannot hold the tracks triggers"):
        found = open_recording(convert(recording, tmp_path / "a.raw"))
    assert not found.tracks


def test_both_kinds_of_words_have_the_suffix_of_raw():
    assert (target_suffix("evt2"), target_suffix("evt3")) == (".raw", ".raw")
