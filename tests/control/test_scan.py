"""scan: what it gives, of any trees and dtypes, traced as in plain Python; and what becomes its operands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

import adjit
from tests.control.check import ops, run, same, scan_of, scans, trace_of

RNG = np.random.default_rng(3)
X = RNG.standard_normal((5, 3))
W = RNG.standard_normal((3, 3)) / 2


def test_a_recursion() -> None:
    def f(h: Any, x: Any, w: Any) -> Any:
        def cell(h: Any, x: Any) -> Any:
            h = np.tanh(h @ w + x)
            return h, h.sum()

        return adjit.scan(cell, h, x)

    last, sums = same(f, np.zeros(3), X, W)
    assert (last.shape, sums.shape) == ((3,), (5,))
    node = scan_of(f, np.zeros(3), X, W)
    assert [str(arg.type) for arg in node.args] == ["f64[3]", "f64[5,3]", "f64[3,3]"]
    assert {key: node.attrs[key] for key in ("length", "carried", "sliced", "reverse")} == {
        "length": 5, "carried": 1, "sliced": 1, "reverse": False,
    }  # fmt: skip
    assert node.attrs["body"].name == "cell"


class Moments(NamedTuple):
    m: Any
    v: Any


@dataclass
class State:
    h: Any
    moments: Moments


def test_trees_of_all_kinds() -> None:
    def f(x: Any, w: Any) -> Any:
        def turn(carry: Any, x: Any) -> Any:
            state, (count, nothing) = carry["state"], carry["rest"]
            a, b = x["a"], x["b"][0]
            h = state.h + a * b
            new = State(h, Moments(state.moments.m * 0.5 + h, state.moments.v + h * h))
            return {"state": new, "rest": [count + 1, nothing]}, (None, {"h": h, "twice": [h * 2, a]})

        init = {"state": State(np.zeros(3), Moments(np.ones(3), w)), "rest": [0, None]}
        last, ys = adjit.scan(turn, init, {"a": x, "b": (x[:, 0],)})
        assert isinstance(last["state"], State)
        assert isinstance(last["state"].moments, Moments)
        return last["state"].h, last["state"].moments.v, last["rest"][0], ys

    count = same(f, X, W[0])[2]
    assert count == 5


@pytest.mark.parametrize("length", [0, 1, 2, 7])
@pytest.mark.parametrize("reverse", [False, True])
def test_lengths_and_directions(length: int, reverse: bool) -> None:
    x = np.arange(1.0, length + 1)

    def f(x: Any, start: Any) -> Any:
        return adjit.scan(lambda c, x: (c * 2 + x, (c, x * 10)), start, x, reverse=reverse)

    last, (before, tens) = same(f, x, np.float64(3))
    np.testing.assert_array_equal(tens, x * 10)
    c, expected = 3.0, np.zeros(length)
    for i in reversed(range(length)) if reverse else range(length):
        expected[i] = c
        c = c * 2 + x[i]
    assert last == c
    np.testing.assert_array_equal(before, expected)


def test_a_length_alone_and_nothing_stacked() -> None:
    def f(x: Any) -> Any:
        last, ys = adjit.scan(lambda c, x: (c * x if x is not None else c * 2, None), x, None, 4)
        assert ys is None
        return last

    assert same(f, np.float64(3)) == 48
    assert same(lambda x: adjit.scan(lambda c, _: (c + 1, None), x, length=0)[0], X) is not X


def test_nothing_at_all() -> None:
    last, ys = run(lambda x: adjit.scan(lambda c, _: (None, None), None, x), X)
    assert (last, ys) == (None, None)
    assert adjit.scan(lambda c, _: (None, None), None, X) == (None, None)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float32", "float64"])
def test_dtypes(dtype: str) -> None:
    x = (RNG.integers(0, 2 if dtype == "bool" else 50, (4, 2))).astype(dtype)

    def f(init: Any, x: Any) -> Any:
        def turn(c: Any, x: Any) -> Any:
            new = np.maximum(c, x)
            return new, (x, new == x)

        return adjit.scan(turn, init, x)

    same(f, x[0], x)
    same(f, x[0, 0], x[:, 0])


def test_what_is_a_scalar_and_what_an_array() -> None:
    """Elements of an array of one axis are NumPy's scalars; a carry is an array where init is one."""
    kinds: list[Any] = []

    def turn(carry: Any, x: Any) -> Any:
        array, scalar, number = carry
        kinds.append([isinstance(v, np.ndarray) for v in (array, scalar, number, x)] + [isinstance(number, float)])
        return (array + x, scalar + x, number + 1.0), x

    def f(x: Any) -> Any:
        return adjit.scan(turn, (np.array(1.0), np.float64(1.0), 1.0), x)

    (array, scalar, number), _ = f(X[:, 0])
    assert type(array) is np.ndarray
    assert type(scalar) is np.float64
    assert type(number) is float
    same(f, X[:, 0])
    assert all(kind == [True, False, False, False, True] for kind in kinds)


# -- types of Python's numbers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 0.0, False, True, 1, 0.1])
@pytest.mark.parametrize("dtype", ["bool", "int32", "int64", "float32", "float64"])
@pytest.mark.filterwarnings("ignore::adjit.WideningWarning")
def test_a_number_of_python_takes_the_type_of_the_body(start: Any, dtype: str) -> None:
    x = np.array([1, 0, 1], dtype)

    def f(x: Any) -> Any:
        return adjit.scan(lambda c, x: (c + x, c), start, x)

    last, before = same(f, x)
    expected = np.add(start, x[0]).dtype
    assert (last.dtype, before.dtype) == (expected, expected)
    assert before[0] == np.asarray(start, expected)


def test_numbers_of_python_alone_stay_so() -> None:
    def f(x: Any) -> Any:
        (a, b, c), ys = adjit.scan(lambda c, x: ((c[0] + 1, c[1] * 0.5, c[2]), c[0]), (0, 1, True), x)
        return x.astype(np.float32) * a + b, c, ys

    result = same(f, X)
    assert result[0].dtype == np.float32


def test_numbers_that_move_from_carry_to_carry() -> None:
    """The type of the last is known only when that of all others is."""

    def f(x: Any) -> Any:
        return adjit.scan(lambda c, x: ((x, *c[:-1]), c[-1]), (0, 0.0, 0, False, 0), x)

    (*last,), ys = same(f, X[:, 0].astype(np.float32))
    assert {v.dtype for v in last} == {np.dtype(np.float32)}
    assert ys.dtype == np.float32


def test_numbers_in_the_result_take_the_type_of_the_carry() -> None:
    same(lambda x: adjit.scan(lambda c, x: ((0, 1.0), (2, 0.5, True)), (np.float32(1), np.float64(1)), x), X)


# -- what comes from outside ------------------------------------------------------------------------------------------


def test_what_a_body_closes_over() -> None:
    small, large, offset = np.arange(3.0), RNG.standard_normal((3, 30)), 2.0
    inner = adjit.jit(lambda h: h * 3 + small)

    def helper(h: Any, w: Any) -> Any:
        return np.tanh(h @ w) @ large

    def f(x: Any, w: Any) -> Any:
        product, known = x[0] * 2, np.arange(40.0).reshape(2, 20)

        def turn(h: Any, x: Any) -> Any:
            h = helper(h, w)[:3] + inner(x) + product + offset + known[1, :3]
            return h, h[0]

        return adjit.scan(turn, np.zeros(3), x)

    same(f, X, W)
    node = scan_of(f, X, W)
    body = node.attrs["body"]
    # The traced ones, and the large array; the small ones stay.
    assert sorted(str(arg.type) for arg in node.args[2:]) == ["f64[3,30]", "f64[3,3]", "f64[3]"]
    assert all(n.array_type.size <= 16 for n in body.nodes if n.op.name == "constant" and not n.is_splat)


def test_an_array_that_two_loops_read_is_one_array() -> None:
    large = RNG.standard_normal((3, 30))

    def f(x: Any) -> Any:
        def turn(h: Any, x: Any) -> Any:
            return (h @ large @ large.T) / 100, None

        return adjit.scan(turn, x[0], x)[0] + adjit.scan(turn, x[1], x)[0]

    same(f, X)
    graph = trace_of(f, X).graph
    first, second = scans(graph)
    assert first.args[2].attrs["data"].digest == second.args[2].attrs["data"].digest


def test_what_is_not_read_is_no_operand() -> None:
    def f(x: Any, w: Any) -> Any:
        return adjit.scan(lambda c, x: (c + x["a"], None), x[0], {"a": x, "b": x * w[0]})

    node = scan_of(f, X, W)
    assert (len(node.args), node.attrs["sliced"]) == (2, 1)
    same(f, X, W)


def test_loops_in_loops() -> None:
    def f(x: Any, w: Any) -> Any:
        def outer(h: Any, row: Any) -> Any:
            def inner(c: Any, v: Any) -> Any:
                return c * 0.5 + h.sum() * v + w[0, 0] + row[0], c

            last, ys = adjit.scan(inner, row[0], row)
            return h + last, (ys, w[1] * last)

        return adjit.scan(outer, np.zeros(3), x)

    same(f, X, W)
    (inner,) = scans(scan_of(f, X, W).attrs["body"])
    assert inner.attrs["length"] == 3


def test_a_gradient_inside_of_a_body() -> None:
    def f(x: Any, p: Any) -> Any:
        def loss(p: Any, x: Any) -> Any:
            return np.sum((p * x - x.sum() - p[0]) ** 2)

        def turn(p: Any, x: Any) -> Any:
            value, gradient = adjit.value_and_grad(loss)(p, x)
            return p - 0.01 * gradient, value

        return adjit.scan(turn, p, x)

    p, values = run(f, X, np.ones(3))
    expected = np.ones(3)
    for x, value in zip(X, values, strict=True):
        r = expected * x - x.sum() - expected[0]
        np.testing.assert_allclose(value, r @ r, rtol=1e-12)  # another order of sums
        gradient = 2 * r * x
        gradient[0] -= 2 * r.sum()
        expected = expected - 0.01 * gradient
    np.testing.assert_allclose(p, expected, rtol=1e-12)  # another order of sums


def test_a_loop_inside_of_an_inner_trace() -> None:
    """What the body closes over may be of any enclosing trace."""

    def f(x: Any, w: Any) -> Any:
        def middle(row: Any) -> Any:
            return adjit.scan(lambda c, v: (c + v * w[0] + row, None), w[1], x)[0]

        return adjit.scan(lambda c, row: (c + middle(row), None), w[2], x)[0]

    same(f, X, W)


def test_keys_of_random_numbers() -> None:
    def f(key: Any, x: Any) -> Any:
        def turn(c: Any, i: Any) -> Any:
            noise = adjit.random.uniform(adjit.random.fold_in(key, i), 3, dtype=np.float64)
            return c + noise, noise

        return adjit.scan(turn, x[0], np.arange(4))

    _, noise = same(f, adjit.random.key(3), X)
    assert len(np.unique(noise)) == 12


# -- in-place code ----------------------------------------------------------------------------------------------------


def test_a_carried_array_may_be_written() -> None:
    def turn(carry: Any, x: Any) -> Any:
        h, total = carry
        old = h
        h[0] = x[1]
        h[1:] += h[:-1]
        view = h[1:]
        view *= 0.5
        total += old.sum()
        return (h, total), h

    def f(h: Any, x: Any) -> Any:
        last, ys = adjit.scan(turn, (h, np.zeros(2)), x)
        return last, ys

    same(f, np.ones(3), X)


def test_a_row_that_was_stacked_is_not_written_by_a_later_turn() -> None:
    def turn(h: Any, x: Any) -> Any:
        h += x
        return h, h

    _, ys = same(lambda x: adjit.scan(turn, np.zeros(3), x), X)
    np.testing.assert_allclose(ys, np.cumsum(X, 0), rtol=1e-14)  # another order of sums


def test_init_stays_as_it_is() -> None:
    init = {"a": np.ones(3), "b": np.array(2.0)}

    def turn(carry: Any, x: Any) -> Any:
        carry["a"] += x
        carry["b"][...] = x[0]
        return carry, None

    last, _ = adjit.scan(turn, init, X)
    assert init["a"].tolist() == [1, 1, 1]
    assert init["b"] == 2
    assert last["b"] == X[-1, 0]
    same(lambda x: adjit.scan(turn, {"a": np.ones(3), "b": np.array(2.0)}, x), X)


def test_one_array_that_is_carried_twice_is_two() -> None:
    def turn(carry: Any, x: Any) -> Any:
        a, b = carry
        a += x
        return (a, a), b

    same(lambda x: adjit.scan(turn, (np.zeros(3),) * 2, x), X)


def test_the_results_may_be_written() -> None:
    def f(x: Any) -> Any:
        last, ys = adjit.scan(lambda c, x: (c + x, x), np.zeros(3), x)
        last[0] = 7
        ys.reshape(-1)[2:4] = 1
        return last, ys

    same(f, X)


def test_an_array_from_outside_is_not_written() -> None:
    def plainly(x: Any) -> Any:
        seen = np.zeros(3)

        def turn(c: Any, x: Any) -> Any:
            seen[0] += 1
            return c + seen[0], None

        return adjit.scan(turn, 0.0, x)

    def traced(x: Any) -> Any:
        seen = x[0] * 2

        def turn(c: Any, x: Any) -> Any:
            np.add(seen, x, out=seen)
            return c, None

        return adjit.scan(turn, 0.0, x)

    def sorted_in_place(x: Any) -> Any:
        seen = np.arange(3.0)

        def turn(c: Any, x: Any) -> Any:
            seen.partition(1)
            return c, None

        return adjit.scan(turn, 0.0, x)

    for f in (plainly, traced, sorted_in_place):
        with pytest.raises(adjit.TraceError, match=r"outside of the loop would be changed in place.*carry the array"):
            trace_of(f, X)


def test_an_array_of_the_body_may_be_written() -> None:
    def turn(c: Any, x: Any) -> Any:
        known = np.zeros(3)
        known[1] += 2
        known[0] = x[0]
        return c + known, known

    same(lambda x: adjit.scan(turn, np.zeros(3), x), X)


def test_an_element_is_not_written() -> None:
    def turn(c: Any, x: Any) -> Any:
        x += 1
        return c, x

    with pytest.raises(adjit.TraceError, match=r"the argument `x` would be changed in place.*x = x\.copy\(\)"):
        trace_of(lambda x: adjit.scan(turn, 0.0, x), X)
    before = X.copy()
    with pytest.raises(ValueError, match="read-only"):
        adjit.scan(turn, 0.0, X)
    np.testing.assert_array_equal(X, before)


# -- the trace --------------------------------------------------------------------------------------------------------


def test_the_body_is_traced_once() -> None:
    calls: list[Any] = []

    def turn(c: Any, x: Any) -> Any:
        calls.append(c)
        return c + x, None

    trace_of(lambda x: adjit.scan(turn, np.zeros(3), x), X)
    assert len(calls) == 1
    # And anew for another type of a number.
    trace_of(lambda x: adjit.scan(turn, 0.0, x[:, 0]), X)
    assert len(calls) == 3


def test_the_graph_does_not_grow_with_the_turns() -> None:
    def f(x: Any) -> Any:
        return adjit.scan(lambda c, x: (np.tanh(c) + x, c), x[0], x)

    short, long = (trace_of(f, np.ones((n, 3))).graph for n in (10, 100_000))
    assert ops(short) == ops(long)


def test_lines_of_the_body_stand_in_the_graph() -> None:
    node = scan_of(lambda x: adjit.scan(lambda c, x: (c + x, None), x[0], x), X)
    assert node.loc is not None
    assert all(n.loc is not None and n.loc.file == __file__ for n in (node, *node.attrs["body"].nodes))


@pytest.mark.parametrize("start", [0, np.int64(0)])
def test_known_arrays_of_the_function_are_read_at_what_is_carried(start: Any) -> None:
    """What is read of them in the body is a value of the body, whose array lies outside."""

    def f(x: Any) -> Any:
        table = np.array([3, 1, 2, 7])
        row = np.arange(8).reshape(4, 2)
        return adjit.scan(lambda c, i: (c + 1, (table[c], row[c, 1], row[c])), start, x)

    last, (found, second, rows) = run(f, np.ones(4))
    assert last == 4
    assert found.tolist() == [3, 1, 2, 7]
    assert second.tolist() == [1, 3, 5, 7]
    assert rows.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
