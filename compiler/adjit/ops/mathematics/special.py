"""erf, pow, remainders and Threefry over the basic scalar protocol."""

from __future__ import annotations

import numpy as np

from adjit.ops.mathematics import coefficients as c
from adjit.ops.mathematics.elementary import (
    F32,
    F64,
    I32,
    I64,
    INF,
    expm1_reduced,
    in_float64,
    in_pairs,
    log_of_single,
    nearest,
    on_piece,
    polynomial,
    power_of_two,
    reduce_exp,
    scaled,
    split_log,
)
from adjit.ops.scalar import Lane, Scalars

NAN = float("nan")


def erf(k: Scalars, x: Lane) -> Lane:
    """The error function. Eight polynomials, one for each piece of the line, where a lookup of eight numbers is one
    instruction; elsewhere by e^(-x^2): the lookups take longer there (AVX2 on Zen 2: 5.4 and 4.4 ns)."""
    return erf_in_pieces(k, x) if x.dtype == F32 or k.picks(x) else erf_by_exp(k, x)


def erf_by_exp(k: Scalars, x: Lane) -> Lane:
    """Up to 1, x and x times a polynomial; beyond, 1 - e^(-x^2) erfcx(x), with a polynomial for erfcx."""
    a = k.abs(x)
    # Beyond, it is 1 to the last bit. NaN stays.
    a = k.select(a > 5.95, k.const(x, 5.95), a)
    z = a * a
    near = k.fma(a, in_pairs(k, z, c.ERF64_NEAR), a)
    _, bits, r, lacks = reduce_exp(k, -z)
    e = (1.0 + expm1_reduced(k, r, lacks)) * power_of_two(k, bits, x.dtype)
    far = k.fma(-e, in_pairs(k, a - 3.5, c.ERFCX64), k.const(x, 1.0))
    return k.copysign(k.select(a < 1.0, near, far), x)


def erf_in_pieces(k: Scalars, x: Lane) -> Lane:
    """Eight polynomials."""
    single = x.dtype == F32
    last, magic = (3.935, 12582912.0) if single else (5.95, 6755399441055744.0)
    a = k.abs(x)
    # Beyond, it is 1 to the last bit, and so is the polynomial there. NaN stays.
    a = k.select(a > last, k.const(x, last), a)
    # The nearest whole number to 2 a - a^2 / 8, so that pieces grow as erf flattens; evenly for float32.
    grows = k.const(x, 1.9) if single else k.fma(a, k.const(x, -0.125), k.const(x, 2.0))
    piece = k.bitcast(k.fma(a, grows, k.const(x, magic)), I32 if single else I64)
    centres, rows = (c.ERF32_CENTRES, c.ERF32) if single else (c.ERF64_CENTRES, c.ERF64)
    # 2 / sqrt(pi) lies half way between two numbers of float32: of the first piece nothing else should be lost.
    return k.copysign(on_piece(k, "erf", a, piece, centres, rows, slope_last=single), x)


def log_wide(k: Scalars, x: Lane) -> tuple[Lane, Lane]:
    """log2 x to about 65 bits, as a sum of two, for positive finite x: what a power needs."""
    e, m = split_log(k, x)
    f = m - 1.0
    d = 2.0 + f
    d_lost = f - (d - 2.0)
    s = f / d
    s_lost = (k.fma(-s, d, f) - s * d_lost) / d
    z = s * s
    z_lost = k.fma(s, s, -z) + 2.0 * s * s_lost
    # log m = 2 s + s z (2/3 + z tail): the first two terms in two parts.
    third = 0.6666666666666666
    third_lost = 3.700743415417188e-17
    u = z * third
    u_lost = k.fma(z, k.const(x, third), -u) + z_lost * third + z * third_lost
    tail = z * z * polynomial(k, z, c.LOG_TAIL)
    v = u + tail
    v_lost = (tail - (v - u)) + u_lost
    w = s * v
    w_lost = k.fma(s, v, -w) + s * v_lost + s_lost * v
    log_m = 2.0 * s + w
    lost = (w - (log_m - 2.0 * s)) + (w_lost + 2.0 * s_lost)
    high, low = c.LOG2E
    product = log_m * high
    product_lost = k.fma(log_m, k.const(x, high), -product) + (log_m * low + lost * high)
    total = e + product
    return total, (product - (total - e)) + product_lost


def raised(k: Scalars, a: Lane, y: Lane) -> Lane:
    """a^y in float64, for positive finite a."""
    bounded = k.select(k.abs(y) > 1e300, k.copysign(k.const(y, 1e300), y), y)
    total, rest = log_wide(k, a)
    p = bounded * total
    p_lost = k.fma(bounded, total, -p) + bounded * rest
    over, under = p > 1100.0, p < -1200.0
    none = over | under | (p != p)
    safe = k.select(none, k.const(p, 0.0), p)
    n, bits = nearest(k, safe)
    fraction = (safe - n) + k.select(none, k.const(p, 0.0), p_lost)
    high, low, _ = c.LN2_WIDE
    r = fraction * high
    lacks = k.fma(fraction, k.const(p, high), -r) + fraction * low
    result = scaled(k, 1.0 + expm1_reduced(k, r, lacks), n, bits)
    return k.select(over, k.const(a, INF), k.select(under, k.const(a, 0.0), result))


def raised_single(k: Scalars, a: Lane, y: Lane) -> Lane:
    """a^y for positive finite numbers of float32, in the arithmetic of float64 with the polynomials of float32."""
    e, log_m = log_of_single(k, k.cast(a, F64))
    p = k.cast(y, F64) * k.fma(log_m, k.const(log_m, c.LOG2E[0]), e)
    # Beyond, it is 0 or inf in float32. NaN is the caller's.
    p = k.select(p > 200.0, k.const(p, 200.0), k.select(p > -200.0, p, k.const(p, -200.0)))
    n, bits = nearest(k, p)
    r = (p - n) * c.LN2_WIDE[0]
    mantissa = 1.0 + k.fma(r * r, in_pairs(k, r, c.EXP32), r)
    return k.cast(mantissa * power_of_two(k, bits, F64), F32)


def float_pow(k: Scalars, x: Lane, y: Lane) -> Lane:
    """x^y with C99's special cases: x^0 and 1^y are 1, also for NaN; a negative x needs a whole y."""
    a = k.abs(x)
    ordinary = (a > 0.0) & (a < INF)
    safe = k.select(ordinary, a, k.const(x, 1.0))
    result = raised_single(k, safe, y) if x.dtype == F32 else raised(k, safe, y)
    rises = (y > 0.0) == (a > 1.0)
    # 0 and inf.
    edge = k.select((a == 0.0) == (y > 0.0), k.const(x, 0.0), k.const(x, INF))
    result = k.select(ordinary, result, edge)
    # An infinite exponent.
    infinite = k.abs(y) == INF
    limit = k.select(a == 1.0, k.const(x, 1.0), k.select(rises, k.const(x, INF), k.const(x, 0.0)))
    result = k.select(infinite, limit, result)
    # The sign: an odd whole exponent keeps that of x; a broken one of a negative number is NaN.
    whole = k.trunc(y) == y
    odd = whole & (k.trunc(y * 0.5) != y * 0.5)
    negative = k.copysign(k.const(x, 1.0), x) < 0.0
    result = k.select(negative & odd, -result, result)
    broken = negative & ~whole & (a > 0.0) & (a < INF)
    result = k.select(broken, k.const(x, NAN), result)
    result = k.select((x != x) | (y != y), x + y, result)
    return k.select((y == 0.0) | (x == 1.0), k.const(x, 1.0), result)


def integer_pow(k: Scalars, x: Lane, y: Lane) -> Lane:
    """x^y by squaring, modulo 2^bits, for y >= 0."""
    one = k.const(x, 1)

    def step(state: list[Lane]) -> list[Lane]:
        result, base, rest = state
        odd = (rest & 1) != 0
        return [k.select(odd, result * base, result), base * base, rest >> one]

    return k.repeat_while([one + x * k.const(x, 0), x, y], lambda state: state[2] > 0, step)[0]


@in_float64
def float_fmod(k: Scalars, x: Lane, y: Lane) -> Lane:
    """x - trunc(x / y) y, exactly: long division, up to 2^50 of quotient at a time."""
    b = k.abs(y)
    fine = (k.abs(x) < INF) & (b > 0.0) & (y == y)
    one = k.const(x, 1.0)
    divisor = k.select(fine & (b < INF), b, one)
    start = k.select(fine, k.abs(x), k.const(x, 0.0))
    start = k.select(b == INF, k.const(x, 0.0), start)

    def step(state: list[Lane]) -> list[Lane]:
        (r,) = state
        ratio = r / divisor
        # Where even the quotient overflows, 2^1100 times less of it does not: the dividend is above 2^-50 then, and
        # the divisor below 1.
        huge = ratio == INF
        ratio = k.select(huge, (r * 2.0**-550) / (divisor * 2.0**550), ratio)
        bits = k.bitcast(ratio, I64)
        exponent = ((bits >> k.const(bits, 52)) & 2047) - 1023 - 50
        exponent = exponent + k.select(huge, k.const(bits, 1100), k.const(bits, 0))
        # Where the quotient has more bits than a float64, take the leading ones.
        # 2^up in two halves, each a number: the largest float over the smallest would ask for 2^2047.
        up = k.select(exponent > 0, exponent, k.const(bits, 0))
        up = k.select(up > 2046, k.const(bits, 2046), up)
        half = up >> k.const(up, 1)
        wide = divisor * power_of_two(k, half, r.dtype) * power_of_two(k, up - half, r.dtype)
        q = k.trunc(r / wide)
        rest = k.fma(-q, wide, r)
        rest = k.select(rest < 0.0, rest + wide, rest)
        rest = k.select(rest >= wide, rest - wide, rest)
        return [k.select(r >= divisor, rest, r)]

    (r,) = k.repeat_while([start], lambda state: state[0] >= divisor, step)
    r = k.select(b == INF, k.abs(x), r)
    return k.select(fine, k.copysign(r, x), k.const(x, NAN))


def float_remainder(k: Scalars, x: Lane, y: Lane) -> Lane:
    """Python's remainder of floats, with the sign of y, from C's; a zero has the sign of y, too."""
    rest = k.fmod(x, y)
    whole = rest == 0.0
    return k.select(whole, k.copysign(k.const(x, 0.0), y), k.select((y < 0.0) != (rest < 0.0), rest + y, rest))


def float_floor_divide(k: Scalars, x: Lane, y: Lane) -> Lane:
    """The floor of the quotient as NumPy has it: of what is left without the remainder, which is nearly whole."""
    rest = k.fmod(x, y)
    lower = (rest != 0.0) & ((y < 0.0) != (rest < 0.0))
    exact = (x - rest) / y
    exact = k.select(lower, exact - 1.0, exact)
    floor = k.floor(exact)
    # A rounding error below the whole number must not cost one.
    floor = k.select(exact - floor > 0.5, floor + 1.0, floor)
    quotient = x / y
    floor = k.select(exact == 0.0, k.copysign(k.const(x, 0.0), quotient), floor)
    return k.select(y == 0.0, quotient, floor)


def threefry(k: Scalars, key: Lane, counter: Lane) -> Lane:
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011): int64 words, the low 32 bits first."""
    word = np.dtype(np.int32)

    def halves(x: Lane) -> tuple[Lane, Lane]:
        return k.cast(x, word), k.cast(x >> k.const(x, 32), word)

    def rotate(x: Lane, n: int) -> Lane:
        unsigned = k.bitcast(x, np.dtype(np.uint32))
        return (x << k.const(x, n)) | k.bitcast(unsigned >> k.const(unsigned, 32 - n), word)

    k0, k1 = halves(key)
    x0, x1 = halves(counter)
    keys = (k0, k1, k0 ^ k1 ^ 0x1BD11BDA)
    x0, x1 = x0 + keys[0], x1 + keys[1]
    for turn in range(20):
        x0 = x0 + x1
        x1 = rotate(x1, (13, 15, 26, 6, 17, 29, 16, 24)[turn % 8]) ^ x0
        if turn % 4 == 3:
            at = turn // 4 + 1
            x0, x1 = x0 + keys[at % 3], x1 + keys[(at + 1) % 3] + at
    low = k.cast(k.bitcast(x0, np.dtype(np.uint32)), I64)
    high = k.cast(x1, I64)
    return (high << k.const(high, 32)) | low
