"""Cotangents of an array's parts: one concatenation of ranges that do not meet, layers of those that do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from tests.both import run_both

X = np.random.default_rng(3).normal(size=12)


def twice_each(x: Any) -> Any:
    return sum(np.sin(x[i]) * x[i + 1] for i in range(11))


def windows(x: Any) -> Any:
    return sum(np.sum(x[i : i + 4] ** 3) * np.float64(i) for i in range(9))


def same_start(x: Any) -> Any:
    return np.sum(x[:3] ** 2) + np.sum(x[:5] ** 3) + x[0] * x[11] + np.sum(x) * x[4]


def rows(x: Any) -> Any:
    a = x.reshape(4, 3)
    return sum(np.sum(np.exp(a[i])) * a[i, 0] + a[i, 2] * a[i, 1] for i in range(4)) + np.sum(a[:, 1] ** 2)


def guarded(x: Any) -> Any:
    return (
        np.sum(np.where(x[:6] > 0, np.sqrt(np.abs(x[:6])), 0.0))
        + np.where(x[1] > 0, np.sqrt(np.abs(x[1])), x[2]) * x[3]
    )


def unpacked(x: Any) -> Any:
    w, b, c = x[:6].reshape(2, 3), x[6:9], x[9:]
    return np.sum(np.tanh(w @ b) ** 2) + np.sum(c * b)


def steps(x: Any) -> Any:
    return np.sum(x[::2] * x[1::2]) + x[3] * x[5] + np.sum(x[::-1] * np.arange(12))


@pytest.mark.parametrize("f", [twice_each, windows, same_start, rows, guarded, unpacked, steps])
def test_slopes_and_second_slopes(f: Callable[[Any], Any]) -> None:
    gradient: Any = adjit.grad(f)
    step = 1e-6
    for function, graph in (
        (f, gradient.ir("adjoint", X)),
        (lambda x: float(np.sum(gradient(x) * X)), adjit.grad(lambda x: np.sum(gradient(x) * X)).ir("adjoint", X)),
    ):
        slope = run_both(graph, X)[-1]
        for i in range(len(X)):
            h = np.where(np.arange(len(X)) == i, step, 0.0)
            np.testing.assert_allclose(slope[i], (function(X + h) - function(X - h)) / (2 * step), rtol=1e-5, atol=1e-6)


def counts(f: Callable[[Any], Any], n: int) -> Counter[str]:
    graph = adjit.grad(f).ir("adjoint", np.linspace(0.1, 0.9, n))
    return Counter(node.op.name for node in graph.nodes)


def test_elements_are_one_concatenation() -> None:
    found = counts(twice_each, 12)
    assert (found["concatenate"], found["pad"]) == (1, 0)


def test_windows_are_as_many_layers_as_overlap() -> None:
    found = counts(windows, 12)
    assert (found["concatenate"], found["pad"]) == (4, 0)


def test_two_large_parts_that_meet_stay_a_sum() -> None:
    found = counts(lambda x: np.sum((x[1:] - x[:-1]) ** 2), 12)
    assert (found["concatenate"], found["pad"]) == (0, 2)
