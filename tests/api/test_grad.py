"""grad and value_and_grad: argnums, aux, nesting, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjit
from tests.api.models import data, loss, make_params


def test_gradients_of_a_network() -> None:
    params, (x, y) = make_params(), data()
    value, grads = adjit.value_and_grad(loss)(params, x, y)
    np.testing.assert_allclose(value, loss(params, x, y), rtol=1e-13)
    step = 1e-6
    for name, array in params.items():
        assert grads[name].shape == array.shape
        for at in np.ndindex(*array.shape):
            sides = []
            for sign in (1, -1):
                moved = {**params, name: array.copy()}
                moved[name][at] += sign * step
                sides.append(loss(moved, x, y))
            # The error of central differences with this step.
            np.testing.assert_allclose(grads[name][at], (sides[0] - sides[1]) / (2 * step), rtol=1e-6, atol=1e-8)


def test_argnums() -> None:
    def f(a: Any, b: Any, c: Any) -> Any:
        return np.sum(a * b["x"] ** 2) + c

    a, b = np.array([1.0, 2.0]), {"x": np.array([3.0, 4.0])}
    assert adjit.grad(f, argnums=1)(a, b, 1.0)["x"].tolist() == [6.0, 16.0]
    ga, gc = adjit.grad(f, argnums=(0, 2))(a, b, 1.0)
    assert ga.tolist() == [9.0, 16.0]
    assert gc == 1.0
    assert adjit.grad(f, argnums=-1)(a, b, 1.0) == 1.0
    with pytest.raises(adjit.ArgumentError, match=r"argnums=5, and f was called with 3"):
        adjit.grad(f, argnums=5)(a, b, 1.0)


def test_aux() -> None:
    def f(x: Any) -> Any:
        y = x * 2
        return np.sum(y**2), {"y": y, "count": 3}

    x = np.array([1.0, 2.0])
    (value, aux), g = adjit.value_and_grad(f, has_aux=True)(x)
    assert (value, aux["y"].tolist(), aux["count"], g.tolist()) == (20.0, [2.0, 4.0], 3, [8.0, 16.0])
    g, aux = adjit.grad(f, has_aux=True)(x)
    assert (aux["y"].tolist(), g.tolist()) == ([2.0, 4.0], [8.0, 16.0])
    with pytest.raises(adjit.ArgumentError, match=r"not a tuple of 2; if it returns \(loss, aux\), pass has_aux=True"):
        adjit.grad(f)(x)
    with pytest.raises(adjit.ArgumentError, match=r"grad: with has_aux=True sum returns \(loss, aux\)"):
        adjit.grad(np.sum, has_aux=True)(x)


def test_gradients_of_gradients() -> None:
    cube = lambda x: x**3  # noqa: E731
    assert adjit.grad(adjit.grad(cube))(2.0) == 12.0
    assert adjit.grad(adjit.grad(adjit.grad(cube)))(2.0) == 6.0

    def hessian_vector(x: Any, v: Any) -> Any:
        return adjit.grad(lambda x: np.sum(adjit.grad(lambda x: np.sum(np.sin(x) * x))(x) * v))(x)

    x, v = np.array([0.3, -1.2, 2.0]), np.array([1.0, 2.0, -1.0])
    expected = (2 * np.cos(x) - x * np.sin(x)) * v
    np.testing.assert_allclose(adjit.jit(hessian_vector)(x, v), expected, rtol=1e-14)


def test_gradient_inside_a_traced_function_with_captures() -> None:
    def residual(w: Any, xs: Any) -> Any:
        u = lambda x: np.sum(np.tanh(w * x))  # noqa: E731
        return np.mean((adjit.grad(u)(xs) - 1.0) ** 2)

    w, xs = np.array([0.5, 1.5]), np.array([0.1, 0.2])
    value, g = adjit.value_and_grad(residual)(w, xs)
    slope = w / np.cosh(w * xs) ** 2
    np.testing.assert_allclose(value, np.mean((slope - 1) ** 2), rtol=1e-13)
    change = (1 - 2 * w * xs * np.tanh(w * xs)) / np.cosh(w * xs) ** 2
    np.testing.assert_allclose(g, (slope - 1) * change, rtol=1e-12)


def test_value_and_grad_with_aux_inside() -> None:
    def inner(x: Any) -> Any:
        return np.sum(x**2), x + 1

    def outer(x: Any) -> Any:
        (value, aux), g = adjit.value_and_grad(inner, has_aux=True)(x)
        return value + np.sum(aux * g)

    x = np.array([1.0, 2.0])
    np.testing.assert_allclose(adjit.jit(outer)(x), 5 + np.sum((x + 1) * 2 * x))


def test_stop_gradient_and_unused() -> None:
    f = lambda x, y: np.sum(adjit.stop_gradient(x) * x)  # noqa: E731
    g, unused = adjit.grad(f, argnums=(0, 1))(np.array([3.0]), np.ones((2, 2), np.float32))
    assert g.tolist() == [3.0]
    assert unused.dtype == np.float32
    assert not unused.any()


def test_refusals() -> None:
    with pytest.raises(adjit.DTypeError, match=r"differentiated by x, which is i64\[2\]; only floats"):
        adjit.grad(lambda x: np.sum(x * 1.0))(np.array([1, 2]))
    with pytest.raises(
        adjit.ShapeError, match=r"test_grad\.py:\d+: grad: <lambda> at .* returns f64\[2\], .* return its np.sum"
    ):
        adjit.grad(lambda x: x * 2)(np.ones(2))
    with pytest.raises(adjit.DTypeError, match="only floats have a gradient"):
        adjit.grad(lambda x: np.argmax(x))(np.ones(2))


def test_static_arguments_of_grad() -> None:
    f = adjit.grad(lambda x, n: np.sum(x**n), static_argnames="n")
    assert f(np.array([2.0]), n=3).tolist() == [12.0]
    middle = adjit.grad(lambda n, x: np.sum(x**n), argnums=1, static_argnums=0)
    assert middle(3, np.array([2.0])).tolist() == [12.0]
