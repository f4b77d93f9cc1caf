"""Simulated corpora on disk: stores of clips with frames and flow, a table of labels, and a manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.data.animate import MotionConfig
from eventfm.data.clips import KINDS, CorpusConfig, Entry, Kind
from eventfm.data.locks import only_one
from eventfm.data.manifest import MANIFEST, TABLE, Header, difference, header_of, manifest_lines, table_lines
from eventfm.data.picture_clips import film_light
from eventfm.data.pool import Outcome, Tick, WorkerDiedError
from eventfm.data.shards import (
    NOTES,
    Order,
    Shard,
    is_finished,
    make_shard,
    read_note,
    sweep,
    without_the_culprit,
    write_text,
)
from eventfm.data.table import CollectionError
from eventfm.io import WriteError, save_recordings
from eventfm.protocols import Recording
from eventfm.random import generator

Runner = Callable[[Callable[[Any, Tick], Any], Sequence[Any], Tick], Generator[Outcome, None, None]]
"""One of `pool`'s, with its workers chosen."""

_FILES_AIMED_AT = 16
_LARGEST_SHARD = 250
_HEADER_FILE = "corpus.json"


@dataclass(frozen=True)
class Subject:
    """One picture to film."""

    name: str
    light: NDArray[np.float32]
    """(H', W') linear luminance in [0, 1]."""
    label: str
    split: str = ""
    fold: int | None = None


@dataclass
class Corpus:
    """What became of a corpus."""

    out: Path
    num_clips: int = 0
    num_events: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Clips that could not be made, and why, by name."""
    warnings: dict[str, list[str]] = field(default_factory=dict)
    """What was said about clips that were made, by name."""


def film(
    folder: str | Path,
    subjects: Iterable[Subject],
    motion: MotionConfig,
    seed: int,
) -> tuple[Path, Path]:
    """Film every subject once and return (store, table): `recordings.h5` and `labels.csv` in `folder`.

    A recording has the events of one clip and a track `frames` with clean frames, uint16 in linear light: those that
    bound the clip or, of saccades, each of its three movements. Motion and sensor of a clip depend on `seed` and the
    subject's name alone.

    Raises:
        WriteError: The system refused to write; nothing half-written is left.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []

    def recordings() -> Iterator[tuple[str, Recording]]:
        for subject in subjects:
            recording, _ = film_light(subject.light, motion, generator(seed, "film", subject.name))
            fold = "" if subject.fold is None else subject.fold
            rows.append({"path": subject.name, "label": subject.label, "split": subject.split, "fold": fold})
            yield subject.name, recording

    provenance = {"simulator": "eventfm", "seed": seed, "motion": motion.model_dump_json()}
    store = save_recordings(folder / "recordings.h5", recordings(), provenance, overwrite=True)
    write_text(folder / TABLE, table_lines(rows))
    return store, folder / TABLE


def build_corpus(
    out: str | Path,
    kind: str,
    root: Path,
    entries: list[Entry],
    config: CorpusConfig,
    run: Runner,
    progress: Callable[[int], None] = lambda num_done: None,
    stop_at_failure: bool = False,
) -> Corpus:
    """Make the clips `entries` into stores `clips-00000.h5`, ... in `out`, with `labels.csv` and `manifest.jsonl`.

    A clip depends on its entry, its source and `config` alone, not on the runner or on what else is made. A run that
    was interrupted goes on: shards that are finished are kept, files that are not of this corpus are left alone.
    Clips that fail are left out and named in the result; the next run tries them again.

    Args:
        out: Folder to write to.
        kind: A name of `clips.KINDS`.
        root: Folder that the entries' sources are relative to.
        entries: The clips.
        config: All else that decides what they are.
        run: Who does the work.
        progress: Is told how many clips are done.
        stop_at_failure: Whether the first clip that fails ends the run.

    Raises:
        CollectionError: `out` holds another corpus, or files where its own would go; or a clip failed and
            `stop_at_failure` is set.
        WriteError: The system refused to write. What is finished stays, and the next run goes on from there.
    """
    out = Path(out)
    header = header_of(kind, root, entries, config)
    order = Order(out.resolve(), root.resolve(), kind, config, header.digest)
    size = _shard_size(len(entries), KINDS.get(kind), config)
    starts = range(0, len(entries), size)
    shards = [Shard(number, tuple(entries[start : start + size])) for number, start in enumerate(starts)]
    with _claimed(out, header, shards):
        waiting = [shard for shard in shards if not is_finished(order, shard)]
        counter = _Counter(progress, len(entries) - sum(len(shard.entries) for shard in waiting))
        while waiting:
            again: list[Shard] = []
            with closing(run(partial(make_shard, order), waiting, counter)) as outcomes:
                for shard, made, error in outcomes:
                    if isinstance(error, WorkerDiedError):
                        rest = without_the_culprit(order, shard, str(error))
                        if rest is None:
                            raise CollectionError(f"{shard.file} could not be made, and no clip is to blame: {error}")
                        again.append(rest)
                    elif error is not None:
                        raise error
                    else:
                        counter((shard.number, len(shard.entries)))
                        if stop_at_failure and made.failed:
                            name, reason = next(iter(made.failed.items()))
                            raise CollectionError(f"{name}: {reason}")
            waiting = again
        return _written(order, header, shards)


class _Counter:
    """Counts clips that are done, from how many there are of each shard; a shard may begin again."""

    def __init__(self, progress: Callable[[int], None], num_done: int) -> None:
        self._progress = progress
        self._num_done = num_done
        self._of_shard: dict[int, int] = {}
        progress(num_done)

    def __call__(self, value: tuple[int, int]) -> None:
        number, done = value
        self._num_done += done - self._of_shard.get(number, 0)
        self._of_shard[number] = done
        self._progress(self._num_done)


def _written(order: Order, header: Header, shards: list[Shard]) -> Corpus:
    """Write table and manifest from the notes of the shards, one at a time: there may be a million clips."""
    corpus = Corpus(order.out)

    def clips() -> Iterator[dict[str, Any]]:
        for shard in shards:
            yield from read_note(order, shard).clips

    rows = ({"path": f"{c['shard']}::{c['name']}", "label": c["label"], "split": c["split"]} for c in clips())
    write_text(order.out / TABLE, table_lines(rows))
    write_text(order.out / MANIFEST, manifest_lines(header, clips()))
    for shard in shards:
        corpus.failed |= read_note(order, shard).failed
    for clip in clips():
        corpus.num_clips += 1
        corpus.num_events += clip["num_events"]
        if "warnings" in clip:
            corpus.warnings[clip["name"]] = clip["warnings"]
    return corpus


def _shard_size(num_clips: int, kind: Kind, config: CorpusConfig) -> int:
    if config.shard_clips != "auto":
        return config.shard_clips
    if kind.is_long:
        return 1
    return max(1, min(_LARGEST_SHARD, -(-num_clips // _FILES_AIMED_AT)))


@contextmanager
def _claimed(out: Path, header: Header, shards: list[Shard]) -> Iterator[None]:
    """Hold `out` for this corpus; what a run leaves half-done is removed before and after."""
    notes = out / NOTES
    try:
        notes.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise CollectionError(f"expected a folder to write to, {out} or what it lies in is a file") from None
    except OSError as error:
        raise WriteError(f"could not make the folder {out}: {error}") from error
    busy = CollectionError(f"another run is writing to {out}; wait for it, or choose another folder")
    with only_one(notes / "lock", busy):
        stored = _read_header(notes / _HEADER_FILE)
        if stored is None:
            taken = [name for name in (*(shard.file for shard in shards), MANIFEST, TABLE) if (out / name).exists()]
            if taken:
                raise CollectionError(
                    f"{out} holds {taken[0]}, which is not of this corpus and would be overwritten; choose another "
                    "folder"
                )
            write_text(notes / _HEADER_FILE, [json.dumps(asdict(header))])
        elif stored.digest != header.digest and not any(out.glob("clips-*.h5")):  # it came to nothing
            write_text(notes / _HEADER_FILE, [json.dumps(asdict(header))])
        elif stored.digest != header.digest:
            raise CollectionError(
                f"{out} holds a corpus with another config: {difference(stored, header)}; choose another folder, or "
                "delete that one"
            )
        sweep(out)
        try:
            yield
        finally:
            sweep(out)


def _read_header(path: Path) -> Header | None:
    try:
        return Header(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise CollectionError(f"{path} is damaged ({error}); delete the corpus, or choose another folder") from None
