"""CIFAR10-DVS (Li et al., 2017): pictures of CIFAR-10 that move on a screen before a camera.

Layout: `<class>/cifar10_<class>_<number>.aedat`, numbers from 0 to 999, AEDAT 2.0 of the DVS128. The same names with
`.aedat4` and `.mat`, which others made of them, are read too.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from eventfm.data.datasets.card import DatasetCard, Division
from eventfm.data.datasets.contract import Dataset, Found, Sample
from eventfm.data.datasets.hashed import hashed_splits
from eventfm.data.datasets.layout import Tree, gaps
from eventfm.events import OnError, Sensor
from eventfm.io import FormatError, open_recording
from eventfm.io.aedat2 import sniff
from eventfm.io.recording import ArrayRecording
from eventfm.protocols import Recording

_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_COUNT = 1000
_TEBN_TEST = 100
_FILE = rf"(?:^|/)cifar10_({'|'.join(_CLASSES)})_(\d+)\.(?:aedat4?|mat)$"
_CARD = DatasetCard(
    name="cifar10-dvs",
    title="CIFAR10-DVS",
    task="recognition",
    sensor=Sensor(128, 128, "DVS128"),
    camera="DVS128",
    window={"by": "whole"},
    units="time in microseconds as the file has it; polarity 0 and 1",
    licence="not known; its page at figshare is to be asked",
    citation=(
        "Li, Liu, Ji, Li, Shi: CIFAR10-DVS: An Event-Stream Dataset for Object Classification. Frontiers in "
        "Neuroscience 11, 2017"
    ),
    home_page="https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671",
    download="Download airplane.zip to truck.zip, ten archives, and unpack all into one folder.",
    divisions=(
        Division(
            name="eventfm",
            source="ours",
            about=(
                "in each class 200 for testing and 100 for choosing, in the order of the SHA-256 of CLASS/NUMBER with "
                "three digits; the owners made none"
            ),
            counts={"train": 7_000, "val": 1_000, "test": 2_000},
            sha256="45d920e27ad78e6a2510fccab8ea61a76cbea9f4f6cdea3d3fa5e5d0f444469d",
        ),
        Division(
            name="tebn",
            source="paper",
            about=(
                "numbers 0 to 99 of each class for testing and 100 to 999 for training, as Duan et al. (TEBN, NeurIPS "
                "2022) and others after them; accuracy is higher than on a division drawn at random"
            ),
            counts={"train": 9_000, "test": 1_000},
            sha256="80a90f0bcf2ca082287bbfeeb7f7c4934e4c52d4f852097fc5680d311b61e316",
        ),
    ),
    classes=_CLASSES,
    traps=(
        "Headers of .aedat do not name the chip. Bits are those of the DVS128: polarity 0, x 1 to 7, y 8 to 14.",
        "The owners' dat2mat.m takes p = 1 - bit, x = 127 - (bits of y) and y = 127 - (bits of x), and so does "
        "eventfm. A plain reader of the DVS128 returns the picture with x and y exchanged, and one that takes bit 1 "
        "for ON turns the polarity round.",
        "Copies as .aedat4 and .mat are taken to be turned already and are read as they stand; nothing in them says.",
        "Papers divide 9:1 in several ways, at random or by number, and by order of names, in which 10 precedes 2; "
        "figures of one do not compare with those of another.",
    ),
)


def split_of(division: str) -> dict[str, str]:
    """Return the split of every sample, by name."""
    splits: dict[str, str] = {}
    for kind in _CLASSES:
        names = [f"{kind}/{number:03d}" for number in range(_COUNT)]
        if division == "tebn":
            splits |= {name: "test" if number < _TEBN_TEST else "train" for number, name in enumerate(names)}
        else:
            splits |= hashed_splits(names)
    return splits


def find(tree: Tree, division: Division) -> Found:
    """Return the samples by class and number."""
    samples, splits = [], split_of(division.name)
    numbers: dict[str, set[int]] = {}
    for match, file in tree.match(_FILE):
        kind, number = match[1].lower(), int(match[2])
        name = f"{kind}/{number:03d}"
        samples.append(Sample(name, (file,), _CLASSES.index(kind), splits.get(name, "")))
        numbers.setdefault(kind, set()).add(number)
    problems = gaps(
        numbers,
        dict.fromkeys(_CLASSES, range(_COUNT)),
        folder=str,
        file=lambda number: f"cifar10_<class>_{number}.aedat",
        remedy=f"unpack it from the archive of its class of {_CARD.home_page}",
    )
    return Found(tuple(samples), tuple(problems))


def open_sample(root: Path, sample: Sample, on_error: OnError) -> Recording:
    """Return one recording; that of `.aedat` in memory, with x and y exchanged."""
    file = root / sample.files[0]
    suffix = file.suffix.lower()
    if suffix != ".aedat":
        return open_recording(file, suffix[1:], _CARD.sensor, on_error)
    try:
        sniff(file)  # a hint about the chip is believed, whatever the file is
    except FormatError as error:
        raise FormatError(
            f"{file}: expected AEDAT 2.0, as the owners publish it, but {error}; unpack it again"
        ) from error
    recording = open_recording(file, "aedat2_dvs128", _CARD.sensor, on_error)
    events = recording.events_by_index(0, recording.num_events)
    return ArrayRecording(replace(events, x=events.y, y=events.x), format=recording.format)


DATASET = Dataset(_CARD, find, open_sample)
