"""cse: a later node equal to an earlier one is replaced by it.

    %3 = add %1, %2        =>   %3 = add %1, %2
    %4 = add %2, %1             (users of %4 now use %3)

Knows that add, mul, and, or, xor, eq, ne take their operands in either order; not that (x + y) + z is x + (y + z).
Constants are equal by dtype, shape and bits, or digest; loops by their operands and what their bodies compute. The
earlier node keeps its own loc."""

from __future__ import annotations

from typing import Any

from adjit.ir.builder import CONSTANT
from adjit.ir.equal import attribute_key, graph_key
from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ops.declare import Bodied
from adjit.passes.pattern import COMMUTATIVE
from adjit.passes.rewrite import Rewriter, rewrite


def cse(graph: Graph) -> Graph:
    """The graph with one node for each value."""
    seen: dict[tuple[Any, ...], Node] = {}

    def step(node: Node, rewriter: Rewriter) -> Node | None:
        earlier = seen.setdefault(_key(node), node)
        return None if earlier is node else earlier

    return rewrite(graph, step)


def _key(node: Node) -> tuple[Any, ...]:
    args: tuple[Any, ...] = node.args
    if node.op.name in COMMUTATIVE:
        args = tuple(sorted(args, key=id))
    if not node.attrs:
        return (node.op, args)
    if isinstance(node.op, Bodied):
        attributes = tuple(graph_key(value) if isinstance(value, Graph) else value for value in attribute_key(node))
        return (node.op, args, attributes)
    # Only a constant's type says more than its op, args and attributes.
    return (node.op, args, attribute_key(node), node.type if node.op is CONSTANT else None)
