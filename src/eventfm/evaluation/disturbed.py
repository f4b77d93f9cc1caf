"""Test windows whose events were made worse, with labels as they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from eventfm.data.kernels import placement
from eventfm.data.pairs import WindowSamples
from eventfm.data.targets import MAPS, drawn, labelled, wanted_shapes
from eventfm.data.transforms import Geometry, whole
from eventfm.data.windows import read
from eventfm.evaluation.robustness import Disturbance
from eventfm.events import Sensor


@dataclass(frozen=True)
class DisturbedSamples:
    """`samples` whose events went through `disturbance`, with labels of the undisturbed sensor (`loader.SampleSet`).

    Labels are those that are stored, pixel by pixel, of the part of the sensor that the input still shows: of a coarser
    sensor the same questions are asked as before, of a cropped or narrower one those about what it has left. `seen` is
    1 at the labelled pixels that lie in a pixel of the disturbed sensor with an event. Answers are to be brought to the
    size of the labels (`scoring.at_label`).
    """

    samples: WindowSamples
    """Windows without a target or a teacher."""
    disturbance: Disturbance

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each array of a sample."""
        size = self._shown(self.samples.collection.sensor).out
        channels = self.samples.representation.channels
        return self._inputs.shapes | wanted_shapes(self.samples.wanted, channels, self.samples.image_size, size)

    @property
    def problems(self) -> Mapping[str, str]:
        """What could not be read so far, and why, by name."""
        return self.samples.problems

    def __len__(self) -> int:
        return len(self.samples)

    def fill(self, index: int, rng: np.random.Generator | None, out: dict[str, NDArray[np.generic]]) -> None:
        """Write sample `index` into `out`, in evaluation: nothing is drawn but by the disturbance.

        Raises:
            LabelError: Its labels are of another size than the sensor, or beyond the classes that there are.
        """
        assert rng is None
        self._inputs.fill(index, None, out)
        wanted = self.samples.wanted
        entry, window = self.samples.entry(index), self.samples.windows[index][1]
        shown = self._shown(entry.recording.sensor)
        for kind in MAPS:
            if kind in wanted:
                values = labelled(kind, entry, window).read(self.samples.class_limit)
                out[kind][...] = drawn(kind, values, shown)
        if "seen" in wanted:
            events = self.disturbance(read(entry.recording, window), index)
            pixels = np.zeros((events.sensor.height, events.sensor.width), np.float32)
            pixels[events.y, events.x] = 1
            rows, columns = self._pixels(entry.recording.sensor)
            rows = rows[shown.top : shown.top + shown.height]
            out["seen"][...] = pixels[rows[:, None], columns[shown.left : shown.left + shown.width]]

    @cached_property
    def _inputs(self) -> WindowSamples:
        """The same samples without labels of pixels."""
        rest = tuple(kind for kind in self.samples.wanted if kind not in (*MAPS, "seen"))
        return replace(self.samples, wanted=rest, disturbance=self.disturbance, label_size="input")

    def _pixels(self, sensor: Sensor) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
        """Return which row and column of the disturbed sensor each one of `sensor` becomes, or `kernels.OUTSIDE`."""
        moved = self._moved(sensor)
        rows = placement(sensor.height, moved.top, moved.height, moved.out[0])
        return rows, placement(sensor.width, moved.left, moved.width, moved.out[1])

    def _shown(self, sensor: Sensor) -> Geometry:
        """Return the part of `sensor` whose events the input shows, as large as it is there."""
        rows, columns = self._moved(sensor).out
        crop = whole(replace(sensor, width=columns, height=rows), self.samples.image_size)
        row_of, column_of = self._pixels(sensor)
        top, height = _stretch(row_of, crop.top, crop.height)
        left, width = _stretch(column_of, crop.left, crop.width)
        return Geometry(left, top, width, height, (height, width))

    def _moved(self, sensor: Sensor) -> Geometry:
        still = Geometry(0, 0, sensor.width, sensor.height, (sensor.height, sensor.width))
        return self.disturbance.geometry(sensor) or still


def _stretch(place: NDArray[np.uint16], start: int, length: int) -> tuple[int, int]:
    """Return the first of the coordinates whose `place` is in `[start, start + length)`, and how many there are."""
    inside = np.flatnonzero((place >= start) & (place < start + length))
    return int(inside[0]), len(inside)
