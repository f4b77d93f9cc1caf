from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eventfm.random import derive, generator, splitmix64, uniforms

MASK = 2**64 - 1


def splitmix64_of_integers(z: int) -> int:
    z = (z + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


@given(st.integers(0, MASK))
def test_splitmix64_equals_whole_numbers(z: int) -> None:
    assert int(splitmix64(np.array([z], np.uint64))[0]) == splitmix64_of_integers(z)


def test_splitmix64_published_value() -> None:
    assert int(splitmix64(np.array([0], np.uint64))[0]) == 0xE220A8397B1DCDAF


def test_generator_is_a_function_of_its_keys() -> None:
    first, second = generator(3, "order", 1).random(4), generator(3, "order", 1).random(4)
    np.testing.assert_array_equal(first, second)
    for other in (generator(3, "order", 2), generator(4, "order", 1), generator(3, "mask", 1)):
        assert not np.array_equal(first, other.random(4))


def test_uniforms_are_counted() -> None:
    many = uniforms(7, "phase", 10_000)
    np.testing.assert_array_equal(many[:10], uniforms(7, "phase", 10))
    assert many.min() >= 0
    assert many.max() < 1
    # 5 standard errors of the mean and variance of U(0, 1).
    assert abs(many.mean() - 0.5) < 5 / np.sqrt(12 * 10_000)
    assert abs(many.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / 10_000)


def test_derive_differs_and_fits_int64() -> None:
    seeds = {derive(0, "sample", epoch, index) for epoch in range(20) for index in range(50)}
    assert len(seeds) == 1000
    assert max(seeds) < 2**63
