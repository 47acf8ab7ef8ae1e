"""Sorting and searching: sort, argsort, partition, lexsort, searchsorted, digitize.

Every sort is stable, whatever `kind` says, so that elements that compare equal stay in order; NaN is last. A partition
is a whole sort, which is one of the orders that NumPy may give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from adjit.ir.types import BOOL, I32, I64, Array
from adjit.trace import checks
from adjit.trace.functions.calling import cast, static_ints, type_of, value, wrap, wrap_c
from adjit.trace.locate import locate
from adjit.trace.lower import as_tracer, is_tracer, normalize_axis
from adjit.trace.promote import resolve
from adjit.trace.refuse import dtype_error, shape_error, trace_error
from adjit.trace.table import implements

_KINDS = (None, "quicksort", "mergesort", "heapsort", "stable")


def ordered(x: Any, axis: int) -> Any:
    """A Value with the elements along an axis in order."""
    if x.shape[axis] < 2:
        return x
    return cast(x.builder.sort(_sortable(x), axis=axis), x.dtype)


def order_of(x: Any, axis: int) -> Any:
    """The positions, along an axis of a Value, that its elements come from in order."""
    if x.shape[axis] < 2:
        return x.builder.full(0, Array(I64, x.shape))
    return x.builder.argsort(_sortable(x), axis=axis)


def _sortable(x: Any) -> Any:
    """In a dtype that is sorted: bools and bytes as int32."""
    return cast(x, I32) if x.dtype == BOOL or x.dtype == np.dtype(np.uint8) else x


def _laid(function: str, a: Any, axis: Any, kind: Any, order: Any, stable: Any = None) -> tuple[Any, int]:
    """The operand, and the axis along which it is sorted: flat where there is none."""
    if order is not None:
        raise dtype_error(f"{function}: `order` names fields, and a traced array has none")
    if kind not in _KINDS:
        raise trace_error(f"{function}: kind {kind!r} is none of {', '.join(map(repr, _KINDS[1:]))}", numpy_too=True)
    if kind is not None and stable is not None:
        raise trace_error(f"{function}: `kind` and `stable` cannot both be given", numpy_too=True)
    return laid_along(a, axis)


def laid_along(a: Any, axis: Any) -> tuple[Any, int]:
    """A Value and one of its axes; flat where there is none."""
    x = value(a)
    if axis is None:
        return x.builder.reshape(x, shape=(math.prod(x.shape),)), 0
    return x, normalize_axis(axis, len(x.shape))


@implements(np.sort)
def _sort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    return wrap(ordered(*_laid("sort", a, axis, kind, order, stable)))


@implements(np.argsort)
def _argsort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    return wrap(order_of(*_laid("argsort", a, axis, kind, order, stable)))


def _partitioned(function: str, a: Any, kth: Any, axis: Any, kind: Any, order: Any) -> tuple[Any, int]:
    if kind != "introselect":
        raise trace_error(f"{function}: kind {kind!r} is not 'introselect'", numpy_too=True)
    x, along = _laid(function, a, axis, None, order)
    n = x.shape[along]
    for k in static_ints(kth, function, "kth"):
        if not -n <= k < n:
            raise shape_error(f"{function}: kth(={k}) out of bounds ({n})")
    return x, along


@implements(np.partition)
def _partition(a: Any, kth: Any, axis: Any = -1, kind: Any = "introselect", order: Any = None) -> Any:
    return wrap(ordered(*_partitioned("partition", a, kth, axis, kind, order)))


@implements(np.argpartition)
def _argpartition(a: Any, kth: Any, axis: Any = -1, kind: Any = "introselect", order: Any = None) -> Any:
    return wrap(order_of(*_partitioned("argpartition", a, kth, axis, kind, order)))


@implements(np.lexsort)
def _lexsort(keys: Any, axis: Any = -1) -> Any:
    rows = [value(key) for key in (keys if isinstance(keys, Sequence) else list(as_tracer(keys)))]
    if not rows:
        raise trace_error("lexsort: need sequence of keys with len > 0 in lexsort", numpy_too=True)
    if any(row.shape != rows[0].shape for row in rows):
        raise shape_error(f"lexsort: keys of different shapes, {', '.join(str(row.type) for row in rows)}")
    along = normalize_axis(axis, max(len(rows[0].shape), 1))
    if not rows[0].shape:
        return wrap(rows[0].builder.full(0, Array(I64, ())))
    # The last key decides first: each later sort keeps the order of the ones before it among equals.
    found = order_of(rows[0], along)
    for row in rows[1:]:
        found = taken_along(found, order_of(taken_along(row, found, along), along), along)
    return wrap(found)


def taken_along(x: Any, index: Any, axis: int) -> Any:
    """np.take_along_axis of Values, at positions that are in range; the other axes are the same."""
    b, last = x.builder, len(x.shape) - 1
    order = (*(i for i in range(last + 1) if i != axis), axis)
    back = tuple(order.index(i) for i in range(last + 1))
    moved, at = (v if axis == last else b.transpose(v, axes=order) for v in (x, index))
    found = b.take(moved, at, axis=last, batch=last)
    return found if axis == last else b.transpose(found, axes=back)


# -- searching ---------------------------------------------------------------------------------------------------------


@implements(np.searchsorted)
def _searchsorted(a: Any, v: Any, side: Any = "left", sorter: Any = None) -> Any:
    if side not in ("left", "right"):
        raise trace_error(f"searchsorted: side {side!r} is neither 'left' nor 'right'", numpy_too=True)
    table = as_tracer(a)
    if len(type_of(table).shape) != 1:
        raise shape_error(f"searchsorted: what is searched in is a vector, not {type_of(table)}")
    if sorter is not None:
        if type_of(sorter).shape != type_of(table).shape:
            raise shape_error(f"searchsorted: sorter {type_of(sorter)} is not of the size of {type_of(table)}")
        table = np.take(table, sorter)
    wanted = as_tracer(v)
    dtype = resolve(np.less, [type_of(table), type_of(wanted)])[0]
    return wrap_c(searched(cast(value(table), dtype), cast(value(wanted), dtype), side == "right"))


def searched(table: Any, wanted: Any, right: bool) -> Any:
    """How many elements of a sorted vector come before each wanted one, or, with `right`, not after it: bit by bit of
    the count."""
    b, (n,) = table.builder, table.shape
    found = b.full(0, Array(I64, wanted.shape))
    step = 1 << n.bit_length()
    while n and step > 1:
        step //= 2
        reached = found + step
        inside = reached <= n
        place = b.select(inside, reached - 1, b.full(0, reached))
        element = b.take(table, place, axis=0)
        before = ~_is_less(wanted, element) if right else _is_less(element, wanted)
        found = b.select(inside & before, reached, found)
    return found


def _is_less(x: Any, y: Any) -> Any:
    """x before y, with NaN last."""
    if x.dtype == BOOL:
        return ~x & y
    if x.dtype.kind != "f":
        return x < y
    return (x < y) | (x.builder.isnan(y) & ~x.builder.isnan(x))


@implements(np.digitize)
def _digitize(x: Any, bins: Any, right: Any = False) -> Any:
    edges = as_tracer(bins)
    if len(edges.shape) != 1:
        raise shape_error(f"digitize: bins are a vector, not {edges.type}")
    side: Any = "left" if right else "right"
    if not is_tracer(bins):
        return _in_plain_bins(x, np.asarray(bins), side)
    rises: Any = np.all(edges[1:] >= edges[:-1])
    falls = np.all(edges[1:] <= edges[:-1])
    text = "digitize: bins must be monotonically increasing or decreasing"
    checks.note(rises | falls, "ShapeError", text, locate())
    up = _searchsorted(edges, x, side)
    down = edges.shape[0] - _searchsorted(edges[::-1], x, side)
    return np.where(rises, up, down)


def _in_plain_bins(x: Any, bins: np.ndarray, side: Any) -> Any:
    if np.all(bins[1:] >= bins[:-1]):
        return _searchsorted(bins, x, side)
    if np.all(bins[1:] <= bins[:-1]):
        return len(bins) - _searchsorted(np.array(bins[::-1]), x, side)
    raise shape_error("digitize: bins must be monotonically increasing or decreasing")
