"""Difference-guided masked modelling: see half of the event patches, draw what changed in the others.

Stage 1 of EventPretrain (Zhu et al., ACM MM 2025, section 3). The events between two frames integrate the change of
log brightness; the grey difference of the frames shows the same edges without the sensor's noise. Where there are no
frames, the events' own sum can stand in: the target comes from the data and the objective does not care.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from eventfm.config import Config
from eventfm.models import build_backbone
from eventfm.models.configs import BackboneConfig
from eventfm.models.layers import NO_DECAY
from eventfm.models.masked_decoder import MaskedDecoder
from eventfm.models.masking import density_masking, random_masking
from eventfm.protocols import Batch, ParameterRule, Progress

Mask = Literal["random", "density", "anti-density"]


class DecoderConfig(Config):
    """Sizes of the decoder, which is thrown away after pretraining."""

    dim: int = 256
    """Width of its tokens."""
    depth: int = 8
    """Number of blocks."""
    num_heads: int = 8
    """Attention heads; they must divide the width."""


class DifferenceConfig(Config):
    """Difference-guided masked modelling, as published."""

    name: Literal["difference"] = "difference"
    backbone: BackboneConfig = BackboneConfig()
    """The network that is pretrained."""
    decoder: DecoderConfig = DecoderConfig()
    """The network that draws the masked patches."""
    mask_ratio: float = Field(default=0.5, ge=0, lt=1)
    """Part of the patches that is hidden."""
    mask: Mask = "random"
    """Which patches are hidden: any, more likely those with many events (density), or with few (anti-density)."""
    mask_noise: float = Field(default=0.5, ge=0)
    """How much is left to chance in the last two: patches are drawn with odds in proportion to activity ** (1 / noise),
    or its inverse. 0 always hides the densest (or sparsest), as published, so that a sample has one and the same mask
    in every epoch and some of its patches are never asked for."""
    activity_weight: bool = False
    """Leave masked patches without any signal out of the loss; not in the paper."""


class DifferenceModeling(nn.Module):
    """Masked prediction of a one-channel target, each patch standardised, scored on the masked patches only.

    A patch is the backbone's unit of masking. A batch has `input` (B, C, H, W) float32, `target` (B, 1, H, W) float32
    and `key` (B,) int64. Masks follow from a sample's key, and where `mask` is not random from its input, so they
    depend neither on ranks nor on who shares the batch.
    """

    def __init__(
        self,
        backbone: nn.Module,
        decoder: nn.Module,
        mask_ratio: float = 0.5,
        activity_weight: bool = False,
        mask: Mask = "random",
        mask_noise: float = 0.5,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder
        self.patch_size: int = backbone.stride
        self.mask_ratio = mask_ratio
        self.activity_weight = activity_weight
        self.mask: Mask = mask
        self.mask_noise = mask_noise

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return `loss`, and `zero_loss`, what predicting zero everywhere would cost (about 1)."""
        ids_keep, ids_restore, mask = self._masks(batch)
        _, prediction = self.predict(batch["input"], ids_keep, ids_restore)
        target, patch_size = batch["target"], self.patch_size
        loss = difference_loss(prediction, target, mask, patch_size, activity_weight=self.activity_weight)
        with torch.no_grad():
            zero = torch.zeros_like(prediction)
            zero_loss = difference_loss(zero, target, mask, patch_size, activity_weight=self.activity_weight)
        return {"loss": loss, "zero_loss": zero_loss}

    def predict(self, x: Tensor, ids_keep: Tensor, ids_restore: Tensor) -> tuple[Tensor, Tensor]:
        """Return visible tokens (B, K, D), ordered as `ids_keep` (B, K), and all patches (B, L, P * P) as predicted."""
        features = self.backbone(x, keep=ids_keep)
        return features.tokens, self.decoder(features.tokens, ids_restore, features.grid)

    def after_step(self, progress: Progress) -> None:
        """Do nothing: every part is trained by gradient."""

    def encoder(self) -> nn.Module:
        """Return the backbone."""
        return self.backbone

    def parameter_rules(self) -> list[ParameterRule]:
        """Return the rule that keeps biases, norms and the mask token from decaying."""
        return [ParameterRule(NO_DECAY, weight_decay=0.0)]

    def shard_units(self) -> list[nn.Module]:
        """Return the blocks of the backbone and of the decoder."""
        return [*self.backbone.shard_units(), *self.decoder.shard_units()]

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> dict[str, Tensor]:
        """Return images (B, H, W) float32 of what went in and what came out.

        `input` is the sum over channels, `target` the standardised target, `prediction` what was drawn for every
        patch in the same units, and `mask` is 1 where the patch was hidden.
        """
        ids_keep, ids_restore, mask = self._masks(batch)
        _, prediction = self.predict(batch["input"], ids_keep, ids_restore)
        grid = self._grid(batch["input"])
        return {
            "input": batch["input"].sum(dim=1).float(),
            "target": unpatchify(standardise(patchify(batch["target"].float(), self.patch_size)), grid)[:, 0],
            "prediction": unpatchify(prediction.float(), grid)[:, 0],
            "mask": unpatchify(mask[:, :, None].expand(-1, -1, self.patch_size**2), grid)[:, 0],
        }

    def _masks(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        if self.mask == "random":
            rows, cols = self._grid(batch["input"])
            return random_masking(batch["key"], rows * cols, self.mask_ratio)
        activity = patch_activity(batch["input"], self.patch_size)
        return density_masking(batch["key"], activity, self.mask_ratio, self.mask, self.mask_noise)

    def _grid(self, x: Tensor) -> tuple[int, int]:
        return x.shape[2] // self.patch_size, x.shape[3] // self.patch_size


def difference_loss(
    prediction: Tensor, target: Tensor, mask: Tensor, patch_size: int, *, activity_weight: bool = False
) -> Tensor:
    """Return the mean squared error over masked patches, 0-d float32 (EventPretrain, stage 1).

    `prediction` is (B, L, P * P), `target` (B, 1, H, W), `mask` (B, L) with 1 = masked; sums run over the whole
    batch. Without any masked patch all patches count. With `activity_weight` a patch whose target is one and the
    same value in every pixel has weight 0 and all others have weight 1; a batch without any other patch costs 0.
    The published loss has every masked patch at weight 1, so that flat patches ask for a prediction of zero.
    """
    patches = patchify(target.float(), patch_size)
    if prediction.shape != patches.shape:
        raise ValueError(f"expected a target with patches {tuple(prediction.shape)}, got {tuple(patches.shape)}")
    error = (prediction.float() - standardise(patches)).square().mean(dim=2)
    weight = torch.where(mask.any(), mask.float(), 1.0)
    if activity_weight:
        weight = weight * (patches.amax(dim=2) > patches.amin(dim=2))
    return (error * weight).sum() / weight.sum().clamp(min=1)


def patch_activity(x: Tensor, patch_size: int) -> Tensor:
    """Return how much happens in each patch of `x` (B, C, H, W), (B, L): mean over pixels of |sum over channels|."""
    return functional.avg_pool2d(x.float().sum(dim=1, keepdim=True).abs(), patch_size).flatten(1)


def standardise(patches: Tensor) -> Tensor:
    """Return patches (B, L, P * P) less their mean, over the root of their unbiased variance + 1e-6."""
    variance, mean = torch.var_mean(patches, dim=2, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


def patchify(image: Tensor, patch_size: int) -> Tensor:
    """Return the patches (B, L, P * P) of a one-channel `image` (B, 1, H, W), patches and pixels in raster order."""
    if image.ndim != 4 or image.shape[1] != 1 or image.shape[2] % patch_size or image.shape[3] % patch_size:
        raise ValueError(
            f"expected (B, 1, H, W) with sides that are multiples of {patch_size}, got {tuple(image.shape)}"
        )
    batch, _, height, width = image.shape
    rows, cols = height // patch_size, width // patch_size
    blocks = image.reshape(batch, rows, patch_size, cols, patch_size).transpose(2, 3)
    return blocks.reshape(batch, rows * cols, patch_size**2)


def unpatchify(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the image (B, 1, H, W) of `patches` (B, L, P * P) over `grid` (rows, cols); undoes `patchify`."""
    (rows, cols), side = grid, int(patches.shape[2] ** 0.5)
    blocks = patches.reshape(patches.shape[0], rows, cols, side, side).transpose(2, 3)
    return blocks.reshape(patches.shape[0], 1, rows * side, cols * side)


def build(
    config: Mapping[str, Any] | DifferenceConfig, in_channels: int, image_size: tuple[int, int]
) -> DifferenceModeling:
    """Return `DifferenceModeling` as `config` says, for inputs (B, in_channels, H, W) of `image_size` (H, W).

    Raises:
        ConfigError: An unknown key or a value out of range.
        ValueError: Sizes that do not fit together, such as sides that are not multiples of the patch.
    """
    if not isinstance(config, DifferenceConfig):
        config = DifferenceConfig.parse(config, under="method")
    backbone = build_backbone(config.backbone.name, in_channels, image_size, **config.backbone.arguments)
    stride = backbone.stride
    if image_size[0] % stride or image_size[1] % stride:
        raise ValueError(
            f"expected an image size whose sides are multiples of {config.backbone.name}'s patch of {stride} pixels, "
            f"got {image_size[0]}x{image_size[1]}; change data.image_size or the backbone's patch_size"
        )
    decoder = MaskedDecoder(
        backbone.embed_dim,
        stride**2,
        (image_size[0] // stride, image_size[1] // stride),
        dim=config.decoder.dim,
        depth=config.decoder.depth,
        num_heads=config.decoder.num_heads,
    )
    return DifferenceModeling(
        backbone, decoder, config.mask_ratio, config.activity_weight, config.mask, config.mask_noise
    )
