"""`float(x)`, `np.float32(x)` and their like of traced values, in the user's code.

The classes stay what they are, so that `dtype.type is np.float64`, `isinstance` and patterns hold; from the first trace
on they ask `convert` when they are called with a tracer (`adjit_runtime.constructors`). `float(x)` is a Python number,
weak as an argument would be; a class of NumPy gives what `x.astype` does, of arrays too. Everything else is as before:
known values, tracers outside of their trace, calls from adjit's, NumPy's and SciPy's own code and from compiled code of
others, which may take what it is given for a float without a look; they come to `Tracer.__float__` or `__array__`.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import numpy as np

from adjit.ir.types import COMPILED_DTYPES, F64, I64
from adjit.trace import refuse
from adjit.trace.callee import called
from adjit.trace.context import current_trace
from adjit.trace.locate import origin
from adjit.trace.lower import cast, reshape, weak_cast
from adjit.trace.lower import convert as converted
from adjit.trace.tracer import ArrayTracer, ScalarTracer, Tracer, ViewTracer, is_python_number, plain_of, shown_as
from adjit_runtime import constructors

CLASSES: tuple[type, ...] = (float, *(dtype.type for dtype in COMPILED_DTYPES))
"""The classes that can be called with tracers."""


def install() -> None:
    """Have the classes ask `convert`, in this process."""
    constructors.install(CLASSES, (ArrayTracer, ViewTracer, ScalarTracer), convert)


def convert(kind: type, x: Tracer) -> Any:
    """`kind(x)`; NotImplemented where that is not for us to say. Called in place of the class, by who called it."""
    trace = current_trace()
    if trace is None or not trace.alive or not _is_users(sys._getframe(1), kind):
        return NotImplemented
    return value_of(kind, x)


def value_of(kind: type, x: Tracer) -> Any:
    """`kind(x)` in a trace; NotImplemented where the class itself can make it, as the value is known."""
    if plain_of(x) is not None and (kind is float or not x.shape):
        return NotImplemented
    return _float(x) if kind is float else _scalar(kind, x)


def seen(function: Any) -> Any:
    """What a function of ours calls in place of a function of the user's, which may be one of the classes."""
    if not isinstance(function, type) or function not in CLASSES:
        return function

    def construct(x: Any) -> Any:
        made = value_of(function, x) if isinstance(x, Tracer) else NotImplemented
        return function(x) if made is NotImplemented else made

    return construct


def _float(x: Tracer) -> Any:
    if is_python_number(x) and x.dtype == F64:
        return x
    if x.shape:
        try:
            # NumPy's own rule: versions differ on arrays of one element.
            float(np.broadcast_to(np.zeros((), x.dtype), x.shape))
        except TypeError as error:
            raise refuse.dtype_error(f"float of a traced {x.type}: {error}") from None
    return shown_as(weak_cast(reshape(x, ()), F64), float)


def _scalar(kind: type, x: Tracer) -> Any:
    dtype = np.dtype(kind)
    if x.type.weak and dtype.kind in "iu":
        # By way of Python's integer, which must fit.
        result = converted(weak_cast(x, I64), dtype, x.shape)
    else:
        result = cast(x, dtype)
    return result if result.shape else shown_as(result, kind)


def _is_users(frame: FrameType, kind: type) -> bool:
    """Whether the user's code, or a package's in Python, calls a class: by itself, or by functions of Python's library
    such as `map`, be it that code of ours runs through what these give."""
    target = called(frame)
    by_itself = target is kind or not callable(target)
    return origin(frame.f_code.co_filename) != "ours" if by_itself else _is_of_python(target)


def _is_of_python(function: Any) -> bool:
    """Whether a function, method or class comes with Python."""
    owner = getattr(function, "__objclass__", function)
    module = getattr(owner, "__module__", None)
    if module is None and getattr(owner, "__self__", None) is not None:
        module = type(owner.__self__).__module__
    return isinstance(module, str) and module.partition(".")[0] in sys.stdlib_module_names
