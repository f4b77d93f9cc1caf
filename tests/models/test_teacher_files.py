"""A teacher's files: what they say is believed, what they lack is not made up, and nothing in them is run."""

from __future__ import annotations

import copy
import json
import sys

import pytest
import torch
from tiny_teachers import (
    HALF,
    IMAGENET,
    PLAIN,
    SQUARE,
    after,
    clip_config,
    clip_full,
    clip_vision,
    dinov2,
    normalised,
    other,
    picture,
    random,
    save,
    vit,
)
from torch import nn

from eventfm.models.teacher_files import weights_sha256
from eventfm.models.teachers import TeacherError, load_teacher
from eventfm.registry import MissingExtraError


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_a_full_clip_and_its_vision_tower_are_one_teacher(tmp_path):
    full, vision = clip_full(), clip_vision()
    vision.load_state_dict({k: v for k, v in full.state_dict().items() if k in vision.state_dict()})
    one, other = (load_teacher(str(save(m, tmp_path / n))) for m, n in ((full, "full"), (vision, "vision")))
    assert one.identity["weights_sha256"] == other.identity["weights_sha256"]
    assert torch.equal(one(picture(32, 32)), other(picture(32, 32)))


@pytest.mark.parametrize(
    ("said", "mean", "std"),
    [
        ({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]),
        ({"do_normalize": False, "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3]}, [0, 0, 0], [1, 1, 1]),
        ({"image_mean": 0.5, "image_std": 0.25, "rescale_factor": 0.00392156862745098}, [0.5] * 3, [0.25] * 3),
        # x * 255 / 127.5 - 1 = (x - 0.5) / 0.5
        ({"image_mean": [1.0] * 3, "image_std": [1.0] * 3, "rescale_factor": 1 / 127.5}, [0.5] * 3, [0.5] * 3),
        # (255 x - 127.5) / 51 = (x - 0.5) / 0.2
        ({"image_mean": [127.5] * 3, "image_std": [51] * 3, "do_rescale": False}, [0.5] * 3, [0.2] * 3),
        ({"image_processor": {"image_mean": [0.1] * 3, "image_std": [0.7] * 3}}, [0.1] * 3, [0.7] * 3),
        ({"size": 224}, *IMAGENET),
    ],
)
def test_the_files_say_how_pictures_are_normalised(tmp_path, said, mean, std):
    model = dinov2()
    teacher = load_teacher(str(save(model, tmp_path / "model", **said)))
    assert teacher.identity["mean"] == pytest.approx(mean)
    assert teacher.identity["std"] == pytest.approx(std)
    pictures = picture(28, 28)
    with torch.no_grad():
        expected = after(1)(model, normalised(pictures, mean, std))
    torch.testing.assert_close(teacher(pictures), expected, rtol=1e-4, atol=1e-4)


def test_an_unknown_network_must_say_how_its_pictures_are_normalised(tmp_path):
    with pytest.raises(TeacherError, match=r"put a preprocessor_config\.json beside its weights"):
        load_teacher(str(save(other("Beit"), tmp_path / "model")))


def test_loading_leaves_the_callers_draws_alone(tmp_path):
    from transformers import DeiTConfig, DeiTForImageClassification

    # Its file lacks the pooler, which transformers draws at random.
    folder = str(save(random(DeiTForImageClassification(DeiTConfig(**SQUARE))), tmp_path / "model", **PLAIN))
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    one = load_teacher(folder)
    assert torch.equal(torch.rand(3), expected)
    assert load_teacher(folder).identity == one.identity


def test_identity_names_the_weights_and_no_place(tmp_path):
    model = vit()
    identity = load_teacher(str(save(model, tmp_path / "some" / "vit-tiny"))).identity
    assert json.loads(json.dumps(identity)) == identity
    assert str(tmp_path) not in json.dumps(identity)
    assert {key: identity[key] for key in ("name", "revision", "class", "input_size", "dtype", "tokens")} == {
        "name": "vit-tiny",
        "revision": None,
        "class": "ViTModel",
        "input_size": [32, 32],
        "dtype": "float32",
        "tokens": "last_hidden_state, 1 before the patches dropped",
    }

    def sha(folder):
        return load_teacher(str(folder)).identity["weights_sha256"]

    model.save_pretrained(tmp_path / "split", max_shard_size="20KB")
    assert len(list((tmp_path / "split").glob("*.safetensors"))) > 1
    assert sha(tmp_path / "split") == identity["weights_sha256"]
    with torch.no_grad():
        model.pooler.dense.weight.mul_(2)  # bears on no token
    assert sha(save(model, tmp_path / "pooler")) == identity["weights_sha256"]
    with torch.no_grad():
        model.layernorm.bias[3] += 1e-3
    assert sha(save(model, tmp_path / "other")) != identity["weights_sha256"]


def test_the_hash_is_of_tensors_and_not_of_their_names():
    first, second = random(nn.Linear(3, 2)), random(nn.Linear(2, 3), seed=1)
    one = weights_sha256(nn.ModuleDict({"a": first, "b": second}))
    assert weights_sha256(nn.ModuleDict({"a": second, "c": first})) == one
    assert weights_sha256(nn.ModuleDict({"a": first})) != one
    with torch.no_grad():
        second.bias[2] = -second.bias[2]
    assert weights_sha256(nn.ModuleDict({"a": first, "b": second})) != one


def as_pickle(model, folder, **more):
    model.config.save_pretrained(folder)
    torch.save({**model.state_dict(), **more}, folder / "pytorch_model.bin")
    return str(folder)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


def test_pytorch_files_are_read_as_tensors_only(tmp_path):
    model = vit()
    safe = load_teacher(str(save(model, tmp_path / "safe")))
    (tmp_path / "old").mkdir()
    old = load_teacher(as_pickle(model, tmp_path / "old"))
    assert old.identity["weights_sha256"] == safe.identity["weights_sha256"]
    (tmp_path / "trap").mkdir()
    with pytest.raises(TeacherError, match="cannot load the teacher"):
        load_teacher(as_pickle(model, tmp_path / "trap", trap=Trap(tmp_path / "touched")))
    assert not (tmp_path / "touched").exists()


def test_missing_weights_are_not_made_up(tmp_path):
    from safetensors.torch import load_file, save_file
    from transformers import CLIPVisionModel

    bare = random(CLIPVisionModel(clip_config()))
    with pytest.raises(TeacherError, match=r"first visual_projection\.weight; save the whole model, with its proj"):
        load_teacher(str(save(bare, tmp_path / "bare")))
    file = save(vit(), tmp_path / "holes") / "model.safetensors"
    weights = load_file(file)
    name = next(key for key in weights if "layernorm" in key)
    save_file({key: value for key, value in weights.items() if key != name}, file, {"format": "pt"})
    with pytest.raises(TeacherError, match="1 of its tensors are not there"):
        load_teacher(str(tmp_path / "holes"))
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(TeacherError, match=r"cannot load the teacher .*holes"):
        load_teacher(str(tmp_path / "holes"))


def test_half_precision_files_are_computed_in_float32(tmp_path):
    model = vit()
    teacher = load_teacher(str(save(copy.deepcopy(model).bfloat16(), tmp_path / "model")))
    tokens = teacher(picture(32, 32))
    assert tokens.dtype == torch.float32
    with torch.no_grad():
        expected = after(1)(model.bfloat16().float(), normalised(picture(32, 32), *HALF))
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-4)


def test_code_that_comes_with_a_model_is_not_run_unasked(tmp_path):
    folder = tmp_path / "remote"
    folder.mkdir()
    touched = tmp_path / "touched"
    code = f"from pathlib import Path\nPath({str(touched)!r}).touch()\n"
    (folder / "code.py").write_text(code)
    config = {"model_type": "stranger", "auto_map": {"AutoConfig": "code.C", "AutoModel": "code.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(TeacherError, match="runs code of its own; pass trust_remote_code=True"):
        load_teacher(str(folder))
    assert not touched.exists()


def test_the_hub_out_of_reach(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(TeacherError, match=r"(?s)check the name; .*log in .*without a network, give a folder"):
        load_teacher("nobody/no-such-teacher-of-eventfm")


@pytest.mark.parametrize("name", ["./nowhere", "a/b/c", "~/nowhere-at-all", "clip.safetensors"])
def test_folders_that_are_not_there(name):
    with pytest.raises(TeacherError, match=r"no teacher at .*: there is no such folder"):
        load_teacher(name)


def test_folders_of_other_things(tmp_path):
    with pytest.raises(TeacherError, match=r"expected config\.json and model\.safetensors there"):
        load_teacher(str(tmp_path))
    (tmp_path / "config.json").write_text('{"architecture": "vit_base"}')
    with pytest.raises(TeacherError, match="expected a model of pictures, saved by transformers"):
        load_teacher(str(tmp_path))
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "encoder.safetensors").touch()
    for folder in (tmp_path, tmp_path / "encoder"):
        with pytest.raises(TeacherError, match="an encoder of eventfm, which reads events"):
            load_teacher(str(folder))
    with pytest.raises(TeacherError, match=r"expected a folder .* got the file"):
        load_teacher(str(tmp_path / "config.json"))


def test_without_transformers_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'eventfm\[teachers\]'"):
        load_teacher(str(tmp_path))
