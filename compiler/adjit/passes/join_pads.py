"""join_pads: a sum of values that were padded with zeros beside one another is their concatenation.

    %0 = pad %x low=(0) high=(3) interior=(0) value=0.0 : f32[5]    =>  %0 = add %x, 0.0 : f32[2]
    %1 = pad %y low=(2) high=(0) interior=(0) value=0.0 : f32[5]        %1 = add %y, 0.0 : f32[3]
    %2 = add %0, %1 : f32[5]                                            %2 = concatenate %0, %1 axis=0 : f32[5]

This is the adjoint of a split. The additions keep the bits: -0.0 + 0.0 is 0.0. Gaps are filled by zeros, and a third
pad finds its place in such a gap. Does not join pads along several axes, with elements between, or that overlap."""

from __future__ import annotations

import itertools

from adjit.ir.graph import Graph
from adjit.ir.node import Node, same_bits
from adjit.passes.rewrite import Rewriter, rewrite

Piece = tuple[int, Node]


def join_pads(graph: Graph) -> Graph:
    """The graph with sums of disjoint pads joined."""
    return rewrite(graph, _step, ("add",))


def _step(node: Node, rewriter: Rewriter) -> Node | None:
    if node.op.name != "add":
        return None
    a, b = node.args
    axis = _axis(a)
    if axis is None:
        axis = _axis(b)
    if axis is None:
        return None
    ours, theirs = _pieces(a, axis), _pieces(b, axis)
    if ours is None or theirs is None:
        return None
    pieces = sorted(ours + theirs, key=lambda piece: piece[0])
    for (start, piece), (after, _) in itertools.pairwise(pieces):
        if start + piece.shape[axis] > after:
            return None
    return rewriter.emit("concatenate", *_filled(pieces, node, axis, rewriter), axis=axis)


def _axis(node: Node) -> int | None:
    """The only axis along which a zero pad adds something, without gaps between elements."""
    if node.op.name != "pad" or any(node.attrs["interior"]) or not _is_zero(node.attrs["value"]):
        return None
    grown = [axis for axis, (m, n) in enumerate(zip(node.args[0].shape, node.shape, strict=True)) if m != n]
    return grown[0] if len(grown) == 1 and 0 not in node.args[0].shape else None


def _is_zero(value: float) -> bool:
    return same_bits(value, 0.0)


def _pieces(node: Node, axis: int) -> list[Piece] | None:
    """Where along `axis` which values stand; zeros between. None where `node` is nothing of the kind."""
    if node.op.name == "pad":
        return [(node.attrs["low"][axis], node.args[0])] if _axis(node) == axis else None
    if node.op.name != "concatenate" or node.attrs["axis"] != axis:
        return None
    pieces: list[Piece] = []
    at = 0
    for part in node.args:
        if not (part.is_splat and _is_zero(part.attrs["value"])):
            pieces.append((at, part))
        at += part.shape[axis]
    return pieces


def _filled(pieces: list[Piece], node: Node, axis: int, rewriter: Rewriter) -> list[Node]:
    """The parts of the concatenation: every piece plus zero, and zeros in the gaps."""
    parts: list[Node] = []
    at = 0
    ends: list[tuple[int, Node | None]] = [*pieces, (node.shape[axis], None)]
    for start, piece in ends:
        if start > at:
            shape = tuple(start - at if i == axis else n for i, n in enumerate(node.shape))
            parts.append(rewriter.splat(0, node.array_type.with_shape(shape)))
        if piece is None:
            break
        parts.append(_plus_zero(piece, rewriter))
        at = start + piece.shape[axis]
    return parts


def _plus_zero(piece: Node, rewriter: Rewriter) -> Node:
    if piece.dtype.kind != "f":
        return piece
    if piece.op.name == "add" and any(arg.is_splat and _is_zero(arg.attrs["value"]) for arg in piece.args):
        return piece
    return rewriter.emit("add", piece, rewriter.splat(0.0, piece.array_type.strong))
