"""Official weights in and out, from the command line's side; `tests/golden` has what they compute."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from eventfm.api import export_weights, import_weights
from eventfm.cli import app
from eventfm.deployment.predict import load
from eventfm.models import build_backbone
from eventfm.models.encoder import EncoderError
from eventfm.models.importers import CheckpointError, export_dino, export_eventpretrain, write_official


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


VOXELS = {"name": "voxel_grid", "num_bins": 3}


@pytest.fixture(scope="module")
def dino() -> dict[str, torch.Tensor]:
    return build_backbone("dinov3_nano", 3, 32).state_dict()


def test_scaleevent_is_known_by_its_keys(dino: dict[str, torch.Tensor], tmp_path: Path) -> None:
    released = export_dino(dino, "scaleevent")
    write_official(tmp_path / "best.pth", released, under=None)
    card = import_weights(tmp_path / "best.pth", tmp_path / "encoder", backbone="dinov3", representation=VOXELS)
    assert card.backbone.model_dump() == {"name": "dinov3_nano", "arguments": {"patch_size": 16}}
    assert (card.in_channels, card.input_size, card.method) == (3, (480, 640), "scaleevent (official)")
    assert card.parents == ("ScaleEvent encoder best.pth, stage encoder",)
    backbone = load(tmp_path / "encoder").backbone
    assert all(torch.equal(value, dino[key]) for key, value in backbone.state_dict().items())
    again = torch.load(export_weights(tmp_path / "encoder", tmp_path / "again.pth", "scaleevent"), weights_only=True)
    assert again.keys() == released.keys()
    assert all(torch.equal(value, released[key]) for key, value in again.items())


def test_dino_goes_through_every_layout(dino: dict[str, torch.Tensor], tmp_path: Path) -> None:
    write_official(tmp_path / "a.pth", export_dino(dino, "official"), under=None)
    import_weights(tmp_path / "a.pth", tmp_path / "a", representation=VOXELS)
    export_weights(tmp_path / "a", tmp_path / "pretrained", "huggingface")
    card = import_weights(tmp_path / "pretrained", tmp_path / "b", representation=VOXELS)
    assert (card.method, card.input_size) == ("dinov3 (pictures)", (224, 224))
    written = CliRunner().invoke(app, ["export", str(tmp_path / "b"), str(tmp_path / "b.pth"), "--layout", "official"])
    assert written.exit_code == 0, written.output
    first, second = (torch.load(tmp_path / name, weights_only=True) for name in ("a.pth", "b.pth"))
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_what_of_dino_is_not_as_expected_is_refused(
    dino: dict[str, torch.Tensor], encoder: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "a.pth", tmp_path / "encoder"
    write_official(path, export_dino(dino, "scaleevent"), under=None)
    with pytest.raises(CheckpointError, match=r"expected stage con of EventPretrain, but a\.pth holds a backbone"):
        import_weights(path, out, stage="con")
    with pytest.raises(CheckpointError, match="expected a vit, but the checkpoint is a dinov3_nano"):
        import_weights(path, out, backbone="vit")
    with pytest.raises(ValueError, match=r"reads 3 channels, and .*polarity_counts.* has 2"):
        import_weights(path, out, representation={"name": "polarity_counts"})
    with pytest.raises(CheckpointError, match="no file or folder"):
        import_weights(tmp_path / "nothing", out)
    with pytest.raises(CheckpointError, match="cannot read"):
        import_weights(tmp_path / "nothing.pth", out)
    with pytest.raises(CheckpointError, match="a vit_small is written in the layout official alone"):
        export_weights(encoder, tmp_path / "vit.pth", "scaleevent")
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


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
