"""One call of a loop, checked: the pytrees as leaves, how many turns there are, and how the user's function is called.

What is wrong with the arguments is an error here, in a trace and outside of one alike: it names the leaf as Python
writes it, `xs['a'][0]`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import optree

from adjit.control.kept import Kept
from adjit.ir.node import Node
from adjit.ir.types import Array
from adjit.trace import Tracer, is_tracer
from adjit.trace.promote import type_of
from adjit.trace.refuse import located
from adjit.trace.tracer import plain_of
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, ShapeError
from adjit_runtime.guests import tree_flatten

Turn = Callable[[Any, Any], tuple[Any, Any]]
"""A turn of a loop: from the carry and an element to the carry and what is stacked."""


@dataclass(frozen=True, eq=False, slots=True)
class Tree:
    """A pytree as its leaves, the structure, and each leaf's place as Python writes it after `root`."""

    root: str
    leaves: list[Any]
    spec: optree.PyTreeSpec

    @property
    def paths(self) -> list[str]:
        """The place of each leaf: `carry['h'][0]`."""
        return [accessor.codify(self.root) for accessor in self.spec.accessors()]

    @property
    def names(self) -> list[str]:
        """A name for each leaf: `carry.h.0`."""
        return [".".join([self.root, *map(str, path)]) for path in self.spec.paths()]

    def at(self, root: str) -> Tree:
        """The same with places after another root."""
        return replace(self, root=root)

    def of(self, leaves: Sequence[Any]) -> Any:
        """A pytree of this structure with other leaves."""
        return optree.tree_unflatten(self.spec, leaves)


class Given(Protocol):
    """A function that users gave for a body: `loop` is what they called with it."""

    @property
    def loop(self) -> str:
        """The name of what users called."""

    @property
    def function(self) -> Callable[..., Any]:
        """What they gave."""


@dataclass(frozen=True, eq=False, slots=True)
class Call:
    """`loop` is what users call, `function` what they gave it, `turn` how it is called.

    Elements are parts of the leaves of `xs`, or where there is a `counter` its integers. Where `count` makes a node, it
    says how many of the turns run; `first` is then the first integer of a counter that is not known. `goes_on(carry)`
    says whether there is another turn. `kept` is what a gradient keeps, where that was said."""

    loop: str
    function: Callable[..., Any]
    turn: Turn
    init: Tree
    xs: Tree
    length: int
    reverse: bool = False
    counter: range | None = None
    count: Callable[[], Node] | None = None
    first: int | Tracer | None = None
    limits: tuple[int, int] | None = None
    goes_on: Callable[[Any], bool | Tracer] | None = None
    kept: Kept | None = None


def tree(loop: str, root: str, value: Any) -> Tree:
    """A pytree of arrays and numbers."""
    leaves, spec = flattened(loop, root, value)
    found = Tree(root, leaves, spec)
    for leaf, path in zip(leaves, found.paths, strict=True):
        problem = problem_of(leaf)
        if problem:
            raise located(ArgumentError, f"{loop}: {path} is {problem}")
    return found


def flattened(loop: str, what: str, value: Any) -> tuple[list[Any], optree.PyTreeSpec]:
    """The leaves of a pytree and its structure."""
    try:
        return tree_flatten(value)
    except RecursionError:
        raise located(ArgumentError, f"{loop}: {what} is nested too deep, or holds itself") from None


def problem_of(leaf: Any) -> str:
    """What a leaf is that is no array and no number, and what to give instead; empty for one that is."""
    if is_tracer(leaf) or isinstance(leaf, bool | int | float | complex | np.generic):
        return ""
    if not isinstance(leaf, np.ndarray) or leaf.dtype.kind not in "biufc":
        return f"{checks.shown(leaf)}, where arrays and numbers stand in a loop{checks.own_class(leaf)}"
    if not checks.computes_plainly(leaf):
        return f"{checks.kind(leaf)}: {checks.own_rules(leaf)}"
    return ""


def plain_or_tracer(value: Any) -> Any:
    """A value; where it is a tracer of a known one, that."""
    plain = plain_of(value) if is_tracer(value) else None
    return value if plain is None else plain


def type_of_leaf(leaf: Any) -> Array:
    """The type of a leaf, of a plain complex number as well."""
    if isinstance(leaf, complex | np.complexfloating):
        return Array(np.asarray(leaf).dtype, (), type(leaf) is complex)
    return type_of(leaf)


def length_of(loop: str, xs: Tree, length: Any = None) -> int:
    """How many turns there are: the extent of the leaves along axis 0, or `length` where there are none."""
    if length is not None:
        length = checks.integer(f"{loop}: length", length, 0)
    first = None
    for leaf, path in zip(xs.leaves, xs.paths, strict=True):
        found = type_of_leaf(leaf)
        if not found.shape:
            raise located(
                ShapeError,
                f"{loop}: {path} is {'a number' if found.weak else found}, which has no axis 0 to go along; a list is "
                "a tree of its items: write np.array(list) for the array",
            )
        first = first or (path, found.shape[0])
        if found.shape[0] != first[1]:
            raise located(
                ShapeError,
                f"{loop}: {first[0]} and {path} differ along axis 0: {first[1]} and {found.shape[0]} elements",
            )
    if first is None:
        if length is None:
            instead = "an array in xs" if loop == "map" else "an array in xs, or length"
            raise located(ShapeError, f"{loop}: xs has no arrays, so the number of turns is not known: give {instead}")
        return int(length)
    if length not in (None, first[1]):
        raise located(ShapeError, f"{loop}: length is {length}, and {first[0]} has {first[1]} elements along axis 0")
    return first[1]
