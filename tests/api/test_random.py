"""Random numbers stay within their bounds, traced and plain; seeds of 64 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjit
from adjit import random

KEY = random.key(0)
COUNT = 2**18
BOUNDS = [
    (1000.0, 1001.0, "float32"),
    (1001.0, 1000.0, "float32"),
    (-1.0, 3e-8, "float32"),
    (1.0, float(np.nextafter(np.float32(1), np.float32(2))), "float32"),
    (-3e38, 3e38, "float32"),
    (-1e308, 1.7e308, "float64"),
    (0.0, 1e-45, "float32"),
    (-2.5, 7.0, "float64"),
]


@pytest.mark.parametrize(("low", "high", "dtype"), BOUNDS)
def test_uniform_stays_within_its_bounds(low: float, high: float, dtype: str) -> None:
    kind: Any = np.dtype(dtype).type
    plain = random.uniform(KEY, COUNT, low, high, kind)
    known = adjit.jit(lambda k: random.uniform(k, COUNT, low, high, kind))(KEY)
    traced = adjit.jit(lambda k, low, high: random.uniform(k, COUNT, low, high, kind))(KEY, low, high)
    least, most = kind(low), kind(high)
    for found in (plain, known, traced):
        assert found.dtype == dtype
        assert np.isfinite(found).all()
        assert not (found == most).any()
        assert ((found >= least) == (low < high)).all() or (found == least).any()
        assert (min(least, most) <= found).all()
        assert (found <= max(least, most)).all()
    np.testing.assert_array_equal(plain, known)
    if abs(high) > 1e-40:
        # Halves of subnormal numbers round.
        np.testing.assert_array_equal(plain, traced)


def test_bounds_that_are_arrays() -> None:
    low, high = np.array([0.0, -3e38, 5.0], np.float32), np.array([1.0, 3e38, 4.0], np.float32)
    found = random.uniform(KEY, (50_000, 3), low, high)
    assert np.isfinite(found).all()
    assert (found != high).all()
    traced = adjit.jit(lambda k, low, high: random.uniform(k, (50_000, 3), low, high))(KEY, low, high)
    np.testing.assert_array_equal(found, traced)
    np.testing.assert_allclose(found[:, [0, 2]].mean(axis=0), [0.5, 4.5], atol=0.01)


def test_seeds_of_64_bits() -> None:
    assert random.key(2**63) == -(2**63)
    assert random.key(2**64 - 1) == random.key(np.uint64(2**64 - 1)) == -1
    traced = adjit.jit(lambda seed: random.bits(random.key(seed), 3))(np.uint64(2**64 - 2))
    np.testing.assert_array_equal(traced, random.bits(random.key(2**64 - 2), 3))
    for seed in (2**64, -(2**63) - 1):
        with pytest.raises(adjit.WeakOverflowError):
            random.key(seed)


def test_uniform_has_a_slope_by_its_bounds() -> None:
    by = adjit.grad(lambda low, high: np.sum(random.uniform(KEY, 5, low, high)), argnums=(0, 1))
    unit = np.sum(random.uniform(KEY, 5), dtype=np.float64)
    np.testing.assert_allclose(by(2.0, 3.0), [5 - unit, unit], rtol=1e-6)
