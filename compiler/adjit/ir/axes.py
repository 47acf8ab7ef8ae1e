"""How the axes of an op's operands relate to those of its result: what an op declares of its structure.

An op runs over **dimensions**: the axes of its result, then what it reduces, numbered on from them. A contraction
`ik,kj->ij` has the dimensions i, j, k; its operands go along i and k, and along k and j. (Indexing maps and iterator
types, as in MLIR's linalg.) So an engine that follows an axis through a graph, cuts a program into rows or composes
index maps asks the declaration and knows no op by name.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from adjit.ir.node import Node
from adjit.ir.op import Attrs

Ints = tuple[int, ...]


class Along(NamedTuple):
    """An axis of an operand that goes along a dimension: at index i of it the operand's index is
    (start + step * i) / gap, and where that is no index of the operand, nothing of it is read."""

    dim: int
    start: int = 0
    step: int = 1
    gap: int = 1


class Mixed(NamedTuple):
    """An axis of an operand that goes along several dimensions together: at indices i of them the operand's index is
    the sum of step * i, divided by `gap`, and where that is no index of the operand, nothing of it is read."""

    dims: Ints
    steps: Ints
    gap: int = 1


class Running(NamedTuple):
    """An axis along a dimension in which every element may have part in all that come after it, or before."""

    dim: int


class Indexed(NamedTuple):
    """An axis that is read or written at positions that operand `by` has."""

    by: int


class Linear(NamedTuple):
    """An operand whose elements are those of the result in C order, whatever the shapes."""


Axis = Along | Mixed | Running | Indexed


class Relation(NamedTuple):
    """An op's dimensions, and for each operand how its axes lie in them: an `Axis` for each, or `Linear`.

    `reduced` has the extents of the dimensions that are reduced, which come after the result's axes; `filled` says that
    at some places of the result nothing of any operand may be read. `relation_of` adds the shapes of a node's operands
    and of its result."""

    operands: tuple[tuple[Axis, ...] | Linear, ...]
    reduced: Ints = ()
    filled: bool = False
    shapes: tuple[Ints, ...] = ()
    shape: Ints = ()

    def dimension(self, operand: int, axis: int) -> int | None:
        """The dimension that has the elements of an operand's axis, all of them in their order; None where there is
        none. Those from `len(shape)` on are reduced."""
        axes, shape = self.operands[operand], self.shapes[operand]
        if isinstance(axes, Linear):
            return _linear_axis(shape, self.shape, axis)
        at = axes[axis]
        if not isinstance(at, Along) or (at.start, at.step, at.gap) != (0, 1, 1):
            return None
        return at.dim if (*self.shape, *self.reduced)[at.dim] == shape[axis] else None

    def axis(self, operand: int, dim: int) -> int | None:
        """The axis of an operand that goes along a dimension as a whole; None where there is none."""
        axes = range(len(self.shapes[operand]))
        return next((axis for axis in axes if self.dimension(operand, axis) == dim), None)

    @property
    def spreads(self) -> bool:
        """Whether an element of an operand may have part in several elements of the result, so that a derivative adds
        these up."""
        dims = set(range(len(self.shape)))
        for axes in self.operands:
            if isinstance(axes, Linear):
                continue
            if dims - {at.dim for at in axes if isinstance(at, Along)} or any(isinstance(at, Indexed) for at in axes):
                return True
        return False

    @property
    def keeps_all(self) -> bool:
        """Whether each element of each operand has part in some element of the result."""
        return all(
            isinstance(axes, Linear) or all(self._covers(at, n) for at, n in zip(axes, shape, strict=True))
            for axes, shape in zip(self.operands, self.shapes, strict=True)
        )

    def _covers(self, at: Axis, n: int) -> bool:
        """Whether an axis of n elements is read as a whole."""
        if not isinstance(at, Along):
            return isinstance(at, Running)
        extent = (*self.shape, *self.reduced)[at.dim]
        ends = (at.start, at.start + at.step * (extent - 1))
        return abs(at.step) == 1 and min(ends) <= 0 and max(ends) >= at.gap * (n - 1)

    def meets(self, operand: int, dim: int) -> bool:
        """Whether any axis of an operand goes along a dimension, in whatever way."""
        axes = self.operands[operand]
        return isinstance(axes, Linear) or any(
            dim in at.dims if isinstance(at, Mixed) else isinstance(at, Along | Running) and at.dim == dim
            for at in axes
        )


AxesRule = Callable[[Sequence[Ints], Ints, Attrs], Relation]
"""`rule(shapes of the operands, shape of the result, attributes)`."""


def without_ones(shape: Sequence[int]) -> Ints:
    """The extents other than 1."""
    return tuple(n for n in shape if n != 1)


def inverse(axes: Sequence[int]) -> Ints:
    """The permutation that undoes `axes`."""
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def along(dims: Sequence[int]) -> tuple[Along, ...]:
    """Axes that go along these dimensions, each as a whole."""
    return tuple(Along(dim) for dim in dims)


def same(shapes: Sequence[Ints], shape: Ints, attrs: Attrs) -> Relation:
    """Operands of the result's shape, element by element; one without axes is read everywhere."""
    return Relation(tuple(along(range(len(own))) for own in shapes))


def reduced(shapes: Sequence[Ints], shape: Ints, attrs: Attrs) -> Relation:
    """One operand, whose axes `axes`, or `axis`, are dimensions that are reduced; the others are the result's."""
    (own,) = shapes
    gone = attrs["axes"] if "axes" in attrs else (attrs["axis"],)
    kept, dropped = itertools.count(), itertools.count(len(shape))
    dims = [next(dropped if i in gone else kept) for i in range(len(own))]
    return Relation((along(dims),), tuple(n for i, n in enumerate(own) if i in gone))


def linear(shapes: Sequence[Ints], shape: Ints, attrs: Attrs) -> Relation:
    """The operand's elements in C order."""
    return Relation((Linear(),))


def relation_of(node: Node) -> Relation | None:
    """What the op of a node declares, for its shapes and attributes; None where it declares nothing."""
    if node.op.axes is None:
        return None
    shapes = tuple([arg.shape for arg in node.args])
    made: Relation = node.op.axes(shapes, node.shape, node.attrs)
    return Relation(made.operands, made.reduced, made.filled, shapes, node.shape)


def is_linear(node: Node) -> bool:
    """Whether a node has its operand's elements in C order, in another shape."""
    return node.op.axes is linear


def base(node: Node) -> Node:
    """What a chain of movement of one value reads in the end."""
    while _moves(node):
        node = node.args[0]
    return node


def leads_to(node: Node, value: Node) -> bool:
    """Whether such a chain, which may have no link, reads `value`, or goes on from there."""
    while node is not value and _moves(node):
        node = node.args[0]
    return node is value


def _moves(node: Node) -> bool:
    return node.op.kind == "movement" and not joins(node) and not any(node.attrs.get("interior", ()))


def sees_windows(node: Node) -> bool:
    """Whether a node of movement hands elements on to windows that may overlap."""
    if node.op.kind != "movement":
        return False
    relation = relation_of(node)
    return relation is not None and any(
        isinstance(at, Mixed) for axes in relation.operands if not isinstance(axes, Linear) for at in axes
    )


def joins(node: Node) -> bool:
    """Whether a node has the elements of its operands, however many there are, side by side."""
    return node.op.kind == "movement" and node.op.arity is None


def _linear_axis(before: Ints, after: Ints, axis: int) -> int | None:
    """The axis of `after` that is `axis` of `before`, with as many elements ahead of it."""
    ahead = math.prod(before[:axis])
    for i, n in enumerate(after):
        if n == before[axis] and math.prod(after[:i]) == ahead:
            return i
    return None
