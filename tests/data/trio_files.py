"""A small set of files laid out as ScaleEvent's data are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

KINDS = ("image", "voxel", "evimg")


def picture_of(seed: int, size: tuple[int, int], kind: str) -> np.ndarray:
    """Return (h, w, 3) uint8, smooth enough to survive JPEG; an `evimg` is white with a few dark spots."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    if kind == "evimg":
        picture = np.full((*size, 3), 255, np.uint8)
        for _ in range(4):
            y, x = rng.integers(0, size[0] - 4), rng.integers(0, size[1] - 4)
            picture[y : y + 4, x : x + 4, rng.integers(0, 2) :: 2] = 0
        return picture
    coarse = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def write_sequence(
    folder: Path, count: int = 4, size: tuple[int, int] = (24, 32), seed: int = 0, digits: int = 5
) -> Path:
    """Write frames 1 to `count` of one sequence."""
    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
        for number in range(1, count + 1):
            file = folder / kind / f"{number:0{digits}d}.jpg"
            assert cv2.imwrite(str(file), picture_of(100 * seed + number, size, kind), [cv2.IMWRITE_JPEG_QUALITY, 95])
    return folder


def write_lists(folder: Path, name: str, lengths: dict[str, int]) -> Path:
    """Write the two lists of a set, and return that of the names."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_text("\n".join(lengths))
    (folder / f"{name}_seqlen.txt").write_text("\n".join(map(str, lengths.values())))
    return folder / f"{name}.txt"
