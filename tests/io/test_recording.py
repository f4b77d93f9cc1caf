"""Recordings and tracks in memory."""

import cv2
import numpy as np
import pytest

from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, ArrayTrack, FormatError, PictureTrack
from eventfm.protocols import Recording, Track


def test_keeps_to_the_protocols(make_events, assert_contract):
    events = make_events()
    recording = ArrayRecording(events, {"label": ArrayTrack([5], [3])})
    assert isinstance(recording, Recording)
    assert isinstance(recording.tracks["label"], Track)
    assert_contract(recording, events)
    assert_contract(ArrayRecording(Events.empty(Sensor(3, 3))), Events.empty(Sensor(3, 3)))


def test_windows_are_views(make_events):
    events = make_events()
    assert np.shares_memory(ArrayRecording(events).events(0, 10**6).t, events.t)


def test_tracks_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(FormatError, match="times of a track to increase; 1 do not, first entry 2"):
        ArrayTrack([1, 5, 3], [0, 0, 0])
    with pytest.raises(FormatError, match="got 1 for 2 times"):
        ArrayTrack([1, 2], [0])
    with pytest.raises(FormatError, match="got 0 for 1 times"):
        PictureTrack([1], [])


@pytest.mark.parametrize("kind", ["grey", "grey16", "colour", "alpha"])
def test_pictures_come_as_stored(tmp_path, kind):
    shape = {"grey": (5, 7), "grey16": (5, 7), "colour": (5, 7, 3), "alpha": (5, 7, 4)}[kind]
    dtype = np.uint16 if kind == "grey16" else np.uint8
    stored = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)
    cv2.imwrite(str(tmp_path / "a.png"), stored)
    found = PictureTrack([0], [tmp_path / "a.png"]).read(0)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, stored if stored.ndim == 2 else stored[..., [2, 1, 0]])


def test_a_picture_that_claims_more_pixels_than_its_bytes_can_hold_is_not_decoded(tmp_path):
    path = tmp_path / "0.png"
    cv2.imwrite(str(path), np.full((300, 400), 7, np.uint8))
    assert PictureTrack([0], [path]).read(0).shape == (300, 400)
    damaged = bytearray(path.read_bytes())
    damaged[18] = 0x40  # the width, from 400 to 16,528
    path.write_bytes(damaged)
    with pytest.raises(FormatError, match="16528x300 pixels do not fit into"):
        PictureTrack([0], [path]).read(0)


@pytest.mark.parametrize("at", [33, 8])
def test_a_part_of_a_picture_that_claims_to_be_longer_than_the_file_is_not_decoded(tmp_path, at):
    path = tmp_path / "0.png"
    cv2.imwrite(str(path), np.full((300, 400), 7, np.uint8))
    damaged = bytearray(path.read_bytes())
    damaged[at] = 0x08  # 128 MB
    path.write_bytes(damaged)
    with pytest.raises(FormatError, match="the file is damaged or cut off"):
        PictureTrack([0], [path]).read(0)
