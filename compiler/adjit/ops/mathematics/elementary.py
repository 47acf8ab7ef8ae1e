"""Exponentials, logarithms and what is made of them, for float32 and float64, over the basic scalar protocol.

Both dtypes take the same way with constants of their own (`by_dtype`); the inverse hyperbolic functions and cbrt of
float32 go through float64, with polynomials that are good enough for float32. Errors are in docs/vector-math.md.
Methods of Reference: Muller, Elementary Functions, 3rd ed., chapters 5 and 11; the coefficients are our own
(benchmarks/vector_math_coefficients.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adjit.ops.mathematics import coefficients as c
from adjit.ops.scalar import Lane, Scalars

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
I32, I64 = np.dtype(np.int32), np.dtype(np.int64)
INF = float("inf")


def polynomial(k: Scalars, x: Lane, coefficients: Sequence[float]) -> Lane:
    """Horner's rule with fused multiply-adds."""
    result = k.const(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result = k.fma(result, x, k.const(x, coefficient))
    return result


def in_pairs(k: Scalars, x: Lane, coefficients: Sequence[float]) -> Lane:
    """A polynomial of odd degree or even, terms two by two: half the chain of fused multiply-adds that wait for each
    other."""
    square = x * x
    result = None
    for power in reversed(range(0, len(coefficients), 2)):
        pair = k.const(x, coefficients[power])
        if power + 1 < len(coefficients):
            pair = k.fma(k.const(x, coefficients[power + 1]), x, pair)
        result = pair if result is None else k.fma(result, square, pair)
    assert result is not None
    return result


def on_piece(
    k: Scalars,
    name: str,
    a: Lane,
    piece: Lane,
    centres: Sequence[float],
    rows: Sequence[tuple[float, ...]],
    slope_last: bool = False,
) -> Lane:
    """The polynomial of the lane's piece (the integer's lowest three bits) in the distance of a from its origin, for
    eight origins and rows of eight coefficients. `slope_last` loses less where the value is 0 and the slope not 1, and
    more elsewhere."""

    def row(values: Sequence[float], power: int | str) -> Lane:
        return k.lookup(f"adjit_{name}{a.dtype.itemsize}_{power}", tuple(values), piece)

    h = a - row(centres, "centre")
    square = h * h
    rest = None
    # From the second power on in pairs: half the chain of fused multiply-adds that wait for each other.
    for power in reversed(range(2, len(rows), 2)):
        pair = row(rows[power], power)
        if power + 1 < len(rows):
            pair = k.fma(row(rows[power + 1], power + 1), h, pair)
        rest = pair if rest is None else k.fma(rest, square, pair)
    assert rest is not None
    first, slope = row(rows[0], 0), row(rows[1], 1)
    return k.fma(h, slope, k.fma(square, rest, first)) if slope_last else k.fma(h, k.fma(h, rest, slope), first)


def two_sum(a: Lane, b: Lane) -> tuple[Lane, Lane]:
    """a + b and what rounding lost (Knuth)."""
    s = a + b
    bb = s - a
    return s, (a - (s - bb)) + (b - bb)


def quotient(k: Scalars, above: tuple[Lane, Lane], below: tuple[Lane, Lane]) -> tuple[Lane, Lane]:
    """The quotient of two numbers that are each a sum of two, and what rounding lost."""
    inverse = 1.0 / below[0]
    q = above[0] * inverse
    rest = k.fma(-q, below[0], above[0]) + k.fma(-q, below[1], above[1])
    return q, rest * inverse


def by_dtype(x: Lane, single: Any, double: Any) -> Any:
    """The constant, or the constants, for the dtype of x."""
    return single if x.dtype == F32 else double


def in_float64(rule: Callable[..., Lane]) -> Callable[..., Lane]:
    """A function of float32 by way of its float64 form."""

    def widened(k: Scalars, *xs: Lane) -> Lane:
        if xs[0].dtype == F64:
            return rule(k, *xs)
        return k.cast(rule(k, *(k.cast(x, F64) for x in xs)), F32)

    return widened


def power_of_two(k: Scalars, n: Lane, dtype: np.dtype) -> Lane:
    """2^n for an integer n (int32 with float32, int64 with float64) within the normal exponents."""
    bias, shift = (127, 23) if dtype == F32 else (1023, 52)
    return k.bitcast((n + bias) << k.const(n, shift), dtype)


def nearest(k: Scalars, x: Lane, factor: float = 1.0) -> tuple[Lane, Lane]:
    """x times factor rounded to an integer, as a float and as an integer: at most 2^21 (float32) or 2^50 (float64)."""
    magic = 12582912.0 if x.dtype == F32 else 6755399441055744.0
    integer = I32 if x.dtype == F32 else I64
    shifted = x + magic if factor == 1.0 else k.fma(x, k.const(x, factor), k.const(x, magic))
    bits = k.bitcast(shifted, integer) - k.bitcast(k.const(x, magic), integer)
    return shifted - magic, bits


def reduce_exp(k: Scalars, x: Lane) -> tuple[Lane, Lane, Lane, Lane]:
    """x = n ln 2 + r: (n as a float, n as an integer, r, what r lacks)."""
    high, low = by_dtype(x, c.LN2_F32, c.LN2)
    n, bits = nearest(k, x, c.LOG2E[0])
    first = k.fma(n, k.const(x, -high), x)
    r = k.fma(n, k.const(x, -low), first)
    lacks = k.fma(n, k.const(x, -low), first - r)
    return n, bits, r, lacks


def scaled(k: Scalars, y: Lane, n: Lane, bits: Lane) -> Lane:
    """y 2^n, for n as a float and as an integer. In two halves where no instruction does it, so that subnormal results
    are rounded once and large n do not overflow early."""
    whole = k.scale(y, n)
    if whole is not None:
        return whole
    half = bits >> k.const(bits, 1)
    return y * power_of_two(k, half, y.dtype) * power_of_two(k, bits - half, y.dtype)


def clamp_exp(k: Scalars, x: Lane) -> Lane:
    """x within the range where exp is neither 0 nor inf, and a little more; NaN stays."""
    low, high = (-104.5, 89.5) if x.dtype == F32 else (-746.0, 711.0)
    x = k.select(x > high, k.const(x, high), x)
    return k.select(x < low, k.const(x, low), x)


def expm1_reduced(k: Scalars, r: Lane, lacks: Lane) -> Lane:
    """e^(r + lacks) - 1 for |r| <= ln 2 / 2."""
    coefficients = c.EXP32 if r.dtype == F32 else c.EXP64
    return r + k.fma(r * r, in_pairs(k, r, coefficients), lacks)


def exp(k: Scalars, x: Lane, shift: int = 0) -> Lane:
    """e^x 2^shift."""
    n, bits, r, _ = reduce_exp(k, clamp_exp(k, x))
    y = 1.0 + k.fma(r * r, in_pairs(k, r, by_dtype(x, c.EXP32, c.EXP64)), r)
    return scaled(k, y, n + float(shift) if shift else n, bits + shift if shift else bits)


def exp2(k: Scalars, x: Lane) -> Lane:
    """2^x."""
    most, least = by_dtype(x, (129.0, -151.0), (1025.0, -1080.0))
    clamped = k.select(x > most, k.const(x, most), x)
    clamped = k.select(clamped < least, k.const(x, least), clamped)
    n, bits = nearest(k, clamped)
    rest = clamped - n
    high, low, *_ = by_dtype(x, c.LN2_WIDE_F32, c.LN2_WIDE)
    r = rest * high
    lacks = k.fma(rest, k.const(x, high), -r) + rest * low
    return scaled(k, 1.0 + expm1_reduced(k, r, lacks), n, bits)


def expm1_parts(k: Scalars, x: Lane) -> tuple[Lane, Lane]:
    """Half of e^x - 1, and half of what rounding lost: e^x may be 2^1024, which is no number. NaN is not kept."""
    least, most = by_dtype(x, (-30.0, 88.8), (-60.0, 709.9))
    clamped = k.select(x < least, k.const(x, least), x)
    clamped = k.select(clamped > most, k.const(x, most), clamped)
    _, n, r, lacks = reduce_exp(k, clamped)
    rest = k.fma(r * r, polynomial(k, r, by_dtype(x, c.EXP32, c.EXP64)), lacks)
    p = r + rest
    half = power_of_two(k, n - 1, x.dtype)
    whole, part = half - 0.5, half * p
    y = whole + part
    # Where whole is not 0 it is the larger of the two; a large one lost the 1 / 2 itself.
    lost = k.select(n == 0, k.const(x, 0.0), part - (y - whole)) + ((half - whole) - 0.5)
    return y, k.fma(half, (r - p) + rest, lost)


def expm1(k: Scalars, x: Lane) -> Lane:
    """e^x - 1, without cancellation near 0."""
    y, lost = expm1_parts(k, x)
    y = y + lost
    # A small one keeps what the half of a subnormal number would lose.
    return k.select((k.abs(x) < 1e-16) | (x != x), x, y + y)


ROOT_HALF = 0.7071067811865476


def split_log(k: Scalars, x: Lane) -> tuple[Lane, Lane]:
    """x = 2^e m with m in [sqrt(1/2), sqrt(2)): (e, m); x is positive and finite, or the result is not used."""
    parts = k.split(x)
    if parts is not None:
        e, m = parts
        upper = m >= by_dtype(x, 2 * float(np.float32(ROOT_HALF)), 2 * ROOT_HALF)
        return k.select(upper, e + 1.0, e), k.select(upper, m * 0.5, m)
    small, factor, back, shift = by_dtype(
        x, (1.1754943508222875e-38, 2.0**24, 24.0, 23), (2.2250738585072014e-308, 2.0**54, 54.0, 52)
    )
    integer = by_dtype(x, I32, I64)
    tiny = x < small
    x = k.select(tiny, x * factor, x)
    bits = k.bitcast(x, integer)
    root = k.bitcast(k.const(x, ROOT_HALF), integer)
    e = (bits - root) >> k.const(bits, shift)
    m = k.bitcast(bits - (e << k.const(e, shift)), x.dtype)
    e = to_float(k, e, x.dtype)
    return k.select(tiny, e - back, e), m


def to_float(k: Scalars, n: Lane, dtype: np.dtype) -> Lane:
    """A small integer as a float, by its bits: AVX2 has no conversion from int64."""
    if dtype == F32:
        return k.cast(n, dtype)
    magic = 6755399441055744.0
    base = k.bitcast(n, F64)
    like = k.const(base, magic)
    return k.bitcast(n + k.bitcast(like, I64), F64) - magic


LOG_EDGES = 0x03530422
"""vfixupimm's responses, four bits a class from the lowest on: NaN stays, at 0 it is -inf, at 1 and at any other
positive number what was computed, at -inf NaN, at inf inf, below 0 NaN."""


def log_edges(k: Scalars, x: Lane, y: Lane) -> Lane:
    """What a logarithm is at 0, inf, NaN and below 0."""
    mended = k.mend(y, x, LOG_EDGES)
    if mended is not None:
        return mended
    y = k.select(x == 0.0, k.const(x, -INF), y)
    y = k.select((x == INF) | (x != x), x, y)
    # NaN as x86 makes it: negative.
    return k.select(x < 0.0, k.const(x, -float("nan")), y)


def log_mantissa(k: Scalars, m: Lane, single: bool = False) -> tuple[Lane, Lane]:
    """log m = f - small: (f, small) with f = m - 1, for m in [sqrt(1/2), sqrt(2)); `single` is good enough for float32,
    whatever the dtype of m."""
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    half = 0.5 * f * f
    tail = z * in_pairs(k, z, c.LOG32 if single or m.dtype == F32 else c.LOG64)
    return f, half - s * (half + tail)


def log(k: Scalars, x: Lane) -> Lane:
    """The natural logarithm."""
    e, m = split_log(k, x)
    f, small = log_mantissa(k, m)
    high, low = by_dtype(x, c.LN2_F32, c.LN2)
    y = k.fma(e, k.const(x, high), f - (small - e * low))
    return log_edges(k, x, y)


def log_to_base(k: Scalars, m: Lane, factor: tuple[float, float]) -> tuple[Lane, Lane]:
    """log m times a factor, the sum of two numbers, as a leading number and the rest."""
    f, small = log_mantissa(k, m)
    high, low = factor
    y = f * high
    lost = k.fma(f, k.const(m, low), k.fma(f, k.const(m, high), -y))
    return y, k.fma(-small, k.const(m, high), lost)


def log2(k: Scalars, x: Lane) -> Lane:
    """The logarithm of base 2; exact at powers of two."""
    e, m = split_log(k, x)
    y, rest = log_to_base(k, m, by_dtype(x, c.LOG2E_F32, c.LOG2E))
    return log_edges(k, x, e + (y + rest))


def log10(k: Scalars, x: Lane) -> Lane:
    """The logarithm of base 10."""
    e, m = split_log(k, x)
    y, rest = log_to_base(k, m, by_dtype(x, c.LOG10E_F32, c.LOG10E))
    high, low = by_dtype(x, c.LOG10_2_F32, c.LOG10_2)
    return log_edges(k, x, k.fma(e, k.const(x, high), y + k.fma(e, k.const(x, low), rest)))


def log1p_sum(k: Scalars, x: Lane, x_lost: Lane | None = None) -> Lane:
    """log(1 + x + x_lost), without cancellation near 0, where |x_lost| is at most a few ULP of x."""
    u = 1.0 + x
    # What 1 + x lost in rounding, whichever of the two is larger.
    lost = k.select(x > 1.0, 1.0 - (u - x), x - (u - 1.0))
    lost = lost if x_lost is None else lost + x_lost
    e, m = split_log(k, u)
    f, small = log_mantissa(k, m)
    high, low = by_dtype(x, c.LN2_F32, c.LN2)
    y = k.fma(e, k.const(x, high), f - (small - (e * low + lost / u)))
    y = k.select(k.abs(x) < 1e-16, x, y)
    y = k.select((x == INF) | (x != x), x, y)
    y = k.select(x == -1.0, k.const(x, -INF), y)
    return k.select(x < -1.0, k.const(x, float("nan")), y)


def log1p(k: Scalars, x: Lane) -> Lane:
    """log(1 + x), without cancellation near 0."""
    return log1p_sum(k, x)


def tanh(k: Scalars, x: Lane) -> Lane:
    """The hyperbolic tangent. Eight polynomials, one for each piece of the line, where a lookup of eight numbers is one
    instruction; elsewhere by e^(2x): the lookups take longer there (float64 with AVX2 on Zen 2: 8.4 and 4.6 ns)."""
    return tanh_in_pieces(k, x) if x.dtype == F32 or k.picks(x) else tanh_by_exp(k, x)


def tanh_by_exp(k: Scalars, x: Lane) -> Lane:
    """Up to 0.55, x and x^3 times a polynomial; beyond, 1 - 2 / (e^(2x) + 1)."""
    a = k.abs(x)
    # Beyond, it is 1 to the last bit. NaN stays.
    a = k.select(a > 19.1, k.const(x, 19.1), a)
    square = a * a
    near = k.fma(square * a, in_pairs(k, square, c.TANH64_NEAR), a)
    _, bits, r, _ = reduce_exp(k, a + a)
    e = k.fma(r * r, in_pairs(k, r, c.EXP64), r) + 1.0
    far = 1.0 - 2.0 / k.fma(e, power_of_two(k, bits, x.dtype), k.const(x, 1.0))
    return k.copysign(k.select(a < 0.55, near, far), x)


def tanh_in_pieces(k: Scalars, x: Lane) -> Lane:
    """Eight polynomials."""
    last, integer, shift = by_dtype(x, (9.03, I32, 22), (19.1, I64, 51))
    a = k.abs(x)
    # Beyond, it is 1 to the last bit, and so is the polynomial there. NaN stays.
    a = k.select(a > last - 0.01, k.const(x, last - 0.01), a)
    # A number in [2, 32): the exponent and the first bit are the piece, so that pieces grow as tanh flattens.
    piece = k.bitcast(k.fma(a, k.const(x, 30.0 / last), k.const(x, 2.0)), integer)
    centres, rows = by_dtype(x, (c.TANH32_CENTRES, c.TANH32), (c.TANH64_CENTRES, c.TANH64))
    return k.copysign(on_piece(k, "tanh", a, piece >> k.const(piece, shift), centres, rows), x)


def sigmoid(k: Scalars, x: Lane) -> Lane:
    """1 / (1 + e^-x), with full relative precision on both sides."""
    clamped = clamp_exp(k, -k.abs(x))
    n, bits, r, lacks = reduce_exp(k, clamped)
    t = expm1_reduced(k, r, lacks)
    mantissa = 1.0 + t
    # Relative to e within a half: the mantissa lies between 0.7 and 1.5.
    lost = t - (mantissa - 1.0)
    e = scaled(k, mantissa, n, bits)
    s = 1.0 + e
    right = x >= 0.0
    y = k.select(right, k.const(x, 1.0), e) / s
    # What rounding lost of e and s comes back but for a third of it: 1 / s is 0.75 within a third.
    loss = k.select(right, -e * lost, lost) - (e - (s - 1.0))
    return k.fma(y * loss, k.const(x, 0.75), y)


def sinh(k: Scalars, x: Lane) -> Lane:
    """The hyperbolic sine."""
    a = k.abs(x)
    # With t = (e^a - 1) / 2 it is t + t / (1 + 2 t).
    far, tiny = by_dtype(x, (9.5, 1e-5), (22.0, 1e-9))
    t, t_lost = expm1_parts(k, k.select(a > far, k.const(x, far), a))
    below, rest = two_sum(k.const(x, 1.0), t + t)
    q, q_lost = quotient(k, (t, t_lost), (below, rest + (t_lost + t_lost)))
    near = t + q
    near = near + (((t - near) + q) + (t_lost + q_lost))
    y = k.select(a > far, exp(k, a, shift=-1), k.select(a < tiny, a, near))
    return k.select(x != x, x, k.copysign(y, x))


def cosh(k: Scalars, x: Lane) -> Lane:
    """The hyperbolic cosine."""
    a = k.abs(x)
    half = exp(k, a, shift=-1)
    return k.select(a > 22.0, half, half + 0.25 / half)


def log_of_single(k: Scalars, x: Lane) -> tuple[Lane, Lane]:
    """x = 2^e m: (e, log m) for a positive finite number of float64, good enough for a result in float32."""
    e, m = split_log(k, x)
    f, small = log_mantissa(k, m, single=True)
    return e, f - small


def log_single(k: Scalars, x: Lane) -> Lane:
    """log x as a float32, for a positive finite number of float64."""
    e, y = log_of_single(k, x)
    return k.cast(k.fma(e, k.const(e, c.LN2_WIDE[0]), y), F32)


def unless_small(k: Scalars, a: Lane, y: Lane, third: float) -> Lane:
    """y, or the first two terms of the series, a + third a^3, where a float64 would have lost too much of a."""
    return k.select(a < 1e-4, k.fma(a * a, a * third, a), y)


def arcsinh(k: Scalars, x: Lane) -> Lane:
    """The inverse hyperbolic sine; of float32 as a logarithm in float64, in which nothing overflows."""
    a = k.abs(x)
    if x.dtype == F32:
        wide = k.cast(a, F64)
        y = unless_small(k, a, log_single(k, wide + k.sqrt(k.fma(wide, wide, k.const(wide, 1.0)))), -1.0 / 6.0)
        return k.select(a < INF, k.copysign(y, x), x)
    large = a > 268435456.0
    safe = k.select(large, k.const(x, 1.0), a)
    square = safe * safe
    rest = square / (1.0 + k.sqrt(1.0 + square))
    argument = safe + rest
    lost = (safe - argument) + rest
    near = log1p_sum(k, k.select(large, a - 1.0, argument), k.select(large, k.const(x, 0.0), lost))
    return k.copysign(k.select(large, near + c.LN2_WIDE[0], near), x)


def arccosh(k: Scalars, x: Lane) -> Lane:
    """The inverse hyperbolic cosine; of float32 as a logarithm in float64, in which x^2 - 1 is exact near 1."""
    if x.dtype == F32:
        wide = k.cast(k.select((x >= 1.0) & (x < INF), x, k.const(x, 1.0)), F64)
        y = log_single(k, wide + k.sqrt(k.fma(wide, wide, k.const(wide, -1.0))))
        return k.select(x < 1.0, k.const(x, float("nan")), k.select(x < INF, y, x))
    large = x > 268435456.0
    t = x - 1.0
    safe = k.select(large, k.const(x, 1.0), t)
    square = k.fma(safe, safe, 2.0 * safe)
    root = k.sqrt(square)
    # What the square and its root lost; at 1 there is nothing.
    lost = k.fma(safe, safe, 2.0 * safe - square) + k.fma(-root, root, square)
    lost = k.select(root > 0.0, lost / (root + root), k.const(x, 0.0))
    argument, rest = two_sum(root, safe)
    y = log1p_sum(k, k.select(large, t, argument), k.select(large, k.const(x, 0.0), rest + lost))
    y = k.select(large, y + c.LN2_WIDE[0], y)
    return k.select(x < 1.0, k.const(x, float("nan")), y)


def arctanh(k: Scalars, x: Lane) -> Lane:
    """The inverse hyperbolic tangent; of float32 as a logarithm in float64."""
    a = k.abs(x)
    inside = a < 1.0
    safe = k.select(inside, a, k.const(x, 0.0))
    if x.dtype == F32:
        wide = k.cast(safe, F64)
        y = unless_small(k, a, 0.5 * log_single(k, (1.0 + wide) / (1.0 - wide)), 1.0 / 3.0)
    else:
        # Half the logarithm of 1 + 2 a / (1 - a).
        below = 1.0 - safe
        q, q_lost = quotient(k, (safe + safe, k.const(x, 0.0)), (below, (1.0 - below) - safe))
        y = 0.5 * log1p_sum(k, q, q_lost)
        y = k.select(a < 1e-9, a, y)
    edge = k.select(a == 1.0, k.const(x, INF), k.const(x, float("nan")))
    return k.copysign(k.select(inside, y, edge), x)


def cbrt(k: Scalars, x: Lane) -> Lane:
    """The cube root: with x = 2^(3 n) t, t in [1/2, 4), a polynomial of t's mantissa, of float32 in float64, then
    Newton's step with an exact residual."""
    a = k.abs(x)
    ordinary = (a > 0.0) & (a < INF)
    safe = k.select(ordinary, a, k.const(x, 1.0))
    if x.dtype == F32:
        y, _, scale = cbrt_start(k, k.cast(safe, F64))
        return k.select(ordinary, k.copysign(k.cast(y * scale, F32), x), x)
    tiny = safe < 1e-290
    y, t, scale = cbrt_start(k, k.select(tiny, safe * 2.0**60, safe))
    square = y * y
    lost = k.fma(y, y, -square)
    cube = square * y
    residual = (k.fma(square, y, -cube) + lost * y) + (cube - t)
    y = (y - residual / (3.0 * square)) * scale
    y = k.select(tiny, y * 2.0**-20, y)
    return k.select(ordinary, k.copysign(y, x), x)


def cbrt_start(k: Scalars, x: Lane) -> tuple[Lane, Lane, Lane]:
    """x = 2^(3 n) t for a positive normal number: the cube root of t to 30 bits, t, and 2^n."""
    bits = k.bitcast(x, I64)
    e = (bits >> k.const(bits, 52)) - 1023
    m = k.bitcast(bits - (e << k.const(e, 52)), F64)
    exponent = to_float(k, e, F64)
    n, whole = nearest(k, exponent, 1.0 / 3.0)
    r = exponent - 3.0 * n
    below, above = r < 0.0, r > 0.0
    half_root, root = c.CBRT_2
    factor = k.select(below, k.const(x, half_root), k.select(above, k.const(x, root), k.const(x, 1.0)))
    t = k.select(below, m * 0.5, k.select(above, m + m, m))
    return in_pairs(k, m, c.CBRT) * factor, t, power_of_two(k, whole, F64)
