"""Loops that take several vectors together: the same bits as one at a time, whatever is left over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjit
from adjit.codegen.analysis import lanes_of, vectors_together
from adjit.schedule.planner import make_plan
from adjit.schedule.slots import slots_of
from adjit.schedule.work import Loop
from adjit.tuned import LONG_BODY, LONG_LOOP
from adjit_runtime.target import host_target

BODIES: dict[str, Any] = {
    "one function": np.exp,
    "many": lambda x: np.sinh(x) * np.tan(x) + np.log1p(np.exp(x)) * np.arcsinh(x) / np.cosh(x) - np.tanh(x) ** 3,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", BODIES)
def test_lengths_around_the_vectors_that_go_together(name: str, dtype: Any) -> None:
    function = adjit.jit(BODIES[name])
    lanes = host_target().vector_bytes // np.dtype(dtype).itemsize
    least = LONG_LOOP * lanes
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, least + 9 * lanes).astype(dtype)
    short = np.concatenate([function(x[i : i + lanes]) for i in range(0, len(x), lanes)])
    for n in (least - 1, least, least + 1, least + lanes, least + 3 * lanes + 1, least + 4 * lanes - 1, len(x)):
        np.testing.assert_array_equal(function(x[:n]), short[:n])


def test_the_longest_bodies_take_the_most_vectors() -> None:
    target = host_target()
    together = []
    for function in BODIES.values():
        compiled = adjit.jit(function)
        compiled(np.ones(10_000, np.float32))
        graph = compiled.ir("optimized")
        (kernel,) = make_plan(graph, target, slots_of(graph)).kernels
        assert isinstance(kernel.work, Loop)
        assert lanes_of(kernel.work.body, target.vector_bytes) == target.vector_bytes // 4
        together.append(vectors_together(kernel.work.body, target))
    assert together == [LONG_BODY[target.registers][-1][1], LONG_BODY[target.registers][0][1]]
