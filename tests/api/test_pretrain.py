from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from eventfm.api.pretraining import RunResult, pretrain, untrained
from eventfm.config import ConfigError
from eventfm.data.collection import CollectionError, open_collection
from eventfm.data.windows import WindowError
from eventfm.deployment.predict import load
from eventfm.engine.run_folder import RunFolderError
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack, save_recordings
from eventfm.models.encoder import read_card

Run = Callable[..., RunResult]


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def weights(result: RunResult) -> dict[str, torch.Tensor]:
    return load_file(result.encoder / "encoder.safetensors")


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_run_leaves_just_these_files(trained: RunResult) -> None:
    step = ["", "/.metadata", "/__0_0.distcp", "/state.json"]
    assert {str(path.relative_to(trained.out)) for path in trained.out.rglob("*")} == {
        "checkpoints", "checkpoints/hashes.json",
        *(f"checkpoints/step_0000000{n}{name}" for n in (3, 6) for name in step),
        "config.yaml",
        "encoder", "encoder/config.json", "encoder/encoder.safetensors",
        "metrics.jsonl",
        "pictures", *(f"pictures/step_000000{n}.png" for n in range(7)),
        "report.html",
    }  # fmt: skip
    assert (trained.step, trained.interrupted) == (6, False)
    assert trained.encoder == trained.out / "encoder"


def test_metrics_and_config(trained: RunResult) -> None:
    lines = [json.loads(line) for line in (trained.out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(7))
    assert all("held_out/loss" in line for line in lines)
    assert "loss" not in lines[0]
    assert all(np.isfinite(line["loss"]) for line in lines[1:])
    assert trained.metrics["loss"] == lines[-1]["loss"]
    config = yaml.safe_load((trained.out / "config.yaml").read_text())
    assert config["data"]["image_size"] == [32, 32]
    assert config["method"]["backbone"] == {"name": "vit_nano", "arguments": {"patch_size": 8}}
    assert config["data"]["split"] == "train"


def test_encoder_says_what_it_was_trained_on(trained: RunResult, store: Path) -> None:
    card = read_card(trained.encoder)
    collection = open_collection(store)
    assert card.trained_on == tuple(f"r{n:02d} {collection.entries[n].fingerprint}" for n in range(8))
    assert card.representation == {"name": "voxel_grid", "num_bins": 5, "span": "window"}
    assert (card.input_size, card.in_channels, card.method) == ((32, 32), 5, "difference")
    assert card.sensor["width"] == 32
    assert card.recipe["train"]["num_steps"] == 6
    load(trained.out)


def test_training_moves_the_weights_that_untrained_gives(
    trained: RunResult, store: Path, run: Run, tmp_path: Path
) -> None:
    """A run whose learning rate is next to nothing stays at the weights that `untrained` draws."""
    still = run(store, tmp_path / "still", **{"train.lr": 1e-30, "train.weight_decay": 0.0, "train.seed": 3})
    card = read_card(still.encoder)
    start = untrained(card, 3).state_dict()
    for name, value in weights(still).items():
        torch.testing.assert_close(value, start[name], rtol=0, atol=1e-20)
    assert not torch.equal(untrained(card, 0).state_dict()["patch_embed.proj.weight"], start["patch_embed.proj.weight"])
    first = untrained(read_card(trained.encoder), 0).state_dict()
    assert not any(torch.equal(value, first[name]) for name, value in weights(trained).items() if value.numel() > 64)


def test_a_complete_run_is_left_as_it_is(trained: RunResult, store: Path, table: Path, run: Run) -> None:
    before = hashes(trained.out)
    again = run(store, trained.out, **{"data.labels": table, "data.split": "train"})
    after = hashes(trained.out)
    assert {name for name in before if before[name] != after.get(name)} <= {"report.html"}
    assert before.keys() == after.keys()
    assert (again.step, again.interrupted) == (6, False)
    assert again.metrics["loss"] == trained.metrics["loss"]


def test_one_seed_one_result_however_many_workers(store: Path, run: Run, tmp_path: Path) -> None:
    torch.rand(3)  # whatever was drawn before does not matter
    first = run(store, tmp_path / "a", **{"data.num_workers": 0})
    torch.rand(5)
    second = run(store, tmp_path / "b", **{"data.num_workers": 2})
    assert equal(weights(first), weights(second))
    assert read_card(first.encoder).weights_sha256 == read_card(second.encoder).weights_sha256


def test_pretraining_draws_nothing_from_the_global_generators(store: Path, run: Run, tmp_path: Path) -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  (the state that must not move)
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    run(store, tmp_path / "a", **{"train.num_steps": 1})
    assert torch.equal(torch.get_rng_state(), torch_before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


def test_a_run_that_was_cut_short_ends_with_the_same_bits(
    store: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(store, tmp_path / "whole")

    from eventfm.methods.difference import DifferenceModeling

    forward = DifferenceModeling.forward

    def until_five(self: Any, batch: Any, progress: Any) -> Any:
        if progress.step == 4 and self.training:
            raise RuntimeError("the power went")
        return forward(self, batch, progress)

    monkeypatch.setattr(DifferenceModeling, "forward", until_five)
    with pytest.raises(RuntimeError, match="the power went"):
        run(store, tmp_path / "cut")
    monkeypatch.setattr(DifferenceModeling, "forward", forward)
    resumed = run(store, tmp_path / "cut")
    assert equal(weights(whole), weights(resumed))
    lines = [json.loads(line)["step"] for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert lines == list(range(7))


def test_another_run_in_the_same_folder_is_refused(trained: RunResult, store: Path, table: Path, run: Run) -> None:
    before = hashes(trained.out)
    with pytest.raises(RunFolderError, match=r"mask_ratio: 0\.5 there, 0\.75 now"):
        run(store, trained.out, **{"data.labels": table, "data.split": "train", "method.mask_ratio": 0.75})
    with pytest.raises(RunFolderError, match=r"train\.seed: 0 there, 1 now"):
        run(store, trained.out, **{"data.labels": table, "data.split": "train", "train.seed": 1})
    assert hashes(trained.out) == before


def test_a_folder_with_other_files_is_refused(store: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunFolderError, match=r"thesis\.tex"):
        run(store, tmp_path)


def test_changed_training_data_is_refused(write: Callable[..., Path], run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", 3)
    run(path, tmp_path / "out", **{"train.num_steps": 1})
    path.unlink()
    write(path, 4)
    with pytest.raises(RunFolderError, match="trained_on_sha256"):
        run(path, tmp_path / "out", **{"train.num_steps": 1})


def test_target_follows_the_data(write: Callable[..., Path], run: Run, tmp_path: Path, store: Path) -> None:
    without = run(write(tmp_path / "plain.h5", 3, frames=False), tmp_path / "plain", **{"train.num_steps": 2})
    report = (without.out / "report.html").read_text()
    assert "the log-intensity change that the window" in report
    with_frames = run(store, tmp_path / "frames", **{"train.num_steps": 2})
    assert "the difference in grey of the two frames" in (with_frames.out / "report.html").read_text()
    by_events = run(store, tmp_path / "events", **{"train.num_steps": 2, "data.target": "events"})
    assert "the log-intensity change" in (by_events.out / "report.html").read_text()


def test_pictures_are_animated(run: Run, tmp_path: Path) -> None:
    for n in range(3):
        grey = np.random.default_rng(n).integers(0, 256, (8, 8)).astype(np.uint8)
        (tmp_path / "pictures").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "pictures" / f"{n}.png"), grey.repeat(8, 0).repeat(8, 1))
    changes = {"data.images": tmp_path / "pictures", "data.motion.sensor": [32, 24], "train.num_steps": 2}
    result = run(None, tmp_path / "out", **changes)
    card = read_card(result.encoder)
    assert card.input_size == (24, 32)
    assert [item.split()[0] for item in card.trained_on] == ["0.png", "1.png", "2.png"]
    assert not any(name.startswith("held_out") for name in result.metrics)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"method.mask_ration": 0.5}, ConfigError, "unknown key 'method.mask_ration'; did you mean 'mask_ratio'"),
        ({"method.name": "diference"}, ValueError, "unknown method 'diference'; did you mean 'difference'"),
        ({"method.backbone.name": "vit_nan"}, ValueError, "unknown backbone 'vit_nan'; did you mean 'vit_nano'"),
        ({"representation.num_bin": 3}, ConfigError, "unknown key 'num_bin' of representation 'voxel_grid'"),
        ({"data.split": "train"}, CollectionError, "no recording is left with split=train"),
        ({"data.labels": "none.csv"}, CollectionError, r"cannot read the table none\.csv"),
        ({"train.batchsize": 3}, ConfigError, "did you mean 'batch_size'"),
    ],
)
def test_mistakes_are_named_and_leave_no_folder(
    store: Path, run: Run, tmp_path: Path, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        run(store, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_data_that_cannot_be_trained_on(run: Run, write: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match="nothing to train on"):
        run(None, tmp_path / "out")
    with pytest.raises(CollectionError, match="does not exist"):
        run(tmp_path / "gone", tmp_path / "out")
    empty = save_recordings(tmp_path / "empty.h5", {"a": ArrayRecording(Events.empty(Sensor(32, 32)))})
    with pytest.raises(WindowError, match="are they empty"):
        run(empty, tmp_path / "out")
    plain = write(tmp_path / "plain.h5", 2, frames=False)
    with pytest.raises(WindowError, match="a recording with frames"):
        run(plain, tmp_path / "out", **{"data.target": "frames"})


def test_frames_of_another_size(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 30_000, 900))
    events = Events.checked(*rng.integers(0, 32, (2, 900)), t, rng.integers(0, 2, 900), Sensor(32, 32))
    frames = ArrayTrack([0, 10_000, 20_000, 30_000], np.zeros((4, 48, 64), np.uint8))
    path = save_recordings(tmp_path / "a.h5", {"a": ArrayRecording(events, {"frames": frames})})
    with pytest.raises(WindowError, match="as large as the sensor, 32x32 pixels, got 64x48"):
        run(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert run(path, tmp_path / "out", **{"data.target": "events", "train.num_steps": 1}).step == 1


def test_recordings_shorter_than_a_window(run: Run, write: Callable[..., Path], tmp_path: Path) -> None:
    """Each is one window then, which is trained on; nothing is held out."""
    path = write(tmp_path / "short.h5", 2, frames=False)
    result = run(path, tmp_path / "out", **{"data.window.duration_us": 10**6})
    assert result.step == 6
    assert "held_out/loss" not in result.metrics


def test_recipe_from_a_file(store: Path, run: Run, tmp_path: Path) -> None:
    recipe = {
        "method": {
            "name": "difference",
            "backbone": {"name": "vit_nano"},
            "decoder": {"dim": 32, "depth": 1, "num_heads": 2},
        },
        "representation": {"name": "polarity_counts"},
        "train": {"num_steps": 1, "batch_size": 2, "device": "cpu"},
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(recipe))
    result = pretrain(path, data=store, out=tmp_path / "out")
    assert load(result.out).representation.channels == 2
