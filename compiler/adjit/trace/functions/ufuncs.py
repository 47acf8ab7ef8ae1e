"""Elementwise ufuncs that Python's operators do not have: one op each, or a composition of ops.

The dispatcher promotes operands by the ufunc's own rule and broadcasts them before."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from adjit.ir.types import BOOL, F64
from adjit.trace.functions import elementary
from adjit.trace.functions.calling import cast, composed, loose, spread_to, static_int, truth, value, wrap, wrap_like
from adjit.trace.lower import as_tracer, is_tracer, store, strong
from adjit.trace.table import implements, ufunc

_OPS: tuple[tuple[np.ufunc, str], ...] = (
    (np.exp, "exp"), (np.exp2, "exp2"), (np.expm1, "expm1"), (np.log, "log"), (np.log2, "log2"), (np.log10, "log10"),
    (np.log1p, "log1p"), (np.sqrt, "sqrt"), (np.cbrt, "cbrt"), (np.sin, "sin"), (np.cos, "cos"), (np.tan, "tan"),
    (np.arcsin, "arcsin"), (np.arccos, "arccos"), (np.arctan, "arctan"), (np.arctan2, "arctan2"), (np.sinh, "sinh"),
    (np.cosh, "cosh"), (np.tanh, "tanh"), (np.arcsinh, "arcsinh"), (np.arccosh, "arccosh"), (np.arctanh, "arctanh"),
    (np.rint, "rint"), (np.sign, "sign"), (np.copysign, "copysign"), (np.fmod, "fmod"),
)  # fmt: skip
_RULES: tuple[tuple[np.ufunc, Callable[..., Any]], ...] = (
    (np.square, lambda b, x: x * x),
    (np.degrees, lambda b, x: x * (180.0 / math.pi)),
    (np.rad2deg, lambda b, x: x * (180.0 / math.pi)),
    (np.radians, lambda b, x: x * (math.pi / 180.0)),
    (np.deg2rad, lambda b, x: x * (math.pi / 180.0)),
    (np.conjugate, lambda b, x: x),
    (np.heaviside, elementary.heaviside),
    (np.hypot, elementary.hypot),
    (np.logaddexp, elementary.logaddexp),
    (np.logaddexp2, elementary.logaddexp2),
    (np.modf, elementary.modf),
    (np.logical_and, lambda b, x, y: truth(x) & truth(y)),
    (np.logical_or, lambda b, x, y: truth(x) | truth(y)),
    (np.logical_xor, lambda b, x, y: truth(x) ^ truth(y)),
    (np.logical_not, lambda b, x: ~truth(x)),
)
for _target, _op in _OPS:
    ufunc(_target, _op)
for _target, _rule in _RULES:
    composed(_target, _rule)


def _on_floats(target: np.ufunc, rule: Callable[..., Any], other: Callable[..., Any]) -> None:
    """A ufunc that means one thing on floats and another (often nothing) on integers and bools."""
    composed(target, lambda b, *xs: (rule if xs[0].dtype.kind == "f" else other)(b, *xs))


def _extremum(name: str, of_bools: Callable[..., Any]) -> Callable[..., Any]:
    def rule(b: Any, x: Any, y: Any) -> Any:
        return of_bools(x, y) if x.dtype == BOOL else getattr(b, name)(x, y)

    return rule


_maximum = _extremum("maximum", lambda x, y: x | y)
_minimum = _extremum("minimum", lambda x, y: x & y)
composed(np.maximum, _maximum)
composed(np.minimum, _minimum)
_on_floats(np.fmax, elementary.fmax, _maximum)
_on_floats(np.fmin, elementary.fmin, _minimum)
_on_floats(np.floor, lambda b, x: b.floor(x), lambda b, x: x)
_on_floats(np.ceil, lambda b, x: b.ceil(x), lambda b, x: x)
_on_floats(np.trunc, lambda b, x: b.trunc(x), lambda b, x: x)
_on_floats(np.reciprocal, lambda b, x: 1.0 / x, elementary.int_reciprocal)
_on_floats(np.isnan, lambda b, x: b.isnan(x), lambda b, x: b.full(False, x.type.with_dtype(BOOL)))
_on_floats(np.isfinite, lambda b, x: b.isfinite(x), lambda b, x: b.full(True, x.type.with_dtype(BOOL)))
_on_floats(np.isinf, lambda b, x: b.abs(x).eq(math.inf), lambda b, x: b.full(False, x.type.with_dtype(BOOL)))
composed(np.signbit, lambda b, x: b.signbit(x))


@ufunc(np.divmod)
def _divmod(x: Any, y: Any) -> tuple[Any, Any]:
    return np.floor_divide(x, y), np.remainder(x, y)


@ufunc(np.ldexp)
def _ldexp(x: Any, power: Any) -> Any:
    # Two factors, so that neither overflows where the result does not.
    half = cast(value(power), x.dtype)
    b = half.builder
    first = b.floor(half * 0.5)
    return wrap(value(x) * b.exp2(first) * b.exp2(half - first))


@implements(np.round, np.around)
def _round(a: Any, decimals: Any = 0) -> Any:
    x = loose(a)
    return wrap_like(_rounded(x, static_int(decimals, "round", "decimals")), a)


def _rounded(x: Any, decimals: int) -> Any:
    b = x.builder
    if x.dtype.kind != "f":
        return x if decimals >= 0 else cast(_rounded(cast(x, F64), decimals), x.dtype)
    if decimals == 0:
        return b.rint(x)
    scale = 10.0 ** abs(decimals)
    return b.rint(x * scale) / scale if decimals > 0 else b.rint(x / scale) * scale


@implements(np.fix)
def _fix(x: Any) -> Any:
    return np.trunc(x)


@implements(np.sinc)
def _sinc(x: Any) -> Any:
    y = loose(x)
    y = y if y.dtype.kind == "f" else cast(y, F64)
    return wrap_like(elementary.sinc(y.builder, y), x)


@implements(np.isposinf)
def _isposinf(x: Any) -> Any:
    return np.isinf(x) & ~np.signbit(x)


@implements(np.isneginf)
def _isneginf(x: Any) -> Any:
    return np.isinf(x) & np.signbit(x)


@implements(np.real)
def _real(val: Any) -> Any:
    return as_tracer(val)


@implements(np.imag)
def _imag(val: Any) -> Any:
    return np.zeros_like(strong(as_tracer(val)))


@implements(np.isreal)
def _isreal(x: Any) -> Any:
    y = value(x)
    return wrap(y.builder.full(True, y.type.with_dtype(BOOL)))


@implements(np.iscomplex)
def _iscomplex(x: Any) -> Any:
    y = value(x)
    return wrap(y.builder.full(False, y.type.with_dtype(BOOL)))


@implements(np.isrealobj)
def _isrealobj(x: Any) -> bool:
    return True


@implements(np.iscomplexobj)
def _iscomplexobj(x: Any) -> bool:
    return False


@implements(np.nan_to_num)
def _nan_to_num(x: Any, copy: Any = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    y = loose(x)
    b = y.builder
    if y.dtype.kind == "f":
        bounds = np.finfo(y.dtype)
        high = _like(y, bounds.max if posinf is None else posinf)
        low = _like(y, bounds.min if neginf is None else neginf)
        infinite = b.select(y.eq(math.inf), high, b.select(y.eq(-math.inf), low, y))
        y = b.select(b.isnan(y), _like(y, nan), infinite)
    if copy:
        return wrap_like(y, x)
    store(x, wrap(y))
    return x


def _like(y: Any, number: Any) -> Any:
    """An operand in the dtype and shape of a Value."""
    if not is_tracer(number) and isinstance(number, int | float):
        return y.builder.full(number, y)
    return spread_to(cast(value(number), y.dtype), y.shape)
