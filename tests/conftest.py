"""Shared by all tests: the folder of real data, if there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = os.environ.get("EVENTFM_TEST_DATA")
    if not folder:
        pytest.skip("EVENTFM_TEST_DATA is unset: no folder of real recordings")
    return Path(folder)
