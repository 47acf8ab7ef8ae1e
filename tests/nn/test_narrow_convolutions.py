"""Convolutions whose channels are too few for vectors, and of each channel by itself: they have forms of their own.

Each is checked against the graph before all passes, by derivatives of second order, and on any number of threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import nn

# Function, x, w, and what else is said of it.
NARROW: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "one channel": ("conv", (8, 11, 9, 1), (5, 5, 1, 6), {"padding": 2}),
    "two channels, strides": ("conv", (3, 11, 9, 2), (3, 4, 2, 5), {"stride": 2, "padding": 1}),
    "one channel, dilation": ("conv", (2, 12, 13, 1), (3, 3, 1, 17), {"dilation": 2}),
    "one channel of a volume": ("conv", (2, 5, 6, 7, 1), (2, 3, 2, 1, 6), {}),
    "a line": ("conv", (4, 40, 1), (9, 1, 8), {"padding": 4}),
    "into six": ("conv", (4, 12, 11, 6), (5, 5, 6, 16), {}),
    "into six, strides": ("conv", (2, 13, 11, 6), (3, 3, 6, 16), {"stride": 2, "padding": 1}),
    "more padding than kernel": ("conv", (2, 5, 6, 9), (2, 2, 9, 9), {"padding": 3}),
    "more padding, strides": ("conv", (2, 7, 6, 9), (3, 3, 9, 9), {"padding": 4, "stride": 3}),
    "lines of one pixel": ("conv", (2, 9, 3, 16), (3, 3, 16, 16), {}),
    "to one channel": ("conv_transpose", (2, 5, 6, 16), (5, 5, 1, 16), {"stride": 2, "padding": "same"}),
    "to three channels": ("conv_transpose", (2, 5, 6, 9), (4, 4, 3, 9), {"stride": 2, "padding": 1}),
    "depthwise": ("conv", (3, 9, 8, 24), (3, 3, 1, 24), {"padding": 1, "groups": 24}),
    "depthwise, many": ("conv", (2, 7, 20, 130), (3, 3, 1, 130), {"padding": 1, "groups": 130}),
    "depthwise, strides": ("conv", (2, 9, 8, 7), (3, 3, 1, 7), {"padding": 1, "groups": 7, "stride": 2}),
    "depthwise, large": ("conv", (1, 10, 9, 5), (7, 7, 1, 5), {"padding": 3, "groups": 5}),
    "depthwise, several": ("conv", (2, 8, 8, 4), (3, 3, 1, 8), {"groups": 4}),
    "depthwise, transposed": ("conv_transpose", (2, 5, 5, 6), (3, 3, 1, 6), {"groups": 6, "stride": 2}),
    "groups": ("conv", (2, 8, 7, 12), (3, 3, 3, 8), {"padding": 1, "groups": 4}),
    "no image": ("conv", (0, 8, 8, 1), (3, 3, 1, 6), {"padding": 1}),
}


def arrays(name: str, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    _, x, w, _ = NARROW[name]
    rng = np.random.default_rng(3)
    return rng.standard_normal(x).astype(dtype), 0.3 * rng.standard_normal(w).astype(dtype)


def loss_of(name: str) -> Callable[[Any, Any], Any]:
    function, _, _, how = NARROW[name]

    def loss(x: Any, w: Any) -> Any:
        y = getattr(nn, function)(x, w, layout="NHWC", **how)
        return np.sum(np.sin(y) * y)

    return loss


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NARROW)
def test_gradients(name: str, dtype: str) -> None:
    x, w = arrays(name, dtype)
    function = adjit.value_and_grad(loss_of(name), argnums=(0, 1))
    given = adjit.get_threads()
    try:
        found = []
        for threads in (1, 3):
            adjit.set_threads(threads)
            value, gradients = function(x, w)
            found.append([value, *gradients])
    finally:
        adjit.set_threads(given)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    tolerance = 1e-10 if dtype == "float64" else 2e-4
    for one, right in zip(found[0], adjit.evaluate(function.ir("adjoint"), x, w), strict=True):
        np.testing.assert_allclose(one, right, rtol=tolerance, atol=100 * tolerance)


@pytest.mark.parametrize("name", ["two channels, strides", "depthwise, strides", "to one channel"])
def test_derivatives_of_second_order(name: str) -> None:
    x, w = arrays(name, "float64")
    adjit.check_grads(loss_of(name), (x[:1], w), order=2)


@pytest.mark.parametrize(
    "name", ["one channel", "two channels, strides", "into six", "lines of one pixel", "depthwise"]
)
def test_what_is_no_number_stays_where_it_is(name: str) -> None:
    """An infinity and a NaN among the images spoil what sees them, and nothing else."""
    function, _, _, how = NARROW[name]
    x, w = arrays(name, "float32")

    def network(x: Any, w: Any) -> Any:
        return getattr(nn, function)(x, w, layout="NHWC", **how)

    g = np.ones_like(network(x, w))
    g[0, 0, 0, 0] = np.nan
    by_x = adjit.grad(lambda x, w, g: np.sum(network(x, w) * g))
    same_finite(by_x(x, w, g), by_x.ir("adjoint"), x, w, g)
    x[0, 1, 1, 0], x[-1, -1, 0, 0] = np.nan, np.inf
    forward = adjit.jit(network)
    same_finite(forward(x, w), forward.ir("trace"), x, w)


def same_finite(found: np.ndarray, graph: Any, *arguments: np.ndarray) -> None:
    """The same elements are numbers, of which there are some, as without any pass."""
    results = adjit.evaluate(graph, *arguments)
    right = results[-1] if isinstance(results, tuple | list) else results
    assert not np.isfinite(right).all()
    assert np.isfinite(right).any()
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(right))
