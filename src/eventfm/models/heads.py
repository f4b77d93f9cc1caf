"""The heads of classification: tokens in, logits out."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from eventfm.models.layers import init_linear

HeadName = Literal["linear", "mlp", "attentive"]


class Classifier(nn.Module):
    """Mean over the tokens, then one linear layer (EventPretrain's classification head)."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, num_classes)
        self.apply(init_linear)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (B, num_classes) of normed `tokens` (B, N, dim)."""
        return self.linear(tokens.mean(dim=1))


class MLPClassifier(nn.Module):
    """Mean over the tokens, one hidden layer with GELU, logits."""

    def __init__(self, dim: int, num_classes: int, hidden_dim: int | None = None) -> None:
        super().__init__()
        self.hidden = nn.Linear(dim, hidden_dim or dim)
        self.linear = nn.Linear(hidden_dim or dim, num_classes)
        self.apply(init_linear)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (B, num_classes) of normed `tokens` (B, N, dim)."""
        return self.linear(functional.gelu(self.hidden(tokens.mean(dim=1))))


class AttentiveClassifier(nn.Module):
    """One learned query attends to the tokens, and its answer is classified: an attentive probe.

    After the heads of CoCa (Yu et al., 2022) and V-JEPA's evaluation (Bardes et al., 2024), reduced to one layer of
    attention without an MLP.
    """

    def __init__(self, dim: int, num_classes: int, num_heads: int = 1) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"expected a width that {num_heads} heads divide, got {dim}")
        self.num_heads = num_heads
        self.query_token = nn.Parameter(torch.zeros(dim))
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.linear = nn.Linear(dim, num_classes)
        self.apply(init_linear)
        nn.init.trunc_normal_(self.query_token, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (B, num_classes) of normed `tokens` (B, N, dim)."""
        batch, num_tokens, dim = tokens.shape
        heads = (num_tokens, self.num_heads, dim // self.num_heads)
        query = self.query_token.to(tokens.dtype).view(1, 1, *heads[1:]).expand(batch, -1, -1, -1).transpose(1, 2)
        key, value = (part(tokens).view(batch, *heads).transpose(1, 2) for part in (self.key, self.value))
        found = functional.scaled_dot_product_attention(query, key, value)
        return self.linear(self.norm(found.transpose(1, 2).reshape(batch, dim)))


def build_head(name: HeadName, dim: int, num_classes: int) -> nn.Module:
    """Return the head `name` for tokens (B, N, dim)."""
    if name == "linear":
        return Classifier(dim, num_classes)
    if name == "mlp":
        return MLPClassifier(dim, num_classes)
    assert name == "attentive", name
    return AttentiveClassifier(dim, num_classes, num_heads=dim // 64 if dim % 64 == 0 else 1)
