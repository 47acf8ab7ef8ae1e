"""Elementwise functions of one or two floats: exponentials, logarithms, trigonometry, roots, rounding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjit.ir.builder import Builder, Value
from adjit.ops.declare import elementwise, sympy_name

exp = elementwise(
    "exp", numpy=np.exp, symbolic=sympy_name("exp"), singular=True, cost=12,
    vjp=lambda b, g, y, x: (g * y,), scalar=lambda k, x: k.exp(x),
)  # fmt: skip
exp2 = elementwise(
    "exp2", numpy=np.exp2, symbolic=lambda x: 2**x, singular=True, cost=12,
    vjp=lambda b, g, y, x: (g * y * math.log(2.0),), scalar=lambda k, x: k.exp2(x),
)  # fmt: skip
expm1 = elementwise(
    "expm1", numpy=np.expm1, symbolic=lambda x: sympy_name("exp")(x) - 1, singular=True, cost=20,
    vjp=lambda b, g, y, x: (g * b.exp(x),), scalar=lambda k, x: k.expm1(x),
)  # fmt: skip
log = elementwise(
    "log", numpy=np.log, symbolic=sympy_name("log"), singular=True, domain=(0.2, 4.0), cost=14,
    vjp=lambda b, g, y, x: (g / x,), scalar=lambda k, x: k.log(x),
)  # fmt: skip
log2 = elementwise(
    "log2", numpy=np.log2, symbolic=lambda x: sympy_name("log")(x) / sympy_name("log")(2), singular=True,
    domain=(0.2, 4.0), cost=14,
    vjp=lambda b, g, y, x: (g / (x * math.log(2.0)),), scalar=lambda k, x: k.log2(x),
)  # fmt: skip
log10 = elementwise(
    "log10", numpy=np.log10, symbolic=lambda x: sympy_name("log")(x) / sympy_name("log")(10), singular=True,
    domain=(0.2, 4.0), cost=14,
    vjp=lambda b, g, y, x: (g / (x * math.log(10.0)),), scalar=lambda k, x: k.log10(x),
)  # fmt: skip
log1p = elementwise(
    "log1p", numpy=np.log1p, symbolic=lambda x: sympy_name("log")(1 + x), singular=True, domain=(-0.8, 3.0), cost=18,
    vjp=lambda b, g, y, x: (g / (1.0 + x),), scalar=lambda k, x: k.log1p(x),
)  # fmt: skip
sqrt = elementwise(
    "sqrt", numpy=np.sqrt, symbolic=sympy_name("sqrt"), singular=True, domain=(0.2, 4.0), cost=6,
    vjp=lambda b, g, y, x: (g * 0.5 / y,), scalar=lambda k, x: k.sqrt(x),
)  # fmt: skip
cbrt = elementwise(
    "cbrt", numpy=np.cbrt, symbolic=lambda x: sympy_name("cbrt")(x), singular=True, domain=(0.2, 4.0), cost=25,
    vjp=lambda b, g, y, x: (g / (3.0 * y * y),), scalar=lambda k, x: k.cbrt(x),
)  # fmt: skip
sin = elementwise(
    "sin", numpy=np.sin, symbolic=sympy_name("sin"), cost=20,
    vjp=lambda b, g, y, x: (g * b.cos(x),), scalar=lambda k, x: k.sin(x), singular=True,
)  # fmt: skip
cos = elementwise(
    "cos", numpy=np.cos, symbolic=sympy_name("cos"), cost=20,
    vjp=lambda b, g, y, x: (-g * b.sin(x),), scalar=lambda k, x: k.cos(x), singular=True,
)  # fmt: skip
tan = elementwise(
    "tan", numpy=np.tan, symbolic=sympy_name("tan"), singular=True, domain=(-1.2, 1.2), cost=30,
    vjp=lambda b, g, y, x: (g * (1.0 + y * y),), scalar=lambda k, x: k.tan(x),
)  # fmt: skip
arcsin = elementwise(
    "arcsin", numpy=np.arcsin, symbolic=sympy_name("asin"), singular=True, domain=(-0.8, 0.8), cost=25,
    vjp=lambda b, g, y, x: (g / b.sqrt((1.0 - x) * (1.0 + x)),), scalar=lambda k, x: k.arcsin(x),
)  # fmt: skip
arccos = elementwise(
    "arccos", numpy=np.arccos, symbolic=sympy_name("acos"), singular=True, domain=(-0.8, 0.8), cost=25,
    vjp=lambda b, g, y, x: (-g / b.sqrt((1.0 - x) * (1.0 + x)),), scalar=lambda k, x: k.arccos(x),
)  # fmt: skip
arctan = elementwise(
    "arctan", numpy=np.arctan, symbolic=sympy_name("atan"), singular=True, cost=25,
    vjp=lambda b, g, y, x: (g / (1.0 + x * x),), scalar=lambda k, x: k.arctan(x),
)  # fmt: skip
arctan2 = elementwise(
    "arctan2", numpy=np.arctan2, symbolic=sympy_name("atan2"), arity=2, singular=True, domain=(0.3, 3.0), cost=35,
    vjp=lambda b, g, z, x, y: _by_angle(b, g, x, y),
    scalar=lambda k, x, y: k.arctan2(x, y),
)  # fmt: skip
sinh = elementwise(
    "sinh", numpy=np.sinh, symbolic=sympy_name("sinh"), singular=True, cost=25,
    vjp=lambda b, g, y, x: (g * b.cosh(x),), scalar=lambda k, x: k.sinh(x),
)  # fmt: skip
cosh = elementwise(
    "cosh", numpy=np.cosh, symbolic=sympy_name("cosh"), singular=True, cost=25,
    vjp=lambda b, g, y, x: (g * b.sinh(x),), scalar=lambda k, x: k.cosh(x),
)  # fmt: skip
tanh = elementwise(
    "tanh", numpy=np.tanh, symbolic=sympy_name("tanh"), singular=True, cost=16,
    vjp=lambda b, g, y, x: (g * (1.0 - y * y),), scalar=lambda k, x: k.tanh(x),
)  # fmt: skip
arcsinh = elementwise(
    "arcsinh", numpy=np.arcsinh, symbolic=sympy_name("asinh"), singular=True, cost=30,
    # Where x^2 may overflow, and already where it hides the 1, the root is |x|.
    vjp=lambda b, g, y, x: (g / b.select(b.abs(x) > _large(x), b.abs(x), b.sqrt(1.0 + x * x)),),
    scalar=lambda k, x: k.arcsinh(x),
)  # fmt: skip
arccosh = elementwise(
    "arccosh", numpy=np.arccosh, symbolic=sympy_name("acosh"), singular=True, domain=(1.2, 4.0), cost=30,
    vjp=lambda b, g, y, x: (g / b.select(x > _large(x), x, b.sqrt((x - 1.0) * (x + 1.0))),),
    scalar=lambda k, x: k.arccosh(x),
)  # fmt: skip
arctanh = elementwise(
    "arctanh", numpy=np.arctanh, symbolic=sympy_name("atanh"), singular=True, domain=(-0.8, 0.8), cost=30,
    vjp=lambda b, g, y, x: (g / ((1.0 - x) * (1.0 + x)),), scalar=lambda k, x: k.arctanh(x),
)  # fmt: skip
sigmoid = elementwise(
    "sigmoid", numpy=lambda x: _sigmoid(x), symbolic=lambda x: 1 / (1 + sympy_name("exp")(-x)), singular=True, cost=14,
    vjp=lambda b, g, y, x: (g * y * b.sigmoid(-x),), scalar=lambda k, x: k.sigmoid(x),
)  # fmt: skip
erf = elementwise(
    "erf", numpy=lambda x: _erf(x), symbolic=sympy_name("erf"), singular=True, cost=25,
    vjp=lambda b, g, y, x: (g * b.exp(-x * x) * (2.0 / math.sqrt(math.pi)),), scalar=lambda k, x: k.erf(x),
)  # fmt: skip
rsqrt = elementwise(
    "rsqrt", numpy=lambda x: 1 / np.sqrt(x), symbolic=lambda x: 1 / sympy_name("sqrt")(x), singular=True,
    domain=(0.2, 4.0), cost=8,
    vjp=lambda b, g, y, x: (g * -0.5 * y / x,), scalar=lambda k, x: k.rsqrt(x),
)  # fmt: skip
pow_ = elementwise(
    "pow", numpy=lambda x, y: _pow(x, y), symbolic=lambda x, y: x**y, arity=2, singular=True, accepts="iuf",
    domain=((0.3, 3.0), (-2.0, 2.0)), cost=40,
    # d/dx is y x^(y-1), 0 where y is 0; d/dy is z log x, 0 where x is 0 and y > 0.
    vjp=lambda b, g, z, x, y: (
        g * b.select(y.eq(0.0), 0.0, y * b.pow(x, b.select(y.eq(0.0), 1.0, y - 1.0))),
        g * b.select(x.eq(0.0) & (y >= 0.0), 0.0, z * b.log(b.select(x.eq(0.0) & (y >= 0.0), 1.0, x))),
    ),
    scalar=lambda k, x, y: k.pow(x, y),
)  # fmt: skip
floor = elementwise(
    "floor",
    numpy=np.floor,
    symbolic=sympy_name("floor"),
    vjp=lambda b, g, y, x: (None,),
    scalar=lambda k, x: k.floor(x),
)
ceil = elementwise(
    "ceil", numpy=np.ceil, symbolic=sympy_name("ceiling"), vjp=lambda b, g, y, x: (None,), scalar=lambda k, x: k.ceil(x)
)
trunc = elementwise(
    "trunc", numpy=np.trunc, symbolic=lambda x: sympy_name("sign")(x) * sympy_name("floor")(abs(x)),
    vjp=lambda b, g, y, x: (None,), scalar=lambda k, x: k.trunc(x),
)  # fmt: skip
rint = elementwise("rint", numpy=np.rint, vjp=lambda b, g, y, x: (None,), scalar=lambda k, x: k.rint(x))


def _large(x: Any) -> float:
    """Beyond it x^2 + 1 is x^2 to the last bit."""
    return 2.0**14 if x.dtype.itemsize == 4 else 2.0**28


def _by_angle(b: Builder, g: Value, x: Value, y: Value) -> tuple[Value, Value]:
    """y / (x^2 + y^2) and -x / (x^2 + y^2): both are scaled by a power of two where their squares would overflow or
    vanish."""
    limit, scale = (2.0**60, 2.0**100) if x.dtype.itemsize == 4 else (2.0**480, 2.0**700)
    largest = b.maximum(b.abs(x), b.abs(y))
    factor = b.select(largest < 1 / limit, b.full(scale, x), 1.0)
    factor = b.select(largest > limit, 1 / scale, factor)
    u, v = x * factor, y * factor
    square = u * u + v * v
    return g * (v / square * factor), -g * (u / square * factor)


def _sigmoid(x: np.ndarray) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def _erf(x: np.ndarray) -> Any:
    return np.vectorize(math.erf, otypes=[np.asarray(x).dtype])(x)


def _pow(x: np.ndarray, y: np.ndarray) -> Any:
    if np.asarray(y).dtype.kind == "i" and np.any(np.asarray(y) < 0):
        raise ValueError("Integers to negative integer powers are not allowed.")
    return np.power(x, y)
