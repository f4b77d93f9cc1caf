"""Frames of a second camera as the event camera would see them: DSEC and M3ED, by their calibration files.

The two cameras stand side by side. Without depth the scene is taken to be infinitely far away, so that only their
rotation matters (the homography at infinity); what is near stays displaced by its parallax.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from weakref import WeakValueDictionary

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray

from eventfm.protocols import Track

Side = Literal["left", "right"]
Floats = NDArray[np.float64]

_DSEC_CAMERAS = {"left": (0, 1), "right": (3, 2)}
"""Numbers of the event and the frame camera of either side."""
DSEC_SITE = "https://dsec.ifi.uzh.ch/dsec-datasets/download/"
M3ED_SITE = "https://m3ed.io/download/"
_MOST_ROUNDS, _EXACT, _ALMOST = 100, 1e-9, 1e-4
"""Rounds in which a lens is undone, and how far off the plane z = 1 a direction then is, or may be at most."""
_M3ED_WARPS: WeakValueDictionary[bytes, FrameWarp] = WeakValueDictionary()


class CalibrationError(ValueError):
    """Raised when a calibration is missing or incomplete, or does not fit the frame."""


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera: `matrix` (3, 3), radial-tangential `distortion` (k1, k2, p1, p2), (width, height)."""

    matrix: Floats
    distortion: Floats
    size: tuple[int, int]

    @classmethod
    def of(cls, intrinsics: ArrayLike, size: ArrayLike, distortion: ArrayLike = (0, 0, 0, 0)) -> Camera:
        """Return the camera of (fx, fy, cx, cy), pixels."""
        fx, fy, cx, cy = np.asarray(intrinsics, np.float64)
        width, height = np.asarray(size)
        matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        return cls(matrix, np.asarray(distortion, np.float64), (int(width), int(height)))

    def pixels(self) -> Floats:
        """Return the position (x, y) of every pixel, (H, W, 2)."""
        width, height = self.size
        return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float64)

    def directions(self, positions: NDArray[Any]) -> Floats:
        """Return where pixel positions (..., 2) look, (..., 3) with z = 1; x and y NaN where the lens sees nothing."""
        focal, centre = self.matrix[[0, 1], [0, 1]], self.matrix[:2, 2]
        seen = (np.asarray(positions, np.float64) - centre) / focal
        plane = seen
        # A lens has no inverse in closed form; what it still leaves is taken off again and again.
        with np.errstate(over="ignore", invalid="ignore"):  # of what the lens cannot see it grows and grows
            for _ in range(_MOST_ROUNDS):
                rest = seen - self._bent(plane)
                plane = plane + rest
                if np.abs(rest).max() < _EXACT:
                    break
        plane = np.where((np.abs(rest) < _ALMOST).all(axis=-1, keepdims=True), plane, np.nan)
        return np.concatenate([plane, np.ones((*plane.shape[:-1], 1))], axis=-1)

    def project(self, points: Floats) -> Floats:
        """Return the pixel positions (..., 2) of points (..., 3) in the camera's frame.

        They are NaN behind the camera, and beyond where the model of the lens folds back into the picture.
        """
        z = points[..., 2:]
        plane = points[..., :2] / np.where(z > 0, z, np.nan)
        plane = np.where((plane**2).sum(axis=-1, keepdims=True) < self._widest, plane, np.nan)
        return self._bent(plane) * self.matrix[[0, 1], [0, 1]] + self.matrix[:2, 2]

    @cached_property
    def _widest(self) -> float:
        """The squared radius on the plane z = 1 from which on the lens would draw what is further out further in."""
        k1, k2 = self.distortion[:2]
        # Where d/dr r (1 + k1 r^2 + k2 r^4) is 0.
        roots = np.roots([5 * k2, 3 * k1, 1])
        return float(min((root.real for root in roots if abs(root.imag) < _EXACT and root.real > 0), default=np.inf))

    def _bent(self, plane: Floats) -> Floats:
        """Return where the lens puts points (..., 2) of the plane z = 1 (Brown's radial and tangential model)."""
        k1, k2, p1, p2 = self.distortion
        x, y = plane[..., 0], plane[..., 1]
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * k2)
        return np.stack(
            [
                x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
            ],
            axis=-1,
        )


@dataclass(frozen=True, eq=False)
class FrameWarp:
    """Takes frames of a second camera to the pixels of the event camera."""

    positions: NDArray[np.float32]
    """(H, W, 2): where in the frame (x, y) each pixel of the event camera looks; NaN where nowhere."""
    frame_size: tuple[int, int]
    """Width and height of the frames."""

    @property
    def seen(self) -> NDArray[np.bool_]:
        """(H, W): the pixels of the event camera that the frame reaches."""
        width, height = self.frame_size
        x, y = self.positions[..., 0], self.positions[..., 1]
        return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)

    def __call__(self, frame: NDArray[Any]) -> NDArray[Any]:
        """Return a frame, (h, w) or (h, w, 3), as the event camera sees it; 0 where the frame does not reach.

        Raises:
            CalibrationError: The frame is not of the calibrated size.
        """
        import cv2

        if frame.shape[1::-1] != self.frame_size:
            raise CalibrationError(
                f"expected frames of {self.frame_size[0]}x{self.frame_size[1]} pixels, as they were calibrated, got "
                f"{frame.shape[1]}x{frame.shape[0]}; give them as they were downloaded, not resized"
            )
        seen = self.seen
        positions = np.where(seen[..., None], self.positions, np.float32(-1))
        # What shrinks is averaged first: DSEC's frames have twice the pixels per degree that its events have.
        if self._step > 1.25:
            frame = cv2.GaussianBlur(frame, (0, 0), 0.3 * self._step)
        out = cv2.remap(frame, positions[..., 0], positions[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(out * seen.reshape(*seen.shape, *[1] * (out.ndim - 2)).astype(out.dtype))

    @cached_property
    def _step(self) -> float:
        """How many frame pixels lie between two neighbours of the event camera, the median."""
        steps = np.linalg.norm(np.diff(self.positions, axis=1), axis=-1)
        return float(np.nanmedian(steps)) if np.isfinite(steps).any() else 0.0


@dataclass(frozen=True, eq=False)
class WarpedTrack:
    """Frames of another camera, each warped when it is read."""

    frames: Track
    warp: FrameWarp

    @property
    def times(self) -> NDArray[np.int64]:
        """Microseconds of each frame."""
        return self.frames.times

    def __len__(self) -> int:
        return len(self.frames.times)

    def read(self, i: int) -> NDArray[Any]:
        """Return frame `i` as the event camera sees it, 0 where the frame does not reach."""
        return self.warp(self.frames.read(i))


def homography_at_infinity(event_matrix: Floats, frame_matrix: Floats, rotation: Floats) -> Floats:
    """Return K_f R K_e^-1 (3, 3): pixels of the event camera to those of the frame camera, for what is far away.

    `rotation` takes directions in the event camera to directions in the frame camera. Both without distortion.
    """
    return frame_matrix @ rotation @ np.linalg.inv(event_matrix)


def frame_warp(
    directions: Floats,
    camera: Camera,
    rotation: Floats,
    translation: ArrayLike = (0, 0, 0),
    inverse_depth: ArrayLike = 0.0,
) -> FrameWarp:
    """Return how frames of `camera` look from the event camera.

    Args:
        directions: (H, W, 3) where each pixel of the event camera looks, z = 1.
        camera: The one that takes the frames.
        rotation: (3, 3), with `translation` (3,) in metres it takes points of the event camera to the other.
        translation: Only matters with depth.
        inverse_depth: 1 / z in the event camera, (H, W) or one number, 1/m. 0: infinitely far away.
    """
    near = np.asarray(inverse_depth, np.float64)[..., None] * np.asarray(translation, np.float64)
    return FrameWarp(camera.project(directions @ rotation.T + near).astype(np.float32), camera.size)


def dsec_warp(
    calibration: str | Path,
    rectify_map: str | Path | None,
    *,
    side: Side = "left",
    disparity: NDArray[Any] | None = None,
) -> FrameWarp:
    """Return how the rectified frames of DSEC look from the event camera of their side.

    Args:
        calibration: `cam_to_cam.yaml` of the sequence.
        rectify_map: `rectify_map.h5` beside the events: frames then fit the events as they are stored. None: they fit
            events that were rectified.
        side: Which pair of cameras.
        disparity: (480, 640) of the rectified event cameras, pixels, 0 where unknown: takes parallax out of frames
            that fit rectified events (left only).

    Raises:
        CalibrationError: A file or a key is missing; the message says what to download. Or disparity is asked to go
            with events as stored, or with the right camera.
    """
    values = _read_yaml(Path(calibration))
    number, other = _DSEC_CAMERAS[side]
    where = str(calibration)
    intrinsics, extrinsics = (_part(values, name, where) for name in ("intrinsics", "extrinsics"))
    cameras = [_part(intrinsics, f"camRect{k}", where) for k in (number, other)]
    events, frames = (Camera.of(_part(c, "camera_matrix", where), _part(c, "resolution", where)) for c in cameras)
    rect_e, rect_f = (_matrix(_part(extrinsics, f"R_rect{k}", where), (3, 3), where) for k in (number, other))
    # The file has each camera after the one before: T_10 and T_32, each to the first from the second.
    later, earlier = max(number, other), min(number, other)
    transform = _matrix(_part(extrinsics, f"T_{later}{earlier}", where), (4, 4), where)
    transform = transform if other == later else np.asarray(np.linalg.inv(transform), np.float64)
    rotation, translation = rect_f @ transform[:3, :3] @ rect_e.T, rect_f @ transform[:3, 3]
    if disparity is not None and (rectify_map is not None or side == "right"):
        raise CalibrationError(
            "expected rectify_map=None and side='left' with a disparity, which is of the left rectified event camera"
        )
    inverse_depth: Any = 0.0
    if disparity is not None:
        to_depth = _matrix(_part(_part(values, "disparity_to_depth", where), "cams_03", where), (4, 4), where)
        inverse_depth = inverse_depth_of(disparity, to_depth)
    positions = events.pixels() if rectify_map is None else read_rectify_map(rectify_map)
    return frame_warp(events.directions(positions), frames, rotation, translation, inverse_depth)


def inverse_depth_of(disparity: NDArray[Any], to_depth: Floats) -> Floats:
    """Return 1 / z (H, W), 1/m, of a disparity in pixels by OpenCV's matrix Q (4, 4): z = Q23 / (Q32 d + Q33).

    It is 0, infinitely far away, where the disparity is 0, which means that it is not known.
    """
    inverse = (to_depth[3, 2] * disparity + to_depth[3, 3]) / to_depth[2, 3]
    return np.where(np.asarray(disparity) > 0, inverse, 0.0).astype(np.float64)


def read_rectify_map(path: str | Path) -> NDArray[np.float32]:
    """Return the rectified position (x, y) of every pixel of a DSEC event camera, (480, 640, 2).

    Raises:
        CalibrationError: The file is missing or holds something else.
    """
    with _opened(Path(path), "rectify_map.h5", f"<sequence>_events_left.zip (or _right) from {DSEC_SITE}") as file:
        if "rectify_map" not in file or file["rectify_map"].ndim != 3 or file["rectify_map"].shape[2] != 2:
            raise CalibrationError(f"expected a data set rectify_map (H, W, 2) in {path}, got {sorted(file)}")
        return np.asarray(file["rectify_map"][:], np.float32)


def m3ed_warp(path: str | Path, *, frames: Literal["rgb", "left", "right"] = "rgb", side: Side = "left") -> FrameWarp:
    """Return how the frames of M3ED (`ovc/rgb`, `ovc/left`, `ovc/right`) look from an event camera of the same file.

    Events and frames are taken as stored, with the distortion of both lenses. `T_to_prophesee_left` of a camera takes
    its points to those of the left event camera.

    Raises:
        CalibrationError: The file has no calibration, or one of a lens of another model.
    """
    events, event_pose = m3ed_camera(path, f"prophesee/{side}")
    camera, frame_pose = m3ed_camera(path, f"ovc/{frames}")
    transform = np.linalg.inv(frame_pose) @ event_pose
    # Dozens of sequences share a calibration, whose warp takes a second to work out and 7 MB to keep.
    arrays = (transform, *(a for c in (events, camera) for a in (c.matrix, c.distortion, np.array(c.size))))
    key = b"".join(array.tobytes() for array in arrays)
    found = _M3ED_WARPS.get(key)
    if found is None:
        found = frame_warp(events.directions(events.pixels()), camera, transform[:3, :3], transform[:3, 3])
    return _M3ED_WARPS.setdefault(key, found)


def m3ed_camera(path: str | Path, name: str) -> tuple[Camera, Floats]:
    """Return a camera of a file of M3ED, such as `prophesee/left`, and what takes its points to the left event camera.

    Raises:
        CalibrationError: The file has no calibration of it, or one of a lens of another model.
    """
    where = f"{path}, {name}/calib"
    with _opened(Path(path), "a file SEQUENCE_data.h5", f"it from {M3ED_SITE}") as file:
        if f"{name}/calib" not in file:
            raise CalibrationError(f"expected the group {name}/calib in {path}; download it anew from {M3ED_SITE}")
        group = file[f"{name}/calib"]
        names = ("intrinsics", "resolution", "distortion_coeffs", "T_to_prophesee_left")
        intrinsics, size, distortion, pose = (np.asarray(_part(group, key, where)) for key in names)
        model = np.asarray(_part(group, "distortion_model", where)).item()
    model = model.decode() if isinstance(model, bytes) else str(model)
    if model != "radtan":
        raise CalibrationError(f"expected a lens of the model radtan in {where}, got {model!r}")
    return Camera.of(intrinsics, size, distortion), _matrix(pose, (4, 4), where)


def _read_yaml(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise CalibrationError(
            f"expected the calibration of a DSEC sequence (cam_to_cam.yaml) at {path}; download "
            f"<sequence>_calibration.zip from {DSEC_SITE}"
        )
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(values, Mapping):
        raise CalibrationError(
            f"expected a mapping of intrinsics and extrinsics in {path}, got {type(values).__name__}"
        )
    return values


def _part(values: Any, name: str, where: str) -> Any:
    if name not in values:
        raise CalibrationError(f"expected {name} in {where}, got {sorted(values)}")
    return values[name][()] if hasattr(values[name], "dtype") else values[name]


def _matrix(values: ArrayLike, shape: tuple[int, int], where: str) -> Floats:
    matrix = np.asarray(values, np.float64)
    if matrix.shape != shape:
        raise CalibrationError(f"expected a matrix of shape {shape} in {where}, got {matrix.shape}")
    return matrix


def _opened(path: Path, what: str, download: str) -> Any:
    from eventfm.io.hdf5_file import h5py

    if not path.is_file():
        raise CalibrationError(f"expected {what} at {path}; download {download}")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise CalibrationError(f"expected {what} at {path}, which is no HDF5 file: {error}") from error
