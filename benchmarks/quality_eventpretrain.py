"""Does EventPretrain help? Small pretrained encoders beside untrained ones, scratch and counts, all by one command.

    python benchmarks/quality_eventpretrain.py --backbone vit --data $EVENTFM_TEST_DATA --out FOLDER

Pictures (10,000 of CIFAR-10 and 334 photographs) are filmed by a simulated sensor. A teacher is trained on them by
SimCLR, without labels. By eventfm's own recipes a small backbone is pretrained on the events: stage 1, stages 1-2-3,
and the joint ablation. Frozen features are probed, and networks fine-tuned with 10 labels per class, on real recordings
(N-MNIST, five folds, in no pretraining set) and on events of CIFAR pictures (the test pictures in no pretraining set),
with three seeds. Each row is a file: a run that was stopped goes on where it was. Small-scale: it says whether the
method does what it should, not how good it is at its published size.

`--quick` does everything once with next to no training. `--develop` is for choosing settings: a part of the training
pictures stands for the test pictures, and simulated digits for N-MNIST. `--set key=value` changes a setting.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from pathlib import Path

import torch
from quality import pictures, pretraining
from quality.folder import Clock, claim
from quality.jobs import Place, learning, scoring
from quality.memory import remembering
from quality.report import write_report
from quality.settings import BACKBONES, Settings
from quality.teacher import train_teacher
from quality.workers import workers


def main() -> None:
    """Do what is left of the benchmark, and write what it came to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backbone", choices=sorted(BACKBONES), required=True)
    parser.add_argument("--data", type=Path, default=os.environ.get("EVENTFM_TEST_DATA"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--develop", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    if given.data is None:
        parser.error("say --data FOLDER, or set EVENTFM_TEST_DATA")
    changes = [*(["develop=true"] if given.develop else []), *given.set]
    settings = Settings.of(given.backbone, given.quick, changes)
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    out = given.out.absolute()
    claim(out, settings.digest, asdict(settings))
    clock = Clock(out / "seconds.json")
    with clock("events"):
        pictures.lay_out(given.data, out / "pictures", settings)
        pictures.film(out / "pictures", out / "events", settings)
        if settings.develop:
            pictures.film_digits(out / "digits", settings)
    with clock("teacher"):
        files = sorted((out / "pictures" / "unlabelled").iterdir())
        train_teacher(out / "teacher", pictures.read_pictures(files), settings)
    with clock("tokens"), remembering():
        pretraining.cache_tokens(out, settings)
    with workers(Place, given.data.absolute(), out, settings) as do:
        with clock("pretraining; counts and teacher scored"):
            do(learning(settings))
        with clock("encoders probed and fine-tuned"):
            do(scoring())
    write_report(out, settings)


if __name__ == "__main__":
    main()
