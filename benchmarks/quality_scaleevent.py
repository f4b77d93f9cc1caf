"""Does ScaleEvent help? Small students distilled from an image teacher, part by part of the method, by one command.

    python benchmarks/quality_scaleevent.py --data $EVENTFM_TEST_DATA --out FOLDER

A simulated sensor films pictures: the training street pictures of CamVid and 334 photographs. A DINOv3 of two blocks is
trained on the same pictures as the teacher, with the labels of CamVid's training split and, without labels, on hidden
gradients. By eventfm's recipe `scaleevent-tiny` students of its size start from its weights and learn its tokens from
events. Rows are what the method adds part by part, its three forms, and the controls: an untrained network and the
teacher's weights on events as they are. Frozen features are probed: classes of street pictures from events of CamVid's
test split, N-MNIST (real recordings, five folds, in no training set), and how far tokens have collapsed, with three
seeds. Each row is a file: a run that was stopped goes on where it was. Small-scale: it says whether the method does
what it should, not how good it is at its published size.

`--quick` does everything once with next to no training. `--develop` is for choosing settings: validation pictures
stand for the test pictures, and simulated digits for N-MNIST. `--set key=value` changes a setting.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from pathlib import Path

import torch
from distilled import streets
from distilled.jobs import Place, jobs
from distilled.report import write_report
from distilled.settings import Settings
from distilled.teacher import train_teacher
from quality.folder import Clock, claim
from quality.pictures import film_digits
from quality.workers import workers


def main() -> None:
    """Do what is left of the benchmark, and write what it came to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("EVENTFM_TEST_DATA"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--develop", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    if given.data is None:
        parser.error("say --data FOLDER, or set EVENTFM_TEST_DATA")
    settings = Settings.of(given.quick, [*(["develop=true"] if given.develop else []), *given.set])
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    data, out = given.data.absolute(), given.out.absolute()
    claim(out, settings.digest, asdict(settings))
    clock = Clock(out / "seconds.json")
    with clock("events"):
        streets.lay_out(data, out / "pictures", settings)
        streets.film(out / "pictures" / "unlabelled", out / "events", settings)
        streets.film_labelled(data, out / "labelled", settings)
        if settings.develop:
            film_digits(out / "digits", settings)
    with clock("teacher"):
        photographs = sorted((out / "pictures" / "unlabelled").glob("photograph_*"))
        train_teacher(out / "teacher", streets.street(data, settings)["train"], photographs, settings)
    with clock("students distilled and scored"), workers(Place, data, out, settings) as do:
        do(jobs(settings))
    write_report(out, settings)


if __name__ == "__main__":
    main()
