"""What plain arguments of public functions must be.

Each check gives the value in one form, or raises an AdjitError that names the argument, what was given and what is
right. Nothing is rounded, cut or guessed.

`what` names the argument, as `random.key: seed`. A traced value raises the TraceError of its own conversion.
"""

from __future__ import annotations

import functools
import math
import numbers
import operator
import re
import reprlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from adjit_runtime.errors import ArgumentError, ShapeError, WeakOverflowError

LOWEST, HIGHEST = -(2**63), 2**63 - 1
"""The range of int64."""

F = TypeVar("F", bound=Callable[..., Any])


def shown(value: object) -> str:
    """A value as an error shows it: short, on one line, and never an error of its own."""
    try:
        text = reprlib.repr(value)
    except Exception:
        text = "?"
    if isinstance(value, np.ndarray):
        text = f"an array {value.dtype}{list(value.shape)}"
    return " ".join(text.split()) if len(text) <= 100 else kind(value)


def kind(value: object) -> str:
    """What sort of thing a value is, in words: `None`, `a dict`, `an OrderedDict`."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def own_class(value: object) -> str:
    """How an object of a class that the user wrote becomes a pytree of arrays, or none; empty for others."""
    if not hasattr(value, "__dict__") or isinstance(value, type):
        return ""
    name = type(value).__name__
    return f": make {name} a dataclass, or register it with optree"


def integer(what: str, value: Any, low: int = LOWEST, high: int = HIGHEST) -> int:
    """An int from `low` to `high`; no bool, no float. WeakOverflowError outside int64, else ArgumentError."""
    bounds = "" if (low, high) == (LOWEST, HIGHEST) else f" from {low} to {high}" if high < HIGHEST else f" >= {low}"
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise ArgumentError(f"{what} is an integer{bounds}, not {shown(value)}")
    if not LOWEST <= number <= HIGHEST:
        raise WeakOverflowError(f"{what} is an integer{bounds}, and {shown(number)} does not fit int64")
    if not low <= number <= high:
        raise ArgumentError(f"{what} is an integer{bounds}, not {number}")
    return number


def real(what: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """A number from `low` to `high` as a float; no bool, no NaN. WeakOverflowError where float64 does not hold it."""
    bounds = (
        "" if (low, high) == (-math.inf, math.inf) else f" from {low} to {high}" if high < math.inf else f" >= {low}"
    )
    scalar = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
    if isinstance(scalar, bool | np.bool_) or not isinstance(scalar, numbers.Real):
        raise ArgumentError(f"{what} is a number{bounds}, not {shown(value)}")
    try:
        number = float(scalar)
    except OverflowError:
        raise WeakOverflowError(f"{what} is a number{bounds}, and {shown(value)} does not fit float64") from None
    if not low <= number <= high:
        raise ArgumentError(f"{what} is a number{bounds}, not {number}")
    return number


_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30,
          "TIB": 2**40}  # fmt: skip
_BYTES = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?i?B)\s*", re.IGNORECASE)


def bytes_in(text: str) -> int | None:
    """The number of bytes that a text such as "64MB" or "1.5 GiB" says; None where it says none."""
    found = _BYTES.fullmatch(text)
    return None if found is None else math.floor(float(found[1]) * _UNITS[found[2].upper()])


def nbytes(what: str, value: Any) -> int | None:
    """A number of bytes, or a text such as "64MB"; None is none."""
    if value is None:
        return None
    found = bytes_in(value) if isinstance(value, str) else None
    if isinstance(value, str | float) and found is None:
        raise ArgumentError(f'{what} is a number of bytes, or a text as "200MB" or "1.5GiB", not {shown(value)}')
    return integer(f"{what}, in bytes,", value if found is None else found, 0)


def reals(what: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float | np.ndarray:
    """A number as `real` has it, or several of them, each from `low` to `high`: an array, which becomes a float64 array
    of its own that cannot be written."""
    if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim):
        return _array_of_reals(what, value, low, high)
    return real(what, value, low, high)


def or_off(what: str, value: Any) -> float | np.ndarray | None:
    """A number >= 0, or several; None for one that is 0, which switches off. Of several, 0 is a number like others."""
    found = reals(what, value, 0.0)
    return found if isinstance(found, np.ndarray) else found or None


def array_of(value: Any) -> np.ndarray:
    """What NumPy makes of it: of nested sequences that are no array, an empty one of objects."""
    try:
        return np.asarray(value)
    except ValueError:
        return np.empty(0, object)


def _array_of_reals(what: str, value: Any, low: float, high: float) -> np.ndarray:
    given = array_of(value)
    if given.dtype.kind not in "fiu" or not given.size:
        raise ArgumentError(f"{what} is a number, or an array with one for each of several models, not {shown(value)}")
    numbers = np.array(given, np.float64)
    for number in numbers.ravel():
        real(f"{what}, an array with one for each of several models: each", float(number), low, high)
    numbers.flags.writeable = False
    return numbers


def flag(what: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ArgumentError(f"{what} is True or False, not {shown(value)}")
    return bool(value)


def choice(what: str, value: Any, choices: Sequence[str]) -> str:
    """One of some words."""
    if not isinstance(value, str) or value not in choices:
        raise ArgumentError(f"{what} is {', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}, not {shown(value)}")
    return value


def function(what: str, value: F) -> F:
    """Something that can be called."""
    if not callable(value):
        raise ArgumentError(f"{what} is a function, not {shown(value)}")
    return value


def several(what: str, value: Any, kind: type) -> tuple[Any, ...]:
    """One value of a kind (str or int), or an iterable of such, as a tuple."""
    name = "name" if kind is str else "integer"
    try:
        found = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    except TypeError:
        # An array of no dimensions.
        found = (None,)
    if not all(isinstance(item, kind) and not isinstance(item, bool) for item in found):
        raise ArgumentError(f"{what} is one {name} or several, not {shown(value)}")
    return tuple(integer(what, item) for item in found) if kind is int else found


def extents(what: str, value: Any) -> tuple[int, ...]:
    """A shape, given as an int or a sequence of ints; ShapeError for a negative one, or one that no array has."""
    try:
        given = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes | dict) else (value,)
    except TypeError:
        # What iterates over no axis: an array of no dimensions.
        given = (value,)
    try:
        shape = tuple(None if isinstance(n, bool | np.bool_) else operator.index(n) for n in given)
    except TypeError:
        shape = (None,)
    if None in shape:
        raise ArgumentError(f"{what} is an integer or a sequence of integers, not {shown(value)}")
    found = tuple(n for n in shape if n is not None)
    if any(n < 0 for n in found):
        raise ShapeError(f"{what} has no negative numbers, but is {shown(found)}")
    # 8 bytes an element: the widest of our dtypes.
    if len(found) > 64 or math.prod(n for n in found if n) > HIGHEST // 8:
        raise ShapeError(f"{what} is {shown(found)}, which no array has: at most 64 dimensions and 2**63 bytes")
    return found


_MAY_DIFFER = frozenset(
    ("__array_finalize__", "__array_priority__", "__class_getitem__", "__copy__", "__deepcopy__", "__dir__", "__doc__",
     "__format__", "__init__", "__init_subclass__", "__new__", "__reduce__", "__reduce_ex__", "__repr__", "__setattr__",
     "__setstate__", "__sizeof__", "__str__")
)  # fmt: skip
"""What a subclass of ndarray may have of its own and still compute as arrays do."""


def computes_plainly(x: np.ndarray) -> bool:
    """Whether an array computes as ndarray does: its class has no operator, method or protocol of its own."""
    kind: Any = type(x)
    return kind is np.ndarray or kind is np.memmap or _has_no_rules(kind)


@functools.cache
def _has_no_rules(kind: type) -> bool:
    known = set(dir(np.ndarray)) - _MAY_DIFFER - {"__module__"}
    own = kind.__mro__[: kind.__mro__.index(np.ndarray)]
    return not any(known & vars(base).keys() for base in own)


def own_rules(x: np.ndarray) -> str:
    """Why an array of another class is refused, and what to give instead."""
    if isinstance(x, np.ma.MaskedArray):
        return "a masked array would lose its mask: write x.filled(value), or give the mask, too"
    if isinstance(x, np.matrix):
        return "np.matrix multiplies by * as matrices do, which arrays do not: write np.asarray(x), and @ for products"
    return (
        f"{type(x).__module__}.{type(x).__qualname__} has rules of its own, which compiled code does not know: write "
        "np.asarray(x)"
    )
