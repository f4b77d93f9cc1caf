"""Reading foreign files: nothing is run, and what cannot be used is refused. Values are in tests/golden."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch

from eventfm.models.importers import CheckpointError, import_eventpretrain, read_state, write_official


class Trap:
    """A pickle that touches a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_namespace_is_let_through(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"model": {"w": torch.ones(2)}, "args": argparse.Namespace(a=1, b=[2, "c"])}, path)
    assert read_state(path)["w"].tolist() == [1, 1]


@pytest.mark.parametrize("place", ["args", "model"])
def test_no_other_class_is(tmp_path, place):
    path, touched = tmp_path / "a.pth", tmp_path / "touched"
    torch.save({"model": {"w": torch.ones(2)}, place: Trap(touched)}, path)
    with pytest.raises(CheckpointError, match=r"holds more than tensors, plain values and argparse\.Namespace"):
        import_eventpretrain(path)
    assert not touched.exists()


def test_the_namespace_is_let_through_for_the_call_only(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"model": {}, "args": argparse.Namespace()}, path)
    read_state(path)
    with pytest.raises(Exception, match="argparse"):
        torch.load(path, weights_only=True)


@pytest.mark.parametrize("content", [{"weights": {}}, {"model": 3}, {"model": {"epoch": 3}}, [1]])
def test_files_without_a_state_dict_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"expected .* to hold a state dict under 'model'"):
        read_state(tmp_path / "a.pth")


def test_damaged_and_missing_files_are_refused(tmp_path):
    path = tmp_path / "a.pth"
    with pytest.raises(CheckpointError, match="cannot read"):
        read_state(path)
    torch.save({"model": {"w": torch.ones(1000)}}, path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not a checkpoint", whole[:-300]):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"cannot read|is damaged"):
            read_state(path)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"], "a plain ViT, as of timm"),
        (["mask_token", "blocks.0.norm1.weight", "decoder_blocks.0.norm1.weight"], "a masked autoencoder"),
        (["patch_embed.proj.weight", "layers.0.blocks.0.norm1.weight"], "a Swin in its own authors' layout"),
        (["module.backbone.pos_embed", "module.classify_head.bias"], "wrapped for several GPUs"),
        (["conv1.weight", "bn1.weight"], "of no layout that is known here"),
        ([], "its 0 keys"),
    ],
)
def test_other_projects_are_told_so(tmp_path, keys, words):
    state = {key: torch.ones(1) for key in keys}
    for content in (state, {"model": state}):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match=rf"not an EventPretrain checkpoint: .*{words}.*'backbone\.'"):
            import_eventpretrain(tmp_path / "a.pth")


def test_a_backbone_of_another_kind_is_refused():
    state = {f"backbone.layer{i}.conv.weight": torch.ones(1) for i in range(4)}
    with pytest.raises(CheckpointError, match="none of vit, convvit and swin"):
        import_eventpretrain(state)


def test_a_written_file_holds_the_tensors_alone(tmp_path):
    large = torch.arange(100_000.0)
    write_official(tmp_path / "a.pth", {"w": large[:3]})
    assert (tmp_path / "a.pth").stat().st_size < 10_000
    assert torch.load(tmp_path / "a.pth", weights_only=True)["model"]["w"].tolist() == [0, 1, 2]


def test_a_file_that_cannot_be_written_leaves_the_older_one(tmp_path, monkeypatch):
    path = tmp_path / "a.pth"
    write_official(path, {"w": torch.ones(1)})

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space left"):
        write_official(path, {"w": torch.zeros(1)}, overwrite=True)
    assert read_state(path)["w"].item() == 1
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]
