"""Python's operators on tracers: between weak values they follow Python (a bool is an integer, a negative power of an
integer is a float), everywhere else they are the ufuncs."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjit.ir.types import BOOL, F64, I64
from adjit.trace import refuse
from adjit.trace.chosen import Chosen
from adjit.trace.promote import type_of
from adjit.trace.table import method
from adjit.trace.tracer import ScalarTracer, Tracer, is_tracer, like_python
from adjit.trace.ufuncs import call
from adjit.trace.values import weak_cast


def _is_python(x: Any) -> bool:
    """Whether Python's rules hold: a Python number or a weak tracer."""
    return type(x) in (bool, int, float) or (isinstance(x, Tracer) and x.type.weak)


def _is_foreign(x: Any) -> bool:
    """Whether an operand is no business of NumPy's: text, a container, or what says so itself."""
    return isinstance(x, str | bytes | dict | set | Chosen) or getattr(type(x), "__array_ufunc__", True) is None


def _checked(x: Any, other: Any) -> Any:
    if isinstance(x, list | tuple) and isinstance(other, ScalarTracer) and other.dtype.kind in "iu":
        raise refuse.list_repeat()
    return x


@method("binary operator")
def binary(ufunc: np.ufunc, x: Any, y: Any) -> Any:
    """`x + y` and the like."""
    if _is_foreign(x) or _is_foreign(y):
        return NotImplemented
    if ufunc is np.multiply:
        x, y = _checked(x, y), _checked(y, x)
    if _is_python(x) and _is_python(y):
        return like_python(_python(ufunc, x, y), x, y)
    return call(ufunc, (x, y), {})


def _python(ufunc: np.ufunc, x: Any, y: Any) -> Any:
    """An operator between weak values, by Python's rules."""
    bits = ufunc in (np.bitwise_and, np.bitwise_or, np.bitwise_xor)
    kinds = {type_of(x).dtype.kind, type_of(y).dtype.kind}
    if not (bits and kinds == {"b"}):
        x, y = _python_number(x), _python_number(y)
    if ufunc is np.power and type_of(x).dtype.kind == type_of(y).dtype.kind == "i":
        if is_tracer(y):
            raise refuse.trace_error(
                "an integer to the power of a traced integer is an integer or, for a negative one, a float: write "
                "2.0 ** n for a float, np.power for an integer"
            )
        if y < 0:
            x = weak_cast(x, F64)
    return call(ufunc, (x, y), {})


def _python_number(x: Any) -> Any:
    """A bool as the integer that it is in Python's arithmetic."""
    if type(x) is bool:
        return int(x)
    return weak_cast(x, I64) if isinstance(x, Tracer) and x.type.dtype == BOOL else x


@method("unary operator")
def unary(ufunc: np.ufunc, x: Tracer) -> Any:
    """`-x`, `+x`, `abs(x)`, `~x`."""
    operand = x
    if x.type.weak and x.type.dtype == BOOL:
        # ~True is -2 in Python, deprecated there; NumPy's bools, which ~(x > 0) is of every other scalar, are logic.
        operand = x if ufunc is np.invert else weak_cast(x, I64)
    return like_python(call(ufunc, (operand,), {}), x)


@method("comparison operator")
def compare(ufunc: np.ufunc, x: Any, y: Any) -> Any:
    """`x < y` and the like."""
    if y is None or isinstance(y, str | bytes):
        raise refuse.identity(y)
    return like_python(call(ufunc, (x, y), {}), x, y)


@method("in-place operator")
def in_place(ufunc: np.ufunc, x: Tracer, y: Any) -> Any:
    """`x += y` and the like."""
    return call(ufunc, (x, y), {"out": (x,)})
