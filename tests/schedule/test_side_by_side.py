"""Parts of concatenations lie where they belong: through reshapes and concatenations around them, constants beside."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from tests.both import run_both
from tests.trace.check import graph_of

from adjit.ir.builder import Builder, Value
from adjit.ir.graph import Graph
from adjit.ir.types import F64, Array
from adjit.passes.pipeline import optimize
from adjit.schedule.maps import cut_strides
from adjit.schedule.planner import make_plan
from adjit.schedule.slots import slots_of
from adjit.schedule.work import Loop
from adjit_runtime.target import host_target

N = 900
"""Elements: more than what becomes a straight line."""


def places(shape: Sequence[int], strides: Sequence[int]) -> list[int]:
    """Where elements lie, in C order."""
    return [sum(i * s for i, s in zip(index, strides, strict=True)) for index in itertools.product(*map(range, shape))]


def unit_strides(shape: Sequence[int], offsets: list[int]) -> list[int]:
    """Strides by which elements lie so, if any do: those of the first steps along each dimension."""
    found = []
    for i in range(len(shape)):
        after = int(np.prod(shape[i + 1 :], dtype=int))
        found.append(offsets[after] - offsets[0] if shape[i] > 1 else 0)
    return found


SHAPES: list[tuple[int, ...]] = [
    (), (1,), (12,), (3, 4), (4, 3), (2, 6), (2, 2, 3), (12, 1), (1, 12), (3, 1, 4), (2, 3, 1, 2), (1, 1), (6,), (2, 3),
    (0,), (3, 0),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_strides_of_a_reshape(shape: tuple[int, ...]) -> None:
    """They are found wherever there are some, whatever the strides are, and are right."""
    near = tuple(int(s) for s in np.cumprod([1, *shape[:0:-1]])[::-1])[: len(shape)]
    far = tuple(1000**i for i in range(len(shape)))
    for cut in [cut for cut in SHAPES if np.prod(cut) == np.prod(shape)]:
        if 0 in shape:
            assert cut_strides(shape, far, cut) == (far if shape == cut else None)
            continue
        wanted = unit_strides(cut, places(shape, far))
        if places(cut, wanted) != places(shape, far):
            # One dimension is made of several that have nothing to do with each other.
            assert cut_strides(shape, far, cut) is None
            continue
        for strides in (near, far, tuple(3 * s for s in near)):
            found = cut_strides(shape, strides, cut)
            assert found is not None
            assert places(cut, found) == places(shape, strides)


def entries(u: Any) -> Any:
    return np.stack([np.ones(N), np.exp(u) - 2, np.ones(N)], axis=-1).reshape(-1)


def planes(u: Any) -> Any:
    return np.stack([np.sin(u), np.cos(u)], axis=-1)


def nested(u: Any) -> Any:
    pairs = np.stack([u * 2, u + 1], axis=-1)
    return np.concatenate([pairs, np.zeros((N, 1)), np.exp(pairs)], axis=1)


def ends(u: Any) -> Any:
    middle = np.stack([u[:-1], u[1:] * 2], axis=1).reshape(-1)
    return np.concatenate([u[:1] * 3, middle, np.full(2, 7.0)])


def read_again(u: Any) -> Any:
    one = np.exp(u)
    return np.stack([one, u], axis=-1) + np.sum(one), one


def twice_the_same(u: Any) -> Any:
    one = np.exp(u)
    return np.stack([one, one, one], axis=1)


def of_inputs(u: Any) -> Any:
    return np.stack([u, u], axis=-1).reshape(3, N // 3, 2)


def of_constants(u: Any) -> Any:
    return np.concatenate([np.stack([np.zeros(4), np.ones(4)], axis=-1).reshape(-1), u])


def a_sum_beside(u: Any) -> Any:
    table = np.outer(u, u)
    return np.stack([np.sum(table, axis=1), np.zeros(N), np.max(table, axis=0)], axis=-1)


def empty(u: Any) -> Any:
    return np.stack([u[:0], np.ones(0)], axis=-1).reshape(-1), np.concatenate([u[:0], u * 2])


def single(u: Any) -> Any:
    return np.stack([u[:1] * 2, np.ones(1)], axis=-1).reshape(-1)


PROGRAMS: list[tuple[Callable[[Any], Any], int]] = [
    (entries, 1), (planes, 2), (nested, 5), (ends, 4), (read_again, 3), (twice_the_same, 1), (of_inputs, 2),
    (of_constants, 2), (a_sum_beside, 3), (empty, 2), (single, 1),
]  # fmt: skip


@pytest.mark.parametrize(("function", "most"), PROGRAMS, ids=lambda value: getattr(value, "__name__", ""))
def test_parts_are_written_in_place(function: Callable[[Any], Any], most: int) -> None:
    u = np.random.default_rng(0).normal(size=N)
    graph = graph_of(function, u)
    found, expected = run_both(graph, u, terms=float(N)), function(u)
    for one, other in zip(found, expected if isinstance(expected, tuple) else (expected,), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13)
    kernels = make_plan(optimize(graph), host_target(), slots_of(graph)).kernels
    assert len(kernels) <= most
    assert all(isinstance(kernel.work, Loop) for kernel in kernels)


@pytest.mark.parametrize("seed", range(40))
def test_concatenations_of_concatenations(seed: int) -> None:
    graph = random_joins(np.random.default_rng(seed))
    run_both(graph, np.random.default_rng(seed).normal(size=360))


def random_joins(rng: np.random.Generator) -> Graph:
    """Values of 360 elements in several shapes, joined, cut apart and read again."""
    b = Builder()
    values: list[Value] = [b.value(b.input("x", Array(F64, (360,))))]
    shapes = [(30 * shape[0], *shape[1:]) for shape in SHAPES if np.prod(shape, dtype=int) == 12]

    def any_of(shape: tuple[int, ...]) -> Value:
        kind = rng.integers(6)
        if kind == 0:
            return b.full(float(rng.integers(-2, 3)), Array(F64, shape))
        found = b.reshape(values[rng.integers(len(values))], shape=shape)
        return found if kind < 3 else found * found if kind < 5 else b.neg(found)

    outputs = []
    for _ in range(6):
        shape = shapes[rng.integers(len(shapes))]
        axis = int(rng.integers(len(shape)))
        joined = b.concatenate(*(any_of(shape) for _ in range(rng.integers(2, 4))), axis=axis)
        flat = b.reshape(joined, shape=(joined.node.array_type.size,))
        at, step = int(rng.integers(360)), int(rng.integers(1, 3))
        if at + 359 * step < flat.shape[0]:
            values.append(b.slice(flat, start=(at,), stop=(at + 359 * step + 1,), step=(step,)))
        around = b.concatenate(flat, any_of((360,)), flat if rng.integers(2) else any_of((360,)), axis=0)
        outputs.append((flat if rng.integers(3) == 0 else around).node)
    return b.graph("joins", outputs)
