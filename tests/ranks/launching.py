"""Starting two ranks on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def launch(script: Path, out: Path, *checks: str) -> tuple[int, str]:
    """Run `script OUT CHECK...` on two gloo ranks; return its status and what it printed."""
    paths = os.pathsep.join(str(HERE.parent / name) for name in ("ranks", "engine", "methods"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    process = subprocess.Popen(
        [*command, str(out), *checks],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=90)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the ranks as well, which nobody else would end
        raise
    return process.returncode, output
