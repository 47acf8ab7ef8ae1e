"""Means, variances, covariances, and the reductions that leave NaNs out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjit.ir.types import F64, I64
from adjit.trace.functions.arrays import count, reduced_shape, spread
from adjit.trace.functions.calling import (
    cast,
    combined,
    make_dtype,
    reduced_axes,
    spread_to,
    truth,
    value,
    wrap,
)
from adjit.trace.functions.elementary import root_of_squares
from adjit.trace.functions.reductions import add_up, extremum, masked, reduced, running
from adjit.trace.lower import broadcast_shapes, normalize_axes, normalize_axis
from adjit.trace.promote import type_of, widened
from adjit.trace.refuse import shape_error
from adjit.trace.table import implements


def _inexact(function: str, x: Any, dtype: Any = None) -> Any:
    """x in the dtype that means are computed in."""
    if dtype is not None:
        return cast(x, make_dtype(function, dtype))
    return x if x.dtype.kind == "f" else cast(x, F64)


def _met(x: Any, where: Any) -> Any:
    """x broadcast to meet its mask."""
    return x if where is True else spread_to(x, broadcast_shapes("where=", type_of(where), x.type))


def _axes(axis: Any, x: Any, where: Any) -> tuple[int, ...]:
    # NumPy counts elements only where there is no mask, and only there a 0-d array has no axis 0.
    return normalize_axes(axis, len(x.shape)) if where is True else reduced_axes(axis, len(x.shape))


def _counted(x: Any, axes: tuple[int, ...], keepdims: bool, where: Any) -> Any:
    """How many elements each mean takes: a constant, or a count of the mask."""
    b = x.builder
    if where is True:
        return b.full(count(x.shape, axes), x.type.with_shape(reduced_shape(x.shape, axes, keepdims)))
    mask = spread_to(truth(value(where)), x.shape)
    return cast(reduced("sum", cast(mask, I64), axes, keepdims), x.dtype)


def _quotient(x: Any, n: Any) -> Any:
    """x / n, also for an integer that a dtype argument asked for."""
    if x.dtype.kind == "f":
        return x / n
    return cast(cast(x, F64) / cast(n, F64), x.dtype)


def mean_of(x: Any, axes: tuple[int, ...], keepdims: bool, where: Any = True) -> Any:
    """The mean as NumPy rounds it: the sum divided by the count. `x` has met its mask."""
    return _quotient(reduced("sum", masked(x, where, 0), axes, keepdims), _counted(x, axes, keepdims, where))


@implements(np.mean)
def _mean(a: Any, axis: Any = None, dtype: Any = None, keepdims: Any = False, *, where: Any = True) -> Any:
    x = _met(_inexact("mean", value(a), dtype), where)
    return wrap(mean_of(x, _axes(axis, x, where), bool(keepdims), where))


def variance(
    function: str, x: Any, axis: Any, dtype: Any, ddof: Any, keepdims: Any, where: Any, mean: Any, correction: Any
) -> Any:
    """np.var of a value: the mean of squared distances from the mean."""
    if correction is not None:
        if ddof != 0:
            raise shape_error(f"{function}: `ddof` and `correction` are the same; give one of them")
        ddof = correction
    x = _met(_inexact(function, x, dtype), where)
    b = x.builder
    axes, kept = _axes(axis, x, where), bool(keepdims)
    if mean is None:
        middle = spread(b, mean_of(x, axes, False, where), axes, x.shape) if axes else x
    else:
        middle = spread_to(cast(value(mean), x.dtype), x.shape)
    off = x - middle
    total = reduced("sum", masked(off * off, where, 0), axes, kept)
    n = _counted(x, axes, kept, where)
    if where is True:
        return _quotient(total, b.full(max(count(x.shape, axes) - ddof, 0), n.type))
    return _quotient(total, b.maximum(n - ddof, b.full(0, n)))


@implements(np.var)
def _var(
    a: Any, axis: Any = None, dtype: Any = None, ddof: Any = 0, keepdims: Any = False, *, where: Any = True,
    mean: Any = None, correction: Any = None,
) -> Any:  # fmt: skip
    return wrap(variance("var", value(a), axis, dtype, ddof, keepdims, where, mean, correction))


@implements(np.std)
def _std(
    a: Any, axis: Any = None, dtype: Any = None, ddof: Any = 0, keepdims: Any = False, *, where: Any = True,
    mean: Any = None, correction: Any = None,
) -> Any:  # fmt: skip
    y = variance("std", value(a), axis, dtype, ddof, keepdims, where, mean, correction)
    return wrap(root_of_squares(y))


@implements(np.average)
def _average(a: Any, axis: Any = None, weights: Any = None, returned: Any = False, *, keepdims: Any = False) -> Any:
    x, kept = value(a), bool(keepdims)
    axes = normalize_axes(axis, len(x.shape))
    b = x.builder
    if weights is None:
        x = _inexact("average", x)
        y, total = mean_of(x, axes, kept), _counted(x, axes, kept, True)
    else:
        w = value(weights)
        dtype = make_dtype("average", np.result_type(x.dtype, w.dtype, *([F64] if x.dtype.kind != "f" else [])))
        widened("np.average", (x.type, w.type), dtype)
        x, w = cast(x, dtype), cast(w, dtype)
        if w.shape != x.shape:
            given = axes if not isinstance(axis, tuple) else tuple(normalize_axis(i, len(x.shape)) for i in axis)
            if axis is None or w.shape != tuple(x.shape[i] for i in given):
                raise shape_error(f"average: weights {w.type} do not fit {x.type} along axis {axis}")
            order = tuple(int(i) for i in np.argsort(given))
            w = b.broadcast(b.transpose(w, axes=order), shape=x.shape, axes=axes)
        total = reduced("sum", w, axes, kept)
        y = reduced("sum", x * w, axes, kept) / total
    return (wrap(y), wrap(total)) if returned else wrap(y)


def _without_nan(a: Any, otherwise: float) -> tuple[Any, Any]:
    """a with `otherwise` for NaN, and where it is a number; True where none can be NaN."""
    x = value(a)
    if x.dtype.kind != "f":
        return x, True
    nan = x.builder.isnan(x)
    return x.builder.select(nan, otherwise, x), ~nan


def _numbers(number: Any, where: Any) -> Any:
    """The mask of numbers and the user's own as one."""
    if number is True:
        return where
    return wrap(number if where is True else combined(np.logical_and, number, where))


@implements(np.nansum)
def _nansum(
    a: Any, axis: Any = None, dtype: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True
) -> Any:
    return wrap(add_up("sum", _without_nan(a, 0.0)[0], axis, dtype, keepdims, initial, where))


@implements(np.nanprod)
def _nanprod(
    a: Any, axis: Any = None, dtype: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True
) -> Any:
    return wrap(add_up("prod", _without_nan(a, 1.0)[0], axis, dtype, keepdims, initial, where))


@implements(np.nancumsum)
def _nancumsum(a: Any, axis: Any = None, dtype: Any = None) -> Any:
    return wrap(running("cumsum", _without_nan(a, 0.0)[0], axis, dtype))


@implements(np.nancumprod)
def _nancumprod(a: Any, axis: Any = None, dtype: Any = None) -> Any:
    return wrap(running("cumprod", _without_nan(a, 1.0)[0], axis, dtype))


@implements(np.nanmean)
def _nanmean(a: Any, axis: Any = None, dtype: Any = None, keepdims: Any = False, *, where: Any = True) -> Any:
    x, number = _without_nan(a, 0.0)
    mask = _numbers(number, where)
    x = _met(_inexact("nanmean", x, dtype), mask)
    return wrap(mean_of(x, _axes(axis, x, mask), bool(keepdims), mask))


def _nanvariance(
    function: str, a: Any, axis: Any, dtype: Any, ddof: Any, keepdims: Any, where: Any, mean: Any, correction: Any
) -> Any:
    x, number = _without_nan(a, 0.0)
    mask = _numbers(number, where)
    y = variance(function, x, axis, dtype, ddof, keepdims, mask, mean, correction)
    if mask is True:
        return y
    # Where ddof leaves nothing to divide by NumPy gives NaN, also for a sum above zero.
    b = y.builder
    degrees = ddof if correction is None else correction
    met = _met(cast(x, y.dtype), mask)
    n = _counted(met, _axes(axis, met, mask), bool(keepdims), mask)
    return b.select(n > degrees, y, math.nan)


@implements(np.nanvar)
def _nanvar(
    a: Any, axis: Any = None, dtype: Any = None, ddof: Any = 0, keepdims: Any = False, *, where: Any = True,
    mean: Any = None, correction: Any = None,
) -> Any:  # fmt: skip
    return wrap(_nanvariance("nanvar", a, axis, dtype, ddof, keepdims, where, mean, correction))


@implements(np.nanstd)
def _nanstd(
    a: Any, axis: Any = None, dtype: Any = None, ddof: Any = 0, keepdims: Any = False, *, where: Any = True,
    mean: Any = None, correction: Any = None,
) -> Any:  # fmt: skip
    y = _nanvariance("nanstd", a, axis, dtype, ddof, keepdims, where, mean, correction)
    return wrap(root_of_squares(y))


def _nanextremum(op: str, a: Any, axis: Any, keepdims: Any, initial: Any, where: Any) -> Any:
    """The extremum of the numbers; NaN where there is none (NumPy also warns)."""
    x, number = _without_nan(a, -math.inf if op == "max" else math.inf)
    y = extremum(op, x, axis, keepdims, initial, where)
    if number is True or initial is not None:
        return wrap(y)
    some = reduced("any", number, reduced_axes(axis, len(x.shape)), bool(keepdims))
    return wrap(y.builder.select(some, y, math.nan))


@implements(np.nanmax)
def _nanmax(a: Any, axis: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True) -> Any:
    return _nanextremum("max", a, axis, keepdims, initial, where)


@implements(np.nanmin)
def _nanmin(a: Any, axis: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True) -> Any:
    return _nanextremum("min", a, axis, keepdims, initial, where)


def _covariance(m: Any, y: Any, rowvar: Any, ddof: float, dtype: Any) -> Any:
    """Rows are variables, after np.cov."""
    x = value(m)
    rows = [x] if y is None else [x, value(y)]
    wanted = make_dtype("cov", dtype if dtype is not None else np.result_type(*(row.dtype for row in rows), F64))
    b = x.builder
    laid = []
    for row in rows:
        if len(row.shape) > 2:
            raise shape_error(f"cov: an operand has at most 2 dimensions, not {row.type}")
        row = cast(row, wanted)
        if len(row.shape) < 2:
            row = b.reshape(row, shape=(1, math.prod(row.shape)))
        elif not rowvar:
            row = b.transpose(row, axes=(1, 0))
        laid.append(row)
    x = laid[0] if len(laid) == 1 else b.concatenate(*laid, axis=0)
    n = x.shape[1]
    off = x - spread(b, mean_of(x, (1,), False), (1,), x.shape)
    return b.contract(off, off, spec="ik,jk->ij") * (1.0 / (n - ddof) if n > ddof else math.inf)


@implements(np.cov)
def _cov(m: Any, y: Any = None, rowvar: Any = True, bias: Any = False, ddof: Any = None, *, dtype: Any = None) -> Any:
    c = _covariance(m, y, rowvar, (0 if bias else 1) if ddof is None else ddof, dtype)
    return wrap(c.builder.reshape(c, shape=()) if c.shape == (1, 1) else c)


@implements(np.corrcoef)
def _corrcoef(x: Any, y: Any = None, rowvar: Any = True, *, dtype: Any = None) -> Any:
    c = _covariance(x, y, rowvar, 1, dtype)
    b = c.builder
    n = c.shape[0]
    own = b.sqrt(b.slice(b.reshape(c, shape=(n * n,)), start=(0,), stop=(n * n,), step=(n + 1,)))
    scaled = c / b.broadcast(own, shape=(n, n), axes=(0,)) / b.broadcast(own, shape=(n, n), axes=(1,))
    bound = b.full(1.0, scaled)
    clipped = b.select(scaled > bound, bound, b.select(scaled < -1.0, -bound, scaled))
    return wrap(b.reshape(clipped, shape=()) if n == 1 else clipped)
