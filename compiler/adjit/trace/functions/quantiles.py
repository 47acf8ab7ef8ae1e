"""median, quantile, percentile and their nan- forms: elements of the sorted rows, or points between two of them.

The methods are those of Hyndman and Fan, "Sample quantiles in statistical packages" (1996), and NumPy's own four, in
NumPy's arithmetic. A derivative goes to the elements that are read, as their order says."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from adjit.ir.types import I64
from adjit.trace import checks
from adjit.trace.functions.calling import reduced_axes, value, wrap
from adjit.trace.functions.sorting import ordered
from adjit.trace.locate import locate
from adjit.trace.lower import as_tracer, is_tracer
from adjit.trace.refuse import shape_error, trace_error
from adjit.trace.table import implements


class _Method(NamedTuple):
    """`virtual(n, q)` is the position in a sorted row of n elements, and `weight(fraction, position)` how much of the
    next element a point between two has; without it the position is that of one element."""

    virtual: Callable[[Any, Any], Any]
    weight: Callable[[Any, Any], Any] | None = None


def _between(alpha: float, beta: float) -> _Method:
    return _Method(lambda n, q: n * q + (alpha + q * (1 - alpha - beta)) - 1, lambda fraction, _: fraction)


def _inverted(position: Any) -> Any:
    low = np.floor(position)
    return np.maximum(np.where(position == low, low, low + 1), 0)


def _closest(position: Any) -> Any:
    low = np.floor(position)
    return np.maximum(np.where((position == low) & (low % 2 == 1), low, low + 1), 0)


METHODS: dict[str, _Method] = {
    "inverted_cdf": _Method(lambda n, q: _inverted(n * q - 1)),
    "averaged_inverted_cdf": _Method(lambda n, q: n * q - 1, lambda fraction, _: np.where(fraction == 0, 0.5, 1.0)),
    "closest_observation": _Method(lambda n, q: _closest(n * q - 1 - 0.5)),
    "interpolated_inverted_cdf": _between(0, 1),
    "hazen": _between(0.5, 0.5),
    "weibull": _between(0, 0),
    "linear": _Method(lambda n, q: (n - 1) * q, lambda fraction, _: fraction),
    "median_unbiased": _between(1 / 3.0, 1 / 3.0),
    "normal_unbiased": _between(3 / 8.0, 3 / 8.0),
    "lower": _Method(lambda n, q: np.floor((n - 1) * q)),
    "higher": _Method(lambda n, q: np.ceil((n - 1) * q)),
    "midpoint": _Method(
        lambda n, q: 0.5 * (np.floor((n - 1) * q) + np.ceil((n - 1) * q)),
        lambda _, position: np.where(position % 1 == 0, 0.0, 0.5),
    ),
    "nearest": _Method(lambda n, q: np.around((n - 1) * q)),
}


class _Rows(NamedTuple):
    """The rows of an operand, sorted, along the last axis; how many elements of each count, as an int or as an array;
    and the shape of a result with the reduced axes kept."""

    elements: Any
    count: Any
    kept: tuple[int, ...]
    shape: tuple[int, ...]


def _rows(function: str, a: Any, axis: Any, without_nan: bool) -> _Rows:
    x = value(a)
    axes = reduced_axes(axis, len(x.shape))
    rest = tuple(i for i in range(len(x.shape)) if i not in axes)
    n = math.prod(x.shape[i] for i in axes)
    shape = tuple(x.shape[i] for i in rest)
    b = x.builder
    laid = b.reshape(b.transpose(x, axes=(*rest, *axes)), shape=(*shape, n))
    kept = tuple(1 if i in axes else size for i, size in enumerate(x.shape))
    rows = wrap(ordered(laid, len(shape)))
    if without_nan and x.dtype.kind == "f":
        return _Rows(rows, n - np.sum(np.isnan(rows), axis=-1), kept, shape)
    return _Rows(rows, n, kept, shape)


def _at(rows: _Rows, positions: Any) -> Any:
    """Elements of the rows at positions (q ..., rows ...), or (q ...) for all rows alike; q comes first."""
    elements, ndim = rows.elements, len(rows.shape)
    if isinstance(rows.count, int):
        # What is computed is in range: not checked.
        mode: Any = "clip" if is_tracer(positions) else "raise"
        found = np.take(elements, positions, axis=-1, mode=mode)
        return np.moveaxis(found, range(ndim, ndim + np.ndim(positions)), range(np.ndim(positions)))
    lead = positions.shape[: len(positions.shape) - ndim]
    flat = np.reshape(positions, (math.prod(lead), *rows.shape))
    found = np.take_along_axis(elements, np.moveaxis(flat, 0, -1), axis=-1)
    return np.reshape(np.moveaxis(found, -1, 0), (*lead, *rows.shape))


def _quantile(function: str, rows: _Rows, q: Any, method: Any, weak: bool) -> Any:
    """Shape (q ..., rows ...)."""
    if not isinstance(method, str) or method not in METHODS:
        raise trace_error(f"{function}: method {method!r} is none of {', '.join(METHODS)}", numpy_too=True)
    if not rows.elements.shape[-1]:
        raise shape_error(f"{function}: of no elements")
    rule, ndim = METHODS[method], len(rows.shape)
    if not isinstance(rows.count, int):
        q = np.reshape(q, (*np.shape(q), *(1,) * ndim))
    position, last = rule.virtual(rows.count, q), np.maximum(rows.count - 1, 0)
    if rule.weight is None or (method == "linear" and q.dtype.kind in "iu"):
        return _at(rows, _integers(np.minimum(np.maximum(position, 0), last)))
    low = np.floor(position)
    below, above = position < 0, position >= rows.count - 1
    first = np.where(above, last, np.where(below, 0, low))
    second = np.where(above, last, np.where(below, 0, low + 1))
    weight = rule.weight(position - np.where(above, -1, first), position)
    if isinstance(rows.count, int):
        weight = np.reshape(weight, (*np.shape(weight), *(1,) * ndim))
    a, b = _at(rows, _integers(first)), _at(rows, _integers(second))
    gap, rest, is_late = b - a, 1 - weight, weight >= 0.5
    if weak and rows.elements.dtype.kind == "f":
        # A number of Python takes the dtype of the elements.
        weight, rest = (x.astype(rows.elements.dtype) for x in (weight, rest))
    return np.where(is_late, b - gap * rest, a + gap * weight)


def _integers(positions: Any) -> Any:
    return positions.astype(I64) if is_tracer(positions) else np.asarray(positions).astype(np.int64)


def _finished(rows: _Rows, found: Any, lead: tuple[int, ...], keepdims: Any) -> Any:
    """NaN where a row has one that counts, and the axes that are kept."""
    if rows.elements.dtype.kind == "f" and isinstance(rows.count, int) and rows.count:
        last = rows.elements[..., -1]
        found = np.where(np.isnan(last), last, found)
    return np.reshape(found, (*lead, *rows.kept)) if keepdims else found


def _quantiles(
    function: str, a: Any, q: Any, axis: Any, method: Any, keepdims: Any, most: int, without_nan: bool = False
) -> Any:
    weak = type(q) in (int, float)
    share = q if is_tracer(q) else np.asarray(q)
    if most != 1:
        share = share / most if is_tracer(q) else np.asarray(np.true_divide(share, most))
    if len(share.shape) > 2:
        raise shape_error(f"{function}: q must be a scalar or 1d")
    text = f"{function}: q must be in the range [0, {most}]"
    if is_tracer(share):
        holds: Any = np.all((share >= 0) & (share <= 1))
        checks.note(holds, "DomainError", text, locate())
    elif not np.all((share >= 0) & (share <= 1)):
        raise trace_error(text, numpy_too=True)
    rows = _rows(function, a, axis, without_nan)
    return _finished(rows, _quantile(function, rows, share, method, weak), tuple(share.shape), keepdims)


@implements(np.quantile)
def _np_quantile(
    a: Any, q: Any, axis: Any = None, overwrite_input: Any = False, method: Any = "linear", keepdims: Any = False
) -> Any:
    return _quantiles("quantile", a, q, axis, method, keepdims, 1)


@implements(np.percentile)
def _np_percentile(
    a: Any, q: Any, axis: Any = None, overwrite_input: Any = False, method: Any = "linear", keepdims: Any = False
) -> Any:
    return _quantiles("percentile", a, q, axis, method, keepdims, 100)


@implements(np.nanquantile)
def _np_nanquantile(
    a: Any, q: Any, axis: Any = None, overwrite_input: Any = False, method: Any = "linear", keepdims: Any = False
) -> Any:
    return _quantiles("nanquantile", a, q, axis, method, keepdims, 1, without_nan=True)


@implements(np.nanpercentile)
def _np_nanpercentile(
    a: Any, q: Any, axis: Any = None, overwrite_input: Any = False, method: Any = "linear", keepdims: Any = False
) -> Any:
    return _quantiles("nanpercentile", a, q, axis, method, keepdims, 100, without_nan=True)


def _middle(rows: _Rows) -> Any:
    """The mean of the two elements in the middle, which are one in a row of odd length."""
    if not rows.elements.shape[-1]:
        return np.full(rows.shape, math.nan, rows.elements.dtype if rows.elements.dtype.kind == "f" else np.float64)
    if isinstance(rows.count, int):
        half = rows.count // 2
        return np.mean(rows.elements[..., half + rows.count % 2 - 1 : half + 1], axis=-1)
    high = np.minimum(rows.count // 2, np.maximum(rows.count - 1, 0))
    low = np.maximum((rows.count - 1) // 2, 0)
    a, b = (_at(rows, position) for position in (low, high))
    # The same element twice is itself, and not the half of a sum that is too large.
    return np.where(low == high, a, (a + b) / 2)


@implements(np.median)
def _np_median(a: Any, axis: Any = None, overwrite_input: Any = False, keepdims: Any = False) -> Any:
    rows = _rows("median", a, axis, False)
    return as_tracer(_finished(rows, _middle(rows), (), keepdims))


@implements(np.nanmedian)
def _np_nanmedian(a: Any, axis: Any = None, overwrite_input: Any = False, keepdims: Any = False) -> Any:
    rows = _rows("nanmedian", a, axis, True)
    return as_tracer(_finished(rows, _middle(rows), (), keepdims))
