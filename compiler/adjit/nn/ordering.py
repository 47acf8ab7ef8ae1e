"""What is ordered: the largest elements of a row, `top_k`, and the distinct elements of an array, `unique`.

Elements that are equal stay in order, and NaN counts as larger than any number, as where NumPy sorts."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjit.nn.operands import one_axis, operand
from adjit.trace import apply, is_tracer
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, ShapeError
from adjit_runtime.public import public


@public(
    {"input": "x", "operand": "x", "dim": "axis", "n": "k", "sorted": "the values are always in order", "values": "x"}
)
def top_k(x: Any, k: int, axis: int = -1, largest: bool = True) -> tuple[Any, Any]:
    """The k largest elements along an axis, the largest one first, and where they stand; or the smallest ones.

    x         an array with at least k elements along `axis`
    largest   False: the k smallest ones, the smallest first
    Returns (values, positions): x's shape with k along `axis`; positions are int64. Of equal elements the one that
    stands first comes first; NaN counts as larger than any number. A derivative goes to the elements that are given

    Raises ArgumentError for a k that is no integer >= 0, and ShapeError where there are fewer elements.

    >>> import numpy as np
    >>> from adjit import nn
    >>> values, positions = nn.top_k(np.array([1.0, 4.0, 2.0, 4.0]), 3)
    >>> values.tolist(), positions.tolist()
    ([4.0, 4.0, 2.0], [1, 3, 2])
    """
    x = operand("top_k: x", x)
    if not is_tracer(x):
        x = np.asarray(x)
    if not np.shape(x):
        raise ShapeError("top_k: x is a number, which has no axis")
    along, k = one_axis("top_k: axis", axis, x), checks.integer("top_k: k", k, 0)
    n = np.shape(x)[along]
    if k > n:
        raise ShapeError(f"top_k: x of shape {np.shape(x)} has {n} elements along axis {along}, not {k}")
    if checks.flag("top_k: largest", largest):
        # Backwards twice, so that of equal elements the first one comes first.
        order = n - 1 - np.flip(np.argsort(np.flip(x, along), axis=along, kind="stable"), along)
    else:
        order = np.argsort(x, axis=along, kind="stable")
    first = order[(slice(None),) * along + (slice(0, k),)]
    return _along(x, first, along), first


def _along(x: Any, index: Any, axis: int) -> Any:
    """np.take_along_axis at positions that are in range: the program need not check them."""
    if not is_tracer(x):
        return np.take_along_axis(x, index, axis)
    last = len(x.shape) - 1
    moved, at = np.moveaxis(x, axis, last), np.moveaxis(index, axis, last)
    return np.moveaxis(apply("take", moved, at, axis=last, batch=last), last, axis)


@public({"ar": "x", "a": "x", "x1": "x", "axis": "x is taken as flat", "sorted": "the values are always in order"})
def unique(
    x: Any,
    size: int,
    *,
    fill_value: Any = None,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
) -> Any:
    """The distinct elements of an array in order, `size` of them: np.unique for compiled programs, whose shapes are
    fixed.

    x            an array of any shape that is not empty, taken as flat; NaN counts as one value
    size         how many elements the result has. Where there are fewer, it ends with `fill_value`, the smallest
                 element unless one is given; where there are more, the smallest `size` of them are given
    Returns the values; a tuple where one of these is asked for, in this order:
    return_index     of each the position of the first element that has it, 0 behind those that there are
    return_inverse   for each element of x the position of its value, in x's shape; `size` for one that is not given
    return_counts    how many elements have each value, 0 behind those that there are

    Raises ArgumentError for a size that is no integer > 0, ShapeError for an empty x.

    >>> import numpy as np
    >>> from adjit import nn
    >>> values, counts = nn.unique(np.array([3, 1, 3, 3]), 3, return_counts=True)
    >>> values.tolist(), counts.tolist()
    ([1, 3, 1], [1, 3, 0])
    """
    x, size = operand("unique: x", x), checks.integer("unique: size", size, 1)
    flags = {"return_index": return_index, "return_inverse": return_inverse, "return_counts": return_counts}
    asked = [checks.flag(f"unique: {name}", flag) for name, flag in flags.items()]
    x = x if is_tracer(x) else np.asarray(x)
    if 0 in np.shape(x):
        raise ShapeError(f"unique: x of shape {np.shape(x)} is empty")
    flat = np.reshape(x, -1)
    order = np.argsort(flat, kind="stable")
    ordered = _along(flat, order, 0)
    first = _is_first(ordered)
    number = np.cumsum(first.astype(np.int64)) - 1
    # What is beyond the size goes to a place that is cut off.
    place = np.minimum(number, size)
    starts = _written(size, np.where(first, place, size), order)
    counts = _counted(size, place)
    values = _taken(flat, starts)
    if fill_value is not None:
        fill = operand("unique: fill_value", fill_value)
        if np.shape(fill):
            raise ArgumentError(f"unique: fill_value is a number, not of shape {np.shape(fill)}")
        values = np.where(counts > 0, values, fill).astype(values.dtype)
    else:
        values = np.where(counts > 0, values, ordered[0])
    inverse = np.reshape(_inverse(place, order), np.shape(x)) if asked[1] else None
    others = [part for part, flag in zip((starts, inverse, counts), asked, strict=True) if flag]
    return (values, *others) if others else values


def _is_first(ordered: Any) -> Any:
    """Whether an element of a sorted vector differs from the one before."""
    differs = ordered[1:] != ordered[:-1]
    if ordered.dtype.kind == "f":
        differs = differs & ~(np.isnan(ordered[1:]) & np.isnan(ordered[:-1]))
    return np.concatenate([np.ones(1, bool), differs])


def _written(size: int, place: Any, what: Any) -> Any:
    """`what` at each place below size, 0 elsewhere."""
    return apply("scatter", np.zeros(size + 1, np.int64), place, what, axis=0)[:size]


def _counted(size: int, place: Any) -> Any:
    return apply("scatter_add", np.zeros(size + 1, np.int64), place, np.ones_like(place), axis=0)[:size]


def _inverse(place: Any, order: Any) -> Any:
    return apply("scatter", np.zeros_like(place), order, place, axis=0)


def _taken(flat: Any, places: Any) -> Any:
    return apply("take", flat, places, axis=0)
