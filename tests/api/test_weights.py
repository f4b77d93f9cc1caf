"""Official weights in and out, from the command line's side; `tests/golden` has what they compute."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eventfm.api import export_weights, import_weights
from eventfm.deployment.predict import load
from eventfm.models import build_backbone
from eventfm.models.encoder import EncoderError
from eventfm.models.importers import CheckpointError, export_eventpretrain, write_official


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("official") / "vit.pth"
    write_official(path, export_eventpretrain("vit_small", {"backbone": build_backbone("vit_small", 5, 224)}))
    return path


@pytest.fixture(scope="module")
def encoder(official: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imported") / "encoder"
    import_weights(official, out, backbone="vit", in_channels=5)
    return out


def test_an_imported_encoder_is_one_like_others(official: Path, encoder: Path) -> None:
    loaded = load(encoder)
    assert loaded.card.method == "eventpretrain (official, encoder)"
    assert loaded.card.representation == {"name": "voxel_grid", "num_bins": 5, "span": "events"}
    assert (loaded.input_size, loaded.window.duration_us) == ((224, 224), 33_333)
    state = torch.load(official, weights_only=True)["model"]
    torch.testing.assert_close(loaded.backbone.state_dict()["norm.weight"], state["backbone.norm_layer.weight"])


def test_out_again_it_is_the_same_file(official: Path, encoder: Path, tmp_path: Path) -> None:
    again = torch.load(export_weights(encoder, tmp_path / "again.pth"), weights_only=True)["model"]
    before = torch.load(official, weights_only=True)["model"]
    assert again.keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in again.items())


def test_what_is_not_as_expected_is_refused_and_nothing_is_written(official: Path, tmp_path: Path) -> None:
    out = tmp_path / "encoder"
    with pytest.raises(CheckpointError, match=r"expected a backbone for 10 input channels .* takes 5"):
        import_weights(official, out, in_channels=10)
    with pytest.raises(CheckpointError, match=r"expected a swin, but the checkpoint is a vit_small"):
        import_weights(official, out, backbone="swin")
    with pytest.raises(CheckpointError, match=r"expected stage con, .* of stage encoder"):
        import_weights(official, out, stage="con")
    with pytest.raises(ValueError, match=r"reads 5 channels, and .*polarity_counts.* has 2"):
        import_weights(official, out, representation={"name": "polarity_counts"})
    with pytest.raises(EncoderError, match="no encoder in"):
        export_weights(tmp_path, tmp_path / "out.pth")
    assert not any(tmp_path.iterdir())


def test_sizes_that_the_official_code_lacks_are_not_written(trained, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"64 wide"):
        export_weights(trained.out, tmp_path / "out.pth")
    assert not any(tmp_path.iterdir())


def test_commands(official: Path, tmp_path: Path) -> None:
    def eventfm(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "eventfm.cli", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    made = eventfm("import", official, tmp_path / "encoder", "stage=encoder")
    assert made.returncode == 0, made.stderr
    assert "vit_small, 5 channels" in made.stdout
    refused = eventfm("import", official, tmp_path / "other", "stage=recc")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "'stage': input should be 'rec'" in refused.stderr
