"""Teachers: the patch tokens that transformers itself computes, whatever surrounds them."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_teachers import (
    CLIP,
    HALF,
    IMAGENET,
    PLAIN,
    SQUARE,
    after,
    clip_full,
    clip_vision,
    dinov2,
    dinov2_with_registers,
    dinov3,
    normalised,
    other,
    picture,
    random,
    sam,
    sam_full,
    save,
    siglip,
    siglip2,
    siglip2_full,
    siglip_full,
    vit,
    vit_classifier,
)
from torch import nn
from torch.nn.functional import layer_norm

from eventfm.models.teachers import StoredTeacher, TeacherError, load_teacher


def clip_tokens(model, x):
    vision = model.vision_model
    hidden = vision(pixel_values=x).last_hidden_state
    normed = layer_norm(hidden, (32,), vision.post_layernorm.weight, vision.post_layernorm.bias, 1e-5)
    return (normed @ model.visual_projection.weight.T)[:, 1:]


def siglip2_tokens(model, x):
    # By the image processor's own function, one picture at a time.
    from transformers.models.siglip2.image_processing_pil_siglip2 import convert_image_to_patches

    patches = torch.stack([torch.from_numpy(convert_image_to_patches(one.numpy(), 8)) for one in x])
    ones = torch.ones(len(x), 16, dtype=torch.int64)
    shape = torch.tensor([[4, 4]] * len(x))
    return model(pixel_values=patches, pixel_attention_mask=ones, spatial_shapes=shape).last_hidden_state


def sam_tokens(model, x):
    return model(pixel_values=x).last_hidden_state.permute(0, 2, 3, 1).flatten(1, 2)


FAMILIES = {
    "clip": (clip_vision, CLIP, clip_tokens, 24),
    "clip_full": (clip_full, CLIP, clip_tokens, 24),
    "dinov2": (dinov2, IMAGENET, after(1), 32),
    "dinov2_with_registers": (dinov2_with_registers, IMAGENET, after(4), 32),
    "dinov3": (dinov3, IMAGENET, after(5), 32),
    "siglip": (siglip, HALF, after(0), 32),
    "siglip_full": (siglip_full, HALF, lambda model, x: after(0)(model.vision_model, x), 32),
    "siglip2": (siglip2, HALF, siglip2_tokens, 32),
    "siglip2_full": (siglip2_full, HALF, lambda model, x: siglip2_tokens(model.vision_model, x), 32),
    "vit": (vit, HALF, after(1), 32),
    "vit_classifier": (vit_classifier, HALF, lambda model, x: after(1)(model.vit, x), 32),
    "sam": (sam, IMAGENET, sam_tokens, 24),
    "sam_full": (sam_full, IMAGENET, lambda model, x: sam_tokens(model.vision_encoder, x), 24),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_tokens_are_those_of_a_direct_call(tmp_path, name):
    make, normalisation, tokens, dim = FAMILIES[name]
    model = make()
    teacher = load_teacher(str(save(model, tmp_path / "model")))
    assert (teacher.dim, teacher.grid) == (dim, (4, 4))
    pictures = picture(*teacher.input_size)
    with torch.no_grad():
        expected = tokens(model, normalised(pictures, *normalisation))
    got = teacher(pictures)
    assert got.shape == (2, 16, dim)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert teacher.identity["mean"] == pytest.approx(normalisation[0])
    assert teacher.identity["std"] == pytest.approx(normalisation[1])


def test_all_tokens_of_clip_lie_in_the_space_of_its_embedding():
    # What CLIP does with its class token is done with every token.
    model, x = clip_vision(), picture(32, 32)
    with torch.no_grad():
        hidden = model.vision_model(pixel_values=x).last_hidden_state
        cls = model.visual_projection(model.vision_model.post_layernorm(hidden))[:, 0]
        torch.testing.assert_close(model(pixel_values=x).image_embeds, cls)


@pytest.mark.parametrize("name", ["clip", "dinov2", "dinov3", "siglip", "siglip2", "vit"])
def test_other_sizes_interpolate_positions(tmp_path, name):
    make, normalisation, _, _ = FAMILIES[name]
    model = make()
    p = model.config.patch_size
    teacher = load_teacher(str(save(model, tmp_path / "model")), input_size=(3 * p, 5 * p))
    assert teacher.grid == (3, 5)
    assert teacher.input_size == (3 * p, 5 * p)
    assert teacher.identity["input_size"] == [3 * p, 5 * p]
    tokens = teacher(picture(3 * p, 5 * p))
    assert tokens.shape == (2, 15, teacher.dim)
    if name in ("dinov2", "dinov3", "vit"):
        x = normalised(picture(3 * p, 5 * p), *normalisation)
        asked = {"interpolate_pos_encoding": True} if name == "vit" else {}
        with torch.no_grad():
            expected = model(pixel_values=x, **asked).last_hidden_state[:, -15:]
        torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_sizes_that_cannot_be_are_refused(tmp_path):
    folder = str(save(dinov2(), tmp_path / "dino"))
    with pytest.raises(TeacherError, match=r"multiples of the patches of the teacher .* 7x7 pixels, got 28x30"):
        load_teacher(folder, input_size=(28, 30))
    with pytest.raises(TeacherError, match="does not answer to pictures of 24x24 pixels"):
        load_teacher(str(save(sam(), tmp_path / "sam")), input_size=24)
    teacher = load_teacher(folder, input_size=28)
    for wrong in (picture(28, 35), picture(28, 28)[:, :1], picture(28, 28)[0]):
        with pytest.raises(ValueError, match=r"expected pictures \(B, 3, 28, 28\)"):
            teacher(wrong)


def test_a_teacher_of_other_channels_is_refused(tmp_path):
    from transformers import ViTConfig, ViTModel

    model = random(ViTModel(ViTConfig(**SQUARE, num_channels=1)))
    with pytest.raises(TeacherError, match=r"pictures with 3 channels, and .* takes 1"):
        load_teacher(str(save(model, tmp_path / "model")))


def test_a_published_size_may_leave_a_margin(tmp_path):
    from transformers import SiglipVisionConfig, SiglipVisionModel

    # As SigLIP so400m: 384 pixels in patches of 14.
    model = random(SiglipVisionModel(SiglipVisionConfig(**{**SQUARE, "image_size": 30})))
    teacher = load_teacher(str(save(model, tmp_path / "model")))
    assert (teacher.input_size, teacher.grid) == ((30, 30), (3, 3))


@pytest.mark.parametrize(("name", "prefix"), [("Beit", 1), ("IJepa", 0), ("DeiT", 2), ("Radio", 8)])
def test_any_network_with_tokens_serves(tmp_path, name, prefix):
    model = other(name)
    teacher = load_teacher(str(save(model, tmp_path / "model", **PLAIN)))
    with torch.no_grad():
        expected = after(prefix)(model, normalised(picture(32, 32), *HALF))
    torch.testing.assert_close(teacher(picture(32, 32)), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_any_network_with_a_map_serves(tmp_path):
    model = other("ConvNext")
    folder = str(save(model, tmp_path / "model", **PLAIN))
    teacher = load_teacher(folder, input_size=(64, 96))
    assert (teacher.grid, teacher.dim) == ((2, 3), 16)
    tokens = teacher(picture(64, 96))
    with torch.no_grad():
        expected = model(pixel_values=normalised(picture(64, 96), *HALF)).last_hidden_state
    torch.testing.assert_close(tokens[:, 5], expected[:, :, 1, 2], rtol=1e-4, atol=1e-4)
    with pytest.raises(TeacherError, match="multiples of the patches"):
        load_teacher(folder, input_size=(66, 96))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Swin", "has 8x8 patches and 16 tokens"),
        ("Yolos", "has 4x4 patches and 27 tokens"),
        ("Bert", "does not say how large its pictures are|does not answer to pictures"),
    ],
)
def test_networks_without_patch_tokens_are_refused(tmp_path, name, message):
    with pytest.raises(TeacherError, match=message):
        load_teacher(str(save(other(name), tmp_path / "model", **PLAIN)))


def test_networks_that_draw_at_random_are_refused(tmp_path):
    from transformers import ViTMAEConfig, ViTMAEModel

    # It shuffles its patches even where it hides none.
    model = random(ViTMAEModel(ViTMAEConfig(**SQUARE, mask_ratio=0.0)))
    with pytest.raises(TeacherError, match="two equal pictures different tokens"):
        load_teacher(str(save(model, tmp_path / "model", **PLAIN)))


class Student(nn.Module):
    def __init__(self, teacher):
        super().__init__()
        self.teacher = teacher
        self.head = nn.LayerNorm(teacher.dim)


def test_nothing_that_surrounds_a_teacher_changes_it(tmp_path):
    teacher = load_teacher(str(save(dinov3(), tmp_path / "model")))
    pictures = picture(32, 32)
    before = teacher(pictures)
    student = Student(teacher).train()  # DINOv3 moves its positions at random when it is trained
    assert torch.equal(student.teacher(pictures), before)
    assert list(student.state_dict()) == ["head.weight", "head.bias"]
    twin = copy.deepcopy(student)
    assert twin.teacher is teacher
    assert twin.head is not student.head
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(teacher(pictures), before)
    assert torch.equal(teacher(pictures.double()), before)


def test_tokens_carry_no_gradient_and_serve_in_a_backward_pass(tmp_path):
    teacher = load_teacher(str(save(vit(), tmp_path / "model")))
    student = Student(teacher)
    pictures = picture(32, 32).requires_grad_()
    tokens = teacher(pictures)
    assert not tokens.requires_grad
    student.head(tokens).square().sum().backward()
    assert student.head.weight.grad.abs().sum() > 0


def test_a_stored_teacher_only_has_its_tokens():
    teacher = StoredTeacher(24, (4, 5), {"name": "clip", "input_size": [32, 40]})
    assert (teacher.dim, teacher.grid, teacher.input_size) == (24, (4, 5), (32, 40))
    with pytest.raises(TeacherError, match="only the tokens in its cache are here"):
        teacher(picture(32, 40))


def test_tokens_of_several_blocks_stand_side_by_side(tmp_path):
    import transformers

    config = transformers.DINOv3ViTConfig(
        hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8,
        num_register_tokens=4, pos_embed_rescale=2.0,
    )  # fmt: skip
    model = random(transformers.DINOv3ViTModel(config))
    model.save_pretrained(tmp_path / "nano")
    pictures = torch.rand(2, 3, 32, 48)
    plain = load_teacher(str(tmp_path / "nano"), input_size=(32, 48))
    both = load_teacher(str(tmp_path / "nano"), input_size=(32, 48), layers=(1, 2))
    assert (both.dim, both.grid) == (128, plain.grid)
    tokens = both(pictures)
    torch.testing.assert_close(tokens[..., 64:], plain(pictures), rtol=1e-4, atol=1e-5)
    # The first block alone, by its own network: the last one of a network cut short.
    config.num_hidden_layers = 1
    short = transformers.DINOv3ViTModel(config)
    short.load_state_dict(model.state_dict(), strict=False)
    x = (pictures - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    with torch.no_grad():
        want = short.eval()(pixel_values=x).last_hidden_state[:, 5:]
    torch.testing.assert_close(tokens[..., :64], want, rtol=1e-4, atol=1e-5)
    assert both.identity["weights_sha256"] == plain.identity["weights_sha256"]
    assert both.identity["tokens"] != plain.identity["tokens"]
    with pytest.raises(TeacherError, match="between 1 and 2 of the teacher"):
        load_teacher(str(tmp_path / "nano"), layers=(3,))
    random(transformers.ViTModel(transformers.ViTConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1,
           num_attention_heads=2, image_size=32, patch_size=8))).save_pretrained(tmp_path / "vit")  # fmt: skip
    with pytest.raises(TeacherError, match=r"teacher\.layers needs a DINOv2 or DINOv3.*ViTModel"):
        load_teacher(str(tmp_path / "vit"), layers=(1,))
