"""Elementwise functions composed of IR ops, written in the notation of rules: `b` a builder, operands its Values.

All operands of a composition have one shape and one float dtype (promotion and broadcasting are done). Compositions
are chosen so that value and derivative are right at the edges: infinities, ties, zero.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def modf(b: Any, x: Any) -> tuple[Any, Any]:
    """Fractional and whole part, both with the sign of x; 0 and inf of an infinity."""
    zero = b.copysign(b.full(0.0, x), x)
    return b.select(b.abs(x).eq(math.inf), zero, b.fmod(x, b.full(1.0, x))), b.trunc(x)


def heaviside(b: Any, x: Any, at_zero: Any) -> Any:
    """0 below zero, 1 above, `at_zero` at zero, NaN of NaN."""
    above = b.select(x > 0.0, b.full(1.0, x), math.nan)
    return b.select(x.eq(0.0), at_zero, b.select(x < 0.0, 0.0, above))


def hypot(b: Any, x: Any, y: Any) -> Any:
    """sqrt(x^2 + y^2) without overflow or underflow: both are scaled by a power of two, exactly.

    inf where either is infinite, also beside NaN. The derivative at the origin is 0."""
    limit, scale = (2.0**60, 2.0**100) if x.dtype == np.float32 else (2.0**500, 2.0**700)
    largest = b.maximum(b.abs(x), b.abs(y))
    huge, tiny = largest > limit, largest < 1 / limit
    down = b.select(huge, b.full(1 / scale, x), b.select(tiny, b.full(scale, x), 1.0))
    up = b.select(huge, b.full(scale, x), b.select(tiny, b.full(1 / scale, x), 1.0))
    u, v = x * down, y * down
    squares = u * u + v * v
    root = b.select(squares.eq(0.0), 0.0, b.sqrt(squares) * up)
    infinite = b.abs(x).eq(math.inf) | b.abs(y).eq(math.inf)
    return b.select(infinite, math.inf, root)


def root_of_squares(x: Any) -> Any:
    """sqrt of a sum of squares (a norm, a standard deviation), whose derivative is 0 where all of them are 0."""
    return x.builder.select(x.eq(0.0), 0.0, x.builder.sqrt(x))


def logaddexp(b: Any, x: Any, y: Any) -> Any:
    """log(e^x + e^y). At a tie both terms take the same side, which gives the first and second derivative there."""
    larger, gap = _ordered(b, x, y)
    return b.select(_both_infinite(b, x, y), b.maximum(x, y), larger + b.log1p(b.exp(gap)))


def logaddexp2(b: Any, x: Any, y: Any) -> Any:
    """log2(2^x + 2^y)."""
    larger, gap = _ordered(b, x, y)
    return b.select(_both_infinite(b, x, y), b.maximum(x, y), larger + b.log1p(b.exp2(gap)) * (1 / math.log(2.0)))


def _ordered(b: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """The larger one, and -|x - y|."""
    first = x > y
    return b.select(first, x, y), b.select(first, y - x, x - y)


def _both_infinite(b: Any, x: Any, y: Any) -> Any:
    """Equal infinities, which have no difference."""
    return x.eq(y) & ~b.isfinite(x)


def fmax(b: Any, x: Any, y: Any) -> Any:
    """The larger one; the other one of NaN."""
    return b.maximum(b.select(b.isnan(x), y, x), b.select(b.isnan(y), x, y))


def fmin(b: Any, x: Any, y: Any) -> Any:
    """The smaller one; the other one of NaN."""
    return b.minimum(b.select(b.isnan(x), y, x), b.select(b.isnan(y), x, y))


def sinc(b: Any, x: Any) -> Any:
    """sin(pi x) / (pi x), 1 at 0."""
    return sine_ratio(b, x * math.pi)


def sine_ratio(b: Any, y: Any) -> Any:
    """sin(y) / y, 1 at 0; near 0 by its series, so that derivatives of any order are right there."""
    square = y * y
    series = 1.0 - square / 6.0 * (1.0 - square / 20.0 * (1.0 - square / 42.0 * (1.0 - square / 72.0)))
    return b.select(b.abs(y) < 0.14, series, b.sin(y) / y)


def int_reciprocal(b: Any, x: Any) -> Any:
    """np.reciprocal on integers: 1 / x cut towards zero."""
    own = x.eq(1) if x.dtype.kind == "u" else x.eq(1) | x.eq(-1)
    smallest = np.iinfo(x.dtype).min
    return b.select(own, x, b.select(x.eq(0), b.full(smallest, x), 0))


def xlogy(b: Any, x: Any, y: Any) -> Any:
    """x log y, 0 where x is 0 and y no NaN; cut only where the product would be NaN, so that its derivative lives."""
    return b.select(x.eq(0.0) & ((y <= 0.0) | y.eq(math.inf)), 0.0, x * b.log(y))


def xlog1py(b: Any, x: Any, y: Any) -> Any:
    """x log(1 + y), 0 where x is 0 and y no NaN."""
    return b.select(x.eq(0.0) & ((y <= -1.0) | y.eq(math.inf)), 0.0, x * b.log1p(y))


def entr(b: Any, x: Any) -> Any:
    """-x log x, 0 at 0, -inf below."""
    return b.select(x.eq(0.0), 0.0, b.select(x < 0.0, -math.inf, -x * b.log(x)))


def rel_entr(b: Any, x: Any, y: Any) -> Any:
    """x log(x / y), 0 at x = 0 <= y, inf outside the domain."""
    inside = (x > 0.0) & (y > 0.0)
    nan = b.isnan(x) | b.isnan(y)
    edge = b.select(x.eq(0.0) & (y >= 0.0), b.full(0.0, x), math.inf)
    outside = b.select(nan, math.nan, edge)
    return b.select(inside, x * b.log(x / y), outside)


def kl_div(b: Any, x: Any, y: Any) -> Any:
    """x log(x / y) - x + y, y at x = 0 <= y, inf outside the domain."""
    inside = (x > 0.0) & (y > 0.0)
    nan = b.isnan(x) | b.isnan(y)
    edge = b.select(x.eq(0.0) & (y >= 0.0), y, math.inf)
    outside = b.select(nan, math.nan, edge)
    return b.select(inside, x * b.log(x / y) - x + y, outside)


def logit(b: Any, x: Any) -> Any:
    """log(x / (1 - x))."""
    return b.log(x / (1.0 - x))


def log_expit(b: Any, x: Any) -> Any:
    """log of the logistic function, without overflow."""
    above = x > 0.0
    return b.select(above, 0.0, x) - b.log1p(b.exp(b.select(above, -x, x)))


def huber(b: Any, delta: Any, r: Any) -> Any:
    """r^2 / 2 within delta of zero, delta (|r| - delta / 2) beyond; inf for a negative delta."""
    size = b.abs(r)
    inside = b.select(size <= delta, 0.5 * r * r, delta * (size - 0.5 * delta))
    return b.select(delta < 0.0, math.inf, inside)


def pseudo_huber(b: Any, delta: Any, r: Any) -> Any:
    """delta^2 (sqrt(1 + (r / delta)^2) - 1); 0 where either is 0, inf for a negative delta."""
    ratio = r / delta
    square = ratio * ratio
    # sqrt(1 + s) - 1 = s / (1 + sqrt(1 + s)) loses nothing near 0.
    inside = delta * delta * (square / (1.0 + b.sqrt(1.0 + square)))
    # Where the square overflows its root is |r| / delta.
    inside = b.select(square.eq(math.inf) & b.isfinite(delta), delta * b.abs(r), inside)
    # Where r is 0 the formula gives 0 itself, with its derivatives, unless delta is no number.
    nought = delta.eq(0.0) | (r.eq(0.0) & ~b.isfinite(delta))
    return b.select(delta < 0.0, math.inf, b.select(nought, 0.0, inside))
