"""The table of formats and the help of `convert` name all there is."""

import re
from pathlib import Path

import pytest

from eventfm.io import READERS, convert
from eventfm.io.writers import WRITERS, target_format

TABLE = Path(__file__).resolve().parents[2] / "docs" / "formats.md"


@pytest.fixture(scope="module")
def rows():
    """The cells of the table by column: format, read as, write, random access, frames, who, traps."""
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    start = next(i for i, line in enumerate(lines) if line.startswith("| format | read as"))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start + 1 :]]
    return [row for row in cells if len(row) == 7]


def test_every_reader_has_a_row(rows):
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    assert named <= set(READERS)
    # Those without the mirror of jAER are in the text below.
    assert {name for name in READERS if not name.endswith("_raw")} == named
    assert all(f"`{name}`" in TABLE.read_text() for name in READERS)


def test_every_writer_has_a_row_with_its_suffix(rows):
    written = [row[2] for row in rows if row[2]]
    named = [name for cell in written for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(WRITERS)
    for cell in written:
        for name, suffix in re.findall(r"`(\w+)`: `(\.\w+)`", cell):
            assert target_format(f"a{suffix}") == name


def test_every_row_says_how_it_is_read_by_whom_written_and_what_to_mind(rows):
    assert len(rows) > 25
    for row in rows:
        assert all(row[i] for i in (0, 1, 3, 4, 5, 6)), row[0]


def test_the_help_of_convert_names_every_format_that_can_be_written():
    for name in WRITERS:
        assert f"`{name}`" in convert.__doc__
    for suffix in re.findall(r"`(\.\w+)`", convert.__doc__):
        assert target_format(f"a{suffix}") in WRITERS
