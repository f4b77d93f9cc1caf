"""EF-ImageNet (Zhu et al., ACM MM 2025): simulated events of ImageNet's pictures, stored ready-made for pretraining.

Layout: `<wnid>/<wnid>_<id>/` for each picture, and in it ten windows of events as voxel grids, the change of light that
belongs to each, and the tokens of a CLIP model (`eventfm.data.ef_imagenet`, which reads them).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eventfm.data.datasets.card import DatasetCard, DatasetError, Division
from eventfm.data.datasets.contract import Dataset, Found, Part, Problem, Sample
from eventfm.data.datasets.layout import Tree
from eventfm.data.ef_imagenet import WINDOW_US, EFImageNet, Image, Noise, load_tensor, open_ef_imagenet
from eventfm.data.problems import UnreadableError
from eventfm.events import Sensor

_WINDOWS = tuple(f"{number:02d}" for number in range(10))
_FILE = re.compile(
    r"(?P<folder>(?:[^/]+/)?(?P<image>[^/]+))/(?:"
    r"events/(?P<noise>noisy|clean)/(?P=image)_(?P<volume>[^/]+)_(?P=noise)_events_voxel_grid"
    r"|sub_frames/(?P=image)_(?P<target>[^/]+)_sub_frame"
    r"|(?P=image)_clip_emb)\.pt"
)
"""As the reader finds them: at most one folder above that of a picture, and names in this case."""
_PARTS = {"_voxel_grid.pt": "volume", "_sub_frame.pt": "target", "_clip_emb.pt": "tokens"}
_CARD = DatasetCard(
    name="ef-imagenet",
    title="EF-ImageNet",
    task="pretraining",
    sensor=Sensor(224, 224, "EF-ImageNet", inferred=True),
    camera="none: pictures that move are turned into events by v2e; 224x224 is what the authors' code brings them to",
    window={"by": "time", "duration_us": WINDOW_US},
    units=(
        "voxel grids of signed sums, the signed difference of the grey frames before and after, tokens of a CLIP model"
    ),
    licence="not known; the authors' repository states none",
    citation=(
        "Zhu, Liu, Wang, Wang, Huang: Revealing Latent Information: A Physics-inspired Self-supervised Pre-training "
        "Framework for Noisy and Sparse Events. ACM MM 2025"
    ),
    home_page="https://github.com/BIT-Vision/EventPretrain",
    download=(
        "Download EF-ImageNet from the links of the authors' repository and unpack it; give the folder with the "
        "folders <wnid>."
    ),
    divisions=(
        Division(
            name="noisy",
            source="official",
            about="events/noisy, which the authors' code reads; every picture is learnt from",
            counts={},
        ),
        Division(
            name="clean",
            source="official",
            about="events/clean, without noise; whether it is part of the downloads is not known",
            counts={},
        ),
    ),
    traps=(
        "It is stored ready-made: there are no events, data.window does nothing, and no copy is to be prepared.",
        "The network's input has to be what is stored: representation.name=voxel_grid representation.num_bins=5 "
        "representation.span=events.",
        "The tokens are of the whole picture at rest, not of the moving window that they are learnt with.",
        "How the difference of frames is scaled is not published; it is taken as it is.",
        "How many pictures there are, and of what size, is not known: what is missing is told from the other files of "
        "its picture.",
        "The layout is that of the authors' code; it was not checked against the downloads.",
    ),
)
_Image = dict[str, dict[str, str]]
"""The files of a picture, by kind as in `Image.file`, and by window; tokens are of the window ``."""


def find(tree: Tree, division: Division) -> Found:
    """Return a sample for each picture with a window that has events and target, as the reader uses it.

    Where no picture has one, they are those with events: sets without targets serve a teacher.

    Raises:
        DatasetError: There are events, but none of the kind that the division is of.
    """
    images: dict[str, _Image] = {}
    for file in tree.files:
        match = _FILE.fullmatch(file)
        if match is None or match["noise"] not in (None, division.name):
            continue
        kind = match["noise"] or ("sub_frames" if match["target"] else "tokens")
        of_kind = images.setdefault(match["folder"], {}).setdefault(kind, {})
        of_kind[match["volume"] or match["target"] or ""] = file
    has_targets = any(_windows(image, (division.name, "sub_frames")) for image in images.values())
    needed = (division.name, "sub_frames") if has_targets else (division.name,)
    samples = [
        _sample(folder, image, needed, windows)
        for folder, image in images.items()
        if (windows := _windows(image, needed))
    ]
    if images and not samples:
        raise DatasetError(
            f"{tree.root} is laid out as EF-ImageNet and has no events/{division.name}; the divisions are "
            f"{' and '.join(known.name for known in _CARD.divisions)}"
        )
    return Found(tuple(samples), tuple(_missing(images, division.name)) if samples else ())


def open_stored(root: Path, division: Division) -> EFImageNet:
    """Return the pictures below `root` that are whole."""
    noise: Noise = "clean" if division.name == "clean" else "noisy"
    return open_ef_imagenet(root, noise)


def parts(stored: EFImageNet, sample: Sample) -> Iterator[Part]:
    """Yield volume and target of each window, then the tokens.

    All have to be finite, a target as large as its volume, and bins and tokens as many as those of the first picture.
    """
    size: tuple[int | None, ...] = (None, None)
    tokens = stored.tokens
    for file in sample.files:
        kind = next(kind for ending, kind in _PARTS.items() if file.endswith(ending))
        expected = {
            "volume": (stored.num_bins, None, None),
            "target": (1, *size),
            "tokens": (1, 1 + math.prod(tokens.grid), tokens.dim) if tokens else (1, None, None),
        }
        try:
            values = _read(stored.root / file, expected[kind])
        except UnreadableError as error:
            yield Part(kind, file, error)
            size = (None, None)
        else:
            yield Part(kind, file, values)
            size = values.shape[1:]


def _read(path: Path, expected: tuple[int | None, ...]) -> NDArray[np.float32]:
    """Return a tensor whose shape is `expected`, where that says something, and whose numbers are finite.

    Raises:
        UnreadableError: It cannot be read, or is another.
    """
    values = load_tensor(path)
    fits = len(expected) == values.ndim and all(e in (None, n) for e, n in zip(expected, values.shape, strict=True))
    if not fits or not values.size:
        wanted = ", ".join("any" if side is None else str(side) for side in expected)
        raise UnreadableError(str(path), f"has shape {values.shape}; expected ({wanted})")
    if not np.isfinite(values).all():
        raise UnreadableError(str(path), "holds numbers that are not finite")
    return values


def _windows(image: _Image, kinds: tuple[str, ...]) -> list[str]:
    """Return the windows that have files of all kinds, in order."""
    return sorted(set.intersection(*(set(image.get(kind, {})) for kind in kinds)))


def _sample(folder: str, image: _Image, kinds: tuple[str, ...], windows: list[str]) -> Sample:
    name = folder.rpartition("/")[2]
    files = [image[kind][window] for window in windows for kind in kinds]
    return Sample(f"{name.rpartition('_')[0]}/{name}", (*files, *image.get("tokens", {}).values()), None, "train")


def _missing(images: dict[str, _Image], noise: str) -> Iterator[Problem]:
    """Yield a problem for each file that is not there; what the whole set or a picture has none of is one problem."""
    remedy = f"unpack it again, or download it from {_CARD.home_page}"
    for kind, expected in {noise: _WINDOWS, "sub_frames": _WINDOWS, "tokens": ("",)}.items():
        absent = {
            folder: [known.file(Path(), kind, window) for window in expected if window not in image.get(kind, {})]
            for folder, image in images.items()
            for known in [Image(folder, (), "")]
        }
        if not any(kind in image for image in images.values()):
            what, files = "no picture has any of its kind", [file for of_one in absent.values() for file in of_one]
            absent = {}
            yield Problem("missing", files[0].as_posix(), f"{what}: {len(files):,} files", remedy, len(files))
        for folder, files in absent.items():
            if kind not in images[folder] and len(files) > 1:
                what = f"expected {len(files)} files, found none"
                yield Problem("missing", files[0].parent.as_posix(), what, remedy, len(files))
            else:
                yield from (Problem("missing", file.as_posix(), "it is not there", remedy) for file in files)


DATASET = Dataset(_CARD, find, stored=open_stored, parts=parts)
