"""Sets that are stored ready-made: divisions, lists, what is missing, what is not as training demands, pictures."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from fixtures import ef_imagenet, scaleevent_trio
from typer.testing import CliRunner

from eventfm.api.datasets import contact_sheet
from eventfm.cli import app
from eventfm.data.datasets.card import DatasetError
from eventfm.data.datasets.checking import check
from eventfm.data.datasets.contract import Dataset
from eventfm.data.datasets.ef_imagenet import DATASET as EF
from eventfm.data.datasets.opening import locate, open_stored
from eventfm.data.datasets.scaleevent_trio import DATASET as TRIO
from eventfm.data.opening import DataConfig, open_source
from eventfm.data.splits import open_parts
from eventfm.data.table import CollectionError

ONE = "n01440764/n01440764_10026"
NOISY, CLEAN = (f"{ONE}/events/{noise}/n01440764_10026_04_{noise}_events_voxel_grid.pt" for noise in ("noisy", "clean"))
TARGET, TOKENS = f"{ONE}/sub_frames/n01440764_10026_04_sub_frame.pt", f"{ONE}/n01440764_10026_clip_emb.pt"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a small EF-ImageNet."""
    ef_imagenet.write(tmp_path / "ef")
    return tmp_path / "ef"


@pytest.fixture
def trios(tmp_path: Path) -> Path:
    """Return a small folder of trios, with the lists of DSEC."""
    scaleevent_trio.write(tmp_path / "trios")
    return tmp_path / "trios"


def named(name: str, root: Path, division: str | None = None) -> list[tuple[str, str, int]]:
    return [(p.kind, p.path, p.count) for p in locate(name, root, division).found.problems]


def run(*words: Any, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_a_data_set_has_recordings_or_is_stored_ready_made() -> None:
    for given in ({}, {"open": EF.find, "stored": EF.stored, "parts": EF.parts}, {"stored": EF.stored}):
        with pytest.raises(ValueError, match="expected open, or stored and parts, of the data set ef-imagenet"):
            Dataset(EF.card, EF.find, **given)  # type: ignore[arg-type]


def test_the_division_of_ef_imagenet_says_which_events(pictures: Path) -> None:
    for noise, file in (("noisy", NOISY), ("clean", CLEAN)):
        located = locate("ef-imagenet", pictures, noise)
        sample = located.found.samples[0]
        assert file in sample.files
        assert not any(f"/{other}/" in name for name in sample.files for other in {"noisy", "clean"} - {noise})
        volume = next(part for part in EF.parts(open_stored("ef-imagenet", pictures, division=noise), sample))  # type: ignore[misc]
        np.testing.assert_array_equal(volume.values, torch.load(pictures / sample.files[0]).numpy())
        source = open_source(DataConfig(path=str(pictures), dataset="ef-imagenet", division=noise))
        assert source == open_source(DataConfig(path=str(pictures), noise=noise))


def test_events_that_the_division_is_not_of_are_refused(pictures: Path) -> None:
    clean = {"path": str(pictures), "dataset": "ef-imagenet", "noise": "clean"}
    with pytest.raises(CollectionError, match=r"says which events; give data\.division=clean instead"):
        open_source(DataConfig.parse(clean))
    assert open_source(DataConfig.parse({**clean, "division": "clean"})).stored.noise == "clean"  # type: ignore[union-attr]
    for file in pictures.glob("*/*/events/clean"):
        shutil.rmtree(file)
    assert not named("ef-imagenet", pictures)
    for asked in (
        lambda: locate("ef-imagenet", pictures, "clean"),
        lambda: open_source(DataConfig.parse({**clean, "division": "clean"})),
    ):
        with pytest.raises(DatasetError, match="has no events/clean; the divisions are noisy and clean"):
            asked()


def remove(root: Path, *patterns: str) -> None:
    for pattern in patterns:
        for file in root.glob(pattern):
            file.unlink()


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([TOKENS], [("missing", TOKENS, 1)]),
        ([NOISY], [("missing", NOISY, 1)]),
        ([TARGET], [("missing", TARGET, 1)]),
        ([NOISY, TARGET], [("missing", NOISY, 1), ("missing", TARGET, 1)]),
        ([f"{ONE}/sub_frames/*"], [("missing", f"{ONE}/sub_frames", 10)]),
        ([f"{ONE}/events/noisy/*"], [("missing", f"{ONE}/events/noisy", 10)]),
        (["*/*/*_clip_emb.pt"], [("missing", TOKENS, 3)]),
        (["*/*/sub_frames/*"], [("missing", TARGET.replace("_04_", "_00_"), 30)]),
        (["*/*/events/clean/*"], []),
    ],
)
@pytest.mark.filterwarnings("ignore:.*are not whole")
def test_what_is_missing_of_a_picture(
    pictures: Path, patterns: list[str], expected: list[tuple[str, str, int]]
) -> None:
    remove(pictures, *patterns)
    assert named("ef-imagenet", pictures) == expected
    located, stored = locate("ef-imagenet", pictures), open_stored("ef-imagenet", pictures)
    assert [sample.name for sample in located.found.samples] == [image.name for image in stored.images]
    for sample, image in zip(located.found.samples, stored.images, strict=True):
        windows = [file for file in sample.files if "/events/" in file]
        assert windows == [image.file(Path(), "noisy", window).as_posix() for window in image.windows]
    report = check(located, looks=None)
    assert report.complete == (not expected)
    assert Counter(problem.kind for problem in report.problems) == Counter(kind for kind, *_ in expected)


def test_pictures_are_named_alike_from_the_folder_of_their_class(pictures: Path) -> None:
    names = [sample.name for sample in locate("ef-imagenet", pictures / "n01440764").found.samples]
    assert names == ["n01440764/n01440764_10026", "n01440764/n01440764_10027"]
    assert not named("ef-imagenet", pictures / "n01440764")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        (NOISY, torch.zeros(4, 24, 32), r"has shape \(4, 24, 32\); expected \(5, any, any\)"),
        (NOISY, torch.zeros(24, 32), r"has shape \(24, 32\); expected \(5, any, any\)"),
        (NOISY, torch.zeros(5, 0, 32), "has shape"),
        (NOISY, torch.full((5, 24, 32), float("inf")), "holds numbers that are not finite"),
        (NOISY, {"volume": torch.zeros(5, 24, 32)}, "holds dict; expected a tensor"),
        (TARGET, torch.zeros(1, 24, 31), r"has shape \(1, 24, 31\); expected \(1, 24, 32\)"),
        (TARGET, torch.full((1, 24, 32), float("nan")), "holds numbers that are not finite"),
        (TOKENS.replace("10026", "10027"), torch.zeros(1, 10, 8), r"has shape \(1, 10, 8\); expected \(1, 17, 8\)"),
        (TOKENS, torch.full((1, 17, 8), float("nan")), "holds numbers that are not finite"),
    ],
)
def test_tensors_that_training_could_not_use_are_named(pictures: Path, file: str, content: Any, said: str) -> None:
    torch.save(content, pictures / file)
    (problem,) = check(locate("ef-imagenet", pictures), looks=None).problems
    assert (problem.kind, problem.path) == ("damaged", file)
    assert re.search(said, problem.what)
    assert not check(locate("ef-imagenet", pictures), looks=0).problems


def test_a_target_is_compared_with_its_own_volume_where_that_can_be_read(pictures: Path) -> None:
    (pictures / NOISY).write_bytes(b"")
    torch.save(torch.zeros(1, 7, 7), pictures / TARGET)
    (problem,) = check(locate("ef-imagenet", pictures), looks=None).problems
    assert problem.path == NOISY


def test_where_nothing_can_be_read_check_says_why(pictures: Path, trios: Path) -> None:
    for file in pictures.rglob("*_noisy_events_voxel_grid.pt"):
        file.write_bytes(b"")
    (problem,) = check(locate("ef-imagenet", pictures), looks=2).problems
    assert (problem.kind, problem.path, problem.count) == ("damaged", ".", 2)
    assert re.search(r"none of the 3 images in .* has events", problem.what)
    for file in trios.glob("*/evimg/*"):
        file.unlink()
    for opened in (locate, open_stored):
        with pytest.raises(CollectionError, match=r"has all its files.*; e\.g\. .*evimg/00001\.jpg is missing"):
            opened("scaleevent-trio", trios)


def test_names_in_another_case_are_not_half_read(pictures: Path, trios: Path) -> None:
    for name, root in (("ef-imagenet", pictures), ("scaleevent-trio", trios)):
        for path in sorted(root.rglob("*"), reverse=True):
            path.rename(path.with_name(path.name.upper()))
        for opened in (locate, open_stored):
            with pytest.raises(
                DatasetError, match=r"holds no sample of .* in a layout that is known; there are \d+ of"
            ):
                opened(name, root)


def test_files_of_trios_may_end_in_capitals_and_have_fewer_digits(trios: Path) -> None:
    names = [sample.name for sample in locate("scaleevent-trio", trios).found.samples]
    for file in trios.glob("zurich_city_00_a/*/*.jpg"):
        file.rename(file.with_name(f"{int(file.stem)}.JPG"))
    report = check(locate("scaleevent-trio", trios), looks=None)
    assert not report.problems
    assert [sample.name for sample in report.samples] == names


def test_the_counts_of_the_lists_are_the_published_ones() -> None:
    released, *each = TRIO.card.divisions
    totals = {division.name: sum(division.counts.values()) for division in each}
    assert (sum(totals.values()), len(totals), totals["dsec"], totals["ddd17"]) == (199_568, 10, 10_566, 4_718)
    assert sum(map(Counter, (division.counts for division in each)), Counter()) == released.counts


def test_a_list_says_what_there_should_be(trios: Path) -> None:
    (trios / "dsec.txt").write_text("zurich_city_00_a\nthun_00_a\ninterlaken_00_c")
    (trios / "dsec_seqlen.txt").write_text("5\n1\n1")
    (trios / "zurich_city_00_a/voxel/3.jpg").write_bytes(b"")
    for division in ("released", "dsec"):
        located = locate("scaleevent-trio", trios, division)
        assert [sample.name for sample in located.found.samples] == [
            "interlaken_00_c/00001", *(f"zurich_city_00_a/0000{number}" for number in (1, 2, 3)),
        ]  # fmt: skip
        assert {(p.kind, p.path) for p in located.found.problems} == {
            ("list", "interlaken_00_c"),
            ("missing", "thun_00_a"),
            *(("missing", f"zurich_city_00_a/{k}/0000{n}.jpg") for k in ("image", "voxel", "evimg") for n in (4, 5)),
            ("doubled", "zurich_city_00_a/voxel/3.jpg"),
        }
    assert "train: 4 samples, 8,871 published" in check(located).lines()[2]


def test_of_several_lists_the_division_chooses(trios: Path) -> None:
    for name in ("m3ed", "m3ed_seqlen"):
        shutil.copy(trios / f"{name.replace('m3ed', 'dsec')}.txt", trios / f"{name}.txt")
    (trios / "m3ed.txt").write_text("interlaken_00_c")
    (trios / "m3ed_seqlen.txt").write_text("2")
    for opened in (locate, open_stored):
        with pytest.raises(DatasetError, match=r"has the lists dsec_seqlen\.txt, m3ed_seqlen\.txt; choose one by its"):
            opened("scaleevent-trio", trios)
    assert len(locate("scaleevent-trio", trios, "m3ed").found.samples) == 2
    assert len(open_stored("scaleevent-trio", trios, division="m3ed").trios) == 2  # type: ignore[union-attr]
    assert len(locate("scaleevent-trio", trios, "dsec").found.samples) == 7


def test_a_list_that_does_not_fit_its_lengths_is_named(trios: Path) -> None:
    (trios / "dsec_seqlen.txt").write_text("3")
    for opened in (locate, open_stored):
        with pytest.raises(CollectionError, match=r"as many lengths in .*dsec_seqlen\.txt as dsec\.txt"):
            opened("scaleevent-trio", trios)


def test_sets_side_by_side_and_what_benchmarks_test_on(trios: Path) -> None:
    whole = trios.parent / "sets"
    whole.mkdir()
    trios.rename(whole / "DSEC")
    shutil.copytree(whole / "DSEC/interlaken_00_c", whole / "DDD17/dir1")
    splits = {sample.name.rpartition("/")[0]: sample.split for sample in locate("scaleevent-trio", whole).found.samples}
    assert splits == {
        "DDD17/dir1": "test", "DSEC/interlaken_00_c": "train", "DSEC/zurich_city_00_a": "train",
        "DSEC/zurich_city_13_a": "test",
    }  # fmt: skip
    config = {"path": str(whole), "dataset": "scaleevent-trio"}
    with pytest.warns(UserWarning, match="2 of 4 recordings or sequences are test sequences"):
        source = open_source(DataConfig.parse(config))
    assert source.trio is not None
    assert set(source.trio.digests) == {name for name, split in splits.items() if split == "train"}
    kept = open_source(DataConfig.parse({**config, "keep_test_sequences": True}))
    assert kept.trio is not None
    assert set(kept.trio.digests) == set(splits)
    assert set(kept.overlaps) == {name for name, split in splits.items() if split == "test"}


def test_volumes_are_of_bytes_and_frames_need_not_be(trios: Path) -> None:
    shutil.rmtree(trios / "zurich_city_13_a")
    for file in trios.glob("dsec*"):
        file.unlink()
    deep = np.full((32, 40, 3), 40_000, np.uint16)
    folder = trios / "zurich_city_00_a"
    for kind in ("image", "voxel", "evimg"):
        (folder / kind / "00002.jpg").unlink()
        assert cv2.imwrite(str(folder / kind / "00002.png"), deep)
    found = {p.path: (p.kind, p.what) for p in check(locate("scaleevent-trio", trios), looks=None).problems}
    assert found == {
        f"zurich_city_00_a/{kind}/00002.png": ("damaged", "holds uint16 values; expected bytes")
        for kind in ("voxel", "evimg")
    }


@pytest.mark.parametrize("key", ["labels", "images", "format", "sensor", "split", "fold", "exclude_fold"])
def test_what_belongs_to_recordings_is_refused(pictures: Path, key: str) -> None:
    value = {"sensor": (34, 34), "fold": 1, "exclude_fold": 1}.get(key, "train")
    with pytest.raises(CollectionError, match=rf"data\.{key} .*; leave it out"):
        open_source(DataConfig.parse({"path": str(pictures), "dataset": "ef-imagenet", key: value}))


def test_they_may_be_parts_of_a_mixture_and_have_no_labels(pictures: Path) -> None:
    shutil.copytree(pictures, pictures.parent / "more")
    each = [{"path": str(pictures.parent / name), "dataset": "ef-imagenet"} for name in ("ef", "more")]
    source = open_source(DataConfig.parse({"sources": each}))
    assert [len(part.source.stored.images) for part in source.parts if part.source.stored] == [3, 3]
    with pytest.raises(CollectionError, match="labels belong to recordings"):
        open_parts(DataConfig.parse(each[0]))


def test_check_reads_them(pictures: Path, trios: Path) -> None:
    text = run("datasets", "check", "ef-imagenet", pictures, "--quiet", "--png", pictures.parent / "ef.png")
    assert "opened 3 samples\n" in text
    assert "\ncomplete\n" in text
    assert (pictures.parent / "ef.png").stat().st_size > 1000
    text = run("datasets", "check", "scaleevent-trio", trios, "--division", "dsec", "--quiet", code=1)
    assert "test: 2 samples, 1,695 published" in text


def test_volumes_are_drawn_beside_what_belongs_to_them(
    pictures: Path, trios: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sheet = contact_sheet(locate("scaleevent-trio", trios))
    stored = [cv2.imread(str(trios / f"zurich_city_00_a/{kind}/00001.jpg")) for kind in ("image", "voxel", "evimg")]
    for picture in stored:
        colour = picture[12, 20, ::-1].astype(int)
        assert (np.abs(sheet - colour).max(axis=2) < 4).sum() >= 64
    whole = contact_sheet(locate("ef-imagenet", pictures))
    signs = (whole[..., 0].astype(int) > whole[..., 2] + 50, whole[..., 2].astype(int) > whole[..., 0] + 50)
    assert all(sign[:, half].sum() > 1000 for sign in signs for half in (slice(0, 250), slice(280, None)))
    (pictures / NOISY.replace("_04_", "_00_")).write_bytes(b"")
    assert contact_sheet(locate("ef-imagenet", pictures)).shape[0] < whole.shape[0]
    assert "n01440764_10026_00_noisy_events_voxel_grid.pt cannot be read" in caplog.text
    for file in pictures.rglob("*_00_noisy*"):
        file.write_bytes(b"")
    with pytest.raises(DatasetError, match="not one of 3 samples of EF-ImageNet could be read"):
        contact_sheet(locate("ef-imagenet", pictures))


def test_prepare_says_what_to_do_instead(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"stored ready-made .* data=FOLDER data\.dataset=ef-imagenet"):
        run("prepare", "dataset", "ef-imagenet", pictures, tmp_path / "out", "--workers", "0", "--quiet")
    assert not (tmp_path / "out").exists()
