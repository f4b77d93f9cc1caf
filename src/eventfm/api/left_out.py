"""What a run leaves out of its data and why: for its report, and as a card in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

from eventfm.data.build import Samples
from eventfm.data.curation import Curated, Reason
from eventfm.deployment.report import Section, Table
from eventfm.engine.run_folder import write_atomic

NAME = "curation.json"
_EXAMPLES = 3
"""Worst windows that the report shows for each reason."""


def write_curation(folder: Path, samples: Samples) -> None:
    """Write the card of what curation kept and left out, where it was asked for, as `curation.json`."""
    if samples.curated is not None:
        write_atomic(folder / NAME, json.dumps(samples.curated.card(), indent=1))


def left_out(samples: Samples) -> list[Section]:
    """Return what was left out by curation, and what could not be read; nothing where neither left anything out."""
    texts, tables = [], []
    if samples.curated is not None:
        texts.append(_summary(samples.curated))
        tables += _tables(samples.curated)
    if problems := samples.problems:
        texts.append(f"{len(problems)} could not be read and were passed over; others took their place.")
        tables.append(Table(["what", "why"], list(problems.items())))
    return [Section("Left out", text=" ".join(texts), tables=tables)] if texts else []


def _summary(curated: Curated) -> str:
    lost, total = len(curated.dropped), len(curated.kept) + len(curated.dropped)
    if not lost:
        return f"Curation found all {total} windows fit to learn from."
    return (
        f"Curation left {lost} of {total} windows out, held-out ones among them, each for the first reason that was "
        f"found; {NAME} lists all of them."
    )


def _tables(curated: Curated) -> list[Table]:
    if not curated.dropped:
        return []
    card = curated.card()
    reasons: list[Reason] = [reason for reason in get_args(Reason) if card["dropped"][reason]]
    counts = [
        (source, of["kept"], *(of["dropped"].get(reason, 0) for reason in reasons))
        for source, of in card["sources"].items()
        if of["dropped"]
    ]
    counts.append(("all sources", card["kept"], *(card["dropped"][reason] for reason in reasons)))
    worst = [
        (reason, drop.name, drop.figure, drop.limit) for reason in reasons for drop in curated.worst(reason, _EXAMPLES)
    ]
    return [
        Table(["source", "kept", *reasons], counts, "windows by source; sources that lost none are in the last line"),
        Table(["reason", "window", "figure", "limit"], worst, "the furthest beyond each limit"),
    ]
