"""No entry of a derivative is missed: every op, loops, random graphs, to second order. Stencils have no entry more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

import adjit
from adjit.autodiff.reverse import vjp
from adjit.ir.builder import Builder
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.op import OPS
from adjit.ir.types import Array
from adjit.sparse import loops
from tests.autodiff.loops import Loop, floats_of, points
from tests.autodiff.test_scan import CASES, draw
from tests.graphs import GraphMaker, LoopMaker, arrays
from tests.ops.samples import Case
from tests.ops.test_derivatives import DIFFERENTIABLE, float_cases
from tests.sparse.dense import float_outputs, jacobian, pattern_for, proved, values_alone
from tests.trace.check import graph_of


def of_case(case: Case, square: bool) -> Graph:
    """An op, or its square, whose second derivative is not 0 where the op is linear."""
    b = Builder()
    nodes = [b.input(f"x{i}", Array(a.dtype, a.shape)) for i, a in enumerate(case.arrays)]
    y = b.value(b.emit(case.op, *nodes, **case.attrs))
    return b.graph("f", [(y * y).node if square else y.node])


def changes(graph: Graph, at: list[np.ndarray]) -> np.ndarray:
    """Which float output changes when an element of a float input does, slightly."""
    outputs = float_outputs(graph)
    before = evaluate(graph, *at)
    columns = []
    for i in floats_of(graph):
        for place in np.ndindex(*at[i].shape):
            moved = [np.array(x) for x in at]
            moved[i][place] += 1e-5
            after = evaluate(graph, *moved)
            columns.append(np.concatenate([(after[k] != before[k]).ravel() for k in outputs]))
    rows = sum(before[k].size for k in outputs)
    return np.array(columns, bool).reshape(len(columns), rows).T


def check(graph: Graph, at: list[np.ndarray]) -> np.ndarray:
    """Nothing is missed at this point; the pattern."""
    pattern = proved(graph)
    with np.errstate(all="ignore"):
        found = jacobian(graph, at)
    assert found.shape == pattern.shape
    assert not ((found != 0) & ~pattern).any()
    return pattern


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_no_entry_of_an_op_is_missed(name: str) -> None:
    tried = 0
    for case in float_cases(name):
        graph, at = of_case(case, False), list(case.arrays)
        pattern = check(graph, at)
        # What is piecewise constant changes by jumps alone, which these small differences do not meet.
        assert not (changes(graph, at) & ~pattern).any()
        if OPS[name].kind in ("movement", "gather") and name != "iota":
            # It moves what there is, so each element that is moved is there; positions are not known.
            assert OPS[name].kind == "gather" or (jacobian(graph, at) != 0)[pattern].all()
        tried += pattern.size > 0
    assert tried


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_no_entry_of_second_derivatives_is_missed(name: str) -> None:
    for case in float_cases(name):
        graph = of_case(case, True)
        made = vjp(graph, floats_of(graph))
        made = Graph(made.name, made.inputs, made.nodes, made.outputs[len(graph.outputs) :])
        check(made, points(made, case.arrays))


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs(seed: int) -> None:
    graph = GraphMaker(seed, small=True).graph(12)
    check(graph, arrays(graph, seed))


@settings(max_examples=25, deadline=None)
@given(st.integers(1000, 10**6))
def test_random_graphs_with_loops(seed: int) -> None:
    graph = LoopMaker(seed).graph(8)
    if sum(graph.inputs[i].array_type.size for i in floats_of(graph)) <= 150:
        check(graph, arrays(graph, seed))


@pytest.mark.parametrize("few", [0, 20_000])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_loops(case: Loop, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn by turn, and all turns at once; their adjoints, too."""
    monkeypatch.setattr(loops, "PATTERN_TURNS", few)
    graph = case.graph()
    at = case.inputs
    check(graph, at)
    made = values_alone(graph)
    made = vjp(made, floats_of(made))
    check(made, points(made, at))


@pytest.mark.parametrize("turns", [None, 3])
def test_loops_that_settle_late(turns: int | None) -> None:
    """What is carried moves on by an element in each turn: further than rounds are tried."""
    h = draw(50)
    case = Loop("ring", lambda h, x: (np.roll(h, 1) * x, h[0]), [h], [draw(45)], [], length=45, turns=turns)
    graph = case.graph()
    check(graph, case.inputs)
    if turns is None:
        pattern = proved(graph)
        assert pattern[:50, :50].sum() == 50, "each turn moves what is carried on by one"


# -- exactly -----------------------------------------------------------------------------------------------------------


def heat(u: Any) -> Any:
    return u[2:] - 2 * u[1:-1] + u[:-2] + u[1:-1] ** 2


def bratu(u: Any) -> Any:
    padded = np.concatenate([np.zeros(1), u, np.zeros(1)])
    return padded[2:] - 2 * padded[1:-1] + padded[:-2] + np.exp(u)


def periodic(u: Any) -> Any:
    return np.roll(u, 1) * u - np.roll(u, -2)


def burgers(u: Any) -> Any:
    """Upwind: which neighbour is read depends on a sign."""
    left, right = u[1:-1] - u[:-2], u[2:] - u[1:-1]
    return u[1:-1] * np.where(u[1:-1] > 0, left, right)


def laplace(u: Any) -> Any:
    p = np.pad(u, 1)
    return p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * u + np.sin(u)


def gradients(u: Any) -> Any:
    return np.diff(u, axis=0)[:, :-1] * np.diff(u, axis=1)[:-1]


def reaction(u: Any) -> Any:
    a, b = u
    return np.stack([np.roll(a, 1) + a * b**2, np.roll(b, -1) - a * b**2])


def in_place(u: Any) -> Any:
    r = np.zeros(len(u))
    r[0] = u[0] - 1
    r[-1] = u[-1]
    r[1:-1] = u[2:] - u[:-2] * u[1:-1]
    return r


def element_by_element(u: Any) -> Any:
    r = np.zeros(len(u))
    for i in range(1, len(u) - 1):
        r[i] = u[i + 1] - 2 * u[i] + u[i - 1]
    return r


def in_a_loop(u: Any) -> Any:
    def body(i: Any, r: Any) -> Any:
        r[i] = u[i + 1] * u[i - 1]
        return r

    return adjit.fori_loop(1, len(u) - 1, body, np.zeros(len(u)))


def by_a_matrix(u: Any) -> Any:
    n = len(u)
    return (np.eye(n, k=1) - 2 * np.eye(n) + np.eye(n, k=-1)) @ u


EDGES = np.array([[0, 1], [1, 4], [4, 2], [5, 5], [0, 3]])


def on_a_graph(u: Any) -> Any:
    return np.tanh(u[EDGES[:, 0]] * u[EDGES[:, 1]])


def masked(u: Any) -> Any:
    weights = np.arange(len(u)) % 3
    return np.where(np.arange(len(u)) < 4, u**2, u[::-1]) + weights * np.roll(u, 1)


def arrowhead(u: Any) -> Any:
    return np.concatenate([np.sum(u**2, keepdims=True), u[0] * u[1:] ** 2])


def blocks(u: Any) -> Any:
    return np.sum(u.reshape(3, -1) ** 2, axis=1)


def running(u: Any) -> Any:
    return np.cumsum(u**2)[::2]


def stopped(u: Any) -> Any:
    return adjit.stop_gradient(u) * np.roll(u, 1)


def stiff(u: Any) -> Any:
    """Three steps of a stencil, by scan."""
    return adjit.scan(lambda c, _: (c + np.roll(c, 1) * c, None), u, length=3)[0]


VECTOR = np.random.default_rng(0).uniform(0.5, 1.5, 8) * np.array([1, -1, 1, 1, -1, 1, -1, 1])
SQUARE = np.random.default_rng(1).uniform(0.5, 1.5, (5, 4))
EXACT: list[tuple[Callable[[Any], Any], np.ndarray]] = [
    (heat, VECTOR), (bratu, VECTOR), (periodic, VECTOR), (laplace, SQUARE), (gradients, SQUARE),
    (reaction, VECTOR.reshape(2, 4)), (in_place, VECTOR), (element_by_element, VECTOR), (in_a_loop, VECTOR),
    (by_a_matrix, VECTOR), (on_a_graph, VECTOR), (masked, VECTOR), (arrowhead, VECTOR), (blocks, VECTOR[:6]),
    (running, VECTOR), (stopped, VECTOR), (stiff, VECTOR),
]  # fmt: skip


@pytest.mark.parametrize(("function", "x"), EXACT, ids=lambda value: getattr(value, "__name__", ""))
def test_there_is_no_entry_more(function: Callable[[Any], Any], x: np.ndarray) -> None:
    found = jacobian(graph_of(function, x), [x]) != 0
    np.testing.assert_array_equal(pattern_for(function, x), found)


def test_branches_have_the_entries_of_both_sides() -> None:
    pattern = pattern_for(burgers, VECTOR)
    np.testing.assert_array_equal(pattern, np.eye(6, 8) + np.eye(6, 8, k=1) + np.eye(6, 8, k=2))
    for sign in (1, -1):
        x = sign * np.abs(VECTOR)
        assert not ((jacobian(graph_of(burgers, x), [x]) != 0) & ~pattern).any()


def quadratic(u: Any) -> Any:
    return np.sum((u[1:] - u[:-1]) ** 2) + 3 * u[0]


def rosenbrock(u: Any) -> Any:
    return np.sum(100 * (u[1:] - u[:-1] ** 2) ** 2 + (1 - u[:-1]) ** 2)


def coupled(u: Any) -> Any:
    return np.sum(u[0] * u[1:] ** 2)


def plane(u: Any) -> Any:
    return np.sum(np.sqrt(1 + np.diff(u, axis=0)[:, :-1] ** 2 + np.diff(u, axis=1)[:-1] ** 2))


def chained(u: Any) -> Any:
    def body(i: Any, total: Any) -> Any:
        return total + np.exp(u[i] * u[i + 1])

    return adjit.fori_loop(0, len(u) - 1, body, 0.0)


@pytest.mark.parametrize(
    ("function", "x"),
    [(quadratic, VECTOR), (rosenbrock, VECTOR), (coupled, VECTOR), (plane, SQUARE), (chained, VECTOR)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_hessians_have_no_entry_more(function: Callable[[Any], Any], x: np.ndarray) -> None:
    gradient = adjit.grad(function)
    found = jacobian(graph_of(gradient, x), [x]) != 0
    np.testing.assert_array_equal(pattern_for(gradient, x), found)


def test_positions_that_are_not_known_may_be_any() -> None:
    def f(u: Any) -> Any:
        return u[np.array([0, 1]) + np.argmax(u) * 0]

    np.testing.assert_array_equal(pattern_for(f, VECTOR), np.ones((2, 8)))


# -- as users see it ---------------------------------------------------------------------------------------------------


def test_pattern_is_a_matrix_of_scipy() -> None:
    found = adjit.pattern(bratu, np.zeros(5))
    assert isinstance(found, scipy.sparse.csr_array)
    assert found.dtype == bool
    assert found.has_canonical_format
    np.testing.assert_array_equal(found.toarray(), abs(np.subtract.outer(range(5), range(5))) <= 1)
    by_second = adjit.pattern(lambda a, u: a[0] * u[1:], np.ones(2), np.ones(3), argnums=1)
    np.testing.assert_array_equal(by_second.toarray(), np.eye(2, 3, k=1))
    both = adjit.pattern(lambda a, u: a[0] * u[1:], np.ones(2), np.ones(3), argnums=(0, 1))
    np.testing.assert_array_equal(both.toarray(), [[1, 0, 0, 1, 0], [1, 0, 0, 0, 1]])
    tree = adjit.pattern(lambda p: {"y": p["a"][:1], "x": p["b"] * p["a"][1]}, {"a": np.ones(2), "b": 1.0})
    np.testing.assert_array_equal(tree.toarray(), [[0, 1, 1], [1, 0, 0]])
    assert adjit.pattern(lambda u: 0 * u.sum(), np.ones(3)).nnz in (0, 3)
    assert adjit.pattern(lambda u: np.floor(u), np.ones(3)).nnz == 0
    assert adjit.pattern(lambda u: u[:0], np.ones(3)).shape == (0, 3)


def test_large_patterns() -> None:
    """Of a size at which a walk over single elements would not end."""
    n = 200_000
    assert adjit.pattern(bratu, np.zeros(n)).nnz == 3 * n - 2
    assert adjit.pattern(adjit.grad(rosenbrock), np.zeros(n)).nnz == 3 * n - 2
    assert adjit.pattern(arrowhead, np.zeros(n)).nnz == 3 * n - 2
    with pytest.raises(adjit.ArgumentError, match=r"is dense: more than \d+ of its entries may be other than 0"):
        adjit.pattern(lambda u: np.cumsum(u), np.zeros(n))
