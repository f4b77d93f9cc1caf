from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from eventfm.data.animate import MotionConfig
from eventfm.data.build import DataConfig, open_source, scenes_of
from eventfm.data.collection import CollectionError, Entry, open_collection
from eventfm.data.corpus import Subject, film
from eventfm.data.pictures import decode, picture_key, resized
from eventfm.data.problems import UnreadableError
from eventfm.data.scenes import Frame, Scenes, Still, as_shown, holds_light
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack, convert, save_recordings
from eventfm.simulation.light import coded


def picture(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), values if values.ndim == 2 else values[..., ::-1])
    return path


def recording(frames: np.ndarray | None = None, seed: int = 0, side: int = 16) -> ArrayRecording:
    rng = np.random.default_rng(seed)
    x, y, p = rng.integers(0, side, 50), rng.integers(0, side, 50), rng.integers(0, 2, 50)
    events = Events.checked(x, y, np.sort(rng.integers(0, 1000, 50)), p, Sensor(side, side))
    tracks = {} if frames is None else {"frames": ArrayTrack(np.arange(len(frames)) * 100, frames)}
    return ArrayRecording(events, tracks)


def scenes(**values: object) -> Scenes:
    config = DataConfig.parse(values)
    return scenes_of(open_source(config), config)


def test_stills_are_shown_whole_in_colour(tmp_path: Path) -> None:
    values = np.zeros((20, 40, 3), np.uint8)
    values[:10, :, 0], values[:, 20:, 2] = 255, 102
    shown = Still(picture(tmp_path / "a.png", values)).read((4, 4))
    expected = np.zeros((3, 4, 4))
    expected[0, :2], expected[2, :, 2:] = 1, 0.4
    np.testing.assert_allclose(shown, expected, atol=1e-6)
    assert shown.dtype == np.float32
    deep = Still(picture(tmp_path / "b.png", np.full((5, 6), 13107, np.uint16))).read((3, 3))
    np.testing.assert_allclose(deep, np.full((3, 3, 3), 0.2), atol=1e-4)


@pytest.mark.parametrize(
    ("size", "field", "kept"), [((20, 40), (16, 16), (0, 10, 20, 30)), ((41, 20), (8, 16), (15, 0, 25, 20))]
)
def test_a_field_is_the_largest_centred_part_of_its_shape(
    size: tuple[int, int], field: tuple[int, int], kept: tuple[int, int, int, int]
) -> None:
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    for values, side in ((x / 64, "x"), (y / 64, "y")):
        shown = resized(values, (10, 10), field)[0]
        top, left, bottom, right = kept
        low, high = (left, right) if side == "x" else (top, bottom)
        along = shown.mean(0) if side == "x" else shown.mean(1)
        middles = (low + (np.arange(10) + 0.5) / 10 * (high - low) - 0.5) / 64
        np.testing.assert_allclose(along, middles, atol=0.6 / 64)


def test_keys_tell_the_content(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (8, 8)).astype(np.uint8)
    one, other = picture(tmp_path / "a.png", values), picture(tmp_path / "b/c.png", values)
    key = picture_key(one)
    assert key == picture_key(other)
    assert len(key) == 16
    picture(one, values + 1)
    assert picture_key(one) != key
    with pytest.raises(UnreadableError, match="No such file"):
        picture_key(tmp_path / "none.png")


def test_pictures_to_animate(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [picture(tmp_path / f"{n}.png", rng.integers(0, 256, (8, 16)).astype(np.uint8)) for n in range(3)]
    found = scenes(images=str(tmp_path), motion={"sensor": [32, 24]})
    assert (len(found), found.field) == (3, (32, 24))
    assert [found.name(i) for i in range(3)] == [str(path) for path in paths]
    assert [found.key(i) for i in range(3)] == [picture_key(path) for path in paths]
    np.testing.assert_array_equal(found.read(1, (6, 7)), resized(decode(paths[1]), (6, 7), (24, 32)))
    paths[2].write_bytes(b"none")
    with pytest.raises(UnreadableError, match=r"2\.png cannot be read as a picture"):
        found.read(2, (6, 7))


def test_every_frame_of_recordings_and_every_still_once(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    store = save_recordings(tmp_path / "s.h5", {"a": recording(frames), "b": recording(frames[:1], 1)})
    found = scenes(path=str(store))
    assert [found.name(i) for i in range(len(found))] == [
        f"::{n}, frame {i}" for n, i in (("a", 0), ("a", 1), ("a", 2), ("b", 0))
    ]
    prints = [entry.fingerprint for entry in open_collection(store).entries]
    assert [found.key(i) for i in range(4)] == [f"{prints[0]}#0", f"{prints[0]}#1", f"{prints[0]}#2", f"{prints[1]}#0"]
    np.testing.assert_allclose(found.read(1, (16, 16)), np.moveaxis(frames[1] / 255, 2, 0), atol=1e-6)
    stills = tmp_path / "stills"
    picture(stills / "x.png", frames[0])
    (tmp_path / "t.csv").write_text("path,picture\na,x.png\nb,x.png\n")
    shared = scenes(path=str(store), labels=str(tmp_path / "t.csv"), images=str(stills))
    assert [shared.key(i) for i in range(len(shared))] == [picture_key(stills / "x.png")]


def test_recordings_that_show_nothing(tmp_path: Path) -> None:
    store = save_recordings(tmp_path / "s.h5", {"a": recording(), "b": recording(seed=1)})
    with pytest.raises(CollectionError, match=r"2 of 2 recordings have neither frames nor a still, e\.g\. '::a'; give"):
        scenes(path=str(store))


def test_simulated_frames_are_light_and_are_shown_coded(tmp_path: Path) -> None:
    """Through the store, and through a conversion of it; frames of cameras are coded already, however many bits."""
    light = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    motion = MotionConfig(sensor=(16, 16), duration_us=10_000)
    store, _ = film(tmp_path / "corpus", [Subject("a", light, "x")], motion, 0)
    entry = open_collection(store).entries[0]
    copy = convert(f"{store}::a", tmp_path / "copy.h5")
    for one in (entry, open_collection(copy).entries[0]):
        stored = one.recording.tracks["frames"].read(0)
        assert stored.dtype == np.uint16
        shown = Frame(one, 0).read((16, 16))
        np.testing.assert_allclose(shown, np.broadcast_to(coded(stored / 65535), (3, 16, 16)), atol=1e-5)
        assert holds_light(one.recording)
    camera = recording(np.full((1, 16, 16), 13107, np.uint16))
    assert not holds_light(camera)
    np.testing.assert_allclose(Frame(Entry("c", camera), 0).read((4, 4)), 0.2, atol=1e-4)


def test_frames_of_any_kind() -> None:
    grey = np.full((2, 2), 51, np.uint8)
    for frame in (grey, grey[..., None], np.stack([grey] * 4, 2)):
        np.testing.assert_allclose(resized(as_shown(frame, True), (3, 3)), 0.2, atol=1e-6)
    np.testing.assert_allclose(resized(as_shown(np.full((2, 2, 3), 0.5, np.float32), True), (3, 3)), 0.5)


def test_a_real_recording_with_frames(real_data: Path) -> None:
    found = scenes(path=str(real_data / "pairs" / "davis346_street.aedat4"))
    assert (len(found), found.field) == (4, (346, 260))
    shown = found.read(2, (64, 80))
    assert shown.shape == (3, 64, 80)
    assert 0 <= shown.min() < shown.max() <= 1
    assert len({found.key(i) for i in range(4)}) == 4
