"""Checkpoints of a run: whole or not there, kept to a number, and only ever this run's own.

A checkpoint is written into a temporary folder and renamed when everything in it is on the disk. Its tensors are in
PyTorch's sharded format, whose metadata file is a pickle: the run folder keeps a hash of every metadata file that
this run wrote, and no other is ever opened. Everything else about a checkpoint is JSON.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter

from eventfm import __version__
from eventfm.engine.distributed import barrier, is_main, together
from eventfm.engine.distributed import world as current_world
from eventfm.engine.run_folder import free_bytes, sync_folder, write_atomic

PREFIX = "step_"
TEMPORARY = ".tmp_"
STATE = "state.json"
LEDGER = "hashes.json"
SLACK = 1 << 20
"""Bytes that a checkpoint may need besides its tensors."""


class CheckpointError(ValueError):
    """Raised when a checkpoint cannot be trusted or does not fit the run."""


class CheckpointWriteError(OSError):
    """Raised when a checkpoint could not be written; earlier checkpoints are whole."""


class DiskFullError(CheckpointWriteError):
    """Raised when the disk has no room for a checkpoint; earlier checkpoints are whole."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in one folder that all ranks see.

    `clean`, `save`, `load` and `prune` are called on every rank together.
    """

    folder: Path

    def steps(self) -> list[int]:
        """Return the steps of the complete checkpoints, in order."""
        found = self.folder.glob(f"{PREFIX}*/{STATE}") if self.folder.is_dir() else ()
        numbers = [path.parent.name.removeprefix(PREFIX) for path in found]
        return sorted(int(number) for number in numbers if number.isdigit())

    def clean(self) -> None:
        """Make the folder and remove what an interrupted save or removal has left."""
        with together():
            if is_main():
                self.folder.mkdir(parents=True, exist_ok=True)
                for stale in self.folder.glob(f"{TEMPORARY}*"):
                    shutil.rmtree(stale)

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Write the checkpoint of `step`: `tensors`, and `state` as JSON with the versions that wrote it.

        Raises:
            DiskFullError: There is no room. The temporary folder is removed; earlier checkpoints are untouched.
            CheckpointWriteError: The same for other reasons.
        """
        final, temporary = self._path(step), self.folder / f"{TEMPORARY}{PREFIX}{step:08d}"
        needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) + SLACK
        try:
            with together():
                if is_main():
                    if free_bytes(self.folder) < needed:
                        raise OSError(errno.ENOSPC, "too little free space")
                    shutil.rmtree(temporary, ignore_errors=True)
                    temporary.mkdir()
            with together():
                write_tensors(temporary, tensors)
            with together():
                if is_main():
                    self._publish(temporary, final, {"step": step, **_versions(), **state})
        except Exception as error:
            barrier()  # no rank may still be writing
            if not is_main():
                raise
            free = free_bytes(self.folder)
            shutil.rmtree(temporary, ignore_errors=True)
            again = "Earlier checkpoints are whole: start the same command again to resume"
            if _is_full(error) or free < needed:
                sizes = f"it needs about {_size(needed)} and {_size(free)} are free"
                message = f"no room for the checkpoint of step {step}: {sizes}. Make room first. {again}"
                raise DiskFullError(errno.ENOSPC, message, str(self.folder)) from error
            message = f"the checkpoint of step {step} could not be written: {error}. {again}"
            raise CheckpointWriteError(errno.EIO, message, str(self.folder)) from error

    def state(self, step: int) -> dict[str, Any]:
        """Return the JSON state of a checkpoint.

        Raises:
            CheckpointError: It cannot be read.
        """
        path = self._path(step) / STATE
        try:
            state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"cannot read {path}: {error}; remove that checkpoint to resume earlier") from error
        return state

    def load(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Fill `tensors` in place from the checkpoint of `step`, however many ranks wrote it.

        Raises:
            CheckpointError: Its metadata is not what this run wrote, or it is damaged, or it holds another model.
        """
        with together():
            path = self._path(step)
            if _digest(path / ".metadata") != self._ledger().get(path.name):
                raise CheckpointError(
                    f"{path} was not written by this run, or was changed since: its metadata does not have the hash "
                    f"in {self.folder / LEDGER}. It is not opened; remove it to resume from an earlier checkpoint"
                )
            _load_tensors(path, tensors)

    def prune(self, keep_last: int, best: int | None = None) -> None:
        """Remove all but the last `keep_last` checkpoints and that of step `best`."""
        with together():
            if is_main():
                for step in self.steps()[:-keep_last]:
                    if step != best:
                        # Renamed first: a removal that is cut short must not leave what looks like a checkpoint.
                        doomed = self.folder / f"{TEMPORARY}old_{step:08d}"
                        self._path(step).rename(doomed)
                        shutil.rmtree(doomed)

    def _publish(self, temporary: Path, final: Path, state: Mapping[str, Any]) -> None:
        write_atomic(temporary / STATE, json.dumps(state, indent=1))
        ledger = {name: value for name, value in self._ledger().items() if (self.folder / name).exists()}
        ledger[final.name] = _digest(temporary / ".metadata")
        write_atomic(self.folder / LEDGER, json.dumps(ledger, indent=1))
        temporary.rename(final)
        sync_folder(self.folder)

    def _ledger(self) -> dict[str, str]:
        path = self.folder / LEDGER
        ledger: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return ledger

    def _path(self, step: int) -> Path:
        return self.folder / f"{PREFIX}{step:08d}"


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write `tensors` into the folder `path`, each rank its part, and wait until they are on the disk."""
    writer = FileSystemWriter(path, sync_files=True)
    _collective(lambda: state_dict_saver.save(dict(tensors), storage_writer=writer))


def _load_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    try:
        _collective(lambda: state_dict_loader.load(dict(tensors), storage_reader=FileSystemReader(path)))
    except (RuntimeError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} cannot be loaded into this model: {error}") from error


def _collective(action: Callable[[], object]) -> None:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is (disabled|unavailable)")
            action()
    except CheckpointException as error:  # no Exception itself: whoever catches those would miss it
        rank, (cause, _) = next(iter(error.failures.items()))
        if isinstance(cause, OSError):
            raise OSError(cause.errno, f"rank {rank}: {cause}") from error
        raise RuntimeError(f"rank {rank}: {cause}") from error


def _versions() -> dict[str, Any]:
    return {"world_size": current_world().size, "eventfm": __version__, "torch": torch.__version__}


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error


def _is_full(error: Exception) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or os.strerror(errno.ENOSPC) in str(error)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB" if num_bytes >= 2**28 else f"{num_bytes / 2**20:.1f} MiB"
