"""Choosing elements by conditions, bounds and positions: where, select, clip, take, comparisons of whole arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjit.ir.types import BOOL, F64, I64
from adjit.trace.functions.calling import (
    anew,
    cast,
    dtype_of,
    promoted,
    shape_of,
    spread_to,
    truth,
    type_of,
    value,
    wrap,
)
from adjit.trace.functions.reductions import reduced
from adjit.trace.functions.sorting import searched
from adjit.trace.indexing import checked_index
from adjit.trace.lower import as_tracer, broadcast_shapes, getitem, is_tracer, normalize_axis, select
from adjit.trace.promote import widened
from adjit.trace.refuse import dtype_error, shape_error, trace_error
from adjit.trace.table import implements
from adjit.trace.tracer import array_of


@implements(np.where)
def _where(condition: Any, x: Any = None, y: Any = None) -> Any:
    if x is None or y is None:
        raise trace_error(
            "np.where with one argument gives as many positions as values are true, and a compiled program has static "
            "shapes; use np.where(condition, x, y)"
        )
    return array_of(select(as_tracer(condition), _operand(x), _operand(y)))


def _operand(x: Any) -> Any:
    """A list as an array; numbers are left as they are, because they are weak."""
    return as_tracer(x) if isinstance(x, list | tuple) else x


@implements(np.select)
def _select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    if len(condlist) != len(choicelist):
        raise shape_error(f"select: {len(condlist)} conditions for {len(choicelist)} choices")
    if not len(condlist):
        raise shape_error("select: no condition is given")
    result = default
    for condition, choice in zip(reversed(list(condlist)), reversed(list(choicelist)), strict=True):
        if dtype_of(condition) != BOOL:
            raise dtype_error(f"select: a condition is {dtype_of(condition)}, not bool")
        result = select(_operand(condition), _operand(choice), _operand(result))
    return array_of(result)


_CLIP: np.ufunc = vars(np)["_core"].umath.clip
"""The ufunc behind np.clip, for its rule of promotion."""


@implements(np.clip)
def _clip(a: Any, a_min: Any = None, a_max: Any = None, min: Any = None, max: Any = None) -> Any:
    low = a_min if min is None else min
    high = a_max if max is None else max
    if low is None and high is None:
        return as_tracer(a) if not is_tracer(a) else anew(a)
    if low is None:
        return _bounded(np.minimum, a, high)
    if high is None:
        return _bounded(np.maximum, a, low)
    x, bottom, top = _clip_operands(a, low, high)
    return wrap(_cut(_cut(x, bottom, low, above=False), top, high, above=True))


def _clip_operands(a: Any, low: Any, high: Any) -> list[Any]:
    """All three in NumPy's common dtype and shape."""
    return promoted(_CLIP, a, low, high)


def _bounded(ufunc: np.ufunc, a: Any, bound: Any) -> Any:
    x, limit = promoted(ufunc, a, bound)
    return wrap(_cut(x, limit, bound, above=ufunc is np.minimum))


def _cut(x: Any, limit: Any, bound: Any, above: bool) -> Any:
    """x where it is within the bound: at the bound its derivative is 1, as a select says and a minimum does not."""
    b = x.builder
    if x.dtype == BOOL:
        return x & limit if above else x | limit
    beyond = x > limit if above else x < limit
    if x.dtype.kind == "f" and not (not is_tracer(bound) and isinstance(bound, int | float) and bound == bound):
        beyond = beyond | b.isnan(limit)
    return b.select(beyond, limit, x)


def _positions(function: str, indices: Any, size: int, axis: int, mode: Any) -> Any:
    """Positions within [0, size) as i64, checked or brought into range as `mode` says."""
    index = value(indices)
    b = index.builder
    if index.dtype.kind not in "iu":
        if index.type.size:
            raise dtype_error(f"{function}: indices are integers, not {index.type}")
        index = cast(index, I64)
    if mode == "raise":
        return b.value(checked_index(b, index.node, size, axis))
    index = cast(index, I64)
    if size == 0 and index.type.size:
        raise shape_error(f"{function}: cannot take from an empty axis")
    if mode == "clip":
        top = b.full(size - 1, index)
        return b.select(index < 0, 0, b.select(index > top, top, index))
    if mode == "wrap":
        return b.remainder(index, b.full(size, index)) if size else index
    raise trace_error(f"{function}: mode {mode!r} is none of 'raise', 'wrap', 'clip'", numpy_too=True)


@implements(np.take)
def _take(a: Any, indices: Any, axis: Any = None, mode: Any = "raise") -> Any:
    if not is_tracer(indices) and mode == "raise":
        return _take_static(as_tracer(a), np.asarray(indices), axis)
    x = value(a)
    b = x.builder
    if axis is None:
        x, axis = b.reshape(x, shape=(math.prod(x.shape),)), 0
    along = normalize_axis(axis, len(x.shape))
    return wrap(b.take(x, _positions("take", indices, x.shape[along], along, mode), axis=along))


def _take_static(x: Any, indices: np.ndarray, axis: Any) -> Any:
    if indices.dtype.kind not in "iu" and indices.size:
        raise dtype_error(f"take: indices are integers, not {indices.dtype}")
    if axis is None:
        x, axis = x.reshape(-1), 0
    along = normalize_axis(axis, x.ndim)
    key: Any = int(indices) if indices.ndim == 0 else indices.astype(np.int64)
    # An index of one integer is a view, take never is one.
    return getitem(x, (slice(None),) * along + (key,)).copy()


@implements(np.take_along_axis)
def _take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Any:
    x, index = value(arr), value(indices)
    b = x.builder
    if axis is None:
        x, axis = b.reshape(x, shape=(math.prod(x.shape),)), 0
    along = normalize_axis(axis, len(x.shape))
    if len(index.shape) != len(x.shape):
        raise shape_error(f"take_along_axis: indices {index.type} and array {x.type} differ in dimensions")
    position = _positions("take_along_axis", indices, x.shape[along], along, "raise")
    if along == len(x.shape) - 1 and x.shape[:along] == index.shape[:along]:
        return wrap(b.take(x, position, axis=along, batch=along))
    lead = [1 if i == along else n for i, n in enumerate(x.shape)]
    others = [1 if i == along else n for i, n in enumerate(index.shape)]
    shape = tuple(broadcast_shapes("take_along_axis, without the axis", tuple(lead), tuple(others)))
    shape = (*shape[:along], index.shape[along], *shape[along + 1 :])
    linear = _scaled(spread_to(position, shape), math.prod(x.shape[along + 1 :]))
    for i, n in enumerate(x.shape):
        # An axis of size 1 is stretched: its only position is 0.
        if i != along and n > 1:
            step = b.iota(shape=shape, axis=i, dtype=I64)
            linear = linear + _scaled(step, math.prod(x.shape[i + 1 :]))
    return wrap(b.take(b.reshape(x, shape=(math.prod(x.shape),)), linear, axis=0))


@implements(np.put_along_axis)
def _put_along_axis(arr: Any, indices: Any, values: Any, axis: Any = -1) -> None:
    if axis is None:
        arr[...].reshape(-1)[_positions_of(indices)] = values
        return
    along = normalize_axis(axis, len(shape_of(arr)))
    found = shape_of(indices)
    if len(found) != len(shape_of(arr)):
        raise shape_error(f"put_along_axis: indices of shape {found} and array {type_of(arr)} differ in dimensions")
    key: list[Any] = []
    for i, n in enumerate(shape_of(arr)):
        # As in NumPy the other axes have the array's sizes; where the indices have 1 there they are stretched.
        grid = np.arange(n).reshape(tuple(n if i == j else 1 for j in range(len(found))))
        key.append(_positions_of(indices) if i == along else grid)
    arr[tuple(key)] = values


def _positions_of(indices: Any) -> Any:
    if dtype_of(indices).kind not in "iu":
        raise dtype_error(f"put_along_axis: indices are integers, not {type_of(indices)}")
    return as_tracer(indices)


def _scaled(x: Any, factor: int) -> Any:
    return x if factor == 1 else x * factor


@implements(np.isclose)
def _isclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: Any = False) -> Any:
    y = b if dtype_of(b).kind == "f" else as_tracer(b).astype(F64)
    close = (np.abs(a - y) <= atol + rtol * np.abs(y)) & np.isfinite(y) | np.equal(a, y)
    return close | (np.isnan(a) & np.isnan(y)) if equal_nan else close


@implements(np.allclose)
def _allclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: Any = False) -> Any:
    return np.all(np.isclose(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan))


@implements(np.array_equal)
def _array_equal(a1: Any, a2: Any, equal_nan: Any = False) -> Any:
    if shape_of(a1) != shape_of(a2):
        return False
    same = np.equal(a1, a2)
    if equal_nan and dtype_of(a1).kind == "f" and dtype_of(a2).kind == "f":
        same = same | (np.isnan(a1) & np.isnan(a2))
    return np.all(same)


@implements(np.array_equiv)
def _array_equiv(a1: Any, a2: Any) -> Any:
    try:
        broadcast_shapes("array_equiv", shape_of(a1), shape_of(a2))
    except ValueError:
        return False
    return np.all(np.equal(a1, a2))


@implements(np.isin)
def _isin(element: Any, test_elements: Any, assume_unique: Any = False, invert: Any = False, kind: Any = None) -> Any:
    x, among = value(element), value(test_elements)
    n = math.prod(among.shape)
    b = x.builder
    listed = wrap(b.reshape(among, shape=(n,)))
    same = value(np.equal(wrap(b.reshape(x, shape=(*x.shape, 1))), listed)) if n else None
    found = truth(reduced("any", same, (len(x.shape),))) if n else b.full(False, x.type.with_dtype(BOOL))
    return wrap(~found if invert else found)


@implements(np.interp)
def _interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    if period is not None:
        raise trace_error("np.interp: the argument 'period' is not supported on traced arrays")
    widened("np.interp", [type_of(v) for v in (x, xp, fp)], F64)
    at, knots, heights = (cast(value(v), F64) for v in (x, xp, fp))
    b = at.builder
    if len(knots.shape) != 1 or knots.shape != heights.shape or knots.shape[0] == 0:
        raise shape_error(f"interp: xp {knots.type} and fp {heights.type} are vectors of one length, not empty")
    (n,) = knots.shape
    first, last = _everywhere(knots, 0, at.shape), _everywhere(knots, n - 1, at.shape)
    highest = _everywhere(heights, n - 1, at.shape)
    low = _everywhere(heights, 0, at.shape) if left is None else spread_to(cast(value(left), F64), at.shape)
    high = highest if right is None else spread_to(cast(value(right), F64), at.shape)
    inside = highest if n == 1 else b.select(at.eq(last), highest, _on_segments(at, knots, heights))
    result = b.select(at < first, low, b.select(at > last, high, inside))
    return wrap(b.select(b.isnan(at), at, result))


def _everywhere(v: Any, i: int, shape: tuple[int, ...]) -> Any:
    """Element i of a vector in every element of a shape."""
    b = v.builder
    return b.broadcast(b.reshape(_part(v, i, i + 1), shape=()), shape=shape, axes=())


def _part(v: Any, start: int, stop: int) -> Any:
    return v.builder.slice(v, start=(start,), stop=(stop,), step=(1,))


def _on_segments(at: Any, knots: Any, heights: Any) -> Any:
    """The line through the knots around each element; a segment's number is the count of inner knots not above it."""
    b = at.builder
    (n,) = knots.shape
    segment = searched(_part(knots, 1, n - 1), at, right=True)
    rises = _part(heights, 1, n) - _part(heights, 0, n - 1)
    slopes = rises / (_part(knots, 1, n) - _part(knots, 0, n - 1))
    off = at - b.take(knots, segment, axis=0)
    return b.take(slopes, segment, axis=0) * off + b.take(heights, segment, axis=0)
