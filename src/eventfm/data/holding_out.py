"""Which of many things are held out of training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

MANY = 10
"""From this many recordings on, whole recordings are held out; of fewer, the end of each."""


def chosen(names: Sequence[str], share: float) -> set[int]:
    """Return the numbers of a `share` of `names`, at least one, chosen by their hashes."""
    ranked = sorted(range(len(names)), key=lambda number: hashlib.sha256(names[number].encode()).digest())
    return set(ranked[: max(1, round(share * len(ranked)))])
