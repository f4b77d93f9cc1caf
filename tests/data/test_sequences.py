"""One way to open recordings, whatever they are: sequences as they were published, or files."""

from __future__ import annotations

from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from m3ed_files import write_m3ed

from eventfm.data.sequences import find_sequences, open_one, open_recordings
from eventfm.data.table import CollectionError
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, FormatError, save_recording


def test_files_are_opened_as_ever(tmp_path: Path) -> None:
    events = Events.checked([1, 2], [3, 4], [5, 6], [0, 1], Sensor(8, 8))
    path = save_recording(tmp_path / "a.h5", ArrayRecording(events))
    assert find_sequences(path) is None
    assert find_sequences(tmp_path) is None
    np.testing.assert_array_equal(open_one(path).events(0, 10).t, [5, 6])
    assert [entry.recording.format for entry in open_recordings(tmp_path).entries] == ["eventfm"]
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        open_one(tmp_path / "gone")
    with pytest.raises(CollectionError, match="does not exist"):
        open_recordings(tmp_path / "gone")
    (tmp_path / "b_data.h5").write_bytes(path.read_bytes())
    assert find_sequences(tmp_path) is None


def test_one_sequence_is_one_recording(tmp_path: Path) -> None:
    one = write_m3ed(tmp_path / "a/a_data.h5", ("left",))
    for path in (one, one.parent, str(one)):
        assert open_one(path).format == "m3ed"
    with pytest.raises(CollectionError, match="leave format out"):
        open_one(one, format="hdf5")
    write_m3ed(tmp_path / "b/b_data.h5", ("left",))
    with pytest.raises(CollectionError, match=r"holds 2 sequences of M3ED; give one, e\.g\. .*a/a_data\.h5"):
        open_one(tmp_path)


def test_sequences_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    with h5py.File(write_m3ed(tmp_path / "b_data.h5", ()), "a") as file:
        file["prophesee/left/calib/resolution"][:] = (80, 60)
    write_m3ed(tmp_path / "a_data.h5", ())
    with pytest.raises(CollectionError, match=r"one sensor size in .* got \[\(64, 48\), \(80, 60\)\]"):
        open_recordings(tmp_path)
    for name in ("events/left", "images/left/distorted"):
        (tmp_path / "thun_00_a" / name).mkdir(parents=True)
    (tmp_path / "thun_00_a/events/left/events.h5").touch()
    cv2.imwrite(str(tmp_path / "thun_00_a/images/left/distorted/0.png"), np.zeros((480, 640), np.uint8))
    with pytest.raises(CollectionError, match="sequences of DSEC and of M3ED; read them apart"):
        open_recordings(tmp_path)


def test_a_sequence_that_is_damaged_says_so(tmp_path: Path) -> None:
    path = write_m3ed(tmp_path / "a_data.h5", ("left",))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(FormatError, match=r"a_data\.h5: damaged or cut off"):
        open_one(path)
