from __future__ import annotations

from pathlib import Path

import pytest

from eventfm.config import Config, ConfigError, Several, apply_overrides, load_recipe, parse_overrides


class Inner(Config):
    depth: int = 1
    rate: float = 0.5


class Outer(Config):
    name: str
    inner: Inner = Inner()
    optional: Inner | None = None


def test_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'inner.dept'; did you mean 'depth'\?"):
        Outer.parse({"name": "a", "inner": {"dept": 3}})
    with pytest.raises(ConfigError, match=r"unknown key 'optional.rat'; did you mean 'rate'\?"):
        Outer.parse({"name": "a", "optional": {"rat": 3}})
    with pytest.raises(ConfigError, match="known: inner, name, optional"):
        Outer.parse({"name": "a", "zzz": 3})


def test_every_mistake_has_a_line() -> None:
    with pytest.raises(ConfigError) as caught:
        Outer.parse({"inner": {"depth": "deep"}})
    lines = str(caught.value).splitlines()
    assert lines[0] == "'name' is required and was not given"
    assert lines[1].startswith("'inner.depth': input should be a valid integer")
    assert lines[1].endswith("got 'deep'")


def test_configs_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Outer(name="a").name = "b"  # type: ignore[misc]


def test_overrides_are_yaml() -> None:
    parsed = parse_overrides(["a.b=3", "c=1e-3", "d=[1, 2]", "e=null", "f=text", "--g=true", "h=a=b"])
    assert parsed == {"a.b": 3, "c": "1e-3", "d": [1, 2], "e": None, "f": "text", "g": True, "h": "a=b"}
    with pytest.raises(ConfigError, match="key=value"):
        parse_overrides(["nothing"])


@pytest.mark.parametrize(
    ("given", "kept"),
    [("1", (1.0,)), ("0.05,1", (0.05, 1.0)), ("[0.05, 1]", (0.05, 1.0)), ("0.05, 1", (0.05, 1.0)), ("[]", ())],
)
def test_several_values_are_given_as_a_terminal_gives_them(given: str, kept: tuple[float, ...]) -> None:
    class Shares(Config):
        shares: Several[float]

    assert Shares.parse(parse_overrides([f"shares={given}"])).shares == kept
    with pytest.raises(ConfigError, match=r"'shares.1': input should be a valid number.* got 'all'"):
        Shares.parse({"shares": "1,all"})


def test_overrides_merge_without_touching_the_recipe() -> None:
    values = {"a": {"b": 1, "c": 2}, "d": 3}
    assert apply_overrides(values, {"a.b": 5, "d": 4}) == {"a": {"b": 5, "c": 2}, "d": 4}
    assert apply_overrides(values, {"a": {"b": 6}}) == {"a": {"b": 6, "c": 2}, "d": 3}
    assert apply_overrides(values, {"x.y.z": 1})["x"] == {"y": {"z": 1}}
    assert values == {"a": {"b": 1, "c": 2}, "d": 3}


def test_recipes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown recipe 'difference-vit-tinny'; did you mean 'difference-vit-tiny'"):
        load_recipe("difference-vit-tinny")
    file = tmp_path / "mine.yaml"
    with pytest.raises(ConfigError, match="cannot read"):
        load_recipe(file)
    file.write_text("[1, 2]")
    with pytest.raises(ConfigError, match="mapping"):
        load_recipe(file)
    file.write_text("a: [")
    with pytest.raises(ConfigError, match="not YAML"):
        load_recipe(file)


def test_a_variant_changes_the_recipe_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("x: {y: 1, z: 2}\nvariants:\n  low: {x: {y: 0}}\n  none: {x: null}\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\nx: {z: 3}\nvariants: {high: {x: {y: 9}}}\n")
    assert load_recipe(tmp_path / "a.yaml") == {"x": {"y": 1, "z": 2}}
    assert load_recipe(tmp_path / "a.yaml", "low") == {"x": {"y": 0, "z": 2}}
    assert load_recipe(tmp_path / "b.yaml", "low") == {"x": {"y": 0, "z": 3}}
    assert load_recipe(tmp_path / "b.yaml", "high") == {"x": {"y": 9, "z": 3}}
    with pytest.raises(ConfigError, match="no variant 'lo'; did you mean 'low'"):
        load_recipe(tmp_path / "a.yaml", "lo")
    with pytest.raises(ConfigError, match="no variant 'low'"):
        load_recipe("difference-vit-tiny", "low")
