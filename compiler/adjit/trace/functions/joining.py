"""Joining and cutting: concatenate, stack, block, split, append, insert, delete. Parts of a split are views."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from adjit.trace.functions.calling import anew, dtype_of, make_dtype, shape_of, since, static_int, static_ints
from adjit.trace.functions.shaping import at_least_1d, at_least_2d, at_least_3d, gather_static, move_axes
from adjit.trace.lower import (
    as_tracer,
    broadcast_to,
    cast,
    common,
    concatenate,
    expand_dims,
    getitem,
    is_tracer,
    normalize_axis,
    reshape,
    strong,
)
from adjit.trace.promote import widened
from adjit.trace.refuse import dtype_error, index_error, shape_error, trace_error
from adjit.trace.table import implements


def _joined(function: str, parts: Sequence[Any], axis: int, dtype: Any = None, casting: Any = "same_kind") -> Any:
    """Concatenation of arrays of any dtypes, whose shapes fit."""
    if not parts:
        raise shape_error(f"{function}: need at least one array")
    items = [strong(as_tracer(part)) for part in parts]
    first = items[0]
    for other in items[1:]:
        if other.ndim != first.ndim or any(
            m != n for i, (m, n) in enumerate(zip(first.shape, other.shape, strict=True)) if i != axis
        ):
            raise shape_error(f"{function}: {first.type} and {other.type} differ outside axis {axis}")
    if dtype is not None:
        made = make_dtype(function, dtype)
        for item in items:
            if not np.can_cast(item.dtype, made, casting):
                raise dtype_error(f"{function}: cannot cast {item.type} to {made} under the rule {casting!r}")
        items = [cast(item, made) for item in items]
    elif any(item.dtype != first.dtype for item in items):
        types = [item.type for item in items]
        items = common(*items)
        widened(function, types, items[0].dtype)
    return concatenate(items, axis) if len(items) > 1 else anew(items[0])


@implements(np.concatenate)
def _concatenate(arrays: Any, axis: Any = 0, dtype: Any = None, casting: Any = "same_kind") -> Any:
    parts = [as_tracer(x) for x in arrays]
    if axis is None:
        return _joined("concatenate", [reshape(x, -1) for x in parts], 0, dtype, casting)
    if any(x.ndim == 0 for x in parts):
        raise shape_error("concatenate: zero-dimensional arrays cannot be concatenated; use np.stack")
    at = normalize_axis(axis, parts[0].ndim) if parts else 0
    return _joined("concatenate", parts, at, dtype, casting)


@implements(np.stack)
def _stack(arrays: Any, axis: Any = 0, dtype: Any = None, casting: Any = "same_kind") -> Any:
    parts = [as_tracer(x) for x in arrays]
    if not parts:
        raise shape_error("stack: need at least one array to stack")
    if any(x.shape != parts[0].shape for x in parts):
        raise shape_error(f"stack: shapes differ, {' and '.join(str(x.type) for x in parts)}")
    at = normalize_axis(axis, parts[0].ndim + 1)
    return _joined("stack", [expand_dims(x, (at,)) for x in parts], at, dtype, casting)


@implements(np.vstack)
def _vstack(tup: Any, dtype: Any = None, casting: Any = "same_kind") -> Any:
    return _joined("vstack", [at_least_2d(as_tracer(x)) for x in tup], 0, dtype, casting)


@implements(np.hstack)
def _hstack(tup: Any, dtype: Any = None, casting: Any = "same_kind") -> Any:
    parts = [at_least_1d(as_tracer(x)) for x in tup]
    return _joined("hstack", parts, 0 if parts and parts[0].ndim == 1 else 1, dtype, casting)


@implements(np.dstack)
def _dstack(tup: Any) -> Any:
    return _joined("dstack", [at_least_3d(as_tracer(x)) for x in tup], 2)


@implements(np.column_stack)
def _column_stack(tup: Any) -> Any:
    parts = [as_tracer(x) for x in tup]
    return _joined("column_stack", [x if x.ndim >= 2 else reshape(x, (-1, 1)) for x in parts], 1)


@implements(np.block)
def _block(arrays: Any) -> Any:
    depth = _block_depth(arrays)
    ndim = max(depth, _block_ndim(arrays))
    return _block_level(arrays, depth, ndim)


def _block_depth(x: Any) -> int:
    if isinstance(x, tuple):
        raise trace_error("np.block: nested parts are lists, not tuples", numpy_too=True)
    if not isinstance(x, list):
        return 0
    if not x:
        raise shape_error("block: a list is empty")
    depths = {_block_depth(item) for item in x}
    if len(depths) > 1:
        raise shape_error("block: lists are nested to different depths")
    return 1 + depths.pop()


def _block_ndim(x: Any) -> int:
    return max(map(_block_ndim, x)) if isinstance(x, list) else len(shape_of(x))


def _block_level(x: Any, depth: int, ndim: int) -> Any:
    """The innermost lists are joined along the last axis."""
    if depth == 0:
        part = as_tracer(x)
        return part if part.ndim == ndim else expand_dims(part, tuple(range(ndim - part.ndim)))
    return _joined("block", [_block_level(item, depth - 1, ndim) for item in x], ndim - depth)


def _cut(x: Any, axis: int, bounds: Sequence[int]) -> list[Any]:
    """Views between bounds, by the rules of slices."""
    edges: list[int | None] = [0, *bounds, None]
    lead = (slice(None),) * axis
    return [getitem(x, (*lead, slice(start, stop))) for start, stop in pairwise(edges)]


def _split(function: str, ary: Any, sections: Any, axis: Any, even: bool) -> list[Any]:
    x = as_tracer(ary)
    at = normalize_axis(axis, x.ndim)
    if isinstance(sections, Sequence | np.ndarray) and np.ndim(sections):
        return _cut(x, at, static_ints(sections, function, "indices_or_sections"))
    count, n = static_int(sections, function, "indices_or_sections"), x.shape[at]
    if count <= 0:
        raise shape_error(f"{function}: number of sections must be larger than 0")
    if even and n % count:
        raise shape_error(f"{function}: axis {at} of {x.type} does not divide into {count} equal parts")
    size, more = divmod(n, count)
    sizes = [size + 1] * more + [size] * (count - more)
    return _cut(x, at, np.cumsum(sizes[:-1], dtype=int).tolist())


@implements(np.split)
def _np_split(ary: Any, indices_or_sections: Any, axis: Any = 0) -> list[Any]:
    return _split("split", ary, indices_or_sections, axis, even=True)


@implements(np.array_split)
def _array_split(ary: Any, indices_or_sections: Any, axis: Any = 0) -> list[Any]:
    return _split("array_split", ary, indices_or_sections, axis, even=False)


@implements(np.hsplit)
def _hsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    return _split("hsplit", ary, indices_or_sections, 1 if len(shape_of(ary)) > 1 else 0, even=True)


@implements(np.vsplit)
def _vsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    if len(shape_of(ary)) < 2:
        raise shape_error("vsplit: only works on arrays of 2 or more dimensions")
    return _split("vsplit", ary, indices_or_sections, 0, even=True)


@implements(np.dsplit)
def _dsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    if len(shape_of(ary)) < 3:
        raise shape_error("dsplit: only works on arrays of 3 or more dimensions")
    return _split("dsplit", ary, indices_or_sections, 2, even=True)


@since(implements, "unstack")
def _unstack(x: Any, axis: Any = 0) -> tuple[Any, ...]:
    y = as_tracer(x)
    if not y.ndim:
        raise shape_error("unstack: an array of no dimensions cannot be unstacked")
    at = normalize_axis(axis, y.ndim)
    return tuple(getitem(y, (slice(None),) * at + (i,)) for i in range(y.shape[at]))


@implements(np.append)
def _append(arr: Any, values: Any, axis: Any = None) -> Any:
    x, y = as_tracer(arr), as_tracer(values)
    if axis is None:
        return _joined("append", [reshape(x, -1), reshape(y, -1)], 0)
    return _concatenate([x, y], axis)


def _flat_axis(x: Any, axis: Any) -> tuple[Any, int]:
    if axis is None:
        return reshape(x, -1), 0
    return x, normalize_axis(axis, x.ndim)


def _static_places(function: str, obj: Any) -> Any:
    if is_tracer(obj):
        raise trace_error(f"np.{function}: `obj` is traced, and the shape of the result is fixed while tracing")
    return obj


@implements(np.delete)
def _delete(arr: Any, obj: Any, axis: Any = None) -> Any:
    x, at = _flat_axis(as_tracer(arr), axis)
    try:
        kept = np.delete(np.arange(x.shape[at]), _static_places("delete", obj))
    except IndexError as error:
        raise index_error(f"delete: {error}") from None
    return gather_static(x, at, kept)


@implements(np.insert)
def _insert(arr: Any, obj: Any, values: Any, axis: Any = None) -> Any:
    x, at = _flat_axis(as_tracer(arr), axis)
    n = x.shape[at]
    places = _static_places("insert", obj)
    single = not isinstance(places, slice) and np.ndim(places) == 0
    try:
        # Old elements are numbered from 0, new ones from n: NumPy says where each of them goes.
        count = len(np.insert(np.arange(n), places, -1)) - n
        order = np.insert(np.arange(n), places, np.arange(n, n + count))
    except IndexError as error:
        raise index_error(f"insert: {error}") from None
    v = cast(as_tracer(values), dtype_of(x))
    if single and np.asarray(places).ndim == 0:
        # One place takes all values; along their first axis where there are several.
        if axis is not None and v.ndim:
            v = move_axes(v, 0, at) if v.ndim == x.ndim else v
        lifted = v if v.ndim else reshape(v, (1,))
        if axis is None or x.ndim == 1:
            lifted = reshape(lifted, -1)
        count = lifted.shape[at] if lifted.ndim == x.ndim else 1
        order = np.insert(np.arange(n), places, np.arange(n, n + count))
        v = lifted
    shape = (*x.shape[:at], count, *x.shape[at + 1 :])
    return gather_static(concatenate([x, broadcast_to(v, shape)], at), at, order)
