"""sparse_jacobian and sparse_hessian: entries, forms, trees, aux, calls; what is refused; SciPy takes them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import scipy.sparse.linalg

import adjit
from adjit.sparse.colours import colouring
from adjit.sparse.compress import compressed
from tests.autodiff.loops import Loop, floats_of
from tests.both import run_both
from tests.sparse import test_pattern as functions
from tests.sparse.dense import jacobian, pattern_of_matrix, proved, values_alone
from tests.sparse.test_pattern import EXACT, SQUARE, VECTOR, arrowhead, bratu, burgers, coupled, plane, rosenbrock
from tests.trace.check import graph_of


@pytest.mark.parametrize(
    ("function", "x"), [*EXACT, (burgers, VECTOR)], ids=lambda value: getattr(value, "__name__", "")
)
def test_jacobians_are_those_of_jacobian(function: Callable[[Any], Any], x: np.ndarray) -> None:
    sparse = adjit.sparse_jacobian(function)
    expected = adjit.jacobian(function)(x)
    expected = expected.reshape(-1, x.size)
    for _ in range(4):
        # Later calls go by a native entry.
        found = sparse(x)
        assert isinstance(found, scipy.sparse.csr_array)
        assert (found.dtype, found.shape) == (np.float64, expected.shape)
        np.testing.assert_allclose(found.toarray(), expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(sparse.pattern.toarray(), adjit.pattern(function, x).toarray())
    assert 0 < sparse.colors <= min(expected.shape)
    assert found.nnz == sparse.pattern.nnz


@pytest.mark.parametrize(
    ("function", "x"),
    [(functions.quadratic, VECTOR), (rosenbrock, VECTOR), (coupled, VECTOR), (plane, SQUARE),
     (functions.chained, VECTOR)],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_hessians_are_those_of_hessian(function: Callable[[Any], Any], x: np.ndarray) -> None:
    sparse = adjit.sparse_hessian(function)
    expected = adjit.hessian(function)(x).reshape(x.size, x.size)
    for _ in range(4):
        np.testing.assert_allclose(sparse(x).toarray(), expected, rtol=1e-12, atol=1e-13)
    assert sparse.colors <= 7


def test_matrices_share_their_form() -> None:
    sparse = adjit.sparse_jacobian(bratu)
    one, other = sparse(VECTOR), sparse(VECTOR + 1)
    third = sparse(VECTOR)
    for a, b in ((one, other), (one, third)):
        assert np.shares_memory(a.indices, b.indices)
        assert np.shares_memory(a.indptr, b.indptr)
        assert not np.shares_memory(a.data, b.data)
    assert not one.indices.flags.writeable
    assert one.has_canonical_format
    np.testing.assert_array_equal(one.toarray(), third.toarray())
    one.data[:] = 0
    assert third.data.any()
    with pytest.raises(ValueError, match="read-only"):
        one.eliminate_zeros()
    copied = third.copy()
    copied.data[0] = 0
    copied.eliminate_zeros()
    assert copied.nnz == third.nnz - 1


def test_of_large_arrays() -> None:
    n = 50_000
    x = np.linspace(0.0, 1.0, n)
    found = adjit.sparse_jacobian(bratu)(x)
    expected = scipy.sparse.diags_array([np.ones(n - 1), np.exp(x) - 2, np.ones(n - 1)], offsets=[-1, 0, 1])
    assert abs(found - expected).max() < 1e-14
    sparse = adjit.sparse_jacobian(arrowhead)
    found = sparse(x)
    assert sparse.colors == 3
    np.testing.assert_allclose(found[[0]].toarray()[0], 2 * x)
    np.testing.assert_allclose(found[:, [0]].toarray()[1:, 0], x[1:] ** 2)
    np.testing.assert_allclose(found.diagonal()[1:], 2 * x[0] * x[1:])
    hessian = adjit.sparse_hessian(coupled)
    found = hessian(x)
    assert hessian.colors == 2
    assert abs(found - found.T).max() == 0
    np.testing.assert_allclose(found.diagonal()[1:], 2 * x[0])


def test_single_precision() -> None:
    x = VECTOR.astype(np.float32)
    with pytest.warns(adjit.WideningWarning):
        found = adjit.sparse_jacobian(bratu)(x)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.diagonal(), np.exp(x) - 2, rtol=1e-5)
    found = adjit.sparse_jacobian(arrowhead)(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.toarray(), adjit.jacobian(arrowhead)(x), rtol=1e-5)
    assert adjit.sparse_hessian(rosenbrock)(x).dtype == np.float32


def test_trees_and_several_arguments() -> None:
    def f(p: Any, t: Any) -> Any:
        return {"sum": p["a"][1:] * t[0] + p["b"], "b": [p["b"] ** 2]}

    p, t = {"a": VECTOR[:4], "b": 2.0}, VECTOR[:2]
    found = adjit.sparse_jacobian(f, argnums=(1, 0))(p, t)
    # Leaves in the order of the tree: "b" ahead of "sum".
    expected = np.zeros((4, 7))
    expected[0, 6] = 4
    expected[1:, 0], expected[1:, 3:6], expected[1:, 6] = VECTOR[1:4], np.eye(3) * t[0], 1
    np.testing.assert_allclose(found.toarray(), expected)
    by_t = adjit.sparse_jacobian(f, argnums=1)(p, t)
    np.testing.assert_allclose(by_t.toarray(), expected[:, :2])

    def g(x: Any, y: Any) -> Any:
        return np.sum(x * y**2) + np.sum(x[1:] * x[:-1])

    found = adjit.sparse_hessian(g, argnums=(0, 1))(VECTOR[:3], VECTOR[3:6])
    expected = np.array(adjit.hessian(g, argnums=(0, 1))(VECTOR[:3], VECTOR[3:6]))
    np.testing.assert_allclose(found.toarray(), np.concatenate(np.concatenate(expected, axis=1), axis=1))


@pytest.mark.parametrize("function", [bratu, arrowhead, functions.stiff])
def test_aux_is_given_beside(function: Callable[[Any], Any]) -> None:
    """The value itself, as Newton's method wants it: in one call."""

    @adjit.sparse_jacobian(has_aux=True)
    def both(u: Any) -> Any:
        value = function(u)
        return value, {"value": value, "n": len(u)}

    for _ in range(4):
        matrix, aux = both(VECTOR)
        np.testing.assert_allclose(aux["value"], function(VECTOR), rtol=1e-13)
        assert aux["n"] == 8
        np.testing.assert_allclose(matrix.toarray(), adjit.jacobian(function)(VECTOR), rtol=1e-12)
    hessian, (count,) = adjit.sparse_hessian(lambda u: (rosenbrock(u), [u[0]]), has_aux=True)(VECTOR)
    assert count == VECTOR[0]
    np.testing.assert_allclose(hessian.toarray(), adjit.hessian(rosenbrock)(VECTOR), rtol=1e-12)


def test_static_arguments_and_signatures() -> None:
    @adjit.sparse_jacobian(static_argnames="order")
    def difference(u: Any, order: int) -> Any:
        return np.diff(u, order) ** 2

    for order in (1, 2):
        found = difference(VECTOR, order=order)
        assert found.shape == (8 - order, 8)
        assert difference.colors == order + 1
        assert difference.pattern.shape == found.shape
    assert difference(VECTOR[:5], 1).shape == (4, 5)
    assert len(difference.signatures()) == 3
    assert "concatenate" in str(difference.ir("adjoint", VECTOR, order=1))
    assert "kernel" in str(difference.explain())


def test_products_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many products only some are made at once."""
    monkeypatch.setattr("adjit.sparse.compress.PRODUCT_ELEMENTS", 100)
    rng = np.random.default_rng(0)
    weights = np.where(rng.random((40, 60)) < 0.1, rng.normal(size=(40, 60)), 0)
    x = rng.normal(size=60)

    def f(u: Any) -> Any:
        return np.tanh(weights @ u) + 1

    sparse = adjit.sparse_jacobian(f)
    np.testing.assert_allclose(sparse(x).toarray(), adjit.jacobian(f)(x), rtol=1e-12, atol=1e-14)
    assert sparse.colors > 4
    assert sparse.pattern.nnz == np.count_nonzero(weights)


def test_a_loop_whose_turns_settle() -> None:
    def newton(u: Any) -> Any:
        return adjit.fori_loop(0, 5, lambda i, x: x - (x**3 - u) / (3 * x**2), np.ones(len(u)))

    x = np.abs(VECTOR)
    found = adjit.sparse_jacobian(newton)
    np.testing.assert_allclose(found(x).toarray(), np.diag(x ** (-2 / 3) / 3), rtol=1e-4)
    assert found.colors == 1


def until_small(u: Any) -> Any:
    return adjit.while_loop(lambda x: np.max(x) > 0.1, lambda x: 0.5 * x * np.cos(u), u)


def by_a_branch(u: Any) -> Any:
    return adjit.cond(u[0] > 0, lambda x: x**2, lambda x: np.roll(x, 1), u)


def again(u: Any) -> Any:
    return adjit.checkpoint(bratu)(u) * u


def once_each(u: Any) -> Any:
    return adjit.map(lambda x: x**2 * np.exp(x), u)


@pytest.mark.parametrize(
    ("function", "entries"), [(until_small, 8), (by_a_branch, 16), (again, 22), (once_each, 8)],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_control_flow(function: Callable[[Any], Any], entries: int) -> None:
    sparse = adjit.sparse_jacobian(function)
    for x in (VECTOR, -VECTOR):
        found = sparse(x)
        np.testing.assert_allclose(found.toarray(), jacobian(graph_of(function, x), [x]), rtol=1e-11, atol=1e-13)
        assert found.nnz == entries


# Rounded, with the derivative of what was rounded.
straight = adjit.custom_rule(lambda x: np.floor(x), jvp=lambda primals, tangents: (np.floor(primals[0]), tangents[0]))
# A step, that learns from its neighbour.
shifted = adjit.custom_rule(lambda x: np.sign(x), vjp=lambda x: (np.sign(x), lambda g: (np.roll(g * x, -1),)))
# The other way round: what a function reads is not what its derivative does.
narrow = adjit.custom_rule(lambda x: np.cumsum(x), vjp=lambda x: (np.cumsum(x), lambda g: (g * x,)))


@pytest.mark.parametrize(
    ("rule", "entries"), [(straight, np.eye(8)), (shifted, np.roll(np.eye(8), 1, axis=0)), (narrow, np.eye(8))],
    ids=["straight", "shifted", "narrow"],
)  # fmt: skip
def test_rules_say_what_a_derivative_reads(rule: Any, entries: np.ndarray) -> None:
    def f(u: Any) -> Any:
        return np.sin(u) * rule(u)

    expected = (entries != 0) | (np.eye(8) != 0)
    np.testing.assert_array_equal(adjit.pattern(lambda u: rule(u), VECTOR).toarray(), entries != 0)
    np.testing.assert_array_equal(adjit.pattern(f, VECTOR).toarray(), expected)
    np.testing.assert_allclose(adjit.sparse_jacobian(f)(VECTOR).toarray(), adjit.jacobian(f)(VECTOR), rtol=1e-12)

    def by_scan(u: Any) -> Any:
        return adjit.scan(lambda c, x: (c * rule(u)[0] + x, rule(c * x * u)), 0.5, u)[1]

    np.testing.assert_allclose(
        adjit.sparse_jacobian(by_scan)(VECTOR).toarray(), adjit.jacobian(by_scan)(VECTOR).reshape(64, 8), atol=1e-12
    )


twice = adjit.custom_rule(
    lambda x: 2 * x,
    jvp=lambda primals, tangents: (2 * primals[0], twice(tangents[0])),
    vjp=lambda x: (2 * x, lambda g: (2 * g,)),
)


def test_a_call_in_a_rule_may_read_all() -> None:
    assert adjit.pattern(lambda u: twice(u), VECTOR).nnz == 64
    np.testing.assert_allclose(adjit.sparse_jacobian(lambda u: twice(u))(VECTOR).toarray(), 2 * np.eye(8))


def test_the_derivative_of_a_root() -> None:
    def f(u: Any) -> Any:
        return adjit.map(lambda a: adjit.root(lambda x: x**3 + x - a, 0.0), u)

    sparse = adjit.sparse_jacobian(f)
    np.testing.assert_allclose(sparse(VECTOR).toarray(), adjit.jacobian(f)(VECTOR), rtol=1e-9)
    assert sparse.colors == 1


@pytest.mark.parametrize("turns", [0, 3, 9])
def test_loops_that_are_counted(turns: int) -> None:
    """How many turns there are is known at run time alone: their entries are those of any number."""
    case = Loop("counted", lambda h, w: (np.sin(h) * np.roll(w, 1),), [VECTOR], [], [VECTOR + 1], length=9, turns=turns)
    graph = values_alone(case.graph())
    pattern = pattern_of_matrix(proved(graph))
    assert len(pattern.columns) == 16
    made = compressed(graph, floats_of(graph), 1, colouring(pattern))
    (entries,) = run_both(made, *case.inputs)
    found = scipy.sparse.csr_array((entries, pattern.columns, pattern.starts), shape=(8, 16))
    np.testing.assert_allclose(found.toarray(), jacobian(graph, case.inputs), rtol=1e-12)


def test_without_entries() -> None:
    found = adjit.sparse_jacobian(lambda u: np.floor(u))(VECTOR)
    assert (found.nnz, found.shape, found.dtype) == (0, (8, 8), np.float64)
    found = adjit.sparse_hessian(lambda u: np.sum(u))(VECTOR)
    assert (found.nnz, found.shape) == (0, (8, 8))
    found, aux = adjit.sparse_jacobian(lambda u: (np.sign(u[:0]), u[0] + 1), has_aux=True)(VECTOR)
    assert found.shape == (0, 8)
    assert aux == VECTOR[0] + 1
    assert adjit.sparse_jacobian(lambda u: u[1:] * 2)(np.zeros(1)).shape == (0, 1)
    assert adjit.sparse_jacobian(lambda u: {})(VECTOR).shape == (0, 8)
    assert adjit.sparse_jacobian(lambda u: u**2)(3.0).toarray().tolist() == [[6.0]]
    assert adjit.sparse_hessian(lambda u: u**3)(2.0).toarray().tolist() == [[12.0]]


def test_small_and_dense_is_no_matter() -> None:
    found = adjit.sparse_jacobian(lambda u: np.cumsum(u) * u.sum())(VECTOR)
    np.testing.assert_allclose(found.toarray(), adjit.jacobian(lambda u: np.cumsum(u) * u.sum())(VECTOR), rtol=1e-12)


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_dense_ones_are_refused() -> None:
    x = np.ones(200)
    with pytest.raises(
        adjit.ArgumentError,
        match=r"sparse_jacobian: the derivative of softmax, 200 x 200, is dense: 40000 of its entries may be other "
        r"than 0 and take 200 or more products; adjit.jacobian makes all of it",
    ):
        adjit.sparse_jacobian(softmax)(x)
    with pytest.raises(adjit.ArgumentError, match=r"sparse_hessian: .* is dense: .*; adjit.hessian makes all of it"):
        adjit.sparse_hessian(lambda u: np.sum(u) ** 2)(x)


def softmax(u: Any) -> Any:
    e = np.exp(u - np.max(u))
    return e / np.sum(e)


@pytest.mark.parametrize("transform", [adjit.sparse_jacobian, adjit.sparse_hessian])
def test_inside_of_a_trace_they_are_refused(transform: Any) -> None:
    sparse = transform(lambda u: np.sum(u**2))
    for around in (adjit.jit, adjit.grad, adjit.vmap):
        with pytest.raises(adjit.TraceError, match=r"a matrix of SciPy is not traced.*adjit.jvp, vjp and hvp"):
            around(lambda u: np.sum(sparse(u).data))(np.ones((2, 2)))
    with pytest.raises(adjit.TraceError, match="pattern: a matrix of SciPy is not traced"):
        adjit.jit(lambda u: adjit.pattern(bratu, u).nnz)(VECTOR)


def test_what_is_no_float_is_refused() -> None:
    with pytest.raises(
        adjit.DTypeError, match=r"sparse_jacobian: bratu is to be differentiated by u, which is i64\[3\]"
    ):
        adjit.sparse_jacobian(bratu)(np.arange(3))
    with pytest.raises(adjit.DTypeError, match=r"sparse_jacobian: .* returns i64.*; only floats have a derivative"):
        adjit.sparse_jacobian(lambda u: np.argmax(u))(VECTOR)
    with pytest.raises(adjit.ShapeError, match=r"sparse_hessian: bratu returns f64\[8\]"):
        adjit.sparse_hessian(bratu)(VECTOR)
    with pytest.raises(adjit.DTypeError, match="pattern: bratu is to be differentiated by u"):
        adjit.pattern(bratu, np.arange(3))
    with pytest.raises(adjit.ArgumentError, match=r"argnums=1, and bratu was called with 1 positional"):
        adjit.sparse_jacobian(bratu, argnums=1)(VECTOR)
    with pytest.raises(adjit.ArgumentError, match="sparse_jacobian: function is a function"):
        adjit.sparse_jacobian(3)
    with pytest.raises(adjit.ArgumentError, match="sparse_jacobian has no argument 'sparsity': the pattern is proved"):
        adjit.sparse_jacobian(bratu, sparsity=None)


def test_before_the_first_call_there_is_no_pattern() -> None:
    sparse = adjit.sparse_jacobian(bratu)
    for ask in (lambda: sparse.colors, lambda: sparse.pattern):
        with pytest.raises(adjit.ArgumentError, match="bratu has no pattern yet, as it was not compiled: call it"):
            ask()


def test_without_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    for call in (
        lambda: adjit.sparse_jacobian(bratu), lambda: adjit.sparse_hessian(rosenbrock),
        lambda: adjit.pattern(bratu, VECTOR),
    ):  # fmt: skip
        with pytest.raises(adjit.MissingExtraError, match=r"gives matrices of SciPy: pip install 'adjit\[linalg\]'"):
            call()


# -- SciPy -------------------------------------------------------------------------------------------------------------


def test_newtons_method() -> None:
    n = 1000
    h = 1 / (n + 1)

    def residual(u: Any) -> Any:
        p = np.pad(u, 1)
        return (p[2:] - 2 * u + p[:-2]) / h**2 + np.exp(u)

    slope = adjit.sparse_jacobian(residual)
    u = np.zeros(n)
    for _ in range(6):
        u = u - scipy.sparse.linalg.spsolve(slope(u), residual(u))
    # u'' is about 1, and second differences lose eps / h**2.
    assert np.abs(residual(u)).max() < 1e-9


def test_optimisers_take_them() -> None:
    found = scipy.optimize.minimize(
        adjit.value_and_grad(rosenbrock), np.zeros(6), jac=True, hess=adjit.sparse_hessian(rosenbrock),
        method="trust-constr",
    )  # fmt: skip
    np.testing.assert_allclose(found.x, np.ones(6), atol=1e-5)

    def residuals(u: Any) -> Any:
        return np.concatenate([10 * (u[1:] - u[:-1] ** 2), 1 - u[:-1]])

    found = scipy.optimize.least_squares(
        residuals, np.zeros(6), jac=adjit.sparse_jacobian(residuals), method="trf", tr_solver="lsmr"
    )
    np.testing.assert_allclose(found.x, np.ones(6), atol=1e-6)
