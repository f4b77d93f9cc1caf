"""Features as pictures: the three main directions of the tokens as colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pca_map(tokens: NDArray[np.floating], grid: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the tokens (N, D) of a patch grid as colours, (rows, cols, 3) uint8; see `pca_maps`."""
    return pca_maps(np.asarray(tokens)[None], grid)[0]


def pca_maps(tokens: NDArray[np.floating], grid: tuple[int, int]) -> NDArray[np.uint8]:
    """Return tokens as colours: red, green, blue are their first three principal components.

    All images share one basis and one scale, so equal colours mean like features. Each component points to where its
    weights of largest magnitude are positive, and runs from the 1st to the 99th percentile; a component that does not
    exist (fewer tokens or features, or no spread) is mid-grey.

    Args:
        tokens: (B, N, D), N = rows x cols in raster order.
        grid: Rows and columns.

    Returns:
        (B, rows, cols, 3) uint8.

    Raises:
        ValueError: Tokens that do not fill the grid, or are not finite.
    """
    from sklearn.decomposition import PCA

    tokens = np.asarray(tokens, np.float64)
    rows, cols = grid
    if tokens.ndim != 3 or tokens.shape[1] != rows * cols or not tokens.size:
        raise ValueError(f"expected tokens (B, {rows} x {cols}, D), got shape {tokens.shape}")
    if not np.isfinite(tokens).all():
        raise ValueError("expected finite tokens, got NaN or infinity")
    flat = tokens.reshape(-1, tokens.shape[2])
    colours = np.full((len(flat), 3), 0.5)
    spread = np.ptp(flat, axis=0).max()
    if spread > 0:
        pca = PCA(n_components=min(3, *flat.shape), svd_solver="full")
        scores = pca.fit_transform(flat)
        strongest = np.abs(pca.components_).argmax(axis=1)
        scores *= np.sign(pca.components_[np.arange(len(strongest)), strongest])
        low, high = np.percentile(scores, (1, 99), axis=0)
        exists = high - low > 1e-9 * spread
        scaled = (scores[:, exists] - low[exists]) / (high - low)[exists]
        colours[:, np.flatnonzero(exists)] = np.clip(scaled, 0, 1)
    return np.rint(255 * colours).astype(np.uint8).reshape(len(tokens), rows, cols, 3)
