"""Small pictures put together into one large one, with labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

_GAP = 8
_TEXT_PX = 15


def upscaled(picture: Picture, factor: int) -> Picture:
    """Return `picture` with every pixel repeated `factor` times in both directions, so that pixels stay visible."""
    if factor < 1:
        raise ValueError(f"expected a factor of at least 1, got {factor}")
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def panel(rows: Sequence[Sequence[tuple[str, Picture]]], cell_height: int = 192) -> Picture:
    """Return one picture (H, W, 3) uint8 of labelled pictures in rows, on white, each label above its picture.

    Small pictures are enlarged by whole factors, without smoothing, up to about `cell_height` rows; larger ones are
    left as they are. Rows may differ in length.

    Args:
        rows: For each row its (label, picture) pairs; pictures are (h, w) or (h, w, 3) uint8.
        cell_height: Height in pixels that small pictures are brought to.

    Raises:
        ValueError: No pictures, or one that is not uint8 of those shapes.
    """
    if not any(len(row) for row in rows):
        raise ValueError("expected at least one picture, got none")
    strips = [_strip(row, cell_height) for row in rows if len(row)]
    width = max(strip.shape[1] for strip in strips)
    padded = [np.pad(s, ((0, 0), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in strips]
    return np.pad(np.concatenate(padded), ((0, _GAP), (0, 0), (0, 0)), constant_values=255)


def _strip(row: Sequence[tuple[str, Picture]], cell_height: int) -> Picture:
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=_TEXT_PX)
    pictures = [_as_rgb(label, picture, cell_height) for label, picture in row]
    widths = [
        max(picture.shape[1], int(np.ceil(font.getlength(label))))
        for (label, _), picture in zip(row, pictures, strict=True)
    ]
    top = _GAP + _TEXT_PX + _GAP
    canvas = Image.new("RGB", (sum(widths) + _GAP * (len(row) + 1), top + max(p.shape[0] for p in pictures)), "white")
    draw = ImageDraw.Draw(canvas)
    left = _GAP
    for (label, _), picture, width in zip(row, pictures, widths, strict=True):
        draw.text((left, _GAP), label, fill=(40, 40, 40), font=font)
        canvas.paste(Image.fromarray(picture), (left, top))
        left += width + _GAP
    return np.asarray(canvas)


def _as_rgb(label: str, picture: Picture, cell_height: int) -> Picture:
    picture = np.asarray(picture)
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise ValueError(
            f"expected a uint8 picture (h, w) or (h, w, 3) for {label!r}, got {picture.dtype} of shape {picture.shape}"
        )
    return np.ascontiguousarray(upscaled(picture, max(1, round(cell_height / picture.shape[0]))))
