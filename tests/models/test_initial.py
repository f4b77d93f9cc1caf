"""Starting from other weights."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch

from eventfm.models import build_backbone
from eventfm.models.configs import BackboneConfig
from eventfm.models.encoder import EncoderCard, EncoderError, save_encoder
from eventfm.models.importers import CheckpointError, export_dino, export_eventpretrain, write_official
from eventfm.models.importers.pretrained import write_pretrained
from eventfm.models.initial import start_from
from eventfm.representations import build, describe

VOXELS = build({"name": "voxel_grid", "num_bins": 5})


def backbone(in_channels=3, name="dinov3_nano", seed=0, **arguments):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_backbone(name, in_channels, 28, **{"patch_size": 4, **arguments})


def same(first, second):
    return all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


@pytest.fixture
def sources(tmp_path):
    """Return the weights of one network as a checkpoint of ScaleEvent, one of DINOv3 and a folder of transformers."""
    network = backbone(seed=1)
    for layout in ("scaleevent", "official"):
        write_official(tmp_path / f"{layout}.pth", export_dino(network.state_dict(), layout), under=None)
    hub = export_dino(network.state_dict(), "huggingface")
    write_pretrained(tmp_path / "huggingface", hub, network.published_config())
    return network, tmp_path


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("scaleevent.pth", "ScaleEvent encoder"),
        ("official.pth", "official checkpoint"),
        ("huggingface", "model of transformers"),
    ],
)
def test_checkpoints(sources, file, kind):
    network, folder = sources
    ours = backbone()
    assert not same(ours, network)
    told = start_from(ours, folder / file, VOXELS)
    assert same(ours, network)
    weights = folder / file / "model.safetensors" if file == "huggingface" else folder / file
    assert told == {
        "source": file,
        "kind": kind,
        "backbone": "dinov3_nano",
        "in_channels": 3,
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "changes": [],
    }
    assert json.loads(json.dumps(told)) == told
    assert ours.embeddings.cls_token.requires_grad
    assert not ours.embeddings.mask_token.requires_grad


@pytest.mark.parametrize("channels", [1, 5])
def test_another_number_of_channels(sources, channels):
    network, folder = sources
    ours = backbone(channels)
    told = start_from(ours, folder / "official.pth", VOXELS)
    assert told["changes"] == [f"patch kernel: the mean over its 3 channels, times 3/{channels}, for all {channels}"]
    kernel = ours.state_dict()["embeddings.patch_embeddings.weight"]
    theirs = network.state_dict()["embeddings.patch_embeddings.weight"]
    for channel in range(channels):
        torch.testing.assert_close(kernel[:, channel], (theirs[:, 0] + theirs[:, 1] + theirs[:, 2]) / channels)
    grey = torch.full((1, 1, 16, 24), 0.7)
    torch.testing.assert_close(
        ours(grey.expand(-1, channels, -1, -1)).tokens, network(grey.expand(-1, 3, -1, -1)).tokens, rtol=1e-4, atol=1e-5
    )


def test_of_dinov2_too(tmp_path):
    network = backbone(name="dinov2_nano", seed=1, registers=4)
    write_official(tmp_path / "a.pth", export_dino(network.state_dict(), "official"), under=None)
    ours = backbone(2, name="dinov2_nano", registers=4)
    assert start_from(ours, str(tmp_path / "a.pth"), VOXELS)["changes"]
    assert torch.equal(ours.embeddings.position_embeddings, network.embeddings.position_embeddings)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "dinov3_nano",
            {"patch_size": 8},
            r"1 weights differ: embeddings\.patch_embeddings\.weight: \(64, 3, 4, 4\) there",
        ),
        ("dinov2_nano", {}, r"embeddings\.patch_embeddings\.bias: \(64,\) there, None here"),
        ("vit_nano", {}, r"does not fit; .* weights differ: blocks\.0\.attention"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_taken(sources, name, arguments, message):
    _, folder = sources
    ours, before = (backbone(name=name, **arguments) for _ in range(2))
    with pytest.raises(EncoderError, match=message):
        start_from(ours, folder / "official.pth", VOXELS)
    assert same(ours, before)


def test_an_encoder_is_taken_as_before(tmp_path):
    network = backbone(5, seed=1)
    card = EncoderCard(
        backbone=BackboneConfig(name="dinov3_nano", arguments={"patch_size": 4}),
        in_channels=5,
        input_size=(28, 28),
        representation=describe(VOXELS),
        window={"by": "time", "duration_us": 1000},
        method="distillation",
    )
    card = save_encoder(tmp_path / "encoder", network, card)
    ours = backbone(5)
    assert start_from(ours, tmp_path / "encoder", VOXELS) == card
    assert same(ours, network)
    with pytest.raises(EncoderError, match="was trained on"):
        start_from(ours, tmp_path / "encoder", build({"name": "voxel_grid", "num_bins": 3}))


def test_what_is_nothing_is_refused(tmp_path):
    with pytest.raises(EncoderError, match="no encoder in"):
        start_from(backbone(), tmp_path / "nothing", VOXELS)
    write_official(
        tmp_path / "vit.pth", export_eventpretrain("vit_small", {"backbone": build_backbone("vit_small", 5, 224)})
    )
    with pytest.raises(CheckpointError, match="not a checkpoint of DINOv3, DINOv2 or ScaleEvent"):
        start_from(backbone(), tmp_path / "vit.pth", VOXELS)
    (tmp_path / "bad.pth").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match=r"cannot read|is damaged"):
        start_from(backbone(), tmp_path / "bad.pth", VOXELS)
