"""What a loop carries has one type before and after a turn; what the function gave back is looked at here.

A Python number that is carried in takes the type that the body gives for it: its type is `settled` anew until nothing
changes. Errors point at the function's return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from adjit.control.call import Call, Given, Tree, flattened, problem_of, type_of_leaf
from adjit.ir.types import Array
from adjit.trace.returned import returned
from adjit.trace.values import sample
from adjit_runtime import checks
from adjit_runtime.errors import AdjitError, ArgumentError, DTypeError, ShapeError

E = TypeVar("E", bound=AdjitError)

_ORDER = "bif"
"""The kinds of Python's numbers, each of which holds those before it."""


def pair(loop: str, function: Callable[..., Any], result: Any) -> tuple[Any, Any]:
    """(carry, y) of what a function gave back."""
    if type(result) is tuple and len(result) == 2:
        return result
    what = checks.kind(result) + (f" of {len(result)}" if isinstance(result, tuple | list | dict) else "")
    raise returned(
        ArgumentError,
        function,
        f"{loop}: the function returns (carry, y), not {what}: write return carry, y; or return carry, None where "
        "nothing is stacked",
    )


def results(call: Given, value: Any, root: str) -> Tree:
    """What a function gave, as a tree of arrays and numbers."""
    leaves, spec = flattened(call.loop, root, value)
    found = Tree(root, leaves, spec)
    for leaf in leaves:
        problem = problem_of(leaf)
        if problem:
            path = found.paths[next(i for i, other in enumerate(leaves) if other is leaf)]
            raise error(call, ArgumentError, f"{path} is {problem}")
    return found


def settled(call: Call, types: Sequence[Array], after: Tree) -> list[Array]:
    """The types that a carry of `types` must have, where a turn gives `after`: its own, or wider ones for Python's
    numbers. Raises ArgumentError for another structure, ShapeError and DTypeError for a leaf that changes."""
    if after.spec != call.init.spec:
        raise _structure(call, after)
    found = []
    for before, leaf, path in zip(types, after.leaves, after.paths, strict=True):
        now = type_of_leaf(leaf)
        if before.shape != now.shape:
            raise error(call, ShapeError, _changed(path, before, now) + _of_shape(before, now))
        wanted = _settled(before, now)
        if wanted is None:
            raise error(call, DTypeError, _changed(path, before, now) + _of_dtype(before, now))
        found.append(wanted)
    return found


def settled_later(call: Call, types: Sequence[Array], after: Tree) -> list[Array]:
    """The same for a later turn, of a side of Python's own control flow that no turn took before. Raises DTypeError
    where that is another kind of number for one of Python's."""
    found = settled(call, types, after)
    for before, wanted, leaf, path in zip(types, found, after.leaves, after.paths, strict=True):
        if before.dtype.kind != wanted.dtype.kind:
            now = type_of_leaf(leaf)
            raise error(call, DTypeError, _changed(path, before, now) + _of_dtype(before, now))
    return found


def _settled(before: Array, now: Array) -> Array | None:
    """The type for a value that was `before` and is `now`; None where it changes."""
    if before == now or (before.weak and now.weak):
        return common(before, now)
    if not before.weak and not now.weak:
        return None
    dtype = np.result_type(_operand(before), _operand(now))
    # What is no number of Python keeps its dtype beside one; a number of Python takes the dtype that it meets.
    return Array(dtype, before.shape) if before.weak or dtype == before.dtype else None


def common(x: Array, y: Array) -> Array | None:
    """The type of one shape that holds both, where a number of Python takes the dtype of what is none; None where there
    is no such type."""
    if x == y:
        return x
    if x.weak and y.weak:
        return max(x, y, key=lambda type: _ORDER.index(type.dtype.kind)) if _are_ordered(x, y) else None
    if not x.weak and not y.weak:
        return None
    strong = y if x.weak else x
    return strong if np.result_type(_operand(x), _operand(y)) == strong.dtype else None


def _are_ordered(*types: Array) -> bool:
    return {type.dtype.kind for type in types} <= set(_ORDER)


def _operand(type: Array) -> Any:
    return 0j if type.dtype.kind == "c" and type.weak else sample(type)


def check_same(call: Call, turn: int, first: Tree, found: Tree) -> None:
    """Raise where a turn stacks something else than the first one."""
    if found.spec != first.spec:
        raise error(
            call,
            ArgumentError,
            f"y is {shown(first)} in the first turn and {shown(found)} in turn {turn}; what is stacked has one "
            "structure",
        )
    for a, b, path in zip(first.leaves, found.leaves, first.paths, strict=True):
        before, now = type_of_leaf(a).strong, type_of_leaf(b).strong
        if before != now:
            raise error(
                call,
                ShapeError if before.shape != now.shape else DTypeError,
                f"{path} is {before} in the first turn and {now} in turn {turn}; what is stacked has one type",
            )


def error(call: Given, kind: type[E], message: str) -> E:
    """An error about what a function gave back."""
    return returned(kind, call.function, f"{call.loop}: {message}")


def _changed(path: str, before: Array, now: Array) -> str:
    return f"{path} is {named(before)} before a turn of the loop and {named(now)} after it; a carry keeps its type: "


def _of_shape(before: Array, now: Array) -> str:
    if not before.shape:
        return f"start with an array, np.zeros({now.shape}), or return its sum or an element"
    return (
        "give what grows back as y, or carry an array of the full size and write into it"
        if len(before.shape) == len(now.shape)
        else f"start with an array of shape {now.shape}, or return one of shape {before.shape}"
    )


def _of_dtype(before: Array, now: Array) -> str:
    scalar = now.weak or not now.shape
    cast = f"return np.{before.dtype.name}(value)" if scalar else f"return x.astype(np.{before.dtype.name})"
    return f"start with {now.dtype.name}, or {cast}"


def named(type: Array) -> str:
    """A type as users read it."""
    if not type.weak:
        return str(type)
    return f"a Python {({'b': 'bool', 'i': 'int', 'f': 'float'}).get(type.dtype.kind, 'complex')}"


def _structure(call: Call, after: Tree) -> ArgumentError:
    before, now = call.init.paths, after.paths
    lost = [path for path in before if path not in now]
    new = [path for path in now if path not in before]
    notes = [f"{path} is missing" for path in lost[:1]] + [f"{path} is new" for path in new[:1]]
    what = f" ({', '.join(notes)})" if notes and not (call.init.spec.is_leaf() or after.spec.is_leaf()) else ""
    if shown(after) == "None":
        what = " (a return is missing in the body?)"
    return error(
        call,
        ArgumentError,
        f"carry is {shown(call.init)} before a turn of the loop and {shown(after)} after it{what}; a carry keeps its "
        "structure: return what is in init, in the same dicts, lists and tuples",
    )


def shown(tree: Tree) -> str:
    """A structure with stars for its leaves."""
    text = str(tree.spec).removeprefix("PyTreeSpec(").removesuffix(")").removesuffix(", namespace='adjit'")
    return text if len(text) <= 100 else text[:97] + "..."
