"""DVS128 Gesture (Amir et al., CVPR 2017): people who wave, in one recording of about two minutes after the other.

Layout: `DvsGesture/userNN_LIGHT.aedat` (AEDAT 3.1) with `userNN_LIGHT_labels.csv` (class from 1, start and end in
microseconds), and the lists `trials_to_train.txt` and `trials_to_test.txt`.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from eventfm.data.datasets.card import DatasetCard, Division
from eventfm.data.datasets.contract import Dataset, Found, Problem, Sample
from eventfm.data.datasets.layout import Tree, doubled
from eventfm.data.datasets.views import View
from eventfm.events import OnError, Sensor
from eventfm.io import open_recording
from eventfm.protocols import Recording

_LIGHTS = {"f": "fluorescent", "F": "fluorescent_led", "b": "lab", "l": "led", "n": "natural"}
_LIGHTS_OF_USERS = (
    "fFbln", "fFbln", "fFln", "fFln", "fFbln", "fFbln", "fFbl", "fFbl", "fFbln", "fFbl", "fFn", "Fl", "fFbln", "fFln",
    "fFbln", "fbln", "fFbln", "fFbl", "fFbln", "fFl", "fFbn", "fFbln", "fFbl", "fFl", "fl", "fFbln", "fFln", "fFbln",
    "fFbln",
)  # fmt: skip
"""Under which lights each user was recorded, from user 1 on."""
_LAST_TO_TRAIN = 23
TRIALS = {
    f"user{user:02d}_{_LIGHTS[letter]}": "train" if user <= _LAST_TO_TRAIN else "test"
    for user, letters in enumerate(_LIGHTS_OF_USERS, 1)
    for letter in letters
}
"""The recordings and the split of each: 98 of 23 people for training, 24 of 6 others for testing."""
_OFFICIAL = (
    "hand_clapping", "right_hand_wave", "left_hand_wave", "right_arm_clockwise", "right_arm_counter_clockwise",
    "left_arm_clockwise", "left_arm_counter_clockwise", "arm_roll", "air_drums", "air_guitar", "other_gestures",
)  # fmt: skip
"""The classes by their official number less one."""
_CLASSES = tuple(sorted(_OFFICIAL))
_LISTS = {"train": "trials_to_train.txt", "test": "trials_to_test.txt"}
_CARD = DatasetCard(
    name="dvs128-gesture",
    title="DVS128 Gesture",
    task="recognition",
    sensor=Sensor(128, 128, "DVS128"),
    camera="DVS128",
    window={"by": "whole"},
    units="time in microseconds of the recording that a gesture is cut from; polarity 0 and 1",
    licence="CC BY 4.0",
    citation=(
        "Amir, Taba, Berg, Melano, McKinstry, Di Nolfo, Nayak, Andreopoulos, Garreau, Mendoza, Kusnitz, Debole, Esser, "
        "Delbruck, Flickner, Modha: A Low Power, Fully Event-Based Gesture Recognition System. CVPR 2017"
    ),
    home_page="https://research.ibm.com/interactive/dvsgesture/",
    download="Download DvsGesture.tar.gz and unpack it.",
    size_gb=3.0,
    divisions=(
        Division(
            name="official",
            source="official",
            about="the owners' lists of trials: 98 recordings of users 1 to 23, and 24 of users 24 to 29",
            counts={"train": 1_176, "test": 288},
        ),
    ),
    classes=_CLASSES,
    traps=(
        "A recording holds one gesture after the other; each row of its label file is a sample, [start, end).",
        "The paper counts 1,342 gestures, eleven of each recording. Label files have a second row of arm_roll in most, "
        "which makes 1,464 rows; some readers leave rows out and count 1,341.",
        "In user22_led_labels.csv gesture 9 ends after the next one began; the end of a row that overlaps the next is "
        "taken to be the start of that.",
        "Class numbers in the files begin with 1; here classes are numbered by their names in alphabetical order.",
    ),
)


class _Row(NamedTuple):
    kind: int
    start: int
    stop: int


def find(tree: Tree, division: Division) -> Found:
    """Return a sample for each row of the label files; recordings that are on no list are passed over."""
    files = {match[1].lower(): file for match, file in tree.match(r"(?:^|/)(user\d\d_[a-z_]+)\.aedat$")}
    tables = {match[1].lower(): file for match, file in tree.match(r"(?:^|/)(user\d\d_[a-z_]+)_labels\.csv$")}
    samples: list[Sample] = []
    problems = _check_lists(tree)
    problems += doubled((m[1].lower(), file) for m, file in tree.match(r"(?:^|/)(user\d\d_[a-z_]+)\.aedat$"))
    remedy = f"unpack it from DvsGesture.tar.gz of {_CARD.home_page}"
    for trial, split in TRIALS.items():
        for found, suffix in ((files, ".aedat"), (tables, "_labels.csv")):
            if trial not in found and (files or tables):
                problems.append(Problem("missing", f"{trial}{suffix}", "it is not there", remedy))
        if trial not in files or trial not in tables:
            continue
        try:
            rows = _read_rows(tree.root / tables[trial])
        except ValueError as error:
            problems.append(Problem("damaged", tables[trial], str(error), remedy))
            continue
        samples += [
            Sample(
                f"{split}/{trial}/{number:02d}",
                (files[trial],),
                _CLASSES.index(_OFFICIAL[row.kind - 1]),
                split,
                (row.start, row.stop),
            )
            for number, row in enumerate(rows)
        ]
    return Found(tuple(samples), tuple(problems))


def open_sample(root: Path, sample: Sample, on_error: OnError) -> Recording:
    """Return one gesture, a stretch of its recording."""
    return View(_trial(root / sample.files[0], on_error), {}, sample.span)


@lru_cache(maxsize=8)
def _trial(path: Path, on_error: OnError) -> Recording:
    """Return the recording of a dozen gestures, which is looked through once."""
    return open_recording(path, "aedat3", _CARD.sensor, on_error)


def _read_rows(path: Path) -> list[_Row]:
    """Return the rows of a label file, in order of time, none of which overlaps the next.

    Raises:
        ValueError: It is no such file; the message names the line.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines()[1:], 2):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(",")]
        row = _Row(*map(int, cells)) if len(cells) == 3 and all(cell.isdecimal() for cell in cells) else None
        if row is None or not 1 <= row.kind <= len(_OFFICIAL) or row.stop <= row.start:
            raise ValueError(f"line {number}: expected class 1 to 11, start and end in microseconds, got {line[:60]!r}")
        rows.append(row)
    rows.sort(key=lambda row: row.start)
    if not rows:
        raise ValueError("expected a row for every gesture, found none")
    clipped = [row._replace(stop=min(row.stop, after.start)) for row, after in pairwise(rows)]
    return [*clipped, rows[-1]]


def _check_lists(tree: Tree) -> list[Problem]:
    """Return a problem for each official list that is not there, or is not the one that was published."""
    problems = []
    for split, name in _LISTS.items():
        file = next((file for _, file in tree.match(rf"(?:^|/){name}$")), None)
        if file is None:
            if tree.files:
                problems.append(Problem("missing", name, "the list is not there", "the published one is taken instead"))
            continue
        words = (tree.root / file).read_text(encoding="utf-8", errors="replace").split()
        listed = {word.lower().removesuffix(".aedat") for word in words}
        expected = {trial for trial, there in TRIALS.items() if there == split}
        if listed != expected:
            other = sorted(listed ^ expected)
            problems.append(
                Problem(
                    "list",
                    file,
                    f"it differs from the published list in {len(other)} recordings, e.g. {other[0]}",
                    "the published one is taken instead; unpack the file again",
                )
            )
    return problems


DATASET = Dataset(_CARD, find, open_sample)
