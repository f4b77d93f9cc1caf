"""Pictures to files and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def save_picture(path: str | Path, picture: NDArray[np.uint8]) -> Path:
    """Write a picture (H, W) or (H, W, 3) uint8 as PNG, all at once or not at all, and return its path."""
    from PIL import Image

    target = Path(path)
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        Image.fromarray(picture).save(temporary, format="PNG")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def read_picture(path: str | Path) -> NDArray[np.uint8]:
    """Return a picture file as (H, W, 3) uint8."""
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))
