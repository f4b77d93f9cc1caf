"""Warps to the event camera: hand-computed cases, and synthetic rigs that look at a picture on the sky."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import yaml
from stereo_rig import EVENT_SIZE, EVENTS, FRAME_SIZE, FRAMES, Rig, assert_shows, pose, rays, rotated, sky

from eventfm.data.alignment import (
    CalibrationError,
    Camera,
    dsec_warp,
    frame_warp,
    homography_at_infinity,
    inverse_depth_of,
    m3ed_warp,
    read_rectify_map,
)


def test_the_homography_by_hand() -> None:
    event = np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]])
    frame = np.array([[200.0, 0, 160], [0, 200, 120], [0, 0, 1]])

    def maps(rotation: np.ndarray, point: tuple[float, float]) -> np.ndarray:
        x, y, w = homography_at_infinity(event, frame, rotation) @ (*point, 1)
        return np.array([x / w, y / w])

    np.testing.assert_allclose(maps(np.eye(3), (50, 40)), (160, 120))
    np.testing.assert_allclose(maps(np.eye(3), (60, 20)), (180, 80))
    # A quarter turn about the optical axis takes right to down: direction (0.1, 0, 1) to (0, 0.1, 1).
    np.testing.assert_allclose(maps(rotated(0, 0, np.pi / 2), (60, 40)), (160, 140), atol=1e-9)
    # Turned by atan(1/2) about the vertical axis, what was straight ahead is 200 / 2 pixels to the right.
    np.testing.assert_allclose(maps(rotated(0, np.arctan(0.5), 0), (50, 40)), (260, 120), atol=1e-9)


def test_without_lenses_and_depth_the_warp_is_the_homography() -> None:
    event, frame = Camera.of(EVENTS, EVENT_SIZE), Camera.of(FRAMES, FRAME_SIZE)
    rotation = rotated(0.05, -0.03, 0.1)
    warp = frame_warp(event.directions(event.pixels()), frame, rotation, (1.0, 2.0, 3.0))
    homography = homography_at_infinity(event.matrix, frame.matrix, rotation)
    expected = cv2.perspectiveTransform(event.pixels().reshape(1, -1, 2), homography).reshape(48, 64, 2)
    np.testing.assert_allclose(warp.positions, expected, atol=1e-4)


def test_depth_by_hand() -> None:
    """0.2 m to the side at 4 m is 0.05 of the focal length; behind the camera there is no place."""
    event, frame = Camera.of(EVENTS, EVENT_SIZE), Camera.of(FRAMES, FRAME_SIZE)
    directions = event.directions(event.pixels())
    far = frame_warp(directions, frame, np.eye(3), (0.2, 0, 0)).positions
    near = frame_warp(directions, frame, np.eye(3), (0.2, 0, 0), 0.25).positions
    np.testing.assert_allclose(near - far, np.broadcast_to([0.05 * 120, 0], far.shape), atol=1e-4)
    behind = frame_warp(directions, frame, np.diag([-1.0, 1, -1]))
    assert np.isnan(behind.positions).all()
    assert not behind.seen.any()
    to_depth = np.array([[1, 0, 0, -30], [0, 1, 0, -25], [0, 0, 0, 55.0], [0, 0, 2.0, 0]])
    np.testing.assert_allclose(inverse_depth_of(np.array([11.0, 0]), to_depth), [0.4, 0])  # z = f b / d = 55 / 2 / 11


def test_lenses_undo_themselves() -> None:
    lens = (-0.3, 0.1, 0.002, -0.001)
    camera = Camera.of(EVENTS, EVENT_SIZE, lens)
    directions = camera.directions(camera.pixels())
    np.testing.assert_allclose(directions, rays(EVENTS, EVENT_SIZE, lens), atol=1e-6)
    np.testing.assert_allclose(camera.project(directions), camera.pixels(), atol=1e-4)


def test_frames_of_any_type() -> None:
    camera = Camera.of(FRAMES, FRAME_SIZE)
    still = frame_warp(camera.directions(camera.pixels()), camera, np.eye(3))
    frame = np.random.default_rng(0).integers(1, 255, (108, 144, 3)).astype(np.uint8)
    np.testing.assert_array_equal(still(frame), frame)
    assert still(frame).dtype == np.uint8
    np.testing.assert_array_equal(still(frame[..., 0]), frame[..., 0])
    with pytest.raises(CalibrationError, match="frames of 144x108 pixels, as they were calibrated, got 72x54"):
        still(frame[::2, ::2])


@pytest.mark.parametrize(("side", "event", "frame"), [("left", 0, 1), ("right", 3, 2)])
def test_dsec_frames_fit_rectified_and_stored_events(side: Any, event: int, frame: int, tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    picture = sky(rig.rectified(frame)).astype(np.float32)
    rectified = dsec_warp(rig.calibration, None, side=side)
    assert_shows(rectified(picture), sky(rig.rectified(event)), rectified.seen)
    stored = dsec_warp(rig.calibration, rig.rectify_map(tmp_path, event), side=side)
    assert_shows(stored(picture), sky(rig.raw(event)), stored.seen)


def test_dsec_disparity_takes_parallax_out(tmp_path: Path) -> None:
    """A wall 3 m before the left event camera, seen by both cameras at their places."""
    rig = Rig(tmp_path)
    to_event = [np.block([[rig.rectifying[k], np.zeros((3, 1))], [0, 0, 0, 1]]) @ rig.poses[k] for k in range(2)]
    expected = sky(rays(EVENTS, EVENT_SIZE))
    event_from_frame = to_event[0] @ np.linalg.inv(to_event[1])
    directions = rays(FRAMES, FRAME_SIZE) @ event_from_frame[:3, :3].T
    origin = event_from_frame[:3, 3]
    on_wall = origin + directions * ((3 - origin[2]) / directions[..., 2:])
    picture = sky(on_wall).astype(np.float32)
    disparity = np.full(EVENT_SIZE[::-1], 0.3 * EVENTS[0] / 3)
    near = dsec_warp(rig.calibration, None, disparity=disparity)
    assert_shows(near(picture), expected, near.seen)
    points = np.concatenate([3 * rays(EVENTS, EVENT_SIZE), np.ones((48, 64, 1))], axis=-1)
    in_frame = points @ np.linalg.inv(event_from_frame).T
    places = in_frame[..., :2] / in_frame[..., 2:3] * FRAMES[:2] + FRAMES[2:]
    np.testing.assert_allclose(near.positions, places, atol=1e-3)
    far = dsec_warp(rig.calibration, None)
    assert np.abs(far(picture) - expected)[far.seen].max() > 0.05
    with pytest.raises(CalibrationError, match="rectify_map=None and side='left'"):
        dsec_warp(rig.calibration, None, side="right", disparity=disparity)


def write_m3ed(path: Path, model: str = "radtan") -> dict[str, np.ndarray]:
    """Write the calibrations of M3ED and return the directions of every camera's pixels, in the left event camera."""
    cameras = {
        "prophesee/left": (EVENTS, EVENT_SIZE, (-0.1, 0.05, 0.001, -0.001), np.eye(4)),
        "prophesee/right": (EVENTS, EVENT_SIZE, (-0.12, 0.05, 0, 0), pose(rotated(0.03, 0.01, -0.02), (0.12, 0, 0))),
        "ovc/rgb": (FRAMES, FRAME_SIZE, (-0.2, 0.06, 0, 0.001), pose(rotated(-0.05, 0.04, 0.06), (0.05, 0.02, 0.01))),
    }
    looks = {}
    with h5py.File(path, "w") as file:
        for name, (intrinsics, size, lens, to_left) in cameras.items():
            group = file.create_group(f"{name}/calib")
            group["intrinsics"], group["resolution"], group["distortion_coeffs"] = intrinsics, size, lens
            group["distortion_model"], group["camera_model"] = model, "pinhole"
            group["T_to_prophesee_left"] = to_left
            looks[name] = rays(intrinsics, size, lens) @ to_left[:3, :3].T
    return looks


@pytest.mark.parametrize("side", ["left", "right"])
def test_m3ed_frames_fit_stored_events(side: Any, tmp_path: Path) -> None:
    path = tmp_path / "car_data.h5"
    looks = write_m3ed(path)
    picture = sky(looks["ovc/rgb"]).astype(np.float32)
    warp = m3ed_warp(path, side=side)
    assert_shows(warp(picture), sky(looks[f"prophesee/{side}"]), warp.seen)


def test_what_is_missing_is_named_with_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"cam_to_cam.*<sequence>_calibration.zip from https://dsec.ifi.uzh.ch"):
        dsec_warp(tmp_path / "cam_to_cam.yaml", None)
    rig = Rig(tmp_path)
    with pytest.raises(CalibrationError, match=r"rectify_map.h5 at .*<sequence>_events_left.zip.*dsec.ifi.uzh.ch"):
        dsec_warp(rig.calibration, tmp_path / "rectify_map.h5")
    with pytest.raises(CalibrationError, match=r"_data.h5 at .*download it from https://m3ed.io"):
        m3ed_warp(tmp_path / "car_data.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(CalibrationError, match="is no HDF5 file"):
        read_rectify_map(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [1]
    with pytest.raises(CalibrationError, match=r"rectify_map \(H, W, 2\) in .*got \['x'\]"):
        read_rectify_map(tmp_path / "other.h5")
    with pytest.raises(CalibrationError, match="the group prophesee/left/calib"):
        m3ed_warp(tmp_path / "other.h5")
    write_m3ed(tmp_path / "fisheye.h5", "equidistant")
    with pytest.raises(CalibrationError, match=r"model radtan in .*got 'equidistant'"):
        m3ed_warp(tmp_path / "fisheye.h5")
    del rig.values["extrinsics"]["T_10"]
    rig.calibration.write_text(yaml.safe_dump(rig.values))
    with pytest.raises(CalibrationError, match=r"expected T_10 in .*'T_21', 'T_32'"):
        dsec_warp(rig.calibration, None)
    rig.calibration.write_text("- 1\n")
    with pytest.raises(CalibrationError, match=r"intrinsics and extrinsics in .*got list"):
        dsec_warp(rig.calibration, None)


def test_what_a_lens_cannot_see_is_not_seen() -> None:
    """With k1 = -0.2 alone r (1 - 0.2 r^2) is largest, 0.860663, at r = sqrt(5/3): no further out is anything drawn."""
    camera = Camera.of((100, 100, 150, 150), (301, 301), (-0.2, 0, 0, 0))
    points = np.array([[1.2, 0, 1], [1.29, 0, 1], [1.3, 0, 1], [2, 0, 1]])
    found = camera.project(points)[:, 0]
    np.testing.assert_allclose(found[:2], [150 + 100 * 0.8544, 150 + 100 * 0.8606622], atol=1e-4)
    assert np.isnan(found[2:]).all()  # the formula alone puts the last one at 190, in the middle of the picture
    directions = camera.directions(np.array([[235.44, 150], [290, 150]]))
    np.testing.assert_allclose(directions[0], [1.2, 0, 1], atol=1e-3)
    assert np.isnan(directions[1, :2]).all()


def test_a_disparity_that_is_not_known_means_far_away() -> None:
    """z = 60 / (2 d - 4), as where the two cameras' centres differ; d = 0 would give a place behind the camera."""
    to_depth = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 60.0], [0, 0, 2, -4.0]])
    np.testing.assert_allclose(inverse_depth_of(np.array([[0.0, 5.0]]), to_depth), [[0, 0.1]])
