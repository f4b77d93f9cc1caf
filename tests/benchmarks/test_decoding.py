"""The decoding benchmark: its files hold the stream, readers are compared, peers that are missing are named."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from eventfm.io import open_recording

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def files() -> ModuleType:
    return importlib.import_module("decoded.files")


def vector_events(words: list[int]) -> list[tuple[int, int, int, int]]:
    """Events x, y, t, p of words of EVT3, by the layout; no loops of the clock."""
    out, time, row, base, polarity = [], 0, 0, 0, 0
    for word in words:
        kind, value = word >> 12, word & 0xFFF
        if kind == 8:
            time = value << 12
        elif kind == 6:
            time = time & ~0xFFF | value
        elif kind == 0:
            row = value
        elif kind == 3:
            base, polarity = value & 0x7FF, value >> 11
        elif kind == 4:
            out += [(base + i, row, time, polarity) for i in range(12) if value >> i & 1]
            base += 12
        else:
            assert kind == 2
            out.append((value & 0x7FF, row, time, value >> 11))
    return out


def test_the_files_hold_the_stream(files: ModuleType, tmp_path: Path) -> None:
    events = files.stream(5_000)
    rows = list(zip(*(getattr(events, name).tolist() for name in "xytp"), strict=True))
    assert len(rows) == 5_000
    paths = files.make_files(tmp_path, events)
    assert set(paths) == set(importlib.import_module("decoded.report").RATIOS)
    for kind, path in paths.items():
        found = open_recording(path).events_by_index(0, 6_000)
        assert found.sensor.width == 640
        assert list(zip(*(getattr(found, name).tolist() for name in "xytp"), strict=True)) == rows, kind
    words = files.vector_words(events).tolist()
    assert vector_events(words) == rows
    kinds = {word >> 12 for word in words}
    assert kinds == {0, 2, 3, 4, 6, 8}
    # Many of them are vectors.
    assert paths["EVT3 vectors"].stat().st_size < 0.9 * paths["EVT3"].stat().st_size


def test_a_reader_of_other_events_is_told(files: ModuleType) -> None:
    difference = importlib.import_module("decoded.measuring").difference
    events = files.stream(100)
    truth = (events.x, events.y, events.t, events.p)
    assert difference((events.x, events.y, events.t.astype(np.uint64), events.p == 1), truth) == ""
    assert difference(tuple(column[1:] for column in truth), truth) == "99 events"
    assert difference((events.x, events.y[::-1], events.t, 1 - events.p), truth) == "y, p differ"
    late = events.t.astype(np.uint64)
    late[3] -= np.uint64(7)
    assert difference((events.x, events.y, late, events.p), truth) == "t differ, t by up to 7 us"


def row(rate: float, differs: str = "") -> dict[str, Any]:
    return {"events_per_s": rate, "differs": differs, "bytes_per_event": 20.0, "first_s": 0.5}


def test_the_best_peer_is_one_that_gives_the_same_events(tmp_path: Path) -> None:
    report = importlib.import_module("decoded.report")
    readers = {
        "one": row(50e6),
        "wrong": row(900e6, "99 events"),
        "gone": {"note": "not installed"},
        "eventfm": row(40e6) | {"bytes_per_event": 26.0, "first_s_compiling": 2.5},
    }
    slow = report.judge("EVT2", {"bytes_per_event": 4.0, "readers": readers})
    assert (slow["best_peer"], slow["ratio"], slow["fast_enough"], slow["small_enough"]) == ("one", 0.8, False, False)
    assert report.judge("DAT", {"bytes_per_event": 8.0, "readers": readers})["fast_enough"]
    alone = report.judge("ES", {"bytes_per_event": 5.0, "readers": {"eventfm": row(40e6)}})
    assert (alone["best_peer"], alone["ratio"], alone["fast_enough"]) == (None, None, True)
    report.write_report(tmp_path, {"EVT2": slow, "ES": alone}, 1_000_000)
    text = (tmp_path / "README.md").read_text()
    assert "| EVT2, 4.0 | gone | | | | | not installed |" in text
    assert "| EVT2, 4.0 | wrong | 900 |  | 20.0 | 0.50 | other events: 99 events |" in text
    assert "| EVT2, 4.0 | eventfm | 40 | 0.80 (target 1) | 26.0 | 0.50 (2.5) |  |" in text
    assert "| ES, 5.0 | eventfm | 40 | no peer (target 1) | 20.0 | 0.50 |  |" in text
    assert "Targets missed: EVT2: rate, memory." in text


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured as Linux shows it")
def test_all_of_it_runs_without_peers(tmp_path: Path) -> None:
    """The peers of Event Stream are of the extra `bench`; here they are hidden."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys; sys.modules.update(faery=None, event_stream=None)\n")
    out = tmp_path / "out"
    command = [sys.executable, str(BENCHMARKS / "decoding.py"), "--count", "2000", "--formats", "ES", "--out", str(out)]
    environment = {"PATH": "", "PYTHONPATH": str(hidden)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert "| ES, 5.0 | faery | | | | | not installed |" in done.stdout
    found = json.loads((out / "results.json").read_text())
    assert found["events"] == 2_000
    readers = found["formats"]["ES"]["readers"]
    assert readers["event_stream"] == {"note": "not installed"}
    assert readers["eventfm"]["differs"] == ""
    assert readers["eventfm"]["events_per_s"] > 0
    assert (out / "README.md").read_text().startswith("# Decoding 0.002 M events")
