"""A start takes time in proportion to the program: rounds of planning, and calls of functions, are counted."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import functions
from adjit.ir.graph import Graph
from adjit.passes.pipeline import optimize
from adjit.schedule import planner
from adjit.schedule.buffer import Buffer
from adjit.schedule.places import assign_places, padded
from adjit.schedule.plan import Plan
from adjit.schedule.planner import make_plan
from adjit.schedule.slots import slots_of
from adjit.schedule.verify import verify_plan
from adjit_runtime.target import host_target

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(6, 8))


def recurrent(n: int) -> Graph:
    """Gradient of a network that reads n rows one after the other."""

    def loss(p: Any, x: Any) -> Any:
        h = np.zeros((4, 6))
        for t in range(n):
            h = np.tanh(x[t] @ p["a"] + h @ p["b"])
        return np.mean(h**2)

    return gradient(loss, {"a": np.ones((3, 6)), "b": np.ones((6, 6))}, np.ones((n, 4, 3)))


def integrated(n: int) -> Graph:
    """Gradient of Runge and Kutta's method."""

    def loss(p: Any) -> Any:
        def slope(u: Any) -> Any:
            return np.stack([p[0] * u[0] - p[1] * u[0] * u[1], p[2] * u[0] * u[1] - p[3] * u[1]])

        u = np.array([1.0, 0.5]) + 0 * p[0]
        for _ in range(n // 4):
            a = slope(u)
            b = slope(u + 0.05 * a)
            u = u + 0.1 * b
        return np.sum(u**2)

    return gradient(loss, np.array([1.0, 0.4, 0.3, 0.6]))


def many(n: int) -> Graph:
    """Gradients by n parameters."""

    def loss(ps: Any, x: Any) -> Any:
        total = 0.0
        for p in ps:
            total = total + np.sum(np.tanh(p * x))
        return total

    return gradient(loss, [np.ones(5)] * n, np.ones(5))


def stacked(n: int) -> Graph:
    """Gradient of n scalars that are combined and weighed."""
    return gradient(lambda x: np.sum(np.stack([x[i] * x[i] for i in range(n)]) * np.arange(n)), np.ones(n))


def rows(n: int) -> Graph:
    """Gradient by a matrix whose rows are read one by one."""
    return gradient(lambda a: sum(np.sum(np.sin(a[i]) * a[i - 1]) for i in range(n)), np.ones((n, 3)))


def gradient(loss: Callable[..., Any], *args: Any) -> Graph:
    function = adjit.value_and_grad(loss)
    function(*args)
    (record,) = function.records.values()
    graph: Graph = record.made("adjoint")
    return graph


def calls(work: Callable[[], Any]) -> int:
    """How many functions, of Python and of C, `work` calls."""
    count = 0

    def note(frame: Any, event: str, arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("program", [recurrent, integrated, rows])
def test_loops_that_are_rolled_up_do_not_grow(program: Callable[[int], Graph]) -> None:
    few, more = program(60), program(180)
    assert len(more.nodes) == len(few.nodes)


@pytest.mark.parametrize("program", [recurrent, integrated, many, stacked, rows])
def test_planning_and_passes_take_steps_in_proportion(
    program: Callable[[int], Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(functions, "roll", lambda graph: graph)
    few, more = program(30), program(90)
    factor = len(more.nodes) / len(few.nodes)
    plans: list[Plan] = []

    def planned(graph: Graph) -> None:
        plans.append(make_plan(graph, host_target(), slots_of(graph)))

    for work in (optimize, planned):
        graphs = [few, more] if work is optimize else [optimize(few), optimize(more)]
        once, again = (calls(functools.partial(work, graph)) for graph in graphs)
        # Places are found in a tree, in the logarithm of their number; what was quadratic took six times as many.
        assert again <= 1.35 * factor * once
    for plan in plans:
        verify_plan(plan)


def turned(h: Any, x: Any) -> Any:
    """A matrix whose transpose is read in another shape, so that it needs memory."""
    return np.reshape(np.transpose(h), x.shape)


def separate(xs: Any) -> Any:
    return sum(np.sum(np.reshape(np.transpose(np.tanh(x)), (x.size,)) * np.arange(x.size)) for x in xs)


def chained(xs: Any) -> Any:
    h = xs[0]
    for x in xs:
        h = np.tanh(turned(h, x) + x)
    return np.sum(h)


def chained_sums(xs: Any) -> Any:
    h = xs[0]
    for x in xs:
        h = turned(h, x) @ np.ones((x.shape[1], x.shape[1])) / 100 + np.tanh(x)
    return np.sum(h)


@pytest.mark.parametrize(("function", "most"), [(separate, 2), (chained, 2), (chained_sums, 8)])
def test_rounds_do_not_grow_with_the_program(
    function: Callable[[Any], Any], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that needs memory is noted in one round; what shows only when something else has some, a few rounds on."""
    rounds = 0
    plan = planner._Planner.plan

    def counted(self: Any, order: Any) -> Plan | None:
        nonlocal rounds
        rounds += 1
        return plan(self, order)

    xs = [RNG.normal(size=(20, 30)) for _ in range(30)]
    compiled = adjit.value_and_grad(function)
    compiled(xs)
    (record,) = compiled.records.values()
    monkeypatch.setattr(planner._Planner, "plan", counted)
    graph = record.made("passes")
    make_plan(graph, host_target(), slots_of(graph))
    assert rounds <= most
    value, slopes = compiled(xs)
    np.testing.assert_allclose(value, function(xs), rtol=1e-13)  # sums in another order
    step = 1e-6
    moved = [x.copy() for x in xs]
    moved[3][2, 5] += step
    np.testing.assert_allclose((function(moved) - function(xs)) / step, slopes[3][2, 5], rtol=1e-3, atol=1e-4)


def looping(xs: Any) -> Any:
    """Loops that are the same, each of which reads transposes that must be copied for it."""

    def turn(h: Any, row: Any, m: Any, n: Any) -> Any:
        h = np.tanh(h @ m) @ n + row
        return h, np.sum(h)

    total = 0.0
    for x in xs:
        m, n, rows = x[:6, :6].T, x[6:12, 6:12].T, x[:6, :20].T
        h, sums = adjit.scan(lambda h, row, m=m, n=n: turn(h, row, m, n), x[:4, :6], rows)
        total = total + np.sum(h) + np.sum(sums)
    return total


def test_loops_that_are_the_same_have_one_plan_and_few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """What all operands of a loop need is noted in one round, and a turn is planned once for all of them."""
    rounds = {True: 0, False: 0}
    plan = planner._Planner.plan

    def counted(self: Any, order: Any) -> Plan | None:
        rounds[self.of_turn] += 1
        return plan(self, order)

    def by_hand(xs: Any) -> float:
        total = 0.0
        for x in xs:
            h = x[:4, :6]
            for row in x[:6, :20].T:
                h = np.tanh(h @ x[:6, :6].T) @ x[6:12, 6:12].T + row
                total += np.sum(h)
            total += np.sum(h)
        return float(total)

    xs = [RNG.normal(size=(20, 30)) / 4 for _ in range(8)]
    compiled = adjit.jit(looping)
    np.testing.assert_allclose(compiled(xs), by_hand(xs), rtol=1e-12)  # sums in another order
    (record,) = compiled.records.values()
    monkeypatch.setattr(planner._Planner, "plan", counted)
    graph = record.made("passes")
    made = make_plan(graph, host_target(), slots_of(graph))
    inner = {kernel.inner for kernel in made.kernels if kernel.inner is not None}
    assert len(inner) == rounds[True] == 1
    assert sum(kernel.inner is not None for kernel in made.kernels) == 8
    assert rounds[False] <= 2
    verify_plan(made)


@pytest.mark.parametrize("seed", range(20))
def test_places_are_the_lowest_that_are_free(seed: int) -> None:
    """What a walk over all buffers that have a place gives."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 40))
    roots = [Buffer(f"t{i}", np.dtype(np.float64), int(rng.integers(1, 60))) for i in range(50)]
    spans = {}
    for root in roots:
        first = int(rng.integers(count))
        spans[root] = (first, int(min(count - 1, first + rng.integers(8))))
    total = assign_places(roots, spans, count)
    placed: list[Buffer] = []
    for root in sorted(roots, key=lambda b: (-b.nbytes, spans[b])):
        first, last = spans[root]
        beside = [other for other in placed if spans[other][0] <= last and first <= spans[other][1]]
        places = sorted({0, *(other.offset + padded(other.nbytes) for other in beside)})
        free = (
            at
            for at in places
            if all(
                at + padded(root.nbytes) <= other.offset or other.offset + padded(other.nbytes) <= at
                for other in beside
            )
        )
        assert root.offset == next(free)
        placed.append(root)
    assert total == max(root.offset + padded(root.nbytes) for root in roots)


def test_a_long_chain_of_elementwise_operations() -> None:
    """A kernel's members were reached from its last one, by a recursion of more than a thousand calls."""

    def loss(x: Any, w: Any) -> Any:
        h = x
        for _ in range(300):
            h = h * w + x
        return np.sum(h * h)

    x, w = np.ones(2000), np.full(2000, 0.5)
    value, (slope, _) = adjit.value_and_grad(loss, argnums=(0, 1))(x, w)
    np.testing.assert_allclose(value, loss(x, w), rtol=1e-12)  # sums in another order
    np.testing.assert_allclose(slope, 8 * x, rtol=1e-12)
