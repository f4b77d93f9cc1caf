"""Settings of a corpus, sensors drawn from them, names of clips, and telling sources apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from eventfm.config import ConfigError
from eventfm.data.clips import CorpusConfig, PixelConfig, draw_sensor, entries_of
from eventfm.data.sources import find_kind
from eventfm.data.table import CollectionError
from eventfm.data.video_clips import frames_entries, video_entries
from eventfm.random import generator
from eventfm.simulation.sensor import SensorConfig
from eventfm.simulation.worlds import SceneConfig


def drawn(pixel: Any, seed: int = 0) -> SensorConfig:
    config = CorpusConfig.parse({"pixel": pixel}).pixel
    return draw_sensor(config, SensorConfig(c_pos=0.31, seed=77), generator(seed))


def test_short_forms() -> None:
    assert CorpusConfig.parse({"pixel": "noisy"}).pixel == PixelConfig(preset="noisy")
    both = CorpusConfig.parse({"pixel": {"preset": "clean", "shot_hz": 2, "c_pos": [0.1, 0.5]}}).pixel
    assert CorpusConfig.parse({"pixel": {"shot_hz": 2}}) == CorpusConfig.parse({"pixel": {"shot_hz": 2.0}})
    # YAML takes 1e5 without a point for text.
    assert CorpusConfig.parse({"pixel": {"max_rate_hz": "1e5", "latency_us": ["1e1", "1e2"]}}).pixel.settings == {
        "max_rate_hz": 1e5,
        "latency_us": [10, 100],
    }
    assert (both.preset, both.settings) == ("clean", {"shot_hz": 2, "c_pos": [0.1, 0.5]})
    assert CorpusConfig.parse({"sensor": [64, 48]}).motion.sensor == (64, 48)


def test_a_config_survives_its_own_text() -> None:
    given = {"sensor": [64, 48], "pixel": {"c_pos": [0.1, 0.2]}, "motion": {"duration_us": 1000}, "tracks": ["frames"]}
    config = CorpusConfig.parse(given)
    assert CorpusConfig.parse(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pixel": "nosy"}, "did you mean 'noisy'"),
        ({"pixel": {"shot": 1}}, "unknown setting 'shot'"),
        ({"pixel": {"seed": 1}}, "unknown setting 'seed'"),
        ({"pixel": {"gamma": "srgb"}}, "unknown setting 'gamma'"),
        ({"pixel": {"c_pos": [0.1, 99]}}, r"expected c_pos in \[0\.01, 16\]"),
        ({"pixel": {"c_pos": [0.5, 0.1]}}, r"range \[low, high\] with 0 <= low <= high"),
        ({"pixel": {"c_pos": [0.5]}}, "expected a value or a range"),
        ({"pixel": {"c_pos": "much"}}, r"expected c_pos in \[0\.01, 16\] .* got 'much'"),
        ({"pixel": {"c_pos": None}}, "expected c_pos in"),
        ({"frames_hz": 3e6}, "less than or equal to 1000000"),
        ({"pixel": {"settings": 3}}, "valid dictionary"),
        ({"pixel": 3}, "valid dictionary"),
        ({"sensor": 64, "motion": {"sensor": [32, 32]}}, "valid tuple"),
        ({"motion": 3, "sensor": [32, 32]}, "valid dictionary"),
        ({"pixel": {"refractory": "hld"}}, "expected refractory to be"),
        ({"sensor": [64, 48], "motion": {"sensor": [32, 32]}}, "differ; give one"),
        ({"sensor": [0, 48]}, "greater than 0"),
        ({"tracks": ["speed"]}, "'frames', 'flow', 'depth' or 'semantic'"),
        ({"num_clips": 0}, "greater than 0"),
        ({"masks": "classes", "tracks": ["frames"]}, r"the track semantic: add it to tracks=\['frames'\]"),
        ({"video": {"fsp": 30}}, "did you mean 'fps'"),
    ],
)
def test_settings_that_cannot_be(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CorpusConfig.parse(values)


def test_sensors_are_drawn() -> None:
    assert drawn({}) == SensorConfig(c_pos=0.31, seed=77)
    assert drawn("noisy") == replace(SensorConfig.preset("noisy"), seed=77)
    assert drawn({"preset": "noisy", "shot_hz": 3.0, "refractory": "drop"}) == replace(
        SensorConfig.preset("noisy"), seed=77, shot_hz=3.0, refractory="drop"
    )
    sensors = [
        drawn({"c_pos": [0.1, 1.0], "refractory_us": [0, 3], "leak_hz": [0, 2], "hot_hz": [1, 2]}, seed)
        for seed in range(300)
    ]
    values = np.array([s.c_pos for s in sensors])
    assert 0.1 <= values.min() < 0.15
    assert 0.8 < values.max() <= 1.0
    assert np.mean(values < 10**-0.5) == pytest.approx(0.5, abs=0.1)  # even in the logarithm
    assert len({s.hot_hz for s in sensors}) == 300
    assert {s.refractory_us for s in sensors} == {0, 1, 2, 3}
    assert np.mean([s.leak_hz for s in sensors]) == pytest.approx(1, abs=0.15)
    assert drawn("random", 1) == drawn("random", 1) != drawn("random", 2)


def test_names_labels_and_splits() -> None:
    config = CorpusConfig(num_clips=2)
    entries = entries_of(["train/cat/a.png", "test/a.png", "dog/b::c.png", "x.png"], config)
    assert [(e.name, e.clip, e.label, e.split) for e in entries[::2]] == [
        ("train__cat__a.png-0", 0, "cat", "train"),
        ("test__a.png-0", 0, "", "test"),
        ("dog__b--c.png-0", 0, "dog", ""),
        ("x.png-0", 0, "", ""),
    ]
    trains = entries_of(["train/train/a.png", "train/a.png"], CorpusConfig())  # a class of VOC and COCO
    assert [(e.label, e.split) for e in trains] == [("train", "train"), ("", "train")]
    assert entries[1] == replace(entries[0], name="train__cat__a.png-1", clip=1)
    assert {e.label for e in entries_of(["cat/a.png"], CorpusConfig(label_by="none"))} == {""}
    with pytest.raises(ValueError, match=r"'a__b\.png' and 'a/b\.png' would both be called"):
        entries_of(["a__b.png", "a/b.png"], config)


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((8, 8), np.uint8))
    return path


def video(path: Path) -> Path:
    iio = pytest.importorskip("imageio.v3", reason="the extra `video` is not installed")

    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.zeros((3, 16, 16, 3), np.uint8) + np.arange(0, 150, 50, dtype=np.uint8)[:, None, None, None]
    iio.imwrite(path.with_suffix(".mp4"), frames, plugin="pyav", codec="libx264", fps=30)
    path.with_suffix(".mp4").rename(path)
    return path


def test_kinds_by_content(tmp_path: Path) -> None:
    def kind(path: Path | str, **settings: Any) -> str:
        return find_kind(str(path), CorpusConfig.parse(settings))

    picture(tmp_path / "pictures" / "a" / "1.png")
    assert kind(tmp_path / "pictures") == "pictures"
    assert kind(tmp_path / "pictures", video={"fps": 30}) == "frames"
    picture(tmp_path / "web" / "1.webp")  # as folders of frames may hold
    assert kind(tmp_path / "web") == "pictures"
    assert kind(tmp_path / "web", video={"fps": 30}) == "frames"
    assert kind(picture(tmp_path / "one.png")) == "pictures"
    (tmp_path / "one.png").rename(tmp_path / "no_suffix")
    assert kind(tmp_path / "no_suffix") == "pictures"
    assert kind(video(tmp_path / "film")) == "video"  # by its bytes, not its name
    video(tmp_path / "videos" / "a.mp4")
    assert kind(tmp_path / "videos") == "video"
    picture(tmp_path / "sequence" / "1.png")
    (tmp_path / "sequence" / "timestamps.txt").write_text("0.1\n")
    assert kind(tmp_path / "sequence") == "frames"
    picture(tmp_path / "sequences" / "s1" / "1.png")
    (tmp_path / "sequences" / "s1" / "images.txt").write_text("0.1 1.png\n")
    assert kind(tmp_path / "sequences") == "frames"
    (tmp_path / "m").write_text('{"corpus": {}}\n')
    assert kind(tmp_path / "m") == "manifest"
    assert kind("video") == "video"  # the name of a kind, where no such file is


def test_what_is_nothing_of_the_kind(tmp_path: Path) -> None:
    config = CorpusConfig()
    with pytest.raises(CollectionError, match=r"no file or folder at .*gone"):
        find_kind(str(tmp_path / "gone"), config)
    with pytest.raises(CollectionError, match="expected pictures, videos or frames"):
        find_kind(str(tmp_path), config)
    (tmp_path / "a.mp4").write_text("words")
    with pytest.raises(CollectionError, match="neither a picture nor a video"):
        find_kind(str(tmp_path / "a.mp4"), config)
    picture(tmp_path / "a.png")
    with pytest.raises(CollectionError, match=r"holds pictures .* and videos .* say kind="):
        find_kind(str(tmp_path), config)


def test_entries_of_video_and_frames(tmp_path: Path) -> None:
    config = CorpusConfig()
    for name in ("v/walk/b10.mp4", "v/walk/b9.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    root, entries = video_entries(str(tmp_path / "v"), config)
    assert root == tmp_path / "v"
    assert [(e.source, e.label) for e in entries] == [("walk/b9.mp4", "walk"), ("walk/b10.mp4", "walk")]
    with pytest.raises(CollectionError, match="expected a video"):
        video_entries(str(tmp_path / "v" / "none"), config)
    for name in ("s10", "s9"):
        picture(tmp_path / "f" / name / "1.png")
        (tmp_path / "f" / name / "images.txt").write_text("0.1 1.png\n")
    assert [e.source for e in frames_entries(str(tmp_path / "f"), config)[1]] == ["s9", "s10"]
    root, (one,) = frames_entries(str(tmp_path / "f" / "s9"), config)
    assert (root / one.source, one.name) == ((tmp_path / "f" / "s9").resolve(), "s9-0")


def test_worlds_are_by_default_those_of_the_simulator() -> None:
    assert CorpusConfig().scene.to_scene((96, 64), 7000) == SceneConfig(size=(96, 64), duration_us=7000)
