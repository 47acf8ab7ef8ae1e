"""Trigonometric functions and their inverses, over the basic scalar protocol; float32 goes through float64.

Arguments up to 2^20 are reduced by multiples of pi / 2 in three parts; larger ones by Payne and Hanek's method
(1983) with the bits of 2 / pi that matter, on a path of its own that is taken only if a lane needs it.
"""

from __future__ import annotations

from typing import Any

from adjit.ops.mathematics import coefficients as c
from adjit.ops.mathematics.elementary import F64, I64, INF, in_float64, nearest, polynomial

Lane = Any
LARGE = 1048576.0
PIECES = 9


def two_sum(a: Lane, b: Lane) -> tuple[Lane, Lane]:
    """a + b and what rounding lost (Knuth)."""
    s = a + b
    bb = s - a
    return s, (a - (s - bb)) + (b - bb)


def quadrant(k: Any, x: Lane) -> tuple[Lane, Lane, Lane]:
    """x = n pi / 2 + r: (n modulo 4 as a float, r, what r lacks) for |x| <= 2^20."""
    n, _ = nearest(k, x * c.TWO_OVER_PI_ALL)
    first = k.fma(n, k.const(x, -c.PI_2[0]), x)
    # Both may cancel almost wholly, so what rounding loses counts.
    second = n * -c.PI_2[1]
    r, lacks = two_sum(first, second)
    lacks = lacks + k.fma(n, k.const(x, -c.PI_2[1]), -second)
    lacks = k.fma(n, k.const(x, -c.PI_2[2]), lacks)
    return n - 4.0 * k.floor(n * 0.25), r, lacks


def large_quadrant(k: Any, x: Lane) -> tuple[Lane, Lane, Lane]:
    """The same for any finite x: only the pieces of 2 / pi whose product with x is not a multiple of 4 count."""
    bits = k.bitcast(x, I64)
    exponent = ((bits >> k.const(bits, 52)) & 2047) - 1023
    # A piece's lowest bit is 2^(-24 (i + 1)), that of x is 2^(exponent - 52): below 2^2 their product counts. Nine
    # pieces reach 2^-139; no float64 comes closer to a multiple of pi / 2 than 2^-61, so 78 bits of the rest are right.
    skipped = exponent - 52 - 2
    piece = k.select(skipped > 0, skipped, k.const(bits, 0)) * 2731 >> k.const(bits, 16)
    # Split x in two halves whose products with a piece of 24 bits are exact. The pieces stand times 2^256.
    high = k.bitcast(bits & -134217728, F64)
    low = (x - high) * 2.0**-256
    high = high * 2.0**-256
    zero = k.const(x, 0.0)
    total, lost, lost_again = zero, zero, zero
    for i in range(PIECES):
        part = k.table("adjit_two_over_pi", c.TWO_OVER_PI, piece + i)
        for half in (high, low):
            product = half * part
            product = product - 4.0 * k.floor(product * 0.25)
            total, rest = two_sum(total, product)
            lost, rest = two_sum(lost, rest)
            lost_again = lost_again + rest
    total = total - 4.0 * k.floor(total * 0.25)
    n = k.rint(total)
    fraction = total - n
    f, f_lost = two_sum(fraction, lost)
    f, f_lost = two_sum(f, f_lost + lost_again)
    r = f * c.PI_2[0]
    lacks = k.fma(f, k.const(x, c.PI_2[0]), -r) + (f * c.PI_2[1] + f_lost * c.PI_2[0])
    n = k.select(n == 4.0, zero, n)
    return n, r, lacks


def sin_reduced(k: Any, r: Lane, lacks: Lane) -> Lane:
    """sin(r + lacks) for |r| <= pi / 4."""
    z = r * r
    return r + k.fma(r * z, polynomial(k, z, c.SIN64), lacks)


def cos_reduced(k: Any, r: Lane, lacks: Lane) -> Lane:
    """cos(r + lacks) for |r| <= pi / 4."""
    z = r * r
    half = 0.5 * z
    top = 1.0 - half
    lost = (1.0 - top) - half
    return top + (lost + k.fma(z * z, polynomial(k, z, c.COS64), -r * lacks))


def turned(k: Any, n: Lane, r: Lane, lacks: Lane, quarter: int) -> Lane:
    """sin(n pi / 2 + quarter pi / 2 + r)."""
    n = n + float(quarter)
    n = n - 4.0 * k.floor(n * 0.25)
    odd = (n == 1.0) | (n == 3.0)
    y = k.select(odd, cos_reduced(k, r, lacks), sin_reduced(k, r, lacks))
    return k.select(n >= 2.0, -y, y)


def by_quadrant(k: Any, x: Lane, finish: Any) -> Lane:
    """`finish(n, r, lacks)` for the reduction that each lane needs; NaN for inf and NaN."""
    large = k.abs(x) > LARGE
    usual = k.select(large, k.const(x, 0.0), x)
    y = finish(*quadrant(k, usual))

    def rare() -> Lane:
        finite = k.abs(x) < INF
        safe = k.select(large & finite, x, k.const(x, 2097152.0))
        result = finish(*large_quadrant(k, k.abs(safe)), safe)
        return k.select(finite, result, x - x)

    return k.where_needed(large | (x != x), y, rare)


@in_float64
def sin(k: Any, x: Lane) -> Lane:
    """The sine."""

    def finish(n: Lane, r: Lane, lacks: Lane, signed: Lane | None = None) -> Lane:
        y = turned(k, n, r, lacks, 0)
        return y if signed is None else k.select(signed < 0.0, -y, y)

    return k.select(x == 0.0, x, by_quadrant(k, x, finish))


@in_float64
def cos(k: Any, x: Lane) -> Lane:
    """The cosine."""
    return by_quadrant(k, x, lambda n, r, lacks, signed=None: turned(k, n, r, lacks, 1))


@in_float64
def tan(k: Any, x: Lane) -> Lane:
    """The tangent."""

    def finish(n: Lane, r: Lane, lacks: Lane, signed: Lane | None = None) -> Lane:
        s, t = sin_reduced(k, r, lacks), cos_reduced(k, r, lacks)
        odd = (n == 1.0) | (n == 3.0)
        y = k.select(odd, -t, s) / k.select(odd, s, t)
        return y if signed is None else k.select(signed < 0.0, -y, y)

    return k.select(x == 0.0, x, by_quadrant(k, x, finish))


def arctan_positive(k: Any, a: Lane) -> Lane:
    """arctan a for a >= 0, NaN included."""
    far = a > 1.0
    inverse = 1.0 / k.select(far, a, k.const(a, 1.0))
    t = k.select(far, inverse, a)
    upper = t > 0.4142135623730951
    u = k.select(upper, (t - 1.0) / (t + 1.0), t)
    z = u * u
    base = k.fma(u * z, polynomial(k, z, c.ATAN64), u)
    quarter, rest = c.PI_2[0] / 2, c.PI_2[1] / 2
    near = k.select(upper, (base + rest) + quarter, base)
    beyond = k.select(upper, (rest - base) + quarter, (c.PI_2[1] - base) + c.PI_2[0])
    return k.select(far, beyond, near)


@in_float64
def arctan(k: Any, x: Lane) -> Lane:
    """The inverse tangent."""
    return k.copysign(arctan_positive(k, k.abs(x)), x)


@in_float64
def arctan2(k: Any, y: Lane, x: Lane) -> Lane:
    """The angle of the point (x, y), with C99's special cases."""
    a, b = k.abs(y), k.abs(x)
    swap = a > b
    small, large = k.select(swap, b, a), k.select(swap, a, b)
    # Scaled so that the quotient of two subnormals or two giants is right.
    both_zero = large == 0.0
    both_inf = small == INF
    ratio = k.select(both_zero, k.const(x, 0.0), k.select(both_inf, k.const(x, 1.0), small / large))
    angle = arctan_positive(k, ratio)
    angle = k.select(swap, (c.PI_2[1] - angle) + c.PI_2[0], angle)
    negative = k.copysign(k.const(x, 1.0), x) < 0.0
    angle = k.select(negative, (2.0 * c.PI_2[1] - angle) + 2.0 * c.PI_2[0], angle)
    angle = k.copysign(angle, y)
    return k.select((x != x) | (y != y), x + y, angle)


def arcsin_small(k: Any, x: Lane) -> Lane:
    """arcsin x for |x| <= 1/2."""
    z = x * x
    return k.fma(x * z, polynomial(k, z, c.ASIN64), x)


@in_float64
def arcsin(k: Any, x: Lane) -> Lane:
    """The inverse sine."""
    a = k.abs(x)
    upper = a > 0.5
    root = k.sqrt(0.5 * (1.0 - a))
    base = arcsin_small(k, k.select(upper, root, a))
    y = k.select(upper, (c.PI_2[1] - 2.0 * base) + c.PI_2[0], base)
    return k.copysign(y, x)


@in_float64
def arccos(k: Any, x: Lane) -> Lane:
    """The inverse cosine."""
    a = k.abs(x)
    upper = a > 0.5
    half = 0.5 * (1.0 - a)
    root = k.sqrt(half)
    # What the root lost: (half - root^2) / (2 root).
    rest = k.select(half > 0.0, k.fma(-root, root, half) / (root + root), k.const(x, 0.0))
    base = arcsin_small(k, k.select(upper, root, x))
    double = 2.0 * (base + rest)
    high = k.select(x < 0.0, (2.0 * c.PI_2[1] - double) + 2.0 * c.PI_2[0], double)
    return k.select(upper, high, (c.PI_2[1] - base) + c.PI_2[0])
