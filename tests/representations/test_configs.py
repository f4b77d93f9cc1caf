"""Representations to and from plain values."""

from __future__ import annotations

import subprocess
import sys

import pytest

from eventfm.config import ConfigError
from eventfm.registry import UnknownNameError
from eventfm.representations import (
    REPRESENTATIONS,
    ECDPImage,
    EvRep,
    MEMImage,
    PolarityCounts,
    StackedHistogram,
    VoxelGrid,
    build,
    describe,
)


@pytest.mark.parametrize(
    ("representation", "values"),
    [
        (VoxelGrid(5), {"name": "voxel_grid", "num_bins": 5, "span": "events"}),
        (PolarityCounts(), {"name": "polarity_counts"}),
        (ECDPImage(), {"name": "ecdp_image"}),
        (MEMImage(), {"name": "mem_image"}),
        (EvRep(), {"name": "evrep"}),
        (
            StackedHistogram(10, "window", 10),
            {"name": "stacked_histogram", "num_bins": 10, "span": "window", "max_count": 10},
        ),
    ],
)
def test_round_trip(representation, values):
    assert describe(representation) == values
    assert build(values) == representation


def test_every_registered_name_is_covered_by_the_round_trip():
    assert list(REPRESENTATIONS) == [
        "ecdp_image",
        "event_volume",
        "evrep",
        "mem_image",
        "polarity_counts",
        "stacked_histogram",
        "voxel_grid",
    ]


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"num_bins": 5}, ConfigError, "expected a representation with a 'name'"),
        ({"name": "voxel_gird", "num_bins": 5}, UnknownNameError, "did you mean 'voxel_grid'"),
        ({"name": "voxel_grid", "num_bin": 5}, ConfigError, "unknown key 'num_bin' .*did you mean 'num_bins'"),
        ({"name": "voxel_grid"}, ConfigError, "voxel_grid.*num_bins"),
        ({"name": "voxel_grid", "num_bins": "5"}, ConfigError, "whole number of at least 1, got '5'"),
        ({"name": "voxel_grid", "num_bins": 5, "span": "x"}, ConfigError, "'events' or 'window', got 'x'"),
        ({"name": "polarity_counts", "num_bins": 2}, ConfigError, "unknown key 'num_bins'"),
        ({"name": "evrep", "longest": 10}, ConfigError, "unknown key 'longest'"),
    ],
)
def test_values_that_do_not_fit_are_refused(values, error, message):
    with pytest.raises(error, match=message):
        build(values)


def test_a_representation_outside_the_registry_has_no_description():
    with pytest.raises(ValueError, match="registered representation"):
        describe(object())


def test_importing_the_packages_stays_light():
    code = (
        "import sys, eventfm.representations, eventfm.models, eventfm.methods;"
        "heavy = [name for name in ('torch', 'numba', 'pydantic', 'safetensors') if name in sys.modules];"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
