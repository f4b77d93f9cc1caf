"""The oracle and the clips lie beside the tests; every test of behaviour runs once for each backend."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

BACKENDS = ["numba", "torch"]


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param
