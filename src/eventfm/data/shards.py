"""Shards: the files of a corpus, each made as a whole or not at all, and found finished when a run goes on."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eventfm.data.clips import KINDS, CorpusConfig, Entry, Kind
from eventfm.data.pool import Tick
from eventfm.io import WriteError, save_recordings
from eventfm.io.atomic import atomic_file
from eventfm.protocols import Recording
from eventfm.registry import MissingExtraError

NOTES = ".shards"
"""Folder in a corpus with what is known of each finished shard."""
SCRATCH = ".scratch-"
_OURS = ("clips-*.h5", "clips-*.json", "corpus.json", "manifest.jsonl", "labels.csv")
_SYSTEM_REFUSES = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}


@dataclass(frozen=True)
class Order:
    """What all shards of a corpus share."""

    out: Path
    root: Path
    kind: str
    config: CorpusConfig
    digest: str
    """Hash of config and clips: shards of another order are not this one's."""


@dataclass(frozen=True)
class Shard:
    """Clips that go into one file."""

    number: int
    entries: tuple[Entry, ...]
    lost: Mapping[str, str] = field(default_factory=dict)
    """Clips that must not be tried again, and why: they ended the process that made them."""

    @property
    def file(self) -> str:
        """Name of its store in the corpus."""
        return f"clips-{self.number:05d}.h5"


@dataclass(frozen=True)
class Made:
    """What became of a shard."""

    shard: str
    digest: str
    num_bytes: int
    """Size of the store; 0 where no clip could be made, and there is none."""
    clips: list[dict[str, Any]]
    """What the manifest says of each clip that was made."""
    failed: dict[str, str]
    """Why the others were not, by name."""


def make_shard(order: Order, shard: Shard, tick: Tick) -> Made:
    """Make the clips of a shard and return what became of them; `tick` gets (shard number, clips done).

    A clip that cannot be made is noted and left out. The file appears as a whole, and after it its note.

    Raises:
        WriteError: The system refused to write.
    """
    kind: Kind = KINDS.get(order.kind)
    clips: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    target = order.out / shard.file

    def recordings() -> Iterator[tuple[str, Recording]]:
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=order.out) as scratch:
            for done, entry in enumerate(shard.entries, 1):
                if entry.name in shard.lost:
                    failed[entry.name] = shard.lost[entry.name]
                else:
                    _point_at(order, shard, entry)
                    made = _film(kind, order, shard, entry, Path(scratch), failed)
                    if made is not None:
                        recording, note = made
                        clips.append(note)
                        yield entry.name, recording
                    for left in Path(scratch).iterdir():
                        left.unlink()
                tick((shard.number, done))
        if not clips:
            raise _NothingMadeError

    try:
        provenance = {"simulator": "eventfm", "corpus": order.digest}
        save_recordings(target, recordings(), provenance, overwrite=True)
    except _NothingMadeError:
        target.unlink(missing_ok=True)
    size = target.stat().st_size if clips else 0
    made = Made(shard.file, order.digest, size, clips, failed)
    write_text(_note(order.out, shard), [json.dumps(asdict(made))])
    _pointer(order.out, shard).unlink(missing_ok=True)
    return made


def read_note(order: Order, shard: Shard) -> Made:
    """Return what became of a shard that has been made.

    Raises:
        OSError: It has not.
        ValueError: Its note is damaged.
    """
    return Made(**json.loads(_note(order.out, shard).read_text(encoding="utf-8")))


def is_finished(order: Order, shard: Shard) -> bool:
    """Return whether an earlier run has made all clips of a shard, and its file is there, whole."""
    try:
        made = read_note(order, shard)
        whole = made.num_bytes == (order.out / shard.file).stat().st_size
    except (OSError, ValueError, TypeError):
        return False
    return whole and made.digest == order.digest and not made.failed


def without_the_culprit(order: Order, shard: Shard, reason: str) -> Shard | None:
    """Return the shard without the clip that was being made when its process ended; None where nobody knows which."""
    try:
        name = _pointer(order.out, shard).read_text(encoding="utf-8")
    except OSError:
        return None
    if name in shard.lost or name not in {entry.name for entry in shard.entries}:
        return None
    return Shard(shard.number, shard.entries, {**shard.lost, name: reason})


def sweep(out: Path) -> None:
    """Remove what runs that were killed have left half-done in `out`; no other file is touched."""
    for left in out.glob(f"{SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)
    for left in (out / NOTES).glob("clips-*.now"):
        left.unlink(missing_ok=True)
    for folder in (out, out / NOTES):
        for name in _OURS:
            for left in folder.glob(f".{name}.*.part"):
                left.unlink(missing_ok=True)


def write_text(path: Path, parts: Iterable[str]) -> None:
    """Write a text file in UTF-8, as a whole or not at all.

    Raises:
        WriteError: The system refused to write.
    """
    with atomic_file(path, overwrite=True) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.writelines(parts)


class _NothingMadeError(Exception):
    """Ends the writing of a store that would be empty."""


def _film(
    kind: Kind, order: Order, shard: Shard, entry: Entry, scratch: Path, failed: dict[str, str]
) -> tuple[Recording, dict[str, Any]] | None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            recording, note = kind.film(entry, order.root, order.config, scratch)
        except Exception as error:
            # Neither is the clip's fault: the next one would end in the same way.
            refused = isinstance(error, OSError) and error.errno in _SYSTEM_REFUSES
            if refused or isinstance(error, (WriteError, MissingExtraError)):
                raise
            failed[entry.name] = str(error) or type(error).__name__
            return None
    first, last = recording.t_range
    line = {
        "name": entry.name,
        "source": entry.source,
        "clip": entry.clip,
        **note,
        "shard": shard.file,
        "num_events": recording.num_events,
        "t_first_us": first,
        "t_last_us": last,
        "sensor": [recording.sensor.width, recording.sensor.height],
        "label": entry.label,
        "split": entry.split,
    }
    if said := list(dict.fromkeys(str(warning.message) for warning in heard)):
        line["warnings"] = said
    return recording, line


def _note(out: Path, shard: Shard) -> Path:
    return out / NOTES / f"{Path(shard.file).stem}.json"


def _pointer(out: Path, shard: Shard) -> Path:
    return out / NOTES / f"{Path(shard.file).stem}.now"


def _point_at(order: Order, shard: Shard, entry: Entry) -> None:
    """Leave a word of which clip is being made, for the case that it ends this process."""
    try:
        _pointer(order.out, shard).write_text(entry.name, encoding="utf-8")
    except OSError as error:
        raise WriteError(f"could not write into {order.out}: {error}") from error
