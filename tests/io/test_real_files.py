"""Counts, durations and contents of the real files."""

import pickle
import warnings

import numpy as np
import pytest

from eventfm.io import READERS, FormatError, convert, open_recording, summarise

COUNTS = {
    "pairs/slider_depth": ("ecd", 50_000, 0.1703, (240, 180), {"frames": 8}),
    "pairs/slider_depth/events.txt": ("text", 50_000, 0.1703, (240, 180), {}),
    "pairs/davis346_street.aedat4": ("aedat4", 6_676, 0.170, (346, 260), {"frames": 4, "imu": 160, "triggers": 17}),
    "pairs/davis346_arm.aedat4": ("aedat4", 117_667, 0.130, (346, 260), {"frames": 3, "imu": 130, "triggers": 15}),
    "labelled/ncaltech101/Helicopter.bin": ("atis", 95_827, 0.3012, (240, 180), {}),
    "labelled/ncaltech101/car.bin": ("atis", 113_549, 0.3030, (240, 180), {}),
    "labelled/ncaltech101/chair.bin": ("atis", 82_318, 0.2995, (240, 180), {}),
    "labelled/ncaltech101/faces_easy_0001.bin": ("atis", 67_445, 0.2994, (240, 180), {}),
    "labelled/ncaltech101/umbrella.bin": ("atis", 58_862, 0.3043, (240, 180), {}),
    "formats/nmnist.bin": ("atis", 4_325, 0.3105, (34, 34), {}),
    "formats/dvxplorer640.aedat4": ("aedat4", 255_283, 2.700, (640, 480), {"imu": 2_188, "triggers": 0}),
    "formats/dvxplorer320.aedat4": ("aedat4", 111_954, 0.590, (320, 240), {"imu": 475, "triggers": 0}),
    "formats/davis346_static.aedat4": (
        "aedat4", 9_193, 3.814, (346, 260), {"frames": 25, "imu": 3_836, "triggers": 101},
    ),
    "formats/empty.aedat4": ("aedat4", 0, 0.0, (100, 100), {}),
    "formats/shapes_rotation.mat": ("mat", 120_000, 1.428658, (240, 180), {}),
    "formats/generic.hdf5": ("evlib", 17, 0.0057, (146, 182), {}),
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pictures are missing")
        yield


@pytest.mark.parametrize("name", COUNTS)
def test_counts(real_data, name, assert_contract):
    kind, count, seconds, size, tracks = COUNTS[name]
    recording = open_recording(real_data / name)
    found = summarise(recording)
    assert (found["format"], found["num_events"], found["tracks"]) == (kind, count, tracks)
    assert (found["sensor"]["width"], found["sensor"]["height"]) == size
    assert found["t_last_us"] - found["t_first_us"] == pytest.approx(seconds * 1e6, abs=600)
    assert_contract(recording, recording.events_by_index(0, count))


def test_all_of_nmnist(real_data):
    paths = sorted((real_data / "labelled/nmnist").glob("*.bs2"))
    recordings = [open_recording(path) for path in paths]
    assert len(paths) == 1100
    assert sum(recording.num_events for recording in recordings) == 4_518_827
    assert {(recording.sensor.width, recording.sensor.height) for recording in recordings} == {(34, 34)}


def test_mvsec_windows(real_data):
    for path in sorted((real_data / "pairs/mvsec_windows").glob("*.hdf5")):
        recording = open_recording(path)
        assert 164 <= recording.num_events <= 199
        assert (recording.sensor.width, recording.sensor.height) == (346, 260)
        start, stop = recording.tracks["frames"].times.tolist()
        assert stop - start == pytest.approx(31_900, abs=300)
        assert len(recording.events(start, stop + 1)) == recording.num_events


def test_slider_depth_times(real_data):
    recording = open_recording(real_data / "pairs/slider_depth")
    assert recording.t_range == (3_811, 174_156)
    frames = recording.tracks["frames"]
    assert frames.times[:5].tolist() == [0, 38_766, 77_531, 116_296, 155_062]
    assert frames.read(0).shape == (180, 240)
    assert frames.read(0).std() > 10
    first = recording.events_by_index(0, 1)
    assert (int(first.t[0]), int(first.x[0]), int(first.y[0]), int(first.p[0])) == (3_811, 96, 133, 0)


def test_static_scene_is_on_only_and_frames_are_pictures(real_data):
    recording = pickle.loads(pickle.dumps(open_recording(real_data / "formats/davis346_static.aedat4")))
    assert recording.events_by_index(0, 9_193).p.min() == 1
    frames = recording.tracks["frames"]
    assert (np.diff(frames.times) > 0).all()
    assert frames.read(24).shape == (260, 346)
    gravity = np.linalg.norm([recording.tracks["imu"].read(i)[1:4] for i in range(10)], axis=1)
    np.testing.assert_allclose(gravity, 1.0, atol=0.05)


@pytest.mark.parametrize("name", ["pairs/davis346_arm.aedat4", "pairs/slider_depth", "labelled/ncaltech101/car.bin"])
def test_converted_recordings_are_the_same(real_data, tmp_path, name, assert_contract):
    source = open_recording(real_data / name)
    found = open_recording(convert(real_data / name, tmp_path / "a.h5"))
    expected, sensor = summarise(source), found.sensor
    assert {**summarise(found), "format": expected["format"]} == expected
    assert sensor == source.sensor
    assert_contract(found, source.events_by_index(0, source.num_events))
    for track, original in source.tracks.items():
        for i in range(len(original.times)):
            np.testing.assert_array_equal(found.tracks[track].read(i), original.read(i))


@pytest.mark.parametrize(
    "name",
    [
        "formats/genx320_evt2_headerless.bin", "formats/evt2_time_goes_back.bin", "formats/shapes_rotation.mat",
        "formats/ros2_evt3", "labelled/nmnist/labels.csv", "pairs/slider_depth/images/frame_00000000.png",
        "pairs/slider_depth/groundtruth.txt", "labelled/nmnist/train1K.txt", "images/imagenet_sample",
    ],
)  # fmt: skip
def test_other_files_are_not_taken_for_recordings_of_these_readers(real_data, name):
    if not (real_data / name).exists():
        pytest.skip(f"{name} is not among the test data")
    for reader in ("aedat4", "atis", "ecd", "text", "numpy", "hdf5", "dsec", "mvsec", "eventfm"):
        with pytest.raises(FormatError):
            READERS.get(reader).sniff(real_data / name)
