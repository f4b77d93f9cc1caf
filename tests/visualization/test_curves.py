from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from eventfm.visualization.curves import curves


def test_each_key_is_a_curve_of_its_records() -> None:
    records = [
        {"step": 0, "loss": 3.0},
        {"step": 10, "loss": float("nan"), "rank": 7},
        {"epoch": 1},
        {"step": 20, "loss": 1.0},
    ]
    figure = curves(records, {"Loss": ["loss", "other"], "Rank": ["rank"], "Empty": ["nothing"]})
    loss, rank, empty = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["Loss", "Rank", "Empty"]
    line, gaps = loss.lines
    np.testing.assert_array_equal(line.get_xydata(), [[0, 3], [20, 1]])
    np.testing.assert_array_equal(gaps.get_xdata(), [10])
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["loss"]
    np.testing.assert_array_equal(rank.lines[0].get_xydata(), [[10, 7]])
    assert empty.texts[0].get_text() == "nothing was logged"
    with pytest.raises(ValueError, match="at least one group"):
        curves(records, {})


def test_drawing_leaves_no_global_state_and_needs_no_torch() -> None:
    code = (
        "import sys, io, numpy as np\n"
        "from eventfm.visualization import curves, dense, events, features, flow, panel\n"
        "assert 'matplotlib' not in sys.modules and 'sklearn' not in sys.modules\n"
        "curves.curves([{'step': 1, 'a': 2}], {'a': ['a']}).savefig(io.BytesIO())\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
