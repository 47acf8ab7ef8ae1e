"""Ops on matrices that no kernel is for, in the ops that kernels compute in their place."""

from __future__ import annotations

from adjit.ir.builder import Builder
from adjit.ir.graph import Graph, copy_node
from adjit.ir.node import Node
from adjit.ops.declare import Factoring


def lowered(graph: Graph) -> Graph:
    """The graph without those ops, or `graph` where there are none."""
    if not any(isinstance(node.op, Factoring) and node.op.lowered for node in graph.nodes):
        return graph
    b = Builder()
    new: dict[Node, Node] = {node: node for node in graph.inputs}
    for node in graph.nodes:
        b.loc = node.loc
        args = [new[arg] for arg in node.args]
        if isinstance(node.op, Factoring) and node.op.lowered is not None:
            new[node] = node.op.lowered(b, *map(b.value, args), **node.attrs).node
        else:
            new[node] = b.keep(copy_node(node, args))
    updates = tuple((target, new[value]) for target, value in graph.updates)
    return Graph(graph.name, graph.inputs, tuple(b.nodes), tuple(new[node] for node in graph.outputs), updates)
