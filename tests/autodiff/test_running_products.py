"""The slope of a running product: right with zeros, to second order, in memory that grows with its length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjit
from tests.both import run_both


def by_hand(x: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Each entry without its own factor."""
    result = np.zeros_like(x)
    for i in range(len(x)):
        rest = x.copy()
        rest[i] = 1.0
        result[i] = np.sum((g * np.cumprod(rest))[i:])
    return result


@pytest.mark.parametrize("zeros", [(), (0,), (3,), (1, 4), (0, 1, 2)])
@pytest.mark.parametrize("n", [1, 2, 5, 8, 33])
def test_slopes_with_zeros(n: int, zeros: tuple[int, ...]) -> None:
    rng = np.random.default_rng(n)
    x, g = rng.uniform(-1.5, 1.5, n), rng.normal(size=n)
    x[[i for i in zeros if i < n]] = 0.0
    f: Any = adjit.grad(lambda x: np.sum(np.cumprod(x) * g))
    np.testing.assert_allclose(run_both(f.ir("adjoint", x), x)[-1], by_hand(x, g), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(f(x), by_hand(x, g), rtol=1e-11, atol=1e-13)
    backwards = adjit.grad(lambda x: np.sum(np.flip(np.cumprod(np.flip(x, 1), axis=1), 1) * g[None, ::-1]))
    np.testing.assert_allclose(backwards(x[None, ::-1])[0, ::-1], by_hand(x, g), rtol=1e-11, atol=1e-13)


def test_second_order_with_zeros() -> None:
    x, g = np.array([1.1, 0.0, -0.7, 2.0, 0.0, 0.3]), np.arange(1.0, 7.0)
    first = adjit.grad(lambda x: np.sum(np.cumprod(x) * g))
    second = adjit.grad(lambda x: np.sum(first(x) * np.arange(6.0)))
    wanted, h = np.zeros(6), 1e-6
    for i in range(6):
        step = h * (np.arange(6) == i)
        wanted[i] = np.sum((by_hand(x + step, g) - by_hand(x - step, g)) * np.arange(6.0)) / (2 * h)
    np.testing.assert_allclose(second(x), wanted, rtol=1e-7, atol=1e-8)


def test_memory_grows_with_the_length() -> None:
    def largest(n: int) -> int:
        graph: Any = adjit.grad(lambda x: np.sum(np.cumprod(x) ** 2)).ir("adjoint", np.ones(n))
        return int(max(node.array_type.size for node in graph.nodes))

    assert largest(1000) == 1000


def test_a_dead_end_of_nan() -> None:
    x = np.array([2.0, 3.0, np.nan, 5.0])
    f = adjit.grad(lambda x: np.sum(np.where(np.arange(4) < 2, np.cumprod(x), 0.0)))
    np.testing.assert_array_equal(f(x), [4.0, 2.0, 0.0, 0.0])
