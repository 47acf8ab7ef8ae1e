"""`vmap`: a function of one value becomes one of a batch of them. The function is traced for one value, and its graph
is batched (`autodiff.batch`)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import optree

from adjit.autodiff.batch import batch, placed
from adjit.autodiff.chunks import batch_in_chunks
from adjit.driver import options_of, statics_of
from adjit.functions import Transformed, trace_call
from adjit.ir.graph import Graph
from adjit.stages import Options, Record
from adjit.trace import Tracer
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, ShapeError
from adjit_runtime.guests import NAMESPACE, tree_flatten
from adjit_runtime.public import public
from adjit_runtime.trees import LeafType, Signature

Axes = list[int | None]


class Mapped(NamedTuple):
    """A call as it is mapped: the axis of each leaf, the types of one value of each, how many values there are."""

    axes: Axes
    types: list[LeafType]
    size: int


class VmapFunction(Transformed):
    """vmap of a function."""

    kind = "vmap"

    def __init__(
        self,
        function: Callable[..., Any],
        options: Callable[[], Options],
        in_axes: Any,
        out_axes: Any,
        chunk: int | None,
        static_argnames: Iterable[str],
        static_argnums: Iterable[int],
    ) -> None:
        super().__init__(function, options, static_argnames, static_argnums)
        self.in_axes = tuple(in_axes) if isinstance(in_axes, list) else in_axes
        self.out_axes = out_axes
        self.chunk = chunk

    def transformed(
        self, signature: Signature, names: Sequence[str], record: Record
    ) -> tuple[Graph, optree.PyTreeSpec, list[Tracer]]:
        """The batched graph."""
        mapped = self._mapped(signature, names)
        with record.timed("trace"):
            traced = trace_call(self.graph_name, self.on_leaves(signature), mapped.types, names)
        record.keep("trace", traced.graph)
        out_axes = self._out_axes(traced.out_tree, traced.graph)
        in_axes = [*mapped.axes, *[None] * len(traced.captures)]
        graph = record.derive("batch", functools.partial(self._batched, in_axes, out_axes, mapped.size), traced.graph)
        return graph, traced.out_tree, traced.captures

    def _batched(self, in_axes: Axes, out_axes: list[tuple[str, int | None]], size: int, traced: Graph) -> Graph:
        if self.chunk is None:
            found = batch(traced, in_axes, size)
        else:
            found = batch_in_chunks(traced, in_axes, size, self.chunk)
        for (path, axis), flag in zip(out_axes, found.outputs, strict=True):
            if axis is None and flag:
                raise ArgumentError(
                    f"vmap: out_axes is None for {path} of {self.__name__}, which is another one for each value of the "
                    "batch: give the axis along which they are to lie"
                )
        return placed(found, [axis for _, axis in out_axes], size)

    # -- arguments ----------------------------------------------------------------------------------------------------

    def _mapped(self, signature: Signature, names: Sequence[str]) -> Mapped:
        axes, types = self._in_axes(signature.tree), []
        first: tuple[str, int, int] | None = None
        for i, (axis, type) in enumerate(zip(axes, signature.types, strict=True)):
            if axis is None:
                types.append(type)
                continue
            axis = axes[i] = self._axis(axis, type, names[i])
            n = type.shape[axis]
            first = first or (names[i], axis, n)
            if n != first[2]:
                raise ShapeError(
                    f"vmap: {self.__name__} was called with {first[2]} values of {first[0]}, along axis {first[1]}, "
                    f"and {n} of {names[i]}, along axis {axis}: a batch is of one size"
                )
            types.append(LeafType(type.dtype, (*type.shape[:axis], *type.shape[axis + 1 :])))
        if first is None:
            raise ArgumentError(
                f"vmap: no argument of {self.__name__} has a batch (in_axes={self.in_axes}): give an axis for one of "
                "them, or call the function itself"
            )
        return Mapped(axes, types, first[2])

    def _axis(self, axis: int, type: LeafType, name: str) -> int:
        rank = len(type.shape)
        if rank == 0:
            what = "a number" if type.weak else f"{type}, without axes"
            raise ShapeError(
                f"vmap: {name} of {self.__name__} is {what}, and is mapped along axis {axis}: give in_axes=None for "
                "what is the same for all values of the batch"
            )
        if not -rank <= axis < rank:
            raise ShapeError(f"vmap: {name} of {self.__name__} is {type}, which has no axis {axis}")
        return axis % rank

    def _in_axes(self, tree: optree.PyTreeSpec) -> Axes:
        """The axis of each leaf of the arguments; keyword arguments lie along axis 0."""
        positional, named = tree.children()
        given: Any = self.in_axes
        if isinstance(given, tuple) and len(given) != positional.num_children:
            raise ArgumentError(
                f"vmap: in_axes is {checks.shown(given)}, with an entry for each positional argument, and "
                f"{self.__name__} was called with {positional.num_children}"
            )
        if not isinstance(given, tuple):
            given = (given,) * positional.num_children
        axes: Axes = []
        for i, (prefix, child) in enumerate(zip(given, positional.children(), strict=True)):
            axes += spread(prefix, child, f"in_axes[{i}]", f"argument {i} of {self.__name__}")
        return axes + [0] * named.num_leaves

    def _out_axes(self, tree: optree.PyTreeSpec, graph: Graph) -> list[tuple[str, int | None]]:
        """Each result as Python writes its place, with the axis along which its values are to lie."""
        axes = spread(self.out_axes, tree, "out_axes", f"the result of {self.__name__}")
        paths = [accessor.codify("the result") for accessor in tree.accessors()]
        found: list[tuple[str, int | None]] = []
        for path, axis, node in zip(paths, axes, graph.outputs, strict=True):
            rank = len(node.shape) + 1
            if axis is not None and not -rank <= axis < rank:
                raise ShapeError(
                    f"vmap: {path} of {self.__name__} is {node.type} for each value of the batch, and out_axes is "
                    f"{axis}: an axis from {-rank} to {rank - 1}, or None"
                )
            found.append((path, None if axis is None else axis % rank))
        return found


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


def _checked(what: str, axes: Any) -> Any:
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


_KNOWN = {
    "fun": "function",
    "func": "function",
    "f": "function",
    "in_dims": "in_axes",
    "out_dims": "out_axes",
    "chunk_size": "chunk",
    "batch_size": "chunk",
    "axis_size": "the size is that of the arguments",
    "axis_name": "a value does not see the others of its batch: compute with all of them outside of vmap",
    "randomness": "give each value a key of its own: adjit.random.split",
    "excluded": "in_axes, None for an argument that has no batch",
    "signature": "in_axes says which axis of an argument is the batch",
}
"""Arguments that other libraries have."""


@public(_KNOWN)
def vmap(
    function: Callable[..., Any] | None = None,
    in_axes: Any = 0,
    out_axes: Any = 0,
    chunk: int | None = None,
    *,
    static_argnames: str | Iterable[str] = (),
    static_argnums: int | Iterable[int] = (),
    tile: str = "auto",
    inexact: bool = False,
    memory_limit: int | str | None = None,
) -> Any:
    """A compiled function that runs `function` for each value of a batch, all of them at once.

    `in_axes` says which axis of the arguments is the batch: an integer for all of them, or a tuple with an entry for
    each positional argument: an integer, None for what is the same for all values of the batch, or a pytree of these
    that has the argument's structure, or the upper part of it. Negative axes count from the last one. Keyword arguments
    lie along axis 0. `function` sees arguments without that axis, and in its results the batch is the axis that
    `out_axes` says: an integer, or a pytree of integers in the structure of the results, with None for a result that is
    the same for all values. `chunk` bounds memory: no more values than that are computed at once, by a loop. The
    arguments after it are those of `jit`.

        >>> import numpy as np, adjit
        >>> def loss(w, x, y):
        ...     return (np.tanh(x @ w) - y) ** 2
        >>> rows, targets = np.ones((5, 3)), np.zeros(5)
        >>> per_example = adjit.vmap(adjit.grad(loss), in_axes=(None, 0, 0))
        >>> per_example(np.zeros(3), rows, targets).shape
        (5, 3)

    Inside another traced function it becomes a part of that one, so it composes with `jit`, `grad`, `training_step` and
    itself. Random numbers are those of the key: the same for all values that share it, so a batch has a batch of keys.
    Raises what `jit` raises; ShapeError for batches of different sizes and for an axis that an argument does not have;
    ArgumentError for axes that do not fit the arguments or results, and for a None in `out_axes` where the result is
    another one for each value. Batching graphs by rules for each op is that of JAX (Bradbury et al. 2018)."""
    names, numbers = statics_of("vmap", static_argnames, static_argnums)
    options = options_of("vmap", tile, inexact, memory_limit=memory_limit)
    if chunk is not None:
        chunk = checks.integer("vmap: chunk", chunk, 1)
    in_axes, out_axes = _checked("in_axes", in_axes), _checked("out_axes", out_axes)
    if not (in_axes is None or isinstance(in_axes, tuple | list | int | np.integer)):
        raise ArgumentError(
            f"vmap: in_axes is an integer, or a tuple with an entry for each positional argument, not "
            f"{checks.shown(in_axes)}"
        )

    def decorate(function: Callable[..., Any]) -> VmapFunction:
        return VmapFunction(function, options, in_axes, out_axes, chunk, names, numbers)

    return decorate if function is None else decorate(function)
