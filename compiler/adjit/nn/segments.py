"""Sums, means and extrema of the rows that have a number, and numbers as vectors: `segment_sum` and its kin, `one_hot`.

Rows are added up in the order in which they stand, so that the bits do not depend on the number of threads."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from adjit.nn.operands import counted, dtype_of, numbers, operand, positions
from adjit.trace import apply, is_tracer
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, ShapeError
from adjit_runtime.public import public

_KNOWN = {"data": "x", "segment_ids": "ids", "index": "ids", "segments": "num_segments", "dim_size": "num_segments"}
"""Arguments that people know from other libraries, and what they are here."""


@public({"labels": "ids", "x": "ids", "indices": "ids", "num_classes": "classes", "depth": "classes", "dim": "axis"})
def one_hot(ids: Any, classes: int, axis: int = -1, dtype: Any = np.float64) -> Any:
    """For each number a vector that is 1 at its place and 0 elsewhere.

    ids      integers of any shape, each at least 0 and below `classes`
    axis     where in the result that vector lies
    Returns the shape of ids with `classes` along `axis`, of `dtype`

    Raises DTypeError for ids that are no integers, IndexOutOfRange for one that is out of bounds.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.one_hot(np.array([2, 0]), 3).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    classes = checks.integer("one_hot: classes", classes, 1)
    found = positions("one_hot: ids", ids, classes, 0, "id")
    rank = len(np.shape(found)) + 1
    along = checks.integer("one_hot: axis", axis)
    if not -rank <= along < rank:
        raise ShapeError(f"one_hot: the result has {rank} axes, and no axis {along}")
    along %= rank
    wide = np.expand_dims(found, along)
    return (wide == counted(classes, along, rank, found)).astype(_dtype(dtype))


def _dtype(dtype: Any) -> np.dtype:
    found = np.dtype(object)
    if isinstance(dtype, str | type | np.dtype):
        with contextlib.suppress(TypeError, ValueError):
            found = np.dtype(dtype)
    if found.kind not in "biuf":
        raise ArgumentError(f"one_hot: dtype is a dtype of numbers or bools, not {checks.shown(dtype)}")
    return found


def _operands(name: str, x: Any, ids: Any, num_segments: Any) -> tuple[Any, Any, int]:
    count = checks.integer(f"{name}: num_segments", num_segments, 0)
    found = positions(f"{name}: ids", ids, count, 0, "id")
    x = operand(f"{name}: x", x)
    x = x if is_tracer(x) else np.asarray(x)
    if len(np.shape(found)) != 1 or np.shape(x)[:1] != np.shape(found):
        raise ShapeError(
            f"{name}: ids are one for each row of x: of shape {np.shape(x)[:1]}, not {np.shape(found)}, for x of shape "
            f"{np.shape(x)}"
        )
    return x, found, count


@public(_KNOWN)
def segment_sum(x: Any, ids: Any, num_segments: int) -> Any:
    """For each number from 0 to num_segments - 1 the sum of the rows of x that have it, 0 where there are none.

    x     (rows, ...), numbers; ids (rows,), integers in any order
    Returns (num_segments, ...), dtype of x, of bools int64. Rows are added in the order in which they stand

    Raises DTypeError and ShapeError where x and ids do not fit, IndexOutOfRange for an id out of bounds.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.segment_sum(np.array([1.0, 2.0, 4.0]), np.array([1, 0, 1]), 3).tolist()
    [2.0, 5.0, 0.0]
    """
    return _sum(*_operands("segment_sum", x, ids, num_segments))


def _sum(x: Any, ids: Any, count: int) -> Any:
    if dtype_of(x).kind == "b":
        x = x.astype(np.int64)
    return apply("scatter_add", np.zeros((count, *np.shape(x)[1:]), dtype_of(x)), ids, x, axis=0)


def _counts(ids: Any, count: int) -> Any:
    return apply("scatter_add", np.zeros(count, np.int64), ids, np.ones_like(ids), axis=0)


def _beside(counts: Any, x: Any) -> Any:
    """Counts that broadcast against rows of x."""
    return np.reshape(counts, (-1, *(1,) * (len(np.shape(x)) - 1)))


@public(_KNOWN)
def segment_mean(x: Any, ids: Any, num_segments: int) -> Any:
    """As `segment_sum`, the mean of the rows, 0 where there are none; integers as float64.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.segment_mean(np.array([1.0, 2.0, 4.0]), np.array([1, 0, 1]), 3).tolist()
    [2.0, 2.5, 0.0]
    """
    x, found, count = _operands("segment_mean", x, ids, num_segments)
    x = numbers("segment_mean: x", x)
    return _sum(x, found, count) / _beside(np.maximum(_counts(found, count), 1), x).astype(dtype_of(x))


@public(_KNOWN)
def segment_max(x: Any, ids: Any, num_segments: int) -> Any:
    """As `segment_sum`, the largest elements, place by place; where there are none -inf, or the smallest integer.

    NaN is the largest, as for np.max. A derivative goes to one element, of equal ones the last.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.segment_max(np.array([1.0, 2.0, 4.0]), np.array([1, 0, 1]), 3).tolist()
    [2.0, 4.0, -inf]
    """
    return _extremum("segment_max", x, ids, num_segments)


@public(_KNOWN)
def segment_min(x: Any, ids: Any, num_segments: int) -> Any:
    """As `segment_sum`, the smallest elements, place by place; where there are none inf, or the largest integer.

    NaN is the smallest, too, as for np.min. A derivative goes to one element, of equal ones the first.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.segment_min(np.array([1.0, 2.0, 4.0]), np.array([1, 0, 1]), 3).tolist()
    [2.0, 1.0, inf]
    """
    return _extremum("segment_min", x, ids, num_segments)


def _extremum(name: str, x: Any, ids: Any, num_segments: Any) -> Any:
    """Each column sorted, then its segments one after the other: an extremum is at an end of its segment."""
    x, found, count = _operands(name, x, ids, num_segments)
    kind, shape = dtype_of(x).kind, np.shape(x)
    if kind == "b":
        raise ArgumentError(f"{name}: x is of bools; cast them with .astype(np.int64)")
    info: Any = np.finfo(dtype_of(x)) if kind == "f" else np.iinfo(dtype_of(x))
    ends = (info.min, info.max) if kind != "f" else (-np.inf, np.inf)
    fill = ends[0] if name == "segment_max" else ends[1]
    if not shape[0]:
        return np.full((count, *shape[1:]), fill, dtype_of(x)) + 0 * np.sum(x, axis=0)
    columns = np.reshape(x, (shape[0], -1))
    order = np.argsort(columns, axis=0, kind="stable")
    labels = apply("take", found, order, axis=0)
    order = np.take_along_axis(order, np.argsort(labels, axis=0, kind="stable"), axis=0)
    ordered = np.take_along_axis(columns, order, axis=0)
    counts = _counts(found, count)
    last = np.cumsum(counts) - 1
    result = apply("take", ordered, np.maximum(last, 0), axis=0)
    if name == "segment_min":
        first = apply("take", ordered, np.minimum(last + 1 - counts, shape[0] - 1), axis=0)
        result = np.where(np.isnan(result), result, first) if kind == "f" else first
    result = np.where(counts[:, None] > 0, result, np.asarray(fill, dtype_of(x)))
    return np.reshape(result, (count, *shape[1:]))
