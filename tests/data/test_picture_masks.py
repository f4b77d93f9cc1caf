"""Classes of a picture's pixels that move as it does: against its own frames, and back in the samples of a corpus."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from eventfm.data.animate import MotionConfig
from eventfm.data.build import DataConfig, build_samples, open_source
from eventfm.data.clips import CorpusConfig
from eventfm.data.corpus import Corpus, build_corpus
from eventfm.data.loader import evaluation_batches
from eventfm.data.manifest import MANIFEST, read_manifest
from eventfm.data.picture_clips import PICTURE_KIND, film_light, moved_mask
from eventfm.data.pool import run_here
from eventfm.data.table import CollectionError
from eventfm.io import list_recordings, open_recording
from eventfm.random import generator
from eventfm.representations import VoxelGrid
from eventfm.simulation.light import coded
from eventfm.simulation.render import fit

MOTION = MotionConfig(sensor=(40, 30), duration_us=20_000, speed_px_s=(300, 500), pause_probability=0)


def classes(height: int = 90, width: int = 150) -> np.ndarray:
    """Return classes 0 to 5 in fields that are as large as several pixels of the sensor."""
    fields = np.random.default_rng(3).integers(0, 6, (6, 10)).astype(np.uint8)
    return cv2.resize(fields, (width, height), interpolation=cv2.INTER_NEAREST)


def inside(found: np.ndarray) -> np.ndarray:
    """Return where a pixel and all that are beside it have one class."""
    one = np.zeros(found.shape, bool)
    one[1:-1, 1:-1] = (cv2.dilate(found, np.ones((3, 3))) == cv2.erode(found, np.ones((3, 3))))[1:-1, 1:-1]
    return one & (found != 255)


@pytest.mark.parametrize("seed", range(3))
def test_a_mask_moves_as_its_picture_does(seed: int) -> None:
    """The picture is its mask, each class as bright as its number: inside a field the frames say the class."""
    mask = classes()
    light = (mask / 5).astype(np.float32)
    recording, _ = film_light(light, MOTION, generator(seed), frames_hz=200, tracks=("frames", "semantic"), mask=mask)
    frames, moved = recording.tracks["frames"], recording.tracks["semantic"]
    assert moved.times.tolist() == frames.times.tolist() == [0, 5000, 10_000, 15_000, 20_000]
    for i in range(5):
        found, brightness = moved.read(i), frames.read(i) / 65535 * 5
        assert (found.dtype, found.shape) == (np.uint8, (30, 40))
        assert inside(found).mean() > 0.2
        assert np.abs(brightness - found)[inside(found)].max() < 0.2
        # Elsewhere it is one of the two or more that the pixel sees some of: half of it, in the mean.
        assert np.abs(brightness - found)[found != 255].mean() < 0.5
    assert (moved.read(0) != moved.read(4)).mean() > 0.02


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (3, 0), (0, -2), (-4, 5)])
def test_a_shift_by_whole_pixels_shifts_the_mask_and_leaves_nothing_beyond_it(dx: int, dy: int) -> None:
    # As many pixels as the sensor has, so that every one of it looks at one of the picture.
    mask = np.arange(30 * 40).reshape(30, 40).astype(np.uint8) % 250
    plane = fit(np.zeros((30, 40), np.float32) + 0.5, (30, 40))
    expected = np.full((30 + 20, 40 + 20), 255, np.uint8)
    expected[10 + dy : 40 + dy, 10 + dx : 50 + dx] = mask
    got = moved_mask(mask, plane, np.array([[1.0, 0, dx], [0, 1, dy], [0, 0, 1]]))
    np.testing.assert_array_equal(got, expected[10:40, 10:50])


def test_the_middle_of_what_a_pixel_sees_decides() -> None:
    mask = np.arange(9 * 12).reshape(9, 12).astype(np.uint8)
    plane = fit(np.full((9, 12), 0.5, np.float32), (3, 4))
    np.testing.assert_array_equal(moved_mask(mask, plane, np.eye(3)), mask[1::3, 1::3])
    # A wider picture is cut to the sensor about its centre.
    wide = fit(np.full((9, 18), 0.5, np.float32), (3, 4))
    mask = np.arange(9 * 18).reshape(9, 18).astype(np.uint8)
    np.testing.assert_array_equal(moved_mask(mask, wide, np.eye(3)), mask[1::3, 4:16:3])


# In a corpus.

SMALL: dict[str, Any] = {"motion": MOTION.model_dump(), "frames_hz": 200, "shard_clips": 2}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a folder with `pictures` in two splits, and `masks`, the second with a palette."""
    for number, name in enumerate(("train/a", "test/b")):
        for kind in ("pictures", "masks"):
            (tmp_path / kind / name).parent.mkdir(parents=True)
        mask = (classes() + number) % 6
        grey = np.rint(coded(mask / 5) * 255).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "pictures" / f"{name}.{'png' if number else 'jpg'}"), grey)
        picture = Image.fromarray(mask)
        if number:
            picture.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200] * 80)
        picture.save(tmp_path / "masks" / f"{name}.png")
    return tmp_path


def build(folder: Path, out: Path, **settings: Any) -> Corpus:
    config = CorpusConfig.parse({**SMALL, "masks": str(folder / "masks"), **settings})
    root, entries = PICTURE_KIND.entries(str(folder / "pictures"), config)
    return build_corpus(out, "pictures", root, entries, config, run_here)


def test_a_corpus_with_masks_is_learnt_from(pictures: Path, tmp_path: Path) -> None:
    made = build(pictures, tmp_path / "out")
    assert (made.num_clips, made.failed) == (2, {})
    window = {"by": "frame", "track": "semantic", "frame_at": "end", "duration_us": 5000}
    values = {"path": str(tmp_path / "out"), "labels": str(tmp_path / "out" / "labels.csv"), "target": "none"}
    config = DataConfig.parse({**values, "window": window, "split": "test", "holdout": 0})
    source = open_source(config)
    samples = build_samples(source, config, VoxelGrid(1), VoxelGrid(1), (30, 40), wanted=("semantic",), num_classes=6)
    (batch,) = evaluation_batches(samples.training, 10)
    assert source.collection is not None
    tracks = source.collection.entries[0].recording.tracks
    assert sorted(tracks) == ["flow", "frames", "semantic", "valid"]
    for number, got in zip((1, 2, 3, 4), batch["semantic"], strict=True):
        np.testing.assert_array_equal(got, tracks["semantic"].read(number))
        bright, found = tracks["frames"].read(number) / 65535 * 5, tracks["semantic"].read(number)
        assert inside(found).mean() > 0.2
        assert np.abs(bright - found)[inside(found)].max() < 0.2  # the palette's numbers, and not its colours


def test_streets_and_their_classes(tmp_path: Path, real_data: Path) -> None:
    """Two pictures of CamVid: the sky (0) is above the road (3), and brighter, at all times."""
    source = real_data / "images/camvid/val"
    (tmp_path / "pictures").mkdir()
    for file in sorted((source / "images").iterdir())[:2]:
        shutil.copy(file, tmp_path / "pictures")
    config = CorpusConfig.parse({**SMALL, "masks": str(source / "labels")})
    root, entries = PICTURE_KIND.entries(str(tmp_path / "pictures"), config)
    assert build_corpus(tmp_path / "out", "pictures", root, entries, config, run_here).failed == {}
    for name in list_recordings(tmp_path / "out" / "clips-00000.h5"):
        tracks = open_recording(f"{tmp_path / 'out' / 'clips-00000.h5'}::{name}").tracks
        for number in range(5):
            found, frame = tracks["semantic"].read(number), tracks["frames"].read(number)
            sky, road = found == 0, found == 3
            assert min(sky.mean(), road.mean()) > 0.05
            assert np.nonzero(sky)[0].mean() < np.nonzero(road)[0].mean()
            assert frame[sky].mean() > 2 * frame[road].mean()
            assert set(np.unique(found)) <= {*range(12), 255}


def test_names_beside_the_masks_stay_with_the_track(pictures: Path, tmp_path: Path) -> None:
    names = ("road", "sky", "tree", "lamp post", "car", "wall")
    build(pictures, tmp_path / "without")
    (pictures / "masks" / "classes.txt").write_text("\n".join(names) + "\n")
    build(pictures, tmp_path / "named")
    for folder, expected in (("without", ()), ("named", names)):
        for path in (tmp_path / folder).glob("*.h5"):
            for name in list_recordings(path):
                tracks: Any = open_recording(f"{path}::{name}").tracks
                assert tracks["semantic"].classes == expected
                assert tracks["frames"].classes == ()


def test_masks_change_nothing_else_and_may_be_left_out(pictures: Path, tmp_path: Path) -> None:
    build(pictures, tmp_path / "with")
    build(pictures, tmp_path / "without", masks=None)
    for name in list_recordings(tmp_path / "with" / "clips-00000.h5"):
        both = [open_recording(f"{tmp_path / folder / 'clips-00000.h5'}::{name}") for folder in ("with", "without")]
        one, other = (r.events_by_index(0, r.num_events).to_structured() for r in both)
        np.testing.assert_array_equal(one, other)
        assert both[0].tracks.keys() - both[1].tracks.keys() == {"semantic"}


def test_a_manifest_knows_the_masks(pictures: Path, tmp_path: Path) -> None:
    build(pictures, tmp_path / "out")
    header, config, entries = read_manifest(tmp_path / "out" / MANIFEST)
    again = build_corpus(tmp_path / "again", header.kind, Path(header.root), entries, config, run_here)
    assert again.failed == {}
    for file in (tmp_path / "out").glob("*.h5"):
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()
    Image.fromarray(classes()[::-1].copy()).save(pictures / "masks" / "train" / "a.png")
    made = build_corpus(tmp_path / "other", header.kind, Path(header.root), entries, config, run_here)
    assert list(made.failed) == ["train__a.jpg-0"]
    assert "another picture, or has another mask, than the manifest says" in made.failed["train__a.jpg-0"]


def test_a_picture_without_a_mask_is_told_before_the_work(pictures: Path, tmp_path: Path) -> None:
    (pictures / "masks" / "train" / "a.png").unlink()
    with pytest.raises(CollectionError, match=r"1 of 2 pictures have no mask: .* train/a\.jpg at .*a\.png"):
        build(pictures, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.zeros((90, 150, 3), np.uint8), r"one class a pixel, .* got uint8 of shape \(90, 150, 3\)"),
        (np.full((90, 150), 300, np.uint16), "got uint16 .* to 300"),
        (np.zeros((90, 140), np.uint8), "as large as its picture, 150x90 pixels, got 140x90 in"),
        (None, "cannot be read as a mask"),
    ],
)
def test_masks_that_are_none(pictures: Path, tmp_path: Path, mask: np.ndarray | None, said: str) -> None:
    file = pictures / "masks" / "train" / "a.png"
    if mask is None:
        file.write_text("words")
    else:
        cv2.imwrite(str(file), mask)
    made = build(pictures, tmp_path / "out")
    assert list(made.failed) == ["train__a.jpg-0"]
    assert re.search(said, made.failed["train__a.jpg-0"])
