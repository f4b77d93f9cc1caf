"""Verbs that read and make recordings: info, convert, doctor, simulate."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from eventfm.cli.settings import Settings, size_of


def info(
    path: Annotated[
        Path, typer.Argument(help="A recording: a file, a folder of the Event Camera Dataset, FILE.h5::ID.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    png: Annotated[Path | None, typer.Option(help="Draw the events into this PNG.")] = None,
    format: Annotated[str | None, typer.Option(help="A hint where the content does not say.")] = None,
    sensor: Annotated[str | None, typer.Option(help="Sensor size as WIDTHxHEIGHT, a hint.")] = None,
    on_error: Annotated[str, typer.Option(help="raise, sort or clamp.")] = "raise",
) -> None:
    """Say what a recording holds."""
    from eventfm import api
    from eventfm.io.summary import summary_lines

    summary = api.info(path, png=png, format=format, sensor=size_of(sensor), on_error=on_error)  # type: ignore[arg-type]
    if as_json:
        print(json.dumps(summary))
        return
    plain = "utf" not in (sys.stdout.encoding or "").lower()
    print("\n".join([f"{path}: {summary['format']}", *summary_lines(summary, plain)]))


def convert(
    paths: Annotated[
        list[str], typer.Argument(metavar="SOURCE... TARGET", help="Recordings to read, and last the file to write.")
    ],
    to: Annotated[str | None, typer.Option(help="Format to write: a suffix, or dsec, evt3, evt2, ...")] = None,
    format: Annotated[str | None, typer.Option(help="A hint where the content does not say.")] = None,
    sensor: Annotated[str | None, typer.Option(help="Sensor size as WIDTHxHEIGHT, a hint.")] = None,
    on_error: Annotated[str, typer.Option(help="raise, sort or clamp.")] = "raise",
    overwrite: Annotated[bool, typer.Option(help="Replace the target if it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Write recordings in another format: eventfm convert SOURCE TARGET.h5, or SOURCE... FOLDER --to .h5.

    The target's suffix says the format (.h5, .raw, .dat, .aedat4, .csv, .txt, .npz, .npy; --to dsec or evt2 for those):
    .h5 keeps everything. Several sources, or a target that is a folder or has no suffix, make one file per recording;
    folders and stores are searched through. The same command goes on where it was stopped. Exits with 1 if some
    recordings could not be converted.
    """
    from eventfm import api

    *sources, target = paths
    if not sources:
        raise ValueError("expected a source and a target: eventfm convert SOURCE... TARGET")
    size, damage = size_of(sensor), cast(Any, on_error)
    if len(sources) == 1 and Path(target).suffix and not Path(target).is_dir():
        hints = {"to": to, "format": format, "sensor": size}
        print(f"wrote {api.convert(sources[0], target, on_error=damage, overwrite=overwrite, **hints)}")
        return
    made = api.convert_all(
        sources, target, to=to or ".h5", format=format, sensor=size, on_error=damage, overwrite=overwrite, quiet=quiet
    )
    print(f"{target}: {len(made.written):,} recordings written, {len(made.kept):,} kept")
    for source, why in made.failed.items():
        print(f"eventfm: {source}: {why}", file=sys.stderr)
    if made.failed:
        raise typer.Exit(1)


def doctor(
    paths: Annotated[list[str], typer.Argument(metavar="RECORDING...", help="Files, stores or folders to look at.")],
    fix: Annotated[Path | None, typer.Option(help="Repaired copy to write; for several recordings, a folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per recording.")] = False,
    format: Annotated[str | None, typer.Option(help="A hint where the content does not say.")] = None,
    sensor: Annotated[str | None, typer.Option(help="Sensor size as WIDTHxHEIGHT, a hint.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace the repaired copy if it exists.")] = False,
) -> None:
    """Look for faults: eventfm doctor RECORDING... [--fix OUT]. Exits with 1 if there are some.

    Clock, pixels, flicker, gaps, rates, frames: each finding has a number and says what to do. The suffix of OUT says
    the format of the copy; in a folder copies are .h5. The recording itself is never changed.
    """
    from eventfm import api

    size = size_of(sensor)
    found = api.diagnose_all(paths, fix=fix, format=format, sensor=size, overwrite=overwrite)
    sick = 0
    for diagnosis in found:
        sick += not diagnosis.clean
        print(json.dumps(diagnosis.as_json()) if as_json else str(diagnosis))
    if sick:
        raise typer.Exit(1)


def simulate(
    source: Annotated[
        str, typer.Argument(help="Pictures, video, frames (a file or a folder), a manifest, or the word: scenes.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the recordings.")],
    settings: Settings = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make event recordings: eventfm simulate SOURCE OUT num_clips=2 pixel=noisy motion.duration_us=100000 ...

    Keys: seed, num_clips, sensor, motion.*, pixel.*, video.*, scene.*, enlarge,
    frames_hz, tracks, label_by, shard_clips, kind, root, workers, ray, on_error.

    Exits with 1 if some clips could not be made; the others are there, and the same command tries those again.
    """
    from eventfm import api
    from eventfm.config import parse_overrides

    made = api.simulate_corpus(source, out, quiet=quiet, **parse_overrides(settings or []))
    if as_json:
        counts = {"num_clips": made.num_clips, "num_events": made.num_events}
        print(json.dumps({"out": str(made.out), **counts, "failed": made.failed, "warnings": made.warnings}))
    else:
        print(f"{made.out}: {made.num_clips:,} recordings, {made.num_events:,} events")
    if made.failed:
        print(f"eventfm: {len(made.failed)} clips could not be made", file=sys.stderr)
        raise typer.Exit(1)
