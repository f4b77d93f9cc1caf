"""MVSEC (Zhu et al., RA-L 2018) for pretraining: events and grey frames of the left camera.

Layout: `<sequence>_data.hdf5`, in folders by scene or not. Ground truth is not needed.
"""

from __future__ import annotations

from pathlib import Path

from eventfm.data.datasets.card import DatasetCard, Division
from eventfm.data.datasets.contract import Dataset, Found, Sample
from eventfm.data.datasets.framed import BENCHMARKS, by_benchmarks, found, require_pairs
from eventfm.data.datasets.layout import Tree
from eventfm.events import OnError, Sensor
from eventfm.io.mvsec import open_file
from eventfm.protocols import Recording

_SENSOR = Sensor(346, 260, "MVSEC")
_FILE = r"(?:^|/)((?:indoor_flying|outdoor_day|outdoor_night)[1-9])_data\.hdf5$"
SEQUENCES = (
    *(f"indoor_flying{number}" for number in (1, 2, 3, 4)),
    *(f"outdoor_day{number}" for number in (1, 2)),
    *(f"outdoor_night{number}" for number in (1, 2, 3)),
)


def find(tree: Tree, division: Division) -> Found:
    """Return a sample for each sequence."""
    parts = [(match[1].lower(), (file,)) for match, file in tree.match(_FILE)]
    return found(parts, by_benchmarks, {name: f"{name}_data.hdf5" for name in SEQUENCES}, CARD.download)


def open_sample(root: Path, sample: Sample, on_error: OnError) -> Recording:
    """Return a sequence with `frames`.

    Raises:
        FormatError: The file is damaged, or has no frames.
    """
    path = root / sample.files[0]
    return require_pairs(open_file(path, _SENSOR, on_error), path, _SENSOR)


CARD = DatasetCard(
    name="mvsec-pairs",
    title="MVSEC pairs",
    task="pretraining",
    sensor=_SENSOR,
    camera="DAVIS m346B, left",
    window={"by": "frames"},
    units="grey frames of 8 bits; time in microseconds since 1970",
    licence="CC BY-SA 4.0",
    citation=(
        "Zhu, Thakur, Ozaslan, Pfrommer, Kumar, Daniilidis: The Multivehicle Stereo Event Camera Dataset: An Event "
        "Camera Dataset for 3D Perception. IEEE RA-L 2018"
    ),
    home_page="https://daniilidis-group.github.io/mvsec/",
    download="Download <sequence>_data.hdf5 of https://daniilidis-group.github.io/mvsec/ into one folder.",
    divisions=(
        Division(
            name="eventfm",
            source="ours",
            about=f"{BENCHMARKS}: outdoor_day1, outdoor_night1 to 3 (depth) and indoor_flying1 to 3 (flow)",
            counts={"train": 2, "test": 7},
            sha256="fce0c26da2c87edaeb97bf883146ad2a6446255eacd00f1630e219cb11664be3",
        ),
    ),
    traps=(
        "Only outdoor_day2 and indoor_flying4 are left to learn from; ScaleEvent's list has outdoor_day1 and 2, of "
        "which the first is tested on.",
        "Events and frames come from one sensor: pixel by pixel they fit as they are, with the distortion of the lens.",
        "The frames of the right camera and the sequences on the motorcycle are not read.",
    ),
)
DATASET = Dataset(CARD, find, open_sample)
