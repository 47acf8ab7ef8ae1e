"""The adjoint graph itself: symbolic zeros, accumulation, un-broadcasting, lines of source, refusals."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest

import adjit
from adjit.autodiff.reverse import gradient, vjp
from adjit.ir.builder import Builder
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.op import OPS
from adjit.ir.types import F32, F64, Array
from adjit.ir.verify import verify
from adjit_runtime.errors import DTypeError, ShapeError, TraceError, WideningWarning
from tests.trace.check import graph_of


def ops(graph: Graph) -> Counter[str]:
    return Counter(node.op.name for node in graph.nodes)


def test_an_input_that_is_not_used_has_zeros_and_costs_nothing() -> None:
    graph = graph_of(lambda x, y: np.sum(np.exp(x)), np.ones(3), np.ones((2, 2)))
    adjoint = gradient(graph, [0, 1])
    assert adjoint.outputs[2].is_splat
    assert ops(adjoint)["exp"] == 1
    _, _, zeros = evaluate(adjoint, np.ones(3), np.ones((2, 2)))
    np.testing.assert_array_equal(zeros, np.zeros((2, 2)))


def test_nothing_is_made_for_what_no_target_needs() -> None:
    graph = graph_of(lambda x, y: np.sum(np.sin(x) * np.cos(y)), np.ones(3), np.ones(3))
    by_x = ops(gradient(graph, [0]))
    # The rule of sin needs cos(x); nothing of the rule of cos is there.
    assert (by_x["sin"], by_x["cos"], by_x["neg"]) == (1, 2, 0)


def test_uses_accumulate() -> None:
    x = np.array([1.0, 2.0])
    found = adjit.grad(lambda v: np.sum(v * v + v + np.exp(v) * v))(x)
    np.testing.assert_allclose(found, 2 * x + 1 + np.exp(x) * (1 + x), rtol=1e-14)


@pytest.mark.parametrize("shapes", [((3,), (2, 3)), ((2, 1), (1, 3)), ((), (4,)), ((1,), (4,)), ((3, 1, 2), (4, 1))])
def test_broadcast_operands_get_sums(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    rng = np.random.default_rng(1)
    x, y = (np.asarray(rng.normal(size=shape)) for shape in shapes)
    w = rng.normal(size=np.broadcast_shapes(*shapes))
    by_x, by_y = adjit.grad(lambda a, b: np.sum(w * (a * b)), argnums=(0, 1))(x, y)
    assert (np.shape(by_x), np.shape(by_y)) == shapes
    for found, other, shape in ((by_x, y, shapes[0]), (by_y, x, shapes[1])):
        product = w * other
        extra = tuple(range(product.ndim - len(shape)))
        kept = product.sum(axis=extra)
        wanted = kept.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True).reshape(shape)
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_dtypes_of_gradients_follow_their_inputs() -> None:
    def f(a: Any, b: Any) -> Any:
        return np.sum(a * b)

    a, b = np.ones(3, np.float32), np.ones(3, np.float64)
    with pytest.warns(WideningWarning, match=r"test_reverse\.py:\d+: np.multiply: f32"):
        by_a, by_b = adjit.grad(f, argnums=(0, 1))(a, b)
    assert (by_a.dtype, by_b.dtype) == (F32, F64)


def test_vjp_takes_a_cotangent_for_each_float_result() -> None:
    b = Builder()
    x = b.value(b.input("x", Array(F64, (3,))))
    graph = b.graph("f", [b.sin(x).node, b.argmax(x, axis=0).node, (x * x).node])
    adjoint = vjp(graph, [0])
    verify(adjoint)
    assert [node.attrs["name"] for node in adjoint.inputs] == ["x", "cotangent0", "cotangent2"]
    point, u, v = np.array([0.3, 1.0, -2.0]), np.array([1.0, 0.0, 2.0]), np.array([0.5, 1.0, 1.0])
    *_, found = evaluate(adjoint, point, u, v)
    np.testing.assert_allclose(found, u * np.cos(point) + v * 2 * point, rtol=1e-14)


def test_every_node_of_the_adjoint_has_a_line_of_the_function() -> None:
    def loss(w: Any, x: Any, y: Any) -> Any:
        hidden = np.tanh(x @ w)
        error = hidden - y
        return np.mean(np.where(error > 0, error**2, np.abs(error)))

    first = loss.__code__.co_firstlineno
    step: Any = adjit.value_and_grad(loss)
    step(np.ones((2, 3)), np.ones((4, 2)), np.ones((4, 3)))
    for node in step.ir("adjoint").nodes:
        if node.op.name == "constant" or node.is_splat:
            continue
        assert node.loc is not None, node
        assert node.loc.file == __file__
        assert first < node.loc.line <= first + 3


def test_stop_gradient_blocks() -> None:
    found = adjit.grad(lambda x: np.sum(x * adjit.stop_gradient(x)))(np.array([3.0]))
    assert found.tolist() == [3.0]
    twice = adjit.grad(lambda x: np.sum(adjit.grad(lambda v: np.sum(adjit.stop_gradient(v) * v))(x)))
    assert twice(np.array([3.0])).tolist() == [0.0]


def test_integers_and_truths_carry_no_derivative() -> None:
    def f(x: Any) -> Any:
        count = np.sum(x > 0)
        at = np.argmax(x)
        return x[at] * count.astype(np.float64) + np.floor(x)[0] + np.sum(x.astype(np.int64))

    assert adjit.grad(f)(np.array([1.0, 5.0, -2.0])).tolist() == [0.0, 2.0, 0.0]


def test_refusals() -> None:
    scalar = graph_of(lambda x: np.sum(x), np.ones(3))
    vector = graph_of(lambda x: x * 2.0, np.ones(3))
    whole = graph_of(lambda x: np.sum(x), np.ones(3, np.int64))
    mixed = graph_of(lambda x, i: np.sum(x[i]), np.ones(3), np.zeros(2, np.int64))
    with pytest.raises(
        ShapeError, match=r"test_reverse\.py:\d+: grad: the function's result is f64\[3\], not a scalar"
    ):
        gradient(vector, [0])
    with pytest.raises(DTypeError, match=r"test_reverse\.py:\d+: grad: the function's result is i64\[\]"):
        gradient(whole, [0])
    with pytest.raises(DTypeError, match=r"the input x1 is i64\[2\]; only floats"):
        gradient(mixed, [1])
    assert len(gradient(scalar, [0]).outputs) == 2


def test_an_op_without_a_derivative_is_named_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    op: Any = OPS["tanh"]
    monkeypatch.setitem(OPS, "tanh", dataclasses.replace(op, vjp=None, exempt="for this test"))
    graph = graph_of(lambda x: np.sum(np.tanh(x)), np.ones(3))
    with pytest.raises(TraceError, match=r"test_reverse\.py:\d+: tanh has no derivative: for this test"):
        gradient(graph, [0])


def test_trace_errors_keep_their_type() -> None:
    with pytest.raises(TraceError, match=r"test_reverse\.py:\d+"):
        adjit.grad(lambda x: np.sum(x) if x[0] > 0 else 0.0)(np.ones(3))
