from __future__ import annotations

from collections import OrderedDict

import pytest

from eventfm.registry import MissingExtraError, Registry, UnknownNameError, require

PARTS = Registry("part", {"ordered": "collections:OrderedDict", "broken": "eventfm.nowhere:Thing"})


def test_entries_load_when_asked_for() -> None:
    assert PARTS.get("ordered") is OrderedDict
    assert list(PARTS) == ["broken", "ordered"]
    assert "ordered" in PARTS
    with pytest.raises(ModuleNotFoundError):
        PARTS.get("broken")


def test_unknown_name_says_what_there_is() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown part 'order'; did you mean 'ordered'"):
        PARTS.get("order")
    with pytest.raises(UnknownNameError, match="known: broken, ordered"):
        PARTS.get("zzz")


def test_entry_points_add_names(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    import eventfm.registry

    def found(group: str) -> list[EntryPoint]:
        assert group == "eventfm.part"
        return [EntryPoint("plugin", "collections:Counter", group), EntryPoint("ordered", "collections:deque", group)]

    monkeypatch.setattr(eventfm.registry, "entry_points", found)
    parts = Registry("part", {"ordered": "collections:OrderedDict"})
    assert parts.get("plugin").__name__ == "Counter"
    assert parts.get("ordered") is OrderedDict


def test_missing_extra_names_the_command() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'eventfm\[live\]'"):
        require("a_package_that_is_not_there", "live")
