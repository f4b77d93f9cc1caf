"""Text: rows `t x y p` or `x y p t`, by spaces or commas, in seconds or microseconds; Metavision CSV."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eventfm.events import Events, OnError, Sensor
from eventfm.io.columns import guess_order, table_columns
from eventfm.io.contract import FormatError, Reader, choose_sensor, report_cut
from eventfm.io.recording import ArrayRecording
from eventfm.io.searched import SearchedRecording, find_sensor
from eventfm.io.text_source import TextSource
from eventfm.protocols import Recording

_HEAD_BYTES = 1 << 16
_LARGEST_IN_MEMORY = 1 << 26
_NAMES = {
    **dict.fromkeys(("t", "ts", "time", "times", "timestamp", "timestamps", "t_us"), "t"),
    **dict.fromkeys(("x", "xs"), "x"),
    **dict.fromkeys(("y", "ys"), "y"),
    **dict.fromkeys(("p", "ps", "pol", "polarity", "on"), "p"),
}
_GEOMETRY = re.compile(r"geometry\s*[:=]?\s*(\d+)\s*[,x ]\s*(\d+)", re.IGNORECASE)


class Head(NamedTuple):
    """What stands before the first event, and how the rows are written."""

    num_lines: int
    """Lines before the first row."""
    sensor: Sensor | None
    columns: dict[str, int] | None
    """Which column is x, y, t and p, where a header names them."""
    num_columns: int
    delimiter: str | None


def read_head(path: Path) -> Head:
    """Return what the first lines of `path` say.

    Raises:
        FormatError: The file is not text, or its first row is not one of numbers.
    """
    with path.open("rb") as file:
        data = file.read(_HEAD_BYTES)
    if b"\0" in data or not data.isascii():
        raise FormatError("it is not plain text")
    lines = data.decode("ascii").splitlines()
    sensor: Sensor | None = None
    columns: dict[str, int] | None = None
    for number, line in enumerate(lines):
        stated = _GEOMETRY.search(line)
        if stated:
            sensor = Sensor(int(stated[1]), int(stated[2]))
            continue
        fields = [field for field in re.split(r"[,;\s]+", line.strip().lstrip("%# ")) if field]
        names = [_NAMES.get(field.lower().strip('"').partition("@")[0]) for field in fields]
        if {"x", "y", "t", "p"} <= set(names):
            columns = {name: names.index(name) for name in "xytp"}
            # faery writes the size into the names: t,x@640,y@480,on.
            width, height = (fields[columns[name]].strip('"').partition("@")[2] for name in "xy")
            if width.isdigit() and height.isdigit():
                sensor = Sensor(int(width), int(height))
            continue
        if not fields or line.lstrip().startswith(("%", "#")):
            continue
        if not all(map(_is_number, fields)):
            raise FormatError(f"line {number + 1} is no row of numbers: {line.strip()[:60]!r}")
        if len(fields) == 2 and sensor is None and all(field.isdigit() for field in fields):
            sensor = Sensor(int(fields[0]), int(fields[1]))
            continue
        return Head(number, sensor, columns, len(fields), "," if "," in line else None)
    return Head(len(lines), sensor, columns, 4, None)


def sniff(path: Path) -> float:
    """Return 0.9 for text whose columns are named or whose size is stated, 0.7 for rows that look like events.

    Raises:
        FormatError: It is not text, or its rows are no events.
    """
    if path.is_dir():
        raise FormatError("it is a folder")
    head = read_head(path)
    if head.columns is not None:
        return 0.9
    rows = _first_rows(path, head)
    if not len(rows):
        if head.sensor is None:
            raise FormatError("it has no row of numbers")
        return 0.5
    guess_order(rows)
    return 0.9 if head.sensor else 0.7


def read_events(path: Path, sensor: Sensor | None, on_error: OnError) -> Events:
    """Return the events of a text file.

    Raises:
        FormatError: A row is damaged, or the last one is cut off.
    """
    head = read_head(path)
    num_rows, cut = _count_rows(path, head)
    if cut:
        report_cut(f"{path}: cut off in the middle of event {num_rows}", on_error)
    named = head.columns
    try:
        table = (
            np.loadtxt(
                path,
                skiprows=head.num_lines,
                delimiter=head.delimiter,
                comments=None,
                max_rows=num_rows if cut else None,
                ndmin=2,
                usecols=[named[name] for name in "txyp"] if named else None,
                encoding="latin-1",
            )
            if num_rows
            else np.empty((0, 4))
        )
        if table.shape[1] != 4:
            raise FormatError(f"expected 4 columns, got {table.shape[1]}; a header must name x, y, t and p among them")
        order = "txyp" if named else guess_order(table[:1000])
        columns = table_columns(table, order, str(path))
    except FormatError as error:
        raise FormatError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    except ValueError as error:
        raise FormatError(f"{path}: a row after line {head.num_lines} is damaged: {error}") from None
    size = choose_sensor(columns.x, columns.y, sensor, head.sensor)
    return Events.checked(*columns, size, on_error=on_error, source=str(path))


def open_file(path: Path, sensor: Sensor | None, on_error: OnError) -> Recording:
    """Return the recording: in memory, or read when asked for where the file is larger than 64 MB."""
    if path.stat().st_size <= _LARGEST_IN_MEMORY:
        return ArrayRecording(read_events(path, sensor, on_error), format="text")
    head = read_head(path)
    order = "txyp" if head.columns is not None else guess_order(_first_rows(path, head)[:1000])
    columns = [head.columns[name] for name in "txyp"] if head.columns is not None else None
    with path.open("rb") as file:
        for _ in range(head.num_lines):
            file.readline()
        source = TextSource(path, file.tell(), order, columns, head.delimiter)
    if source.drop_cut_row(head.num_columns):
        report_cut(f"{path}: cut off in the middle of event {len(source)}", on_error)
    return SearchedRecording(source, "text", find_sensor(source, sensor, head.sensor), on_error)


def _first_rows(path: Path, head: Head) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    with path.open("rb") as file:
        data = file.read(_HEAD_BYTES)
    lines = data.decode("ascii").splitlines()[head.num_lines :]
    if len(data) == _HEAD_BYTES:
        lines = lines[:-1]
    rows = [re.split(r"[,\s]+", line.strip()) for line in lines if line.strip()]
    if len(rows) > 1 and len(rows[-1]) < head.num_columns:
        rows = rows[:-1]
    for number, row in enumerate(rows):
        if len(row) != 4 or not all(map(_is_number, row)):
            raise FormatError(f"row {number} is not four numbers: {' '.join(row)[:60]!r}")
    return np.array(rows, np.float64).reshape(-1, 4)


def _count_rows(path: Path, head: Head) -> tuple[int, bool]:
    """Return the number of whole rows and whether a cut one follows."""
    num_lines, last = 0, b""
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                num_lines, last = num_lines + 1, line
            elif num_lines < head.num_lines:
                num_lines += 1
    num_rows = max(num_lines - head.num_lines, 0)
    fields = last.replace(b",", b" ").split()
    cut = num_rows > 0 and len(fields) < head.num_columns and not last.endswith(b"\n")
    return num_rows - cut, cut


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


READER = Reader(sniff, open_file)
