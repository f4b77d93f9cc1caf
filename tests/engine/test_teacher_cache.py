"""Caches of a teacher's tokens: what training reads is what the teacher says, whatever befell the run that made it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from eventfm.data import token_writer
from eventfm.data.token_cache import CacheError, TokenCache
from eventfm.engine.teacher_cache import build_cache
from eventfm.io import WriteError

SIZE, GRID, DIM = (8, 12), (2, 3), 7
ONE = 2 * 6 * DIM


class Ramp:
    """A teacher whose tokens are weighted means of its patches, of many magnitudes."""

    dim, grid, input_size = DIM, GRID, SIZE

    def __init__(self, name="ramp", factor=1.0):
        self.identity = {"name": name, "input_size": list(SIZE)}
        self.factor = factor
        self.num_asked = 0
        self.batches = []

    def __call__(self, pictures):
        assert pictures.dtype == torch.float32
        self.num_asked += len(pictures)
        self.batches.append(len(pictures))
        patches = pictures.unfold(2, 4, 4).unfold(3, 4, 4).mean((1, 4, 5)).flatten(1)
        return self.factor * (patches[:, :, None] - 0.4) * 10.0 ** torch.arange(-5, 2)


class Pictures:
    """Scenes whose picture `i` is drawn from its key; some cannot be read."""

    field = (240, 180)

    def __init__(self, keys, broken=()):
        self.keys = list(keys)
        self.broken = set(broken)

    def __len__(self):
        return len(self.keys)

    def key(self, i):
        return f"{self.keys[i]:016x}"

    def name(self, i):
        return f"picture {i}"

    def read(self, i, size):
        if i in self.broken:
            raise ValueError(f"picture {i} is cut short")
        picture = np.random.default_rng(self.keys[i]).random((3, *size), np.float32)
        picture.flags.writeable = False
        return picture


def live(scenes, i, teacher=None):
    picture = torch.from_numpy(scenes.read(i, SIZE).copy())
    return (teacher or Ramp())(picture[None])[0].numpy()


def assert_half_of(stored, tokens):
    """Half precision rounds to 11 bits, below 2**-14 to multiples of 2**-24."""
    assert stored.dtype == np.float16
    assert np.all(np.abs(stored.astype(np.float64) - tokens) <= 2.0**-11 * np.abs(tokens) + 2.0**-25)


def build(folder, scenes, teacher=None, rows=3, **changes):
    return build_cache(folder, scenes, teacher or Ramp(), **{"batch_size": 2, "shard_bytes": rows * ONE, **changes})


def assert_whole(folder, scenes, but=()):
    cache = TokenCache.open(folder)
    for i in set(range(len(scenes))) - set(but):
        assert_half_of(cache.read(scenes.key(i)), live(scenes, i))


@pytest.mark.parametrize("num_workers", [1, 5])
def test_the_cache_holds_what_the_teacher_says(tmp_path, num_workers):
    scenes, heard = Pictures(range(11)), []
    built = build(tmp_path, scenes, progress=heard.append, num_workers=num_workers)
    assert (built.num_tokens_written, built.num_kept, built.failed) == (11, 0, {})
    assert_whole(tmp_path, scenes)
    cache = TokenCache.open(tmp_path)
    cache.check(identity=Ramp().identity, field=(240, 180), keys=[scenes.key(i) for i in range(11)])
    assert (cache.dim, cache.grid, len(cache)) == (DIM, GRID, 11)
    assert heard == sorted(heard)
    assert heard[-1] == 11


def test_what_is_there_is_not_asked_again(tmp_path):
    build(tmp_path, Pictures(range(5)))
    teacher = Ramp()
    # Nor is it read: the first two, which are there, could not be.
    built = build(tmp_path, Pictures(range(3, 9), broken=[0, 1]), teacher)
    assert (built.num_tokens_written, built.num_kept, built.failed) == (4, 2, {})
    assert teacher.num_asked == 4
    assert_whole(tmp_path, Pictures(range(9)))


def test_equal_pictures_are_asked_once(tmp_path):
    scenes, teacher = Pictures([1, 2, 1, 1, 3, 2, 4, 4]), Ramp()
    built = build(tmp_path, scenes, teacher, batch_size=3)
    assert (built.num_tokens_written, built.num_kept, teacher.num_asked) == (4, 4, 4)
    assert teacher.batches == [3, 1]
    assert_whole(tmp_path, scenes)


def test_pictures_that_cannot_be_read_are_passed_over_and_tried_again(tmp_path):
    scenes = Pictures(range(9), broken=[0, 4, 8])
    built = build(tmp_path, scenes)
    assert built.num_tokens_written == 6
    assert built.failed == {f"picture {i}": f"picture {i} is cut short" for i in (0, 4, 8)}
    assert TokenCache.open(tmp_path).failed == built.failed
    assert_whole(tmp_path, scenes, but=[0, 4, 8])
    scenes.broken = {8}
    built = build(tmp_path, scenes)
    assert (built.num_tokens_written, built.num_kept, list(built.failed)) == (2, 6, ["picture 8"])
    assert list(TokenCache.open(tmp_path).failed) == ["picture 8"]
    assert_whole(tmp_path, scenes, but=[8])


def test_other_tokens_are_refused_before_anything_is_asked(tmp_path):
    build(tmp_path, Pictures(range(3)))
    teacher = Ramp("another")
    with pytest.raises(CacheError, match="teacher's name: 'ramp' there, 'another' needed"):
        build(tmp_path, Pictures(range(6)), teacher)
    wider = Pictures(range(6))
    wider.field = (320, 180)
    with pytest.raises(CacheError, match=r"field: \(240, 180\) there, \(320, 180\) now"):
        build(tmp_path, wider, teacher := Ramp())
    assert teacher.num_asked == 0


@pytest.mark.parametrize(("factor", "says"), [(1e6, r"[\d.e+]+"), (float("nan"), "nan"), (float("-inf"), "inf")])
def test_what_half_precision_cannot_hold_is_an_error(tmp_path, factor, says):
    class Sometimes(Ramp):
        def __call__(self, pictures):
            tokens = super().__call__(pictures)
            if self.num_asked == 6:
                tokens[1, 2, 3] = factor * 0.1
            return tokens

    with pytest.raises(CacheError, match=f"says {says} of the picture picture 5, .*up to 65504"):
        build(tmp_path, Pictures(range(9)), Sometimes())
    cache = TokenCache.open(tmp_path)
    assert len(cache) == 4  # what was said before stays
    build(tmp_path, Pictures(range(9)))
    assert_whole(tmp_path, Pictures(range(9)))


def test_the_largest_number_of_half_precision_is_held(tmp_path):
    class Largest(Ramp):
        def __call__(self, pictures):
            return torch.full((len(pictures), 6, DIM), -65504.0)

    build(tmp_path, Pictures([1]), Largest())
    assert TokenCache.open(tmp_path).read(f"{1:016x}").min() == -65504


def test_a_run_that_was_interrupted_goes_on(tmp_path):
    class Interrupted(Ramp):
        def __call__(self, pictures):
            if self.num_asked >= 6:
                raise KeyboardInterrupt
            return super().__call__(pictures)

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, Pictures(range(10)), Interrupted())
    teacher = Ramp()
    built = build(tmp_path, Pictures(range(10)), teacher)
    assert (built.num_kept, teacher.num_asked) == (6, 4)
    assert_whole(tmp_path, Pictures(range(10)))


def test_a_full_disk_is_told_and_not_counted_as_a_bad_picture(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(token_writer, "save_file", full)
    with pytest.raises(WriteError, match="No space left"):
        build(tmp_path, Pictures(range(10)))
    monkeypatch.undo()
    assert TokenCache.open(tmp_path).failed == {}
    build(tmp_path, Pictures(range(10)))
    assert_whole(tmp_path, Pictures(range(10)))


class Deadly(Ramp):
    def __call__(self, pictures):
        if self.num_asked >= 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(pictures)


CHILD = """
import os, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
import torch.distributed as dist
import test_teacher_cache as here

folder, rank = sys.argv[2], int(sys.argv[3])
scenes = here.Pictures(range(10), broken=[3])
if rank < 0:
    here.build(folder, scenes, here.Deadly())
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
for name, factor in (("good", 1.0), ("bad", 1e9)):
    teacher = here.Ramp(factor=factor)
    try:
        built = here.build(f"{folder}/{name}", scenes, teacher)
        print(teacher.num_asked, built.num_tokens_written, sorted(built.failed))
    except Exception as error:
        print(type(error).__name__, error)
dist.destroy_process_group()
"""


def child(folder, rank):
    command = [sys.executable, "-c", CHILD, str(Path(__file__).resolve()), str(folder), str(rank)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_a_run_that_was_killed_goes_on(tmp_path):
    process = child(tmp_path, -1)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    held = len(TokenCache.open(tmp_path))
    assert held == 6  # two whole shards
    teacher = Ramp()
    build(tmp_path, Pictures(range(10)), teacher)
    assert teacher.num_asked == 4
    assert_whole(tmp_path, Pictures(range(10)))


def test_of_two_ranks_one_works_and_both_know(tmp_path):
    processes = [child(tmp_path, rank) for rank in range(2)]
    said = [process.communicate(timeout=120)[0].splitlines() for process in processes]
    assert [lines[0] for lines in said] == ["9 9 ['picture 3']", "0 9 ['picture 3']"]
    assert said[0][1].startswith("CacheError the teacher says")
    assert said[1][1].startswith("RankError rank 0 failed: CacheError: the teacher says")
    assert_whole(tmp_path / "good", Pictures(range(10)), but=[3])
