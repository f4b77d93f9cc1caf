"""The trios of ScaleEvent (Chen et al., CVPR 2026): frames, each with a volume and a picture of its events, as JPEG.

Layout: `<sequence>/{image,voxel,evimg}/<number>.jpg`, with or without a folder for each set above the sequences. Beside
those of one set may lie its list and that of its lengths, `<set>.txt` and `<set>_seqlen.txt` (`eventfm.data.trio`,
which reads them).
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from eventfm.data.datasets.card import DatasetCard, DatasetError, Division
from eventfm.data.datasets.contract import Dataset, Found, Part, Problem, Sample
from eventfm.data.datasets.framed import BENCHMARKS, by_benchmarks
from eventfm.data.datasets.layout import Tree
from eventfm.data.pictures import decode
from eventfm.data.problems import UnreadableError
from eventfm.data.trio import TrioSet, open_trio
from eventfm.events import Sensor

_FILE = re.compile(r"(?:[^/]+/){1,2}(?:voxel|evimg)/\d+\.\w+")
_KINDS = ("voxel", "image", "evimg")
_LISTED = {
    "cityscape": {"train": 95_533},
    "waymo": {"train": 41_418},
    "m3ed": {"train": 29_502},
    "dsec": {"train": 8_871, "test": 1_695},
    "reseg": {"train": 6_258},
    "ddd17": {"train": 3_746, "test": 972},
    "kitti": {"train": 4_054},
    "decd": {"train": 3_800},
    "gopro": {"train": 2_970},
    "mvsec": {"train": 626, "test": 123},
}
"""Trios that the authors' lists name, by list; their sequences are split by `by_benchmarks`."""
_CARD = DatasetCard(
    name="scaleevent-trio",
    title="ScaleEvent trios",
    task="pretraining",
    sensor=Sensor(640, 480, "ScaleEvent", inferred=True),
    camera="those of ten sets, real and simulated; 640x480 is the working size of the paper",
    window={"by": "frame", "length": "adaptive"},
    units="bytes of JPEG: frames, volumes of three time bins as colours, pictures of events on white ground",
    licence="not known; the authors' repository states none, and frames are those of other sets",
    citation=(
        "Chen, Hou, Zhu, Wu, Shi: Scaling Dense Event-Stream Pretraining from Visual Foundation Models. CVPR 2026"
    ),
    home_page="https://github.com/zhiwen-xdu/ScaleEvent",
    download=(
        "Download the archives of Cityscapes, KITTI, DECD, M3ED, Waymo and VisEvent+CoeSot from the links of the "
        "authors' repository and unpack each into a folder of its own; to have its sequences and their lengths "
        "compared, put the two lists of a set (scale_event/dataset/data_specs) beside them."
    ),
    divisions=(
        Division(
            name="released",
            source="official",
            about=f"the authors' ten lists together, six of whose sets are to be downloaded; {BENCHMARKS}",
            counts=dict(sum(map(Counter, _LISTED.values()), Counter[str]())),
        ),
        *(
            Division(
                name=name,
                source="official",
                about=f"the authors' lists {name}.txt and {name}_seqlen.txt, split likewise",
                counts=counts,
            )
            for name, counts in _LISTED.items()
        ),
    ),
    traps=(
        "It is stored ready-made: there are no events, data.window does nothing, and no copy is to be prepared.",
        "How the numbers of a volume became bytes is not published: they are taken as they are, and so is the mask of "
        "the pictures of events (method.mask.by=stored).",
        "The lists hold sequences that DSEC-Semantic, DDD17-Seg and MVSEC test on: they are left out of pretraining "
        "unless data.keep_test_sequences=true says otherwise.",
        "A division names the set that a folder holds. Without lists beside them, its sequences are those that are "
        "there, with every number that one of their folders has.",
        "EventSAM's own download of VisEvent+CoeSot has other names (rgb_image, voxel_image, event_image) and is not "
        "read.",
        "Lists and layout are those of the authors' code; they were not checked against the downloads.",
    ),
)


def find(tree: Tree, division: Division) -> Found:
    """Return a sample for each trio that is whole, as the reader finds them; it looks at one volume for its size.

    Raises:
        CollectionError: No trio is whole, or a list cannot be read or does not fit the other.
    """
    if not any(map(_FILE.fullmatch, tree.files)):
        return Found((), ())
    with warnings.catch_warnings():  # what it would say is said by the problems
        warnings.simplefilter("ignore")
        trios = open_stored(tree.root, division)
    splits = {sequence: by_benchmarks(sequence) for sequence in trios.digests}
    samples = tuple(
        Sample(
            f"{trio.sequence}/{trio.number:05d}",
            tuple(f"{trio.sequence}/{kind}/{getattr(trio, kind)}" for kind in _KINDS),
            None,
            splits[trio.sequence],
        )
        for trio in trios.trios
    )
    return Found(samples, tuple(_problem(tree.root, name, what) for name, what in trios.problems.items()))


def open_stored(root: Path, division: Division) -> TrioSet:
    """Return the trios below `root` that are whole: those of the division's list, where it lies there.

    Raises:
        DatasetError: There are several lists, and none is the division's.
    """
    own, lists = root / f"{division.name}.txt", sorted(file.name for file in root.glob("*_seqlen*.txt"))
    if len(lists) > 1 and not own.is_file():
        raise DatasetError(f"{root} has the lists {', '.join(lists)}; choose one by its division, or take them away")
    return open_trio(root, own if own.is_file() else None)


def parts(stored: TrioSet, sample: Sample) -> Iterator[Part]:
    """Yield volume, frame and picture of events; the first and the last have to be of bytes."""
    for kind, file in zip(_KINDS, sample.files, strict=True):
        path = stored.root / file
        try:
            values = decode(path)
            if kind != "image" and values.dtype != np.uint8:
                raise UnreadableError(str(path), f"holds {values.dtype} values; expected bytes")
        except UnreadableError as error:
            yield Part(kind, file, error)
        else:
            yield Part(kind, file, values)


def _problem(root: Path, name: str, what: str) -> Problem:
    """Return what the reader says of a file or sequence, with what to do about it."""
    if (root / name).is_file():
        return Problem("doubled", name, what, "remove one of them from the folder")
    if (root / name).is_dir():
        return Problem("list", name, what, "give the list that belongs to these sequences")
    return Problem("missing", name, what, f"unpack it again, or download it from {_CARD.home_page}")


DATASET = Dataset(_CARD, find, stored=open_stored, parts=parts)
