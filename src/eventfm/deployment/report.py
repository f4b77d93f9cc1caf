"""The report of a run: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
:root { color-scheme: light dark; --text: #1c1c1e; --faint: #6a6a70; --line: #d8d8dc; --ground: #fff; --band: #f5f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8e8ea; --faint: #a0a0a8; --line: #3a3a40; --ground: #17171a; --band: #222226; }
}
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: var(--text); background: var(--ground);
       font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; } h2 { margin-top: 2.2rem; font-size: 1.25rem; border-bottom: 1px solid var(--line); }
p { white-space: pre-line; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .92rem; }
caption { text-align: left; color: var(--faint); padding-bottom: .3rem; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { background: var(--band); } td.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1.2rem 0; } figcaption { color: var(--faint); font-size: .92rem; }
img { max-width: 100%; background: #fff; border: 1px solid var(--line); }
"""


@dataclass(frozen=True)
class Table:
    """Rows of cells under column names; numbers are shown to four significant digits."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """One part of a report: heading, text, settings, tables, pictures, in this order; only the heading is required."""

    heading: str
    text: str = ""
    """Plain text; line breaks are kept."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Keys and values; a mapping inside becomes dotted keys."""
    tables: Sequence[Table] = ()
    pictures: Sequence[tuple[str, NDArray[np.uint8] | Figure]] = ()
    """(caption, picture): (H, W) or (H, W, 3) uint8, or a matplotlib figure."""


def write_report(path: str | Path, title: str, sections: Sequence[Section]) -> Path:
    """Write one HTML file with everything inside it, and return its path.

    The file appears all at once or not at all, and replaces an older one.

    Args:
        path: Where to write; the folder is made if need be.
        title: Heading of the page.
        sections: Parts in order.

    Raises:
        ValueError: A table row of another length than its columns, or a picture of the wrong kind.
    """
    path = Path(path)
    body = "\n".join(_section(section) for section in sections)
    page = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        Path(temporary).chmod(0o644)  # a temporary file is for its owner alone, a report is to be read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.heading)}</h2>"]
    if section.text:
        parts.append(f"<p>{html.escape(section.text)}</p>")
    if section.settings:
        parts.append(_table(Table(("setting", "value"), _flat(section.settings))))
    parts += [_table(table) for table in section.tables]
    parts += [_figure(caption, picture) for caption, picture in section.pictures]
    return f"<section>\n{chr(10).join(parts)}\n</section>"


def _table(table: Table) -> str:
    for row in table.rows:
        if len(row) != len(table.columns):
            raise ValueError(
                f"expected {len(table.columns)} cells {tuple(table.columns)}, got {len(row)}: {tuple(row)}"
            )
    caption = f"<caption>{html.escape(table.caption)}</caption>" if table.caption else ""
    head = "".join(f'<th scope="col">{html.escape(str(name))}</th>' for name in table.columns)
    rows = "\n".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in table.rows)
    return f'<div class="wide"><table>{caption}<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'


def _cell(value: Any) -> str:
    if value is None:
        return "<td>–</td>"
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return f'<td class="number">{int(value)}</td>'
    if isinstance(value, (float, np.floating)):
        return f'<td class="number">{float(value):.4g}</td>'
    return f"<td>{html.escape(str(value))}</td>"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    for key, value in settings.items():
        name = f"{prefix}{key}"
        out += _flat(value, f"{name}.") if isinstance(value, Mapping) and value else [(name, value)]
    return out


def _figure(caption: str, picture: NDArray[np.uint8] | Figure) -> str:
    text = html.escape(caption)
    data = base64.b64encode(_png(caption, picture)).decode("ascii")
    return f'<figure><img src="data:image/png;base64,{data}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def _png(caption: str, picture: NDArray[np.uint8] | Figure) -> bytes:
    out = io.BytesIO()
    if hasattr(picture, "savefig"):
        picture.savefig(out, format="png", facecolor="white")
        return out.getvalue()
    from PIL import Image

    array = np.asarray(picture)
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise ValueError(
            f"expected a uint8 picture (H, W) or (H, W, 3) or a figure for {caption!r}, "
            f"got {array.dtype} of shape {array.shape}"
        )
    Image.fromarray(array).save(out, format="png")
    return out.getvalue()
