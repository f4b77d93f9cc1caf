"""Decoders of other projects in ours and back, and refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_decoders import CHANNELS, depth_anything, dpt, eomt, fitting_dpt, randomised
from transformers import SwinConfig, UperNetConfig, UperNetForSemanticSegmentation

from eventfm.models.decoders.dpt import DPTHead
from eventfm.models.decoders.eomt import EoMTDecoder
from eventfm.models.decoders.fcn import FCNHead
from eventfm.models.decoders.linear import LinearHead
from eventfm.models.decoders.upernet import UPerHead
from eventfm.models.importers import CheckpointError, write_official
from eventfm.models.importers.decoder_names import LAYOUTS
from eventfm.models.importers.decoders import export_decoder, load_decoder

GOLDEN = Path(__file__).parents[1] / "golden" / "keys"
DIMS = (4, 5, 6, 7)
BUILDERS = {
    EoMTDecoder: lambda: EoMTDecoder(8, 3, num_queries=4),
    DPTHead: lambda: fitting_dpt(16),
    UPerHead: lambda: UPerHead(DIMS, 3, dim=8),
    FCNHead: lambda: FCNHead(6, 3, dim=8),
}
PAIRS = [(kind, layout.name) for kind, layouts in LAYOUTS.items() for layout in layouts]

EOMT = {
    "q.weight",
    *(f"class_head.{kind}" for kind in ("weight", "bias")),
    *(f"mask_head.{i}.{kind}" for i in (0, 2, 4) for kind in ("weight", "bias")),
    *(f"upscale.{i}.{key}" for i in (0, 1) for key in ("conv1.weight", "conv1.bias", "conv2.weight")),
    *(f"upscale.{i}.norm.{kind}" for i in (0, 1) for kind in ("weight", "bias")),
}
"""Names in the files of EoMT and ScaleEvent."""

DEPTH_ANYTHING = {
    f"depth_head.{key}"
    for kind in ("weight", "bias")
    for key in (
        *(f"projects.{i}.{kind}" for i in range(4)),
        *(f"resize_layers.{i}.{kind}" for i in (0, 1, 3)),
        *(f"scratch.layer{i}_rn.weight" for i in (1, 2, 3, 4)),
        *(f"scratch.refinenet{i}.out_conv.{kind}" for i in (1, 2, 3, 4)),
        *(
            f"scratch.refinenet{i}.resConfUnit{unit}.conv{conv}.{kind}"
            for i in (1, 2, 3, 4)
            for unit in (1, 2)
            for conv in (1, 2)
        ),
        *(f"scratch.output_conv{layer}.{kind}" for layer in ("1", "2.0", "2.2")),
    )
}
"""Names of the head in the files of Depth Anything V2 and ScaleEvent."""


def built(kind, seed=0):
    """Return a decoder with random weights, but for the biases that some layouts have not."""
    torch.manual_seed(seed)
    decoder = BUILDERS[kind]().eval()
    for key, value in decoder.state_dict().items():
        if value.is_floating_point():
            value.zero_() if key.endswith(".conv.bias") else value.normal_().abs_()
    return decoder


def unchanged(decoder, before):
    return all(torch.equal(value, before[key]) for key, value in decoder.state_dict().items())


def copied(decoder):
    return {key: value.clone() for key, value in decoder.state_dict().items()}


@pytest.mark.parametrize(("kind", "layout"), PAIRS)
def test_round_trip(kind, layout):
    decoder, other = built(kind), built(kind, seed=1)
    exported = export_decoder(decoder, layout)
    report = load_decoder(other, {f"module.{key}": value for key, value in exported.items()} | {"encoder.x": None})
    assert (report.layout, report.kept) == (layout, [])
    assert unchanged(other, decoder.state_dict())
    assert len(report.left_out) == (4 if kind is DPTHead else 0)
    assert not any(exported[key.removeprefix("module.")].any() for key in report.left_out)


def test_official_names():
    assert export_decoder(built(EoMTDecoder), "official").keys() == EOMT
    assert export_decoder(built(DPTHead), "official").keys() == DEPTH_ANYTHING
    lines = (GOLDEN / "eventpretrain_convvit_semseg_heads.txt").read_text().splitlines()
    heads = {line.split()[0] for line in lines if not line.startswith("backbone.")}
    ours = [export_decoder(built(kind), "eventpretrain") for kind in (UPerHead, FCNHead)]
    assert ours[0].keys() | ours[1].keys() == heads


@pytest.mark.parametrize(
    ("build", "decoder", "layout"),
    [
        (eomt, lambda: EoMTDecoder(24, 5, num_queries=7), "huggingface"),
        (depth_anything, lambda: fitting_dpt(14), "huggingface"),
        (lambda: dpt("ignore"), lambda: fitting_dpt(16, hidden=32), "huggingface_dpt"),
    ],
)
def test_transformers_folders_load_and_their_models_take_ours(build, decoder, layout, tmp_path):
    theirs, ours = build(), decoder()
    theirs.save_pretrained(tmp_path / "model")
    report = load_decoder(ours, tmp_path / "model")
    assert (report.layout, report.kept) == (layout, [])
    exported = export_decoder(ours, layout)
    for key, value in theirs.state_dict().items():
        if key in exported and key not in report.left_out:
            assert torch.equal(exported[key], value), key
    result = theirs.load_state_dict(exported, strict=False)
    assert not result.unexpected_keys
    outside = ("embeddings.", "layers.", "layernorm.", "attn_mask_probs", "criterion.", "backbone.", "dpt.")
    assert all(key.startswith(outside) for key in result.missing_keys)


def test_layers_that_are_never_read_and_readouts_are_told():
    report = load_decoder(fitting_dpt(16, hidden=32), dpt("project").state_dict())
    unread = {f"neck.fusion_stage.layers.0.residual_layer1.convolution{i}" for i in (1, 2)}
    readouts = {f"neck.reassemble_stage.readout_projects.{i}.0" for i in range(4)}
    assert set(report.left_out) == {f"{name}.{kind}" for name in unread | readouts for kind in ("weight", "bias")}


def test_transformers_upernet_computes_the_same():
    swin = SwinConfig(embed_dim=4, depths=[1] * 4, num_heads=[1] * 4, out_features=[f"stage{i}" for i in (1, 2, 3, 4)])
    sizes = {"hidden_size": 8, "auxiliary_channels": 6, "auxiliary_in_channels": 16, "num_labels": 3}
    theirs = randomised(UperNetForSemanticSegmentation(UperNetConfig(backbone_config=swin, **sizes)))
    torch.manual_seed(0)
    dims = (4, 8, 16, 32)
    maps = [torch.randn(2, dim, *size) for dim, size in zip(dims, ((12, 10), (6, 5), (3, 3), (2, 2)), strict=True)]
    for their_head, ours in (
        (theirs.decode_head, UPerHead(dims, 3, dim=8)),
        (theirs.auxiliary_head, FCNHead(16, 3, dim=6)),
    ):
        assert load_decoder(ours, theirs.state_dict()) == ("huggingface", [], [])
        with torch.no_grad():
            torch.testing.assert_close(ours.eval()(maps), their_head(maps), rtol=1e-5, atol=1e-5)
    ours.conv.conv.bias.data += 1
    with pytest.raises(CheckpointError, match=r"huggingface has no place for 'conv\.conv\.bias' of this FCNHead"):
        export_decoder(ours, "huggingface")


@pytest.mark.parametrize(
    ("kind", "other", "layout", "last"),
    [
        (EoMTDecoder, lambda: EoMTDecoder(8, 5, num_queries=4), "huggingface", "class_predictor"),
        (EoMTDecoder, lambda: EoMTDecoder(8, 5, num_queries=4), "official", "class_head"),
        (DPTHead, lambda: fitting_dpt(16, num_outputs=2), "huggingface", "head.conv3"),
        (UPerHead, lambda: UPerHead(DIMS, 5, dim=8), "eventpretrain", "decode_head.conv_dense"),
    ],
)
def test_another_number_of_classes_keeps_the_last_layer(kind, other, layout, last):
    decoder, other = built(kind), other()
    before = copied(other)
    report = load_decoder(other, export_decoder(decoder, layout))
    ours = "class_head" if kind is EoMTDecoder else "predict"
    assert report.kept == [f"{ours}.weight", f"{ours}.bias"]
    assert report.left_out[:2] == [f"{last}.weight", f"{last}.bias"]
    for key, value in other.state_dict().items():
        assert torch.equal(value, before[key] if key.startswith(ours) else decoder.state_dict()[key]), key


@pytest.mark.parametrize("layout", ["huggingface", "official", "lightlytrain"])
def test_a_wide_decoder_on_a_narrow_backbone(layout):
    wide, narrow = built(EoMTDecoder), EoMTDecoder(6, 3, num_queries=4, dim=8)
    before = copied(narrow)
    report = load_decoder(narrow, export_decoder(wide, layout))
    assert report.kept == ["transfer.weight", "transfer.bias"]
    assert torch.equal(narrow.query_tokens, wide.query_tokens[:, :6])
    assert torch.equal(narrow.transfer.weight, before["transfer.weight"])
    assert torch.equal(narrow.class_head.weight, wide.class_head.weight)


def test_scaleevents_own_files(tmp_path):
    torch.manual_seed(0)
    decoder, other = (EoMTDecoder(6, 3, num_queries=4, dim=8) for _ in range(2))
    state = {f"module.{key}": value for key, value in export_decoder(decoder, "official").items()}
    state |= {"module.attn_mask_probs": torch.zeros(4), "module.encoder.cls_token": torch.zeros(1, 1, 6)}
    write_official(tmp_path / "a.pth", state, under=None)
    assert load_decoder(other, tmp_path / "a.pth") == ("official", [], [])
    assert unchanged(other, decoder.state_dict())
    with pytest.raises(CheckpointError, match=r"huggingface has no place for 'transfer\.weight'"):
        export_decoder(decoder, "huggingface")


def test_what_does_not_fit_is_named_and_changes_nothing():
    decoder, other = built(EoMTDecoder), built(EoMTDecoder, seed=1)
    before, state = copied(other), export_decoder(decoder, "huggingface")
    faults = {
        r"'mask_head\.fc2\.bias' is missing": {k: v for k, v in state.items() if k != "mask_head.fc2.bias"},
        r"'upscale_block\.block\.2\.conv1\.bias' has no place here": state
        | {"upscale_block.block.2.conv1.bias": state["query.weight"]},
        r"expected 'query\.weight' of shape \(4, 8\), got \(9, 8\)": state | {"query.weight": torch.zeros(9, 8)},
        r"expected 'class_predictor\.weight' of shape \(4, 8\), got \(4, 7\)": state
        | {"class_predictor.weight": torch.zeros(4, 7)},
    }
    for words, faulty in faults.items():
        with pytest.raises(CheckpointError, match=f"layout huggingface, is not quite this EoMTDecoder: {words}$"):
            load_decoder(other, faulty)
        assert unchanged(other, before)
    with pytest.raises(CheckpointError, match=r"stand for one weight: 'query\.weight'"):
        load_decoder(other, state | {"module.query.weight": state["query.weight"]})
    with pytest.raises(CheckpointError, match=r"; and 10 more$"):  # of 19 keys, and the classes' biases may be others
        load_decoder(other, {key: torch.zeros(99) for key in state})


def test_other_files_and_decoders_are_refused(tmp_path):
    state = export_decoder(built(DPTHead), "huggingface")
    with pytest.raises(CheckpointError, match=r"not the weights of one EoMTDecoder: expected one of the keys 'query\."):
        load_decoder(built(EoMTDecoder), state)
    with pytest.raises(CheckpointError, match="no files are known that hold LinearHead; they are for"):
        load_decoder(LinearHead((4,), 2), state)
    with pytest.raises(CheckpointError, match="there is no file or folder"):
        load_decoder(built(DPTHead), tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"expected one of the layouts .* of DPTHead, got 'eventpretrain'"):
        export_decoder(built(DPTHead), "eventpretrain")


def test_other_sizes_of_dpt_are_refused():
    state = export_decoder(built(DPTHead), "official")
    with pytest.raises(CheckpointError, match=r"'depth_head\.resize_layers\.0\.weight' has no place here"):
        load_decoder(DPTHead((24,) * 4, (4, 8, 16, 32), dim=16, channels=CHANNELS, hidden=4), state)
