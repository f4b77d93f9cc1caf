"""Open a recording of any known format by its content."""

from __future__ import annotations

import os
from pathlib import Path

from eventfm.events import OnError, Sensor
from eventfm.io.contract import DamagedFileError, FormatError, Reader, UnknownFormatError
from eventfm.protocols import Recording
from eventfm.registry import Registry

READERS = Registry(
    "reader",
    {
        "eventfm": "eventfm.io.store:READER",
        "aedat4": "eventfm.io.aedat4:READER",
        "aedat2": "eventfm.io.aedat2:READER",
        "aedat2_dvs128": "eventfm.io.aedat2:DVS128",
        "aedat2_dvs128_raw": "eventfm.io.aedat2:DVS128_RAW",
        "aedat2_davis240": "eventfm.io.aedat2:DAVIS240",
        "aedat2_davis240_raw": "eventfm.io.aedat2:DAVIS240_RAW",
        "aedat2_davis346": "eventfm.io.aedat2:DAVIS346",
        "aedat2_davis346_raw": "eventfm.io.aedat2:DAVIS346_RAW",
        "aedat1": "eventfm.io.aedat2:AEDAT1",
        "aedat1_raw": "eventfm.io.aedat2:AEDAT1_RAW",
        "aedat3": "eventfm.io.aedat3:READER",
        "raw": "eventfm.io.raw:READER",
        "evt2": "eventfm.io.raw:EVT2",
        "evt21": "eventfm.io.raw:EVT21",
        "evt21_legacy": "eventfm.io.raw:EVT21_LEGACY",
        "evt3": "eventfm.io.raw:EVT3",
        "dat": "eventfm.io.dat:READER",
        "es": "eventfm.io.event_stream:READER",
        "dsec": "eventfm.io.dsec:READER",
        "m3ed": "eventfm.io.m3ed:READER",
        "mvsec": "eventfm.io.mvsec:READER",
        "prophesee_hdf5": "eventfm.io.prophesee_hdf5:READER",
        "ddd": "eventfm.io.ddd:READER",
        "ess": "eventfm.io.ess:READER",
        "rvt": "eventfm.io.rvt:READER",
        "monash": "eventfm.io.monash:READER",
        "evlib": "eventfm.io.evlib:READER",
        "hdf5": "eventfm.io.hdf5:READER",
        "evimo": "eventfm.io.evimo:READER",
        "rpg_memmap": "eventfm.io.rpg_memmap:READER",
        "es_imagenet": "eventfm.io.es_imagenet:READER",
        "mat": "eventfm.io.mat:READER",
        "numpy": "eventfm.io.arrays:READER",
        "ecd": "eventfm.io.ecd:READER",
        "text": "eventfm.io.text:READER",
        "atis": "eventfm.io.atis:READER",
        "rosbag": "eventfm.io.rosbag:READER",
    },
)


def open_recording(
    path: str | os.PathLike[str],
    format: str | None = None,
    sensor: Sensor | tuple[int, int] | None = None,
    on_error: OnError = "raise",
) -> Recording:
    """Return the recording at `path`, whose format is told by its content.

    Args:
        path: A file, a folder, or `"file.h5::id"` for one recording of a file that holds many.
        format: A name from `READERS`, where the content is ambiguous; looked for if not given.
        sensor: Size as `Sensor` or `(width, height)`, where the file states none or a wrong one.
        on_error: What to do about damage: `"raise"`; `"sort"` or `"clamp"` mend it as `Events.checked` says, and
            read a file that is cut off up to the cut, with a warning.

    Raises:
        FileNotFoundError: Nothing is at `path`.
        PermissionError: It may not be read.
        UnknownFormatError: No reader knows the format; the message says why each declined.
        FormatError: The file is damaged.
        EventError: Events outside the sensor, or times that go backwards.
    """
    if on_error not in ("raise", "sort", "clamp", "keep"):  # the last is for the doctor
        raise FormatError(f"expected on_error to be 'raise', 'sort' or 'clamp', got {on_error!r}")
    if isinstance(sensor, str):
        raise FormatError(f"expected sensor as (width, height), got {sensor!r}")
    size = sensor if isinstance(sensor, Sensor) or sensor is None else Sensor(*sensor)
    whole = Path(path)
    file, inner = split_id(whole)
    _require_readable(file)
    if inner is not None and format is None:
        # Topics of ROS begin with a slash, which ids of a store never have.
        format = "rosbag" if inner.startswith("/") else "eventfm"
    reader: Reader = READERS.get(format or _find_format(file))
    return reader.open(whole if inner is not None else file, size, on_error)


def detect_format(path: str | os.PathLike[str]) -> str:
    """Return the name in `READERS` of the format of the file or folder at `path`, told by its content.

    Raises:
        FileNotFoundError: Nothing is at `path`.
        PermissionError: It may not be read.
        UnknownFormatError: No reader knows the format, or there is no content.
        FormatError: It begins as a known format does and is damaged, or it could be of several formats.
    """
    file = Path(path)
    _require_readable(file)
    return _find_format(file)


def split_id(path: Path) -> tuple[Path, str | None]:
    """Return the file and the id of `"file.h5::id"`; the id is None where there is none."""
    file, mark, inner = str(path).rpartition("::")
    if not mark or path.exists():
        return path, None
    return Path(file), inner


def _require_readable(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"no file or folder at {path}")
    if path.is_dir():
        if not os.access(path, os.R_OK | os.X_OK):
            raise PermissionError(f"the folder {path} may not be read; check its permissions")
        if not any(path.iterdir()):
            raise UnknownFormatError(f"the folder {path} is empty; expected a recording")
        return
    if not path.is_file():
        raise FormatError(f"expected a file or a folder at {path}, which is neither")
    if not os.access(path, os.R_OK):
        raise PermissionError(f"the file {path} may not be read; check its permissions")
    if path.stat().st_size == 0:
        raise UnknownFormatError(f"{path} is empty (0 bytes); expected a recording")


def _find_format(path: Path) -> str:
    scores: dict[str, float] = {}
    declined: list[str] = []
    kind: type[FormatError] = UnknownFormatError
    for name in READERS:
        try:
            score = float(READERS.get(name).sniff(path))
        except ValueError as error:
            kind = FormatError if isinstance(error, DamagedFileError) else kind
            declined.append(f"  {name}: {error}")
            continue
        if score > 0:
            scores[name] = score
        else:
            declined.append(f"  {name}: declined")
    best = [name for name, score in scores.items() if score == max(scores.values())]
    if not best:
        raise kind(f"{path} is of no known format; tried:\n" + "\n".join(declined))
    if len(best) > 1:
        raise FormatError(f"{path} could be {' or '.join(best)}; say which with format=")
    return best[0]
