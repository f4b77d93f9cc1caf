"""The layers of the design: imports go down only, and siblings do not know each other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import eventfm

ROOT = Path(eventfm.__file__).parent
LAYER = {
    "cli": 7,
    "api": 6,
    "evaluation": 5,
    "deployment": 5,
    "engine": 4,
    "methods": 3,
    "tasks": 3,
    "data": 2,
    "models": 2,
    "io": 1,
    "simulation": 1,
    "representations": 1,
    "visualization": 1,
    "events": 0,
    "protocols": 0,
    "config": 0,
    "registry": 0,
    "random": 0,
}
NAMELESS = {"utils.py", "helpers.py", "misc.py", "common.py", "util.py"}
FILES = sorted(ROOT.rglob("*.py"))


def room_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Return the parts of eventfm that a file imports, wherever in the file, but for names under TYPE_CHECKING."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    rooms = set()
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        modules = []
        if isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
            if node.module == "eventfm":
                modules = [f"eventfm.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        rooms |= {module.split(".")[1] for module in modules if module.startswith("eventfm.")}
    return rooms


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_imports_go_down(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    for other in imported_rooms(path) - {room, "__version__"}:
        assert LAYER[other] < LAYER[room] or LAYER[other] == LAYER[room] == 0, f"{room} must not import {other}"


def test_every_room_has_a_layer() -> None:
    assert {room_of(path) for path in FILES} - {"__init__"} <= set(LAYER)


def test_files_are_small_and_named() -> None:
    assert not [path for path in FILES if path.name in NAMELESS]
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert not {name: lines for name, lines in long.items() if lines > 400}
