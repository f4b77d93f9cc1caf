"""Rows of token maps side by side: what a network makes of events, beside what another makes of a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eventfm.visualization.dense import signed_map
from eventfm.visualization.panel import Picture, panel
from eventfm.visualization.tokens import (
    Map,
    Place,
    cluster_pictures,
    fitted,
    marked,
    pca_pictures,
    similarity_maps,
)

CELL_HEIGHT = 240
"""Height of one picture, pixels."""


@dataclass(frozen=True)
class TokenRow:
    """What one row shows; all of it is of the same part of the scene."""

    label: str
    events: Picture
    tokens: Map
    """(rows, cols, D), those of the events."""
    places: Sequence[Place] = ()
    """Anchors."""
    frame: Picture | None = None
    frame_tokens: Map | None = None
    """(rows, cols, E)."""


def token_panel(rows: Sequence[TokenRow], num_clusters: int) -> Picture:
    """Return one picture (H, W, 3) uint8 with the events, the frame and the maps of their tokens in each of `rows`.

    The maps are the tokens' three main directions as colours; for each anchor the cosine of all tokens with the one
    there, blue for like and vermilion for unlike; and clusters. All rows share one basis and one set of clusters; the
    tokens of events and frames share them too if they have as many numbers, and the labels say so. Either all rows
    have tokens of a frame or none.

    Raises:
        ValueError: No rows, or tokens that cannot be drawn.
    """
    if not rows:
        raise ValueError("expected at least one row of tokens, got none")
    colours = _drawn(rows, pca_pictures)
    clusters = _drawn(rows, lambda maps: cluster_pictures(maps, num_clusters))
    return panel([_cells(*parts) for parts in zip(rows, colours, clusters, strict=True)], CELL_HEIGHT)


def _cells(row: TokenRow, colours: Sequence[Picture], clusters: Sequence[Picture]) -> list[tuple[str, Picture]]:
    """Return the labelled pictures of a row, all of one size."""
    height, width = row.events.shape[:2]
    size = CELL_HEIGHT, max(1, round(CELL_HEIGHT * width / height))
    maps = {"events": row.tokens} if row.frame_tokens is None else {"events": row.tokens, "frame": row.frame_tokens}
    cells = [(f"events, {row.label}", row.events)]
    if row.frame is not None:
        cells.append(("frame", row.frame))
    kin = {"events": "", "frame": ", same colours" if _alike(row) else ", own colours"}
    cells += [(f"{of}: PCA of tokens{kin[of]}", picture) for of, picture in zip(maps, colours, strict=True)]
    cosines = {of: similarity_maps(tokens, row.places) for of, tokens in maps.items()}
    for number, place in enumerate(row.places):
        for of, values in cosines.items():
            picture = marked(fitted(signed_map(values[number], 1.0), size), place)
            cells.append((f"{of}: cosine with anchor {number + 1}", picture))
    cells += [(f"{of}: clusters{kin[of]}", picture) for of, picture in zip(maps, clusters, strict=True)]
    return [(label, fitted(picture, size)) for label, picture in cells]


def _drawn(rows: Sequence[TokenRow], draw: Callable[[list[Map]], list[Picture]]) -> list[list[Picture]]:
    """Return what `draw` makes of the maps of each row, those of events and frames at once where that is possible."""
    own = [row.tokens for row in rows]
    taught = [row.frame_tokens for row in rows if row.frame_tokens is not None]
    if not taught:
        return [[picture] for picture in draw(own)]
    if _alike(rows[0]):
        drawn = draw(own + taught)
        pairs = zip(drawn[: len(own)], drawn[len(own) :], strict=True)
    else:
        pairs = zip(draw(own), draw(taught), strict=True)
    return [list(pair) for pair in pairs]


def _alike(row: TokenRow) -> bool:
    """Return whether the tokens of events and frame have as many numbers, and can be drawn together."""
    return row.frame_tokens is not None and row.frame_tokens.shape[2] == row.tokens.shape[2]
