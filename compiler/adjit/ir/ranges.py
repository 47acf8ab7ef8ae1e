"""Ranges of elements: what lies beside one another in C order, cut out of an array, and combined.

Rows of an array, a part of a row, a single element are ranges; a column is not.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

from adjit.ir.builder import Builder
from adjit.ir.node import Loc, Node
from adjit.ir.types import Array

Ints = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """The elements [start, stop) of an array: those of `node` from its element `at` on."""

    start: int
    stop: int
    node: Node
    at: int = 0

    def within(self, start: int, stop: int) -> Piece:
        """What lies in [start, stop), which it meets."""
        first, last = max(start, self.start), min(stop, self.stop)
        return Piece(first, last, self.node, self.at + first - self.start)

    def value(self, b: Builder, shape: Ints) -> Node:
        """Its elements in a shape of as many."""
        return _cut(b, self.node, self.at, shape)


def range_of(source: Ints, start: Ints, shape: Ints) -> int | None:
    """Where the box of `shape` at `start` begins in an array of the shape `source`, if it is a range of at least one
    element; None if it is none."""
    if source == shape:
        return 0
    first = 0
    inside = False
    for i, n, m in zip(start, shape, source, strict=True):
        if (inside and n != m) or n == 0:
            return None
        inside = inside or n != 1
        first = first * m + i
    return first


def reshaped(b: Builder, x: Node, shape: Ints) -> Node:
    """`x` in another shape; a splat stays one, a reshape of a reshape is one."""
    if x.shape == shape:
        return x
    if x.is_splat:
        return b.splat(x.attrs["value"], Array(x.dtype, shape))
    if x.op.name == "reshape":
        x = x.args[0]
        if x.shape == shape:
            return x
    return b.emit("reshape", x, shape=shape)


def _cut(b: Builder, x: Node, at: int, shape: Ints) -> Node:
    """The range of `x` from its element `at` on, in a shape."""
    count = math.prod(shape)
    if x.array_type.size == count:
        return reshaped(b, x, shape)
    if x.is_splat:
        return b.splat(x.attrs["value"], Array(x.dtype, shape))
    box = _box(x.shape, at, count)
    if box is None:
        x = reshaped(b, x, (x.array_type.size,))
        box = (at,), (at + count,)
    start, stop = box
    return reshaped(b, b.emit("slice", x, start=start, stop=stop, step=(1,) * len(start)), shape)


def _box(shape: Ints, at: int, count: int) -> tuple[Ints, Ints] | None:
    """A range as a box of an array: one index along the first axes, a part of one axis, the others whole."""
    after = math.prod(shape)
    first: list[int] = []
    for axis, n in enumerate(shape):
        inner = after // n
        index, rest = divmod(at, inner)
        if rest == 0 and count % inner == 0 and index + count // inner <= n:
            whole = shape[axis + 1 :]
            start = (*first, index, *(0 for _ in whole))
            return start, (*(i + 1 for i in first), index + count // inner, *whole)
        first.append(index)
        at, after = rest, inner
    return None


def joined(b: Builder, pieces: Sequence[Piece], shape: Ints) -> Node:
    """Pieces that follow one another, as one array."""
    if len(pieces) == 1:
        return pieces[0].value(b, shape)
    rows = math.prod(shape[1:])
    begin = pieces[0].start
    inner = shape[1:] if all((piece.start - begin) % rows == 0 for piece in pieces) else ()
    size = math.prod(inner)
    parts = [piece.value(b, ((piece.stop - piece.start) // size, *inner)) for piece in pieces]
    return reshaped(b, b.emit("concatenate", *parts, axis=0), shape)


class Pieces:
    """An array that is written range by range; nothing is joined before someone reads across."""

    def __init__(self, node: Node) -> None:
        self.shape = node.shape
        self._pieces = [Piece(0, node.array_type.size, node)]
        self._written: Loc | None = None

    def whole(self, b: Builder) -> Node:
        """All of it."""
        return self.read(b, 0, self._pieces[-1].stop, self.shape)

    def read(self, b: Builder, start: int, stop: int, shape: Ints) -> Node:
        """The elements [start, stop); what was joined for it stays so, with the place of the last write."""
        met = self._met(start, stop)
        pieces = [piece.within(start, stop) for piece in self._pieces[met]]
        if len(pieces) == 1:
            return pieces[0].value(b, shape)
        here, b.loc = b.loc, self._written
        node = joined(b, pieces, shape)
        b.loc = here
        self._put(start, stop, node)
        return node

    def write(self, start: int, stop: int, node: Node, loc: Loc | None) -> None:
        """`node` has the elements [start, stop) now."""
        self._written = loc
        self._put(start, stop, node)

    def _put(self, start: int, stop: int, node: Node) -> None:
        met = self._met(start, stop)
        first, last = self._pieces[met.start], self._pieces[met.stop - 1]
        before = [first.within(0, start)] if first.start < start else []
        after = [last.within(stop, last.stop)] if last.stop > stop else []
        self._pieces[met] = [*before, Piece(start, stop, node), *after]

    def _met(self, start: int, stop: int) -> slice:
        """Which pieces have elements of [start, stop)."""
        first = bisect.bisect_right(self._pieces, start, key=lambda piece: piece.start) - 1
        last = bisect.bisect_left(self._pieces, stop, lo=first + 1, key=lambda piece: piece.start)
        return slice(first, last)
