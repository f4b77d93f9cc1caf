"""Sequences of M3ED (Chaney et al., CVPR Workshops 2023): events of the left camera, and frames as it sees them.

A sequence is one file, `<sequence>_data.h5`, or `<sequence>/<sequence>.h5` in the first release. All times are whole
microseconds of one clock. In `prophesee/left` are the columns `x`, `y`, `t`, `p`, and `ms_map_idx`, the first event of
each millisecond; in `ovc/rgb/data` and `ovc/left/data` frames (N, height, width, channels), colours as OpenCV has them,
blue first; in `ovc/ts` the times of both. Which moment of the exposure these are is not published: they are taken as
they are. Files without colour have grey frames alone. Each camera has its calibration.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eventfm.data.alignment import M3ED_SITE, CalibrationError, WarpedTrack, m3ed_warp
from eventfm.events import OnError
from eventfm.io import FormatError
from eventfm.io.contract import DamagedFileError
from eventfm.io.hdf5_file import Hdf5File, Hdf5Track, h5py, reading, require_hdf5, stored
from eventfm.io.m3ed import open_file
from eventfm.io.recording import as_track_times
from eventfm.protocols import Recording, Track

_EVENTS = "prophesee/left"
_CAMERAS: tuple[Literal["rgb", "left"], ...] = ("rgb", "left")
"""Those that are looked for, in this order."""
_DEPTHS = ("", "*/", "*/*/")
"""A folder of a sequence, one of these, or one of splits."""
_LEAST_SHARED = 0.1
"""Of the time from the first to the last of events and frames, what both cover; by a wrong unit it is 0.001 at most."""


@dataclass(frozen=True, eq=False)
class _OvcTrack:
    """Frames of M3ED as all others have them: (H, W) grey or (H, W, 3) RGB."""

    frames: Hdf5Track

    @property
    def times(self) -> NDArray[np.int64]:
        """Microseconds of each frame."""
        return self.frames.times

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, i: int) -> NDArray[Any]:
        """Return frame `i`."""
        frame = self.frames.read(i)
        return frame[..., 0] if frame.shape[2] == 1 else np.ascontiguousarray(frame[..., ::-1])


def find_sequences(root: Path) -> tuple[str, ...]:
    """Return the sequences at `root`, a file or a folder, relative to it, in order of name."""
    if root.is_file():
        return ("",) if _is_sequence(root) else ()
    files = sorted(path for depth in _DEPTHS for path in root.glob(f"{depth}*.h5") if _is_named(path))
    return tuple(path.relative_to(root).as_posix() for path in files if _is_sequence(path))


def open_sequence(path: Path, on_error: OnError = "raise") -> Recording:
    """Return one sequence, its track `frames` pixel by pixel that of the left event camera, but for parallax.

    Raises:
        CalibrationError: A calibration is missing, or does not fit the frames.
        FormatError: The file is damaged or cut off; or its frames have no times, times of another clock than the
            events, or not as many as there are frames.
    """
    file = Hdf5File(path)
    try:
        with reading(path):
            found = [name for name in _CAMERAS if f"ovc/{name}/data" in file["/"]]
        tracks: dict[str, Track] = {"frames": _frames(file, found[0])} if found else {}
        recording = open_file(path, None, on_error, tracks)
    except DamagedFileError as error:
        raise DamagedFileError(f"{error}; download it anew from {M3ED_SITE}") from error
    if found and recording.num_events:
        _require_one_clock(path, tracks["frames"].times, recording.t_range)
    return recording


def _is_named(path: Path) -> bool:
    return path.stem.endswith("_data") or path.stem == path.parent.name


def _is_sequence(path: Path) -> bool:
    """Return whether a file has the left event camera of M3ED; one that cannot be opened goes by its name."""
    try:
        require_hdf5(path)
        with h5py.File(path, "r") as file:
            return f"{_EVENTS}/t" in file
    except FormatError:
        return False
    except OSError:
        return path.name.endswith("_data.h5")


def _frames(file: Hdf5File, camera: Literal["rgb", "left"]) -> Track:
    """Return the frames of a camera, warped to the left event camera."""
    path, name = file.path, f"ovc/{camera}/data"
    with reading(path):
        data = stored(file[f"ovc/{camera}"], "data", ndim=4)
        if "ovc/ts" not in file["/"]:
            raise FormatError(f"{path}: expected the times of its frames in ovc/ts; download it anew from {M3ED_SITE}")
        times = np.asarray(stored(file["ovc"], "ts")[()])
    if times.dtype.kind not in "iu":
        raise FormatError(f"{path}: expected whole microseconds in ovc/ts, got {times.dtype}")
    if len(times) != len(data):
        raise FormatError(
            f"{path}: expected a frame in {name} for each of {len(times)} times in ovc/ts, got {len(data)}"
        )
    warp = m3ed_warp(path, frames=camera)
    height, width, channels = data.shape[1:]
    if (width, height) != warp.frame_size or channels not in (1, 3):
        raise CalibrationError(
            f"{path}: expected grey or coloured frames of {warp.frame_size[0]}x{warp.frame_size[1]} pixels in {name}, "
            f"as they were calibrated, got {width}x{height} with {channels} channels; give them as they were downloaded"
        )
    return WarpedTrack(_OvcTrack(Hdf5Track(file, name, as_track_times(times))), warp)


def _require_one_clock(path: Path, times: NDArray[np.int64], t_range: tuple[int, int]) -> None:
    """Refuse frames that were not taken while the events were.

    Raises:
        FormatError: The two have too little time in common.
    """
    if not len(times):
        return
    (first, last), (begin, end) = (int(times[0]), int(times[-1])), t_range
    shared, whole = min(last, end) - max(first, begin), max(last, end) - min(first, begin)
    if shared < (_LEAST_SHARED * whole if len(times) > 1 else 0):
        raise FormatError(
            f"{path}: expected times of frames (ovc/ts) and of events ({_EVENTS}/t) by one clock, in microseconds, got "
            f"frames from {first} to {last} and events from {begin} to {end}; download it anew from {M3ED_SITE}"
        )
