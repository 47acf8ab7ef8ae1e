"""`vmap` of a training step: many models in one native step. The step of one model is traced and differentiated; its
graph, with the updates of the state among its results, is batched."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import optree

from adjit.batching import Axes, Batching, Placed
from adjit.ir.graph import Graph, with_updates
from adjit.stages import Record
from adjit.training import Leaves, TrainingStep
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, ShapeError
from adjit_runtime.guests import tree_structure
from adjit_runtime.models import keys_for
from adjit_runtime.public import public
from adjit_runtime.state import Layout, State
from adjit_runtime.step import StepFunction
from adjit_runtime.trees import LeafType, Signature, leaf_names

STATE = "the state"


def _repeated(leaves: Leaves, models: tuple[int, ...]) -> Leaves:
    """The same for each of the models."""
    return [np.broadcast_to(array, (*models, *array.shape)) for array in leaves[0]], leaves[1]


class VmapStep(TrainingStep):
    """A training step of many models; `adjit.vmap(step, in_axes=...)` makes it. It is called and run as that of one.

    The first entry of `in_axes`, 0, is that of the state: models lie along axis 0 of all that it has. The others say
    which axis of the batch's arguments has the models' own data, or None for what all of them learn from. Losses and
    other results are those of each model; a model that fails (its numbers become NaN) changes no other."""

    kind = "vmap"

    def __init__(self, step: TrainingStep, batching: Batching) -> None:
        extras: dict[str, Any] = {name: step.hyper[name] for name in step.extras}
        super().__init__(
            step.__wrapped__,
            step.options,
            step.optimizer,
            step.has_aux,
            step.has_state,
            step.watches,
            extras,
            step.regularized,
            step.static_argnames,
        )
        # What a rewriting of its control flow made of the loss.
        self.called = step.called
        self.step = step
        self.levels: tuple[Batching, ...] = (batching, *(step.levels if isinstance(step, VmapStep) else ()))
        self.depth = len(self.levels)
        self._by_rows: dict[Any, VmapStep] = {}
        first = batching.in_axes[0] if isinstance(batching.in_axes, tuple) and batching.in_axes else batching.in_axes
        if first != 0:
            raise ArgumentError(
                f"vmap: models of {self.__name__} lie along axis 0 of the state, which is the step's first argument, "
                f"and in_axes is {checks.shown(batching.in_axes)}: begin with a 0, as in in_axes=(0, None, None)"
            )

    # -- states -------------------------------------------------------------------------------------------------------

    @public(
        {
            "seed": "key", "rng": "key", "keys": "key", "parameters": "params", "n": "models", "size": "models",
            "state": "model_state",
        },
        "init",
    )  # fmt: skip
    def init(
        self, params: Any, model_state: Any = None, *, key: Any = 0, models: int | Sequence[int] | None = None
    ) -> State:
        """A state of many models with copies of the parameters: a pytree of float32 and float64 arrays.

        Axis 0 of each array is that of the models, as `adjit.vmap` of the function that makes the parameters of one
        from a key gives them. With `models`, how many there are to be, all begin with the same parameters, which are
        those of one. `model_state` is what losses with `state=True` begin with, stacked or that of one model as the
        parameters are; each model goes on with its own. `key` is an integer, with which all models draw the same random
        numbers, or an array with one for each.

        Raises ShapeError for parameters, keys or hyper-parameters of different numbers of models, and what the `init`
        of a step of one model raises."""
        given = (self.parameters(params), self.carried(model_state))
        shape = self._shape(*given) if models is None else checks.extents(f"{self.__name__}.init: models", models)
        if len(shape) != self.depth:
            raise ArgumentError(
                f"{self.__name__}.init: models is {checks.shown(models)}, and the step was mapped {self.depth} times: "
                "a number for each"
            )
        if 0 in shape:
            raise ShapeError(f"{self.__name__}.init: there is no model: the shape of the models is {shape}")
        if models is not None:
            given = (_repeated(given[0], shape), _repeated(given[1], shape))
        keys = keys_for(f"{self.__name__}.init: key", key, shape)
        layout, values = self.layout(*given, shape)
        return State(layout, [*values, keys, 0], self.__name__)

    def _shape(self, params: Leaves, carried: Leaves) -> tuple[int, ...]:
        """The shape of the models, which all parameters and arrays of a model state begin with."""
        names = leaf_names(params[1], "params") + leaf_names(carried[1], "model_state")
        arrays = [*params[0], *carried[0]]
        if not params[0]:
            raise ArgumentError(f"{self.__name__}.init: params has no arrays: say how many models there are, models=64")
        for name, array in zip(names, arrays, strict=True):
            if array.ndim < self.depth or array.shape[: self.depth] != arrays[0].shape[: self.depth]:
                raise ShapeError(
                    f"{self.__name__}.init: axis 0 of parameters and model state is that of the models, and {name} has "
                    f"shape {array.shape}, {names[0]} has {arrays[0].shape}: stack those of each model, or give "
                    "those of one, and models=64"
                )
        return arrays[0].shape[: self.depth]

    # -- the graph ----------------------------------------------------------------------------------------------------

    def build(self, signature: Signature, names: Sequence[str], record: Record) -> tuple[Graph, optree.PyTreeSpec]:
        """The graph of the step of one model, batched."""
        layout: Layout = signature.layout
        types: Sequence[LeafType] = signature.types
        levels: list[tuple[Batching, Axes, int]] = []
        for level in self.levels:
            entering = level.entering(signature.tree, self._parameters())
            mapped = level.mapped(entering, types, names, layout.models[0], STATE)
            # All models make their steps at once, so their count is one number.
            levels.append((level, [*[0] * (len(layout.types) - 1), None, *mapped.axes], mapped.size))
            layout, types = layout.each(), mapped.types
        one = replace(signature, types=tuple(types), layout=layout)
        graph, aux = super().build(one, names, record)
        beside = self.has_aux or self.watches
        result: Any = (0, optree.tree_unflatten(aux, range(aux.num_leaves))) if beside else 0
        whole = functools.partial(self._batched, tree_structure(result), levels)
        return record.derive("batch", whole, graph), aux

    def _batched(self, tree: optree.PyTreeSpec, levels: Sequence[tuple[Batching, Axes, int]], graph: Graph) -> Graph:
        """The graph of one model for all of them: new values of the state are results until it is batched."""
        number = {node: i for i, node in enumerate(graph.inputs)}
        targets = [number[target] for target, _ in graph.updates]
        count = len(graph.outputs)
        graph = replace(graph, outputs=(*graph.outputs, *(value for _, value in graph.updates)), updates=())
        for level, axes, size in reversed(levels):
            leaving = level.leaving(tree, graph)
            if leaving[0][1] != 0:
                raise ArgumentError(
                    f"vmap: the losses of the models of {self.__name__} lie along axis 0, and out_axes is "
                    f"{checks.shown(level.out_axes)}"
                )
            updated: Placed = [(STATE, axes[target]) for target in targets]
            graph = level.batched(axes, [*leaving, *updated], size, graph)
        return with_updates(graph, count, targets)

    def _parameters(self) -> list[str]:
        """The names of the arguments that have an entry in `in_axes`, given by name or not."""
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return [name for name, parameter in self.__signature__.parameters.items() if parameter.kind in kinds]

    # -- data of a run ------------------------------------------------------------------------------------------------

    def by_rows(self, tree: optree.PyTreeSpec, arrays: list[np.ndarray]) -> tuple[StepFunction, list[np.ndarray]]:
        """Rows are the first axis that one model sees. Where they lie behind the models, the data are copied, and this
        step's like takes batches of the copies."""
        data: Any = optree.tree_unflatten(tree, range(len(arrays)))
        call = tree_structure(((None, *data), {}))
        axes = [level.entering(call, self._parameters()) for level in self.levels]
        names = self._names(call)
        found = [
            self._row_first(array, name, [each[i] for each in axes])
            for i, (array, name) in enumerate(zip(arrays, names, strict=True))
        ]
        moved = [array for array, _ in found]
        if all(a is b for a, b in zip(arrays, moved, strict=True)):
            return self, arrays
        key = (tree, *(tuple(places) for _, places in found))
        if key not in self._by_rows:
            self._by_rows[key] = self._like(tree, [places for _, places in found])
        return self._by_rows[key], moved

    def _row_first(self, array: np.ndarray, name: str, axes: Sequence[int | None]) -> tuple[np.ndarray, Axes]:
        """An array of data with its rows as axis 0, and where the axes of the models are then, level by level."""
        left, owned = list(range(array.ndim)), list[int | None]()
        for level, axis in zip(self.levels, axes, strict=True):
            if axis is None:
                owned.append(None)
                continue
            shape = tuple(array.shape[i] for i in left)
            owned.append(left.pop(level.axis(axis, LeafType(array.dtype, shape), name)))
        if not left:
            raise ShapeError(f"{self.__name__}.run: {name} has no rows beside its models: {array.shape}")
        first, places = left[0], list[int | None]()
        left = [first, *(i for i in range(array.ndim) if i != first)]
        for i in owned:
            places.append(None if i is None else left.index(i))
            if i is not None:
                left.remove(i)
        return np.ascontiguousarray(np.moveaxis(array, first, 0)) if first else array, places

    def _like(self, tree: optree.PyTreeSpec, places: Sequence[Axes]) -> VmapStep:
        """This step for data whose leaves have the models at these places."""
        step: TrainingStep = self
        levels: list[Batching] = []
        for level in self.levels:
            assert isinstance(step, VmapStep)
            step = step.step
            given: Any = optree.tree_unflatten(tree, [each[len(levels)] for each in places])
            rest = level.in_axes[1 + len(given) :] if isinstance(level.in_axes, tuple) else ()
            levels.append(replace(level, in_axes=(0, *given, *rest)))
        for level in reversed(levels):
            step = VmapStep(step, level)
        assert isinstance(step, VmapStep)
        # What there is to see of it is seen in this one.
        step.records = self.records
        return step

    def _forget(self) -> None:
        super()._forget()
        self._by_rows.clear()
