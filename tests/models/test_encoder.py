"""Encoder files: what goes in comes out, and what is damaged is refused by name."""

from __future__ import annotations

import hashlib
import json
import resource

import pytest
import torch
from safetensors.torch import load_file, save_file

from eventfm.models.configs import BackboneConfig
from eventfm.models.encoder import (
    CARD,
    WEIGHTS,
    EncoderCard,
    EncoderError,
    check_representation,
    load_encoder,
    read_card,
    save_encoder,
)
from eventfm.models.vit import vit_nano
from eventfm.representations import PolarityCounts, VoxelGrid, describe


def card(**changes):
    values = {
        "backbone": BackboneConfig(name="vit_nano", arguments={"patch_size": 4, "fusion": False}),
        "in_channels": 5,
        "input_size": (16, 24),
        "representation": describe(VoxelGrid(5)),
        "window": {"kind": "time", "length_us": 50_000},
        "sensor": {"width": 240, "height": 180, "name": "", "inferred": False},
        "licence": "CC-BY-4.0",
        "parents": ("scratch",),
        "method": "difference",
        "recipe": {"seed": 3, "steps": [1, 2]},
        "trained_on": ("a.raw", "b.raw"),
    }
    return EncoderCard(**{**values, **changes})


@pytest.fixture
def backbone():
    return vit_nano(5, (16, 24), patch_size=4)


@pytest.fixture
def saved(tmp_path, backbone):
    folder = tmp_path / "run" / "encoder"
    save_encoder(folder, backbone, card())
    return folder


def rewrite_card(folder, **changes):
    values = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**values, **changes}))


def rewrite_weights(folder, change):
    """Change the weights and give the card their new hash, as a broken writer would."""
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS)
    rewrite_card(folder, weights_sha256=hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest())


def test_round_trip(saved, backbone):
    loaded, found = load_encoder(saved)
    assert sorted(path.name for path in saved.iterdir()) == [CARD, WEIGHTS]
    assert not loaded.training
    x = torch.randn(2, 5, 16, 24)
    torch.testing.assert_close(loaded(x).tokens, backbone.eval()(x).tokens, rtol=0, atol=0)
    assert found.model_copy(update={"weights_sha256": "", "trained_on_sha256": ""}) == card()
    assert len(found.weights_sha256) == len(found.trained_on_sha256) == 64
    assert read_card(saved) == found


def test_a_state_dict_is_saved_as_its_module_is(saved, backbone, tmp_path):
    save_encoder(tmp_path / "other", backbone.state_dict(), card())
    assert (tmp_path / "other" / WEIGHTS).read_bytes() == (saved / WEIGHTS).read_bytes()


def test_loading_leaves_the_callers_random_state_alone(saved):
    before = torch.get_rng_state()
    load_encoder(saved)
    assert torch.equal(torch.get_rng_state(), before)


def test_saving_again_replaces_the_older_one(saved, backbone):
    with torch.no_grad():
        backbone.norm.weight.add_(1)
    save_encoder(saved, backbone, card(method="other"))
    loaded, found = load_encoder(saved)
    assert torch.equal(loaded.norm.weight, backbone.norm.weight)
    assert found.method == "other"
    assert [path.name for path in saved.parent.iterdir()] == ["encoder"]


def test_a_full_disk_leaves_the_older_one_whole(saved, backbone):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(EncoderError, match=r"cannot save the encoder to .*untouched"):
            save_encoder(saved, backbone, card(method="other"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert [path.name for path in saved.parent.iterdir()] == ["encoder"]


def test_a_flipped_bit_is_found(saved):
    content = bytearray((saved / WEIGHTS).read_bytes())
    content[-5] ^= 1
    (saved / WEIGHTS).write_bytes(content)
    with pytest.raises(EncoderError, match=r"damaged or not the file of this card: expected SHA-256"):
        load_encoder(saved)


def test_a_changed_list_of_samples_is_found(saved):
    rewrite_card(saved, trained_on=["a.raw"])
    with pytest.raises(EncoderError, match="list of training samples does not match its hash"):
        load_encoder(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("norm.bias"), r"1 keys missing \['norm\.bias'\]"),
        (lambda weights: weights.update(extra=torch.zeros(1)), r"1 unknown \['extra'\]"),
        (lambda weights: weights.update({"norm.bias": torch.zeros(63)}), r"'norm\.bias' of shape \(64,\), got \(63,\)"),
    ],
)
def test_weights_that_do_not_fit_the_backbone_are_refused(saved, change, message):
    rewrite_weights(saved, change)
    with pytest.raises(EncoderError, match=message):
        load_encoder(saved)


def test_missing_or_broken_files_are_refused(saved, tmp_path):
    with pytest.raises(EncoderError, match="no encoder in"):
        load_encoder(tmp_path / "nowhere")
    (saved / WEIGHTS).unlink()
    with pytest.raises(EncoderError, match="cannot read"):
        load_encoder(saved)
    rewrite_card(saved, weigths=3)
    with pytest.raises(EncoderError, match="not a valid encoder card: unknown key 'weigths'"):
        load_encoder(saved)
    (saved / CARD).write_text("{")
    with pytest.raises(EncoderError, match="not a valid encoder card"):
        load_encoder(saved)


def test_garbage_with_a_matching_hash_is_refused(saved):
    (saved / WEIGHTS).write_bytes(b"\x00" * 40)
    rewrite_card(saved, weights_sha256=hashlib.sha256(b"\x00" * 40).hexdigest())
    with pytest.raises(EncoderError, match="cannot read"):
        load_encoder(saved)


@pytest.mark.parametrize("other", [VoxelGrid(6), VoxelGrid(5, span="window"), PolarityCounts()])
def test_another_representation_is_refused_and_both_are_named(saved, other):
    _, found = load_encoder(saved)
    check_representation(found, VoxelGrid(5))
    with pytest.raises(EncoderError) as caught:
        check_representation(found, other)
    assert "voxel_grid(num_bins=5, span='events')" in str(caught.value)
    assert describe(other)["name"] + "(" in str(caught.value)
