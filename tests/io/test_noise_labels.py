"""Noise labels in the native store: kept where a simulator knows them, absent where nobody does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, FormatError, convert, open_recording, save_recording
from eventfm.io import store_layout as layout


def noisy(count: int = 300) -> Events:
    rng = np.random.default_rng(1)
    t = np.sort(rng.integers(0, 40_000, count))
    events = Events.checked(rng.integers(0, 8, count), rng.integers(0, 6, count), t, t % 2, Sensor(8, 6))
    return replace(events, noise=(rng.random(count) < 0.3).astype(np.uint8))


@pytest.mark.parametrize("piece", [17, 1000])
def test_labels_come_back_with_every_slice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(layout, "_PIECE", piece)
    events = noisy()
    found = open_recording(save_recording(tmp_path / "a.h5", ArrayRecording(events)))
    whole = found.events_by_index(0, 300)
    assert whole.noise is not None
    assert whole.noise.dtype == np.uint8
    np.testing.assert_array_equal(whole.noise, events.noise)
    np.testing.assert_array_equal(found.events(7000, 21_000).noise, events.between(7000, 21_000).noise)
    np.testing.assert_array_equal(found.events_by_index(10, 20).noise, events.noise[10:20])


def test_without_labels_there_is_no_column(tmp_path: Path) -> None:
    path = save_recording(tmp_path / "a.h5", ArrayRecording(replace(noisy(), noise=None)))
    assert open_recording(path).events_by_index(0, 300).noise is None
    with h5py.File(path) as file:
        assert sorted(file["events"]) == ["p", "t", "x", "y"]


def test_other_formats_leave_them_out(tmp_path: Path) -> None:
    path = save_recording(tmp_path / "a.h5", ArrayRecording(noisy()))
    back = open_recording(convert(path, tmp_path / "b.npz"))
    assert back.events_by_index(0, 300).noise is None
    again = open_recording(convert(path, tmp_path / "c.h5")).events_by_index(0, 300)
    np.testing.assert_array_equal(again.noise, noisy().noise)


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = save_recording(tmp_path / "a.h5", ArrayRecording(noisy()))
    with h5py.File(path, "r+") as file:
        del file["events/noise"]
        file["events/noise"] = np.zeros(299, np.uint8)
    with pytest.raises(FormatError, match="299 noise labels for 300 events"):
        open_recording(path)


@pytest.mark.filterwarnings("ignore:.*mended by")
def test_mended_events_have_no_labels(tmp_path: Path) -> None:
    path = save_recording(tmp_path / "a.h5", ArrayRecording(noisy()))
    with h5py.File(path, "r+") as file:
        file["events/t"][100] += 30_000
    mended = open_recording(path, on_error="sort")
    assert mended.events_by_index(90, 120).noise is None
    assert mended.events_by_index(0, 50).noise is not None


def test_pieces_must_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_PIECE", 100)

    class Forgetful(ArrayRecording):
        def events_by_index(self, start: int, stop: int) -> Events:
            part = super().events_by_index(start, stop)
            return part if start < 100 else replace(part, noise=None)

    with pytest.raises(FormatError, match="some pieces of the recording say which events are noise"):
        save_recording(tmp_path / "a.h5", Forgetful(noisy()))
    assert not (tmp_path / "a.h5").exists()
