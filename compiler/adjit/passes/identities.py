"""identities: a large constant that is a multiple of the identity is computed where it is read.

    %0 = constant @c0 : f64[1000,1000]       %0 = iota shape=(1000,1000) axis=0     %1 = iota ... axis=1
    %1 = mul %0, %noise                  =>  %2 = eq %0, %1 : bool[1000,1000]
                                             %3 = select %2, 1.0, 0.0 : f64[1000,1000]

A program need not hold it then, nor read it from memory. Small ones stay: they lie in a cache."""

from __future__ import annotations

import numpy as np

from adjit.ir.builder import CONSTANT, Builder
from adjit.ir.graph import Graph, copy_node, substitute_roots
from adjit.ir.node import Node
from adjit.ir.types import I64
from adjit.tuned import IDENTITY_BYTES


def identities(graph: Graph) -> Graph:
    """The graph without such constants."""
    found = {node: factor for node in graph.nodes if (factor := _factor_of(node)) is not None}
    if not found:
        return graph
    b = Builder()
    new: dict[Node, Node] = {node: node for node in graph.inputs}
    for node in graph.nodes:
        new[node] = _computed(b, node, found[node]) if node in found else copy_node(node, [new[a] for a in node.args])
    return substitute_roots(graph, new)


def _factor_of(node: Node) -> np.generic | None:
    """What a constant has on its diagonal, where it has nothing else."""
    if node.op is not CONSTANT or node.is_splat or len(node.shape) != 2 or node.shape[0] != node.shape[1]:
        return None
    if node.array_type.nbytes < IDENTITY_BYTES or node.dtype.kind == "b":
        return None
    array: np.ndarray | None = node.attrs["data"].array
    if array is None or np.count_nonzero(array) != len(array):
        return None
    factor: np.generic = array[0, 0]
    identity = np.zeros_like(array)
    np.fill_diagonal(identity, factor)
    # To the bit: a negative zero is another number.
    return factor if array.tobytes() == identity.tobytes() else None


def _computed(b: Builder, node: Node, factor: np.generic) -> Node:
    b.loc = node.loc
    row, column = (b.emit("iota", shape=node.shape, axis=axis, dtype=I64) for axis in range(2))
    own, other = (b.splat(value, node.array_type) for value in (factor.item(), 0))
    return b.emit("select", b.emit("eq", row, column), own, other)
