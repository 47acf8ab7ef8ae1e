"""Special functions composed of ops, written as rules: `b` a builder, operands its Values of one float dtype."""

from __future__ import annotations

import math
from typing import Any

from adjit.trace.functions import gamma as of_gamma
from adjit_runtime.errors import ArgumentError

_STEP = 0.5
_TERMS = 13
"""The error of the trapezoidal rule is e^-(pi / step)^2; the first term left out is e^-(terms * step)^2."""


def erfc(b: Any, x: Any) -> Any:
    """1 - erf(x), to nearly all digits also where it is small.

    Beyond 1/2 the integral (2 x / pi) e^-x^2 int_0^inf e^-t^2 / (t^2 + x^2) dt by the trapezoidal rule, and what its
    pole adds. Source: Chiarella, Reichel 1968."""
    large = x > 0.5
    y = b.select(large, x, 1.0)
    square = y * y
    total = 0.5 / square
    for k in range(1, _TERMS + 1):
        node = (k * _STEP) ** 2
        total = total + math.exp(-node) / (square + node)
    pole = 2.0 / b.expm1(b.select(y < 6.0, y, 6.0) * (2.0 * math.pi / _STEP))
    far = _exp_of_minus_square(b, y) * (y * total * (2.0 * _STEP / math.pi)) - b.select(y < 6.0, pole, 0.0)
    return b.select(large, far, 1.0 - b.erf(x))


def _exp_of_minus_square(b: Any, x: Any) -> Any:
    """e^(-x^2), whose square would lose digits: near is a multiple of 1/16, whose own square is exact."""
    near = b.rint(x * 16.0) * 0.0625
    return b.exp(-near * near) * b.exp((near - x) * (near + x))


def loggamma(b: Any, x: Any) -> Any:
    """log Gamma(x) of x >= 0; it is complex below."""
    return b.select(x < 0.0, math.nan, of_gamma.gammaln(b, x))


def polygamma(b: Any, order: Any, x: Any) -> Any:
    """The derivative of log Gamma; those of higher orders are not known."""
    if not order.node.is_splat or order.node.attrs["value"] != 0:
        raise ArgumentError("from_sympy: polygamma is known for order 0 alone, the derivative of loggamma")
    return of_gamma.digamma(b, x)
