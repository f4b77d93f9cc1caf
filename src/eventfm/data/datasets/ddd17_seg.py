"""DDD17-Seg (Alonso and Murillo, Ev-SegNet, CVPRW 2019): stretches of DDD17 with masks of 6 classes, as ESS packed it.

Layout: folders `dir0`, `dir1`, ... with `events.dat.t` and `events.dat.xyp`, `index/index_50ms.npy` (or 10, or 250) and
`segmentation_masks/segmentation_<frame>.png` (`eventfm.io.ess`). Ev-SegNet's own archive has the same masks and
pictures of 50 ms of events, but no events; it is told apart and refused.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eventfm.data.datasets.card import DatasetCard, DatasetError, Division
from eventfm.data.datasets.contract import Dataset, Found, Problem, Sample
from eventfm.data.datasets.layout import Tree
from eventfm.data.datasets.views import Rectified
from eventfm.events import OnError, Sensor
from eventfm.io.ess import CLASSES, EssEvents, MaskTrack, picture_times
from eventfm.io.recording import PictureTrack
from eventfm.io.searched import SearchedRecording
from eventfm.protocols import Recording

SPLITS = {**{f"dir{number}": "train" for number in (0, 3, 4, 6, 7)}, "dir1": "test"}
_CAMERA = Sensor(346, 260, "DAVIS346")
_SENSOR = Sensor(346, 200, "DDD17-Seg")
_FILE = r"(?:^|/)(dir\d+)/(events\.dat\.t|events\.dat\.xyp|index/index_(?:50|10|250)ms\.npy)$"
_MASK = r"(?:^|/)(dir\d+)/segmentation_masks/(?:[^/]*_)?(\d{1,9})\.png$"
_PACKED = r"(?:^|/)(dir\d+)/segmentation_masks\.zip$"
_EV_SEGNET = r"(?:^|/)rec\d+_export_[\d.]+\.(?:png|npy)$"
_INDICES = tuple(f"index/index_{length}ms.npy" for length in (50, 10, 250))
"""All have the same times."""


def find(tree: Tree, division: Division) -> Found:
    """Return a sample for each folder that has all its parts.

    Raises:
        DatasetError: It is Ev-SegNet's archive, which has no events.
    """
    files: dict[str, dict[str, str]] = {}
    for match, file in tree.match(_FILE):
        files.setdefault(match[1].lower(), {}).setdefault(match[2].lower(), file)
    masks: dict[str, dict[int, str]] = {}
    for match, file in tree.match(_MASK):
        masks.setdefault(match[1].lower(), {}).setdefault(int(match[2]), file)
    packed = {match[1].lower(): file for match, file in tree.match(_PACKED)}
    if not files and next(tree.match(_EV_SEGNET), None) is not None:
        raise DatasetError(
            f"{tree.root} is Ev-SegNet's own archive, whose events are summed up in pictures already; what ESS packed "
            f"has the same masks beside the events. {CARD.download}"
        )
    samples, problems = [], []
    for folder, split in SPLITS.items():
        there = files.get(folder, {})
        index = next((there[name] for name in _INDICES if name in there), None)
        parts = {"events.dat.t": there.get("events.dat.t"), "events.dat.xyp": there.get("events.dat.xyp")}
        parts |= {_INDICES[0]: index}
        of_folder = masks.get(folder, {})
        problems += [
            Problem("missing", f"{folder}/{name}", "it is not there", CARD.download)
            for name, file in parts.items()
            if file is None
        ]
        if not of_folder:
            what = "it is not there" if folder not in packed else f"{packed[folder]} is still packed"
            problems.append(Problem("missing", f"{folder}/segmentation_masks", what, CARD.download))
        found = tuple(file for file in parts.values() if file is not None)
        if of_folder and len(found) == len(parts):
            numbers = tuple(sorted(of_folder))
            in_order = (of_folder[number] for number in numbers)
            samples.append(Sample(f"{split}/{folder}", (*found, *in_order), None, split, None, numbers))
    return Found(tuple(samples), tuple(problems))


def open_sample(root: Path, sample: Sample, on_error: OnError) -> Recording:
    """Return the upper 200 rows of a recording, with `semantic`.

    Raises:
        FormatError: A file is damaged or cut off, or the index has no time for a mask.
    """
    times, rest, index, *masks = (root / file for file in sample.files)
    recording = SearchedRecording(EssEvents(times, rest), "ess", _CAMERA, on_error)
    assert sample.entries is not None
    pictures = PictureTrack(picture_times(index, sample.entries), masks)
    rows, columns = np.mgrid[: _CAMERA.height, : _CAMERA.width]
    # Nothing is moved; what lies below the rows that are labelled is left out.
    places = np.stack([columns, rows], axis=-1).astype(np.float32)
    return Rectified(recording, places, _SENSOR, {"semantic": MaskTrack(pictures, _SENSOR)})


CARD = DatasetCard(
    name="ddd17-seg",
    title="DDD17-Seg",
    task="segmentation",
    sensor=_SENSOR,
    camera="DAVIS 346B, 346x260, without the 60 rows at the bottom",
    window={"by": "frame", "track": "semantic", "frame_at": "end"},
    units="class numbers from 0 to 5, 255 where there is none; time in microseconds of the recording's own clock",
    licence="not known; none is stated with the labels",
    citation=(
        "Alonso, Murillo: EV-SegNet: Semantic Segmentation for Event-based Cameras. CVPR Workshops 2019. Recordings: "
        "Binas, Neil, Liu, Delbruck: DDD17: End-To-End DAVIS Driving Dataset. ICML Workshops 2017. Packed by: Sun, "
        "Messikommer, Gehrig, Scaramuzza: ESS. ECCV 2022"
    ),
    home_page="https://github.com/Shathe/Ev-SegNet",
    download=(
        "Download https://download.ifi.uzh.ch/rpg/ESS/ddd17_seg.tar.gz and unpack it, and segmentation_masks.zip in "
        "each of its folders."
    ),
    divisions=(
        Division(
            name="official",
            source="official",
            about=(
                "Ev-SegNet's: test on the recording rec1487417411, which is dir1 as ESS packed it, and learn on dir0, "
                "3, 4, 6 and 7"
            ),
            counts={"train": 5, "test": 1},
            maps={"train": 15_950, "test": 3_890},
            sha256="d70889dbd9022ce14ff7a0828e9a0d3041f68de9a80e9ee8477a75348229c69f",
        ),
    ),
    classes=CLASSES,
    colours=((128, 64, 128), (70, 70, 70), (220, 220, 0), (107, 142, 35), (220, 20, 60), (0, 0, 142)),
    traps=(
        "Masks have the upper 200 of 260 rows, since those at the bottom were noisy: events below them are left out. A "
        "reader that stretches masks to the height of the camera puts every label at a wrong place.",
        "Masks are what a network trained on Cityscapes said of the grey frames, not drawn by hand.",
        "Classes are Cityscapes' categories, the second being construction and sky together: flat, construction and "
        "sky (background), object, nature (vegetation), human, vehicle.",
        "Nobody chose a part to choose by: ESS's code calls dir1 its validation data, and dir5, which has a single "
        "mask, its test data. dir5 is in no split here.",
        "Mask n is of frame n, whose time is in row n - 1 of the index. Times are nanoseconds in int64; float32 has "
        "steps of 137 seconds there.",
        "ESS takes a number of events before each frame, 32,000 at a time; Ev-SegNet sums up 50 ms. Give data.window "
        "to do as they do.",
        "ScaleEvent's lists have 15,005 masks to learn on and 3,571 to test on; which are left out is not known.",
        "How many masks there are was not checked against the files of ESS; a user counted as many as Ev-SegNet.",
    ),
)
DATASET = Dataset(CARD, find, open_sample)
