"""In-place code means what it means in NumPy: a tracer is a handle, (root, path).

The root (`trace.root`) holds the value of an array now; a view is a path of steps on it. Reading applies the path to
the root's value; writing through a path changes what the root holds, so that every name and every view sees it. Where
NumPy's choice between view and copy depends on a memory order that the trace does not know, the step is a *maybe*: a
write through it, or a read after its root was written, raises with both lines.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

# By its own name, as the module's attribute is exchanged while a function is traced.
from math import prod
from typing import Protocol

from adjit.ir.axes import inverse
from adjit.ir.builder import Builder
from adjit.ir.node import Loc, Node
from adjit.ir.ranges import reshaped
from adjit.ir.types import Array

Strides = tuple[int, ...]
"""Distances of neighbours along each axis, in elements."""

Span = tuple[int, tuple[int, ...]]
"""A range of elements in C order: the first one, and their shape."""


class Step(Protocol):
    """One step of a path from an array to a view of it."""

    @property
    def maybe(self) -> Loc | None:
        """Where a step was made that is a view or a copy; None for a certain view."""

    @property
    def frozen(self) -> str:
        """What the view is called where NumPy makes it read-only; empty where it can be written."""

    def apply(self, b: Builder, base: Node) -> Node:
        """The view of `base`."""

    def put(self, b: Builder, base: Node, value: Node) -> Node:
        """`base` with `value` in the place of the view."""

    @property
    def span(self) -> Span | None:
        """Which elements of the base the view has, where they are neighbours in C order."""


@dataclass(frozen=True, slots=True)
class Reshape:
    """A reshape; `maybe` where it may be a copy."""

    source: tuple[int, ...]
    shape: tuple[int, ...]
    maybe: Loc | None = None
    frozen: str = ""

    @property
    def span(self) -> Span | None:
        return 0, self.shape

    def apply(self, b: Builder, base: Node) -> Node:
        return reshaped(b, base, self.shape)

    def put(self, b: Builder, base: Node, value: Node) -> Node:
        return reshaped(b, value, self.source)


@dataclass(frozen=True, slots=True)
class Transpose:
    """A permutation of the axes."""

    axes: tuple[int, ...]
    maybe: Loc | None = None
    frozen: str = ""

    @property
    def span(self) -> Span | None:
        return None

    def apply(self, b: Builder, base: Node) -> Node:
        return transposed(b, base, self.axes)

    def put(self, b: Builder, base: Node, value: Node) -> Node:
        return transposed(b, value, inverse(self.axes))


@dataclass(frozen=True, slots=True)
class Broadcast:
    """A broadcast view, which NumPy makes read-only."""

    shape: tuple[int, ...]
    maybe: Loc | None = None
    frozen: str = "the result of np.broadcast_to"

    @property
    def span(self) -> Span | None:
        return None

    def apply(self, b: Builder, base: Node) -> Node:
        return broadcasted(b, base, self.shape)

    def put(self, b: Builder, base: Node, value: Node) -> Node:
        raise TypeError("a broadcast is read-only")


@dataclass(frozen=True, slots=True, eq=False)
class Opaque:
    """The result of a function that may be a view of its operand; never applied anew, as it is always a maybe."""

    node: Node
    maybe: Loc | None
    frozen: str = ""

    @property
    def span(self) -> Span | None:
        return None

    def apply(self, b: Builder, base: Node) -> Node:
        return self.node

    def put(self, b: Builder, base: Node, value: Node) -> Node:
        raise TypeError("a maybe is never written")


def transposed(b: Builder, x: Node, axes: tuple[int, ...]) -> Node:
    """`x` with its axes permuted."""
    if axes == tuple(range(len(axes))):
        return x
    if x.is_splat:
        return b.splat(x.attrs["value"], Array(x.dtype, tuple(x.shape[axis] for axis in axes)))
    return b.emit("transpose", x, axes=axes)


def broadcasted(b: Builder, x: Node, shape: tuple[int, ...]) -> Node:
    """`x` broadcast by NumPy's rule to a shape that it fits."""
    if x.shape == shape:
        return x
    if x.is_splat:
        return b.splat(x.attrs["value"], Array(x.dtype, shape))
    lead = len(shape) - len(x.shape)
    kept = tuple(i for i, n in enumerate(x.shape) if n == shape[lead + i])
    core = reshaped(b, x, tuple(x.shape[i] for i in kept))
    return b.emit("broadcast", core, shape=shape, axes=tuple(lead + i for i in kept))


def common_shape(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape that shapes broadcast to; raises ValueError. (`np.broadcast_shapes` takes no more than 32 axes.)"""
    rank = max(map(len, shapes), default=0)
    common = [1] * rank
    for shape in shapes:
        for axis, n in enumerate(shape, rank - len(shape)):
            if n != 1 and common[axis] not in (1, n):
                raise ValueError(f"{common[axis]} is not {n}")
            common[axis] = n if n != 1 else common[axis]
    return tuple(common)


def c_strides(shape: Sequence[int]) -> Strides:
    """The strides of a C-ordered array."""
    strides: list[int] = []
    step = 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def is_c_ordered(shape: Sequence[int], strides: Strides | None) -> bool:
    """Whether an array is known to be C-contiguous; strides along axes of one element do not matter."""
    if prod(shape) <= 1:
        return True
    if strides is None:
        return False
    return all(n == 1 or s == c for n, s, c in zip(shape, strides, c_strides(shape), strict=True))


def reshape_strides(shape: Sequence[int], strides: Strides, new: Sequence[int]) -> Strides | None:
    """The strides of a reshape that needs no copy; None where it needs one. Sizes are equal."""
    if prod(shape) == 0:
        return c_strides(new)
    old = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    result = [0] * len(new)
    at = 0
    axis = 0
    while at < len(old):
        have, group = old[at][0], [old[at]]
        at += 1
        first, want = axis, 1
        while want != have or axis == first:
            if want < have or axis == first:
                want *= new[axis]
                axis += 1
            else:
                group.append(old[at])
                have *= old[at][0]
                at += 1
        if any(s != t * m for (_, s), (m, t) in itertools.pairwise(group)):
            return None
        step = group[-1][1]
        for i in reversed(range(first, axis)):
            result[i] = step
            step *= new[i]
    for i in range(axis, len(new)):
        result[i] = 1
    return tuple(result)


def merges_axes(shape: Sequence[int], new: Sequence[int]) -> bool:
    """Whether a C-ordered reshape joins axes, so that it is a view for some memory orders alone."""
    # Numbers of axes apart that no reshape of a split alone can join: distances far beyond any size.
    apart = 1
    strides: list[int] = []
    for n in reversed(shape):
        strides.append(apart)
        apart = apart * max(n, 1) + 1
    return reshape_strides(shape, tuple(reversed(strides)), new) is None
