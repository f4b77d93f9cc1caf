"""Maps of classes as pictures: every class has one colour, that of its data set where one was published."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

UNLABELLED = 255
UNLABELLED_COLOUR = (255, 255, 255)
"""White, which no table has for a class."""

DSEC_COLOURS = {
    "background": (0, 0, 0),
    "building": (70, 70, 70),
    "fence": (190, 153, 153),
    "person": (220, 20, 60),
    "pole": (153, 153, 153),
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "vegetation": (107, 142, 35),
    "car": (0, 0, 142),
    "wall": (102, 102, 156),
    "traffic sign": (220, 220, 0),
}
"""The 11 classes of DSEC-Semantic by number, in the colours of ESS (ECCV 2022), most of which are Cityscapes' own."""
DDD17_COLOURS = {
    "flat": (128, 64, 128),
    "background": (70, 70, 70),
    "object": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "human": (220, 20, 60),
    "vehicle": (0, 0, 142),
}
"""The 6 classes of DDD17-Seg by number, in the colours of ESS."""
CAMVID_COLOURS = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (0, 0, 192),
    "tree": (128, 128, 0),
    "sign symbol": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
"""The 11 classes that CamVid is commonly grouped into, in the colours of the data set; pavement is its sidewalk."""

_TABLES = (DSEC_COLOURS, DDD17_COLOURS, CAMVID_COLOURS)
_ROW_PX = 22
_TEXT_PX = 14
_SWATCH_PX = 16


def class_colours(classes: Sequence[str] = ()) -> NDArray[np.uint8]:
    """Return the colour of each class by number, (K, 3) uint8, or of any 255 classes where none is named.

    Classes that are all among those of DSEC-Semantic, DDD17-Seg or CamVid, in any order and spelling, have the colours
    of that data set. Others have those of the PASCAL VOC devkit (Everingham et al., IJCV 2010), by number.
    """
    words = [_word(name) for name in classes]
    for table in _TABLES:
        of = {_word(name): colour for name, colour in table.items()}
        if words and of.keys() >= set(words):
            return np.array([of[word] for word in words], np.uint8)
    number = np.arange(len(classes) or UNLABELLED)
    # Three bits of the number at a time go to the three channels, the lowest to their highest bit.
    channels = [sum((number >> (3 * i + c) & 1) << (7 - i) for i in range(8)) for c in range(3)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def class_picture(mask: NDArray[np.integer], classes: Sequence[str] = ()) -> NDArray[np.uint8]:
    """Return a picture (H, W, 3) uint8 of class numbers (H, W); 255, not labelled, is white. `legend` is its key.

    Args:
        mask: Class numbers.
        classes: Names of the classes, by number, which choose their colours (`class_colours`).

    Raises:
        ValueError: Not whole numbers of shape (H, W), or a class that there is not.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype.kind not in "iu":
        raise ValueError(f"expected class numbers (H, W) as integers, got {mask.dtype} of shape {mask.shape}")
    colours = class_colours(classes)
    wrong = (mask != UNLABELLED) & ((mask < 0) | (mask >= len(colours)))
    if wrong.any():
        raise ValueError(f"expected classes 0 to {len(colours) - 1}, or {UNLABELLED}, got {mask[wrong][0]}")
    table = np.full((UNLABELLED + 1, 3), UNLABELLED_COLOUR, np.uint8)
    table[: len(colours)] = colours
    return table[mask]


def legend(classes: Sequence[str], rows: int = 8) -> NDArray[np.uint8]:
    """Return the key to `class_picture`, (22 * rows, W, 3) uint8: a swatch and a name for each class, and unlabelled.

    Args:
        classes: Names of the classes, by number.
        rows: Classes under one another, as a block; 1 for a strip.

    Raises:
        ValueError: No rows.
    """
    from PIL import Image, ImageDraw, ImageFont

    if rows < 1:
        raise ValueError(f"expected a row or more, got {rows}")
    font = ImageFont.load_default(size=_TEXT_PX)
    entries = [*zip(classes, class_colours(classes).tolist(), strict=False), ("not labelled", UNLABELLED_COLOUR)]
    columns = [entries[start : start + rows] for start in range(0, len(entries), rows)]
    widths = [_ROW_PX + 14 + int(max(np.ceil(font.getlength(name)) for name, _ in column)) for column in columns]
    canvas = Image.new("RGB", (sum(widths), _ROW_PX * rows), "white")
    draw = ImageDraw.Draw(canvas)
    inset = (_ROW_PX - _SWATCH_PX) // 2
    for left, column in zip(np.cumsum([0, *widths]).tolist(), columns, strict=False):
        for row, (name, colour) in enumerate(column):
            x, y = left + inset, row * _ROW_PX + inset
            box = (x, y, x + _SWATCH_PX - 1, y + _SWATCH_PX - 1)
            draw.rectangle(box, fill=tuple(colour), outline=(120, 120, 120))
            middle = (left + _ROW_PX + 2, row * _ROW_PX + _ROW_PX // 2)
            draw.text(middle, name, fill=(40, 40, 40), font=font, anchor="lm")
    return np.asarray(canvas)


def _word(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
