from __future__ import annotations

import pytest

from eventfm.data.test_sequences import TEST_SEQUENCES, overlaps

RELEASED_DSEC = (
    [f"interlaken_00_{letter}" for letter in "abcdefg"]
    + ["thun_00_a", "thun_01_a", "thun_01_b"]
    + [f"zurich_city_{name}" for name in ("00_a", "00_b", "01_a", "01_b", "01_c", "01_d", "01_e", "01_f")]
    + [f"zurich_city_{name}" for name in ("02_a", "02_b", "02_c", "02_e", "04_a", "04_b", "04_c", "04_d", "04_e")]
    + [f"zurich_city_{name}" for name in ("04_f", "05_a", "05_b", "06_a", "07_a", "08_a", "11_a", "11_b", "11_c")]
    + [f"zurich_city_{name}" for name in ("13_a", "13_b", "14_a", "14_b", "14_c", "15_a")]
)
"""The sequences of ScaleEvent's list for DSEC."""


def test_the_released_lists_hold_test_sequences() -> None:
    found = overlaps(RELEASED_DSEC)
    both = "DSEC-Semantic, DSEC test split"
    assert found == {
        "interlaken_00_a": "DSEC test split",
        "interlaken_00_b": "DSEC test split",
        "thun_01_a": "DSEC test split",
        "thun_01_b": "DSEC test split",
        "zurich_city_13_a": both,
        "zurich_city_13_b": "DSEC test split",
        "zurich_city_14_a": "DSEC test split",
        "zurich_city_14_b": "DSEC test split",
        "zurich_city_14_c": both,
        "zurich_city_15_a": both,
    }
    assert overlaps(["dir0", "dir1", "dir3", "dir4", "dir6", "dir7"]) == {"dir1": "DDD17-Seg"}
    assert overlaps(["outdoor_day1_data", "outdoor_day2_data"]) == {"outdoor_day1_data": "MVSEC-Depth, MVSEC-Flow"}


def test_sizes_of_the_test_sets() -> None:
    sizes = {name: len(sequences) for name, sequences in TEST_SEQUENCES.items()}
    assert sizes == {"DSEC-Semantic": 3, "DSEC test split": 12, "DDD17-Seg": 2, "MVSEC-Depth": 4, "MVSEC-Flow": 4}
    for sequences in TEST_SEQUENCES.values():
        assert len(overlaps(sequences)) == len(set(sequences)) == len(sequences)


@pytest.mark.parametrize(
    "name",
    [
        "zurich_city_13_a",
        "zurich_city_13_a/events.h5",
        "test/zurich_city_13_a/events/left/events.h5",
        "zurich_city_13_a_events_left.h5",
        "DSEC-Zurich-City-13-A.hdf5",
        "ZurichCity13A.h5",
        "test\\zurich_city_13_a\\events.h5",
        "corpus.h5::zurich_city_13_a",
        "zurich city 13.a",
    ],
)
def test_a_name_is_known_in_any_spelling(name: str) -> None:
    assert overlaps([name]) == {name: "DSEC-Semantic, DSEC test split"}


@pytest.mark.parametrize(
    ("name", "benchmarks"),
    [
        ("MVSEC_outdoor_day1_data.hdf5", "MVSEC-Depth, MVSEC-Flow"),
        ("outdoor_day/outdoor_day1_data.bag", "MVSEC-Depth, MVSEC-Flow"),
        ("outdoor-day-01.h5", "MVSEC-Depth, MVSEC-Flow"),
        ("Outdoor_Night2_Data", "MVSEC-Depth"),
        ("outdoor_night3_data.hdf5", "MVSEC-Depth"),
        ("indoor_flying1_left", "MVSEC-Flow"),
        ("indoor_flying_3/data", "MVSEC-Flow"),
        ("run3/rec1487417411.hdf5", "DDD17-Seg"),
        ("rec1487417411_export_3765.npy", "DDD17-Seg"),
        ("ddd17_seg/dir1/events.dat.t", "DDD17-Seg"),
        ("ddd17_dir1.h5", "DDD17-Seg"),
        ("train/dir1", "DDD17-Seg"),
        ("dir1.h5", "DDD17-Seg"),
        ("DIR1/voxel", "DDD17-Seg"),
        ("train\\dir1\\voxel", "DDD17-Seg"),
        ("train.h5::dir1", "DDD17-Seg"),
    ],
)
def test_each_benchmark(name: str, benchmarks: str) -> None:
    assert overlaps([name]) == {name: benchmarks}


@pytest.mark.parametrize(
    "name",
    [
        "zurich_city_13_aa",
        "zurich_city_13_c",
        "zurich_city_113_a",
        "zurich_city_130_a",
        "zurich_city_00_a",
        "zurich_city_13/a",
        "interlaken_00_c",
        "thun_00_a",
        "outdoor_day2_data",
        "outdoor_day10",
        "outdoor_day",
        "falcon_outdoor_day_fast_flight_1_left",
        "spot_outdoor_day_skatepark_1_left",
        "outdoor_night4",
        "indoor_flying4_data",
        "indoor_flying12",
        "dir10",
        "dir11/x",
        "ddd17_dir10.h5",
        "ddd17/subdir1_b",
        "subdir1",
        "my_dir1_again",
        "dir1_old/rec.h5",
        "rec1487339175.hdf5",
        "rec14874174110",
        "",
    ],
)
def test_other_names_are_none_of_them(name: str) -> None:
    assert overlaps([name]) == {}


def test_the_root_belongs_to_every_name() -> None:
    names = ["events.h5", "zurich_city_13_b/events.h5"]
    assert overlaps(names, "data/zurich_city_15_a") == {
        "events.h5": "DSEC-Semantic, DSEC test split",
        "zurich_city_13_b/events.h5": "DSEC-Semantic, DSEC test split",
    }
    assert overlaps(names, "data") == {"zurich_city_13_b/events.h5": "DSEC test split"}
    assert overlaps([""], "data/outdoor_night1_data.hdf5") == {"": "MVSEC-Depth"}
