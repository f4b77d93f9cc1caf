"""The pictures and events of the benchmark, made once in its folder."""

from __future__ import annotations

import csv
import hashlib
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eventfm.api import simulate_corpus
from quality.settings import Settings

SENSOR = (34, 34)
"""That of N-MNIST; the networks see the 32 x 32 pixels in the middle, or a random crop."""
PHOTOGRAPH = 64
"""Side of the photographs, of which the largest square in the middle is taken."""
DURATION_US = {"saccades": 300_000, "planar": 300_000}


def lay_out(data: Path, folder: Path, settings: Settings) -> None:
    """Write `unlabelled/` (to pretrain on), and `labelled/train`, `labelled/test` with a folder per class."""
    if (folder / "done").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    unpacked = folder / "cifar"
    with tarfile.open(data / "images" / "cifar10_subset.tar") as tar:
        tar.extractall(unpacked, filter="data")
    train = by_class(unpacked / "train")
    tests = by_class(unpacked / "test")
    if settings.develop:
        tests = [picture for number, picture in enumerate(train) if number % 100 < 10]
        train = [picture for number, picture in enumerate(train) if number % 100 >= 10]
    train = train[: settings.num_pictures]
    for part, chosen in (("train", train[: settings.num_labelled]), ("test", tests[: settings.num_tests])):
        for picture in chosen:
            place = folder / "labelled" / part / picture.parent.name / picture.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(picture, place)
    _require_apart(train, tests)
    unlabelled = folder / "unlabelled"
    unlabelled.mkdir()
    for picture in train:
        shutil.copy(picture, unlabelled / f"{picture.parent.name}_{picture.name}")
    photographs = sorted((data / "images" / "imagenet_sample").iterdir())
    for picture in photographs[: max(1, len(photographs) * settings.num_pictures // 10_000)]:
        write_square(picture, unlabelled / f"photograph_{picture.stem}.png")
    shutil.rmtree(unpacked)
    (folder / "done").touch()


def _require_apart(train: Sequence[Path], tests: Sequence[Path]) -> None:
    """Refuse pictures that are to be trained on and scored.

    Raises:
        ValueError: There are some, whatever they are called.
    """
    seen = {hashlib.sha256(picture.read_bytes()).digest() for picture in train}
    shared = [picture.name for picture in tests if hashlib.sha256(picture.read_bytes()).digest() in seen]
    if shared:
        raise ValueError(f"{len(shared)} test pictures are training pictures too, e.g. {shared[0]}")


def by_class(folder: Path) -> list[Path]:
    """Return the pictures so that any first ones of them have as many of each class: the classes take turns."""
    classes = [sorted(inner.iterdir()) for inner in sorted(folder.iterdir()) if inner.is_dir()]
    return [picture for turn in zip(*classes, strict=False) for picture in turn]


def write_square(source: Path, target: Path) -> None:
    """Write the square in the middle of a picture, `PHOTOGRAPH` pixels a side."""
    import cv2

    picture = cv2.imread(str(source))
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    square = picture[top : top + side, left : left + side]
    cv2.imwrite(str(target), cv2.resize(square, (PHOTOGRAPH, PHOTOGRAPH), interpolation=cv2.INTER_AREA))


def read_pictures(files: Sequence[Path], side: int = 32) -> NDArray[np.uint8]:
    """Return (N, side, side, 3) RGB."""
    import cv2

    def read(file: Path) -> NDArray[np.uint8]:
        picture = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        return picture if picture.shape[0] == side else cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)

    return np.stack([read(file) for file in files])


def film(pictures: Path, folder: Path, settings: Settings) -> None:
    """Simulate the events of `unlabelled` and, with other seeds, of `labelled`."""
    common = {
        "quiet": True, "sensor": SENSOR, "enlarge": True, "tracks": ("frames",),
        "motion": {
            "kind": settings.kind, "duration_us": DURATION_US[settings.kind], "speed_px_s": settings.speed_px_s,
            "threshold": settings.threshold,
        },
    }  # fmt: skip
    frames = {} if settings.kind == "saccades" else {"frames_hz": 10.0}
    simulate_corpus(
        pictures / "unlabelled", folder / "unlabelled", label_by="none", seed=0, num_clips=settings.num_clips,
        kind="pictures", **frames, **common,
    )  # fmt: skip
    simulate_corpus(pictures / "labelled", folder / "labelled", seed=1, kind="pictures", **common)
    with (folder / "unlabelled" / "labels.csv").open(newline="") as file:
        rows = [row["path"] for row in csv.DictReader(file)]
    with (folder / "shown.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "picture"])
        writer.writerows((path, path.partition("::")[2].rpartition("-")[0]) for path in rows)


def film_digits(folder: Path, settings: Settings) -> None:
    """Simulate digits of scikit-learn, white on black, with five folds: what stands for N-MNIST in development."""
    from eventfm.data.animate import MotionConfig
    from eventfm.data.corpus import Subject
    from eventfm.data.corpus import film as film_subjects

    if (folder / "labels.csv").exists():
        return
    motion = MotionConfig(
        sensor=SENSOR, kind="saccades", duration_us=300_000, speed_px_s=(40.0, 60.0), threshold=(0.2, 0.4)
    )

    def subjects() -> Iterator[Subject]:
        import cv2
        from sklearn.datasets import load_digits

        digits = load_digits()
        order = np.random.default_rng(0).permutation(len(digits.images))[: settings.num_recordings]
        for place, number in enumerate(order):
            ink = cv2.resize(
                np.pad(digits.images[number] / 16, 1).astype(np.float32), (90, 90), interpolation=cv2.INTER_CUBIC
            )
            light = np.full((102, 102), 0.05, np.float32)
            light[6:96, 6:96] += 0.9 * ink.clip(0, 1)
            yield Subject(f"digit{number:04d}", light, str(digits.target[number]), fold=place % 5)

    film_subjects(folder, subjects(), motion, seed=0)
