"""Few labels: fixed lists of training samples that depend on names and a seed only, so that all can share them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Iterable, Sequence


def share_of(names: Sequence[str], share: float, seed: int = 0) -> list[int]:
    """Return the positions in `names` of a share of them, increasing; at least one.

    Which names are chosen depends on the names and the seed, not on their order. A smaller share is part of a larger
    one, so that 1 % of the labels are among the 5 %.

    Raises:
        ValueError: `share` is not in (0, 1], there is no name, or a name comes twice.
    """
    if not 0 < share <= 1:
        raise ValueError(f"expected a share of more than 0 and at most 1, such as 0.05 for 5 %, got {share}")
    ranked = _ranked(names, seed)
    if not ranked:
        raise ValueError("expected names of samples to take a share of, got none")
    return sorted(ranked[: max(1, math.floor(share * len(ranked) + 0.5))])


def k_shot(labels: Sequence[Hashable], names: Sequence[str], k: int, seed: int = 0) -> list[int]:
    """Return the positions of `k` samples of each class, increasing; fewer shots are part of more.

    Args:
        labels: The class of each sample.
        names: The name of each sample, as for `share_of`.
        k: Samples of each class.
        seed: Another one gives another list.

    Raises:
        ValueError: A class has fewer samples, there is no sample, or the arguments do not fit together.
    """
    if k < 1:
        raise ValueError(f"expected one shot or more, got {k}")
    if len(labels) != len(names) or not len(labels):
        raise ValueError(f"expected a label for each of one or more names, got {len(labels)} for {len(names)}")
    of_class: dict[Hashable, list[int]] = {}
    for i in _ranked(names, seed):
        of_class.setdefault(labels[i], []).append(i)
    few = [f"{label} has {len(members)}" for label, members in of_class.items() if len(members) < k]
    if few:
        raise ValueError(f"expected {k} or more samples of each class, but class {', class '.join(sorted(few))}")
    return sorted(i for members in of_class.values() for i in members[:k])


def stride_of(count: int, stride: int) -> list[int]:
    """Return every `stride`-th of `count` samples of one sequence, from the first.

    The rule of ScaleEvent (Chen et al., CVPR 2026): 1, 5, 10 and 20 % of the labels are strides of 100, 20, 10 and 5
    through each sequence.

    Raises:
        ValueError: `stride` is less than 1, or `count` less than 0.
    """
    if stride < 1 or count < 0:
        raise ValueError(f"expected a stride of 1 or more through 0 or more samples, got {stride} through {count}")
    return list(range(0, count, stride))


def digest(names: Iterable[str]) -> str:
    """Return 16 hexadecimal digits that tell one list of samples from another, whatever its order."""
    parts = sorted(name.encode() for name in names)
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()[:16]


def _ranked(names: Sequence[str], seed: int) -> list[int]:
    """Return the positions of `names` in an order that only the names and the seed decide."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"expected a name of its own for each sample, but {name!r} comes twice")
        seen.add(name)
    return sorted(range(len(names)), key=lambda i: hashlib.sha256(f"{seed}/{names[i]}".encode()).digest())
