"""Constants that are multiples of the identity are computed where they are read; what looks like one stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.codegen.running import Ran

from adjit.ir.builder import Builder
from adjit.ir.graph import Graph
from adjit.ir.types import Array
from adjit.passes.pipeline import optimize

N = 100


def graph_of(constant: np.ndarray) -> Graph:
    b = Builder()
    x = b.input("x", Array(constant.dtype, constant.shape))
    return b.graph("f", [b.emit("add", x, b.array(constant))])


def constants(graph: Graph) -> int:
    return sum(node.op.kind == "leaf" and not node.is_splat for node in graph.nodes)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
@pytest.mark.parametrize("factor", [1, -3, 7])
def test_identities_are_computed(factor: int, dtype: Any) -> None:
    given = np.diag(np.full(2 * N, factor, dtype))
    graph = optimize(graph_of(given))
    assert constants(graph) == 0
    x = np.arange(given.size).reshape(given.shape).astype(dtype)
    np.testing.assert_array_equal(Ran(graph, [x]).outputs[0], x + given)


def changed(at: tuple[int, int], value: float) -> np.ndarray:
    given = np.eye(N)
    given[at] = value
    return given


@pytest.mark.parametrize(
    "given",
    [
        np.eye(3), np.zeros((N, N)), np.eye(N, N + 1), np.full((N, N), np.nan), np.eye(N)[::-1], -1.0 * np.eye(N),
        changed((5, 5), 2.0), changed((5, 6), 1.0), changed((5, 6), -0.0), changed((5, 5), np.nan),
    ],
)  # fmt: skip
def test_others_stay(given: np.ndarray) -> None:
    before = graph_of(np.ascontiguousarray(given))
    after = optimize(before)
    x = np.where(np.arange(given.size).reshape(given.shape) % 2, 0.0, -0.0)
    found = Ran(after, [x]).outputs[0]
    assert found.tobytes() == (x + given).tobytes() or np.isnan(given).any()
    assert constants(after) == (1 if given.any() else constants(before))
