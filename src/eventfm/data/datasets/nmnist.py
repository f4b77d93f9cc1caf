"""N-MNIST (Orchard et al., 2015): the digits of MNIST before a camera that moves three times.

Layout: `Train/<digit>/<number>.bin` and `Test/<digit>/<number>.bin`, numbers of five digits from 00001, ATIS rows of 40
bits. Sample `number` shows picture `number - 1` of MNIST.
"""

from __future__ import annotations

from pathlib import Path

from eventfm.data.datasets.card import DatasetCard, Division
from eventfm.data.datasets.contract import Dataset, Found, Sample
from eventfm.data.datasets.layout import Tree, doubled, gaps
from eventfm.events import OnError, Sensor
from eventfm.io import open_recording
from eventfm.protocols import Recording

_FILE = r"(?:^|/)(train|test)/(\d)/(\d{5})\.bin$"
_CARD = DatasetCard(
    name="n-mnist",
    title="N-MNIST",
    task="recognition",
    sensor=Sensor(34, 34, "N-MNIST"),
    camera="ATIS, cut to 34x34 pixels",
    window={"by": "whole"},
    units="time in microseconds from 0 to about 300,000; polarity 0 and 1",
    licence="CC BY-SA 4.0",
    citation=(
        "Orchard, Jayawant, Cohen, Thakor: Converting Static Image Datasets to Spiking Neuromorphic Datasets Using "
        "Saccades. Frontiers in Neuroscience 9, 2015"
    ),
    home_page="https://www.garrickorchard.com/datasets/n-mnist",
    download="Download Train.zip and Test.zip and unpack both into one folder.",
    size_gb=1.1,
    divisions=(
        Division(
            name="official",
            source="official",
            about="the folders Train and Test, as MNIST has them",
            counts={"train": 60_000, "test": 10_000},
        ),
    ),
    classes=tuple("0123456789"),
    traps=(
        "Rows with y = 240 are no events: they add 8,192 us to every time after them.",
        "A recording has three movements of about 100 ms; readers that keep the first alone report other figures.",
        "Train and Test number their files alike: the name of a sample includes its split.",
    ),
)


def find(tree: Tree, division: Division) -> Found:
    """Return the samples by split and number; a number that is there in no digit's folder is missing."""
    samples: list[Sample] = []
    numbers: dict[str, set[int]] = {}
    for match, file in tree.match(_FILE):
        split, digit, number = match[1].lower(), match[2], match[3]
        samples.append(Sample(f"{split}/{digit}/{number}", (file,), int(digit), split))
        numbers.setdefault(split, set()).add(int(number))
    problems = gaps(
        numbers,
        {split: range(1, count + 1) for split, count in division.counts.items()},
        folder=str.capitalize,
        file=lambda number: f"<digit>/{number:05d}.bin",
        remedy=f"unpack it from Train.zip or Test.zip of {_CARD.home_page}",
    )
    problems += doubled((f"number {name.split('/')[2]} of {split}", files[0]) for name, files, _, split, *_ in samples)
    return Found(tuple(samples), tuple(problems))


def open_sample(root: Path, sample: Sample, on_error: OnError) -> Recording:
    """Return one recording, in memory."""
    return open_recording(root / sample.files[0], "atis", _CARD.sensor, on_error)


DATASET = Dataset(_CARD, find, open_sample)
