"""Every official layout in, out again, and no other."""

from __future__ import annotations

import re

import pytest
import torch

from eventfm.models.importers import (
    CheckpointError,
    eventpretrain,
    export_eventpretrain,
    import_eventpretrain,
    read_state,
    write_official,
)
from eventfm.models.importers.layout import build_part

FAMILIES = ("vit", "convvit", "swin")
STAGES = {"rec": "rec", "con": "con", "cls": "classification"}
LISTS = [*(f"{family}_{stage}" for family in FAMILIES for stage in STAGES), "convvit_dense"]
PARTS = {
    "rec": {"backbone", "decoder"},
    "con": {"backbone", "projector", "predictor", "teacher_projection", "queue"},
    "classification": {"backbone", "classifier"},
    "dense": {"backbone", "segmentation_head", "auxiliary_head"},
}


def dense(golden):
    backbone = golden.layout("eventpretrain_convvit_cls", "eventpretrain_convvit_semseg_heads")
    return {key: value for key, value in backbone.items() if not key.startswith("classify_head.")}


def layout(golden, name):
    return dense(golden) if name == "convvit_dense" else golden.layout(f"eventpretrain_{name}")


@pytest.fixture(autouse=True)
def _modules_once(monkeypatch, built):
    """Build each module without values once for all tests: the importer only reads their shapes."""
    build = eventpretrain.build_part

    def cached(*key):
        name = repr(key)
        if name not in built:
            built[name] = build(*key)
        return built[name]

    monkeypatch.setattr(eventpretrain, "build_part", cached)


@pytest.fixture(scope="module")
def built():
    return {}


@pytest.mark.parametrize("name", LISTS)
def test_every_key_is_used_once_and_comes_back(golden, name):
    state = layout(golden, name)
    checkpoint = import_eventpretrain(state)
    family, stage = name.split("_")
    assert checkpoint.stage == STAGES.get(stage, stage)
    assert checkpoint.backbone == {"vit": "vit_small", "convvit": "convvit_small", "swin": "swin_tiny"}[family]
    assert checkpoint.parts.keys() == PARTS[checkpoint.stage]
    assert checkpoint.parts["backbone"].arguments["fusion"] == (stage == "rec")
    fixed = {key for key in state if key.endswith(("pos_embed", "relative_position_index"))}
    used = [id(value) for part in checkpoint.parts.values() for value in part.state.values()]
    assert sorted(used) == sorted(id(value) for key, value in state.items() if key not in fixed)

    back = export_eventpretrain(checkpoint.backbone, checkpoint.states())
    assert back.keys() == state.keys()
    for key, value in state.items():
        assert back[key].shape == value.shape, key
        assert back[key].dtype == value.dtype, key
        assert value.is_meta or torch.equal(back[key], value), key
    with_values = import_eventpretrain(back)
    assert {n: p.arguments for n, p in with_values.parts.items()} == {
        n: p.arguments for n, p in checkpoint.parts.items()
    }


@pytest.mark.parametrize("name", ["vit_cls", "swin_cls"])
def test_values_come_back_bit_for_bit_through_a_file(golden, tmp_path, monkeypatch, name):
    monkeypatch.undo()
    state = golden.state(f"eventpretrain_{name}")
    checkpoint = import_eventpretrain(state)
    modules = {part: checkpoint.build(part) for part in checkpoint.parts}
    path = tmp_path / "official.pth"
    write_official(path, export_eventpretrain(checkpoint.backbone, modules))
    found = read_state(path)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], value) for key, value in state.items())
    with pytest.raises(FileExistsError):
        write_official(path, {})
    assert read_state(path).keys() == state.keys()


@pytest.mark.parametrize("name", ["vit_rec", "convvit_con", "swin_con", "convvit_cls"])
@pytest.mark.parametrize(("prefix", "norm"), [("pretrain_encoder.", "norm_l_h"), ("finetune_encoder.", "norm_h")])
def test_older_names_give_the_same_parts(golden, name, prefix, norm):
    official = layout(golden, name)
    older = {
        key.replace("backbone.", prefix).replace("norm_layer", norm) if key.startswith("backbone.") else key: value
        for key, value in official.items()
    }
    assert not any(key.startswith("backbone.") for key in older)
    ours, theirs = import_eventpretrain(official), import_eventpretrain(older)
    assert ours.parts.keys() == theirs.parts.keys()
    for part, (state, arguments) in ours.parts.items():
        assert arguments == theirs.parts[part].arguments
        assert {key: id(value) for key, value in state.items()} == {
            key: id(value) for key, value in theirs.parts[part].state.items()
        }


def one_of_each(state):
    """Return one key of each kind: of numbered layers, the first of its name."""
    return {re.sub(r"\d+", "#", key): key for key in reversed(list(state))}.values()


def refusal(state):
    with pytest.raises(CheckpointError) as caught:
        import_eventpretrain(state)
    return str(caught.value)


@pytest.mark.parametrize("name", [name for name in LISTS if name not in ("vit_cls", "convvit_cls")])
def test_a_key_too_few_too_many_renamed_or_of_another_shape_is_named(golden, name):
    state = layout(golden, name)
    for key in one_of_each(state):
        value = state[key]
        without = {other: tensor for other, tensor in state.items() if other != key}
        assert repr(key) in refusal(without), f"{key} left out"
        assert repr(key) in refusal({**without, f"{key}_": value}), f"{key} renamed"
        assert repr(f"{key}.more") in refusal({**state, f"{key}.more": value}), f"{key} doubled"
        longer = (value.shape[0] + 1, *value.shape[1:]) if value.ndim else (1,)
        assert repr(key) in refusal({**state, key: value.new_empty(longer)}), f"{key} longer"
        assert repr(key) in refusal({**state, key: value.new_empty((*value.shape, 1))}), f"{key} with one axis more"
        other = torch.float32 if not value.is_floating_point() else torch.int64
        assert repr(key) in refusal({**state, key: value.to(other) + 1}), f"{key} of another type"


@pytest.mark.parametrize("name", ["vit_rec", "convvit_con"])
def test_other_positions_are_refused(golden, name):
    state = layout(golden, name)
    key = "backbone.pos_embed"
    shifted = state[key].clone()
    shifted[0, 3, 5] += 1e-3
    assert f"{key!r} is not the fixed sine-cosine table" in refusal({**state, key: shifted})


def test_another_index_table_is_refused(golden):
    state = layout(golden, "swin_cls")
    key = "backbone.swin_block.1.blocks.1.attn.relative_position_index"
    assert f"{key!r} is not the fixed index table" in refusal({**state, key: state[key].T.contiguous()})


@pytest.mark.parametrize("pointer", [-1, 1024])
def test_a_pointer_outside_the_queue_is_refused(golden, pointer):
    state = {**layout(golden, "vit_con"), "queue_ptr": torch.tensor([pointer])}
    assert f"expected 'queue_ptr' between 0 and 1023, got {pointer}" in refusal(state)


def test_a_key_too_many_has_the_name_that_it_has_in_the_file(golden):
    state = layout(golden, "vit_rec")
    assert "1 keys too many: 'pretrain_encoder.more'" in refusal({**state, "pretrain_encoder.more": torch.ones(1)})


def test_two_names_of_one_weight_are_refused(golden):
    state = layout(golden, "vit_rec")
    message = refusal({**state, "pretrain_encoder.norm_h.weight": torch.ones(384)})
    assert "'backbone.norm_layer.weight' and 'pretrain_encoder.norm_h.weight' are both" in message


@pytest.mark.parametrize(
    ("name", "expected", "words"),
    [
        ("vit_rec", {"stage": "con"}, ["expected stage con", "vit of stage rec", "'pretrain_rec_decoder.mask_token'"]),
        ("swin_con", {"stage": "rec"}, ["expected stage rec", "swin of stage con", "'queue'"]),
        ("vit_rec", {"stage": "pretrain"}, ["expected one of the stages", "'pretrain'"]),
        (
            "convvit_con",
            {"backbone": "vit"},
            [
                "expected a vit,",
                "is a convvit_small of stage con",
                "'backbone.patch_embed.proj.weight'",
                "'backbone.patch_embed1",
            ],
        ),
        (
            "convvit_dense",
            {"backbone": "swin_tiny"},
            [
                "expected a swin_tiny,",
                "is a convvit_small of stage dense",
                "'backbone.swin_block.0.blocks.0.norm1.weight'",
            ],
        ),
        (
            "vit_cls",
            {"backbone": "vit_base"},
            [
                "is a vit_small",
                "expected 'backbone.patch_embed.proj.weight' of shape (768, 5, 16, 16), got (384, 5, 16, 16)",
            ],
        ),
        ("vit_cls", {"backbone": "resnet"}, ["expected a backbone of", "'resnet'"]),
        (
            "swin_rec",
            {"in_channels": 3},
            ["expected a backbone for 3 input channels", "'backbone.patch_embed.proj.weight' of shape (96, 5, 4, 4)"],
        ),
    ],
)
def test_what_was_not_expected_is_refused_with_what_it_is(golden, name, expected, words):
    state = layout(golden, name)
    with pytest.raises(CheckpointError) as caught:
        import_eventpretrain(state, **expected)
    for word in words:
        assert word in str(caught.value)


def test_what_was_expected_is_let_through(golden):
    state = layout(golden, "swin_rec")
    for backbone in ("swin", "swin_tiny"):
        assert import_eventpretrain(state, backbone=backbone, stage="rec", in_channels=5).backbone == "swin_tiny"


@pytest.mark.parametrize(
    ("name", "network"), [("vit_ecdp", "vit_ecdp"), ("vit_mem", "vit_mem"), ("swin_ecddp", "swin_ecddp")]
)
def test_compared_networks_are_refused_by_name(golden, name, network):
    assert f"a checkpoint of {network}, by its 'backbone." in refusal(golden.layout(f"eventpretrain_{name}_cls"))


def test_swin_small_is_told_from_swin_tiny(golden):
    state = layout(golden, "swin_cls")
    deeper = dict(state)
    for key, value in state.items():
        for number in range(6, 18):
            deeper[key.replace("swin_block.2.blocks.0.", f"swin_block.2.blocks.{number}.")] = value
    assert import_eventpretrain(deeper).backbone == "swin_small"
    one_less = {key: value for key, value in deeper.items() if not key.startswith("backbone.swin_block.2.blocks.17.")}
    assert "'backbone.swin_block.2.blocks.17.norm1.weight'" in refusal(one_less)


@pytest.mark.parametrize(("family", "backbone"), [("vit", "vit_base"), ("convvit", "convvit_base")])
def test_base_sizes_are_exported_and_recognised(family, backbone):
    with torch.device("meta"):
        parts = {
            "backbone": build_part("backbone", backbone, {"in_channels": 5, "image_size": 224}),
            "decoder": build_part(
                "decoder",
                backbone,
                {"in_dim": 768, "patch_values": 256, "grid": (14, 14), "dim": 512, "depth": 8, "num_heads": 16},
            ),
        }
    official = export_eventpretrain(backbone, parts)
    assert official["pretrain_rec_decoder.vit_block.7.attn.qkv.weight"].shape == (1536, 512)
    checkpoint = import_eventpretrain(official)
    assert checkpoint.backbone == backbone
    assert checkpoint.parts["decoder"].arguments["num_heads"] == 16


@pytest.mark.parametrize(
    ("backbone", "dims"),
    [("vit_small", (384,) * 4), ("convvit_small", (128, 256, 384, 384)), ("swin_tiny", (96, 192, 384, 768))],
)
def test_dense_checkpoints_have_the_published_size(backbone, dims):
    """Of ViT and Swin no list of keys is at hand, but the numbers of parameters are, in millions."""
    with torch.device("meta"):
        parts = {
            "backbone": build_part("backbone", backbone, {"in_channels": 5, "image_size": 224, "fusion": False}),
            "segmentation_head": build_part("segmentation_head", backbone, {"in_dims": dims, "num_outputs": 11}),
            "auxiliary_head": build_part("auxiliary_head", backbone, {"in_dim": dims[2], "num_outputs": 11}),
        }
        if backbone == "convvit_small":
            arguments = {"in_channels": 5, "image_size": 224, "fusion": False, "extra_level": True}
            parts["backbone"] = build_part("backbone", backbone, arguments)
        if backbone == "swin_tiny":
            parts["unused_level"] = build_part("unused_level", backbone, {"dim": 768})
    official = export_eventpretrain(backbone, parts)
    checkpoint = import_eventpretrain(official)
    assert checkpoint.stage == "dense"
    assert checkpoint.parts.keys() == parts.keys()
    buffers = ("running_mean", "running_var", "num_batches_tracked", "relative_position_index")
    size = sum(value.numel() for key, value in official.items() if not key.endswith(buffers))
    assert round(size / 1e6, 2) == {"vit_small": 39.73, "convvit_small": 40.99, "swin_tiny": 52.43}[backbone]


def test_flow_heads_have_two_outputs(golden):
    state = dense(golden)
    for key in ("decode_head.conv_dense.", "auxiliary_head.conv_dense."):
        state[f"{key}weight"], state[f"{key}bias"] = state[f"{key}weight"][:2], state[f"{key}bias"][:2]
    parts = import_eventpretrain(state, stage="dense").parts
    assert parts["segmentation_head"].arguments["num_outputs"] == 2
    assert parts["auxiliary_head"].arguments["num_outputs"] == 2


def test_what_no_official_checkpoint_holds_is_not_exported(golden):
    checkpoint = import_eventpretrain(layout(golden, "vit_rec"))
    states = checkpoint.states()
    unused = {"0.bias": torch.empty(384)}
    with pytest.raises(CheckpointError, match=r"of stage encoder: 1 keys too many: 'backbone\.fpn\.0\.bias'"):
        export_eventpretrain("vit_small", {"backbone": states["backbone"], "unused_level": unused})
    alone = export_eventpretrain("vit_small", {"backbone": states["backbone"]})
    assert all(key.startswith("backbone.") for key in alone)
    assert import_eventpretrain(alone).stage == "encoder"
    with pytest.raises(CheckpointError, match=r"unknown parts \['head'\]"):
        export_eventpretrain("vit_small", {**states, "head": {}})
    with pytest.raises(CheckpointError, match=r"expected a backbone of .* got 'dinov3'"):
        export_eventpretrain("dinov3", states)
    narrow = {**states, "backbone": {**states["backbone"], "patch_embed.proj.weight": torch.empty(64, 5, 16, 16)}}
    with pytest.raises(CheckpointError, match="no published vit is 64 wide"):
        export_eventpretrain("vit_small", narrow)
