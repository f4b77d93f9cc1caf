"""The transformer of DINOv3 and DINOv2, made of transformers' own layers under names that none of its versions changes.

Both generations are blocks of one kind. DINOv3 (Siméoni et al., 2025) turns queries and keys by the place of their
patch, where DINOv2 (Oquab et al., TMLR 2024) adds a learned table of positions to the tokens.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from eventfm.models.layers import DropPath
from eventfm.models.masking import take_tokens
from eventfm.models.queries import run_with_queries
from eventfm.protocols import Features
from eventfm.registry import require

Generation = Literal[2, 3]

TABLE = 37
"""Rows and columns of the learned positions of DINOv2: 518 pixels a side in patches of 14, as published."""
ROPE_BASE = 100.0
"""Base of the periods by which DINOv3 turns queries and keys."""
NORM_EPS = {2: 1e-6, 3: 1e-5}

_INITIAL_STD = 0.02


class DINO(nn.Module):
    """Class token, register tokens and patches through pre-norm blocks with a learned scale on each branch.

    Inputs may have any size whose sides are multiples of the patch. A patch's position is the same in training as out
    of it: the random stretching that DINOv3 was itself trained with is off. The tapped blocks of `pyramid` are, counted
    from 1, 3, 6, 9 and 12 of 12, 5, 12, 18 and 24 of 24, and those nearest to the quarters of other depths.

    `layer_scale` is what each branch is scaled by at first.
    """

    def __init__(
        self,
        generation: Generation,
        in_channels: int,
        patch_size: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        registers: int,
        layer_scale: float = 1e-5,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        require("transformers", "teachers")
        from transformers.models.dinov3_vit import modeling_dinov3_vit as dinov3

        self.in_channels = in_channels
        self.embed_dim = embed_dim
        self.pyramid_dims = (embed_dim,) * 4
        self.stride = patch_size
        self.pyramid_strides = (patch_size,) * 4
        self.taps = _taps(depth)
        self.num_prefix = 1 + registers
        self.head_dim = embed_dim // num_heads
        sizes = {
            "num_channels": in_channels,
            "patch_size": patch_size,
            "hidden_size": embed_dim,
            "num_hidden_layers": depth,
            "num_attention_heads": num_heads,
            "layer_norm_eps": NORM_EPS[generation],
            "layerscale_value": layer_scale,
        }
        layers = _layer_config(generation, registers, sizes)
        self.embeddings = dinov3.DINOv3ViTEmbeddings(layers) if generation == 3 else _embeddings(registers, sizes)
        self.rope = dinov3.DINOv3ViTRopePositionEmbedding(layers) if generation == 3 else None
        self.blocks = nn.ModuleList(dinov3.DINOv3ViTLayer(layers) for _ in range(depth))
        for i, block in enumerate(self.blocks):
            block.drop_path = DropPath(drop_path * i / max(depth - 1, 1))
        self.norm = nn.LayerNorm(embed_dim, eps=NORM_EPS[generation])
        self._draw_weights()
        # Kept for the files of others; nothing here hides patches behind it, and what has no gradient is not trained.
        self.embeddings.mask_token.requires_grad_(False)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Features:
        """Return normed features of `x` (B, C, H, W): the patch tokens, and the class token.

        With `keep` (B, K) int64, only those patches are seen, beside class and register tokens, each at its own place;
        tokens come in the order of `keep`.
        """
        tokens = self.norm(self._run(x, (len(self.blocks),), keep)[0])
        return Features(tokens[:, self.num_prefix :], tokens[:, 0], self._grid_of(x))

    def tokens_at(self, x: Tensor, layers: tuple[int, ...]) -> list[Tensor]:
        """Return the patch tokens (B, N, D) after each of the blocks `layers`, counted from 1, final-normed.

        Raises:
            ValueError: There is no such block.
        """
        if not layers or not all(1 <= layer <= len(self.blocks) for layer in layers):
            raise ValueError(f"expected blocks between 1 and {len(self.blocks)}, got {layers}")
        return [self.norm(tokens[:, self.num_prefix :]) for tokens in self._run(x, layers)]

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """Return the normed tokens of the four tapped blocks as maps (B, D, rows, cols), shallowest first."""
        grid = self._grid_of(x)
        return [tokens.transpose(1, 2).unflatten(2, grid) for tokens in self.tokens_at(x, self.taps)]

    def with_queries(self, x: Tensor, queries: Tensor, last: int) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Return normed queries (B, Q, D), patches (B, N, D) and grid; `queries` (Q, D) join the last `last` blocks.

        Class and register tokens stay between queries and patches. Only patches are turned by their place.

        Raises:
            ValueError: There are not as many blocks, or the queries are of another width.
        """
        grid = self._grid_of(x)
        turns = self._turns(x, None)
        tokens = run_with_queries(self.blocks, self.embeddings(x), queries, last, position_embeddings=turns)
        tokens = self.norm(tokens)
        return tokens[:, : len(queries)], tokens[:, len(queries) + self.num_prefix :], grid

    def shard_units(self) -> list[nn.Module]:
        """Return the transformer blocks."""
        return list(self.blocks)

    def layers(self) -> list[list[str]]:
        """Return prefixes of parameter names: patches, tokens and positions, then each block."""
        return [["embeddings."], *([f"blocks.{i}."] for i in range(len(self.blocks)))]

    def published_config(self) -> dict[str, Any]:
        """Return the `config.json` by which transformers finds the same network."""
        config = self.embeddings.config
        model = {"dinov3_vit": "DINOv3ViTModel", "dinov2": "Dinov2Model"}.get(config.model_type)
        return {**config.to_diff_dict(), "architectures": [model or "Dinov2WithRegistersModel"]}

    def _run(self, x: Tensor, numbers: tuple[int, ...], keep: Tensor | None = None) -> list[Tensor]:
        """Return all tokens (B, prefix + patches, D) after each of the blocks `numbers` (from 1), not normed."""
        self._grid_of(x)
        tokens = self.embeddings(x)
        if keep is not None:
            prefix, patches = tokens[:, : self.num_prefix], tokens[:, self.num_prefix :]
            tokens = torch.cat([prefix, take_tokens(patches, keep)], dim=1)
        turns = self._turns(x, keep)
        after = {}
        for number, block in enumerate(self.blocks[: max(numbers)], start=1):
            tokens = block(tokens, position_embeddings=turns)
            if number in numbers:
                after[number] = tokens
        return [after[number] for number in numbers]

    def _turns(self, x: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return cosines and sines that turn the patches' queries and keys; of no patch at all in DINOv2."""
        if self.rope is None:
            nothing = x.new_empty(0, self.head_dim)
            return nothing, nothing
        cosines, sines = self.rope(x)
        if keep is None:
            return cosines, sines
        return cosines[keep][:, None], sines[keep][:, None]  # the same for all heads

    def _grid_of(self, x: Tensor) -> tuple[int, int]:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"expected an input (B, {self.in_channels}, H, W), got {tuple(x.shape)}")
        height, width = x.shape[2:]
        if height < self.stride or width < self.stride or height % self.stride or width % self.stride:
            raise ValueError(f"expected sides that are multiples of the patch of {self.stride}, got {height}x{width}")
        return height // self.stride, width // self.stride

    @torch.no_grad()
    def _draw_weights(self) -> None:
        """Draw first weights; standing alone, transformers' layers leave some of theirs unset."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=_INITIAL_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for name, parameter in self.embeddings.named_parameters(recurse=False):
            if name == "mask_token":
                nn.init.zeros_(parameter)
            else:
                nn.init.trunc_normal_(parameter, std=_INITIAL_STD)


def _layer_config(generation: Generation, registers: int, sizes: dict[str, Any]) -> Any:
    """Return transformers' config of the blocks, and of all else that DINOv3 has."""
    from transformers import DINOv3ViTConfig

    return DINOv3ViTConfig(
        **sizes,
        intermediate_size=4 * sizes["hidden_size"],
        num_register_tokens=registers,
        key_bias=generation == 2,
        rope_theta=ROPE_BASE,
        pos_embed_shift=None,
        pos_embed_jitter=None,
        pos_embed_rescale=None,
        attn_implementation="sdpa",
    )


def _embeddings(registers: int, sizes: dict[str, Any]) -> nn.Module:
    """Return the embeddings of DINOv2; those of the two published kinds interpolate positions in two ways."""
    sizes = {**sizes, "mlp_ratio": 4, "image_size": TABLE * sizes["patch_size"]}
    if registers:
        from transformers import Dinov2WithRegistersConfig
        from transformers.models.dinov2_with_registers import modeling_dinov2_with_registers as with_registers

        config = Dinov2WithRegistersConfig(**sizes, num_register_tokens=registers)
        return with_registers.Dinov2WithRegistersEmbeddings(config)
    from transformers import Dinov2Config
    from transformers.models.dinov2 import modeling_dinov2 as dinov2

    return dinov2.Dinov2Embeddings(Dinov2Config(**sizes))


def _taps(depth: int) -> tuple[int, ...]:
    """Return the blocks, from 1, whose tokens dense heads read; those of 24 are the published ones."""
    if depth == 24:
        return 5, 12, 18, 24
    return tuple(max(1, int(depth * part / 4 + 0.5)) for part in (1, 2, 3, 4))
