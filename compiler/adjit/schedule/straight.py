"""Straight-line programs: a graph so small that its values stay in registers from the first load to the last store.

Such a plan has one kernel, `Straight`, without loops and without an arena; codegen/straight writes it. `fits` has the
limits: every value is one vector of at most `STRAIGHT_ELEMENTS`, and all of them together take `STRAIGHT_WORK`."""

from __future__ import annotations

import math

import numpy as np

from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.quote import printable
from adjit.ops.contraction import extents_of
from adjit.ops.declare import Elementwise
from adjit.schedule.plan import Buffer, Kernel, Plan, Straight
from adjit.tuned import STRAIGHT_ELEMENTS, STRAIGHT_LANES, STRAIGHT_WORK
from adjit_runtime.program import Check, Slot

REDUCTIONS = frozenset({"sum", "prod", "max", "min", "any", "all"})
LEAVES = frozenset({"input", "constant", "iota"})


def fits(graph: Graph) -> bool:
    """Whether a graph becomes a straight line."""
    work = 0
    for node in (*graph.inputs, *graph.nodes):
        cost = _cost(node)
        if cost is None:
            return False
        work += cost
        if work > STRAIGHT_WORK:
            return False
    return True


def straight_plan(graph: Graph, slots: tuple[Slot, ...]) -> Plan:
    """The plan of a graph that fits; `slots` are inputs, then outputs, in the graph's order."""
    buffers = tuple(
        Buffer(printable(slot.name), np.dtype(slot.dtype), math.prod(slot.shape), slot=number, first=0, last=0)
        for number, slot in enumerate(slots)
    )
    kernel = Kernel(Straight(graph), tuple((buffer, 0) for buffer in buffers), graph.nodes)
    inputs = tuple(range(len(graph.inputs)))
    outputs = tuple(range(len(graph.inputs), len(slots)))
    checks = tuple(Check(node.attrs["error"], text_of(node), None) for node in graph.nodes if _is_check(node))
    return Plan(graph.name, (kernel,), buffers, 0, 0, 0, None, slots, inputs, outputs, checks)


def text_of(check: Node) -> str:
    """What a `check_holds` says: the user's line, then its own text."""
    where = f"{check.loc}: " if check.loc is not None else ""
    return where + str(check.attrs["text"])


def _is_check(node: Node) -> bool:
    return node.op.name == "check_holds"


def _cost(node: Node) -> int | None:
    """Instructions for a node, or None where there is no straight form of it."""
    if node.op.kind == "tiled" or node.op.kind == "tuple" or not 0 < node.array_type.size <= STRAIGHT_ELEMENTS:
        return None
    vectors = -(-node.array_type.size // STRAIGHT_LANES)
    if isinstance(node.op, Elementwise):
        return vectors * node.op.cost
    if node.op.name in LEAVES or node.op.kind == "movement" or _is_check(node):
        return vectors
    if node.op.name in REDUCTIONS:
        return 3 * -(-node.args[0].array_type.size // STRAIGHT_LANES)
    if node.op.name == "contract":
        size = math.prod(extents_of(node))
        return 4 * -(-size // STRAIGHT_LANES) if 0 < size <= STRAIGHT_ELEMENTS else None
    return None
