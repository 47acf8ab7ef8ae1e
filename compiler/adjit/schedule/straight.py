"""Straight-line programs: a graph so small that its values stay in registers from the first load to the last store.

Such a plan has one kernel, `Straight`, without loops and without an arena; codegen/straight writes it. `fits` has the
limits: every value is one vector of at most `STRAIGHT_ELEMENTS`, and all of them together take `STRAIGHT_WORK`."""

from __future__ import annotations

import math

import numpy as np

from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.quote import printable
from adjit.ir.types import Array
from adjit.ops.contraction import extents_of
from adjit.ops.declare import Elementwise, condition_of
from adjit.schedule.buffer import Buffer
from adjit.schedule.plan import Kernel, Plan
from adjit.schedule.turns import Straight
from adjit.tuned import STRAIGHT_ELEMENTS, STRAIGHT_LANES, STRAIGHT_WORK
from adjit_runtime.program import Check, Slot


def fits(graph: Graph) -> bool:
    """Whether a graph becomes a straight line."""
    cost = line_cost(graph, STRAIGHT_WORK)
    return cost is not None and cost <= STRAIGHT_WORK


def line_cost(graph: Graph, most: float = math.inf) -> int | None:
    """Instructions of a straight line, roughly, counted until there are more than `most`; None where a node has no
    straight form."""
    total = 0
    for node in (*graph.inputs, *graph.nodes):
        cost = _cost(node)
        if cost is None:
            return None
        total += cost
        if total > most:
            break
    return total


def straight_plan(graph: Graph, slots: tuple[Slot, ...]) -> Plan:
    """The plan of a graph that fits; `slots` are inputs, then outputs, in the graph's order."""
    buffers = tuple(
        Buffer(printable(slot.name), np.dtype(slot.dtype), math.prod(slot.shape), slot=number, first=0, last=0)
        for number, slot in enumerate(slots)
    )
    kernel = Kernel(Straight(graph), tuple((buffer, 0) for buffer in buffers), graph.nodes)
    inputs = tuple(range(len(graph.inputs)))
    outputs = tuple(range(len(graph.inputs), len(slots)))
    return Plan(graph.name, (kernel,), buffers, 0, 0, 0, None, slots, inputs, outputs, checks_of(graph))


def checks_of(graph: Graph) -> tuple[Check, ...]:
    """The checks of a straight line, in order."""
    return tuple(_check(node) for node in graph.nodes if _asks_condition(node))


def _check(node: Node) -> Check:
    """What a check says: the user's line, then its own text."""
    where = f"{node.loc}: " if node.loc is not None else ""
    condition = condition_of(node)
    return Check(condition.error, where + condition.before, condition.after)


def _asks_condition(node: Node) -> bool:
    """Whether a check asks for the truth of one condition."""
    return node.op.kind == "check" and node.args[-1].dtype.kind == "b"


def _cost(node: Node) -> int | None:
    """Instructions for a node, or None where there is no straight form of it."""
    if not isinstance(node.type, Array) or node.op.kind == "tuple" or not 0 < node.type.size <= STRAIGHT_ELEMENTS:
        return None
    vectors = -(-node.array_type.size // STRAIGHT_LANES)
    if isinstance(node.op, Elementwise):
        return vectors * node.op.cost
    if node.op.kind in ("leaf", "creation", "movement") or _asks_condition(node):
        return vectors
    if node.op.kind == "reduction":
        return 3 * -(-node.args[0].array_type.size // STRAIGHT_LANES)
    if node.op.kind == "contraction":
        size = math.prod(extents_of(node))
        return 4 * -(-size // STRAIGHT_LANES) if 0 < size <= STRAIGHT_ELEMENTS else None
    return None
