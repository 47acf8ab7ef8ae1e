"""Reductions along rows, some rows at a time: at all numbers of rows and columns, for one thread and for several."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjit
from adjit.ir.evaluate import evaluate
from adjit.ir.text import parse
from adjit.tuned import BLOCKED_ROWS, ROWS_FROM, STRAIGHT_ELEMENTS
from tests.codegen.running import Ran

ROWS = (1, ROWS_FROM - 1, *range(ROWS_FROM, ROWS_FROM + BLOCKED_ROWS + 1), 67)
COLUMNS = (1, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 129)


def rows(x: Any, w: Any) -> tuple[Any, ...]:
    return x @ w, np.max(x, 1) * 2, np.argmin(x, axis=1), np.sum((x - w) ** 2, axis=1), np.prod(x, 1) + x[:, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("m", ROWS)
def test_blocked_rows(m: int, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    scale = 1e-5 if dtype == np.float32 else 1e-13  # sums in another order
    f = adjit.jit(rows)
    for n in COLUMNS:
        x, w = rng.uniform(0.5, 1.5, (m, n)).astype(dtype), rng.uniform(0.5, 1.5, n).astype(dtype)
        for found, exact in zip(f(x, w), rows(x, w), strict=True):
            np.testing.assert_allclose(found, exact, rtol=scale)


def test_a_row_has_the_same_bits_wherever_it_stands() -> None:
    rng = np.random.default_rng(1)
    row, w = rng.normal(size=333).astype(np.float32), rng.normal(size=333).astype(np.float32)
    f = adjit.jit(lambda x, w: np.sum(np.tanh(x) * w, axis=1))
    for m in (ROWS_FROM, ROWS_FROM + 1, 1000):
        assert len(set(f(np.tile(row, (m, 1)), w).tolist())) == 1


def test_threads_give_the_same_bits() -> None:
    rng = np.random.default_rng(2)
    x, w = rng.normal(size=(5003, 301)), rng.normal(size=301)
    threads = adjit.get_threads()
    found = []
    try:
        for count in (1, 2, 3, 8):
            adjit.set_threads(count)
            found.append(adjit.jit(lambda x, w: np.sum(x * w, axis=1) - np.cos(w[0]))(x, w))
    finally:
        adjit.set_threads(threads)
    np.testing.assert_allclose(found[0], x @ w - np.cos(w[0]), rtol=1e-9, atol=1e-12)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_nothing_outside_of_a_masked_row_is_read() -> None:
    # What lies after a row is the next one: its NaN must not show.
    x = np.full((ROWS_FROM + 3, 13), np.nan)
    x[::2] = 1.0
    found = adjit.jit(lambda x: np.sum(x, axis=1))(x)
    np.testing.assert_array_equal(found[::2], 13.0)
    assert np.isnan(found[1::2]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("m", [1, 3, 67])
@pytest.mark.parametrize("n", [1, 2, 8, 13, 16, 31, 33, 63, 64, 65, 100])
def test_what_all_rows_read_is_held(m: int, n: int, dtype: Any) -> None:
    """Rows of a few vectors, with one and with two values that are the same for all."""
    rng = np.random.default_rng(3)
    x, w, b = (rng.normal(size=shape).astype(dtype) for shape in ((m, n), n, n))
    rtol = 1e-5 if dtype == np.float32 else 1e-12
    f = adjit.jit(lambda x, w, b: (x @ w, np.max(x * w + b, axis=1), np.sum(np.tanh(w) * x, axis=1)))
    exact = x @ w, np.max(x * w + b, axis=1), np.sum(np.tanh(w) * x, axis=1)
    for found, wanted in zip(f(x, w, b), exact, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol)


def test_a_sum_of_products_is_not_rounded_between() -> None:
    # 1 + 2^-12 squared has a last bit that float32 loses where the product is rounded first.
    x = np.float32(1 + 2**-12)
    a = np.full((STRAIGHT_ELEMENTS, 2), x)
    b = np.array([-np.float32(x * x), x], np.float32)
    a[:, 0] = 1.0
    found = adjit.jit(lambda a, b: np.sum(a * b, axis=0))(
        a.T.copy(), b[:, None] * np.ones(STRAIGHT_ELEMENTS, np.float32)
    )
    exact = float(x) * float(x) - float(np.float32(x * x))
    assert exact != 0
    np.testing.assert_array_equal(found, np.float32(exact))


def test_lanes_beyond_the_end_of_a_sum_of_products_do_not_count() -> None:
    # Behind the row, where lanes hold 0, one factor is infinite and the other none.
    x = np.full((ROWS_FROM, 13), 0.5)
    found = adjit.jit(lambda x, w: (np.sum((1 / x) * w, axis=1), np.sum((1 / w) * x, axis=1)))(x, np.ones(13))
    np.testing.assert_array_equal(found[0], 26.0)
    np.testing.assert_array_equal(found[1], 6.5)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("m", "n"), [(5, 2), (3, 40), (40, 3), (17, 17)])
def test_a_value_that_is_the_same_along_a_reduced_axis_is_kept_for_the_next_pass(m: int, n: int, axis: int) -> None:
    size = (m, n)[axis]
    graph = parse(f"""graph @f(%x: f64[{size}], %y: f64[{m},{n}]) -> (f64[{m},{n}]) {{
      %0 = broadcast %x shape=({m},{n}) axes=({axis}) : f64[{m},{n}]
      %1 = tanh %0 : f64[{m},{n}]
      %2 = add %1, %y : f64[{m},{n}]
      %3 = max %2 axes=(0,1) : f64[]
      %4 = broadcast %3 shape=({m},{n}) axes=() : f64[{m},{n}]
      %5 = sub %1, %4 : f64[{m},{n}]
      return %5
    }}""")
    rng = np.random.default_rng(3)
    inputs = [rng.normal(size=size), rng.normal(size=(m, n))]
    (found,) = Ran(graph, inputs).outputs
    np.testing.assert_allclose(found, evaluate(graph, *inputs)[0], rtol=1e-13)  # functions differ from libm's
