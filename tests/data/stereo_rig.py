"""A synthetic rig of cameras that look at a picture on the sky, calibrated as the files of DSEC say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml

EVENT_SIZE, FRAME_SIZE = (64, 48), (144, 108)
EVENTS = (55.0, 54.0, 30.0, 25.0)
FRAMES = (120.0, 122.0, 70.0, 55.0)


def rotated(x: float, y: float, z: float) -> np.ndarray:
    """Return a rotation by angles in radians about the three axes, in this order, by plain sines."""
    about = []
    for axis, angle in enumerate((x, y, z)):
        matrix, (i, j) = np.eye(3), [(1, 2), (2, 0), (0, 1)][axis]
        matrix[i, i] = matrix[j, j] = np.cos(angle)
        matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
        about.append(matrix)
    return about[2] @ about[1] @ about[0]


def pose(rotation: np.ndarray, translation: Any) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = rotation, translation
    return out


def sky(directions: np.ndarray) -> np.ndarray:
    """Return how bright it is in directions (..., 3): smooth, and in no two corners the same."""
    x, y = directions[..., 0] / directions[..., 2], directions[..., 1] / directions[..., 2]
    return 0.5 + 0.2 * np.sin(9 * x + 2 * y) + 0.2 * np.cos(8 * y - 3 * x)


def rays(intrinsics: tuple[float, ...], size: tuple[int, int], distortion: Any = (0, 0, 0, 0)) -> np.ndarray:
    """Return where every pixel looks, the lens undone by plain repetition (k1, k2, p1, p2)."""
    fx, fy, cx, cy = intrinsics
    u, v = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    seen_x, seen_y = (u - cx) / fx, (v - cy) / fy
    k1, k2, p1, p2 = distortion
    x, y = seen_x, seen_y
    for _ in range(60 if any(distortion) else 1):
        r2 = x * x + y * y
        radial = 1 + k1 * r2 + k2 * r2 * r2
        x, y = (
            (seen_x - 2 * p1 * x * y - p2 * (r2 + 2 * x * x)) / radial,
            (seen_y - p1 * (r2 + 2 * y * y) - 2 * p2 * x * y) / radial,
        )
    return np.stack([x, y, np.ones_like(x)], axis=-1)


def assert_shows(warped: np.ndarray, expected: np.ndarray, seen: np.ndarray) -> None:
    """Bilinear sampling and a little blur cost a hundredth of the contrast."""
    assert seen.mean() > 0.6
    np.testing.assert_allclose(warped[seen], expected[seen], atol=0.02)
    assert expected[seen].std() > 0.1
    assert not warped[~seen].any()


class Rig:
    """A DSEC sequence: four cameras of different poses, event lenses, rectification, and what each sees of the sky."""

    def __init__(self, folder: Path, scale: int = 1, turn: float = 0.0) -> None:
        """With `scale` 10 the cameras are as large as DSEC's; `turn` is added to every angle between them, radians."""
        self.events, self.frames = (tuple(scale * value for value in values) for values in (EVENTS, FRAMES))
        self.sizes = [(scale * size[0], scale * size[1]) for size in (EVENT_SIZE, FRAME_SIZE)]
        self.raw_events = tuple(scale * value for value in (50.0, 50.0, 31.0, 24.0))
        self.lens = (-0.25, 0.08, 0.001, 0.0)
        # What takes the world to each camera, and each camera to its rectified version.
        self.poses = [
            pose(rotated(0.02 * k, 0.03 - (0.02 + turn) * k, (0.01 - turn) * k), (0.1 * k, 0.01 * k, 0.02 * k))
            for k in range(4)
        ]
        self.rectifying = [rotated(0.01, -0.02 * k, 0.015 * (k - 1)) for k in range(4)]
        extrinsics: dict[str, Any] = {f"R_rect{k}": self.rectifying[k].tolist() for k in range(4)}
        for k in range(1, 4):
            extrinsics[f"T_{k}{k - 1}"] = (self.poses[k] @ np.linalg.inv(self.poses[k - 1])).tolist()
        intrinsics = {}
        for k in range(4):
            values, size = (self.events, self.sizes[0]) if k in (0, 3) else (self.frames, self.sizes[1])
            intrinsics[f"camRect{k}"] = {"camera_matrix": list(values), "resolution": list(size)}
        depth = {"cams_03": [[1, 0, 0, -30.0], [0, 1, 0, -25.0], [0, 0, 0, self.events[0]], [0, 0, 1 / 0.3, 0]]}
        self.values = {"intrinsics": intrinsics, "extrinsics": extrinsics, "disparity_to_depth": depth}
        self.calibration = folder / "cam_to_cam.yaml"
        self.calibration.write_text(yaml.safe_dump(self.values))

    def rectified(self, camera: int) -> np.ndarray:
        """Return the directions in the world of the pixels of a rectified camera."""
        seen = rays(self.events, self.sizes[0]) if camera in (0, 3) else rays(self.frames, self.sizes[1])
        return seen @ (self.rectifying[camera] @ self.poses[camera][:3, :3])

    def raw(self, camera: int) -> np.ndarray:
        """Return the directions in the world of the pixels of an event camera as it stores them."""
        return rays(self.raw_events, self.sizes[0], self.lens) @ self.poses[camera][:3, :3]

    def rectify_map(self, folder: Path, camera: int) -> Path:
        directions = rays(self.raw_events, self.sizes[0], self.lens) @ self.rectifying[camera].T
        plane = directions[..., :2] / directions[..., 2:]
        path = folder / "rectify_map.h5"
        with h5py.File(path, "w") as file:
            file["rectify_map"] = (plane * self.events[:2] + self.events[2:]).astype(np.float32)
        return path
