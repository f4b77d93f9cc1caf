"""The head of classification."""

from __future__ import annotations

from torch import Tensor, nn

from eventfm.models.layers import init_linear


class Classifier(nn.Module):
    """Mean over the tokens, then one linear layer (EventPretrain's classification head)."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, num_classes)
        self.apply(init_linear)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (B, num_classes) of normed `tokens` (B, N, dim)."""
        return self.linear(tokens.mean(dim=1))
