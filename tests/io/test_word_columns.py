"""What decoders of words say of the columns that they write, against the columns themselves."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfm.io import dat, evt2, evt3, evt21
from eventfm.io.trigger_track import triggers_of
from eventfm.io.word_columns import empty_columns, first_of, nothing_seen

KINDS = {"evt2": (0, 1, 8, 8, 10, 14), "evt21": (0, 1, 8, 8, 10, 14), "evt3": (0, 2, 2, 3, 4, 5, 6, 8, 10, 14)}


def random_words(coding: ModuleType, seed: int, count: int) -> np.ndarray:
    """Return words of which most are of kinds that say something."""
    rng = np.random.default_rng(seed)
    bits = 8 * coding.WORD.itemsize
    kinds = rng.choice(KINDS[coding.__name__.rpartition(".")[2]], count).astype(np.uint64)
    rest = rng.integers(0, 1 << (bits - 4), count, dtype=np.uint64)
    return (kinds << np.uint64(bits - 4) | rest).astype(coding.WORD)


@pytest.mark.parametrize("coding", [evt2, evt21, evt3])
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 300), last=st.integers(0, 1 << 30))
def test_what_is_seen_is_what_is_written(coding: ModuleType, seed: int, count: int, last: int) -> None:
    words, seen = random_words(coding, seed, count), nothing_seen(last)
    room = empty_columns(count * coding.MOST)
    found, after = coding.decode_into(words, (), room, seen)
    columns = first_of(room, found)
    expected, state = coding.decode_plainly(words)
    assert after == state
    for a, b in zip(columns, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    right, bottom, backwards, triggers, earliest, latest, end = seen.tolist()
    assert triggers == len(triggers_of(words, (), coding))
    if found:
        t = columns.t
        assert (bottom, earliest, latest, end) == (columns.y.max(), t.min(), t.max(), t[-1])
        # Columns of EVT3 may run over 16 bits, and then what is said lies beyond them too.
        assert right == columns.x.max() or right > 0xFFFF
        assert backwards == (np.diff(t, prepend=last) < 0).sum()
    else:
        assert (backwards, end) == (0, last)


def test_a_mask_over_the_end_of_16_bits_is_seen_beyond_every_sensor() -> None:
    """A base at 2047 and masks of 12 from there on: 5,291 of them reach the end of 16 bits."""
    words = np.array([0x8000, 0x6000, 0x0005, 0x3000 | 2047, *[0x4001] * 5290, 0x4FFF, 0x4FFF], np.uint16)
    seen, room = nothing_seen(), empty_columns(12 * len(words))
    found, _ = evt3.decode_into(words, (), room, seen)
    columns = first_of(room, found)
    assert columns.x[-1] < 100 < columns.x.max(), "it has begun again at 0"
    assert seen[0] >= columns.x.max()


@settings(deadline=None, max_examples=60)
@given(
    content=st.binary(max_size=400),
    state=st.sampled_from([(), (0, 0, 0, 0, -1), (1, 2, 3, 1 << 32, (1 << 32) - 5), (0, 0, 0, 0, 7)]),
    layout=st.sampled_from(list(dat.LAYOUTS.values())),
)
def test_the_compiled_decoder_of_dat_is_its_plain_twin(
    content: bytes, state: tuple[int, ...], layout: dat.Layout
) -> None:
    data = np.frombuffer(content, np.uint8)
    found, expected = dat.decode(data, state, layout), dat.decode_plainly(data, state, layout)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
