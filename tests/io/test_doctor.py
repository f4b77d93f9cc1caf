"""Every fault is found from the size that is documented on, and not below it; what has no fault is clean."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from doctor_faults import SENSOR, columns, insert, recording
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack, FormatError, doctor, doctor_pixels, doctor_rate, doctor_time
from eventfm.io.doctor import examine

DOCUMENT = Path(__file__).parents[2] / "docs/doctor.md"


def found(recording):
    return {finding.name: finding for finding in examine(recording).findings}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_clean_recordings_give_no_report(seed):
    diagnosis = examine(recording(*columns(seed=seed)), "a")
    assert (diagnosis.findings, diagnosis.unchecked, diagnosis.hot_pixels) == ((), (), ())
    assert diagnosis.clean
    assert "nothing found" in str(diagnosis)


def test_without_events_nothing_is_found_and_that_is_said():
    diagnosis = examine(ArrayRecording(Events.empty(SENSOR)))
    assert diagnosis.clean
    assert len(diagnosis.unchecked) == 3


@pytest.mark.parametrize("steps", [1, 7])
def test_time_that_goes_back(steps):
    x, y, t, p = columns()
    at = np.arange(1, steps + 1) * 5000
    t[at] = t[at - 1] - np.arange(1, steps + 1)
    finding = found(recording(x, y, t, p))["time_backwards"]
    assert finding.number == steps
    assert f"by up to {steps:,} us" in finding.message
    assert "first at event 5,000," in finding.message


@pytest.mark.parametrize("bits", doctor_time.WRAP_BITS)
def test_clocks_that_wrap(bits):
    x, y, t, p = columns()
    start = (1 << bits) - 400_000
    diagnosis = examine(recording(x, y, (t + start) % (1 << bits), p))
    assert [(finding.name, finding.number) for finding in diagnosis.findings] == [("clock_wraps", 1)]
    assert f"2^{bits} us" in diagnosis.findings[0].message
    np.testing.assert_array_equal(doctor_time.Unroller()((t + start) % (1 << bits)), t + start)


def test_many_wraps_and_steps_back_that_are_none():
    x, y, t, p = columns()
    names = found(recording(x, y, t * 20 % (1 << 23), p))
    assert set(names) == {"clock_wraps"}
    assert names["clock_wraps"].number == 4  # 40 s of a counter of 8.4 s
    half = t.copy()
    half[30_000:] -= half[30_000]
    assert set(found(recording(x, y, half, p))) == {"time_backwards"}
    margin = (1 << 23) // doctor_time.WRAP_MARGIN
    for before, after, wraps in [
        ((1 << 23) - margin, margin - 1, 1),
        ((1 << 23) - margin - 1, margin - 1, 0),
        ((1 << 23) - margin, margin, 0),
        (1 << 23, 0, 0),
    ]:
        unroll = doctor_time.Unroller()
        unroll(np.array([before]))
        unroll(np.array([after]))
        assert unroll.num_wraps == wraps


@pytest.mark.parametrize(("length", "reported"), [(3000, True), (2999, False)])
def test_time_that_stands_still(length, reported):
    x, y, t, p = columns()
    t[700 : 700 + length] = t[700]
    names = found(recording(x, y, t, p))
    assert ("time_stands_still" in names) is reported
    assert set(names) <= {"time_stands_still", "repeated_events", "gaps"}  # what such a clock makes of the events
    if reported:
        assert names["time_stands_still"].number == 3000
        assert f"have the time {t[700]} us" in names["time_stands_still"].message


@pytest.mark.parametrize(("count", "needed_us"), [(60_000, 100_000), (1_500, 133_333)])
@pytest.mark.parametrize("reported", [True, False])
def test_gaps(count, needed_us, reported):
    x, y, t, p = columns(count)
    gap = needed_us + (2000 if count < 2000 else 0) if reported else needed_us - (2000 if count < 2000 else 1)
    t[count // 2 :] += gap - (t[count // 2] - t[count // 2 - 1])
    names = found(recording(x, y, t, p))
    assert set(names) == ({"gaps"} if reported else set())
    if reported:
        assert names["gaps"].number == gap
        assert f"from {t[count // 2 - 1]} us on" in names["gaps"].message


@pytest.mark.parametrize("count", [1, 20])
def test_events_off_the_sensor(count):
    x, y, t, p = columns()
    x[500 : 500 + count] = 64
    finding = found(recording(x, y, t, p))["outside_sensor"]
    assert finding.number == count
    assert f"x=64, y={y[500]}" in finding.message
    assert "outside_sensor" not in found(recording(x, y, t, p, sensor=Sensor(65, 48)))
    inferred = examine(recording(x, y, t, p, sensor=Sensor(65, 48, inferred=True)))
    assert any("--sensor" in note for note in inferred.unchecked)


def with_hot_pixel(x, y, t, p, at, total):
    """Return the columns with as many events more at the pixel `at` as make `total`, spread over the recording."""
    more = total - int(((x == at[0]) & (y == at[1])).sum())
    places = np.linspace(10, len(t) - 10, more).astype(int)
    values = ([at[0]] * more, [at[1]] * more, t[places] - 1, np.arange(more) % 2)
    return [insert(places, column, value) for column, value in zip((x, y, t, p), values, strict=True)]


@pytest.mark.parametrize("at", [(20, 30), (0, 0), (63, 20)])
@pytest.mark.parametrize("reported", [True, False])
def test_hot_pixels(at, reported):
    x, y, t, p = columns()
    counts = np.zeros((48, 64))
    np.add.at(counts, (y, x), 1)
    near = [
        counts[row, column]
        for row in range(max(at[1] - 1, 0), min(at[1] + 2, 48))
        for column in range(max(at[0] - 1, 0), min(at[0] + 2, 64))
        if (column, row) != at
    ]
    needed = int(np.ceil(10 * (np.median(near) + 1)))
    assert needed > 100
    diagnosis = examine(recording(*with_hot_pixel(x, y, t, p, at, needed - (not reported))))
    assert diagnosis.hot_pixels == ((at,) if reported else ())
    assert [finding.name for finding in diagnosis.findings] == (["hot_pixels"] if reported else [])
    if reported:
        assert diagnosis.findings[0].number == 1


@pytest.mark.parametrize(("count", "span_us", "reported"), [
    (100, 2_000_000, True), (99, 2_000_000, False), (200, 10_000_000, True), (199, 10_000_000, False),
])  # fmt: skip
def test_hot_pixels_have_events_enough_and_a_rate(count, span_us, reported):
    x, y, t, p = columns(3000, span_us)
    away = (x < 40) | (y < 40)  # an empty corner, where the neighbours are silent
    t[-1], away[-1], x[-1], away[0], x[0] = span_us - 1, True, 0, True, 0
    quiet = [column[away] for column in (x, y, t, p)]
    assert (examine(recording(*with_hot_pixel(*quiet, (60, 45), count))).hot_pixels == ((60, 45),)) is reported


def test_hot_pixels_side_by_side_are_all_found():
    hurt = columns()
    block = [(30, 30), (31, 30), (30, 31), (31, 31), (32, 30)]
    for number, at in enumerate(block):
        hurt = with_hot_pixel(*hurt, at, 3000 - 500 * number)
    assert sorted(examine(recording(*hurt)).hot_pixels) == sorted(block)


def flickering(frequency, depth, polarity=1, seconds=4, rate=20_000, seed=0):
    """Return columns whose events of one polarity swing in number by `depth` of their mean."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, seconds * 1_000_000, rate * seconds * 2))
    p = rng.integers(0, 2, len(t)).astype(np.uint8)
    chance = (1 + depth * np.sin(2 * np.pi * frequency * t / 1e6)) / (1 + depth)
    keep = (p != polarity) | (rng.random(len(t)) < chance)
    t, p = t[keep], p[keep]
    x, y = rng.integers(0, 64, len(t)).astype(np.uint16), rng.integers(0, 48, len(t)).astype(np.uint16)
    return x, y, t, p


@pytest.mark.parametrize("frequency", [50, 60, 100, 120])
@pytest.mark.parametrize("polarity", [0, 1])
def test_flicker(frequency, polarity):
    names = found(recording(*flickering(frequency, 0.3, polarity)))
    assert set(names) == {"flicker"}
    assert names["flicker"].number == pytest.approx(0.3, abs=0.04)
    assert f"of {('OFF', 'ON')[polarity]} events" in names["flicker"].message
    assert f"at {frequency} Hz" in names["flicker"].message


@pytest.mark.parametrize(("frequency", "depth", "reported"), [
    (50, 0.23, True), (50, 0.17, False), (100.4, 0.4, True), (75, 0.6, False), (10, 0.9, False), (0, 0, False),
])  # fmt: skip
def test_flicker_from_a_depth_at_mains_only(frequency, depth, reported):
    assert ("flicker" in found(recording(*flickering(frequency, depth)))) is reported


def test_short_or_sparse_recordings_are_not_asked_for_flicker():
    for kind in ({"seconds": 0.49}, {"rate": 1000}):
        kind = {"seconds": 4, **kind}
        x, y, t, p = flickering(50, 0.9, seconds=4, rate=kind.get("rate", 20_000))
        keep = t < kind["seconds"] * 1e6
        diagnosis = examine(recording(x[keep], y[keep], t[keep], p[keep]))
        assert "flicker" not in {finding.name for finding in diagnosis.findings}
        assert any(note.startswith("flicker: needs 0.5 s and 5,000") for note in diagnosis.unchecked)


@pytest.mark.parametrize(("rarer", "reported"), [(2999, True), (3000, False), (0, True)])
@pytest.mark.parametrize("polarity", [0, 1])
def test_polarity(rarer, reported, polarity):
    x, y, t, p = columns()
    p[:] = 1 - polarity
    p[np.linspace(0, len(p) - 1, rarer).astype(int)] = polarity
    names = found(recording(x, y, t, p))
    assert set(names) == ({"polarity_imbalance"} if reported else set())
    if reported:
        assert names["polarity_imbalance"].number == rarer / 60_000
        assert f"are {('OFF', 'ON')[polarity]}" in names["polarity_imbalance"].message


@pytest.mark.parametrize(("count", "reported"), [(200, True), (199, False)])
def test_rate_of_a_pixel(count, reported):
    t = np.linspace(0, 9_999, count).astype(np.int64)
    x = np.full(count, 5, np.uint16)
    names = found(recording(x, x, t, (t % 2).astype(np.uint8)))
    assert ("pixel_rate" in names) is reported
    if reported:
        assert names["pixel_rate"].number == pytest.approx(20_000)


@pytest.mark.parametrize(("factor", "reported"), [
    (2.3e-4, True), (2.6e-4, False), (1, False), (2300, False), (2500, True),
])  # fmt: skip
def test_rate_of_the_sensor(factor, reported):
    x, y, t, p = columns(1500)
    t = (t * factor).astype(np.int64)
    assert ("sensor_rate" in found(recording(x, y, t, p))) is reported


@pytest.mark.parametrize(("count", "extra", "reported"), [
    (59_700, 300, True), (59_701, 299, False), (500, 10, True), (500, 9, False),
])  # fmt: skip
def test_events_that_are_there_twice(count, extra, reported):
    clean = columns(count)
    at = np.linspace(3, count - 3, extra).astype(int)
    twice = [insert(at, column, column[at]) for column in clean]
    names = found(recording(*twice))
    assert set(names) == ({"repeated_events"} if reported else set())
    if reported:
        assert names["repeated_events"].number == extra
    flipped = [*twice[:3], insert(at, clean[3], 1 - clean[3][at])]
    assert not found(recording(*flipped))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=60), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_repeats_are_those_of_a_scalar_search(pairs, size):
    t, place = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
    place = place[::-1] if len(set(t.tolist())) < 2 else place
    repeats = doctor_pixels.Repeats()
    answer = [repeats(t[i : i + size], place[i : i + size]) for i in range(0, len(t), size)]
    seen, expected = set(), []
    for pair in zip(t.tolist(), place.tolist(), strict=True):
        expected.append(pair in seen)
        seen.add(pair)
    assert np.concatenate([np.zeros(0, bool), *answer]).tolist() == expected


def test_frames():
    clean = columns()
    frames = np.arange(0, 2_000_000, 40_000)
    pictures = np.zeros((len(frames), 2, 2), np.uint8)

    def of(times):
        return {k: f.number for k, f in found(recording(*clean, {"frames": ArrayTrack(times, pictures)})).items()}

    assert of(frames) == {}
    assert of(frames - 40_000) == {}  # one frame distance is no fault
    assert of(frames - 40_001) == {"frames_outside_events": 1}
    assert of(frames + 80_000) == {"frames_outside_events": 1}
    assert of(frames + 10**9) == {"frames_outside_events": len(frames)}
    assert of(frames * 0) == {"frames_without_times": len(frames) - 1}
    frames[7] = frames[6]
    assert of(frames) == {"frames_without_times": 1}


@pytest.mark.parametrize("size", [700, 4096])
def test_pieces_make_no_difference(size, monkeypatch):
    hurt = with_hot_pixel(*flickering(100, 0.5), (3, 4), 5000)
    at = np.arange(1000, 2200)
    x, y, t, p = (insert(at, column, column[at]) for column in hurt)
    t[9000:] += 300_000
    t[20_000:29_000] = t[20_000]
    t[40_000] -= 5000
    y[50_000:50_010] = 48
    t = (t + (1 << 24) - 2_000_000) % (1 << 24)
    hurt = recording(x, y, t, p)
    whole = examine(hurt)
    lamp = recording(*flickering(100, 0.5))
    lit = examine(lamp)
    assert (len(whole.findings), len(lit.findings)) == (7, 1)
    monkeypatch.setattr(doctor, "PIECE", size)
    assert (examine(hurt), examine(lamp)) == (whole, lit)


class Failing(ArrayRecording):
    """A recording that warns at every slice and cannot be read from an event on."""

    def events_by_index(self, start, stop):
        warnings.warn("packet 3 is damaged", stacklevel=2)
        if start >= 8192:
            raise FormatError("byte 99 is damaged")
        return super().events_by_index(start, stop)


def test_what_readers_say_is_reported_and_the_rest_is_looked_at(monkeypatch):
    x, y, t, p = columns()
    x[10] = 64
    monkeypatch.setattr(doctor, "PIECE", 4096)
    findings = examine(Failing(Events(x, y, t, p, SENSOR))).findings
    assert [f.name for f in findings][:2] == ["reader_warns", "unreadable"]
    assert (findings[0].message, findings[1].message) == ("packet 3 is damaged", "byte 99 is damaged")
    assert "outside_sensor" in {f.name for f in findings}


def test_absurd_sensors_cost_no_memory():
    diagnosis = examine(recording(*columns(500), sensor=Sensor(65536, 65536)))
    assert any("too large" in note for note in diagnosis.unchecked)


def test_the_document_names_every_finding_and_its_threshold():
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|([^\n]*)$", text, re.MULTILINE))
    sources = Path(doctor.__file__).parent.glob("doctor*.py")
    names = {name for source in sources for name in re.findall(r'Finding\(\s*"(\w+)"', source.read_text())}
    assert set(rows) == names
    for name, numbers in {
        "gaps": (f"{doctor_time.GAP_US // 1000} ms", f"{doctor_time.GAP_SPACINGS} mean"),
        "time_stands_still": (f"{doctor_time.STILL_SHARE:.0%}".replace("%", " %"), f"{doctor_time.STILL_EVENTS:,}"),
        "hot_pixels": (str(doctor_pixels.HOT_EVENTS), f"{doctor_pixels.HOT_RATE_HZ:g} Hz", "10 times"),
        "pixel_rate": ("20 kHz",),
        "repeated_events": ("0.5 %", f"{doctor_pixels.REPEATED_EVENTS} events"),
        "flicker": ("20 %", f"{doctor_rate.FLICKER_EVENTS:,}", "0.5 s"),
        "polarity_imbalance": ("5 %", f"{doctor_rate.MINORITY_EVENTS:,}"),
        "sensor_rate": ("0.0001", "1000"),
    }.items():
        for number in numbers:
            assert number in rows[name], (name, number)
