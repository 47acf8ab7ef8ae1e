"""What a body or a graph computes and moves at least: operations, and bytes of which each counts once."""

from __future__ import annotations

import math

from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.op import OPS
from adjit.ops.declare import Elementwise
from adjit.schedule.buffer import Params
from adjit.schedule.instructions import Apply, Body, Gather, Load, Reduce, Store


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
    return sum(_operations_of_node(node) for node in graph.nodes)


def _operations_of_node(node: Node) -> float:
    cost = node.op.cost if isinstance(node.op, Elementwise) else 1
    return float(cost * max(node.array_type.size, *(arg.array_type.size for arg in node.args), 1))
