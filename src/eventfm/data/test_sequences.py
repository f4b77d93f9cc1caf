"""Sequences that benchmarks test on, known by their names: what is pretrained on them cannot be compared fairly."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import PurePath

_DSEC_SEMANTIC = ("zurich_city_13_a", "zurich_city_14_c", "zurich_city_15_a")
_DSEC_REST = (
    *(f"interlaken_{name}" for name in ("00_a", "00_b", "01_a")),
    *(f"thun_{name}" for name in ("01_a", "01_b")),
    *(f"zurich_city_{name}" for name in ("12_a", "13_b", "14_a", "14_b")),
)
TEST_SEQUENCES: dict[str, tuple[str, ...]] = {
    "DSEC-Semantic": _DSEC_SEMANTIC,
    "DSEC test split": (*_DSEC_SEMANTIC, *_DSEC_REST),
    "DDD17-Seg": ("dir1", "rec1487417411"),
    "MVSEC-Depth": ("outdoor_day1", "outdoor_night1", "outdoor_night2", "outdoor_night3"),
    "MVSEC-Flow": ("outdoor_day1", "indoor_flying1", "indoor_flying2", "indoor_flying3"),
}
"""What each benchmark tests on, by the names that its authors gave. DDD17-Seg has two: of the folder, as ESS packed it,
and of the recording of DDD17 that its frames are from (Ev-SegNet)."""

_UNSPECIFIC = {"dir1": "ddd17"}
"""Names that say little, and the data set that has to be named before them, or else they stand alone."""


def overlaps(names: Iterable[str], root: str | PurePath = "") -> dict[str, str]:
    """Return those of `names` that are test sequences, each with the benchmarks that test on it, comma-separated.

    A name is a path, or anything with the sequence's name in it: `test/zurich_city_13_a/events.h5`,
    `MVSEC_Outdoor-Day1_data.hdf5`. Case, separators inside a folder's name, leading zeros and whatever stands around it
    do not matter. `root` is the folder that names are relative to, and a part of every one of them.
    """
    found = {}
    for name in names:
        path = f"{root}/{name}".replace("\\", "/").lower()
        benchmarks = [
            benchmark
            for benchmark, sequences in TEST_SEQUENCES.items()
            if any(_pattern(sequence).search(path) for sequence in sequences)
        ]
        if benchmarks:
            found[name] = ", ".join(benchmarks)
    return found


@lru_cache(maxsize=64)
def _pattern(sequence: str) -> re.Pattern[str]:
    """Return what finds `sequence` in a path in lower case, nowhere in the middle of a longer word or number."""
    words = re.findall(r"[a-z]+|\d+", sequence)
    loose = r"[^a-z0-9/]*".join(f"0*{int(word)}" if word.isdecimal() else word for word in words)
    if data_set := _UNSPECIFIC.get(sequence):
        return re.compile(rf"(?:^|[/:]){loose}(?:\.[^/]*)?(?:/|$)|{data_set}.*(?<![a-z0-9]){loose}(?![a-z0-9])")
    return re.compile(rf"(?<![a-z0-9]){loose}(?![a-z0-9])")
