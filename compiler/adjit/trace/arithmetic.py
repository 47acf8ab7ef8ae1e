"""The ufuncs behind Python's operators, as NumPy has them for every dtype: bools are logic, integers floor and wrap."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from adjit.ir.types import BOOL
from adjit.trace.integers import exact, of_power
from adjit.trace.lower import convert, emit
from adjit.trace.refuse import trace_error
from adjit.trace.table import ufunc
from adjit.trace.tracer import Tracer, fresh, node_of

ufunc(np.true_divide, "div")
ufunc(np.equal, "eq")
ufunc(np.not_equal, "ne")
ufunc(np.bitwise_and, "and")
ufunc(np.bitwise_or, "or")
ufunc(np.bitwise_xor, "xor")
ufunc(np.invert, "not")

for _target, _op in (
    (np.subtract, "sub"),
    (np.floor_divide, "floor_divide"),
    (np.remainder, "remainder"),
    (np.left_shift, "shift_left"),
    (np.right_shift, "shift_right"),
):
    ufunc(_target)(functools.partial(exact, _op))


def _number(value: Any, like: Tracer) -> Tracer:
    """A constant of the type of `like`."""
    return convert(value, like.dtype, like.shape, like.type.weak)


@ufunc(np.add)
def _add(x: Tracer, y: Tracer) -> Any:
    return emit("or", x, y) if x.dtype == BOOL else exact("add", x, y)


@ufunc(np.multiply)
def _multiply(x: Tracer, y: Tracer) -> Any:
    return emit("and", x, y) if x.dtype == BOOL else exact("mul", x, y)


@ufunc(np.negative)
def _negative(x: Tracer) -> Any:
    # Unsigned integers wrap around.
    return emit("sub", _number(0, x), x) if x.dtype.kind == "u" else exact("neg", x)


@ufunc(np.positive)
def _positive(x: Tracer) -> Any:
    return _same(x)


@ufunc(np.absolute)
def _absolute(x: Tracer) -> Any:
    return _same(x) if x.dtype.kind in "bu" else exact("abs", x)


ufunc(np.fabs, "abs")


def _same(x: Tracer) -> Tracer:
    """An array of its own with the value of `x`."""
    return fresh(node_of(x))


@ufunc(np.less)
def _less(x: Tracer, y: Tracer) -> Any:
    return emit("and", emit("not", x), y) if x.dtype == BOOL else emit("lt", x, y)


@ufunc(np.greater)
def _greater(x: Tracer, y: Tracer) -> Any:
    return _less(y, x) if x.dtype == BOOL else emit("gt", x, y)


@ufunc(np.less_equal)
def _less_equal(x: Tracer, y: Tracer) -> Any:
    return emit("or", emit("not", x), y) if x.dtype == BOOL else emit("le", x, y)


@ufunc(np.greater_equal)
def _greater_equal(x: Tracer, y: Tracer) -> Any:
    return _less_equal(y, x) if x.dtype == BOOL else emit("ge", x, y)


@ufunc(np.power)
def _power(x: Tracer, y: Tracer) -> Any:
    """NumPy's own short cuts for the exponents 2, 1, 0.5 and -1, else the op."""
    exponent = node_of(y).attrs["value"] if node_of(y).is_splat else None
    if exponent == 2:
        return exact("mul", x, x)
    if exponent == 1:
        return _same(x)
    if x.dtype.kind == "f" and exponent == 0.5:
        return emit("sqrt", x)
    if x.dtype.kind == "f" and exponent == -1:
        return emit("div", _number(1.0, x), x)
    if x.dtype.kind == "i" and exponent is not None and exponent < 0:
        raise trace_error(
            "np.power: integers to negative integer powers are not allowed: write 1.0 / x, or x ** -1.0", numpy_too=True
        )
    if x.dtype.kind != "f" and not x.type.weak:
        return of_power(emit("pow", x, y), y)
    return exact("pow", x, y)


ufunc(np.float_power, "pow")
