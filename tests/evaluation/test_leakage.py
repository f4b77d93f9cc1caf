from __future__ import annotations

import json

import pytest

from eventfm.data.collection import Collection, Entry
from eventfm.data.pairs import WindowSamples
from eventfm.data.transforms import AugmentConfig
from eventfm.data.windows import Window, WindowConfig
from eventfm.evaluation.leakage import Leakage, Seen, fingerprints_of, leakage, split_overlaps
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording
from eventfm.representations import VoxelGrid

PRINTS = {f"rec_{i:02d}.h5": f"{i:016x}" for i in range(40)}


def test_recordings_are_known_by_content_and_by_name() -> None:
    trained = [
        f"night/copy of 3.h5 {3:016x}",  # content, another name with spaces in it
        f"rec_07.h5 {7:016x}",  # both
        f"REC_09.AEDAT4 {999:016x}",  # name alone
        f"other.h5 {1000:016x}",
        f"rec_07.h5 {7:016x}",  # listed twice
    ]
    found = leakage(trained, PRINTS)
    assert found == Leakage(
        40,
        4,
        (Seen("rec_03.h5", "night/copy of 3.h5"), Seen("rec_07.h5", "rec_07.h5")),
        (Seen("rec_09.h5", "REC_09.AEDAT4"),),
        (),
    )
    assert found.share == 2 / 40
    assert found.text() == (
        "2 of 40 test recordings were seen in pretraining: rec_03.h5, rec_07.h5. "
        "1 more has the name of one that was, with other content: rec_09.h5."
    )
    record = found.record()
    assert json.loads(json.dumps(record)) == record
    assert (record["num_test"], record["num_seen"], record["share_seen"]) == (40, 2, 0.05)
    assert record["seen"][0] == ["rec_03.h5", "night/copy of 3.h5"]


def test_no_overlap_and_much_of_it() -> None:
    none = leakage([], PRINTS)
    assert (none.seen, none.share, none.num_listed) == ((), 0, 0)
    assert none.text("training") == "None of 40 test recordings was seen in training."
    everything = leakage([f"{name} {print_}" for name, print_ in PRINTS.items()], PRINTS)
    assert (everything.share, everything.same_name) == (1.0, ())
    names = "rec_00.h5, rec_01.h5, rec_02.h5, rec_03.h5, rec_04.h5 and 35 more"
    assert everything.text() == f"40 of 40 test recordings were seen in pretraining: {names}."
    one = leakage([f"a {1:016x}"], PRINTS)
    assert one.text() == "1 of 40 test recordings was seen in pretraining: rec_01.h5."


def test_what_is_not_listed_by_content_cannot_be_ruled_out() -> None:
    found = leakage(["ImageNet-1k, by its authors", f"a {5:016x}", "frames of a decade"], PRINTS)
    assert found.unlisted == ("ImageNet-1k, by its authors", "frames of a decade")
    assert found.num_listed == 1
    assert len(found.seen) == 1
    assert found.text().endswith(
        "Nothing can be said of ImageNet-1k, by its authors, frames of a decade, which is not listed by its content."
    )


def test_a_single_recording_without_a_name() -> None:
    found = leakage([f" {1:016x}", f"b.h5 {2:016x}"], {"": f"{3:016x}", "c.h5": f"{1:016x}"})
    assert found.seen == (Seen("c.h5", ""),)
    with pytest.raises(ValueError, match="one or more test recordings"):
        leakage(["a 0123456789abcdef"], {})


def test_folders_tell_recordings_of_one_name_apart() -> None:
    found = leakage([f"train/events.h5 {1:016x}"], {"test/events.h5": f"{2:016x}", "train/events.hdf5": f"{3:016x}"})
    assert [item.name for item in found.same_name] == ["train/events.hdf5"]


def test_recordings_that_windows_are_cut_from_are_known_by_their_content() -> None:
    sensor = Sensor(4, 4)
    one = ArrayRecording(Events.checked([1, 2], [1, 2], [0, 9], [True, False], sensor))
    none = ArrayRecording(Events.checked([], [], [], [], sensor))
    collection = Collection((Entry("unused", one), Entry("empty", none), Entry("used", one)))
    windows = tuple((number, Window(0, 10)) for number in (2, 1, 2))
    size, voxels = (4, 4), VoxelGrid(1)
    samples = WindowSamples(collection, windows, WindowConfig(), voxels, voxels, size, AugmentConfig())
    assert fingerprints_of(samples) == {"used": collection.entries[2].fingerprint}


def test_splits() -> None:
    splits = {
        "train": {"a": "01", "b": "02", "c": "03"},
        "val": {"d": "04", "copy of b": "02"},
        "test": {"e": "05", "c": "03", "d": "04"},
    }
    assert split_overlaps(splits) == {
        ("train", "val"): (Seen("copy of b", "b"),),
        ("train", "test"): (Seen("c", "c"),),
        ("val", "test"): (Seen("d", "d"),),
    }
    assert split_overlaps({"train": {"a": "01"}, "test": {"a": "02"}}) == {}
