"""N-Cars (Sironi et al., CVPR 2018): 100 ms of what is a car or is none, cut from a drive.

Layout: `n-cars_train/{cars,background}/obj_<number>_td.dat` and `n-cars_test/...`, with or without a folder `train` or
`test` between; numbers of six digits from 000000, Prophesee DAT without geometry.
"""

from __future__ import annotations

from pathlib import Path

from eventfm.data.datasets.card import DatasetCard, Division
from eventfm.data.datasets.contract import Dataset, Found, Sample
from eventfm.data.datasets.layout import Tree, gaps
from eventfm.events import OnError, Sensor
from eventfm.io import open_recording
from eventfm.protocols import Recording

_FILE = r"(?:^|[/_-])(train|test)/(cars|background)/obj_(\d{6})_td\.dat$"
_CLASSES = ("background", "cars")
_COUNTS = {("train", "cars"): 7940, ("train", "background"): 7482, ("test", "cars"): 4396, ("test", "background"): 4211}
_CARD = DatasetCard(
    name="n-cars",
    title="N-Cars",
    task="recognition",
    sensor=Sensor(120, 100, "N-Cars"),
    camera="ATIS, cut to the object: at most 120x100 pixels",
    window={"by": "whole"},
    units="time in microseconds from 0 to 100,000; polarity 0 and 1",
    licence="Prophesee's terms, which forbid to pass it on",
    citation=(
        "Sironi, Brambilla, Bourdis, Lagorce, Benosman: HATS: Histograms of Averaged Time Surfaces for Robust "
        "Event-based Object Classification. CVPR 2018"
    ),
    home_page="https://www.prophesee.ai/dataset-n-cars-download/",
    download="Download Prophesee_Dataset_n_cars.zip and unpack it, and n-cars_train.zip and n-cars_test.zip in it.",
    divisions=(
        Division(
            name="official",
            source="official",
            about="the archives n-cars_train and n-cars_test; which samples are of one drive is not published",
            counts={"train": 15_422, "test": 8_607},
            sha256="59229ca5cd94d6d5f688eb2e8bfaa03cb6973e867036961b4dbc18b314fdcb9a",
        ),
    ),
    classes=_CLASSES,
    traps=(
        "The files state no geometry, and samples differ in size. All are read as 120x100 pixels with the object at "
        "the top left; a reader that resizes each by its largest coordinate uses another geometry.",
        "Records are of type 0, which readers that know type 12 alone refuse.",
        "Training and test crops may be of one car; nothing is published by which to tell.",
    ),
)


def find(tree: Tree, division: Division) -> Found:
    """Return the samples by split, class and number."""
    samples: list[Sample] = []
    numbers: dict[tuple[str, str], set[int]] = {}
    for match, file in tree.match(_FILE):
        split, kind, number = match[1].lower(), match[2].lower(), match[3]
        samples.append(Sample(f"{split}/{kind}/{number}", (file,), _CLASSES.index(kind), split))
        numbers.setdefault((split, kind), set()).add(int(number))
    problems = gaps(
        numbers,
        {group: range(count) for group, count in _COUNTS.items()},
        folder=lambda group: f"n-cars_{group[0]}/{group[1]}",
        file=lambda number: f"obj_{number:06d}_td.dat",
        remedy=f"unpack it from n-cars_train.zip or n-cars_test.zip of {_CARD.home_page}",
    )
    return Found(tuple(samples), tuple(problems))


def open_sample(root: Path, sample: Sample, on_error: OnError) -> Recording:
    """Return one recording."""
    return open_recording(root / sample.files[0], "dat", _CARD.sensor, on_error)


DATASET = Dataset(_CARD, find, open_sample)
