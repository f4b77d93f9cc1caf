"""The EVT3 decoder against its plain twin, the `evt3` package, and an encoder that is written from the layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.io.evt3 import decode, decode_plainly

KINDS = (0, 2, 3, 4, 5, 6, 8, 10, 14, 15, 7, 1)


def words_of(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return valid words at random, whose time runs mostly forward and loops now and then."""
    kinds = rng.choice(KINDS, count, p=(0.15, 0.3, 0.1, 0.1, 0.1, 0.12, 0.05, 0.02, 0.02, 0.02, 0.01, 0.01))
    values = rng.integers(0, 1 << 12, count)
    high = kinds == 8
    # As sensors do, step by step: for greater ones decoders differ in what they take for a loop.
    values[high] = np.cumsum(rng.integers(0, 2, high.sum())) & 0xFFF
    # A sensor says the lower half of the time after the higher one: decoders differ in what it is in between.
    low = np.flatnonzero(high)[:-1] + 1
    kinds[low[kinds[low] != 8]] = 6
    same = np.flatnonzero(high[:-1] & high[1:])
    kinds[same] = 6
    return (kinds << 12 | values).astype(np.uint16)


def same(a: tuple, b: tuple) -> None:
    (columns, state), (others, other) = a, b
    for one, two in zip(columns, others, strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)
    assert state == other


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.integers(0, 0xFFFF), max_size=300), st.integers(0, 300))
def test_the_compiled_decoder_is_its_plain_twin_and_goes_on_anywhere(values: list[int], cut: int) -> None:
    words = np.array(values, np.uint16)
    whole = decode(words)
    same(whole, decode_plainly(words))
    first, state = decode(words[:cut])
    second, end = decode(words[cut:], state)
    joined = tuple(np.concatenate(parts) for parts in zip(first, second, strict=True))
    same((joined, end), whole)


def test_a_stream_written_from_the_layout_reads_back() -> None:
    # High and low time, a row, one event; a vector of 12 and of 8; the time loops.
    words = [
        0x2005, 0x8001, 0x6010, 0x0007, 0x2803, 0x3864, 0x4801, 0x5081,
        0x8FFF, 0x6FFF, 0x2001, 0x8000, 0x2002, 0x6001, 0x2803,
    ]  # fmt: skip
    (x, y, t, p), _ = decode(np.array(words, np.uint16))
    first = 0x1010
    expected = [
        (3, 7, first, 1), (100, 7, first, 1), (111, 7, first, 1), (112, 7, first, 1), (119, 7, first, 1),
        (1, 7, 0xFFFFFF, 0), (2, 7, 1 << 24, 0), (3, 7, (1 << 24) + 1, 1),
    ]  # fmt: skip
    assert list(zip(x.tolist(), y.tolist(), t.tolist(), p.tolist(), strict=True)) == expected


def test_it_is_the_evt3_package_on_a_million_words(tmp_path: Path) -> None:
    peer = pytest.importorskip("evt3")
    words = np.concatenate([np.array([0x8000, 0x6000, 0x0000], np.uint16), words_of(np.random.default_rng(0), 10**6)])
    found = peer.decode_bytes(words.tobytes())
    (x, y, t, p), _ = decode(words)
    assert len(x) > 10**6
    assert t.max() > 3 << 24, "the time has looped"
    for name, ours in zip("xytp", (x, y, t, p), strict=True):
        np.testing.assert_array_equal(_column(found, name), ours.astype(np.int64), err_msg=name)


def test_it_is_the_evt3_package_on_a_recording(real_data: Path) -> None:
    peer = pytest.importorskip("evt3")
    file = real_data / "formats" / "gen4_evt3.raw"
    content = file.read_bytes()
    while content.startswith(b"%"):
        content = content.partition(b"\n")[2]
    words = np.frombuffer(content, "<u2")
    columns, _ = decode(words)
    assert len(columns[0]) == 219_596
    found = peer.decode_file(str(file))
    for name, ours in zip("xytp", columns, strict=True):
        np.testing.assert_array_equal(_column(found, name), ours.astype(np.int64), err_msg=name)


def _column(found: object, name: str) -> np.ndarray:
    names = {"x": ("x",), "y": ("y",), "t": ("timestamp", "t"), "p": ("polarity", "p")}[name]
    for attribute in names:
        if hasattr(found, attribute):
            return np.asarray(getattr(found, attribute)).astype(np.int64)
    raise AssertionError(f"{dir(found)}")
