"""VisEvent (Wang et al., 2021) and COESOT (Tang et al., 2022) for pretraining: videos to track objects in.

Layout: `<subset>/<video>/<video>.aedat4`, the subset having `train` or `test` in its name, with events and frames.
Beside it lie the same as pictures, which are not read: `<video>_aps`, `<video>_dvs` (COESOT), and `groundtruth.txt`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from eventfm.data.datasets.card import DatasetCard, Division
from eventfm.data.datasets.contract import Dataset, Found, Problem, Sample
from eventfm.data.datasets.framed import fewer, require_pairs
from eventfm.data.datasets.layout import Tree
from eventfm.events import OnError, Sensor
from eventfm.io.aedat4 import open_file
from eventfm.protocols import Recording

_SENSOR = Sensor(346, 260, "DAVIS346")
_SUBSET = r"(?:^|/)[^/]*(train|test)[^/]*/(?:.*/)?"
_FILE = _SUBSET + r"([^/]+)/\2\.aedat4$"
_BESIDE = _SUBSET + r"([^/]+)/groundtruth\.txt$"


def find(tree: Tree, division: Division, name: str) -> Found:
    """Return a sample for each video that has its events."""
    remedy = _CARDS[name].download
    samples = []
    for match, file in tree.match(_FILE):
        split = match[1].lower()
        samples.append(Sample(f"{split}/{match[2].lower()}", (file,), None, split))
    there = {sample.name for sample in samples}
    problems = []
    for match, file in tree.match(_BESIDE):
        if f"{match[1]}/{match[2]}".lower() not in there:
            path = f"{file.rpartition('/')[0]}/{match[2]}.aedat4"
            problems.append(Problem("missing", path, "it is not there", remedy))
    return Found(tuple(samples), (*problems, *fewer(samples, division, len(problems), remedy)))


def open_sample(root: Path, sample: Sample, on_error: OnError) -> Recording:
    """Return a video with `frames`.

    Raises:
        FormatError: The file is damaged, or has no frames.
    """
    path = root / sample.files[0]
    return require_pairs(open_file(path, _SENSOR, on_error), path, _SENSOR)


def _card(name: str, title: str, citation: str, home_page: str, size_gb: float, counts: tuple[int, int]) -> DatasetCard:
    return DatasetCard(
        name=name,
        title=f"{title} pairs",
        task="pretraining",
        sensor=_SENSOR,
        camera="DAVIS 346 in colour, 346x260",
        window={"by": "frames"},
        units="colour frames of 8 bits; time in microseconds",
        licence="not known; none is stated where it is downloaded",
        citation=citation,
        home_page=home_page,
        download=f"Download both subsets from the links of {home_page} and unpack them into one folder.",
        size_gb=size_gb,
        divisions=(
            Division(
                name="official",
                source="official",
                about="the owners' subsets for training and testing of trackers",
                counts={"train": counts[0], "test": counts[1]},
            ),
        ),
        traps=(
            "Events and frames come from one sensor: pixel by pixel they fit as they are.",
            "Whole videos are read, not only the part with boxes (start_end_index.txt of COESOT).",
            "Videos without an .aedat4 are not read: events that were drawn as pictures are none. How many those are "
            "was not checked against the files.",
            "What the folders of the subsets are called was not checked, beyond COESOT's own description.",
            "No benchmark that eventfm has tests on it: both subsets may be learnt from; data.split=train takes one.",
        ),
    )


_CARDS = {
    "visevent-pairs": _card(
        "visevent-pairs",
        "VisEvent",
        "Wang, Li, Zhu, Zhang, Chen, Li, Wang, Tian, Wu: VisEvent: Reliable Object Tracking via Collaboration of Frame "
        "and Event Flows. arXiv 2108.05015, 2021",
        "https://github.com/wangxiao5791509/VisEvent_SOT_Benchmark",
        216,
        (500, 320),
    ),
    "coesot-pairs": _card(
        "coesot-pairs",
        "COESOT",
        "Tang, Wang, Huang, Jiang, Zhu, Zhang, Wang, Tian: Revisiting Color-Event based Tracking: A Unified Network, "
        "Dataset, and Metric. arXiv 2211.11010, 2022",
        "https://github.com/Event-AHU/COESOT",
        265,
        (827, 528),
    ),
}
VISEVENT, COESOT = (Dataset(card, partial(find, name=name), open_sample) for name, card in _CARDS.items())
