"""fori_loop: a counter that indexes, bounds, and arrays that are read in parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjit
from adjit.ir.evaluate import evaluate
from tests.control.check import ops, run, same, scan_of, trace_of

X = np.random.default_rng(5).standard_normal((10, 4))


@pytest.mark.parametrize("bounds", [(0, 5), (2, 3), (3, 3), (5, 2), (-4, -1), (-2, 3)])
def test_bounds(bounds: tuple[int, int]) -> None:
    def f(x: Any) -> Any:
        return adjit.fori_loop(*bounds, lambda i, c: (c[0] + x[i], c[1] * 2 + i), (np.zeros(4), 0))

    total, count = same(f, X)
    np.testing.assert_allclose(total, sum((X[i] for i in range(*bounds)), np.zeros(4)), rtol=1e-14)  # order of sums
    assert count.dtype == np.int64


def test_bounds_of_numpy_and_bounds_that_are_known() -> None:
    def f(x: Any) -> Any:
        n = np.arange(4).sum()
        return adjit.fori_loop(np.int64(1), n, lambda i, c: c + x[i], 0.0)

    same(f, X[:, 0])


def test_the_counter_is_a_number_of_python() -> None:
    def body(i: Any, c: Any) -> Any:
        assert isinstance(i, int)
        return c + i * np.float32(0.5) + i % 3 - i // 2 + i**2

    last = same(lambda x: adjit.fori_loop(0, 6, body, np.float32(0)), X)
    assert last.dtype == np.float32
    node = scan_of(lambda x: adjit.fori_loop(0, 6, body, np.float32(0)), X)
    # What Python's integers give is known to fit.
    assert not [op for op in ops(node.attrs["body"]) if op.startswith("check")]


def test_writes_at_the_counter() -> None:
    def f(x: Any) -> Any:
        def body(i: Any, y: Any) -> Any:
            y[i] = x[i] * 2 + y[i - 1]
            y[i, 1:3] += y[i - 1, 1:3]
            y[-1] = y[i]
            return y

        return adjit.fori_loop(1, 9, body, np.zeros((10, 4)))

    same(f, X)
    assert "check_index" not in ops(scan_of(f, X).attrs["body"])


def test_an_index_out_of_range() -> None:
    def reads(x: Any) -> Any:
        return adjit.fori_loop(0, 11, lambda i, c: c + x[i], np.zeros(4))

    def writes(x: Any) -> Any:
        def body(i: Any, c: Any) -> Any:
            c[2 * i] = 1.0
            return c

        return adjit.fori_loop(0, 9, body, x * 2)

    for f, index in ((reads, 10), (writes, 10)):
        with pytest.raises(IndexError, match=f"index {index} is out of bounds for axis 0 with size 10"):
            f(X)
        with pytest.raises(
            adjit.IndexOutOfRange,
            match=rf"test_fori_loop.py:\d+: index {index} is out of bounds for axis 0 with size 10",
        ):
            run(f, X)


def test_cholesky() -> None:
    def cholesky(a: Any) -> Any:
        n = a.shape[0]

        def column(j: Any, factor: Any) -> Any:
            # The pivot first, which the rows below divide by.
            factor[j, j] = np.sqrt(a[j, j] - np.sum(factor[j] * factor[j]))

            def row(i: Any, factor: Any) -> Any:
                dot = np.sum(factor[i] * factor[j]) - factor[i, j] * factor[j, j]
                factor[i, j] = np.where(i > j, (a[i, j] - dot) / factor[j, j], factor[i, j])
                return factor

            return adjit.fori_loop(0, n, row, factor)

        return adjit.fori_loop(0, n, column, np.zeros((n, n)))

    a = X.T @ X + np.eye(4)
    factor = same(cholesky, a)
    np.testing.assert_allclose(factor, np.linalg.cholesky(a), rtol=1e-12, atol=1e-13)  # another order of sums


def test_runge_kutta() -> None:
    def f(y: Any, rate: Any) -> Any:
        def slope(y: Any) -> Any:
            return np.stack([-rate * y[0] * y[1], rate * y[0] * y[1] - 0.1 * y[1], 0.1 * y[1]])

        def step(i: Any, y: Any) -> Any:
            k1 = slope(y)
            k2 = slope(y + 0.05 * k1)
            k3 = slope(y + 0.05 * k2)
            k4 = slope(y + 0.1 * k3)
            return y + 0.1 / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

        return adjit.fori_loop(0, 100, step, y)

    last = same(f, np.array([0.99, 0.01, 0.0]), np.float64(0.5))
    np.testing.assert_allclose(last.sum(), 1.0, rtol=1e-12)  # rounding of 100 steps


def test_the_counter_is_not_written_into_the_program_as_an_array() -> None:
    graph = trace_of(lambda x: adjit.fori_loop(3, 50_003, lambda i, c: c + i, x), np.float64(0)).graph
    assert ops(graph) == ["iota", "add", "scan", "item"]
    graph = trace_of(lambda x: adjit.scan(lambda c, i: (c + i, None), x, np.arange(10, 0, -3))[0], np.int64(0)).graph
    assert ops(graph) == ["iota", "mul", "add", "scan", "item"]


# -- arrays that are read in parts -------------------------------------------------------------------------------------

READS = {
    "element": (lambda x, i: x[i], 0, 10, []),
    "part": (lambda x, i: x[i], 2, 7, ["slice"]),
    "before": (lambda x, i: x[i - 1], 1, 10, ["slice"]),
    "after": (lambda x, i: x[i + 1], 0, 9, ["slice"]),
    "back": (lambda x, i: x[9 - i], 0, 10, ["flip"]),
    "from the end": (lambda x, i: x[-1 - i], 0, 10, ["flip"]),
    "from the end on": (lambda x, i: x[i - 10], 0, 10, []),
    "negative": (lambda x, i: x[-i], 1, 4, ["slice", "flip"]),
    "every other": (lambda x, i: x[2 * i + 1], 0, 5, ["slice"]),
    "column": (lambda x, i: x[:, i], 0, 4, ["transpose"]),
    "some columns": (lambda x, i: x[:, i * 2], 0, 2, ["slice", "transpose"]),
    "element of a row": (lambda x, i: x[i, 2], 0, 10, ["slice", "reshape"]),
    "diagonal": (lambda x, i: x[i, i], 0, 4, ["reshape", "slice"]),
    "of a transpose": (lambda x, i: x.T[i], 0, 4, ["transpose"]),
    "of a reshape": (lambda x, i: x.reshape(5, 8)[i], 0, 5, ["reshape"]),
    "once": (lambda x, i: x[i], 3, 4, ["slice"]),
    "new axis": (lambda x, i: x[None, i], 0, 10, []),
    "as int32": (lambda x, i: x[np.int32(1) + i], 0, 9, ["slice"]),
}


@pytest.mark.parametrize("name", READS)
def test_reads_at_the_counter_are_parts(name: str) -> None:
    read, lower, upper, expected = READS[name]

    def f(x: Any) -> Any:
        return adjit.fori_loop(lower, upper, lambda i, c: c * 0.5 + read(x, i), read(x, lower) * 0.0)

    def g(x: Any) -> Any:
        return adjit.scan(lambda c, i: (c * 0.5 + read(x, i), None), read(x, lower) * 0.0, np.arange(lower, upper))[0]

    for function in (f, g) if name not in ("as int32",) else (f,):
        same(function, X)
        node = scan_of(function, X)
        assert node.attrs["sliced"] == 1
        assert not {"take", "check_index", "check_holds"} & set(ops(node.attrs["body"]))
        made, at = [], node.args[1]
        while at.args:
            made.append(at.op.name)
            (at,) = at.args
        assert made[::-1] == expected


KEPT = {
    "of what is carried": lambda x, i, c: c[i],
    "of what a turn makes": lambda x, i, c: (x * c[0])[i],
    "by other steps": lambda x, i, c: x[i * i % 3],
    "from both ends": lambda x, i, c: x[i - 2],
    "out of range": lambda x, i, c: x[(i + 8) % 10],
    "by a value": lambda x, i, c: x[c[0, 0].astype(int)],
    "always the same": lambda x, i, c: x[i - i + 1],
}


@pytest.mark.parametrize("name", KEPT)
def test_other_reads_stay(name: str) -> None:
    read = KEPT[name]

    def f(x: Any) -> Any:
        return adjit.fori_loop(0, 4, lambda i, c: c * 0.5 + read(x, i, c), x)

    same(f, np.abs(X))
    body = scan_of(f, X).attrs["body"]
    assert "take" in ops(body)


def test_one_part_for_reads_of_one_place() -> None:
    def f(x: Any) -> Any:
        return adjit.fori_loop(0, 10, lambda i, c: c + x[i] * x[i] + x[i, 0] + x[9 - i] * x[9 - i], np.zeros(4))

    same(f, X)
    assert scan_of(f, X).attrs["sliced"] == 3


def test_an_array_that_is_read_in_parts_and_as_a_whole_is_both() -> None:
    def f(x: Any) -> Any:
        return adjit.fori_loop(0, 10, lambda i, c: c + x[i] * x.sum(), np.zeros(4))

    same(f, X)
    node = scan_of(f, X)
    assert [arg.op.name for arg in node.args[1:]] == ["input", "input"]


def test_large_constants_are_read_in_parts() -> None:
    def f(x: Any) -> Any:
        table = adjit.asarray(X)
        return adjit.fori_loop(0, 10, lambda i, c: c + table[i], x)

    same(f, np.zeros(4))
    assert "take" not in ops(scan_of(f, np.zeros(4)).attrs["body"])


def test_in_an_inner_loop_a_row_of_the_outer_one() -> None:
    def f(x: Any) -> Any:
        def row(j: Any, c: Any) -> Any:
            return adjit.fori_loop(0, 4, lambda i, c: c + x[j][i] * i, c)

        return adjit.fori_loop(0, 10, row, 0.0)

    same(f, X)
    body = scan_of(f, X).attrs["body"]
    (inner,) = [node for node in body.nodes if node.op.name == "scan"]
    assert "take" not in ops(body) + ops(inner.attrs["body"])


def test_checks_of_no_turn_are_not_made() -> None:
    graph = trace_of(lambda x: adjit.fori_loop(20, 20, lambda i, c: c + x[i], np.zeros(4)), X).graph
    assert evaluate(graph, X)[0].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("bounds", [(0, 5), (2, 3), (3, 3), (5, 2), (-4, -1), (-2, 3)])
@pytest.mark.parametrize("dtype", [int, np.int64, np.int32])
def test_traced_bounds(bounds: tuple[int, int], dtype: Any) -> None:
    def body(x: Any) -> Any:
        return lambda i, c: (c[0] + x[i], c[1] * 2 + i)

    lower, upper = map(dtype, bounds)
    start = (np.zeros(4), 0)
    expected = same(lambda n, m, x: adjit.fori_loop(n, m, body(x), start), lower, upper, X)
    for found in (
        same(lambda m, x: adjit.fori_loop(bounds[0], m, body(x), start), upper, X),
        same(lambda n, x: adjit.fori_loop(n, bounds[1], body(x), start), lower, X),
        same(lambda m, x: adjit.fori_loop(bounds[0], m, body(x), start, max_steps=7), upper, X),
        adjit.fori_loop(*bounds, body(X), start),
    ):
        np.testing.assert_array_equal(found[0], expected[0])
        assert found[1] == expected[1]


def test_a_counter_of_traced_bounds_is_a_number_of_python() -> None:
    def f(n: Any, x: Any) -> Any:
        def body(i: Any, c: Any) -> Any:
            assert isinstance(i, int)
            return c + i * np.float32(0.5) + i % 3 - (i + 1) // 2

        return adjit.fori_loop(0, n, body, np.float32(0))

    assert same(f, np.int64(6), X).dtype == np.float32
    # i + 1 is within the bounds of an integer.
    assert not [op for op in ops(scan_of(f, np.int64(6), X).attrs["body"]) if op.startswith("check")]


def test_indices_beyond_an_array_are_errors_with_traced_bounds() -> None:
    def f(n: Any, x: Any) -> Any:
        return adjit.fori_loop(0, n, lambda i, c: c + x[i], 0.0)

    x = X[:, 0].copy()
    for most in (None, 10, 100):

        def g(n: Any, x: Any, most: Any = most) -> Any:
            return adjit.fori_loop(0, n, lambda i, c: c + x[i], 0.0, max_steps=most)

        assert same(g, np.int64(10), x) == pytest.approx(x.sum())
    with pytest.raises(adjit.IndexOutOfRange, match="index 10 is out of bounds for axis 0 with size 10"):
        run(f, np.int64(11), x)


@pytest.mark.parametrize("traced", [False, True])
def test_more_turns_than_max_steps(traced: bool) -> None:
    def f(n: Any) -> Any:
        return adjit.fori_loop(0, n, lambda i, c: c + i, 0, max_steps=4)

    assert same(f, np.int64(4)) == 6
    with pytest.raises(adjit.ArgumentError, match="fori_loop: more turns from lower to upper than max_steps, 4"):
        run(f, np.int64(5)) if traced else f(np.int64(5))
    with pytest.raises(adjit.ArgumentError, match="fori_loop: more turns from lower to upper than max_steps, 4: 5"):
        trace_of(lambda x: adjit.fori_loop(1, 6, lambda i, c: c + x, 0, max_steps=4), np.int64(5))


def test_bounds_whose_difference_wraps() -> None:
    low, high = -(2**63), 2**63 - 1

    def f(n: Any, m: Any) -> Any:
        table = adjit.asarray(np.arange(4))
        return adjit.fori_loop(n, m, lambda i, c: (c[0] + 1, table[c[0]]), (0, np.int64(0)))

    with pytest.raises(adjit.IndexOutOfRange, match="index 4 is out of bounds"):
        run(f, low, high)
    assert run(f, high, low) == (0, 0)


def test_a_triangle_reads_in_parts() -> None:
    """The counter of the loop around bounds the turns, so that the inner one reads no index."""

    def f(x: Any) -> Any:
        return adjit.fori_loop(
            0, 10, lambda i, c: adjit.fori_loop(0, i, lambda j, c: c * 0.5 + x[j] * i, c), np.zeros(4)
        )

    same(f, X)
    (inner,) = [node for node in scan_of(f, X).attrs["body"].nodes if node.op.name == "scan"]
    assert (inner.attrs["length"], inner.attrs["counted"], inner.attrs["sliced"]) == (9, True, 1)
    assert ops(inner.attrs["body"]) == ["mul", "cast", "broadcast", "mul", "add"]


def test_gradients_with_traced_bounds() -> None:
    def f(x: Any, n: Any) -> Any:
        return adjit.fori_loop(0, n, lambda i, c: c * x[i] + x[i] ** 2, np.ones(4), max_steps=10).sum()

    def differences(n: int) -> np.ndarray:
        found = np.zeros_like(X)
        for at in np.ndindex(*X.shape):
            step = np.zeros_like(X)
            step[at] = 1e-6
            found[at] = (f(X + step, n) - f(X - step, n)) / 2e-6
        return found

    for n in (0, 3, 10):
        np.testing.assert_allclose(adjit.grad(f)(X, n), differences(n), rtol=1e-5, atol=1e-7)  # central differences
    unbounded = adjit.grad(lambda x, n: adjit.fori_loop(0, n, lambda i, c: c * x[i] + x[i] ** 2, np.ones(4)).sum())
    np.testing.assert_array_equal(unbounded(X, 3), adjit.grad(f)(X, 3))


@pytest.mark.parametrize("traced", [False, True])
def test_bounds_that_are_no_integers(traced: bool) -> None:
    for f, message in (
        (lambda x: adjit.fori_loop(0, x[0, 0], lambda i, c: c, 0), "fori_loop: upper is an integer, not "),
        (lambda x: adjit.fori_loop(x[0, 0] > 0, 3, lambda i, c: c, 0), "fori_loop: lower is an integer, not "),
        (lambda x: adjit.fori_loop(0, x.astype(int), lambda i, c: c, 0), "fori_loop: upper is an integer, not "),
        (lambda x: adjit.fori_loop(0, 3, lambda i, c: c, 0, max_steps=-1), "fori_loop: max_steps is an integer >= 0"),
    ):
        with pytest.raises(adjit.ArgumentError, match=message):
            trace_of(f, X) if traced else f(X)
