"""What users see first: public names, light imports, quick help, recipes that parse."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

import eventfm
from eventfm.config import load_recipe, recipe_names


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_public_names() -> None:
    assert sorted(eventfm.__all__) == [
        "EventBatch",
        "Events",
        "PolarityCounts",
        "Sensor",
        "StackedHistogram",
        "VoxelGrid",
        "convert",
        "embed",
        "evaluate",
        "info",
        "load",
        "open_recording",
        "pretrain",
        "simulate_corpus",
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


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_parse(name: str) -> None:
    from eventfm.api.run_config import read_run_config

    config = read_run_config(name, {"data": "somewhere", "out": "there"})
    assert config.data.path == "somewhere"
    assert load_recipe(name)["method"]["name"] == config.method["name"]


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="attribute nothing"):
        _ = eventfm.nothing
