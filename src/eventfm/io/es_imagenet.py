"""ES-ImageNet samples (Lin et al., 2021): an npz of `pos` and `neg`, each (n, 3) uint8 of row, column and step 1 to 8.

There is no clock in them: an event is made by moving a picture in eight steps. One step is taken as 1 us, so that a
sample lasts from 1 to 8 us. Rows and columns count from the picture's own corner on a sensor of 256x256; the authors
centre it by the sizes in their list of labels, and cut out 224x224, which is left to whoever uses the data set.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eventfm.events import Events, OnError, Sensor
from eventfm.io.arrays import npz_names, read_npz
from eventfm.io.contract import FormatError, Reader
from eventfm.io.recording import ArrayRecording

_SENSOR = Sensor(256, 256, "ES-ImageNet")


def sniff(path: Path) -> float:
    """Return 1 for an npz with `pos` and `neg`.

    Raises:
        FormatError: It is none.
    """
    if not {"pos", "neg"} <= set(npz_names(path)):
        raise FormatError("it is no npz with pos and neg")
    return 1.0


def open_file(path: Path, sensor: Sensor | None, on_error: OnError) -> ArrayRecording:
    """Return the recording, in memory, in the order of the steps.

    Raises:
        FormatError: The file is damaged, or has other arrays.
    """
    arrays = read_npz(path, ("pos", "neg"))
    parts = []
    for name in ("neg", "pos"):
        array = arrays.get(name)
        if array is None or array.ndim != 2 or array.shape[1] != 3 or array.dtype.kind not in "iu":
            found = "nothing" if array is None else f"{array.dtype}{array.shape}"
            raise FormatError(f"{path}: expected whole numbers (n, 3) as {name}, got {found}")
        parts.append(array.astype(np.int64))
    rows = np.concatenate(parts)
    p = np.repeat(np.array([0, 1], np.uint8), [len(part) for part in parts])
    order = np.argsort(rows[:, 2], kind="stable")
    y, x, t = rows[order].T
    return ArrayRecording(
        Events.checked(x, y, t, p[order], sensor or _SENSOR, on_error=on_error, source=str(path)), format="es_imagenet"
    )


READER = Reader(sniff, open_file)
