"""Putting a finished folder in the place of an older one."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write files to, which takes the place of `folder` at the end.

    It lies beside `folder`. Its files are brought to the disk first, so that a crash at any moment leaves the old
    folder or the whole new one; if writing fails, the old one is untouched.

    Raises:
        OSError: The system refused to write.
    """
    folder = folder.absolute()
    temporary = folder.with_name(f".{folder.name}.new-{os.getpid()}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        for path in (*temporary.iterdir(), temporary):
            _flush(path)
        replace_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(new: Path, target: Path) -> None:
    """Move the folder `new` to `target`, both on one file system, and delete what was at `target`.

    On Linux the two are exchanged in one step, so that readers find the old folder or the new one at any moment.
    Elsewhere, and on file systems that cannot exchange, the old folder is moved aside for the instant between two
    renames, and moved back if the second fails.

    Raises:
        OSError: The move failed; `target` is as it was.
    """
    if not target.exists():
        new.rename(target)
        return
    if _exchange(new, target):
        old = new
    else:
        old = target.with_name(f".{target.name}.old-{os.getpid()}")
        target.rename(old)
        try:
            new.rename(target)
        except OSError:
            old.rename(target)
            raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two paths in one step where the system can (Linux `renameat2`); return whether it was done."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    paths = (ctypes.c_char_p(os.fsencode(path)) for path in (first, second))
    done = rename(_AT_FDCWD, next(paths), _AT_FDCWD, next(paths), ctypes.c_uint(_RENAME_EXCHANGE))
    return bool(done == 0)


def _flush(path: Path) -> None:
    """Bring a file or folder to the disk, so that a crash after the rename finds it whole."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
