"""Compositions have the right derivative: against central differences, and at the edges (ties, zeros, infinities)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit.autodiff.reverse import gradient
from adjit.ir.types import F64, Array
from adjit.trace import trace_flat
from tests.both import run_both
from tests.trace.numpy_calls import from_text, sample

GRADIENTS: list[tuple[str, list[float], list[float]]] = [
    ("np.hypot(x[0], x[1])", [0.0, 0.0], [0.0, 0.0]),
    ("np.hypot(x[0], x[1])", [3.0, 4.0], [0.6, 0.8]),
    ("np.hypot(x[0], x[1])", [3e300, 4e300], [0.6, 0.8]),
    ("np.logaddexp(x[0], x[1])", [-np.inf, 0.0], [0.0, 1.0]),
    ("np.logaddexp(x[0], x[1])", [np.inf, np.inf], [0.5, 0.5]),
    ("np.logaddexp(x[0], x[1])", [-np.inf, -np.inf], [0.5, 0.5]),
    ("np.logaddexp(x[0], x[1])", [1000.0, 1000.0], [0.5, 0.5]),
    ("np.logaddexp.reduce(x)", [-np.inf, -np.inf], [0.0, 0.0]),
    ("np.logaddexp.reduce(x)", [0.0, -np.inf], [1.0, 0.0]),
    ("np.logaddexp.reduce(x)", [800.0, 800.0], [0.5, 0.5]),
    ("np.linalg.norm(x)", [0.0, 0.0], [0.0, 0.0]),
    ("np.linalg.norm(x)", [3.0, -4.0], [0.6, -0.8]),
    ("np.sum(np.clip(x, -1.0, 1.0))", [1.0, 2.0], [1.0, 0.0]),
    ("np.sum(np.sinc(x))", [0.0, 0.5], [0.0, -4 / np.pi]),
    ("np.sum(np.modf(x)[0])", [-2.0, 1.5], [1.0, 1.0]),
    ("np.sum(np.round(x, 1))", [0.3, 1.5], [0.0, 0.0]),
    ("np.max(x)", [2.0, 2.0], [0.5, 0.5]),
    ("np.nansum(x)", [np.nan, 2.0], [0.0, 1.0]),
    ("np.nanmean(x)", [np.nan, 2.0], [0.0, 1.0]),
    ("np.sum(np.nan_to_num(x))", [np.nan, 2.0], [0.0, 1.0]),
    ("np.fmax(x[0], x[1])", [np.nan, 2.0], [0.0, 1.0]),
    ("np.prod(x)", [0.0, 3.0], [3.0, 0.0]),
]


@pytest.mark.parametrize(("text", "x", "expected"), GRADIENTS)
def test_gradients_at_edges(text: str, x: list[float], expected: list[float]) -> None:
    call = from_text(text, "x")
    graph = trace_flat("f", lambda xs: call(xs[0]), [Array(F64, (2,))], ["x"]).graph
    *_, found = run_both(gradient(graph, [0]), np.array(x))
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-300)


SMOOTH = [
    "np.sum(x, axis=0)", "np.mean(x, axis=1)", "np.var(x, axis=0)", "np.std(x, ddof=1)", "np.prod(x, axis=0)",
    "np.max(x, axis=1)", "np.min(x)", "np.ptp(x, axis=0)", "np.cumsum(x, axis=1)", "np.cumprod(x, axis=0)",
    "np.logaddexp.reduce(x, axis=1)", "np.logaddexp2.reduce(x)", "np.maximum.accumulate(x)",
    "np.logaddexp.accumulate(x, axis=1)", "np.average(x, weights=np.abs(x))", "np.cov(x)", "np.corrcoef(x)",
    "np.linalg.norm(x)", "np.linalg.norm(x, 3, axis=0)", "np.linalg.norm(x, 1)", "np.linalg.norm(x, np.inf, axis=0)",
    "x @ x.T", "np.dot(x, x[0])", "np.einsum('ij,kj,il->kl', x, x, x)", "np.einsum('ij->j', x)",
    "np.einsum('ii->i', x[:, :3])", "np.tensordot(x, x, axes=([0, 1], [0, 1]))", "np.outer(x[0], x[1])",
    "np.kron(x[:2], x[1:])", "np.trace(x, 1)", "np.cross(x[:, :3], x[:, 1:])", "np.linalg.matrix_power(x[:, :3], 3)",
    "np.linalg.multi_dot([x, x.T, x])", "np.inner(x, x)", "np.vdot(x, x)", "np.vecdot(x, x)",
    "np.reshape(x, (4, 3))", "np.roll(x, 2)", "np.repeat(x, [1, 0, 2], axis=0)", "np.tile(x, (2, 2))", "np.rot90(x)",
    "np.concatenate([x, x * 2])", "np.stack([x, x**2], axis=1)", "np.pad(x, 1, mode='reflect')", "np.pad(x, 1)",
    "np.pad(x, 2, mode='wrap')", "np.insert(x, 1, x[0], axis=0)", "np.delete(x, 1, axis=1)", "np.split(x, 2, 1)[1]",
    "np.where(x > 0, np.exp(x), x)", "np.clip(x, -0.5, 0.5)", "np.select([x > 1, x > 0], [x, x**2], x**3)",
    "np.take(x, [[0, 2]], axis=1)", "np.take_along_axis(x, np.array([[0], [2], [1]]), 1)", "np.tril(x)",
    "np.diag(x[0])", "np.diagonal(x, 1)", "np.diff(x, n=2)", "np.gradient(x, axis=1)", "np.trapezoid(x)",
    "np.polyval(x[0], x[1])", "np.convolve(x[0], x[1])", "np.interp(x[0], [-2.0, 0.1, 3.0], x[1, :3])",
    "np.interp(x[0], np.cumsum(x[1] ** 2), x[2])", "np.linspace(x[0], x[1], 3)", "np.unwrap(x * 4)",
    "np.vander(x[0])", "np.hypot(x, 2.0)", "np.logaddexp(x, x[0])", "np.arctan2(x, x[0] + 5)", "np.sinc(x)",
    "np.remainder(x, 0.7)", "np.remainder(1.3, x)", "np.fmod(x, 0.7)", "np.fmax(x, x[0])", "np.copysign(x, -1.0)",
    "np.ldexp(x, 3)", "np.exp2(x)", "np.expm1(x)", "np.log1p(np.abs(x))", "np.cbrt(np.abs(x))", "np.reciprocal(x)",
    "np.degrees(x)", "np.modf(x)[0]", "np.nanmean(x)", "np.nanstd(x)", "np.logspace(x[0], 1, 3)",
]  # fmt: skip


@pytest.mark.parametrize("text", SMOOTH)
def test_against_differences(text: str) -> None:
    """The gradient of a weighted sum; then that of a weighted sum of its gradient."""
    call = from_text(text, "x")
    x = sample((3, 4), seed=3)
    weights = [sample(np.shape(call(x)), seed=4), sample(x.shape, seed=5)]
    first: Any = adjit.grad(lambda v: np.sum(call(v) * weights[0]))
    second: Any = adjit.grad(lambda v: np.sum(first(v) * weights[1]))
    slopes = differences(lambda v: np.sum(call(v) * weights[0]), x)
    curves = differences(lambda v: np.sum(first(v) * weights[1]), x)
    for function, expected in ((first, slopes), (second, curves)):
        (found,) = run_both(function.ir("adjoint", x), x)
        # Central differences with this step are right to about 1e-9 of the largest value.
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7 * np.max(np.abs(expected)) + 1e-8)


def differences(f: Callable[[np.ndarray], Any], x: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Central differences of a scalar function by each element."""
    result = np.zeros_like(x)
    for position in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[position] += step
        down[position] -= step
        result[position] = (f(up) - f(down)) / (2 * step)
    return result


SECOND: list[tuple[str, float, float]] = [
    ("np.logaddexp(x, 0.0)", 0.0, 0.25),
    ("np.logaddexp(0.0, x)", 0.0, 0.25),
    ("np.logaddexp(x, 0.0)", 800.0, 0.0),
    ("np.logaddexp2(x, 0.0)", 0.0, 0.25 * np.log(2.0)),
    ("np.logaddexp2(0.0, x)", 0.0, 0.25 * np.log(2.0)),
    ("np.logaddexp(x, -np.inf)", 3.0, 0.0),
    ("np.logaddexp.reduce(np.stack([x, 0.0]))", 0.0, 0.25),
    ("np.sinc(x)", 0.0, -(np.pi**2) / 3),
    ("np.hypot(x, 3.0)", 0.0, 1 / 3),
    ("np.linalg.norm(np.stack([x, 3.0]))", 0.0, 1 / 3),
    ("x * np.abs(x)", 0.0, 0.0),
    ("np.arctan2(x, 1.0)", 0.0, 0.0),
    ("x**2", 0.0, 2.0),
    ("x**3", 0.0, 0.0),
    ("np.prod(np.stack([x, x, x]))", 0.0, 0.0),
    ("np.prod(np.stack([x, x]))", 0.0, 2.0),
    ("np.expm1(x)", 0.0, 1.0),
    ("np.tanh(x)", 0.0, 0.0),
]


@pytest.mark.parametrize(("text", "x", "expected"), SECOND)
def test_second_derivatives_at_edges(text: str, x: float, expected: float) -> None:
    call = from_text(text, "x")
    second: Any = adjit.grad(adjit.grad(call))
    (found,) = run_both(second.ir("adjoint", x), np.array(x))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
