"""Write a file as a whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class WriteError(OSError):
    """Raised when a file could not be written; what stood at its path before still stands there."""


@contextmanager
def atomic_file(target: Path, overwrite: bool = False) -> Iterator[Path]:
    """Give the path of a temporary file beside `target` that takes its place when the block ends well.

    On any error the temporary is removed and `target` is as it was. A process that is killed leaves at most a
    hidden file `.NAME.*.part` behind.

    Raises:
        FileExistsError: `target` exists and `overwrite` is not set.
        WriteError: The system refused: disk full, folder missing or not writable. The message says which.
    """
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists; pass overwrite=True to replace it")
    temporary = target.parent / f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.part"
    try:
        yield temporary
        _sync(temporary)
        if target.exists() and not overwrite:
            raise FileExistsError(f"{target} has come into being meanwhile; pass overwrite=True to replace it")
        os.replace(temporary, target)
        _sync(target.parent)
    except FileExistsError:
        temporary.unlink(missing_ok=True)
        raise
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise WriteError(f"could not write {target}: {error}; what was there before is unchanged") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
