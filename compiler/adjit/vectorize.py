"""`vmap`: a function of one value becomes one of a batch of them. The function is traced for one value, and its graph
is batched (`autodiff.batch`). A training step becomes one of many models (`ensembles`)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import optree

from adjit.batching import Batching, checked_axes
from adjit.driver import options_of, statics_of
from adjit.ensembles import VmapStep
from adjit.functions import Transformed, name_of, trace_call
from adjit.ir.graph import Graph
from adjit.stages import Options, Record
from adjit.trace import Tracer
from adjit.training import TrainingStep
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError
from adjit_runtime.public import public
from adjit_runtime.trees import Signature


class VmapFunction(Transformed):
    """vmap of a function."""

    kind = "vmap"

    def __init__(
        self,
        function: Callable[..., Any],
        options: Callable[[], Options],
        batching: Batching,
        static_argnames: Iterable[str],
        static_argnums: Iterable[int],
    ) -> None:
        super().__init__(function, options, static_argnames, static_argnums)
        self.batching = batching

    def transformed(
        self, signature: Signature, names: Sequence[str], record: Record
    ) -> tuple[Graph, optree.PyTreeSpec, list[Tracer]]:
        """The batched graph."""
        batching = self.batching
        mapped = batching.mapped(batching.entering(signature.tree), signature.types, names)
        with record.timed("trace"):
            traced = trace_call(self.graph_name, self.on_leaves(signature), mapped.types, names)
        record.keep("trace", traced.graph)
        out_axes = batching.leaving(traced.out_tree, traced.graph)
        in_axes = [*mapped.axes, *[None] * len(traced.captures)]
        graph = record.derive(
            "batch", functools.partial(batching.batched, in_axes, out_axes, mapped.size), traced.graph
        )
        return graph, traced.out_tree, traced.captures


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

    Of a training step it makes one of many models, which trains all of them in one native call (see `VmapStep`):

        >>> step = adjit.training_step(lambda w, x, y: np.mean((x @ w - y) ** 2), adjit.optim.sgd(np.array([0.1, 0.2])))
        >>> many = adjit.vmap(step, in_axes=(0, None, None))
        >>> state = many.init(np.zeros(3), models=2)
        >>> many(state, np.ones((5, 3)), np.ones(5)).tolist()
        [1.0, 1.0]

    Inside another traced function it becomes a part of that one, so it composes with `jit`, `grad`, `training_step` and
    itself. Random numbers are those of the key: the same for all values that share it, so a batch has a batch of keys.
    Raises what `jit` raises; ShapeError for batches of different sizes and for an axis that an argument does not have;
    ArgumentError for axes that do not fit the arguments or results, and for a None in `out_axes` where the result is
    another one for each value. Batching graphs by rules for each op is that of JAX (Bradbury et al. 2018)."""
    names, numbers = statics_of("vmap", static_argnames, static_argnums)
    options = options_of("vmap", tile, inexact, memory_limit=memory_limit)
    of_a_step = {
        "static_argnames": names, "static_argnums": numbers, "tile": tile != "auto", "inexact": inexact,
        "memory_limit": memory_limit is not None,
    }  # fmt: skip
    if chunk is not None:
        chunk = checks.integer("vmap: chunk", chunk, 1)
    in_axes, out_axes = checked_axes("in_axes", in_axes), checked_axes("out_axes", out_axes)
    if not (in_axes is None or isinstance(in_axes, tuple | list | int | np.integer)):
        raise ArgumentError(
            f"vmap: in_axes is an integer, or a tuple with an entry for each positional argument, not "
            f"{checks.shown(in_axes)}"
        )

    in_axes = tuple(in_axes) if isinstance(in_axes, list) else in_axes

    def decorate(function: Callable[..., Any]) -> VmapFunction | VmapStep:
        if isinstance(function, TrainingStep):
            for name in (name for name, given in of_a_step.items() if given):
                raise ArgumentError(
                    f"vmap: {name} is an argument of the step: training_step(loss, optimizer, {name}=...)"
                )
            return VmapStep(function, Batching(function.__name__, in_axes, out_axes, chunk))
        checks.function("vmap: function", function)
        batching = Batching(name_of(function), in_axes, out_axes, chunk)
        return VmapFunction(function, options, batching, names, numbers)

    return decorate if function is None else decorate(function)
