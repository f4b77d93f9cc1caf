"""Names of runs in tables: the end of their path, as long as it takes to tell them apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventfm.api.folder_names import short_names


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["runs/first"], ["first"]),
        (["runs/first/model"], ["first"]),
        (["b/seg", "a/seg", "c/other"], ["b/seg", "a/seg", "other"]),
        (["b/seg/model", "a/seg"], ["b/seg", "a/seg"]),
        (["x/one/seg", "y/one/seg", "x/two/seg"], ["x/one/seg", "y/one/seg", "two/seg"]),
        (["a/seg", "./a/seg", "a/b/../seg"], ["seg", "seg", "seg"]),
        (["/seg", "/a/seg"], ["/seg", "a/seg"]),
    ],
)
def test_the_end_that_no_other_has(folders: list[str], names: list[str]) -> None:
    assert short_names([Path(folder) for folder in folders], "model") == names
