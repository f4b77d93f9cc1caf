"""`diagnose`, `diagnose_all`: what is wrong with recordings, and repaired copies of them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from eventfm.api.recordings import find_recordings, plan_targets
from eventfm.data.sequences import open_one
from eventfm.events import OnError, Sensor
from eventfm.io.doctor import examine, unreadable, warned
from eventfm.io.doctor_fix import repaired
from eventfm.io.doctor_report import Diagnosis
from eventfm.io.opening import split_id
from eventfm.io.summary import convert
from eventfm.io.writers import target_format
from eventfm.protocols import Recording

AS_IT_IS = cast(OnError, "keep")
"""Events are neither refused nor mended; no other part of eventfm takes such recordings."""


def diagnose(
    path: str | os.PathLike[str],
    *,
    fix: str | os.PathLike[str] | None = None,
    format: str | None = None,
    sensor: Sensor | tuple[int, int] | None = None,
    overwrite: bool = False,
) -> Diagnosis:
    """Return the faults of the recording at `path`, each with a number and what to do; `docs/doctor.md` lists them.

    The recording is read once, in bounded memory. A file that cannot be read is a finding too. With `fix`, a copy is
    written in the format of that suffix, atomically, with its time in order and its wraps unrolled, without events off
    the sensor, of hot pixels, or repeated; `changes` of what is returned says how many.

    Raises:
        FileNotFoundError: Nothing is at `path`.
        FileExistsError: `fix` exists and `overwrite` is not set.
        ValueError: `fix` is the recording itself or lies in it, nothing writes its suffix, or there is nothing to write
            as the recording cannot be read.
        OSError: The system refused to write.
    """
    target = None if fix is None else Path(fix)
    if target is not None:
        _require_target(Path(path), target, overwrite)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            recording = open_one(path, format, sensor, AS_IT_IS)
        except ValueError as error:
            if target is not None:
                raise
            return Diagnosis(str(path), format or "", 0, (unreadable(error),))
    said = warned([str(warning.message) for warning in caught])
    found = examine(recording, str(path))
    found = replace(found, findings=said + tuple(finding for finding in found.findings if finding not in said))
    return found if target is None else _fixed(recording, found, target, overwrite)


def diagnose_all(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    fix: str | os.PathLike[str] | None = None,
    format: str | None = None,
    sensor: Sensor | tuple[int, int] | None = None,
    overwrite: bool = False,
) -> Iterator[Diagnosis]:
    """Yield what `diagnose` says of every recording of `paths`: files, stores of many, folders searched through.

    Of one recording, `fix` is the file of the repaired copy; of several, a folder for native stores.

    Raises:
        ValueError: There is no recording, or what `diagnose` raises.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    found = []
    for path in given:
        try:
            found += find_recordings(path, format)
        except ValueError:
            found.append((Path(path).name, str(path)))  # `diagnose` says what is wrong with it
    if not found:
        raise ValueError(f"expected recordings in {', '.join(map(str, given)) or 'the paths'}, found none")
    if fix is None or len(found) == 1:
        targets = [None if fix is None else Path(fix)] * len(found)
    else:
        targets = [Path(fix) / name for name in plan_targets(found, ".h5")]
    for (_, source), target in zip(found, targets, strict=True):
        yield diagnose(source, fix=target, format=format, sensor=sensor, overwrite=overwrite)


def _fixed(recording: Recording, diagnosis: Diagnosis, target: Path, overwrite: bool) -> Diagnosis:
    target.parent.mkdir(parents=True, exist_ok=True)
    with repaired(recording, diagnosis, target.parent) as (copy, changes):
        convert(copy, target, overwrite=overwrite)
    return replace(diagnosis, fixed=str(target), changes=changes)


def _require_target(path: Path, target: Path, overwrite: bool) -> None:
    source, place = split_id(path)[0].resolve(), target.resolve()
    if place == source or source in place.parents or (target.exists() and source.exists() and target.samefile(source)):
        raise ValueError(f"the repaired copy cannot be {target}, which is part of what is repaired; name another file")
    target_format(target)
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists; pass overwrite=True to replace it")
