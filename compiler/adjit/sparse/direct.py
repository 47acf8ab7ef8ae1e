"""The entries of a sparse derivative row by row, where all rows but a few read their neighbours alike, as a stencil
does: no product with seeds, and nothing to be taken apart.

    %1 = slice %x start=(1) stop=(9)          rows 0 to 7 have two entries each:
    %2 = slice %x start=(0) stop=(8)    =>    2 %1 and -1, side by side
    %3 = sub (mul %1, %1), %2

Rows that follow one another with entries in like places make a run. Its rows are the function with slices moved to
where the arguments are read: there each derivative by such a slice is one entry of all these rows. It is for graphs of
elementwise functions and movement along one axis. `by_rows` gives None for others, where there are many runs, and where
costly functions would be computed again at each place from where they are read: products compute them once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from adjit.autodiff.forward_mode import tangent_of
from adjit.autodiff.reach import Reach
from adjit.ir.axes import joins
from adjit.ir.builder import Builder, Value
from adjit.ir.graph import Graph, closed
from adjit.ir.node import Node
from adjit.ir.types import Array
from adjit.ops.declare import Elementwise
from adjit.sparse.colours import Pattern
from adjit.tuned import LIGHT_COST, ROWS_NODES, ROWS_REPEATED, ROWS_RUNS

Rows = tuple[Node, int, int]
"""Elements of a vector, from one to another."""
Terms = Mapping[tuple[int, int], Value]
"""Derivatives of rows: by an argument, from which element on; row i's is by the i-th from there."""


def by_rows(graph: Graph, wrt: Sequence[int], values: int, pattern: Pattern) -> Graph | None:
    """The graph of the entries of the Jacobian of the first `values` outputs by the inputs `wrt`, and of the other
    outputs."""
    sizes = [node.array_type.size for node in graph.outputs[:values]]
    runs = _runs(pattern, np.cumsum([0, *sizes[:-1]])) if values else []
    if not 0 < len(runs) <= ROWS_RUNS:
        return None
    dtype = np.result_type(*(node.dtype for node in graph.outputs[:values]))
    made = _Made(graph, wrt)
    b, parts, first = made.b, list[Value](), 0
    for node, size in zip(graph.outputs[:values], sizes, strict=True):
        for start, stop in runs:
            if not first <= start < first + size:
                continue
            terms = made.terms_of((node, start - first, stop - first))
            if terms is None:
                return None
            columns = pattern.columns[pattern.starts[start] : pattern.starts[start + 1]]
            parts += _side_by_side(b, [made.entry(terms, int(at), stop - start, dtype) for at in columns])
        first += size
    if not parts or made.repeats():
        return None
    entries = parts[0] if len(parts) == 1 else b.concatenate(*parts, axis=0)
    return closed(f"{graph.name}_entries", b.inputs, b.nodes, [entries.node, *graph.outputs[values:]])


def _runs(pattern: Pattern, firsts: np.ndarray) -> list[tuple[int, int]]:
    """Where rows stand alike: each has the entries of the one before, one column further. `firsts` begin a run."""
    counts = pattern.counts
    begins = np.append(True, counts[1:] != counts[:-1])
    begins[firsts[firsts < pattern.height]] = True
    rows = pattern.rows
    before = np.arange(len(rows)) - counts[rows]
    other = pattern.columns != pattern.columns[np.maximum(before, 0)] + 1
    begins[rows[other]] = True
    starts = np.flatnonzero(begins)
    return list(zip(starts.tolist(), [*starts[1:].tolist(), pattern.height], strict=True))


def _side_by_side(b: Builder, entries: Sequence[Value]) -> list[Value]:
    """The entries of each row one after the other, flat."""
    if len(entries) < 2:
        return list(entries)
    (rows,) = entries[0].shape
    columns = [b.reshape(x, shape=(rows, 1)) for x in entries]
    return [b.reshape(b.concatenate(*columns, axis=1), shape=(rows * len(entries),))]


class _Made:
    """Rows of a graph's vectors, and their derivatives, made where they are asked for."""

    def __init__(self, graph: Graph, wrt: Sequence[int]) -> None:
        self.b = Builder.after(graph)
        self.reach = Reach(graph, [graph.inputs[i] for i in wrt])
        self._targets = {graph.inputs[i]: number for number, i in enumerate(wrt)}
        self._starts = np.cumsum([0, *(graph.inputs[i].array_type.size for i in wrt)])
        self._made: dict[Rows, tuple[Node, Terms]] = {}
        self._most = len(graph.nodes) + ROWS_NODES
        self._costly = {node: _costly(node) for node in graph.nodes}

    def entry(self, terms: Terms, column: int, rows: int, dtype: np.dtype) -> Value:
        """That in a column of the first row, and of so many rows from there."""
        argument = int(np.searchsorted(self._starts, column, side="right")) - 1
        found = terms.get((argument, column - int(self._starts[argument])))
        return self.b.full(0.0, Array(dtype, (rows,))) if found is None else self.b.cast(found, dtype=dtype)

    def terms_of(self, wanted: Rows) -> Terms | None:
        """The derivatives of rows; None where they are not made of others by rows."""
        waiting = [wanted]
        while waiting:
            rows = waiting[-1]
            read = self._read(rows)
            if read is None or len(self.b.nodes) > self._most:
                return None
            missing = [each for each in read if each not in self._made]
            if missing:
                waiting += missing
                continue
            waiting.pop()
            if rows not in self._made:
                self.b.loc = rows[0].loc
                self._made[rows] = self._make(rows, [self._made[each] for each in read])
        return self._made[wanted][1]

    def repeats(self) -> bool:
        """Whether costly functions are computed again and again, each time for rows moved elsewhere."""
        once = sum(cost * node.array_type.size for node, cost in self._costly.items() if cost)
        moved = sum((stop - start) * self._costly.get(node, 0) for node, start, stop in self._made)
        return moved > ROWS_REPEATED * once

    def _read(self, rows: Rows) -> list[Rows] | None:
        """What rows are made of; None where that is not known and has a derivative."""
        node, start, stop = rows
        found = _operands(node, start, stop)
        if found is not None or node in self._targets:
            return found or []
        return [] if node not in self.reach.active and _is_vector(node) else None

    def _make(self, rows: Rows, read: Sequence[tuple[Node, Terms]]) -> tuple[Node, Terms]:
        node, start, stop = rows
        b, type = self.b, Array(node.dtype, (stop - start,))
        if isinstance(node.op, Elementwise) and read:
            images = [image for image, _ in read]
            image = b.emit(node.op, *images, **node.attrs)
            return image, self._derived(node, image, [terms for _, terms in read])
        if read:
            return read[0]
        if node.is_splat:
            return b.splat(node.attrs["value"], type), {}
        if node.op.name == "pad" and _operands(node, start, stop) is not None:
            return b.splat(node.attrs["value"], type), {}
        image = node
        if (start, stop) != (0, node.shape[0]):
            image = b.slice(b.value(node), start=(start,), stop=(stop,), step=(1,)).node
        terms: Terms = {}
        if node in self._targets:
            terms = {(self._targets[node], start): b.value(b.splat(1.0, type.strong))}
        return image, terms

    def _derived(self, node: Node, image: Node, operands: Sequence[Terms]) -> Terms:
        """An elementwise function's derivatives, each by the rule of forward mode."""
        if node not in self.reach.active:
            return {}
        found = {}
        for place in dict.fromkeys(place for terms in operands for place in terms):
            value = tangent_of(self.b, node, image, [terms.get(place) for terms in operands])
            if value is not None:
                found[place] = value
        return found


def _operands(node: Node, start: int, stop: int) -> list[Rows] | None:
    """The rows of operands that rows are made of, none where they are filled; None for other ops, or across pieces."""
    if not node.args or not all(_is_vector(each) for each in (node, *node.args)):
        return None
    if isinstance(node.op, Elementwise):
        return [(arg, start, stop) for arg in node.args]
    if joins(node):
        return _piece(node, start, stop)
    (arg, *_), attrs = node.args, node.attrs
    if node.op.name == "reshape":
        return [(arg, start, stop)]
    if node.op.name == "slice" and attrs["step"] == (1,):
        (skipped,) = attrs["start"]
        return [(arg, start + skipped, stop + skipped)]
    if node.op.name == "pad" and attrs["interior"] == (0,):
        (low,) = attrs["low"]
        start, stop = start - low, stop - low
        if stop <= 0 or start >= arg.shape[0]:
            return []
        return [(arg, start, stop)] if start >= 0 and stop <= arg.shape[0] else None
    return None


def _costly(node: Node) -> int:
    """What an elementwise function costs that is not computed again lightly; 0 for others."""
    return node.op.cost if isinstance(node.op, Elementwise) and node.op.cost > LIGHT_COST else 0


def _is_vector(node: Node) -> bool:
    return isinstance(node.type, Array) and len(node.shape) == 1


def _piece(node: Node, start: int, stop: int) -> list[Rows] | None:
    """The one operand of a concatenation that has all of the rows."""
    for arg in node.args:
        if start < arg.shape[0]:
            return [(arg, start, stop)] if stop <= arg.shape[0] else None
        start, stop = start - arg.shape[0], stop - arg.shape[0]
    return None
