import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def drift(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of 12 recordings of drifting edges."""
    import tiny_run

    return tiny_run.write_data(tmp_path_factory.mktemp("drift"))


@pytest.fixture(scope="session")
def straight(drift: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that nothing interrupted."""
    import tiny_run

    out = tmp_path_factory.mktemp("straight") / "run"
    tiny_run.pretrain(drift, out)
    return out
