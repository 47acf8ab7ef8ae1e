"""Derivatives of very large and very small numbers: what has a slope within the dtype's range gives it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import adjit
from adjit.autodiff.reverse import gradient
from adjit.ir.builder import Builder
from adjit.ir.evaluate import evaluate
from adjit.ir.op import OPS
from adjit.ir.types import F32, F64, Array
from adjit.ops.declare import Elementwise
from tests.both import run_both
from tests.ops.samples import COMPUTED

FUNCTIONS = [
    name
    for name in COMPUTED
    if isinstance(OPS[name], Elementwise) and getattr(OPS[name], "vjp", None) and name not in ("select", "cast")
]
CANCELS = {"tanh": "1 - y^2 is 0 where y is 1 to the last bit"}


def magnitudes(every: int) -> np.ndarray:
    """Numbers of both signs over the range of normal numbers of float32, as float64."""
    sizes = 10.0 ** np.arange(-37, 38, 0.5)[::every]
    return np.concatenate([sizes, -sizes]).astype(np.float32).astype(np.float64)


def slopes(name: str, arrays: list[np.ndarray], dtype: np.dtype) -> list[np.ndarray]:
    b = Builder()
    nodes = [b.input(f"x{i}", Array(dtype, a.shape)) for i, a in enumerate(arrays)]
    y = b.value(b.emit(name, *nodes))
    graph = gradient(b.graph("f", [b.sum(y, axes=(0,)).node]), range(len(nodes)))
    with np.errstate(all="ignore"):
        found = evaluate(graph, *(a.astype(dtype) for a in arrays))[1:]
        value = OPS[name].evaluate(*arrays)
    return [np.where(np.isfinite(value), slope, np.nan).astype(np.float64) for slope in found]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_slopes_of_float32_are_those_of_float64(name: str) -> None:
    op: Any = OPS[name]
    v = magnitudes(1 if op.arity == 1 else 3)
    arrays = [v] if op.arity == 1 else [part.ravel() for part in np.meshgrid(v, v)]
    for single, double in zip(slopes(name, arrays, F32), slopes(name, arrays, F64), strict=True):
        # Where a factor of the rule may itself leave the range, the slope is near its end.
        inside = np.isfinite(double) & (np.abs(double) < 1e37) & (np.abs(double) > 1e-36)
        lost = 1e-7 if name in CANCELS else 0.0
        np.testing.assert_allclose(single[inside], double[inside], rtol=1e-3, atol=lost)


CASES: list[tuple[Any, list[float], list[float]]] = [
    (np.arcsinh, [1e200], [1e-200]),
    (np.arcsinh, [-1e200], [1e-200]),
    (np.arcsinh, [1e10], [1 / math.sqrt(1e20 + 1)]),
    (np.arccosh, [1e200], [1e-200]),
    (np.arctan2, [3e-200, 4e-200], [0.16e200, -0.12e200]),
    (np.arctan2, [3e200, 4e200], [0.16e-200, -0.12e-200]),
    (np.arctan2, [1e300, 1e-300], [0.0, -1e-300]),
    (np.arctan2, [math.inf, 1.0], [0.0, math.nan]),
    (np.hypot, [3e200, 4e200], [0.6, 0.8]),
    (lambda x, y: np.linalg.norm(np.stack([x, y])), [3e200, 4e200], [0.6, 0.8]),
    (lambda x, y: np.linalg.norm(np.stack([x, y])), [3e-200, 4e-200], [0.6, 0.8]),
    (lambda x, y: np.linalg.norm(np.stack([x, y]), 3), [0.0, 4e200], [0.0, 1.0]),
    (lambda x, y: np.linalg.norm(np.stack([x, y]), 3), [2e-200, 2e-200], [0.5 ** (2 / 3), 0.5 ** (2 / 3)]),
]


@pytest.mark.parametrize(("function", "x", "wanted"), CASES)
def test_slopes_beyond_the_root_of_the_range(function: Any, x: list[float], wanted: list[float]) -> None:
    by: Any = adjit.grad(lambda *xs: function(*xs), argnums=tuple(range(len(x))))
    with np.errstate(all="ignore"):
        both = run_both(by.ir("adjoint", *x), *map(np.array, x))[-len(x) :]
    np.testing.assert_allclose(both, wanted, rtol=1e-14)
    np.testing.assert_allclose(by(*x), wanted, rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", [None, 3, 0.5, -1])
def test_norms_neither_overflow_nor_vanish(dtype: str, order: float | None) -> None:
    most = float(np.finfo(dtype).max)
    x = np.array([[3, 4, 12], [0, 0, 0], [1, 2, 2]], dtype) + np.array([0, 0, 0.5], dtype) * (order == -1)
    f = adjit.jit(lambda x: np.linalg.norm(x, order, axis=1))
    with np.errstate(all="ignore"):
        wanted = np.linalg.norm(x.astype(np.longdouble), order, axis=1)
    for scale in (1.0, 2.0 ** (math.log2(most) // 1 - 12), 2.0 ** -(math.log2(most) // 1 - 24)):
        found = f(x * np.asarray(scale, dtype))
        assert found.dtype == dtype
        np.testing.assert_allclose(found, (wanted * scale).astype(dtype), rtol=1e-5 if dtype == "float32" else 1e-13)
    if order is None:
        assert adjit.jit(lambda x: np.linalg.norm(x))(np.array([np.inf, 1], dtype)) == np.inf
        assert np.isnan(adjit.jit(lambda x: np.linalg.norm(x))(np.array([np.nan, 1], dtype)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("exponent", [-0.9, -0.6, 0.0, 0.6, 0.9, 0.99])
def test_gradients_are_clipped_at_any_size(dtype: str, exponent: float) -> None:
    size = np.asarray(float(np.finfo(dtype).max) ** exponent, dtype)
    limit = 1.0 if exponent >= 0 else float(size)
    step = adjit.training_step(lambda p, a: np.sum(p["x"] * a) + p["y"] * a[0], adjit.optim.sgd(1.0), clip_norm=limit)
    state = step.init({"x": np.zeros(2, dtype), "y": np.zeros((), dtype)})
    step(state, np.array([2, 1], dtype) * size)
    np.testing.assert_allclose(state.params["x"], np.array([-2, -1]) / 3 * limit, rtol=1e-5)
    np.testing.assert_allclose(state.params["y"], -2 / 3 * limit, rtol=1e-5)


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_that_share_an_operand_do_not_overflow_in_their_sum(dtype: str, count: int) -> None:
    """The operands that are not shared are added first, which must stay within the range."""
    most, tiny = np.asarray(np.finfo(dtype).max, dtype), np.asarray(2.0**-20, dtype)
    f: Any = adjit.jit(lambda w, *xs: sum(x @ w for x in xs))
    w = np.full((5, 4), tiny)
    xs = [np.full((3, 5), most)] * (count - 1) + [np.full((3, 5), -most / 2)]
    optimized = f.ir("optimized", w, *xs)
    assert [node.op.name for node in optimized.nodes].count("contract") == 1
    wanted = (count - 1.5) * 5 * float(tiny) * float(most)
    np.testing.assert_allclose(f(w, *xs), np.full((3, 4), wanted), rtol=1e-6 if dtype == "float32" else 1e-14)
