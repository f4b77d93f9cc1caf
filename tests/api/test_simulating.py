"""The verb `simulate`: from pictures and video on disk to recordings that train, here and on the command line."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import eventfm
from eventfm import cli
from eventfm.config import ConfigError
from eventfm.data.table import CollectionError
from eventfm.io import list_recordings, open_recording
from eventfm.registry import MissingExtraError, UnknownNameError

iio = pytest.importorskip("imageio.v3", reason="the extra `video` is not installed")
HERE: dict[str, Any] = {"workers": 0, "quiet": True}
SMALL: dict[str, Any] = {"sensor": (32, 32), "motion.duration_us": 20_000}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for number in range(4):
        blocks = np.random.default_rng(number).integers(0, 256, (8, 8, 3)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "pictures" / f"{number}.png"), cv2.resize(blocks, (96, 80)))
    return tmp_path / "pictures"


def film(path: Path, speed: float = 1.0, count: int = 12, fps: int = 60) -> Path:
    """Write a video of a texture that moves to the left by `speed` px/frame, (48, 64)."""
    texture = np.random.default_rng(1).integers(0, 256, (8, 40)).astype(np.uint8)
    wide = cv2.resize(texture, (320, 48), interpolation=cv2.INTER_CUBIC)
    frames = [
        cv2.warpAffine(wide, np.float32([[1, 0, -speed * n], [0, 1, 0]]), (64, 48), flags=cv2.INTER_LINEAR)
        for n in range(count)
    ]
    iio.imwrite(path, np.stack(frames)[..., None].repeat(3, -1), plugin="pyav", codec="libx264", fps=fps)
    return path


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["eventfm", "simulate", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_a_folder_of_pictures_trains(pictures: Path, tmp_path: Path, run: Any) -> None:
    made = eventfm.simulate_corpus(pictures, tmp_path / "out", num_clips=3, **SMALL, **HERE)
    assert (made.num_clips, made.failed) == (12, {})
    result = run(tmp_path / "out", tmp_path / "run", **{"train.num_steps": 2, "data.window.by": "frames"})
    assert (result.encoder / "encoder.safetensors").is_file()


def test_masks_move_with_their_pictures(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "masks").mkdir()
    for number in range(4):
        cv2.imwrite(str(tmp_path / "masks" / f"{number}.png"), np.full((80, 96), number, np.uint8))
    settings = ("sensor=[32,32]", "motion.duration_us=20000", "frames_hz=100", "shard_clips=4", "workers=0")
    assert call(monkeypatch, pictures, tmp_path / "out", f"masks={tmp_path / 'masks'}", *settings) == 0
    store = tmp_path / "out" / "clips-00000.h5"
    for number, name in enumerate(list_recordings(store)):
        semantic = open_recording(f"{store}::{name}").tracks["semantic"]
        assert semantic.times.tolist() == [0, 10_000, 20_000]
        assert all(set(np.unique(semantic.read(i))) <= {number, 255} for i in range(3))
    with pytest.raises(ConfigError, match="masks= belongs to pictures, and the source is of the kind scenes"):
        eventfm.simulate_corpus("scenes", tmp_path / "other", masks=str(tmp_path / "masks"), **HERE)
    assert not (tmp_path / "other").exists()


def test_one_picture(pictures: Path, tmp_path: Path) -> None:
    made = eventfm.simulate_corpus(pictures / "2.png", tmp_path / "out", **SMALL, **HERE)
    assert made.num_clips == 1
    assert list_recordings(tmp_path / "out" / "clips-00000.h5") == ["2.png-0"]


def test_a_video(tmp_path: Path) -> None:
    video = film(tmp_path / "walk.mp4")
    made = eventfm.simulate_corpus(video, tmp_path / "out", pixel="esim", **HERE)
    assert (made.num_clips, made.warnings) == (1, {})
    found = open_recording(f"{tmp_path / 'out' / 'clips-00000.h5'}::walk.mp4-0")
    assert (found.sensor.width, found.sensor.height) == (64, 48)
    assert found.tracks["frames"].times.tolist() == [round(n * 1e6 / 60) for n in range(12)]
    assert 0 < found.t_range[0] < found.t_range[1] <= round(11e6 / 60)
    # Where light came there are ON events: the sum of polarities follows the change of the logarithm.
    events = found.events_by_index(0, found.num_events)
    first, last = (np.log(found.tracks["frames"].read(i) / 65535 + 1e-3) for i in (0, 11))
    balance = np.zeros((48, 64))
    np.add.at(balance, (events.y, events.x), np.where(events.p, 0.2, -0.2))
    assert np.abs(balance - (last - first)).max() < 0.2 + 1e-5
    resized = eventfm.simulate_corpus(video, tmp_path / "small", sensor=(32, 32), pixel="esim", **HERE)
    assert 0 < resized.num_events < made.num_events


def test_several_sensors_see_one_video(tmp_path: Path) -> None:
    film(tmp_path / "in.mp4")
    settings = {"num_clips": 2, "pixel": {"c_pos": [0.1, 0.6]}, "tracks": ["frames"]}
    eventfm.simulate_corpus(tmp_path / "in.mp4", tmp_path / "out", **settings, **HERE)
    lines = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()[1:]]
    assert [line["name"] for line in lines] == ["in.mp4-0", "in.mp4-1"]
    assert lines[0]["pixel"]["c_pos"] != lines[1]["pixel"]["c_pos"]
    assert lines[0]["sha256"] == lines[1]["sha256"]


def test_fast_video_is_warned_of_and_mended(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    video = film(tmp_path / "fast.mp4", speed=5, count=8)
    with caplog.at_level(logging.WARNING):
        made = eventfm.simulate_corpus(video, tmp_path / "plain", **HERE)
    (said,) = made.warnings["fast.mp4-0"]
    assert "measured as 5" in said
    assert "interpolator=flow" in said
    assert said in caplog.text
    made = eventfm.simulate_corpus(video, tmp_path / "flow", **{"video.interpolator": "flow"}, **HERE)
    assert made.warnings == {}


def hold(first: np.ndarray, last: np.ndarray, shares: np.ndarray) -> np.ndarray:
    return np.repeat(first[None], len(shares), 0)


def test_an_interpolator_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "own", sys.modules[__name__])
    monkeypatch.setattr(hold, "__module__", "own")
    film(tmp_path / "in.mp4", speed=3)
    eventfm.simulate_corpus(tmp_path / "in.mp4", tmp_path / "out", **{"video.interpolator": hold}, **HERE)
    header = json.loads((tmp_path / "out" / "manifest.jsonl").read_text().splitlines()[0])["corpus"]
    assert header["config"]["video"]["interpolator"] == "own:hold"
    with pytest.raises(ConfigError, match="a function of a module that can be imported"):
        eventfm.simulate_corpus(
            tmp_path / "in.mp4", tmp_path / "no", **{"video.interpolator": lambda a, b, s: hold(a, b, s)}, **HERE
        )


def test_damaged_video_is_named_and_the_rest_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (tmp_path / "videos").mkdir()
    for name in ("a", "b"):
        film(tmp_path / "videos" / f"{name}.mp4")
    whole = (tmp_path / "videos" / "b.mp4").read_bytes()
    (tmp_path / "videos" / "b.mp4").write_bytes(whole[:-300])
    arguments = (tmp_path / "videos", tmp_path / "out", "workers=0", "--quiet", "--json")
    assert call(monkeypatch, *arguments) == 1
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert answer["num_clips"] == 1
    assert list(answer["failed"]) == ["b.mp4-0"]
    assert "cannot be opened as a video" in answer["failed"]["b.mp4-0"]
    assert "1 clips could not be made" in err
    assert call(monkeypatch, *arguments, "on_error=raise") == 2
    assert "eventfm: b.mp4-0: " in capsys.readouterr().err
    (tmp_path / "videos" / "b.mp4").write_bytes(whole)
    assert call(monkeypatch, *arguments) == 0


def test_on_the_command_line(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    out = tmp_path / "out"
    settings = ["sensor=[32,24]", "motion.duration_us=20000", "pixel=noisy", "pixel.shot_hz=[1,9]", "workers=2"]
    assert call(monkeypatch, pictures, out, *settings) == 0
    said, progress = capsys.readouterr()
    assert said.startswith(f"{out}: 4 recordings, ")
    assert "4/4" in progress
    python = {"sensor": [32, 24], "motion.duration_us": 20_000, "pixel.preset": "noisy", "pixel.shot_hz": [1, 9]}
    eventfm.simulate_corpus(pictures, tmp_path / "python", **python, **HERE)
    for name in ("clips-00000.h5", "clips-00003.h5", "labels.csv", "manifest.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "python" / name).read_bytes()
    assert call(monkeypatch, pictures, out, *settings, "seed=1") == 2
    assert "seed is 0 there and 1 here" in capsys.readouterr().err


def test_a_manifest_is_the_corpus(pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    eventfm.simulate_corpus(pictures, tmp_path / "out", pixel="random", **SMALL, **HERE)
    moved = tmp_path / "moved"
    pictures.rename(moved)
    manifest = tmp_path / "out" / "manifest.jsonl"
    made = eventfm.simulate_corpus(manifest, tmp_path / "lost", **HERE)
    assert len(made.failed) == 4
    eventfm.simulate_corpus(manifest, tmp_path / "again", root=moved, **HERE)
    for number in range(4):
        name = f"clips-{number:05d}.h5"
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    old = tmp_path / "old.jsonl"
    old.write_text(manifest.read_text().replace('"opencv": "', '"opencv": "0.', 1))
    with caplog.at_level(logging.WARNING):
        eventfm.simulate_corpus(old, tmp_path / "older", root=moved, **HERE)
    assert "opencv 0." in caplog.text
    assert "may differ in a few bits" in caplog.text
    with pytest.raises(ConfigError, match="a manifest fixes what the clips are: leave out num_clips, seed"):
        eventfm.simulate_corpus(manifest, tmp_path / "no", seed=1, num_clips=2, **HERE)


def test_mistakes_are_told_plainly(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(error: type[Exception], message: str, source: object = pictures, **settings: Any) -> None:
        with pytest.raises(error, match=message):
            eventfm.simulate_corpus(source, tmp_path / "out", quiet=True, **settings)  # type: ignore[arg-type]

    refused(ConfigError, "unknown key 'num_clip'; did you mean 'num_clips'", num_clip=2)
    refused(ConfigError, "unknown kind 'picture'; did you mean 'pictures'", kind="picture")
    refused(ConfigError, "did you mean 'noisy'", pixel="nosy")
    refused(UnknownNameError, "did you mean 'flow'", **{"video.interpolator": "flo"})
    refused(ModuleNotFoundError, "no_such_module", **{"video.interpolator": "no_such_module:f"})
    refused(ConfigError, "root= says where the sources of a manifest lie", root="elsewhere")
    refused(CollectionError, "no file or folder at .*gone", tmp_path / "gone")
    refused(CollectionError, "no file or folder at scenery", "scenery")
    monkeypatch.setitem(sys.modules, "ray", None)
    refused(MissingExtraError, r"pip install 'eventfm\[corpora\]'", ray="auto")
    assert not (tmp_path / "out").exists()


def test_other_kinds_plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: Path) -> None:
    from eventfm.data import clips, picture_clips

    def entries(source: str, config: clips.CorpusConfig) -> Any:
        return Path.cwd(), [clips.Entry(f"made-up-{number}", clip=number) for number in range(config.num_clips)]

    def made(entry: clips.Entry, root: Path, config: clips.CorpusConfig, scratch: Path) -> clips.Filmed:
        from eventfm.random import generator

        rng = generator(config.seed, "made-up", entry.clip)
        recording, _ = picture_clips.film_light(rng.random((40, 40)).astype(np.float32), config.motion, rng)
        return clips.Filmed(recording, {"number": entry.clip})

    monkeypatch.setitem(clips.KINDS._entries, "noise", "own:KIND")
    monkeypatch.setitem(sys.modules, "own", type("own", (), {"KIND": clips.Kind(entries, made)}))  # type: ignore[arg-type]
    result = eventfm.simulate_corpus("noise", tmp_path / "out", num_clips=3, **SMALL, **HERE)
    assert result.num_clips == 3
    eventfm.simulate_corpus(tmp_path / "out" / "manifest.jsonl", tmp_path / "again", **HERE)
    name = "clips-00000.h5"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.filterwarnings("ignore:.*79 of 87 pictures are missing")
def test_real_frames_give_events_like_the_real_ones(real_data: Path, tmp_path: Path) -> None:
    """Events simulated from the frames of a real recording fall where the sensor's own events did."""
    folder = real_data / "pairs" / "slider_depth"
    settings = {"video.on_damage": "keep", "video.interpolator": "flow", "pixel.c_pos": 0.3, "pixel.c_neg": 0.3}
    made = eventfm.simulate_corpus(folder, tmp_path / "out", kind="frames", **settings, **HERE)
    assert any("79 of 87 pictures are missing" in said for said in made.warnings["slider_depth-0"])
    found = open_recording(f"{tmp_path / 'out' / 'clips-00000.h5'}::slider_depth-0")
    real = open_recording(folder)
    t0, t1 = 4_000, 155_000
    maps = []
    for recording in (found, real):
        events = recording.events(t0, t1)
        count = np.zeros((180, 240))
        np.add.at(count, (events.y, events.x), 1)
        maps.append(cv2.GaussianBlur(np.minimum(count, 10), (0, 0), 2).ravel())
    assert np.corrcoef(*maps)[0, 1] > 0.5


def test_scenes_need_no_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = ("num_clips=3", "sensor=[48,32]", "motion.duration_us=10000", "workers=0", "scene.num_objects=[1,1]")
    assert call(monkeypatch, "scenes", tmp_path / "worlds", *settings) == 0
    store = tmp_path / "worlds" / "clips-00000.h5"
    recording = open_recording(f"{store}::{list_recordings(store)[0]}")
    assert {"frames", "flow", "depth", "semantic"} <= set(recording.tracks)
    labels = (tmp_path / "worlds" / "labels.csv").read_text().splitlines()
    assert len(labels) == 4
    assert len({row.split(",")[1] for row in labels[1:]}) == 3
    again = eventfm.simulate_corpus(tmp_path / "worlds" / "manifest.jsonl", tmp_path / "again", **HERE)
    assert (again.out / "clips-00000.h5").read_bytes() == store.read_bytes()


def test_numbered_pictures_get_a_hint_that_they_may_be_frames(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(9):
        (frames / f"frame_{number + 5:04d}.png").write_bytes((pictures / "0.png").read_bytes())
    eventfm.simulate_corpus(frames, tmp_path / "a", **SMALL, **HERE)
    assert "video.fps=30" in caplog.text
    caplog.clear()
    eventfm.simulate_corpus(pictures, tmp_path / "b", **SMALL, **HERE)
    eventfm.simulate_corpus(frames, tmp_path / "c", kind="pictures", **SMALL, **HERE)
    assert "video.fps" not in caplog.text


def test_black_pictures_are_named_and_a_run_without_a_clip_gives_the_folder_back(
    pictures: Path, tmp_path: Path
) -> None:
    black = tmp_path / "black"
    black.mkdir()
    cv2.imwrite(str(black / "night.png"), np.zeros((40, 40, 3), np.uint8))
    made = eventfm.simulate_corpus(black, tmp_path / "out", **SMALL, **HERE)
    assert made.num_clips == 0
    assert "night.png is black all over" in made.failed["night.png-0"]
    made = eventfm.simulate_corpus(pictures, tmp_path / "out", **SMALL, **HERE)
    assert (made.num_clips, made.failed) == (4, {})


def test_a_missing_folder_of_surfaces_is_told_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match="expected pictures"):
        eventfm.simulate_corpus("scenes", tmp_path / "out", **{"scene.pictures": str(tmp_path / "none")}, **HERE)
    assert not (tmp_path / "out").exists()
