"""Folders as they come: links, hidden files, numbers with gaps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eventfm.data.datasets.layout import Tree, doubled, gaps


def test_a_tree_lists_files_whatever_their_depth_and_follows_links_once(tmp_path: Path) -> None:
    for name in ("b/2.bin", "b/deep/er/3.BIN", "A/1.bin", ".hidden/4.bin", "A/.5.bin", "__MACOSX/6.bin", "x.zip"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/7.bin").touch()
    (tmp_path / "set/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/b/loop").symlink_to(tmp_path / "set")
    tree = Tree.of(tmp_path / "set")
    assert tree.files == ("A/1.bin", "b/2.bin", "b/deep/er/3.BIN", "link/7.bin", "x.zip")
    assert [(match[1], file) for match, file in tree.match(r"(\d)\.bin$")] == [
        ("1", "A/1.bin"),
        ("2", "b/2.bin"),
        ("3", "b/deep/er/3.BIN"),
        ("7", "link/7.bin"),
    ]
    assert tree.archives == ("x.zip",)


def test_a_file_costs_no_question_to_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c/d"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(40):
            (tmp_path / name / f"{number}.bin").touch()
    asked: list[str] = []
    plain = os.stat
    monkeypatch.setattr(os, "stat", lambda path, *a, **k: asked.append(str(path)) or plain(path, *a, **k))
    assert len(Tree.of(tmp_path).files) == 120
    assert not [path for path in asked if path.endswith(".bin")]
    assert len(asked) < 20


def test_gaps_are_named_one_by_one_or_as_a_folder() -> None:
    expected = {"a": range(1, 5), "b": range(3), "c": range(2)}
    problems = gaps({"a": {1, 3, 9}, "c": {0, 1}}, expected, str.upper, "{}.bin".format, "download it")
    assert [(p.kind, p.path, p.remedy) for p in problems] == [
        ("missing", "A/2.bin", "download it"),
        ("missing", "A/4.bin", "download it"),
        ("unexpected", "A/9.bin", "remove it from the folder"),
        ("missing", "B", "download it"),
    ]
    assert "expected 3 files" in problems[-1].what


def test_long_gaps_are_named_by_their_ends() -> None:
    found = {"a": set(range(1000)) - set(range(100, 200)) - set(range(300, 399))}
    problems = gaps(found, {"a": range(1005)}, str, "{:04d}.bin".format, "download it")
    assert len(problems) == 1 + 99 + 5
    assert problems[0].path == "a/0100.bin"
    assert problems[0].what == "this one and the next, up to 0199.bin, are not there: 100 files"
    assert [problem.path for problem in problems[1:3]] == ["a/0300.bin", "a/0301.bin"]
    assert sum(problem.count for problem in problems) == 100 + 99 + 5


def test_every_second_file_of_a_name_is_named() -> None:
    problems = doubled([("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")])
    assert [(p.path, p.what) for p in problems] == [("3", "it is a, and so is 1"), ("4", "it is a, and so is 1")]
