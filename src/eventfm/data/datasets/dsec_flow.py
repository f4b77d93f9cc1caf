"""DSEC-Flow (Gehrig et al., E-RAFT, 3DV 2021): optical flow over 100 ms for 18 training sequences of DSEC.

Layout: of each sequence `.../<sequence>/events/left/events.h5` with `rectify_map.h5`, and
`.../<sequence>/flow/forward/<frame>.png` with `.../<sequence>/flow/forward_timestamps.txt`; or what the archives of
single sequences unpack to (`dsec`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eventfm.data.alignment import DSEC_SITE
from eventfm.data.datasets.card import DatasetCard, Division
from eventfm.data.datasets.contract import Dataset, Found, Sample
from eventfm.data.datasets.dsec import (
    CITATION,
    LICENCE,
    OURS,
    SENSOR,
    Labels,
    find_labelled,
    open_rectified,
    read_times,
    require_picture,
)
from eventfm.data.datasets.layout import Tree
from eventfm.data.windows import FLOW, FLOW_END
from eventfm.events import OnError
from eventfm.io.contract import FormatError
from eventfm.io.recording import ArrayTrack, PictureTrack
from eventfm.protocols import Recording, Track

SEQUENCES = (
    "thun_00_a",
    *(f"zurich_city_{name}" for name in ("01_a", "02_a", "02_c", "02_d", "02_e", "03_a", "05_a", "05_b", "06_a")),
    *(f"zurich_city_{name}" for name in ("07_a", "08_a", "09_a", "10_a", "10_b", "11_a", "11_b", "11_c")),
)
"""Those with public ground truth."""
_LABELS = Labels(
    times=r"[/_](?:.*[/_])?flow[/_]forward_timestamps\.txt$",
    pictures=r"[/_](?:.*[/_])?flow[/_]forward(?:_event)?",
    called=("flow/forward_timestamps.txt", "flow/forward"),
    columns=2,
)
_ZERO, _STEPS = 1 << 15, 128
"""What a picture has for no movement, and its steps to a pixel."""


def find(tree: Tree, division: Division) -> Found:
    """Return a sample for each sequence that has all its parts."""
    return find_labelled(tree, division, _LABELS, SEQUENCES, CARD.download)


def open_sample(root: Path, sample: Sample, on_error: OnError) -> Recording:
    """Return a sequence, its events rectified, with `flow` from the first to the second of each pair of times.

    Raises:
        CalibrationError: The map of rectification is missing or of another size.
        FormatError: A file is damaged, or the times are those of flow backwards.
    """
    events, rectify, times, *pictures = (root / file for file in sample.files)
    starts, stops = read_times(times, columns=2).T
    if (stops <= starts).any():
        raise FormatError(f"{times}: expected flow to later times; take the list of forward flow")
    tracks: dict[str, Track] = {FLOW: _Flow(PictureTrack(starts, pictures)), FLOW_END: ArrayTrack(starts, stops)}
    return open_rectified(events, rectify, on_error, tracks)


class _Flow:
    """A track of flow (2, 480, 640) float32, pixels, NaN where it is not known."""

    def __init__(self, pictures: PictureTrack) -> None:
        self._pictures = pictures
        self.times = pictures.times

    def __len__(self) -> int:
        return len(self.times)

    def read(self, i: int) -> NDArray[np.float32]:
        """Return flow `i`, u right and v down.

        Raises:
            FormatError: The picture is damaged, or is not one of three channels of 16 bits.
        """
        picture, name = self._pictures.read(i), self._pictures.paths[i]
        require_picture(picture, (SENSOR.height, SENSOR.width, 3), name)
        u, v, known = np.moveaxis(picture, 2, 0)
        if known.max() > 1:
            raise FormatError(f"{name}: expected 0 or 1 in the third channel, which says what is known, got more")
        flow = (np.stack([u, v]).astype(np.float32) - _ZERO) / _STEPS
        return np.where(known == 1, flow, np.float32(np.nan))


CARD = DatasetCard(
    name="dsec-flow",
    title="DSEC-Flow",
    task="flow",
    sensor=SENSOR,
    camera="Prophesee Gen3.1, 640x480, left; rectified",
    window={"by": "frames", "track": "flow"},
    units="flow in pixels over about 100 ms, u right and v down; NaN where unknown; time in DSEC's microseconds",
    licence=LICENCE,
    citation=(
        "Gehrig, Millhäusler, Gehrig, Scaramuzza: E-RAFT: Dense Optical Flow from Event Cameras. 3DV 2021. " + CITATION
    ),
    home_page="https://dsec.ifi.uzh.ch/",
    download=(
        "Download the left events (with rectify_map.h5) and the forward optical flow of the event camera with its "
        f"timestamps, of the training sequences that have it, from {DSEC_SITE}, and unpack all into one folder, each "
        "archive of a single sequence into a folder of its own name."
    ),
    divisions=(
        Division(
            name=OURS,
            source="ours",
            about=(
                "whole drives of the 18 training sequences: test on thun_00, zurich_city_09 and 11, choose by "
                "zurich_city_05 and 07, learn on the rest; ground truth of the owners' test sequences is not public"
            ),
            counts={"train": 10, "val": 3, "test": 5},
            sha256="311eaa0badea4136049173857d1ec6142ece3f92aa25a2c0ec2c67c7166219ba",
        ),
        Division(
            name="official",
            source="official",
            about="learn on all 18 training sequences; seven others are tested on by sending predictions to them",
            counts={"train": 18},
            sha256="c0b12fcba8e9359dc25bc2c4fab9e6e0353dc31889baabeca8ff503b178ab147",
        ),
    ),
    traps=(
        "Ground truth of the test sequences (interlaken_00_b, interlaken_01_a, thun_01_a, thun_01_b, zurich_city_12_a, "
        "14_c, 15_a) is not public: a result on the division eventfm is none of the benchmark.",
        "Flow is of rectified events: each event is moved by rectify_map to the nearest pixel; readers that spread it "
        "over four have another input.",
        "Flow is a displacement between two times about 100 ms apart, no speed: windows go from the one to the other.",
        "Pictures have three channels of 16 bits: 128 u + 32768, 128 v + 32768, and 1 where it is known. Readers that "
        "take them for 8 bits, or colours in another order, give nonsense without a word.",
        "Names of pictures are numbers of frames, with gaps: the n-th picture belongs to the n-th line of "
        "forward_timestamps.txt, and a sequence that lacks a picture is not read.",
        "Only scenes without moving objects have ground truth, which follows from lidar and the motion of the car.",
        "Backward flow is not read. How many maps there are was not checked against the files of the owners.",
    ),
)
DATASET = Dataset(CARD, find, open_sample)
