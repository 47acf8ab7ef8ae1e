"""The gamma function, its logarithm and that one's derivative, composed of IR ops like those of `elementary`.

Near 1 and 2, where the logarithm is 0, it is the series of log Gamma(2 + e) in e, whose coefficients are those of the
zeta function less 1, so that nothing cancels; recurrence brings x < 8.5 there. Beyond it is Stirling's series, below 0
the reflection. Source: Abramowitz, Stegun 1964, 6.1.15, 6.1.17, 6.1.33, 6.1.40, 6.3.5, 6.3.7, 6.3.14, 6.3.18.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

_FAR = 8.5
"""From here on eight terms of Stirling's series are below the last bit of float64."""
_FACTORS = 6
"""Steps of the recurrence from below `_FAR` to below 2.5."""
_EULER = 0.57721566490153286061
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
"""B_2, B_4, ..."""


def _zeta_less_1(s: int) -> float:
    """zeta(s) - 1: the first terms, and the rest by the formula of Euler and Maclaurin, to the last bit."""
    n, terms = 20.0, [k**-s for k in range(2, 20)]
    terms += [n ** (1 - s) / (s - 1), n**-s / 2]
    for k, c in enumerate(_BERNOULLI, 1):
        terms.append(c / math.factorial(2 * k) * math.prod(range(s, s + 2 * k - 1)) * n ** (1 - s - 2 * k))
    return math.fsum(terms)


_NEAR = (0.0, 1.0 - _EULER, *((-1) ** k * _zeta_less_1(k) / k for k in range(2, 29)))
"""Of log Gamma(2 + e) in powers of e, |e| <= 1/2: what follows is below 4^-29."""
_STIRLING = [c / (2 * k * (2 * k - 1)) for k, c in enumerate(_BERNOULLI, 1)]
_SLOPE = tuple(k * c for k, c in enumerate(_NEAR))[1:]


def gammaln(b: Any, x: Any) -> Any:
    """log |Gamma(x)|: inf at 0, -1, -2 ..., the infinity at an infinity."""
    above = _log_of_positive(b, b.select(x < 0.0, 1.0 - x, x))
    below = math.log(math.pi) - b.log(b.abs(b.sin(math.pi * _past_whole(b, x)))) - above
    ends = b.select(x.eq(-math.inf), b.full(-math.inf, x), math.inf)
    return b.select(b.isfinite(x) | b.isnan(x), b.select(x < 0.0, below, above), ends)


def gamma(b: Any, x: Any) -> Any:
    """Gamma(x): infinite at 0, NaN at -1, -2 ...."""
    above = _of_positive(b, b.select(x < 0.0, 1.0 - x, x))
    whole, past = b.rint(x), _past_whole(b, x)
    sine = b.sin(math.pi * past)
    below = math.pi / (b.select((whole * 0.5).eq(b.rint(whole * 0.5)), sine, -sine) * above)
    return b.select(x < 0.0, b.select(past.eq(0.0), math.nan, below), above)


def digamma(b: Any, x: Any) -> Any:
    """The derivative of log Gamma(x): NaN at -1, -2 ..., infinite at 0."""
    above = _slope_of_positive(b, b.select(x < 0.0, 1.0 - x, x))
    past = _past_whole(b, x)
    below = b.select(past.eq(0.0), math.nan, above - math.pi / b.tan(math.pi * past))
    return b.select(x.eq(0.0), -1.0 / x, b.select(x < 0.0, below, above))


def _past_whole(b: Any, x: Any) -> Any:
    """x less the nearest whole number, without which sin(pi x) would lose its digits."""
    return x - b.rint(x)


def _log_of_positive(b: Any, x: Any) -> Any:
    far, steps, e = _reduced(b, x)
    factor = b.select(x < 1.5, x, 1.0)
    for k in range(1, _FACTORS + 1):
        factor = b.select(steps >= k, factor * (x - k), factor)
    log = b.log(b.select(far, x, factor))
    # Not log(x (1 + x)) below 1/2, whose derivative is no number at 0.
    near = _polynomial(e, _NEAR) + b.select(x < 1.5, -log, log) - b.log1p(b.select(x < 0.5, x, 0.0))
    inverse = 1.0 / x
    series = _polynomial(inverse * inverse, _STIRLING) * inverse
    # Not x log x - x, which is no number at infinity.
    stirling = (x - 0.5) * (log - 1.0) + (0.5 * math.log(2 * math.pi) - 0.5) + series
    return b.select(far, stirling, near)


def _of_positive(b: Any, x: Any) -> Any:
    far, steps, e = _reduced(b, x)
    factor = b.select(x < 0.5, 1.0 / (x * (1.0 + x)), b.select(x < 1.5, 1.0 / x, 1.0))
    for k in range(1, _FACTORS + 1):
        factor = b.select(steps >= k, factor * (x - k), factor)
    near = factor * b.exp(_polynomial(e, _NEAR))
    most = 36.0 if x.dtype.itemsize == 4 else 172.0
    y = b.select(far, b.select(x > most, most, x), most)
    inverse = 1.0 / y
    series = _polynomial(inverse * inverse, _STIRLING) * inverse
    # Half of the power, which overflows later.
    half = b.pow(y, 0.5 * y - 0.25)
    stirling = half * b.exp(series - y) * half * math.sqrt(2 * math.pi)
    return b.select(far, b.select(x > most, x * math.inf, stirling), near)


def _slope_of_positive(b: Any, x: Any) -> Any:
    far, steps, e = _reduced(b, x)
    near = _polynomial(e, _SLOPE)
    near = near - b.select(x < 0.5, 1.0 / x + 1.0 / (1.0 + x), b.select(x < 1.5, 1.0 / x, 0.0))
    for k in range(1, _FACTORS + 1):
        near = b.select(steps >= k, near + 1.0 / (x - k), near)
    square = 1.0 / x * (1.0 / x)
    series = _polynomial(square, [c / (2 * k) for k, c in enumerate(_BERNOULLI, 1)]) * square
    return b.select(far, b.log(x) - 0.5 / x - series, near)


def _reduced(b: Any, x: Any) -> tuple[Any, Any, Any]:
    """Whether x is large, how often 1 is taken off it, and what is left less 0, 1 or 2: exact, from -1/2 to 1/2."""
    far = x >= _FAR
    steps = b.select(far | (x < 2.5), 0.0, b.floor(x - 1.5))
    base = b.select(x < 0.5, b.full(0.0, x), b.select(x < 1.5, b.full(1.0, x), 2.0))
    return far, steps, b.select(far, 0.0, x - steps - base)


def _polynomial(x: Any, coefficients: Sequence[float]) -> Any:
    """The sum of coefficients times powers of x, the constant one first."""
    total = x * coefficients[-1] + coefficients[-2]
    for c in reversed(coefficients[:-2]):
        total = total * x + c
    return total
