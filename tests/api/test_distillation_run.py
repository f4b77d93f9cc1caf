"""ScaleEvent's runs from one line: what a recipe makes, where it starts, what it shows and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eventfm.api import pretrain
from eventfm.api.pretraining import RunResult
from eventfm.config import ConfigError
from eventfm.deployment.predict import load
from eventfm.models.encoder import EncoderError, read_card

TINY: dict[str, Any] = {
    "data.window.max_us": 10_000,
    "data.window.active_threshold": 20,
    "method.mask.share": 0.5,
    "train": {"num_steps": 6, "batch_size": 4, "log_every": 2, "save_every": 3, "device": "cpu", "lr": 1e-3},
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a DINOv3 of the size of dinov3_nano with patches of 8 pixels, saved by transformers."""
    import transformers

    config = transformers.DINOv3ViTConfig(
        hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8,
        num_register_tokens=4,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("teachers") / "tiny-dino"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.DINOv3ViTModel(config)
        for name, value in model.named_parameters():
            if "lambda1" in name:  # as after training: the blocks say something
                torch.nn.init.constant_(value, 0.5)
        model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def distilled(store: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    out = tmp_path_factory.mktemp("distilled") / "run"
    return pretrain("scaleevent-tiny", data=store, teacher=teacher, out=out, **TINY)


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_the_run_says_where_it_started_and_what_is_active(distilled: RunResult) -> None:
    lines = records(distilled.out)
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4, 5, 6]
    for line in lines:
        # Half of the patches at most: of some, nothing is seen.
        assert 0.1 <= line["held_out/active_share"] <= 0.5
        assert line["held_out/mean_token_loss"] > 0
        assert {f"held_out/{name}" for name in ("loss", "token", "intra", "cross", "cosine")} <= line.keys()


def test_collapse_is_measured_at_three_densities_and_plotted(distilled: RunResult) -> None:
    lines = records(distilled.out)
    for line in lines:
        for density in (2, 4):  # at 1 the 8 active patches of a grid of 4x4 are too few to have neighbours
            for name in ("effective_rank", "mean_cosine", "neighbour_overlap", "cka", "teacher_effective_rank"):
                assert np.isfinite(line[f"collapse_x{density}/{name}"])
        assert line["collapse_x4/num_tokens"] == 4 * line["collapse_x2/num_tokens"]
        assert not any(key.startswith("collapse_x1/") for key in line)
    page = (distilled.out / "report.html").read_text()
    assert "A collapsed student" in page


def test_the_report_shows_before_and_after(distilled: RunResult) -> None:
    page = (distilled.out / "report.html").read_text()
    assert "before the first step" in page
    assert "after 6 steps" in page
    assert (distilled.out / "pictures" / "step_0000000.png").stat().st_size > 1000


def test_the_encoder_reads_recordings_without_frames_or_teacher(distilled: RunResult, store: Path) -> None:
    card = read_card(distilled.encoder)
    assert card.method == "distillation"
    assert card.representation["name"] == "event_volume"
    assert card.window["by"] == "time"
    assert 0 < card.window["duration_us"] <= 10_000
    assert "tiny-dino" in " ".join(card.parents)
    from eventfm.io import open_recording

    found = list(load(distilled.encoder).embed(open_recording(f"{store}::r00")))
    assert found
    assert found[0].tokens.shape == (16, 64)


def test_a_student_that_starts_as_its_teacher_is_its_teacher(store: Path, teacher: Path, tmp_path: Path) -> None:
    import transformers

    settings = {**TINY, "train": {**TINY["train"], "num_steps": 0}, "method.projection": "none"}
    out = pretrain("scaleevent-tiny", data=store, teacher=teacher, init="teacher", out=tmp_path / "run", **settings)
    model = transformers.DINOv3ViTModel.from_pretrained(teacher).eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            load(out.encoder).backbone(x).tokens, model(pixel_values=x).last_hidden_state[:, 5:], rtol=1e-4, atol=1e-5
        )
    assert out.step == 0
    parents = read_card(out.encoder).parents
    assert any("DINOv3" in parent for parent in parents), parents
    (line,) = records(out.out)
    assert line["step"] == 0


def test_a_cut_run_ends_with_the_same_bits(distilled: RunResult, store: Path, teacher: Path, tmp_path: Path) -> None:
    from eventfm.methods.distillation import StructureDistillation

    whole = StructureDistillation.forward

    def until_five(self: Any, batch: Any, progress: Any) -> Any:
        if progress.step == 4 and self.training:
            raise RuntimeError("the power went")
        return whole(self, batch, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StructureDistillation, "forward", until_five)
        with pytest.raises(RuntimeError, match="the power went"):
            pretrain("scaleevent-tiny", data=store, teacher=teacher, out=tmp_path / "cut", **TINY)
    again = pretrain("scaleevent-tiny", data=store, teacher=teacher, out=tmp_path / "cut", **TINY)
    ours, theirs = (load(result.encoder).backbone.state_dict() for result in (again, distilled))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_the_teachers_pictures_may_follow_the_inputs(store: Path, teacher: Path, tmp_path: Path) -> None:
    sizes = {"data.image_size": (16, 24), "teacher.input_size": "data"}
    out = pretrain("scaleevent-tiny", data=store, teacher=teacher, out=tmp_path / "run", **sizes, **TINY)
    parents = read_card(out.encoder).parents
    assert any('"input_size": [16, 24]' in parent for parent in parents)
    assert np.isfinite(records(out.out)[-1]["loss"])


def test_two_sizes_one_after_the_other(store: Path, teacher: Path, tmp_path: Path) -> None:
    """The recipe as released, at sizes of the store: its own widths need a teacher of 384 numbers."""
    small = {
        "method.backbone": {"name": "dinov3_nano", "arguments": {"patch_size": 8}},
        "data.window.max_us": 10_000,
        "method.mask.threshold": 10,
        "stages.low.data.image_size": (32, 32),
        "stages.high.data.image_size": (64, 64),
        "stages.low.train.num_steps": 2,
        "stages.high.train.num_steps": 2,
        "train": {"batch_size": 4, "device": "cpu"},
    }
    out = pretrain("scaleevent-vits16", data=store, teacher=teacher, out=tmp_path / "run", **small)
    cards = [read_card(out.out / stage / "encoder") for stage in ("1_low", "2_high")]
    assert [card.input_size for card in cards] == [(32, 32), (64, 64)]
    low, high = (load(out.out / stage / "encoder").backbone.state_dict() for stage in ("1_low", "2_high"))
    assert not torch.equal(low["blocks.0.norm1.weight"], high["blocks.0.norm1.weight"])
    torch.testing.assert_close(high["norm.weight"], torch.ones(64))  # as the teacher's: it is fixed, as released


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"teacher": None, "init": "teacher"}, ValueError, "teacher"),
        (
            {"method.projection": "none", "method.backbone.name": "vit_nano", "init": "teacher"},
            EncoderError,
            "keys|differ",
        ),
        ({"method.mask": {"by": "stored"}}, ValueError, "'active' in a batch"),
        ({"variant": "paper"}, ConfigError, "no variant 'paper'"),
        ({"data.target": "frames"}, ValueError, "target 'frames' needs windows between frames"),
        ({"data.window.by": "time"}, None, ""),
    ],
)
def test_what_does_not_fit(
    store: Path, teacher: Path, tmp_path: Path, changes: dict[str, Any], error: type[Exception] | None, message: str
) -> None:
    settings = {"teacher": teacher, **TINY, **changes}
    if error is None:  # a teacher is shown the frame nearest to the end of other windows
        assert pretrain("scaleevent-tiny", data=store, out=tmp_path / "run", **settings).step == 6
        return
    with pytest.raises(error, match=message):
        pretrain("scaleevent-tiny", data=store, out=tmp_path / "run", **settings)


def test_a_recording_without_frames_is_refused(write: Any, teacher: Path, tmp_path: Path) -> None:
    blind = write(tmp_path / "blind.h5", 3, frames=False)
    with pytest.raises(ValueError, match="neither frames nor a still"):
        pretrain("scaleevent-tiny", data=blind, teacher=teacher, out=tmp_path / "run", **TINY)


def test_pictures_in_motion_are_data_too(teacher: Path, tmp_path: Path) -> None:
    import cv2

    for number in range(6):
        picture = np.random.default_rng(number).integers(0, 256, (8, 8, 3)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), cv2.resize(picture, (48, 48), interpolation=cv2.INTER_CUBIC))
    settings = {"data.images": tmp_path, "data.motion.sensor": (32, 32), "data.holdout": 0.2}
    out = pretrain("scaleevent-tiny", teacher=teacher, out=tmp_path / "run", **settings, **TINY)
    assert records(out.out)[-1]["active_share"] > 0.2


def test_several_layers_of_the_teacher_are_compared(store: Path, teacher: Path, tmp_path: Path) -> None:
    layers = {"method.layers": [1, 2], "teacher.layers": [1, 2], "method.projection": "none"}
    out = pretrain("scaleevent-tiny", data=store, teacher=teacher, out=tmp_path / "run", **layers, **TINY)
    assert np.isfinite(records(out.out)[-1]["loss"])
    with pytest.raises(ValueError, match=r"teacher\.layers as many"):
        pretrain(
            "scaleevent-tiny", data=store, teacher=teacher, out=tmp_path / "no", **{"method.layers": [1, 2, 2]}, **TINY
        )
