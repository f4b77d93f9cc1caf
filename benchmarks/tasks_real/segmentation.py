"""The part on segmentation: events simulated from the street pictures of CamVid, with their classes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from distilled.streets import CLASSES, VOID, read_labels

from eventfm.api.simulating import simulate_corpus
from eventfm.api.transferring import transfer
from eventfm.visualization.files import save_picture
from tasks_real.report import Part
from tasks_real.settings import PROTOCOLS, Settings
from tasks_real.transfers import part_of, require_whole

UNLABELLED = 255
MAP_US = 50_000
"""From one map of classes to the next, microseconds: the window of the recipe."""


def segment(data: Path, out: Path, encoders: Sequence[Path], settings: Settings) -> Part:
    """Return what encoders and their controls come to on the test pictures."""
    lay_out(data, out / "streets", settings)
    film(out / "streets", out / "corpus", settings)
    result = transfer(
        recipe="segmentation",
        encoders=[str(path) for path in encoders],
        data={"path": str(out / "corpus"), "labels": str(out / "corpus" / "labels.csv")},
        protocols=PROTOCOLS,
        seeds=settings.seeds,
        task={"head": {"name": "upernet", "dim": settings.head_dim}},
        train={"num_steps": settings.street_steps, "batch_size": settings.street_batch},
        workers=settings.workers,
        out=str(out / "segmentation"),
    )
    require_whole(result, len(encoders), len(PROTOCOLS) * len(settings.seeds))
    return part_of("Segmentation: simulated CamVid", _text(settings), [result], "mIoU", out / "segmentation.png")


def lay_out(data: Path, folder: Path, settings: Settings) -> None:
    """Copy pictures to `pictures/SPLIT` and masks to `masks/SPLIT` of `folder`, void as what has no class."""
    if (folder / "done").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    most = {"train": settings.num_streets, "val": settings.num_tests, "test": settings.num_tests}
    for split, number in most.items():
        source = data / "images" / "camvid" / split
        for kind in ("pictures", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for picture in sorted((source / "images").iterdir())[:number]:
            shutil.copy(picture, folder / "pictures" / split / picture.name)
            labels = read_labels(source / "labels" / f"{picture.stem}.png")
            mask = np.where(labels == VOID, UNLABELLED, labels).astype(np.uint8)
            save_picture(folder / "masks" / split / f"{picture.stem}.png", mask)
    (folder / "masks" / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    (folder / "done").touch()


def film(folder: Path, corpus: Path, settings: Settings) -> None:
    """Simulate what a sensor sees that moves before each picture; splits are those of the folders."""
    motion = {
        "duration_us": settings.num_maps * MAP_US, "speed_px_s": settings.speed_px_s, "threshold": settings.threshold,
        "pause_probability": 0,
    }  # fmt: skip
    simulate_corpus(
        folder / "pictures", corpus, kind="pictures", masks=str(folder / "masks"), seed=0, quiet=True,
        sensor=settings.street_size[::-1], enlarge=True, tracks=("semantic",), frames_hz=1e6 / MAP_US, motion=motion,
        workers=settings.workers,
    )  # fmt: skip


def _text(settings: Settings) -> str:
    height, width = settings.street_size
    return (
        f"A simulated sensor of {width}x{height} pixels before at most {settings.num_streets} training and "
        f"{settings.num_tests} test pictures, {settings.num_maps} windows of 50 ms of each, {len(CLASSES)} classes; "
        f"{settings.street_steps} steps of {settings.street_batch} windows in every run, seeds {list(settings.seeds)}: "
        "mean ± standard deviation over seeds. `linear` is a linear layer on the frozen tokens, `full` UPerNet and the "
        "whole network. The step is chosen by the validation pictures. Intervals are over test pictures, the windows "
        "of one together, and all seeds; differences to the same network without pretraining are paired by picture."
    )
