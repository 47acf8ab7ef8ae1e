"""Images of few channels that convolutions read: the lines of a window lie side by side, copied once.

Before, windows of 5 by 5 on one channel, of which a window has 5 adjacent elements at a time:

    %1 = windows %0 axes=(1,2) size=(5,5) step=(1,1) dilation=(1,1) : f32[n,28,28,1,5,5]      of f32[n,32,32,1]

After, 25 of them lie together in `%3`, which has memory:

    %1 = windows %0 axes=(1) size=(5) step=(1) dilation=(1) : f32[n,28,32,1,5]
    %2 = stop_gradient %1 : f32[n,28,32,1,5]
    %3 = windows %2 axes=(2) size=(5) step=(1) dilation=(1) : f32[n,28,28,1,5,5]

The copy has as many channels as one line of a window, which are few: less than what the convolution makes."""

from __future__ import annotations

import math

from adjit.ir.builder import Builder
from adjit.ir.graph import Graph, copy_node
from adjit.ir.node import Node
from adjit.ops.contraction import extents_of
from adjit.tuned import FEW_CHANNELS, TINY_PRODUCT


def with_lines(graph: Graph) -> Graph:
    """The same function, for a plan: what copies is a node that is the same value."""
    if not any(node.op.name == "windows" for node in graph.nodes):
        return graph
    users = graph.users()
    read = set(graph.roots)
    chosen = {node for node in graph.nodes if node.op.name == "windows" and node not in read and _pays(node, users)}
    if not chosen:
        return graph
    b = Builder()
    new: dict[Node, Node] = {node: node for node in graph.inputs}
    for node in graph.nodes:
        b.loc = node.loc
        args = [new[arg] for arg in node.args]
        new[node] = _in_two(b, args[0], node) if node in chosen else b.keep(copy_node(node, args))
    outputs = tuple(new[node] for node in graph.outputs)
    updates = tuple((target, new[value]) for target, value in graph.updates)
    return Graph(graph.name, graph.inputs, tuple(b.nodes), outputs, updates)


def _pays(node: Node, users: dict[Node, list[Node]]) -> bool:
    """Whether the last axis is that of few channels, there are several lines in a window, and products read them."""
    axes, size = node.attrs["axes"], node.attrs["size"]
    if len(axes) < 2 or node.dtype.kind != "f" or 0 in node.shape:
        return False
    (x,) = node.args
    channels = x.shape[axes[-1] + 1 :]
    if not channels or math.prod(channels) > FEW_CHANNELS or min(size[-2:]) == 1:
        return False
    readers = users.get(node, [])
    return bool(readers) and all(map(_multiplies, readers))


def _multiplies(node: Node) -> bool:
    return (
        node.op.kind == "contraction" and math.prod(extents_of(node)) > TINY_PRODUCT and min(extents_of(node)[1:]) > 1
    )


def _in_two(b: Builder, x: Node, node: Node) -> Node:
    """Windows along the last axis but one, copied, and then along the others."""
    ways = list(zip(*(node.attrs[name] for name in ("axes", "size", "step", "dilation")), strict=True))
    count = len(ways)
    copied = b.emit("stop_gradient", _windows(b, x, [ways[-2]]))
    seen = _windows(b, copied, [*ways[:-2], ways[-1]])
    if count == 2:
        return seen
    # The places of the lines come first.
    ndim = len(x.shape)
    places = [ndim + 1 + i for i in range(count - 2)] + [ndim, ndim + count - 1]
    return b.emit("transpose", seen, axes=(*range(ndim), *places))


def _windows(b: Builder, x: Node, ways: list[tuple[int, ...]]) -> Node:
    axes, size, step, dilation = (tuple(numbers) for numbers in zip(*ways, strict=True))
    return b.emit("windows", x, axes=axes, size=size, step=step, dilation=dilation)
