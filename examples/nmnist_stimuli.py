"""The pictures that N-MNIST's sensor looked at, for methods that learn from an image teacher.

    python examples/nmnist_stimuli.py MNIST RECORDINGS OUT [--first 1]

MNIST is a CSV with a label and 784 grey values a line, or an `...-images-idx3-ubyte.gz` with its labels beside it.
Recording number N in RECORDINGS (`7.bs2`, `00007.bin`) shows digit N - FIRST. OUT/pictures gets a PNG for each digit
that a recording shows, OUT/table.csv the columns path,label,picture:

    eventfm pretrain eventpretrain-vit-tiny data=RECORDINGS data.labels=OUT/table.csv data.images=OUT/pictures
        data.window.by=whole data.augment.flip=0 teacher=NAME out=RUN

Digits of 28x28 pixels get a border of 3 to the sensor's 34x34: so placed, their edges lie best where the events are.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eventfm.visualization.files import save_picture

SIDE = 28
BORDER = 3
IMAGES, LABELS = "images-idx3", "labels-idx1"
IMAGES_HEADER, LABELS_HEADER = 16, 8
"""Bytes before the values."""


def main() -> None:
    """Write the pictures and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mnist", type=Path)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--first", type=int, default=1, help="number of the recording that shows the first digit")
    arguments = parser.parse_args()
    digits, labels = read_digits(arguments.mnist)
    pictures = arguments.out / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    rows = []
    for path in sorted(arguments.recordings.rglob("*")):
        if not path.stem.isdecimal() or not 0 <= (which := int(path.stem) - arguments.first) < len(digits):
            continue
        name = f"{path.stem}.png"
        save_picture(pictures / name, np.pad(digits[which], BORDER))
        rows.append((path.relative_to(arguments.recordings).as_posix(), int(labels[which]), name))
    if not rows:
        last = arguments.first + len(digits) - 1
        raise SystemExit(f"expected recordings with numbers {arguments.first} to {last} in {arguments.recordings}")
    with (arguments.out / "table.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "picture"), *rows])
    print(f"{arguments.out}: {len(rows)} recordings with the digit that they show")


def read_digits(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return digits (N, 28, 28) and labels (N,), of a CSV or of a pair of IDX files."""
    if IMAGES in path.name:
        digits = _idx(path, IMAGES_HEADER).reshape(-1, SIDE, SIDE)
        return digits, _idx(path.with_name(path.name.replace(IMAGES, LABELS)), LABELS_HEADER)
    values = np.loadtxt(path, dtype=np.uint8, delimiter=",", ndmin=2)
    return values[:, 1:].reshape(-1, SIDE, SIDE), values[:, 0]


def _idx(path: Path, header: int) -> NDArray[np.uint8]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return np.frombuffer(data, np.uint8, offset=header)


if __name__ == "__main__":
    main()
