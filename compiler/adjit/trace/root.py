"""Root: what holds the value of an array while a function is traced, for all its names and views.

A write into neighbours in C order (an element, rows, a part of a row) changes the pieces that the root consists of, and
a read within a piece reads that piece alone: an array that is filled element by element is joined once, when someone
reads it as a whole. A part that is read twice between two writes is one node.
"""

from __future__ import annotations

import math

import numpy as np

from adjit.ir.node import Loc, Node
from adjit.ir.ranges import Pieces
from adjit.trace.context import Trace
from adjit.trace.handle import Span, Step

Path = tuple[Step, ...]


class Root:
    """An array's memory: its value now, how often it was written, and why it may not be.

    `plain` is the array itself as long as all its values are known: it was made by NumPy inside the trace, and nothing
    traced was written into it."""

    __slots__ = ("_pieces", "_reads", "plain", "readonly", "trace", "version", "written")

    def __init__(self, trace: Trace, node: Node | None, readonly: str = "", plain: np.ndarray | None = None) -> None:
        self.trace = trace
        self._pieces = None if node is None else Pieces(node)
        self._reads: dict[Path, Node] = {}
        self.plain = plain
        self.readonly = readonly
        self.version = 0
        self.written: Loc | None = None

    def read(self, path: Path) -> Node:
        """The view at the end of a path, as it is now."""
        found = self._reads.get(path)
        if found is None:
            found = self._reads[path] = self._read(path)
        return found

    def _read(self, path: Path) -> Node:
        b = self.trace.builder
        pieces = self._value()
        span = _span(path, pieces.shape)
        if span is not None:
            start, shape = span
            return pieces.read(b, start, start + math.prod(shape), shape)
        node = pieces.whole(b)
        for count, step in enumerate(path, 1):
            # Views of one view are made of one node, so that their cotangents meet there.
            above = self._reads.get(path[:count])
            node = step.apply(b, node) if above is None else above
            self._reads[path[:count]] = node
        return node

    def write(self, path: Path, value: Node, loc: Loc | None) -> None:
        """The view at the end of a path has another value; an array that was known is known no more."""
        b = self.trace.builder
        pieces = self._value()
        span = _span(path, pieces.shape)
        if span is not None:
            pieces.write(span[0], span[0] + value.array_type.size, value, loc)
        else:
            bases = [pieces.whole(b)]
            for step in path[:-1]:
                bases.append(step.apply(b, bases[-1]))
            for step, base in zip(reversed(path), reversed(bases), strict=True):
                value = step.put(b, base, value)
            pieces = Pieces(value)
        self._pieces = pieces
        self.plain = None
        self.written_at(loc)

    def _value(self) -> Pieces:
        if self.plain is not None:
            return Pieces(self.trace.constant(self.plain, self.written))
        if self._pieces is None:
            raise TypeError("an array without a value")
        return self._pieces

    def written_at(self, loc: Loc | None) -> None:
        """Views read the array anew."""
        self._reads.clear()
        self.version += 1
        self.written = loc


def _span(path: Path, shape: tuple[int, ...]) -> Span | None:
    """Which elements of an array of that shape the view at the end of the path has, where they are neighbours."""
    start = 0
    for step in path:
        span = step.span
        if span is None:
            return None
        start, shape = start + span[0], span[1]
    return start, shape
