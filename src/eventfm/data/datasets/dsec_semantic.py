"""DSEC-Semantic (Sun et al., ESS, ECCV 2022): eleven sequences of DSEC with masks of 11 or 19 classes.

Layout: of each sequence `.../<sequence>/events/left/events.h5` with `rectify_map.h5` as DSEC has them, and
`.../<sequence>/11classes/<number>.png` with `<sequence>_semantic_timestamps.txt`. Masks may also lie where ESS
(`semantic/left/11classes/data/`, `semantic/timestamps.txt`) and EventPretrain put them; parts may lie apart, as
archives of single sequences unpack.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.data.datasets import dsec
from eventfm.data.datasets.card import DatasetCard, Division
from eventfm.data.datasets.contract import Dataset, Found, Problem, Sample
from eventfm.data.datasets.layout import Tree
from eventfm.events import OnError, Sensor
from eventfm.io.contract import FormatError
from eventfm.io.recording import as_track_times
from eventfm.protocols import Recording

SPLITS = {
    **{f"zurich_city_{name}": "train" for name in ("00_a", "01_a", "02_a", "04_a", "05_a", "06_a", "07_a", "08_a")},
    **{f"zurich_city_{name}": "test" for name in ("13_a", "14_c", "15_a")},
}
_SENSOR = Sensor(640, 440, "DSEC rectified")
_SEQUENCE = r"(?:^|/)(zurich_city_\d\d_[a-f])"
_TIMES = _SEQUENCE + r"(?:_semantic_timestamps|[^/]*/semantic/(?:left/)?(?:semantic_)?timestamps)\.txt$"
_MASK = _SEQUENCE + r"[^/]*/(?:.*/)?{}classes/(?:data/)?(\d{{6}})\.png$"
_SKIPPED = 6
"""Labels at the start of a sequence that ESS leaves out, for want of events before them."""
_HOME_PAGE = "https://dsec.ifi.uzh.ch/dsec-semantic/"
_COLOURS = {
    "road": (128, 64, 128), "sidewalk": (244, 35, 232), "building": (70, 70, 70), "wall": (102, 102, 156),
    "fence": (190, 153, 153), "pole": (153, 153, 153), "traffic light": (250, 170, 30), "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35), "terrain": (152, 251, 152), "sky": (70, 130, 180), "person": (220, 20, 60),
    "rider": (255, 0, 0), "car": (0, 0, 142), "truck": (0, 0, 70), "bus": (0, 60, 100), "train": (0, 80, 100),
    "motorcycle": (0, 0, 230), "bicycle": (119, 11, 32), "background": (0, 0, 0),
}  # fmt: skip
"""Colours of Cityscapes; the background of 11 classes, which is the sky, is black in ESS."""
_CLASSES = {
    11: (
        "background", "building", "fence", "person", "pole", "road", "sidewalk", "vegetation", "car", "wall",
        "traffic sign",
    ),
    19: tuple(name for name in _COLOURS if name != "background"),
}  # fmt: skip


def find(tree: Tree, division: Division, num_classes: int) -> Found:
    """Return a sample for each sequence that has all its parts; masks that are missing are named one by one."""
    events = dsec.left_events(tree)
    times = {m[1].lower(): file for m, file in tree.match(_TIMES)}
    masks: dict[str, dict[int, str]] = {}
    for match, file in tree.match(_MASK.format(num_classes)):
        masks.setdefault(match[1].lower(), {}).setdefault(int(match[2]), file)
    remedy = _CARDS[num_classes].download
    samples, problems = [], []
    for sequence, split in SPLITS.items():
        rectify = dsec.rectify_map_beside(tree, events.get(sequence))
        parts = {
            "events/left/events.h5": sequence in events,
            "events/left/rectify_map.h5": rectify is not None,
            f"{sequence}_semantic_timestamps.txt": sequence in times,
            f"{num_classes}classes": sequence in masks,
        }
        if not all(parts.values()):
            absent = [f"{sequence}/{part}" for part, is_there in parts.items() if not is_there]
            problems += [Problem("missing", path, "it is not there", remedy) for path in absent if events or masks]
            continue
        assert rectify is not None
        try:
            count, there = len(dsec.read_times(tree.root / times[sequence])), masks[sequence]
        except FormatError as error:
            problems.append(Problem("damaged", times[sequence], str(error), remedy))
            continue
        folder = PurePosixPath(next(iter(there.values()))).parent
        problems += [
            Problem("missing", f"{folder}/{number:06d}.png", "it is not there", remedy)
            for number in range(count)
            if number not in there
        ]
        problems += [
            Problem("unexpected", file, f"{times[sequence]} has {count} times only", "unpack both from one archive")
            for number, file in sorted(there.items())
            if number >= count
        ]
        first, step = (_SKIPPED, 2) if division.name == "ess" else (0, 1)
        numbers = tuple(number for number in range(first, count, step) if number in there)
        if numbers:
            files = (events[sequence], rectify, times[sequence], *(there[number] for number in numbers))
            samples.append(Sample(f"{split}/{sequence}", files, None, split, None, numbers))
    return Found(tuple(samples), tuple(problems))


def open_sample(root: Path, sample: Sample, on_error: OnError, num_classes: int) -> Recording:
    """Return a sequence, its events rectified and cut to the 440 rows that masks have, with `semantic`.

    Raises:
        CalibrationError: The map of rectification is missing or of another size.
        FormatError: A file is damaged.
    """
    events, rectify, times, *masks = (root / file for file in sample.files)
    assert sample.entries is not None
    taken = dsec.read_times(times)[list(sample.entries), 0]
    tracks = {"semantic": _Masks(taken, masks, _CLASSES[num_classes])}
    return dsec.open_rectified(events, rectify, on_error, tracks, _SENSOR)


class _Masks:
    """A track of pictures whose values are class numbers, read when asked for."""

    def __init__(self, times: NDArray[np.int64], paths: list[Path], classes: tuple[str, ...]) -> None:
        self.times: NDArray[np.int64] = as_track_times(times)
        self.classes = classes
        self._paths = paths

    def __len__(self) -> int:
        return len(self.times)

    def read(self, i: int) -> NDArray[Any]:
        """Return mask `i`, (440, 640) uint8: class numbers, 255 where there is none.

        Raises:
            FormatError: The picture is damaged, or has another size or colours instead of numbers.
        """
        from PIL import Image

        try:
            with Image.open(self._paths[i]) as picture:
                mask = np.asarray(picture)
        except (OSError, ValueError, SyntaxError) as error:
            raise FormatError(f"{self._paths[i]}: damaged: {error}") from None
        if mask.shape != (_SENSOR.height, _SENSOR.width) or mask.dtype != np.uint8:
            raise FormatError(f"{self._paths[i]}: expected 640x440 class numbers, got {mask.shape} {mask.dtype}")
        return mask


def _card(num_classes: int) -> DatasetCard:
    classes = _CLASSES[num_classes]
    return DatasetCard(
        name=f"dsec-semantic-{num_classes}",
        title=f"DSEC-Semantic, {num_classes} classes",
        task="segmentation",
        sensor=_SENSOR,
        camera="Prophesee Gen3.1, 640x480, left; rectified, without the 40 rows at the bottom",
        window={"by": "frame", "track": "semantic", "frame_at": "end"},
        units=f"class numbers from 0 to {num_classes - 1}, 255 where there is none; time in DSEC's microseconds",
        licence=dsec.LICENCE,
        citation=(
            "Sun, Messikommer, Gehrig, Scaramuzza: ESS: Learning Event-based Semantic Segmentation from Still Images. "
            f"ECCV 2022. {dsec.CITATION}"
        ),
        home_page=_HOME_PAGE,
        download=(
            f"Download the semantic labels from {_HOME_PAGE}, and the left events (with rectify_map.h5) of these "
            "sequences from https://dsec.ifi.uzh.ch/dsec-datasets/download/, and unpack all into one folder."
        ),
        divisions=(
            Division(
                name="official",
                source="official",
                about="every mask of eight sequences for training and of three for testing",
                counts={"train": 8, "test": 3},
                maps={"train": 8_082, "test": 2_809},
                sha256="87cc46bd277b293c4b28c969269a87f0078d04b4ecbafdf27f6d9a3ee392328f",
            ),
            Division(
                name="ess",
                source="paper",
                about="as the code of ESS and of EventPretrain: from the seventh mask on, every second one",
                counts={"train": 8, "test": 3},
                sha256="87cc46bd277b293c4b28c969269a87f0078d04b4ecbafdf27f6d9a3ee392328f",
            ),
        ),
        classes=classes,
        colours=tuple(_COLOURS[name] for name in classes),
        traps=(
            "Masks are of rectified events: each event is moved by rectify_map to the nearest pixel. ESS spreads it "
            "over four, EventPretrain cuts its coordinates off.",
            "Masks have 440 rows; the 40 at the bottom, which show the hood, are cut off the events.",
            "Masks were made from frames of a camera beside the event camera, warped as if everything were far away: "
            "what is near stays displaced by its parallax.",
            "All three test sequences are among those that ScaleEvent's released lists pretrain on.",
        ),
    )


_CARDS = {count: _card(count) for count in _CLASSES}
ELEVEN, NINETEEN = (
    Dataset(_CARDS[count], partial(find, num_classes=count), partial(open_sample, num_classes=count))
    for count in (11, 19)
)
