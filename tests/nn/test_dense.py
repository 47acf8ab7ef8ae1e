"""Dense layers, lookups and residuals against NumPy; what is out of bounds; refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import nn
from adjit_runtime.errors import ArgumentError, DTypeError, IndexOutOfRange, ShapeError
from tests.nn.derivatives import run_trees, weighted_gradient
from tests.trace.check import floats, run

W, B = floats(3, 2), floats(2, seed=1)
TABLE = floats(4, 3)


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 5, 3), (0, 3)])
def test_dense(shape: tuple[int, ...]) -> None:
    x = floats(*shape, seed=2)
    for params, expected in (({"w": W, "b": B}, x @ W + B), ({"w": W}, x @ W), ({"w": W, "b": None}, x @ W)):
        found = run_trees(nn.dense, {k: v for k, v in params.items() if v is not None}, x)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(nn.dense(params, x), expected)


def test_dense_without_inputs_is_its_bias() -> None:
    found = run_trees(nn.dense, {"w": np.zeros((0, 2), np.float32), "b": B}, np.zeros((4, 0), np.float32))
    np.testing.assert_array_equal(found, np.stack([B] * 4))


def test_second_derivatives() -> None:
    adjit.check_grads(nn.dense, ({"w": W, "b": B}, floats(5, 3, seed=2)))
    adjit.check_grads(lambda t: nn.embedding(t, np.array([1, 1, 0])) ** 3, (TABLE,))


@pytest.mark.parametrize("ids", [2, [1, 1, 0], [[0], [3]], np.zeros((0, 2), np.int8), np.array([1, 3], np.uint64)])
def test_embedding(ids: Any) -> None:
    found = run(lambda table, ids: nn.embedding(table, ids), TABLE, np.asarray(ids))
    np.testing.assert_array_equal(found, TABLE[np.asarray(ids, np.int64)])
    np.testing.assert_array_equal(nn.embedding(TABLE, ids), found)


def test_the_derivative_of_an_embedding_sums_rows() -> None:
    ids = np.array([1, 1, 0])
    weights = floats(3, 3, seed=5)
    expected = np.zeros_like(TABLE)
    np.add.at(expected, ids, weights)
    found = weighted_gradient(lambda table: nn.embedding(table, ids), TABLE, weights)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("wrong", [-1, 4, -(2**63), 2**63 - 1])
def test_an_id_out_of_bounds(wrong: int) -> None:
    with pytest.raises(IndexOutOfRange, match=f"ids of table: id {wrong} is out of bounds for axis 0 with size 4"):
        nn.embedding(TABLE, [0, wrong])
    with pytest.raises(IndexOutOfRange, match="out of bounds for axis 0 with size 4"):
        adjit.jit(nn.embedding)(TABLE, np.array([0, wrong]))


def test_residual() -> None:
    x = floats(2, 3)
    np.testing.assert_allclose(run(lambda x: nn.residual(np.tanh, x), x), x + np.tanh(x), rtol=1e-6)
    np.testing.assert_array_equal(nn.residual(lambda x, a, b: a * x + b, x, 2, 3), x + (2 * x + 3))


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: nn.dense({"w": W}, floats(5, 2)), ShapeError, "has not 3 inputs along its last axis"),
    (lambda: nn.dense({"w": W, "b": floats(3)}, floats(5, 3)), ShapeError, r"params\['b'\] has the shape \(3,\)"),
    (lambda: nn.dense({"w": B}, floats(5, 3)), ShapeError, r"params\['w'\] is \(inputs, outputs\)"),
    (lambda: nn.dense({"weight": W}, floats(5, 3)), ArgumentError, "params has no 'w'"),
    (lambda: nn.dense({"w": W, "bias": B}, floats(5, 3)), ArgumentError, "'bias', which means nothing here"),
    (lambda: nn.dense(W, floats(5, 3)), ArgumentError, "params is a dict with 'w', 'b' .or none."),
    (lambda: nn.dense({"w": W}, 1.0), ShapeError, "inputs along its last axis"),
    (lambda: nn.embedding(1.0, [0]), ShapeError, "not a number"),
    (lambda: nn.embedding(TABLE, [0.0]), DTypeError, "are integers, not float64"),
    (lambda: nn.residual(lambda x: x[:1], floats(2, 3)), ShapeError, r"f gives the shape \(1, 3\)"),
])  # fmt: skip
def test_refusals(call: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
