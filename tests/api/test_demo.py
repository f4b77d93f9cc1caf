from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eventfm.api import demo_dense, demonstration
from eventfm.api.demonstration import beyond_the_spread, demo, subjects
from eventfm.data.animate import MotionConfig


def test_small_demo_runs_to_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demonstration, "NUM_SUBJECTS", 90)
    monkeypatch.setattr(demonstration, "NUM_STEPS", 1)
    short = MotionConfig(sensor=(32, 32), kind="saccades", duration_us=30_000, speed_px_s=(200.0, 400.0))
    monkeypatch.setattr(demonstration, "MOTION", short)
    monkeypatch.setattr(demo_dense, "NUM_WORLDS", 20)
    monkeypatch.setattr(demo_dense, "NUM_STEPS", 1)
    helped = demo(tmp_path, num_seeds=2)
    assert isinstance(helped, bool)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "corpus", "probe", "report.html", "seed0", "seed1", "segmentation", "worlds",
    ]  # fmt: skip
    text = (tmp_path / "report.html").read_text()
    assert ("did not help" in text) != helped
    assert "gain of pretraining" in text
    assert "does not look: wall everywhere" in text
    assert text.count("<img") == 2
    assert ("did NOT help" in capsys.readouterr().out) != helped


def test_seeds_below_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one seed, got 0"):
        demo(tmp_path / "out", num_seeds=0)
    assert not (tmp_path / "out").exists()


def test_subjects_are_each_a_digit_of_its_own() -> None:
    found = list(subjects(60))
    assert len({subject.name for subject in found}) == 60
    assert [subject.split for subject in found] == ["train"] * 40 + ["test"] * 20
    assert all(subject.light.shape == (64, 64) and subject.light.dtype == np.float32 for subject in found)
    assert min(subject.light.min() for subject in found) >= 0
    assert max(subject.light.max() for subject in found) <= 1
    assert {subject.label for subject in found} <= set("0123456789")
    again = list(subjects(60))
    assert all(np.array_equal(a.light, b.light) and a.name == b.name for a, b in zip(found, again, strict=True))


def test_help_must_be_beyond_the_spread() -> None:
    sure = [(0.10, 0.06, 0.14), (0.12, 0.08, 0.16), (0.11, 0.07, 0.15)]
    assert beyond_the_spread(sure)
    assert beyond_the_spread(sure[:1])
    assert not beyond_the_spread([*sure, (0.01, -0.02, 0.04)])
    assert not beyond_the_spread([(0.02, 0.01, 0.03), (0.30, 0.2, 0.4), (0.02, 0.01, 0.03)])
    assert not beyond_the_spread([(-0.1, -0.14, -0.06)])
