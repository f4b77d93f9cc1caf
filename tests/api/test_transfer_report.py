"""The table of the transfer suite in a terminal of 80 columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eventfm.api.text_tables import print_table
from eventfm.api.transfer_cells import CellResult, Labels, Row, cells_of
from eventfm.api.transfer_report import lines_of, short_table, table_of
from eventfm.api.transferring import TransferResult
from eventfm.evaluation.intervals import seed_interval
from eventfm.evaluation.scoring import Scored

LONG = "without pretraining (vit_small, 2)"


def result(seeds: tuple[int, ...] = (0, 1, 2)) -> TransferResult:
    """Return flow of many pixels, whose figures take more room than shares do."""
    rows = [Row("a", "ours", "pretrained", LONG), Row("a", LONG, "scratch")]
    cells = []
    for number, cell in enumerate(cells_of(rows, ("full", "partial"), [Labels(0.125), Labels(None, 10)], seeds)):
        figures = {"epe": 11.5 + number / 2, "outliers_3px": 0.5, "angular_error": 20.0}
        cells.append(CellResult(cell, figures, np.ones((4, 9)), 1))
    trivial = Scored({"epe": 12.5, "outliers_3px": 0.9, "angular_error": 30.0}, np.ones((4, 9)))
    return TransferResult(Path("out"), "flow", tuple(cells), trivial, np.arange(12345))


def test_each_row_is_one_line_of_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    found = result()
    title, header, rows = short_table(found, lines_of(found))
    print_table(title, header, rows)
    printed = capsys.readouterr().out.splitlines()
    assert max(map(len, printed)) <= 80
    lines = [[cell.strip() for cell in line.strip("│").split("│")] for line in printed if line.startswith("│")]
    assert lines == rows
    assert len(lines) == 2 * 2 * 2 + 1


def test_the_short_table_says_what_the_whole_one_says() -> None:
    found = result()
    _, header, rows = short_table(found, lines_of(found))
    columns, whole = table_of(found, lines_of(found))
    assert header == ["row", "protocol", "labels", "epe"]
    for short, long in zip(rows[:-1], whole[:-1], strict=True):
        told = dict(zip(columns, long, strict=True))
        assert short[:3] == [told["row"], told["protocol"], told["labels"]]
        low, high = map(float, told["95 % interval over seeds"].split(" to "))
        mean, half = map(float, short[3].split(" ± "))
        assert (mean, mean - half, mean + half) == pytest.approx((float(told["epe"]), low, high), abs=2e-4)
    assert rows[-1] == ["trivial (does not look)", "", "", "12.5000"]
    values = lines_of(found)[0].values("epe")
    assert f"± {seed_interval(values).high - np.mean(values):.4f}" in rows[0][3]


def test_one_seed_has_no_interval() -> None:
    found = result((0,))
    assert [row[3] for row in short_table(found, lines_of(found))[2]][:2] == ["11.5000", "12.0000"]


def test_a_name_that_is_too_long_is_wrapped_and_no_figure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    print_table("title", ["row", "figure"], [["runs/" + "long/" * 20, "0.5000 ± 0.1000"]])
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 60
    assert "0.5000 ± 0.1000" in printed
    assert "".join(line.split("│")[1].strip() for line in printed.splitlines() if "│" in line) == "runs/" + "long/" * 20
