"""Tokens as maps: several in one basis, like places, clusters."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eventfm.visualization.features import pca_map
from eventfm.visualization.panel import Picture

Map = NDArray[np.floating]
"""Tokens of one picture, (rows, cols, D)."""
Place = tuple[float, float]
"""A place in a picture, in shares of its height and width, from the top left."""
MAX_CLUSTERS = 10


def pca_pictures(maps: Sequence[Map]) -> list[Picture]:
    """Return each of `maps` (rows, cols, D) as colours (rows, cols, 3) uint8, all in one basis and scale.

    Grids may differ, D may not. See `features.pca_maps`.

    Raises:
        ValueError: No maps, tokens of different length, or not finite ones.
    """
    flat = _joined(maps)
    return _apart(pca_map(flat, (len(flat), 1))[:, 0], maps)


def cluster_pictures(maps: Sequence[Map], num_clusters: int) -> list[Picture]:
    """Return each of `maps` (rows, cols, D) as colours (rows, cols, 3) uint8 that stand for clusters of like tokens.

    The clusters are those of k-means on tokens of length 1, over all maps together: one colour is one cluster. They
    are ordered by size, the largest first. Where fewer tokens differ, there are fewer clusters.

    Raises:
        ValueError: No maps, tokens of different length, or not 1 to `MAX_CLUSTERS` clusters.
    """
    import matplotlib as mpl
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    if not 1 <= num_clusters <= MAX_CLUSTERS:
        raise ValueError(f"expected 1 to {MAX_CLUSTERS} clusters, got {num_clusters}")
    unit = _unit(_joined(maps)).astype(np.float32)
    with warnings.catch_warnings():
        # Of tokens that are all alike: their one colour says it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        means = KMeans(min(num_clusters, len(unit)), n_init=4, random_state=0).fit(unit)
    sizes = np.bincount(means.labels_, minlength=means.n_clusters)
    rank = np.argsort(np.argsort(-sizes, kind="stable"), kind="stable")
    palette = np.rint(255 * np.array(mpl.colormaps["tab10"].colors)).astype(np.uint8)
    return _apart(palette[rank[means.labels_]], maps)


def similarity_maps(tokens: Map, places: Sequence[Place]) -> NDArray[np.float64]:
    """Return the cosine of every token with the one at each of `places`, (P, rows, cols) in [-1, 1].

    Raises:
        ValueError: Tokens that are not (rows, cols, D), or a place outside the picture.
    """
    if tokens.ndim != 3:
        raise ValueError(f"expected tokens (rows, cols, D), got shape {tokens.shape}")
    unit = _unit(np.asarray(tokens, np.float64))
    cells = [_cell(place, tokens.shape[:2]) for place in places]
    anchors = np.array([unit[cell] for cell in cells]).reshape(len(cells), tokens.shape[2])
    return np.clip(np.einsum("rcd,pd->prc", unit, anchors), -1, 1)


def spread_places(weight: NDArray[np.floating], count: int) -> list[Place]:
    """Return `count` places at centres of cells of `weight` (rows, cols): where there is much of it, and far apart.

    The first is where there is most. Each further one is, among the cells with at least the median of what is not
    zero, the one farthest from all before it. Places repeat where there are fewer such cells.
    """
    rows, cols = weight.shape
    there = weight[weight > 0]
    cells = np.argwhere(weight >= np.median(there)) if len(there) else np.argwhere(np.ones_like(weight, bool))
    centres = (cells + 0.5) / (rows, cols)
    chosen = [int(np.argmax(weight[tuple(cells.T)]))]
    while len(chosen) < count:
        steps = (centres[:, None] - centres[chosen]) * (rows, cols)
        chosen.append(int(np.argmax(np.square(steps).sum(axis=2).min(axis=1))))
    return [(float(centres[i, 0]), float(centres[i, 1])) for i in chosen[:count]]


def marked(picture: Picture, place: Place) -> Picture:
    """Return `picture` (H, W, 3) with a square drawn at `place`, black in white, seen on any ground."""
    out = picture.copy()
    centre = np.array(_cell(place, picture.shape[:2]))
    radius = max(2, round(picture.shape[0] / 40))
    for size, colour in ((radius + 1, 255), (radius, 0), (radius - 1, None)):
        (top, left), (bottom, right) = np.maximum(centre - size, 0), centre + size + 1
        inside = (slice(top, bottom), slice(left, right))
        out[inside] = picture[inside] if colour is None else colour
    return out


def fitted(picture: Picture, size: tuple[int, int]) -> Picture:
    """Return `picture` (h, w, 3) in `size` (H, W): pixels are repeated where it grows, averaged where it shrinks."""
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BOX))


def _joined(maps: Sequence[Map]) -> NDArray[np.floating]:
    """Return the tokens of all maps, (N, D)."""
    if not len(maps) or any(tokens.ndim != 3 for tokens in maps) or len({tokens.shape[2] for tokens in maps}) > 1:
        raise ValueError(
            f"expected maps (rows, cols, D) with tokens of one length, got shapes {[np.shape(m) for m in maps]}"
        )
    return np.concatenate([tokens.reshape(-1, tokens.shape[2]) for tokens in maps])


def _apart(colours: NDArray[np.uint8], maps: Sequence[Map]) -> list[Picture]:
    """Return `colours` (N, 3) of all tokens as one picture for each of `maps`."""
    ends = np.cumsum([tokens.shape[0] * tokens.shape[1] for tokens in maps])[:-1]
    return [part.reshape(*m.shape[:2], 3) for part, m in zip(np.split(colours, ends), maps, strict=True)]


def _unit(tokens: NDArray[np.floating]) -> NDArray[np.floating]:
    length = np.linalg.norm(tokens, axis=-1, keepdims=True)
    return np.divide(tokens, length, out=np.zeros_like(tokens), where=length > 0)


def _cell(place: Place, size: tuple[int, ...]) -> tuple[int, int]:
    """Return row and column of `place` on a grid of `size`."""
    row, col = place
    if not (0 <= row <= 1 and 0 <= col <= 1):
        raise ValueError(f"expected a place in shares of height and width, 0 to 1, got {place}")
    return min(int(row * size[0]), size[0] - 1), min(int(col * size[1]), size[1] - 1)
