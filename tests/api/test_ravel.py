"""ravel: a tree as one vector, and back."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import optree
import pytest
from scipy.optimize import minimize

import adjit


@dataclasses.dataclass
class Layer:
    w: Any
    b: Any


Pair = collections.namedtuple("Pair", "first second")
RNG = np.random.default_rng(0)

# A tree, the dtype of its vector, how many elements that has.
TREES: list[tuple[Any, str, int]] = [
    ({}, "float64", 0),
    (None, "float64", 0),
    ([], "float64", 0),
    (2.5, "float64", 1),
    (3, "int64", 1),
    (True, "bool", 1),
    (np.float32(1.5), "float32", 1),
    (np.array(1.5), "float64", 1),
    (RNG.normal(size=(2, 3)), "float64", 6),
    (RNG.normal(size=(2, 3)).astype(np.float32).T, "float32", 6),
    (np.zeros((0, 3), np.float32), "float32", 0),
    ({"b": RNG.normal(size=1), "a": [RNG.normal(size=(3, 1, 2)), 1.0]}, "float64", 8),
    ({"w": RNG.normal(size=5).astype(np.float32), "n": np.arange(3)}, "float64", 8),
    ({"w": RNG.normal(size=5).astype(np.float32), "on": np.array([True, False])}, "float32", 7),
    ((np.arange(3, dtype=np.uint8), np.arange(2, dtype=np.int16)), "int16", 5),
    (Pair(np.ones(2), {"x": np.zeros((0,)), "y": None}), "float64", 2),
    (Layer(np.ones((2, 2)), np.zeros(2)), "float64", 6),
    (RNG.normal(size=7)[::-2], "float64", 4),
]


@pytest.mark.parametrize(("tree", "dtype", "size"), TREES)
def test_there_and_back(tree: Any, dtype: str, size: int) -> None:
    vector, unravel = adjit.ravel(tree)
    assert isinstance(vector, np.ndarray)
    assert (vector.shape, vector.dtype.name) == ((size,), dtype)
    assert (unravel.size, unravel.dtype) == (size, vector.dtype)
    again = unravel(vector)
    assert type(again) is type(tree) or not isinstance(tree, dict | list | Layer)
    for a, b in zip(*map(leaves, (again, tree)), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        assert isinstance(a, np.ndarray) == isinstance(b, np.ndarray)
        np.testing.assert_array_equal(a, b)
        # Neither way shares memory.
        assert not np.shares_memory(a, vector)
        assert not np.shares_memory(b, vector)


def leaves(tree: Any) -> list[Any]:
    if isinstance(tree, Layer):
        return [tree.w, tree.b]
    return optree.tree_leaves(tree)


def test_the_order_is_that_of_the_tree() -> None:
    vector, unravel = adjit.ravel({"b": np.array([[1.0, 2.0], [3.0, 4.0]]), "a": 0.0})
    assert vector.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert unravel(-vector)["b"].tolist() == [[-1.0, -2.0], [-3.0, -4.0]]
    assert repr(unravel) == "<unravel of 5 numbers float64: tree.a: f64[]~, tree.b: f64[2,2]>"


PARAMS = {"w": RNG.normal(size=(3, 2)), "b": RNG.normal(size=2), "scale": 1.5}
X, Y = RNG.normal(size=(8, 3)), RNG.normal(size=(8, 2))


def loss(params: Any) -> Any:
    return np.mean((np.tanh(X @ params["w"] + params["b"]) * params["scale"] - Y) ** 2)


def test_traced_it_has_all_derivatives() -> None:
    vector, unravel = adjit.ravel(PARAMS)

    def of_vector(vector: Any) -> Any:
        return loss(unravel(vector))

    def through(params: Any) -> Any:
        vector, back = adjit.ravel(params)
        return loss(back(vector * vector))

    adjit.check_grads(of_vector, (vector,))
    adjit.check_grads(through, (PARAMS,))
    gradient = adjit.ravel(adjit.grad(loss)(PARAMS))[0]
    np.testing.assert_allclose(adjit.grad(of_vector)(vector), gradient, rtol=1e-13)
    assert adjit.hessian(of_vector)(vector).shape == (9, 9)
    np.testing.assert_array_equal(adjit.jit(lambda p: adjit.ravel(p)[0])(PARAMS), vector)
    assert adjit.vmap(unravel)(np.stack([vector] * 4))["w"].shape == (4, 3, 2)


def test_traced_leaves_keep_their_dtypes() -> None:
    tree = {"w": np.ones((2, 2), np.float32), "n": np.arange(3), "x": 0.5}

    @adjit.jit
    def doubled(tree: Any) -> Any:
        vector, unravel = adjit.ravel(tree)
        return vector, unravel(vector * 2)

    vector, again = doubled(tree)
    assert vector.dtype == np.float64
    assert [x.dtype.name for x in optree.tree_leaves(again)] == ["int64", "float32", "float64"]
    assert again["n"].tolist() == [0, 2, 4]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_optimisers_of_scipy_take_it(dtype: Any) -> None:
    params = optree.tree_map(lambda x: np.asarray(x, dtype), PARAMS)
    vector, unravel = adjit.ravel(params)
    x, y = X.astype(dtype), Y.astype(dtype)

    def loss(params: Any) -> Any:
        return np.mean((np.tanh(x @ params["w"] + params["b"]) * params["scale"] - y) ** 2)

    function = adjit.value_and_grad(lambda vector: loss(unravel(vector)))
    found = minimize(function, vector, jac=True, method="BFGS", options={"maxiter": 50})
    best = unravel(found.x)
    assert best["w"].dtype == dtype
    assert found.fun < 0.9 * loss(params)
    np.testing.assert_allclose(loss(best), found.fun, rtol=1e-5)


EMPTY, OF_THREE = adjit.ravel({})[1], adjit.ravel({"w": np.ones(2), "b": 1.0})[1]

REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: OF_THREE(np.ones(4)), ValueError, r"of shape \(3,\), for tree.b: f64\[\]~, tree.w: f64\[2\], not \(4,\)"),
    (lambda: OF_THREE(np.ones((3, 1))), adjit.ShapeError, r"not \(3, 1\)"),
    (lambda: OF_THREE(1.0), adjit.ShapeError, r"not \(\)"),
    (lambda: EMPTY(np.ones(1)), adjit.ShapeError, "for an empty tree"),
    (lambda: adjit.jit(OF_THREE)(np.ones(4)), adjit.ShapeError, r"not \(4,\)"),
    (lambda: OF_THREE(np.arange(3)), TypeError, "a vector of float64, for .* not of int64"),
    (lambda: OF_THREE(np.ones(3) * 1j), adjit.DTypeError, "not of complex128"),
    (lambda: adjit.ravel(np.arange(3))[1](np.ones(3)), adjit.DTypeError, "a vector of int64, .* not of float64"),
    (lambda: adjit.ravel({"w": "text"}), adjit.ArgumentError, "ravel: tree.w is a str"),
    (lambda: adjit.ravel([np.sin]), adjit.ArgumentError, "ravel: tree.0 is an ufunc"),
    (lambda: adjit.ravel(np.array(["a"])), adjit.DTypeError, "ravel: tree is <U1"),
    (lambda: adjit.ravel({"z": np.ones(2) * 1j}), adjit.DTypeError, "ravel: tree.z is complex128"),
    (lambda: adjit.ravel({1, 2}), adjit.ArgumentError, "ravel: tree: builtins.set is no array"),
    (lambda: adjit.ravel(2**70), adjit.ArgumentError, "does not fit int64"),
]


@pytest.mark.parametrize("case", REFUSED, ids=[pattern for _, _, pattern in REFUSED])
def test_errors(case: tuple[Callable[[], Any], type[Exception], str]) -> None:
    call, error, pattern = case
    with pytest.raises(error, match=pattern):
        call()
