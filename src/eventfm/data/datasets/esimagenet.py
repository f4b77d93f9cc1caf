"""ES-ImageNet (Lin et al., 2021): the pictures of ImageNet-1k, moved in eight steps and turned into events by a rule.

Layout: folders `train` and `val` of npz (`eventfm.io.es_imagenet`), however deep, and beside them the lists
`trainlabel.txt` and `vallabel.txt`: name, number of the class, height and width of the picture, one sample a line.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from eventfm.data.datasets.card import DatasetCard, Division
from eventfm.data.datasets.contract import Dataset, Found, Problem, Sample
from eventfm.data.datasets.layout import Tree, doubled
from eventfm.events import Events, OnError, Sensor
from eventfm.io import open_recording
from eventfm.io.recording import ArrayRecording
from eventfm.protocols import Recording

_FILE = r"(?:^|/)(train|val)/(?:.*/)?([^/]+)\.npz$"
_LIST = r"(?:^|/)(train|val)label\.txt$"
_CLASSES = tuple(map(str, range(1000)))
_SPLITS = {"train": "train", "val": "test"}
_CANVAS, _LARGEST, _MARGIN = Sensor(256, 256, "ES-ImageNet"), 254, 16
"""What pictures are put on the middle of, their longer side, and what is cut off around."""
_NAMED_AT_MOST = 20
_CARD = DatasetCard(
    name="es-imagenet",
    title="ES-ImageNet",
    task="recognition",
    sensor=Sensor(224, 224, "ES-ImageNet"),
    camera="none: pictures of at most 254x254 pixels, moved in eight steps, are turned into events by a rule (ODG)",
    window={"by": "whole"},
    units="time in steps from 1 to 8, read as microseconds; polarity 0 and 1",
    licence="not known; none is stated, and the pictures have ImageNet's terms",
    citation=(
        "Lin, Ding, Qiang, Deng, Li: ES-ImageNet: A Million Event-Stream Classification Dataset for Spiking Neural "
        "Networks. Frontiers in Neuroscience 15, 2021"
    ),
    home_page="https://github.com/lyh983012/ES-imagenet-master",
    download=(
        "Download ES-ImageNet, the version with lists of events, from the links of the home page and unpack it; "
        "trainlabel.txt and vallabel.txt belong beside the folders train and val."
    ),
    size_gb=100,
    divisions=(
        Division(
            name="official",
            source="official",
            about="the owners' lists; vallabel.txt, which papers report on, is for testing: choose by a part of train",
            counts={"train": 1_257_035, "test": 49_881},
        ),
    ),
    classes=_CLASSES,
    traps=(
        "There is no clock: events have steps 1 to 8, and many share one. A step is read as 1 us; windows by time mean "
        "nothing, and a sample is one window.",
        "Rows and columns count from the corner of the picture. As the owners' code does, it is put on the middle of "
        "256x256 pixels by the sizes in the list, and 16 pixels are cut off on each side: events there are left out.",
        "The first column of a file is the row and the second the column, the other way round than elsewhere.",
        "Classes are the numbers of the owners' lists; which class of ImageNet has which is in trainlabel_dir.txt.",
        "The owners' version with eight frames in place of lists (40 GB) is another one and is not read.",
        "Counts are those of the paper; the lists were not counted.",
    ),
)


class _Row(NamedTuple):
    """One line of a list."""

    stem: str
    label: int
    height: int
    width: int


def find(tree: Tree, division: Division) -> Found:
    """Return the samples that are listed and there; those without a line have neither class nor place."""
    files: dict[str, dict[str, str]] = {"train": {}, "val": {}}
    twice: list[tuple[str, str]] = []
    for match, file in tree.match(_FILE):
        part, stem = match[1].lower(), match[2].lower()
        twice.append((f"{part}/{match[2]}", file))
        files[part].setdefault(stem, file)
    lists = {match[1].lower(): file for match, file in reversed(list(tree.match(_LIST)))}
    samples: list[Sample] = []
    problems = doubled(twice)
    for part, there in files.items():
        if part not in lists:
            said = f"{len(there):,} samples have neither class nor place without it" if there else "it is not there"
            problems.append(Problem("missing", f"{part}label.txt", said, _CARD.download, max(len(there), 1)))
            continue
        rows, bad = _read(tree.root / lists[part], lists[part])
        absent = [row.stem for row in rows if row.stem.lower() not in there]
        problems += [*bad, *_missing(part, absent), *_unlisted(part, set(there) - {row.stem.lower() for row in rows})]
        for row in rows:
            if (file := there.get(row.stem.lower())) is not None:
                name = f"{part}/{row.stem}"
                samples.append(Sample(name, (file,), row.label, _SPLITS[part], picture_size=(row.height, row.width)))
    return Found(tuple(samples), tuple(problems) if samples else ())


def _read(path: Path, file: str) -> tuple[list[_Row], list[Problem]]:
    """Return the lines of a list, and what is wrong with others."""
    rows, problems = [], []
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                rows.append(_row(line))
            except ValueError as error:
                problems.append(Problem("list", file, f"line {number}: {error}", "download the list again"))
    return rows, problems


def _row(line: str) -> _Row:
    """Return what a line says.

    Raises:
        ValueError: It says something else than a name, a class, and a picture's size.
    """
    parts = line.split()
    if len(parts) != 4 or not all(part.isdigit() for part in parts[1:]):
        raise ValueError(f"expected a name and three numbers, got {line.strip()[:60]!r}")
    label, height, width = map(int, parts[1:])
    if label >= len(_CLASSES) or not (0 < height <= _LARGEST and 0 < width <= _LARGEST):
        raise ValueError(
            f"expected a class below 1,000 and at most {_LARGEST} pixels a side, got {line.strip()[:60]!r}"
        )
    return _Row(parts[0].rpartition("/")[2].partition(".")[0], label, height, width)


def _missing(part: str, stems: list[str]) -> list[Problem]:
    remedy = f"unpack it again, or download it from {_CARD.home_page}"
    named = stems[: _NAMED_AT_MOST if len(stems) > _NAMED_AT_MOST else None]
    problems = [Problem("missing", f"{part}/{stem}.npz", "it is not there", remedy) for stem in named]
    if rest := len(stems) - len(named):
        problems.append(Problem("missing", part, f"{rest:,} more that are listed are not there", remedy, rest))
    return problems


def _unlisted(part: str, stems: set[str]) -> list[Problem]:
    if not stems:
        return []
    what = f"{len(stems):,} samples have no line in {part}label.txt, e.g. {min(stems)}, and so no class"
    return [Problem("unexpected", part, what, "download the list again", len(stems))]


def open_sample(root: Path, sample: Sample, on_error: OnError) -> Recording:
    """Return one recording, in memory, with the middle of the picture in that of 224x224 pixels."""
    recording = open_recording(root / sample.files[0], "es_imagenet", _CANVAS, on_error)
    events = recording.events_by_index(0, recording.num_events)
    assert sample.picture_size is not None
    down, right = ((_LARGEST - side) // 2 - _MARGIN for side in sample.picture_size)
    x, y = events.x.astype(int) + right, events.y.astype(int) + down
    width, height = _CARD.sensor.width, _CARD.sensor.height
    kept = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    placed = Events(x[kept].astype(np.uint16), y[kept].astype(np.uint16), events.t[kept], events.p[kept], _CARD.sensor)
    return ArrayRecording(placed, format=recording.format)


DATASET = Dataset(_CARD, find, open_sample)
