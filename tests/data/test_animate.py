from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from eventfm.config import ConfigError
from eventfm.data.animate import AnimatedPictures, MotionConfig, find_pictures, random_clip, read_picture
from eventfm.data.collection import CollectionError
from eventfm.data.loader import Loader
from eventfm.data.transforms import AugmentConfig
from eventfm.events import Sensor
from eventfm.random import generator
from eventfm.representations import VoxelGrid
from eventfm.simulation import linear

MOTION = MotionConfig(sensor=(32, 32), duration_us=20_000, speed_px_s=(200.0, 400.0), pause_probability=0.0)
SENSOR = Sensor(32, 32)


def blocks(path: Path, seed: int = 0) -> Path:
    """Write a picture of random grey blocks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = np.random.default_rng(seed).integers(0, 256, (8, 8)).astype(np.uint8)
    cv2.imwrite(str(path), grey.repeat(8, 0).repeat(8, 1))
    return path


def animated(pictures: tuple[Path, ...], augment: AugmentConfig | None = None) -> AnimatedPictures:
    return AnimatedPictures(pictures, MOTION, SENSOR, VoxelGrid(3), (32, 32), augment or AugmentConfig())


def filled(samples: AnimatedPictures, index: int, rng: np.random.Generator | None) -> dict[str, np.ndarray]:
    out = {name: np.full(shape, np.nan, np.float32) for name, shape in samples.shapes.items()}
    samples.fill(index, rng, out)
    return out


def test_target_is_the_difference_of_the_clips_ends(tmp_path: Path) -> None:
    path = blocks(tmp_path / "a.png")
    out = filled(animated((path,)), 0, None)
    clip = random_clip(read_picture(path), MOTION, SENSOR, generator(0, "evaluation", 0))
    np.testing.assert_array_equal(out["target"][0], clip.last - clip.first)
    # The same edges, with the same sign, in the events: where light came there are ON events.
    events, target = out["input"].sum(0), out["target"][0]
    strong = np.abs(target) > 0.2
    assert strong.sum() > 20
    assert (np.sign(events[strong]) == np.sign(target[strong])).mean() > 0.95


def test_evaluation_is_the_same_clip_every_time_and_training_a_new_one(tmp_path: Path) -> None:
    samples = animated((blocks(tmp_path / "a.png"), blocks(tmp_path / "b.png")))
    first, second = filled(samples, 0, None), filled(samples, 0, None)
    np.testing.assert_array_equal(first["input"], second["input"])
    assert not np.array_equal(first["input"], filled(samples, 1, None)["input"])
    draws = [filled(samples, 0, generator(seed))["target"] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


@pytest.mark.parametrize("flip", [(1.0, 0.0), (0.0, 1.0)])
def test_one_geometry_for_events_and_target(tmp_path: Path, flip: tuple[float, float]) -> None:
    path = blocks(tmp_path / "a.png")
    none = {"crop_min": 1.0, "erase": 0.0, "add": 0.0}
    plain = filled(animated((path,), AugmentConfig(flip=0, time_flip=0, **none)), 0, generator(4))
    moved = filled(animated((path,), AugmentConfig(flip=flip[0], time_flip=flip[1], **none)), 0, generator(4))
    for name in ("input", "target"):
        expected = plain[name][..., ::-1] if flip[0] else -plain[name][::-1]
        np.testing.assert_allclose(moved[name], expected, atol=1e-4)


def test_speed_and_threshold_are_drawn_from_their_ranges(tmp_path: Path) -> None:
    light = read_picture(blocks(tmp_path / "a.png"))
    slow = MOTION.model_copy(update={"speed_px_s": (5.0, 5.0)})
    blunt = MOTION.model_copy(update={"threshold": (1.5, 1.5)})
    counts = [
        np.mean([len(random_clip(light, motion, SENSOR, generator(seed)).events) for seed in range(5)])
        for motion in (MOTION, slow, blunt)
    ]
    assert counts[0] > 3 * counts[1]
    assert counts[0] > 2 * counts[2]


def test_threads_draw_the_same_clips(tmp_path: Path) -> None:
    samples = animated(tuple(blocks(tmp_path / f"{i}.png", i) for i in range(5)))

    def batches(workers: int) -> list[dict]:
        stream = Loader(samples, 4, seed=0, num_workers=workers)(0)
        found = list(islice(stream, 3))
        stream.close()
        return found

    for expected, got in zip(batches(0), batches(2), strict=True):
        assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_pictures_are_found_in_order_of_name(tmp_path: Path) -> None:
    paths = [blocks(tmp_path / name) for name in ("a/2.png", "a/3.JPG", "b.bmp")]
    (tmp_path / "a" / "words.txt").write_text("no picture")
    assert find_pictures(tmp_path) == paths
    (tmp_path / "none").mkdir()
    with pytest.raises(CollectionError, match="found none"):
        find_pictures(tmp_path / "none")


def test_a_picture_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("words")
    with pytest.raises(CollectionError, match=r"a\.png cannot be read as a picture"):
        read_picture(tmp_path / "a.png")


def test_a_jpeg_without_its_end_is_refused(tmp_path: Path) -> None:
    whole = tmp_path / "a.jpg"
    cv2.imwrite(str(whole), np.arange(64 * 64, dtype=np.uint16).reshape(64, 64).astype(np.uint8))
    data = whole.read_bytes()
    # A thumbnail in the head, which ends as pictures do; and something behind the picture, as phones write.
    head = b"\xff\xe1" + (4 + len(data[:400])).to_bytes(2, "big") + data[:400] + b"\xff\xd9"
    (tmp_path / "thumbnail.jpg").write_bytes(data[:2] + head + data[2:] + b"\xff\xda and a film")
    np.testing.assert_array_equal(read_picture(tmp_path / "thumbnail.jpg"), read_picture(whole))
    for cut in (data[: len(data) // 2], data[:2] + head + data[2 : len(data) // 2], data[:-2], data[:3]):
        (tmp_path / "cut.jpg").write_bytes(cut)
        read_picture.cache_clear()
        with pytest.raises(CollectionError, match=r"cut\.jpg cannot be read as a picture, or is cut off"):
            read_picture(tmp_path / "cut.jpg")


def test_pictures_keep_their_sixteen_bits(tmp_path: Path) -> None:
    picture = np.arange(900, dtype=np.uint16).reshape(30, 30)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    np.testing.assert_allclose(read_picture(tmp_path / "a.png"), linear(picture), atol=1e-7)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sensor": [0, 32]}, "greater than 0"),
        ({"duration_us": 0}, "greater than 0"),
        ({"speed_px_s": [0, 1]}, "greater than 0"),
        ({"speed_px_s": [500, 20]}, "expected speed_px_s as .low, high."),
        ({"threshold": [0.5, 0.1]}, "expected threshold as .low, high."),
        ({"threshold": [0.01, 0.5]}, "expected threshold from 0.0143 to 11.4"),
        ({"threshold": [0.1, 12]}, "expected threshold from 0.0143 to 11.4"),
        ({"sigma": -1}, "greater than or equal to 0"),
    ],
)
def test_motion_that_cannot_be(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MotionConfig.parse(values)
