"""Shapes: reshape, axes, broadcasting, flips, rolls, repeats, padding. What is a view in NumPy stays one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from adjit.trace.functions.calling import anew, shape_of, static_int, static_ints, value, wrap_c
from adjit.trace.lower import (
    as_tracer,
    broadcast_shapes,
    broadcast_to,
    concatenate,
    copy,
    expand_dims,
    flip,
    getitem,
    is_tracer,
    maybe_view,
    normalize_axes,
    normalize_axis,
    ravel,
    reshape,
    squeeze,
    transpose,
)
from adjit.trace.refuse import dtype_error, shape_error, trace_error
from adjit.trace.table import implements
from adjit.trace.tracer import array_of
from adjit.tuned import GATHER_PIECES


@implements(np.shape)
def _shape(a: Any) -> tuple[int, ...]:
    return shape_of(as_tracer(a))


@implements(np.ndim)
def _ndim(a: Any) -> int:
    return len(shape_of(as_tracer(a)))


@implements(np.size)
def _size(a: Any, axis: Any = None) -> int:
    shape = shape_of(as_tracer(a))
    return math.prod(shape[i] for i in normalize_axes(axis, len(shape)))


@implements(np.reshape)
def _reshape(a: Any, shape: Any = None, order: Any = "C", newshape: Any = None, copy: Any = None) -> Any:
    # NumPy 2.0 calls it `newshape`, newer ones `shape`, and those between know both names.
    if (shape is None) == (newshape is None):
        raise trace_error("np.reshape: give the shape once, as the second argument", numpy_too=True)
    shape = newshape if shape is None else shape
    if copy is False:
        raise trace_error("np.reshape: copy=False asks for a view; whether one exists depends on memory")
    y = reshape(as_tracer(a), shape, order=order)
    return y.copy() if copy else y


@implements(np.ravel)
def _ravel(a: Any, order: Any = "C") -> Any:
    return ravel(as_tracer(a), order)


@implements(np.transpose)
def _transpose(a: Any, axes: Any = None) -> Any:
    return transpose(as_tracer(a), axes)


@implements(np.matrix_transpose, np.linalg.matrix_transpose)
def _matrix_transpose(x: Any) -> Any:
    y = as_tracer(x)
    if y.ndim < 2:
        raise shape_error(f"matrix_transpose: {y.type} is no matrix")
    return _swapped(y, y.ndim - 2, y.ndim - 1)


def _swapped(x: Any, first: int, second: int) -> Any:
    order = list(range(x.ndim))
    order[first], order[second] = second, first
    return transpose(x, tuple(order))


@implements(np.swapaxes)
def _swapaxes(a: Any, axis1: Any, axis2: Any) -> Any:
    x = as_tracer(a)
    return _swapped(x, normalize_axis(axis1, x.ndim), normalize_axis(axis2, x.ndim))


@implements(np.moveaxis)
def _moveaxis(a: Any, source: Any, destination: Any) -> Any:
    return move_axes(as_tracer(a), source, destination)


def move_axes(x: Any, source: Any, destination: Any) -> Any:
    """A view with axes in other places."""
    return transpose(x, moved_axes(x.ndim, source, destination))


def moved_axes(ndim: int, source: Any, destination: Any) -> tuple[int, ...]:
    """The permutation of np.moveaxis."""
    origins = _axis_list(source, ndim)
    targets = _axis_list(destination, ndim)
    if len(origins) != len(targets) or len(set(origins)) != len(origins) or len(set(targets)) != len(targets):
        raise shape_error(f"moveaxis: source {source} and destination {destination} are no two lists of distinct axes")
    order = [i for i in range(ndim) if i not in origins]
    for target, origin in sorted(zip(targets, origins, strict=True)):
        order.insert(target, origin)
    return tuple(order)


def _axis_list(axes: Any, ndim: int) -> list[int]:
    return [normalize_axis(i, ndim) for i in (axes if isinstance(axes, Sequence | np.ndarray) else (axes,))]


@implements(np.rollaxis)
def _rollaxis(a: Any, axis: Any, start: Any = 0) -> Any:
    x = as_tracer(a)
    origin = normalize_axis(axis, x.ndim)
    target = normalize_axis(start, x.ndim + 1)
    order = [i for i in range(x.ndim) if i != origin]
    order.insert(target - 1 if origin < target else target, origin)
    return transpose(x, tuple(order))


@implements(np.squeeze)
def _squeeze(a: Any, axis: Any = None) -> Any:
    x = as_tracer(a)
    if axis is None:
        return squeeze(x, tuple(i for i, n in enumerate(x.shape) if n == 1))
    axes = normalize_axes(axis, x.ndim)
    if any(x.shape[i] != 1 for i in axes):
        raise shape_error(f"squeeze: axis {axis} of {x.type} is not of size 1")
    return squeeze(x, axes)


@implements(np.expand_dims)
def _expand_dims(a: Any, axis: Any) -> Any:
    x = as_tracer(a)
    added = len(axis) if isinstance(axis, tuple | list) else 1
    return expand_dims(x, normalize_axes(tuple(axis) if isinstance(axis, list) else axis, x.ndim + added))


@implements(np.broadcast_to)
def _broadcast_to(array: Any, shape: Any) -> Any:
    return broadcast_to(as_tracer(array), static_ints(shape, "broadcast_to", "shape"))


@implements(np.broadcast_arrays)
def _broadcast_arrays(*args: Any) -> tuple[Any, ...]:
    items = [as_tracer(x) for x in args]
    shape = broadcast_shapes("broadcast_arrays", *(x.type for x in items))
    return tuple(x if x.shape == shape else broadcast_to(x, shape) for x in items)


def _at_least(xs: tuple[Any, ...], lift: Any) -> Any:
    results = tuple(lift(as_tracer(x)) for x in xs)
    return results[0] if len(results) == 1 else results


def at_least_1d(x: Any) -> Any:
    """x with at least one axis."""
    return expand_dims(x, (0,)) if x.ndim == 0 else x


def at_least_2d(x: Any) -> Any:
    """x with at least two axes, new ones in front."""
    return x if x.ndim >= 2 else expand_dims(x, tuple(range(2 - x.ndim)))


def at_least_3d(x: Any) -> Any:
    """x with at least three axes, by NumPy's placement."""
    if x.ndim >= 3:
        return x
    return expand_dims(x, ((0, 1, 2), (0, 2), (2,))[x.ndim])


@implements(np.atleast_1d)
def _atleast_1d(*arys: Any) -> Any:
    return _at_least(arys, at_least_1d)


@implements(np.atleast_2d)
def _atleast_2d(*arys: Any) -> Any:
    return _at_least(arys, at_least_2d)


@implements(np.atleast_3d)
def _atleast_3d(*arys: Any) -> Any:
    return _at_least(arys, at_least_3d)


@implements(np.flip)
def _flip(m: Any, axis: Any = None) -> Any:
    x = as_tracer(m)
    return flip(x, normalize_axes(axis, x.ndim))


@implements(np.flipud)
def _flipud(m: Any) -> Any:
    return flip(as_tracer(m), normalize_axes(0, np.ndim(m)))


@implements(np.fliplr)
def _fliplr(m: Any) -> Any:
    return flip(as_tracer(m), normalize_axes(1, np.ndim(m)))


@implements(np.rot90)
def _rot90(m: Any, k: Any = 1, axes: Any = (0, 1)) -> Any:
    x = as_tracer(m)
    first, second = (normalize_axis(i, x.ndim) for i in axes)
    if first == second:
        raise shape_error(f"rot90: axes {axes} are one axis")
    turns = static_int(k, "rot90", "k") % 4
    if turns == 0:
        return getitem(x, (slice(None),))
    if turns == 2:
        return flip(x, tuple(sorted((first, second))))
    if turns == 1:
        return _swapped(flip(x, (second,)), first, second)
    return flip(_swapped(x, first, second), (second,))


def along(x: Any, axis: int, start: int, stop: int, step: int | None = None) -> Any:
    """x[..., start:stop:step, ...] on one axis."""
    return getitem(x, (slice(None),) * axis + (slice(start, stop, step),))


@implements(np.roll)
def _roll(a: Any, shift: Any, axis: Any = None) -> Any:
    x = as_tracer(a)
    if axis is None:
        return reshape(_rolled(reshape(x, -1), 0, _total(shift)), x.shape)
    pairs = np.broadcast(np.asarray(static_ints(shift, "roll", "shift")), np.asarray(axis))
    if pairs.ndim > 1:
        raise shape_error("roll: shift and axis are numbers or flat sequences")
    y = anew(x)
    for count, i in pairs:
        y = _rolled(y, normalize_axis(int(i), x.ndim), int(count))
    return y


def _total(shift: Any) -> int:
    return sum(static_ints(shift, "roll", "shift"))


def _rolled(x: Any, axis: int, shift: int) -> Any:
    n = x.shape[axis]
    cut = -shift % n if n else 0
    return concatenate([along(x, axis, cut, n), along(x, axis, 0, cut)], axis) if cut else anew(x)


@implements(np.fft.fftshift)
def _fftshift(x: Any, axes: Any = None) -> Any:
    y = as_tracer(x)
    places = normalize_axes(axes, y.ndim)
    return np.roll(y, tuple(y.shape[i] // 2 for i in places), places)


@implements(np.fft.ifftshift)
def _ifftshift(x: Any, axes: Any = None) -> Any:
    y = as_tracer(x)
    places = normalize_axes(axes, y.ndim)
    return np.roll(y, tuple(-(y.shape[i] // 2) for i in places), places)


def gather_static(x: Any, axis: int, positions: np.ndarray) -> Any:
    """x at constant positions of an axis: runs of neighbours become slices, flips and broadcasts, so that no index is
    read at run time; a gather where there are many runs."""
    runs = _runs(positions)
    if len(runs) > GATHER_PIECES:
        return getitem(x, (slice(None),) * axis + (positions,))
    parts = []
    for start, count, step in runs:
        if step == 0 and count > 1:
            one = along(x, axis, start, start + 1)
            parts.append(broadcast_to(one, (*x.shape[:axis], count, *x.shape[axis + 1 :])))
        elif step < 0:
            parts.append(flip(along(x, axis, start + (count - 1) * step, start + 1, -step), (axis,)))
        else:
            parts.append(along(x, axis, start, start + (count - 1) * step + 1, step or 1))
    if not parts:
        return anew(along(x, axis, 0, 0))
    return concatenate(parts, axis) if len(parts) > 1 else anew(parts[0])


def _runs(positions: np.ndarray) -> list[tuple[int, int, int]]:
    """(start, count, step) of the arithmetic runs, greedily."""
    runs: list[tuple[int, int, int]] = []
    i, n = 0, len(positions)
    while i < n and len(runs) <= GATHER_PIECES:
        start = int(positions[i])
        if i + 1 == n:
            runs.append((start, 1, 0))
            break
        step = int(positions[i + 1]) - start
        j = i + 1
        while j + 1 < n and int(positions[j + 1]) - int(positions[j]) == step:
            j += 1
        runs.append((start, j - i + 1, step))
        i = j + 1
    return runs


@implements(np.repeat)
def _repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    x = as_tracer(a)
    if is_tracer(repeats):
        raise trace_error("np.repeat: `repeats` is traced, so the shape of the result would depend on values")
    counts = np.asarray(repeats)
    if counts.dtype.kind not in "iu":
        raise dtype_error(f"repeat: repeats are integers, not {counts.dtype}")
    if axis is None:
        x, axis = reshape(x, -1), 0
    at = normalize_axis(axis, x.ndim)
    n = x.shape[at]
    if counts.size == 1:
        k = static_int(counts.reshape(()), "repeat", "repeats")
        if k < 0:
            raise shape_error("repeat: repeats may not be negative")
        wide = broadcast_to(expand_dims(x, (at + 1,)), (*x.shape[: at + 1], k, *x.shape[at + 1 :]))
        return copy(reshape(wide, (*x.shape[:at], n * k, *x.shape[at + 1 :])))
    if counts.shape != (n,):
        raise shape_error(f"repeat: {counts.size} repeats for an axis of {n}")
    return gather_static(x, at, np.repeat(np.arange(n), counts))


@implements(np.tile)
def _tile(A: Any, reps: Any) -> Any:
    x = as_tracer(A)
    times = static_ints(reps, "tile", "reps")
    times = (1,) * (x.ndim - len(times)) + times
    shape = (1,) * (len(times) - x.ndim) + x.shape
    # Each axis becomes (repeat, size), spread at once.
    split = tuple(m for n in shape for m in (1, n))
    wide = tuple(m for n, k in zip(shape, times, strict=True) for m in (k, n))
    if all(k == 1 for k in times):
        return anew(reshape(x, shape))
    spread = broadcast_to(reshape(x, split), wide)
    return copy(reshape(spread, tuple(n * k for n, k in zip(shape, times, strict=True))))


@implements(np.resize)
def _resize(a: Any, new_shape: Any) -> Any:
    x = reshape(as_tracer(a), -1)
    shape = static_ints(new_shape, "resize", "new_shape")
    size = math.prod(shape)
    if x.size == 0:
        return np.zeros_like(x, shape=shape)
    times = -(-size // x.size)
    return copy(reshape(along(np.tile(x, times), 0, 0, size), shape))


@implements(np.meshgrid)
def _meshgrid(*xi: Any, copy: Any = True, sparse: Any = False, indexing: Any = "xy") -> tuple[Any, ...]:
    if indexing not in ("xy", "ij"):
        raise shape_error(f"meshgrid: indexing {indexing!r} is neither 'xy' nor 'ij'")
    n = len(xi)
    axes = list(range(n))
    if indexing == "xy" and n > 1:
        axes[0], axes[1] = 1, 0
    vectors = [reshape(as_tracer(x), tuple(-1 if i == axes[k] else 1 for i in range(n))) for k, x in enumerate(xi)]
    if not sparse:
        shape = broadcast_shapes("meshgrid", *(v.type for v in vectors))
        vectors = [broadcast_to(v, shape) for v in vectors]
    return tuple(v.copy() for v in vectors) if copy else tuple(vectors)


@implements(np.ix_)
def _ix(*args: Any) -> tuple[Any, ...]:
    result = []
    for k, x in enumerate(args):
        index = as_tracer(x)
        if index.ndim != 1:
            raise shape_error(f"ix_: {index.type} is no vector")
        if index.dtype.kind == "b":
            raise trace_error("np.ix_: a traced mask; the shape of the result would depend on values")
        result.append(reshape(index, tuple(-1 if i == k else 1 for i in range(len(args)))))
    return tuple(result)


@implements(np.astype)
def _astype(x: Any, dtype: Any, copy: Any = True) -> Any:
    return as_tracer(x).astype(dtype, copy=copy)


@implements(np.copy)
def _copy(a: Any, order: Any = "K") -> Any:
    if order not in ("C", "K", "A"):
        raise trace_error(f"np.copy: order={order!r} is not supported on traced arrays")
    return array_of(copy(as_tracer(a)) if order == "C" else anew(as_tracer(a)))


@implements(np.lib.stride_tricks.sliding_window_view)
def _sliding_window_view(x: Any, window_shape: Any, axis: Any = None, writeable: Any = False) -> Any:
    name = "sliding_window_view"
    if writeable:
        raise trace_error(f"{name}: writeable=True is not supported on traced arrays: write into a copy")
    source = as_tracer(x)
    sizes = static_ints(window_shape, name, "window_shape")
    axes = tuple(range(source.ndim)) if axis is None else static_ints(axis, name, "axis")
    if len(sizes) != len(axes):
        raise shape_error(f"{name}: {len(sizes)} sizes of a window for {len(axes)} axes")
    places = [normalize_axis(a, source.ndim) for a in axes]
    left = list(source.shape)
    for size, at in zip(sizes, places, strict=True):
        left[at] -= size - 1
        if size < 0 or left[at] < 1:
            raise shape_error(f"{name}: a window of {size} does not fit the axis {at} of {source.type}")
    if 0 in sizes:
        return np.zeros_like(source, shape=(*left, *sizes))
    y = value(source)
    # NumPy's is a read-only view.
    for together in [places] if places == sorted(set(places)) else [[at] for at in places]:
        own, sizes = sizes[: len(together)], sizes[len(together) :]
        ones = (1,) * len(together)
        y = y.builder.windows(y, axes=tuple(together), size=own, step=ones, dilation=ones)
    return maybe_view(wrap_c(y), source)
