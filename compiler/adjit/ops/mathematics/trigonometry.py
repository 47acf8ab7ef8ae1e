"""Trigonometric functions and their inverses, over the basic scalar protocol.

Arguments up to 2^20 (2^13 for float32) are reduced by multiples of pi / 2 in three parts; larger ones by Payne and
Hanek's method (1983) with the bits of 2 / pi that matter, on a path of its own that is taken only if a lane needs it
and that float32 takes in float64.
"""

from __future__ import annotations

from collections.abc import Callable

from adjit.ops.mathematics import coefficients as c
from adjit.ops.mathematics.elementary import F32, F64, I64, INF, by_dtype, nearest, polynomial, quotient, two_sum
from adjit.ops.scalar import Lane, Scalars

LARGE = 1048576.0
LARGE_F32 = 8192.0
PIECES = 9


def quadrant(k: Scalars, x: Lane) -> tuple[Lane, Lane, Lane]:
    """x = n pi / 2 + r: (n modulo 4 as a float, r, what r lacks) for |x| <= LARGE."""
    n, _ = nearest(k, x, c.TWO_OVER_PI_ALL)
    parts = by_dtype(x, c.PI_2_F32, c.PI_2)
    first = k.fma(n, k.const(x, -parts[0]), x)
    # Both may cancel almost wholly, so what rounding loses counts.
    second = n * -parts[1]
    r, lacks = two_sum(first, second)
    lacks = lacks + k.fma(n, k.const(x, -parts[1]), -second)
    lacks = k.fma(n, k.const(x, -parts[2]), lacks)
    return n - 4.0 * k.floor(n * 0.25), r, lacks


def large_quadrant(k: Scalars, x: Lane) -> tuple[Lane, Lane, Lane]:
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


def sin_parts(k: Scalars, r: Lane, lacks: Lane) -> tuple[Lane, Lane]:
    """sin(r + lacks) for |r| <= pi / 4, and what rounding lost."""
    z = r * r
    # Times the slope, 1 - z / 2 within 2%.
    lacks = k.fma(-0.5 * z, lacks, lacks)
    rest = k.fma(r * z, polynomial(k, z, by_dtype(z, c.SIN32, c.SIN64)), lacks)
    y = r + rest
    return y, (r - y) + rest


def cos_parts(k: Scalars, r: Lane, lacks: Lane) -> tuple[Lane, Lane]:
    """cos(r + lacks) for |r| <= pi / 4, and what rounding lost."""
    z = r * r
    half = 0.5 * z
    top = 1.0 - half
    lost = (1.0 - top) - half
    rest = lost + k.fma(z * z, polynomial(k, z, by_dtype(z, c.COS32, c.COS64)), -r * lacks)
    y = top + rest
    return y, (top - y) + rest


def turned(k: Scalars, n: Lane, r: Lane, lacks: Lane, quarter: int) -> Lane:
    """sin(n pi / 2 + quarter pi / 2 + r)."""
    n = n + float(quarter)
    n = n - 4.0 * k.floor(n * 0.25)
    odd = (n == 1.0) | (n == 3.0)
    y = k.select(odd, cos_parts(k, r, lacks)[0], sin_parts(k, r, lacks)[0])
    return k.select(n >= 2.0, -y, y)


def by_quadrant(k: Scalars, x: Lane, finish: Callable[..., Lane], wide: Callable[[Lane], Lane]) -> Lane:
    """`finish(n, r, lacks)` for the reduction that each lane needs; NaN for inf and NaN. `wide` is the function itself,
    which large float32 arguments take in float64."""
    large = k.abs(x) > by_dtype(x, LARGE_F32, LARGE)
    usual = k.select(large, k.const(x, 0.0), x)
    y = finish(*quadrant(k, usual))

    def rare() -> Lane:
        if x.dtype == F32:
            return k.cast(wide(k.cast(x, F64)), F32)
        finite = k.abs(x) < INF
        safe = k.select(large & finite, x, k.const(x, 2097152.0))
        result = finish(*large_quadrant(k, k.abs(safe)), safe)
        return k.select(finite, result, x - x)

    return k.where_needed(large | (x != x), y, rare)


def sin(k: Scalars, x: Lane) -> Lane:
    """The sine."""

    def finish(n: Lane, r: Lane, lacks: Lane, signed: Lane | None = None) -> Lane:
        y = turned(k, n, r, lacks, 0)
        return y if signed is None else k.select(signed < 0.0, -y, y)

    return k.select(x == 0.0, x, by_quadrant(k, x, finish, k.sin))


def cos(k: Scalars, x: Lane) -> Lane:
    """The cosine."""
    return by_quadrant(k, x, lambda n, r, lacks, signed=None: turned(k, n, r, lacks, 1), k.cos)


def tan(k: Scalars, x: Lane) -> Lane:
    """The tangent."""

    def finish(n: Lane, r: Lane, lacks: Lane, signed: Lane | None = None) -> Lane:
        (s, s_lost), (t, t_lost) = sin_parts(k, r, lacks), cos_parts(k, r, lacks)
        odd = (n == 1.0) | (n == 3.0)
        above = k.select(odd, -t, s), k.select(odd, -t_lost, s_lost)
        y, lost = quotient(k, above, (k.select(odd, s, t), k.select(odd, s_lost, t_lost)))
        y = y + lost
        return y if signed is None else k.select(signed < 0.0, -y, y)

    return k.select(x == 0.0, x, by_quadrant(k, x, finish, k.tan))


def arctan_ratio(k: Scalars, small: Lane, large: Lane) -> tuple[Lane, Lane]:
    """arctan(small / large) for 0 <= small <= large, NaN included, and what rounding lost.

    Beyond tan(pi / 8) it is pi / 4 + arctan((small - large) / (small + large)). `large` stays clear of overflow and of
    the subnormal numbers."""
    upper = small > 0.4142135623730951 * large
    zero = k.const(small, 0.0)
    minus, plus = small - large, small + large
    above = k.select(upper, minus, small), k.select(upper, small - (minus + large), zero)
    below = k.select(upper, plus, large), k.select(upper, small - (plus - large), zero)
    u, u_lost = quotient(k, above, below)
    z = u * u
    # The slope of arctan is 1 - z within 3%.
    rest = k.fma(u * z, polynomial(k, z, by_dtype(z, c.ATAN32, c.ATAN64)), k.fma(-z, u_lost, u_lost))
    pi_2 = by_dtype(small, c.PI_2_F32, c.PI_2)
    base = k.select(upper, k.const(small, pi_2[0] / 2), zero)
    y = base + u
    return y, (u - (y - base)) + (rest + k.select(upper, k.const(small, pi_2[1] / 2), zero))


def reflected(k: Scalars, where: Lane, turn: float, y: Lane, lost: Lane) -> tuple[Lane, Lane]:
    """turn pi / 2 - (y + lost) where `where` holds, for a turn of 1 or 2 and 0 <= y <= turn pi / 2; else y and lost."""
    pi_2 = by_dtype(y, c.PI_2_F32, c.PI_2)
    whole, rest = turn * pi_2[0], turn * pi_2[1]
    other = whole - y
    other_lost = ((whole - other) - y) + (rest - lost)
    return k.select(where, other, y), k.select(where, other_lost, lost)


def arctan(k: Scalars, x: Lane) -> Lane:
    """The inverse tangent."""
    a = k.abs(x)
    # Beyond 2^60 it is pi / 2 to the last bit.
    a = k.select(a > 2.0**60, k.const(x, 2.0**60), a)
    far = a > 1.0
    one = k.const(x, 1.0)
    y, lost = arctan_ratio(k, k.select(far, one, a), k.select(far, a, one))
    y, lost = reflected(k, far, 1.0, y, lost)
    return k.copysign(y + lost, x)


def arctan2(k: Scalars, y: Lane, x: Lane) -> Lane:
    """The angle of the point (x, y), with C99's special cases."""
    a, b = k.abs(y), k.abs(x)
    swap = a > b
    small, large = k.select(swap, b, a), k.select(swap, a, b)
    # What a scale of 2^-60 takes from the smaller number is below the last bit of the angle.
    edge = by_dtype(x, 2.0**60, 2.0**900)
    scale = k.select(large > edge, k.const(x, 2.0**-60), k.const(x, 1.0))
    scale = k.select(large < 1.0 / edge, k.const(x, 2.0**60), scale)
    zero, one = k.const(x, 0.0), k.const(x, 1.0)
    fine = (large > 0.0) & (large < INF)
    reduced = k.select(fine, small * scale, k.select(small == INF, one, zero))
    angle, lost = arctan_ratio(k, reduced, k.select(fine, large * scale, one))
    angle, lost = reflected(k, swap, 1.0, angle, lost)
    negative = k.copysign(one, x) < 0.0
    angle, lost = reflected(k, negative, 2.0, angle, lost)
    angle = k.copysign(angle + lost, y)
    return k.select((x != x) | (y != y), x + y, angle)


def arcsin_halves(k: Scalars, x: Lane, upper: Lane) -> tuple[Lane, Lane]:
    """arcsin x where |x| <= 1/2, and where `upper` holds arcsin sqrt((1 - |x|) / 2); and what rounding lost."""
    half = 0.5 * (1.0 - k.abs(x))
    root = k.sqrt(half)
    # What the root lost: (half - root^2) / (2 root). The slope of arcsin is 1 + z / 2 within 5%.
    rest = k.select(upper & (half > 0.0), k.fma(-root, root, half) / (root + root), k.const(x, 0.0))
    y = k.select(upper, root, x)
    z = y * y
    return y, k.fma(y * z, polynomial(k, z, by_dtype(z, c.ASIN32, c.ASIN64)), k.fma(0.5 * z, rest, rest))


def arcsin(k: Scalars, x: Lane) -> Lane:
    """The inverse sine."""
    a = k.abs(x)
    upper = a > 0.5
    y, lost = arcsin_halves(k, a, upper)
    y, lost = k.select(upper, y + y, y), k.select(upper, lost + lost, lost)
    y, lost = reflected(k, upper, 1.0, y, lost)
    return k.copysign(y + lost, x)


def arccos(k: Scalars, x: Lane) -> Lane:
    """The inverse cosine."""
    upper = k.abs(x) > 0.5
    y, lost = arcsin_halves(k, x, upper)
    doubled, doubled_lost = reflected(k, x < 0.0, 2.0, y + y, lost + lost)
    near, near_lost = reflected(k, ~upper, 1.0, y, lost)
    return k.select(upper, doubled + doubled_lost, near + near_lost)
