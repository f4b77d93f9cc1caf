"""Replacing a folder: the reader always finds one, and failure changes nothing."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from eventfm.models import atomic
from eventfm.models.atomic import replace_folder


def folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content)
    return path


@pytest.mark.parametrize("exchange", [True, False])
def test_the_new_folder_takes_the_place_and_nothing_else_is_left(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)
    target = tmp_path / "encoder"
    replace_folder(folder(tmp_path / "a", "first"), target)
    assert (target / "file").read_text() == "first"
    replace_folder(folder(tmp_path / "b", "second"), target)
    assert (target / "file").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


def test_without_exchange_a_failed_move_brings_the_old_folder_back(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)
    target = folder(tmp_path / "encoder", "old")
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "not there", target)
    assert (target / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="one-step exchange of folders is Linux's")
def test_a_reader_never_finds_the_folder_missing(tmp_path):
    target = folder(tmp_path / "encoder", "0")
    if not atomic._exchange(folder(tmp_path / "probe", "probe"), target):
        pytest.skip("this file system cannot exchange folders")
    stop, missing = threading.Event(), []

    def watch():
        while not stop.is_set():
            if not target.exists():
                missing.append(True)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(100):
        replace_folder(folder(tmp_path / f"new{number}", str(number)), target)
    stop.set()
    watcher.join()
    assert not missing
    assert (target / "file").read_text() == "99"
