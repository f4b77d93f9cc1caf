from __future__ import annotations

import shutil
import warnings
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from trio_files import KINDS, write_lists, write_sequence

from eventfm.data.loader import Loader
from eventfm.data.pictures import picture_key
from eventfm.data.scenes import TeacherInput
from eventfm.data.table import CollectionError
from eventfm.data.transforms import AugmentConfig
from eventfm.data.trio import TrioSet, is_trio, open_trio
from eventfm.data.trio_samples import TrioSamples, split_trios
from eventfm.representations.event_picture import released_mask

PLAIN = AugmentConfig.none()
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def samples_of(found: TrioSet, size: tuple[int, int] = (24, 32), **values: object) -> TrioSamples:
    chosen = {"augment": PLAIN, "patch": 8, "teacher": TeacherInput((12, 16)), **values}
    return TrioSamples(found, found.trios, size, **chosen)  # type: ignore[arg-type]


def filled(samples: TrioSamples, index: int, seed: int | None) -> dict[str, np.ndarray]:
    out = {name: np.full(shape, np.nan, np.float32) for name, shape in samples.shapes.items()}
    samples.fill(index, None if seed is None else np.random.default_rng(seed), out)
    return out


def stored(root: Path, sequence: str, kind: str, number: int) -> np.ndarray:
    """Return a picture as stored, RGB."""
    picture = cv2.imread(str(root / sequence / kind / f"{number:05d}.jpg"))
    assert picture is not None
    return picture[..., ::-1]


def names(found: TrioSet) -> list[tuple[str, int]]:
    return [(trio.sequence, trio.number) for trio in found.trios]


def test_a_root_is_known_by_its_layout(tmp_path: Path) -> None:
    write_sequence(tmp_path / "set" / "a", 1)
    assert is_trio(tmp_path / "set")
    assert is_trio(tmp_path)  # a folder between
    assert not is_trio(tmp_path / "set" / "a")
    assert not is_trio(tmp_path / "none")
    assert not is_trio(tmp_path / "set" / "a" / "voxel" / "00001.jpg")
    shutil.rmtree(tmp_path / "set" / "a" / "image")
    assert not is_trio(tmp_path / "set")


@pytest.mark.parametrize("listed", [False, True])
def test_every_frame_by_sequence_and_number(tmp_path: Path, listed: bool) -> None:
    write_sequence(tmp_path / "set" / "b", 2, size=(30, 40))
    write_sequence(tmp_path / "set" / "a", 3)
    lists = write_lists(tmp_path / "specs", "some", {"b": 2, "a": 3}) if listed else None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = open_trio(tmp_path / "set", lists)
    both = [("a", 1), ("a", 2), ("a", 3)], [("b", 1), ("b", 2)]
    assert names(found) == (both[1] + both[0] if listed else both[0] + both[1])
    assert (found.sensor.width, found.sensor.height) == ((40, 30) if listed else (32, 24))
    assert found.sensor.inferred
    assert found.problems == {}
    assert found.file(found.trios[-1], "evimg").is_file()


def test_the_lists_choose_sequences(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_sequence(tmp_path / name, 1)
    lists = write_lists(tmp_path / "specs", "some", {"c": 1, "a": 1})
    assert names(open_trio(tmp_path, lists)) == [("c", 1), ("a", 1)]
    assert names(open_trio(tmp_path, lists.with_name("some_seqlen.txt"))) == [("c", 1), ("a", 1)]
    lists.with_name("some_seqlen.txt").unlink()
    assert names(open_trio(tmp_path, lists)) == [("c", 1), ("a", 1)]


def test_lists_in_the_root_are_found(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_sequence(tmp_path / name, 2)
    write_lists(tmp_path, "one", {"b": 2})
    assert names(open_trio(tmp_path)) == [("b", 1), ("b", 2)]
    other = write_lists(tmp_path, "two_v1", {"a": 1})
    (tmp_path / "two_v1_seqlen.txt").rename(tmp_path / "two_seqlen_v1.txt")
    with pytest.raises(CollectionError, match=r"expected one list of lengths in .*one_seqlen\.txt.*two_seqlen_v1\.txt"):
        open_trio(tmp_path)
    with pytest.warns(UserWarning, match="frames up to 2, and its list says 1"):
        assert names(open_trio(tmp_path, other)) == [("a", 1)]


def test_another_number_of_frames_than_the_list_says(tmp_path: Path) -> None:
    write_sequence(tmp_path / "few", 2, digits=4)
    write_sequence(tmp_path / "many", 5)
    write_sequence(tmp_path / "right", 1)
    write_lists(tmp_path, "set", {"few": 4, "many": 3, "right": 1, "nowhere": 7})
    with pytest.warns(UserWarning, match=r"8 files or sequences of .* are missing or not as listed, e\.g\. few/"):
        found = open_trio(tmp_path)
    assert names(found) == [("few", 1), ("few", 2), ("many", 1), ("many", 2), ("many", 3), ("right", 1)]
    assert found.problems == {
        **{f"few/{kind}/{number:04d}.jpg": "is missing" for number in (3, 4) for kind in KINDS},
        "many": "has frames up to 5, and its list says 3; those after are left out",
        "nowhere": f"is listed and not in {tmp_path}",
    }


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("digits", [4, 5])
def test_missing_files_are_named_one_by_one(tmp_path: Path, listed: bool, digits: int) -> None:
    folder = write_sequence(tmp_path / "a", 5, digits=digits)
    gone = [f"voxel/{2:0{digits}d}.jpg", f"image/{4:0{digits}d}.jpg", f"evimg/{4:0{digits}d}.jpg"]
    for name in gone:
        (folder / name).unlink()
    if listed:
        write_lists(tmp_path, "set", {"a": 5})
    with pytest.warns(UserWarning, match="3 files"):
        found = open_trio(tmp_path)
    assert names(found) == [("a", 1), ("a", 3), ("a", 5)]
    assert found.problems == {f"a/{name}": "is missing" for name in gone}


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    write_sequence(tmp_path / "a", 2)
    shutil.rmtree(tmp_path / "a" / "image")
    write_sequence(tmp_path / "b", 1)
    with pytest.warns(UserWarning, match="2 files"):
        found = open_trio(tmp_path)
    assert names(found) == [("b", 1)]
    assert found.problems == {f"a/image/{number:05d}.jpg": "is missing" for number in (1, 2)}
    assert list(found.digests) == ["b"]


def test_names_of_any_digits_and_endings_meet_by_number(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "a", 3, digits=4)
    (folder / "voxel" / "0002.jpg").rename(folder / "voxel" / "00002.JPG")
    (folder / "image" / "notes.txt").write_text("x")
    (folder / "image" / "._0001.jpg").write_bytes(b"x")
    (folder / "evimg" / "mean.jpg").write_bytes(b"x")
    shutil.copy(folder / "image" / "0003.jpg", folder / "image" / "00003.jpg")
    with pytest.warns(UserWarning, match="1 files"):
        found = open_trio(tmp_path)
    assert names(found) == [("a", 1), ("a", 2), ("a", 3)]
    assert found.problems == {"a/image/0003.jpg": "has the number of 00003.jpg too, and is not read"}
    assert found.file(found.trios[1], "voxel").name == "00002.JPG"
    assert found.file(found.trios[1], "image").name == "0002.jpg"
    assert found.file(found.trios[2], "image").name == "00003.jpg"
    samples = samples_of(found)
    assert all(np.isfinite(filled(samples, index, 0)["input"]).all() for index in range(3))


@pytest.mark.parametrize(
    ("sequences", "lengths", "message"),
    [
        ("a\nb", "1", r"expected as many lengths in .*set_seqlen\.txt as set\.txt has sequences, 2; got 1"),
        ("a\nb", "1\nx", r"set_seqlen\.txt, line 2: expected a number of frames, got 'x'"),
        ("a\na", "1\n1", "expected a sequence a line in .*, each once"),
        ("", "", "expected a sequence a line"),
        ("b", "1", r"no frame in .* has all its files, .*; e\.g\. b is listed and not in"),
        ("a", "0", "no frame in .* has all its files"),
    ],
)
def test_lists_that_make_no_sense(tmp_path: Path, sequences: str, lengths: str, message: str) -> None:
    write_sequence(tmp_path / "a", 1)
    (tmp_path / "set.txt").write_text(sequences)
    (tmp_path / "set_seqlen.txt").write_text(lengths)
    with pytest.raises(CollectionError, match=message):
        open_trio(tmp_path)


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    write_sequence(tmp_path / "a", 1)
    with pytest.raises(CollectionError, match=r"cannot read the list .*none\.txt"):
        open_trio(tmp_path, tmp_path / "none.txt")
    (tmp_path / "x_seqlen.txt").write_text("1")
    with pytest.raises(CollectionError, match=r"cannot read the list .*x\.txt"):
        open_trio(tmp_path)


def test_digests_tell_sizes_and_numbers_of_volumes(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        write_sequence(tmp_path / name / "a", 2, seed=seed)
        write_sequence(tmp_path / name / "b", 2, seed=5)
    one, same, other = (open_trio(tmp_path / name).digests for name in ("one", "same", "other"))
    assert one == same
    assert one["a"] != other["a"]
    assert one["b"] == other["b"]
    assert one["a"] != one["b"]


def test_sequences_can_be_left_out(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_sequence(tmp_path / name, 2)
    found = open_trio(tmp_path)
    rest = found.without({"b"})
    assert names(rest) == [("a", 1), ("a", 2), ("c", 1), ("c", 2)]
    assert list(rest.digests) == ["a", "c"]
    with pytest.raises(CollectionError, match="none of the 3 sequences"):
        found.without({"a", "b", "c"})


def test_the_end_of_each_of_few_sequences_is_held_out(tmp_path: Path) -> None:
    for name, count in (("a", 8), ("b", 1), ("c", 3)):
        write_sequence(tmp_path / name, count, size=(8, 8))
    found = open_trio(tmp_path)
    training, held_out = split_trios(found, 0.25)
    assert [(trio.sequence, trio.number) for trio in held_out] == [("a", 7), ("a", 8), ("c", 3)]
    assert sorted(training + held_out) == sorted(found.trios)
    assert split_trios(found, 0.0) == (list(found.trios), [])


def test_whole_sequences_of_many_are_held_out(tmp_path: Path) -> None:
    for number in range(10):
        write_sequence(tmp_path / f"s{number}", 2, size=(8, 8))
    found = open_trio(tmp_path)
    training, held_out = split_trios(found, 0.2)
    kept, held = ({trio.sequence for trio in trios} for trios in (training, held_out))
    assert (len(training), len(held_out), len(kept), len(held), kept & held) == (16, 4, 8, 2, set())
    assert held != {"s8", "s9"}
    assert split_trios(found, 0.2)[1] == held_out


def test_a_sample_is_what_is_stored(tmp_path: Path) -> None:
    write_sequence(tmp_path / "a", 3)
    samples = samples_of(open_trio(tmp_path))
    assert samples.shapes == {"input": (3, 24, 32), "active": (3, 4), "view": (5,), "teacher_picture": (3, 12, 16)}
    assert len(samples) == 3
    for index in range(3):
        out = filled(samples, index, None)
        volume, picture, frame = (stored(tmp_path, "a", kind, index + 1) for kind in ("voxel", "evimg", "image"))
        expected = np.stack([(volume[..., c] / 255 - MEAN[c]) / DEVIATION[c] for c in range(3)])
        np.testing.assert_allclose(out["input"], expected, atol=1e-5)
        np.testing.assert_array_equal(out["active"], released_mask(picture, (3, 4)))
        assert 0 < out["active"].sum() < 12
        np.testing.assert_array_equal(out["view"], [0, 0, 1, 1, 0])
        small = cv2.resize(frame, (16, 12), interpolation=cv2.INTER_AREA).transpose(2, 0, 1) / 255
        np.testing.assert_allclose(out["teacher_picture"], small, atol=1e-6)
        trained = filled(samples, index, 7)
        assert all(np.array_equal(out[name], trained[name]) for name in out)


def test_sequences_of_other_sizes_are_squeezed_into_one_batch(tmp_path: Path) -> None:
    """As the released code does: bilinearly, whatever the shape."""
    sizes = {"a": (24, 32), "b": (50, 40), "c": (12, 64)}
    for name, size in sizes.items():
        write_sequence(tmp_path / name, 1, size=size)
    samples = samples_of(open_trio(tmp_path), (32, 48))
    (batch,) = islice(Loader(samples, 3, seed=0, num_workers=2)(0), 1)
    assert batch["input"].shape == (3, 3, 32, 48)
    assert batch["active"].shape == (3, 4, 6)
    assert batch["active"].dtype == torch.float32
    for row, index in enumerate(batch["index"].tolist()):
        volume = cv2.resize(stored(tmp_path, "abc"[index], "voxel", 1), (48, 32), interpolation=cv2.INTER_LINEAR)
        expected = ((volume / 255 - MEAN) / DEVIATION).transpose(2, 0, 1)
        np.testing.assert_allclose(batch["input"][row].numpy(), expected, atol=1e-5)
        active = released_mask(stored(tmp_path, "abc"[index], "evimg", 1), (4, 6))
        np.testing.assert_array_equal(batch["active"][row].numpy(), active)
    assert (batch["view"] == torch.tensor([0.0, 0, 1, 1, 0])).all()


@pytest.mark.parametrize("seed", range(8))
def test_one_draw_moves_volume_patches_and_view(tmp_path: Path, seed: int) -> None:
    write_sequence(tmp_path / "a", 1, size=(48, 64))
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[..., 0], picture[..., 1] = 4 * np.arange(64), 5 * np.arange(48)[:, None]
    assert cv2.imwrite(str(tmp_path / "a/voxel/00001.jpg"), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])
    ground = np.full((48, 64, 3), 255, np.uint8)
    ground[:, :32] = 0  # active on the left
    assert cv2.imwrite(str(tmp_path / "a/evimg/00001.jpg"), ground)
    augment = AugmentConfig(crop_min=0.3, flip=0.5, time_flip=0.5)
    samples = samples_of(open_trio(tmp_path), (48, 64), augment=augment, patch=4)
    out = filled(samples, 0, seed)
    left, top, right, bottom, flip = out["view"]
    assert 0.25 < (right - left) * (bottom - top) <= 1
    assert 0.7 < (right - left) / (bottom - top) < 1.4
    places = (out["input"] * DEVIATION[:, None, None] + MEAN[:, None, None]) * 255
    x, y = places[0] / 4 + 0.5, places[1] / 5 + 0.5
    x = x[:, ::-1] if flip else x
    fractions = (np.arange(64) + 0.5) / 64
    np.testing.assert_allclose(x.mean(0)[2:-2], 64 * (left + fractions * (right - left))[2:-2], atol=1)
    fractions = (np.arange(48) + 0.5) / 48
    np.testing.assert_allclose(y.mean(1)[2:-2], 48 * (top + fractions * (bottom - top))[2:-2], atol=1)
    centres = left + (np.arange(16) + 0.5) / 16 * (right - left)
    centres = centres[::-1] if flip else centres
    sure = np.abs(centres - 0.5) > 0.05
    assert (out["active"][:, sure] == (centres < 0.5)[sure]).all()
    assert out["input"][2].mean() < 0  # the third bin is dark: time never runs backwards, or it would be the first


def test_crops_and_flips_differ_by_seed_only(tmp_path: Path) -> None:
    write_sequence(tmp_path / "a", 2, size=(48, 64))
    samples = samples_of(open_trio(tmp_path), augment=AugmentConfig(crop_min=0.5))
    views = {filled(samples, 0, seed)["view"].tobytes() for seed in range(40)}
    assert len(views) > 25  # a draw that does not fit is the whole
    assert filled(samples, 0, 3)["input"].tobytes() == filled(samples, 0, 3)["input"].tobytes()


def test_without_patch_and_teacher_there_is_only_the_input(tmp_path: Path) -> None:
    write_sequence(tmp_path / "a", 1)
    samples = samples_of(open_trio(tmp_path), patch=None, teacher=None)
    assert samples.shapes == {"input": (3, 24, 32)}
    shutil.rmtree(tmp_path / "a" / "evimg")
    shutil.rmtree(tmp_path / "a" / "image")
    assert np.isfinite(filled(samples, 0, 0)["input"]).all()


class Cache:
    """Tokens that tell the picture that they are of."""

    dim, grid = 2, (1, 1)

    def __init__(self, files: list[Path]) -> None:
        self.tokens = {picture_key(file): np.full((1, 2), number) for number, file in enumerate(files)}

    def __contains__(self, key: str) -> bool:
        return key in self.tokens

    def read(self, key: str) -> np.ndarray:
        return self.tokens[key]


def test_tokens_of_a_cache_are_those_of_the_frame(tmp_path: Path) -> None:
    write_sequence(tmp_path / "a", 3)
    files = [tmp_path / "a" / "image" / f"{number:05d}.jpg" for number in (1, 2, 3)]
    samples = samples_of(open_trio(tmp_path), teacher=TeacherInput((12, 16), Cache(files)))  # type: ignore[arg-type]
    assert [filled(samples, index, 0)["teacher_tokens"][0, 0] for index in range(3)] == [0, 1, 2]
    few = samples_of(open_trio(tmp_path), teacher=TeacherInput((12, 16), Cache(files[1:])))  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="is not in the cache of the teacher's tokens; passed over"):
        assert filled(few, 0, 0)["teacher_tokens"][0, 0] == 0  # frame 2, the first of that cache


DAMAGE = {
    "cut off": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file: file.write_bytes(b""),
    "gone": lambda file: file.unlink(),
    "no picture": lambda file: file.write_bytes(b"\xff\xd8\xff\xe0 and then nothing\xff\xd9"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_damaged_are_passed_over(tmp_path: Path, damage: str, kind: str) -> None:
    write_sequence(tmp_path / "a", 3)
    samples = samples_of(open_trio(tmp_path))
    DAMAGE[damage](tmp_path / "a" / kind / "00002.jpg")
    with pytest.warns(UserWarning, match=rf"{kind}/00002\.jpg .*passed over"):
        found = filled(samples, 1, 4)
    expected = filled(samples, 2, 4)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    (name,) = samples.problems
    assert name.endswith(f"a/{kind}/00002.jpg")


def test_volumes_of_sixteen_bits_are_refused(tmp_path: Path) -> None:
    write_sequence(tmp_path / "a", 1)
    (tmp_path / "a/voxel/00001.jpg").unlink()
    assert cv2.imwrite(str(tmp_path / "a/voxel/00001.png"), np.full((24, 32, 3), 40000, np.uint16))
    samples = samples_of(open_trio(tmp_path))
    expected = "holds uint16 values; expected bytes"
    with pytest.raises(CollectionError, match=expected), pytest.warns(UserWarning, match=expected):
        filled(samples, 0, 0)


def test_a_set_of_which_nothing_can_be_read(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "a", 2)
    for file in (folder / "voxel").iterdir():
        file.write_bytes(b"")
    with pytest.raises(CollectionError, match=r"none of the 2 volumes in .* can be read"):
        open_trio(tmp_path)
