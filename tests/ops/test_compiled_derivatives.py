"""Derivatives of every op in machine code: what the evaluator gives for them, in both modes, to second order in all
orders, and of a batch. That the evaluator is right is what test_derivatives and tests/autodiff/test_forward_mode say.

All of one op stand side by side in one graph, so that an op is one compilation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from adjit.autodiff.batch import batch
from adjit.autodiff.forward_mode import jvp
from adjit.autodiff.reverse import vjp
from adjit.ir.builder import Builder
from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.verify import verify
from tests.autodiff.loops import floats_of, points
from tests.both import run_both
from tests.ops.samples import Case, graph_of
from tests.ops.test_derivatives import DIFFERENTIABLE, float_cases

BATCH = 2
MOST_CASES = 2


def forward(graph: Graph) -> Graph:
    return jvp(graph, floats_of(graph))


def reverse(graph: Graph) -> Graph:
    return vjp(graph, floats_of(graph))


def of_many(graph: Graph) -> Graph:
    """A batch of all floats; what else there is (an index) is the same for all values."""
    floats = floats_of(graph)
    return batch(graph, [0 if i in floats else None for i in range(len(graph.inputs))], BATCH).graph


WAYS: list[Callable[[Graph], Graph]] = [
    lambda graph: forward(reverse(graph)), lambda graph: reverse(forward(graph)), lambda graph: reverse(reverse(graph)),
    lambda graph: forward(forward(graph)), lambda graph: of_many(reverse(graph)), lambda graph: of_many(forward(graph)),
    lambda graph: reverse(of_many(graph)), lambda graph: of_many(reverse(reverse(graph))),
]  # fmt: skip


def small(name: str) -> list[Case]:
    """Few cases of few elements, of different ranks."""
    found: dict[int, Case] = {}
    for case in sorted(float_cases(name), key=lambda case: sum(array.size for array in case.arrays)):
        found.setdefault(case.arrays[0].ndim, case)
    return list(found.values())[-MOST_CASES:]


def filled(graph: Graph, case: Case) -> list[np.ndarray]:
    """The case's arrays, a batch of them where the graph has one, and random cotangents and tangents."""
    given = [
        array if node.shape == array.shape else np.stack([array, 0.97 * array])
        for node, array in zip(graph.inputs, case.arrays, strict=False)
    ]
    return points(graph, given)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives_in_machine_code(name: str) -> None:
    b = Builder()
    outputs: list[Node] = []
    inputs: list[np.ndarray] = []
    for case in small(name):
        for way in WAYS:
            graph = way(graph_of([case]))
            verify(graph)
            inputs += filled(graph, case)
            nodes = [b.input(f"x{len(b.inputs)}", node.type) for node in graph.inputs]
            outputs += b.inline(graph, nodes)
    assert outputs
    # Products of several derivatives and cotangents that cancel.
    run_both(b.graph("derivatives", outputs), *inputs, terms=100.0)
