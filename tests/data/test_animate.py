from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from eventfm.config import ConfigError
from eventfm.data.animate import AnimatedPictures, MotionConfig, find_pictures, random_clip, read_picture
from eventfm.data.collection import CollectionError
from eventfm.data.loader import Loader
from eventfm.data.scenes import TeacherInput
from eventfm.data.transforms import AugmentConfig, draw
from eventfm.events import Sensor
from eventfm.random import generator
from eventfm.representations import VoxelGrid
from eventfm.simulation import linear
from eventfm.simulation.paths import Affine
from eventfm.simulation.render import fit, view
from eventfm.simulation.sensor import SensorConfig
from eventfm.simulation.supervision import shoot

MOTION = MotionConfig(sensor=(32, 32), duration_us=20_000, speed_px_s=(200.0, 400.0), pause_probability=0.0)
SENSOR = Sensor(32, 32)


def blocks(path: Path, seed: int = 0) -> Path:
    """Write a picture of random grey blocks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = np.random.default_rng(seed).integers(0, 256, (8, 8)).astype(np.uint8)
    cv2.imwrite(str(path), grey.repeat(8, 0).repeat(8, 1))
    return path


def animated(
    pictures: tuple[Path, ...],
    augment: AugmentConfig | None = None,
    teacher: TeacherInput | None = None,
    **more: Any,
) -> AnimatedPictures:
    values = {"motion": MOTION, "sensor": SENSOR, **more}
    return AnimatedPictures(
        pictures,
        representation=VoxelGrid(3),
        image_size=(32, 32),
        augment=augment or AugmentConfig(),
        teacher=teacher,
        **values,
    )


def filled(samples: AnimatedPictures, index: int, rng: np.random.Generator | None) -> dict[str, np.ndarray]:
    out = {name: np.full(shape, np.nan, np.float32) for name, shape in samples.shapes.items()}
    samples.fill(index, rng, out)
    return out


def test_target_is_the_difference_of_the_clips_ends(tmp_path: Path) -> None:
    path = blocks(tmp_path / "a.png")
    out = filled(animated((path,)), 0, None)
    clip, _ = random_clip(read_picture(path), MOTION, SENSOR, generator(0, "evaluation", 0))
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


def spot(path: Path, size: tuple[int, int], at: tuple[float, float]) -> Path:
    """Write a dark picture of `size` (h, w) with a red spot at `at` (x, y), edges of pixels being whole numbers."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    picture = np.full((*size, 3), 40.0)
    picture[..., 2] += 200 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * 4.0**2))
    cv2.imwrite(str(path), picture.round().astype(np.uint8))
    return path


def centre(picture: np.ndarray) -> np.ndarray:
    """Return where the light above the ground is, (x, y), in pixels from the outer corner."""
    light = np.clip(picture - (np.median(picture) + 0.2 * np.ptp(picture)), 0, None)
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    return np.array([(light * x).sum(), (light * y).sum()]) / light.sum()


def shown(picture: np.ndarray, view: np.ndarray, size: int) -> np.ndarray:
    """Return the part of a picture (h, w) that a view shows, (size, size), by the definition of `view`."""
    left, top, right, bottom, flip = view
    place = (np.arange(size) + 0.5) / size
    x = (left + (right - left) * (1 - place if flip else place)) * picture.shape[1] - 0.5
    y = (top + (bottom - top) * place) * picture.shape[0] - 0.5
    x, y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@pytest.mark.parametrize(
    ("motion", "around"), [({"kind": "planar"}, 3), ({"kind": "saccades", "speed_px_s": (1500.0, 1500.0)}, 7)]
)
@pytest.mark.parametrize(
    ("size", "at"), [((64, 64), (36.0, 30.0)), ((72, 131), (70.0, 33.0)), ((130, 50), (22.0, 70.0))]
)
def test_a_spot_is_in_one_place_of_the_crop_for_the_teacher_and_for_the_sensor(
    tmp_path: Path, motion: dict[str, Any], around: float, size: tuple[int, int], at: tuple[float, float]
) -> None:
    """At the middle of the clip, with crops, flips and pictures of any shape; without the motion it would be off."""
    path = spot(tmp_path / "spot.png", size, at)
    sensor = Sensor(48, 40)
    config = MOTION.model_copy(update={"sensor": (48, 40), **motion})
    augment = AugmentConfig(crop_min=0.8, flip=0.5, time_flip=0.5, erase=0, add=0)
    samples = animated((path,), augment, TeacherInput((80, 96)), motion=config, sensor=sensor)
    light = read_picture(path)
    drift = []
    for seed in range(12):
        out = filled(samples, 0, generator(seed))
        # The same draws again, to see the sensor's picture at the middle.
        rng = generator(seed)
        _, motion_path = random_clip(light, config, sensor, rng)
        geometry = draw(sensor, (32, 32), augment, rng)
        halfway = motion_path.at(config.duration_us / 2)
        seen = geometry.picture(view(fit(light, (40, 48), enlarge=True), halfway))
        red, green, blue = out["teacher_picture"]
        assert red.max() > 2 * green.max()
        assert np.ptp(green) < 0.02
        assert np.ptp(blue) < 0.02
        found = centre(shown(red, out["view"], 32))
        assert np.abs(found - centre(seen)).max() < 0.6
        # Events surround the spot that moves.
        assert np.abs(found - centre(np.abs(out["input"]).sum(0))).max() < around
        still = geometry.view(sensor)
        drift.append(np.abs(centre(shown(red, still, 32)) - centre(seen)).max())
    assert max(drift) > 1


def test_a_teacher_is_shown_the_field_at_rest(tmp_path: Path) -> None:
    """What the simulator itself renders without motion, coded and in colour; on a picture of another shape."""
    rng = np.random.default_rng(0)
    blurred = cv2.GaussianBlur(rng.integers(0, 256, (90, 130, 3)).astype(np.uint8), (0, 0), 4)
    cv2.imwrite(str(tmp_path / "a.png"), blurred)
    scene = animated((tmp_path / "a.png",)).scene(0)
    assert scene.field == (32, 32)
    at_rest = shoot(blurred[..., ::-1], Affine(), (32, 32), SensorConfig(), enlarge=True).anchor
    np.testing.assert_allclose(scene.read((32, 32)), np.moveaxis(at_rest / 255, 2, 0), atol=0.04)
    live = animated((tmp_path / "a.png",), teacher=TeacherInput((20, 28)))
    np.testing.assert_array_equal(filled(live, 0, None)["teacher_picture"], scene.read((20, 28)))


def test_a_view_without_a_draw_is_the_whole_field_moved(tmp_path: Path) -> None:
    samples = animated((blocks(tmp_path / "a.png"),), teacher=TeacherInput((8, 8)))
    left, top, right, bottom, flip = filled(samples, 0, None)["view"]
    assert flip == 0
    assert abs(right - left - 1) < 0.1
    assert abs(bottom - top - 1) < 0.1


def test_pictures_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    good = [blocks(tmp_path / f"good{number}.png", number) for number in range(2)]
    bad, gone = tmp_path / "bad.png", tmp_path / "gone.png"
    bad.write_text("no picture")
    samples = animated((good[0], bad, gone, good[1]))
    batches = list(islice(Loader(samples, 4, seed=0, num_workers=2)(0), 3))
    assert samples.problems.keys() == {str(bad), str(gone)}
    again = animated((good[0], bad, gone, good[1]))
    for number in (2, 0, 1):
        (batch,) = islice(Loader(again, 4, seed=0)(number), 1)
        assert all(torch.equal(batch[name], batches[number][name]) for name in batch)
    alone = animated((good[1],))
    taken = filled(samples, 1, generator(3))
    np.testing.assert_array_equal(taken["input"], filled(alone, 0, generator(3))["input"])
    with pytest.raises(CollectionError, match=r"none of the 2 samples can be read, e\.g\. .*gone\.png"):
        filled(animated((bad, gone)), 0, None)


def test_the_difference_of_logarithms(tmp_path: Path) -> None:
    path = blocks(tmp_path / "a.png")
    clip, _ = random_clip(read_picture(path), MOTION, SENSOR, generator(0, "evaluation", 0))
    log = filled(animated((path,), difference="log"), 0, None)["target"][0]
    expected = np.log((clip.last + 1 / 255) / (clip.first + 1 / 255))
    np.testing.assert_allclose(log, expected, atol=1e-5)
    assert np.abs(log).max() > 1


def test_speed_and_threshold_are_drawn_from_their_ranges(tmp_path: Path) -> None:
    light = read_picture(blocks(tmp_path / "a.png"))
    slow = MOTION.model_copy(update={"speed_px_s": (5.0, 5.0)})
    blunt = MOTION.model_copy(update={"threshold": (1.5, 1.5)})
    counts = [
        np.mean([len(random_clip(light, motion, SENSOR, generator(seed))[0].events) for seed in range(5)])
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
