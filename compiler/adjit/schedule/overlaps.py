"""What windows that overlap add up to, as movement and sums: no kernel of its own is needed.

Before, of windows of 3 with step 1 along an axis of n:

    %1 = add_windows %0 axes=(0) extents=(n) step=(1) dilation=(1) : f32[n]

After, each place in the window by itself:

    %1 = pad(%0[:,0], low=0, high=2) + pad(%0[:,1], low=1, high=1) + pad(%0[:,2], low=2, high=0)

One axis is done after the other. With a step of s each s-th element is a sum of its own, and the s sums are laid side
by side. Long windows are taken as windows of windows, so that there are some 2 sqrt(n) sums for n places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from adjit.ir.builder import Builder
from adjit.ir.graph import Graph, copy_node
from adjit.ir.node import Node
from adjit.ops.contraction import subscripts_of
from adjit.ops.declare import Bodied, Overlap
from adjit.tuned import WINDOW_TERMS


class _Way(NamedTuple):
    """How windows lie along an axis: the axis has `extent` elements."""

    axis: int
    extent: int
    step: int
    dilation: int


def without_overlaps(graph: Graph) -> Graph:
    """The same function, in which nothing adds up windows that overlap, in the bodies of loops either."""
    if not _has_overlaps(graph):
        return graph
    b, users = Builder(), graph.users()
    new: dict[Node, Node] = {node: node for node in graph.inputs}
    for node in graph.nodes:
        b.loc = node.loc
        args = [new[arg] for arg in node.args]
        if isinstance(node.op, Overlap):
            windows = args[0] if len(users[node.args[0]]) > 1 else _places_ahead(b, args[0], node)
            new[node] = _added(b, windows, node)
        elif isinstance(node.op, Bodied):
            attrs = {**node.attrs, "body": without_overlaps(node.attrs["body"])}
            new[node] = b.keep(Node(node.op, tuple(args), attrs, node.type, node.loc))
        else:
            new[node] = b.keep(copy_node(node, args))
    outputs = tuple(new[node] for node in graph.outputs)
    updates = tuple((target, new[value]) for target, value in graph.updates)
    return Graph(graph.name, graph.inputs, tuple(b.nodes), outputs, updates)


def _has_overlaps(graph: Graph) -> bool:
    return any(
        isinstance(node.op, Overlap) or (isinstance(node.op, Bodied) and _has_overlaps(node.attrs["body"]))
        for node in graph.nodes
    )


def _added(b: Builder, windows: Node, node: Node) -> Node:
    """What `node`, which adds up `windows`, is made of."""
    if 0 in windows.shape:
        return b.splat(0, node.array_type)
    attrs = node.attrs
    names = ("axes", "extents", "step", "dilation")
    ways = [_Way(*way) for way in zip(*(attrs[name] for name in names), strict=True)]
    # The last axis first: the places of the others stay where they are.
    for way in reversed(ways):
        windows = _along_one(b, windows, way)
    return windows


def _places_ahead(b: Builder, windows: Node, node: Node) -> Node:
    """A product, which `node` alone adds up, with the places in the windows ahead of the axes behind, such as channels:
    each place has rows of adjacent elements then, which are read where they lie."""
    at, ndim = max(node.attrs["axes"], default=0) + 1, len(node.shape)
    if windows.op.kind != "contraction" or at >= ndim:
        return windows
    spec = subscripts_of(windows)
    letters = spec.result
    order = letters[:at] + letters[ndim:] + letters[at:ndim]
    product = b.emit("contract", *windows.args, spec=spec.with_result(order))
    return b.emit("transpose", product, axes=tuple(order.index(c) for c in letters))


def _along_one(b: Builder, g: Node, way: _Way) -> Node:
    """Windows whose places are the last axis, added up along one axis."""
    size = g.shape[-1]
    if size > WINDOW_TERMS:
        return _in_two(b, g, way)
    axis, extent, step, dilation = way
    each = -(-extent // step)
    sums = []
    for phase in range(step):
        taps = [j for j in range(size) if (j * dilation - phase) % step == 0]
        terms = [_place(b, g, j, axis, (j * dilation - phase) // step, each) for j in taps]
        sums.append(_sum(b, terms) if terms else b.splat(0, g.array_type.with_shape(_with(g.shape[:-1], axis, each))))
    if step == 1:
        return sums[0]
    return _interleaved(b, sums, axis, extent)


def _in_two(b: Builder, g: Node, way: _Way) -> Node:
    """Windows of windows: places j = inner * i + k are added up over k first."""
    axis, extent, step, dilation = way
    inner = math.isqrt(g.shape[-1])
    outer = -(-g.shape[-1] // inner)
    whole = _padded(b, g, len(g.shape) - 1, 0, outer * inner - g.shape[-1])
    apart = b.emit("reshape", whole, shape=(*g.shape[:-1], outer, inner))
    # What was added to make places whole is zero, but lies beyond the end.
    reach = step * (g.shape[axis] - 1) + dilation * (inner - 1) + 1
    first = _along_one(b, apart, _Way(axis, reach, step, dilation))
    wide = reach + dilation * inner * (outer - 1)
    both = _along_one(b, first, _Way(axis, wide, 1, dilation * inner))
    if wide < extent:
        return _padded(b, both, axis, 0, extent - wide)
    return _part(b, both, axis, extent)


def _place(b: Builder, g: Node, j: int, axis: int, low: int, extent: int) -> Node:
    """What all windows have at one place, from `low` on along an axis of `extent` elements.

    It is padded ahead of its last axis' end: an index of what is padded is not one of what has other axes."""
    ndim = len(g.shape)
    start = (*[0] * (ndim - 1), j)
    one = b.emit("slice", g, start=start, stop=(*g.shape[:-1], j + 1), step=(1,) * ndim)
    shifted = _padded(b, one, axis, low, extent - low - g.shape[axis])
    return b.emit("reshape", shifted, shape=shifted.shape[:-1])


def _padded(b: Builder, x: Node, axis: int, low: int, high: int) -> Node:
    if low == high == 0:
        return x
    ndim = len(x.shape)
    sides = {"low": low, "high": high, "interior": 0}
    amounts = {name: tuple(n if i == axis else 0 for i in range(ndim)) for name, n in sides.items()}
    return b.emit("pad", x, value=x.dtype.type(0).item(), **amounts)


def _sum(b: Builder, terms: Sequence[Node]) -> Node:
    total = terms[0]
    for term in terms[1:]:
        total = b.emit("add", total, term)
    return total


def _interleaved(b: Builder, sums: Sequence[Node], axis: int, extent: int) -> Node:
    """Element i of phase p is element i * phases + p."""
    shape = sums[0].shape
    thin = (*shape[: axis + 1], 1, *shape[axis + 1 :])
    side = b.emit("concatenate", *(b.emit("reshape", x, shape=thin) for x in sums), axis=axis + 1)
    laid = b.emit("reshape", side, shape=_with(shape, axis, shape[axis] * len(sums)))
    return _part(b, laid, axis, extent)


def _part(b: Builder, x: Node, axis: int, extent: int) -> Node:
    if x.shape[axis] == extent:
        return x
    stop = _with(x.shape, axis, extent)
    return b.emit("slice", x, start=(0,) * len(stop), stop=stop, step=(1,) * len(stop))


def _with(shape: Sequence[int], axis: int, n: int) -> tuple[int, ...]:
    return (*shape[:axis], n, *shape[axis + 1 :])
