"""The page of the benchmark: what each part came to, and what was left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from eventfm.api.text_tables import markdown
from eventfm.engine.run_folder import write_atomic
from eventfm.evaluation.intervals import Interval
from tasks_real.settings import Settings

Table = tuple[list[str], list[list[str]]]

NEEDED = {
    "recognition": "--encoders",
    "segmentation": "--encoders",
    "flow": "--flow-models",
    "depth": "--depth-models",
}
"""The parts, and the argument without which each is left out."""


class Part(NamedTuple):
    """One part of the page."""

    title: str
    text: list[str]
    """Paragraphs."""
    tables: list[Table]
    pictures: list[str]
    """Files, relative to the page."""
    values: dict[str, Any]
    """For `results.json`."""


def write_report(out: Path, parts: Mapping[str, Part], settings: Settings) -> None:
    """Keep `parts`, and write `README.md` and `results.json` of them and of those that were kept before."""
    folder = out / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        write_atomic(folder / f"{name}.json", json.dumps(part._asdict(), indent=2) + "\n")
    files = {name: folder / f"{name}.json" for name in NEEDED}
    known = {name: Part(**json.loads(file.read_text())) for name, file in files.items() if file.exists()}
    left_out = [f"{name}, which needs {argument}" for name, argument in NEEDED.items() if name not in known]
    seconds = json.loads((out / "seconds.json").read_text()) if (out / "seconds.json").exists() else {}
    values = {
        "scale": "small",
        "settings": asdict(settings),
        "parts": {name: part.values for name, part in known.items()},
        "left_out": left_out,
        "seconds": seconds,
    }
    write_atomic(out / "results.json", json.dumps(values, indent=2) + "\n")
    write_atomic(out / "README.md", page(known, left_out, seconds, out))


def page(parts: Mapping[str, Part], left_out: list[str], seconds: Mapping[str, float], out: Path) -> str:
    """Return the page in Markdown; what is in `notes.md` in `out` is added to it."""
    lines = [
        "# The tasks on real data, at a small scale",
        "",
        "Small-scale results: small sets and few steps. They say whether models do what they should on pictures and "
        "recordings that nobody made for them, not how good they are at their published size. In brackets are 95 % "
        "bootstrap intervals; a difference whose interval leaves out 0 is bold.",
        "",
        f"Left out: {'; '.join(left_out) or 'nothing'}.",
        "",
    ]
    for part in parts.values():
        lines += [f"## {part.title}", ""]
        for text in part.text:
            lines += [text, ""]
        for header, rows in part.tables:
            lines += [markdown(list(header), [list(row) for row in rows]), ""]
        for picture in part.pictures:
            lines += [f"![{Path(picture).stem}]({picture})", ""]
    if (out / "notes.md").exists():
        lines += [(out / "notes.md").read_text(encoding="utf-8").rstrip(), ""]
    if seconds:
        spent = "; ".join(f"{name} {value:.0f} s" for name, value in seconds.items() if value >= 1)
        lines += [f"Time of this run, {sum(seconds.values()) / 60:.0f} minutes in all: {spent}.", ""]
    return "\n".join(lines)


def cell(value: Interval | None, factor: float = 1.0, digits: int = 2) -> str:
    """Return a figure with its interval; a dash where there is none."""
    if value is None:
        return "-"
    middle, low, high = (factor * number for number in value)
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def points(value: Interval | None, factor: float = 100.0, digits: int = 1) -> str:
    """Return a difference with its interval, bold where that leaves out 0; a dash where there is none."""
    if value is None:
        return "-"
    middle, low, high = (factor * number for number in value)
    text = f"{middle:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
    return f"**{text}**" if low > 0 or high < 0 else text
