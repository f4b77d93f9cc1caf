"""N-Caltech101 (Orchard et al., 2015): the pictures of Caltech101 before a camera that moves three times.

Layout: `Caltech101/<class>/image_<number>.bin`, numbers of four digits from 0001, ATIS rows of 40 bits. The copy of
Gehrig et al. (EST, ICCV 2019) is read as the division `est`: `training/<class>/*.npy`, `validation/...`, `testing/...`,
arrays (N, 4) of x, y, t in seconds and p.
"""

from __future__ import annotations

from pathlib import Path

from eventfm.data.datasets.card import DatasetCard, Division
from eventfm.data.datasets.contract import Dataset, Found, Problem, Sample
from eventfm.data.datasets.hashed import hashed_splits
from eventfm.data.datasets.layout import Tree, gaps
from eventfm.events import OnError, Sensor
from eventfm.io import open_recording
from eventfm.protocols import Recording

COUNTS = {
    "BACKGROUND_Google": 467, "Faces_easy": 435, "Leopards": 200, "Motorbikes": 798, "accordion": 55, "airplanes": 800,
    "anchor": 42, "ant": 42, "barrel": 47, "bass": 54, "beaver": 46, "binocular": 33, "bonsai": 128, "brain": 98,
    "brontosaurus": 43, "buddha": 85, "butterfly": 91, "camera": 50, "cannon": 43, "car_side": 123, "ceiling_fan": 47,
    "cellphone": 59, "chair": 62, "chandelier": 107, "cougar_body": 47, "cougar_face": 69, "crab": 73, "crayfish": 70,
    "crocodile": 50, "crocodile_head": 51, "cup": 57, "dalmatian": 67, "dollar_bill": 52, "dolphin": 65,
    "dragonfly": 68, "electric_guitar": 75, "elephant": 64, "emu": 53, "euphonium": 64, "ewer": 85, "ferry": 67,
    "flamingo": 67, "flamingo_head": 45, "garfield": 34, "gerenuk": 34, "gramophone": 51, "grand_piano": 99,
    "hawksbill": 100, "headphone": 42, "hedgehog": 54, "helicopter": 88, "ibis": 80, "inline_skate": 31,
    "joshua_tree": 64, "kangaroo": 86, "ketch": 114, "lamp": 61, "laptop": 81, "llama": 78, "lobster": 41, "lotus": 66,
    "mandolin": 43, "mayfly": 40, "menorah": 87, "metronome": 32, "minaret": 76, "nautilus": 55, "octopus": 35,
    "okapi": 39, "pagoda": 47, "panda": 38, "pigeon": 45, "pizza": 53, "platypus": 34, "pyramid": 57, "revolver": 82,
    "rhino": 59, "rooster": 49, "saxophone": 40, "schooner": 63, "scissors": 39, "scorpion": 84, "sea_horse": 57,
    "snoopy": 35, "soccer_ball": 64, "stapler": 45, "starfish": 86, "stegosaurus": 59, "stop_sign": 64,
    "strawberry": 35, "sunflower": 85, "tick": 49, "trilobite": 86, "umbrella": 75, "watch": 239, "water_lilly": 37,
    "wheelchair": 59, "wild_cat": 34, "windsor_chair": 56, "wrench": 39, "yin_yang": 60,
}  # fmt: skip
"""Recordings of each class: those of Caltech101 without `Faces`, 8,709 in all."""

_CLASSES = tuple(COUNTS)
_BY_FOLDER = {name.lower(): name for name in _CLASSES}
_FILE = r"(?:^|/)(?P<kind>[^/]+)/image_(?P<number>\d{4})\.bin$"
_EST_FILE = r"(?:^|/)(?P<split>training|validation|testing)/(?P<kind>[^/]+)/(?P<stem>[^/]+)\.npy$"
_EST_SPLITS = {"training": "train", "validation": "val", "testing": "test"}
_CARD = DatasetCard(
    name="n-caltech101",
    title="N-Caltech101",
    task="recognition",
    sensor=Sensor(240, 180, "N-Caltech101"),
    camera="ATIS, cut to the picture: at most 240x180 pixels",
    window={"by": "whole"},
    units="time in microseconds from 0 to about 300,000; polarity 0 and 1",
    licence="CC BY 4.0",
    citation=(
        "Orchard, Jayawant, Cohen, Thakor: Converting Static Image Datasets to Spiking Neuromorphic Datasets Using "
        "Saccades. Frontiers in Neuroscience 9, 2015"
    ),
    home_page="https://www.garrickorchard.com/datasets/n-caltech101",
    download="Download Caltech101.zip and unpack it.",
    divisions=(
        Division(
            name="eventfm",
            source="ours",
            about=(
                "in each class 20 % for testing and 10 % for choosing, both rounded, in the order of the SHA-256 of "
                "CLASS/NUMBER; the owners made none, and papers that draw one at random or use 80/20 publish no list"
            ),
            counts={"train": 6_096, "val": 871, "test": 1_742},
            sha256="6dd5d0f22c25799944b66c674a16d1408c18461d69de3ee250183e42a11a3a55",
        ),
        Division(
            name="est",
            source="paper",
            about="the folders training, validation and testing of the copy of Gehrig et al. (EST, ICCV 2019)",
            counts={},
        ),
    ),
    classes=_CLASSES,
    traps=(
        "There are 101 classes with BACKGROUND_Google and without Faces, which shows the pictures of Faces_easy.",
        "Recordings differ in size, and papers that resize each by its largest coordinate use another geometry; all "
        "are read as 240x180 pixels.",
        "Class sizes go from 31 to 800: the mean over classes and the mean over samples differ.",
        "EventPretrain reads arrays (N, 4) in seconds that were never published with the script that made them.",
    ),
)


def split_of() -> dict[str, str]:
    """Return the split of every sample of the division `eventfm`, by name."""
    splits: dict[str, str] = {}
    for kind, count in COUNTS.items():
        splits |= hashed_splits(f"{kind}/{number:04d}" for number in range(1, count + 1))
    return splits


def find(tree: Tree, division: Division) -> Found:
    """Return the samples by class and number, or those of the copy of EST by its folders."""
    return _find_est(tree) if division.name == "est" else _find_official(tree)


def _find_official(tree: Tree) -> Found:
    samples, splits = [], split_of()
    numbers: dict[str, set[int]] = {}
    for match, file in tree.match(_FILE):
        kind = _BY_FOLDER.get(match["kind"].lower())
        if kind is None:
            continue
        name = f"{kind}/{match['number']}"
        samples.append(Sample(name, (file,), _CLASSES.index(kind), splits.get(name, "")))
        numbers.setdefault(kind, set()).add(int(match["number"]))
    problems = gaps(
        numbers,
        {kind: range(1, count + 1) for kind, count in COUNTS.items()},
        folder=lambda kind: f"Caltech101/{kind}",
        file=lambda number: f"image_{number:04d}.bin",
        remedy=f"unpack it from Caltech101.zip of {_CARD.home_page}",
    )
    return Found(tuple(samples), tuple(problems))


def _find_est(tree: Tree) -> Found:
    samples, kinds = [], set()
    for match, file in tree.match(_EST_FILE):
        kind = _BY_FOLDER.get(match["kind"].lower())
        if kind is None:
            continue
        split = _EST_SPLITS[match["split"].lower()]
        samples.append(Sample(f"{split}/{kind}/{match['stem']}", (file,), _CLASSES.index(kind), split))
        kinds.add((split, kind))
    absent = [
        Problem("missing", f"{folder}/{kind}", "no sample of this class", "unpack N-Caltech101.zip of EST again")
        for folder, split in _EST_SPLITS.items()
        for kind in _CLASSES
        if samples and (split, kind) not in kinds
    ]
    return Found(tuple(samples), tuple(absent))


def open_sample(root: Path, sample: Sample, on_error: OnError) -> Recording:
    """Return one recording, in memory."""
    file = root / sample.files[0]
    return open_recording(file, "numpy" if file.suffix.lower() == ".npy" else "atis", _CARD.sensor, on_error)


DATASET = Dataset(_CARD, find, open_sample)
