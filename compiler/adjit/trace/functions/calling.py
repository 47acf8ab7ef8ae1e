"""What the families share: Values of operands, tracers of Values, NumPy's promotion and axes in that notation.

A function of the table gets operands (tracers, arrays, numbers); it computes on `Value`s, whose operations need no
dispatch, promotion or views, and hands back tracers."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from adjit.ir.builder import Value
from adjit.ir.types import BOOL, Array
from adjit.trace import lower, refuse
from adjit.trace.handle import broadcasted, c_strides, is_c_ordered
from adjit.trace.lower import as_tracer, builder, copy, lift, normalize_axes, normalize_axis, promote
from adjit.trace.promote import check_dtype
from adjit.trace.table import ufunc
from adjit.trace.tracer import Tracer, fresh, is_tracer, node_of

F = TypeVar("F", bound=Callable[..., Any])


def type_of(x: Any) -> Array:
    """The type of an operand, which may be a list."""
    return lower.type_of(as_tracer(x) if isinstance(x, list | tuple) else x)


def shape_of(x: Any) -> tuple[int, ...]:
    """The shape of an operand, which may be a list."""
    return type_of(x).shape


def dtype_of(x: Any) -> np.dtype:
    """The dtype of an operand, which may be a list."""
    return type_of(x).dtype


def loose(x: Any) -> Value:
    """An operand as a Value of the current trace; weak where it is weak."""
    node = lift(x)
    return Value(builder(), node)


def value(x: Any) -> Value:
    """An operand as a strong Value of the current trace."""
    v = loose(x)
    if not v.type.weak:
        return v
    if v.node.is_splat:
        return v.builder.full(v.node.attrs["value"], v)
    return Value(v.builder, v.builder.emit("cast", v.node, dtype=v.dtype))


def wrap(x: Value) -> Tracer:
    """An array of its own, in an order that NumPy takes from its operands; a vector has but one."""
    return fresh(x.node, (1,) if len(x.shape) == 1 else None)


def wrap_c(x: Value) -> Tracer:
    """An array of its own that is C-ordered in NumPy, whatever its operands are."""
    return fresh(x.node, c_strides(x.shape))


def anew(x: Tracer) -> Tracer:
    """A copy in the order of its operand, where that is known."""
    return ordered_as(copy(x), x)


def ordered_as(result: Tracer, *operands: Tracer) -> Tracer:
    """`result` in C order where NumPy takes the order of operands, and all of them are known to be in C order."""
    if not all(is_c_ordered(x.shape, x._adjit_strides) for x in operands):
        result._adjit_strides = None
    return result


def wrap_like(x: Value, *operands: Any) -> Tracer:
    """The result of an elementwise function: weak where all operands are."""
    if not x.type.weak and not x.shape and all(type_of(operand).weak for operand in operands):
        return fresh(x.builder.emit("cast", x.node, dtype=x.dtype, weak=True))
    return fresh(x.node)


def composed(target: np.ufunc, rule: Callable[..., Any]) -> None:
    """Register an elementwise ufunc as `rule(b, *values)` on promoted and broadcast Values."""

    def run(*operands: Tracer) -> Any:
        b = builder()
        result = rule(b, *(Value(b, node_of(x)) for x in operands))
        if isinstance(result, tuple):
            return tuple(wrap_like(part, *operands) for part in result)
        return wrap_like(result, *operands)

    ufunc(target)(run)


def since(register: Callable[[Any], Callable[[F], F]], name: str) -> Callable[[F], F]:
    """Register for a function that older versions of NumPy 2 lack, where this one has it."""
    return register(getattr(np, name)) if hasattr(np, name) else lambda implementation: implementation


def cast(x: Value, dtype: np.dtype) -> Value:
    """x in another dtype; itself where it has it."""
    return x if x.dtype == dtype else x.builder.cast(x, dtype=dtype)


def truth(x: Value) -> Value:
    """x as bools: whether each element differs from zero."""
    return x if x.dtype == BOOL else x.ne(0)


def spread_to(x: Value, shape: tuple[int, ...]) -> Value:
    """x broadcast to `shape` by NumPy's rule."""
    if x.shape == shape:
        return x
    if len(x.shape) > len(shape) or any(m not in (1, n) for m, n in zip(x.shape[::-1], shape[::-1], strict=False)):
        raise refuse.shape_error(f"{x.type} does not broadcast to the shape {shape}")
    return Value(x.builder, broadcasted(x.builder, x.node, shape))


def promoted(target: np.ufunc, *operands: Any) -> list[Value]:
    """Operands in the dtypes that a ufunc computes in, broadcast to one shape."""
    return [loose(x) for x in promote(target, *operands)]


def combined(target: np.ufunc, x: Value, other: Any) -> Value:
    """A ufunc of a Value and an operand."""
    return value(target(wrap(x), other))


def reduced_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes of a reduction; NumPy lets a 0-d array have an axis 0 here."""
    if ndim == 0 and not isinstance(axis, tuple) and axis is not None and normalize_axis(axis, 1) == 0:
        return ()
    return normalize_axes(axis, ndim)


def make_dtype(function: str, dtype: Any) -> np.dtype:
    """A dtype argument; DTypeError where no code exists for it."""
    made: np.dtype = np.dtype(dtype)
    check_dtype(function, made)
    return made


def static_int(x: Any, function: str, argument: str) -> int:
    """An argument that is an integer known while tracing."""
    if is_tracer(x):
        raise refuse.index(node_of(x))
    try:
        return operator.index(x)
    except TypeError:
        raise refuse.trace_error(f"{function}: `{argument}` is an integer, not {x!r}", numpy_too=True) from None


def static_ints(x: Any, function: str, argument: str) -> tuple[int, ...]:
    """An argument that is an integer or a sequence of them, known while tracing."""
    if (isinstance(x, Sequence) and not isinstance(x, str | bytes)) or (isinstance(x, np.ndarray) and x.ndim):
        return tuple(static_int(n, function, argument) for n in x)
    return (static_int(x, function, argument),)
