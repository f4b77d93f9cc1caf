"""N-ImageNet (Kim et al., ICCV 2021): the pictures of ImageNet-1k on a screen before a camera that moves.

Layout: `extracted_train/<wnid>/<picture>.npz` and `extracted_val/...`; the nine sets that were recorded again, with
other motion or light, are folders of another archive, `val_mode_1`, ... and `val_mode_brightness_4`, ..., which people
also call `extracted_val_mode_1` and `extracted_val_brightness_4`. Pictures are called as in ImageNet.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from eventfm.data.datasets.card import DatasetCard, Division
from eventfm.data.datasets.contract import Dataset, Found, Problem, Sample
from eventfm.data.datasets.imagenet_classes import WNIDS
from eventfm.data.datasets.layout import Tree
from eventfm.events import OnError, Sensor
from eventfm.io import open_recording
from eventfm.protocols import Recording

_FILE = (
    r"(?:^|/)(?:extracted_)?(train|val|(?:val_)?mode_[13567]|(?:val_)?(?:mode_)?brightness_[4567])"
    r"/(n\d{8})/([^/]+)\.npz$"
)
_NUMBERS = {wnid: number for number, wnid in enumerate(WNIDS)}
_TRAIN, _EACH = 1_281_167, 50
"""Files to learn from, and files of each class in every other folder."""
_VARIANTS = {
    "mode-1": (1, "motion"), "mode-5": (2, "motion"), "mode-6": (3, "motion"), "mode-7": (4, "motion"),
    "mode-3": (5, "motion"), "brightness-4": (6, "light"), "brightness-5": (7, "light"), "brightness-6": (8, "light"),
    "brightness-7": (9, "light"),
}  # fmt: skip
"""By the name of its folder, what number a variant has in the paper, and what is different."""
_COUNTS = {"train": _TRAIN, "test": _EACH * len(WNIDS)}
_CARD = DatasetCard(
    name="n-imagenet",
    title="N-ImageNet",
    task="recognition",
    sensor=Sensor(640, 480, "N-ImageNet"),
    camera="Samsung DVS Gen3, 640x480, moved before a screen that shows the pictures",
    window={"by": "whole"},
    units="time in microseconds as the file has it; polarity 0 and 1",
    licence="not known; none is stated for the recordings, and the pictures have ImageNet's terms",
    citation=(
        "Kim, Bae, Park, Zhang, Kim: N-ImageNet: Towards Robust, Fine-Grained Object Recognition with Event Cameras. "
        "ICCV 2021"
    ),
    home_page="https://github.com/82magnolia/n_imagenet",
    download=(
        "Download N_ImageNet.7z, and N_ImageNet_cam.7z for the nine variants, from the link of the home page, and "
        "unpack both into one folder."
    ),
    divisions=(
        Division(
            name="official",
            source="official",
            about="the owners' folders; extracted_val, which papers report on, is for testing",
            counts=_COUNTS,
        ),
        *(
            Division(
                name=name,
                source="official",
                about=f"variant {number} of the paper, recorded with other {what}, is for testing; train is the same",
                counts=_COUNTS,
            )
            for name, (number, what) in _VARIANTS.items()
        ),
    ),
    classes=WNIDS,
    traps=(
        "There are two containers: event_data with the fields x, y, t, p, and x_pos, y_pos, timestamp, polarity. Both "
        "are read.",
        "Folders of variants are not numbered as in the paper: mode_5 is its Validation 2, mode_3 its Validation 5, "
        "brightness_4 its Validation 6.",
        "There is no third part to choose by: whoever chooses by extracted_val reports on what was chosen by.",
        "EventPretrain scales pixels to 224x224 before it sums events up, so that several pixels share one.",
        "train_list.txt and val_list.txt hold paths of the owners' machine and are not read.",
    ),
)


def find(tree: Tree, division: Division) -> Found:
    """Return the samples to learn from and those of the division, by class and picture."""
    tested = "val" if division.name == "official" else division.name
    samples: list[Sample] = []
    counts: dict[str, Counter[str]] = {"train": Counter(), tested: Counter()}
    strangers: Counter[str] = Counter()
    for match, file in tree.match(_FILE):
        part = _part(match[1])
        if part not in counts:
            continue
        wnid = match[2].lower()
        if wnid not in _NUMBERS:
            strangers[file.rpartition("/")[0]] += 1
            continue
        split = "train" if part == "train" else "test"
        samples.append(Sample(f"{part}/{wnid}/{_name(match[3])}", (file,), _NUMBERS[wnid], split))
        counts[part][wnid] += 1
    problems = [*_missing_train(counts["train"]), *_missing_tests(tested, counts[tested])] if samples else []
    problems += [
        Problem("unexpected", folder, "no class of ImageNet-1k is called so", "remove it from the folder", count)
        for folder, count in strangers.items()
    ]
    return Found(tuple(samples), tuple(problems))


def _part(folder: str) -> str:
    """Return what a folder is called here: `train`, `val`, `mode-1` or `brightness-4`."""
    kind = folder.lower()
    return kind if kind in ("train", "val") else "-".join(kind.split("_")[-2:])


def _name(stem: str) -> str:
    """Return the name of a picture as ImageNet writes it, in whatever case the file has it."""
    return re.sub("ilsvrc", "ILSVRC", stem.lower())


def _missing_train(found: Counter[str]) -> list[Problem]:
    if (count := found.total()) >= _TRAIN:
        return []
    absent = [wnid for wnid in WNIDS if wnid not in found]
    what = f"expected {_TRAIN:,} files, found {count:,}"
    if absent and count:
        what += f"; of {len(absent):,} classes there are none, e.g. {absent[0]}"
    return [Problem("missing", "extracted_train", what, _remedy("N_ImageNet.7z"), _TRAIN - count)]


def _missing_tests(part: str, found: Counter[str]) -> list[Problem]:
    variant = part != "val"
    folder = f"extracted_val_{part.replace('-', '_')}" if variant else "extracted_val"
    remedy = _remedy("N_ImageNet_cam.7z" if variant else "N_ImageNet.7z")
    if not found:
        count = _EACH * len(WNIDS)
        return [Problem("missing", folder, f"expected {count:,} files, found none", remedy, count)]
    return [
        Problem(
            "missing", f"{folder}/{wnid}", f"expected {_EACH} files, found {found[wnid]}", remedy, _EACH - found[wnid]
        )
        for wnid in WNIDS
        if found[wnid] < _EACH
    ]


def _remedy(archive: str) -> str:
    return f"unpack it from {archive} of {_CARD.home_page}"


def open_sample(root: Path, sample: Sample, on_error: OnError) -> Recording:
    """Return one recording, in memory."""
    return open_recording(root / sample.files[0], "numpy", _CARD.sensor, on_error)


DATASET = Dataset(_CARD, find, open_sample)
