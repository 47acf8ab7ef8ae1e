"""How a call is mapped: the axes along which the values of a batch lie, in arguments and in results.

`Batching` is what a user told `vmap`. With the types of a call it gives those of one value of the batch, and of the
graph of one value that of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import optree

from adjit.autodiff.batch import batch, placed
from adjit.autodiff.chunks import batch_in_chunks
from adjit.ir.graph import Graph
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, ShapeError
from adjit_runtime.guests import NAMESPACE, tree_flatten
from adjit_runtime.trees import LeafType

Axes = list[int | None]
Placed = list[tuple[str, int | None]]
"""Results as Python writes their places, each with its axis."""


class Mapped(NamedTuple):
    """A call as it is mapped: the axis of each leaf, the types of one value of each, how many values there are."""

    axes: Axes
    types: list[LeafType]
    size: int


@dataclass(frozen=True, eq=False)
class Batching:
    """The axes of arguments and results of the function called `name`, and how many values there may be at once."""

    name: str
    in_axes: Any
    out_axes: Any
    chunk: int | None

    def mapped(
        self, axes: Axes, types: Sequence[LeafType], names: Sequence[str], size: int | None = None, of: str = ""
    ) -> Mapped:
        """A call with leaves of these types; where the `size` is known already, it is that of what `of` names."""
        axes, each = list(axes), []
        first = None if size is None else (f"{of}, along axis 0,", size)
        for i, (axis, type) in enumerate(zip(axes, types, strict=True)):
            if axis is None:
                each.append(type)
                continue
            axis = axes[i] = self.axis(axis, type, names[i])
            n = type.shape[axis]
            first = first or (f"{names[i]}, along axis {axis},", n)
            if n != first[1]:
                raise ShapeError(
                    f"vmap: {self.name} was called with {first[1]} values of {first[0]} and {n} of {names[i]}, along "
                    f"axis {axis}: a batch is of one size"
                )
            each.append(LeafType(type.dtype, (*type.shape[:axis], *type.shape[axis + 1 :])))
        if first is None:
            raise ArgumentError(
                f"vmap: no argument of {self.name} has a batch (in_axes={self.in_axes}): give an axis for one of "
                "them, or call the function itself"
            )
        return Mapped(axes, each, first[1])

    def axis(self, axis: int, type: LeafType, name: str) -> int:
        """An axis of an argument, counted from the first one."""
        rank = len(type.shape)
        if rank == 0:
            what = "a number" if type.weak else f"{type}, without axes"
            raise ShapeError(
                f"vmap: {name} of {self.name} is {what}, and is mapped along axis {axis}: give in_axes=None for "
                "what is the same for all values of the batch"
            )
        if not -rank <= axis < rank:
            raise ShapeError(f"vmap: {name} of {self.name} is {type}, which has no axis {axis}")
        return axis % rank

    def entering(self, tree: optree.PyTreeSpec, parameters: Sequence[str] = ()) -> Axes:
        """The axis of each leaf of the arguments. Keyword arguments lie along axis 0; those that are among the
        `parameters` have the entry of their place."""
        positional, named = tree.children()
        given: Any = self.in_axes
        count = positional.num_children
        by_name: Mapping[str, Any] = {}
        if isinstance(given, tuple):
            if len(given) != count and not count < len(given) <= len(parameters):
                raise ArgumentError(
                    f"vmap: in_axes is {checks.shown(given)}, with an entry for each positional argument, and "
                    f"{self.name} was called with {count}"
                )
            by_name = dict(zip(parameters[count:], given[count:], strict=False))
        else:
            given = (given,) * count
        axes: Axes = []
        for i, (prefix, child) in enumerate(zip(given, positional.children(), strict=False)):
            axes += spread(prefix, child, f"in_axes[{i}]", f"argument {i} of {self.name}")
        for name, child in zip(named.entries(), named.children(), strict=True):
            axes += spread(by_name.get(name, 0), child, f"in_axes for {name}", f"{name} of {self.name}")
        return axes

    def leaving(self, tree: optree.PyTreeSpec, graph: Graph) -> Placed:
        """The results of the graph of one value, with the axis along which those of all are to lie."""
        axes = spread(self.out_axes, tree, "out_axes", f"the result of {self.name}")
        paths = [accessor.codify("the result") for accessor in tree.accessors()]
        found: Placed = []
        for path, axis, node in zip(paths, axes, graph.outputs, strict=False):
            rank = len(node.shape) + 1
            if axis is not None and not -rank <= axis < rank:
                raise ShapeError(
                    f"vmap: {path} of {self.name} is {node.type} for each value of the batch, and out_axes is "
                    f"{axis}: an axis from {-rank} to {rank - 1}, or None"
                )
            found.append((path, None if axis is None else axis % rank))
        return found

    def batched(self, in_axes: Axes, out_axes: Placed, size: int, graph: Graph) -> Graph:
        """The graph of one value for `size` of them, with the axes of all its inputs and outputs."""
        if self.chunk is None:
            found = batch(graph, in_axes, size)
        else:
            found = batch_in_chunks(graph, in_axes, size, self.chunk)
        for (path, axis), flag in zip(out_axes, found.outputs, strict=True):
            if axis is None and flag:
                raise ArgumentError(
                    f"vmap: out_axes is None for {path} of {self.name}, which is another one for each value of the "
                    "batch: give the axis along which they are to lie"
                )
        return placed(found, [axis for _, axis in out_axes], size)


def spread(prefix: Any, tree: optree.PyTreeSpec, what: str, of: str) -> Axes:
    """An axis, or None, for each leaf of a tree: `prefix` is one for all of them, or a tree of the same structure whose
    leaves may stand for whole branches."""
    # None in a prefix is a leaf; in the tree it has none.
    full: Any = optree.tree_unflatten(tree, range(tree.num_leaves))
    try:
        axes = optree.broadcast_prefix(prefix, full, none_is_leaf=True, namespace=NAMESPACE)
    except ValueError:
        shape = str(tree).removeprefix("PyTreeSpec(").removesuffix(")").removesuffix(f", namespace={NAMESPACE!r}")
        raise ArgumentError(
            f"vmap: {what} is {checks.shown(prefix)}, which does not fit {of}, which is {shape}: give one axis for all "
            "of it, or a tree of axes of that structure"
        ) from None
    leaves = optree.tree_leaves(full, none_is_leaf=True, namespace=NAMESPACE)
    return [None if axis is None else int(axis) for axis, leaf in zip(axes, leaves, strict=True) if leaf is not None]


def checked_axes(what: str, axes: Any) -> Any:
    """A tree of axes, whose leaves are integers and None."""
    try:
        # Dataclasses become trees here.
        tree_flatten(axes)
        leaves = optree.tree_leaves(axes, none_is_leaf=True, namespace=NAMESPACE)
    except RecursionError:
        raise ArgumentError(f"vmap: {what} is nested too deep, or holds itself") from None
    for axis in leaves:
        if axis is not None and (isinstance(axis, bool) or not isinstance(axis, int | np.integer)):
            raise ArgumentError(f"vmap: {what} has {checks.shown(axis)}, where an axis is an integer, or None")
    return axes
