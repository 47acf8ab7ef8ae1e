"""The ufuncs behind Python's operators, as NumPy has them for every dtype: bools are logic, integers floor and wrap."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjit.ir.types import BOOL
from adjit.trace.lower import convert, emit
from adjit.trace.refuse import trace_error
from adjit.trace.table import ufunc
from adjit.trace.tracer import Tracer, fresh, node_of

ufunc(np.subtract, "sub")
ufunc(np.true_divide, "div")
ufunc(np.equal, "eq")
ufunc(np.not_equal, "ne")
ufunc(np.bitwise_and, "and")
ufunc(np.bitwise_or, "or")
ufunc(np.bitwise_xor, "xor")
ufunc(np.invert, "not")
ufunc(np.left_shift, "shift_left")
ufunc(np.right_shift, "shift_right")


def _number(value: Any, like: Tracer) -> Tracer:
    """A constant of the type of `like`."""
    return convert(value, like.dtype, like.shape, like.type.weak)


@ufunc(np.add)
def _add(x: Tracer, y: Tracer) -> Any:
    return emit("or" if x.dtype == BOOL else "add", x, y)


@ufunc(np.multiply)
def _multiply(x: Tracer, y: Tracer) -> Any:
    return emit("and" if x.dtype == BOOL else "mul", x, y)


@ufunc(np.negative)
def _negative(x: Tracer) -> Any:
    # Unsigned integers wrap around.
    return emit("sub", _number(0, x), x) if x.dtype.kind == "u" else emit("neg", x)


@ufunc(np.positive)
def _positive(x: Tracer) -> Any:
    return _same(x)


@ufunc(np.absolute)
def _absolute(x: Tracer) -> Any:
    return _same(x) if x.dtype.kind in "bu" else emit("abs", x)


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


def _divided(x: Tracer, y: Tracer) -> tuple[Tracer, Tracer, Tracer]:
    """C's remainder of floats, Python's, and where they differ (npy_divmod in NumPy's sources)."""
    rest = emit("fmod", x, y)
    zero = _number(0.0, x)
    other_sign = emit("ne", emit("lt", y, zero), emit("lt", rest, zero))
    nonzero = emit("ne", rest, zero)
    adjusted = emit("and", nonzero, other_sign)
    signed_zero = emit("copysign", zero, y)
    result = emit("select", adjusted, emit("add", rest, y), emit("select", nonzero, rest, signed_zero))
    return rest, result, adjusted


@ufunc(np.remainder)
def _remainder(x: Tracer, y: Tracer) -> Any:
    return _divided(x, y)[1] if x.dtype.kind == "f" else emit("remainder", x, y)


@ufunc(np.floor_divide)
def _floor_divide(x: Tracer, y: Tracer) -> Any:
    if x.dtype.kind != "f":
        return emit("floor_divide", x, y)
    rest, _, adjusted = _divided(x, y)
    zero, one = _number(0.0, x), _number(1.0, x)
    exact = emit("div", emit("sub", x, rest), y)
    exact = emit("select", adjusted, emit("sub", exact, one), exact)
    floor = emit("floor", exact)
    # The quotient is nearly whole; a rounding error below it must not cost one.
    near = emit("gt", emit("sub", exact, floor), _number(0.5, x))
    floor = emit("select", near, emit("add", floor, one), floor)
    quotient = emit("div", x, y)
    whole = emit("select", emit("ne", exact, zero), floor, emit("copysign", zero, quotient))
    return emit("select", emit("eq", y, zero), quotient, whole)


@ufunc(np.power)
def _power(x: Tracer, y: Tracer) -> Any:
    """NumPy's own short cuts for the exponents 2, 1, 0.5 and -1, else the op."""
    exponent = node_of(y).attrs["value"] if node_of(y).is_splat else None
    if exponent == 2:
        return emit("mul", x, x)
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
    return emit("pow", x, y)


ufunc(np.float_power, "pow")
