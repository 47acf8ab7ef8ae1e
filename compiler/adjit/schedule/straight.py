"""Straight-line programs: a graph so small that its values stay in registers from the first load to the last store.

Such a plan has one kernel, `Straight`, without loops and without an arena; codegen/straight writes it. `fits` has the
limits: every value is one vector of at most `STRAIGHT_ELEMENTS`, and all of them together take `STRAIGHT_WORK`."""

from __future__ import annotations

import math

import numpy as np

from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.quote import printable
from adjit.ops.declare import condition_of
from adjit.schedule.buffer import Buffer
from adjit.schedule.counts import asks_condition, line_cost
from adjit.schedule.plan import Kernel, Plan
from adjit.schedule.turns import Straight
from adjit.tuned import STRAIGHT_WORK
from adjit_runtime.program import Check, Slot


def fits(graph: Graph) -> bool:
    """Whether a graph becomes a straight line."""
    cost = line_cost(graph, STRAIGHT_WORK)
    return cost is not None and cost <= STRAIGHT_WORK


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
    return tuple(_check(node) for node in graph.nodes if asks_condition(node))


def _check(node: Node) -> Check:
    """What a check says: the user's line, then its own text."""
    where = f"{node.loc}: " if node.loc is not None else ""
    condition = condition_of(node)
    return Check(condition.error, where + condition.before, condition.after)
