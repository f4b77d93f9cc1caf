"""The folder of one run: which run it belongs to, and its line-by-line metrics."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Values = Mapping[str, Any]
_MISSING = object()


class RunFolderError(ValueError):
    """Raised when a folder cannot hold a run: it belongs to another run, or to something else."""


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run; nothing is touched until `claim`."""

    path: Path

    @property
    def config(self) -> Path:
        """The run's whole config, YAML."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object per logged step."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """State to resume from."""
        return self.path / "checkpoints"

    @property
    def encoder(self) -> Path:
        """The exported encoder."""
        return self.path / "encoder"

    @property
    def report(self) -> Path:
        """The run's report."""
        return self.path / "report.html"

    def claim(self, config: Values, may_differ: Collection[str] = ()) -> None:
        """Make the folder this run's own: start it, or find that it holds the same run.

        Keys in `may_differ` (a key's last part or its whole dotted path) may have changed; the file then says the
        new values.

        Raises:
            RunFolderError: The folder holds a run with another config (the message names the keys), or holds other
                files and no run.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"expected {self.path} to be a folder, and it is a file; choose another out=")
        self.path.mkdir(parents=True, exist_ok=True)
        if self.config.exists():
            refuse_other(self._stored(), config, may_differ, f"{self.path} holds a run", "choose another out=")
        elif strangers := sorted(p.name for p in self.path.iterdir() if p.name != f"{self.config.name}.tmp"):
            raise RunFolderError(
                f"expected {self.path} to be empty or to hold a run, and it has {', '.join(strangers[:3])} "
                "but no config.yaml; choose another out= or empty it"
            )
        write_atomic(self.config, yaml.safe_dump(plain(config), sort_keys=False))

    def _stored(self) -> Values:
        try:
            stored = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise RunFolderError(f"{self.config} is not YAML: {error}") from error
        if not isinstance(stored, dict):
            raise RunFolderError(f"expected {self.config} to hold a mapping of keys, got {type(stored).__name__}")
        return stored


def plain(config: Values) -> dict[str, Any]:
    """Return `config` as it comes back from a file: lists for tuples, text for paths."""
    values: dict[str, Any] = yaml.safe_load(
        yaml.safe_dump(json.loads(json.dumps(dict(config), default=str)), sort_keys=False)
    )
    return values


def config_hash(config: Values, may_differ: Collection[str] = ()) -> str:
    """Return a hash of what in `config` bears on results: everything but the keys in `may_differ`."""
    bearing = {key: value for key, value in _flat(plain(config)).items() if not _free(key, may_differ)}
    return hashlib.sha256(json.dumps(bearing, sort_keys=True).encode()).hexdigest()


def refuse_other(stored: Values, config: Values, may_differ: Collection[str], what: str, advice: str) -> None:
    """Raise where two configs differ in a key that bears on results.

    Raises:
        RunFolderError: `what` with another config; one line per key, and `advice`.
    """
    old, new = _flat(plain(stored)), _flat(plain(config))
    keys = [key for key in sorted(old.keys() | new.keys()) if not _free(key, may_differ)]
    lines = [
        f"  {key}: {_shown(old.get(key, _MISSING))} there, {_shown(new.get(key, _MISSING))} now"
        for key in keys
        if old.get(key, _MISSING) != new.get(key, _MISSING)
    ]
    if lines:
        raise RunFolderError("\n".join([f"{what} with another config:", *lines, f"{advice}, or restore these keys"]))


def trim_metrics(path: Path, last_step: int) -> None:
    """Drop the lines of metrics after `last_step`, which a resumed run writes again, and a half-written one."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
            if record["step"] <= last_step:
                kept.append(line + "\n")
        except (ValueError, TypeError, KeyError):
            continue
    write_atomic(path, "".join(kept))


def write_atomic(path: Path, text: str) -> None:
    """Write `text` to `path` so that a reader, whatever happens, finds the old text or the new."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable, where the system can."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def free_bytes(path: Path) -> int:
    """Return the free space of the disk that holds `path`, in bytes."""
    return shutil.disk_usage(path).free


def _flat(values: Values, prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            out.update(_flat(value, f"{prefix}{key}."))
        else:
            out[f"{prefix}{key}"] = value
    return out


def _free(key: str, may_differ: Collection[str]) -> bool:
    return key in may_differ or key.rpartition(".")[2] in may_differ


def _shown(value: Any) -> str:
    return "absent" if value is _MISSING else repr(value)
