"""Arguments of classes that others wrote: which become nodes of our pytrees, and which stand for an array.

Dataclasses are nodes whose children are their fields, and classes that are registered with optree in any namespace are
what they were registered as; both in our own namespace alone, so that nobody else's tree functions change. An
`array.array`, a Series and a DataFrame of one dtype are taken as the arrays of their values.
"""

from __future__ import annotations

import array
import enum
import inspect
from collections.abc import Callable, Iterable
from dataclasses import Field, fields, is_dataclass
from decimal import Decimal
from types import BuiltinFunctionType, FunctionType, MemberDescriptorType
from typing import Any

import numpy as np
import optree

from adjit_runtime.errors import ArgumentError, ShapeError

NAMESPACE = "adjit"
_ARRAYS = {np.ndarray, np.memmap, float, int, bool, *(np.dtype(code).type for code in "?bBhHiIlLqQefd")}
"""Classes of leaves that are what they seem."""


def tree_flatten(tree: Any) -> tuple[list[Any], optree.PyTreeSpec]:
    """The leaves of a pytree and its structure; a RecursionError for one that holds itself."""
    leaves, spec = optree.tree_flatten(tree, namespace=NAMESPACE)
    if _ARRAYS.issuperset(map(type, leaves)):
        return leaves, spec
    if any(_adopted(kind) for kind in {type(leaf) for leaf in leaves} - _ARRAYS):
        return tree_flatten(tree)
    return [_as_array(leaf) for leaf in leaves], spec


_NUMBERS = {float, int, bool}


def rows(what: str, x: Any) -> Any:
    """A list of numbers, or of lists of them, as the array that it stands for among arrays with rows; else `x`."""
    if type(x) is not list or not _are_numbers(x, 0):
        return x
    try:
        return np.array(x)
    except ValueError as error:
        raise ShapeError(f"{what}: a list of lists is no array: {error}") from None


def _are_numbers(x: Any, depth: int) -> bool:
    """Whether there are numbers alone in nested lists, and some."""
    if type(x) is list and depth < _MOST_DIMENSIONS:
        return len(x) > 0 and all(_are_numbers(item, depth + 1) for item in x)
    return type(x) in _NUMBERS


_MOST_DIMENSIONS = 64


def tree_map(function: Callable[[Any], Any], tree: Any) -> Any:
    """A pytree with the results of a function in place of its leaves."""
    leaves, spec = tree_flatten(tree)
    return optree.tree_unflatten(spec, [function(leaf) for leaf in leaves])


def tree_structure(tree: Any) -> optree.PyTreeSpec:
    """The structure of a pytree."""
    return tree_flatten(tree)[1]


def sameness(value: Any) -> Any:
    """What is equal where two values are the same: the text tells zeros, NaN and Decimals apart as == does not."""
    kind = type(value)
    if kind in (float, complex, Decimal) or isinstance(value, np.generic):
        return kind, repr(value)
    if isinstance(value, tuple | frozenset):
        parts = map(sameness, value)
        items = tuple(parts) if isinstance(value, tuple) else frozenset(parts)
        # A subclass may hold more than its items.
        return (kind, items) if kind in (tuple, frozenset) else (kind, items, value)
    if kind is range:
        return kind, value.start, value.stop, value.step
    if is_dataclass(value) and not isinstance(value, type):
        return kind, value, tuple(sameness(getattr(value, field.name)) for field in fields(value) if field.compare)
    return kind, value


def is_told_by_equality(value: Any) -> bool:
    """Whether another value of the class that is equal is the same."""
    told = sameness(value)
    return len(told) == 2 and told[1] is value


_SETTLED = {type(None), bool, int, float, complex, Decimal, str, bytes, range, FunctionType, BuiltinFunctionType}


def is_settled(value: Any) -> bool:
    """Whether an object stays the same value, as it cannot be changed, or whatever becomes of it."""
    kind = type(value)
    if kind in _SETTLED or isinstance(value, enum.Enum | np.generic | np.dtype | np.ufunc | type):
        return True
    if isinstance(value, tuple | frozenset):
        return all(map(is_settled, value))
    if is_dataclass(value):
        frozen: bool = getattr(value, "__dataclass_params__").frozen  # noqa: B009 - no class declares it
        return frozen and all(is_settled(getattr(value, field.name)) for field in fields(value) if field.compare)
    own: object = kind.__hash__
    return own is object.__hash__


# -- classes as nodes -------------------------------------------------------------------------------------------------


def _adopted(kind: type) -> bool:
    """Whether a class whose instances were leaves is a node from now on."""
    known = _registered(kind)
    if known is not None:
        flatten, unflatten = known.flatten_func, known.unflatten_func
    elif is_dataclass(kind):
        node = _Dataclass(kind)
        flatten, unflatten = node.flatten, node.unflatten
    else:
        return False
    try:
        optree.register_pytree_node(kind, flatten, unflatten, namespace=NAMESPACE)
    except ValueError:
        # Another thread was faster.
        return True
    return True


def _registered(kind: type) -> Any:
    """How optree knows a class in the first other namespace that has it; None where none has."""
    registry: dict[Any, Any] = optree.registry._NODETYPE_REGISTRY
    found = (entry for entry in list(registry.values()) if entry.type is kind)
    return next(found, None)


class _Fixed:
    """The fields of a dataclass that are no arrays: a part of the structure. A TypeError for values without a hash."""

    __slots__ = ("_hash", "_key", "values")

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self._key = tuple((name, sameness(value)) for name, value in values.items())
        # optree asks for no hash: an object that was changed since would equal itself.
        self._hash = hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Fixed) and self._hash == other._hash and self._key == other._key

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return repr(self.values)


class _Dataclass:
    """A class whose nodes are made of their fields."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.fields: tuple[Field[Any], ...] = fields(kind)

    def parts(self, node: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The children, and what is fixed; a field that was deleted, or that only __init__ takes, is not there."""
        children: dict[str, Any] = {}
        fixed: dict[str, Any] = {}
        for field in self.fields:
            if hasattr(node, field.name):
                value = getattr(node, field.name)
                (fixed if _is_fixed(field, value) else children)[field.name] = value
        return children, fixed

    def flatten(self, node: Any) -> tuple[list[Any], tuple[tuple[str, ...], _Fixed], tuple[str, ...]]:
        """What optree asks of a node: children, the rest, and the names of the children."""
        children, fixed = self.parts(node)
        names = tuple(children)
        return list(children.values()), (names, _fixed(self.kind, fixed)), names

    def unflatten(self, form: tuple[tuple[str, ...], _Fixed], children: Iterable[Any]) -> Any:
        """A node of such children."""
        names, kept = form
        # Not by __init__, which may look at values, and which may take other things than the fields.
        made = object.__new__(self.kind)
        for name, value in (*zip(names, children, strict=True), *kept.values.items()):
            object.__setattr__(made, name, value)
        return made

    def sets_plainly(self) -> bool:
        """Whether no code of the class's runs where a field is set."""
        found = (inspect.getattr_static(self.kind, field.name, None) for field in self.fields)
        return all(isinstance(x, MemberDescriptorType) or not hasattr(type(x), "__set__") for x in found)


def _registered_dataclass(kind: type) -> _Dataclass | Callable[[Any], Any] | None:
    """How a dataclass was registered: by us, or by optree (its function that flattens); None for any other way."""
    known = optree.register_pytree_node.get(kind, namespace=NAMESPACE) if is_dataclass(kind) else None
    flatten: Any = getattr(known, "flatten_func", None)
    node = getattr(flatten, "__self__", None)
    if isinstance(node, _Dataclass):
        return node
    return flatten if getattr(flatten, "__module__", "") == "optree.dataclasses" else None


def attributes_of(x: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The children of a dataclass, and what is fixed in it, by the names of its attributes; None for what is a node in
    another way or a leaf, and where a field is not there, with which it would be another tree."""
    node = _registered_dataclass(type(x))
    if isinstance(node, _Dataclass):
        children, fixed = node.parts(x)
        return (children, fixed) if len(children) + len(fixed) == len(node.fields) else None
    if node is None:
        return None
    values, others, names = node(x)
    return dict(zip(names, values, strict=True)), dict(others)


def maker_of(kind: Any) -> Callable[..., Any] | None:
    """What makes a dataclass of its fields: `object.__new__`, after which they are set as attributes, or the class
    itself, which takes them as keywords and has no others; None where only optree knows."""
    node = _registered_dataclass(kind)
    if isinstance(node, _Dataclass):
        return object.__new__ if node.sets_plainly() else None
    if node is None or getattr(kind, "__optree_dataclass_fields__", (0, 1))[1]:
        return None
    made: Callable[..., Any] = kind
    return made


_TEXTS = (str, bytes, enum.Enum, type, FunctionType, BuiltinFunctionType, np.ufunc, np.dtype)


def _is_fixed(field: Field[Any], value: Any) -> bool:
    """Whether a field is no child: as it says itself (as for optree, Flax or JAX), or because it can be no array."""
    if field.metadata.get("static", False) or not field.metadata.get("pytree_node", True):
        return True
    return isinstance(value, _TEXTS)


def _fixed(kind: type, values: dict[str, Any]) -> _Fixed:
    try:
        return _Fixed(values)
    except TypeError:
        raise ArgumentError(
            f"{kind.__qualname__}: the static fields {', '.join(values)} need values with a hash: a tuple, a number or "
            "a string"
        ) from None


# -- what stands for an array -----------------------------------------------------------------------------------------


def _as_array(leaf: Any) -> Any:
    """The array that a leaf stands for; the leaf where it stands for none."""
    if type(leaf) is array.array and leaf.typecode not in "uw":
        return np.asarray(leaf)
    # Classes that are made at run time may have no module.
    if str(type(leaf).__module__).partition(".")[0] == "pandas" and len(set(_dtypes(leaf))) == 1:
        return leaf.to_numpy()
    return leaf


def _dtypes(leaf: Any) -> list[Any]:
    """The dtypes of a DataFrame's columns, or the one of a Series or an Index."""
    dtypes: Any = getattr(leaf, "dtypes", None)
    return list(dtypes) if isinstance(getattr(leaf, "columns", None), Iterable) else [dtypes]
