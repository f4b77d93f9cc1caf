"""Randomness as a pure function: Philox for draws on the host, splitmix64 counters inside kernels."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

Key = int | str


def generator(seed: int, *keys: Key) -> np.random.Generator:
    """Return the Philox generator of `(seed, *keys)`; equal arguments give equal draws, on any machine."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(_words(seed, keys))))


def derive(seed: int, *keys: Key) -> int:
    """Return a seed of its own for `(seed, *keys)`, in `[0, 2**63)`."""
    low, high = np.random.SeedSequence(_words(seed, keys)).generate_state(2, np.uint32)
    return (int(high) << 32 | int(low)) & (2**63 - 1)


def splitmix64(z: Any) -> Any:
    """Return 64 well-mixed bits for the uint64 counter(s) `z` (Steele, Lea and Flood, OOPSLA 2014, section 4).

    Works on numpy arrays and scalars and, jitted, inside kernels; `models.masking` has the torch twin.
    """
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniforms(seed: int, stream: Key, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return `count` uniforms in [0, 1), (count,) float64, by counter: the i-th depends on (seed, stream, i) only."""
    base = np.uint64(derive(seed, stream))
    with np.errstate(over="ignore"):
        bits = splitmix64(splitmix64(np.full(1, base)) + np.arange(count, dtype=np.uint64))
    return np.asarray((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _words(seed: int, keys: tuple[Key, ...]) -> list[int]:
    numbers = [seed, *(zlib.crc32(key.encode()) if isinstance(key, str) else key for key in keys)]
    return [number & (2**64 - 1) for number in numbers]
