"""Sizes of the benchmark of the tasks on real data: one place for all that decides what comes out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from quality.settings import changed, digest_of

PROTOCOLS = ("linear", "full")
"""A linear head on a frozen network, and the whole network fine-tuned."""


@dataclass(frozen=True)
class Settings:
    """What the benchmark does. A folder of results belongs to one of these."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the segmentation."""
    digit_seeds: tuple[int, ...] = (0,)
    """Of the recognition, each with all folds."""

    folds: tuple[int, ...] = (0, 1, 2, 3, 4)
    num_recordings: int = 1_100
    """N-MNIST recordings at most, the same number of each class."""
    shots: tuple[int, ...] = (10, 50)
    """Labels of each class, besides all of them."""
    digit_steps: int = 100
    digit_batch: int = 64
    digit_lr: float = 0.1
    """Of the head: in so few steps a linear layer learns little with less."""
    digit_backbone_rate: float = 0.02
    """The network's rate over that of its head, where it learns."""

    street_size: tuple[int, int] = (96, 128)
    """Height and width of the simulated sensor before street pictures."""
    num_streets: int = 160
    """CamVid training pictures at most."""
    num_tests: int = 40
    """CamVid validation and test pictures at most, of each."""
    num_maps: int = 4
    """Windows of each picture, each with a map of classes at its end."""
    speed_px_s: tuple[float, float] = (40.0, 200.0)
    threshold: tuple[float, float] = (0.15, 0.4)
    street_steps: int = 300
    street_batch: int = 16
    head_dim: int = 24
    """Channels of the head that the whole network is fine-tuned with."""

    num_pairs: int = 4
    """Pairs of pictures with flow at most."""
    window_us: int = 50_000
    """Length of a window of events, microseconds."""
    depth_windows: int = 4
    """Windows on the way from one view to the other."""
    preset: str = "clean"
    """The simulated sensor before the pictures with flow and depth (`SensorConfig.preset`)."""
    step_px: float = 0.5
    """How far a pixel goes at most from one simulated frame to the next."""
    lens_px: float = 0.7
    """Standard deviation of the blur of the pictures with flow and depth."""
    scales: tuple[float | None, ...] = (None, 1.0)
    """Pixels of a model's input per pixel of these pictures: as `eventfm predict` chooses, and every pixel."""
    block: int = 64
    """Side of the blocks of pixels that intervals are drawn over."""
    num_workers: int = 0
    """Runs at a time, each with a core; 0 for as many as there are cores. Changes no result."""

    @classmethod
    def of(cls, quick: bool, changes: list[str]) -> Self:
        """Return the settings, smaller ones with `quick`, with `key=value` changes."""
        out: Self = changed(replace(cls(), **(QUICK if quick else {})), changes)
        return out

    @property
    def workers(self) -> Literal["auto"] | int:
        """Runs at a time, as `eventfm evaluate transfer` has it."""
        return self.num_workers or "auto"

    @property
    def digest(self) -> str:
        """Tell these settings from all others (`quality.settings.digest_of`)."""
        return digest_of(replace(self, digit_seeds=(), num_workers=0))


QUICK: dict[str, Any] = {
    "seeds": (0,), "folds": (0, 1), "num_recordings": 100, "shots": (2,), "digit_steps": 2, "digit_batch": 8,
    "street_size": (32, 48), "num_streets": 4, "num_tests": 2, "num_maps": 2, "street_steps": 2, "street_batch": 4,
    "head_dim": 16, "num_pairs": 1, "depth_windows": 2, "step_px": 4.0, "scales": (None,), "num_workers": 1,
}  # fmt: skip
