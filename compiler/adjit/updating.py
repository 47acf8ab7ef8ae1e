"""The optimiser's part of a training step, within the trace of one: penalties and clipping, new parameters, new
moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree

from adjit.ir.graph import copy_node
from adjit.ir.node import Node
from adjit.optim import Optimizer, Schedule
from adjit.optim.clipping import clipped
from adjit.optim.optimizer import Hyper, Mask
from adjit.touched import Rows, rows_of
from adjit.trace import lower
from adjit.trace.tracer import fresh
from adjit_runtime.errors import ArgumentError, ShapeError
from adjit_runtime.state import Layout
from adjit_runtime.trees import flatten


@dataclass(frozen=True, eq=False)
class Updating:
    """What becomes of parameters in the step called `name`.

    `hyper` are the numbers of the optimiser and of the step, of which `extras` are the step's own; `off` the names of
    what is switched off, `regularized` says which parameters weight decay and penalties are for."""

    name: str
    optimizer: Optimizer
    hyper: Mapping[str, Hyper]
    extras: frozenset[str]
    off: frozenset[str]
    regularized: Mask | None

    def _scalars(self, layout: Layout, state: list[Any]) -> dict[str, Any]:
        """Hyper-parameters of this step by name: numbers of the state, schedules evaluated, None for what is off."""
        tree: Any = optree.tree_unflatten(layout.hyper, state[layout.parts["hyper"]])
        scalars: dict[str, Any] = dict.fromkeys(self.off)
        for name, value in self.hyper.items():
            if value is not None:
                scalars[name] = value.value(tree[name], state[-1]) if isinstance(value, Schedule) else tree[name]
        return scalars

    def _flags(self, layout: Layout, state: list[Any], mask: Mask | None, name: str) -> list[bool]:
        """A flag for each parameter."""
        count = layout.params.num_leaves
        if mask is None:
            return [True] * count
        shown = optree.tree_unflatten(layout.params, [_Shaped(leaf.shape, leaf.dtype) for leaf in state[:count]])
        flags, spec = flatten(mask(shown))
        if spec != layout.params or not all(isinstance(flag, bool | np.bool_) for flag in flags):
            raise ArgumentError(f"{self.name}: the mask of {name} gives a bool for each parameter, in the same pytree")
        return [bool(flag) for flag in flags]

    def tables(
        self, layout: Layout, state: list[Any], gradients: Sequence[Any], marked: Sequence[int]
    ) -> dict[int, Rows]:
        """The gradients of parameters that are tables by their rows, by the number of the parameter. ArgumentError
        where rows alone cannot be updated."""
        marked = [i for i in marked if i < layout.params.num_leaves]
        found: dict[int, Rows] = {}
        if not marked:
            return found
        decayed = self._flags(layout, state, self.regularized, "regularized")
        for i in marked:
            name = layout.names[i]
            extra = next((extra for extra in ("l1", "l2", "weight_decay") if extra in self.extras and decayed[i]), None)
            if extra is not None:
                raise ArgumentError(
                    f"{self.name}: {extra} changes all rows of {name}, of which embedding(sparse=True) updates some: "
                    f"give regularized= a mask that leaves {name} out, or leave sparse=True out"
                )
            if not self.optimizer.sparse:
                raise ArgumentError(
                    f"{self.name}: {self.optimizer.name} with what it keeps changes all rows of {name} in every step, "
                    "of which embedding(sparse=True) updates some: take adjit.optim.sgd without momentum or adagrad, "
                    "or leave sparse=True out"
                )
            rows = rows_of(f"{self.name}: {name}", gradients[i])
            if rows is not None:
                found[i] = rows
        return found

    def penalised(self, layout: Layout, state: list[Any], value: Any, gradients: list[Any]) -> tuple[Any, list[Any]]:
        """Loss and gradients with L1 and L2, the gradients clipped."""
        h = self._scalars(layout, state)
        params = state[: layout.params.num_leaves]
        if self.extras & {"l1", "l2"}:
            flags = self._flags(layout, state, self.regularized, "regularized")
            for i, (p, chosen) in enumerate(zip(params, flags, strict=True)):
                if chosen and h["l1"] is not None:
                    value = value + (h["l1"] * np.sum(np.abs(p))).astype(value.dtype)
                    gradients[i] = gradients[i] + h["l1"] * np.sign(p)
                if chosen and h["l2"] is not None:
                    value = value + (h["l2"] * np.sum(p * p)).astype(value.dtype)
                    gradients[i] = gradients[i] + 2.0 * h["l2"] * p
        if h.get("clip_value") is not None:
            limit = h["clip_value"]
            gradients = [np.clip(g, -limit, limit) for g in gradients]
        if h.get("clip_norm") is not None:
            gradients = clipped(gradients, h["clip_norm"])
        return value, gradients

    def updated(self, layout: Layout, state: list[Any], gradients: list[Any], tables: Mapping[int, Rows]) -> list[Any]:
        """New parameters, new moments, new shared numbers, new step count; of tables some rows are new."""
        h = self._scalars(layout, state)
        params = state[layout.parts["params"]]
        kept = layout.params.flatten_up_to(optree.tree_unflatten(layout.moments, state[layout.parts["moments"]]))
        masks = {name: self._flags(layout, state, mask, name) for name, mask in self.optimizer.masks.items()}
        decayed = self._flags(layout, state, self.regularized, "regularized")
        t = state[-1] + 1
        before: Any = optree.tree_unflatten(layout.shared, state[layout.parts["shared"]])
        shared: Any = {name: advance(before[name], h, t) for name, (_, advance) in self.optimizer.shared.items()}
        repeats: dict[Any, _Repeat] = {}
        new_params, new_kept = [], []
        for i, (p, g) in enumerate(zip(params, gradients, strict=True)):
            whole = [p, *flatten(kept[i])[0]]
            if i in tables:
                p, kept[i] = tables[i].of(p), self._rows_kept(layout.names[i], kept[i], p, tables[i])
            off = {name for name, flags in masks.items() if not flags[i]}
            own = {name: None if name in off else h[name] for name in self.optimizer.hyper} | shared
            decays = "weight_decay" in self.extras and decayed[i]
            given = [g, p, *flatten(kept[i])[0]]
            nodes = [lower.lift(x) for x in given]
            key = (*(node.type for node in nodes), flatten(kept[i])[1], decays, *sorted(off))
            if key in repeats and len(set(nodes)) == len(nodes):
                new, *memory = repeats[key].on(nodes)
            else:
                first = len(lower.builder().nodes)
                new, memory = self._one(layout.names[i], g, kept[i], p, own, t)
                if decays:
                    new = new - h["learning_rate"] * h["weight_decay"] * p
                new = self._fitted(layout.names[i], new, p)
                if len(set(nodes)) == len(nodes):
                    repeats[key] = _Repeat.of(nodes, lower.builder().nodes[first:], [new, *memory])
            if i in tables:
                new, *memory = map(tables[i].put, whole, [new, *memory])
            new_params.append(new)
            new_kept.extend(memory)
        return [*new_params, *new_kept, *optree.tree_leaves(shared), t]

    def _rows_kept(self, name: str, kept: Any, p: Any, rows: Rows) -> Any:
        """What is kept for some rows of a parameter."""
        leaves, spec = flatten(kept)
        for leaf in leaves:
            if lower.shape_of(leaf)[:1] != p.shape[:1]:
                raise ArgumentError(
                    f"{self.optimizer.name}: init keeps an array of shape {lower.shape_of(leaf)} for {name}, which has "
                    f"not a row for each of its {p.shape[0]}; embedding(sparse=True) needs that"
                )
        return optree.tree_unflatten(spec, [rows.of(leaf) for leaf in leaves])

    def _one(self, name: str, g: Any, kept: Any, p: Any, h: Mapping[str, Any], t: Any) -> tuple[Any, list[Any]]:
        """The optimiser on one parameter: its new value, and the new leaves of what is kept."""
        result = self.optimizer.update(g, kept, p, h, t)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise ArgumentError(f"{self.optimizer.name}: update returns (new parameter, new kept), not {result!r}")
        new, memory = result
        before, spec = flatten(kept)
        after, again = flatten(memory)
        if spec != again:
            raise ArgumentError(f"{self.optimizer.name}: update keeps {again} for {name}, init made {spec}")
        return new, [self._fitted(name, x, old) for x, old in zip(after, before, strict=True)]

    def _fitted(self, name: str, new: Any, old: Any) -> Any:
        """A new value in the dtype of the one that it replaces; the shape is the same."""
        if lower.shape_of(new) != old.shape:
            raise ShapeError(
                f"{self.optimizer.name}: the new value of {name} has shape {lower.shape_of(new)}, the old one "
                f"{old.shape}"
            )
        return lower.cast(new, old.dtype)


@dataclass(frozen=True, eq=False, slots=True)
class _Repeat:
    """What an optimiser made of one parameter, to be made of others of the same types without tracing it again.

    Nodes that do not depend on the parameter (rates, corrections of a bias) are shared."""

    args: list[Node]
    nodes: list[Node]
    results: list[Node]

    @classmethod
    def of(cls, args: list[Node], traced: Sequence[Node], results: Sequence[Any]) -> _Repeat:
        """Of the nodes that were traced, those that depend on `args`."""
        live, nodes = set(args), []
        for node in traced:
            if any(arg in live for arg in node.args):
                live.add(node)
                nodes.append(node)
        return cls(args, nodes, [lower.lift(x) for x in results])

    def on(self, args: Sequence[Node]) -> list[Any]:
        """The same of other nodes."""
        builder = lower.builder()
        new = dict(zip(self.args, args, strict=True))
        for node in self.nodes:
            new[node] = builder.keep(copy_node(node, [new.get(arg, arg) for arg in node.args]))
        return [fresh(new.get(node, node)) for node in self.results]


class _Shaped:
    """What a mask sees of a parameter: shape, dtype and ndim, no values."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)
