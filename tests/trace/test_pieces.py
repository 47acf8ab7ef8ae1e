"""Arrays that are written in parts: NumPy's values and slopes whatever is written and read, and no more nodes than
that takes."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

import adjit
from adjit.ir.graph import Graph

SHAPES = [(1,), (7,), (2, 1), (3, 4), (1, 5), (2, 3, 2), (2, 0)]


def random_key(rng: random.Random, shape: tuple[int, ...]) -> Any:
    """Integers, slices of all kinds and an Ellipsis."""
    items: list[Any] = []
    for n in shape[: rng.randint(0, len(shape))]:
        if n and rng.random() < 0.5:
            items.append(rng.randrange(-n, n))
        else:
            bounds = sorted(rng.randint(0, n) for _ in range(2))
            items.append(slice(*bounds) if rng.random() < 0.7 else slice(None, None, rng.choice([-1, 2, -2])))
    return (*items, ...)


def random_program(seed: int) -> tuple[Any, np.ndarray]:
    """Writes through the array and through views of it, and reads of parts, of views and of all."""
    rng = random.Random(seed)
    shape = rng.choice(SHAPES)
    plan: list[tuple[str, Any, Any, float]] = []
    empty = np.empty(shape)
    for _ in range(rng.randint(2, 14)):
        outer = random_key(rng, shape)
        kind = rng.choice(["write", "write", "add", "copy", "read", "flat", "whole"])
        plan.append((kind, outer, random_key(rng, empty[outer].shape), rng.uniform(0.5, 1.5)))
    begun = rng.choice(["copy", "zeros"])

    def f(x: Any) -> Any:
        y = x.copy() if begun == "copy" else np.zeros(shape)
        views = [y]
        total = np.sum(y * x)
        for kind, outer, inner, factor in plan:
            view = views[-1][...] if kind == "whole" else y[outer]
            if kind == "write":
                view[inner] = factor * x[outer][inner] ** 2
            elif kind == "add":
                view[inner] += factor * x[outer][inner]
            elif kind == "copy":
                y[outer] = view * factor + x[outer]
            elif kind == "flat":
                y.reshape(-1)[: y.size // 2] = factor * np.sin(x.reshape(-1)[: y.size // 2])
                views.append(view)
            total = total + np.sum(view * view) * factor
        return total + sum(np.sum(view**3) for view in views)

    return f, np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("seed", range(100))
def test_random_writes_and_reads(seed: int) -> None:
    f, x = random_program(seed)
    graph = adjit.value_and_grad(f).ir("adjoint", x)
    value, slope = adjit.evaluate(graph, x)
    np.testing.assert_allclose(value, f(x), rtol=1e-12)
    step = 1e-6
    for i in np.ndindex(x.shape):
        high, low = x.copy(), x.copy()
        high[i] += step
        low[i] -= step
        np.testing.assert_allclose(slope[i], (f(high) - f(low)) / (2 * step), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("seed", range(0, 100, 10))
def test_compiled(seed: int) -> None:
    f, x = random_program(seed)
    compiled = adjit.value_and_grad(f)
    for found, wanted in zip(compiled(x), adjit.evaluate(compiled.ir("adjoint"), x), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-12)


def counts(graph: Graph) -> Counter[str]:
    return Counter(node.op.name for node in graph.nodes)


def filled(n: int) -> Any:
    def f(x: Any) -> Any:
        y = np.zeros(n)
        for i in range(1, n):
            y[i] = x[i] + 0.5 * y[i - 1]
        return np.sum(y * y)

    return f


def test_what_is_filled_element_by_element_is_joined_once() -> None:
    found = counts(adjit.value_and_grad(filled(30)).ir("adjoint", np.ones(30)))
    # The array, and the slope of the argument.
    assert found["concatenate"] == 2
    assert found["pad"] == found["select"] == 0


def test_nodes_grow_with_the_writes() -> None:
    few, more = (len(adjit.value_and_grad(filled(n)).ir("adjoint", np.ones(n)).nodes) for n in (20, 60))
    assert more <= 3.2 * few


def test_a_part_that_is_read_twice_is_one_node() -> None:
    def f(x: Any) -> Any:
        return x[1] * x[1] + x[1] * x[-2] + np.sum(x[:2]) * np.sum(x[0:2])

    assert counts(adjit.jit(f).ir("trace", np.ones(3)))["slice"] == 2


def test_a_read_between_two_writes_sees_the_first() -> None:
    def f(x: Any) -> Any:
        y = x.copy()
        v = y[1:]
        a = v[0] * 1
        y[1] = 5 * a
        b = v[0] * 1
        v[0] = b + x[0]
        return np.stack([a, b, y[1], v[0]])

    x = np.array([2.0, 3.0, 4.0])
    np.testing.assert_array_equal(adjit.jit(f)(x), f(x))


def test_rows_are_joined_as_rows() -> None:
    def f(x: Any) -> Any:
        y = np.zeros((5, 2))
        for i in range(5):
            y[i] = x * i
        return y

    graph = adjit.jit(f).ir("trace", np.ones(2))
    (joined,) = (node for node in graph.nodes if node.op.name == "concatenate")
    assert joined.shape == (5, 2)
    np.testing.assert_array_equal(adjit.jit(f)(np.ones(2)), f(np.ones(2)))


def test_dtypes_and_weak_values() -> None:
    def f(x: Any, n: Any) -> Any:
        y = np.zeros(4, np.float32)
        y[0] = n
        y[1] = x[0]
        y[2:] = 7
        return y[0] * y[1], y

    x = np.array([1.5])
    for found, wanted in zip(adjit.jit(f)(x, 2), f(x, 2), strict=True):
        assert np.asarray(found).dtype == np.asarray(wanted).dtype
        np.testing.assert_array_equal(found, wanted)
