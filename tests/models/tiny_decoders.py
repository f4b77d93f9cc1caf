"""Small models of transformers with random weights, and decoders of ours of the same sizes."""

from __future__ import annotations

import torch
from torch import nn
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
    EomtConfig,
    EomtForUniversalSegmentation,
)

from eventfm.models.decoders.dpt import DPTHead

CHANNELS = (6, 8, 10, 12)
SMALL = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2}


def randomised(module: nn.Module) -> nn.Module:
    """Give every parameter and statistic random values, so that none can be left out unseen."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                value.normal_(0, 0.3, generator=generator)
                if key.endswith("running_var"):
                    value.abs_().add_(0.5)
    return module.eval()


def depth_anything(**changes):
    config = {
        "backbone_config": Dinov2Config(**SMALL, image_size=28, out_indices=[1, 2, 3, 4], reshape_hidden_states=False),
        "reassemble_hidden_size": 24,
        "neck_hidden_sizes": CHANNELS,
        "fusion_hidden_size": 16,
        "head_hidden_size": 4,
        "depth_estimation_type": "metric",
        "max_depth": 80,
        **changes,
    }
    return randomised(DepthAnythingForDepthEstimation(DepthAnythingConfig(**config)))


def dpt(readout):
    config = DPTConfig(
        **SMALL,
        intermediate_size=48,
        image_size=32,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=list(CHANNELS),
        fusion_hidden_size=16,
        readout_type=readout,
        backbone_config=None,
    )
    return randomised(DPTForDepthEstimation(config))


def fitting_dpt(patch, hidden=4, **changes):
    return DPTHead((24,) * 4, (patch,) * 4, dim=16, channels=CHANNELS, hidden=hidden, **changes)


def eomt(cls=EomtForUniversalSegmentation, config=EomtConfig, **changes):
    sizes = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "num_blocks": 2, "num_queries": 7}
    return randomised(cls(config(**sizes, image_size=24, patch_size=4, num_labels=5, **changes)))
