"""MVSEC (Zhu et al., RA-L 2018): flow and depth of the left camera of a stereo pair that flies, drives and rides.

Layout: `<sequence>_data.hdf5` and `<sequence>_gt.hdf5`, in folders by scene or not. Flow is also read from
`<sequence>_gt_flow_dist.npz`, or from what that unpacks to, a folder of `.npy`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventfm.data.datasets.card import DatasetCard, Division
from eventfm.data.datasets.contract import Dataset, Found, Problem, Sample
from eventfm.data.datasets.layout import Tree
from eventfm.data.datasets.npz_members import NpzMember
from eventfm.data.datasets.propagation import PropagatedFlow, covered
from eventfm.data.datasets.views import Selected, View
from eventfm.data.windows import FLOW, FLOW_END
from eventfm.events import OnError, Sensor
from eventfm.io.columns import to_microseconds
from eventfm.io.contract import FormatError
from eventfm.io.hdf5_file import Hdf5File, Hdf5Track, reading, require_hdf5, stored
from eventfm.io.mvsec import open_file
from eventfm.io.npy_columns import NpyFile
from eventfm.io.recording import ArrayTrack, as_track_times
from eventfm.protocols import Recording, Track

_SENSOR = Sensor(346, 260, "MVSEC")
_CAMERA = "davis/left"
_FILE = (
    r"(?:^|/)((?:indoor_flying|outdoor_day|outdoor_night)\d)_"
    r"(data\.hdf5|gt\.hdf5|gt_flow_dist\.npz|gt_flow_dist/timestamps\.npy)$"
)
_HOME_PAGE = "https://daniilidis-group.github.io/mvsec/"
_TRUTHS = {
    "flow": ("gt.hdf5", "gt_flow_dist/timestamps.npy", "gt_flow_dist.npz"),
    "depth": ("gt.hdf5",),
}
"""Files with ground truth, the best first."""


class _Part(NamedTuple):
    sequence: str
    split: str
    frames: range | None = None
    """Frames that flow begins with; None for all that ground truth reaches over."""


_SCALEEVENT_FLOW = (
    _Part("outdoor_day2", "train"),
    *(_Part(f"indoor_flying{number}", "test") for number in (1, 2, 3)),
)
_DEPTH = (
    _Part("outdoor_day2", "train"),
    _Part("outdoor_day1", "test"),
    *(_Part(f"outdoor_night{number}", "test") for number in (1, 2, 3)),
)
_EVENTPRETRAIN = {
    "outdoor_day1": ("train", 245, 3000),
    "outdoor_day2": ("train", 4375, 7002),
    "indoor_flying1": ("both", 314, 2199),
    "indoor_flying2": ("test", 314, 2199),
    "indoor_flying3": ("test", 314, 2199),
}
"""Split, first frame and the end of frames, of which the last is only ever a second one."""


def _eventpretrain(gap: int) -> list[Sample]:
    """Return the samples of EventPretrain's released code, without their files."""
    samples = []
    for sequence, (split, first, end) in _EVENTPRETRAIN.items():
        frames = range(first, end - gap)
        if split != "both":
            samples.append(Sample(f"{split}/{sequence}", (), None, split, None, frames))
            continue
        # The very draw of the released code with its seed 0; another seed gives another hundredth.
        drawn = set(random.Random(0).sample(frames, len(frames) // 100))
        for part, chosen in (("train", drawn), ("test", set(frames) - drawn)):
            samples.append(Sample(f"{part}/{sequence}", (), None, part, None, tuple(sorted(chosen))))
    return samples


def find(tree: Tree, division: Division, kind: Literal["flow", "depth"], gap: int = 1) -> Found:
    """Return a sample for each sequence of the division, or two where both splits share one."""
    files: dict[str, dict[str, str]] = {}
    for match, file in tree.match(_FILE):
        files.setdefault(match[1].lower(), {}).setdefault(match[2].lower(), file)
    if division.name == "eventpretrain":
        wanted = _eventpretrain(gap)
    else:
        parts = _SCALEEVENT_FLOW if kind == "flow" else _DEPTH
        wanted = [Sample(f"{part.split}/{part.sequence}", (), None, part.split) for part in parts]
    samples = []
    problems: dict[Problem, None] = {}
    for sample in wanted:
        sequence = sample.name.split("/")[1]
        there = files.get(sequence, {})
        truths = [there[name] for name in _TRUTHS[kind] if name in there]
        if "data.hdf5" in there and truths:
            samples.append(sample._replace(files=(there["data.hdf5"], *truths)))
            continue
        for name, present in (("data.hdf5", "data.hdf5" in there), ("gt.hdf5", bool(truths))):
            if not present and files:
                path = f"{sequence}_{name}"
                problems[Problem("missing", path, "it is not there", f"download it from {_HOME_PAGE}")] = None
    return Found(tuple(samples), tuple(problems))


def open_flow(root: Path, sample: Sample, on_error: OnError, gap: int) -> Recording:
    """Return a sequence with `flow` from each frame to the one `gap` later, in pixels of the camera as it is.

    Raises:
        FormatError: A file is damaged, or lacks frames, flow or their times; or no two frames lie within the flow.
    """
    recording = open_file(root / sample.files[0], _SENSOR, on_error)
    truth = _first_truth([root / file for file in sample.files[1:]])
    frames = _frames(recording, sample.files[0]).times
    numbers = np.arange(len(frames) - gap) if sample.entries is None else np.asarray(sample.entries)
    if len(numbers) and numbers[-1] + gap >= len(frames):
        raise FormatError(
            f"{root / sample.files[0]}: expected frames up to number {numbers[-1] + gap}, got {len(frames)}; is "
            "it cut off?"
        )
    numbers = numbers[covered(truth.times, frames[numbers], frames[numbers + gap])]
    if not len(numbers):
        raise FormatError(f"{root / sample.files[1]}: no two frames of {sample.files[0]} lie within its flow")
    starts, stops = frames[numbers], frames[numbers + gap]
    labels: dict[str, Track] = {FLOW: PropagatedFlow(truth, starts, stops), FLOW_END: ArrayTrack(starts, stops)}
    if sample.entries is None:
        return _view(recording, labels, None)
    # A window more at either end: some methods look at the one before, and the last must not seem cut off.
    longest = int((stops - starts).max())
    return _view(recording, labels, (int(starts[0]) - longest, int(stops[-1]) + longest + 1))


def open_depth(root: Path, sample: Sample, on_error: OnError) -> Recording:
    """Return a sequence with `depth`, metres, NaN where unknown, in pixels of the camera as it is.

    Raises:
        FormatError: A file is damaged, or lacks depth or its times.
    """
    recording = open_file(root / sample.files[0], _SENSOR, on_error)
    depth = _hdf5_truth(root / sample.files[1], "depth_image_raw", ndim=3)
    return _view(recording, {"depth": depth}, None)


def _view(recording: Recording, labels: Mapping[str, Track], span: tuple[int, int] | None) -> View:
    tracks: dict[str, Track] = {**recording.tracks, **labels}
    if span is not None:
        frames = recording.tracks["frames"]
        shown = np.flatnonzero((frames.times >= span[0]) & (frames.times < span[1]))
        tracks = {"frames": Selected(frames, shown.tolist()), **labels}
    return View(recording, tracks, span)


def _frames(recording: Recording, file: str) -> Track:
    if "frames" not in recording.tracks:
        raise FormatError(f"{file}: expected {_CAMERA}/image_raw and image_raw_ts, which flow goes between")
    return recording.tracks["frames"]


def _first_truth(paths: list[Path]) -> Track:
    """Return the flow of the first file that has it: not every ground truth in HDF5 does.

    Raises:
        FormatError: None has; the message is about the last.
    """
    for path in paths[:-1]:
        try:
            return _flow_truth(path)
        except FormatError:
            continue
    return _flow_truth(paths[-1])


def _flow_truth(path: Path) -> Track:
    if path.suffix.lower() == ".hdf5":
        return _hdf5_truth(path, "flow_dist", ndim=4)
    names = ("timestamps", "x_flow_dist", "y_flow_dist")
    arrays: list[Any]
    if path.suffix.lower() == ".npz":
        arrays = [NpzMember(path, name) for name in names]
    else:
        arrays = [NpyFile(path.with_name(f"{name}.npy")) for name in names]
    times, *parts = arrays
    return _TwoParts(path, to_microseconds(times[:], str(path), "s"), *parts)


def _hdf5_truth(path: Path, name: str, ndim: int) -> Track:
    require_hdf5(path)
    file = Hdf5File(path)
    with reading(path):
        camera = file[_CAMERA]
        data = stored(camera, name, ndim=ndim)
        seconds = np.asarray(stored(camera, f"{name}_ts")[()])
        if len(data) != len(seconds) or data.shape[-2:] != (_SENSOR.height, _SENSOR.width):
            raise FormatError(f"{path}: expected {name} of 346x260 pixels for {len(seconds)} times, got {data.shape}")
    return Hdf5Track(file, f"{_CAMERA}/{name}", as_track_times(to_microseconds(seconds, f"{path}, {name}_ts", "s")))


class _TwoParts:
    """Flow whose two parts lie in arrays (N, H, W) of their own."""

    def __init__(self, path: Path, times: NDArray[np.int64], u: Any, v: Any) -> None:
        if not len(times) == len(u) == len(v) or u.shape[1:] != (_SENSOR.height, _SENSOR.width) or u.shape != v.shape:
            raise FormatError(
                f"{path}: expected flow of 346x260 pixels for {len(times)} times, got {u.shape} and {v.shape}"
            )
        self.times: NDArray[np.int64] = as_track_times(times)
        self._parts = u, v

    def __len__(self) -> int:
        return len(self.times)

    def read(self, i: int) -> NDArray[Any]:
        """Return flow `i`, (2, H, W)."""
        return np.stack([part[i] for part in self._parts])


_CITATION = (
    "Zhu, Thakur, Ozaslan, Pfrommer, Kumar, Daniilidis: The Multivehicle Stereo Event Camera Dataset: An Event Camera "
    "Dataset for 3D Perception. IEEE RA-L 2018"
)
_COMMON_TRAPS = (
    "Times are seconds since 1970 in float64, whose steps are 0.24 us: they are rounded to microseconds, never kept in "
    "float32.",
    "Events, frames and labels are those of the distorted left camera: flow_dist and depth_image_raw. depth_image_rect "
    "fits rectified events only.",
    "The hood of the car has no ground truth; EV-FlowNet scores rows 0 to 189 of outdoor sequences.",
)


def _flow_card(gap: int) -> DatasetCard:
    return DatasetCard(
        name=f"mvsec-flow-dt{gap}",
        title=f"MVSEC flow, dt = {gap}",
        task="flow",
        sensor=_SENSOR,
        camera="DAVIS m346B, left",
        window={"by": "frames", "track": "flow"},
        units=f"flow in pixels from one frame to the one {gap} later, u right and v down; NaN where unknown",
        licence="CC BY-SA 4.0",
        citation=f"{_CITATION}. Flow: Zhu, Yuan, Chaney, Daniilidis: EV-FlowNet. RSS 2018",
        home_page=_HOME_PAGE,
        download="Download <sequence>_data.hdf5 and <sequence>_gt.hdf5 (or ..._gt_flow_dist.npz) into one folder.",
        divisions=(
            Division(
                name="scaleevent",
                source="paper",
                about="learn on outdoor_day2, test on indoor_flying1 to 3, as ScaleEvent (and Zhu et al., CVPR 2019)",
                counts={"train": 1, "test": 3},
                maps={"train": 26_677, "test": 7_775} if gap == 1 else {},
                sha256="cadf8e4b2d9306b6d1321e885b3d64eac8b804f8ad3cc7aa3d58bb0ea7d3e269",
            ),
            Division(
                name="eventpretrain",
                source="paper",
                about=(
                    "as EventPretrain's released code (from ECDDP): learn on outdoor_day1 from frame 245, outdoor_day2 "
                    "from frame 4375 and one in a hundred frames of indoor_flying1 from frame 314, drawn with seed 0; "
                    "test on the rest of it and on indoor_flying2 and 3"
                ),
                counts={"train": 3, "test": 3},
                maps={"train": 5_398, "test": 5_634} if gap == 1 else {},
                sha256="d14c05d590368fe393bca0d692cd04c956ca5db72a0c51e43a98e0276c59c59d",
            ),
        ),
        traps=(
            "Ground truth is at 20 Hz and does not begin or end with frames: it is propagated from frame to frame "
            "(`data/datasets/propagation.py`). Flow of 0 in both parts means unknown.",
            "EV-FlowNet scales one ground truth where it is longer than the time between the frames, even when the "
            "frames lie on both sides of its end; here both sides are followed, as EventPretrain does.",
            "EventPretrain takes the events between the indices that the file has for its frames; here they are taken "
            "by time, after the first frame until the second.",
            "The division eventpretrain tests on frames of a sequence that it also learns from.",
            *_COMMON_TRAPS,
        ),
    )


_DEPTH_CARD = DatasetCard(
    name="mvsec-depth",
    title="MVSEC depth",
    task="depth",
    sensor=_SENSOR,
    camera="DAVIS m346B, left",
    window={"by": "frame", "track": "depth", "frame_at": "end"},
    units="depth along the optical axis in metres; NaN where unknown",
    licence="CC BY-SA 4.0",
    citation=_CITATION,
    home_page=_HOME_PAGE,
    download="Download <sequence>_data.hdf5 and <sequence>_gt.hdf5 into one folder.",
    divisions=(
        Division(
            name="scaleevent",
            source="paper",
            about="learn on outdoor_day2, test on outdoor_day1 and outdoor_night1 to 3, as ScaleEvent, DepthAnyEvent",
            counts={"train": 1, "test": 4},
            maps={"train": 10_351, "test": 21_125},
            sha256="d3d4a0fd9793ec4f77029fe7a4dad44f1ddc6e12ab698360962c933c37e7ef29",
        ),
    ),
    traps=("Papers clip depth at 80 m, and count errors up to 10, 20 and 30 m.", *_COMMON_TRAPS),
)

FLOW_DT1 = Dataset(_flow_card(1), partial(find, kind="flow", gap=1), partial(open_flow, gap=1))
FLOW_DT4 = Dataset(_flow_card(4), partial(find, kind="flow", gap=4), partial(open_flow, gap=4))
DEPTH = Dataset(_DEPTH_CARD, partial(find, kind="depth"), open_depth)
