"""Recordings that are decoded block by block, and the index that says where blocks begin."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eventfm.events import EventError, Events, Sensor
from eventfm.io.blocks import Block, BlockRecording, cached_index, stretches
from eventfm.io.columns import Columns
from eventfm.io.contract import DamagedFileError, FormatError

SENSOR = Sensor(40, 30)


@pytest.fixture(autouse=True)
def small_files_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the indices of files that are small enough for tests."""
    monkeypatch.setattr("eventfm.io.blocks.WORTH_KEEPING", 0)


ROW = np.dtype([("t", "<u4"), ("x", "u1"), ("y", "u1"), ("p", "u1")])


def decode(data: Any, state: tuple[int, ...]) -> Columns:
    """Rows of seven bytes whose times count from the block's own start."""
    rows = np.frombuffer(data.tobytes(), ROW)
    return Columns(rows["x"], rows["y"], rows["t"].astype(np.int64) + state[0], rows["p"])


def write(path: Path, events: Events, lengths: list[int]) -> list[Block]:
    """Write blocks of so many events after a header of three bytes, and return where they are."""
    blocks, content, start = [], b"abc", 0
    for count in lengths:
        part = events.take(start, start + count)
        first = int(part.t[0]) if count else 0
        rows = np.zeros(count, ROW)
        rows["t"], rows["x"], rows["y"], rows["p"] = part.t - first, part.x, part.y, part.p
        last = int(part.t[-1]) if count else 0
        blocks.append(Block(len(content), rows.nbytes, start, count, first, last, (first, 7)))
        content += rows.tobytes()
        start += count
    path.write_bytes(content)
    return blocks


def test_slices_are_those_of_the_whole(make_events: Any, assert_contract: Any, tmp_path: Path) -> None:
    events = make_events(count=500)
    blocks = write(tmp_path / "file", events, [100, 0, 1, 250, 149])
    assert_contract(BlockRecording(tmp_path / "file", "test", SENSOR, blocks, decode, "raise"), events)


def test_only_the_blocks_that_a_slice_touches_are_decoded(make_events: Any, tmp_path: Path) -> None:
    events = make_events(count=500)
    blocks = write(tmp_path / "file", events, [100] * 5)
    asked: list[int] = []

    def watched(data: Any, state: tuple[int, ...]) -> Columns:
        asked.append(state[0])
        return decode(data, state)

    recording = BlockRecording(tmp_path / "file", "test", SENSOR, blocks, watched, "raise")
    recording.events_by_index(150, 250)
    assert asked == [blocks[1].t_first, blocks[2].t_first]
    recording.events(blocks[2].t_first + 1, blocks[2].t_last)
    assert len(asked) == 2, "what is at hand is not decoded again"
    for number in range(5):
        recording.events_by_index(100 * number, 100 * number + 1)
    recording.events_by_index(100, 101)
    assert asked.count(blocks[1].t_first) == 2, "no more than a few blocks are kept"


def test_times_that_go_back_between_blocks_are_refused_or_mended(make_events: Any, tmp_path: Path) -> None:
    events = make_events(count=200)
    blocks = write(tmp_path / "file", events, [100, 100])
    swapped = [blocks[1]._replace(start=0), blocks[0]._replace(start=100)]
    with pytest.raises(EventError):
        BlockRecording(tmp_path / "file", "test", SENSOR, swapped, decode, "raise").events_by_index(0, 200)
    mended = BlockRecording(tmp_path / "file", "test", SENSOR, swapped, decode, "sort")
    np.testing.assert_array_equal(mended.events(*_range(events)).t, events.t)


def _range(events: Events) -> tuple[int, int]:
    return int(events.t[0]), int(events.t[-1]) + 1


@pytest.mark.parametrize(("start", "stop"), [(0, 10), (3, 10), (4, 9), (3, 4), (10, 10), (4, 3)])
def test_stretches_are_the_bytes_of_the_file_one_after_the_other(start: int, stop: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100, 110)))
    found = [(offset, data.tobytes()) for offset, data in stretches(path, start, stop, 4)]
    assert found == [(at, bytes(range(100 + at, 100 + min(at + 4, stop)))) for at in range(start, stop, 4)]


def test_a_file_that_changes_under_a_recording_is_refused(make_events: Any, tmp_path: Path) -> None:
    events = make_events(count=200)
    blocks = write(tmp_path / "file", events, [100, 100])
    recording = BlockRecording(tmp_path / "file", "test", SENSOR, blocks, decode, "raise")
    os.truncate(tmp_path / "file", blocks[1].offset + 7)
    recording.events_by_index(0, 100)
    with pytest.raises(DamagedFileError, match=rf"from byte {blocks[1].offset} on, got 7; .* open it again"):
        recording.events_by_index(100, 101)
    wrong = BlockRecording(tmp_path / "file", "test", SENSOR, [blocks[0]._replace(num_events=99)], decode, "raise")
    with pytest.raises(FormatError, match="expected 99 events from byte 3 on, got 100"):
        wrong.events_by_index(0, 1)


def test_an_index_is_made_once_for_a_file_as_it_is(make_events: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    blocks = write(path, make_events(count=200), [100, 60, 40])
    blocks[1] = blocks[1]._replace(state=())
    scans: list[Path] = []

    def scan(found: Path) -> list[Block]:
        scans.append(found)
        return blocks

    assert cached_index(path, "kind /a", 1, scan) == blocks
    assert cached_index(path, "kind /a", 1, scan) == blocks
    assert len(scans) == 1
    cached_index(path, "kind /b", 1, scan)
    cached_index(path, "kind /a", 1, scan)
    assert len(scans) == 2, "two kinds of index stand side by side"
    cached_index(path, "kind /a", 2, scan)
    os.utime(path, ns=(0, 0))
    cached_index(path, "kind /a", 2, scan)
    assert len(scans) == 4, "another version, or another file, needs another index"
    (index,) = tmp_path.glob(".file.kind_a.*")
    index.write_bytes(index.read_bytes()[:50])
    assert cached_index(path, "kind /a", 2, scan) == blocks
    assert len(scans) == 5


def test_the_index_of_a_small_file_is_not_kept(
    make_events: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write(tmp_path / "file", make_events(count=10), [10])
    monkeypatch.setattr("eventfm.io.blocks.WORTH_KEEPING", 1 << 20)
    assert cached_index(tmp_path / "file", "kind", 1, lambda path: made) == made
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_where_nothing_may_be_written_the_index_is_kept_elsewhere(
    make_events: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eventfm.io import blocks as module

    folder = tmp_path / "shared"
    folder.mkdir()
    made = write(folder / "file", make_events(count=10), [10])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    save = module._save
    monkeypatch.setattr(module, "_save", lambda file, *rest: file.parent != folder and save(file, *rest))
    scans = []
    for _ in range(2):
        assert cached_index(folder / "file", "kind", 1, lambda path: scans.append(path) or made) == made
    assert len(scans) == 1
    assert len(list((tmp_path / "cache" / "eventfm").iterdir())) == 1
    assert [path.name for path in folder.iterdir()] == ["file"]
    assert stat.S_ISREG((folder / "file").stat().st_mode)
