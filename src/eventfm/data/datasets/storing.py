"""A data set as native stores: made in parallel, gone on with where a run was stopped, never made twice."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, get_args

from eventfm.data.corpus import Runner
from eventfm.data.datasets.card import DatasetError
from eventfm.data.datasets.contract import Dataset, Problem, Sample
from eventfm.data.datasets.notes import (
    NOTES,
    Note,
    claim,
    names_made,
    pointer,
    read_notes,
    without_failures,
    write_note,
)
from eventfm.data.datasets.opening import Located
from eventfm.data.datasets.registry import DATASETS
from eventfm.data.datasets.sources import SourceError, SourceRecording, reading
from eventfm.data.locks import only_one
from eventfm.data.manifest import TABLE, table_lines
from eventfm.data.pool import Tick, WorkerDiedError
from eventfm.data.shards import write_text
from eventfm.events import OnError
from eventfm.io import WriteError, save_recordings
from eventfm.protocols import Recording

PACKED_EVENTS = 1 << 18
"""Samples of at most so many events, without tracks, share the columns of their store (`io.store_packing`)."""
_LARGEST_BYTES, _LARGEST_COUNT = 1 << 27, 2000
"""Of what files a store is made at most, and of how many samples."""
_SMALLER_COUNT, _FILES_AIMED_AT = 250, 16
"""Where there are fewer samples, a store may have fewer, so that there is work for several processes."""
_SAID_EVERY = 16
"""Samples after which a process says how far it is."""


@dataclass
class Stored:
    """What became of a data set."""

    out: Path
    num_samples: int = 0
    """In the stores now, those of earlier runs among them."""
    num_written: int = 0
    num_events: int = 0
    """As the samples count them: of rectified ones with those that fall beside the sensor, which are left out."""
    failed: dict[str, str] = field(default_factory=dict)
    """Samples that could not be prepared, and why, by name; the next run tries them again."""
    empty: tuple[str, ...] = ()
    """Names of samples in the stores that have no events."""
    problems: tuple[Problem, ...] = ()
    """What is wrong with the folder that was prepared."""


class _Order(NamedTuple):
    dataset: str
    root: Path
    out: Path
    on_error: OnError


class _Shard(NamedTuple):
    number: int
    samples: tuple[Sample, ...]
    lost: Mapping[str, str] = {}
    """Samples that are not to be tried again, and why: they ended the process that read them."""

    @property
    def file(self) -> str:
        return f"samples-{self.number:05d}.h5"


def store_dataset(
    located: Located,
    out: str | os.PathLike[str],
    run: Runner,
    on_error: OnError = "raise",
    progress: Callable[[int], None] = lambda num_done: None,
) -> Stored:
    """Write the samples of a data set into stores `samples-00000.h5`, ... in `out`, with `labels.csv`.

    A store appears as a whole, and is never made or changed again: a run that was stopped, a folder that has grown, or
    samples that failed make further stores. What is read then is `data=OUT data.labels=OUT/labels.csv`. Samples of at
    most `PACKED_EVENTS` events lie side by side in their store, which a million of small ones need.

    Args:
        located: What is to be prepared.
        out: Folder to write to.
        run: Who does the work.
        on_error: As for `open_recording`.
        progress: Is told how many samples are done.

    Raises:
        DatasetError: The set holds no recordings, no sample can be read, `out` holds something else, or a file or label
            is not the one that was prepared.
        WriteError: The system refused to write, for want of room or rights. What is finished stays.
    """
    located.dataset.opener()  # before a folder is made
    if on_error not in get_args(OnError):
        raise DatasetError(f"expected on_error to be 'raise', 'sort' or 'clamp', got {on_error!r}")
    target = Path(out).resolve()
    name, samples = located.dataset.card.name, located.found.samples
    order = _Order(name, located.tree.root.resolve(), target, on_error)
    try:
        (target / NOTES).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"could not make the folder {target}: {error}") from error
    busy = DatasetError(f"another run is writing to {target}; wait for it, or choose another folder")
    with only_one(target / NOTES / "lock", busy):
        claim(target, {"dataset": name, "division": located.division.name, "on_error": on_error})
        notes = without_failures(target, read_notes(target))
        sizes = {sample.name: _source_bytes(order.root, sample) for sample in samples}
        now = ((one.name, _source_of(located.dataset, one, sizes[one.name])) for one in samples)
        made = names_made(notes, now, target)
        todo = [sample for sample in samples if sample.name not in made]
        shards = _shards(todo, sizes, 1 + max((int(Path(note.file).stem[-5:]) for note in notes), default=-1))
        del notes  # of a million samples they are large, and read again in the end
        progress(len(samples) - len(todo))
        _run(order, shards, run, lambda num_done: progress(len(samples) - len(todo) + num_done))
        return _written(located, order, len(made))


def _run(order: _Order, shards: list[_Shard], run: Runner, progress: Callable[[int], None]) -> None:
    waiting = deque(shards)
    done: dict[int, int] = {}
    total = 0

    def tick(value: tuple[int, int]) -> None:
        nonlocal total
        number, count = value
        total += count - done.get(number, 0)
        done[number] = count
        progress(total)

    while waiting:
        again: list[_Shard] = []
        with closing(run(partial(_make, order), list(waiting), tick)) as outcomes:
            for shard, _, error in outcomes:
                if isinstance(error, WorkerDiedError):
                    again.append(_without_the_culprit(order, shard, error))
                elif error is not None:
                    raise error
                else:
                    tick((shard.number, len(shard.samples)))
        waiting = deque(again)


def _make(order: _Order, shard: _Shard, tick: Tick) -> None:
    """Write a store and then its note.

    A sample that cannot be opened is left out; for one that cannot be read on, the store is begun anew without it.

    Raises:
        WriteError: The system refused to write.
    """
    dataset: Dataset = DATASETS.get(order.dataset)
    failed = dict(shard.lost)
    reading = ""

    def recordings(rows: list[dict[str, Any]], word: BinaryIO) -> Iterator[tuple[str, Recording]]:
        nonlocal reading
        for number, sample in enumerate(shard.samples, 1):
            if sample.name not in failed:
                reading = sample.name
                _leave(word, order, reading)
                try:
                    recording = _opened(dataset, order, sample)
                except (ValueError, SourceError) as error:
                    failed[reading] = _in_a_line(error)
                else:
                    identifier = reading.replace("/", "-")
                    rows.append(_row(dataset, order, sample, f"{shard.file}::{identifier}", recording.num_events))
                    yield identifier, recording
            if not number % _SAID_EVERY:
                tick((shard.number, number))
        if not rows:
            raise _NothingReadError

    target = order.out / shard.file
    provenance = {"dataset": order.dataset, "licence": dataset.card.licence, "citation": dataset.card.citation}
    rows: list[dict[str, Any]] = []
    with _word(order, shard) as word:
        while True:
            rows = []
            try:
                save_recordings(target, recordings(rows, word), provenance, overwrite=True, pack_up_to=PACKED_EVENTS)
                break
            except _NothingReadError:
                break
            except (ValueError, SourceError) as error:
                if reading in failed:  # it is not to blame, and to leave it out again would help nobody
                    raise
                failed[reading] = _in_a_line(error)
    write_note(order.out, Note(shard.file, target.stat().st_size if rows else 0, rows, failed))


class _NothingReadError(Exception):
    """Says that no sample of a store can be read, so that none is made."""


def _in_a_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _row(dataset: Dataset, order: _Order, sample: Sample, path: str, num_events: int) -> dict[str, Any]:
    source = _source_of(dataset, sample, _source_bytes(order.root, sample))
    return {"name": sample.name, "path": path, "num_events": num_events, **source}


def _source_of(dataset: Dataset, sample: Sample, num_bytes: int) -> dict[str, Any]:
    """Return what a row says of the source of a sample, as JSON has it."""
    return {
        "label": "" if sample.label is None else dataset.card.classes[sample.label],
        "split": sample.split,
        "fold": "" if sample.fold is None else sample.fold,
        "span": None if sample.span is None else [int(time) for time in sample.span],
        "num_bytes": num_bytes,
    }


def _opened(dataset: Dataset, order: _Order, sample: Sample) -> Recording:
    with reading():
        recording: Any = SourceRecording(dataset.opener()(order.root, sample, order.on_error))
    return recording


def _without_the_culprit(order: _Order, shard: _Shard, error: WorkerDiedError) -> _Shard:
    """Return the shard without the sample that was being read when its process ended.

    Raises:
        DatasetError: Nobody knows which, so that it would end in the same way again.
    """
    try:
        name = pointer(order.out, shard.file).read_text(encoding="utf-8").splitlines()[-1]
    except (OSError, IndexError):
        name = ""
    if name in shard.lost or name not in {sample.name for sample in shard.samples}:
        raise DatasetError(f"{order.out / shard.file} could not be made, and no sample is to blame: {error}")
    return shard._replace(lost={**shard.lost, name: str(error)})


def _word(order: _Order, shard: _Shard) -> BinaryIO:
    """Return the file that says which sample is being read, for the case that it ends this process: its last line."""
    try:
        # Lines are added: a file that is begun anew for each sample goes to the disk each time.
        return pointer(order.out, shard.file).open("ab", buffering=0)
    except OSError as error:
        raise WriteError(f"could not write into {order.out}: {error}") from error


def _leave(word: BinaryIO, order: _Order, name: str) -> None:
    try:
        word.write(f"{name}\n".encode())
    except OSError as error:
        raise WriteError(f"could not write into {order.out}: {error}") from error


def _shards(samples: list[Sample], sizes: Mapping[str, int], first: int) -> list[_Shard]:
    shards: list[_Shard] = []
    held: list[Sample] = []
    sharing = Counter(sample.files[0] for sample in samples)
    num_bytes = 0
    most = min(max(-(-len(samples) // _FILES_AIMED_AT), _SMALLER_COUNT), _LARGEST_COUNT)
    for sample in samples:
        more = sizes[sample.name] // sharing[sample.files[0]]
        if held and (num_bytes + more > _LARGEST_BYTES or len(held) == most):
            shards.append(_Shard(first + len(shards), tuple(held)))
            held, num_bytes = [], 0
        held.append(sample)
        num_bytes += more
    return [*shards, _Shard(first + len(shards), tuple(held))] if held else shards


def _source_bytes(root: Path, sample: Sample) -> int:
    """Return the size of all files of a sample."""
    total = 0
    for file in sample.files:
        try:
            total += (root / file).stat().st_size
        except OSError:  # whoever opens it says why
            continue
    return total


def _written(located: Located, order: _Order, num_kept: int) -> Stored:
    """Write the table from the notes of all stores, and return what became of everything."""
    notes = read_notes(order.out)
    rows = sorted((row for note in notes for row in note.rows), key=lambda row: row["name"])
    write_text(
        order.out / TABLE, table_lines({key: row[key] for key in ("path", "label", "split", "fold")} for row in rows)
    )
    made = {row["name"] for row in rows}
    failed = {name: why for note in notes for name, why in note.failed.items() if name not in made}
    num_events = sum(row["num_events"] for row in rows)
    if not rows:
        name, why = next(iter(failed.items()))
        raise DatasetError(
            f"none of {len(failed)} samples of {located.dataset.card.title} could be read, e.g. {name}: {why}"
        )
    empty = tuple(row["name"] for row in rows if not row["num_events"])
    return Stored(order.out, len(rows), len(rows) - num_kept, num_events, failed, empty, located.found.problems)
