"""`demo`: simulate a labelled corpus, pretrain without labels, probe, and learn one dense task."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from eventfm.api.demo_dense import segment_worlds
from eventfm.api.demo_report import write_demo_report
from eventfm.api.evaluating import evaluate
from eventfm.api.pretraining import pretrain
from eventfm.data.animate import MotionConfig
from eventfm.data.corpus import Subject, film
from eventfm.random import generator
from eventfm.simulation.light import linear

log = logging.getLogger(__name__)

PICTURE = 64
"""Side of a filmed picture, pixels: twice the sensor, so that motion has detail to move."""
MOTION = MotionConfig(
    sensor=(32, 32), kind="saccades", duration_us=300_000, speed_px_s=(50.0, 70.0), threshold=(0.2, 0.4)
)
NUM_SUBJECTS = 1200
NUM_STEPS = 500
BASELINES = ("ridge", "rbf_svm")


def demo(out: str | Path, num_seeds: int = 3) -> bool:
    """Run the whole story at a small scale and return whether pretraining helped beyond the spread.

    Handwritten digits (scikit-learn) over photographs (scikit-image) are filmed by a simulated sensor. A small ViT is
    pretrained on two thirds of the recordings without labels, from `num_seeds` different starts, and a linear probe
    is scored on the rest. Pretraining helped if for every seed the paired bootstrap interval of the gain over the
    untrained network lies above zero, and the mean gain is larger than two standard deviations over seeds. Then the
    first of the networks is fine-tuned for a dense task, classes of pixels in simulated worlds, beside the same
    network from scratch.

    Raises:
        ValueError: Fewer than one seed.
    """
    if num_seeds < 1:
        raise ValueError(f"expected at least one seed, got {num_seeds}")
    out, started = Path(out), time.monotonic()
    filmed = track(subjects(NUM_SUBJECTS), "filming digits", NUM_SUBJECTS, console=Console(stderr=True))
    store, table = film(out / "corpus", filmed, MOTION, seed=0)
    names = [f"seed{seed}" for seed in range(num_seeds)]
    for seed, name in enumerate(names):
        log.info("pretraining, %s", name)
        pretrain(
            "difference-vit-tiny",
            data={"path": store, "labels": table, "split": "train", "augment": {"flip": 0.0}, "holdout": 0.05},
            representation={"num_bins": 3},
            train={"num_steps": NUM_STEPS, "seed": seed},
            out=out / name,
        )
    result = evaluate(
        "probe",
        encoders=[str(out / name) for name in names],
        data={"path": store, "labels": table},
        out=out / "probe",
        probes=["linear"],
        baselines=list(BASELINES),
    )
    gains = [result.differences[f"{name} (linear) - {name}, untrained (linear)"] for name in names]
    helped = beyond_the_spread(gains)
    rows = [
        ["pretrained", "linear", *_mean_and_spread([result.row(name, "linear").accuracy for name in names])],
        ["untrained", "linear", *_mean_and_spread([result.row(f"{n}, untrained", "linear").accuracy for n in names])],
        *(["counts", name, *_mean_and_spread([result.row("counts", name).accuracy])] for name in BASELINES),
        ["gain of pretraining", "linear", *_mean_and_spread([gain for gain, _, _ in gains])],
    ]
    _print(rows, num_seeds)
    log.info("a dense task: classes of pixels in worlds of a wall, a floor and one thing, fine-tuned from %s", names[0])
    dense = segment_worlds(out, out / names[0])
    write_demo_report(out, rows, helped, num_seeds, dense)
    verdict = "helped" if helped else "did NOT help"
    print(f"On digits, pretraining {verdict} beyond the spread. {time.monotonic() - started:.0f} s")
    return helped


def beyond_the_spread(gains: Sequence[tuple[float, float, float]]) -> bool:
    """Return whether every gain (value, low, high) has its interval above zero and their mean is over 2 deviations."""
    values = np.array([value for value, _, _ in gains])
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return all(low > 0 for _, low, _ in gains) and float(values.mean()) > 2 * spread


def subjects(count: int) -> Iterator[Subject]:
    """Yield digits over photographs, `count` of them; two thirds are for training, and none comes twice."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    photographs = [linear(picture) for picture in photographs_of_skimage()]
    rng = generator(0, "subjects")
    chosen = rng.permutation(len(digits.images))[:count]
    for place, number in enumerate(chosen):
        yield Subject(
            name=f"digit{number:04d}",
            light=_composed(digits.images[number] / 16, photographs, rng),
            label=str(digits.target[number]),
            split="train" if 3 * place < 2 * count else "test",
        )


def photographs_of_skimage() -> list[NDArray[np.uint8]]:
    """Return the photographs that come inside scikit-image, (H, W) or (H, W, 3) uint8."""
    from skimage import data

    return [getattr(data, name)() for name in ("astronaut", "camera", "chelsea", "coffee", "rocket", "coins")]


def _composed(
    digit: NDArray[np.float64], photographs: list[NDArray[np.float32]], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return a digit (8, 8) in bright strokes over a dimmed cut of a photograph, (PICTURE, PICTURE) linear light."""
    import cv2

    photograph = photographs[rng.integers(len(photographs))]
    side = int(rng.integers(PICTURE, 3 * PICTURE))
    top, left = (int(rng.integers(0, extent - side + 1)) for extent in photograph.shape)
    ground = cv2.resize(
        photograph[top : top + side, left : left + side], (PICTURE, PICTURE), interpolation=cv2.INTER_AREA
    )
    size = int(rng.integers(50, 60))
    ink = np.zeros((PICTURE, PICTURE), np.float32)
    y, x = rng.integers(0, PICTURE - size + 1, 2)
    # Strokes touch the border of the 8x8 digits: a margin keeps it from becoming an edge of its own.
    strokes = cv2.resize(np.pad(digit, 1).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    ink[y : y + size, x : x + size] = np.clip(strokes, 0, 1)
    return np.clip((0.05 + 0.15 * ground) * (1 - ink) + rng.uniform(0.6, 0.9) * ink, 0, 1).astype(np.float32)


def _mean_and_spread(values: list[float]) -> list[str]:
    spread = f"{100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else "-"
    return [f"{100 * np.mean(values):.1f}", spread, " ".join(f"{100 * value:.1f}" for value in values)]


def _print(rows: list[list[str]], num_seeds: int) -> None:
    table = Table(
        title=f"Small-scale demonstration: simulated digits, {NUM_SUBJECTS * 2 // 3} to learn from, "
        f"{NUM_SUBJECTS - NUM_SUBJECTS * 2 // 3} to score, {num_seeds} seeds",
        title_justify="left",
    )
    for name in ("features", "probe", "accuracy, mean %", "standard deviation", "each seed"):
        table.add_column(name)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
