"""Counts: bincount, histogram and the edges of its bins. Shapes are fixed, so a count of bins is given, not found."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjit.ir.types import F64, I64, Array
from adjit.trace import checks
from adjit.trace.functions.calling import cast, static_int, value, wrap
from adjit.trace.functions.sorting import searched
from adjit.trace.indexing import checked_index
from adjit.trace.locate import locate
from adjit.trace.lower import as_tracer, is_tracer
from adjit.trace.refuse import dtype_error, shape_error, trace_error
from adjit.trace.table import implements


@implements(np.bincount)
def _bincount(x: Any, weights: Any = None, minlength: Any = 0) -> Any:
    numbers, size = value(x), static_int(minlength, "bincount", "minlength")
    if len(numbers.shape) != 1:
        raise shape_error(f"bincount: x is a vector, not {numbers.type}")
    if numbers.dtype.kind not in "iu":
        raise dtype_error(f"bincount: x has integers, not {numbers.type}")
    if size <= 0:
        raise trace_error(
            "bincount: how long the result is depends on values, and a compiled program has static shapes: give "
            "minlength one more than the largest number"
        )
    b = numbers.builder
    # As unsigned numbers negative ones are too large.
    unsigned = cast(numbers, np.dtype(np.uint64))
    place = b.value(checked_index(b, unsigned.node, size, 0))
    return wrap(_added(place, size, _weighed("bincount", weights, numbers.shape, b)))


def _weighed(function: str, weights: Any, shape: tuple[int, ...], b: Any) -> Any:
    """What each element counts: 1, or its weight in float64."""
    if weights is None:
        return b.full(1, Array(I64, shape))
    given = value(weights)
    if given.shape != shape:
        raise shape_error(f"{function}: weights {given.type} are not one for each element, of shape {shape}")
    return cast(given, F64)


def _added(place: Any, size: int, what: Any) -> Any:
    b = place.builder
    return b.scatter_add(b.full(0, Array(what.dtype, (size,))), place, what, axis=0)


def _edges(function: str, x: Any, bins: Any, range: Any) -> Any:
    """The edges of the bins as an array or a tracer."""
    if isinstance(bins, str):
        raise trace_error(
            f"{function}: bins={bins!r} finds how many there are in the values, and a compiled program has static "
            "shapes: give a number or the edges"
        )
    if np.ndim(bins):
        edges = as_tracer(bins)
        if len(edges.shape) != 1 or edges.shape[0] < 2:
            raise shape_error(f"{function}: bins are edges, a vector of two at least, not {edges.type}")
        _check_edges(function, bins, edges)
        return edges
    count = static_int(bins, function, "bins")
    if count < 1:
        raise trace_error(f"{function}: `bins` must be positive, when an integer", numpy_too=True)
    low, high = _limits(function, x, range)
    dtype = x.dtype if x.dtype.kind == "f" and range is None else np.result_type(x.dtype, low, high)
    return np.linspace(low, high, count + 1, dtype=dtype if np.dtype(dtype).kind == "f" else np.float64)


def _check_edges(function: str, bins: Any, edges: Any) -> None:
    text = f"{function}: `bins` must increase monotonically, when an array"
    if is_tracer(bins):
        holds: Any = np.all(edges[1:] >= edges[:-1])
        checks.note(holds, "ShapeError", text, locate())
    elif np.any(np.diff(np.asarray(bins)) < 0):
        raise shape_error(text)


def _limits(function: str, x: Any, range: Any) -> tuple[Any, Any]:
    """The ends of the outer bins, a half on each side where they are one."""
    if range is not None:
        low, high = range
        if not (is_tracer(low) or is_tracer(high)) and not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise shape_error(f"{function}: range=({low}, {high}) is not finite, or its max is smaller than its min")
    elif math.prod(x.shape) == 0:
        low, high = 0.0, 1.0
    else:
        array = wrap(x)
        low, high = np.min(array), np.max(array)
    if not (is_tracer(low) or is_tracer(high)):
        return (low - 0.5, high + 0.5) if low == high else (low, high)
    finite: Any = np.isfinite(low) & np.isfinite(high)
    checks.note(finite, "DomainError", f"{function}: the smallest and the largest element are not finite", locate())
    same = low == high
    return np.where(same, low - 0.5, low), np.where(same, high + 0.5, high)


@implements(np.histogram_bin_edges)
def _histogram_bin_edges(a: Any, bins: Any = 10, range: Any = None, weights: Any = None) -> Any:
    x = value(a)
    return _edges("histogram_bin_edges", x, bins, range)


@implements(np.histogram)
def _histogram(a: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None) -> Any:
    x = value(a)
    edges = _edges("histogram", x, bins, range)
    b, n = x.builder, edges.shape[0] - 1
    counted = _weighed("histogram", weights, x.shape, b)
    flat, what = (b.reshape(v, shape=(math.prod(x.shape),)) for v in (x, counted))
    dtype = np.result_type(x.dtype, edges.dtype)
    at, table = cast(flat, dtype), cast(value(edges), dtype)
    # The last bin has its upper edge as well; what is outside, NaN among it, is counted in one more bin.
    place = searched(table, at, right=True) - 1
    last = b.broadcast(
        b.reshape(b.slice(table, start=(n,), stop=(n + 1,), step=(1,)), shape=()), shape=at.shape, axes=()
    )
    place = b.select(at.eq(last), n - 1, place)
    place = b.select((place < 0) | (place > n - 1), n, place)
    total = b.slice(_added(place, n + 1, what), start=(0,), stop=(n,), step=(1,))
    counts = wrap(total if weights is None else cast(total, value(weights).dtype))
    if density:
        return counts / np.diff(edges) / np.sum(counts), edges
    return counts, edges
