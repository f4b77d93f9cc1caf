"""EventPretrain at the command line, killed with SIGKILL and started again: the end is the same, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from eventfm.api import prepare_teacher, preparing, pretrain
from eventfm.config import parse_overrides
from eventfm.engine.teacher_cache import build_cache
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack, save_recordings

SHARD_BYTES = 8 * 16 * 16 * 2
"""Eight pictures of sixteen tokens of sixteen numbers in half precision."""
SETTINGS = [
    "method.backbone.name=vit_nano",
    "method.backbone.arguments.patch_size=8",
    "data.num_workers=0",
    "train.batch_size=4",
    "train.log_every=1",
    "train.save_every=2",
    "train.keep_last=1",
    "train.device=cpu",
    "train.num_steps=4",
    "stages.difference.method.decoder.dim=32",
    "stages.difference.method.decoder.depth=1",
    "stages.difference.method.decoder.num_heads=2",
    *(f"stages.{stage}.method.contrast.hidden_dim=32" for stage in ("transition", "contrast")),
    *(f"stages.{stage}.method.contrast.queue_length=8" for stage in ("transition", "contrast")),
]
FAULTS = {
    "none": "",
    "in_stage_2": """
from eventfm.methods.contrast import FeatureContrast
def fail(self, progress, plain=FeatureContrast.after_step):
    kill() if progress.step == 3 else plain(self, progress)
FeatureContrast.after_step = fail
""",
    "in_shard_3": """
from eventfm.data.token_writer import TokenWriter
def fail(self, key, tokens, plain=TokenWriter.add, taken=[]):
    taken.append(key)
    kill() if len(taken) == 21 else plain(self, key, tokens)
TokenWriter.add = fail
""",
}
START = f"""
import os, signal, sys
from functools import partial
from eventfm import cli
def kill():
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "prepare":
    from eventfm.api import preparing
    preparing.build_cache = partial(preparing.build_cache, shard_bytes={SHARD_BYTES})
"""


def command(fault: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, which is killed where `fault` says."""
    return subprocess.run(
        [sys.executable, "-c", f"{START}{FAULTS[fault]}\ncli.main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        # Sums depend in their last bit on how many threads share them.
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )


def tokens(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.*") if path.suffix in (".safetensors", ".json")}


def lines(stage: Path) -> list[dict]:
    records = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k not in ("samples_per_s", "memory_gib")} for record in records]


def weights(run: Path) -> bytes:
    return (run / "encoder" / "encoder.safetensors").read_bytes()


def card(run: Path) -> dict:
    """Return what an encoder says of itself, but for the folder of the one it started from."""
    values = json.loads((run / "encoder" / "config.json").read_text())
    values["recipe"].pop("init")
    return values


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of three recordings of noise, each with eight frames."""
    rng = np.random.default_rng(0)

    def recording() -> ArrayRecording:
        t = np.sort(rng.integers(1, 70_000, 3000))
        events = Events.checked(
            rng.integers(0, 32, 3000), rng.integers(0, 32, 3000), t, rng.random(3000) < 0.5, Sensor(32, 32)
        )
        frames = ArrayTrack(np.arange(8) * 10_000, rng.integers(0, 256, (8, 32, 32)).astype(np.uint8))
        return ArrayRecording(events, {"frames": frames})

    folder = tmp_path_factory.mktemp("eventpretrain")
    return save_recordings(folder / "noise.h5", [(f"r{number}", recording()) for number in range(3)])


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny CLIP of 4x4 tokens of 16 numbers."""
    import transformers

    config = transformers.CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8,
        projection_dim=16,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("teacher") / "tiny-clip"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def cache(data: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the cache of a `prepare` that nothing interrupted."""
    out = tmp_path_factory.mktemp("straight") / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparing, "build_cache", partial(build_cache, shard_bytes=SHARD_BYTES))
        prepare_teacher(data=data, teacher=teacher, out=out, batch_size=4, quiet=True)
    return out


def test_a_teacher_killed_between_two_shards_goes_on(data: Path, teacher: Path, cache: Path, tmp_path: Path) -> None:
    wanted = ["prepare", "teacher", "--quiet", f"data={data}", f"teacher={teacher}", f"out={tmp_path}", "batch_size=4"]
    killed = command("in_shard_3", *wanted)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    first = tokens(tmp_path)
    assert sorted(first) == ["cache.json", "tokens-00000.safetensors", "tokens-00001.safetensors"]
    again = command("none", *wanted)
    assert again.returncode == 0, again.stderr
    assert "8 pictures new, 16 kept" in again.stdout
    assert tokens(tmp_path) == tokens(cache)
    assert len(tokens(cache)) == 4


def test_stages_killed_in_the_second_end_as_if_never_killed(
    data: Path, teacher: Path, cache: Path, tmp_path: Path
) -> None:
    keys = [f"data={data}", f"teacher.name={teacher}", f"teacher.cache={cache}", *SETTINGS]
    straight = pretrain("eventpretrain-vit-tiny", **parse_overrides([*keys, f"out={tmp_path / 'straight'}"])).out
    out = tmp_path / "run"
    wanted = ["pretrain", "eventpretrain-vit-tiny", *keys, f"out={out}"]
    killed = command("in_stage_2", *wanted)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert sorted(path.name for path in out.iterdir()) == ["1_difference", "2_transition", "config.yaml"]
    assert [path.name for path in (out / "2_transition" / "checkpoints").glob("step_*")] == ["step_00000002"]
    again = command("none", *wanted)
    assert again.returncode == 0, again.stderr
    for stage in ("1_difference", "2_transition", "3_contrast"):
        ours, theirs = out / stage, straight / stage
        assert lines(ours) == lines(theirs)
        assert [record["step"] for record in lines(ours)] == [0, 1, 2, 3, 4]
        assert weights(ours) == weights(theirs)
        assert card(ours) == card(theirs)
    assert weights(out) == weights(out / "3_contrast")
    assert card(out) == card(out / "3_contrast")
