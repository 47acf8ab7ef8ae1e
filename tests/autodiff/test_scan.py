"""Derivatives of loops: against differences, against the same turns in a row, and what is kept for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.autodiff.loops import Loop, adjoint, differences, floats_of, points, scans, unroll

import adjit
from adjit.autodiff.reverse import gradient
from adjit.ir.builder import ITEM, Builder
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.types import F64, Array
from adjit.ir.verify import verify
from adjit_runtime.errors import TraceError


def draw(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng((seed, *shape)).uniform(0.2, 0.9, shape)


def rk4(state: Any, dt: Any, rates: Any) -> Any:
    def slope(y: Any) -> Any:
        infected = rates[0] * y[0] * y[1]
        recovered = rates[1] * y[1]
        return np.stack([-infected, infected - recovered, recovered])

    k1 = slope(state)
    k2 = slope(state + 0.5 * dt * k1)
    k3 = slope(state + 0.5 * dt * k2)
    k4 = slope(state + dt * k3)
    return state + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4), state[1]


def lstm(h: Any, c: Any, x: Any, w: Any, u: Any) -> Any:
    gates = x @ w + h @ u
    i, f, o = (1 / (1 + np.exp(-gates[2 * k : 2 * k + 2])) for k in range(3))
    new = f * c + i * np.tanh(gates[6:])
    out = o * np.tanh(new)
    return out, new, out


def assigned(h: Any, i: Any, value: Any) -> Any:
    made = h.copy()
    made[i] = value
    return made


def nested() -> Graph:
    """A body with a loop in it: as many turns of a recursion as x has elements."""
    step = Loop("step", lambda c, x, w: (np.tanh(c * w + x), c * x), [0.0], [draw(3)], [0.0], length=3)
    b = Builder()
    c, x, w = (b.input(name, Array(F64, shape)) for name, shape in (("c", ()), ("x", (3,)), ("w", ())))
    last, stacked = step.enter(b, [c, x, w])
    made = b.sin(b.value(last)) * b.value(w)
    return b.graph("outer", [made.node, stacked, last])


CASES = [
    Loop("linear", lambda h, x, a: (a * h + x, h), [draw(3)], [draw(4, 3)], [draw(3)]),
    Loop("constant coefficients", lambda h, x: (0.5 * h + x,), [draw(3)], [draw(4, 3)]),
    Loop("logistic map", lambda x, r: (r * x * (1 - x), np.sin(x)), [np.array(0.3)], [], [np.array(3.4)], length=6),
    Loop("rk4", rk4, [draw(3)], [], [np.array(0.1), draw(2)], length=5),
    Loop("rnn", lambda h, x, w, u: ((y := np.tanh(x @ w + h @ u)), y), [draw(2)], [draw(4, 3)],
         [draw(3, 2), draw(2, 2, seed=1)]),
    Loop("lstm", lstm, [draw(2), draw(2, seed=1)], [draw(3, 3)], [draw(3, 8), draw(2, 8)], length=3),
    Loop("ar2", lambda y1, y2, e, p: ((y := p[0] * y1 + p[1] * y2 + e), y1, y), [np.array(0.2), np.array(0.1)],
         [draw(5)], [draw(2)], length=5),
    Loop("garch", lambda v, r, w: ((n := w[0] + w[1] * r * r + w[2] * v), np.log(n) + r * r / n), [np.array(0.5)],
         [draw(5)], [draw(3)], length=5),
    Loop("integers beside", lambda h, i, x: (h * x + np.max(x), np.argmin(x) + i, np.argmax(x), h[np.argmin(x)]),
         [draw(3), np.array(2)], [draw(4, 3)]),
    Loop("gather of an invariant", lambda h, i, w: (np.tanh(h + w[i]), h * w[i]), [np.array(0.1)],
         [np.array([2, 0, -1, 2])], [draw(4)]),
    Loop("gather by a counter", lambda h, n, w: (h * w[n] + w[-n], n + 1), [np.array(0.1), np.array(0)], [], [draw(5)]),
    Loop("scatter", lambda h, i, x: (assigned(h, i, x * h[i]), h[i]), [draw(4)], [np.array([2, 0, 2, 1]), draw(4)]),
    Loop("where in a body", lambda h, x: (np.where(h > 0.5, np.sqrt(h), x * h), np.where(x > 0.5, np.log(x), 0.0)),
         [draw(3)], [draw(4, 3)]),
    Loop("masked rnn", lambda h, x, m, u: ((y := np.where(m, np.tanh(x + h @ u), h)), y), [draw(2)],
         [draw(4, 2), np.array([True, True, False, True])], [draw(2, 2)]),
    Loop("stop_gradient", lambda h, x: (adjit.stop_gradient(h * x) * h, adjit.stop_gradient(x)), [draw(3)],
         [draw(4, 3)]),
    Loop("passes through", lambda h, c, x: (h * c + x, c), [draw(3), draw(3, seed=1)], [draw(4, 3)]),
    Loop("swapped", lambda a, b, x: (b, a * x), [draw(2), draw(2, seed=1)], [draw(4, 2)]),
    Loop("an input out, the same twice", lambda h, k, x, w: ((y := np.sin(h * x + k)), y, y, x, w, h),
         [draw(2), draw(2)], [draw(4, 2)], [draw(2, seed=2)]),
    Loop("a constant out", lambda h, x: (h * x, np.zeros(2), np.full(3, 1.5)), [draw(2)], [draw(4, 2)]),
    Loop("reset in each turn", lambda h, x: (np.ones(2), h * x), [draw(2)], [draw(4, 2)]),
    Loop("nothing carried", lambda x, w: (np.exp(x) * w, np.sum(x * w)), [], [draw(4, 2)], [draw(2)]),
    Loop("nothing sliced", lambda h, w: (np.tanh(w @ h),), [draw(2)], [], [draw(2, 2)]),
    Loop("invariants alone", lambda h, w: (h + np.exp(w) @ w[0], h * np.sum(np.tanh(w))), [draw(2)], [], [draw(2, 2)]),
    Loop("reductions", lambda h, x: (np.cumsum(h) / np.sum(h * x), np.prod(h), np.max(x)), [draw(3)], [draw(4, 3)]),
    Loop("nested", nested(), [np.array(0.3)], [draw(4, 3)], [np.array(0.8)]),
    Loop("reverse", lambda h, x, w: (np.tanh(w * h + x), h * x), [draw(2)], [draw(4, 2)], [draw(2)], reverse=True),
    Loop("one turn", lambda h, x, w: (np.tanh(w * h + x), h * x), [draw(2)], [draw(1, 2)], [draw(2)], length=1),
    Loop("no turn", lambda h, x, w: (np.tanh(w * h + x), h * x), [draw(2)], [draw(0, 2)], [draw(2)], length=0),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_gradient_agrees_with_differences(case: Loop) -> None:
    graph = case.graph()
    made = adjoint(graph)
    at = points(made, case.inputs)
    values = evaluate(made, *at)
    for value, expected in zip(values, evaluate(graph, *case.inputs), strict=False):
        np.testing.assert_array_equal(value, expected)
    wrt = floats_of(graph)
    for i, found in zip(wrt, values[len(graph.outputs) :], strict=True):
        expected = differences(graph, case.inputs, at[len(case.inputs) :], i)
        # Differences by 1e-6 have errors of rounding of 1e-10 and of third derivatives of 1e-12.
        np.testing.assert_allclose(found, stopped(case, i, expected, found), rtol=1e-6, atol=1e-8)


def stopped(case: Loop, i: int, expected: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Differences do not know what stop_gradient stops: the same turns in a row do."""
    if case.name != "stop_gradient":
        return expected
    made = adjoint(unroll(case.graph()))
    return evaluate(made, *points(made, case.inputs))[len(case.graph().outputs) + i]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_derivatives_agree_with_those_of_the_turns_in_a_row(case: Loop) -> None:
    """To third order."""
    graph = case.graph()
    row = unroll(graph)
    for _ in range(3):
        graph, row = adjoint(graph), adjoint(row)
        at = points(graph, case.inputs)
        # Sums are taken in another order.
        for found, expected in zip(evaluate(graph, *at), evaluate(row, *at), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_second_derivative_agrees_with_differences_of_the_first(case: Loop) -> None:
    if case.name == "stop_gradient":
        pytest.skip("differences do not know what it stops")
    first = adjoint(case.graph())
    second = adjoint(first)
    at = points(second, case.inputs)
    values = evaluate(second, *at)[len(first.outputs) :]
    given = at[: len(first.inputs)]
    for i, found in zip(floats_of(first), values, strict=True):
        expected = differences(first, given, at[len(first.inputs) :], i)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_loop_forward_stands_once(case: Loop) -> None:
    assert [node.attrs.get("reverse", False) for node in scans(adjoint(case.graph()))] in (
        [case.reverse, not case.reverse],
        [case.reverse],
    )
