"""New arrays: filled ones, from lists, ranges and grids, triangles and diagonals; and static questions on dtypes.

Functions with `like=` come here too: `np.array([s, t], like=x)`, `np.full(shape, s, like=x)`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjit.ir.types import F64
from adjit.trace.functions.arrays import below, diagonal, from_diagonal
from adjit.trace.functions.calling import (
    anew,
    dtype_of,
    make_dtype,
    ordered_as,
    shape_of,
    spread_to,
    static_int,
    static_ints,
    type_of,
    value,
    wrap,
    wrap_c,
)
from adjit.trace.functions.shaping import move_axes
from adjit.trace.handle import is_c_ordered
from adjit.trace.lower import (
    as_tracer,
    broadcast_shapes,
    broadcast_to,
    cast,
    copy,
    full,
    is_tracer,
    maybe_view,
    normalize_axis,
    reshape,
    store,
    strong,
)
from adjit.trace.refuse import dtype_error, shape_error, trace_error
from adjit.trace.table import implements
from adjit.trace.tracer import array_of


def _filled(prototype: Any, number: Any, dtype: Any, shape: Any) -> Any:
    found = type_of(as_tracer(prototype))
    made = found.dtype if dtype is None else make_dtype("full_like", dtype)
    size = found.shape if shape is None else static_ints(shape, "full_like", "shape")
    if is_tracer(number) and number.shape:
        return copy(broadcast_to(cast(number, made), size))
    if not is_tracer(number) and np.ndim(number):
        return copy(broadcast_to(cast(as_tracer(number), made), size))
    result = full(number, size, made)
    return (
        ordered_as(result, prototype) if is_tracer(prototype) and len(size) == prototype.ndim > 1 else array_of(result)
    )


@implements(np.zeros_like)
def _zeros_like(a: Any, dtype: Any = None, shape: Any = None) -> Any:
    return _filled(a, 0, dtype, shape)


@implements(np.ones_like)
def _ones_like(a: Any, dtype: Any = None, shape: Any = None) -> Any:
    return _filled(a, 1, dtype, shape)


@implements(np.empty_like)
def _empty_like(prototype: Any, dtype: Any = None, shape: Any = None) -> Any:
    return _filled(prototype, 0, dtype, shape)


@implements(np.full_like)
def _full_like(a: Any, fill_value: Any, dtype: Any = None, shape: Any = None) -> Any:
    return _filled(a, fill_value, dtype, shape)


def _strong_leaves(x: Any) -> Any:
    """Nested lists whose numbers have their own dtypes: np.array([float32, 1]) is a float64 in NumPy."""
    return [_strong_leaves(item) for item in x] if isinstance(x, list | tuple) else strong(as_tracer(x))


@implements(np.array)
def _array(object: Any, dtype: Any = None, copy: Any = True, ndmin: Any = 0) -> Any:
    x = as_tracer(_strong_leaves(object))
    x = strong(x) if dtype is None else cast(x, make_dtype("array", dtype))
    if x.ndim < ndmin:
        x = reshape(x, (1,) * (ndmin - x.ndim) + x.shape)
    return array_of(anew(x) if copy else x)


@implements(np.asarray, np.asanyarray)
def _asarray(a: Any, dtype: Any = None) -> Any:
    x = as_tracer(_strong_leaves(a))
    return array_of(x if dtype is None else cast(x, make_dtype("asarray", dtype)))


@implements(np.ascontiguousarray)
def _ascontiguousarray(a: Any, dtype: Any = None) -> Any:
    x = _asarray(a, dtype)
    if not x.ndim:
        return reshape(x, (1,))
    # NumPy gives an array itself where it is in C order, else a copy.
    if x._adjit_root.readonly or is_c_ordered(x.shape, x._adjit_strides):
        return x
    return maybe_view(copy(x), x) if x._adjit_strides is None else copy(x)


@implements(np.full)
def _full(shape: Any, fill_value: Any, dtype: Any = None) -> Any:
    made = dtype_of(fill_value) if dtype is None else make_dtype("full", dtype)
    size = static_ints(shape, "full", "shape")
    if shape_of(fill_value):
        return copy(broadcast_to(cast(as_tracer(fill_value), made), size))
    return array_of(full(fill_value, size, made))


def _constants(function: str, number: int, shape: Any, dtype: Any) -> Any:
    made = F64 if dtype is None else make_dtype(function, dtype)
    return array_of(full(number, static_ints(shape, function, "shape"), made))


@implements(np.zeros)
def _zeros(shape: Any, dtype: Any = None) -> Any:
    return _constants("zeros", 0, shape, dtype)


@implements(np.ones)
def _ones(shape: Any, dtype: Any = None) -> Any:
    return _constants("ones", 1, shape, dtype)


@implements(np.empty)
def _empty(shape: Any, dtype: Any = None) -> Any:
    return _constants("empty", 0, shape, dtype)


@implements(np.eye)
def _eye(N: Any, M: Any = None, k: Any = 0, dtype: Any = None) -> Any:
    return as_tracer(np.eye(N, M, k, make_dtype("eye", F64 if dtype is None else dtype)))


@implements(np.identity)
def _identity(n: Any, dtype: Any = None) -> Any:
    return _eye(n, dtype=dtype)


@implements(np.tri)
def _tri(N: Any, M: Any = None, k: Any = 0, dtype: Any = None) -> Any:
    return as_tracer(np.tri(N, M, k, make_dtype("tri", F64 if dtype is None else dtype)))


@implements(np.arange)
def _arange(*bounds: Any, dtype: Any = None, start: Any = None, stop: Any = None, step: Any = None) -> Any:
    named = {name: x for name, x in (("start", start), ("stop", stop), ("step", step)) if x is not None}
    if any(map(is_tracer, (*bounds, *named.values()))):
        raise trace_error(
            "np.arange: a traced bound; shapes are fixed while tracing: write start + np.arange(n) * step, or make it "
            "a static argument (static_argnames)"
        )
    return as_tracer(np.arange(*bounds, dtype=dtype, **named))


def _triangle(m: Any, k: Any, lower: bool) -> Any:
    x = value(m)
    b = x.builder
    if not x.shape:
        raise shape_error("tril, triu: a 0-d array has no triangle")
    if len(x.shape) == 1:
        x = b.broadcast(x, shape=x.shape * 2, axes=(1,))
    offset = static_int(k, "tril, triu", "k")
    if lower:
        return wrap(b.select(below(b, x.shape, offset), x, 0))
    return wrap(b.select(below(b, x.shape, offset - 1), b.full(0, x), x))


@implements(np.tril)
def _tril(m: Any, k: Any = 0) -> Any:
    return _triangle(m, k, lower=True)


@implements(np.triu)
def _triu(m: Any, k: Any = 0) -> Any:
    return _triangle(m, k, lower=False)


@implements(np.diagonal)
def _diagonal(a: Any, offset: Any = 0, axis1: Any = 0, axis2: Any = 1) -> Any:
    x = value(a)
    n = len(x.shape)
    if n < 2:
        raise shape_error(f"diagonal: {x.type} is no matrix")
    first, second = normalize_axis(axis1, n), normalize_axis(axis2, n)
    if first == second:
        raise shape_error("diagonal: axis1 and axis2 are one axis")
    # NumPy's diagonal is a read-only view.
    d = diagonal(x.builder, x, static_int(offset, "diagonal", "offset"), first, second)
    return maybe_view(wrap(d), a)


@implements(np.linalg.diagonal)
def _linalg_diagonal(x: Any, offset: Any = 0) -> Any:
    return _diagonal(x, offset, -2, -1)


@implements(np.diag)
def _diag(v: Any, k: Any = 0) -> Any:
    ndim = len(shape_of(v))
    if ndim == 2:
        return _diagonal(v, k)
    if ndim != 1:
        raise shape_error(f"diag: an array of {ndim} dimensions is neither a vector nor a matrix")
    x = value(v)
    return wrap_c(from_diagonal(x.builder, x, static_int(k, "diag", "k")))


@implements(np.diagflat)
def _diagflat(v: Any, k: Any = 0) -> Any:
    x = value(v)
    b = x.builder
    flat = b.reshape(x, shape=(math.prod(x.shape),))
    return wrap_c(from_diagonal(b, flat, static_int(k, "diagflat", "k")))


@implements(np.linspace)
def _linspace(
    start: Any, stop: Any, num: Any = 50, endpoint: Any = True, retstep: Any = False, dtype: Any = None, axis: Any = 0
) -> Any:
    n = static_int(num, "linspace", "num")
    if n < 0:
        raise shape_error(f"linspace: number of samples, {n}, must be non-negative")
    made = make_dtype("linspace", np.result_type(_stand_in(start), _stand_in(stop), 0.0))
    divisions = n - 1 if endpoint else n
    first, last = (cast(as_tracer(v), made) for v in (start, stop))
    shape = broadcast_shapes("linspace", first.type, last.type)
    ramp = np.arange(n, dtype=made).reshape((-1,) + (1,) * len(shape))
    delta = last - first
    if divisions > 0:
        step = delta / divisions
        # Where the step underflows to 0 NumPy divides first.
        y = np.where(step == 0, ramp / divisions * delta, ramp * step)
    else:
        step, y = full(math.nan, (), made), ramp * delta
    y = first + y
    if endpoint and n > 1:
        y = np.concatenate([y[:-1], np.broadcast_to(last, (1, *shape))])
    wanted = made if dtype is None else make_dtype("linspace", dtype)
    y = cast(np.floor(y) if wanted.kind in "iu" else y, wanted)
    y = move_axes(as_tracer(y), 0, axis) if axis != 0 else y
    return (y, step) if retstep else y


@implements(np.logspace)
def _logspace(
    start: Any, stop: Any, num: Any = 50, endpoint: Any = True, base: Any = 10.0, dtype: Any = None, axis: Any = 0
) -> Any:
    if len(shape_of(base)):
        raise trace_error("np.logspace: an array as `base` is not supported on traced arrays")
    if is_tracer(start) or is_tracer(stop):
        y: Any = np.linspace(start, stop, num, endpoint, axis=axis)
    else:
        y = as_tracer(np.linspace(start, stop, num, endpoint, axis=axis))
    z = np.power(base, y)
    return z if dtype is None else cast(z, make_dtype("logspace", dtype))


@implements(np.copyto)
def _copyto(dst: Any, src: Any, casting: Any = "same_kind", where: Any = True) -> None:
    if where is not True:
        x = value(dst)
        kept = value(src)
        if not np.can_cast(kept.dtype, x.dtype, casting):
            raise dtype_error(f"copyto: cannot cast {kept.type} to {x.type} under the rule {casting!r}")
        b = x.builder
        mask = spread_to(value(where), x.shape)
        src = wrap(b.select(mask, spread_to(value(cast(wrap(kept), x.dtype)), x.shape), x))
    store(dst, src, "np.copyto", casting)


@implements(np.diag_indices_from)
def _diag_indices_from(arr: Any) -> Any:
    shape = shape_of(arr)
    if len(shape) < 2 or len(set(shape)) > 1:
        raise shape_error(f"diag_indices_from: the shape {shape} is not that of a square array")
    return np.diag_indices(shape[0], len(shape))


@implements(np.tril_indices_from)
def _tril_indices_from(arr: Any, k: Any = 0) -> Any:
    return np.tril_indices(*_matrix_shape("tril_indices_from", arr, k))


@implements(np.triu_indices_from)
def _triu_indices_from(arr: Any, k: Any = 0) -> Any:
    return np.triu_indices(*_matrix_shape("triu_indices_from", arr, k))


def _matrix_shape(function: str, arr: Any, k: Any) -> tuple[int, int, int]:
    shape = shape_of(arr)
    if len(shape) != 2:
        raise shape_error(f"{function}: an array of {len(shape)} dimensions is no matrix")
    return shape[0], static_int(k, function, "k"), shape[1]


def _stand_in(x: Any) -> Any:
    """What NumPy's questions on dtypes take for an operand."""
    if not is_tracer(x):
        return x
    found = type_of(x)
    if found.weak:
        return {"b": True, "i": 0, "f": 0.0}[found.dtype.kind]
    return found.dtype


@implements(np.result_type)
def _result_type(*arrays_and_dtypes: Any) -> np.dtype:
    return np.result_type(*map(_stand_in, arrays_and_dtypes))


@implements(np.can_cast)
def _can_cast(from_: Any, to: Any, casting: Any = "safe") -> bool:
    return np.can_cast(type_of(from_).dtype if is_tracer(from_) else from_, _stand_in(to), casting)


@implements(np.common_type)
def _common_type(*arrays: Any) -> Any:
    dtypes = [dtype_of(x) for x in arrays]
    return np.result_type(*(d if d.kind == "f" else F64 for d in dtypes)).type
