"""Named parts: where each lives, loaded when asked for. Other packages add theirs by entry points."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator
from functools import cached_property
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any


class UnknownNameError(ValueError):
    """Raised when a registry has no entry of the name asked for."""


class MissingExtraError(ImportError):
    """Raised when a part needs a package that is installed by an extra."""


class Registry:
    """Names of one kind of part, each an import path `"module:attribute"`, loaded at first use.

    Packages outside add entries under the entry point group `eventfm.<kind>`. Entries of this project win over
    entry points of the same name.
    """

    def __init__(self, kind: str, entries: dict[str, str]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({**self._plugins, **self._entries}))

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._plugins

    def get(self, name: str) -> Any:
        """Return the part called `name`.

        Raises:
            UnknownNameError: No such name; the message lists the nearest and all known ones.
        """
        path = self._entries.get(name) or self._plugins.get(name)
        if path is None:
            raise UnknownNameError(f"unknown {self.kind} {name!r}{did_you_mean(name, list(self))}")
        module, _, attribute = path.partition(":")
        return getattr(importlib.import_module(module), attribute)

    @cached_property
    def _plugins(self) -> dict[str, str]:
        return {entry.name: entry.value for entry in entry_points(group=f"eventfm.{self.kind}")}


def did_you_mean(name: str, known: list[str]) -> str:
    """Return the end of an error message: the nearest known names, or all of them."""
    near = difflib.get_close_matches(name, known, n=3)
    if near:
        return f"; did you mean {' or '.join(repr(n) for n in near)}?"
    return f"; known: {', '.join(sorted(known))}" if known else "; none is known"


def require(module: str, extra: str) -> ModuleType:
    """Import and return `module`, which the extra `extra` installs.

    Raises:
        MissingExtraError: The message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module} is needed here and could not be imported ({error}); pip install 'eventfm[{extra}]'"
        ) from error
