"""EoMT: queries inside a plain transformer, each of which says a class and draws a mask."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_CLASS_STD = 0.01


class EoMTDecoder(nn.Module):
    """Encoder-only mask transformer (EoMT: Kerssies et al., CVPR 2025), the segmentation of ScaleEvent.

    `num_queries` learned queries as wide as the backbone join its last `last` blocks. Each then gives logits of the
    classes and of no object, and the mask of the cells that it resembles: the product of its MLP with the patches,
    which `num_upscales` blocks enlarge twofold each. Every query attends to every patch in training as out of it; the
    masked attention with which EoMT was first trained fades away until the end of its training.

    With `dim`, a linear layer brings queries and patches to that width before all heads: how ScaleEvent puts the
    1024-wide decoder of a ViT-L on smaller backbones.
    """

    def __init__(
        self,
        backbone_dim: int,
        num_classes: int,
        num_queries: int = 100,
        last: int = 4,
        dim: int | None = None,
        num_upscales: int = 2,
    ) -> None:
        super().__init__()
        self.last = last
        width = dim or backbone_dim
        self.query_tokens = nn.Parameter(torch.randn(num_queries, backbone_dim))
        self.transfer = nn.Linear(backbone_dim, dim) if dim else nn.Identity()
        self.upscale = nn.Sequential(*(_Upscale(width) for _ in range(num_upscales)))
        layers = [nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)]
        self.mask_head = nn.Sequential(*layers)
        self.class_head = nn.Linear(width, num_classes + 1)
        nn.init.normal_(self.class_head.weight, std=_CLASS_STD)
        nn.init.zeros_(self.class_head.bias)

    def forward(self, backbone: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits (B, Q, K + 1), the last of no object, and mask logits (B, Q, h, w) of `x` (B, C, H, W).

        Raises:
            ValueError: The backbone cannot take queries, or has fewer blocks than `last`.
        """
        if not hasattr(backbone, "with_queries"):
            raise ValueError(
                f"expected a plain transformer (vit, convvit, dinov2, dinov3), whose blocks can take the queries of "
                f"EoMT, got {type(backbone).__name__}; choose another head for it, such as upernet"
            )
        queries, tokens, grid = backbone.with_queries(x, self.query_tokens, self.last)
        queries, tokens = self.transfer(queries), self.transfer(tokens)
        maps = self.upscale(tokens.transpose(1, 2).unflatten(2, grid))
        return self.class_head(queries), torch.einsum("bqd,bdhw->bqhw", self.mask_head(queries), maps)

    @staticmethod
    def semantic(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
        """Return the score (B, K, h, w) of each class at each cell: all masks, weighed by their query's class."""
        classes = functional.softmax(class_logits, dim=-1)[..., :-1]
        return torch.einsum("bqk,bqhw->bkhw", classes, mask_logits.sigmoid())


class _Upscale(nn.Module):
    """Twice as many cells a side: transposed convolution, GELU, depthwise 3x3 convolution, LayerNorm over channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(dim, dim, 2, stride=2)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(functional.gelu(self.conv1(x)))
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)
