"""DSEC disparity (Gehrig et al., RA-L 2021) as depth: 41 training sequences, ten maps a second, from lidar.

Layout: of each sequence `.../<sequence>/events/left/events.h5` with `rectify_map.h5`,
`.../<sequence>/disparity/event/<frame>.png` with `.../<sequence>/disparity/timestamps.txt`, and
`.../<sequence>/calibration/cam_to_cam.yaml`; or what the archives of single sequences unpack to (`dsec`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from eventfm.data.alignment import DSEC_SITE, CalibrationError, inverse_depth_of
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
from eventfm.events import OnError
from eventfm.io.recording import PictureTrack
from eventfm.protocols import Recording

SEQUENCES = (
    *(f"interlaken_00_{part}" for part in "cdefg"),
    "thun_00_a",
    *(
        f"zurich_city_{drive:02d}_{part}"
        for drive, parts in enumerate(
            ("ab", "abcdef", "abcde", "a", "abcdef", "ab", "a", "a", "a", "abcde", "ab", "abc")
        )
        for part in parts
    ),
)
"""Those with public ground truth."""
_LABELS = Labels(
    times=r"[/_](?:.*[/_])?disparity[/_]timestamps\.txt$",
    pictures=r"[/_](?:.*[/_])?disparity[/_]event",
    called=("disparity/timestamps.txt", "disparity/event"),
    columns=1,
    calibrated=True,
)
_STEPS = 256
"""Steps of a picture to a pixel of disparity."""


def find(tree: Tree, division: Division) -> Found:
    """Return a sample for each sequence that has all its parts."""
    return find_labelled(tree, division, _LABELS, SEQUENCES, CARD.download)


def open_sample(root: Path, sample: Sample, on_error: OnError) -> Recording:
    """Return a sequence, its events rectified, with `depth`, metres, NaN where unknown.

    Raises:
        CalibrationError: The calibration or the map of rectification is missing, or holds something else.
        FormatError: A file is damaged.
    """
    events, rectify, times, calibration, *pictures = (root / file for file in sample.files)
    depth = _Depth(PictureTrack(read_times(times)[:, 0], pictures), _to_depth(calibration))
    return open_rectified(events, rectify, on_error, {"depth": depth})


class _Depth:
    """A track of depth (480, 640) float32 along the optical axis of the rectified left event camera."""

    def __init__(self, pictures: PictureTrack, to_depth: NDArray[np.float64]) -> None:
        self._pictures = pictures
        self._to_depth = to_depth
        self.times = pictures.times

    def __len__(self) -> int:
        return len(self.times)

    def read(self, i: int) -> NDArray[np.float32]:
        """Return depth `i`, metres, NaN where unknown.

        Raises:
            FormatError: The picture is damaged, or is not one of 16 bits.
        """
        picture = self._pictures.read(i)
        require_picture(picture, (SENSOR.height, SENSOR.width), self._pictures.paths[i])
        inverse = inverse_depth_of(picture / _STEPS, self._to_depth)
        known = (picture > 0) & (inverse > 0)
        return np.where(known, 1 / np.where(known, inverse, 1), np.nan).astype(np.float32)


def _to_depth(path: Path) -> NDArray[np.float64]:
    """Return what takes a disparity of the event cameras to depth, OpenCV's Q (4, 4), from `cam_to_cam.yaml`.

    Raises:
        CalibrationError: It is not in there.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8", errors="replace"))
    except yaml.YAMLError as error:
        raise CalibrationError(f"{path}: expected the calibration of a DSEC sequence, got no YAML: {error}") from None
    for name in ("disparity_to_depth", "cams_03"):
        if not isinstance(values, Mapping) or name not in values:
            raise CalibrationError(f"{path}: expected disparity_to_depth/cams_03 in it; download it anew")
        values = values[name]
    try:
        matrix = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not matrix[2, 3]:
        raise CalibrationError(f"{path}: expected disparity_to_depth/cams_03 as 4 x 4 numbers with a focal length")
    return matrix


CARD = DatasetCard(
    name="dsec-disparity",
    title="DSEC disparity as depth",
    task="depth",
    sensor=SENSOR,
    camera="Prophesee Gen3.1, 640x480, left; rectified",
    window={"by": "frame", "track": "depth", "frame_at": "end"},
    units="depth along the rectified optical axis in metres; NaN where unknown; time in DSEC's microseconds",
    licence=LICENCE,
    citation=CITATION,
    home_page="https://dsec.ifi.uzh.ch/",
    download=(
        "Download the left events (with rectify_map.h5), the disparity of the event cameras with its timestamps, and "
        f"the calibration of the training sequences from {DSEC_SITE}, and unpack all into one folder, each archive of "
        "a single sequence into a folder of its own name."
    ),
    divisions=(
        Division(
            name=OURS,
            source="ours",
            about=(
                "whole drives of the 41 training sequences: test on thun_00, zurich_city_09 and 11, choose by "
                "zurich_city_05 and 07, learn on the rest; ground truth of the owners' test sequences is not public"
            ),
            counts={"train": 29, "val": 3, "test": 9},
            sha256="0901dbf547e5280234823f51cfa415e172f6472c81125c821c2ea89d60bf8b23",
        ),
        Division(
            name="official",
            source="official",
            about="learn on all 41 training sequences; twelve others are tested on by sending predictions to them",
            counts={"train": 41},
            sha256="0f80fd1bdfc3193c946c9ba2e372e3f5fa4cc23e009813c2d19204bd87788eac",
        ),
    ),
    traps=(
        "Ground truth of the owners' twelve test sequences is not public: a result on the division eventfm is none of "
        "the benchmark.",
        "ScaleEvent and DepthAnyEvent learn on 19,181 maps and test on 7,157; of which sequences is not known here: "
        "there is no division of theirs, and their figures cannot be compared with.",
        "Maps are of rectified events: each event is moved by rectify_map to the nearest pixel; readers that spread it "
        "over four have another input.",
        "Pictures have 16 bits, 256 steps to a pixel of disparity, and 0 where it is not known. Depth is Q23 / "
        "(Q32 d + Q33) by disparity_to_depth/cams_03 of the sequence's own cam_to_cam.yaml: focal length times "
        "baseline over disparity.",
        "There is disparity of the frame cameras too (disparity/image), which is of other pixels and is not read.",
        "Papers clip depth, each at its own limit; here it is not clipped.",
        "No events come before the first map of a sequence, which makes no window.",
        "Names of pictures are numbers of frames: the n-th picture belongs to the n-th line of the list of times, and "
        "a sequence that lacks a picture is not read. How many maps there are was not checked against the owners' "
        "files.",
    ),
)
DATASET = Dataset(CARD, find, open_sample)
