"""Derivatives of loops: against differences, against the same turns in a row, and what is kept for them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import adjit
from adjit.autodiff.reverse import gradient, vjp
from adjit.ir.builder import ITEM, Builder
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.op import OPS
from adjit.ir.text import parse
from adjit.ir.types import F64, Array
from adjit.ir.verify import verify
from adjit_runtime.errors import IndexOutOfRange, TraceError
from tests.autodiff.loops import Loop, adjoint, differences, floats_of, points, scans, unroll
from tests.both import run_both
from tests.graphs import GraphMaker, arrays


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
    Loop("ar3", lambda y1, y2, y3, e, p: (np.sin(p @ np.stack([y1, y2, y3])) + e, y1, y2), [np.array(0.2),
         np.array(0.1), np.array(0.4)], [draw(5)], [draw(3)], length=5),
    Loop("in a ring", lambda a, b, c, x: (b, c, a, np.sin(a * b * x) * c), [draw(2), draw(2, seed=1), draw(2, seed=2)],
         [draw(4, 2)]),
    Loop("in a ring, one read", lambda a, b, x: (b, a, np.sin(a * x)), [draw(2), draw(2, seed=1)], [draw(4, 2)]),
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
def test_derivatives_compiled_and_evaluated(case: Loop) -> None:
    graph = case.graph()
    for _ in range(2):
        graph = adjoint(graph)
        run_both(graph, *points(graph, case.inputs))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_loop_forward_stands_once(case: Loop) -> None:
    made = adjoint(case.graph())
    turns = [case.reverse, not case.reverse] if case.length else [case.reverse]
    assert [node.attrs["reverse"] for node in scans(made)] == turns
    # All of its results are those of the one loop.
    assert len({node.args[0] for node in made.outputs[: len(case.graph().outputs)]}) == 1


def zeros_at(*places: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    made = draw(*shape)
    for place in places:
        made[place] = 0.0
    return made


def discarded_between_turns() -> tuple[Graph, list[Any]]:
    """A turn discards what the turn before made by a root of 0."""
    alive = np.array([[True, True], [False, True], [True, True]])
    loop = Loop("turns", lambda c, m: (np.where(m, np.sqrt(c), 1.0),), [np.array([0.0, 0.5])], [alive], length=3)
    return loop.graph(), loop.inputs


def discarded_inside() -> tuple[Graph, list[Any]]:
    def body(h: Any, x: Any) -> Any:
        return np.where(x > 0, np.sqrt(x), 0.0) * h, np.where(h > 0, np.log(h), 0.0)

    loop = Loop("inside", body, [zeros_at((1,), shape=(3,))], [zeros_at((0, 0), (1, 2), shape=(2, 3))], length=2)
    return loop.graph(), loop.inputs


def discarded_around() -> tuple[Graph, list[Any]]:
    """What the loop gives is discarded where it divides by 0, in what is carried and in what is stacked."""

    def body(c: Any, x: Any, w: Any) -> Any:
        return np.log(c) * w + x + 2.0, np.sqrt(c) * x

    loop = Loop("around", body, [np.array([-1.0, 0.0, 0.5])], [draw(2, 3)], [draw(3)], length=2)
    b = Builder()
    nodes = [b.input(f"x{i}", Array(x.dtype, x.shape)) for i, x in enumerate(loop.inputs)]
    last, stacked = map(b.value, loop.enter(b, nodes))
    alive = b.value(nodes[0]) > 0.0
    rows = b.broadcast(alive, shape=(2, 3), axes=(1,))
    return b.graph("around", [b.select(alive, last, 0.0).node, b.select(rows, stacked, 0.0).node]), loop.inputs


def discarded_ahead() -> tuple[Graph, list[Any]]:
    """The loop discards what was made by a root and a logarithm of 0 ahead of it: an invariant, and what is sliced."""

    def body(c: Any, x: Any, alive: Any, w: Any) -> Any:
        return np.where(alive & (w > 0), c * w, c), np.where(alive, x * c, 1.0)

    loop = Loop("ahead", body, [draw(3)], [draw(4, 3), np.ones((4, 3), bool)], [draw(3)])
    at = [draw(3), zeros_at((1, 1), (3, 0), shape=(4, 3)), zeros_at((0,), shape=(3,))]
    b = Builder()
    c, x, w = (b.value(b.input(name, Array(F64, array.shape))) for name, array in zip("cxw", at, strict=True))
    results = loop.enter(b, [c.node, b.log(x).node, (x > 0.0).node, b.sqrt(w).node])
    return b.graph("ahead", results), at


@pytest.mark.parametrize("made", [discarded_between_turns, discarded_inside, discarded_around, discarded_ahead])
def test_no_nan_comes_through_where(made: Any) -> None:
    """To third order, as of the turns in a row."""
    graph, at = made()
    row = unroll(graph)
    for _ in range(3):
        graph, row = adjoint(graph), adjoint(row)
        here = points(graph, at)
        for found, expected in zip(evaluate(graph, *here), evaluate(row, *here), strict=True):
            assert np.isfinite(found).all()
            # Sums are taken in another order.
            np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


WEAK = """
graph @f(%h: f64[]~, %x: f64[5], %w: f64[]) -> (f64[]~, f64[5]) {
  %0 = scan %h, %x, %w length=5 carried=1 sliced=1 body=graph @b(%c: f64[]~, %t: f64[], %u: f64[]~) -> (f64[]~, f64[]) {
    %0 = mul %c, %u : f64[]~
    %1 = tanh %0 : f64[]~
    %2 = mul %1, %t : f64[]
    %3 = exp %u : f64[]~
    %4 = mul %1, %3 : f64[]~
    return %4, %2
  } : (f64[]~, f64[5])
  %1 = item %0 index=0 : f64[]~
  %2 = item %0 index=1 : f64[5]
  return %1, %2
}"""


def test_weak_scalars_stay_weak_and_their_gradients_are_not() -> None:
    graph = parse(WEAK)
    at = [np.array(0.3), draw(5), np.array(0.7)]
    row = unroll(graph)
    for _ in range(2):
        graph, row = adjoint(graph), adjoint(row)
        here = points(graph, at)
        for found, expected in zip(evaluate(graph, *here), evaluate(row, *here), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert graph.outputs[0].array_type.weak
    assert not any(node.array_type.weak for node in graph.outputs[2:])


def test_float32_stays_float32() -> None:
    single = [draw(3).astype(np.float32), draw(4, 3).astype(np.float32), draw(3).astype(np.float32)]
    graph = adjoint(Loop("f32", lambda h, x, w: (np.tanh(h * w + x), h * x), *([x] for x in single)).graph())
    assert {node.dtype for node in graph.outputs} == {np.dtype(np.float32)}


def test_results_that_nothing_uses_cost_nothing_backward() -> None:
    """Of two recursions in one loop the loss needs one: nothing of the other is kept, nor has a cotangent."""

    def body(a: Any, c: Any, x: Any, w: Any) -> Any:
        return np.tanh(a * w), np.sin(c * x), np.exp(c) * x

    loop = Loop("two", body, [draw(2), draw(2)], [draw(4, 2)], [draw(2)])
    b = Builder()
    nodes = [b.input(f"x{i}", Array(x.dtype, x.shape)) for i, x in enumerate(loop.inputs)]
    first, *_ = loop.enter(b, nodes)
    graph = b.graph("one", [b.sum(b.value(first), axes=(0,)).node])
    made = gradient(graph, [0, 1, 2, 3])
    verify(made)
    assert [node.is_splat for node in made.outputs[1:]] == [False, True, True, False]
    forward, backward = scans(made)
    assert len(forward.attrs["body"].outputs) == 4
    assert not {"cos", "exp"} & {node.op.name for node in backward.attrs["body"].nodes}


def test_a_result_of_integers_alone_has_no_loop_backward() -> None:
    loop = Loop("counts", lambda n, x: (n + 1, np.argmax(x)), [np.array(0)], [draw(4, 2)])
    made = adjoint(loop.graph())
    assert len(scans(made)) == 1
    assert made.outputs[-1].is_splat


def test_guards_go_no_further_than_what_is_singular() -> None:
    """Zeros of what is sliced are put in at once: no truth values are stacked or carried."""
    loop = Loop("guard", lambda h, x, m: (h + np.where(m, np.tanh(2 * x), 0.0),), [draw(3)],
                [draw(4, 3), draw(4, 3) > 0.5])  # fmt: skip
    _, backward = scans(adjoint(loop.graph()))
    assert {node.dtype for node in backward.attrs["body"].outputs} == {F64}


def test_a_gradient_by_some_inputs_keeps_what_they_need() -> None:
    graph = Loop("rnn", lambda h, x, w: (np.tanh(h * 0.5 + x * w),), [draw(2)], [draw(4, 2)], [draw(2)]).graph()
    by_h, by_w = vjp(graph, [0]), vjp(graph, [2])
    # The result of tanh either way; the loop back of h sums up nothing.
    assert [len(scans(made)[0].attrs["body"].outputs) for made in (by_h, by_w)] == [2, 2]
    assert [len(scans(made)[1].attrs["body"].outputs) for made in (by_h, by_w)] == [1, 2]


def test_two_loops_with_one_body() -> None:
    loop = Loop("twice", lambda h, x: (np.tanh(h * 0.5 + x), h * x), [draw(2)], [draw(4, 2)])
    body = scans(loop.graph())[0].attrs["body"]
    twice = Loop("twice", body, [draw(2)], [draw(4, 2)])
    b = Builder()
    h, x = (b.input(name, Array(F64, shape)) for name, shape in (("h", (2,)), ("x", (4, 2))))
    middle, stacked = twice.enter(b, [h, x])
    graph = b.graph("f", twice.enter(b, [middle, stacked]))
    row = unroll(graph)
    for _ in range(2):
        graph, row = adjoint(graph), adjoint(row)
        here = points(graph, loop.inputs)
        for found, expected in zip(evaluate(graph, *here), evaluate(row, *here), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)
    # Each loop forward once, with its own backward.
    assert len(scans(adjoint(b.graph("f", twice.enter(b, [middle, stacked]))))) == 4


def test_an_op_without_a_derivative_in_a_body_is_named_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    op: Any = OPS["tanh"]
    monkeypatch.setitem(OPS, "tanh", dataclasses.replace(op, vjp=None, exempt="for this test"))
    graph = Loop("loop", lambda h: (np.tanh(h),), [draw(2)]).graph()
    with pytest.raises(TraceError, match=r"test_scan\.py:\d+: tanh has no derivative: for this test"):
        adjoint(graph)


def test_checks_stay_in_their_order() -> None:
    """Of two indices out of range it is the first that is told of, and at the first turn."""

    def body(h: Any, i: Any, j: Any, w: Any) -> Any:
        first = w[i]
        return h * w[j] * first, np.tanh(first)

    loop = Loop("loop", body, [draw()], [np.array([0, 5, 7]), np.array([1, 6, 8])], [draw(3)], length=3)
    for graph in (loop.graph(), made := adjoint(loop.graph()), adjoint(made)):
        with pytest.raises(IndexOutOfRange, match="index 5 is out of bounds"):
            evaluate(graph, *points(graph, loop.inputs))


def test_inputs_of_higher_derivatives_have_names_of_their_own() -> None:
    graph = Loop("loop", lambda h: (np.tanh(h),), [draw(2)]).graph()
    names = [node.attrs["name"] for node in adjoint(adjoint(adjoint(graph))).inputs]
    assert len(names) == len(set(names))


def random_loop(seed: int) -> Graph:
    """A scan of a random body, whose inputs are carried, sliced or whole by chance; a third of them stand in another
    scan's body."""
    maker = GraphMaker(seed, F64, empty=False)
    choose = maker.choose
    inputs = list(maker.values)
    for _ in range(choose.randint(1, 10)):
        maker.grow()
    b = maker.b
    roles = [choose.choice(("carried", "part", "whole")) for _ in inputs]
    order = [x for role in ("carried", "part", "whole") for x, own in zip(inputs, roles, strict=True) if own == role]
    carried, sliced = roles.count("carried"), roles.count("part")
    following = []
    for x in order[:carried]:
        fitting = [v for v in maker.values if v.shape == x.shape and v.dtype == F64]
        following.append(choose.choice([choose.choice(fitting), b.tanh(choose.choice(fitting)) + 0.1]).node)
    stacked = [choose.choice(maker.values).node for _ in range(choose.randint(0 if carried else 1, 2))]
    body = Graph("body", tuple(x.node for x in order), tuple(b.nodes), (*following, *stacked))
    graph = scan_of(body, carried, sliced, choose.randint(0, 3), choose.random() < 0.5)
    if choose.random() < 0.67:
        return graph
    # What has the type of an input may be carried, in any number.
    turns = [i for i, (x, y) in enumerate(zip(graph.inputs, graph.outputs, strict=False)) if x.type == y.type]
    again = len(turns) if turns == list(range(len(turns))) else 0
    return scan_of(graph, again, choose.randint(0, len(graph.inputs) - again), 2, choose.random() < 0.5)


def scan_of(body: Graph, carried: int, sliced: int, length: int, reverse: bool) -> Graph:
    """One scan, whose operands are inputs and whose results are outputs."""
    b = Builder()
    operands = []
    for i, node in enumerate(body.inputs):
        shape = (length, *node.shape) if carried <= i < carried + sliced else node.shape
        operands.append(b.input(f"x{i}", Array(node.dtype, shape)))
    scan = b.emit("scan", *operands, body=body, length=length, carried=carried, sliced=sliced, reverse=reverse)
    return b.graph("loop", [b.emit(ITEM, scan, index=i) for i in range(len(body.outputs))])


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6))
def test_random_loops_agree_with_their_turns_in_a_row(seed: int) -> None:
    graph = random_loop(seed)
    verify(graph)
    inputs = arrays(graph, seed)
    row = unroll(graph)
    for _ in range(2):
        graph, row = adjoint(graph), adjoint(row)
        at = points(graph, inputs)
        for found, expected in zip(evaluate(graph, *at), evaluate(row, *at), strict=True):
            # Sums are taken in another order, and may cancel.
            scale = float(np.max(np.abs(expected[np.isfinite(expected)]), initial=1.0))
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10 * scale)


def test_gradients_of_loops_as_users_write_them() -> None:
    """Of a loss over the results of `adjit.scan`, to second order; as of the same loop in Python."""
    w, u, xs = draw(2, 3), draw(3, 3), draw(5, 2)

    def body(h: Any, x: Any, w: Any, u: Any) -> Any:
        return np.tanh(x @ w + h @ u)

    def looped(w: Any, u: Any, xs: Any) -> Any:
        last, all_of_them = adjit.scan(lambda h, x: ((y := body(h, x, w, u)), y), np.zeros(3), xs)
        return np.sum(all_of_them**2) + np.sum(last)

    def in_a_row(w: Any, u: Any, xs: Any) -> Any:
        h, total = np.zeros(3), 0.0
        for x in xs:
            h = body(h, x, w, u)
            total = total + np.sum(h**2)
        return total + np.sum(h)

    def squares(f: Any) -> Any:
        return lambda *args: sum(np.sum(g * g) for g in adjit.grad(f, argnums=(0, 1, 2))(*args))

    for of in (lambda f: f, squares):
        found, expected = (adjit.grad(of(f), argnums=(0, 1, 2))(w, u, xs) for f in (looped, in_a_row))
        for one, other in zip(found, expected, strict=True):
            # Sums are taken in another order.
            np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)


def test_what_passes_through_and_is_no_result() -> None:
    """What is read only where the derivative is 0 gets none."""

    def f(h: Any, x: Any) -> Any:
        return np.sum(adjit.scan(lambda h, x: (h, np.sign(h) * x), h, x)[1])

    by_h, by_x = adjit.grad(f, argnums=(0, 1))(np.array([2.0, -3.0]), np.ones((4, 2)))
    np.testing.assert_array_equal(by_h, np.zeros(2))
    np.testing.assert_array_equal(by_x, np.tile([1.0, -1.0], (4, 1)))
