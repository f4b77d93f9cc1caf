"""Samples for distillation: a window at each frame, its frame for the teacher, and how active its patches are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from eventfm.data.build import DataConfig, Samples, TeacherInput, build_samples, open_source
from eventfm.data.loader import Loader, evaluation_batches
from eventfm.data.table import CollectionError
from eventfm.data.windows import WindowError, read
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack, save_recordings
from eventfm.representations import EventVolume, VoxelGrid

SHOWN = TeacherInput((8, 8))


def recording(seed: int) -> ArrayRecording:
    """Return events all over the left half, ever faster, and frames whose grey is their number."""
    rng = np.random.default_rng(seed)
    t = np.sort((100_000 * np.sqrt(rng.random(4000))).astype(np.int64))
    x, y = rng.integers(0, 16, 4000), rng.integers(0, 32, 4000)
    frames = np.stack([np.full((32, 32), 20 * n, np.uint8) for n in range(10)])
    events = Events.checked(x, y, t, x % 2, Sensor(32, 32))
    return ArrayRecording(events, {"frames": ArrayTrack(10_000 * np.arange(10), frames)})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "a.h5"
    return save_recordings(path, {f"r{seed}": recording(seed) for seed in range(2)})


def built(path: Path | None, **values: object) -> Samples:
    window = {"by": "frame", "length": "adaptive", "active_threshold": 8, "max_us": 30_000}
    given = {"window": window, "target": "none", "holdout": 0, **({"path": str(path)} if path else {}), **values}
    config = DataConfig.parse(given)
    return build_samples(open_source(config), config, EventVolume(), VoxelGrid(1), (32, 32), SHOWN, 8)


def test_a_sample_has_the_frame_at_its_start_and_the_activity_of_its_own_window(store: Path) -> None:
    samples = built(store)
    assert samples.target == "none"
    # Each recording has 10 frames, of which the last two have too little after them.
    assert len(samples.training) == 2 * 8
    (batch,) = evaluation_batches(samples.training, 16)
    assert set(batch) == {"input", "activity", "teacher_picture", "view", "key", "index"}
    assert batch["activity"].shape == (16, 4, 4)
    for n in range(16):
        assert round(255 * float(batch["teacher_picture"][n].mean())) == 20 * (n % 8)
        entry, window = samples.training.entry(n), samples.training.windows[n][1]
        events = read(entry.recording, window)
        counts = np.histogram2d(events.y, events.x, bins=(range(0, 33, 8), range(0, 33, 8)))[0]
        np.testing.assert_allclose(batch["activity"][n], counts * 256 / 64)
        assert not batch["activity"][n, :, 2:].any()
    lengths = [read(samples.training.entry(n).recording, samples.training.windows[n][1]).window for n in range(8)]
    spans = [stop - start for start, stop in lengths]
    assert spans[0] > 3 * spans[-1]  # the later, the faster
    assert samples.window.by == "time"
    read_all = [read(samples.training.entry(n).recording, samples.training.windows[n][1]).window for n in range(16)]
    assert samples.window.duration_us == int(np.median([stop - start for start, stop in read_all]))


def test_windows_at_frames_keep_out_of_what_is_held_out(store: Path) -> None:
    # Frames are 10 ms apart and windows may be 30 ms long: those that reach into what is held out are in neither part.
    samples = built(store, holdout=0.2)
    for number in range(2):
        training, held = (
            [window for n, window in part.windows if n == number] for part in (samples.training, samples.held_out)
        )
        assert [window.frames[0] for window in training] == [0, 1, 2, 3]
        assert [window.frames[0] for window in held] == [6, 7]
        assert max(window.stop for window in training) <= min(window.start for window in held)


def test_backwards_in_time_a_window_still_has_its_own_frame(store: Path) -> None:
    samples = built(store, augment={"crop_min": 1, "flip": 0, "time_flip": 1.0, "erase": 0, "add": 0})
    batch = next(Loader(samples.training, 16, seed=0)(0))
    for index, picture in zip(batch["index"].tolist(), batch["teacher_picture"], strict=True):
        assert round(255 * float(picture.mean())) == 20 * (index % 8)


def test_crops_and_flips_move_activity_with_the_events(store: Path) -> None:
    samples = built(store, augment={"crop_min": 1, "flip": 1.0, "erase": 0, "add": 0})
    batch = next(Loader(samples.training, 8, seed=0)(0))
    assert not batch["activity"][:, :, :2].any()
    assert batch["activity"][:, :, 2:].any()
    np.testing.assert_array_equal(batch["view"][:, 4], 1)


def test_animated_pictures_have_activity_and_no_target(tmp_path: Path) -> None:
    for n in range(3):
        picture = np.random.default_rng(n).integers(0, 256, (8, 8)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{n}.png"), cv2.resize(picture, (48, 48)))
    samples = built(None, images=str(tmp_path), motion={"sensor": [32, 32]})
    (batch,) = evaluation_batches(samples.training, 3)
    assert "target" not in batch
    assert batch["activity"].shape == (3, 4, 4)
    assert (batch["activity"].flatten(1).mean(1) > 0).all()


def test_a_target_between_frames_cannot_be_had_from_a_window_at_one(store: Path) -> None:
    with pytest.raises(WindowError, match=r"windows between frames, got data\.window\.by=frame"):
        built(store, target="frames")


def test_ef_imagenet_has_no_counts(tmp_path: Path) -> None:
    from ef_imagenet_files import write_set

    root = write_set(tmp_path / "ef")
    config = DataConfig.parse({"path": str(root), "target": "none"})
    with pytest.raises(CollectionError, match=r"method\.mask\.by=none"):
        build_samples(open_source(config), config, VoxelGrid(5), VoxelGrid(1), (32, 32), SHOWN, 8)
