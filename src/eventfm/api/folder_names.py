"""What folders of runs are called in tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def short_names(folders: Sequence[Path], inner: str) -> list[str]:
    """Return the end of each path that no other one ends in, as short as can be.

    The folder `inner`, in which a run keeps its network, does not count. Paths that are the same have the same name.
    """
    parts = [_parts(folder, inner) for folder in folders]
    return [Path(*own[-_length(own, parts) :]).as_posix() for own in parts]


def _length(own: tuple[str, ...], parts: Sequence[tuple[str, ...]]) -> int:
    others = [other for other in parts if other != own]
    return next((n for n in range(1, len(own)) if all(other[-n:] != own[-n:] for other in others)), len(own))


def _parts(folder: Path, inner: str) -> tuple[str, ...]:
    whole = Path(os.path.abspath(folder))
    return (whole.parent if whole.name == inner else whole).parts
