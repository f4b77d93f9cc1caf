"""Settings as they are given, in Python or as `key=value`, made one nested mapping of plain values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from eventfm.config import apply_overrides


def dotted(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return `settings` with paths as text and short forms written out.

    `data=PATH` is `data.path=PATH`, `teacher=NAME` is `teacher.name=NAME`.
    """
    values = {key: _plain(value) for key, value in settings.items()}
    for short, whole in (("data", "data.path"), ("teacher", "teacher.name")):
        if isinstance(values.get(short), str):
            values[whole] = values.pop(short)
    return values


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return `settings` (see `dotted`) with every dotted key as a mapping of its own."""
    return apply_overrides({}, dotted(settings))


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
