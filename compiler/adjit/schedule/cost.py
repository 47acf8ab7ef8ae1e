"""How long a plan or a graph takes, in operations.

A prediction by which plans of one program are compared, not one of seconds: what is larger, the operations of a kernel
or its bytes, each of which counts as so many operations (roofline: Williams, Waterman, Patterson 2009)."""

from __future__ import annotations

import math

from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.types import Array
from adjit.ops.contraction import extents_of
from adjit.ops.declare import Bodied
from adjit.ops.loops import known_turns
from adjit.schedule.counts import operations_of_node
from adjit.schedule.plan import Plan
from adjit.schedule.turns import Nested
from adjit.tuned import CACHE_BYTE_COST, MEMORY_BYTE_COST, MEMORY_BYTES


def time_of(plan: Plan) -> float:
    """How long a plan takes, in operations; the plans of turns as often as these run at most."""
    total = 0.0
    waiting = [(plan, 1)]
    while waiting:
        at, times = waiting.pop()
        for kernel in at.kernels:
            if kernel.inner is not None and isinstance(kernel.work, Nested):
                waiting.append((kernel.inner, times * known_turns(kernel.work.count)))
                continue
            nbytes = kernel.work.nbytes(kernel.params)
            byte = MEMORY_BYTE_COST if nbytes > MEMORY_BYTES else CACHE_BYTE_COST
            total += times * max(kernel.work.flops, nbytes * byte)
    return total


def time_of_graph(graph: Graph) -> float:
    """How long a graph takes, in the same operations, whatever its kernels are."""
    total = 0.0
    waiting = [(graph, 1)]
    while waiting:
        at, times = waiting.pop()
        loops = [node.attrs for node in at.nodes if isinstance(node.op, Bodied)]
        waiting += [(attrs["body"], times * known_turns(attrs.get("length", 1))) for attrs in loops]
        total += times * sum(_time_of_node(node) for node in at.nodes if isinstance(node.type, Array))
    return total


def _time_of_node(node: Node) -> float:
    if node.op.kind == "contraction":
        return 2.0 * math.prod(extents_of(node))
    return 0.0 if node.op.kind in ("leaf", "tuple", "movement", "creation") else operations_of_node(node)
