"""Expressions of SymPy with every head that has a meaning, and where they are real."""

from __future__ import annotations

from typing import NamedTuple

import sympy
from sympy import Rational as R
from sympy.codegen import cfunctions
from sympy.codegen.numpy_nodes import logaddexp, logaddexp2

x, y, z = sympy.symbols("x y z", real=True)


class Case(NamedTuple):
    """An expression in x, y and z, and the range of each."""

    expression: sympy.Expr
    low: float = -3.0
    high: float = 3.0
    rtol: float = 1e-14


def of_one(name: str, low: float = -3.0, high: float = 3.0, rtol: float = 1e-14) -> Case:
    return Case(getattr(sympy, name)(x), low, high, rtol)


REGULAR: list[Case] = [
    # Operators.
    Case(x + y - z), Case(x - 2 * y - 3 + z / 3), Case(-x - y), Case(x * y * z / 7), Case(-x * y), Case(R(22, 7) * x),
    Case(-x / 2), Case(x / y / z, 0.5), Case(1 / x, 0.5), Case(1 / (x * y), 0.5), Case(x / (3 * y**2), 0.5),
    Case(sympy.Float("0.1") * x + sympy.Float("1.5")), Case(sympy.Integer(4) + 0 * x), Case(2 - x),
    Case(sympy.Add(*(x**i for i in range(12)), evaluate=False), -1, 1, 1e-13),
    # Powers.
    Case(x**2), Case(x**3), Case(x**5), Case(x**16, rtol=1e-13), Case(x**17, rtol=1e-13), Case(x**-1, 0.5),
    Case(x**-2, 0.5), Case(x**-7, 0.5), Case(x**-20, 0.5, rtol=1e-13), Case(sympy.sqrt(x), 0.1),
    Case(1 / sympy.sqrt(x), 0.1),
    Case(x ** R(3, 2), 0.1), Case(y * x ** R(-3, 2), 0.1), Case(x ** R(1, 3), 0.1), Case(x**y, 0.2), Case(2**x),
    Case(3**x), Case(x**2.0), Case(x**2.5, 0.1), Case(sympy.E**x), Case(sympy.pi**x), Case((x + y) ** 3 * (x + y) ** 2),
    Case(sympy.sqrt(2) * x), Case(x**sympy.pi, 0.2),
    # Constants.
    Case(x + sympy.pi), Case(x * sympy.E), Case(x + sympy.EulerGamma), Case(x * sympy.GoldenRatio),
    Case(x + sympy.Catalan), Case(x + 10**30), Case(x + R(1, 3)),
    # Functions of one number.
    *map(of_one, ("Abs", "sign", "exp", "sin", "cos", "atan", "sinh", "cosh", "tanh", "asinh")),
    *map(of_one, ("erf", "sinc", "sech")),
    of_one("tan", -1.4, 1.4), of_one("cot", 0.2, 2.9, 1e-13), of_one("sec", -1.4, 1.4), of_one("csc", 0.3, 2.8),
    of_one("log", 0.1), of_one("asin", -0.95, 0.95), of_one("acos", -0.95, 0.95), of_one("acot", -4, 4),
    of_one("asec", 1.1, 4), of_one("acsc", -4, -1.1), of_one("coth", 0.2), of_one("csch", 0.2),
    of_one("csch", -3, -0.2),
    of_one("acosh", 1.2), of_one("atanh", -0.9, 0.9), of_one("acoth", 1.2), of_one("asech", 0.1, 0.9),
    of_one("acsch", 0.2), of_one("erfc", -3, 25, 5e-13), of_one("gamma", 0.1, 30, 1e-13),
    of_one("gamma", -3.9, -3.1, 1e-12),
    of_one("loggamma", 0.1, 40, 1e-13), of_one("digamma", 2, 40, 1e-13),
    Case(sympy.digamma(x, evaluate=False) * y, 2, 9, 1e-13), of_one("factorial", 0.1, 20, 1e-13),
    Case(sympy.log(x, 10), 0.1), Case(sympy.log(x, 10, evaluate=False), 0.1),
    Case(sympy.floor(x) * y), Case(sympy.ceiling(x) * y), Case(sympy.frac(x) * y, rtol=1e-13),
    Case(sympy.UnevaluatedExpr(x) + 1), Case(sympy.Heaviside(x) * y), Case(sympy.Heaviside(x, 0) + y),
    # Of several.
    Case(sympy.atan2(y, x)), Case(sympy.Mod(x, 2), rtol=1e-12), Case(sympy.Mod(x, y), 0.5, rtol=1e-12),
    Case(sympy.Max(x, y, z)), Case(sympy.Min(x, y, 1)), Case(sympy.erf2(x, y), rtol=1e-12),
    Case(cfunctions.expm1(x)), Case(cfunctions.log1p(x), -0.9), Case(cfunctions.exp2(x)), Case(cfunctions.log2(x), 0.1),
    Case(cfunctions.log10(x), 0.1), Case(cfunctions.Sqrt(x), 0.1), Case(cfunctions.Cbrt(x), 0.1),
    Case(cfunctions.hypot(x, y)), Case(cfunctions.fma(x, y, z), rtol=1e-12),
    Case(logaddexp(x, y)), Case(logaddexp2(x, y)),
    # Choices.
    Case(sympy.Piecewise((x, x > y), (y**2, True))), Case(sympy.Piecewise((x, x < -1), (y, x <= 1), (x * y, True))),
    Case(sympy.Piecewise((1, (x > 0) & (y > 0)), (2, (x > 1) | ~(y < z)), (3, sympy.Xor(x < 0, z > 0)), (x, True))),
    Case(sympy.Piecewise((x, sympy.ITE(x > 0, y > 0, z > 0)), (y, True))),
    Case(sympy.Piecewise((x, sympy.Implies(x > 0, y > 0)), (y, sympy.Equivalent(x > 0, z > 0)), (z, True))),
    Case(sympy.Piecewise((x, sympy.Ne(x, y)), (z, True))), Case(sympy.KroneckerDelta(x, y) + z),
    Case(sympy.Piecewise((x, sympy.Eq(sympy.sign(x), sympy.sign(y))), (z, True))),
    Case(sympy.Piecewise((x, sympy.Not(x > y, evaluate=False)), (z, True))),
    # What people compute.
    Case(sympy.exp(-((x - y) ** 2) / (2 * z**2)) / (z * sympy.sqrt(2 * sympy.pi)), 0.5, rtol=1e-13),
    Case(x / sympy.sqrt(x**2 + y**2 + z**2), 0.2), Case(sympy.log(1 + sympy.exp(x)) - y * x, rtol=1e-12),
]  # fmt: skip
