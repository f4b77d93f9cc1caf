"""Picture files: decoded, told apart by content, cut to the field of a sensor."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.data.problems import UnreadableError, reading
from eventfm.simulation.frame_folder import picture_file


def decode(path: Path) -> NDArray[Any]:
    """Return a picture file as stored, RGB (H, W, 3) uint8 or uint16.

    Raises:
        UnreadableError: It cannot be read as a picture, or is cut off.
    """
    import cv2

    with reading(str(path)):
        try:
            picture = picture_file(path, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        except cv2.error as error:
            raise UnreadableError(str(path), f"cannot be read as a picture: {error}") from error
    if picture is None:
        raise UnreadableError(str(path), "cannot be read as a picture, or is cut off")
    if picture.dtype not in (np.uint8, np.uint16):
        raise UnreadableError(str(path), f"holds {picture.dtype} values; expected a picture of 8 or 16 bits")
    return np.ascontiguousarray(picture[..., ::-1])


def picture_key(path: Path) -> str:
    """Return a hash of a picture file's bytes, 16 hexadecimal digits.

    Raises:
        UnreadableError: The file cannot be opened.
    """
    with reading(str(path)):
        state = path.stat()
        return _key(path, state.st_mtime_ns, state.st_size)


def resized(picture: NDArray[Any], size: tuple[int, int], field: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """Return a picture, grey (H, W) or RGB (H, W, 3), as (3, h, w) float32 in [0, 1] of `size`, in its own coding.

    `field` (height, width) takes the largest centred part of that shape, which is what a sensor of the shape sees of
    the picture at rest (`simulation.render.fit`). What is taken fills `size`, whatever its shape.
    """
    import cv2

    full = 1 if picture.dtype.kind == "f" else np.iinfo(picture.dtype).max
    rows, columns = size
    if field is not None:
        scale = max(wanted / extent for wanted, extent in zip(field, picture.shape[:2], strict=True))
        rows, columns = (
            max(side, round(side * extent * scale / wanted))
            for side, extent, wanted in zip(size, picture.shape[:2], field, strict=True)
        )
    smaller = rows < picture.shape[0] or columns < picture.shape[1]
    values = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    top, left = (rows - size[0]) // 2, (columns - size[1]) // 2
    values = values[top : top + size[0], left : left + size[1]].astype(np.float32) / np.float32(full)
    values = np.broadcast_to(values[..., None], (*size, 3)) if values.ndim == 2 else values
    return np.ascontiguousarray(np.moveaxis(values, 2, 0))


@lru_cache(maxsize=1 << 20)
def _key(path: Path, modified_ns: int, size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
