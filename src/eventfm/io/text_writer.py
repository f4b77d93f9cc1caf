"""Write events as CSV."""

from __future__ import annotations

import os
from pathlib import Path

from eventfm.io.atomic import atomic_file
from eventfm.io.writers import PIECE, warn_of_lost
from eventfm.protocols import Recording


def save_csv(path: str | os.PathLike[str], recording: Recording, overwrite: bool = False) -> Path:
    """Write the events as rows `t,x,y,p` in microseconds and return the path; the recording is read piece by piece.

    The first line is `%geometry:WIDTH,HEIGHT`, unless the size was inferred, and the next names the columns. Tracks are
    left behind, with a warning.

    Raises:
        FileExistsError: The file exists and `overwrite` is not set.
        WriteError: The system refused to write.
    """
    target = Path(path)
    warn_of_lost(list(recording.tracks), ".csv")
    with atomic_file(target, overwrite) as temporary, temporary.open("w", encoding="ascii") as file:
        if not recording.sensor.inferred:
            file.write(f"%geometry:{recording.sensor.width},{recording.sensor.height}\n")
        file.write("t,x,y,p\n")
        for start in range(0, recording.num_events, PIECE):
            piece = recording.events_by_index(start, start + PIECE)
            columns = (getattr(piece, name).tolist() for name in "txyp")
            file.writelines(f"{t},{x},{y},{p}\n" for t, x, y, p in zip(*columns, strict=True))
    return target
