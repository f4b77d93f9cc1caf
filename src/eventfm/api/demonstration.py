"""`demo`: simulate a labelled corpus, pretrain without labels, probe; does pretraining help?"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from eventfm.api.demo_report import write_demo_report
from eventfm.api.evaluating import ProbeResult, evaluate
from eventfm.api.pretraining import pretrain
from eventfm.data.animate import MotionConfig
from eventfm.data.corpus import Subject, film
from eventfm.random import generator
from eventfm.simulation.render import linear

log = logging.getLogger(__name__)

PICTURE = 64
"""Side of a filmed picture, pixels: twice the sensor, so that motion has detail to move."""
MOTION = MotionConfig(
    sensor=(32, 32), duration_us=100_000, speed_px_s=(30.0, 120.0), pause_probability=0.0, threshold=(0.15, 0.3)
)
NUM_SUBJECTS = 1200
NUM_STEPS = 800
ROWS = (("pretrained", "linear"), ("untrained", "linear"), ("counts", "ridge"), ("counts", "rbf_svm"))


def demo(out: str | Path, num_seeds: int = 3) -> bool:
    """Run the whole story at a small scale and return whether pretraining helped beyond the spread.

    Handwritten digits (scikit-learn) over photographs (scikit-image) move before a simulated sensor; a small ViT
    is pretrained on two thirds of the recordings without labels, and a linear probe is scored on the rest. Seeds
    change motion, weights and order alike. Pretraining helped if its mean gain over the untrained network is larger
    than two standard errors over seeds, and positive for every seed.

    Raises:
        ValueError: Less than one seed, or `out` holds a demonstration of another kind.
    """
    if num_seeds < 1:
        raise ValueError(f"expected at least one seed, got {num_seeds}")
    out = Path(out)
    started = time.monotonic()
    results: list[ProbeResult] = []
    for seed in range(num_seeds):
        folder = out / f"seed{seed}"
        log.info("seed %d: filming %d digits", seed, NUM_SUBJECTS)
        store, table = film(folder / "corpus", subjects(seed, NUM_SUBJECTS), MOTION, seed)
        run = pretrain(
            "difference-vit-tiny",
            data={
                "path": str(store),
                "labels": str(table),
                "split": "train",
                "window": {"by": "frames"},
                "augment": {"flip": 0.0},
                "holdout": 0.05,
            },
            train={"num_steps": NUM_STEPS, "seed": seed},
            out=str(folder / "pretrained"),
        )
        results.append(
            evaluate(
                "probe",
                encoders=str(run.encoder),
                data={"path": str(store), "labels": str(table)},
                out=str(folder / "probe"),
                windows=1,
            )
        )
    gains = np.array([_accuracy(r, "pretrained", "linear") - _accuracy(r, "untrained", "linear") for r in results])
    error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else 0.0
    helped = bool((gains > 0).all() and gains.mean() > 2 * error)
    rows = [
        [name, probe, *_mean_and_spread([_accuracy(result, name, probe) for result in results])] for name, probe in ROWS
    ]
    rows.append(["gain of pretraining", "linear", *_mean_and_spread(list(gains))])
    _print(rows, num_seeds, helped, time.monotonic() - started)
    write_demo_report(out, rows, helped, num_seeds)
    return helped


def subjects(seed: int, count: int) -> Iterator[Subject]:
    """Yield digits over photographs, `count` of them; two thirds are for training. The same digit never comes twice."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    photographs = [linear(picture) for picture in photographs_of_skimage()]
    rng = generator(seed, "subjects")
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
    size = int(rng.integers(46, 64))
    ink = np.zeros((PICTURE, PICTURE), np.float32)
    y, x = rng.integers(0, PICTURE - size + 1, 2)
    # Strokes touch the border of the 8x8 digits: a margin keeps it from becoming an edge of its own.
    strokes = cv2.resize(np.pad(digit, 1).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    ink[y : y + size, x : x + size] = np.clip(strokes, 0, 1)
    return np.clip((0.05 + 0.3 * ground) * (1 - ink) + rng.uniform(0.6, 0.9) * ink, 0, 1).astype(np.float32)


def _accuracy(result: ProbeResult, name: str, probe: str) -> float:
    row = "pretrained, untrained" if name == "untrained" else name
    return result.row(row, probe).accuracy


def _mean_and_spread(values: list[float]) -> list[str]:
    spread = f"{100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else "one seed"
    return [f"{100 * np.mean(values):.1f}", spread, " ".join(f"{100 * value:.1f}" for value in values)]


def _print(rows: list[list[str]], num_seeds: int, helped: bool, seconds: float) -> None:
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
    verdict = "Pretraining helped beyond the spread." if helped else "Pretraining did NOT help beyond the spread."
    print(f"{verdict} {seconds:.0f} s")
