"""Samples of EF-ImageNet: stored tensors, cropped and flipped."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eventfm.data.ef_imagenet import VOXEL_AXES, EFImageNet, Image, load_tensor
from eventfm.data.problems import UnreadableError, first_readable
from eventfm.data.scenes import TeacherInput
from eventfm.data.transforms import AugmentConfig, draw, whole
from eventfm.events import Sensor


@dataclass(frozen=True)
class EFImageNetSamples:
    """Samples of EF-ImageNet (`loader.SampleSet`), one per image: `input` (B, H, W), one of the image's windows.

    And `target` (1, H, W) where there are any, `view` and `teacher_tokens` with a teacher. Training draws the window,
    evaluation has one for good. An image with a file that cannot be read is passed over for the next one. Events are
    erased or added nowhere: there are none, only their sums.
    """

    source: EFImageNet
    images: tuple[Image, ...]
    image_size: tuple[int, int]
    augment: AugmentConfig
    teacher: TeacherInput | None = None
    problems: dict[str, str] = field(default_factory=dict, compare=False)
    """What could not be read so far, and why, by name."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each array of a sample."""
        shapes: dict[str, tuple[int, ...]] = {"input": (self.source.num_bins, *self.image_size)}
        if self.source.has_targets:
            shapes["target"] = (1, *self.image_size)
        return shapes | (self.teacher.shapes if self.teacher else {})

    def __len__(self) -> int:
        return len(self.images)

    def fill(self, index: int, rng: np.random.Generator | None, out: dict[str, NDArray[np.generic]]) -> None:
        """Write one window of image `index` into `out`; one geometry serves events, target and view.

        Raises:
            CollectionError: No image at all can be read.
        """
        first_readable(lambda number: self._fill(number, rng, out), index, len(self), self.problems)

    def _fill(self, index: int, rng: np.random.Generator | None, out: dict[str, NDArray[np.generic]]) -> None:
        image, root = self.images[index], self.source.root
        window = image.windows[index % len(image.windows) if rng is None else int(rng.integers(len(image.windows)))]
        file = image.file(root, self.source.noise, window)
        voxels = load_tensor(file)
        if voxels.ndim != VOXEL_AXES or len(voxels) != self.source.num_bins or not voxels.size:
            raise UnreadableError(str(file), f"has shape {voxels.shape}; expected ({self.source.num_bins}, H, W)")
        sensor = Sensor(voxels.shape[2], voxels.shape[1])
        geometry = whole(sensor, self.image_size) if rng is None else draw(sensor, self.image_size, self.augment, rng)
        geometry.voxels(voxels, out["input"])  # type: ignore[arg-type]
        if self.source.has_targets:
            beside = image.file(root, "sub_frames", window)
            difference = load_tensor(beside)
            if difference.shape != (1, *voxels.shape[1:]):
                raise UnreadableError(str(beside), f"has shape {difference.shape}; expected {(1, *voxels.shape[1:])}")
            out["target"][0] = geometry.difference(difference[0], cubic=True)
        if self.teacher is not None:
            self.teacher.fill(image, geometry.view(sensor), out)
