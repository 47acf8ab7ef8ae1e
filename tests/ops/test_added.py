"""An op is added at one place: a toy of each kind goes through tracing, adjoint, passes, plan and machine code with
nothing but its declaration, as docs/adding-an-op.md has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import adjit
from adjit.autodiff.batch import batch
from adjit.autodiff.forward_mode import jvp
from adjit.autodiff.reverse import gradient
from adjit.ir.axes import Along, Ints, Relation
from adjit.ir.builder import ITEM, Builder
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.op import OPS, Attrs
from adjit.ir.text import parse
from adjit.ir.types import F64, Array, Tuple
from adjit.ops.declare import Binding, Bodied, Movement, elementwise
from adjit.trace import apply
from adjit_runtime.errors import ShapeError
from tests.both import run_both


def _declare_softsign() -> None:
    elementwise(
        "softsign", numpy=lambda x: x / (1 + np.abs(x)), symbolic=lambda x: x / (1 + abs(x)), singular=True, cost=6,
        vjp=lambda b, g, y, x: (g / ((1.0 + b.abs(x)) * (1.0 + b.abs(x))),),
        scalar=lambda k, x: x / (1.0 + k.abs(x)),
    )  # fmt: skip


def _every_other_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    (x,) = types
    axis = attrs["axis"]
    return x.with_shape((*x.shape[:axis], -(-x.shape[axis] // 2), *x.shape[axis + 1 :]))


def _every_other_axes(shapes: Sequence[Ints], shape: Ints, attrs: Attrs) -> Relation:
    return Relation((tuple(Along(i, 0, 2 if i == attrs["axis"] else 1) for i in range(len(shape))),))


def _every_other_vjp(b: Any, g: Any, y: Any, x: Any, axis: int) -> tuple[Any]:
    n = x.shape[axis]
    high = tuple(int(i == axis and n % 2 == 0) for i in range(len(x.shape)))
    interior = tuple(int(i == axis) for i in range(len(x.shape)))
    return (b.pad(g, low=(0,) * len(x.shape), high=high, interior=interior, value=g.dtype.type(0).item()),)


EVERY_OTHER = Movement(
    name="every_other", kind="movement", arity=1, infer=_every_other_type, attr_kinds={"axis": "int"},
    axes=_every_other_axes, lift=lambda attrs, n: {"axis": attrs["axis"] + 1},
    evaluate=lambda x, *, axis: x[(slice(None),) * axis + (slice(None, None, 2),)],
    vjp=_every_other_vjp,
)  # fmt: skip


def _iterate_type(types: tuple[Array, ...], attrs: Attrs) -> Tuple:
    body: Graph = attrs["body"]
    if [node.type for node in body.inputs] != list(types) or body.outputs[0].type != types[0]:
        raise ShapeError(f"iterate: a body that takes and gives something else than {types[0]}")
    stacked = [node.array_type for node in body.outputs[1:]]
    return Tuple((types[0], *(t.with_shape((attrs["length"], *t.shape)) for t in stacked)))


def _evaluate_iterate(x: Any, *rest: Any, body: Graph, length: int, carried: int) -> tuple[Any, ...]:
    made = []
    for _ in range(length):
        x, *others = evaluate(body, x, *rest)
        made.append(others)
    return (x, *(np.stack(values) for values in zip(*made, strict=True)))


def _iterate_entering(attrs: Attrs) -> tuple[Binding, ...]:
    return tuple(Binding(i, "whole" if i else "carried") for i in range(len(attrs["body"].inputs)))


def _iterate_leaving(attrs: Attrs) -> tuple[Binding, ...]:
    return tuple(Binding(i, "part" if i else "carried") for i in range(len(attrs["body"].outputs)))


ITERATE = Bodied(
    name="iterate", kind="scan", arity=None, infer=_iterate_type, evaluate=_evaluate_iterate,
    attr_kinds={"length": "int", "carried": "int", "body": "graph"},
    entering=_iterate_entering, leaving=_iterate_leaving,
)  # fmt: skip


@pytest.fixture(autouse=True)
def toys() -> Iterator[None]:
    _declare_softsign()
    OPS["every_other"] = EVERY_OTHER
    OPS["iterate"] = ITERATE
    yield
    del OPS["softsign"], OPS["every_other"], OPS["iterate"]


def softsign(x: Any) -> Any:
    return apply("softsign", x)


def every_other(x: Any, axis: int) -> Any:
    return apply("every_other", x, axis=axis)


def plain(x: Any) -> Any:
    return x / (1 + np.abs(x))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (8,), (37,), (5, 6), (33, 70), (0, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_elementwise_op(shape: tuple[int, ...], dtype: Any) -> None:
    x = np.asarray(np.random.default_rng(0).normal(size=shape), dtype)
    rtol = 1e-6 if dtype is np.float32 else 1e-14
    np.testing.assert_allclose(adjit.jit(lambda x: softsign(x) * 2)(x), plain(x) * 2, rtol=rtol)
    gradient: Any = adjit.grad(lambda x: np.sum(np.where(x > -1, softsign(x * x + 1), 0)))
    wanted = np.where(x > -1, 2 * x / (2 + x * x) ** 2, 0)
    np.testing.assert_allclose(gradient(x), wanted, rtol=50 * rtol, atol=rtol)
    second = adjit.grad(lambda x: np.sum(gradient(x) * x))
    run_both(second.ir("adjoint", x), x)
    rows = np.stack([x, x + 1])
    np.testing.assert_allclose(adjit.vmap(softsign)(rows), plain(rows), rtol=rtol)


@pytest.mark.parametrize("shape", [(1,), (3,), (8,), (37,), (5, 6), (33, 70), (2, 3, 5)])
def test_a_structural_op(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).normal(size=shape)
    for axis in range(len(shape)):

        def f(x: Any, axis: int = axis) -> Any:
            y = every_other(np.sin(x), axis)
            z = every_other(every_other(x * 2, axis) + y, axis)
            return np.sum(y * y) + np.sum(z**3) + np.sum(every_other(x, axis))

        def wanted(x: np.ndarray, axis: int = axis) -> Any:
            cut = (slice(None),) * axis + (slice(None, None, 2),)
            y = np.sin(x)[cut]
            z = ((x * 2)[cut] + y)[cut]
            return np.sum(y * y) + np.sum(z**3) + np.sum(x[cut])

        function = adjit.value_and_grad(f)
        value, slope = function(x)
        np.testing.assert_allclose(value, wanted(x), rtol=1e-12)
        step = 1e-6 * np.ones_like(x)
        moved = (wanted(x + step) - wanted(x - step)) / 2e-6
        np.testing.assert_allclose(np.sum(slope), moved, rtol=1e-6)
        run_both(function.ir("adjoint"), x, terms=float(np.sum(np.abs(x)) + 1))
        assert "every_other" in str(function.ir("optimized"))
        rows = np.stack([x, -x, 2 * x])
        np.testing.assert_allclose(adjit.vmap(f)(rows), [wanted(row) for row in rows], rtol=1e-12)


def test_a_structural_op_that_does_not_say_how_it_is_batched() -> None:
    OPS["every_other"] = replace(EVERY_OTHER, lift=None)
    with pytest.raises(adjit.InternalError, match="every_other: its declaration does not say how it is batched"):
        adjit.vmap(lambda x: every_other(x, 0))(np.ones((3, 4)))


def test_rows_go_through_it_in_tiles() -> None:
    rng = np.random.default_rng(2)
    data, weights = rng.normal(size=(60_000, 64)).astype(np.float32), rng.normal(size=(32, 8)).astype(np.float32) / 8

    def loss(w: Any, x: Any) -> Any:
        return np.mean(np.tanh(softsign(every_other(x, 1)) @ w) ** 2)

    function = adjit.value_and_grad(loss)
    value, slope = function(weights, data)
    assert "tiled" in str(function.ir("optimized"))
    hidden = np.tanh(plain(data[:, ::2].astype(float)) @ weights)
    np.testing.assert_allclose(value, np.mean(hidden**2), rtol=1e-5)
    wanted = plain(data[:, ::2].astype(float)).T @ (2 * hidden * (1 - hidden**2) / hidden.size)
    np.testing.assert_allclose(slope, wanted, rtol=1e-3, atol=1e-7)


def test_masks_and_views_meet_it() -> None:
    x = np.array([0.5, -2.0, 3.0, 0.0, 1.0])
    gradient = adjit.grad(lambda x: np.sum(np.where(every_other(x, 0) > 0, np.sqrt(every_other(x, 0)), 0.0)))
    np.testing.assert_allclose(gradient(x), [0.5 / np.sqrt(0.5), 0, 0.5 / np.sqrt(3.0), 0, 0.5])


def iterated(n: int) -> Graph:
    """The sum of what a few turns of sin(w * h + h) make of x."""
    inner = Builder()
    h, w = (inner.input(name, Array(F64, (n,))) for name in "hw")
    inner.emit("add", inner.emit("mul", w, h), h)
    body = inner.graph("turn", [inner.emit("sin", inner.nodes[-1])])
    b = Builder()
    operands = [b.input(name, Array(F64, (n,))) for name in "xw"]
    loop = b.emit("iterate", *operands, length=4, carried=1, body=body)
    return b.graph("f", [b.emit("sum", b.emit(ITEM, loop, index=0), axes=(0,))])


@pytest.mark.parametrize("n", [3, 500])
def test_an_op_with_a_body(n: int) -> None:
    x, w = (np.random.default_rng((n, seed)).uniform(0.1, 0.9, n) for seed in range(2))

    def wanted(x: Any, w: Any) -> Any:
        for _ in range(4):
            x = np.sin(w * x + x)
        return x.sum()

    graph = iterated(n)
    assert str(parse(str(graph))) == str(graph)
    np.testing.assert_allclose(run_both(graph, x, w, terms=n)[0], wanted(x, w), rtol=1e-13)
    step = 1e-6
    moved = (wanted(x + step, w + step) - wanted(x - step, w - step)) / (2 * step)
    adjoint = gradient(graph, [0, 1])
    assert "= iterate " in str(adjoint)
    _, by_x, by_w = run_both(adjoint, x, w, terms=n)
    np.testing.assert_allclose(by_x.sum() + by_w.sum(), moved, rtol=1e-8)
    along = jvp(graph, [0, 1])
    ones = np.ones(n)
    np.testing.assert_allclose(run_both(along, x, w, ones, ones, terms=n)[1], moved, rtol=1e-8)
    assert "= scan " in str(along)
    rows = np.stack([x, 0.5 * x])
    batched = batch(graph, [0, None], 2).graph
    assert "= iterate " in str(batched)
    np.testing.assert_allclose(run_both(batched, rows, w, terms=n)[0], [wanted(row, w) for row in rows], rtol=1e-13)
