"""Tiny networks of every family of teachers, saved as transformers saves them, and pictures for them."""

from __future__ import annotations

import json

import numpy as np
import torch
from torch import nn
from transformers.utils.constants import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)

HALF = [0.5] * 3, [0.5] * 3
IMAGENET = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
CLIP = OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
COMMON = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SQUARE = {**COMMON, "image_size": 32, "patch_size": 8}
PLAIN = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def random(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every tensor of `model`, norms and biases too, random values, so that none can be left out unseen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(0, 0.3, generator=generator)
    return model.eval()


def clip_config():
    from transformers import CLIPVisionConfig

    return CLIPVisionConfig(**SQUARE, projection_dim=24)


def clip_vision():
    from transformers import CLIPVisionModelWithProjection

    return random(CLIPVisionModelWithProjection(clip_config()))


def clip_full():
    from transformers import CLIPConfig, CLIPModel

    text = {**COMMON, "vocab_size": 20, "max_position_embeddings": 8}
    vision = clip_config().to_dict()
    return random(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)))


def dinov2():
    from transformers import Dinov2Config, Dinov2Model

    sizes = {key: COMMON[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    return random(Dinov2Model(Dinov2Config(**sizes, mlp_ratio=2, image_size=28, patch_size=7)))


def dinov2_with_registers():
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    sizes = {key: COMMON[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    config = Dinov2WithRegistersConfig(**sizes, mlp_ratio=2, image_size=28, patch_size=7, num_register_tokens=3)
    return random(Dinov2WithRegistersModel(config))


def dinov3(**changes):
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    return random(DINOv3ViTModel(DINOv3ViTConfig(**SQUARE, num_register_tokens=4, pos_embed_rescale=2.0, **changes)))


def siglip():
    from transformers import SiglipVisionConfig, SiglipVisionModel

    return random(SiglipVisionModel(SiglipVisionConfig(**SQUARE)))


def siglip_full():
    from transformers import SiglipConfig, SiglipModel

    text = {**COMMON, "vocab_size": 20, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 2}
    return random(SiglipModel(SiglipConfig(vision_config=SQUARE, text_config=text)))


def siglip2():
    from transformers import Siglip2VisionConfig, Siglip2VisionModel

    return random(Siglip2VisionModel(Siglip2VisionConfig(**COMMON, patch_size=8, num_patches=16)))


def siglip2_full():
    from transformers import Siglip2Config, Siglip2Model

    text = {**COMMON, "vocab_size": 20, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 2}
    vision = {**COMMON, "patch_size": 8, "num_patches": 16}
    return random(Siglip2Model(Siglip2Config(vision_config=vision, text_config=text)))


def vit():
    from transformers import ViTConfig, ViTModel

    return random(ViTModel(ViTConfig(**SQUARE)))


def vit_classifier():
    from transformers import ViTConfig, ViTForImageClassification

    return random(ViTForImageClassification(ViTConfig(**SQUARE)))


def sam_config():
    from transformers import SamVisionConfig

    return SamVisionConfig(
        hidden_size=32,
        output_channels=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        window_size=2,
        global_attn_indexes=[1],
        mlp_dim=48,
    )


def sam():
    from transformers import SamVisionModel

    return random(SamVisionModel(sam_config()))


def sam_full():
    from transformers import SamConfig, SamModel

    decoder = {"hidden_size": 16, "mlp_dim": 16, "iou_head_hidden_dim": 16}
    config = SamConfig(
        vision_config=sam_config().to_dict(),
        prompt_encoder_config={"hidden_size": 16, "image_size": 32},
        mask_decoder_config=decoder,
    )
    return random(SamModel(config))


def save(model, folder, **preprocessor):
    model.save_pretrained(folder)
    if preprocessor:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


def picture(height, width, batch=2, seed=0):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def normalised(pictures, mean, std):
    """Return pictures normalised one channel at a time, by numpy."""
    values = pictures.numpy().astype(np.float64)
    channels = [(values[:, c] - mean[c]) / std[c] for c in range(3)]
    return torch.from_numpy(np.stack(channels, 1)).float()


def after(skip):
    """Return a function for the last hidden state of a model without its first `skip` tokens."""
    return lambda model, x: model(pixel_values=x).last_hidden_state[:, skip:]


def other(name):
    import transformers

    deep = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16]}
    configs = {
        "Beit": SQUARE,
        "IJepa": SQUARE,
        "DeiT": SQUARE,
        "Radio": {**SQUARE, "max_img_size": 64, "num_cls_tokens": 3, "num_registers": 5},
        "ConvNext": {**deep, "image_size": 64},
        "Swin": {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 1], "image_size": 32, "window_size": 4},
        "Yolos": {**SQUARE, "image_size": [32, 32], "num_detection_tokens": 10},
        "Bert": {**COMMON, "vocab_size": 20},
    }
    config = getattr(transformers, f"{name}Config")(**configs[name])
    return random(getattr(transformers, f"{name}Model")(config))
