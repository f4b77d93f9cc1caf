"""Which reader gets a file, and what is said when none does."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

import eventfm
from eventfm.events import EventError, Sensor
from eventfm.io import READERS, FormatError, Reader, UnknownFormatError, detect_format, open_recording
from eventfm.protocols import Recording
from eventfm.registry import UnknownNameError


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "events.txt"
    path.write_text("".join(f"{10 * i} {i % 30} {i % 20} {i % 2}\n" for i in range(100)))
    return path


def test_is_public_and_light():
    assert eventfm.open_recording is open_recording
    code = "import sys, eventfm.io; print([m for m in ('torch', 'numba', 'h5py', 'cv2', 'lz4') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_every_reader_is_one():
    for name in READERS:
        reader = READERS.get(name)
        assert isinstance(reader, Reader)
        assert callable(reader.sniff)


def test_a_recording_keeps_to_the_protocol(text):
    assert isinstance(open_recording(text), Recording)
    assert isinstance(open_recording(str(text)), Recording)


def test_extensions_are_not_believed(tmp_path, text):
    path = tmp_path / "wrong.aedat4"
    path.write_bytes(text.read_bytes())
    assert open_recording(path).format == "text"


def test_sensor_may_be_a_pair(text):
    assert open_recording(text, sensor=(32, 24)).sensor == Sensor(32, 24)
    assert open_recording(text, sensor=Sensor(32, 24, "mine")).sensor.name == "mine"
    with pytest.raises(EventError, match="outside the 10x10 sensor"):
        open_recording(text, sensor=(10, 10))


def test_unknown_formats_list_what_was_tried_and_why(tmp_path):
    path = tmp_path / "noise.raw"
    path.write_bytes(np.random.default_rng(0).bytes(1001))
    with pytest.raises(FormatError) as caught:
        open_recording(path)
    message = str(caught.value)
    for name in READERS:
        assert f"\n  {name}: " in message
    assert "not a multiple of 5" in message
    assert "does not start with #!AER-DAT4.0" in message


def test_empty_missing_unreadable_and_strange(tmp_path):
    (tmp_path / "empty.aedat4").touch()
    with pytest.raises(FormatError, match=r"empty\.aedat4 is empty \(0 bytes\)"):
        open_recording(tmp_path / "empty.aedat4")
    with pytest.raises(FileNotFoundError, match=r"no file or folder at .*nowhere"):
        open_recording(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.h5"):
        open_recording(f"{tmp_path / 'nowhere.h5'}::a")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FormatError, match=r"the folder .* is empty"):
        open_recording(tmp_path / "folder")
    (tmp_path / "folder" / "a").touch()
    with pytest.raises(FormatError, match=r"no events\.txt"):
        open_recording(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FormatError, match="neither"):
        open_recording(tmp_path / "pipe")


def test_what_may_not_be_read_is_named(tmp_path, text, monkeypatch):
    # Permissions do not bind the superuser, so the answer of the system is made up.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match=r"the file .*events\.txt may not be read"):
        open_recording(text)
    with pytest.raises(PermissionError, match="the folder"):
        open_recording(tmp_path)


def test_a_format_that_is_named_is_not_sniffed(text):
    assert open_recording(text, format="text").num_events == 100
    with pytest.raises(FormatError):
        open_recording(text, format="aedat4")
    with pytest.raises(UnknownNameError, match="did you mean 'aedat4'"):
        open_recording(text, format="aedat")


def test_wrong_words_for_on_error_are_refused(text):
    with pytest.raises(FormatError, match="'raise', 'sort' or 'clamp', got 'ignore'"):
        open_recording(text, on_error="ignore")


def test_readers_of_other_packages_and_ties(text, monkeypatch):
    opened = []
    other = Reader(lambda path: 1.0, lambda path, sensor, on_error: opened.append(path) or "opened")
    monkeypatch.setitem(READERS._entries, "theirs", "eventfm.io.opening:THEIRS")
    monkeypatch.setattr("eventfm.io.opening.THEIRS", other, raising=False)
    assert open_recording(text) == "opened"
    assert opened == [text]
    monkeypatch.setattr("eventfm.io.opening.THEIRS", other._replace(sniff=lambda path: 0.7))
    with pytest.raises(FormatError, match="could be text or theirs; say which"):
        open_recording(text)
    monkeypatch.setattr("eventfm.io.opening.THEIRS", other._replace(sniff=lambda path: False))
    assert open_recording(text).format == "text"


def test_a_file_name_may_hold_two_colons(tmp_path, text):
    path = tmp_path / "a::b.txt"
    path.write_bytes(text.read_bytes())
    assert open_recording(path).num_events == 100


def test_unknown_is_told_from_damaged(tmp_path):
    """Who searches a folder passes over files of other kinds, but not over recordings that are cut off."""
    (tmp_path / "words").write_text("no recording")
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    for name in ("words", "empty", "folder"):
        with pytest.raises(UnknownFormatError):
            detect_format(tmp_path / name)
    whole = tmp_path / "whole.h5"
    with h5py.File(whole, "w") as file:
        file["events"] = np.arange(4000.0).reshape(1000, 4)
    assert detect_format(whole) == "hdf5"
    (tmp_path / "cut.h5").write_bytes(whole.read_bytes()[:-1001])
    with pytest.raises(FormatError, match="damaged or cut off") as error:
        detect_format(tmp_path / "cut.h5")
    assert not isinstance(error.value, UnknownFormatError)
    with pytest.raises(FileNotFoundError):
        detect_format(tmp_path / "gone")
