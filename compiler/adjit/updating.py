"""The optimiser's part of a training step, within the trace of one: penalties and clipping, new parameters, new
moments."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree

from adjit.ir.graph import copy_node
from adjit.ir.node import Node
from adjit.optim import Optimizer
from adjit.optim.clipping import clipped
from adjit.optim.optimizer import Hyper, Mask
from adjit.optim.rules import Rule, advanced, assigned, scalars_of
from adjit.touched import Rows, rows_of
from adjit.trace import lower
from adjit.trace.tracer import fresh
from adjit_runtime.errors import ArgumentError, ShapeError
from adjit_runtime.public import late
from adjit_runtime.state import Layout
from adjit_runtime.trees import flatten

# Steps that accumulate nothing have no branches, and no need of the modules of those.
_found, _ = late({}, {"cond": "adjit.control.branches"})


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

    def rules(self, layout: Layout) -> list[Rule]:
        """The rule of each parameter."""
        return assigned(self.optimizer, layout.names[layout.parts["params"]])

    def _scalars(self, layout: Layout, state: list[Any]) -> dict[str, Any]:
        """Hyper-parameters of this step by name: numbers of the state, schedules evaluated, None for what is off."""
        tree, shared = self._tree(layout, state, "hyper"), self._tree(layout, state, "shared")
        found: dict[str, Any] = _weak(scalars_of(self.hyper, tree, shared, self._moves(state)))
        return dict.fromkeys(self.off) | found

    def _tree(self, layout: Layout, state: list[Any], part: str) -> Any:
        return optree.tree_unflatten(getattr(layout, part), state[layout.parts[part]])

    def _moves(self, state: list[Any]) -> Any:
        """How often parameters have moved."""
        return state[-1] // self.optimizer.every if self.optimizer.every > 1 else state[-1]

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
        rules = self.rules(layout)
        decayed = self._flags(layout, state, self.regularized, "regularized")
        for i in marked:
            if rules[i].frozen:
                continue
            name = layout.names[i]
            extra = next((extra for extra in ("l1", "l2", "weight_decay") if extra in self.extras and decayed[i]), None)
            if extra is not None:
                raise ArgumentError(
                    f"{self.name}: {extra} changes all rows of {name}, of which embedding(sparse=True) updates some: "
                    f"give regularized= a mask that leaves {name} out, or leave sparse=True out"
                )
            optimizer = rules[i].optimizer
            if self.optimizer.composes or not optimizer.sparse:
                around = f", {self.optimizer.composed} around it," if self.optimizer.composes else ""
                raise ArgumentError(
                    f"{self.name}: {optimizer.name}{around} with what it keeps changes all rows of {name} "
                    "in every step, of which embedding(sparse=True) updates some: take adjit.optim.sgd without "
                    "momentum or adagrad, or leave sparse=True out"
                )
            rows = rows_of(f"{self.name}: {name}", gradients[i])
            if rows is not None:
                found[i] = rows
        return found

    def penalised(self, layout: Layout, state: list[Any], value: Any, gradients: list[Any]) -> tuple[Any, list[Any]]:
        """Loss and gradients with L1 and L2."""
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
        return value, gradients

    def clipped(self, layout: Layout, state: list[Any], gradients: list[Any]) -> list[Any]:
        """The gradients, each within its bounds, then all within theirs; those that are summed up, later."""
        return gradients if self.optimizer.every > 1 else self._limited(layout, state, gradients)

    def _limited(self, layout: Layout, state: list[Any], gradients: list[Any]) -> list[Any]:
        """The gradients clipped, but those of frozen parameters, which no one reads."""
        h = self._scalars(layout, state)
        limit = h.get("clip_value")
        if limit is not None:
            gradients = [np.clip(g, -limit, limit) for g in gradients]
        moving = [i for i, rule in enumerate(self.rules(layout)) if not rule.frozen]
        if h.get("clip_norm") is not None and moving:
            scaled = dict(zip(moving, clipped([gradients[i] for i in moving], h["clip_norm"]), strict=True))
            gradients = [scaled.get(i, g) for i, g in enumerate(gradients)]
        return gradients

    def updated(
        self, layout: Layout, state: list[Any], gradients: list[Any], value: Any, tables: Mapping[int, Rows]
    ) -> tuple[list[Any], list[Any]]:
        """New parameters and new moments; new shared numbers and the new step count. Of tables some rows are new."""
        shared = self._tree(layout, state, "shared")
        params = state[layout.parts["params"]]
        kept = layout.params.flatten_up_to(self._tree(layout, state, "moments"))
        loss = _weak(value.astype(np.float64))
        if self.optimizer.every == 1:
            moved, new = self._moved(layout, state, gradients, params, kept, shared, loss, tables)
        else:
            moved, new = self._gathered(layout, state, gradients, params, kept, shared, loss)
        return moved, [*optree.tree_leaves(new), state[-1] + 1]

    def _gathered(
        self, layout: Layout, state: list[Any], gradients: list[Any], params: list[Any], kept: list[Any], shared: Any,
        loss: Any,
    ) -> tuple[list[Any], Any]:  # fmt: skip
        """What `_moved` gives in every so many steps; in the others gradients are summed up."""
        rules = self.rules(layout)
        every, mean = self.optimizer.every, self.optimizer.mean
        kept = [
            each if rule.frozen else {**each, "sum": each["sum"] + lower.cast(g, each["sum"].dtype)}
            for each, rule, g in zip(kept, rules, gradients, strict=True)
        ]
        shared = {**shared, "accumulated_loss": shared["accumulated_loss"] + loss}
        part = 1.0 / every if mean else 1.0

        def move(params: list[Any], kept: list[Any], shared: Any) -> tuple[list[Any], Any]:
            whole = [
                g if rule.frozen else each["sum"] * part for each, rule, g in zip(kept, rules, gradients, strict=True)
            ]
            loss = shared["accumulated_loss"] * part
            limited = self._limited(layout, state, whole)
            moved, new = self._moved(layout, state, limited, params, kept, shared, loss, {})
            return moved, {**new, "accumulated_loss": 0.0}

        def stay(params: list[Any], kept: list[Any], shared: Any) -> tuple[list[Any], Any]:
            return [*params, *flatten(kept)[0]], shared

        found: tuple[list[Any], Any] = _found("cond")((state[-1] + 1) % every == 0, move, stay, params, kept, shared)
        return found

    def _moved(
        self, layout: Layout, state: list[Any], gradients: list[Any], params: list[Any], kept: list[Any], before: Any,
        loss: Any, tables: Mapping[int, Rows],
    ) -> tuple[list[Any], Any]:  # fmt: skip
        """New parameters and new moments; new shared numbers."""
        h = self._scalars(layout, state)
        t = self._moves(state) + 1
        shared = advanced(self.optimizer, self.hyper, self._tree(layout, state, "hyper"), h, before, t, loss)
        shared = _weak(shared)
        rules = self.rules(layout)
        numbers = {rule: rule.numbers(h, shared, loss) for rule in dict.fromkeys(rules)}
        masks = {
            rule: {name: self._flags(layout, state, mask, name) for name, mask in rule.optimizer.masks.items()}
            for rule in numbers
        }
        decayed = self._flags(layout, state, self.regularized, "regularized")
        repeats: dict[Any, _Repeat] = {}
        new_params, new_kept = [], []
        for i, (p, g, rule) in enumerate(zip(params, gradients, rules, strict=True)):
            rows = None if rule.frozen else tables.get(i)
            own_kept = kept[i] if rows is None else self._rows_kept(rule, layout.names[i], kept[i], p, rows)
            whole = [p, *flatten(kept[i])[0]]
            p = p if rows is None else rows.of(p)
            off = {name for name, flags in masks[rule].items() if not flags[i]}
            decays = "weight_decay" in self.extras and decayed[i] and not rule.frozen
            given = [g, p, *flatten(own_kept)[0]]
            nodes = [lower.lift(x) for x in given]
            key = (rule, *(node.type for node in nodes), flatten(own_kept)[1], decays, *sorted(off))
            if key in repeats and len(set(nodes)) == len(nodes):
                new, *memory = repeats[key].on(nodes)
            else:
                first = len(lower.builder().nodes)
                decay = h["weight_decay"] if decays else None
                own = _without(numbers[rule], off)
                new, memory = self._one(layout.names[i], rule, g, own_kept, p, own, t, decay, h.get("average_decay"))
                if len(set(nodes)) == len(nodes):
                    repeats[key] = _Repeat.of(nodes, lower.builder().nodes[first:], [new, *memory])
            if rows is not None:
                new, *memory = map(rows.put, whole, [new, *memory])
            new_params.append(new)
            new_kept.extend(memory)
        return [*new_params, *new_kept], shared

    def _rows_kept(self, rule: Rule, name: str, kept: Any, p: Any, rows: Rows) -> Any:
        """What is kept for some rows of a parameter."""
        leaves, spec = flatten(kept)
        for leaf in leaves:
            if lower.shape_of(leaf)[:1] != p.shape[:1]:
                raise ArgumentError(
                    f"{rule.optimizer.name}: init keeps an array of shape {lower.shape_of(leaf)} for {name}, which has "
                    f"not a row for each of its {p.shape[0]}; embedding(sparse=True) needs that"
                )
        return optree.tree_unflatten(spec, [rows.of(leaf) for leaf in leaves])

    def _one(
        self, name: str, rule: Rule, g: Any, kept: Any, p: Any, h: Mapping[str, Any], t: Any, decay: Any, average: Any
    ) -> tuple[Any, list[Any]]:
        """The optimiser on one parameter: its new value, and the new leaves of what is kept."""
        optimizer = rule.optimizer
        own = kept["kept"] if self.optimizer.composes else kept
        result = optimizer.update(g, own, p, h, t)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise ArgumentError(f"{optimizer.name}: update returns (new parameter, new kept), not {result!r}")
        new, memory = result
        before, spec = flatten(own)
        after, again = flatten(memory)
        if spec != again:
            raise ArgumentError(f"{optimizer.name}: update keeps {again} for {name}, init made {spec}")
        fitted = functools.partial(_fitted, optimizer.name, name)
        if decay is not None:
            new = new - h["learning_rate"] * decay * p
        new = fitted(new, p)
        leaves = [fitted(x, old) for x, old in zip(after, before, strict=True)]
        if not self.optimizer.composes:
            return new, leaves
        whole = {**kept, "kept": optree.tree_unflatten(spec, leaves)}
        if average is not None:
            whole["average"] = fitted(average * kept["average"] + (1.0 - average) * new, p)
        if "sum" in kept:
            whole["sum"] = np.zeros_like(kept["sum"])
        return new, flatten(whole)[0]


def _weak(numbers: Any) -> Any:
    """Scalars, or mappings of them, as Python's numbers are: they take the dtype of arrays that they meet."""
    if isinstance(numbers, Mapping):
        return {name: _weak(number) for name, number in numbers.items()}
    return None if numbers is None else lower.weak_cast(numbers, np.dtype(np.float64))


def _without(h: Mapping[str, Any], off: Iterable[str]) -> dict[str, Any]:
    """The numbers with None for those that are off; points in a name go into a mapping."""
    found = dict(h)
    for name in off:
        first, _, rest = name.partition(".")
        found[first] = _without(found[first], [rest]) if rest and name not in found else None
    return found


def _fitted(optimizer: str, name: str, new: Any, old: Any) -> Any:
    """A new value in the dtype of the one that it replaces; the shape is the same."""
    if lower.shape_of(new) != old.shape:
        raise ShapeError(
            f"{optimizer}: the new value of {name} has shape {lower.shape_of(new)}, the old one {old.shape}"
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
