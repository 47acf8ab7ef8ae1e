"""What a body or a graph computes and moves at least: operations, instructions, and bytes of which each counts once."""

from __future__ import annotations

import math

from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.op import OPS
from adjit.ir.types import Array
from adjit.ops.contraction import extents_of
from adjit.ops.declare import Elementwise
from adjit.schedule.buffer import Params
from adjit.schedule.instructions import Apply, Body, Gather, Load, Reduce, Store
from adjit.tuned import STRAIGHT_ELEMENTS, STRAIGHT_LANES


def operations_of_body(body: Body) -> float:
    """Operations for each element of the domain, rows' values spread over their rows."""
    total = 0.0
    row = math.prod(body.domain[d] for d in body.reduced)
    reduced = False
    for instruction in body.code:
        if isinstance(instruction, Reduce):
            total += 1
            reduced = True
        elif isinstance(instruction, Apply) and instruction.op not in ("select", "cast"):
            op = OPS[instruction.op]
            cost = op.cost if isinstance(op, Elementwise) else 1
            total += cost / row if reduced and row > 1 and body.reduced else cost
    return total


def bytes_of_body(body: Body, params: Params) -> float:
    """Bytes of the elements that a loop reads and writes."""
    found: dict[tuple[int, bool], float] = {}
    for instruction in body.code:
        if isinstance(instruction, Load | Gather | Store):
            reached = math.prod(n for n, c in zip(body.domain, instruction.coefficients, strict=True) if c)
            buffer = params[instruction.param][0]
            key = (instruction.param, isinstance(instruction, Store))
            found[key] = max(found.get(key, 0.0), min(reached, buffer.size) * instruction.dtype.itemsize)
    return sum(found.values())


def itemsize_of_body(body: Body) -> int:
    """Bytes of the numbers that a body computes with."""
    sizes = [i.dtype.itemsize for i in body.code if isinstance(i, Apply | Reduce) and i.dtype.kind == "f"]
    return min(sizes, default=4)


def operations_of_graph(graph: Graph) -> float:
    """Operations of a graph, each node's once for each of its elements."""
    return sum(operations_of_node(node) for node in graph.nodes)


def operations_of_node(node: Node) -> float:
    """Operations of a node: its cost, for each of its elements or of those that it reads, whichever are more."""
    cost = node.op.cost if isinstance(node.op, Elementwise) else 1
    return float(cost * max(node.array_type.size, *(arg.array_type.size for arg in node.args), 1))


def line_cost(graph: Graph, most: float = math.inf) -> int | None:
    """Instructions of a straight line, roughly, counted until there are more than `most`; None where a node has no
    straight form."""
    total = 0
    for node in (*graph.inputs, *graph.nodes):
        cost = _line_cost_of(node)
        if cost is None:
            return None
        total += cost
        if total > most:
            break
    return total


def asks_condition(node: Node) -> bool:
    """Whether a check asks for the truth of one condition."""
    return node.op.kind == "check" and node.args[-1].dtype.kind == "b"


def _line_cost_of(node: Node) -> int | None:
    """Instructions for a node, or None where there is no straight form of it."""
    if not isinstance(node.type, Array) or node.op.kind == "tuple" or not 0 < node.type.size <= STRAIGHT_ELEMENTS:
        return None
    vectors = -(-node.array_type.size // STRAIGHT_LANES)
    if isinstance(node.op, Elementwise):
        return vectors * node.op.cost
    if node.op.kind in ("leaf", "creation", "movement") or asks_condition(node):
        return vectors
    if node.op.kind == "reduction":
        return 3 * -(-node.args[0].array_type.size // STRAIGHT_LANES)
    if node.op.kind == "contraction":
        size = math.prod(extents_of(node))
        return 4 * -(-size // STRAIGHT_LANES) if 0 < size <= STRAIGHT_ELEMENTS else None
    return None
