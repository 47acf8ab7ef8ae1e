"""hoist_broadcasts: what is the same along an axis is computed once, then broadcast.

    %1 = broadcast %b shape=(64,10) axes=(1) : f32[64,10]    =>  %1 = mul %b, 0.5 : f32[10]
    %2 = mul %1, 0.5 : f32[64,10]                                %2 = broadcast %1 shape=(64,10) axes=(1) : f32[64,10]

Holds for every elementwise op all of whose operands are splats or broadcasts that leave an axis out in common. Does
not touch an op with an operand that varies along every axis."""

from __future__ import annotations

from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.types import Array
from adjit.passes.rewrite import Rewriter, rewrite


def hoist_broadcasts(graph: Graph) -> Graph:
    """The graph with elementwise work done before broadcasts."""
    return rewrite(graph, _step)


def _step(node: Node, rewriter: Rewriter) -> Node | None:
    if node.op.kind != "elementwise":
        return None
    used: set[int] = set()
    found = False
    for arg in node.args:
        if arg.op.name == "broadcast":
            found = True
            used.update(arg.attrs["axes"])
        elif not arg.is_splat:
            return None
    shape = node.shape
    # An empty value has no work to save, and an op that may raise must not see elements that were not there.
    if not found or len(used) == len(shape) or 0 in shape:
        return None
    kept = sorted(used)
    narrow = tuple(shape[axis] for axis in kept)
    args = [_narrowed(arg, kept, narrow, rewriter) for arg in node.args]
    result = rewriter.emit(node.op.name, *args, **node.attrs)
    return rewriter.emit("broadcast", result, shape=shape, axes=tuple(kept))


def _narrowed(arg: Node, kept: list[int], narrow: tuple[int, ...], rewriter: Rewriter) -> Node:
    if arg.is_splat:
        return rewriter.splat(arg.attrs["value"], Array(arg.dtype, narrow))
    (x,) = arg.args
    axes = tuple(kept.index(axis) for axis in arg.attrs["axes"])
    return x if x.shape == narrow else rewriter.emit("broadcast", x, shape=narrow, axes=axes)
