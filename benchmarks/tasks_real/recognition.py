"""The part on recognition: N-MNIST from few and all labels, by folds."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path

from eventfm.api.transferring import transfer
from tasks_real.report import Part
from tasks_real.settings import PROTOCOLS, Settings
from tasks_real.transfers import part_of, require_whole


def recognise(data: Path, out: Path, encoders: Sequence[Path], settings: Settings) -> Part:
    """Return what encoders and their controls come to, each fold tested once."""
    folder = data / "labelled" / "nmnist"
    table = out / "digits.csv"
    write_table(folder / "labels.csv", table, settings.num_recordings)
    results = []
    for fold in settings.folds:
        result = transfer(
            recipe="recognition",
            encoders=[str(path) for path in encoders],
            # Mirrored digits are none.
            data={"path": str(folder), "labels": str(table), "fold": fold, "augment": {"flip": 0.0}},
            protocols=PROTOCOLS,
            shares=(1.0,),
            shots=settings.shots,
            seeds=settings.digit_seeds,
            task={"backbone_rate": settings.digit_backbone_rate},
            train={"num_steps": settings.digit_steps, "batch_size": settings.digit_batch, "lr": settings.digit_lr},
            workers=settings.workers,
            out=str(out / "recognition" / f"fold{fold}"),
        )
        runs = len(PROTOCOLS) * (1 + len(settings.shots)) * len(settings.digit_seeds)
        results.append(require_whole(result, len(encoders), runs))
    text = _text(settings, sum(len(result.groups) for result in results))
    return part_of("Recognition: N-MNIST", text, results, "right", out / "recognition.png")


def write_table(source: Path, target: Path, most: int) -> None:
    """Write the first `most` rows of a table of labels, classes taking turns, in the order of the table."""
    with source.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    of_class: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        of_class.setdefault(row["label"], []).append(number)
    turns = chain.from_iterable(zip_longest(*of_class.values()))
    chosen = sorted([number for number in turns if number is not None][:most])
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows[number] for number in chosen)


def _text(settings: Settings, count: int) -> str:
    return (
        f"{count} real recordings, in {len(settings.folds)} folds, each scored by networks that learnt from the "
        f"others; all folds are pooled. {settings.digit_steps} steps of {settings.digit_batch} recordings in a run, "
        f"seeds {list(settings.digit_seeds)}. `linear` trains a linear layer on the mean token of a frozen network, "
        "`full` the whole network; labels are so many of each class, or all of them. A control is the same network "
        "without pretraining: untrained where it is frozen, from scratch where it learns. Every run chooses its step "
        "by a tenth of the training folds, whose labels are not among the few. Intervals are over recordings, "
        "differences are paired by recording."
    )
