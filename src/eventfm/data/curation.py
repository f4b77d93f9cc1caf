"""Which pairs of events and frame are fit to learn from, and a card of what was left out and why."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from eventfm.config import Config
from eventfm.data.misalignment import misalignment
from eventfm.data.windows import grey
from eventfm.events import Events

Reason = Literal["few_events", "under_exposed", "over_exposed", "blurred", "duplicate", "misaligned"]

_BLACK, _WHITE = 0.02, 0.98
_HASH_CELLS = (16, 17)
"""Rows and columns: one column more than there are bits to a row."""
_TEXTURE = 0.02
"""Slopes below this share of full scale per pixel, once blurred, are no edge."""
_PIXELS = 0.5
_TOO_LITTLE = {"few_events", "duplicate"}
"""Reasons whose figure is below its limit."""
_MOST_SCORES = 200_000
_SCORES: dict[bytes, float] = {}
"""Scores of pairs by a hash of what they hold: a process that asks about a pair again need not work it out again."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Events of one window and the frame that goes with them."""

    name: str
    """Its source, a slash, and what tells it within: `zurich_city_00_a/000012`."""
    events: Events
    frame: NDArray[Any]
    """(H, W) or (H, W, 3) RGB, uint8, uint16 or float in [0, 1], of the sensor's size."""
    frame_us: int | None = None
    """When the frame was taken, in the clock of the events; None: when the window starts."""

    @property
    def source(self) -> str:
        """All of the name before the last slash."""
        return self.name.rpartition("/")[0]


class CurationConfig(Config):
    """Limits beyond which a pair is left out; None leaves that question unasked."""

    min_events: PositiveFloat | None = 0.01
    """Events per pixel of the sensor."""
    max_dark: float | None = Field(default=0.6, gt=0, le=1)
    """Share of the frame that is black: below 2 % of full scale."""
    max_bright: float | None = Field(default=0.25, gt=0, le=1)
    """Share of the frame that is white: above 98 % of full scale."""
    max_blur_px: PositiveFloat | None = 2.5
    """Width of the frame's edges, as the sigma of a Gaussian, pixels."""
    max_same: float | None = Field(default=0.02, ge=0, lt=0.5)
    """A frame is a duplicate of the last one kept of its source if at most this share of the bits of their perceptual
    hashes differ: 0 for the same picture, 0.5 for unrelated ones."""
    max_misalignment: float | None = 0.0
    """Log odds that events and frame do not belong together (`misalignment.Misalignment.score`)."""


class Drop(NamedTuple):
    """A pair that was left out: the figure that broke the limit."""

    name: str
    reason: Reason
    figure: float
    limit: float


@dataclass(frozen=True)
class Curated:
    """What `curate` kept and left out, by name, and how many pairs of each source there were."""

    kept: list[str] = field(default_factory=list)
    dropped: list[Drop] = field(default_factory=list)
    config: CurationConfig = field(default_factory=CurationConfig)

    def card(self) -> dict[str, Any]:
        """Return counts by source and reason, the limits, and every pair that was left out, ready for JSON."""
        sources = sorted({_source(name) for name in [*self.kept, *(drop.name for drop in self.dropped)]})
        kept = Counter(map(_source, self.kept))
        lost = Counter((_source(drop.name), drop.reason) for drop in self.dropped)
        reasons = get_args(Reason)
        return {
            "pairs": len(self.kept) + len(self.dropped),
            "kept": len(self.kept),
            "dropped": {r: sum(n for (_, why), n in lost.items() if why == r) for r in reasons},
            "sources": {
                s: {"kept": kept[s], "dropped": {r: lost[s, r] for r in reasons if lost[s, r]}} for s in sources
            },
            "limits": self.config.model_dump(),
            "left_out": [drop._asdict() for drop in self.dropped],
        }

    def worst(self, reason: Reason, count: int) -> list[Drop]:
        """Return up to `count` pairs that were left out for `reason`, the furthest beyond the limit first."""
        found = [drop for drop in self.dropped if drop.reason == reason]
        return sorted(found, key=lambda drop: drop.figure, reverse=reason not in _TOO_LITTLE)[:count]

    def inside(self, folder: str) -> Curated:
        """Return the same with `folder/` before every name."""
        dropped = [drop._replace(name=f"{folder}/{drop.name}") for drop in self.dropped]
        return Curated([f"{folder}/{name}" for name in self.kept], dropped, self.config)


def curate(pairs: Iterable[Pair], config: CurationConfig | None = None) -> Curated:
    """Return which of `pairs` are fit to learn from; the rest comes with the first reason that was found.

    Pairs are looked at one by one, so that a generator may read them. Those of one source are to come in the order of
    time: a frame is compared with the last one that was kept.

    Raises:
        WindowError: A frame is not of its sensor's size.
        ValueError: Two pairs have one name.
    """
    config = config or CurationConfig()
    result = Curated(config=config)
    last_hash: dict[str, NDArray[np.bool_]] = {}
    names: set[str] = set()
    for pair in pairs:
        if pair.name in names:
            raise ValueError(f"expected one pair of each name, got two called {pair.name!r}")
        names.add(pair.name)
        picture = perceptual_hash(pair.frame)
        drop = _first_fault(pair, picture, last_hash.get(pair.source), config)
        if drop is not None:
            result.dropped.append(drop)
            continue
        result.kept.append(pair.name)
        last_hash[pair.source] = picture
    return result


def share_of_dark(frame: NDArray[Any]) -> float:
    """Return the share of pixels below 2 % of full scale."""
    return float((grey(frame) < _BLACK).mean())


def share_of_bright(frame: NDArray[Any]) -> float:
    """Return the share of pixels above 98 % of full scale; of RGB, where any channel is."""
    values = frame.max(axis=-1) if frame.ndim == 3 else frame
    return float((grey(values) > _WHITE).mean())


def edge_width(frame: NDArray[Any]) -> float:
    """Return how wide the sharper edges of a frame are, as the sigma of a Gaussian in pixels; 0 without any edge.

    An edge that a Gaussian of sigma s has blurred has slope ~1 / s; blurred by another sigma r, 1 / sqrt(s^2 + r^2).
    The ratio q of the two slopes tells s^2 = r^2 / (q^2 - 1) whatever the height of the edge, less what differences
    between neighbouring pixels add to it.
    """
    import cv2

    image, again = grey(frame), 2.0
    slopes = []
    for picture in (image, cv2.GaussianBlur(image, (0, 0), again)):
        slopes.append(np.hypot(cv2.Sobel(picture, cv2.CV_32F, 1, 0), cv2.Sobel(picture, cv2.CV_32F, 0, 1)) / 8)
    edges = slopes[1] >= max(np.percentile(slopes[1], 95), _TEXTURE / 4)
    # On the ridge of an edge the slope is largest: flanks are not asked.
    edges &= slopes[1] >= cv2.dilate(slopes[1], np.ones((3, 3), np.uint8))
    if not edges.any():
        return 0.0
    ratio = np.maximum(slopes[0][edges] / slopes[1][edges], 1 + 1e-3)
    return float(np.sqrt(max(np.median(again**2 / (ratio**2 - 1)) - _PIXELS, 0)))


def perceptual_hash(frame: NDArray[Any]) -> NDArray[np.bool_]:
    """Return 256 bits: whether each cell of a 16 x 17 grid over the frame is brighter than its left neighbour."""
    import cv2

    rows, columns = _HASH_CELLS
    cells = cv2.resize(grey(frame), (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(cells[:, 1:] > cells[:, :-1]).ravel()


def _first_fault(
    pair: Pair, picture: NDArray[np.bool_], last: NDArray[np.bool_] | None, config: CurationConfig
) -> Drop | None:
    """Return the first fault of a pair; the cheap questions come first."""
    sensor = pair.events.sensor
    checks: list[tuple[Reason, float | None, Callable[[], float]]] = [
        ("under_exposed", config.max_dark, lambda: share_of_dark(pair.frame)),
        ("over_exposed", config.max_bright, lambda: share_of_bright(pair.frame)),
        ("blurred", config.max_blur_px, lambda: edge_width(pair.frame)),
        ("misaligned", config.max_misalignment, lambda: _misaligned(pair)),
    ]
    density = len(pair.events) / (sensor.width * sensor.height)
    if config.min_events is not None and density < config.min_events:
        return Drop(pair.name, "few_events", density, config.min_events)
    if config.max_same is not None and last is not None:
        differing = float((picture != last).mean())
        if differing <= config.max_same:
            return Drop(pair.name, "duplicate", differing, config.max_same)
    for reason, limit, measure in checks:
        if limit is not None and (figure := measure()) > limit:
            return Drop(pair.name, reason, figure, limit)
    return None


def _misaligned(pair: Pair) -> float:
    """Return the log odds of `misalignment`, by far the most work of all questions, remembered by content."""
    events, frame = pair.events, np.ascontiguousarray(pair.frame)
    kind = (events.sensor.width, events.sensor.height, events.window, pair.frame_us, frame.shape, frame.dtype.str)
    digest = hashlib.blake2b(repr(kind).encode(), digest_size=16)
    for column in (events.x, events.y, events.t, events.p, frame):
        digest.update(np.ascontiguousarray(column))
    key = digest.digest()
    if key not in _SCORES:
        if len(_SCORES) >= _MOST_SCORES:
            _SCORES.clear()
        _SCORES[key] = misalignment(events, pair.frame, pair.frame_us).score
    return _SCORES[key]


def _source(name: str) -> str:
    return name.rpartition("/")[0]
