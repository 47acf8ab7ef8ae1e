"""Compiles programs whose kernels are all glue, for one CPU, and runs them where this machine can: every op of the
registry, then random graphs, some of them light only beside a heavy product. LLVM may end the process, so this is a
program of its own, which says what it compiles before it does: `python -m tests.codegen.glue <cpu>`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pytest

from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.types import Array
from adjit_runtime.target import Target, _target, host_target
from tests.codegen.guards import compare, operands
from tests.codegen.mixtures import BOOL, Mixture
from tests.codegen.running import Lowered, Ran
from tests.ops.samples import COMPUTED, assert_close, cases_of, graph_of, tolerance
from tests.thresholds import LIGHT, force

F32, U8 = np.dtype(np.float32), np.dtype(np.uint8)
ROWS = (17, 151)
SEEDS = (*range(30), 67, 89, 229, 269)
"""The last ones ended the process in their time."""


def runs_here(target: Target) -> bool:
    """Whether this machine has the registers that code for a target wants."""
    host = host_target()
    return host.triple == target.triple and host.triple.startswith("x86") and host.vector_bytes >= target.vector_bytes


def check_op(name: str, target: Target) -> None:
    """All sample calls of an op."""
    cases = cases_of(name)
    graph = graph_of(cases)
    if not runs_here(target):
        Lowered(graph, target, straight=False)
        return
    inputs = [array for case in cases for array in case.arrays]
    found = Ran(graph, inputs, target).outputs
    for case, got, want in zip(cases, found, evaluate(graph, *inputs), strict=True):
        assert_close(got, want, case, tolerance(case))


def check_graph(graph: Graph, seed: int, name: str, target: Target) -> None:
    """One graph."""
    if not runs_here(target):
        Lowered(graph, target, straight=False)
        return
    inputs = operands(graph, seed)
    with np.errstate(all="ignore"):
        wanted = evaluate(graph, *inputs)
    for got, want in zip(Ran(graph, inputs, target).outputs, wanted, strict=True):
        compare(got, want, name)


def mixture(seed: int) -> Graph:
    """A random graph; every other one has narrow lanes above all."""
    return Mixture(seed, [U8, BOOL, F32]).graph(12) if seed % 2 else Mixture(seed).graph(12)


def beside_a_product() -> Iterator[tuple[str, Graph]]:
    """Small kernels of bools and bytes beside a product that takes all the time."""
    for name in ("any", "all", "max", "min", "sum", "prod"):
        made = Mixture(0)
        b = made.b
        x, w = (b.value(b.input(n, Array(F32, shape))) for n, shape in (("x", ROWS), ("w", (ROWS[1], 2000))))
        small = x > 0.0 if name in ("any", "all") else b.cast(b.abs(x), dtype=U8)
        reduced = getattr(b, name)(small, axes=(1,))
        heavy = b.contract(b.tanh(b.contract(x, w, spec="ik,kj->ij")), w, spec="ik,jk->ij")
        yield name, b.graph("beside", [reduced.node, heavy.node])


def main(cpu: str) -> None:
    """Everything for one CPU."""
    target = _target(cpu)
    for name in COMPUTED:
        print(f"{cpu}: {name}", flush=True)
        with pytest.MonkeyPatch.context() as patch:
            force(patch, LIGHT)
            check_op(name, target)
    for seed in SEEDS:
        print(f"{cpu}: mixture {seed}", flush=True)
        with pytest.MonkeyPatch.context() as patch:
            force(patch, LIGHT)
            check_graph(mixture(seed), seed, f"mixture {seed}", target)
    for name, graph in beside_a_product():
        print(f"{cpu}: {name} beside a product", flush=True)
        check_graph(graph, 0, name, target)
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
