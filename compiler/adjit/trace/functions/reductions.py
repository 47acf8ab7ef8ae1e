"""Reductions along axes, positions of extrema, running sums and products.

Integers are summed and multiplied in 64 bits, as NumPy does; `where=` becomes a select before the reduction."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjit.ir.types import BOOL, I64, U8
from adjit.trace.functions.arrays import count, reduced_shape, spread, with_kept
from adjit.trace.functions.calling import cast, combined, make_dtype, reduced_axes, since, spread_to, truth, value, wrap
from adjit.trace.lower import broadcast_shapes, normalize_axis
from adjit.trace.refuse import dtype_error, shape_error
from adjit.trace.table import accumulates, implements, reduces

U64 = np.dtype(np.uint64)


def sum_dtype(dtype: np.dtype) -> np.dtype:
    """What NumPy sums and multiplies in: integers shorter than 64 bits grow."""
    if dtype.kind == "b" or (dtype.kind == "i" and dtype.itemsize < 8):
        return I64
    if dtype.kind == "u" and dtype.itemsize < 8:
        return U64
    return dtype


def reduced(op: str, x: Any, axes: tuple[int, ...], keepdims: bool = False) -> Any:
    """One reduction op, or x itself where there is no axis."""
    if not axes:
        return x
    y = getattr(x.builder, op)(x, axes=axes)
    return with_kept(x.builder, y, axes, x.shape) if keepdims else y


def masked(x: Any, where: Any, otherwise: float | bool) -> Any:
    """x where the mask is true, `otherwise` elsewhere; mask and x are broadcast to each other."""
    if where is True or where is None:
        return x
    mask = truth(value(where))
    shape = broadcast_shapes("where=", mask.type, x.type)
    b = x.builder
    return b.select(spread_to(mask, shape), spread_to(x, shape), b.full(otherwise, x.type.with_shape(shape)))


_START = {"sum": np.add, "prod": np.multiply, "any": np.logical_or, "all": np.logical_and}


def add_up(op: str, x: Any, axis: Any, dtype: Any, keepdims: Any, initial: Any, where: Any) -> Any:
    """np.sum or np.prod of a value."""
    x = cast(x, sum_dtype(x.dtype) if dtype is None else make_dtype(op, dtype))
    x = masked(x, where, op == "prod")
    if x.dtype == BOOL:
        op = "any" if op == "sum" else "all"
    y = reduced(op, x, reduced_axes(axis, len(x.shape)), bool(keepdims))
    return y if initial is None else cast(combined(_START[op], y, initial), y.dtype)


@implements(np.sum)
def _sum(
    a: Any, axis: Any = None, dtype: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True
) -> Any:
    return wrap(add_up("sum", value(a), axis, dtype, keepdims, initial, where))


@implements(np.prod)
def _prod(
    a: Any, axis: Any = None, dtype: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True
) -> Any:
    return wrap(add_up("prod", value(a), axis, dtype, keepdims, initial, where))


def lowest_of(op: str, dtype: np.dtype) -> Any:
    """What max (or min) of nothing would be."""
    if dtype.kind == "f":
        return -math.inf if op == "max" else math.inf
    if dtype == BOOL:
        return op == "min"
    return np.iinfo(dtype).min if op == "max" else np.iinfo(dtype).max


def extremum(op: str, x: Any, axis: Any, keepdims: Any, initial: Any = None, where: Any = True) -> Any:
    """np.max or np.min of a value; an empty axis needs `initial`, a mask too."""
    if where is not True and initial is None:
        raise shape_error(f"{op}: `where` needs `initial`, as nothing has no {op}")
    b = x.builder
    x = masked(x, where, lowest_of(op, x.dtype))
    axes = reduced_axes(axis, len(x.shape))
    if axes and count(x.shape, axes) == 0:
        kept = reduced_shape(x.shape, axes, bool(keepdims))
        if initial is None and 0 not in kept:
            raise shape_error(f"{op}: {x.type} has an empty axis, which has no {op}; give `initial`")
        y = b.full(lowest_of(op, x.dtype), x.type.with_shape(kept))
    elif x.dtype == BOOL:
        y = reduced("any" if op == "max" else "all", x, axes, bool(keepdims))
    else:
        y = reduced(op, x, axes, bool(keepdims))
    if initial is None:
        return y
    return cast(combined(np.maximum if op == "max" else np.minimum, y, initial), y.dtype)


@implements(np.max, np.amax)
def _max(a: Any, axis: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True) -> Any:
    return wrap(extremum("max", value(a), axis, keepdims, initial, where))


@implements(np.min, np.amin)
def _min(a: Any, axis: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True) -> Any:
    return wrap(extremum("min", value(a), axis, keepdims, initial, where))


@implements(np.ptp)
def _ptp(a: Any, axis: Any = None, keepdims: Any = False) -> Any:
    x = value(a)
    if x.dtype == BOOL:
        raise dtype_error("ptp: bools have no difference; cast with .astype(np.uint8)")
    return wrap(extremum("max", x, axis, keepdims) - extremum("min", x, axis, keepdims))


def truth_reduced(op: str, a: Any, axis: Any, keepdims: Any, where: Any) -> Any:
    """np.any or np.all of an operand."""
    x = masked(truth(value(a)), where, op == "all")
    return reduced(op, x, reduced_axes(axis, len(x.shape)), bool(keepdims))


@implements(np.any)
def _any(a: Any, axis: Any = None, keepdims: Any = False, *, where: Any = True) -> Any:
    return wrap(truth_reduced("any", a, axis, keepdims, where))


@implements(np.all)
def _all(a: Any, axis: Any = None, keepdims: Any = False, *, where: Any = True) -> Any:
    return wrap(truth_reduced("all", a, axis, keepdims, where))


@implements(np.count_nonzero)
def _count_nonzero(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    x = cast(truth(value(a)), I64)
    return wrap(reduced("sum", x, reduced_axes(axis, len(x.shape)), bool(keepdims)))


def _position(op: str, a: Any, axis: Any, keepdims: Any) -> Any:
    x = value(a)
    b = x.builder
    shape = x.shape
    if x.dtype == BOOL:
        x = cast(x, U8)
    if axis is None or not shape:
        if axis is not None:
            normalize_axis(axis, 1)
        along, kept = 0, (1,) * len(shape)
        x = b.reshape(x, shape=(math.prod(shape),))
    else:
        along = normalize_axis(axis, len(shape))
        kept = (*shape[:along], 1, *shape[along + 1 :])
    if x.shape[along] == 0:
        raise shape_error(f"{op}: {x.type} has an empty axis, which has no position to give")
    y = getattr(b, op)(x, axis=along)
    return wrap(b.reshape(y, shape=kept) if keepdims else y)


@implements(np.argmax)
def _argmax(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    return _position("argmax", a, axis, keepdims)


@implements(np.argmin)
def _argmin(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    return _position("argmin", a, axis, keepdims)


def running(op: str, x: Any, axis: Any, dtype: Any) -> Any:
    """np.cumsum or np.cumprod of a value."""
    b = x.builder
    x = cast(x, sum_dtype(x.dtype) if dtype is None else make_dtype(op, dtype))
    if x.dtype == BOOL:
        raise dtype_error(f"{op}: bools have no running sum; give dtype=np.int64")
    if axis is None:
        x, axis = b.reshape(x, shape=(math.prod(x.shape),)), 0
    elif not x.shape:
        x = b.reshape(x, shape=(1,))
    return getattr(b, op)(x, axis=normalize_axis(axis, len(x.shape)), reverse=False)


@implements(np.cumsum)
def _cumsum(a: Any, axis: Any = None, dtype: Any = None) -> Any:
    return wrap(running("cumsum", value(a), axis, dtype))


@implements(np.cumprod)
def _cumprod(a: Any, axis: Any = None, dtype: Any = None) -> Any:
    return wrap(running("cumprod", value(a), axis, dtype))


def _cumulative(op: str, a: Any, axis: Any, dtype: Any, include_initial: Any) -> Any:
    x = value(a)
    if not x.shape or (axis is None and len(x.shape) > 1):
        raise shape_error(f"{op}: {x.type} needs `axis`" if x.shape else f"{op}: a 0-d array has no axis")
    along = normalize_axis(0 if axis is None else axis, len(x.shape))
    y = running(op, x, along, dtype)
    if include_initial:
        none = (0,) * len(y.shape)
        low = tuple(int(i == along) for i in range(len(y.shape)))
        y = y.builder.pad(y, low=low, high=none, interior=none, value=int(op == "cumprod"))
    return wrap(y)


@since(implements, "cumulative_sum")
def _cumulative_sum(x: Any, *, axis: Any = None, dtype: Any = None, include_initial: Any = False) -> Any:
    return _cumulative("cumsum", x, axis, dtype, include_initial)


@since(implements, "cumulative_prod")
def _cumulative_prod(x: Any, *, axis: Any = None, dtype: Any = None, include_initial: Any = False) -> Any:
    return _cumulative("cumprod", x, axis, dtype, include_initial)


def log_sum_exp(x: Any, axis: Any, keepdims: Any, base: str) -> Any:
    """log of the sum of `base` ("exp" or "exp2") along axes: stable; its derivative is 0 where it is infinite."""
    b = x.builder
    axes = reduced_axes(axis, len(x.shape))
    if not axes:
        return x
    if count(x.shape, axes) == 0:
        return b.full(-math.inf, x.type.with_shape(reduced_shape(x.shape, axes, bool(keepdims))))
    top = b.stop_gradient(b.max(x, axes=axes))
    finite = b.isfinite(top)
    shift = b.select(finite, top, 0.0)
    total = b.sum(getattr(b, base)(x - spread(b, shift, axes, x.shape)), axes=axes)
    logarithm = b.log(total) if base == "exp" else b.log2(total)
    y = b.select(finite, logarithm + shift, top)
    return with_kept(b, y, axes, x.shape) if keepdims else y


def _float_value(function: str, x: Any, dtype: Any) -> Any:
    x = value(x)
    if dtype is not None:
        return cast(x, make_dtype(function, dtype))
    (loop, *_) = getattr(np, function).resolve_dtypes((x.dtype, x.dtype, None))
    return cast(x, make_dtype(function, loop))


def _register_reduce(ufunc: np.ufunc, op: str) -> None:
    @reduces(ufunc)
    def _reduce(
        array: Any, axis: Any = 0, dtype: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True
    ) -> Any:
        x = value(array)
        if op in ("any", "all"):
            y = truth_reduced(op, array, axis, keepdims, where)
            return wrap(y if initial is None else combined(ufunc, y, initial))
        if op in ("sum", "prod"):
            return wrap(add_up(op, x, axis, dtype, keepdims, initial, where))
        if dtype is not None:
            x = cast(x, make_dtype(ufunc.__name__, dtype))
        return wrap(extremum(op, x, axis, keepdims, initial, where))


_REDUCED: tuple[tuple[np.ufunc, str], ...] = (
    (np.add, "sum"), (np.multiply, "prod"), (np.maximum, "max"), (np.minimum, "min"),
    (np.logical_or, "any"), (np.logical_and, "all"),
)  # fmt: skip
for _ufunc, _op in _REDUCED:
    _register_reduce(_ufunc, _op)


def _register_log_sum(ufunc: np.ufunc, base: str) -> None:
    @reduces(ufunc)
    def _reduce(
        array: Any, axis: Any = 0, dtype: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True
    ) -> Any:
        x = masked(_float_value(ufunc.__name__, array, dtype), where, -math.inf)
        y = log_sum_exp(x, axis, keepdims, base)
        return wrap(y if initial is None else cast(combined(ufunc, y, initial), y.dtype))


_register_log_sum(np.logaddexp, "exp")
_register_log_sum(np.logaddexp2, "exp2")


def _accumulated(op: str, array: Any, axis: Any, dtype: Any) -> Any:
    x = value(array)
    if not x.shape:
        raise shape_error("accumulate: a 0-d array has no axis to run along")
    return running(op, x, axis, dtype)


@accumulates(np.add)
def _add_accumulate(array: Any, axis: Any = 0, dtype: Any = None) -> Any:
    return wrap(_accumulated("cumsum", array, axis, dtype))


@accumulates(np.multiply)
def _multiply_accumulate(array: Any, axis: Any = 0, dtype: Any = None) -> Any:
    return wrap(_accumulated("cumprod", array, axis, dtype))


def _register_scan(ufunc: np.ufunc) -> None:
    """Running extrema by doubling: log2(n) steps, each an elementwise op on a shifted copy."""

    @accumulates(ufunc)
    def _accumulate(array: Any, axis: Any = 0, dtype: Any = None) -> Any:
        x = value(array)
        if ufunc in (np.logical_and, np.logical_or):
            x = truth(x)
        elif ufunc in (np.logaddexp, np.logaddexp2):
            x = _float_value(ufunc.__name__, array, dtype)
        elif dtype is not None:
            x = cast(x, make_dtype(ufunc.__name__, dtype))
        if not x.shape:
            raise shape_error("accumulate: a 0-d array has no axis to run along")
        along = normalize_axis(axis, len(x.shape))
        start, stop, step = [0] * len(x.shape), list(x.shape), (1,) * len(x.shape)
        shift = 1
        b = x.builder
        while shift < x.shape[along]:
            cut = list(stop)
            cut[along] = shift
            head = b.slice(x, start=tuple(start), stop=tuple(cut), step=step)
            later = list(start)
            later[along] = shift
            tail = b.slice(x, start=tuple(later), stop=tuple(stop), step=step)
            cut[along] = stop[along] - shift
            before = b.slice(x, start=tuple(start), stop=tuple(cut), step=step)
            x = b.concatenate(head, value(ufunc(wrap(before), wrap(tail))), axis=along)
            shift *= 2
        return wrap(x)


_SCANNED: tuple[np.ufunc, ...] = (
    np.maximum, np.minimum, np.logical_and, np.logical_or, np.logaddexp, np.logaddexp2,
)  # fmt: skip
for _ufunc in _SCANNED:
    _register_scan(_ufunc)
