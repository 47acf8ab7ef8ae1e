"""cond and switch: the side that is chosen runs, and no other one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit.passes.pipeline import optimize
from tests.control.check import ops, run, same, scans, trace_of

X = np.array([1.0, 2.0, 3.0])


@pytest.mark.parametrize("limit", [0.0, 10.0])
def test_either_side(limit: float) -> None:
    def f(x: Any, limit: Any) -> Any:
        return adjit.cond(x.sum() > limit, lambda x, y: x * y, lambda x, y: x - y, x, limit)

    same(f, X, limit)


def test_each_side_is_a_loop_of_one_turn_or_none() -> None:
    graph = trace_of(lambda x: adjit.cond(x[0] > 0, np.sin, np.exp, x), X).graph
    first, second = scans(graph)
    for node, op in ((first, "sin"), (second, "exp")):
        assert (node.attrs["length"], node.attrs["counted"], node.attrs["carried"]) == (1, True, 1)
        assert [inner.op.name for inner in node.attrs["body"].nodes] == [op]


def test_what_a_side_computes_stays_in_it() -> None:
    """Whatever is the same in each turn: there is one turn or none."""

    def f(x: Any) -> Any:
        return adjit.cond(x[0] > 0, lambda: np.sin(x), lambda: np.exp(x))

    graph = optimize(trace_of(f, np.ones(10_000)).graph)
    assert not {"sin", "exp"} & set(ops(graph))
    assert [ops(node.attrs["body"]) for node in scans(graph)] == [["sin"], ["exp"]]
    same(f, np.linspace(-1, 1, 10_000))


def test_cheap_sides_are_computed_and_selected() -> None:
    def f(x: Any, p: Any) -> Any:
        def body(c: Any, x: Any) -> Any:
            c = adjit.cond(p, lambda: c + x, lambda: c - x)
            return adjit.switch((c > 1).astype(int), [lambda: c * 2, lambda: c / 2, lambda: c]), c

        return adjit.scan(body, 0.5, x)

    graph = optimize(trace_of(f, X, True).graph)
    (loop,) = scans(graph)
    assert not scans(loop.attrs["body"])
    # The two sides of cond are one select, those of switch one for each that changes what it gives back.
    assert ops(loop.attrs["body"]).count("select") == 3
    for p in (True, False):
        same(f, X, p)


@pytest.mark.parametrize("positive", [False, True])
def test_trees_closures_and_numbers_of_python(positive: bool) -> None:
    table = np.arange(40.0)

    def f(x: Any, positive: Any) -> Any:
        def one() -> Any:
            return {"a": x * 2, "b": (1.5, None), "n": 1}

        def two() -> Any:
            return {"a": adjit.asarray(table)[3:6], "b": (np.float32(2), None), "n": 2.5}

        return adjit.cond(positive, one, two)

    found = run(f, X, positive)
    np.testing.assert_array_equal(found["a"], X * 2 if positive else table[3:6])
    # Python's numbers take the dtype of the other side, and the wider one of two.
    assert found["b"] == (np.float32(1.5 if positive else 2), None)
    assert found["b"][0].dtype == np.float32
    assert found["n"] == (1.0 if positive else 2.5)


def test_a_choice_that_is_known_traces_one_side() -> None:
    def never() -> Any:
        raise AssertionError

    def f(x: Any) -> Any:
        first = adjit.cond(x.shape == (3,), lambda x: x * 2, lambda x: never(), x)
        second = adjit.cond(np.arange(3).sum() > 3, never, lambda: x)
        return first, second, adjit.switch(np.int64(1), [never, lambda: x[0]])

    same(f, X)
    assert not scans(trace_of(f, X).graph)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("positive", [False, True])
def test_writes_into_operands_are_into_copies(known: bool, positive: bool) -> None:
    def f(x: Any, positive: Any) -> Any:
        def one(y: Any) -> Any:
            y[0] = 10
            return y

        def two(y: Any) -> Any:
            y += 1
            return y * 2

        return adjit.cond(True if known else positive, one, two, x), x.copy()

    same(f, X, positive)


@pytest.mark.parametrize("known", [False, True])
def test_what_is_given_back_is_an_array_of_its_own(known: bool) -> None:
    def f(x: Any) -> Any:
        y = x * 2
        z = adjit.cond(True if known else x[0] > 0, lambda: y, lambda: y + 1)
        z[0] = 50
        return y, z

    same(f, X)


def test_nothing_of_the_other_side_fails() -> None:
    def f(x: Any, i: Any) -> Any:
        return adjit.cond(i < 3, lambda: x[i], lambda: x[i - 3])

    for i in range(6):
        assert same(f, X, np.int64(i)) == X[i % 3]
    with pytest.raises(adjit.IndexOutOfRange, match="index 3 is out of bounds for axis 0 with size 3"):
        run(f, X, np.int64(6))

    def g(n: Any, d: Any) -> Any:
        return adjit.cond(d != 0, lambda: n // d, lambda: n)

    assert same(g, 7, 2) == 3
    assert same(g, 7, 0) == 7


def test_sides_in_sides_and_in_loops() -> None:
    def sign(x: Any) -> Any:
        return adjit.cond(x > 0, lambda: 1.0, lambda: adjit.cond(x < 0, lambda: -1.0, lambda: 0.0))

    assert same(lambda xs: adjit.map(sign, xs), np.array([3.0, -2.0, 0.0, -0.0])).tolist() == [1.0, -1.0, 0.0, 0.0]

    def f(x: Any, n: Any) -> Any:
        def body(i: Any, total: Any) -> Any:
            return adjit.cond(
                i % 2 == 0,
                lambda total: adjit.fori_loop(0, i, lambda j, c: c + x[j % 3], total),
                lambda total: adjit.while_loop(lambda c: c < 10, lambda c: c * 2 + 1, total),
                total,
            )

        return adjit.fori_loop(0, n, body, 0.0)

    for n in (0, 1, 2, 5):
        same(f, X, np.int64(n))


@pytest.mark.parametrize("index", [0, 1, 2])
def test_switch(index: int) -> None:
    def f(i: Any, x: Any) -> Any:
        return adjit.switch(i, [np.sin, lambda x: np.maximum(x, 2.0), np.positive], x)

    for i in (index, np.int64(index), np.int32(index), np.uint8(index)):
        same(f, i, X)


def test_an_index_without_a_branch() -> None:
    def f(i: Any, x: Any) -> Any:
        return adjit.switch(i, [np.sin, np.cos], x)

    for i in (-1, 2, 7):
        for call in (f, run):
            arguments = (i, X) if call is f else (f, i, X)
            with pytest.raises(IndexError, match="switch: index is not one of 0 to 1, the numbers of the branches"):
                call(*arguments)


@pytest.mark.parametrize("chosen", [False, True])
def test_gradients_are_those_of_the_side_that_runs(chosen: bool) -> None:
    def f(x: Any, chosen: Any) -> Any:
        return adjit.cond(chosen, lambda x: np.sin(x) * x, lambda x: x**3, x).sum()

    expected = np.cos(X) * X + np.sin(X) if chosen else 3 * X**2
    np.testing.assert_allclose(adjit.grad(f)(X, chosen), expected, rtol=1e-12)
    second = 2 * np.cos(X) - X * np.sin(X) if chosen else 6 * X
    np.testing.assert_allclose(adjit.grad(lambda x: adjit.grad(f)(x, chosen).sum())(X), second, rtol=1e-12)


def test_a_side_that_has_no_derivative_does_not_spoil_the_other() -> None:
    def f(x: Any) -> Any:
        return adjit.scan(lambda c, x: (c + adjit.cond(x > 2, lambda: np.sqrt(x - 2), lambda: x * 0.5), None), 0.0, x)[
            0
        ]

    np.testing.assert_allclose(adjit.grad(f)(X), [0.5, 0.5, 0.5], rtol=1e-12)
    np.testing.assert_allclose(adjit.grad(f)(X + 10), 0.5 / np.sqrt(X + 8), rtol=1e-12)


def test_gradients_through_switch_and_closures() -> None:
    def f(w: Any, i: Any) -> Any:
        return adjit.switch(i, [lambda x: (w @ x).sum(), lambda x: (w * w).sum(), lambda x: x.sum()], X)

    w = np.arange(9.0).reshape(3, 3)
    for i, expected in enumerate([np.tile(X, (3, 1)), 2 * w, 0 * w]):
        np.testing.assert_allclose(adjit.grad(f)(w, np.int64(i)), expected, rtol=1e-12)


def test_batches_forward_mode_and_second_derivatives() -> None:
    def f(x: Any) -> Any:
        return adjit.cond(
            x > 0, lambda: np.sqrt(x) * x, lambda: adjit.switch((x < -1).astype(int), [np.sin, np.cos], x)
        )

    x = np.array([4.0, -0.5, -2.0])
    first = np.array([3.0, np.cos(0.5), np.sin(2.0)])
    second = np.array([0.375, np.sin(0.5), -np.cos(2.0)])
    np.testing.assert_allclose(adjit.vmap(f)(x), [f(each) for each in x], rtol=1e-14)
    np.testing.assert_allclose(adjit.vmap(adjit.grad(f))(x), first, rtol=1e-12)
    for i, each in enumerate(x):
        np.testing.assert_allclose(adjit.jvp(f, (each,), (1.0,))[1], first[i], rtol=1e-12)
        np.testing.assert_allclose(adjit.hessian(f)(each), second[i], rtol=1e-12)
        np.testing.assert_allclose(adjit.hvp(f)(each, 2.0), 2 * second[i], rtol=1e-12)


@pytest.mark.parametrize("differentiated", [False, True])
def test_a_training_step_with_a_branch_in_its_loss(differentiated: bool) -> None:
    x = np.random.default_rng(0).standard_normal((16, 3)).astype(np.float32)

    def loss(params: Any, x: Any) -> Any:
        error = ((x @ params["w"] - 1) ** 2).mean()
        if not differentiated:
            scale = adjit.cond(x.sum() > 0, lambda: np.float32(2), lambda: np.float32(3))
            return error * scale
        return adjit.cond(x.sum() > 0, lambda: error * 2, lambda: error * 3)

    def selected(params: Any, x: Any) -> Any:
        error = ((x @ params["w"] - 1) ** 2).mean()
        return error * np.where(x.sum() > 0, np.float32(2), np.float32(3))

    params = {"w": np.zeros(3, np.float32)}
    losses = []
    for function in (loss, selected):
        step = adjit.training_step(function, adjit.optim.sgd(0.1))
        state = step.init(params)
        losses.append([float(step(state, sign * x)) for sign in (1, -1, 1)])
    np.testing.assert_allclose(*losses, rtol=1e-5)  # float32, sums in another order
    assert len(set(losses[0])) == 3


def narrow(x: Any) -> Any:
    return {"a": x.astype(np.float32)}


def more(x: Any) -> Any:
    return {"a": x, "b": 1.0}


def plain(x: Any) -> Any:
    return {"a": x}


def summed(x: Any) -> Any:
    return {"a": x.sum()}


def nothing(x: Any) -> Any:
    return None


def number(x: Any) -> Any:
    return {"a": 1.5}


def integer(x: Any) -> Any:
    return {"a": np.int64(1)}


Side = Callable[[Any], Any]
DIFFERENCES: dict[str, tuple[type, Side, Side, str]] = {
    "structure": (
        adjit.ArgumentError, plain, more, "cond: result is {'a': *} from if_true (LINE) and {'a': *, 'b': *} from "
        "if_false; whichever side runs gives the same structure",
    ),
    "nothing": (
        adjit.ArgumentError, plain, nothing,
        "cond: result is {'a': *} from if_true (LINE) and None (a return is missing?) from if_false",
    ),
    "dtype": (
        adjit.DTypeError, narrow, plain, "cond: result['a'] is f32[3] from if_true (LINE) and f64[3] from if_false; "
        "whichever side runs gives the same dtype: return x.astype(np.float32)",
    ),
    "shape": (
        adjit.ShapeError, plain, summed, "cond: result['a'] is f64[3] from if_true (LINE) and f64[] from if_false; "
        "whichever side runs gives the same shape",
    ),
    "a number for an array": (
        adjit.ShapeError, number, plain, "cond: result['a'] is a Python float from if_true (LINE) and f64[3] from",
    ),
    "a float for an integer": (
        adjit.DTypeError, number, integer, "cond: result['a'] is a Python float from if_true (LINE) and i64[] from "
        "if_false; whichever side runs gives the same dtype: return np.float64(value)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENCES)
def test_sides_that_differ(name: str) -> None:
    kind, first, second, message = DIFFERENCES[name]
    with pytest.raises(kind) as caught:
        trace_of(lambda x: adjit.cond(x[0] > 0, first, second, x), X)
    lines = [f"test_cond.py:{side.__code__.co_firstlineno + 1}" for side in (first, second)]
    message = message.replace("LINE", lines[0])
    assert str(caught.value).startswith(f"{lines[1]}: {message}")
    assert "\n    return " in str(caught.value)


def test_branches_of_a_switch_that_differ() -> None:
    message = (
        r"switch: result\['a'\] is f32\[3\] from branches\[0\] \(test_cond.py:\d+\) and f64\[3\] from branches\[2\]"
    )
    with pytest.raises(adjit.DTypeError, match=message):
        trace_of(lambda x: adjit.switch(x.astype(int)[0], [narrow, narrow, plain], x), X)


ARGUMENTS: dict[str, tuple[type, Callable[[Any], Any], str]] = {
    "a number": (
        adjit.DTypeError, lambda x: adjit.cond(x[0], np.sin, np.cos, x),
        "cond: pred is one bool, not f64[]: write x != 0 for the truth of a number",
    ),
    "a number of Python": (
        adjit.DTypeError, lambda x: adjit.cond(1, np.sin, np.cos, x), "cond: pred is one bool, not 1: write x != 0",
    ),
    "several": (
        adjit.ShapeError, lambda x: adjit.cond(x > 0, np.sin, np.cos, x),
        "cond: pred is one bool, not bool[3]: write x.all(), x.any() or one element",
    ),
    "nothing": (
        adjit.ArgumentError, lambda x: adjit.cond(None, np.sin, np.cos, x), "cond: pred is one bool, not None",
    ),
    "no function": (
        adjit.ArgumentError, lambda x: adjit.cond(x[0] > 0, 3, np.cos, x), "cond: if_true is a function, not 3",
    ),
    "an operand": (
        adjit.ArgumentError, lambda x: adjit.cond(x[0] > 0, np.sin, np.cos, {"a": "s"}),
        "cond: operands[0]['a'] is 's', where arrays and numbers stand",
    ),
    "a float": (
        adjit.ArgumentError, lambda x: adjit.switch(x[0], [np.sin], x), "switch: index is an integer, not ",
    ),
    "a bool": (
        adjit.ArgumentError, lambda x: adjit.switch(x[0] > 0, [np.sin], x), "switch: index is an integer, not ",
    ),
    "no branches": (
        adjit.ArgumentError, lambda x: adjit.switch(0, [], x), "switch: branches is a list of functions, not []",
    ),
    "a branch": (
        adjit.ArgumentError, lambda x: adjit.switch(0, [np.sin, 3], x), "switch: branches[1] is a function, not 3",
    ),
    "true_fun": (
        adjit.ArgumentError, lambda x: adjit.cond(x[0] > 0, true_fun=np.sin, if_false=np.cos), "it is 'if_true' here",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("traced", [False, True])
def test_arguments(name: str, traced: bool) -> None:
    kind, f, message = ARGUMENTS[name]
    with pytest.raises(kind, match=re.escape(message)):
        trace_of(f, X) if traced else f(X)


def test_arrays_from_outside_are_not_written_in_a_side() -> None:
    def known(x: Any) -> Any:
        table = np.zeros(3)

        def one() -> Any:
            table[0] = 1
            return table

        return adjit.cond(x[0] > 0, one, lambda: x)

    def traced(x: Any) -> Any:
        y = x * 2

        def one() -> Any:
            y[0] = 1
            return y

        return adjit.cond(x[0] > 0, one, lambda: x)

    for f in (known, traced):
        with pytest.raises(adjit.TraceError, match="an array that was made outside of the branch would be changed"):
            trace_of(f, X)
