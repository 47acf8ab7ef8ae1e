"""Sums of cotangents in a turn of a loop, of a value that the turns hand on: written in place, so little should be.

    %0 = pad %g low=(2) high=(97) ...          =>      %0 = slice %a start=(2) stop=(3)     %1 = add %0, %g
    %1 = add %a, %0                                    %2 = concatenate (slice %a to 2), %1, (slice %a from 3)

What is a small part of the array is added to that part of the sum of the others, of which the rest then stays where it
is; parts beside one another are one concatenation, and what is no range is added at its indices. Elsewhere
`placed.summed` makes a sum that is one kernel with what reads it."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Sequence
from typing import NamedTuple

from adjit.autodiff.boxes import Box, box_of
from adjit.autodiff.placed import range_of_part, summed
from adjit.autodiff.scattered import added_at_places, axis_of_part, cut_along, places_of, reshaped
from adjit.ir.builder import Builder, Value
from adjit.ir.changes import value_of
from adjit.ir.types import Array
from adjit.tuned import STRAIGHT_ELEMENTS

_Place = tuple[int | None, int, int]
"""An axis, or None for the elements in C order, and two places along it."""


class _Part(NamedTuple):
    """What is added between two places along an axis."""

    start: int
    stop: int
    value: Value


def summed_in_turn(b: Builder, values: Sequence[Value]) -> Value:
    """The sum of values of one type."""
    type = values[0].node.array_type
    # Smaller ones stay in registers.
    if len(values) < 2 or type.size <= STRAIGHT_ELEMENTS:
        return summed(b, values)
    links = [places_of(value.node) for value in values]
    wholes: list[Value] = []
    boxes: list[Box] = []
    parts: dict[_Place, list[Value]] = {}
    for value, found in zip(values, links, strict=True):
        place = _place(value)
        box = box_of(value.node) if place is None and not found else None
        if place is not None and not found:
            parts.setdefault(place, []).append(b.value(value_of(value.node).args[0]))
        elif box is not None and 2 * box.value.array_type.size <= type.size:
            boxes.append(box)
        elif not found:
            wholes.append(value)
    layers = _layers(parts)
    if wholes:
        # What a turn adds to the first is one value, as it is where that is summed up for all turns past the loop.
        first, *rest = wholes
        total = first + functools.reduce(operator.add, rest) if rest else first
    elif layers:
        axis, layer = layers.pop(0)
        total = _joined(b, axis, layer, type, None)
        ends = [end for part in layer for end in (part.start, part.stop)]
        layers = [(along, _split(b, along, each, ends) if along == axis else each) for along, each in layers]
    else:
        return summed(b, values)
    for axis, layer in layers:
        small = 2 * _elements(layer) <= type.size
        total = _joined(b, axis, layer, type, total) if small else total + _joined(b, axis, layer, type, None)
    for box in boxes:
        total = box.added_to(b, total)
    for found in links:
        if found:
            total = added_at_places(b, total, found)
    return total


def _place(value: Value) -> _Place | None:
    """Where a value is no zero, if that is a range."""
    node = value_of(value.node)
    first = range_of_part(node)
    if first is not None:
        return None, first, first + node.args[0].array_type.size
    axis = axis_of_part(value.node)
    if axis is None or box_of(value.node.args[0]) is not None:
        return None
    start = node.attrs["low"][axis]
    return axis, start, start + node.args[0].shape[axis]


def _layers(parts: dict[_Place, list[Value]]) -> list[tuple[int | None, list[_Part]]]:
    """The parts, those of one place added up, in groups along one axis in which none overlap; the largest first."""
    layers: list[tuple[int | None, list[_Part]]] = []
    for (axis, start, stop), values in sorted(parts.items(), key=lambda pair: pair[0][1:]):
        part = _Part(start, stop, functools.reduce(operator.add, values))
        layer = next((layer for along, layer in layers if along == axis and layer[-1].stop <= start), None)
        if layer is None:
            layers.append((axis, [part]))
        else:
            layer.append(part)
    return sorted(layers, key=lambda pair: -_elements(pair[1]))


def _split(b: Builder, axis: int | None, layer: Sequence[_Part], ends: Sequence[int]) -> list[_Part]:
    """The parts, cut at the `ends` of those of another layer: each lies in one piece of that, or between two."""
    found: list[_Part] = []
    for start, stop, value in layer:
        cuts = [start, *(end for end in ends if start < end < stop), stop]
        if len(cuts) > 2:
            value = reshaped(b, value, (stop - start,)) if axis is None else value
            pairs = itertools.pairwise(cuts)
            found += [_Part(i, j, cut_along(b, value, axis or 0, i - start, j - start)) for i, j in pairs]
        else:
            found.append(_Part(start, stop, value))
    return found


def _elements(layer: Sequence[_Part]) -> int:
    return sum(part.value.node.array_type.size for part in layer)


def _joined(b: Builder, axis: int | None, layer: Sequence[_Part], type: Array, total: Value | None) -> Value:
    """The parts of a layer side by side, between zeros; added to their places of `total`, where that is given."""
    shape, along = ((type.size,), 0) if axis is None else (type.shape, axis)
    around = None if total is None else reshaped(b, total, shape)
    pieces: list[Value] = []
    at = 0
    for start, stop, value in [*layer, _Part(shape[along], shape[along], layer[0].value)]:
        if at < start:
            gap = tuple(start - at if i == along else n for i, n in enumerate(shape))
            zeros = b.full(0.0, Array(type.dtype, gap))
            pieces.append(zeros if around is None else cut_along(b, around, along, at, start))
        if start < stop:
            there = reshaped(b, value, tuple(stop - start if i == along else n for i, n in enumerate(shape)))
            pieces.append(there if around is None else cut_along(b, around, along, start, stop) + there)
        at = stop
    nodes = [piece.node for piece in pieces]
    found = b.value(b.emit("concatenate", *nodes, axis=along)) if len(nodes) > 1 else pieces[0]
    return reshaped(b, found, type.shape)
