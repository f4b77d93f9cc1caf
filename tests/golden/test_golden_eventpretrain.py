"""Stage 1 of EventPretrain, through the importer, against the official outputs."""

from __future__ import annotations

import argparse

import pytest
import torch

from eventfm.methods.difference import DifferenceModeling, difference_loss
from eventfm.models.importers import CheckpointError, import_vit_stage1
from eventfm.models.masked_decoder import MaskedDecoder
from eventfm.models.vit import ViT

CLOSE = {"rtol": 1e-3, "atol": 1e-4}


@pytest.fixture(scope="module")
def official(golden):
    return golden.state("eventpretrain_vit_rec")


def checkpoint(path, state):
    """Write a file as the official trainer does."""
    extras = {"optimizer": {"state": {}}, "epoch": 7, "scaler": {}, "args": argparse.Namespace(lr=1e-3, device="cuda")}
    torch.save({"model": state, **extras}, path)
    return path


def test_vit_stage1_equals_the_official_run(golden, official, tmp_path):
    parts = import_vit_stage1(checkpoint(tmp_path / "stage1.pth", official))
    backbone, decoder = ViT(**parts.backbone_arguments), MaskedDecoder(**parts.decoder_arguments)
    backbone.load_state_dict(parts.backbone)
    decoder.load_state_dict(parts.decoder)
    method = DifferenceModeling(backbone, decoder).eval()
    expected = golden.arrays("eventpretrain_vit_stage1")
    ids_restore = torch.from_numpy(expected["ids_restore"]).long()
    mask = torch.from_numpy(expected["mask"]).float()
    ids_keep = ids_restore.argsort(dim=1)[:, : int((mask[0] == 0).sum())]

    with torch.no_grad():
        x = golden.input("input.events", (2, 5, 224, 224))
        tokens, prediction = method.predict(x, ids_keep, ids_restore)
        loss = difference_loss(prediction, golden.input("input.difference", (2, 1, 224, 224)), mask, 16)

    torch.testing.assert_close(tokens[:, ::7, ::8], torch.from_numpy(expected["visible_tokens"]), **CLOSE)
    torch.testing.assert_close(prediction[:, ::14, ::8], torch.from_numpy(expected["prediction"]), **CLOSE)
    torch.testing.assert_close(loss, torch.tensor(expected["loss"]), **CLOSE)


@pytest.mark.parametrize(("prefix", "norm"), [("pretrain_encoder.", "norm_l_h"), ("finetune_encoder.", "norm_h")])
def test_older_names_give_the_same_parts(official, prefix, norm):
    older = {
        key.replace("backbone.", prefix).replace("norm_layer", norm) if key.startswith("backbone.") else key: value
        for key, value in official.items()
    }
    ours, theirs = import_vit_stage1(official), import_vit_stage1(older)
    assert ours.backbone.keys() == theirs.backbone.keys()
    assert all(torch.equal(value, theirs.backbone[key]) for key, value in ours.backbone.items())


def test_every_official_key_is_used_once(official):
    parts = import_vit_stage1(official)
    assert len(parts.backbone) + len(parts.decoder) == len(official) - 2  # less the two tables of positions
    used = {value.data_ptr() for part in (parts.backbone, parts.decoder) for value in part.values()}
    assert used == {value.data_ptr() for key, value in official.items() if not key.endswith("pos_embed")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone.vit_block.3.attn.qkv.bias": None}, r"lacks 1 keys: blocks\.3\.attn\.qkv\.bias"),
        ({"backbone.patch_embed.proj.weight": None}, r"lacks what becomes 'backbone\.patch_embed\.proj\.weight'"),
        ({"queue": torch.zeros(2)}, "1 keys have no place in a stage-1 ViT: queue"),
        ({"backbone.vit_block.0.gamma": torch.zeros(2)}, r"1 keys too many: blocks\.0\.gamma"),
        ({"backbone.norm_h.weight": torch.ones(384)}, r"both 'backbone\.norm\.weight'"),
        ({"backbone.norm_layer.weight": torch.ones(383)}, r"'norm\.weight': expected shape \(384,\), got \(383,\)"),
        ({"backbone.pos_embed": torch.zeros(1, 196, 384)}, "not the fixed sine-cosine table"),
        ({"backbone.pos_embed": torch.zeros(1, 197, 384)}, r"of shape \(1, 196, 384\)"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_by_name(official, change, message):
    state = {key: value for key, value in {**official, **change}.items() if value is not None}
    with pytest.raises(CheckpointError, match=message):
        import_vit_stage1(state)
