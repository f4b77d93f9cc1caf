"""Many recordings into one folder: names, what is kept, what is done again, what fails."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from eventfm import api, cli
from eventfm.api.recordings import JOURNAL, find_recordings
from eventfm.io import list_recordings, open_recording

GOOD = "20 20\n50 3 0 0\n100 1 2 1\n300 2 2 1\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of three recordings, one of them damaged, and of files that are none."""
    root = tmp_path / "recordings"
    (root / "day").mkdir(parents=True)
    (root / "a.txt").write_text(GOOD)
    (root / "day" / "b.txt").write_text(GOOD.replace("300", "400"))
    (root / "day" / "bad.txt").write_text(GOOD.replace("300 2", "300 25"))
    (root / "notes.md").write_text("about these recordings")
    (root / ".hidden.txt").write_text(GOOD)
    (root / "picture.png").write_bytes(b"\x89PNG")
    return root


def names(paths: tuple[Path, ...], root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in paths]


def test_a_folder_is_converted_and_what_fails_is_named(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = api.convert_all(folder, out)
    assert names(made.written, out) == ["a.h5", "day/b.h5"]
    assert list(made.failed) == [str(folder / "day" / "bad.txt")]
    assert "outside the 20x20" in made.failed[str(folder / "day" / "bad.txt")]
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == [JOURNAL, "a.h5", "b.h5"]
    assert open_recording(out / "day" / "b.h5").t_range == (50, 400)


def test_the_same_command_goes_on(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    api.convert_all(folder, out)
    before = (out / "a.h5").stat().st_mtime_ns
    (folder / "day" / "bad.txt").write_text(GOOD)
    made = api.convert_all(folder, out)
    assert (names(made.written, out), names(made.kept, out)) == (["day/bad.h5"], ["a.h5", "day/b.h5"])
    assert (out / "a.h5").stat().st_mtime_ns == before
    assert len(api.convert_all(folder, out, on_error="sort").written) == 3  # other settings, other files
    assert len(api.convert_all(folder, out, on_error="sort").kept) == 3


@pytest.mark.parametrize("harm", ["cut", "gone", "source"])
def test_what_is_not_intact_or_not_of_the_source_is_made_again(folder: Path, tmp_path: Path, harm: str) -> None:
    out = tmp_path / "out"
    api.convert_all(folder / "a.txt", out)
    target = out / "a.h5"
    if harm == "cut":
        target.write_bytes(target.read_bytes()[:1000])
    elif harm == "gone":
        target.unlink()
    else:
        (folder / "a.txt").write_text(GOOD + "500 1 1 1\n")
    with (out / JOURNAL).open("a") as file:
        file.write('{"target": "a.h5", "sou')  # what a process that was killed leaves
    assert names(api.convert_all(folder / "a.txt", out).written, out) == ["a.h5"]
    assert open_recording(target).num_events == (4 if harm == "source" else 3)


def test_the_line_after_one_that_was_cut_off_counts(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / JOURNAL).write_text('{"target": "a.h5", "sou')
    assert len(api.convert_all(folder / "a.txt", out).written) == 1
    assert len(api.convert_all(folder / "a.txt", out).kept) == 1


def test_files_of_others_are_not_replaced_unasked(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.h5").write_bytes(b"precious")
    made = api.convert_all(folder / "a.txt", out)
    assert "exists" in made.failed[str(folder / "a.txt")]
    assert (out / "a.h5").read_bytes() == b"precious"
    assert len(api.convert_all(folder / "a.txt", out, overwrite=True).written) == 1
    assert len(api.convert_all(folder / "a.txt", out, overwrite=True).written) == 1  # asked for, so done again


def test_stores_give_one_file_per_recording(store: Path, tmp_path: Path) -> None:
    made = api.convert_all(store, tmp_path / "out", to="npz")
    ids = list_recordings(store)
    assert names(made.written, tmp_path / "out") == [f"{store.stem}/{name}.npz" for name in ids]
    source, found = open_recording(f"{store}::{ids[3]}"), open_recording(made.written[3])
    np.testing.assert_array_equal(found.events_by_index(0, 9999).t, source.events_by_index(0, 9999).t)
    assert find_recordings(f"{store}::{ids[3]}") == [(ids[3], f"{store}::{ids[3]}")]


def test_names_that_would_meet(folder: Path, tmp_path: Path) -> None:
    api.convert(folder / "a.txt", folder / "a.npy", sensor=(20, 20))
    made = api.convert_all([folder / "a.txt", folder / "a.npy", folder / "day" / "b.txt"], tmp_path / "out")
    assert names(made.written, tmp_path / "out") == ["a.txt.h5", "a.npy.h5", "b.h5"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text(GOOD)
    with pytest.raises(ValueError, match="would both become"):
        api.convert_all([folder / "a.txt", tmp_path / "other" / "a.txt"], tmp_path / "out2")
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "readme.md").write_text("nothing")
    with pytest.raises(ValueError, match="found none"):
        api.convert_all(tmp_path / "none", tmp_path / "out3")


def test_the_command(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["eventfm", "convert", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), *capsys.readouterr()

    out = tmp_path / "out"
    status, said, complained = run(folder, out, "--to", ".npy", "--quiet")
    assert (status, said) == (1, f"{out}: 2 recordings written, 0 kept\n")
    assert complained.startswith(f"eventfm: {folder / 'day' / 'bad.txt'}: ")
    os.remove(folder / "day" / "bad.txt")
    assert run(folder, out, "--to", ".npy")[:2] == (0, f"{out}: 0 recordings written, 2 kept\n")
    status, said, complained = run(folder / "a.txt", folder / "day" / "b.txt", tmp_path / "two")
    assert (status, sorted(path.name for path in (tmp_path / "two").glob("*"))) == (0, [JOURNAL, "a.h5", "b.h5"])
    assert "converting" in complained
    assert run(folder / "a.txt", tmp_path / "one.data", "--to", "npy")[1] == f"wrote {tmp_path / 'one.data'}\n"
    assert run(folder, out, "--to", "nothing")[0] == 2
