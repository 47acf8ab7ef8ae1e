"""Normalisations: formulas in NumPy, statistics that run along, second derivatives, sizes 0 and 1, refusals.

Values and gradients of every argument are in `test_against_torch`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import nn
from adjit_runtime.errors import ArgumentError, ShapeError
from tests.nn.derivatives import run_trees
from tests.trace.check import floats, run


def standardized(x: np.ndarray, axis: Any, eps: float = 1e-5) -> np.ndarray:
    return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + eps)


def grouped(x: np.ndarray, groups: int) -> np.ndarray:
    parts = x.reshape(len(x), groups, -1)
    return standardized(parts, -1).reshape(x.shape)


X = floats(3, 4, 5, dtype=np.float64)
FORMULAS: dict[str, tuple[Callable[[Any], Any], Callable[[np.ndarray], np.ndarray]]] = {
    "layer": (nn.layer_norm, lambda x: standardized(x, -1)),
    "layer, first": (lambda x: nn.layer_norm(x, axis=0), lambda x: standardized(x, 0)),
    "layer, all": (lambda x: nn.layer_norm(x, axis=None), lambda x: standardized(x, None)),
    "rms": (nn.rms_norm, lambda x: x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-6)),
    "group": (lambda x: nn.group_norm(x, 2), lambda x: grouped(x, 2)),
    "group, each": (lambda x: nn.group_norm(x, 4), lambda x: grouped(x, 4)),
    "group, last": (
        lambda x: nn.group_norm(x, 5, axis=-1),
        lambda x: np.moveaxis(grouped(np.moveaxis(x, -1, 1), 5), 1, -1),
    ),
    "instance": (nn.instance_norm, lambda x: standardized(x, -1)),
    "instance, last": (lambda x: nn.instance_norm(x, axis=-1), lambda x: standardized(x, 1)),
    "batch": (lambda x: nn.batch_norm(x, training=True)[0], lambda x: standardized(x, (0, 2))),
    "batch, last": (lambda x: nn.batch_norm(x, training=True, axis=2)[0], lambda x: standardized(x, (0, 1))),
}
every = pytest.mark.parametrize("name", FORMULAS)


@every
def test_formulas(name: str) -> None:
    function, formula = FORMULAS[name]
    np.testing.assert_allclose(function(X), formula(X), rtol=1e-12, atol=1e-13)
    single = X.astype(np.float32)
    found = run(function, single)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, formula(X), rtol=1e-5, atol=1e-5)


@every
def test_batches_of_samples(name: str) -> None:
    function, formula = FORMULAS[name]
    many = np.stack([X, 3 * X + 1])
    np.testing.assert_allclose(adjit.vmap(function)(many), np.stack([formula(x) for x in many]), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("function", [
    nn.layer_norm, nn.rms_norm, lambda x: nn.group_norm(x, 2), nn.instance_norm,
    lambda x: nn.batch_norm(x, nn.init.batch_norm(4)[1], training=False)[0],
])  # fmt: skip
def test_no_samples(function: Any) -> None:
    x = np.zeros((0, 4, 3), np.float32)
    assert function(x).shape == run(function, x).shape == (0, 4, 3)


def test_what_is_constant_has_value_and_derivative() -> None:
    x = np.full((2, 4, 3), 7.0)
    for function in (nn.layer_norm, lambda x: nn.group_norm(x, 2), lambda x: nn.batch_norm(x, training=True)[0]):
        np.testing.assert_array_equal(function(x), 0 * x)
        slope = adjit.grad(lambda x, function=function: np.sum(function(x) * X[:2, :, :3]))(x)
        assert np.all(np.isfinite(slope))
    # Squares of a large mean would leave no digit of a variance.
    far = np.array([[1e6, 1e6 + 1, 1e6 + 2]], np.float32)
    np.testing.assert_allclose(nn.layer_norm(far), standardized(far.astype(np.float64), -1), rtol=1e-5)


def test_second_derivatives() -> None:
    x, scale, bias = floats(3, 4, dtype=np.float64), *floats(2, 4, dtype=np.float64, seed=3)
    adjit.check_grads(nn.layer_norm, (x, scale, bias))
    adjit.check_grads(nn.rms_norm, (x, scale))
    adjit.check_grads(lambda x: nn.batch_norm(x, training=True)[0], (x,))
    adjit.check_grads(nn.weight_norm, (x, scale))


def test_running_statistics() -> None:
    params, running = nn.init.batch_norm(4)
    x = X.astype(np.float32)
    for momentum in (0.1, 1.0):
        _, moved = run_trees(
            lambda x, r, m=momentum: nn.batch_norm(x, r, **params, training=True, momentum=m), x, running
        )
        mean, var = X.mean((0, 2)), X.var((0, 2), ddof=1)
        np.testing.assert_allclose(moved["mean"], momentum * mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(moved["var"], (1 - momentum) + momentum * var, rtol=1e-5)
        assert moved["mean"].dtype == moved["var"].dtype == np.float32
    for x_dtype, dtype in ((np.float32, np.float64), (np.float64, np.float32)):
        _, other = nn.init.batch_norm(4, dtype=dtype)
        y, after = adjit.jit(lambda x, r: nn.batch_norm(x, r, training=True))(X.astype(x_dtype), other)
        assert (y.dtype, after["mean"].dtype, after["var"].dtype) == (x_dtype, dtype, dtype)
        np.testing.assert_allclose(after["mean"], 0.1 * X.mean((0, 2)), rtol=1e-5, atol=1e-7)
    y, same = nn.batch_norm(x, moved, training=False)
    assert same is moved
    expected = (X - moved["mean"][:, None]) / np.sqrt(moved["var"][:, None] + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_running_statistics_are_no_part_of_the_derivative() -> None:
    running = {"mean": np.zeros(4), "var": np.ones(4)}

    def loss(x: Any) -> Any:
        _, moved = nn.batch_norm(x, running, training=True)
        return np.sum(moved["mean"]) + np.sum(moved["var"])

    np.testing.assert_array_equal(adjit.grad(loss)(X), 0 * X)


def test_statistics_as_the_state_of_training() -> None:
    params, running = nn.init.batch_norm(4, dtype=np.float64)

    def loss(params: Any, running: Any, x: Any) -> Any:
        y, running = nn.batch_norm(x, running, **params, training=True)
        return np.sum(y**3), running

    step = adjit.value_and_grad(loss, has_aux=True)
    for _ in range(300):
        (_, running), _ = step(params, running, X)
    np.testing.assert_allclose(running["mean"], X.mean((0, 2)), rtol=1e-9)
    np.testing.assert_allclose(running["var"], X.var((0, 2), ddof=1), rtol=1e-9)


def test_weight_norm_has_the_weight_back() -> None:
    w = floats(2, 3, 4, dtype=np.float64)
    for axis in (-1, 0, None):
        parts = nn.init.weight_norm(w, axis)
        np.testing.assert_allclose(nn.weight_norm(**parts, axis=axis), w, rtol=1e-14)
        doubled = nn.weight_norm(parts["v"] * 9, parts["g"] * 2, axis)
        np.testing.assert_allclose(doubled, 2 * w, rtol=1e-14)
    zero = np.zeros((3, 4))
    slope = adjit.grad(lambda v: np.sum(nn.weight_norm(v, np.ones(4))))(zero)
    np.testing.assert_array_equal(nn.weight_norm(zero, np.ones(4)), zero)
    assert np.all(np.isfinite(slope))


@pytest.mark.parametrize("shape", [(6, 4), (3, 2, 5, 4), (1, 1)])
def test_spectral_norm_divides_by_the_largest_singular_value(shape: tuple[int, ...]) -> None:
    w = floats(*shape, dtype=np.float64)
    u = nn.init.spectral_norm(shape[-1], key=1, dtype=np.float64)
    np.testing.assert_allclose(np.linalg.norm(u), 1, rtol=1e-12)
    largest = np.linalg.svd(w.reshape(-1, shape[-1]))[1][0]
    found, after = nn.spectral_norm(w, u, steps=300)
    np.testing.assert_allclose(found, w / largest, rtol=1e-7)
    once, twice = run(lambda w, u: nn.spectral_norm(w, u, steps=2), w, u)
    np.testing.assert_allclose(once, nn.spectral_norm(w, u, steps=2)[0], rtol=1e-12)
    np.testing.assert_allclose(twice, nn.spectral_norm(w, nn.spectral_norm(w, u)[1])[1], rtol=1e-12)
    rested, same = nn.spectral_norm(w, after, steps=0)
    np.testing.assert_array_equal(same, after)
    np.testing.assert_allclose(rested, w / largest, rtol=1e-7)


def test_spectral_norm_of_other_axes_and_of_nothing() -> None:
    w, u = floats(4, 6, dtype=np.float64), floats(4, dtype=np.float64, seed=1)
    expected, _ = nn.spectral_norm(w.T, u, steps=3)
    np.testing.assert_allclose(nn.spectral_norm(w, u, steps=3, axis=0)[0], expected.T, rtol=1e-12)
    for zero in (np.zeros((3, 4)), np.zeros((0, 4))):
        np.testing.assert_array_equal(run(lambda w: nn.spectral_norm(w, u)[0], zero), zero)


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: nn.layer_norm(X, np.ones(4)), ShapeError, r"scale has the shape \(4,\), not \(5,\)"),
    (lambda: nn.layer_norm(X, bias=np.ones((1, 5))), ShapeError, r"bias has the shape \(1, 5\), not \(5,\)"),
    (lambda: nn.layer_norm(np.zeros((2, 0))), ShapeError, "zero-size along it"),
    (lambda: nn.layer_norm(X, eps=-1.0), ArgumentError, "eps is a number >= 0"),
    (lambda: nn.group_norm(X, 3), ShapeError, "4 channels .axis 1., which make no 3 groups"),
    (lambda: nn.group_norm(X, 3, axis=0), ShapeError, "that of the samples, not of the channels"),
    (lambda: nn.group_norm(np.zeros((2, 4, 0)), 2), ShapeError, "groups of no elements"),
    (lambda: nn.instance_norm(X[:, :, 0]), ShapeError, "no axes beside samples and channels"),
    (lambda: nn.batch_norm(X[:1, :, :1], training=True), ShapeError, "has 1 elements a channel"),
    (lambda: nn.batch_norm(X[:0], training=True), ShapeError, "has 0 elements a channel"),
    (lambda: nn.batch_norm(X, training=False), ArgumentError, "running is a dict with 'mean', 'var', not None"),
    (lambda: nn.batch_norm(X, {"mean": np.zeros(4)}, training=True), ArgumentError, "running has no 'var'"),
    (lambda: nn.batch_norm(X, nn.init.batch_norm(5)[1], training=True), ShapeError, "x has 4 channels"),
    (lambda: nn.batch_norm(X, training=True, momentum=1.5), ArgumentError, "momentum is a number from 0 to 1"),
    (lambda: nn.weight_norm(X, np.ones(4)), ShapeError, "one length along axis -1"),
    (lambda: nn.spectral_norm(X, np.ones(4)), ShapeError, "u one for each along -1"),
    (lambda: nn.spectral_norm(X, np.ones(5), steps=-1), ArgumentError, "steps"),
])  # fmt: skip
def test_refusals(call: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
