"""Sequences of M3ED as their owners publish them, but small: written with h5py alone, after the published listing."""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path

import h5py
import numpy as np
from stereo_rig import EVENT_SIZE, EVENTS, FRAME_SIZE, FRAMES, pose, rays, rotated, sky

FRAME_EVERY_US = 40_000
LENSES = {
    "prophesee/left": (-0.1, 0.05, 0.001, -0.001),
    "ovc/rgb": (-0.2, 0.06, 0, 0.001),
    "ovc/left": (-0.15, 0.02, 0, 0),
}
POSES = {
    "prophesee/left": np.eye(4),
    "ovc/rgb": pose(rotated(-0.05, 0.04, 0.06), (0.05, 0.02, 0.01)),
    "ovc/left": pose(rotated(0.03, 0.02, -0.04), (-0.06, 0.02, 0.01)),
}
"""What takes the points of each camera to the left event camera."""


def looks(camera: str) -> np.ndarray:
    """Return where each pixel of a camera looks, as the left event camera has it, (H, W, 3)."""
    intrinsics, size = (EVENTS, EVENT_SIZE) if camera == "prophesee/left" else (FRAMES, FRAME_SIZE)
    return rays(intrinsics, size, LENSES[camera]) @ POSES[camera][:3, :3].T


def write_m3ed(path: Path, cameras: tuple[str, ...] = ("rgb", "left"), num_frames: int = 3, seed: int = 0) -> Path:
    """Write a sequence of 3000 events, the first 700 us after the clock began, and frames of the sky.

    Red is the sky, green its negative, blue half of it; the grey camera has the negative. Frame `n` is darker than the
    first by `n` hundredths.
    """
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.sort(rng.integers(700, (num_frames - 1) * FRAME_EVERY_US + 5300, 3000))
    times = [FRAME_EVERY_US * number for number in range(num_frames)]
    with h5py.File(path, "w") as file:
        file.attrs["version"] = "v1.0"
        columns = {
            "x": rng.integers(0, EVENT_SIZE[0], len(t)).astype("u2"),
            "y": rng.integers(0, EVENT_SIZE[1], len(t)).astype("u2"),
            "t": t.astype("i8"),
            "p": rng.integers(0, 2, len(t)).astype("i1"),
        }
        for name, column in columns.items():
            file.create_dataset(
                f"prophesee/left/{name}", data=column, compression="lzf", chunks=(400,), maxshape=(None,)
            )
        listed = t.tolist()
        starts = [bisect_left(listed, 1000 * ms) for ms in range(listed[-1] // 1000)]
        file["prophesee/left/ms_map_idx"] = np.array(starts, "u8")
        file["ovc/ts"] = np.array(times, "i8")
        file["ovc/ts_map_prophesee_left_t"] = np.array([bisect_left(listed, time) for time in times], "u8")
        for camera in cameras:
            shown = sky(looks(f"ovc/{camera}"))
            channels = [shown / 2, 1 - shown, shown] if camera == "rgb" else [1 - shown]
            frames = [np.rint(255 * (np.stack(channels, axis=-1) - n / 100)).astype("u1") for n in range(num_frames)]
            chunk = (1, *frames[0].shape)
            file.create_dataset(f"ovc/{camera}/data", data=np.stack(frames), compression="lzf", chunks=chunk)
        for camera in ("prophesee/left", *(f"ovc/{name}" for name in cameras)):
            events = camera == "prophesee/left"
            file[f"{camera}/calib/intrinsics"] = np.array(EVENTS if events else FRAMES, "f8")
            file[f"{camera}/calib/resolution"] = np.array(EVENT_SIZE if events else FRAME_SIZE, "i8")
            file[f"{camera}/calib/distortion_coeffs"] = np.array(LENSES[camera], "f8")
            file[f"{camera}/calib/distortion_model"] = "radtan"
            file[f"{camera}/calib/camera_model"] = "pinhole"
            file[f"{camera}/calib/T_to_prophesee_left"] = POSES[camera]
    return path
