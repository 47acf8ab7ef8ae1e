"""Stores that fill memory together are written as whole vectors: the same elements, in every dtype, size and place."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from adjit.codegen.emit import write
from adjit.ir.builder import Builder
from adjit.ir.graph import Graph
from adjit.ir.types import F64, Array
from adjit.passes.pipeline import optimize
from adjit.schedule.plan import Plan
from adjit.schedule.planner import make_plan
from adjit.schedule.slots import slots_of
from adjit.schedule.verify import verify_plan
from adjit.schedule.work import Loop
from adjit_runtime.errors import InternalError
from adjit_runtime.target import host_target
from tests.both import run_both
from tests.codegen.running import Ran
from tests.trace.check import graph_of


def fields(count: int) -> Any:
    """So many values of one loop side by side."""

    def function(x: Any) -> Any:
        first = x + x
        return np.stack([first, *(first * k for k in range(2, count)), np.ones(x.shape, x.dtype)], axis=-1)

    return function


def plan_of(graph: Graph) -> Plan:
    return make_plan(optimize(graph), host_target(), slots_of(graph))


def loops(plan: Plan) -> list[Loop]:
    return [kernel.work for kernel in plan.kernels if isinstance(kernel.work, Loop)]


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int32", "bool"])
@pytest.mark.parametrize("count", [2, 3, 5, 9])
def test_fields(dtype: str, count: int) -> None:
    for size in (1, 7, 8, 333, 1000):
        x = (np.arange(size) % 7 - 3).astype(dtype)
        graph = graph_of(fields(count), x)
        (found,) = run_both(graph, x)
        np.testing.assert_array_equal(found, fields(count)(x))


@pytest.mark.parametrize("order", ["forward", "backward"])
def test_parts_of_threads(order: str) -> None:
    x = np.random.default_rng(0).normal(size=100_003)
    ran = Ran(optimize(graph_of(fields(3), x)), [x], threads=3, order=order)
    np.testing.assert_array_equal(ran.outputs[0], fields(3)(x))


def test_narrower_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    if "avx2" not in host_target().features:
        pytest.skip("this machine does not run AVX2")
    monkeypatch.setitem(os.environ, "ADJIT_CPU", "haswell")
    assert host_target().vector_bytes == 32
    for dtype in ("float64", "float32", "int64", "bool"):
        test_fields(dtype, 3)


def test_vectors_are_stored_whole() -> None:
    x = np.zeros(1000)
    for count in (2, 3, 4):
        plan = plan_of(graph_of(fields(count), x))
        assert [len(group) for loop in loops(plan) for group in loop.body.beside] == [count]
        assert "shufflevector" in write(plan, host_target()).llvm


def test_in_two_dimensions_and_among_others() -> None:
    x = np.random.default_rng(0).normal(size=(30, 41))

    def function(x: Any) -> Any:
        double = x * 2
        pairs = np.stack([double, double + x], axis=-1)
        return np.concatenate([pairs.reshape(30, 82), np.full((30, 3), 5.0)], axis=1), double

    (found, _) = run_both(graph_of(function, x), x)
    np.testing.assert_array_equal(found, function(x)[0])


def test_some_fields_of_a_record_are_stored_one_by_one() -> None:
    """Two of three: what is between them is another kernel's."""

    def function(x: Any, y: Any) -> Any:
        double = x * 2
        return np.stack([double, double + 1, np.cumsum(y)], axis=-1)

    x, y = np.random.default_rng(0).normal(size=(2, 500))
    graph = graph_of(function, x, y)
    assert not any(loop.body.beside for loop in loops(plan_of(graph)))
    (found,) = run_both(graph, x, y, terms=500.0)
    np.testing.assert_allclose(found, function(x, y), rtol=1e-12, atol=1e-12)


def test_state_is_renewed_in_place() -> None:
    """Each pair is read ahead of the stores that renew it."""
    b = Builder()
    state = b.value(b.input("state", Array(F64, (600, 2))))
    left, right = (b.slice(state, start=(0, i), stop=(600, i + 1), step=(1, 1)) for i in (0, 1))
    total = left + right
    renewed = b.concatenate(total, total * left, axis=1)
    graph = b.graph("pairs", [], [(state.node, renewed.node)])
    x = np.random.default_rng(0).normal(size=(600, 2))
    ran = Ran(graph, [x])
    total_of = x[:, :1] + x[:, 1:]
    np.testing.assert_array_equal(ran.inputs[0], np.concatenate([total_of, total_of * x[:, :1]], axis=1))


def test_the_verifier_sees_stores_that_do_not_lie_so() -> None:
    plan = plan_of(graph_of(fields(3), np.zeros(1000)))
    verify_plan(plan)
    (kernel,) = plan.kernels
    assert isinstance(kernel.work, Loop)
    body = kernel.work.body
    for beside in ((), (tuple(reversed(body.beside[0])),)):
        plan.kernels = [replace(kernel, work=replace(kernel.work, body=replace(body, beside=beside)))]
        with pytest.raises(InternalError, match="side by side"):
            verify_plan(plan)
