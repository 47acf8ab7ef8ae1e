"""Small products with their sizes in the code: the bits of the shared functions, at every edge of what is taken so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjit
from adjit.codegen import products
from adjit.tuned import DIRECT_ROWS, DIRECT_SUMS


def plain(a: Any, b: Any, c: Any) -> Any:
    return a @ b


def with_epilogue(a: Any, b: Any, c: Any) -> Any:
    return np.maximum(a @ b + c, 0.0) - c


def with_sums(a: Any, b: Any, c: Any) -> Any:
    y = a @ b
    return y, np.sum(y * y, axis=1) + np.sum(c, axis=1)


def with_extremes(a: Any, b: Any, c: Any) -> Any:
    y = np.tanh(a @ b) * c
    return y, np.max(y, axis=1) - 2.0 * np.min(np.abs(y), axis=1)


SHAPES = [
    (25, 10, 200, 10),
    (7, 1, 129, 12),
    (9, DIRECT_ROWS, 33, DIRECT_SUMS),
    (3, 13, 257, 3),
    (130, 3, 16, 1),
    (5, 2, 1000, 2),
    (40, 5, 3, 7),
    (4, DIRECT_ROWS + 1, 64, 5),
    (4, 5, 64, DIRECT_SUMS + 1),
    (0, 3, 20, 4),
    (3, 0, 20, 4),
    (3, 3, 0, 4),
    (3, 3, 20, 0),
]
"""Batch, rows, columns, sums."""


@pytest.mark.parametrize("function", [plain, with_epilogue, with_sums, with_extremes])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("batch", "m", "n", "k"), SHAPES)
def test_the_bits_of_the_shared_functions(
    batch: int, m: int, n: int, k: int, dtype: Any, function: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if function is with_extremes and m == 0:
        pytest.skip("no extreme of nothing")
    rng = np.random.default_rng(0)
    a, b, c = (rng.normal(size=shape).astype(dtype) for shape in ((batch, m, k), (batch, k, n), (batch, m, n)))
    if a.size:
        a[0, 0, 0] = np.nan
    found = adjit.jit(function)(a, b, c)
    monkeypatch.setattr(products, "is_direct", lambda work, vector_bytes: False)
    again = adjit.jit(lambda *args: function(*args))(a, b, c)
    tolerance = 2e-5 if dtype == np.float32 else 1e-13
    for x, y, exact in _pairs(found, again, function(a, b, c)):
        assert x.tobytes() == y.tobytes()
        np.testing.assert_allclose(x, exact, rtol=tolerance, atol=tolerance * 10)


def _pairs(*results: Any) -> Any:
    return zip(*(result if isinstance(result, tuple) else (result,) for result in results), strict=True)


def test_operands_of_any_layout() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(6, 30, 9)), rng.normal(size=(30, 6, 70))
    f = adjit.jit(lambda a, b: np.swapaxes(a[:, ::3], 1, 2) @ np.swapaxes(b, 0, 1)[:, 10:20])
    np.testing.assert_allclose(f(a, b), np.swapaxes(a[:, ::3], 1, 2) @ np.swapaxes(b, 0, 1)[:, 10:20], rtol=1e-12)


@pytest.mark.parametrize("function", [with_sums, with_extremes])
def test_reductions_of_columns_ride_along(function: Any) -> None:
    args = [np.ones(shape) for shape in ((25, 10, 10), (25, 10, 200), (25, 10, 200))]
    f = adjit.jit(function)
    f(*args)
    assert "epilogue over (25,10,200) reduced (1)" in str(f.ir("plan"))
    # Read the other way round B has no unit stride along the columns, so that C comes block by block.
    transposed = adjit.jit(lambda a, b, c: function(a, np.swapaxes(b, 1, 2), c))
    transposed(args[0], np.ones((25, 200, 10)), args[2])
    assert "reduced (1)" not in str(transposed.ir("plan")).split("epilogue")[-1].splitlines()[0]
    rng = np.random.default_rng(2)
    args = [rng.normal(size=array.shape) for array in args]
    for x, y in _pairs(transposed(args[0], np.swapaxes(args[1], 1, 2).copy(), args[2]), function(*args)):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12)


def test_it_is_taken() -> None:
    a, b = np.ones((25, 10, 10)), np.ones((25, 10, 200))
    f = adjit.jit(plain)
    f(a, b, a)
    assert "_direct(" in str(f.ir("llvm"))
    wide = adjit.jit(plain)
    wide(np.ones((25, DIRECT_ROWS + 1, 10)), b, a)
    assert "_direct(" not in str(wide.ir("llvm"))
