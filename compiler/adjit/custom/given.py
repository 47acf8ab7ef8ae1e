"""What a function and its rules gave: pytrees of arrays and numbers, which must fit each other.

Errors name the rule and the leaf, and point at the rule's return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import optree

from adjit.ir.types import Array, is_float
from adjit.trace import Tracer, is_tracer, lower
from adjit.trace.promote import type_of
from adjit.trace.returned import returned
from adjit_runtime import checks
from adjit_runtime.errors import AdjitError, ArgumentError, DTypeError, ShapeError
from adjit_runtime.guests import NAMESPACE, tree_flatten

E = TypeVar("E", bound=AdjitError)


class Given:
    """What one function gave; `what` is what errors call it: "the jvp rule of f"."""

    def __init__(self, what: str, function: Callable[..., Any]) -> None:
        self._what, self._function = what, function

    def error(self, kind: type[E], text: str) -> E:
        """An error that points at the function's return."""
        return returned(kind, self._function, f"custom_rule: {self._what} {text}")

    def pair(self, result: Any, second: str) -> tuple[Any, Any]:
        """(value, second) of what a rule gave."""
        if type(result) is tuple and len(result) == 2:
            return result
        shown = checks.kind(result) + (f" of {len(result)}" if isinstance(result, tuple | list | dict) else "")
        hint = " (a return is missing?)" if result is None else ""
        raise self.error(ArgumentError, f"returns (value, {second}), not {shown}{hint}")

    def leaves(self, value: Any, root: str) -> tuple[list[Any], optree.PyTreeSpec]:
        """The leaves of a pytree of arrays and numbers, and its structure."""
        try:
            leaves, spec = tree_flatten(value)
        except RecursionError:
            raise self.error(ArgumentError, f"gives {root} nested too deep, or holding itself") from None
        for i, leaf in enumerate(leaves):
            if not is_tracer(leaf) and not isinstance(leaf, bool | int | float | np.generic | np.ndarray):
                path = spec.accessors()[i].codify(root)
                raise self.error(
                    ArgumentError, f"gives {path} as {checks.shown(leaf)}, which is no array and no number"
                )
        return leaves, spec

    def values(self, value: Any, types: Sequence[Array], tree: optree.PyTreeSpec) -> list[Tracer]:
        """The leaves of a value, in the types that the function gives."""
        leaves, spec = self.leaves(value, "value")
        if spec != tree:
            raise self.error(
                ArgumentError, f"gives a value of the structure {shown(spec)}, and the function {shown(tree)}"
            )
        paths = [accessor.codify("value") for accessor in spec.accessors()]
        return [
            self._fitted(leaf, type, path, f"the function gives {type.strong}")
            for leaf, type, path in zip(leaves, types, paths, strict=True)
        ]

    def changes(
        self, given: Any, types: Sequence[Array | None], tree: optree.PyTreeSpec, root: str, of: str
    ) -> list[Tracer]:
        """For each float among the leaves `types` of a tree, what was given for it; None stands for zeros."""
        found = []
        leaves = self._along(given, tree, root, of)
        paths = [accessor.codify(root) for accessor in tree.accessors()]
        for leaf, type, path in zip(leaves, types, paths, strict=True):
            if type is None or not is_float(type.dtype):
                continue
            if leaf is None:
                found.append(lower.full(0.0, type.shape, type.dtype))
            else:
                self.leaves(leaf, path)
                found.append(self._fitted(leaf, type.strong, path, f"{of} is {type.strong}", ": None stands for zeros"))
        return found

    def _along(self, given: Any, tree: optree.PyTreeSpec, root: str, of: str) -> list[Any]:
        """What was given for each leaf of a tree; None stands for all of a branch."""
        full: Any = optree.tree_unflatten(tree, range(tree.num_leaves))
        try:
            # Dataclasses become trees here.
            tree_flatten(given)
            leaves = optree.tree_leaves(given, none_is_leaf=True, namespace=NAMESPACE)
            spread = optree.broadcast_prefix(given, full, none_is_leaf=True, namespace=NAMESPACE)
        except (ValueError, RecursionError):
            leaves, spread = [0], []
        places = optree.tree_leaves(full, none_is_leaf=True, namespace=NAMESPACE)
        some = sum(leaf is not None for leaf in leaves)
        if some != sum(leaf is not None for leaf in spread):
            written = _structure(given)
            raise self.error(
                ArgumentError, f"gives {root} of the structure {written}, and that of {of} is {shown(tree)}"
            )
        return [leaf for leaf, place in zip(spread, places, strict=True) if place is not None]

    def _fitted(self, leaf: Any, wanted: Array, path: str, where: str, instead: str = "") -> Tracer:
        """A leaf in the type that is wanted; `instead` is what to write where it is a number for an array."""
        found = type_of(leaf)
        if found.shape != wanted.shape:
            hint = instead if found.weak else ""
            raise self.error(ShapeError, f"gives {path} as {_type(found)}, and {where}{hint}")
        if found.dtype != wanted.dtype and not found.weak:
            raise self.error(DTypeError, f"gives {path} as {found}, and {where}: write .astype(np.{wanted.dtype.name})")
        if found.weak and np.result_type(lower.dtype_of(leaf), wanted.dtype).kind != wanted.dtype.kind:
            raise self.error(DTypeError, f"gives {path} as {_type(found)}, and {where}")
        return lower.convert(leaf, wanted.dtype, wanted.shape, wanted.weak)


def _type(type: Array) -> str:
    if not type.weak:
        return str(type)
    return f"a Python {({'b': 'bool', 'i': 'int', 'f': 'float'})[type.dtype.kind]}"


def _structure(value: Any) -> str:
    try:
        return shown(tree_flatten(value)[1])
    except RecursionError:
        return checks.kind(value)


def shown(tree: optree.PyTreeSpec) -> str:
    """A structure with stars for its leaves."""
    text = str(tree).removeprefix("PyTreeSpec(").removesuffix(")").partition(", namespace=")[0]
    return text if len(text) <= 100 else text[:97] + "..."
