"""The parts of labelled data that are learnt from, chosen by and tested on, which have no recording in common."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import combinations

from eventfm.data.collection import Collection, Entry
from eventfm.data.opening import DataConfig, Source, open_source
from eventfm.data.table import CollectionError

PARTS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
"""The parts, and what their splits are called in a table, in small or capital letters."""


def open_parts(config: DataConfig, needed: tuple[str, ...] = ("train",)) -> dict[str, Source]:
    """Return those of `train`, `val` and `test` that the table of the recordings has, all from one look at the data.

    The column `split` says which recordings are whose; with `data.fold`, that fold is for testing and all others are
    for training. Where the table says neither, all recordings are for training. Test sequences of benchmarks
    (`test_sequences`) stay in `test`, and are left out of the others unless `data.keep_test_sequences` is set.

    Raises:
        CollectionError: A part that is `needed` is not there, or nothing is left of it; a recording is in two parts,
            under whatever name; `data.split` or `data.exclude_fold` chooses already; or the data are no recordings.
    """
    for name in ("split", "exclude_fold"):
        if getattr(config, name) is not None:
            raise CollectionError(
                f"recordings are parted into {', '.join(PARTS)} by the column split of data.labels, or by data.fold, "
                f"the fold to test on; leave data.{name} out"
            )
    source = open_source(config.model_copy(update={"fold": None, "keep_test_sequences": True}))
    if source.collection is None:
        raise CollectionError(
            "labels belong to recordings, and their parts to one table of them: expected a recording, a store or a "
            "folder of them as data.path"
        )
    collections = _parted(source.collection, config.fold)
    for part in needed:
        if part not in collections:
            splits = sorted({entry.split for entry in source.collection.entries if entry.split})
            raise CollectionError(
                f"no recording is for {part}: give data.labels=TABLE.csv with {' or '.join(PARTS[part])} in its column "
                f"split, where there is {splits or 'nothing'}, or with a column fold, and data.fold=K to test on one"
            )
    _refuse_overlaps(collections)
    return {part: _part(part, source, collection, config) for part, collection in collections.items()}


def _parted(collection: Collection, fold: int | None) -> dict[str, Collection]:
    if fold is not None:
        return {"train": collection.select(exclude_fold=fold), "test": collection.select(fold=fold)}
    if not any(entry.split for entry in collection.entries):
        return {"train": collection}
    part_of = {name: part for part, names in PARTS.items() for name in names}
    found: dict[str, list[Entry]] = {}
    others: dict[str, list[Entry]] = {}
    for entry in collection.entries:
        part = part_of.get((entry.split or "").lower())
        (others.setdefault(entry.split or "", []) if part is None else found.setdefault(part, [])).append(entry)
    for split, entries in others.items():
        of = f"split {split!r}, which is none of {', '.join(part_of)}" if split else "no split, where others have one"
        warnings.warn(f"{len(entries)} recordings, e.g. {entries[0].name!r}, have {of}: left out", stacklevel=4)
    return {part: replace(collection, entries=tuple(found[part])) for part in PARTS if part in found}


def _refuse_overlaps(collections: dict[str, Collection]) -> None:
    """Refuse a recording in two parts; empty recordings are all alike, and no matter.

    Raises:
        CollectionError: There is one.
    """
    prints = {
        part: {entry.fingerprint: entry.name for entry in collection.entries if entry.recording.num_events}
        for part, collection in collections.items()
    }
    for one, other in combinations(prints, 2):
        if shared := sorted(prints[one].keys() & prints[other].keys(), key=prints[one].__getitem__):
            names = prints[one][shared[0]], prints[other][shared[0]]
            raise CollectionError(
                f"{len(shared)} recordings are in {one} and in {other}, e.g. {names[0]!r}"
                + (f", which is the same as {names[1]!r}" if names[0] != names[1] else "")
                + "; what is learnt from says nothing where it is tested: give each recording one split"
            )


def _part(part: str, source: Source, collection: Collection, config: DataConfig) -> Source:
    """Return one part as a source of its own."""
    names = {entry.name for entry in collection.entries}
    found = {name: tests for name, tests in source.overlaps.items() if name in names}
    if found and part != "test" and not config.keep_test_sequences:
        name, benchmarks = next(iter(found.items()))
        said = (
            f"{len(found)} of {len(names)} recordings for {part} are test sequences, e.g. {name or 'this one'} "
            f"({benchmarks})"
        )
        if len(found) == len(names):
            raise CollectionError(f"nothing is left for {part}: {said}; data.keep_test_sequences=true keeps them")
        warnings.warn(f"{said}, and are left out; data.keep_test_sequences=true keeps them", stacklevel=3)
        kept = tuple(entry for entry in collection.entries if entry.name not in found)
        collection, found = replace(collection, entries=kept), {}
    return replace(source, collection=collection, overlaps=found)
