"""What is pretraining worth on four tasks? Simulated worlds with labels, one network, one command.

    python benchmarks/quality_tasks.py --out FOLDER

A simulated sensor films worlds of a floor, a wall and a thing of one of four shapes. One small ConvViT is pretrained on
worlds without labels, by EventPretrain's first stage and by ScaleEvent's distillation, whose image teacher is trained
here too, and fine-tuned on labelled worlds, by `eventfm evaluate transfer`: which shape (recognition), classes of
pixels (segmentation), optical flow and depth, from 5 % of the labels and from all, beside the same network from scratch
and a predictor that does not look. Each run is a file: what was stopped goes on where it was. Small-scale: it says
whether the tasks are learnt and pretraining helps here, not how good either is at its published size.

`--quick` does everything once with next to no data and training. `--tasks` names those to do. `--set key=value` changes
a setting (`tasks_made/settings.py`).
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from quality.folder import Clock, claim
from quality.workers import workers
from tasks_made.encoders import DISTILLED, STAGE1, Place
from tasks_made.layout import layout_error
from tasks_made.report import write_report
from tasks_made.settings import TASKS, Settings
from tasks_made.suites import compare
from tasks_made.worlds import WIDE, film


def main() -> None:
    """Do what is left of the benchmark, and write what it came to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tasks", default=",".join(TASKS), metavar="TASK[,TASK]")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    tasks = given.tasks.split(",")
    if unknown := sorted(set(tasks) - set(TASKS)):
        parser.error(f"unknown tasks {', '.join(unknown)}; known: {', '.join(TASKS)}")
    settings = Settings.of(given.quick, given.set)
    out = given.out.absolute()
    claim(out, settings.digest, asdict(settings))
    clock = Clock(out / "seconds.json")
    with clock("worlds"):
        film(out, settings)
    with clock("pretraining"), workers(Place, out, settings) as do:
        do([(STAGE1, ()), (DISTILLED, ())])
    results = {}
    for task in tasks:
        with clock(task):
            results[task] = compare(task, out, settings)
        write_report(out, results, settings, layout_error(out / WIDE) if "depth" in results else None)


if __name__ == "__main__":
    main()
