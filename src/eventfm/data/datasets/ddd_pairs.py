"""DDD17 and DDD20 (Binas et al., 2017; Hu et al., ITSC 2020) for pretraining: driving, with the camera's own frames.

Layout: recordings `rec<seconds since 1970>.hdf5`, however deep (`eventfm.io.ddd`).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from eventfm.data.datasets.card import DatasetCard, Division
from eventfm.data.datasets.contract import Dataset, Found, Sample
from eventfm.data.datasets.framed import BENCHMARKS, by_benchmarks, found, require_pairs
from eventfm.data.datasets.layout import Tree
from eventfm.events import OnError, Sensor
from eventfm.io.ddd import open_file
from eventfm.protocols import Recording

_SENSOR = Sensor(346, 260, "DAVIS346")
_FILE = r"(?:^|/)(rec\d{10})\.hdf5$"
_TEST = "rec1487417411"
"""What DDD17-Seg tests on."""


def find(tree: Tree, division: Division, name: str) -> Found:
    """Return a sample for each recording."""
    parts = [(match[1].lower(), (file,)) for match, file in tree.match(_FILE)]
    return found(parts, by_benchmarks, {}, _CARDS[name].download)


def open_sample(root: Path, sample: Sample, on_error: OnError) -> Recording:
    """Return a recording with `frames`.

    Raises:
        FormatError: The file is damaged, or has no frames.
    """
    path = root / sample.files[0]
    return require_pairs(open_file(path, _SENSOR, on_error), path, _SENSOR)


def _card(name: str, title: str, citation: str, home_page: str) -> DatasetCard:
    return DatasetCard(
        name=name,
        title=f"{title} pairs",
        task="pretraining",
        sensor=_SENSOR,
        camera="DAVIS 346B, 346x260",
        window={"by": "frames"},
        units="grey frames of 16 bits; time in microseconds of the camera's own clock",
        licence="not known",
        citation=citation,
        home_page=home_page,
        download=f"Download the recordings (rec<number>.hdf5) of {title} into one folder.",
        divisions=(
            Division(
                name="eventfm",
                source="ours",
                about=f"{BENCHMARKS}: of the recordings, DDD17-Seg tests on {_TEST}",
                counts={},
            ),
        ),
        traps=(
            "Events and frames come from one sensor: pixel by pixel they fit as they are.",
            "Files of other names, such as exports (rec<number>_export.hdf5), are passed over.",
            "Recordings without frames are refused when they are opened.",
            "The owners' list of recordings is not in the card: one that was not downloaded is not named as missing.",
            "DDD20 is said to hold the recordings of DDD17 too, which was not checked: give one of the two sets.",
        ),
    )


_CARDS = {
    "ddd17-pairs": _card(
        "ddd17-pairs",
        "DDD17",
        "Binas, Neil, Liu, Delbruck: DDD17: End-To-End DAVIS Driving Dataset. ICML Workshops 2017",
        "https://docs.google.com/document/d/1HM0CSmjO8nOpUeTvmPjopcBcVCk7KXvLUuiZFS6TWSg/pub",
    ),
    "ddd20-pairs": _card(
        "ddd20-pairs",
        "DDD20",
        "Hu, Binas, Neil, Liu, Delbruck: DDD20 End-to-End Event Camera Driving Dataset: Fusing Frames and Events with "
        "Deep Learning for Improved Steering Prediction. ITSC 2020",
        "https://sites.google.com/view/davis-driving-dataset-2020/home",
    ),
}
DDD17, DDD20 = (Dataset(card, partial(find, name=name), open_sample) for name, card in _CARDS.items())
