"""What the verbs have in common: how settings and sizes are given."""

from __future__ import annotations

from typing import Annotated

import typer

Settings = Annotated[list[str] | None, typer.Argument(help="Settings as key=value.", metavar="[KEY=VALUE]...")]


def size_of(text: str | None) -> tuple[int, int] | None:
    """Return the (width, height) of WIDTHxHEIGHT, None of None.

    Raises:
        ValueError: It is neither.
    """
    if text is None:
        return None
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise ValueError(f"expected a sensor size as WIDTHxHEIGHT, got {text!r}")
    return int(width), int(height)
