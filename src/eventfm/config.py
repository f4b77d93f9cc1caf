"""Configs: strict about keys, frozen, readable as YAML, changed by `key=value`; errors that name the key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from eventfm.registry import did_you_mean

RECIPES = Path(__file__).parent / "recipes"
_YAML = (".yaml", ".yml")


T = TypeVar("T")


def _listed(value: Any) -> Any:
    """Return what `a,b`, one value or a list says, as a list."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return value if isinstance(value, (list, tuple)) else [value]


Several = Annotated[tuple[T, ...], BeforeValidator(_listed)]
"""A field of a config that takes `a,b` and one value alone as well as a list, as people write them at a terminal."""


class ConfigError(ValueError):
    """Raised when a config has an unknown key, a missing one, or a value of the wrong kind."""


class Config(BaseModel):
    """Base of every config: frozen, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = "config", *, under: str = "") -> Self:
        """Return the config with `values`, which are called `where` as a whole, or were given under the key `under`.

        Raises:
            ConfigError: One line per mistake; an unknown key comes with the nearest known ones.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError("\n".join(_explain(cls, item, where, under) for item in error.errors())) from None


def load_recipe(name: str | Path, variant: str | None = None) -> dict[str, Any]:
    """Return the values of a recipe that ships with eventfm, by name, or of a YAML file, by path.

    A recipe may name another one under `base`, by name or by a path from its own folder: it is then that one but for
    what it says itself, mapping by mapping. A base has no base, so that two files tell all. Under `variants` it may
    name changes to itself, of which `variant` chooses one.

    Raises:
        ConfigError: No such recipe, file or variant, the file is not a mapping, or a base has a base.
    """
    values = _with_base(_recipe_path(name))
    variants = values.pop("variants", None) or {}
    if variant is None:
        return values
    if variant not in variants:
        raise ConfigError(f"recipe {name} has no variant {variant!r}{did_you_mean(variant, list(variants))}")
    return apply_overrides(values, variants[variant])


def recipe_names(folder: str = "") -> list[str]:
    """Return the names of the recipes of pretraining that ship with eventfm, or of those in `folder` beside them."""
    return sorted(path.stem for path in (RECIPES / folder).glob("*.yaml"))


def parse_overrides(arguments: Iterable[str]) -> dict[str, Any]:
    """Return `{"a.b": value}` for arguments `a.b=value`, each value read as YAML.

    Raises:
        ConfigError: An argument has no `=`.
    """
    overrides: dict[str, Any] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or not key:
            raise ConfigError(f"expected key=value, got {argument!r}")
        try:
            overrides[key.removeprefix("--")] = yaml.safe_load(text)
        except yaml.YAMLError:
            overrides[key.removeprefix("--")] = text
    return overrides


def apply_overrides(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of nested `values` with each dotted key of `overrides` set; mappings are merged."""
    out = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    for dotted, value in overrides.items():
        head, _, rest = dotted.partition(".")
        inner = out.get(head)
        if rest:
            out[head] = apply_overrides(inner if isinstance(inner, Mapping) else {}, {rest: value})
        elif isinstance(value, Mapping) and isinstance(inner, Mapping):
            out[head] = apply_overrides(inner, value)
        else:
            out[head] = value
    return out


def _with_base(path: Path) -> dict[str, Any]:
    values = _read_recipe(path)
    if "base" not in values:
        return values
    own = {key: value for key, value in values.items() if key != "base"}
    base_name = str(values["base"])
    base = path.parent / base_name if Path(base_name).suffix in _YAML else base_name
    inherited = _read_recipe(_recipe_path(base))
    if "base" in inherited:
        raise ConfigError(
            f"{path} builds on {base_name!r}, which has a base itself; name {inherited['base']!r} instead"
        )
    return apply_overrides(inherited, own)


def _recipe_path(name: str | Path) -> Path:
    path = Path(name)
    if path.suffix in _YAML:
        return path
    path = RECIPES / f"{name}.yaml"
    if not path.exists():
        raise ConfigError(f"unknown recipe {str(name)!r}{did_you_mean(str(name), recipe_names())}")
    return path


def _read_recipe(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read recipe {path}: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"expected {path} to hold a mapping of keys, got {type(values).__name__}")
    return values


def _explain(model: type[BaseModel], item: Any, where: str, under: str) -> str:
    key = ".".join(str(part) for part in (under, *item["loc"]) if part != "") or where
    if item["type"] == "extra_forbidden":
        return f"unknown key {key!r}{did_you_mean(str(item['loc'][-1]), _keys_beside(model, item['loc']))}"
    if item["type"] == "missing":
        return f"{key!r} is required and was not given"
    return f"{key!r}: {item['msg'][0].lower()}{item['msg'][1:]}, got {item['input']!r}"


def _keys_beside(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    current: Any = model
    for part in location[:-1]:
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            break
        current = field.annotation
        options = [option for option in getattr(current, "__args__", ()) if hasattr(option, "model_fields")]
        current = options[0] if options else current
    return list(getattr(current, "model_fields", {}))
