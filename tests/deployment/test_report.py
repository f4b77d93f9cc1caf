from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from eventfm.deployment.report import Section, Table, write_report


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags are closed in order."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[str, str]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append((self.open[-1], data))


def sections() -> list[Section]:
    figure = Figure(figsize=(2, 1), dpi=50)
    figure.add_subplot().plot([1, 2])
    return [
        Section("Settings", settings={"data": {"path": "a & b", "bins": 5}, "lr": 1.5e-4, "extra": None, "empty": {}}),
        Section(
            "Results <script>alert(1)</script>",
            "One line.\nAnd <b>another</b>.",
            tables=[
                Table(
                    ("encoder", "accuracy", "n"),
                    [("ours", np.float32(0.876543), np.int64(100)), ("none", 0.5, True)],
                    "Probe",
                )
            ],
            pictures=[('the "input"', np.arange(24, dtype=np.uint8).reshape(4, 6)), ("curves", figure)],
        ),
    ]


def test_the_page_is_whole_escaped_and_needs_nothing_else(tmp_path: Path) -> None:
    path = write_report(tmp_path / "new" / "report.html", "Run <1> & more", sections())
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert ("h1", "Run <1> & more") in page.words
    assert ("h2", "Results <script>alert(1)</script>") in page.words
    assert ("p", "One line.\nAnd <b>another</b>.") in page.words
    assert not {"script", "link", "b"} & {tag for tag, _ in page.found}
    for _, attributes in page.found:
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "url(" not in text
    assert "@import" not in text
    assert "prefers-color-scheme: dark" in text


def test_tables_and_settings_are_readable(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path / "r.html", "Run", sections()).read_text(encoding="utf-8"))
    cells = [word for tag, word in page.words if tag == "td"]
    assert cells[:8] == ["data.path", "a & b", "data.bins", "5", "lr", "0.00015", "extra", "–"]
    assert cells[-6:] == ["ours", "0.8765", "100", "none", "0.5", "True"]
    assert [word for tag, word in page.words if tag == "caption"] == ["Probe"]


def test_pictures_come_back_to_the_last_bit(tmp_path: Path) -> None:
    text = write_report(tmp_path / "r.html", "Run", sections()).read_text(encoding="utf-8")
    found = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', text)]
    array, figure = (np.asarray(Image.open(io.BytesIO(data))) for data in found)
    np.testing.assert_array_equal(array, np.arange(24).reshape(4, 6))
    assert figure.shape[:2] == (50, 100)
    assert [a["alt"] for tag, a in Page(text).found if tag == "img"] == ['the "input"', "curves"]


def test_a_failed_report_leaves_the_old_one_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_report(tmp_path / "r.html", "old", [])
    with pytest.raises(ValueError, match=r"3 cells .* got 2: \(1, 2\)"):
        write_report(path, "new", [Section("a", tables=[Table(("a", "b", "c"), [(1, 2)])])])
    with pytest.raises(ValueError, match="'x', got float64"):
        write_report(path, "new", [Section("a", pictures=[("x", np.zeros((2, 2)))])])

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("eventfm.deployment.report.os.replace", full)
    with pytest.raises(OSError, match="no space"):
        write_report(path, "new", [])
    assert "<h1>old</h1>" in path.read_text()
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    write_report(path, "new", [])
    assert "<h1>new</h1>" in path.read_text()
