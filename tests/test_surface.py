"""What users see first: public names, light imports, quick help, recipes that parse."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import yaml

import eventfm
from eventfm.config import RECIPES, recipe_names


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_public_names() -> None:
    assert sorted(eventfm.__all__) == [
        "ECDPImage",
        "EvRep",
        "EventBatch",
        "Events",
        "MEMImage",
        "PolarityCounts",
        "Sensor",
        "StackedHistogram",
        "VoxelGrid",
        "convert",
        "convert_all",
        "diagnose",
        "diagnose_all",
        "embed",
        "evaluate",
        "export_weights",
        "finetune",
        "import_weights",
        "info",
        "load",
        "open_recording",
        "predict",
        "prepare_teacher",
        "pretrain",
        "simulate_corpus",
        "visualize",
    ]
    for name in eventfm.__all__:
        assert callable(getattr(eventfm, name))


@pytest.mark.parametrize(
    "module", ["eventfm", "eventfm.io", "eventfm.representations", "eventfm.models", "eventfm.cli"]
)
def test_imports_are_light(module: str) -> None:
    code = (
        f"import sys, {module}; print([m for m in ('torch', 'numba', 'h5py', 'cv2', 'matplotlib') if m in sys.modules])"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_help_is_quicker_than_importing_torch() -> None:
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "eventfm.cli", "--help"], capture_output=True, text=True, timeout=60)
    helped = time.perf_counter() - started
    assert done.returncode == 0
    assert "pretrain" in done.stdout
    started = time.perf_counter()
    run("import torch")
    assert helped < time.perf_counter() - started


def load_variants(name: str) -> list[str]:
    """Return the variants that a recipe's file, or that of its base, names."""
    values = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    base = yaml.safe_load((RECIPES / f"{values['base']}.yaml").read_text()) if "base" in values else {}
    return list({**base, **values}.get("variants") or {})


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_parse_and_build(name: str) -> None:
    """Every stage of every recipe is a valid run, whose method takes the settings that are given for it."""
    import torch

    from eventfm.api.run_config import parse_run, read_recipe, resolve_sizes
    from eventfm.api.stages import read_stages
    from eventfm.events import Sensor
    from eventfm.methods import build_method
    from eventfm.models.teachers import StoredTeacher
    from eventfm.representations import build

    runs = []
    for variant in (None, *load_variants(name)):
        values, changes = read_recipe(name, {"data": "somewhere", "out": "there", "variant": variant})
        stages = read_stages(values, changes, name) if values.get("stages") else []
        single = {key: value for key, value in values.items() if key != "stages"}
        runs += [run for _, run in stages] or [parse_run(single, changes, name)]
    dims = {"vits16": 384, "vitb16": 768, "vitl16": 1024}
    for config in runs:
        dim = next((dims[size] for size in dims if size in str(config.teacher.name)), 512)
        assert config.data.path == "somewhere"
        size, patch, _ = resolve_sizes(config, Sensor(240, 180))
        backbone = {**config.method["backbone"], "arguments": {**config.method["backbone"].get("arguments", {})}}
        backbone["arguments"]["patch_size"] = patch
        with torch.device("meta"):
            objective = build_method(
                {**config.method, "backbone": backbone},
                build(config.representation).channels,
                size,
                StoredTeacher(dim, (14, 14), {"name": "some"}),
            )
        assert objective.parameter_rules()


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="attribute nothing"):
        _ = eventfm.nothing
