"""What a graph costs that runs for many places at once, one in each lane of a vector: an element of all is one vector.

Movement costs nothing then, as it only says which vector is meant, and neither does what constants give."""

from __future__ import annotations

import math

from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.types import Array
from adjit.ops.contraction import extents_of
from adjit.ops.declare import Elementwise, Factoring, Movement, Ordered, Reduction


def cost_across(node: Node) -> int | None:
    """Vector instructions for a node of a body, roughly; None where it has no such form."""
    if not isinstance(node.type, Array) or node.op.kind == "tuple":
        return None
    if isinstance(node.op, Factoring):
        return _cost_of_factoring(node, node.op)
    if isinstance(node.op, Elementwise):
        return node.array_type.size * node.op.cost
    if isinstance(node.op, Movement):
        return None if isinstance(node.op, Ordered) else 0
    if isinstance(node.op, Reduction):
        return node.args[0].array_type.size if node.op.combine is not None and "axes" in node.attrs else None
    if node.op.kind == "contraction":
        return math.prod(extents_of(node))
    return 0 if node.op.kind == "leaf" else None


def _cost_of_factoring(node: Node, op: Factoring) -> int | None:
    if op.across is None:
        return None
    *lead, n, _ = node.args[0].shape
    return math.prod(lead) * op.across(n, node.shape[-1] if len(node.args) > 1 else 0)


def cost_of_body(graph: Graph) -> int | None:
    """Vector instructions of a turn for all lanes, with loads and stores; None where a node has no such form."""
    # Log2 of the lanes, and a load or store.
    total = 4 * sum(node.array_type.size for node in (*graph.inputs, *graph.outputs))
    for node in graph.nodes:
        cost = cost_across(node)
        if cost is None:
            return None
        total += cost
    return total


def factors_in(graph: Graph) -> bool:
    """Whether a body factors matrices, or solves equations by their factors."""
    return any(isinstance(node.op, Factoring) for node in graph.nodes)
