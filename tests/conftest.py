"""Shared by all tests: the folder of real data, if there is one, and synthetic recordings."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from eventfm.events import Events, Sensor


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = os.environ.get("EVENTFM_TEST_DATA")
    if not folder:
        pytest.skip("EVENTFM_TEST_DATA is unset: no folder of real recordings")
    return Path(folder)


def random_events(
    rng: np.random.Generator, count: int, width: int = 34, height: int = 34, duration_us: int = 300_000, t0: int = 0
) -> Events:
    """Return `count` events, uniform over the sensor and the time."""
    return Events.checked(
        rng.integers(0, width, count),
        rng.integers(0, height, count),
        np.sort(rng.integers(t0, t0 + duration_us, count)),
        rng.integers(0, 2, count),
        Sensor(width, height),
    )
