"""Arithmetic of integers that must not be wrong in silence: of Python's, which are unbounded, and negative exponents.

A Python integer that is an argument is traced as int64. Where its arithmetic would leave 64 bits, or Python would raise
an error, a `check_holds` raises one when the program runs; none is made where the bounds of the operands exclude it:
those of constants, of the step count and of what is computed from them are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adjit.ir.builder import Value
from adjit.ir.node import Node
from adjit.ir.types import F64, I64
from adjit.trace.lower import active, builder, emit
from adjit.trace.tracer import Tracer, fresh, node_of

Bounds = tuple[int, int]
LEAST, MOST = -(2**63), 2**63 - 1
OVERFLOW = "the result of integers from Python does not fit 64 bits: give one as a float or an array"
ZERO = "integer division or modulo by zero"
POWER = "integers to negative integer powers are not allowed: write 1.0 * x, or x.astype(float), for the base"
SHIFT = "negative shift count"


def bounds_of(node: Node) -> Bounds:
    """The smallest and the largest value that a weak integer may have."""
    if node.is_splat:
        value = int(node.attrs["value"])
        return value, value
    return active().bounds.get(node, (LEAST, MOST))


def bound(x: Tracer, low: int, high: int) -> None:
    """Say of a weak integer between which values it lies, both included."""
    active().bounds[node_of(x)] = (low, high)


def exact(op: str, *operands: Tracer) -> Tracer:
    """The op on integers from Python, as Python has it, or an error at run time; the plain op on anything else."""
    result: Tracer = emit(op, *operands)
    if not result.type.weak or result.dtype != I64:
        return result
    nodes = [node_of(x) for x in operands]
    ranges = [bounds_of(node) for node in nodes]
    b = builder()
    values = [b.value(node) for node in nodes]
    if op in ("floor_divide", "remainder") and ranges[1][0] <= 0 <= ranges[1][1]:
        result = _checked(result, values[1].ne(0), "DivisionByZero", ZERO)
    if op in ("shift_left", "shift_right") and ranges[1][0] < 0:
        result = _checked(result, values[1] >= 0, "DomainError", SHIFT)
    if op == "pow":
        result = of_power(result, operands[1])
    low, high = _RANGES.get(op, _anything)(*ranges)
    if op in _FITS and not LEAST <= low <= high <= MOST:
        fits = _FITS[op](b, b.value(node_of(result)), *values)
        result = _checked(result, fits, "WeakOverflowError", OVERFLOW)
    bound(result, max(low, LEAST), min(high, MOST))
    return result


def of_power(result: Tracer, exponent: Tracer) -> Tracer:
    """A power of integers, or an error at run time where an exponent is negative."""
    node = node_of(exponent)
    if exponent.dtype.kind != "i" or _is_never_negative(node):
        return result
    b = builder()
    holds = b.value(node) >= 0
    axes = tuple(range(len(node.shape)))
    return _checked(result, b.all(holds, axes=axes) if axes else holds, "DomainError", POWER)


def _is_never_negative(node: Node) -> bool:
    while node.op.name in ("broadcast", "reshape") or (node.op.name == "cast" and node.args[0].dtype.kind in "bu"):
        node = node.args[0]
    if node.dtype.kind in "bu":
        return True
    if node.op.name == "constant" and not node.is_splat:
        array = node.attrs["data"].array
        return array is not None and bool((array >= 0).all())
    return (node.is_splat or node.array_type.weak) and bounds_of(node)[0] >= 0


def _checked(x: Tracer, holds: Value, error: str, text: str) -> Tracer:
    b = builder()
    return fresh(b.emit("check_holds", node_of(x), holds.node, error=error, text=text))


def _anything(*ranges: Bounds) -> Bounds:
    return LEAST, MOST


def _corners(combine: Callable[[int, int], int]) -> Callable[[Bounds, Bounds], Bounds]:
    """The bounds of what is monotonic in either operand."""

    def of(x: Bounds, y: Bounds) -> Bounds:
        values = [combine(a, b) for a in x for b in y]
        return min(values), max(values)

    return of


def _of_remainder(x: Bounds, y: Bounds) -> Bounds:
    return min(y[0] + 1, 0), max(y[1] - 1, 0)


def _of_quotient(x: Bounds, y: Bounds) -> Bounds:
    """A quotient is no larger than its dividend, but for the sign."""
    most = max(abs(x[0]), abs(x[1]))
    return (min(x[0], 0), max(x[1], 0)) if y[0] >= 0 else (-most, most)


_RANGES: dict[str, Callable[..., Bounds]] = {
    "add": lambda x, y: (x[0] + y[0], x[1] + y[1]),
    "sub": lambda x, y: (x[0] - y[1], x[1] - y[0]),
    "mul": _corners(lambda a, b: a * b),
    "neg": lambda x: (-x[1], -x[0]),
    "abs": lambda x: (0, max(abs(x[0]), abs(x[1]))),
    "floor_divide": _of_quotient,
    "remainder": _of_remainder,
    "shift_right": lambda x, y: (min(x[0], 0), max(x[1], 0)),
    "shift_left": lambda x, y: (LEAST - 1, MOST + 1),
    "pow": lambda x, y: (LEAST - 1, MOST + 1),
}


def _product_fits(b: Any, r: Value, x: Value, y: Value) -> Value:
    """The product divided by a factor is the other one; but the smallest integer divided by -1 wraps as well."""
    back: Value = b.floor_divide(r, x).eq(y) & b.remainder(r, x).eq(0)
    wraps = x.eq(-1) & y.eq(LEAST)
    return x.eq(0) | (back & ~wraps)


def _power_fits(b: Any, r: Value, x: Value, y: Value) -> Value:
    """The power of floats is within rounding of what was computed, which has the right sign: one that wrapped is half
    the range away, or has the other sign."""
    size: Value = b.pow(b.abs(b.cast(x, dtype=F64)), b.cast(y, dtype=F64))
    near: Value = b.abs(b.abs(b.cast(r, dtype=F64)) - size) <= size * 1e-9
    negative = (x < 0) & (y & 1).ne(0)
    return near & (size < 1e19) & (r < 0).eq(negative)


_FITS: dict[str, Callable[..., Value]] = {
    "add": lambda b, r, x, y: ((x ^ r) & (y ^ r)) >= 0,
    "sub": lambda b, r, x, y: ((x ^ y) & (x ^ r)) >= 0,
    "mul": _product_fits,
    "neg": lambda b, r, x: x.ne(LEAST),
    "abs": lambda b, r, x: x.ne(LEAST),
    "floor_divide": lambda b, r, x, y: x.ne(LEAST) | y.ne(-1),
    "shift_left": lambda b, r, x, y: b.shift_right(r, y).eq(x),
    "pow": _power_fits,
}
"""Whether the wrapped result `r` is what Python has."""
