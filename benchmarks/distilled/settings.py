"""Sizes of the benchmark of ScaleEvent: one place for all that decides what comes out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from quality.settings import changed, digest_of


@dataclass(frozen=True)
class Settings:
    """What the benchmark does. A folder of results belongs to one of these."""

    patch: int = 8
    size: tuple[int, int] = (96, 128)
    """Height and width of the simulated sensor and of the networks' inputs: 12 x 16 patches."""
    seeds: tuple[int, ...] = (0, 1, 2)
    develop: bool = False
    """Choose settings: validation pictures stand for the test pictures, a fifth of the training pictures, kept out of
    all training, for the validation pictures, and simulated digits of scikit-learn for N-MNIST."""

    num_street: int = 160
    """CamVid training pictures at most."""
    num_photographs: int = 334
    num_tests: int = 40
    """CamVid validation and test pictures at most, of each."""
    num_recordings: int = 1_100
    """N-MNIST recordings at most."""
    num_clips: int = 3
    """Clips of every picture to distil from."""
    num_views: int = 2
    """Clips of every picture with labels, all with motions of their own."""
    speed_px_s: tuple[float, float] = (40.0, 200.0)
    threshold: tuple[float, float] = (0.15, 0.4)
    clip_us: int = 60_000
    frames_hz: float = 50.0
    window_us: int = 20_000
    """Longest window from a frame on; clips with labels are as long."""
    active_share: float = 0.5
    active_threshold: float = 64.0

    teacher_steps: int = 4_000
    teacher_batch: int = 16
    """Street pictures with labels, and as many pictures without, in each step."""
    teacher_lr: float = 2e-3
    teacher_hidden: float = 0.4
    """Share of the patches that are hidden where gradients are to be told."""
    teacher_gradients: float = 1.0
    """Weight of the gradients beside the segmentation."""

    steps: int = 1_000
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.05
    mask_share: float = 0.5
    weights: tuple[float, float, float] = (1.0, 10.0, 4.0)
    """Of the token, the intra and the cross term."""

    penalties: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-5)
    """Of the segmentation probe; the validation pictures choose."""
    digits_size: int = 64
    """Side of the inputs that digits are probed at."""
    digits_window_us: int = 100_000
    collapse_pictures: int = 20
    """Test pictures on which collapse is measured, two at a time."""

    @classmethod
    def of(cls, quick: bool, changes: list[str]) -> Self:
        """Return the settings, smaller ones with `quick`, with `key=value` changes."""
        out: Self = changed(replace(cls(), **(QUICK if quick else {})), changes)
        return out

    @property
    def digest(self) -> str:
        """Tell these settings from all others (`quality.settings.digest_of`)."""
        return digest_of(self)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.size[0] // self.patch, self.size[1] // self.patch


QUICK: dict[str, Any] = {
    "seeds": (0,), "num_street": 20, "num_photographs": 10, "num_tests": 6, "num_recordings": 120, "num_clips": 1,
    "num_views": 1, "teacher_steps": 4, "teacher_batch": 4, "steps": 2, "batch_size": 8, "collapse_pictures": 2,
    "penalties": (1e-3,),
}  # fmt: skip
