"""Clips of made worlds: what is in them is what the world says, and follows from seed and number alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from eventfm.data.clips import CorpusConfig, Entry
from eventfm.data.scene_clips import entries, film_entry
from eventfm.random import generator
from eventfm.simulation.scene import GROUNDS, supervise_scene
from eventfm.simulation.shapes import SHAPES
from eventfm.simulation.worlds import random_scene

CONFIG = CorpusConfig.model_validate(
    {"seed": 3, "sensor": (64, 48), "motion": {"duration_us": 20_000}, "frames_hz": 100.0, "num_clips": 4}
)


def filmed(entry: Entry, config: CorpusConfig, tmp_path: Path):  # type: ignore[no-untyped-def]
    return film_entry(entry, Path("."), config, tmp_path).recording


def test_tracks_are_those_of_the_world(tmp_path: Path) -> None:
    _, made = entries("scenes", CONFIG)
    recording = filmed(made[1], CONFIG, tmp_path)
    assert (recording.sensor.width, recording.sensor.height) == (64, 48)
    assert recording.num_events > 100
    scene = random_scene(generator(3, "scene", 1), CONFIG.scene.to_scene((48, 64), 20_000))
    assert {name: list(track.times) for name, track in recording.tracks.items()} == {
        **{key: [0, 10000, 20000] for key in ("frames", "depth", "semantic", "instance")},
        **{key: [0, 10000] for key in ("flow", "valid", "occluded")},
    }
    truth = supervise_scene(scene, 10_000, 20_000)
    for name, expected in {
        "frames": np.rint(truth.start.light * 65535),
        "depth": truth.start.depth_m,
        "semantic": truth.start.semantic,
        "instance": truth.start.instance,
        "flow": truth.flow,
        "valid": truth.valid,
        "occluded": truth.occluded,
    }.items():
        found = recording.tracks[name].read(1).astype(float)
        np.testing.assert_allclose(found, expected, atol=1 if name == "frames" else 0, err_msg=name)


def test_a_clip_depends_on_seed_and_number_alone(tmp_path: Path) -> None:
    first, again, other = (filmed(Entry("a", clip=clip), CONFIG, tmp_path) for clip in (0, 0, 1))
    events = [recording.events(*recording.t_range) for recording in (first, again, other)]
    np.testing.assert_array_equal(events[0].t, events[1].t)
    assert len(events[0]) != len(events[2])
    reseeded = filmed(Entry("a", clip=0), CONFIG.model_copy(update={"seed": 4}), tmp_path)
    assert reseeded.num_events != first.num_events


def test_worlds_of_one_thing_are_labelled_evenly(tmp_path: Path) -> None:
    config = CONFIG.model_validate(
        CONFIG.model_dump() | {"scene": {"num_objects": (1, 1)}, "num_clips": 20 * len(SHAPES), "tracks": ("semantic",)}
    )
    _, made = entries("scenes", config)
    for split, share in (("train", 16), ("val", 2), ("test", 2)):
        labels = [entry.label for entry in made if entry.split == split]
        assert sorted(labels) == sorted(SHAPES * share)
    recording = filmed(made[3], config, tmp_path)
    seen = recording.tracks["semantic"].read(0)
    assert set(np.unique(seen)) <= {0, 1, 2 + 3}
    assert (seen == 2 + 3).any()
    assert set(recording.tracks) == {"semantic", "instance"}


def test_worlds_of_some_classes_keep_their_numbers(tmp_path: Path) -> None:
    scene = {"num_objects": (1, 1), "shapes": ("star", "disc")}
    config = CONFIG.model_validate(CONFIG.model_dump() | {"scene": scene, "num_clips": 40, "tracks": ("semantic",)})
    _, made = entries("scenes", config)
    assert [entry.label for entry in made] == ["star", "disc"] * 20
    several = config.model_copy(update={"scene": config.scene.model_copy(update={"num_objects": (3, 4)})})
    worlds = [*made[:4], *(Entry("a", clip=number) for number in range(4))]
    seen = [
        np.unique(filmed(entry, config if entry.label else several, tmp_path).tracks["semantic"].read(0))
        for entry in worlds
    ]
    numbers = {name: len(GROUNDS) + SHAPES.index(name) for name in scene["shapes"]}
    for entry, found in zip(made, seen[:4], strict=False):
        assert set(found) - {0, 1} <= {numbers[entry.label]}
    assert set(np.concatenate(seen[4:])) - {0, 1} == set(numbers.values())


def test_pictures_of_the_user_cover_the_surfaces(tmp_path: Path) -> None:
    rng = generator(0, "picture")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(2):
        cv2.imwrite(str(folder / f"{i}.png"), rng.integers(0, 256, (80, 90, 3)).astype(np.uint8))
    config = CONFIG.model_validate(CONFIG.model_dump() | {"scene": {"pictures": str(folder)}})
    ours, theirs = (filmed(Entry("a", clip=0), c, tmp_path).tracks["frames"].read(0) for c in (config, CONFIG))
    assert (ours != theirs).mean() > 0.1  # other surfaces are drawn patterns in both


def test_impossible_worlds_are_refused_before_the_work() -> None:
    with pytest.raises(ValidationError, match="expected num_objects in order"):
        CorpusConfig.model_validate({"scene": {"num_objects": (3, 1)}})
    for shapes in (("star", "moon"), ("star", "star"), ()):
        with pytest.raises(ValidationError, match=r"expected shapes among disc, .*, each once"):
            CorpusConfig.model_validate({"scene": {"shapes": shapes}})
