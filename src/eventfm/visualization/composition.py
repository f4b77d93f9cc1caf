"""Events and what a network makes of them side by side, with the key to its colours below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eventfm.visualization.dense import depth_map
from eventfm.visualization.flow import flow_wheel
from eventfm.visualization.panel import Picture, panel

_TEXT_PX = 13
_INK = (40, 40, 40)
_STEPS = (1.0, 2.0, 5.0)


def side_by_side(
    pictures: Sequence[tuple[str, Picture]], key: Picture | None = None, cell_height: int = 192
) -> Picture:
    """Return one picture (H, W, 3) uint8: labelled `pictures` in a row, and below them a `key`, as large as it is.

    Pictures of equal sizes with equal labels give compositions of equal size, as frames of a video must be.

    Raises:
        ValueError: No pictures, or one that is not uint8 of (h, w) or (h, w, 3).
    """
    row = panel([pictures], cell_height)
    if key is None:
        return row
    key = np.pad(key, ((0, 8), (8, 0), (0, 0)), constant_values=255)
    width = max(row.shape[1], key.shape[1])
    parts = [np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in (row, key)]
    return np.concatenate(parts)


def flow_key(limit: float, size: int = 96) -> Picture:
    """Return the key to `flow_picture` drawn with `limit`, pixels: the wheel, and what full colour stands for."""
    return _noted(flow_wheel(size), [(size + 8, size // 2, f"rim: {limit:.3g} px", "lm")], (size, size + 110))


def depth_key(limits: tuple[float, float], width: int = 320) -> Picture:
    """Return the key to `depth_map` drawn with `limits`, (34, width, 3) uint8: a bar of its colours, marked in metres.

    Raises:
        ValueError: Limits that are not above 0, or not in order.
    """
    near, far = limits
    if not 0 < near < far:
        raise ValueError(f"expected a nearest depth above 0 and a farthest above that, got {limits}")
    margin = 24
    inner = width - 2 * margin
    bar = depth_map(np.tile(np.geomspace(near, far, inner), (14, 1)), limits)
    bar = np.pad(bar, ((0, 0), (margin, margin), (0, 0)), constant_values=255)
    texts = []
    for depth in _round_depths(near, far):
        x = margin + round((inner - 1) * float(np.log(depth / near) / np.log(far / near)))
        bar[-4:, x] = 255
        texts.append((x, 24, f"{depth:g} m", "mm"))
    return _noted(bar, texts, (34, width))


def _round_depths(near: float, far: float, most: int = 5) -> list[float]:
    """Return round depths within the limits, as many as there is room for, and the limits where there are too few."""
    decades = range(int(np.floor(np.log10(near))), int(np.ceil(np.log10(far))) + 1)
    inside = [step * 10.0**decade for decade in decades for step in _STEPS]
    inside = [depth for depth in inside if near <= depth <= far]
    if len(inside) < 2:
        return [float(f"{near:.3g}"), float(f"{far:.3g}")]
    return inside[:: -(-len(inside) // most)]


def _noted(picture: Picture, texts: Sequence[tuple[int, int, str, str]], size: tuple[int, int]) -> Picture:
    """Return `picture` at the top left of white ground of `size` (height, width), with texts (x, y, text, anchor)."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = picture.shape[:2]
    padding = ((0, size[0] - height), (0, size[1] - width), (0, 0))
    canvas = Image.fromarray(np.pad(picture, padding, constant_values=255))
    draw = ImageDraw.Draw(canvas)
    for x, y, text, anchor in texts:
        draw.text((x, y), text, fill=_INK, font=ImageFont.load_default(size=_TEXT_PX), anchor=anchor)
    return np.asarray(canvas)
