"""A dead result has derivative 0 by every operand, whatever number, infinity or NaN the values are.

Which rules make something else of a cotangent of zero is found by running them on special values; the declarations
have to agree, so that guards are carried where they matter and nowhere else."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import nn
from adjit.autodiff.reverse import gradient
from adjit.ir.builder import Builder, Value
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.op import OPS
from adjit.ir.types import BOOL, F64, Array
from adjit.ops.declare import Elementwise
from tests.both import run_both
from tests.ops.samples import COMPUTED, Case, cases_of

NAN, INF = np.nan, np.inf
SPECIAL = [NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1e308, -1e308, 1e-310, -1e-310, 1e160, 1e-160]
DIFFERENTIABLE = [name for name in COMPUTED if getattr(OPS[name], "vjp", None) is not None and name != "select"]
FUNCTIONS = [name for name in DIFFERENTIABLE if isinstance(OPS[name], Elementwise) and name != "cast"]


def tuples(count: int) -> list[np.ndarray]:
    """All tuples of special values, an array for each operand."""
    return [np.array(column) for column in zip(*itertools.product(SPECIAL, repeat=count), strict=True)]


def by_zero(name: str) -> bool:
    """Whether the rule gives anything but zero for a cotangent of zero somewhere."""
    op: Any = OPS[name]
    values = tuples(op.arity)
    b = Builder()
    nodes = [b.input(f"x{i}", Array(F64, v.shape)) for i, v in enumerate(values)]
    y = b.value(b.emit(name, *nodes))
    rules = op.vjp(b, b.full(0.0, y), y, *map(b.value, nodes))
    found = evaluate(b.graph("rule", [rule.node for rule in rules if rule is not None]), *values)
    return any(bool(np.any(part != 0)) for part in found)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_declared_singular_is(name: str) -> None:
    op: Any = OPS[name]
    assert op.singular == by_zero(name)


def special(case: Case, seed: int) -> list[np.ndarray]:
    """The case with special values in its floats."""
    rng = np.random.default_rng(seed)
    return [rng.choice(SPECIAL, a.shape) if a.dtype == F64 else a for a in case.arrays]


def dead(case: Case) -> tuple[Graph, list[int]]:
    """The gradient of sum(select(mask, op(...), 0)) by the float operands; the mask is one more input."""
    b = Builder()
    nodes = [b.input(f"x{i}", Array(a.dtype, a.shape)) for i, a in enumerate(case.arrays)]
    y = b.value(b.emit(case.op, *nodes, **case.attrs))
    mask = b.value(b.input("mask", Array(BOOL, y.shape)))
    kept: Value = b.select(mask, y, 0.0)
    total = b.sum(kept, axes=tuple(range(len(y.shape)))) if y.shape else kept
    floats = [i for i, a in enumerate(case.arrays) if a.dtype == F64]
    return gradient(b.graph("f", [total.node]), floats), floats


def float_cases(name: str) -> list[Case]:
    op = OPS[name]
    if isinstance(op, Elementwise) and name != "cast":
        return [Case(name, tuple(tuples(op.arity or 1)))]
    cases = [case for case in cases_of(name) if any(a.dtype == F64 and 0 < a.size <= 200 for a in case.arrays)]
    return [case for case in cases if case.attrs.get("dtype", F64) == F64][:6]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_a_dead_result_has_no_slope(name: str) -> None:
    cases = float_cases(name)
    assert cases
    for seed, case in enumerate(cases):
        graph, floats = dead(case)
        values = list(case.arrays) if name in FUNCTIONS else special(case, seed)
        mask = np.zeros(graph.inputs[-1].shape, bool)
        with np.errstate(all="ignore"):
            found = run_both(graph, *values, mask)[1:]
        for number, slope in zip(floats, found, strict=True):
            assert not slope.any(), (str(case), number)


@pytest.mark.parametrize("other", SPECIAL, ids=str)
@pytest.mark.parametrize("text", ["x * c", "c * x", "x / c", "c / x", "x**c", "x + c", "np.maximum(x, c)", "x % c"])
def test_a_constant_beside_it(text: str, other: float) -> None:
    def f(x: Any) -> Any:
        return np.sum(np.where(x != x, eval(text, {"np": np, "x": x, "c": other}), 0.0))

    x = np.array([v for v in SPECIAL if v == v])
    with np.errstate(all="ignore"):
        assert not adjit.grad(f)(x).any()


def of_rows(function: Any) -> Any:
    """sum(where(ok, function(w, x), 0)), ok along the first axis."""

    def f(w: Any, x: Any, ok: Any) -> Any:
        y = function(w, x)
        return np.sum(np.where(ok.reshape((-1,) + (1,) * (y.ndim - 1)), y, 0.0))

    return f


ROWS: dict[str, Any] = {
    "vector": lambda w, x: x @ w[0],
    "product": lambda w, x: x @ w.T,
    "from the left": lambda w, x: (w @ x.T).T,
    "einsum": lambda w, x: np.einsum("ik,jk,jl->il", x, w, w),
    "two layers": lambda w, x: np.tanh(np.tanh(x @ w.T) @ w[:, :3]),
    "rectified": lambda w, x: nn.relu(x @ w.T) @ w,
    "rectified by hand": lambda w, x: np.where(x @ w.T > 0, x @ w.T, 0.0) @ w,
    "gelu": lambda w, x: nn.gelu(x @ w.T),
    "silu": lambda w, x: nn.silu(x @ w.T),
    "softmax": lambda w, x: nn.softmax(x @ w.T, axis=1) * np.arange(4.0),
    "logsumexp": lambda w, x: nn.logsumexp(x @ w.T, axis=1),
    "arctan of a quotient": lambda w, x: np.arctan(x / w[0]),
    "norm": lambda w, x: np.linalg.norm(x @ w.T, axis=1),
    "batches": lambda w, x: x[:, None, :] @ np.stack([w.T] * len(x)),
    "of a transformed row": lambda w, x: (x * w[1]) @ w.T,
    "running product": lambda w, x: np.cumprod(x * w[0], axis=1),
    "running sum": lambda w, x: np.cumsum(x * w[0], axis=1),
}  # fmt: skip


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", ROWS)
def test_rows_that_are_dead(name: str, order: int, bad: float) -> None:
    """The slope is that of the other rows alone, by the weights and by the rows."""
    function: Any = of_rows(ROWS[name])
    by = adjit.grad(function, argnums=(0, 1))
    if order == 2:
        first = adjit.grad(function, argnums=0)
        by = adjit.grad(lambda w, x, ok: np.sum(first(w, x, ok) ** 2), argnums=(0, 1))
    rng = np.random.default_rng(3)
    w, x = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    ok = np.array([True, False, True, False, True])
    wanted_w, wanted_x = by(w, x[ok], ok[ok])
    x[1, 1], x[3] = bad, bad
    with np.errstate(all="ignore"):
        found = [by(w, x, ok), run_both(by.ir("adjoint", w, x, ok), w, x, ok)[-2:]]
    for by_w, by_x in found:
        np.testing.assert_allclose(by_w, wanted_w, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(by_x[ok], wanted_x, rtol=1e-11, atol=1e-12)
        assert not by_x[~ok].any()


@pytest.mark.parametrize("function", [
    nn.relu, lambda z: np.where(z > 0, z, 0.0), nn.elu, nn.softplus, nn.leaky_relu,
    lambda z: np.where(z >= 6, 6.0, nn.relu(z)), lambda z: np.where(z >= 6, NAN, nn.relu(z)),
])  # fmt: skip
def test_a_nan_that_an_activation_shows_stays(function: Any) -> None:
    x, w = np.array([[1.0, NAN], [2.0, 1.0]]), np.ones((2, 2))
    found = adjit.grad(lambda w: np.sum(function(x @ w)))(w)
    shown = np.isnan(function(np.array([NAN]))).any()
    assert np.isnan(found[1]).all() == shown
    assert np.isfinite(found).all() != shown


def test_what_no_result_needs_to_be_shielded_from_is_not() -> None:
    """Rectifiers whose own operand decides, and both sides of a condition, leave no select on an operand."""

    def selects(activation: Any) -> list[str]:
        def loss(p: Any, x: Any) -> Any:
            return np.mean(activation(activation(x @ p[0]) @ p[1]) ** 2)

        p, x = (np.ones((7, 8)), np.ones((8, 9))), np.ones((6, 7))
        graph: Any = adjit.grad(loss).ir("optimized", p, x)
        operands = [arg for node in graph.nodes if node.op.name == "contract" for arg in node.args]
        made = [arg for arg in operands if arg.op.name == "select"]
        # A rectified layer, and a cotangent that a mask was laid on, are selects of their own right.
        inputs = set(graph.inputs)
        return [str(arg.loc) for arg in made if inputs & set(arg.args)]

    clipped = (lambda z: np.where(z >= 6, 6.0, nn.relu(z)), lambda z: np.where(z > 6, 6.0, np.where(z < 0, 0.0, z)))
    for activation in (nn.relu, nn.leaky_relu, nn.elu, nn.softplus, nn.silu, nn.gelu, np.tanh, *clipped):
        assert not selects(activation), activation
    assert selects(lambda z: np.where(z > 0, z, 0.0))
