"""Labels of windows that were made worse: as they are stored, where the input still shows them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from eventfm.data.collection import Collection, Entry
from eventfm.data.loader import evaluation_batches
from eventfm.data.pairs import WindowSamples, cut_collection
from eventfm.data.transforms import AugmentConfig
from eventfm.data.windows import WindowConfig
from eventfm.evaluation.disturbed import DisturbedSamples
from eventfm.evaluation.robustness import PERTURBATIONS, Disturbance
from eventfm.evaluation.scoring import at_label
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack
from eventfm.protocols import Batch
from eventfm.representations import VoxelGrid

SENSOR = Sensor(80, 61)
MOVING = ("resolution", "crop", "width")


def disc() -> np.ndarray:
    """Return where a thing is: off the centre, so that a crop at the wrong place is seen."""
    y, x = np.mgrid[: SENSOR.height, : SENSOR.width]
    return (x - 46) ** 2 + (y - 27) ** 2 < 12**2


def recording() -> ArrayRecording:
    """Return one event at each pixel of the disc between 1 and 10 ms, and maps of labels at 0 and at 10 ms."""
    rng = np.random.default_rng(0)
    y, x = np.nonzero(disc())
    order = rng.permutation(len(x))
    t = np.sort(rng.integers(1, 10_001, len(x)))
    events = Events.checked(x[order], y[order], t, np.ones(len(x)), SENSOR)
    shape = (SENSOR.height, SENSOR.width)
    maps = np.stack([np.full(shape, 255), np.where(rng.random(shape) < 0.1, 255, disc())]).astype(np.uint8)
    flow = rng.normal(0, 3, (1, 2, *shape)).astype(np.float32)
    return ArrayRecording(
        events,
        {
            "semantic": ArrayTrack([0, 10_000], maps),
            "flow": ArrayTrack([0], flow),
            "flow_until": ArrayTrack([0], np.array([10_000])),
        },
    )


def samples(track: str, size: tuple[int, int] = (32, 48)) -> WindowSamples:
    by = {"by": "frames"} if track == "flow" else {"by": "frame", "frame_at": "end", "duration_us": 10_000}
    config = WindowConfig.parse({"track": track, **by}, "window")
    collection = Collection((Entry("a", recording()),))
    windows, _ = cut_collection(collection, config)
    return WindowSamples(
        collection, tuple(windows[-1:]), config, VoxelGrid(1), VoxelGrid(1), size, AugmentConfig.none(),
        wanted=(track, "seen"),
    )  # fmt: skip


def batch_of(made: WindowSamples | DisturbedSamples) -> Batch:
    (batch,) = evaluation_batches(made, 4)
    return batch


@pytest.mark.parametrize("track", ["semantic", "flow"])
@pytest.mark.parametrize("size", [(32, 48), (64, 64)])
@pytest.mark.parametrize("disturbance", [Disturbance("noise", 4), Disturbance("drop", 5), Disturbance("crop", 0)])
def test_where_no_pixel_moves_labels_are_those_of_the_sensor(
    track: str, size: tuple[int, int], disturbance: Disturbance
) -> None:
    plain = samples(track, size)
    found = batch_of(DisturbedSamples(plain, disturbance))
    expected = batch_of(replace(plain, label_size="sensor", disturbance=disturbance))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        # 20x15 pixels of which 32x48 shows 20x13 from row 1 on; of the sensor, from (30, 23) on.
        ("crop", (slice(15 + 1, 15 + 1 + 27), slice(20, 60))),
        # 20x15 cells, of which 13 from row 1 on are shown; rows 5 to 56 of 61 fall into those.
        ("resolution", (slice(5, 57), slice(0, 80))),
        # 40 columns remain, and of 61 rows the 27 in the middle.
        ("width", (slice(17, 17 + 27), slice(20, 60))),
    ],
)
def test_labels_are_the_stored_ones_of_what_is_left(name: str, part: tuple[slice, slice]) -> None:
    worst = Disturbance(name, 5)
    made = samples("semantic")
    found = batch_of(DisturbedSamples(made, worst))
    stored = made.collection.entries[0].recording.tracks["semantic"].read(1)
    np.testing.assert_array_equal(found["semantic"][0], stored[part])
    flow = samples("flow")
    lengths = flow.collection.entries[0].recording.tracks["flow"].read(0)
    np.testing.assert_array_equal(batch_of(DisturbedSamples(flow, worst))["flow"][0], lengths[:, *part])


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("name", MOVING)
def test_labels_lie_where_the_input_shows_their_events(name: str, severity: int) -> None:
    """Who says where the input has events is right of the disc, but for its border, at every strength."""
    batch = batch_of(DisturbedSamples(samples("semantic"), Disturbance(name, severity)))
    active = (batch["input"] != 0).float()
    logits = at_label("segmentation", {"logits": torch.cat([1 - active, active], 1)}, batch)["logits"]
    said, label = logits.argmax(1)[0], batch["semantic"][0]
    known = label != 255

    def overlap(shift: tuple[int, int]) -> float:
        moved = torch.roll(said, shift, (0, 1))
        both, either = (moved == 1) & (label == 1), ((moved == 1) | (label == 1)) & known
        return float(both.sum() / either.sum())

    assert overlap((0, 0)) > (0.65 if name == "resolution" else 0.85)
    shifts = [(y, x) for y in (-3, 0, 3) for x in (-3, 0, 3)]
    assert max(shifts, key=overlap) == (0, 0)


@pytest.mark.parametrize("name", [*MOVING, "drop"])
def test_pixels_are_seen_whose_pixel_of_the_disturbed_sensor_has_an_event(name: str) -> None:
    made, disturbance = samples("flow"), Disturbance(name, 4)
    sensor = made.collection.sensor
    source = made.collection.entries[0].recording
    events = disturbance(replace(source.events(1, 10_001), window=(1, 10_001)), 0)
    cells = set(zip(events.x.tolist(), events.y.tolist(), strict=True))
    batch = batch_of(DisturbedSamples(made, disturbance))
    flow = source.tracks["flow"].read(0)
    places = {float(value): divmod(n, sensor.width) for n, value in enumerate(flow[0].ravel().tolist())}
    moved = disturbance.geometry(sensor)
    for value, seen in zip(batch["flow"][0, 0].flatten().tolist(), batch["seen"][0].flatten().tolist(), strict=True):
        y, x = places[value]
        if moved is not None:
            x = (x - moved.left) * moved.out[1] // moved.width
            y = (y - moved.top) * moved.out[0] // moved.height
        assert seen == ((x, y) in cells)


def test_every_disturbance_has_samples_of_its_shapes() -> None:
    made = samples("semantic")
    for name in PERTURBATIONS:
        worse = DisturbedSamples(made, Disturbance(name, 2))
        assert len(worse) == 1
        assert worse.problems is made.problems
        assert {key: tuple(value.shape[1:]) for key, value in batch_of(worse).items() if key in worse.shapes} == (
            worse.shapes
        )
