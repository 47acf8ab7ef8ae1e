"""Factorisations and what is solved by them: machine code, ours and LAPACK's, against NumPy's meaning; derivatives
of any mode and order; batches; text; what cannot be factored."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit.ir.builder import Builder
from adjit.ir.evaluate import evaluate
from adjit.ir.parse import parse
from adjit.ir.text import print_graph
from adjit.ir.types import Array
from adjit.ops.spectral import qr_shapes, svd_shapes
from adjit.passes.pipeline import optimize
from adjit.schedule.parse import parse_plan
from adjit.schedule.text import print_plan
from adjit_runtime.errors import LinAlgError
from tests.codegen.running import Ran

DTYPES = [np.dtype(np.float64), np.dtype(np.float32)]
SIZES = [1, 2, 4, 9, 16, 17, 40]
LEADS: list[tuple[int, ...]] = [(), (3,), (2, 9)]


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).normal(size=shape)


def definite(*shape: int, seed: int = 0) -> np.ndarray:
    x = values(*shape, seed=seed)
    return np.asarray(x @ np.swapaxes(x, -1, -2) + shape[-1] * np.eye(shape[-1]))


def ran(op: str, *arrays: np.ndarray, **attrs: Any) -> tuple[np.ndarray, np.ndarray]:
    """What machine code gives, and NumPy; the texts of graph and plan parse back."""
    b = Builder()
    graph = b.graph(
        "g", [b.emit(op, *(b.input(f"x{i}", Array(x.dtype, x.shape)) for i, x in enumerate(arrays)), **attrs)]
    )
    text = print_graph(graph)
    assert print_graph(parse(text)) == text
    found = Ran(optimize(graph), list(arrays))
    plan = print_plan(found.lowered.plan)
    assert print_plan(parse_plan(plan)) == plan
    return found.outputs[0], evaluate(graph, *arrays)[0]


def agree(found: np.ndarray, expected: np.ndarray) -> None:
    single = found.dtype == np.float32
    scale = float(np.max(np.abs(expected), initial=1.0))
    np.testing.assert_allclose(found, expected, rtol=2e-3 if single else 1e-9, atol=(2e-4 if single else 1e-11) * scale)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n", SIZES)
def test_factors_and_solutions(n: int, dtype: np.dtype) -> None:
    for lead in LEADS if n < 10 else LEADS[:2]:
        a, c = values(*lead, n, n).astype(dtype), values(*lead, n, 3, seed=1).astype(dtype)
        spd = definite(*lead, n, n).astype(dtype)
        agree(*ran("cholesky", spd))
        low = np.linalg.cholesky(spd)
        agree(*ran("cholesky_adjoint", low, values(*lead, n, n, seed=2).astype(dtype)))
        f, expected = ran("lu", a)
        agree(f, expected)
        for transposed in (False, True):
            agree(*ran("solve", a, f, c, transposed=transposed))
        agree(*ran("log_det", a, f))
        agree(*ran("det", a, f))


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("n", [1, 5, 13, 30])
def test_triangles(n: int, lower: bool, transposed: bool, unit: bool) -> None:
    a = 0.1 * values(2, n, n) + np.eye(n) * (1.0 if unit else 2.0)
    c = values(2, n, 2, seed=1)
    x, expected = ran("triangular_solve", a, c, lower=lower, transposed=transposed, unit=unit)
    agree(x, expected)
    one = np.tril(a) if lower else np.triu(a)
    if unit:
        one = one - one * np.eye(n) + np.eye(n)
    agree((np.swapaxes(one, 1, 2) if transposed else one) @ x, c)


@pytest.mark.parametrize("n", [63, 64, 65, 150])
def test_the_adjoint_of_a_factor_goes_by_blocks(n: int) -> None:
    low = np.linalg.cholesky(definite(n, n))
    agree(*ran("cholesky_adjoint", low, values(n, n, seed=2)))


@pytest.mark.parametrize("n", [3, 18])
def test_derivatives_of_the_adjoint_of_a_factor(n: int) -> None:
    x, m = definite(2, n, n), values(2, n, n)

    def gradient(x: Any) -> Any:
        return np.sum(adjit.grad(lambda x: np.sum(np.linalg.cholesky(x) * m))(x) ** 2)

    adjit.check_grads(gradient, (x,))


def split(x: np.ndarray, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    parts, start = [], 0
    for shape in shapes:
        parts.append(x[..., start : start + math.prod(shape)].reshape(*x.shape[:-1], *shape))
        start += math.prod(shape)
    return parts


def unit_columns(q: np.ndarray) -> None:
    agree(
        np.swapaxes(q, -1, -2) @ q,
        np.broadcast_to(np.eye(q.shape[-1], dtype=q.dtype), (*q.shape[:-2], *2 * q.shape[-1:])),
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lead", LEADS[:2])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (3, 2), (2, 3), (7, 7), (20, 33), (33, 20)])
def test_eigenvalues_singular_values_and_qr(m: int, n: int, lead: tuple[int, ...], dtype: np.dtype) -> None:
    a = values(*lead, m, n).astype(dtype)
    for name, full in (("svd", False), ("svd_full", True)):
        found, expected = ran(name, a)
        (u, s, v), (_, wanted, _) = (split(x, *svd_shapes(m, n, full)) for x in (found, expected))
        agree(s, wanted)
        k = min(m, n)
        agree((u[..., :k] * s[..., None, :]) @ np.swapaxes(v[..., :k], -1, -2), a)
        unit_columns(u)
        unit_columns(v)
    agree(*ran("svdvals", a))
    agree(*ran("pinv", a, np.full(lead, 1e-5, dtype)))
    for name, full in (("qr", False), ("qr_full", True)):
        q, r = split(ran(name, a)[0], *qr_shapes(m, n, full))
        agree(q @ r, a)
        unit_columns(q)
        np.testing.assert_array_equal(np.tril(r, -1), 0 * r)
    square = values(*lead, m, m).astype(dtype)
    (w, v), (wanted, _) = (split(x, (m,), (m, m)) for x in ran("eigh", square))
    agree(w, wanted)
    below = np.tril(square)
    whole = below + np.swapaxes(np.tril(square, -1), -1, -2)
    agree(whole @ v, v * w[..., None, :])
    agree(*ran("eigvalsh", square))


# -- NumPy's functions -------------------------------------------------------------------------------------------------


def of_eigh(x: Any) -> Any:
    w, v = np.linalg.eigh(x)
    return np.sum(v * v * np.arange(v.shape[-1]), (-1, -2)) + np.sum(w * w, -1) + np.sum((v * v)[..., 0] * w, -1)


def of_svd(x: Any) -> Any:
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    return np.sum(u * u * s[..., None, :] ** 2, (-1, -2)) + np.sum((vh * vh)[..., :1] * s[..., None], (-1, -2))


def of_qr(x: Any) -> Any:
    q, r = np.linalg.qr(x)
    return np.sum(q * q * np.arange(q.shape[-1]), (-1, -2)) + np.sum(r * r * np.arange(r.shape[-1]), (-1, -2))


def tall(n: int) -> np.ndarray:
    return values(2, n + 1, n)


def wide(n: int) -> np.ndarray:
    return values(2, n, n + 2)


def square(n: int) -> np.ndarray:
    return values(2, n, n) + 2 * np.eye(n)


FUNCTIONS: dict[str, tuple[Callable[..., Any], list[Callable[[int], np.ndarray]]]] = {
    "cholesky": (np.linalg.cholesky, [lambda n: definite(2, n, n)]),
    "upper cholesky": (lambda x: np.linalg.cholesky(x, upper=True), [lambda n: definite(2, n, n)]),
    "solve": (np.linalg.solve, [square, lambda n: values(2, n, 2)]),
    "solve a vector": (np.linalg.solve, [square, lambda n: values(n)]),
    "solve many": (np.linalg.solve, [lambda n: square(n)[0], lambda n: values(3, n, 1)]),
    "inv": (np.linalg.inv, [square]),
    "det": (np.linalg.det, [square]),
    "slogdet": (lambda x: np.linalg.slogdet(x)[1], [square]),
    "sign": (lambda x: np.linalg.slogdet(x).sign, [lambda n: values(5, n, n)]),
    "matrix_power": (lambda x: np.linalg.matrix_power(x, -3), [square]),
    "tensorinv": (lambda x: np.linalg.tensorinv(x, 1), [lambda n: square(n)[0].reshape(n, n, 1)]),
    "tensorsolve": (np.linalg.tensorsolve, [lambda n: square(n)[0].reshape(n, 1, n), lambda n: values(n, 1)]),
    "eigh": (of_eigh, [square]),
    "eigvalsh": (lambda x: np.linalg.eigvalsh(x, "U"), [square]),
    "svd": (of_svd, [tall]),
    "wide svd": (of_svd, [wide]),
    "svdvals": (np.linalg.svdvals, [wide]),
    "singular values": (lambda x: np.linalg.svd(x, compute_uv=False), [tall]),
    "qr": (of_qr, [tall]),
    "wide qr": (of_qr, [wide]),
    "pinv": (np.linalg.pinv, [tall]),
    "wide pinv": (lambda x: np.linalg.pinv(x, rtol=1e-10), [wide]),
    "lstsq": (lambda a, b: np.linalg.lstsq(a, b)[0], [lambda n: tall(n)[0], lambda n: values(n + 1, 2)]),
    "residuals": (lambda a, b: np.linalg.lstsq(a, b, -1)[1], [lambda n: tall(n)[0], lambda n: values(n + 1)]),
    "cond": (np.linalg.cond, [tall]),
    "cond of sums": (lambda x: np.linalg.cond(x, 1), [square]),
    "spectral norm": (lambda x: np.linalg.norm(x, 2, axis=(-2, -1)), [tall]),
    "nuclear norm": (lambda x: np.linalg.norm(x, "nuc", axis=(-1, -2), keepdims=True), [wide]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_derivatives(name: str) -> None:
    function, makers = FUNCTIONS[name]
    for n in (1, 3):
        operands = [make(n) for make in makers]
        expected = function(*operands)
        np.testing.assert_allclose(adjit.jit(lambda *x: function(*x))(*operands), expected, rtol=1e-9, atol=1e-12)
        if n > 1:
            adjit.check_grads(function, tuple(operands))


@pytest.mark.parametrize("name", ["cholesky", "solve", "slogdet", "eigh", "svd", "qr"])
def test_larger_ones_and_batches(name: str) -> None:
    function, makers = FUNCTIONS[name]
    operands = [make(17) for make in makers]
    many = [np.stack([x, x + 0.01 * values(*x.shape, seed=3)]) for x in operands]
    if name == "cholesky":
        many = [np.stack([x, 2 * x]) for x in operands]
    expected = [function(*each) for each in zip(*many, strict=True)]
    np.testing.assert_allclose(adjit.vmap(lambda *x: function(*x))(*many), expected, rtol=1e-8, atol=1e-10)


def test_one_triangle_is_read() -> None:
    a = definite(4, 4)
    wild = np.tril(a) + np.triu(values(4, 4, seed=7), 1)
    np.testing.assert_allclose(adjit.jit(lambda x: np.linalg.cholesky(x))(wild), np.linalg.cholesky(a), rtol=1e-12)
    slope = adjit.grad(lambda x: np.sum(np.linalg.cholesky(x) ** 3))(wild)
    np.testing.assert_array_equal(np.triu(slope, 1), 0)


def test_repeated_eigenvalues_have_finite_derivatives() -> None:
    slope = adjit.grad(lambda x: np.sum(np.linalg.eigh(x)[0] ** 2))(np.eye(3) * 2.0)
    np.testing.assert_allclose(slope, 4 * np.eye(3), atol=1e-12)
    slope = adjit.grad(lambda x: np.linalg.norm(x, "nuc"))(np.eye(3))
    np.testing.assert_allclose(slope, np.eye(3), atol=1e-12)


def test_what_cannot_be_factored_leaves_the_state_as_it_was() -> None:
    for function in (np.linalg.inv, lambda x: np.linalg.solve(x, np.ones(3))):
        with pytest.raises(LinAlgError, match="a matrix is singular"):
            adjit.jit(lambda x, f=function: f(x))(np.zeros((3, 3)))
    with pytest.raises(
        np.linalg.LinAlgError, match=r"test_factoring.py:\d+: cholesky: a matrix is not positive definite"
    ):
        adjit.jit(lambda x: np.linalg.cholesky(x))(np.stack([np.eye(20), -np.eye(20)]))

    def loss(params: Any, x: Any) -> Any:
        return np.sum(np.linalg.inv(params["w"]) * x)

    step = adjit.training_step(loss, adjit.optim.sgd(0.1))
    state = step.init({"w": np.eye(2)})
    step(state, np.ones((2, 2)))
    before = state.params["w"].copy()
    bad = step.init({"w": np.zeros((2, 2))})
    with pytest.raises(LinAlgError):
        step(bad, np.ones((2, 2)))
    np.testing.assert_array_equal(bad.params["w"], 0)
    np.testing.assert_array_equal(state.params["w"], before)


def test_nan_goes_where_lapack_lets_it() -> None:
    a = definite(3, 3)
    a[1, 1] = np.nan
    with pytest.raises(LinAlgError):
        adjit.jit(lambda x: np.linalg.cholesky(x))(a)
    assert np.isnan(adjit.jit(lambda x: np.linalg.inv(x))(a)).any()


def test_a_discarded_singular_matrix_gives_no_nan() -> None:
    a = np.stack([np.eye(2), np.zeros((2, 2))])
    chosen = np.array([True, False])

    def f(x: Any) -> Any:
        return np.sum(np.where(chosen, np.linalg.slogdet(x)[1], 0.0))

    np.testing.assert_allclose(adjit.grad(f)(a), [np.eye(2), np.zeros((2, 2))])


def test_refusals() -> None:
    x = np.ones((2, 3))
    for call, text in [
        (lambda x: np.linalg.inv(x), "is not square"),
        (lambda x: np.linalg.qr(x, "raw"), "'raw' has no lowering"),
        (lambda x: np.linalg.eigh(x[:, :2], "X"), "UPLO is 'L' or 'U'"),
        (lambda x: np.linalg.svd(x[:, :2], hermitian=True), "hermitian"),
        (lambda x: np.linalg.solve(x[:, :2], x[0]), "do not fit"),
    ]:
        with pytest.raises(Exception, match=text):
            adjit.jit(call)(x)
    with pytest.raises(Exception, match="full_matrices=False"):
        adjit.grad(lambda x: np.sum(np.linalg.svd(x)[0]))(x)
