"""Contractions of windows that are no matrix products, such as those of a convolution of each channel by itself: one
product of elements for each place in a window, in a loop that reads what is below the windows place by place.

    %2 = contract %1, %w [nxci,ic->nxc] : f32[n,9,c]            (%1: windows of 3 along x)
    =>
    %2 = %1[:,:,:,0] * %w[0] + %1[:,:,:,1] * %w[1] + %1[:,:,:,2] * %w[2]

    %3 = contract %1, %g [nxci,nxc->ic] : f32[3,c]
    =>
    %3 = stack of the sums over n and x of %1[:,:,:,i] * %g

There are as many terms as there are places, which are few."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping

from adjit.ir.builder import Builder
from adjit.ir.node import Node
from adjit.ir.subscripts import Subscripts
from adjit.tuned import WINDOW_PLACES

Multiply = Callable[[Node, str, Node, str, str, str], Node]
"""What sums products of elements: (x, its letters, y, its letters, those of the result, those that are summed)."""


def by_places(
    b: Builder, args: tuple[Node, Node], spec: Subscripts, windowed: int, sizes: Mapping[str, int], multiply: Multiply
) -> Node | None:
    """The contraction, term by term; None where it is another one or has too many terms."""
    own, other = spec.operands[windowed], spec.operands[1 - windowed]
    free = "".join(c for c in spec.result if c in own and c not in other)
    summed = spec.summed
    if set(summed) <= set(own) & set(other) and not set(other) - set(own) and _is_few(summed, sizes):
        return _sum(b, args, spec, sizes, multiply)
    if not set(other) - set(own) and _is_few(free, sizes):
        return _stack(b, args, spec, windowed, free, sizes, multiply)
    return None


def _is_few(letters: str, sizes: Mapping[str, int]) -> bool:
    return bool(letters) and math.prod(sizes[c] for c in letters) <= WINDOW_PLACES


def _sum(b: Builder, args: tuple[Node, Node], spec: Subscripts, sizes: Mapping[str, int], multiply: Multiply) -> Node:
    total: Node | None = None
    left, right = (_without(letters, spec.summed) for letters in spec.operands)
    for places in _indices(spec.summed, sizes):
        x, y = (_at(b, arg, letters, places) for arg, letters in zip(args, spec.operands, strict=True))
        term = multiply(x, left, y, right, spec.result, "")
        total = term if total is None else b.emit("add", total, term)
    assert total is not None
    return total


def _stack(
    b: Builder,
    args: tuple[Node, Node],
    spec: Subscripts,
    windowed: int,
    free: str,
    sizes: Mapping[str, int],
    multiply: Multiply,
) -> Node:
    kept = _without(spec.result, free)
    own, other = spec.operands[windowed], spec.operands[1 - windowed]
    parts = []
    for places in _indices(free, sizes):
        seen = _at(b, args[windowed], own, places)
        term = multiply(seen, _without(own, free), args[1 - windowed], other, kept, spec.summed)
        parts.append(b.emit("reshape", term, shape=(1, *term.shape)))
    whole = b.emit("concatenate", *parts, axis=0) if len(parts) > 1 else parts[0]
    apart = b.emit("reshape", whole, shape=tuple(sizes[c] for c in free + kept))
    return b.emit("transpose", apart, axes=tuple((free + kept).index(c) for c in spec.result))


def _indices(letters: str, sizes: Mapping[str, int]) -> list[dict[str, int]]:
    """All places, the last letter's fastest."""
    ranges = (range(sizes[c]) for c in letters)
    return [dict(zip(letters, index, strict=True)) for index in itertools.product(*ranges)]


def _without(letters: str, gone: str) -> str:
    return "".join(c for c in letters if c not in gone)


def _at(b: Builder, x: Node, letters: str, places: Mapping[str, int]) -> Node:
    """The part of an operand that has these indices, without their axes."""
    start = tuple(places.get(c, 0) for c in letters)
    stop = tuple(places[c] + 1 if c in places else n for c, n in zip(letters, x.shape, strict=True))
    part = b.emit("slice", x, start=start, stop=stop, step=(1,) * len(letters))
    shape = tuple(n for c, n in zip(letters, x.shape, strict=True) if c not in places)
    return b.emit("reshape", part, shape=shape)
