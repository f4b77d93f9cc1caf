"""Every fault is found from the size that is documented on, and not below it; what has no fault is clean."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from doctor_faults import SENSOR, columns, insert, recording, with_hot_pixel
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


@pytest.mark.parametrize(("length", "reported"), [(1000, True), (999, False)])
def test_of_few_events_time_stands_still_for_a_thousand(length, reported):
    x, y, t, p = columns(4000)
    t[700 : 700 + length] = t[700]
    assert ("time_stands_still" in found(recording(x, y, t, p))) is reported


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


def test_flicker_stands_out_of_what_is_around_it():
    x, y, t, p = flickering(0, 0)
    lit = np.random.default_rng(3).random(4000) < 0.15  # bursts swing at 50 Hz as they do at every other frequency
    keep = lit[t // 1000]
    hurt = recording(x[keep], y[keep], t[keep], p[keep])
    assert "flicker" not in found(hurt)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor_rate, "FLICKER_PROMINENCE", 0.0)
        assert found(hurt)["flicker"].number > doctor_rate.FLICKER_DEPTH


@pytest.mark.parametrize(("span_us", "count", "reported"), [
    (500_000, 5000, True), (499_999, 5000, False), (500_000, 4999, False),
])  # fmt: skip
def test_flicker_needs_half_a_second_and_5000_events_of_one_polarity(span_us, count, reported):
    x, y, t, p = flickering(50, 0.9)
    first = np.flatnonzero((p == 1) & (t - t[p == 1][0] < 500_000) & (t < t[p == 1][0] + span_us))
    chosen = np.sort(np.random.default_rng(0).choice(first[1:], count - 1, replace=False))
    chosen = np.concatenate([first[:1], chosen])
    # The half second is over with the first event behind it.
    end = t[first[0]] + span_us
    columns = [np.append(column[chosen], value) for column, value in zip((x, y, t, p), (5, 5, end, 1), strict=True)]
    diagnosis = examine(recording(*columns))
    assert ("flicker" in {finding.name for finding in diagnosis.findings}) is reported
    assert any(note.startswith("flicker") for note in diagnosis.unchecked) is not reported


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


@pytest.mark.parametrize(("factor", "reported"), [
    (2.3e-4, True), (2.6e-4, False), (1, False), (2300, False), (2500, True),
])  # fmt: skip
def test_rate_of_the_sensor(factor, reported):
    x, y, t, p = columns(1500)
    t = (t * factor).astype(np.int64)
    assert ("sensor_rate" in found(recording(x, y, t, p))) is reported


@pytest.mark.parametrize(("count", "reported"), [(1000, True), (999, False)])
def test_polarity_and_rates_need_a_thousand_events(count, reported):
    x, y, t, _ = columns(count)
    names = found(recording(x, y, t // 10_000, np.ones(count, np.uint8)))
    assert {"polarity_imbalance", "sensor_rate"} & set(names) == (
        {"polarity_imbalance", "sensor_rate"} if reported else set()
    )


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
        "hot_pixels": (
            f"{doctor_pixels.HOT_EVENTS} events",
            f"{doctor_pixels.HOT_RATE_HZ:g} Hz",
            f"{doctor_pixels.HOT_RATIO:g} times",
            f"at most {doctor_pixels.HOT_COMPANY} of the 24",
        ),
        "pixel_rate": ("20 kHz",),
        "repeated_events": ("0.5 %", f"{doctor_pixels.REPEATED_EVENTS} events"),
        "flicker": ("20 %", f"{doctor_rate.FLICKER_EVENTS:,}", "0.5 s"),
        "polarity_imbalance": ("5 %", f"{doctor_rate.MINORITY_EVENTS:,}"),
        "sensor_rate": ("0.0001", "1000"),
    }.items():
        for number in numbers:
            assert number in rows[name], (name, number)
