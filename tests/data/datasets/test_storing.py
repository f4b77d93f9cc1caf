"""Native stores of a data set: runs that are stopped, files that are damaged, folders that grow."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from fixtures import dvs128_gesture, ncaltech101, nmnist

from eventfm.data.collection import open_collection
from eventfm.data.datasets import storing
from eventfm.data.datasets.card import DatasetError
from eventfm.data.datasets.notes import NOTES, pointer
from eventfm.data.datasets.opening import locate, open_dataset
from eventfm.data.datasets.storing import Stored, store_dataset
from eventfm.data.pool import Outcome, WorkerDiedError, run_here, run_in_processes, run_on_ray
from eventfm.io import WriteError, open_recording

NAMES = ["test/7/00001", "train/0/00002", "train/5/00001", "train/5/00004"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    nmnist.write(tmp_path / "nmnist")
    return tmp_path / "nmnist"


@pytest.fixture(autouse=True)
def pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "_LARGEST_COUNT", 2)


def prepare(root: Path, out: Path, run: Any = run_here, **more: Any) -> Stored:
    return store_dataset(locate("n-mnist", root), out, run, **more)


def contents(out: Path) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(out.iterdir()) if p.name[0] != "."}


class GoneWhenRead:
    """A recording whose file goes away after it was opened."""

    def __init__(self, recording: Any) -> None:
        self._recording = recording

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recording, name)

    def events_by_index(self, start: int, stop: int) -> Any:
        raise FileNotFoundError(2, "No such file or directory", "/mnt/share/train/5/00001.bin")


def table(out: Path) -> list[str]:
    return (out / "labels.csv").read_text().splitlines()


def test_stores_and_table(root: Path, tmp_path: Path) -> None:
    done: list[int] = []
    made = prepare(root, tmp_path / "out", progress=done.append)
    assert sorted(contents(tmp_path / "out")) == ["labels.csv", "samples-00000.h5", "samples-00001.h5"]
    assert table(tmp_path / "out") == [
        "path,label,split,fold",
        "samples-00000.h5::test-7-00001,7,test,",
        "samples-00000.h5::train-0-00002,0,train,",
        "samples-00001.h5::train-5-00001,5,train,",
        "samples-00001.h5::train-5-00004,5,train,",
    ]
    assert done == sorted(done)
    assert done[-1] == 4
    assert (made.num_samples, made.num_written, made.num_events) == (4, 4, 1600)
    assert sum(problem.count for problem in made.problems) == 69_996
    store: Any = open_recording(f"{tmp_path}/out/samples-00000.h5::test-7-00001")
    assert store.provenance == {
        "dataset": "n-mnist",
        "licence": "CC BY-SA 4.0",
        "citation": locate("n-mnist", root).dataset.card.citation,
    }


@pytest.mark.filterwarnings("ignore:.*eventfm datasets check")
def test_what_is_prepared_reads_as_the_folder_does(root: Path, tmp_path: Path) -> None:
    prepare(root, tmp_path / "out")
    folder = open_dataset("n-mnist", root)
    packed = open_collection(tmp_path / "out", labels=tmp_path / "out/labels.csv")
    assert packed.classes == ("0", "5", "7")  # those that occur; the folder's are of the whole set
    assert [(e.split, packed.classes[e.label or 0], e.fold) for e in packed.entries] == [
        (e.split, folder.classes[e.label or 0], e.fold) for e in folder.entries
    ]
    assert [e.fingerprint for e in packed.entries] == [e.fingerprint for e in folder.entries]
    for ours, theirs in zip(pickle.loads(pickle.dumps(packed.entries)), folder.entries, strict=True):
        one, other = ours.recording, theirs.recording
        assert (one.num_events, one.t_range, one.sensor) == (other.num_events, other.t_range, other.sensor)
        first, last = one.t_range
        middle = (first + last) // 2
        for t0, t1 in ((first, last + 1), (middle, last), (first, middle), (middle, middle + 10)):
            for name in "xytp":
                np.testing.assert_array_equal(getattr(one.events(t0, t1), name), getattr(other.events(t0, t1), name))


def test_small_samples_lie_side_by_side(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(root, tmp_path / "out")
    with h5py.File(tmp_path / "out/samples-00001.h5") as file:
        assert file["packed/ids"][()].tolist() == [b"train-5-00001", b"train-5-00004"]
        assert len(file["packed/events/t"]) == 800
    monkeypatch.setattr(storing, "PACKED_EVENTS", 399)
    prepare(root, tmp_path / "apart")
    with h5py.File(tmp_path / "apart/samples-00001.h5") as file:
        assert list(file["recordings"]) == ["train-5-00001", "train-5-00004"]
        assert "packed" not in file
    assert table(tmp_path / "apart") == table(tmp_path / "out")


def test_the_same_again_does_nothing(root: Path, tmp_path: Path) -> None:
    prepare(root, tmp_path / "out")
    before = contents(tmp_path / "out")
    again = prepare(root, tmp_path / "out")
    after = contents(tmp_path / "out")
    assert {name: after[name] for name in after if name != "labels.csv"} == {
        name: before[name] for name in before if name != "labels.csv"
    }
    assert after["labels.csv"][0] == before["labels.csv"][0]
    assert (again.num_samples, again.num_written, again.num_events) == (4, 0, 1600)


def test_a_run_that_was_stopped_goes_on(root: Path, tmp_path: Path) -> None:
    def stopped(work: Any, tasks: Any, tick: Any) -> Any:
        for number, outcome in enumerate(run_here(work, tasks, tick)):
            if number:
                raise KeyboardInterrupt
            yield outcome

    with pytest.raises(KeyboardInterrupt):
        prepare(root, tmp_path / "out", stopped)
    half = contents(tmp_path / "out")
    asked: list[str] = []

    def watched(work: Any, tasks: Any, tick: Any) -> Any:
        asked.extend(sample.name for task in tasks for sample in task.samples)
        return run_here(work, tasks, tick)

    made = prepare(root, tmp_path / "out", watched)
    whole = contents(tmp_path / "out")
    assert asked == NAMES[4:]  # both stores were finished before the stop was heard
    assert {name: whole[name] for name in half} == half
    assert made.num_samples == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes to kill on this system")
def test_a_run_that_was_killed_while_it_wrote_loses_the_store_that_it_wrote(root: Path, tmp_path: Path) -> None:
    located, order = locate("n-mnist", root), []
    child = os.fork()
    if child == 0:
        plain = storing.save_recordings

        def deadly(path: Path, recordings: Any, *rest: Any, **more: Any) -> Path:
            def until_killed() -> Any:
                for number, pair in enumerate(recordings):
                    yield pair
                    if path.name == "samples-00001.h5" and number == 0:
                        os.kill(os.getpid(), signal.SIGKILL)

            return plain(path, until_killed(), *rest, **more)

        storing.save_recordings = deadly  # type: ignore[assignment]
        store_dataset(located, tmp_path / "out", run_here)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    kept = contents(tmp_path / "out")
    assert list(kept) == ["samples-00000.h5"]
    assert len(list((tmp_path / "out").glob(".samples-00001.h5.*.part"))) == 1

    def watched(work: Any, tasks: Any, tick: Any) -> Any:
        order.extend(sample.name for task in tasks for sample in task.samples)
        return run_here(work, tasks, tick)

    made = prepare(root, tmp_path / "out", watched)
    assert order == NAMES[2:]
    assert (made.num_samples, made.num_written) == (4, 2)
    assert contents(tmp_path / "out")["samples-00000.h5"] == kept["samples-00000.h5"]
    assert not list((tmp_path / "out").glob(".samples*"))
    assert [entry.name for entry in open_collection(tmp_path / "out", labels=tmp_path / "out/labels.csv").entries] == [
        line.split(",")[0] for line in table(tmp_path / "out")[1:]
    ]


def test_a_store_that_is_half_done_is_made_again(root: Path, tmp_path: Path) -> None:
    prepare(root, tmp_path / "out")
    (tmp_path / "out/samples-00001.h5").write_bytes(b"\x89HDF")
    (tmp_path / "out/.samples-00001.h5.12-ab.part").write_bytes(b"\x89HDF")
    kept = contents(tmp_path / "out")["samples-00000.h5"]
    made = prepare(root, tmp_path / "out")
    assert (made.num_samples, made.num_written) == (4, 2)
    assert contents(tmp_path / "out")["samples-00000.h5"] == kept
    assert len(table(tmp_path / "out")) == 5
    assert not list((tmp_path / "out").glob(".samples*"))


def test_a_folder_that_has_grown_adds_to_what_is_there(root: Path, tmp_path: Path) -> None:
    shutil.move(root / "Train/0", tmp_path / "aside")
    prepare(root, tmp_path / "out")
    before = contents(tmp_path / "out")
    shutil.move(tmp_path / "aside", root / "Train/0")
    made = prepare(root, tmp_path / "out")
    after = contents(tmp_path / "out")
    assert (made.num_samples, made.num_written) == (4, 1)
    assert {name: after[name] for name in before if name.endswith(".h5")} == {
        name: before[name] for name in before if name.endswith(".h5")
    }
    assert table(tmp_path / "out")[2] == "samples-00002.h5::train-0-00002,0,train,"


def test_damaged_files_are_left_out_named_and_tried_again(root: Path, tmp_path: Path) -> None:
    file = root / "Train/5/00001.bin"
    good = file.read_bytes()
    file.write_bytes(good[:-3])
    made = prepare(root, tmp_path / "out")
    assert list(made.failed) == ["train/5/00001"]
    assert "cut off in the middle of event" in made.failed["train/5/00001"]
    assert str(file) in made.failed["train/5/00001"]
    assert made.num_samples == 3
    before = contents(tmp_path / "out")
    assert prepare(root, tmp_path / "out").failed == made.failed
    file.write_bytes(good)
    made = prepare(root, tmp_path / "out")
    assert (made.failed, made.num_samples, made.num_written) == ({}, 4, 1)
    after = contents(tmp_path / "out")
    assert {n: after[n] for n in before if n.endswith(".h5")} == {n: before[n] for n in before if n.endswith(".h5")}


def test_a_sample_that_cannot_be_opened_does_not_cost_the_others_their_turn(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "_LARGEST_COUNT", 4)
    located = locate("n-mnist", root)
    (root / "Train/5/00004.bin").write_bytes(b"abc")
    (root / "Train/0/00002.bin").unlink()
    asked: list[str] = []
    plain = storing._opened
    monkeypatch.setattr(storing, "_opened", lambda *a: asked.append(a[2].name) or plain(*a))
    made = store_dataset(located, tmp_path / "out", run_here)
    assert asked == NAMES
    assert sorted(made.failed) == ["train/0/00002", "train/5/00004"]
    assert made.num_samples == 2


def test_a_sample_that_cannot_be_read_on_is_left_out(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = storing._opened

    def opened(dataset: Any, order: Any, sample: Any) -> Any:
        recording = plain(dataset, order, sample)
        if sample.name == "train/5/00001":
            recording.events_by_index = broken
        return recording

    def broken(start: int, stop: int) -> Any:
        raise ValueError("cut off\nin the middle")

    monkeypatch.setattr(storing, "_opened", opened)
    made = prepare(root, tmp_path / "out")
    assert made.failed == {"train/5/00001": "cut off"}
    assert made.num_samples == 3


def test_a_fault_that_is_of_no_sample_ends_the_run(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "Train/0/00002.bin").write_bytes(b"abc")

    def refused(path: Path, recordings: Any, *rest: Any, **more: Any) -> Path:
        list(recordings)
        raise ValueError("the store is to blame")

    monkeypatch.setattr(storing, "save_recordings", refused)
    with pytest.raises(ValueError, match="the store is to blame"):
        prepare(root, tmp_path / "out")


@pytest.mark.parametrize(("smallest", "files"), [(1, 2), (3, 2), (250, 1)])
def test_few_samples_make_work_for_several_processes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smallest: int, files: int
) -> None:
    monkeypatch.setattr(storing, "_LARGEST_COUNT", 2000)
    monkeypatch.setattr(storing, "_FILES_AIMED_AT", 2)
    monkeypatch.setattr(storing, "_SMALLER_COUNT", smallest)
    prepare(root, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.h5"))) == files


def test_nothing_that_can_be_read_is_an_error(root: Path, tmp_path: Path) -> None:
    for file in root.rglob("*.bin"):
        file.write_bytes(b"abc")
    with pytest.raises(DatasetError, match="none of 4 samples of N-MNIST could be read, e"):
        prepare(root, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.h5"))


def test_a_worker_that_dies_takes_one_sample_with_it(root: Path, tmp_path: Path) -> None:
    deaths: list[str] = []

    def deadly(work: Any, tasks: Any, tick: Any) -> Any:
        for task in tasks:
            if not task.lost and task.number == 0:
                pointer(tmp_path / "out", task.file).write_text("test/7/00001\ntrain/0/00002\n")
                (tmp_path / "out" / f".{task.file}.1-a.part").write_bytes(b"half")
                deaths.append(task.file)
                yield Outcome(task, error=WorkerDiedError("its process was ended by SIGKILL"))
            else:
                yield from run_here(work, [task], tick)

    made = prepare(root, tmp_path / "out", deadly)
    assert made.failed == {"train/0/00002": "its process was ended by SIGKILL"}
    assert made.num_samples == 3
    assert deaths == ["samples-00000.h5"]
    assert not list((tmp_path / "out").glob(".samples*"))
    assert not list((tmp_path / "out" / NOTES).glob("*.now"))
    assert prepare(root, tmp_path / "out").num_samples == 4


def test_a_death_that_nobody_can_place_is_an_error(root: Path, tmp_path: Path) -> None:
    def deadly(work: Any, tasks: Any, tick: Any) -> Any:
        yield Outcome(tasks[0], error=WorkerDiedError(f"ended by {signal.SIGKILL.name}"))

    with pytest.raises(DatasetError, match="no sample is to blame: ended by SIGKILL"):
        prepare(root, tmp_path / "out", deadly)


def test_processes_make_what_this_one_makes(root: Path, tmp_path: Path) -> None:
    prepare(root, tmp_path / "here")
    prepare(root, tmp_path / "there", partial(run_in_processes, num_workers=1))
    here, there = (contents(tmp_path / name) for name in ("here", "there"))
    assert {name: data for name, (data, _) in here.items()} == {name: data for name, (data, _) in there.items()}


def test_ray_makes_what_this_process_makes(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    import pool_work

    monkeypatch.setitem(sys.modules, "ray", pool_work.FakeRay())
    prepare(root, tmp_path / "here")
    prepare(root, tmp_path / "there", partial(run_on_ray, address="auto"))
    here, there = (contents(tmp_path / name) for name in ("here", "there"))
    assert {name: data for name, (data, _) in here.items()} == {name: data for name, (data, _) in there.items()}


def test_a_system_that_refuses_is_an_error_and_what_is_done_stays(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = storing.save_recordings

    def full(path: Path, *rest: Any, **more: Any) -> Path:
        if path.name == "samples-00001.h5":
            raise WriteError(f"could not write {path}: No space left on device")
        return plain(path, *rest, **more)

    monkeypatch.setattr(storing, "save_recordings", full)
    with pytest.raises(WriteError, match=r"samples-00001\.h5: No space left"):
        prepare(root, tmp_path / "out")
    monkeypatch.undo()
    kept = contents(tmp_path / "out")["samples-00000.h5"]
    assert prepare(root, tmp_path / "out").num_samples == 4
    assert contents(tmp_path / "out")["samples-00000.h5"] == kept


def test_folders_that_hold_something_else_are_refused(root: Path, tmp_path: Path) -> None:
    prepare(root, tmp_path / "out")
    with pytest.raises(DatasetError, match=r"on_error=raise and not dataset=n-mnist .*on_error=sort"):
        prepare(root, tmp_path / "out", on_error="sort")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").touch()
    prepare(root, tmp_path / "mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/labels.csv").touch()
    with pytest.raises(DatasetError, match=r"labels\.csv is there already and was not made by this"):
        prepare(root, tmp_path / "other")
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="could not make the folder"):
        prepare(root, tmp_path / "file")


def test_a_file_that_was_exchanged_since_is_refused(root: Path, tmp_path: Path) -> None:
    prepare(root, tmp_path / "out")
    file = root / "Train/5/00001.bin"
    file.write_bytes(file.read_bytes() * 2)
    with pytest.raises(DatasetError, match=r"another size of its files: 1, e\.g\. train/5/00001"):
        prepare(root, tmp_path / "out")


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ("1,1000,9000", "2,1000,9000", "another label: 1, e.g. train/user02_led/00"),
        ("1,1000,9000", "1,1000,9001", "another stretch of its file: 1, e.g. train/user02_led/00"),
    ],
)
def test_labels_that_were_corrected_since_are_not_ignored(tmp_path: Path, before: str, now: str, said: str) -> None:
    dvs128_gesture.write(tmp_path / "in")
    located = partial(locate, "dvs128-gesture", tmp_path / "in")
    store_dataset(located(), tmp_path / "out", run_here)
    assert store_dataset(located(), tmp_path / "out", run_here).num_written == 0
    file = tmp_path / "in/DvsGesture/user02_led_labels.csv"
    file.write_text(file.read_text().replace(before, now))
    with pytest.raises(DatasetError, match=rf"not what the source has now \({said}\); prepare into another folder"):
        store_dataset(located(), tmp_path / "out", run_here)


def test_samples_without_events_are_named(tmp_path: Path) -> None:
    dvs128_gesture.write(tmp_path / "in")
    file = tmp_path / "in/DvsGesture/user02_led_labels.csv"
    file.write_text(file.read_text().replace("40000,60000", "400000,600000"))
    made = store_dataset(locate("dvs128-gesture", tmp_path / "in"), tmp_path / "out", run_here)
    assert (made.num_samples, made.empty) == (8, ("train/user02_led/03",))


def test_a_mistake_in_the_settings_claims_no_folder(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected on_error to be 'raise', 'sort' or 'clamp', got 'srot'"):
        prepare(root, tmp_path / "out", on_error="srot")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "[1]", "null", '{"dataset"'])
def test_a_damaged_header_is_told(root: Path, tmp_path: Path, text: str) -> None:
    prepare(root, tmp_path / "out")
    (tmp_path / "out" / NOTES / "dataset.json").write_text(text)
    with pytest.raises(DatasetError, match=r"dataset\.json is damaged: nobody can tell what .*out holds"):
        prepare(root, tmp_path / "out")


def test_a_division_that_is_not_there_is_told_from_one_that_is(tmp_path: Path) -> None:
    ncaltech101.write(tmp_path)
    with pytest.raises(DatasetError, match=r"no sample of N-Caltech101 as .* [1-9]\d* with division=eventfm"):
        locate("n-caltech101", tmp_path, "est")


def test_a_second_run_is_kept_out(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")

    def nested(work: Any, tasks: Any, tick: Any) -> Any:
        with pytest.raises(DatasetError, match="another run is writing"):
            prepare(root, tmp_path / "out")
        return run_here(work, tasks, tick)

    assert prepare(root, tmp_path / "out", nested).num_samples == 4


def test_a_file_that_goes_away_while_it_is_read_is_that_sample_s_fault(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = storing.DATASETS.get("n-mnist")

    def opened(folder: Path, sample: Any, on_error: Any) -> Any:
        recording = whole.open(folder, sample, on_error)
        return GoneWhenRead(recording) if sample.name == "train/5/00001" else recording

    monkeypatch.setattr(storing, "DATASETS", {"n-mnist": replace(whole, open=opened)})
    made = prepare(root, tmp_path / "out")
    assert list(made.failed) == ["train/5/00001"]
    assert "/mnt/share/train/5/00001.bin" in made.failed["train/5/00001"]
    assert [line.split(",")[0] for line in table(tmp_path / "out")[1:]] == [
        "samples-00000.h5::test-7-00001",
        "samples-00000.h5::train-0-00002",
        "samples-00001.h5::train-5-00004",
    ]
