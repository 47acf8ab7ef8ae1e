"""Outside of a trace a loop is Python's, over NumPy arrays: what a debugger steps through."""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import Any

import numpy as np

import adjit
from tests.control.check import same

X = np.random.default_rng(9).standard_normal((4, 3))


def test_a_body_sees_arrays_and_numbers() -> None:
    seen: list[Any] = []

    def body(c: Any, x: Any) -> Any:
        seen.append((type(c), type(x), sys.gettrace() is not None))
        return c + float(x.sum()), x

    total, ys = adjit.scan(body, 0.0, X)
    assert [(c, x) for c, x, _ in seen] == [(float, np.ndarray)] * 4
    assert type(total) is float
    assert ys.flags.c_contiguous
    np.testing.assert_array_equal(ys, X)


def test_a_turn_is_run_once_where_types_stay() -> None:
    turns: list[int] = []
    adjit.fori_loop(0, 5, lambda i, c: (turns.append(i), c)[1], np.zeros(2))
    assert turns == [0, 1, 2, 3, 4]


def test_what_a_trace_cannot_do_works() -> None:
    def body(c: Any, x: Any) -> Any:
        if x.sum() > 0:
            c = c + float(np.linalg.norm(x))
        return c, np.sort(x)

    total, ys = adjit.scan(body, np.float64(0), X)
    np.testing.assert_array_equal(ys, np.sort(X, axis=1))
    assert total == sum(float(np.linalg.norm(x)) for x in X if x.sum() > 0)


def test_complex_numbers_and_other_dtypes() -> None:
    last, ys = adjit.scan(lambda c, x: (c * x, c), 1 + 0j, X[:, 0] * 1j)
    np.testing.assert_allclose(last, np.prod(X[:, 0] * 1j), rtol=1e-14)  # another order
    assert ys.dtype == np.complex128
    half = adjit.scan(lambda c, x: (c + x, c), np.float16(0), X[:, 0].astype(np.float16))
    assert (half[0].dtype, half[1].dtype) == (np.float16, np.float16)


def test_layouts_of_memory() -> None:
    """The order of axes in memory is C's, as for results of compiled functions."""
    last, ys = adjit.scan(lambda c, x: (c.T.copy().T, x), np.asfortranarray(np.eye(3)), np.asfortranarray(X)[::-1])
    assert last.flags.c_contiguous
    np.testing.assert_array_equal(ys, X[::-1])
    big = X.astype(">f8")
    last, ys = adjit.scan(lambda c, x: (c + x, x), big[0], big)
    np.testing.assert_array_equal(ys, X)


def test_ordered_dicts() -> None:
    def f(x: Any) -> Any:
        def body(c: Any, x: Any) -> Any:
            return OrderedDict([("b", c["b"] + x), ("a", c["a"] * 2)]), None

        return adjit.scan(body, OrderedDict([("b", x[0]), ("a", x[1])]), x)[0]

    assert list(same(f, X)) == ["b", "a"]


def test_a_compiled_function_in_a_plain_loop() -> None:
    f = adjit.jit(lambda c, x: np.tanh(c + x))
    last, _ = adjit.scan(lambda c, x: (f(c, x), None), np.zeros(3), X)
    expected = np.zeros(3)
    for x in X:
        expected = np.tanh(expected + x)
    np.testing.assert_allclose(last, expected, rtol=1e-14)  # our tanh


def test_no_turns_stack_what_a_trace_says() -> None:
    last, ys = adjit.scan(lambda c, x: (c + x[0], (x[0], {"n": 1}, None)), 0, X[:0].astype(np.float32))
    assert last == 0
    assert (ys[0].shape, ys[0].dtype, ys[1]["n"].dtype) == ((0,), np.float32, np.int64)
    table = np.arange(3.0)
    assert adjit.fori_loop(3, 3, lambda i, c: c + table[i], np.float64(2)) == 2
