"""Random programs: their gradient compiled, evaluated and by finite differences; passes change no value; plans hold."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from adjit.autodiff.reverse import gradient
from adjit.codegen.races import verify_jobs
from adjit.ir.builder import Builder
from adjit.ir.equal import equal
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.parse import parse
from adjit.ir.text import print_graph
from adjit.ir.types import F64
from adjit.ir.verify import verify
from adjit.passes.pipeline import optimize
from adjit.schedule.planner import make_plan
from adjit.schedule.slots import slots_of
from adjit.schedule.verify import verify_plan
from adjit_runtime.target import host_target
from tests.codegen.running import Ran
from tests.graphs import GraphMaker, arrays


def scalar_program(seed: int, steps: int) -> Graph:
    """The sum of tanh of what a random graph gives, so that it is bounded and smooth almost everywhere."""
    maker = GraphMaker(seed, F64)
    graph = maker.graph(steps)
    b = Builder()
    b.inputs.extend(graph.inputs)
    b.nodes.extend(graph.nodes)
    total = None
    for node in graph.outputs:
        part = b.tanh(b.value(node))
        if part.shape:
            part = b.sum(part, axes=tuple(range(len(part.shape))))
        total = part if total is None else total + part
    assert total is not None
    return b.graph("scalar", [total.node])


PROGRAMS = {"seed": st.integers(0, 10**6), "steps": st.integers(1, 14)}


@settings(max_examples=150)
@given(**PROGRAMS)
def test_gradient_compiled_and_evaluated(seed: int, steps: int) -> None:
    graph = scalar_program(seed, steps)
    adjoint = gradient(graph, range(len(graph.inputs)))
    verify(adjoint)
    inputs = arrays(graph, seed)
    wanted = evaluate(adjoint, *inputs)
    optimized = optimize(adjoint)
    ran = Ran(optimized, inputs)
    assert ran.status == 0
    for want, plain, machine in zip(wanted, evaluate(optimized, *inputs), ran.outputs, strict=True):
        scale = max(1.0, float(np.abs(want).max(initial=0.0)))
        np.testing.assert_allclose(plain, want, rtol=1e-9, atol=1e-11 * scale, err_msg=str(graph))
        np.testing.assert_allclose(machine, want, rtol=1e-9, atol=1e-11 * scale, err_msg=str(graph))


@settings(max_examples=300)
@given(**PROGRAMS)
def test_gradient_against_differences(seed: int, steps: int) -> None:
    """Along one random direction; at a kink the two one-sided slopes differ, and the derivative lies between."""
    graph = scalar_program(seed, steps)
    inputs = arrays(graph, seed)
    rng = np.random.default_rng(seed)
    ways = [rng.normal(size=x.shape) for x in inputs]
    _, *gradients = evaluate(gradient(graph, range(len(inputs))), *inputs)
    found = sum(float(np.sum(g * d)) for g, d in zip(gradients, ways, strict=True))

    def value(t: float) -> float:
        return float(evaluate(graph, *(x + t * d for x, d in zip(inputs, ways, strict=True)))[0])

    step = 1e-6
    left, right = (value(0) - value(-step)) / step, (value(step) - value(0)) / step
    slack = 1e-4 * max(1.0, abs(found))
    assert min(left, right) - slack <= found <= max(left, right) + slack, (left, found, right, str(graph))


@settings(max_examples=300)
@given(**PROGRAMS)
def test_plans_of_gradients_hold(seed: int, steps: int) -> None:
    """`verify_plan` checks it: buffers that live at the same time never overlap, every read has a write before it."""
    graph = scalar_program(seed, steps)
    for each in (graph, gradient(graph, range(len(graph.inputs)))):
        optimized = optimize(each)
        plan = make_plan(optimized, host_target(), slots_of(optimized))
        verify_plan(plan)
        verify_jobs(plan, host_target())


@settings(max_examples=300)
@given(**PROGRAMS)
def test_text_of_gradients_parses_back(seed: int, steps: int) -> None:
    graph = scalar_program(seed, steps)
    for each in (graph, gradient(graph, [0]), optimize(gradient(graph, [0]))):
        assert equal(parse(print_graph(each)), each)
