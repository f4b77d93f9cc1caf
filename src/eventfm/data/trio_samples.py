"""Samples of trios: stored volumes with their frames and active patches, cropped and flipped."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventfm.data.holding_out import MANY, chosen
from eventfm.data.pictures import decode
from eventfm.data.problems import UnreadableError, first_readable
from eventfm.data.scenes import Still, TeacherInput
from eventfm.data.transforms import AugmentConfig, draw, whole
from eventfm.data.trio import Trio, TrioSet
from eventfm.events import Sensor
from eventfm.representations.event_picture import released_mask

_MEAN, _DEVIATION = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)
"""Of ImageNet, R G B."""


@dataclass(frozen=True)
class TrioSamples:
    """Samples of a trio set (`loader.SampleSet`), one per frame.

    `input` (3, H, W) is the volume by the released code: resized bilinearly whatever its shape, byte/255, less the mean
    of ImageNet over its deviation. With `patch`, `active` (H / patch, W / patch) is 1 where the picture of events calls
    a patch of so many pixels active (`released_mask`), else 0. With a `teacher` there is `view` and what it is shown,
    the frame, or what it said. A frame with a file that cannot be read is passed over for the next one.

    One crop and flip serves all; a crop keeps the shape of the whole up to a factor 3/4 to 4/3. Events are erased or
    added nowhere, and time never runs backwards: what a byte of a volume means is not known.
    """

    source: TrioSet
    trios: tuple[Trio, ...]
    image_size: tuple[int, int]
    augment: AugmentConfig
    patch: int | None = None
    teacher: TeacherInput | None = None
    problems: dict[str, str] = field(default_factory=dict, compare=False)
    """What could not be read so far, and why, by name."""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        assert self.patch is not None
        return self.image_size[0] // self.patch, self.image_size[1] // self.patch

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each array of a sample."""
        shapes: dict[str, tuple[int, ...]] = {"input": (3, *self.image_size)}
        if self.patch is not None:
            shapes["active"] = self.grid
        return shapes | (self.teacher.shapes if self.teacher else {})

    def __len__(self) -> int:
        return len(self.trios)

    def scene(self, index: int) -> Still:
        """Return what a teacher is shown of sample `index`."""
        return Still(self.source.file(self.trios[index], "image"))

    def fill(self, index: int, rng: np.random.Generator | None, out: dict[str, NDArray[np.generic]]) -> None:
        """Write sample `index` into `out`; one geometry drawn from `rng` serves volume, patches and view.

        Raises:
            CollectionError: No frame at all can be read.
        """
        first_readable(lambda number: self._fill(number, rng, out), index, len(self), self.problems)

    def _fill(self, index: int, rng: np.random.Generator | None, out: dict[str, NDArray[np.generic]]) -> None:
        volume = self._read(index, "voxel")
        view = self._view(Sensor(volume.shape[1], volume.shape[0]), rng)
        out["input"][...] = _standardised(_part(volume, view), self.image_size)
        if self.patch is not None:
            out["active"][...] = released_mask(_part(self._read(index, "evimg"), view), self.grid)
        if self.teacher is not None:
            self.teacher.fill(self.scene(index), view, out)

    def _view(self, sensor: Sensor, rng: np.random.Generator | None) -> NDArray[np.float32]:
        """Return the part that is seen (`Geometry.view`): all of it, or a draw."""
        size = sensor.height, sensor.width  # the whole is seen, where a crop to the shape of the input would be
        geometry = whole(sensor, size) if rng is None else draw(sensor, size, self.augment, rng)
        return geometry.view(sensor)

    def _read(self, index: int, kind: str) -> NDArray[Any]:
        file = self.source.file(self.trios[index], kind)
        picture = decode(file)
        if picture.dtype != np.uint8:
            raise UnreadableError(str(file), f"holds {picture.dtype} values; expected bytes")
        return picture


def split_trios(source: TrioSet, share: float) -> tuple[list[Trio], list[Trio]]:
    """Return training and held-out trios: whole sequences are held out of many, of fewer the end of each.

    Of a sequence with a single frame nothing is held out.
    """
    sequences = [list(trios) for _, trios in groupby(source.trios, key=lambda trio: trio.sequence)]
    if not share:
        held = [0] * len(sequences)
    elif len(sequences) >= MANY:
        whole_ones = chosen([trios[0].sequence for trios in sequences], share)
        held = [len(trios) if number in whole_ones else 0 for number, trios in enumerate(sequences)]
    else:
        held = [min(math.ceil(share * len(trios)), len(trios) - 1) for trios in sequences]
    pairs = list(zip(sequences, held, strict=True))
    training = [trio for trios, count in pairs for trio in trios[: len(trios) - count]]
    return training, [trio for trios, count in pairs for trio in trios[len(trios) - count :]]


def _part(picture: NDArray[Any], view: NDArray[np.float32]) -> NDArray[Any]:
    """Return the part of a picture (h, w, 3) that `view` (5,) names, at least a pixel each way, flipped as it says."""
    rows, columns = picture.shape[:2]
    left, top, right, bottom = (round(float(v) * n) for v, n in zip(view[:4], (columns, rows) * 2, strict=True))
    left, top = min(left, columns - 1), min(top, rows - 1)
    part = picture[top : max(bottom, top + 1), left : max(right, left + 1)]
    return np.ascontiguousarray(part[:, ::-1] if view[4] else part)


def _standardised(volume: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return (3, H, W) float32 of a volume (h, w, 3) of bytes, RGB."""
    import cv2

    resized = cv2.resize(volume, size[::-1], interpolation=cv2.INTER_LINEAR)
    values = (resized.astype(np.float32) / np.float32(255) - _MEAN) / _DEVIATION
    return np.moveaxis(values, 2, 0)
