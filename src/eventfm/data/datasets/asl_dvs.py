"""ASL-DVS (Bi et al., ICCV 2019): hands that spell letters of American Sign Language.

Layout: `<letter>/<letter>_<number>.mat`, numbers of four digits from 0001, columns x, y, ts and pol.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from eventfm.data.datasets.card import DatasetCard, Division
from eventfm.data.datasets.contract import Dataset, Found, Sample
from eventfm.data.datasets.hashed import hashed_splits
from eventfm.data.datasets.layout import Tree, gaps
from eventfm.events import OnError, Sensor
from eventfm.io import open_recording
from eventfm.io.recording import ArrayRecording
from eventfm.protocols import Recording

_CLASSES = tuple("abcdefghiklmnopqrstuvwxy")
_NUMBERS = range(1, 4201)
_FILE = r"(?:^|/)([a-ik-y])_(\d{4})\.mat$"
_CARD = DatasetCard(
    name="asl-dvs",
    title="ASL-DVS",
    task="recognition",
    sensor=Sensor(240, 180, "DAVIS240"),
    camera="DAVIS240C, in an office under constant light",
    window={"by": "whole"},
    units="time in microseconds, about 100,000 in a recording; polarity 0 and 1",
    licence="not known; its page is to be asked",
    citation=(
        "Bi, Chadha, Abbas, Bourtsoulatze, Andreopoulos: Graph-Based Object Classification for Neuromorphic Vision "
        "Sensing. ICCV 2019"
    ),
    home_page="https://github.com/PIX2NVS/NVS2Graph",
    download="Download ASL-DVS from the link on the home page and unpack the archives of all letters into one folder.",
    divisions=(
        Division(
            name="eventfm",
            source="ours",
            about=(
                "of each letter 840 for testing and 420 for choosing, in the order of the SHA-256 of LETTER/NUMBER; "
                "the owners draw 80/20 at random and publish no list"
            ),
            counts={"train": 70_560, "val": 10_080, "test": 20_160},
            sha256="0f7a2edd325b089889a49c8975f2f6902dce44a883076a09e876221ebfced2d7",
        ),
    ),
    classes=_CLASSES,
    traps=(
        "There are 24 letters: j and z are left out, so that classes from k on are numbered by one less.",
        "Files hold the scene turned by 180 degrees; it is turned upright with x = 239 - x and y = 179 - y.",
        "Five people were recorded, and the names of files do not say whom they show: the same hands are in training "
        "and test, and a score says nothing about people who were not seen.",
    ),
)


def split_of() -> dict[str, str]:
    """Return the split of every sample, by name."""
    splits: dict[str, str] = {}
    for letter in _CLASSES:
        splits |= hashed_splits(f"{letter}/{number:04d}" for number in _NUMBERS)
    return splits


def find(tree: Tree, division: Division) -> Found:
    """Return the samples by letter and number."""
    samples, splits = [], split_of()
    numbers: dict[str, set[int]] = {}
    for match, file in tree.match(_FILE):
        letter, number = match[1].lower(), match[2]
        name = f"{letter}/{number}"
        samples.append(Sample(name, (file,), _CLASSES.index(letter), splits.get(name, "")))
        numbers.setdefault(letter, set()).add(int(number))
    problems = gaps(
        numbers,
        dict.fromkeys(_CLASSES, _NUMBERS),
        folder=str,
        file=lambda number: f"<letter>_{number:04d}.mat",
        remedy=f"unpack it from the archive of its letter, linked at {_CARD.home_page}",
    )
    return Found(tuple(samples), tuple(problems))


def open_sample(root: Path, sample: Sample, on_error: OnError) -> Recording:
    """Return one recording, in memory, turned upright."""
    recording = open_recording(root / sample.files[0], "mat", _CARD.sensor, on_error)
    events = recording.events_by_index(0, recording.num_events)
    width, height = _CARD.sensor.width, _CARD.sensor.height
    turned = replace(events, x=width - 1 - events.x, y=height - 1 - events.y)
    return ArrayRecording(turned, format=recording.format)


DATASET = Dataset(_CARD, find, open_sample)
