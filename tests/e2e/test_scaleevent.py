"""Distillation on real recordings and on simulated CamVid, each by one line, with a tiny teacher of random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from eventfm.api import pretrain

WITHIN_FRAMES = {"data.window.max_us": 38_000}
"""Windows that end before the next frame, where a recording has only a few."""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a DINOv3 of two blocks, whose tokens differ from patch to patch."""
    import transformers

    config = transformers.DINOv3ViTConfig(
        hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2, image_size=128,
        patch_size=16, num_register_tokens=4,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("teachers") / "tiny-dino"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.DINOv3ViTModel(config)
        for name, value in model.named_parameters():
            if "lambda1" in name:
                torch.nn.init.constant_(value, 0.5)
            if name.endswith("patch_embeddings.weight"):
                torch.nn.init.normal_(value, std=0.05)
        model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("slider_depth", WITHIN_FRAMES),
        ("davis346_street.aedat4", WITHIN_FRAMES),
        ("davis346_arm.aedat4", WITHIN_FRAMES),
        ("mvsec_windows", {}),
    ],
)
def test_real_pairs_teach(real_data: Path, teacher: Path, tmp_path: Path, name: str, settings: dict[str, Any]) -> None:
    out = pretrain(
        "scaleevent-tiny",
        data=real_data / "pairs" / name,
        teacher=teacher,
        out=tmp_path / "run",
        train={"num_steps": 100, "batch_size": 2, "lr": 2e-3, "device": "cpu"},
        **{"data.holdout": 0.2, **settings},
    )
    _learnt(out.out, 100)


def test_street_pictures_teach_once_they_move(real_data: Path, teacher: Path, tmp_path: Path) -> None:
    out = pretrain(
        "scaleevent-tiny",
        teacher=teacher,
        out=tmp_path / "run",
        train={"num_steps": 160, "batch_size": 4, "lr": 2e-3, "device": "cpu"},
        **{
            "data.images": real_data / "images" / "camvid" / "train" / "images",
            "data.motion.sensor": (128, 96),
            "data.holdout": 0.2,
        },
    )
    _learnt(out.out, 160)


def _learnt(run: Path, steps: int) -> None:
    """Check that held-out pairs cost a fifth less, and less than the teacher's mean token, as the report shows."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    first, last = lines[0], lines[-1]
    assert last["held_out/loss"] < 0.8 * first["held_out/loss"]
    assert last["held_out/loss"] < last["held_out/mean_token_loss"]
    assert last["held_out/active_share"] >= 0.2
    page = (run / "report.html").read_text()
    assert "before the first step" in page
    assert f"after {steps} steps" in page
