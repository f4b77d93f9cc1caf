"""Runs on public data sets as they were downloaded: `data.dataset=NAME`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eventfm.api import finetune
from eventfm.api.pretraining import RunResult
from eventfm.data.opening import DataConfig, open_source
from eventfm.data.splits import open_parts
from eventfm.data.table import CollectionError

sys.path.insert(0, str(Path(__file__).parents[1] / "data/datasets"))
from fixtures import mvsec, ncaltech101

pytestmark = pytest.mark.filterwarnings("ignore:.*eventfm datasets check")


def test_a_run_reads_the_folder_as_it_was_downloaded(trained: RunResult, tmp_path: Path) -> None:
    ncaltech101.write(tmp_path / "official")
    result = finetune(
        "recognition", data=tmp_path / "official", encoder=trained.encoder, out=tmp_path / "run",
        **{
            "data.dataset": "n-caltech101", "data.image_size": 32, "data.holdout": 0.4,
            "train": {"num_steps": 1, "batch_size": 2, "device": "cpu"},
        },
    )  # fmt: skip
    assert np.isfinite(result.figures["top1"])


def test_splits_are_those_of_the_division(tmp_path: Path) -> None:
    truth = ncaltech101.write(tmp_path)
    parts = open_parts(DataConfig(path=str(tmp_path), dataset="n-caltech101"), ("train", "val", "test"))
    for part in ("train", "val", "test"):
        expected = sorted(name for name, sample in truth.samples.items() if sample.split == part)
        assert [entry.name for entry in parts[part].collection.entries] == expected
    chosen = open_source(DataConfig(path=str(tmp_path), dataset="n-caltech101", split="val")).collection
    assert {entry.split for entry in chosen.entries} == {"val"}


def test_test_sequences_are_left_out_of_pretraining(tmp_path: Path) -> None:
    mvsec.write_flow(tmp_path, gap=1)
    config = DataConfig(path=str(tmp_path), dataset="mvsec-flow-dt1")
    with pytest.warns(UserWarning, match="1 of 2 recordings or sequences are test sequences"):
        source = open_source(config)
    assert [entry.name for entry in source.collection.entries] == ["train/outdoor_day2"]


@pytest.mark.parametrize("more", [{"labels": "x.csv"}, {"images": "x"}, {"format": "atis"}, {"sensor": (34, 34)}])
def test_what_the_data_set_says_itself_is_refused(tmp_path: Path, more: dict[str, Any]) -> None:
    with pytest.raises(CollectionError, match=f"says itself what data.{next(iter(more))} would"):
        open_source(DataConfig(path=str(tmp_path), dataset="n-mnist", **more))
    with pytest.raises(CollectionError, match=r"data\.division belongs to a public data set"):
        open_source(DataConfig(path=str(tmp_path), division="est"))
