"""Signs of values, and poles of rules; what rectifiers leave dead is guarded where a pole needs it, nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjit
from adjit import nn
from adjit.autodiff.signs import Sign, has_pole, sign_of
from adjit.ir.node import Node
from adjit.ir.op import OPS
from tests.trace.check import graph_of

X = np.array([-2.0, -0.5, 0.0, 1.5])
SIGNS = {
    "squares": (lambda x: x * x, Sign.NOT_NEGATIVE),
    "product": (lambda x: x * (x + 1), Sign.ANY),
    "mean of squares": (lambda x: np.mean(x * x), Sign.NOT_NEGATIVE),
    "deviation": (lambda x: np.sqrt(np.var(x) + 1e-5), Sign.POSITIVE),
    "exponential": (lambda x: np.exp(x), Sign.NOT_NEGATIVE),
    "one more": (lambda x: 1 + np.exp(x), Sign.POSITIVE),
    "inverse": (lambda x: 1 / (1 + x * x), Sign.NOT_NEGATIVE),
    "moved": (lambda x: np.abs(x)[::-1].reshape(2, 2), Sign.NOT_NEGATIVE),
    "padded": (lambda x: np.pad(np.abs(x) + 1, 1, constant_values=-1.0), Sign.ANY),
    "root": (lambda x: np.sqrt(np.abs(x)), Sign.NOT_NEGATIVE),
    "difference": (lambda x: np.abs(x) - 1, Sign.ANY),
    "largest": (lambda x: np.maximum(x, 0.5), Sign.POSITIVE),
}


@pytest.mark.parametrize("name", SIGNS)
def test_signs(name: str) -> None:
    function, sign = SIGNS[name]
    graph = graph_of(function, X)
    known: dict[Node, Sign] = {}
    for node in graph.nodes:
        known[node] = sign_of(node, known)
    assert known[graph.outputs[0]] is sign


@pytest.mark.parametrize(
    ("op", "poles"),
    [("div", True), ("log", True), ("sqrt", True), ("pow", True), ("arcsin", True), ("mul", False), ("exp", True),
     ("tanh", False), ("add", False)],
)  # fmt: skip
def test_poles(op: str, poles: bool) -> None:
    x = np.array([0.5])
    graph = graph_of({1: lambda x: OPS_OF[op](x), 2: lambda x: OPS_OF[op](x, x + 1)}[OPS[op].arity], x)
    node = next(node for node in graph.nodes if node.op.name == op)
    assert has_pole(node, {}) is poles
    if op in ("div", "log", "sqrt"):
        assert not has_pole(node, dict.fromkeys(node.args, Sign.POSITIVE))


OPS_OF: dict[str, Any] = {
    "div": np.divide, "log": np.log, "sqrt": np.sqrt, "pow": np.power, "arcsin": np.arcsin, "mul": np.multiply,
    "exp": np.exp, "tanh": np.tanh, "add": np.add,
}  # fmt: skip


def test_no_guard_below_a_deviation() -> None:
    """A rectifier's guard is not carried through products where nothing below has a pole."""

    def loss(w: Any, v: Any, x: Any) -> Any:
        def normalized(y: Any) -> Any:
            return (y - np.mean(y, axis=0)) / np.sqrt(np.var(y, axis=0) + 1e-5)

        return np.sum(nn.relu(normalized(nn.relu(normalized(x @ w)) @ v)))

    rng = np.random.default_rng(0)
    operands = [rng.standard_normal(shape) for shape in ((3, 4), (4, 5), (6, 3))]
    function = adjit.grad(loss, argnums=(0, 1))
    function(*operands)
    # Those of means are along the batch; what a product hands on would be any along the columns.
    assert {node.attrs["axes"] for node in function.ir("adjoint").nodes if node.op.name == "any"} <= {(0,)}
    adjit.check_grads(lambda w, v: loss(w, v, operands[2]), operands[:2], order=2)


def test_a_guard_above_a_pole() -> None:
    def loss(u: Any, w: Any) -> Any:
        return np.sum(nn.relu(np.log(u) @ w))

    def clipped(u: Any, w: Any) -> Any:
        z = np.log(u) @ w
        return np.sum(np.where(z >= 6, 6.0, nn.relu(z)))

    u, w = np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([[1.0], [0.5]])
    for function in (loss, clipped):
        np.testing.assert_allclose(adjit.grad(function)(u, w), [[0.0, 0.0], [0.5, 0.5 / 3]])
    np.testing.assert_allclose(adjit.grad(clipped)(u, -w), [[0.0, 0.0], [0.0, 0.0]])


def test_a_guard_above_what_overflows() -> None:
    def loss(s: Any, x: Any) -> Any:
        return np.sum(nn.relu(1 - s * np.exp(x)))

    x = np.array([1000.0, -1.0])
    for found in adjit.grad(loss, argnums=(0, 1))(np.array([1.0, 2.0]), x):
        assert np.all(np.isfinite(found))
    w = np.array([[1.0], [1.0]])
    slopes = adjit.grad(lambda x: np.sum(nn.relu(-np.exp(x) @ w)))(x[:, None] * np.ones((2, 2)))
    assert np.all(np.isfinite(slopes))


def test_a_guard_above_a_constant_that_is_infinite() -> None:
    e, w = np.array([[np.inf, np.inf]]), np.ones((2, 1))
    assert adjit.grad(lambda s: np.sum(nn.relu(1 - (s * e) @ w)))(2.0) == 0


def test_a_guard_in_a_loop_above_what_overflows_outside() -> None:
    def loss(s: Any, x: Any) -> Any:
        e = np.exp(x)

        def turn(total: Any, part: Any) -> tuple[Any, Any]:
            return total + np.sum(nn.relu(1 - (part * e) @ np.ones((2, 1)))), 0.0

        return adjit.scan(turn, 0.0, s)[0]

    s, x = np.array([1.0, 2.0]), np.array([[1000.0, 1000.0], [-2.0, -1.0]])
    np.testing.assert_allclose(adjit.grad(loss)(s, x), [-np.exp(-2.0) - np.exp(-1.0), 0.0])


def test_a_guard_below_a_deviation_that_may_be_zero() -> None:
    def loss(x: Any) -> Any:
        return np.sum(nn.relu(-x / np.sqrt(np.sum(x * x, axis=1, keepdims=True))))

    x = np.array([[3.0, 4.0], [1.0, 0.0]])
    assert np.all(np.isfinite(adjit.grad(loss)(x)))
