"""Arguments as leaves: pytrees, the types of leaves, and the signature that a compiled program belongs to.

The containers in which a state shows its arrays count as plain ones, so that `predict(params, x)` and
`predict(state.params, x)` are one signature.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree

from adjit_runtime.checks import computes_plainly, own_class, own_rules, shown
from adjit_runtime.errors import ArgumentError, DTypeError
from adjit_runtime.guests import NAMESPACE, sameness, tree_flatten
from adjit_runtime.program import is_narrow

DTYPES = frozenset(map(np.dtype, ("bool", "int32", "int64", "uint8", "uint64", "float32", "float64")))
"""The dtypes that machine code exists for; arguments may have those of `program.WIDE`, too, and are cast."""

_PYTHON = {float: np.dtype(np.float64), int: np.dtype(np.int64), bool: np.dtype(np.bool_)}
_SHORT = {f"{kind}{bits}": f"{kind[0]}{bits}" for kind in ("float", "int", "uint") for bits in (8, 16, 32, 64)}


MOST_SIGNATURES = 256
"""Signatures of which a function, and a state, keep what was made for them."""

_PLAIN: dict[optree.PyTreeSpec, optree.PyTreeSpec] = {}


def flatten(tree: Any) -> tuple[list[Any], optree.PyTreeSpec]:
    """The leaves of a pytree and its structure, in which a state's own containers are plain ones."""
    try:
        leaves, spec = tree_flatten(tree)
    except RecursionError:
        raise ArgumentError("a tree of arguments or parameters is nested too deep, or holds itself") from None
    plain = _PLAIN.get(spec)
    if plain is None:
        # Unflattening gives plain containers, whose leaves have the same order.
        plain = optree.tree_structure(optree.tree_unflatten(spec, leaves), namespace=NAMESPACE)
        if len(_PLAIN) > 10_000:
            _PLAIN.clear()
        _PLAIN[spec] = plain
    return leaves, plain


def leaf_names(spec: optree.PyTreeSpec, root: str) -> list[str]:
    """A name for each leaf, such as `params.w1`, `layers.0.w`; no two are equal."""
    return numbered(".".join([root, *map(str, path)]) for path in spec.paths())


def numbered(names: Iterable[str]) -> list[str]:
    """The names, with numbers at those that were there before: paths may read alike, such as those of
    `{"a.b": x, "a": {"b": y}}` and of the keys 1 and "1"."""
    found: dict[str, int] = {}
    for plain in names:
        name = plain
        while name in found:
            found[plain] += 1
            name = f"{plain}#{found[plain]}"
        found[name] = 1
    return list(found)


@dataclass(frozen=True, slots=True)
class LeafType:
    """dtype and shape of a leaf; `weak` marks a Python number, `is_array` an array without dimensions, which is another
    value for Python than a NumPy scalar."""

    dtype: np.dtype
    shape: tuple[int, ...] = ()
    weak: bool = False
    is_array: bool = False

    def __str__(self) -> str:
        name = _SHORT.get(self.dtype.name, self.dtype.name)
        mark = "~" if self.weak else " (an array)" if self.is_array else ""
        return f"{name}[{','.join(map(str, self.shape))}]{mark}"


_NUMBERS = {dtype.num: dtype for dtype in DTYPES}


def known_dtype(x: Any) -> np.dtype | None:
    """The dtype of a plain array of one of `DTYPES` in native byte order; None for anything else, which `leaf_type` may
    still know."""
    return _NUMBERS.get(x.dtype.num) if type(x) is np.ndarray and x.dtype.isnative else None


def leaf_type(x: Any, name: object) -> LeafType:
    """The type of an argument's leaf; raises ArgumentError or DTypeError, naming it."""
    if isinstance(x, np.ndarray | np.generic):
        if isinstance(x, np.ndarray) and not computes_plainly(x):
            raise ArgumentError(f"{name}: {own_rules(x)}")
        dtype = x.dtype.newbyteorder("=")
        if dtype not in DTYPES and not is_narrow(dtype):
            known = "bool, an integer type, float16, float32, float64"
            raise DTypeError(f"{name}: no code exists for {x.dtype}; convert it with astype to one of {known}")
        return LeafType(np.dtype(dtype.name), x.shape, is_array=not x.shape and isinstance(x, np.ndarray))
    if type(x) in _PYTHON:
        if type(x) is int and not -(2**63) <= x < 2**63:
            raise ArgumentError(f"{name}: {shown(x)} does not fit int64")
        return LeafType(_PYTHON[type(x)], (), True)
    if type(x) is str or callable(x):
        raise ArgumentError(
            f"{name}: {shown(x)} is no array; name the argument in static_argnames if the code should depend on it"
        )
    instead = "x.to_numpy()" if hasattr(x, "to_numpy") else "np.asarray(x)" if hasattr(x, "__array__") else ""
    raise ArgumentError(
        f"{name}: {type(x).__module__}.{type(x).__qualname__} is no array, number or pytree of them"
        + (f": write {instead}, of one dtype" if instead else _of_own_class(x))
    )


def _of_own_class(x: Any) -> str:
    made = own_class(x)
    return made and f"{made}; or name the argument in static_argnames, if its attributes are not to be traced"


def as_array(x: Any, dtype: np.dtype) -> np.ndarray:
    """A leaf as machine code takes it: C-ordered, aligned, native byte order; copied where it is not."""
    if type(x) is np.ndarray and x.dtype == dtype and x.flags.c_contiguous and x.flags.aligned:
        return x
    array = np.asarray(x, dtype=dtype, order="C")
    return array if array.flags.aligned else array.copy()


class Static:
    """A static argument. Two are equal where value and type are, at every depth of tuples, sets, ranges and frozen
    dataclasses: 1, 1.0, True and np.float64(1.0) are four, 0.0 and -0.0 two, and NaN is itself."""

    __slots__ = ("_key", "name", "value")

    def __init__(self, name: str, value: Any) -> None:
        self.name = name
        self.value = value
        self._key = (name, sameness(value))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


@dataclass(frozen=True, slots=True)
class Signature:
    """What one compiled program is for: structure and leaf types of the arguments, values of the static ones, and for
    a step the layout of its state, which is one object for all states that are laid out alike."""

    tree: optree.PyTreeSpec
    types: tuple[LeafType, ...]
    statics: tuple[Static, ...] = ()
    layout: Any = None

    def describe(self, names: Sequence[str]) -> str:
        """`x: f32[4,2], n=3`."""
        dynamic = [f"{name}: {type}" for name, type in zip(names, self.types, strict=True)]
        return ", ".join(dynamic + [f"{static.name}={shown(static.value)}" for static in self.statics])
