"""Parts of labelled data: which recordings are whose, and that none is in two."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from eventfm.data.opening import DataConfig, Source
from eventfm.data.splits import open_parts
from eventfm.data.table import CollectionError
from eventfm.events import Events, Sensor
from eventfm.io import ArrayRecording, save_recording, save_recordings


def recording(seed: int, count: int = 50) -> ArrayRecording:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 8, (2, count))
    t = np.sort(rng.integers(0, 1000, count))
    return ArrayRecording(Events.checked(x, y, t, rng.integers(0, 2, count), Sensor(8, 8)))


def store(folder: Path, names: str = "abcdef", **more: ArrayRecording) -> Path:
    return save_recordings(folder / "s.h5", {**{name: recording(n) for n, name in enumerate(names)}, **more})


def parts(path: Path, rows: str | None, needed: tuple[str, ...] = ("train",), **values: Any) -> dict[str, Source]:
    if rows is not None:
        table = path.parent / "table.csv"
        table.write_text(rows)
        values["labels"] = str(table)
    return open_parts(DataConfig.parse({"path": str(path), **values}), needed)


def names(found: dict[str, Source]) -> dict[str, list[str]]:
    return {part: [entry.name for entry in source.collection.entries] for part, source in found.items()}  # type: ignore[union-attr]


SPLITS = "path,label,split\na,cat,train\nb,dog,train\nc,cat,validation\nd,dog,test\ne,dog,extra\nf,cat,\n"


def test_each_split_is_a_source_with_all_classes(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="left out") as said:
        found = parts(store(tmp_path), SPLITS, needed=("train", "val", "test"))
    assert [str(w.message) for w in said] == [
        "1 recordings, e.g. 'e', have split 'extra', which is none of train, val, valid, validation, test: left out",
        "1 recordings, e.g. 'f', have no split, where others have one: left out",
    ]
    assert names(found) == {"train": ["a", "b"], "val": ["c"], "test": ["d"]}
    for source in found.values():
        assert source.collection is not None
        assert source.collection.classes == ("cat", "dog")
    assert [entry.label for entry in found["test"].collection.entries] == [1]  # type: ignore[union-attr]
    rows = SPLITS.replace("e,dog,extra", "e,dog,TEST").replace("f,cat,", "f,cat,Train")
    with warnings.catch_warnings(action="error"):
        found = parts(tmp_path / "s.h5", rows.replace("validation", "Valid"))
    assert names(found) == {"train": ["a", "b", "f"], "val": ["c"], "test": ["d", "e"]}


def test_a_fold_is_tested_on_and_the_others_are_learnt_from(tmp_path: Path) -> None:
    rows = "path,fold\na,0\nb,0\nc,1\nd,2\ne,2\nf,1\n"
    assert names(parts(store(tmp_path), rows, ("test",), fold=1)) == {
        "train": ["a", "b", "d", "e"],
        "test": ["c", "f"],
    }
    with pytest.raises(CollectionError, match=r"cannot leave out fold 3.*folds \[0, 1, 2\]"):
        parts(tmp_path / "s.h5", rows, fold=3)


def test_without_splits_all_is_for_training(tmp_path: Path) -> None:
    path = store(tmp_path, "abc")
    assert names(parts(path, None)) == {"train": ["::a", "::b", "::c"]}
    assert names(parts(path, "path,fold\na,0\nb,1\n")) == {"train": ["a", "b"]}
    with pytest.raises(CollectionError, match=r"no recording is for test: give data\.labels=.* there is nothing"):
        parts(path, None, ("train", "test"))


def test_a_part_that_is_needed_and_not_there(tmp_path: Path) -> None:
    path = store(tmp_path, "abc")
    rows = "path,split\na,train\nb,trian\nc,validation\n"
    error = pytest.raises(CollectionError, match=r"for test: .* with test in .* there is \['train', 'trian', 'valid")
    with pytest.warns(UserWarning, match="split 'trian', which is none of"), error:
        parts(path, rows, ("train", "test"))
    with pytest.raises(CollectionError, match=r"for train: .* with train in its column split"):
        parts(path, "path,split\na,val\nb,test\n")
    with pytest.raises(CollectionError, match=r"for val: .* with val or valid or validation in its column split"):
        parts(path, "path,split\na,train\nb,test\n", ("val",))


def test_a_recording_in_two_parts_is_refused_under_whatever_name(tmp_path: Path) -> None:
    path = store(tmp_path, copy=recording(1), other=recording(2))
    rows = "path,split\na,train\nb,train\nc,val\ncopy,test\n"
    with pytest.raises(
        CollectionError, match=r"1 recordings are in train and in test, e\.g\. 'b', which is the same as"
    ):
        parts(path, rows)
    with pytest.raises(
        CollectionError, match=r"1 recordings are in val and in test, e\.g\. 'c', which is the same as 'o"
    ):
        parts(path, rows.replace("copy,", "other,"))
    with pytest.raises(CollectionError, match=r"in train and in test, e\.g\. 'b'"):
        parts(path, "path,fold\na,0\nb,0\ncopy,1\n", fold=1)
    # Twice in one part is no leak.
    assert names(parts(path, rows.replace("copy,test", "copy,train")))["train"] == ["a", "b", "copy"]


def test_empty_recordings_are_all_alike_and_no_leak(tmp_path: Path) -> None:
    path = store(tmp_path, "ab", x=recording(0, 0), y=recording(0, 0))
    assert len(parts(path, "path,split\na,train\nx,train\nb,test\ny,test\n")) == 2


def test_what_chooses_already_is_refused(tmp_path: Path) -> None:
    path = store(tmp_path)
    for name, value in (("split", "train"), ("exclude_fold", 1)):
        with pytest.raises(CollectionError, match=rf"parted into train, val, test .* leave data\.{name} out"):
            parts(path, SPLITS, **{name: value})


def test_only_recordings_of_one_table_have_parts(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8), np.uint8))
    path = store(tmp_path)
    for values in ({"images": str(tmp_path)}, {"sources": [{"path": str(path)}, {"path": str(path), "name": "b"}]}):
        with pytest.raises(CollectionError, match=r"a recording, a store or a folder of them as data\.path"):
            open_parts(DataConfig.parse(values))


def test_test_sequences_of_benchmarks_are_tested_on_and_not_learnt_from(tmp_path: Path) -> None:
    folder = tmp_path / "dsec"
    folder.mkdir()
    for seed, name in enumerate(("interlaken_00_c", "zurich_city_13_a", "zurich_city_14_c", "zurich_city_15_a")):
        save_recording(folder / f"{name}.h5", recording(seed))
    first = "path,split\ninterlaken_00_c.h5,train\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = parts(folder, first + "zurich_city_13_a.h5,test\n")
    assert names(found) == {"train": ["interlaken_00_c.h5"], "test": ["zurich_city_13_a.h5"]}
    assert not found["train"].overlaps
    assert "DSEC-Semantic" in found["test"].overlaps["zurich_city_13_a.h5"]
    mixed = first + "zurich_city_14_c.h5,train\nzurich_city_15_a.h5,test\n"
    with pytest.warns(UserWarning, match=r"1 of 2 recordings for train are test sequences, e\.g\. zurich_city_14_c"):
        found = parts(folder, mixed)
    assert names(found)["train"] == ["interlaken_00_c.h5"]
    kept = parts(folder, mixed, keep_test_sequences=True)
    assert names(kept)["train"] == ["interlaken_00_c.h5", "zurich_city_14_c.h5"]
    assert list(kept["train"].overlaps) == ["zurich_city_14_c.h5"]
    with pytest.raises(CollectionError, match="nothing is left for val: 1 of 1 recordings for val are test sequences"):
        parts(folder, first + "zurich_city_14_c.h5,val\n")
