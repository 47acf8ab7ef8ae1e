"""Entries row by row: where they are made so, they are those of the Jacobian; where not, there are products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit.ir.graph import Graph
from adjit.sparse.direct import by_rows
from tests.autodiff.loops import floats_of
from tests.both import run_both
from tests.sparse.dense import jacobian, pattern_of_matrix, proved, values_alone
from tests.sparse.test_pattern import arrowhead, bratu, heat, periodic
from tests.trace.check import graph_of

RNG = np.random.default_rng(0)
X, Y = RNG.uniform(0.5, 1.5, 11), RNG.uniform(0.5, 1.5, 11)


def entries_of(graph: Graph) -> Graph | None:
    graph = values_alone(graph)
    return by_rows(graph, floats_of(graph), len(graph.outputs), pattern_of_matrix(proved(graph)))


def upwind(u: Any) -> Any:
    return u * np.diff(np.concatenate([np.ones(1), u]))


def chained(u: Any) -> Any:
    for _ in range(2):
        padded = np.pad(u, 1)
        u = u + u * (padded[2:] - padded[:-2])
    return u


def seven_points(u: Any) -> Any:
    padded = np.pad(u, 3, constant_values=2.0)
    return sum((k + 1.5) * padded[k : k + len(u)] ** 2 for k in range(7)) * u


def two_unknowns(u: Any, v: Any) -> Any:
    return u[1:] * v[:-1] - np.sin(v[1:]), np.exp(u) * v


def with_a_table(u: Any) -> Any:
    return np.linspace(0, 1, len(u) - 1) * u[1:] ** 2 + u[:-1]


def guarded(u: Any) -> Any:
    return np.where(u[1:] > 1, np.sqrt(u[1:] - 1), u[:-1])


def ends_apart(u: Any) -> Any:
    return np.concatenate([u[:1] - 1, u[2:] - 2 * u[1:-1] + u[:-2], u[-1:] ** 2])


def no_entry(u: Any) -> Any:
    return np.concatenate([np.ones(3), u[:4] * u[1:5], np.floor(u[:3])])


def mixed(u: Any, v: Any) -> Any:
    return u[1:] * v[:-1].astype(np.float32), v * v


TAKEN: list[tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = [
    (bratu, (X,)), (heat, (X,)), (upwind, (X,)), (chained, (X,)), (seven_points, (X,)), (two_unknowns, (X, Y)),
    (with_a_table, (X,)), (guarded, (X,)), (ends_apart, (X,)), (no_entry, (X,)), (periodic, (X,)),
    (mixed, (X.astype(np.float32), Y)), (bratu, (X[:1],)), (bratu, (X[:2],)), (upwind, (X[:3],)),
]  # fmt: skip


@pytest.mark.parametrize(("function", "arguments"), TAKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_entries_are_those_of_the_jacobian(function: Callable[..., Any], arguments: tuple[np.ndarray, ...]) -> None:
    graph = graph_of(function, *arguments)
    made = entries_of(graph)
    assert made is not None
    (found,) = run_both(made, *arguments)
    single = any(x.dtype == np.float32 for x in arguments)
    expected = jacobian(graph, arguments)[proved(graph)]
    np.testing.assert_allclose(found, expected, rtol=1e-6 if single else 1e-12, atol=1e-14)  # products in either


def a_matrix(u: Any) -> Any:
    return np.eye(len(u), k=1) @ u


def a_mean(u: Any) -> Any:
    return u - np.mean(u)


def every_second(u: Any) -> Any:
    return u[::2] ** 2


def waves(u: Any) -> Any:
    for _ in range(3):
        padded = np.pad(u, 1)
        u = u + np.sin(padded[2:] - padded[:-2])
    return u


def many_runs(u: Any) -> Any:
    return np.concatenate([u[i : i + 1] * u[10 - i : 11 - i] for i in range(11)])


@pytest.mark.parametrize("function", [a_matrix, a_mean, every_second, waves, many_runs, arrowhead])
def test_others_have_products(function: Callable[[Any], Any]) -> None:
    assert entries_of(graph_of(function, X)) is None
    expected = adjit.jacobian(function)(X)
    np.testing.assert_allclose(adjit.sparse_jacobian(function)(X).toarray(), expected, rtol=1e-12, atol=1e-14)


def test_a_graph_that_grows_has_products(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_of(chained, X)
    assert entries_of(graph) is not None
    monkeypatch.setattr("adjit.sparse.direct.ROWS_NODES", 20)
    assert entries_of(graph) is None


def test_a_second_derivative_by_rows() -> None:
    """The entries of a Jacobian of a gradient that is elementwise."""
    sparse = adjit.sparse_jacobian(adjit.grad(lambda u: np.sum(u[1:] ** 2 * u[:-1] ** 3)))
    expected = adjit.hessian(lambda u: np.sum(u[1:] ** 2 * u[:-1] ** 3))(X)
    np.testing.assert_allclose(sparse(X).toarray(), expected, rtol=1e-12)
