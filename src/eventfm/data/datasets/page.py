"""Cards as text: what the command line prints, and the page of the documentation."""

from __future__ import annotations

from collections.abc import Sequence

from eventfm.data.datasets.card import DatasetCard, Division
from eventfm.data.datasets.contract import Dataset
from eventfm.data.datasets.registry import DATASETS

_TASKS = {
    "recognition": "Recognition",
    "segmentation": "Segmentation",
    "flow": "Optical flow",
    "depth": "Depth",
    "pretraining": "Pairs for pretraining",
}
_CLASSES_NAMED = 30
_HEAD = """# Public data sets

eventfm reads these data sets as their owners publish them: download, unpack, and give the folder.

```sh
eventfm datasets list                                    # this table
eventfm datasets show n-caltech101                       # a card
eventfm datasets check n-caltech101 FOLDER --png look.png
eventfm prepare dataset n-caltech101 FOLDER OUT          # native stores and labels.csv: few files for many
eventfm finetune recognition data=FOLDER data.dataset=n-caltech101 encoder=ENCODER out=RUN
```

`data.dataset=NAME` reads a folder as it is, opening files when they are needed, with the splits of the card's first
division or of `data.division=NAME`. The test sequences of benchmarks are left out of pretraining, as they are of other
data.

`check` names what is missing, damaged or there twice, file by file, and compares numbers and lists with the published
ones. `prepare` works in parallel and goes on where it was stopped; a folder that has grown adds to what is there.
Samples of at most 262,144 events without tracks lie side by side in their store, so that a million of small ones make
some thousand files, and are read faster than the originals
([measured](../benchmarks/results/dataset_throughput/README.md) on a folder as large as 50,000 samples of N-ImageNet).
Names of folders may be in any case, and lie as deep as an archive put them. `ef-imagenet` and
`scaleevent-trio` are published as ready-made volumes: they are trained on as they are, and there is nothing to prepare.
This page is made from the cards (`data/datasets/page.py`).
"""


def cards() -> list[DatasetCard]:
    """Return the cards of all data sets, by task and name."""
    found: list[Dataset] = [DATASETS.get(name) for name in DATASETS]
    order = list(_TASKS)
    return sorted((dataset.card for dataset in found), key=lambda card: (order.index(card.task), card.name))


def page(shown: Sequence[DatasetCard]) -> str:
    """Return the page of the documentation, Markdown."""
    table = ["| name | task | pixels | samples | licence |", "|---|---|---|---|---|"]
    for card in shown:
        size = f"{card.sensor.width}x{card.sensor.height}"
        table.append(f"| [`{card.name}`](#{card.name}) | {card.task} | {size} | {samples(card)} | {card.licence} |")
    parts = [_HEAD, "\n".join(table)]
    for task, title in _TASKS.items():
        of_task = [card for card in shown if card.task == task]
        if of_task:
            parts.append(f"## {title}")
        parts += [_section(card) for card in of_task]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def samples(card: DatasetCard) -> str:
    """Return the published number of samples of each split of the first division, in words."""
    return _counts(card.divisions[0]) or "-"


def card_lines(card: DatasetCard) -> list[str]:
    """Return a card as lines of text."""
    rows = _facts(card)
    width = max(len(name) for name, _ in rows)
    out = [card.title, "", *(f"{name:<{width}}  {value}" for name, value in rows)]
    out += ["", "divisions", *(f"  {_division(division)}" for division in card.divisions)]
    if card.classes:
        out += ["", f"classes ({len(card.classes)})", f"  {', '.join(card.classes)}"]
    return out + (["", "traps", *(f"  - {trap}" for trap in card.traps)] if card.traps else [])


def _facts(card: DatasetCard) -> list[tuple[str, str]]:
    size = "" if card.size_gb is None else f" About {card.size_gb:g} GB."
    return [
        ("name", card.name),
        ("task", card.task),
        ("pixels", f"{card.sensor.width}x{card.sensor.height}"),
        ("camera", card.camera),
        ("window", ", ".join(f"{key}={value}" for key, value in card.window.items())),
        ("units", card.units),
        ("licence", card.licence),
        ("citation", card.citation),
        ("home page", card.home_page),
        ("download", f"{card.download}{size}"),
    ]


def _division(division: Division) -> str:
    digest = f"; SHA-256 of the list {division.sha256}" if division.sha256 else ""
    numbers = f": {_counts(division)}" if division.counts else ""
    return f"{division.name} ({division.source}){numbers}; {division.about}{digest}"


def _counts(division: Division) -> str:
    return ", ".join(
        f"{count:,} {split}" + (f" ({division.maps[split]:,} maps)" if split in division.maps else "")
        for split, count in division.counts.items()
    )


def _section(card: DatasetCard) -> str:
    lines = [f"### {card.name}", "", f"{card.title}.", ""]
    lines += [f"* {name}: {value}" for name, value in _facts(card)[2:]]
    lines += [f"* division {_division(division)}" for division in card.divisions]
    if card.classes:
        more = len(card.classes) - _CLASSES_NAMED
        rest = f" and {more:,} more (`eventfm datasets show {card.name}`)" if more > 0 else ""
        lines.append(f"* {len(card.classes):,} classes: {', '.join(card.classes[:_CLASSES_NAMED])}{rest}")
    if card.traps:
        lines += ["", "Traps:", "", *(f"* {trap}" for trap in card.traps)]
    return "\n".join(lines)
