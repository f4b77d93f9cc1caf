from __future__ import annotations

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from eventfm.data.collection import Collection, CollectionError, labels_of, open_collection
from eventfm.events import EventError, Events, Sensor
from eventfm.io import ArrayRecording, FormatError, hdf5_file, save_recording, save_recordings

ROWS = [(100, 1, 2, 1), (200, 3, 0, 0), (350, 0, 1, 1)]


def text_file(path: Path, rows: list[tuple[int, int, int, int]] = ROWS, size: str = "") -> Path:
    """Write rows t, x, y, p with as many of them as it takes to look like events."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [" ".join(map(str, row)) for row in rows]
    path.write_text("\n".join([*([size] if size else []), *lines]) + "\n")
    return path


def recording(count: int, sensor: tuple[int, int] = (8, 6)) -> ArrayRecording:
    rng = np.random.default_rng(count)
    return ArrayRecording(
        Events.checked(
            rng.integers(0, sensor[0], count),
            rng.integers(0, sensor[1], count),
            np.sort(rng.integers(0, 1000, count)),
            rng.integers(0, 2, count),
            Sensor(*sensor),
        )
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return save_recordings(tmp_path / "many.h5", {name: recording(5 + i) for i, name in enumerate("abcd")})


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(text)
    return path


def summary(collection: Collection) -> list[tuple[str, int]]:
    return [(entry.name, entry.recording.num_events) for entry in collection.entries]


def test_one_file_of_any_format(tmp_path: Path) -> None:
    assert summary(open_collection(text_file(tmp_path / "a.txt", size="8 6"))) == [("", 3)]
    assert summary(open_collection(save_recording(tmp_path / "b.h5", recording(9)))) == [("", 9)]
    with pytest.raises(CollectionError, match="does not exist"):
        open_collection(tmp_path / "gone")


def test_store_of_many_and_one_of_them(store: Path) -> None:
    assert summary(open_collection(store)) == [("::a", 5), ("::b", 6), ("::c", 7), ("::d", 8)]
    assert summary(open_collection(f"{store}::c")) == [("", 7)]
    with pytest.raises(FormatError, match="holds no recording 'x'"):
        open_collection(f"{store}::x")


def test_a_store_is_looked_at_once_for_all_that_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file, names in (("a.h5", "pqrs"), ("b.h5", "tu")):
        save_recordings(tmp_path / file, {name: recording(5 + ord(name)) for name in names}, pack_up_to=500)
    listed = table(tmp_path, "path\na.h5::q\nb.h5::u\na.h5::p\nb.h5::t\na.h5::s\n")
    opened: list[Path] = []
    plain = hdf5_file.h5py.File
    monkeypatch.setattr(hdf5_file.h5py, "File", lambda path, *a, **k: opened.append(path) or plain(path, *a, **k))
    found = open_collection(tmp_path, labels=listed)
    assert summary(found) == [(f"{f}.h5::{n}", 5 + ord(n)) for f, n in ("aq", "bu", "ap", "bt", "as")]
    assert opened == [tmp_path / "a.h5", tmp_path / "b.h5"]
    assert [len(entry.recording.events_by_index(0, 500)) for entry in found.entries] == [
        5 + ord(name) for name in "qupts"
    ]
    assert sorted(name for name, _ in summary(open_collection(tmp_path, format="eventfm"))) == [
        *(f"a.h5::{name}" for name in "pqrs"), "b.h5::t", "b.h5::u"
    ]  # fmt: skip
    hinted = open_collection(tmp_path, labels=listed, sensor=(70, 50))
    assert {(e.recording.sensor.width, e.recording.sensor.height) for e in hinted.entries} == {(70, 50)}
    gone = table(tmp_path, "path\na.h5::q\nc.h5::u\n")
    with pytest.raises(CollectionError, match=r"names 'c\.h5::u'.*no file or folder at .*c\.h5"):
        open_collection(tmp_path, labels=gone)
    with pytest.raises(FormatError, match="holds no recording 'z'"):
        open_collection(tmp_path, labels=table(tmp_path, "path\na.h5::z\n"))


def test_folder_is_searched_through(tmp_path: Path, store: Path) -> None:
    text_file(tmp_path / "deep" / "er" / "one.txt", size="8 6")
    ecd = tmp_path / "shapes" / "events.txt"
    text_file(ecd, [(0, 7, 5, 1), (1, 7, 5, 1)], size="8 6")
    (tmp_path / "shapes" / "images").mkdir()
    (tmp_path / "shapes" / "calib.txt").write_text("belongs to the folder's recording")
    text_file(tmp_path / ".hidden" / "two.txt", size="8 6")
    (tmp_path / "labels.csv").write_text("path,label\n")
    cv2.imwrite(str(tmp_path / "still.png"), np.zeros((6, 8), np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = open_collection(tmp_path)
    names = ["deep/er/one.txt", *(f"many.h5::{i}" for i in "abcd"), "shapes"]
    assert [entry.name for entry in found.entries] == names
    assert found.entries[-1].recording.format == "ecd"
    assert summary(open_collection(tmp_path / "shapes")) == [("", 2)]


def test_csv_files_of_events_are_recordings(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y,p,t\n1,2,1,100\n3,0,0,200\n")
    (tmp_path / "labels.csv").write_text("path,label\na.csv,0\n")
    assert summary(open_collection(tmp_path)) == [("a.csv", 2)]


def test_unknown_files_are_passed_over_with_one_warning(tmp_path: Path) -> None:
    text_file(tmp_path / "a.txt", size="8 6")
    (tmp_path / "README").write_text("some words")
    (tmp_path / "empty.bin").touch()
    with pytest.warns(UserWarning, match="2 files of no known format .* e.g. README"):
        assert summary(open_collection(tmp_path)) == [("a.txt", 3)]


def test_damaged_files_are_not_passed_over(tmp_path: Path) -> None:
    text_file(tmp_path / "a.txt", size="8 6")
    whole = save_recording(tmp_path / "b.h5", recording(500)).read_bytes()
    (tmp_path / "b.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match=r"b\.h5.*damaged or cut off"):
        open_collection(tmp_path)


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match="found none"):
        open_collection(tmp_path)


TABLE = "path,label,split,fold\nb,dog,train,0\na,cat,train,1\nd,cat,test,0\n"


def test_table_chooses_and_labels(tmp_path: Path, store: Path) -> None:
    found = open_collection(store, labels=table(tmp_path, TABLE))
    assert summary(found) == [("b", 6), ("a", 5), ("d", 8)]
    assert found.classes == ("cat", "dog")
    assert labels_of(found).tolist() == [1, 0, 0]
    assert [(entry.split, entry.fold) for entry in found.entries] == [("train", 0), ("train", 1), ("test", 0)]


def test_table_of_a_folder_and_written_by_a_spreadsheet(tmp_path: Path) -> None:
    text_file(tmp_path / "data" / "a.txt", size="8 6")
    save_recordings(tmp_path / "data" / "many.h5", {"x": recording(4)})
    path = tmp_path / "table.csv"
    path.write_text("\ufeffpath,label\r\na.txt, 10 \r\nmany.h5::x,9\r\n", encoding="utf-8")
    found = open_collection(tmp_path / "data", labels=path)
    assert summary(found) == [("a.txt", 3), ("many.h5::x", 4)]
    assert found.classes == ("9", "10")  # numbers in order of value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "to have the columns path"),
        ("path,label\n", "found 0 rows"),
        ("file,label\na,1\n", "found 1 rows, columns file, label"),
        ("path,lable\na,1\n", "unknown column 'lable'; did you mean 'label'"),
        ("path,fold\na,one\n", "line 2: expected a whole number as fold, got 'one'"),
        ("path,fold\na,--1\n", "expected a whole number as fold"),
        ("path,label\na,1\n,2\n", "line 3: expected a path"),
        ("path,label\na,1,2\n", "line 2: expected a path and no more than 2 cells"),
        ("path,label\na,1\nb,1\na,2\n", "line 4: 'a' is on line 2 already"),
    ],
)
def test_mistakes_in_the_table_are_named(tmp_path: Path, store: Path, text: str, message: str) -> None:
    with pytest.raises(CollectionError, match=message):
        open_collection(store, labels=table(tmp_path, text))


def test_table_names_what_is_not_there(tmp_path: Path, store: Path) -> None:
    with pytest.raises(FormatError, match="holds no recording 'z'"):
        open_collection(store, labels=table(tmp_path, "path\nz\n"))
    with pytest.raises(CollectionError, match=r"table\.csv names 'gone\.txt'"):
        open_collection(tmp_path, labels=table(tmp_path, "path\ngone.txt\n"))
    with pytest.raises(CollectionError, match="cannot read the table"):
        open_collection(store, labels=tmp_path / "none.csv")


def test_labels_that_are_missing(tmp_path: Path, store: Path) -> None:
    found = open_collection(store, labels=table(tmp_path, "path,label\na,1\nb,\n"))
    with pytest.raises(CollectionError, match=r"1 of 2 recordings have no label, e\.g\. 'b'"):
        labels_of(found)


def test_select(tmp_path: Path, store: Path) -> None:
    found = open_collection(store, labels=table(tmp_path, TABLE))

    def names(**choice: object) -> list[str]:
        return [entry.name for entry in found.select(**choice).entries]  # type: ignore[arg-type]

    assert names() == ["b", "a", "d"]
    assert names(split="train") == ["b", "a"]
    assert names(fold=0) == ["b", "d"]
    assert names(exclude_fold=0) == ["a"]
    assert names(split="train", fold=0) == ["b"]
    assert found.select(split="test").classes == ("cat", "dog")
    with pytest.raises(CollectionError, match=r"split=val.*splits \['test', 'train'\] and folds \[0, 1\]"):
        found.select(split="val")


def test_leaving_out_a_fold_that_is_not_there_is_refused(tmp_path: Path, store: Path) -> None:
    """Nothing would be left out, and training would see what is to be tested."""
    with pytest.raises(CollectionError, match=r"cannot leave out fold 7.*folds \[0, 1\]"):
        open_collection(store, labels=table(tmp_path, TABLE)).select(exclude_fold=7)
    with pytest.raises(CollectionError, match="cannot leave out fold 0"):
        open_collection(store).select(exclude_fold=0)
    with pytest.raises(CollectionError, match="not every recording has a fold"):
        open_collection(store, labels=table(tmp_path, "path,fold\na,0\nb,1\nc,\n")).select(exclude_fold=0)


def test_size_is_inferred_over_the_whole_collection(tmp_path: Path) -> None:
    text_file(tmp_path / "a.txt", [(0, 3, 2, 1), (5, 1, 1, 0)])
    text_file(tmp_path / "b.txt", [(0, 9, 2, 1), (5, 1, 1, 0)])
    text_file(tmp_path / "c.txt", [(0, 3, 7, 1), (5, 1, 1, 0)])
    found = open_collection(tmp_path)
    sensors = [entry.recording.sensor for entry in found.entries]
    assert [(s.width, s.height, s.inferred) for s in sensors] == [(10, 8, True)] * 3
    assert [entry.recording.events(0, 9).sensor for entry in found.entries] == sensors


def test_size_that_one_file_states_holds_for_all(tmp_path: Path) -> None:
    text_file(tmp_path / "a.txt", [(0, 9, 2, 1), (5, 1, 1, 0)])
    text_file(tmp_path / "b.txt", ROWS, size="12 11")
    sensors = {(e.recording.sensor.width, e.recording.sensor.height) for e in open_collection(tmp_path).entries}
    assert sensors == {(12, 11)}
    text_file(tmp_path / "c.txt", [(0, 12, 2, 1), (5, 1, 1, 0)])
    with pytest.raises(EventError, match=r"c\.txt.*outside the 12x11"):
        open_collection(tmp_path)


def test_sizes_are_not_mixed(tmp_path: Path) -> None:
    text_file(tmp_path / "a.txt", size="8 6")
    text_file(tmp_path / "b.txt", size="9 6")
    with pytest.raises(CollectionError, match=r"one sensor size.*\(8, 6\), \(9, 6\)"):
        open_collection(tmp_path)
    hinted = open_collection(tmp_path, sensor=(20, 10))
    assert {(e.recording.sensor.width, e.recording.sensor.height) for e in hinted.entries} == {(20, 10)}


def test_format_hint_reads_what_does_not_say(tmp_path: Path) -> None:
    data = bytes([3, 2, 0x80, 0, 9]) * 2  # two ATIS events: too few to tell
    (tmp_path / "one.bin").write_bytes(data)
    (tmp_path / "notes.md").write_text("words")
    with pytest.warns(UserWarning, match="passed over"), pytest.raises(CollectionError, match="found none"):
        open_collection(tmp_path)
    assert summary(open_collection(tmp_path, format="atis")) == [("one.bin", 2)]


def still(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((6, 8), np.uint8))
    return path


def test_stills_by_name(tmp_path: Path, store: Path) -> None:
    stills = [still(tmp_path / "stills" / f"{name}.png") for name in "abcd"]
    found = open_collection(store, pictures=tmp_path / "stills")
    assert [entry.picture for entry in found.entries] == stills
    listed = open_collection(store, labels=table(tmp_path, "path\nc\n"), pictures=tmp_path / "stills")
    assert listed.entries[0].picture == stills[2]


def test_stills_in_folders_of_classes(tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        text_file(tmp_path / "data" / kind / "1.txt", size="8 6")
        still(tmp_path / "stills" / kind / "1.png")
    found = open_collection(tmp_path / "data", pictures=tmp_path / "stills")
    assert [entry.picture for entry in found.entries] == [tmp_path / "stills" / k / "1.png" for k in ("cat", "dog")]


def test_stills_that_do_not_fit(tmp_path: Path, store: Path) -> None:
    still(tmp_path / "stills" / "a.png")
    with pytest.raises(CollectionError, match="of the name of 'b', got none"):
        open_collection(store, pictures=tmp_path / "stills")
    still(tmp_path / "stills" / "x" / "b.png")
    still(tmp_path / "stills" / "y" / "b.png")
    with pytest.raises(CollectionError, match=r"one picture.*'b', got \['.*x/b.png', '.*y/b.png'\]"):
        open_collection(store, pictures=tmp_path / "stills")
    with pytest.raises(CollectionError, match="a folder of pictures"):
        open_collection(store, pictures=tmp_path / "nowhere")


def test_stills_that_the_table_names(tmp_path: Path, store: Path) -> None:
    picture = still(tmp_path / "stills" / "s.png")
    beside = open_collection(store, labels=table(tmp_path, "path,picture\na,stills/s.png\nb,\n"))
    assert [entry.picture for entry in beside.entries] == [picture, None]
    inside = table(tmp_path, "path,picture\na,s.png\n")
    assert open_collection(store, labels=inside, pictures=picture.parent).entries[0].picture == picture
    with pytest.raises(CollectionError, match=r"names the picture 's\.png', not found"):
        open_collection(store, labels=inside)
