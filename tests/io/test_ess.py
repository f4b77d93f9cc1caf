"""DDD17 as ESS packed it: folders written number by number from the layout."""

import json
import struct

import cv2
import numpy as np
import pytest
from fuzzing import mutated, read_all

from eventfm.events import EventError, Sensor
from eventfm.io import FormatError, convert, detect_format, open_recording
from eventfm.io.contract import DamagedFileError

START_NS = 1_487_417_411_123_456_789


def write_ess(folder, events, frames=4, masks=(2, 3), pictures=(), step_ms=10):
    """Events whose first is at `START_NS`, frames every `step_ms` from there on, of which `masks` are labelled."""
    for inner in ("index", "segmentation_masks", "imgs"):
        (folder / inner).mkdir(parents=True, exist_ok=True)
    first = int(events.t[0]) if len(events) else 0
    times, rest = bytearray(), bytearray()
    for x, y, t, p in zip(*(getattr(events, name).tolist() for name in "xytp"), strict=True):
        times += struct.pack("<q", START_NS + (t - first) * 1000)
        rest += struct.pack("<hhh", x, y, p)
    (folder / "events.dat.t").write_bytes(times)
    (folder / "events.dat.xyp").write_bytes(rest)
    rows = [(START_NS + i * step_ms * 1_000_000, 50 * i, max(50 * i - 30, -1)) for i in range(frames)]
    np.save(folder / "index" / "index_50ms.npy", np.array(rows, np.int64))
    for number in masks:
        cv2.imwrite(str(folder / f"segmentation_masks/segmentation_{number:08d}.png"), mask_of(number))
    for number in pictures:
        cv2.imwrite(str(folder / f"imgs/img_{number:08d}.png"), np.full((260, 346, 3), (number, 0, 200), np.uint8))


def mask_of(number):
    mask = np.full((200, 346), number % 6, np.uint8)
    mask[199, 345], mask[0, 0] = 5, 255
    return mask


@pytest.fixture
def events(make_events):
    return make_events(700, width=346, height=260, start_us=START_NS // 1000, span_us=40_000)


def test_it_reads_back_and_at_random(events, assert_contract, tmp_path):
    write_ess(tmp_path / "dir3", events, pictures=(1, 4))
    assert detect_format(tmp_path / "dir3") == "ess"
    recording = open_recording(tmp_path / "dir3")
    assert recording.sensor == Sensor(346, 260, "DAVIS346")
    assert_contract(recording, events)
    assert set(recording.tracks) == {"semantic", "frames"}
    frames = recording.tracks["frames"]
    assert frames.times.tolist() == [START_NS // 1000, (START_NS + 30_000_000) // 1000]
    assert frames.read(1)[5, 7].tolist() == [200, 0, 4]


def test_labels_stand_at_the_frames_of_their_numbers(events, tmp_path):
    # Nine, ten and eleven: the order is that of numbers, not of letters.
    write_ess(tmp_path / "a", events, frames=12, masks=(9, 10, 11))
    colour = tmp_path / "a/segmentation_masks/segmentation_00000010.png"
    cv2.imwrite(str(colour), np.repeat(mask_of(10)[..., None], 3, 2))
    colour.rename(colour.with_name("segmentation_10.png"))
    labels = open_recording(tmp_path / "a").tracks["semantic"]
    assert labels.classes == ("flat", "background", "object", "vegetation", "human", "vehicle")
    assert len(labels) == 3
    assert labels.times.tolist() == [(START_NS + i * 10_000_000) // 1000 for i in (8, 9, 10)]
    for i, number in enumerate((9, 10, 11)):
        found = labels.read(i)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found[:200], mask_of(number))
        assert found.shape == (260, 346)
        assert (found[200:] == 255).all()


def test_the_native_store_keeps_the_labels(events, tmp_path):
    write_ess(tmp_path / "a", events)
    found = open_recording(convert(tmp_path / "a", tmp_path / "a.h5"))
    labels = found.tracks["semantic"]
    assert labels.classes[5] == "vehicle"
    np.testing.assert_array_equal(labels.read(1)[:200], mask_of(3))


@pytest.mark.parametrize("name", ["index_10ms", "index_250ms"])
def test_any_index_will_do(name, events, tmp_path):
    write_ess(tmp_path / "a", events)
    (tmp_path / "a/index/index_50ms.npy").rename(tmp_path / f"a/index/{name}.npy")
    assert len(open_recording(tmp_path / "a").tracks["semantic"]) == 2


def test_events_alone(events, assert_contract, tmp_path):
    write_ess(tmp_path / "a", events, masks=())
    (tmp_path / "a/index/index_50ms.npy").unlink()
    recording = open_recording(tmp_path / "a", sensor=(400, 300))
    assert recording.sensor == Sensor(400, 300)
    assert not recording.tracks
    assert_contract(recording, events)


def test_what_does_not_fit_is_refused(events, tmp_path):
    write_ess(tmp_path / "a", events)
    rest, index = tmp_path / "a/events.dat.xyp", tmp_path / "a/index/index_50ms.npy"
    whole = rest.read_bytes()
    rest.write_bytes(whole[:-6])
    with pytest.raises(FormatError, match=r"got \(700, 1\) and \(699, 3\); is one cut off"):
        open_recording(tmp_path / "a")
    rest.write_bytes(whole[:-1])
    with pytest.raises(DamagedFileError, match=r"events\.dat\.xyp: 4199 bytes are no whole number of items of 6"):
        open_recording(tmp_path / "a")
    rest.write_bytes(struct.pack("<hhh", 346, 0, 1) + whole[6:])
    with pytest.raises(EventError, match="outside the 346x260"):
        open_recording(tmp_path / "a").events_by_index(0, 9)
    rest.write_bytes(whole)
    np.save(index, np.zeros((2, 3), np.int64))
    with pytest.raises(FormatError, match="expected times of pictures 2 to 3, got 1 to 2"):
        open_recording(tmp_path / "a")
    np.save(index, np.zeros(9))
    with pytest.raises(FormatError, match="expected rows of whole numbers, got float64"):
        open_recording(tmp_path / "a")
    index.unlink()
    with pytest.raises(FormatError, match=r"expected index/index_50ms\.npy with the times of 2 pictures"):
        open_recording(tmp_path / "a")


def test_labels_of_another_size_are_refused(events, tmp_path):
    write_ess(tmp_path / "a", events, masks=(1,))
    path = tmp_path / "a/segmentation_masks/segmentation_00000001.png"
    for wrong in (np.zeros((261, 346), np.uint8), np.zeros((200, 352), np.uint8), np.zeros((200, 346), np.uint16)):
        cv2.imwrite(str(path), wrong)
        with pytest.raises(FormatError, match="346 pixels wide and at most 260 high, got uint"):
            open_recording(tmp_path / "a").tracks["semantic"].read(0)


def test_damage_is_survived(make_events, tmp_path):
    write_ess(tmp_path / "a", make_events(60, width=346, height=260), pictures=(1,))
    files = sorted(path for path in (tmp_path / "a").rglob("*") if path.is_file())
    refused = 0
    for number in range(120):
        victim, rng = files[number % len(files)], np.random.default_rng(number)
        whole = victim.read_bytes()
        damaged, what = mutated(whole, rng)
        victim.write_bytes(damaged)
        try:
            read_all(tmp_path / "a", rng, "ess", ("sort", "raise")[number // len(files) % 2])
        except (ValueError, OSError):
            refused += 1
        except BaseException as error:
            error.add_note(json.dumps({"file": victim.name, "number": number, "what": what}))
            raise
        victim.write_bytes(whole)
    assert 20 < refused < 120
