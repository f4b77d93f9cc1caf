"""Caches of tokens: what goes in comes out, whatever ends the run that writes them, and other tokens are refused."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from eventfm.data import token_writer
from eventfm.data.token_cache import CARD, CacheError, TokenCache
from eventfm.data.token_writer import open_writer
from eventfm.io import WriteError

IDENTITY = {"name": "tiny", "revision": None, "weights_sha256": "ab" * 32, "input_size": [32, 48], "mean": [0.5] * 3}
DIM, GRID, FIELD = 5, (2, 3), (64, 48)
ONE = 2 * 6 * DIM
"""Bytes of one picture's tokens."""


def tokens(number):
    return np.random.default_rng(number).standard_normal((6, DIM)).astype(np.float16)


def writer(folder, rows=4, **changes):
    given = {"teacher": IDENTITY, "dim": DIM, "grid": GRID, "field": FIELD, **changes}
    return open_writer(folder, **given, shard_bytes=rows * ONE)


def fill(folder, numbers, **changes):
    with writer(folder, **changes) as into:
        for number in numbers:
            into.add(f"key{number}", tokens(number))


def assert_holds(folder, numbers):
    cache = TokenCache.open(folder)
    assert len(cache) == len(numbers)
    for number in numbers:
        assert f"key{number}" in cache
        np.testing.assert_array_equal(cache.read(f"key{number}"), tokens(number))


def shards(folder):
    return sorted(path.name for path in folder.glob("tokens-*.safetensors"))


def test_what_goes_in_comes_out(tmp_path):
    folder = tmp_path / "a" / "cache"
    fill(folder, range(10))
    assert_holds(folder, range(10))
    cache = TokenCache.open(str(folder))
    assert (cache.teacher, cache.dim, cache.grid, cache.field) == (IDENTITY, DIM, GRID, FIELD)
    assert "key10" not in cache
    with pytest.raises(CacheError, match="no tokens of the picture key10"):
        cache.read("key10")
    read = cache.read("key7")
    assert read.dtype == np.float16
    assert not read.flags.writeable
    assert shards(folder) == [f"tokens-0000{n}.safetensors" for n in range(3)]
    assert sorted(path.name for path in folder.iterdir()) == [".lock", CARD, *shards(folder)]


def test_shards_are_plain_safetensors(tmp_path):
    fill(tmp_path, range(6))
    with safe_open(tmp_path / "tokens-00001.safetensors", "numpy") as file:
        assert json.loads(file.metadata()["keys"]) == ["key4", "key5"]
        np.testing.assert_array_equal(file.get_tensor("tokens"), np.stack([tokens(4), tokens(5)]))
    card = json.loads((tmp_path / CARD).read_text())
    assert card["shards"] == {"tokens-00000.safetensors": 4, "tokens-00001.safetensors": 2}


def test_a_key_is_stored_once(tmp_path):
    with writer(tmp_path) as into:
        for number in (1, 2, 1, 3, 2):
            into.add(f"key{number}", tokens(number))
        into.add("key1", tokens(99))
    fill(tmp_path, [3, 4])
    assert_holds(tmp_path, [1, 2, 3, 4])


def test_an_empty_cache(tmp_path):
    fill(tmp_path, [])
    assert_holds(tmp_path, [])
    assert shards(tmp_path) == []


def test_a_run_that_fails_keeps_what_it_has(tmp_path):
    def numbers():
        yield from range(6)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, numbers())
    assert_holds(tmp_path, range(6))
    fill(tmp_path, range(9))
    assert_holds(tmp_path, range(9))


@pytest.mark.parametrize("moment", range(20))
def test_a_process_killed_at_any_moment(tmp_path, monkeypatch, moment):
    """Every change of a file is where it may end: nothing after that is done, not even tidying up."""

    class KilledError(BaseException):
        pass

    left = moment

    def counted(function):
        def call(*args, **kwargs):
            nonlocal left
            if left <= 0:
                left -= 1
                raise KilledError
            left -= 1
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", counted(os.replace))
        patch.setattr(token_writer, "save_file", counted(token_writer.save_file))
        patch.setattr(Path, "write_text", counted(Path.write_text))
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        with pytest.raises(KilledError):
            fill(tmp_path, range(16))
    if (tmp_path / CARD).exists():
        cache = TokenCache.open(tmp_path)
        assert all(np.array_equal(cache.read(f"key{n}"), tokens(n)) for n in range(16) if f"key{n}" in cache)
        assert len(cache) == 4 * len(json.loads((tmp_path / CARD).read_text())["shards"]) >= 4 * ((moment - 2) // 4)
    fill(tmp_path, range(16))
    assert_holds(tmp_path, range(16))
    assert not list(tmp_path.glob(".*.part"))


KILLED = """
import os, signal, sys
import numpy as np
from eventfm.data.token_writer import open_writer

with open_writer(sys.argv[1], {"name": "tiny"}, 5, (2, 3), (64, 48), shard_bytes=240) as into:
    for number in range(6):
        into.add(f"key{number}", np.full((6, 5), number, np.float16))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_whole_shards_and_no_lock(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=120)
    assert done.returncode == -signal.SIGKILL
    cache = TokenCache.open(tmp_path)
    assert [key for key in (f"key{n}" for n in range(6)) if key in cache] == ["key0", "key1", "key2", "key3"]
    with open_writer(tmp_path, {"name": "tiny"}, 5, (2, 3), (64, 48)) as into:
        assert "key3" in into
        assert "key4" not in into
        into.add("key4", np.full((6, 5), 4, np.float16))
    assert float(TokenCache.open(tmp_path).read("key4").max()) == 4


def test_a_full_disk_keeps_finished_shards(tmp_path, monkeypatch):
    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    def numbers():
        yield from range(6)
        monkeypatch.setattr(token_writer, "save_file", full)
        yield from range(6, 15)

    with pytest.raises(WriteError, match=r"(?s)No space left.*Shards that are finished stay: make room"):
        fill(tmp_path, numbers())
    monkeypatch.undo()
    assert_holds(tmp_path, range(4))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", CARD, "tokens-00000.safetensors"]
    fill(tmp_path, range(15))
    assert_holds(tmp_path, range(15))


def test_a_disk_that_is_really_full(tmp_path):
    """A process may write no file beyond a limit, which safetensors meets in its own code."""
    code = (
        KILLED.replace("import os, signal, sys", "import os, resource, signal, sys")
        .replace("(6, 5), number", "(600, 5), number")
        .replace("(2, 3)", "(20, 30)")
        .replace("shard_bytes=240", "shard_bytes=24000")
        .replace(
            "with open",
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))\nwith open",
        )
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=120, capture_output=True, text=True)
    assert done.returncode == 1
    assert "WriteError" in done.stderr
    assert "make room and start the same command again" in done.stderr
    assert shards(tmp_path) == []


def test_one_writer_at_a_time(tmp_path):
    with writer(tmp_path) as into:
        into.add("key1", tokens(1))
        with pytest.raises(CacheError, match="another process is writing"), writer(tmp_path):
            pass
    assert_holds(tmp_path, [1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": {**IDENTITY, "weights_sha256": "cd" * 32}}, "teacher's weights_sha256: 'abab.*cdcd"),
        ({"teacher": {**IDENTITY, "mean": [0.4] * 3}}, r"teacher's mean: \[0.5, 0.5, 0.5\] there, \[0.4"),
        ({"field": (64, 64)}, r"field: \(64, 48\) there, \(64, 64\) now"),
        ({"grid": (3, 2)}, "grid"),
        ({"dim": 6}, "dim: 5 there, 6 now"),
    ],
)
def test_tokens_of_another_teacher_or_sensor_are_not_mixed(tmp_path, changes, message):
    fill(tmp_path, range(4))
    with pytest.raises(CacheError, match=message) as caught, writer(tmp_path, **changes):
        pass
    assert "choose another folder" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 3  # what differs, and nothing else
    assert_holds(tmp_path, range(4))


def test_the_same_weights_are_the_same_teacher_under_any_name(tmp_path):
    fill(tmp_path, range(4))
    renamed = {**IDENTITY, "name": "elsewhere", "revision": "main"}
    fill(tmp_path, range(6), teacher=renamed)
    cache = TokenCache.open(tmp_path)
    cache.check(identity=renamed)
    unknown = {"name": "a"}  # without weights, the name is all there is
    fill(tmp_path / "b", [1], teacher=unknown)
    with pytest.raises(CacheError, match="teacher's name: 'a' there, 'b' needed"):
        TokenCache.open(tmp_path / "b").check(identity={"name": "b"})


def test_check_says_what_differs(tmp_path):
    with writer(tmp_path) as into:
        into.add("key1", tokens(1))
        into.failed["b.png"] = "is no picture"
    cache = TokenCache.open(tmp_path)
    cache.check(identity={**IDENTITY, "input_size": (32, 48)}, field=FIELD, keys=["key1"])
    with pytest.raises(CacheError, match=r"(?s)teacher's mean.*sensor: 64x48 pixels there, 64x64 needed") as caught:
        cache.check(identity={**IDENTITY, "mean": [0, 0, 0]}, field=(64, 64))
    assert "input_size" not in str(caught.value)
    wanted = {"key1": "a.png", "key2": "b.png", "key3": "c.png"}
    with pytest.raises(CacheError, match=r"2 of 3 pictures, first b\.png \(is no picture\), c\.png; run eventfm prep"):
        cache.check(keys=wanted)
    with pytest.raises(CacheError, match="1 of 1 pictures, first key9"):
        cache.check(keys=["key9"])


def test_a_damaged_shard_is_refused_and_made_again(tmp_path):
    fill(tmp_path, range(12))
    (tmp_path / "tokens-00000.safetensors").unlink()
    with pytest.raises(CacheError, match=r"tokens-00000\.safetensors is not there or is damaged"):
        TokenCache.open(tmp_path)
    path = tmp_path / "tokens-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with writer(tmp_path) as into:
        assert [n for n in range(12) if f"key{n}" in into] == [4, 5, 6, 7]
    fill(tmp_path, range(12))
    assert_holds(tmp_path, range(12))


def test_a_shard_of_another_cache_is_refused(tmp_path):
    fill(tmp_path / "a", range(4))
    fill(tmp_path / "b", range(3))
    shard = "tokens-00000.safetensors"
    (tmp_path / "a" / shard).write_bytes((tmp_path / "b" / shard).read_bytes())
    with pytest.raises(CacheError, match=r"expected 4 pictures of 6 tokens of 5 numbers, got .*3, 6, 5"):
        TokenCache.open(tmp_path / "a")


@pytest.mark.parametrize(("shape", "num_keys"), [((4, 6, 4), 4), ((4, 6, 5), 3), ((3, 6, 5), 4)])
def test_a_shard_that_does_not_fit_is_refused(tmp_path, shape, num_keys):
    fill(tmp_path, range(4))
    keys = json.dumps([f"key{n}" for n in range(num_keys)])
    save_file({"tokens": np.zeros(shape, np.float16)}, tmp_path / "tokens-00000.safetensors", {"keys": keys})
    with pytest.raises(CacheError, match="expected 4 pictures of 6 tokens of 5 numbers"):
        TokenCache.open(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 2}', '{"format": 1, "dim": 3}'])
def test_a_damaged_card_is_refused(tmp_path, content):
    fill(tmp_path, range(2))
    (tmp_path / CARD).write_text(content)
    for opening in (lambda: TokenCache.open(tmp_path), lambda: writer(tmp_path).__enter__()):
        with pytest.raises(CacheError, match=r"cache\.json is damaged, or of another version"):
            opening()


def test_a_card_names_no_file_elsewhere(tmp_path):
    fill(tmp_path, range(2))
    card = json.loads((tmp_path / CARD).read_text())
    card["shards"] = {"../tokens-00000.safetensors": 2}
    (tmp_path / CARD).write_text(json.dumps(card))
    with pytest.raises(CacheError, match="is damaged"):
        TokenCache.open(tmp_path)


def test_folders_of_other_things(tmp_path):
    with pytest.raises(CacheError, match=r"no cache of a teacher's tokens .* make one: eventfm prepare teacher"):
        TokenCache.open(tmp_path / "none")
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(CacheError, match=r"it has holiday\.jpg but no cache\.json"), writer(tmp_path):
        pass
    with pytest.raises(CacheError, match="is a file"), writer(tmp_path / "holiday.jpg"):
        pass


def test_reading_from_threads_and_other_processes(tmp_path):
    fill(tmp_path, range(40))
    cache = TokenCache.open(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda n: cache.read(f"key{n % 40}"), range(400)))
    assert all(np.array_equal(found, tokens(n % 40)) for n, found in enumerate(read))
    assert not isinstance(read[0].base, bytes)
    again = pickle.loads(pickle.dumps(cache))
    np.testing.assert_array_equal(again.read("key17"), tokens(17))
    assert len(pickle.dumps(cache)) < 1000


def test_tokens_are_not_read_into_memory(tmp_path):
    fill(tmp_path, range(4))
    assert isinstance(TokenCache.open(tmp_path).read("key1").base.base, np.memmap)
