"""Jacobians: what waits for tangents (or cotangents), once for each unit vector, in a loop.

    %x -> %y                  %0 = iota shape=(3)
                        =>    %1 = scan %0, %kept body=(i, kept) -> (what e_i gives: a column, or a row)

All else is computed once, ahead of the loop. One tangent alone needs no loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from adjit.autodiff.linear import forward_part, reverse_part
from adjit.autodiff.maker import ScanMaker
from adjit.autodiff.split import Split
from adjit.ir.builder import Builder, Value
from adjit.ir.graph import Graph, closed
from adjit.ir.node import Node
from adjit.ir.types import I64, Array, is_float


def forward_jacobian(graph: Graph, wrt: Sequence[int], values: int) -> Graph:
    """The Jacobian by columns. Inputs: the graph's. Outputs: the graph's, then for each float among the first `values`
    of them, for each of `wrt`, the derivative of the one by the other, with the axes of the output ahead of those of
    the input."""
    shapes = [graph.inputs[i].shape for i in wrt]

    def blocks(b: Builder, columns: Sequence[Value]) -> list[Node]:
        return [
            _moved_last(b, part, len(shape)).node
            for column in columns
            for shape, part in zip(shapes, _parts(b, column, shapes), strict=True)
        ]

    return _jacobian(graph, forward_part(graph, wrt, values), blocks)


def reverse_jacobian(graph: Graph, wrt: Sequence[int], values: int) -> Graph:
    """The same by rows."""
    shapes = [node.shape for node in graph.outputs[:values] if is_float(node.dtype)]

    def blocks(b: Builder, rows: Sequence[Value]) -> list[Node]:
        parts = [_parts(b, row, shapes) for row in rows]
        return [part.node for each in zip(*parts, strict=True) for part in each]

    return _jacobian(graph, reverse_part(graph, wrt, values), blocks)


def _jacobian(graph: Graph, parts: Split, blocks: Callable[[Builder, Sequence[Value]], list[Node]]) -> Graph:
    b = Builder.after(parts.early)
    count = len(graph.outputs)
    kept = parts.early.outputs[count:]
    if graph.outputs:
        b.loc = graph.outputs[0].loc
    outputs = [*parts.early.outputs[:count], *blocks(b, _by_unit_vectors(b, parts.late, kept))]
    return closed(f"{graph.name}_jacobian", b.inputs, b.nodes, outputs)


def _by_unit_vectors(b: Builder, late: Graph, kept: Sequence[Node]) -> list[Value]:
    """The outputs of `late` for each unit vector of its last inputs, stacked along a first axis."""
    types = [node.array_type for node in late.inputs[len(kept) :]]
    count = sum(type.size for type in types)
    if count == 1:
        units = [b.splat(1.0, type) for type in types]
        return [
            b.reshape(b.value(node), shape=(1, *node.shape)) for node in b.inline(late, [*kept, *units])
        ]  # fmt: skip
    scan = ScanMaker(b, late.name, count, reverse=False)
    counted = b.iota(shape=(count,), axis=0, dtype=I64)
    turn = scan.b.value(scan.part("i", Array(I64), counted.node))
    held = [scan.whole("kept", node.array_type, operand) for node, operand in zip(late.inputs, kept, strict=False)]
    starts = np.cumsum([0, *(type.size for type in types)])
    units = [_unit(scan.b, turn, int(start), type) for start, type in zip(starts, types, strict=False)]
    made = scan.b.inline(late, [*held, *units])
    ends = [scan.stack(node) for node in made]
    return [b.value(scan.result(end)) for end in ends]


def _unit(b: Builder, i: Value, start: int, type: Array) -> Node:
    """1 in the element that has the number i, if elements are numbered from `start` on; 0 in all others."""
    if type.size == 1:
        single: Node = b.reshape(b.cast(i.eq(start), dtype=type.dtype), shape=type.shape).node
        return single
    at = b.iota(shape=(type.size,), axis=0, dtype=I64)
    here = b.broadcast(i - start, shape=(type.size,), axes=()).eq(at)
    unit: Node = b.reshape(b.cast(here, dtype=type.dtype), shape=type.shape).node
    return unit


def _parts(b: Builder, stacked: Value, shapes: Sequence[tuple[int, ...]]) -> list[Value]:
    """What was stacked, cut along its first axis into parts for arrays of these shapes, whose axes it then has."""
    found, at, rest = [], 0, stacked.shape[1:]
    zeros, ones = (0,) * len(rest), (1,) * (len(rest) + 1)
    for shape in shapes:
        size = int(np.prod(shape, dtype=int))
        part = b.slice(stacked, start=(at, *zeros), stop=(at + size, *rest), step=ones)
        found.append(b.reshape(part, shape=(*shape, *rest)))
        at += size
    return found


def _moved_last(b: Builder, x: Value, count: int) -> Value:
    """The first `count` axes, after the others."""
    order = (*range(count, len(x.shape)), *range(count))
    moved: Value = x if order == tuple(range(len(order))) else b.transpose(x, axes=order)
    return moved
