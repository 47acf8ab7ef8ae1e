"""Rows of tables: what a training step changes of a parameter that the loss only looks rows up in.

The adjoint of such a lookup adds rows to zeros, `scatter_add 0.0, %ids, %rows`, which here is taken apart: the rows of
each number are summed in the order in which they stand, once, and parameters are read and written at these numbers
alone. So neither a gradient of the table's size is made nor is the table passed over."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from adjit.ir.node import Node
from adjit.ops.declare import Indexing
from adjit.trace import apply, lower
from adjit.trace.tracer import fresh, node_of
from adjit_runtime.errors import ArgumentError


@dataclass(frozen=True, slots=True)
class Rows:
    """A gradient by its rows: `gradient` (count, ...) at the numbers `ids` (count,), of which each stands once, after
    those in whose place there is none: they have a number that comes later, too, and a gradient of 0."""

    ids: Any
    gradient: Any

    def of(self, x: Any) -> Any:
        """The rows of an array that has one for each of the table's."""
        return apply("take", x, self.ids, axis=0)

    def put(self, x: Any, rows: Any) -> Any:
        """The array with these rows in their places; of those of one number the last one stands."""
        return apply("scatter", x, self.ids, rows, axis=0)

    def change(self, old: Any, new: Any) -> Any:
        """What came to the rows of an array, of each number once, and 0 in the other places."""
        count = lower.shape_of(self.ids)[0]
        once = (self.ids != self.ids[-1:]) | (np.arange(count) == count - 1)
        change = self.of(new) - self.of(old)
        return np.where(np.reshape(once, (count, *[1] * (change.ndim - 1))), change, 0.0)


def rows_of(name: str, gradient: Any) -> Rows | None:
    """The gradient of a table by its rows; None where it is 0. ArgumentError where it is no sum of rows."""
    links: list[Node] = []
    node = node_of(gradient)
    while _adds_rows(node):
        links.append(node)
        node = node.args[0]
    if not node.is_splat or node.attrs["value"] != 0:
        raise ArgumentError(
            f"{name} is used otherwise, too, than by embedding(sparse=True) outside of loops and branches, so that its "
            "gradient is no sum of rows: leave sparse=True out"
        )
    if not links:
        return None
    shape = node.shape[1:]
    pieces = [[fresh(x) for x in link.args[1:]] for link in reversed(links)]
    counts = [math.prod(ids.shape) for ids, _ in pieces]
    ids = np.concatenate([np.reshape(ids, (n,)) for n, (ids, _) in zip(counts, pieces, strict=True)])
    rows = np.concatenate([np.reshape(rows, (n, *shape)) for n, (_, rows) in zip(counts, pieces, strict=True)])
    return _summed(ids, rows) if sum(counts) else None


def _adds_rows(node: Node) -> bool:
    op, attrs = node.op, node.attrs
    return isinstance(op, Indexing) and op.adds and attrs["axis"] == 0 and not attrs.get("batch", 0)


def _summed(ids: Any, rows: Any) -> Rows:
    """Rows of one number summed. Numbers are counted from the last place down, so that the places that are left over
    come first."""
    (count,) = ids.shape
    order = np.argsort(ids, kind="stable")
    ordered = apply("take", ids, order, axis=0)
    begins = np.concatenate([np.ones(1, bool), ordered[1:] != ordered[:-1]])
    place = count - np.cumsum(begins.astype(np.int64))
    distinct = apply("scatter", lower.broadcast_to(ordered[:1], (count,)), place, ordered, axis=0)
    own = apply("scatter", np.zeros(count, np.int64), order, place, axis=0)
    return Rows(distinct, apply("scatter_add", np.zeros(rows.shape, rows.dtype), own, rows, axis=0))
