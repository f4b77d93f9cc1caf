"""The folder of a benchmark: whose settings it holds, and how long its parts took."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eventfm.engine.run_folder import write_atomic


def claim(out: Path, digest: str, settings: Mapping[str, Any]) -> None:
    """Make `out` the folder of these settings, which `digest` tells from all others.

    Raises:
        SystemExit: It belongs to others.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / "settings.json"
    if file.exists() and json.loads(file.read_text())["digest"] != digest:
        raise SystemExit(f"{out} holds results of other settings; choose another --out")
    write_atomic(file, json.dumps({"digest": digest, **settings}, indent=2) + "\n")


class Clock:
    """Adds up the time that each part took, over all runs of the command."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.seconds: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}

    def __call__(self, part: str) -> Clock:
        """Name the part that is timed next."""
        self.part = part
        return self

    def __enter__(self) -> None:
        self.started = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.seconds[self.part] = self.seconds.get(self.part, 0.0) + time.monotonic() - self.started
        write_atomic(self.file, json.dumps(self.seconds, indent=2) + "\n")
