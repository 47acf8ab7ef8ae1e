"""What functions of SymPy are in ops: `b` is a builder of graphs, operands are its Values, of one float dtype or bool.

Sums, products, powers and what chooses between operands need to see more than values of operands: those are in `build`.
Compositions are chosen so that value and derivatives are right wherever the function has them. All functions are those
of real numbers: NaN where SymPy's value is complex."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from adjit.formulas import special
from adjit.trace.functions import elementary, gamma

Rule = Callable[..., Any]


def _acot(b: Any, x: Any) -> Any:
    """arctan(1 / x), pi / 2 at 0; by arctan(x) near 0, whose derivatives are right there."""
    near = b.select(x < 0.0, b.full(-math.pi / 2, x), math.pi / 2) - b.arctan(x)
    return b.select(b.abs(x) <= 1.0, near, b.arctan(1.0 / x))


def _minus_abs(b: Any, x: Any) -> Any:
    """-|x|, with the derivative of x at 0: for even functions that are written in e^-|x|."""
    return b.select(x > 0.0, -x, x)


def _sech(b: Any, x: Any) -> Any:
    e = b.exp(_minus_abs(b, x))
    return 2.0 * e / (1.0 + e * e)


def _csch(b: Any, x: Any) -> Any:
    y = _minus_abs(b, x)
    return b.select(x > 0.0, b.full(-2.0, x), 2.0) * b.exp(y) / b.expm1(2.0 * y)


def _log(b: Any, x: Any, base: Any = None) -> Any:
    return b.log(x) if base is None else b.log(x) / b.log(base)


def _heaviside(b: Any, x: Any, at_zero: Any = 0.5) -> Any:
    return elementary.heaviside(b, x, at_zero)


def _delta(b: Any, x: Any, y: Any) -> Any:
    return b.select(x.eq(y), b.full(1.0, x), 0.0)


def _all_equal(b: Any, first: Any, *others: Any) -> Any:
    return functools.reduce(lambda p, q: p & q, (~(first ^ other) for other in others))


RULES: dict[str, Rule] = {
    "Abs": lambda b, x: b.abs(x),
    "sign": lambda b, x: b.sign(x),
    "re": lambda b, x: x,
    "conjugate": lambda b, x: x,
    "im": lambda b, x: b.full(0.0, x),
    "floor": lambda b, x: b.floor(x),
    "ceiling": lambda b, x: b.ceil(x),
    "frac": lambda b, x: x - b.floor(x),
    "Mod": lambda b, x, y: b.remainder(x, y),
    "Max": lambda b, *xs: functools.reduce(b.maximum, xs),
    "Min": lambda b, *xs: functools.reduce(b.minimum, xs),
    "Heaviside": _heaviside,
    "KroneckerDelta": _delta,
    "UnevaluatedExpr": lambda b, x: x,
    "exp": lambda b, x: b.exp(x),
    "log": _log,
    "sin": lambda b, x: b.sin(x),
    "cos": lambda b, x: b.cos(x),
    "tan": lambda b, x: b.tan(x),
    "cot": lambda b, x: 1.0 / b.tan(x),
    "sec": lambda b, x: 1.0 / b.cos(x),
    "csc": lambda b, x: 1.0 / b.sin(x),
    "sinc": elementary.sine_ratio,
    "asin": lambda b, x: b.arcsin(x),
    "acos": lambda b, x: b.arccos(x),
    "atan": lambda b, x: b.arctan(x),
    "atan2": lambda b, y, x: b.arctan2(y, x),
    "acot": _acot,
    "asec": lambda b, x: b.arccos(1.0 / x),
    "acsc": lambda b, x: b.arcsin(1.0 / x),
    "sinh": lambda b, x: b.sinh(x),
    "cosh": lambda b, x: b.cosh(x),
    "tanh": lambda b, x: b.tanh(x),
    "coth": lambda b, x: 1.0 / b.tanh(x),
    "sech": _sech,
    "csch": _csch,
    "asinh": lambda b, x: b.arcsinh(x),
    "acosh": lambda b, x: b.arccosh(x),
    "atanh": lambda b, x: b.arctanh(x),
    "acoth": lambda b, x: b.arctanh(1.0 / x),
    "asech": lambda b, x: b.arccosh(1.0 / x),
    "acsch": lambda b, x: b.arcsinh(1.0 / x),
    "erf": lambda b, x: b.erf(x),
    "erf2": lambda b, x, y: b.erf(y) - b.erf(x),
    "erfc": special.erfc,
    "gamma": gamma.gamma,
    "factorial": lambda b, x: gamma.gamma(b, x + 1.0),
    "loggamma": special.loggamma,
    "digamma": gamma.digamma,
    "polygamma": special.polygamma,
    # Of sympy.codegen: what formulas are rewritten to by hand.
    "expm1": lambda b, x: b.expm1(x),
    "log1p": lambda b, x: b.log1p(x),
    "exp2": lambda b, x: b.exp2(x),
    "log2": lambda b, x: b.log2(x),
    "log10": lambda b, x: b.log10(x),
    "Sqrt": lambda b, x: b.sqrt(x),
    "Cbrt": lambda b, x: b.cbrt(x),
    "hypot": elementary.hypot,
    "fma": lambda b, x, y, z: x * y + z,
    "logaddexp": elementary.logaddexp,
    "logaddexp2": elementary.logaddexp2,
}
"""By the names of SymPy's classes, on floats."""

RELATIONS: dict[str, Rule] = {
    "Equality": lambda b, x, y: x.eq(y),
    "Unequality": lambda b, x, y: x.ne(y),
    "StrictLessThan": lambda b, x, y: x < y,
    "LessThan": lambda b, x, y: x <= y,
    "StrictGreaterThan": lambda b, x, y: x > y,
    "GreaterThan": lambda b, x, y: x >= y,
}
"""Of floats, or of truths."""

LOGIC: dict[str, Rule] = {
    "And": lambda b, *ps: functools.reduce(lambda p, q: p & q, ps),
    "Or": lambda b, *ps: functools.reduce(lambda p, q: p | q, ps),
    "Xor": lambda b, *ps: functools.reduce(lambda p, q: p ^ q, ps),
    "Not": lambda b, p: ~p,
    "Implies": lambda b, p, q: ~p | q,
    "Equivalent": _all_equal,
    "ITE": lambda b, p, q, r: (p & q) | (~p & r),
}
"""Of truths."""
