"""Shown: a pytree of a state in users' hands, in which assignments are found that no container could refuse.

Containers of classes that are registered with optree take `state.params.w = array` without a word. As long as someone
else refers to a container of such a tree, the state looks before each use whether a view was replaced: `changes` says
what stands in its place, and `perform` puts the view back and copies the values into it.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import sys
from collections.abc import Callable, Iterator, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np
import optree

from adjit_runtime.containers import READ_ONLY, children_of, read_only
from adjit_runtime.errors import StateError
from adjit_runtime.guests import NAMESPACE

Change = tuple[int, Any, np.ndarray]
"""Number of a leaf, what stands in its place, and that as an array of the leaf's type."""


class Shown:
    """One pytree of a state as users see it, with `leaves`, which are views.

    `mutable` says whether a container of it may be given other leaves, `lost` that something was assigned which
    could not be performed."""

    def __init__(self, spec: optree.PyTreeSpec, leaves: Sequence[np.ndarray], names: Sequence[str]) -> None:
        # Views of views: a user who sets the shape of one does not set that of the state's.
        self.leaves = [leaf.view() for leaf in leaves]
        self.names = names
        self.lost = False
        self._spec = spec
        # No local name may refer to the tree when references are counted.
        self.tree = read_only(optree.tree_unflatten(spec, self.leaves))
        self._shown_spec = optree.tree_structure(self.tree, namespace=NAMESPACE)
        self._nodes: list[Any] = []
        self._mutable: list[tuple[Any, list[Any]]] = []
        self._collect()
        self.mutable = bool(self._mutable)
        self._counts = self._references()

    def _collect(self) -> None:
        """Find all containers, and with their children those that may be given others."""
        waiting = [self.tree]
        while waiting:
            node = waiting.pop()
            children = children_of(node)
            # There is one empty tuple, which everyone refers to.
            if children is None or node is None or (type(node) is tuple and not node):
                continue
            self._nodes.append(node)
            if not _is_fixed(node, children):
                self._mutable.append((node, children))
            waiting += children

    def _references(self) -> list[int]:
        return [sys.getrefcount(node) for node in self._nodes]

    def held(self) -> bool:
        """Whether anyone but the state refers to a container of the tree, and so may assign to it."""
        return self._references() != self._counts

    def changes(self) -> list[Change]:
        """What was put in the place of leaves. Raises StateError where the tree has another form by now, or a value
        does not fit."""
        leaves, spec = optree.tree_flatten(self.tree, namespace=NAMESPACE)
        if spec == self._shown_spec and all(map(operator.is_, leaves, self.leaves)):
            return []
        plain = optree.tree_structure(optree.tree_unflatten(spec, leaves), namespace=NAMESPACE)
        if plain != self._spec:
            raise self._undone(
                f"{self.names[0].partition('.')[0]}: a container of the state was given another form: it was "
                f"{self._spec}, and became {plain}"
            )
        found = [i for i, (leaf, kept) in enumerate(zip(leaves, self.leaves, strict=True)) if leaf is not kept]
        return [(i, leaves[i], self._fitting(i, leaves[i])) for i in found]

    def _fitting(self, i: int, value: Any) -> np.ndarray:
        kept = self.leaves[i]
        given = np.asarray(value)
        if given.shape == kept.shape and np.can_cast(given.dtype, kept.dtype, "same_kind"):
            # A copy: the value may be a view of the state, such as another parameter.
            return given.astype(kept.dtype, copy=True)
        raise self._undone(
            f"{self.names[i]}: {given.dtype}{list(given.shape)} was put in the place of {kept.dtype}{list(kept.shape)}"
        )

    def perform(self, changes: Sequence[Change]) -> None:
        """Put the views back into their containers, and the new values into them. Raises StateError, before anything of
        the state is written, where a container does not take its own view back."""
        for node, children in self._mutable:
            for place, (kept, found) in enumerate(zip(children, children_of(node) or (), strict=False)):
                if found is not kept:
                    _put_back(node, found, kept, functools.partial(_child, node, place))
        # A class that makes new containers of its arrays whenever it is flattened has only the arrays to be put back.
        for i, value, _ in changes:
            for node, _ in self._mutable:
                if self._now(i) is not self.leaves[i]:
                    _put_back(node, value, self.leaves[i], functools.partial(self._now, i))
            if self._now(i) is not self.leaves[i]:
                raise self._undone(
                    f"{self.names[i]}: another array was put in its place, in a container that does not take the "
                    "state's own back"
                )
        for i, _, values in changes:
            self.leaves[i][...] = values

    def _now(self, i: int) -> Any:
        return optree.tree_leaves(self.tree, namespace=NAMESPACE)[i]

    def _undone(self, what: str) -> StateError:
        self.lost = True
        return StateError(
            f"{what}. The state goes on without it, and state.params gives its containers anew; write new values into "
            "an array, state.params[key][...] = array"
        )


def _child(node: Any, place: int) -> Any:
    return (children_of(node) or ())[place]


def _is_fixed(node: Any, children: Sequence[Any]) -> bool:
    """Whether a container cannot get other children: they are its items or fields, which Python keeps."""
    if isinstance(node, READ_ONLY):
        return True
    if isinstance(node, tuple):
        kept = list(node)
    elif getattr(getattr(node, "__dataclass_params__", None), "frozen", False):
        kept = [getattr(node, field.name) for field in dataclasses.fields(node)]
    else:
        return False
    known = {id(value) for value in kept}
    return all(id(child) in known for child in children)


def _put_back(node: Any, found: Any, kept: Any, now: Callable[[], Any]) -> None:
    """Put `kept` where `found` stands in a container. That may be several places; `now` gives what is seen through the
    right one."""
    for put in _places(node, found):
        put(kept)
        if now() is kept:
            return
        put(found)


def _places(node: Any, value: Any) -> Iterator[Callable[[Any], None]]:
    """Setters of the attributes and items of a container, and of the items of dicts and lists in its attributes, where
    a value stands."""
    slots = [name for cls in type(node).__mro__ for name in _slots(cls)]
    attributes = [(name, getattr(node, name, None)) for name in [*getattr(node, "__dict__", {}), *slots]]
    for name, kept in attributes:
        if kept is value:
            yield functools.partial(setattr, node, name)
    for holder in [node, *(kept for _, kept in attributes)]:
        for key in _keys(holder, value):
            yield functools.partial(holder.__setitem__, key)


def _keys(holder: Any, value: Any) -> list[Any]:
    """Where a value stands in a container that takes items."""
    if isinstance(holder, READ_ONLY):
        return []
    if isinstance(holder, MutableMapping):
        return [key for key, kept in holder.items() if kept is value]
    if isinstance(holder, MutableSequence):
        return [i for i, kept in enumerate(holder) if kept is value]
    return []


def _slots(cls: type) -> list[str]:
    slots = cls.__dict__.get("__slots__", ())
    return [slots] if isinstance(slots, str) else list(slots)
