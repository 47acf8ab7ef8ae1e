"""Forward mode: every op against reverse mode and differences, to second order in both orders; loops; branches."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import adjit
from adjit.autodiff.forward_mode import jvp
from adjit.autodiff.linear import forward_part, reverse_part
from adjit.autodiff.reverse import vjp
from adjit.autodiff.split import split
from adjit.ir.builder import Builder
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.op import OPS
from adjit.ir.text import parse
from adjit.ir.types import F32, F64, I64, Array
from adjit.ir.verify import verify
from adjit.ops.loops import MOST_TURNS
from adjit_runtime.errors import DTypeError, TraceError
from tests.autodiff.loops import Loop, adjoint, floats_of, points, scans, unroll
from tests.autodiff.test_scan import CASES, draw
from tests.graphs import GraphMaker, arrays
from tests.ops.samples import Case
from tests.ops.test_derivatives import DIFFERENTIABLE, float_cases
from tests.trace.check import trace_of

SMOOTH = [case for case in CASES if case.name != "stop_gradient"]


def pushed(graph: Graph, joint: bool = True) -> Graph:
    """The jvp by all floats, verified."""
    made = jvp(graph, floats_of(graph), joint)
    verify(made)
    return made


def graph_of(case: Case) -> Graph:
    """The square of an op's result, so that second derivatives of linear ops are not 0."""
    b = Builder()
    nodes = [b.input(f"x{i}", Array(a.dtype, a.shape)) for i, a in enumerate(case.arrays)]
    y = b.value(b.emit(case.op, *nodes, **case.attrs))
    return b.graph("f", [(y * y).node])


def along(graph: Graph, at: Sequence[np.ndarray], tangents: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Central differences of the float outputs along tangents of the float inputs, by the formula of order 4."""
    wrt, step = floats_of(graph), 1e-4
    sides = []
    for h in (step, -step, 2 * step, -2 * step):
        moved = [np.asarray(x) for x in at]
        for i, tangent in zip(wrt, tangents, strict=True):
            moved[i] = moved[i] + h * tangent
        sides.append([y for y in evaluate(graph, *moved) if y.dtype.kind == "f"])
    return [(8 * (a - b) - (c - d)) / (12 * step) for a, b, c, d in zip(*sides, strict=True)]


def check_along(graph: Graph, at: Sequence[np.ndarray], joint: bool = True, rtol: float = 1e-6) -> None:
    """The jvp of `graph` agrees with differences; its first outputs are the graph's."""
    made = pushed(graph, joint)
    operands = points(made, at)
    values = evaluate(made, *operands)
    for value, expected in zip(values, evaluate(graph, *at), strict=False):
        np.testing.assert_array_equal(value, expected)
    found = values[len(graph.outputs) :]
    wanted = along(graph, at, operands[len(at) :])
    for one, other in zip(found, wanted, strict=True):
        # The error of differences, relative to the largest.
        np.testing.assert_allclose(one, other, rtol=rtol, atol=3e-7 * np.max(np.abs(other), initial=1.0))


def check_transposed(graph: Graph, at: Sequence[np.ndarray], joint: bool = True) -> None:
    """<g, J dx> of forward mode is <J^T g, dx> of reverse mode."""
    made, back = pushed(graph, joint), adjoint(graph)
    tangents, weights = points(made, at)[len(at) :], points(back, at, seed=1)[len(at) :]
    count = len(graph.outputs)
    there = evaluate(made, *at, *tangents)[count:]
    back_there = evaluate(back, *at, *weights)[count:]
    left, right = (
        sum(float(np.sum(a * b)) for a, b in zip(*pair, strict=True))
        for pair in ((weights, there), (tangents, back_there))
    )
    # Both are sums of the same products in another order.
    size = sum(float(np.sum(np.abs(a * b))) for a, b in zip(tangents, back_there, strict=True))
    assert abs(left - right) <= 1e-10 * max(size, 1.0)


# -- ops --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_an_op_against_reverse_mode_and_differences(name: str) -> None:
    cases = float_cases(name)
    assert cases
    for case in cases:
        graph = graph_of(case)
        check_transposed(graph, case.arrays)
        check_along(graph, case.arrays)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@pytest.mark.parametrize("order", ["forward over reverse", "reverse over forward", "forward over forward"])
def test_second_derivatives_of_an_op(name: str, order: str) -> None:
    for case in float_cases(name):
        graph = graph_of(case)
        first = adjoint(graph) if order == "forward over reverse" else pushed(graph)
        at = points(first, case.arrays)
        if order == "reverse over forward":
            check_transposed(first, at)
        check_along(first, at)


def test_an_op_without_a_derivative_is_named_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPS, "tanh", dataclasses.replace(OPS["tanh"], vjp=None, exempt="for this test"))  # type: ignore[call-arg]
    graph = Loop("loop", lambda h: (np.tanh(h),), [draw(2)]).graph()
    with pytest.raises(TraceError, match=r"test_forward_mode\.py:\d+: tanh has no derivative: for this test"):
        pushed(graph)


# -- what flows and what does not -------------------------------------------------------------------------------------


def test_integers_conditions_and_what_is_stopped_have_no_tangent() -> None:
    def f(x: Any, n: Any) -> Any:
        return n + 1, x > 0, np.argmax(x), adjit.stop_gradient(x) * 2.0, np.floor(x), x * 1.0

    graph = trace_of(f, Array(F64, (3,)), Array(I64, ())).graph
    with pytest.raises(DTypeError, match=r"input x1 is i64\[\]; only floats have a tangent"):
        jvp(graph, [1])
    made = jvp(graph, [0])
    verify(made)
    x, dx = np.array([0.5, 2.5, -1.0]), np.array([1.0, 2.0, 3.0])
    *values, stopped, floor, moved = evaluate(made, x, np.array(4), dx)
    assert len(values) == 6
    assert not stopped.any()
    assert not floor.any()
    np.testing.assert_array_equal(moved, dx)


def test_a_tangent_of_zeros_has_no_node() -> None:
    def f(x: Any, y: Any) -> Any:
        z = y.copy()
        z[1] = 3.0
        return np.sin(y) * x + np.concatenate([x[:1], x[1:]]) - y, z

    graph = trace_of(f, Array(F64, (3,)), Array(F64, (3,))).graph
    made = jvp(graph, [0])
    sines = [node for node in made.nodes if node.op.name in ("sin", "cos")]
    assert len(sines) == 1
    assert made.outputs[-1].is_splat
    linear = trace_of(lambda x: np.concatenate([x, np.ones(2)])[::2], Array(F64, (3,))).graph
    names = [node.op.name for node in jvp(linear, [0]).nodes]
    assert set(names) <= {"constant", "concatenate", "slice"}


def test_weak_scalars_have_strong_tangents() -> None:
    graph = trace_of(lambda x: (x * 2.0, np.float32(1.0) * x), Array(F64, (), True)).graph
    made = pushed(graph)
    assert [str(node.type) for node in made.outputs] == ["f64[]~", "f32[]", "f64[]", "f32[]"]
    assert [float(value) for value in evaluate(made, 3.0, 5.0)[2:]] == [10.0, 5.0]


def test_float32_stays_float32() -> None:
    graph = trace_of(lambda x: np.mean(np.tanh(x) ** 2), Array(F32, (3,))).graph
    assert pushed(graph).outputs[1].dtype == F32


def test_ties_share_alike_in_both_modes() -> None:
    def f(x: Any) -> Any:
        return np.max(x), np.min(x), np.maximum(x[:2], x[1:3]), np.minimum(x[:2], x[1:3]), np.abs(x)

    graph = trace_of(f, Array(F64, (4,))).graph
    x = np.array([1.0, 1.0, 1.0, 0.0])
    check_transposed(graph, [x])
    tangents = evaluate(pushed(graph), x, np.array([1.0, 2.0, 4.0, 8.0]))[5:]
    np.testing.assert_allclose(tangents[0], 7 / 3)
    np.testing.assert_array_equal(tangents[2], [1.5, 3.0])


# -- branches ---------------------------------------------------------------------------------------------------------

BRANCHES = {
    "root": lambda x: np.where(x > 0, np.sqrt(x), 0.0),
    "log": lambda x: np.where(x > 0, x * np.log(x), 0.0),
    "quotient": lambda x: np.where(x != 0, np.sin(x) / x, 1.0),
    "of a sum": lambda x: np.where(x > 0, np.sqrt(np.cumsum(np.where(x > 0, x, 0.0))), 0.0),
    "of a product": lambda x: np.where(x[:, None] > 0, np.sqrt(x)[:, None] @ np.ones((1, 2)), 0.0),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_a_discarded_branch_gives_no_nan(name: str) -> None:
    """In the tangent, and in the second derivatives in all orders."""
    x = np.array([-1.0, 0.0, 0.5, 2.0])
    graph = trace_of(BRANCHES[name], Array(F64, (4,))).graph
    there, back = pushed(graph), adjoint(graph)
    first = []
    for made in (there, back, pushed(there), pushed(back), adjoint(there), adjoint(back)):
        dx = np.array([1.0, 2.0, -1.0, 0.5])
        operands = [np.asarray(np.broadcast_to(dx if node.shape == (4,) else 1.0, node.shape)) for node in made.inputs]
        operands[0] = x
        values = evaluate(made, *operands)
        assert all(np.isfinite(value).all() for value in values), made.name
        first.append(values[1])
    # Along the same direction, first derivatives are the same: each element depends on few.
    if name in ("root", "log", "quotient"):
        np.testing.assert_allclose(first[0], first[1], rtol=1e-13)


# -- random graphs ----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6))
def test_random_graphs_agree_with_reverse_mode(seed: int) -> None:
    graph = GraphMaker(seed).graph(12)
    at = arrays(graph, seed)
    check_transposed(graph, at)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_random_graphs_to_second_order(seed: int) -> None:
    """Forward over reverse is reverse over forward."""
    graph = GraphMaker(seed).graph(8)
    back = adjoint(graph)
    check_transposed(back, points(back, arrays(graph, seed)))
    made = pushed(graph)
    check_transposed(made, points(made, arrays(graph, seed)))


# -- loops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("joint", [True, False], ids=["joint", "beside"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_loops_agree_with_their_turns_in_a_row(case: Loop, joint: bool) -> None:
    """Forward, forward over forward, forward over reverse, reverse over forward."""
    graph = case.graph()
    row = unroll(graph)
    pairs = [(pushed(graph, joint), pushed(row))]
    pairs.append((pushed(pairs[0][0], joint), pushed(pairs[0][1])))
    pairs.append((pushed(adjoint(graph), joint), pushed(adjoint(row))))
    pairs.append((adjoint(pairs[0][0]), adjoint(pairs[0][1])))
    for made, expected in pairs:
        at = points(made, case.inputs)
        # Sums are taken in another order.
        for found, wanted in zip(evaluate(made, *at), evaluate(expected, *at), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("joint", [True, False], ids=["joint", "beside"])
@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_loops_against_differences_and_reverse_mode(case: Loop, joint: bool) -> None:
    check_transposed(case.graph(), case.inputs, joint)
    check_along(case.graph(), case.inputs, joint)


def test_a_loop_takes_its_tangents_along_or_has_another_beside_it() -> None:
    case = Loop("f", lambda h, x, w: (np.tanh(w * h + x), h), [draw(2)], [draw(4, 2)], [draw(2)])
    graph = case.graph()
    (joint,) = scans(pushed(graph))
    assert (joint.attrs["carried"], joint.attrs["sliced"], len(joint.args)) == (2, 2, 6)
    values, tangents = scans(pushed(graph, joint=False))
    assert values.attrs["carried"] == tangents.attrs["carried"] == 1
    # The values of the loop do not wait for tangents.
    made = pushed(graph, joint=False)
    assert not set(made.inputs[3:]) & set(values.args)


def test_what_does_not_move_in_a_loop_has_no_tangent() -> None:
    def body(h: Any, c: Any, x: Any, w: Any) -> Any:
        return h * x, c * w, c

    case = Loop("f", body, [draw(2), draw(2)], [draw(4, 2)], [draw(2)])
    made = jvp(case.graph(), [0])
    verify(made)
    (scan,) = scans(made)
    assert scan.attrs["carried"] == 3
    assert made.outputs[-1].is_splat
    # What is carried moves by what another one is, one turn later.
    ring = Loop("g", lambda a, b, c: (b, c, a * b), [draw(2), draw(2), draw(2)], length=4)
    (scan,) = scans(jvp(ring.graph(), [2]))
    assert scan.attrs["carried"] == 6


def test_names_of_inputs_are_all_different() -> None:
    graph = trace_of(lambda x, tangent_x: x * tangent_x, Array(F64, ()), Array(F64, ())).graph
    for _ in range(3):
        graph = pushed(graph)
    assert len(graph.inputs) == 16


# -- early and late ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_waits_for_tangents_is_split_from_what_does_not(case: Loop) -> None:
    graph = case.graph()
    made = pushed(graph, joint=False)
    inputs, outputs = range(len(graph.inputs), len(made.inputs)), range(len(graph.outputs), len(made.outputs))
    early, late = split(made, inputs, outputs)
    verify(early)
    verify(late)
    at = points(made, case.inputs)
    values = evaluate(early, *case.inputs)
    found = evaluate(late, *values[len(graph.outputs) :], *at[len(case.inputs) :])
    for one, other in zip([*values[: len(graph.outputs)], *found], evaluate(made, *at), strict=True):
        np.testing.assert_array_equal(one, other)
    # The late part is linear, so nothing that is costly is in it.
    assert not {node.op.name for node in late.nodes} & {"tanh", "exp", "sin", "cos"}


def test_what_is_kept_is_not_what_is_cheap_to_make() -> None:
    def f(x: Any, y: Any) -> Any:
        return np.sin(x)[:, None] * y * 2.0 + np.arange(3.0)

    graph = trace_of(f, Array(F64, (4,)), Array(F64, (4, 3))).graph
    back = vjp(graph, [1])
    early, late = split(back, [2], [1])
    assert [node.shape for node in early.outputs] == [(4, 3), (4,)]
    assert [node.shape for node in late.inputs] == [(4,), (4, 3)]


def test_what_is_beside_the_value_has_no_derivative() -> None:
    """And a loop that both are results of stands once."""
    case = Loop("f", lambda h, x: (np.tanh(h * x), h), [draw(2)], [draw(4, 2)])
    graph = case.graph()
    for part in (forward_part, reverse_part):
        early, late = part(graph, [0], 1)
        verify(early)
        verify(late)
        assert len(scans(early)) == 1
        assert len(late.outputs) == 1
        assert late.inputs[-1].shape == (2,)
        np.testing.assert_array_equal(evaluate(early, *case.inputs)[1], evaluate(graph, *case.inputs)[1])


def test_checks_stay_in_their_order() -> None:
    def f(x: Any, i: Any, j: Any) -> Any:
        return x[i] * np.sin(x[j]) * x[i + j]

    graph = trace_of(f, Array(F64, (3,)), Array(I64, ()), Array(I64, ())).graph
    checks = [node for node in graph.nodes if node.op.kind == "check"]
    assert [node for node in pushed(graph).nodes if node.op.kind == "check"] == checks


STOPPING = """
graph @f(%go: bool[], %h: f64[], %w: f64[], %n: i64[]) -> f64[] {
  %0 = scan %go, %h, %w, %n length=LENGTH carried=2 stops=true counted=true body=graph @step(%go: bool[], %h: f64[], %w: f64[]) -> (bool[], f64[]) {
    %0 = sin %h : f64[]
    %1 = mul %0, %w : f64[]
    %2 = add %h, %1 : f64[]
    %3 = lt %2, 2.5 : bool[]
    return %3, %2
  } : (bool[], f64[])
  %1 = item %0 index=1 : f64[]
  return %1
}
"""  # noqa: E501


@pytest.mark.parametrize("turns", [0, 2, 50])
@pytest.mark.parametrize("length", [100, MOST_TURNS])
@pytest.mark.parametrize("joint", [True, False], ids=["joint", "beside"])
def test_loops_that_stop_or_are_counted(turns: int, length: int, joint: bool) -> None:
    graph = parse(STOPPING.replace("LENGTH", str(length)))
    at = [np.array(True), np.array(0.4), np.array(0.3), np.array(turns)]
    check_along(graph, at, joint)
    check_along(pushed(graph, joint), [*at, np.array(0.7), np.array(-1.2)], joint)
    early, late = forward_part(graph, [1, 2], 1)
    kept = evaluate(early, *at)[1:]
    made = pushed(graph, joint)
    np.testing.assert_array_equal(evaluate(late, *kept, 0.7, -1.2), evaluate(made, *at, 0.7, -1.2)[1:])
