"""The parts of an array that a key chooses, steps of a path: `Box` by integers and slices, `ArrayIndex` by arrays."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field
from typing import Any

from adjit.ir.axes import inverse
from adjit.ir.builder import Builder
from adjit.ir.node import Loc, Node
from adjit.ir.ranges import range_of, reshaped
from adjit.ir.types import BOOL, Array
from adjit.trace.handle import Span, Strides, transposed

Ints = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Box:
    """A slice along every axis with positive steps, then a flip of `flips`, then without the axes of `dropped`."""

    source: Ints
    start: Ints
    stop: Ints
    step: Ints
    flips: Ints = ()
    dropped: Ints = ()
    maybe: Loc | None = None
    frozen: str = ""

    @property
    def sliced(self) -> Ints:
        """The shape before axes are dropped."""
        bounds = zip(self.start, self.stop, self.step, strict=True)
        return tuple(-(-(j - i) // s) for i, j, s in bounds)

    @property
    def shape(self) -> Ints:
        """The shape of the view."""
        return tuple(n for i, n in enumerate(self.sliced) if i not in self.dropped)

    @property
    def is_whole(self) -> bool:
        """Whether the view is the array as it is."""
        return self.sliced == self.source and not self.flips and not self.dropped

    @property
    def span(self) -> Span | None:
        if self.flips or any(step != 1 for step in self.step):
            return None
        first = range_of(self.source, self.start, self.sliced)
        return None if first is None else (first, self.shape)

    def apply(self, b: Builder, base: Node) -> Node:
        if base.is_splat:
            return b.splat(base.attrs["value"], Array(base.dtype, self.shape))
        if self.sliced != self.source:
            base = b.emit("slice", base, start=self.start, stop=self.stop, step=self.step)
        if self.flips:
            base = b.emit("flip", base, axes=self.flips)
        return reshaped(b, base, self.shape)

    def put(self, b: Builder, base: Node, value: Node) -> Node:
        value = reshaped(b, value, self.sliced)
        if self.flips and not value.is_splat:
            value = b.emit("flip", value, axes=self.flips)
        partial = [i for i, (m, n) in enumerate(zip(self.sliced, self.source, strict=True)) if m != n]
        if not partial:
            return value
        if math.prod(self.sliced) == 0:
            return base
        if len(partial) == 1 and self.step[partial[0]] == 1:
            return self._joined(b, base, value, partial[0])
        return self._masked(b, base, value)

    def _joined(self, b: Builder, base: Node, value: Node, axis: int) -> Node:
        """A contiguous part of one axis: what is before, the value, what is after."""
        before = self._part(b, base, axis, 0, self.start[axis])
        after = self._part(b, base, axis, self.stop[axis], self.source[axis])
        return b.emit("concatenate", *before, value, *after, axis=axis)

    def _part(self, b: Builder, base: Node, axis: int, start: int, stop: int) -> list[Node]:
        if start == stop:
            return []
        low = tuple(start if i == axis else 0 for i in range(len(self.source)))
        high = tuple(stop if i == axis else n for i, n in enumerate(self.source))
        if base.is_splat:
            return [b.splat(base.attrs["value"], Array(base.dtype, tuple(map(operator.sub, high, low))))]
        return [b.emit("slice", base, start=low, stop=high, step=(1,) * len(low))]

    def _masked(self, b: Builder, base: Node, value: Node) -> Node:
        """Any box: the value spread over the whole shape, chosen where a mask of the same spread is true."""
        ends = (i + (n - 1) * s + 1 for i, n, s in zip(self.start, self.sliced, self.step, strict=True))
        spread = {
            "low": self.start,
            "high": tuple(n - end for n, end in zip(self.source, ends, strict=True)),
            "interior": tuple(s - 1 for s in self.step),
        }
        mask = b.emit("pad", b.splat(True, Array(BOOL, self.sliced)), value=False, **spread)
        if value.is_splat:
            placed = b.splat(value.attrs["value"], Array(base.dtype, self.source))
        else:
            placed = b.emit("pad", value, value=value.dtype.type(0).item(), **spread)
        return b.emit("select", mask, placed, base)

    def strides(self, strides: Strides) -> Strides:
        """The strides of the view of an array with known ones."""
        directed = (
            -s * t if i in self.flips else s * t for i, (s, t) in enumerate(zip(strides, self.step, strict=True))
        )
        return tuple(s for i, s in enumerate(directed) if i not in self.dropped)


@dataclass(frozen=True, slots=True)
class ArrayIndex:
    """Elements along `axes` by one linear index over them; the index's axes stand in their place, or first.

    `adds` says that `put` adds to the elements, once for each time that one is named."""

    source: Ints
    axes: Ints
    first: bool
    index: Node = field(compare=False)
    identity: tuple[Any, ...] = ()
    adds: bool = False
    maybe: Loc | None = None
    frozen: str = ""

    def _arrangement(self) -> tuple[Ints, int, Ints]:
        """The order that makes the axes neighbours, where they then stand, and the shape with them joined."""
        others = tuple(i for i in range(len(self.source)) if i not in self.axes)
        if self.first:
            order, at = self.axes + others, 0
        else:
            order, at = tuple(range(len(self.source))), self.axes[0]
        sizes = [self.source[i] for i in order]
        count = len(self.axes)
        return order, at, (*sizes[:at], math.prod(sizes[at : at + count]), *sizes[at + count :])

    @property
    def span(self) -> Span | None:
        return None

    def apply(self, b: Builder, base: Node) -> Node:
        order, at, joined = self._arrangement()
        return b.emit("take", reshaped(b, transposed(b, base, order), joined), self.index, axis=at)

    def put(self, b: Builder, base: Node, value: Node) -> Node:
        order, at, joined = self._arrangement()
        reordered = transposed(b, base, order)
        op = "scatter_add" if self.adds else "scatter"
        written = b.emit(op, reshaped(b, reordered, joined), self.index, value, axis=at)
        return transposed(b, reshaped(b, written, reordered.shape), inverse(order))
