"""NumPy files, which are never unpickled."""

import io

import numpy as np
import pytest
from fuzzing import fuzz

from eventfm.events import Sensor
from eventfm.io import FormatError, open_recording


def columns(events, names="xytp", seconds=False):
    values = (events.x, events.y, events.t / 1e6 if seconds else events.t, events.p)
    return dict(zip(names, values, strict=True))


@pytest.mark.parametrize("order", ["txyp", "xypt"])
def test_structured_npy(tmp_path, make_events, assert_contract, order):
    events = make_events()
    np.save(tmp_path / "a.npy", events.to_structured(order))
    recording = open_recording(tmp_path / "a.npy")
    assert recording.format == "numpy"
    assert recording.sensor == Sensor(40, 30, inferred=True)
    assert_contract(recording, events)


@pytest.mark.parametrize("order", ["txyp", "xytp", "xypt"])
@pytest.mark.parametrize("seconds", [True, False])
@pytest.mark.parametrize("fortran", [True, False])
def test_table(tmp_path, make_events, assert_contract, order, seconds, fortran):
    events = make_events()
    named = columns(events, seconds=seconds)
    table = np.stack([named[name].astype(np.float64) for name in order], 1)
    np.save(tmp_path / "a.npy", np.asfortranarray(table) if fortran else table)
    assert_contract(open_recording(tmp_path / "a.npy"), events)


@pytest.mark.parametrize(
    "names", ["xytp", ("xs", "ys", "ts", "ps"), ("x_pos", "y_pos", "timestamp", "polarity"), ("x", "y", "t", "pol")]
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_of_columns(tmp_path, make_events, assert_contract, names, save):
    events = make_events()
    save(tmp_path / "a.npz", **columns(events, names))
    assert_contract(open_recording(tmp_path / "a.npz"), events)


def test_n_imagenet(tmp_path, make_events, assert_contract):
    events = make_events()
    kinds = [("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")]
    data = np.empty(len(events), kinds)
    for name, column in columns(events).items():
        data[name] = column
    np.savez_compressed(tmp_path / "n01440764_10026.npz", event_data=data)
    assert_contract(open_recording(tmp_path / "n01440764_10026.npz"), events)


def test_stated_size(tmp_path, make_events):
    np.savez(tmp_path / "a.npz", **columns(make_events()), width=640, height=480)
    assert open_recording(tmp_path / "a.npz").sensor == Sensor(640, 480)


class Exploit:
    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_pickled_objects_are_refused_and_never_loaded(tmp_path, kind):
    bad = np.array([Exploit()], object)
    path = tmp_path / f"a.{kind}"
    if kind == "npy":
        np.save(path, bad, allow_pickle=True)
    else:
        np.savez(path, events=bad)
    with pytest.raises(FormatError, match="pickled objects"):
        open_recording(path)


def test_arrays_without_events_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", image=np.zeros((4, 4)), y=np.zeros(3))
    with pytest.raises(FormatError, match=r"no x, t, p among .*image float64\(4, 4\)"):
        open_recording(tmp_path / "a.npz")


def test_truncated_npy(tmp_path, make_events, assert_same):
    events = make_events()
    np.save(tmp_path / "a.npy", events.to_structured())
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[: -13 * 7 - 5])
    with pytest.raises(FormatError, match="cut off after event 492 of 500"):
        open_recording(tmp_path / "a.npy")
    with pytest.warns(UserWarning, match="cut off after event 492"):
        recording = open_recording(tmp_path / "a.npy", on_error="sort")
    assert_same(recording.events_by_index(0, 500), events.take(0, 492))


def test_truncated_npz(tmp_path, make_events):
    np.savez(tmp_path / "a.npz", **columns(make_events()))
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[:-30])
    with pytest.raises(FormatError, match="damaged or cut off"):
        open_recording(tmp_path / "a.npz")


def test_a_header_that_claims_more_than_the_file_holds(tmp_path):
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f8", "fortran_order": False, "shape": (2**50, 4)})
    (tmp_path / "a.npy").write_bytes(out.getvalue() + bytes(64))
    with pytest.raises(FormatError, match="cut off"):
        open_recording(tmp_path / "a.npy")


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_damage_is_survived(tmp_path, make_events, kind):
    events = make_events()
    path = tmp_path / f"whole.{kind}"
    if kind == "npy":
        np.save(path, events.to_structured())
    else:
        np.savez_compressed(path, **columns(events))
    assert 10 < fuzz(path.read_bytes(), tmp_path, count=80, header=128) < 80
