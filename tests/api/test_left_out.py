"""What a run left out: its card on disk and its report agree with the recordings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from eventfm.api.pretraining import RunResult
from eventfm.io import list_recordings, open_recording


def test_a_run_says_what_curation_left_out(store: Path, run: Callable[..., RunResult], tmp_path: Path) -> None:
    limit = 0.39
    unasked = dict.fromkeys(("max_dark", "max_bright", "max_blur_px", "max_same", "max_misalignment"))
    curate = {"min_events": limit, **unasked}
    settings = {"data.window.by": "frame", "data.target": "events", "data.curate": curate}
    out = run(store, tmp_path / "run", **settings, **{"train.num_steps": 1}).out

    few = {}
    for name in list_recordings(store):
        recording = open_recording(f"{store}::{name}")
        for number in range(4):
            density = len(recording.events(10_000 * number, 10_000 * (number + 1))) / 32**2
            if density < limit:
                few[f"::{name}/{number:06d}"] = density
    assert 0 < len(few) < 48
    card = json.loads((out / "curation.json").read_text())
    assert {drop["name"]: drop["figure"] for drop in card["left_out"]} == few
    assert (card["pairs"], card["kept"], card["dropped"]["few_events"]) == (48, 48 - len(few), len(few))
    page = (out / "report.html").read_text()
    assert "Left out" in page
    assert f"Curation left {len(few)} of 48 windows out" in page
    assert min(few, key=few.__getitem__) in page
    assert "few_events" in page


def test_without_curation_there_is_no_card(trained: RunResult) -> None:
    assert not (trained.out / "curation.json").exists()
    assert "Left out" not in (trained.out / "report.html").read_text()
