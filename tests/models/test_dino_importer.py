"""Files of DINO and ScaleEvent: values of the official code, round trips through every layout, and refusals."""

from __future__ import annotations

import ast
import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel

from eventfm.models import build_backbone
from eventfm.models.importers import (
    CheckpointError,
    dino_layout,
    export_dino,
    export_eventpretrain,
    import_dino,
    write_official,
)
from eventfm.models.importers.pretrained import write_pretrained

GOLDEN = Path(__file__).parents[1] / "golden"
NANO = [("dinov3_nano", {}), ("dinov2_nano", {}), ("dinov2_nano", {"registers": 4})]
PAIRS = [
    (name, arguments, layout)
    for name, arguments in NANO
    for layout in ("official", "huggingface", "scaleevent")
    if (name, layout) != ("dinov2_nano", "scaleevent")
]


def normal(name, shape):
    rng = np.random.Generator(np.random.Philox(key=[20260306, zlib.crc32(name.encode())]))
    return rng.standard_normal(size=shape).astype(np.float32)


def golden_weight(key, shape):
    v = normal(key, shape)
    last = key.split(".")[-1]
    if last == "gamma":
        v = 0.1 + 0.02 * v
    elif last == "bias_mask":
        v = np.repeat([1.0, 0.0, 1.0], shape[0] // 3)
    elif last == "periods":
        v = 100 ** (np.arange(16) / 16)
    elif len(shape) == 1 and last == "weight":
        v = 1 + 0.1 * v
    elif len(shape) <= 1:
        v = 0.02 * v
    else:
        v = v / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(v, dtype=np.float32))


@pytest.fixture(scope="module")
def official():
    """Return the state dict of the golden run, a DINOv3 ViT-S/16."""
    lines = (GOLDEN / "keys" / "dinov3_vits16.txt").read_text().splitlines()
    parts = [line.removesuffix(" torch.float32").partition(" ") for line in lines]
    shapes = {key: ast.literal_eval(shape) for key, _, shape in parts}
    return {key: golden_weight(key, shape) for key, shape in shapes.items()}


def random_state(name, arguments, in_channels=3):
    state = build_backbone(name, in_channels, 28, patch_size=4, **arguments).state_dict()
    generator = torch.Generator().manual_seed(0)
    return {key: torch.randn(value.shape, generator=generator) for key, value in state.items()}


def equal(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


def test_outputs_of_the_official_code(official):
    with np.load(GOLDEN / "scaleevent_vits16.npz") as file:
        cls, patch = file["cls"], file["patch"]
    released = {f"module.event_encoder.{key}": value for key, value in official.items()}
    found = import_dino(released)
    assert (found.backbone, found.stage) == ("dinov3_small", "encoder")
    backbone = found.build("backbone").train()
    with torch.no_grad():
        features = backbone(torch.from_numpy(normal("input.image", (2, 3, 96, 160))))
    assert features.grid == (6, 10)
    np.testing.assert_allclose(features.cls.numpy(), cls, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(features.tokens[:, ::4, ::4].numpy(), patch, rtol=1e-3, atol=1e-4)


def test_an_official_file_comes_out_as_it_went_in(official):
    again = export_dino(import_dino(official).parts["backbone"].state, "official")
    for key, value in official.items():  # what the mask hides is written as zeros
        if key.endswith("qkv.bias"):
            official = {**official, key: value * official[f"{key}_mask"]}
    equal(again, official)
    assert len(again) == 188


@pytest.mark.parametrize(("name", "arguments", "layout"), PAIRS)
def test_there_and_back_again(name, arguments, layout):
    state = random_state(name, arguments, in_channels=5)
    exported = export_dino(state, layout)
    assert dino_layout(exported) == layout
    found = import_dino(exported, backbone=name, in_channels=5)
    assert found.parts["backbone"].arguments.items() >= {"in_channels": 5, "patch_size": 4, **arguments}.items()
    equal(found.parts["backbone"].state, state)
    assert list(found.parts["backbone"].state) == list(state)
    equal(export_dino(found.parts["backbone"].state, layout), exported)


@pytest.mark.parametrize("prefix", ["module.event_encoder.", "event_encoder."])
def test_prefixes_of_scaleevent(prefix):
    state = random_state("dinov3_nano", {})
    plain = export_dino(state, "official")
    equal(import_dino({prefix + key: value for key, value in plain.items()}).parts["backbone"].state, state)
    assert set(export_dino(state, "scaleevent")) == {f"module.event_encoder.{key}" for key in plain}


def test_names_of_transformers_with_and_without_model():
    state = random_state("dinov3_nano", {})
    hub = export_dino(state, "huggingface")
    assert "layer.1.attention.q_proj.bias" in hub
    for start in ("layer.", "model.layer."):
        equal(
            import_dino({key.replace("layer.", start, 1): v for key, v in hub.items()}).parts["backbone"].state, state
        )
    both = {**hub, "model.layer.0.norm1.bias": hub["layer.0.norm1.bias"]}
    with pytest.raises(CheckpointError, match=r"stand for one weight: 'layer\.0\.norm1\.bias'"):
        import_dino(both)


@pytest.mark.parametrize(("name", "arguments"), NANO)
def test_a_written_folder_is_one_of_transformers(name, arguments, tmp_path):
    backbone = build_backbone(name, 3, 28, patch_size=4, **arguments)
    state = random_state(name, arguments)
    backbone.load_state_dict(state)
    write_pretrained(tmp_path / "model", export_dino(state, "huggingface"), backbone.published_config())
    theirs, info = AutoModel.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    x = torch.randn(1, 3, 16, 24)
    with torch.no_grad():
        hidden = theirs.eval()(pixel_values=x).last_hidden_state
        torch.testing.assert_close(backbone(x).tokens, hidden[:, backbone.num_prefix :], rtol=1e-4, atol=1e-5)
    theirs.save_pretrained(tmp_path / "again")
    for folder in ("model", "again"):
        found = import_dino(tmp_path / folder)
        assert (found.backbone, found.parts["backbone"].arguments["patch_size"]) == (name, 4)
        equal(found.parts["backbone"].state, state)
    with pytest.raises(FileExistsError, match="exists"):
        write_pretrained(tmp_path / "model", state, {})


def test_a_folder_of_another_network_is_refused(tmp_path):
    backbone = build_backbone("dinov3_nano", 3, 28, patch_size=4)
    tensors = export_dino(backbone.state_dict(), "huggingface")
    for i, change in enumerate(
        [{"num_attention_heads": 4}, {"layer_norm_eps": 1e-6}, {"rope_theta": 10.0}, {"hidden_act": "relu"}]
    ):
        write_pretrained(tmp_path / str(i), tensors, {**backbone.published_config(), **change})
        with pytest.raises(CheckpointError, match=rf"config\.json says .*{next(iter(change))}"):
            import_dino(tmp_path / str(i))
    (tmp_path / "0" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"expected config\.json and model\.safetensors there"):
        import_dino(tmp_path / "0")
    (tmp_path / "1" / "config.json").write_text("[")
    with pytest.raises(CheckpointError, match="cannot read the model in"):
        import_dino(tmp_path / "1")
    with pytest.raises(CheckpointError, match="there is no file or folder"):
        import_dino(tmp_path / "nothing")


def test_names_of_the_hub_are_asked_for_there(tmp_path, monkeypatch):
    import transformers.utils

    def cached_file(name, file):
        if name != "someone/dino":
            raise OSError(f"{name} is not a valid\nmodel identifier")
        return str(tmp_path / "model" / file)

    monkeypatch.setattr(transformers.utils, "cached_file", cached_file)
    backbone = build_backbone("dinov2_nano", 3, 28, patch_size=4)
    hub = export_dino(backbone.state_dict(), "huggingface")
    write_pretrained(tmp_path / "model", hub, backbone.published_config())
    equal(import_dino("someone/dino").parts["backbone"].state, backbone.state_dict())
    with pytest.raises(
        CheckpointError, match=r"the hub does not give model\.safetensors of that name: someone/other is"
    ):
        import_dino("someone/other")


def test_files(tmp_path):
    state = random_state("dinov3_nano", {})
    for under in (None, "model"):
        path = tmp_path / f"{under}.pth"
        write_official(path, export_dino(state, "scaleevent"), under=under)
        equal(import_dino(path).parts["backbone"].state, state)
    assert "module.event_encoder.cls_token" in torch.load(tmp_path / "None.pth", weights_only=True)


def changed(**changes):
    """Return a DINOv3 in the layout of ScaleEvent with other tensors under some names; None takes one away."""
    state = export_dino(random_state("dinov3_nano", {}), "scaleevent")
    for key, change in changes.items():
        name = f"module.event_encoder.{key.replace('__', '.')}"
        state[name] = change(state[name]) if name in state else change(None)
    return {key: value for key, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm__weight": lambda _: None}, "not quite a dinov3_nano: 1 keys missing: 'norm.weight'"),
        ({"head__weight": lambda _: torch.ones(1)}, "1 keys too many: 'module.event_encoder.head.weight'"),
        ({"cls_token": lambda t: t[..., :3]}, "expected 'module.event_encoder.cls_token' of shape (1, 1, 64), got"),
        (
            {"storage_tokens": lambda t: t[:, :2]},
            "'module.event_encoder.storage_tokens' of shape (1, 4, 64), got (1, 2",
        ),
        ({"blocks__1__attn__qkv__bias_mask": torch.ones_like}, "'module.event_encoder.blocks.1.attn.qkv.bias_mask' to"),
        ({"rope_embed__periods": lambda t: t * 2}, "'module.event_encoder.rope_embed.periods' to be 100**(j/8)"),
        ({"patch_embed__proj__weight": lambda t: t[:50]}, "no DINO that is 50 wide, by 'patch_embed.proj.weight'"),
        ({"patch_embed__proj__weight": lambda _: None}, "expected the kernel of the patches under one of"),
    ],
)
def test_what_is_not_quite_it_is_refused_by_name(changes, message):
    with pytest.raises(CheckpointError, match=re.escape(message)):
        import_dino(changed(**changes))


def test_more_than_the_encoder_is_refused():
    state = changed()
    state["module.teacher.cls_token"] = torch.ones(1)
    with pytest.raises(
        CheckpointError, match=r"begin with 'module\.event_encoder\.'.* 1 do not: 'module\.teacher\.cls"
    ):
        import_dino(state)


def test_periods_in_half_precision_are_the_same():
    import_dino(changed(rope_embed__periods=lambda t: t.bfloat16()))


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (
            {"backbone": "dinov2"},
            r"expected a dinov2, but .* a dinov3_nano, by 'module.*\.weight' of shape \(64, 3, 4, 4\)",
        ),
        ({"backbone": "dinov3_small"}, "expected a dinov3_small, but the checkpoint is a dinov3_nano"),
        ({"in_channels": 5}, r"expected a backbone for 5 input channels \(bins\), but .*'module.*\(64, 3, 4, 4\)"),
    ],
)
def test_what_is_not_as_expected_is_refused(expected, message):
    with pytest.raises(CheckpointError, match=message):
        import_dino(changed(), **expected)
    import_dino(changed(), backbone="dinov3", in_channels=3)


def test_other_projects_and_backbones_are_refused():
    vit = build_backbone("vit_small", 3, 224).state_dict()
    with pytest.raises(
        CheckpointError, match=r"not a checkpoint of DINOv3, DINOv2 or ScaleEvent: .*'backbone\.patch_emb"
    ):
        import_dino(export_eventpretrain("vit_small", {"backbone": vit}))
    with pytest.raises(CheckpointError, match=r"not quite a dinov3_small: .* keys missing: 'embeddings\.cls_token'"):
        export_dino(vit, "official")
    with pytest.raises(CheckpointError, match=r"expected the kernel of the patches .* the keys are 'a'"):
        export_dino({"a": torch.ones(1)}, "official")
    with pytest.raises(CheckpointError, match="expected one of the layouts"):
        export_dino(vit, "onnx")
    with pytest.raises(CheckpointError, match=r"a dinov2_nano is none of ScaleEvent's encoders"):
        export_dino(random_state("dinov2_nano", {}), "scaleevent")


def test_layouts_are_told_by_their_names():
    assert dino_layout([]) is None
    assert dino_layout(["backbone.vit_block.0.attn.qkv.weight"]) is None
    assert dino_layout(["blocks.0.attn.qkv.weight", "blocks.0.norm1.weight"]) is None  # a ViT without scales: MAE, timm
    assert json.dumps(sorted({dino_layout(changed())})) == '["scaleevent"]'
