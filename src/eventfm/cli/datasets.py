"""Verbs of public data sets: datasets list, show and check, prepare dataset."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

Name = Annotated[str, typer.Argument(help="A data set, as `eventfm datasets list` names it.")]
Folder = Annotated[Path, typer.Argument(help="Its folder, as it was downloaded and unpacked.")]
Division = Annotated[str | None, typer.Option(help="Whose splits, where the card lists several.")]


def list_all() -> None:
    """List the data sets: name, task, pixels, samples, licence."""
    from eventfm.api.datasets import list_datasets
    from eventfm.data.datasets.page import samples

    rows = [("name", "task", "pixels", "samples", "licence")]
    for card in list_datasets():
        size = f"{card.sensor.width}x{card.sensor.height}"
        rows.append((card.name, card.task, size, samples(card), card.licence))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def show(name: Name) -> None:
    """Print the card of a data set: eventfm datasets show NAME."""
    from eventfm.api.datasets import show_dataset
    from eventfm.data.datasets.page import card_lines

    print("\n".join(card_lines(show_dataset(name))))


def check(
    name: Name,
    path: Folder,
    division: Division = None,
    looks: Annotated[int, typer.Option(help="How many samples are opened, from the first to the last.")] = 1000,
    every: Annotated[bool, typer.Option("--every", help="Open every sample.")] = False,
    png: Annotated[Path | None, typer.Option(help="Draw samples with their labels into this PNG.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Say what is there, what is missing and what is damaged: eventfm datasets check NAME FOLDER [--png FILE].

    Exits with 1 if the data set is not complete.
    """
    from eventfm.api.datasets import check_dataset

    report = check_dataset(name, path, division=division, looks=None if every else looks, png=png, quiet=quiet)
    print("\n".join(report.lines()))
    if not report.complete:
        raise typer.Exit(1)


def dataset(
    name: Name,
    path: Folder,
    out: Annotated[Path, typer.Argument(help="Folder for the stores and their table.")],
    division: Division = None,
    workers: Annotated[str, typer.Option(help="Processes; 0 works in this one.")] = "auto",
    ray: Annotated[str | None, typer.Option(help="Address of a Ray cluster to work on instead.")] = None,
    on_error: Annotated[str, typer.Option(help="raise, sort or clamp.")] = "raise",
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Write a public data set as native stores: eventfm prepare dataset NAME FOLDER OUT.

    Runs then take data=OUT data.labels=OUT/labels.csv. The same command goes on where it was stopped. Exits with 1 if
    some samples could not be read; the others are there, and the same command tries those again.
    """
    from eventfm.api.datasets import prepare_dataset

    if workers != "auto" and not workers.isdecimal():
        raise ValueError(f"expected workers as a number or auto, got {workers!r}")
    number: Any = workers if workers == "auto" else int(workers)
    made = prepare_dataset(
        name, path, out, division=division, workers=number, ray=ray, on_error=cast(Any, on_error), quiet=quiet
    )
    print(f"{made.out}: {made.num_samples:,} samples, {made.num_written:,} of them new")
    if made.problems:
        count = sum(problem.count for problem in made.problems)
        print(f"eventfm: {count:,} problems with {path}, first {made.problems[0]}", file=sys.stderr)
    if made.empty:
        print(f"eventfm: {len(made.empty):,} samples have no events, e.g. {made.empty[0]}", file=sys.stderr)
    if made.failed:
        print(f"eventfm: {len(made.failed)} samples could not be read", file=sys.stderr)
        raise typer.Exit(1)
