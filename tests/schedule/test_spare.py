"""What is computed again as that takes less time than memory does: plans hold, and what costs more is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adjit.autodiff.reverse import gradient
from adjit.ir.builder import Builder, Value
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.types import Array
from adjit.passes.pipeline import optimize
from adjit.schedule import spare
from adjit.schedule.memory import CodeRules
from adjit.schedule.planner import make_plan, timeline_of
from adjit.schedule.recompute import Timeline, recompute
from adjit.schedule.slots import slots_of
from adjit.schedule.spare import spared
from adjit.schedule.verify import verify_plan
from adjit_runtime.target import host_target

F64 = np.dtype(np.float64)
TARGET, RULES = host_target(), CodeRules()


@pytest.fixture(autouse=True)
def nothing_fits_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare, "MEMORY_BYTES", 0)


def gelu(b: Builder, x: Value) -> Value:
    return x * (0.5 + 0.5 * b.value(b.emit("erf", (x * 0.7).node)))


def layers(count: int, activation: Any, rows: int = 33, n: int = 20) -> Graph:
    """The gradient of a chain of layers by all of its weights."""
    b = Builder()
    h = b.value(b.input("x", Array(F64, (rows, n))))
    for i in range(count):
        w = b.value(b.input(f"w{i}", Array(F64, (n, n))))
        h = activation(b, b.contract(h, w, spec="ik,kj->ij"))
    graph = b.graph("layers", [b.sum(h * h, axes=(0, 1)).node])
    return optimize(gradient(graph, range(1, count + 1)), tiles=False)


def timeline(graph: Graph) -> Timeline:
    return timeline_of(graph, TARGET, slots_of(graph), RULES)


def again(graph: Graph) -> list[list[str]]:
    """The ops of the values of each set, by name."""
    return [sorted(node.op.name for node in stretch.values) for stretch in spared(timeline(graph))]


@pytest.mark.parametrize("shape", [(33, 20), (1, 20), (17, 3)])
def test_values_stay_and_less_is_kept(shape: tuple[int, int]) -> None:
    graph = layers(6, gelu, *shape)
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=node.shape) / 3 for node in graph.inputs]
    time = timeline(graph)
    made = recompute(time, spared(time))
    for found, wanted in zip(evaluate(made, *inputs), evaluate(graph, *inputs), strict=True):
        # The interpreter's products sum in another order where memory is aligned otherwise.
        np.testing.assert_allclose(found, wanted, rtol=1e-13)
    plan = make_plan(graph, TARGET, slots_of(graph), RULES)
    verify_plan(plan)
    assert plan.arena_bytes < 0.7 * make_plan(graph, TARGET, slots_of(graph), RULES, spares=False).arena_bytes


def test_what_shares_operations_is_computed_together() -> None:
    """Of a gelu erf, exp and the result are gone, of each layer at once; no product is computed again."""
    graph = layers(6, gelu)
    found = again(graph)
    assert len(found) >= 4
    assert all(names == ["erf", "exp", "mul"] for names in found)
    plan = make_plan(graph, TARGET, slots_of(graph), RULES)
    before = make_plan(graph, TARGET, slots_of(graph), RULES, spares=False)
    assert len(plan.kernels) == len(before.kernels)


def test_what_fits_a_cache_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare, "MEMORY_BYTES", 1 << 40)
    assert again(layers(6, gelu)) == []


def test_what_costs_more_than_memory_is_kept() -> None:
    """tanh is read at once, so that it is written anyhow, and reading the product in its place spares nothing."""
    assert again(layers(6, lambda b, x: b.tanh(x))) == []


def test_a_long_chain_is_cut() -> None:
    """Values that are each made of the one before, with one rule for all of them, would be computed n^2 / 2 times."""
    b = Builder()
    x, w = b.value(b.input("x", Array(F64, (40, 30)))), b.value(b.input("w", Array(F64, (30, 30))))
    h = b.contract(x, w, spec="ik,kj->ij")
    for _ in range(60):
        h = h + b.sin(h) * 0.1
    graph = optimize(gradient(b.graph("chain", [b.sum(h * h, axes=(0, 1)).node]), [1]), tiles=False)
    sines = sum(node.op.name == "sin" for node in graph.nodes)
    time = timeline(graph)
    assert sum(node.op.name == "sin" for node in recompute(time, spared(time)).nodes) <= 2 * sines
    verify_plan(make_plan(graph, TARGET, slots_of(graph), RULES))
