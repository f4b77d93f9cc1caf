"""Representations to and from plain values, as recipes and encoder files keep them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from eventfm.config import ConfigError
from eventfm.protocols import Representation
from eventfm.registry import did_you_mean
from eventfm.representations import REPRESENTATIONS


def build(config: Mapping[str, Any]) -> Representation:
    """Return the representation that `config` describes: `{"name": "voxel_grid", "num_bins": 5, ...}`.

    Raises:
        ConfigError: No name, an unknown or missing field, or a value that the representation refuses.
        UnknownNameError: No representation of that name.
    """
    arguments = dict(config)
    name = arguments.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError(f"expected a representation with a 'name' ({', '.join(REPRESENTATIONS)}), got {dict(config)}")
    kind = REPRESENTATIONS.get(name)
    known = [field.name for field in fields(kind)]
    for key in arguments:
        if key not in known:
            raise ConfigError(f"unknown key {key!r} of representation {name!r}{did_you_mean(key, known)}")
    try:
        representation: Representation = kind(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"representation {name!r}: {error}") from error
    return representation


def describe(representation: Representation) -> dict[str, Any]:
    """Return the name and fields of `representation`, such that `build` makes an equal one from them.

    Raises:
        ValueError: The representation is not in the registry, so that no file could name it.
    """
    for name in REPRESENTATIONS:
        if type(representation) is REPRESENTATIONS.get(name) and is_dataclass(representation):
            return {"name": name, **asdict(representation)}
    raise ValueError(
        f"expected a registered representation ({', '.join(REPRESENTATIONS)}), got {type(representation).__name__}; "
        "register it under the entry point group 'eventfm.representation'"
    )
