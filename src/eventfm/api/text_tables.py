"""Tables of text: on the terminal, and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; where the terminal is too narrow, the first column is wrapped and no other."""
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(header):
        table.add_column(name, overflow="fold", no_wrap=number > 0)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
