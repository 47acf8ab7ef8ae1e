"""Sums of cotangents that were put into places of one array, which is what the parts of an array give it back.

    x[0] + 2 * x[1] gives %x the cotangents     pad %g low=(0) high=(1) ...  and  pad %h low=(1) high=(0) ...
    which are together                          concatenate %g, %h axis=0

Parts that are ranges of elements in C order are joined, with zeros between; those of one range are added before, those
that overlap are in different layers, which are added. So a thousand elements of an array are one concatenation, not a
sum of a thousand arrays."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

from adjit.autodiff.scattered import added_at_places, places_of
from adjit.ir.builder import Builder, Value
from adjit.ir.node import Node
from adjit.ir.ranges import Piece, joined, range_of
from adjit.ir.types import Array


def summed(b: Builder, values: Sequence[Value]) -> Value:
    """The sum of values of one type."""
    links = [places_of(value.node) for value in values]
    bases = [value for value, found in zip(values, links, strict=True) if not found] or values[:1]
    total = _side_by_side(b, bases)
    for value, found in zip(values, links, strict=True):
        if found and value is not bases[0]:
            total = added_at_places(b, total, found)
    return total


def _side_by_side(b: Builder, values: Sequence[Value]) -> Value:
    """The sum of values, of which those that are ranges of one array are joined."""
    ranges: dict[int, list[Value]] = {}
    others: list[Value] = []
    places = [range_of_part(value.node) for value in values]
    if sum(place is not None for place in places) < 2:
        return functools.reduce(operator.add, values)
    sizes: dict[int, int] = {}
    for value, place in zip(values, places, strict=True):
        # Two ranges that begin with the same element and have different lengths overlap.
        if place is None or sizes.setdefault(place, _count(value.node)) != _count(value.node):
            others.append(value)
        else:
            ranges.setdefault(place, []).append(value)
    pieces = [(place, place + sizes[place], _alone(b, ranges[place])) for place in sorted(ranges)]
    return functools.reduce(operator.add, [*others, *(_joined(b, layer) for layer in _layers(pieces))])


def range_of_part(node: Node) -> int | None:
    """Where an operand of a pad by zeros begins, if it is a range of its result."""
    if node.op.name != "pad" or any(node.attrs["interior"]) or not node.args[0].array_type.size:
        return None
    # Plus zero, which leaves what it is added to as it is.
    if node.attrs["value"] != 0:
        return None
    return range_of(node.shape, node.attrs["low"], node.args[0].shape)


def _count(pad: Node) -> int:
    return pad.args[0].array_type.size


def _alone(b: Builder, pads: Sequence[Value]) -> Value:
    """The sum of pads of one range."""
    first = pads[0]
    if len(pads) == 1:
        return first
    total = functools.reduce(operator.add, [b.value(pad.node.args[0]) for pad in pads])
    padded: Value = b.pad(total, **first.node.attrs)
    return padded


def _layers(pieces: Sequence[tuple[int, int, Value]]) -> list[list[tuple[int, int, Value]]]:
    """The pieces, which come by their starts, in groups in which none overlap."""
    layers: list[list[tuple[int, int, Value]]] = []
    for piece in pieces:
        layer = next((layer for layer in layers if layer[-1][1] <= piece[0]), None)
        if layer is None:
            layers.append([piece])
        else:
            layer.append(piece)
    return layers


def _joined(b: Builder, layer: Sequence[tuple[int, int, Value]]) -> Value:
    if len(layer) == 1:
        return layer[0][2]
    whole = layer[0][2].node.array_type
    pieces: list[Piece] = []
    at = 0
    for start, stop, pad in layer:
        if start > at:
            pieces.append(_zeros(b, at, start, whole))
        pieces.append(Piece(start, stop, pad.node.args[0]))
        at = stop
    if at < whole.size:
        pieces.append(_zeros(b, at, whole.size, whole))
    return b.value(joined(b, pieces, whole.shape))


def _zeros(b: Builder, start: int, stop: int, whole: Array) -> Piece:
    return Piece(start, stop, b.splat(0.0, Array(whole.dtype, (stop - start,))))
