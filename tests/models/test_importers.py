"""Reading foreign files: nothing is run, and what cannot be used is refused. Values are in tests/golden."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch

from eventfm.models.importers import CheckpointError, import_vit_stage1, read_state


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
        import_vit_stage1(path)
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
