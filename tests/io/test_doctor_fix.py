"""A repaired copy has what was good, in order, and its doctor finds nothing."""

import numpy as np
import pytest
from doctor_faults import SENSOR, columns, insert, recording

from eventfm.events import Events
from eventfm.io import ArrayRecording, ArrayTrack, doctor, doctor_fix, open_recording, save_recording
from eventfm.io.doctor import examine
from eventfm.io.doctor_fix import repaired
from eventfm.io.doctor_report import Changes


@pytest.fixture(params=[1 << 18, 997])
def pieces(request, monkeypatch):
    monkeypatch.setattr(doctor, "PIECE", request.param)
    monkeypatch.setattr(doctor_fix, "PIECE", request.param)


@pytest.mark.usefixtures("pieces")
def test_everything_at_once(tmp_path):
    clean = columns()
    at = np.arange(400) * 140 + 7
    x, y, t, p = (insert(at, column, column[at]) for column in clean)  # 400 repeats
    noise = insert(at, np.arange(60_000) % 2, 1).astype(np.uint8)
    noise[np.flatnonzero(np.diff(t) == 0) + 1] = noise[np.flatnonzero(np.diff(t) == 0)]
    hot = np.linspace(100, 60_000, 900).astype(int)
    x, y, p = insert(hot, x, [30] * 900), insert(hot, y, [20] * 900), insert(hot, p, np.arange(900) % 2)
    noise, t = insert(hot, noise, [1] * 900), insert(hot, t, t[hot])
    out = np.linspace(50, 61_000, 33).astype(int)
    x, y, p = insert(out, x, [64] * 33), insert(out, y, [0] * 33), insert(out, p, [1] * 33)
    noise, t = insert(out, noise, [0] * 33), insert(out, t, t[out])
    t += (1 << 24) - 900_000
    swapped = np.arange(len(t))
    swapped[5000:5002] = 5001, 5000
    swapped[40_000:40_200] = swapped[40_000:40_200][::-1]
    x, y, t, p, noise = (column[swapped] for column in (x, y, t % (1 << 24), p, noise))
    track = ArrayTrack([0, 40_000], np.zeros((2, 3, 3), np.uint8))
    hurt = recording(x, y, t, p, {"frames": track}, noise=noise)

    diagnosis = examine(hurt)
    names = {f.name for f in diagnosis.findings}
    assert {"time_backwards", "clock_wraps", "outside_sensor", "hot_pixels", "repeated_events"} <= names
    with repaired(hurt, diagnosis, tmp_path) as (copy, changes):
        saved = open_recording(save_recording(tmp_path / "a.h5", copy))
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
    events = saved.events_by_index(0, saved.num_events)

    hot_before = int(((clean[0] == 30) & (clean[1] == 20)).sum())
    kept = (clean[0] != 30) | (clean[1] != 20)
    assert (changes.wraps_unrolled, changes.outside_dropped, changes.hot_pixels) == (1, 33, 1)
    hot_copies = int(((clean[0][at] == 30) & (clean[1][at] == 20)).sum())
    assert changes.hot_dropped == 900 + hot_before + hot_copies
    assert changes.repeats_dropped == 400 - hot_copies
    assert changes.num_events == len(events) == kept.sum()
    assert 2 <= changes.moved <= 202
    np.testing.assert_array_equal(events.t, clean[2][kept] + (1 << 24) - 900_000)
    for name, column in zip("xyp", (clean[0], clean[1], clean[3]), strict=True):
        np.testing.assert_array_equal(getattr(events, name), column[kept], err_msg=name)
    np.testing.assert_array_equal(events.noise, (np.arange(60_000) % 2)[kept])
    assert list(saved.tracks) == ["frames"]
    after = {f.name for f in examine(saved).findings}
    assert after <= {"frames_outside_events"}  # the frames' clock was not the events'


def test_a_clean_recording_is_copied_as_it_is(tmp_path):
    clean = recording(*columns(3000))
    with repaired(clean, examine(clean), tmp_path) as (copy, changes):
        assert changes == Changes(num_events=3000)
        for name in "xytp":
            found = getattr(copy.events_by_index(0, 3000), name)
            np.testing.assert_array_equal(found, getattr(clean.events_by_index(0, 3000), name))


def test_nothing_stays_nothing(tmp_path):
    empty = ArrayRecording(Events.empty(SENSOR))
    with repaired(empty, examine(empty), tmp_path) as (copy, changes):
        assert (copy.num_events, changes.num_events, copy.t_range) == (0, 0, (0, -1))


def test_sorting_is_stable(tmp_path):
    x = np.arange(6, dtype=np.uint16)
    t = np.array([5, 3, 5, 3, 1, 5], np.int64)
    hurt = recording(x, x, t, np.zeros(6, np.uint8))
    with repaired(hurt, examine(hurt), tmp_path) as (copy, changes):
        assert copy.events_by_index(0, 6).x.tolist() == [4, 1, 3, 0, 2, 5]
    assert changes.moved == 4
