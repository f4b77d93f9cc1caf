"""What the doctor says of simulated and of real recordings: nothing of good ones, of others what is known of them."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from eventfm.io import ArrayRecording, open_recording
from eventfm.io.doctor import examine
from eventfm.random import generator
from eventfm.simulation.scene import film_scene
from eventfm.simulation.sensor import SensorConfig
from eventfm.simulation.worlds import SceneConfig, random_scene


def filmed(seed, sensor):
    """Return half a second and more of a made world."""
    config = SceneConfig(size=(48, 64), duration_us=600_000)
    return film_scene(random_scene(generator(seed, "doctor"), config), sensor).events


@pytest.mark.parametrize("seed", [2, 4])
@pytest.mark.parametrize("preset", ["clean", "noisy"])
def test_simulated_recordings_give_no_report(seed, preset):
    sensor = replace(SensorConfig.preset(preset), hot_fraction=0.0, seed=seed)
    diagnosis = examine(ArrayRecording(filmed(seed, sensor)))
    assert (diagnosis.findings, diagnosis.unchecked) == ((), ())


def test_the_hot_pixels_of_a_simulated_sensor_are_found():
    sensor = replace(SensorConfig.preset("clean"), hot_fraction=0.005, hot_hz=500.0, seed=3)
    events = filmed(2, sensor)
    made = np.zeros((48, 64), int)
    np.add.at(made, (events.y, events.x), events.noise == 1)
    hot = {(int(x), int(y)) for y, x in np.argwhere(made > 0)}
    assert len(hot) > 5
    assert set(examine(ArrayRecording(events)).hot_pixels) == hot


REAL = {
    "formats/gen4_evt3.raw": {},
    "formats/ncars.dat": {},
    "formats/ncars_2.dat": {},
    "formats/poker.es": {},
    "formats/shapes_rotation.mat": {},
    "formats/generic.hdf5": {},
    "formats/nmnist.bin": {},
    "pairs/davis346_street.aedat4": {},
    # Alone, or two together, among pixels that are silent; scattered over the whole sensor; as busy from first to last.
    "formats/dvxplorer640.aedat4": {"hot_pixels": 288},
    "formats/dvxplorer320.aedat4": {"hot_pixels": 28},
    "formats/gen3_evt2.raw": {"hot_pixels": 4},
    "formats/ros2_evt3": {"hot_pixels": 4},
    # A lamp on mains of 60 Hz.
    "formats/event_camera_msgs_ros1.bag": {"hot_pixels": 4, "flicker": pytest.approx(1.23, abs=0.01)},
    # Simulated: every pixel of the first picture sends an ON event at time 0.
    "formats/dvs.es": {"time_stands_still": 76_785},
    # A still scene.
    "formats/davis346_static.aedat4": {"gaps": 130_931, "polarity_imbalance": 0},
}


@pytest.mark.parametrize("name", REAL)
def test_real_recordings(real_data, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recording = open_recording(real_data / name, on_error="keep")
    assert {finding.name: finding.number for finding in examine(recording).findings} == REAL[name]


def test_every_twentieth_of_nmnist_is_clean(real_data):
    for path in sorted((real_data / "labelled/nmnist").glob("*.bs2"))[::20]:
        assert examine(open_recording(path, on_error="keep")).clean, path.name


def test_two_recordings_of_one_camera_have_the_same_hot_pixels(real_data):
    """Both are cut out of the sensor's picture, one a row lower: defects stay where they are, scenes do not."""
    car, helicopter = (
        set(examine(open_recording(real_data / f"labelled/ncaltech101/{name}.bin", on_error="keep")).hot_pixels)
        for name in ("car", "Helicopter")
    )
    shared = car & {(x, y + 1) for x, y in helicopter}
    assert len(shared) >= 7
    assert not car & helicopter
