"""Calls with rules as graphs: what holds of them, and what engines make of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit.autodiff.batch import batch
from adjit.autodiff.forward_mode import jvp
from adjit.autodiff.reverse import vjp
from adjit.ir.builder import Builder
from adjit.ir.equal import equal
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.types import F64, I64, Array
from adjit.ir.verify import verify
from adjit.ops.calls import call, without_calls
from adjit.passes.inline_calls import inline_calls
from adjit.trace import trace_flat
from adjit_runtime.errors import AdjitError
from tests.both import run_both

VECTOR = Array(F64, (3,))
X, Y = np.array([0.3, -0.7, 1.2]), np.array([2.0, 0.5, -1.0])


def traced(function: Callable[..., Any], *types: Array) -> Graph:
    names = [f"x{i}" for i in range(len(types))]
    return trace_flat("f", lambda leaves: function(*leaves), types, names).graph


def times_vjp(a: Any, b: Any) -> Any:
    # The function, of a cotangent and the other operand: in a batch these have it where the call did not.
    return times(a, b), lambda g: (times(g, b), times(a, g))


def times_jvp(primals: Any, tangents: Any) -> Any:
    (a, b), (da, db) = primals, tangents
    return times(a, b), times(da, b) + times(a, db)


times = adjit.custom_rule(lambda a, b: a * b, jvp=times_jvp, vjp=times_vjp)


def has_calls(graph: Graph) -> bool:
    return any(node.op is call for node in graph.all_nodes())


PROGRAMS: dict[str, Callable[..., Any]] = {
    "once": lambda a, b: times(a, b),
    "twice": lambda a, b: times(times(a, b), np.sin(a)),
    "loop": lambda a, b: adjit.scan(lambda c, x: (np.tanh(times(c, b)) + x, times(c, c)), a, np.ones((4, 3)))[1],
    "stops": lambda a, b: adjit.while_loop(
        lambda c: (c < 5.0).all(), lambda c: times(c, 1.5 + 0 * b) + 0.1, a * a, max_steps=20
    ),
}  # fmt: skip


def plain(name: str) -> Graph:
    """The program with the operator in place of the function, so that its derivatives are those of the op."""
    graph = without_calls(traced(PROGRAMS[name], VECTOR, VECTOR))
    assert not has_calls(graph)
    return graph


@pytest.mark.parametrize("name", PROGRAMS)
def test_graphs_with_calls_hold_print_and_run(name: str) -> None:
    graph = traced(PROGRAMS[name], VECTOR, VECTOR)
    assert has_calls(graph)
    verify(graph)
    again = adjit.parse(str(graph))
    assert str(again) == str(graph)
    assert equal(again, graph)
    inlined = inline_calls(graph)
    verify(inlined)
    assert inline_calls(inlined) is inlined
    for found, wanted in zip(run_both(inlined, X, Y), evaluate(graph, X, Y), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", PROGRAMS)
def test_derivatives_by_rules_are_those_of_the_function(name: str) -> None:
    """Once and twice, in all four orders: rules that call their own function go as deep as they are asked to."""
    graph, wanted = traced(PROGRAMS[name], VECTOR, VECTOR), plain(name)
    rng = np.random.default_rng(0)
    for modes in ((jvp,), (vjp,), (jvp, jvp), (jvp, vjp), (vjp, jvp), (vjp, vjp)):
        found, expected = graph, wanted
        for mode in modes:
            found, expected = (mode(each, (0, 1)) for each in (found, expected))
            verify(found)
        given = [rng.normal(size=node.shape) for node in found.inputs[2:]]
        results = run_both(inline_calls(found), X, Y, *given)
        for a, b in zip(results, evaluate(expected, X, Y, *given), strict=True):
            # Sums and products come in another order.
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (1, 0)])
def test_batches_of_calls(name: str, axes: tuple[int | None, ...]) -> None:
    """Rules call the function with the batch in operands where the call itself has none."""
    graph, wanted = traced(PROGRAMS[name], VECTOR, VECTOR), plain(name)
    rng = np.random.default_rng(1)
    found, expected = batch(graph, axes, 4).graph, batch(wanted, axes, 4).graph
    for order in range(3):
        verify(found)
        inputs = [rng.normal(size=node.shape) for node in found.inputs]
        for a, b in zip(run_both(inline_calls(found), *inputs), evaluate(expected, *inputs), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
        mode = jvp if order else vjp
        found, expected = mode(found, (0, 1)), mode(expected, (0, 1))


def test_a_batch_of_a_batch() -> None:
    graph = batch(batch(traced(PROGRAMS["twice"], VECTOR, VECTOR), (0, None), 2).graph, (None, 0), 5).graph
    expected = batch(batch(plain("twice"), (0, None), 2).graph, (None, 0), 5).graph
    inputs = [np.random.default_rng(2).normal(size=node.shape) for node in graph.inputs]
    for mode in (None, vjp, jvp):
        if mode is not None:
            graph, expected = mode(graph, (0, 1)), mode(expected, (0, 1))
            inputs += [np.ones(node.shape) for node in graph.inputs[len(inputs) :]]
        for a, b in zip(evaluate(graph, *inputs), evaluate(expected, *inputs), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


def test_calls_that_are_not_differentiated_stay() -> None:
    graph = traced(lambda a, b: times(adjit.stop_gradient(a), a) * b, VECTOR, VECTOR)
    assert has_calls(vjp(graph, (1,)))
    assert not has_calls(inline_calls(vjp(graph, (1,))))


def body(outputs: int = 1) -> Graph:
    b = Builder()
    x = b.value(b.input("x", VECTOR))
    n = b.input("n", Array(I64))
    return b.graph("f", [(x * 2.0).node, n][:outputs])


def rule(inputs: list[Array], outputs: list[Array]) -> Graph:
    b = Builder()
    for i, type in enumerate(inputs):
        b.input(f"x{i}", type)
    return b.graph("rule", [b.splat(0, type) for type in outputs])


N = Array(I64)
GOOD = {
    "jvp": rule([VECTOR, N, VECTOR], [VECTOR, VECTOR]),
    "fwd": rule([VECTOR, N], [VECTOR, N]),
    "bwd": rule([N, VECTOR], [VECTOR]),
}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"given": 3, **GOOD}, "3 arguments of 2 operands"),
    ({}, "the rules are jvp, or fwd and bwd, or all of them"),
    ({"fwd": GOOD["fwd"]}, "the rules are jvp, or fwd and bwd"),
    ({"up": 1, **GOOD}, "the rules of what is called stand around it"),
    ({"jvp": rule([VECTOR, N], [VECTOR, VECTOR])}, "2 inputs of the jvp rule, not 3"),
    ({"jvp": rule([VECTOR, N, N], [VECTOR, VECTOR])}, "the inputs of the jvp rule that of number 2 is i64"),
    ({"jvp": rule([VECTOR, N, VECTOR], [VECTOR])}, "1 outputs of the jvp rule, not 2"),
    ({**GOOD, "fwd": rule([VECTOR], [VECTOR, N])}, "1 inputs of the forward rule"),
    ({**GOOD, "fwd": rule([VECTOR, N], [])}, "0 outputs of the forward rule"),
    ({**GOOD, "bwd": rule([VECTOR, VECTOR], [VECTOR])}, "inputs of the backward rule that of number 0"),
    ({**GOOD, "bwd": rule([N, VECTOR], [VECTOR, N])}, "2 outputs of the backward rule, not 1"),
    ({**GOOD, "body": rule([VECTOR], [VECTOR])}, "2 operands, not 1"),
]


@pytest.mark.parametrize(("attrs", "message"), BAD, ids=[message for _, message in BAD])
def test_the_type_rule_refuses(attrs: dict[str, Any], message: str) -> None:
    b = Builder()
    operands = [b.input("x", VECTOR), b.input("n", N)]
    with pytest.raises(AdjitError, match=message):
        b.emit(call, *operands, **{"given": 2, "body": body(), **attrs})


@pytest.mark.parametrize("names", [("jvp",), ("fwd", "bwd"), ("jvp", "fwd", "bwd")])
def test_the_type_rule_takes(names: tuple[str, ...]) -> None:
    b = Builder()
    operands = [b.input("x", VECTOR), b.input("n", N)]
    node = b.emit(call, *operands, given=2, body=body(), **{name: GOOD[name] for name in names})
    graph = b.graph("g", [b.emit("item", node, index=0)])
    verify(graph)
    np.testing.assert_array_equal(evaluate(graph, X, 3)[0], 2 * X)
    # What the rule says, though it is not the derivative.
    assert not np.any(evaluate(vjp(graph, (0,)), X, 3, X)[1])


LOOPS: dict[str, Callable[[Any], Any]] = {
    "loop": lambda x: adjit.fori_loop(0, 3, lambda i, c: np.sin(c) * c + x, x),
    "counted": lambda x: adjit.fori_loop(0, np.sum(x > 0), lambda i, c: np.sin(c) * x, x, max_steps=4),
    "stopping": lambda x: adjit.while_loop(lambda c: np.sum(c) < 4, lambda c: c + np.exp(-c), x, max_steps=7),
    "branch": lambda x: adjit.cond(np.sum(x) > 0, np.sin, lambda x: x**3, x),
    "stacked": lambda x: adjit.scan(lambda c, e: (np.tanh(c) + e, c * e), x[0], x)[1],
}


@pytest.mark.parametrize("mode", ["jvp", "vjp"])
@pytest.mark.parametrize("name", LOOPS)
def test_a_rule_with_a_loop_serves_the_other_mode(name: str, mode: str) -> None:
    """What the loop carries is linear in tangents or cotangents, and it carries what is kept of it as well."""
    function = LOOPS[name]
    rule = {
        "jvp": lambda primals, tangents: adjit.jvp(function, primals, tangents),
        "vjp": lambda x: adjit.vjp(function, x),
    }[mode]
    ruled = adjit.custom_rule(function, **{mode: rule})
    x, v = np.array([0.5, -0.2, 1.1]), np.array([1.0, 2.0, -0.5])
    for made in (ruled, lambda x: adjit.grad(lambda x: np.sum(ruled(x) ** 2))(x)):
        plain = function if made is ruled else lambda x: adjit.grad(lambda x: np.sum(function(x) ** 2))(x)
        np.testing.assert_allclose(adjit.jvp(made, (x,), (v,))[1], adjit.jvp(plain, (x,), (v,))[1], rtol=1e-12)
        np.testing.assert_allclose(adjit.vjp(made, x)[1](v)[0], adjit.vjp(plain, x)[1](v)[0], rtol=1e-12)
