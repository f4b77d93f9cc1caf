"""`eventfm doctor` and `diagnose`: damaged files are opened, counted, and mended into a copy."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from eventfm import api, cli
from eventfm.io import READERS, FormatError, list_recordings, open_recording

ROWS = "20 20\n100 1 2 1\n50 3 0 0\n300 2 2 1\n310 25 2 1\n310 2 3 0\n310 2 3 0\n"


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Return a text file with a step back, an event off the sensor and one that is there twice."""
    path = tmp_path / "damaged.txt"
    path.write_text(ROWS)
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["eventfm", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


@pytest.mark.filterwarnings("error")
def test_damaged_files_are_opened_and_counted(damaged: Path) -> None:
    with pytest.raises(ValueError, match="outside the 20x20"):
        open_recording(damaged)
    diagnosis = api.diagnose(damaged)
    assert {finding.name: finding.number for finding in diagnosis.findings} == {
        "outside_sensor": 1,
        "time_backwards": 1,
    }
    assert (diagnosis.format, diagnosis.num_events, diagnosis.fixed, diagnosis.changes) == ("text", 6, None, None)


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".txt"])
@pytest.mark.filterwarnings("error")
def test_a_repaired_copy_is_clean(damaged: Path, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / "new" / f"mended{suffix}"
    diagnosis = api.diagnose(damaged, fix=target)
    changes = diagnosis.changes
    assert changes is not None
    assert diagnosis.fixed == str(target)
    assert (changes.outside_dropped, changes.moved, changes.repeats_dropped, changes.num_events) == (1, 2, 1, 4)
    assert api.diagnose(target).clean
    assert open_recording(target).events_by_index(0, 9).t.tolist() == [50, 100, 300, 310]
    assert damaged.read_text() == ROWS


def test_the_source_is_never_written_to(damaged: Path, tmp_path: Path) -> None:
    (tmp_path / "link.txt").hardlink_to(damaged)
    for target in (damaged, tmp_path / "x" / ".." / "damaged.txt", tmp_path / "link.txt"):
        with pytest.raises(ValueError, match="part of what is repaired"):
            api.diagnose(damaged, fix=target, overwrite=True)
    with pytest.raises(FormatError, match="extensions"):
        api.diagnose(damaged, fix=tmp_path / "a.xyz")
    taken = tmp_path / "taken.h5"
    taken.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="overwrite"):
        api.diagnose(damaged, fix=taken)
    assert (damaged.read_text(), taken.read_bytes()) == (ROWS, b"precious")
    assert not api.diagnose(damaged, fix=taken, overwrite=True).clean
    assert open_recording(taken).num_events == 4


def test_what_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "a.bin2"
    path.write_bytes(b"\x01\x00nothing known")
    diagnosis = api.diagnose(path)
    assert [finding.name for finding in diagnosis.findings] == ["unreadable"]
    assert "unreadable" in str(diagnosis)
    with pytest.raises(FormatError):
        api.diagnose(path, fix=tmp_path / "a.h5")
    with pytest.raises(FileNotFoundError):
        api.diagnose(tmp_path / "gone")


def test_the_command_says_it_and_exits_with_1(
    damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "doctor", damaged, "--fix", tmp_path / "m.h5") == 1
    out = capsys.readouterr().out
    for words in ("time_backwards: time goes back 1 times", "-> sort it", "wrote", "outside dropped 1", "moved 2"):
        assert words in out
    assert run(monkeypatch, "doctor", tmp_path / "m.h5") == 0
    assert "nothing found" in capsys.readouterr().out
    assert run(monkeypatch, "doctor", damaged, tmp_path / "m.h5", "--json", "--sensor", "30x30") == 1
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert ([f["name"] for f in first["findings"]], first["clean"]) == (["time_backwards"], False)
    assert (second["findings"], second["clean"]) == ([], True)
    assert run(monkeypatch, "doctor", tmp_path / "gone") == 2


def test_stores_and_folders_are_looked_through(store: Path, tmp_path: Path) -> None:
    ids = list_recordings(store)
    assert [d.path for d in api.diagnose_all(store)] == [f"{store}::{name}" for name in ids]
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "a.txt").write_text(ROWS)
    (tmp_path / "some" / "b.txt").write_text(ROWS)
    found = list(api.diagnose_all([tmp_path / "some"], fix=tmp_path / "mended"))
    assert [Path(d.fixed or "").name for d in found] == ["a.h5", "b.h5"]
    assert [open_recording(d.fixed or "").num_events for d in found] == [4, 4]


@pytest.mark.parametrize(("name", "expected"), [
    ("pairs/slider_depth/events.txt", set()),
    ("pairs/davis346_street.aedat4", set()),
    ("formats/nmnist.bin", set()),
    ("labelled/nmnist/1.bs2", set()),
    ("pairs/slider_depth", {"reader_warns", "frames_outside_events"}),
    ("formats/davis346_static.aedat4", {"polarity_imbalance", "gaps"}),
    ("formats/empty.aedat4", set()),
])  # fmt: skip
def test_real_files(real_data: Path, name: str, expected: set[str]) -> None:
    """What is known of them: pictures of one are missing, and one is of a still scene, ON only."""
    assert {finding.name for finding in api.diagnose(real_data / name).findings} == expected


@pytest.mark.skipif("evt2" not in READERS, reason="no reader of headerless EVT2")
@pytest.mark.filterwarnings("ignore")
def test_a_real_file_whose_time_goes_back(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "formats/evt2_time_goes_back.bin"
    with pytest.raises(ValueError, match=r"goes back|before the first"):
        open_recording(path, "evt2").events_by_index(0, 10**9)
    mended = open_recording(path, "evt2", on_error="sort")
    assert (np.diff(mended.events_by_index(0, 1000).t) >= 0).all()
    diagnosis = api.diagnose(path, fix=tmp_path / "a.h5", format="evt2")
    names = {finding.name: finding.number for finding in diagnosis.findings}
    assert names["time_backwards"] >= 1
    assert diagnosis.changes is not None
    assert diagnosis.changes.moved >= 1
    after = api.diagnose(tmp_path / "a.h5")
    assert not {"time_backwards", "clock_wraps", "outside_sensor", "hot_pixels", "repeated_events"} & {
        finding.name for finding in after.findings
    }
