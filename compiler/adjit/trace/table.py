"""The table of what tracers can do: which function of ours stands for which function, ufunc or method of NumPy.

`trace/functions/` fills it. The dispatcher (`trace/dispatch.py`) binds a call by NumPy's own signature and hands over
by name what the implementation has a parameter for; an argument that it has none for is dropped where it has NumPy's
default and is refused by name otherwise. `out=` is the dispatcher's business, so that implementations are pure.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

F = TypeVar("F", bound=Callable[..., Any])
Implementation = Callable[..., Any]

FUNCTIONS: dict[Any, Implementation] = {}
"""Functions that dispatch through `__array_function__`."""
UFUNCS: dict[np.ufunc, Implementation | str] = {}
"""Elementwise ufuncs: the op of that name, or a function of promoted operands of one shape."""
GUFUNCS: dict[np.ufunc, Implementation] = {}
"""Ufuncs with a signature (matmul): a function of the operands as they come."""
REDUCES: dict[np.ufunc, Implementation] = {}
"""`ufunc.reduce`."""
ACCUMULATES: dict[np.ufunc, Implementation] = {}
"""`ufunc.accumulate`."""
REFUSED: dict[Any, str] = {}
"""Functions that have no implementation, with the reason and what to write instead."""
METHODS: dict[str, Implementation] = {}
"""Methods of ndarray and of Python's protocols that tracers have, by name."""
PROPERTIES: dict[str, Callable[[Any], Any]] = {}
"""Attributes of ndarray that tracers have, by name."""
UNSUPPORTED_ATTRIBUTES: dict[str, str] = {}
"""Methods and attributes of ndarray that tracers refuse, with the reason."""
LATE: list[Callable[[np.ufunc], bool]] = []
"""Asked for a ufunc that is not in the table: enters it and says True, for packages that are not imported here."""
ABSENT_ATTRIBUTES: dict[str, str] = {}
"""Protocol methods of ndarray that tracers do not have at all, because NumPy or Python would take them for an offer."""


def implements(*functions: Any) -> Callable[[F], F]:
    """Register the decorated function for functions of NumPy or SciPy."""

    def register(implementation: F) -> F:
        # Aliases, such as np.transpose and np.permute_dims, are one function.
        for function in dict.fromkeys(functions):
            _enter(FUNCTIONS, function, implementation)
        return implementation

    return register


def ufunc(target: np.ufunc, op: str | None = None) -> Callable[[F], F]:
    """Register an elementwise ufunc: as the op of that name, or as the decorated function."""
    if op is not None:
        _enter(UFUNCS, target, op)
    return functools.partial(_decorate, UFUNCS, target)


def gufunc(target: np.ufunc) -> Callable[[F], F]:
    """Register a ufunc with a signature; the decorated function gets the operands as they come."""
    return functools.partial(_decorate, GUFUNCS, target)


def reduces(target: np.ufunc) -> Callable[[F], F]:
    """Register `target.reduce`: (array, axis=0, dtype=None, keepdims=False, initial=None, where=True)."""
    return functools.partial(_decorate, REDUCES, target)


def accumulates(target: np.ufunc) -> Callable[[F], F]:
    """Register `target.accumulate`: (array, axis=0, dtype=None)."""
    return functools.partial(_decorate, ACCUMULATES, target)


def refused(function: Any, reason: str) -> None:
    """Say why a function has no implementation, and what to write instead."""
    _enter(REFUSED, function, reason)


def method(*names: str) -> Callable[[F], F]:
    """Register a method of tracers."""

    def register(implementation: F) -> F:
        for name in names:
            _enter(METHODS, name, implementation)
        return implementation

    return register


def attribute(*names: str) -> Callable[[F], F]:
    """Register an attribute of tracers."""

    def register(implementation: F) -> F:
        for name in names:
            _enter(PROPERTIES, name, implementation)
        return implementation

    return register


def _enter(registry: dict[Any, Any], key: Any, value: Any) -> None:
    if key in registry:
        raise ValueError(f"{key!r} is registered twice")
    registry[key] = value


def _decorate(registry: dict[Any, Any], key: Any, implementation: F) -> F:
    _enter(registry, key, implementation)
    return implementation


def has_ufunc(target: np.ufunc) -> bool:
    """Whether a ufunc has an implementation."""
    return target in UFUNCS or target in GUFUNCS or any(find(target) for find in LATE)


def name_of(function: Any) -> str:
    """`np.linalg.norm`, as a user writes it."""
    name = str(getattr(function, "__name__", function))
    module = str(getattr(function, "__module__", "") or "")
    if isinstance(function, np.ufunc):
        return f"np.{name}" if getattr(np, name, None) is function else name
    if module == "numpy" or module.startswith("numpy."):
        return ".".join(("np", *(part for part in module.split(".")[1:] if not part.startswith("_")), name))
    return f"{module}.{name}" if module else name
