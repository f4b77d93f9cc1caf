"""All stages of EventPretrain, through the importer, against the official outputs."""

from __future__ import annotations

import argparse
from types import MappingProxyType

import pytest
import torch

from eventfm.methods.contrast import FeatureContrast
from eventfm.methods.difference import DifferenceModeling, difference_loss
from eventfm.models.importers import import_eventpretrain
from eventfm.protocols import Progress

CLOSE = {"rtol": 1e-3, "atol": 1e-4}


class Clip:
    """Stands for the teacher whose tokens the batch holds."""

    dim = 512
    grid = (14, 14)
    input_size = (224, 224)
    identity = MappingProxyType({"name": "clip"})

    def __call__(self, pictures):
        raise AssertionError("the batch has tokens")


def check(found, expected):
    torch.testing.assert_close(found, torch.from_numpy(expected), **CLOSE)


@pytest.mark.parametrize("family", ["vit", "convvit"])
def test_stage1_equals_the_official_run(golden, tmp_path, family):
    path = tmp_path / "stage1.pth"
    extras = {"optimizer": {"state": {}}, "epoch": 7, "scaler": {}, "args": argparse.Namespace(lr=1e-3, device="cuda")}
    torch.save({"model": golden.state(f"eventpretrain_{family}_rec"), **extras}, path)
    checkpoint = import_eventpretrain(path, backbone=family, stage="rec", in_channels=5)
    method = DifferenceModeling(checkpoint.build("backbone"), checkpoint.build("decoder")).eval()
    expected = golden.arrays(f"eventpretrain_{family}_stage1")
    ids_restore = torch.from_numpy(expected["ids_restore"]).long()
    mask = torch.from_numpy(expected["mask"]).float()
    ids_keep = ids_restore.argsort(dim=1)[:, : int((mask[0] == 0).sum())]

    with torch.no_grad():
        x = golden.input("input.events", (2, 5, 224, 224))
        tokens, prediction = method.predict(x, ids_keep, ids_restore)
        loss = difference_loss(prediction, golden.input("input.difference", (2, 1, 224, 224)), mask, 16)

    check(tokens[:, ::7, ::8], expected["visible_tokens"])
    check(prediction[:, ::14, ::8], expected["prediction"])
    check(loss, expected["loss"])


@pytest.mark.parametrize("family", ["vit", "convvit", "swin"])
def test_stages_2_and_3_equal_the_official_run(golden, family):
    checkpoint = import_eventpretrain(golden.state(f"eventpretrain_{family}_con"), backbone=family, stage="con")
    names = ("backbone", "projector", "predictor", "teacher_projection", "queue")
    backbone, projector, predictor, teacher_projection, queue = parts = [checkpoint.build(name) for name in names]
    method = FeatureContrast(*parts, Clip(), temperature=0.07, as_published=True).eval()
    expected = golden.arrays(f"eventpretrain_{family}_contrastive")
    x = golden.input("input.events", (2, 5, 224, 224))
    clip = golden.input("input.clip", (2, 197, 512))[:, 1:]

    with torch.no_grad():
        tokens = backbone(x).tokens
        query = predictor(projector(tokens))
        key = teacher_projection(clip, (14, 14))
        loss = method({"input": x, "teacher_tokens": clip}, Progress(0, 1))["loss"]
        pyramid = backbone.pyramid(x)

    assert queue.length == 16
    check(tokens[:, ::7, ::8], expected["tokens"])
    check(query[:, ::7, ::8], expected["query"])
    check(key[:, ::7, ::8], expected["key"])
    check(loss, expected["loss"])
    taps = {name: values for name, values in expected.items() if name.startswith("tap")}
    assert len(taps) == {"vit": 0, "convvit": 2, "swin": 4}[family]
    for name, values in taps.items():
        level = pyramid[int(name[3]) - 1][:1]
        layout = level if family == "convvit" else level.permute(0, 2, 3, 1)
        check(layout.flatten(1)[:, ::776], values)
