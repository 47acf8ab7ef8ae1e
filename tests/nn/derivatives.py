"""Helpers: derivatives of a function of arrays by its graph, interpreted and compiled, and by central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optree

from adjit.autodiff.reverse import gradient
from adjit.ir.evaluate import evaluate
from tests.both import run_both
from tests.trace.check import graph_of, run


def run_trees(function: Callable[..., Any], *trees: Any) -> Any:
    """`function` of trees of arrays by its graph, interpreted and compiled: what both give."""
    leaves, tree = optree.tree_flatten(trees)
    return run(lambda *arrays: function(*optree.tree_unflatten(tree, arrays)), *leaves)


def weighted_gradient(function: Callable[[Any], Any], x: np.ndarray, weights: Any = 1.0) -> np.ndarray:
    """The gradient of sum(weights * function(x)); machine code gives the same as the interpreter."""
    graph = graph_of(lambda x: np.sum(function(x) * weights), x)
    return run_both(gradient(graph, [0]), x, terms=float(np.max(np.abs(weights))))[1]


def differences(function: Callable[[Any], Any], x: np.ndarray, weights: Any = 1.0, step: float = 1e-6) -> np.ndarray:
    """The same gradient by central differences of the function on plain arrays."""
    result = np.zeros_like(x)
    for position in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[position] += step
        down[position] -= step
        result[position] = np.sum((function(up) - function(down)) * weights) / (2 * step)
    return result


def derivatives(function: Callable[[Any], Any], x: float) -> tuple[float, float]:
    """First and second derivative of a scalar function, by its graph."""
    point = np.float64(x)
    first = gradient(graph_of(function, point), [0])
    second = gradient(first, [0], output=1)
    _, slope, curvature = evaluate(second, point)
    return float(slope), float(curvature)


def check_gradient(function: Callable[[Any], Any], x: np.ndarray) -> None:
    """The gradient of a random combination of the outputs is that of central differences."""
    weights = np.random.default_rng(7).standard_normal(np.shape(function(x)))
    expected = differences(function, x, weights)
    # Central differences with this step are right to about 1e-9 of the largest value.
    np.testing.assert_allclose(weighted_gradient(function, x, weights), expected, rtol=1e-6, atol=1e-7)
