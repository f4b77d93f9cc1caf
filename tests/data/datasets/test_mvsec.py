"""MVSEC: the forms that its flow comes in, and the split of EventPretrain's code."""

from __future__ import annotations

import io
import pickle
import random
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from fixtures import mvsec

from eventfm.data.datasets.mvsec import FLOW_DT1
from eventfm.data.datasets.opening import locate, open_dataset
from eventfm.data.windows import WindowConfig, cut, read
from eventfm.io import FormatError
from eventfm.io.hdf5_file import h5py as library

pytestmark = pytest.mark.filterwarnings("ignore:.*eventfm datasets check")
COUNTS = {
    "train/outdoor_day1": 2754,
    "train/outdoor_day2": 2626,
    "train/indoor_flying1": 18,
    "test/indoor_flying1": 1866,
    "test/indoor_flying2": 1884,
    "test/indoor_flying3": 1884,
}
"""Pairs of frames, counted by running the released code."""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sequence with its ground truth in HDF5."""
    root = tmp_path_factory.mktemp("mvsec")
    mvsec.write_data(root / "outdoor_day2_data.hdf5", 0)
    mvsec.write_truth(root / "outdoor_day2_gt.hdf5")
    return root


def flows(root: Path) -> list[np.ndarray]:
    track = open_dataset("mvsec-flow-dt1", root).entries[0].recording.tracks["flow"]
    return [track.read(i) for i in range(len(track.times))]


def in_two_parts(one: Path, target: Path) -> dict[str, np.ndarray]:
    shutil.copyfile(one / "outdoor_day2_data.hdf5", target / "outdoor_day2_data.hdf5")
    with h5py.File(one / "outdoor_day2_gt.hdf5") as file:
        maps, times = file["davis/left/flow_dist"][()], file["davis/left/flow_dist_ts"][()]
    return {"timestamps": times, "x_flow_dist": maps[:, 0], "y_flow_dist": maps[:, 1]}


def test_flow_is_read_from_npz_and_from_what_it_unpacks_to(one: Path, tmp_path: Path) -> None:
    arrays = in_two_parts(one, tmp_path)
    expected = flows(one)
    np.savez(tmp_path / "outdoor_day2_gt_flow_dist.npz", **arrays)
    for found in (flows(tmp_path), pickle.loads(pickle.dumps(flows(tmp_path)))):
        np.testing.assert_array_equal(found, expected)
    (tmp_path / "outdoor_day2_gt_flow_dist.npz").unlink()
    (tmp_path / "outdoor_day2_gt_flow_dist").mkdir()
    for name, array in arrays.items():
        np.save(tmp_path / f"outdoor_day2_gt_flow_dist/{name}.npy", array)
    np.testing.assert_array_equal(flows(tmp_path), expected)


def test_a_ground_truth_without_flow_is_passed_over_for_one_with_it(one: Path, tmp_path: Path) -> None:
    arrays = in_two_parts(one, tmp_path)
    mvsec.write_truth(tmp_path / "outdoor_day2_gt.hdf5", flow=False)
    with pytest.raises(FormatError, match="expected a data set flow_dist of 4 dimensions"):
        flows(tmp_path)
    np.savez(tmp_path / "outdoor_day2_gt_flow_dist.npz", **arrays)
    np.testing.assert_array_equal(flows(tmp_path), flows(one))


def test_an_npz_that_cannot_be_mapped_is_refused(one: Path, tmp_path: Path) -> None:
    arrays = in_two_parts(one, tmp_path)
    file = tmp_path / "outdoor_day2_gt_flow_dist.npz"
    np.savez_compressed(file, **arrays)
    with pytest.raises(FormatError, match=r"unzip outdoor_day2_gt_flow_dist\.npz -d outdoor_day2_gt_flow_dist"):
        flows(tmp_path)
    np.savez(file, timestamps=arrays["timestamps"], x_flow_dist=arrays["x_flow_dist"])
    with pytest.raises(FormatError, match="expected an array y_flow_dist"):
        flows(tmp_path)
    np.savez(file, **{**arrays, "timestamps": arrays["timestamps"][:-1]})
    with pytest.raises(FormatError, match="expected flow of 346x260 pixels for 5 times"):
        flows(tmp_path)
    np.savez(file, **{**arrays, "x_flow_dist": np.array([None])})
    with pytest.raises(FormatError, match="x_flow_dist"):
        flows(tmp_path)
    claim = io.BytesIO()
    np.lib.format.write_array_header_1_0(claim, {"descr": "<f8", "fortran_order": False, "shape": (99, 260, 346)})
    with zipfile.ZipFile(file, "w") as archive:
        for name in arrays:
            archive.writestr(f"{name}.npy", claim.getvalue() + bytes(8))
    with pytest.raises(FormatError, match=r"timestamps: expected numbers by rows, whole, got \(99, "):
        flows(tmp_path)
    np.savez(file, **arrays)
    file.write_bytes(file.read_bytes()[:-4000])
    with pytest.raises(FormatError, match="outdoor_day2_gt_flow_dist"):
        flows(tmp_path)


def test_depth_beside_the_frames_of_another_size_is_refused(one: Path, tmp_path: Path) -> None:
    shutil.copytree(one, tmp_path / "copy")
    with h5py.File(tmp_path / "copy/outdoor_day2_gt.hdf5", "r+") as file:
        depth = file["davis/left/depth_image_raw"][:, :200]
        del file["davis/left/depth_image_raw"]
        file["davis/left/depth_image_raw"] = depth
    (entry,) = open_dataset("mvsec-depth", tmp_path / "copy").entries
    with pytest.raises(FormatError, match=r"depth_image_raw of 346x260 pixels for 3 times, got \(3, 200, 346\)"):
        _ = entry.recording.tracks


def write_long(root: Path) -> None:
    """Write sequences of 7,100 frames, one each millisecond, that are never stored, and three ground truths."""
    root.mkdir(exist_ok=True)
    times = mvsec.seconds([1000 * number for number in range(7100)])
    for seed, sequence in enumerate(dict.fromkeys(name.split("/")[1] for name in COUNTS)):
        x, y, t, p = mvsec.draw(seed, 80_000, mvsec.WIDTH, mvsec.HEIGHT, 7_200_000, mvsec.EPOCH_US)
        with library.File(root / f"{sequence}_data.hdf5", "w") as file:
            camera = file.create_group("davis/left")
            camera["events"] = np.stack([x, y, t / 1e6, 2.0 * p - 1], axis=1)
            camera.create_dataset("image_raw", (len(times), 260, 346), "u1", chunks=(1, 260, 346))
            camera["image_raw_ts"] = times
        with library.File(root / f"{sequence}_gt.hdf5", "w") as file:
            maps = np.ones((3, 2, 260, 346))
            file.create_dataset("davis/left/flow_dist", data=maps, compression="gzip", compression_opts=1)
            file["davis/left/flow_dist_ts"] = mvsec.seconds([-1000, 3_000_000, 7_500_000])


def test_the_split_of_eventpretrain(tmp_path: Path) -> None:
    write_long(tmp_path)
    found = open_dataset("mvsec-flow-dt1", tmp_path, division="eventpretrain")
    tracks = {entry.name: entry.recording.tracks["flow"] for entry in found.entries}
    assert {name: len(track.times) for name, track in tracks.items()} == COUNTS
    frames = {name: ((track.times - mvsec.EPOCH_US) // 1000).tolist() for name, track in tracks.items()}
    assert frames["train/outdoor_day1"] == list(range(245, 2999))
    assert frames["test/indoor_flying2"] == list(range(314, 2198))
    random.seed(0)
    drawn = random.sample(list(range(314, 2198)), 18)
    assert frames["train/indoor_flying1"] == sorted(drawn)
    assert sorted(frames["train/indoor_flying1"] + frames["test/indoor_flying1"]) == list(range(314, 2198))
    # Each sample reaches from its first frame to its last and a window more, so that the two of one sequence differ.
    assert len({entry.fingerprint for entry in found.entries}) == len(found.entries)
    for entry in found.entries:
        times = tracks[entry.name].times
        windows = cut(entry.recording, WindowConfig(by="frames", track="flow"))
        assert len(windows) == len(times)
        assert times[0] - 1000 <= entry.recording.t_range[0] <= times[0]
        assert times[-1] + 1000 <= entry.recording.t_range[1] <= times[-1] + 2000
        assert (windows[0].start, windows[0].stop) == (times[0] + 1, times[0] + 1001)
        assert entry.recording.tracks["frames"].times[0] == times[0] - 1000
    assert not locate("mvsec-flow-dt1", tmp_path, "eventpretrain").found.problems
    longer = open_dataset("mvsec-flow-dt4", tmp_path, division="eventpretrain").entries
    assert {e.name: len(e.recording.tracks["flow"].times) for e in longer}["test/indoor_flying2"] == 1881


def test_a_recording_that_ends_too_early_is_refused(tmp_path: Path) -> None:
    mvsec.write_data(tmp_path / "outdoor_day1_data.hdf5", 0)
    mvsec.write_truth(tmp_path / "outdoor_day1_gt.hdf5")
    found = locate("mvsec-flow-dt1", tmp_path, "eventpretrain").found
    with pytest.raises(FormatError, match="expected frames up to number 2999, got 6; is it cut off"):
        FLOW_DT1.open(tmp_path, found.samples[0], "raise")


def test_real_windows_are_read_as_their_sequence(real_data: Path, tmp_path: Path) -> None:
    """Ten real windows of 32 ms that follow each other, in the layout of the owners, with frames at their ends."""
    tables, frames, times = [], [], []
    for path in sorted((real_data / "pairs/mvsec_windows").glob("*.hdf5")):
        with h5py.File(path) as file:
            tables.append(file["events"][()])
            frames.append(file["image1"][()])
            times.append(float(file["start"][()]))
            last_frame, last_time = file["image2"][()], float(file["stop"][()])
    with h5py.File(tmp_path / "outdoor_day2_data.hdf5", "w") as file:
        camera = file.create_group("davis/left")
        camera["events"] = np.concatenate(tables)
        camera["image_raw"] = np.stack([*frames, last_frame])
        camera["image_raw_ts"] = np.array([*times, last_time])
    with h5py.File(tmp_path / "outdoor_day2_gt.hdf5", "w") as file:
        file["davis/left/flow_dist"] = np.ones((2, 2, 260, 346))
        file["davis/left/flow_dist_ts"] = np.array([times[0], last_time])
    (entry,) = open_dataset("mvsec-flow-dt1", tmp_path).entries
    windows = cut(entry.recording, WindowConfig(by="frames", track="flow"))
    assert len(windows) == len(tables) == 10
    counts = [len(read(entry.recording, window)) for window in windows]
    assert np.abs(np.array(counts) - [len(table) for table in tables]).max() <= 1  # an event at the very end
    assert sum(counts) == pytest.approx(sum(map(len, tables)), abs=1)
    track = entry.recording.tracks["flow"]
    shares = [float(track.read(number)[0, 130, 170]) for number in range(10)]
    assert sum(shares) == pytest.approx(1, abs=1e-4)
