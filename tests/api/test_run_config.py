from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eventfm.api.run_config import RunConfig, TeacherConfig, parse_run, read_recipe, resolve_sizes
from eventfm.api.settings import dotted, nested
from eventfm.api.teaching import load_named
from eventfm.config import ConfigError, parse_overrides
from eventfm.events import Sensor
from eventfm.methods import needs_activity

TINY = "difference-vit-tiny"


def read_run_config(recipe: str | Path, overrides: dict[str, Any]) -> RunConfig:
    values, changes = read_recipe(recipe, overrides)
    return parse_run(values, changes, f"recipe {recipe}")


def read(*arguments: str, **values: object) -> RunConfig:
    return read_run_config(TINY, {**parse_overrides(arguments), "out": "runs/x", **values})


def test_recipe_and_changes() -> None:
    config = read("train.num_steps=7", "method.mask_ratio=0.25", "data.window.by=count")
    assert config.train.num_steps == 7
    assert config.train.batch_size == 64  # the recipe's own
    assert config.method["mask_ratio"] == 0.25
    assert config.method["backbone"]["name"] == "vit_tiny"
    assert (config.data.window.by, config.data.window.duration_us) == ("count", 50_000)


def test_numbers_as_text_on_the_command_line() -> None:
    """YAML reads 1e-3, without a dot, as text."""
    config = read("train.lr=1e-3", "train.weight_decay=1e-2", "data.augment.flip=5e-1")
    assert (config.train.lr, config.train.weight_decay, config.data.augment.flip) == (1e-3, 1e-2, 0.5)


def test_data_is_short_for_its_path() -> None:
    for values in ({"data": "a/b"}, {"data": Path("a/b")}, {"data": {"path": Path("a/b")}}, {"data.path": "a/b"}):
        config = read("data.split=train", **values)
        assert (config.data.path, config.data.split) == ("a/b", "train")
    assert read("data=a/b").data.path == "a/b"


def test_settings_are_made_plain() -> None:
    given = {"data": Path("a"), "encoders": (Path("x"), "y"), "data.labels": Path("t.csv"), "n": 3}
    assert dotted(given) == {"data.path": "a", "encoders": ["x", "y"], "data.labels": "t.csv", "n": 3}
    assert nested(given) == {"data": {"path": "a", "labels": "t.csv"}, "encoders": ["x", "y"], "n": 3}


def test_out_is_required() -> None:
    with pytest.raises(ConfigError, match=r"out=FOLDER is required"):
        read_run_config(TINY, {"data": "a"})


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("dta=x", "unknown key 'dta'; did you mean 'data'"),
        ("train.batchsize=3", r"unknown key 'train\.batchsize'; did you mean 'batch_size'"),
        ("data.window.duration=3", r"unknown key 'data\.window\.duration'; did you mean 'duration_us'"),
        ("train.batch_size=many", r"'train\.batch_size': .*'many'"),
        ("validate_every=0", "'validate_every': input should be greater than 0"),
        ("method=difference", "'method': input should be a valid dictionary, got 'difference'"),
    ],
)
def test_mistakes_are_named(argument: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(argument)


def test_unknown_recipe() -> None:
    with pytest.raises(ConfigError, match=f"unknown recipe 'difference-vit-tny'; did you mean '{TINY}'"):
        read_run_config("difference-vit-tny", {"out": "x"})


@pytest.mark.parametrize(
    ("sensor", "size", "patch"),
    [
        ((32, 32), (32, 32), 8),
        ((34, 34), (32, 32), 8),
        ((128, 128), (128, 128), 16),
        ((240, 180), (96, 128), 16),
        ((346, 260), (96, 128), 16),
        ((640, 480), (96, 128), 16),
        ((1280, 720), (64, 128), 16),
        ((161, 161), (128, 128), 16),  # 161 * (128 / 161) is below 128 in floating point
        ((304, 3), (16, 128), 16),
        ((5, 5), (8, 8), 8),
    ],
)
def test_automatic_sizes(sensor: tuple[int, int], size: tuple[int, int], patch: int) -> None:
    found, found_patch, decisions = resolve_sizes(read(), Sensor(*sensor))
    assert (found, found_patch) == (size, patch)
    assert [line.split(":")[0] for line in decisions] == ["patch_size", "image_size"]


def test_sizes_that_are_given_hold() -> None:
    config = read("data.image_size=[48, 64]", "method.backbone.arguments.patch_size=4")
    assert resolve_sizes(config, Sensor(640, 480)) == ((48, 64), 4, [])
    assert resolve_sizes(read("data.image_size=64"), Sensor(640, 480))[:2] == ((64, 64), 8)
    patch_first = read("method.backbone.arguments.patch_size=32")
    assert resolve_sizes(patch_first, Sensor(346, 260))[:2] == ((96, 128), 32)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("data.image_size=50", "a multiple of the patch of 8 pixels, got 50x50"),
        ("method.backbone=vit_nano", r"method\.backbone.*got 'vit_nano'"),
        ("method.backbone.arguments.patch_size=0", "patch_size to be auto or a number of pixels above 0, got 0"),
        ("method.backbone.nme=vit_nano", "unknown key 'method.backbone.nme'; did you mean 'name'"),
    ],
)
def test_sizes_that_cannot_be(argument: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_sizes(read(argument), Sensor(64, 64))


@pytest.mark.parametrize("changes", [{"representation.name": "ecdp_image"}, {"representation": {"name": "ecdp_image"}}])
def test_another_representation_takes_none_of_the_recipes_fields(changes: dict[str, Any]) -> None:
    config = read_run_config("difference-vit-tiny", {"data": "here", "out": "there", **changes})
    assert config.representation == {"name": "ecdp_image"}
    kept = read_run_config("difference-vit-tiny", {"out": "there", "representation.num_bins": 7})
    assert kept.representation == {"name": "voxel_grid", "num_bins": 7, "span": "window"}


def test_steps_take_the_place_of_epochs_and_the_other_way_round() -> None:
    def train(recipe: str, **changes: Any) -> tuple[int | None, int | None]:
        config = read_run_config(recipe, {"out": "there", **changes}).train
        return config.num_steps, config.epochs

    assert train("difference-vit-small", **{"train.num_steps": 5}) == (5, None)
    assert train("difference-vit-tiny", train={"epochs": 2}) == (None, 2)
    with pytest.raises(ConfigError, match="one of num_steps and epochs"):
        train("difference-vit-tiny", train={"epochs": 2, "num_steps": 5})


def test_the_size_of_a_teachers_pictures() -> None:
    for size in (224, (96, 128), "data", None):
        assert read(**{"teacher.input_size": size}).teacher.input_size == size
    with pytest.raises(ConfigError, match=r"teacher\.input_size"):
        read(**{"teacher.input_size": "date"})
    with pytest.raises(ConfigError, match=r"no inputs whose size.*teacher\.input_size in pixels"):
        load_named(TeacherConfig(name="some", input_size="data"))


def test_methods_that_ask_where_something_happened() -> None:
    assert needs_activity({"name": "distillation"})
    assert not needs_activity({"name": "distillation", "mask": {"by": "none"}})
    assert not any(needs_activity({"name": name}) for name in ("difference", "contrast", "transition", "joint"))
