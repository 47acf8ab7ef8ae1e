"""A graph of scalars on arrays: its elementwise nodes anew in the trace under way, each in the shape of its operands,
so that what depends on few arguments is computed once for all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adjit.ir.builder import Builder
from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.trace.handle import broadcasted, common_shape

Shape = tuple[int, ...]


class Spread:
    """Nodes of the current trace that stand for those of a graph of scalars; they carry the place that `b` has."""

    def __init__(self, b: Builder, graph: Graph, operands: Sequence[Node]) -> None:
        self.b = b
        self._new: dict[Node, Node] = dict(zip(graph.inputs, operands, strict=True))
        self._wide: dict[tuple[Node, Shape], Node] = {}
        for node in graph.nodes:
            self._new[node] = self._copied(node)

    def at(self, node: Node, shape: Shape) -> Node:
        """What stands for a node, in a shape that its own fits."""
        if self._new[node].shape == shape:
            return self._new[node]
        if (node, shape) not in self._wide:
            self._wide[node, shape] = broadcasted(self.b, self._new[node], shape)
        return self._wide[node, shape]

    def _copied(self, node: Node) -> Node:
        if node.is_splat:
            return self.b.splat(node.attrs["value"], node.array_type)
        shape = _shape(node, self._new)
        return self.b.emit(node.op, *(self.at(arg, shape) for arg in node.args), **node.attrs)


def _shape(node: Node, new: Mapping[Node, Node]) -> Shape:
    first, *others = (new[arg].shape for arg in node.args)
    return first if all(shape == first for shape in others) else common_shape(first, *others)
