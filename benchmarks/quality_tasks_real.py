"""Do the tasks work on pictures and recordings that nobody made for them? One command, four parts, each optional.

    python benchmarks/quality_tasks_real.py --data $EVENTFM_TEST_DATA --out FOLDER \
        --encoders FOLDER[,FOLDER] --flow-models MODEL[,MODEL] --depth-models MODEL[,MODEL]

With encoders: recognition of N-MNIST by five folds, from 10, 50 and all labels per class, and segmentation of events
simulated from CamVid's street pictures, each beside the same networks without pretraining. With models of flow
(`eventfm finetune flow`): the pairs of Middlebury, moved along their measured flow, beside no motion. With models of
depth: the way between two views of Middlebury's Cones, beside one depth everywhere; evaluation only. Every result is a
file: what was stopped goes on where it was, and with further encoders and models, named after those that were there,
only these are new. The page, `README.md`, says what was left out.

`--quick` does everything once with next to no data and training. `--parts` names the parts to do, if not all that there
are arguments for. `--set key=value` changes a setting (`tasks_real/settings.py`), such as `digit_steps=400`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from quality.folder import Clock, claim
from tasks_real.dense_parts import depth_part, flow_part
from tasks_real.recognition import recognise
from tasks_real.report import NEEDED, Part, write_report
from tasks_real.segmentation import segment
from tasks_real.settings import Settings

PARTS: dict[str, Callable[[Path, Path, Sequence[Path], Settings], Part]] = {
    "recognition": recognise,
    "segmentation": segment,
    "flow": flow_part,
    "depth": depth_part,
}


def main() -> None:
    """Do what is left of the benchmark, and write what it came to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("EVENTFM_TEST_DATA"))
    parser.add_argument("--out", type=Path, required=True)
    for argument in dict.fromkeys(NEEDED.values()):
        parser.add_argument(argument, type=_folders, default=(), metavar="FOLDER[,FOLDER]")
    parser.add_argument("--parts", type=_names, default=tuple(PARTS), metavar="PART[,PART]")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    if given.data is None:
        parser.error("say --data FOLDER, or set EVENTFM_TEST_DATA")
    settings = Settings.of(given.quick, given.set)
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    data, out = given.data.absolute(), given.out.absolute()
    claim(out, settings.digest, asdict(settings))
    clock = Clock(out / "seconds.json")
    for name in given.parts:
        sources = getattr(given, NEEDED[name].removeprefix("--").replace("-", "_"))
        if not sources:
            print(f"{name} is left out: it needs {NEEDED[name]}", flush=True)
            continue
        with clock(name):
            part = PARTS[name](data, out, sources, settings)
        write_report(out, {name: part}, settings)
    write_report(out, {}, settings)


def _folders(text: str) -> tuple[Path, ...]:
    found = tuple(Path(part).absolute() for part in text.split(",") if part)
    for folder in found:
        if not folder.is_dir():
            raise argparse.ArgumentTypeError(f"expected a folder, got {folder}")
    return found


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"unknown part {name!r}; known: {', '.join(PARTS)}")
    return names


if __name__ == "__main__":
    main()
