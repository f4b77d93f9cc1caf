"""Events as an HDF5 file in the layout of DSEC (Gehrig et al., RA-L 2021), for the tools that are made for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from eventfm.io.atomic import atomic_file
from eventfm.io.contract import FormatError
from eventfm.io.hdf5_sink import hdf5_writer
from eventfm.io.pieces import pieces
from eventfm.io.sensor_attributes import write_sensor
from eventfm.io.writers import warn_of_lost
from eventfm.protocols import Recording

_PIECE = 1_000_000
_CHUNK = 40_000
_COLUMNS = {"p": np.uint8, "x": np.uint16, "y": np.uint16, "t": np.uint32}
_LONGEST_US = (1 << 32) - 1
_MS_US = 1000


def save_dsec(path: Path, recording: Recording, overwrite: bool = False) -> None:
    """Write `events/{p, x, y, t}`, `ms_to_idx` and `t_offset`, compressed as DSEC's files are; no tracks.

    Times in the file count from the first event, whose time is `t_offset`. The sensor is noted in attributes of the
    file, which has no other place for it.

    Raises:
        FormatError: More than 2^32 us from the first event to the last, or times that go backwards between pieces.
        FileExistsError: The file exists and `overwrite` is not set.
        WriteError: The system refused to write.
    """
    warn_of_lost(list(recording.tracks), "DSEC")
    offset_us: int | None = None
    written, next_ms = 0, 0
    with atomic_file(path, overwrite) as temporary, hdf5_writer(temporary) as (file, check):
        events = file.create_group("events")
        columns = {name: _growing(events, name, dtype) for name, dtype in _COLUMNS.items()}
        index = _growing(file, "ms_to_idx", np.uint64)
        for piece in pieces(recording, _PIECE):
            offset_us = int(piece.t[0]) if offset_us is None else offset_us
            relative = piece.t - offset_us
            last = int(relative[-1])
            if last > _LONGEST_US:
                raise FormatError(
                    f"expected at most {_LONGEST_US} us (71.6 min) from the first event to the last for DSEC, whose "
                    f"times have 32 bits, got {last}; the native store (.h5) has its layout too, with 64 bits"
                )
            for name, column in columns.items():
                _append(column, relative if name == "t" else getattr(piece, name))
            stop_ms = last // _MS_US + 1
            begins_us = np.arange(next_ms, stop_ms, dtype=np.int64) * _MS_US
            _append(index, written + np.searchsorted(relative, begins_us, side="left"))
            next_ms = stop_ms
            written += len(piece)
            check()
        file.create_dataset("t_offset", data=np.int64(offset_us or 0))
        write_sensor(file, recording.sensor)


def _growing(group: Any, name: str, dtype: Any) -> Any:
    compression = hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=hdf5plugin.Blosc.SHUFFLE)
    return group.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(_CHUNK,), **compression)


def _append(column: Any, values: NDArray[Any]) -> None:
    start = len(column)
    column.resize((start + len(values),))
    column[start:] = values.astype(column.dtype)
