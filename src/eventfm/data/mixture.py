"""Several sample sets as one, in shares: who is drawn when is a pure function of the seed and the position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from eventfm.data.loader import SampleSet
from eventfm.data.sampler import Draw, stream
from eventfm.data.table import CollectionError
from eventfm.random import derive, generator

_OPTIONAL = {"label"}
"""Arrays that a part writes only where it is given room for them."""


@dataclass(frozen=True)
class MixedSamples:
    """Samples of several sets (`loader.SampleSet`), numbered part after part, drawn in shares by `weights`.

    An epoch is as many draws as there are samples, of which each part has its share; without weights that is every
    sample once. Each part's draws run through whole permutations of it, one after another and on from one epoch to the
    next: no sample comes again before all others of its part have come, whatever the shares. In an epoch the parts take
    turns at random moments of even length, so that any stretch from its start has the shares too: with k parts, the
    number of a part's draws is off by at most 1 + k * share.

    Raises:
        CollectionError: No parts, weights that do not fit them, or parts whose samples hold other arrays.
    """

    parts: tuple[SampleSet, ...]
    weights: tuple[float, ...] | None = None
    """Relative number of draws from each part, above 0; by its number of samples where not given."""
    names: tuple[str, ...] = ()
    """What people call the parts."""

    def __post_init__(self) -> None:
        """Refuse what cannot be mixed."""
        if not self.parts or not all(map(len, self.parts)):
            raise CollectionError(
                f"expected parts with samples to mix, got {[len(part) for part in self.parts]} samples"
            )
        weights = self.weights
        if weights is not None and (len(weights) != len(self.parts) or not all(0 < w < float("inf") for w in weights)):
            raise CollectionError(f"expected a weight above 0 for each of {len(self.parts)} parts, got {list(weights)}")
        for number, part in enumerate(self.parts):
            first, other = (_required(p.shapes) for p in (self.parts[0], part))
            if first != other:
                raise CollectionError(
                    f"cannot mix {self._name(0)} and {self._name(number)}: samples of one hold {first}, of the other "
                    f"{other}"
                )

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each array of a sample: those that all parts have."""
        return {name: s for name, s in self.parts[0].shapes.items() if all(name in part.shapes for part in self.parts)}

    @property
    def problems(self) -> dict[str, str]:
        """What could not be read so far and was passed over, and why, by the name of the part and its own."""
        return {
            f"{self._name(number)}: {name}": reason
            for number, part in enumerate(self.parts)
            for name, reason in part.problems.items()
        }

    @cached_property
    def quotas(self) -> tuple[int, ...]:
        """Draws of each part in an epoch, at least one; the nearest to its share."""
        sizes = [len(part) for part in self.parts]
        return _apportioned(self.weights or sizes, sum(sizes))

    def __len__(self) -> int:
        return self._stops[-1]

    def fill(self, index: int, rng: np.random.Generator | None, out: dict[str, NDArray[np.generic]]) -> None:
        """Write sample `index` into `out`.

        Raises:
            CollectionError: No sample of its part can be read.
        """
        number = int(np.searchsorted(self._stops, index, side="right"))
        self.parts[number].fill(index - self._start(number), rng, out)

    def draws(self, seed: int, start: int, stop: int) -> list[Draw]:
        """Return positions `start` to `stop` of the endless stream of epochs.

        `epoch` of a draw counts the passes over its part, so that a sample that comes twice in an epoch of the mixture
        is augmented anew.
        """
        drawn: list[Draw] = []
        while (position := start + len(drawn)) < stop:
            epoch, place = divmod(position, len(self))
            drawn += self._within(seed, epoch, place, min(len(self), place + stop - position))
        return drawn

    def _within(self, seed: int, epoch: int, start: int, stop: int) -> list[Draw]:
        """Return places `start` to `stop` of one epoch."""
        parts, turns = (column[start:stop] for column in _turns(seed, epoch, self.quotas))
        drawn: list[Draw | None] = [None] * (stop - start)
        for number in np.unique(parts):
            places = np.flatnonzero(parts == number)
            first = epoch * self.quotas[number] + int(turns[places[0]])
            size, offset = len(self.parts[number]), self._start(number)
            own = stream(derive(seed, "part", int(number)), size, first, first + len(places))
            for place, draw in zip(places, own, strict=True):
                drawn[place] = Draw(draw.epoch, offset + draw.index)
        return [draw for draw in drawn if draw is not None]

    @cached_property
    def _stops(self) -> tuple[int, ...]:
        return tuple(accumulate(len(part) for part in self.parts))

    def _start(self, number: int) -> int:
        return self._stops[number] - len(self.parts[number])

    def _name(self, number: int) -> str:
        return self.names[number] if self.names else f"part {number}"


@lru_cache(maxsize=2)
def _turns(seed: int, epoch: int, quotas: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, for each place of an epoch, whose turn it is and how many that part has had before in the epoch.

    The epoch is as many equal moments long for a part as it has draws, and one falls into each, anywhere in it.
    """
    counts = np.asarray(quotas)
    parts = np.repeat(np.arange(len(quotas)), counts)
    turns = np.concatenate([np.arange(count) for count in quotas])
    moments = (turns + generator(seed, "turns", epoch).random(len(turns))) / counts[parts]
    order = np.argsort(moments, kind="stable")
    return parts[order], turns[order]


def _apportioned(weights: Sequence[float], total: int) -> tuple[int, ...]:
    """Return whole numbers of sum `total`, each at least 1 and nearest to its share by `weights`."""
    exact = np.asarray(weights, np.float64) / np.sum(weights, dtype=np.float64) * total
    counts = np.maximum(1, np.floor(exact)).astype(np.int64)
    while missing := total - int(counts.sum()):
        lack = exact - counts
        number = int(np.argmax(lack)) if missing > 0 else int(np.argmin(np.where(counts > 1, lack, np.inf)))
        counts[number] += 1 if missing > 0 else -1
    return tuple(int(count) for count in counts)


def _required(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in shapes.items() if name not in _OPTIONAL}
