"""`info` and `convert`: what a recording holds, and recordings from one format to another."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm import io
from eventfm.data.sequences import find_sequences, open_one
from eventfm.data.table import PICTURES
from eventfm.events import OnError, Sensor
from eventfm.io.opening import split_id
from eventfm.io.writers import target_suffix
from eventfm.protocols import Recording

PICTURED_EVENTS = 20_000
"""Events in the picture of a recording, from its middle: about what one look at a scene holds."""
JOURNAL = ".eventfm-convert.jsonl"
"""In the folder that many recordings are converted into: what was made of what."""
_PICTURE_PX = 240
_CURVE_PX = 64
_CURVE_COLOUR = (90, 90, 90)


def info(
    path: str | Path,
    *,
    png: str | Path | None = None,
    format: str | None = None,
    sensor: Sensor | tuple[int, int] | None = None,
    on_error: OnError = "raise",
) -> dict[str, Any]:
    """Return what a recording holds, with the keys that `io.summarise` lists: events, times, rates, sensor, tracks.

    `path` is a recording, or a sequence of DSEC or M3ED as it was published. With `png`, events from the middle of the
    recording and the curve of its rate are drawn into that file.

    Raises:
        ValueError: The file is of no known format, or is damaged.
    """
    recording = open_one(path, format, sensor, on_error)
    summary = io.summarise(recording)
    if png is not None:
        from eventfm.visualization.events import event_picture
        from eventfm.visualization.files import save_picture
        from eventfm.visualization.panel import panel

        middle = max(0, recording.num_events // 2 - PICTURED_EVENTS // 2)
        events = recording.events_by_index(middle, min(middle + PICTURED_EVENTS, recording.num_events))
        picture = event_picture(events, max(1, round(_PICTURE_PX / recording.sensor.height)))
        curve = _curve_picture(summary["rate_curve"]["events"], picture.shape[1])
        rate = f"{summary['duration_us'] / 1e6:.6g} s, up to {summary['peak_rate_hz']:.3g} events/s"
        rows = [[(f"{len(events):,} of {recording.num_events:,} events", picture)], [(rate, curve)]]
        save_picture(png, panel(rows, cell_height=1))
    return summary


def convert(
    source: str | os.PathLike[str] | Recording,
    target: str | os.PathLike[str],
    *,
    to: str | None = None,
    format: str | None = None,
    sensor: Sensor | tuple[int, int] | None = None,
    on_error: OnError = "raise",
    overwrite: bool = False,
) -> Path:
    """Write `source` in the format `to`, or that of the extension of `target`, and return the path.

    See `io.convert` for what the formats keep. A sequence of DSEC or M3ED as it was published is written with its
    frames warped to the event camera.

    Raises:
        ValueError: Another extension or format, or the source is damaged.
        FileExistsError: The target exists and `overwrite` is not set.
        OSError: The system refused to write.
    """
    if not isinstance(source, Recording) and find_sequences(source) is not None:
        source = open_one(source, format, sensor, on_error)
    return io.convert(source, target, to=to, format=format, sensor=sensor, on_error=on_error, overwrite=overwrite)


class Converted(NamedTuple):
    """What came of converting many recordings."""

    written: tuple[Path, ...]
    kept: tuple[Path, ...]
    """Done before, from the same source with the same settings, and intact."""
    failed: dict[str, str]
    """Why a source could not be converted, by its path."""


def convert_all(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    to: str = ".h5",
    format: str | None = None,
    sensor: Sensor | tuple[int, int] | None = None,
    on_error: OnError = "raise",
    overwrite: bool = False,
    quiet: bool = True,
) -> Converted:
    """Write every recording of `sources` (files, stores of many, folders searched through) into `folder`.

    Each file appears as a whole or not at all, and one that fails does not end the work. Called again, it goes on: what
    a hidden journal in `folder` knows as made of the same source with the same settings, and has its size and time of
    change still, is kept; what is there and was not made by this is a failure unless `overwrite` is set.

    Args:
        sources: What to read; names below a folder are kept.
        folder: Where to write.
        to: A format by name or suffix, one of `io.writers.WRITERS`.
        format: A hint for all sources.
        sensor: A hint for all sources.
        on_error: As for `open_recording`.
        overwrite: Whether files may be replaced that are there already.
        quiet: Whether to show no progress.

    Raises:
        ValueError: Nothing to read, nothing writes `to`, or two sources would become one file.
    """
    from eventfm.api.progress import counted  # the bar's package is slow to load, and `info` has none

    given = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    plan = plan_targets([item for source in given for item in find_recordings(source, format)], target_suffix(to))
    if not plan:
        raise ValueError(f"expected recordings in {', '.join(map(str, given)) or 'the sources'}, found none")
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    settings = {"to": to, "format": format, "sensor": _plain_size(sensor), "on_error": on_error}
    journal = _read_journal(root / JOURNAL)
    written, kept, failed = [], [], {}
    with counted("converting", len(plan), quiet) as show:
        for number, (name, source) in enumerate(plan.items()):
            show(number)
            target = root / name
            made = {"target": name, "source": _stamp(split_id(Path(source))[0]), "settings": settings}
            before = journal.get(name, {})
            if before == {**made, "stamp": _stamp(target)} and not overwrite:
                kept.append(target)
                continue
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                convert(
                    source, target, to=to, format=format, sensor=sensor, on_error=on_error,
                    overwrite=overwrite or bool(before),
                )  # fmt: skip
            except (ValueError, OSError) as error:
                failed[str(source)] = str(error)
                continue
            written.append(target)
            _note(root / JOURNAL, {**made, "stamp": _stamp(target)})
        show(len(plan))
    return Converted(tuple(written), tuple(kept), failed)


def _note(journal: Path, line: Mapping[str, Any]) -> None:
    """Write into `journal` that a file was made."""
    with journal.open("a", encoding="utf-8") as file:
        # A newline comes first too, so that a line that was cut off does not spoil the next one.
        file.write("\n" + json.dumps(line) + "\n")


def find_recordings(path: str | os.PathLike[str], format: str | None = None) -> list[tuple[str, str]]:
    """Return (name, source) of each recording at `path`: a file, a store of many, a sequence, a folder of such.

    Names are paths relative to `path`, or its own name where it is one recording. Files of no known format in a folder
    are passed over.

    Raises:
        FileNotFoundError: Nothing is at `path`.
        UnknownFormatError: `path` is a file of no known format.
    """
    root = Path(path)
    if (sequences := find_sequences(root)) is not None:
        return [(name or root.name, str(root / name)) for name in sequences.names]
    file, inner = split_id(root)
    if inner is not None:
        return [(inner.strip("/"), str(root))]
    return list(_in_folder(root, format)) if file.is_dir() and not _is_recording(root) else _in_file(root, format)


def _in_file(path: Path, format: str | None) -> list[tuple[str, str]]:
    kind = format or ("" if path.is_dir() else io.detect_format(path))
    ids = io.list_recordings(path) if kind == "eventfm" else []
    return [(f"{path.stem}/{name}", f"{path}::{name}") for name in ids] or [(path.name, str(path))]


def _in_folder(root: Path, format: str | None, below: str = "") -> Iterator[tuple[str, str]]:
    for path in sorted(root.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() in PICTURES:
            continue
        name = f"{below}{path.name}"
        if path.is_dir() and not _is_recording(path):
            yield from _in_folder(path, format, f"{name}/")
            continue
        try:
            found = _in_file(path, None)
        except io.UnknownFormatError:
            if format is None:
                continue
            found = [(path.name, str(path))]
        except ValueError:
            found = [(path.name, str(path))]  # damaged: whoever opens it says why
        yield from ((f"{below}{inner}", source) for inner, source in found)


def _is_recording(folder: Path) -> bool:
    try:
        return bool(io.detect_format(folder))
    except io.UnknownFormatError:
        return False
    except ValueError:
        return True


def plan_targets(found: Sequence[tuple[str, str]], suffix: str) -> dict[str, str]:
    """Return sources by the name of what is made of them; where two would share one, their suffix is kept."""
    # A folder, or a recording of a store, has no suffix even where its name has a dot.
    short = [(str(Path(name).with_suffix("")) if Path(source).is_file() else name) + suffix for name, source in found]
    times = Counter(short)
    plan: dict[str, str] = {}
    for (name, source), target in zip(found, short, strict=True):
        chosen = target if times[target] == 1 else name + suffix
        if chosen in plan:
            raise ValueError(f"{plan[chosen]} and {source} would both become {chosen}; convert them apart")
        plan[chosen] = source
    return plan


def _read_journal(path: Path) -> dict[str, dict[str, Any]]:
    """Return the last entry of each target; a line that was cut off while it was written does not count."""
    entries: dict[str, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
            entries[entry["target"]] = entry
        except (ValueError, KeyError, TypeError):
            continue
    return entries


def _stamp(path: Path) -> list[int] | None:
    """Return size and time of change of a file, or of all files of a folder but hidden ones; None if there is none."""
    if not path.exists():
        return None
    files = [path] if path.is_file() else [file for file in path.rglob("[!.]*") if file.is_file()]
    stats = [file.stat() for file in files]
    return [sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)]


def _plain_size(sensor: Sensor | tuple[int, int] | None) -> list[int] | None:
    return None if sensor is None else [sensor.width, sensor.height] if isinstance(sensor, Sensor) else list(sensor)


def _curve_picture(counts: Sequence[int], width: int) -> NDArray[np.uint8]:
    """Return a bar per column, (64, width, 3) uint8, the fullest as high as the picture."""
    picture = np.full((_CURVE_PX, width, 3), 255, np.uint8)
    if counts:
        heights = np.asarray(counts)[np.arange(width) * len(counts) // width] / max(max(counts), 1)
        bars = np.arange(_CURVE_PX)[::-1, None] < np.ceil(heights * _CURVE_PX)
        picture[bars] = _CURVE_COLOUR
    return picture
