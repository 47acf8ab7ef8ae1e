"""np.pad: constants around an array, or its own elements, which become slices, flips and broadcasts."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjit.trace.functions.calling import anew, ordered_as, static_int
from adjit.trace.functions.shaping import gather_static
from adjit.trace.lower import as_tracer, broadcast_to, cast, concatenate, is_tracer, pad, strong
from adjit.trace.refuse import located, shape_error, trace_error
from adjit.trace.table import implements
from adjit_runtime.errors import WeakOverflowError


@implements(np.pad)
def _pad(array: Any, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> Any:
    x = strong(as_tracer(array))
    widths = _widths(pad_width, x.ndim)
    if callable(mode):
        raise trace_error(
            "np.pad: a function as `mode` would be called on values; build the border with np.concatenate"
        )
    allowed = {"constant": ("constant_values",), "reflect": ("reflect_type",), "symmetric": ("reflect_type",),
               "maximum": ("stat_length",), "minimum": ("stat_length",), "mean": ("stat_length",)}  # fmt: skip
    if mode not in {*allowed, "edge", "wrap", "empty"}:
        raise trace_error(f"np.pad: mode={mode!r} is not supported on traced arrays")
    for name in kwargs:
        if name not in allowed.get(mode, ()):
            raise trace_error(f"np.pad: the argument {name!r} does not go with mode={mode!r}")
    if mode in ("constant", "empty"):
        return _pad_constant(x, widths, kwargs.get("constant_values", 0))
    if kwargs.get("reflect_type", "even") != "even":
        raise trace_error("np.pad: reflect_type='odd' is not supported on traced arrays")
    if kwargs.get("stat_length") is not None:
        raise trace_error("np.pad: the argument 'stat_length' is not supported on traced arrays")
    for axis, (low, high) in enumerate(widths):
        if low or high:
            x = _pad_axis(x, axis, low, high, mode)
    return anew(x) if x is array else x


def _widths(pad_width: Any, ndim: int) -> list[tuple[int, int]]:
    if isinstance(pad_width, dict):
        found: list[Any] = [(0, 0)] * ndim
        for axis, width in pad_width.items():
            found[axis] = (width, width) if np.ndim(width) == 0 else tuple(width)
        pad_width = found
    if is_tracer(pad_width):
        static_int(pad_width, "pad", "pad_width")
    try:
        pairs = np.broadcast_to(np.asarray(pad_width), (ndim, 2))
    except ValueError:
        raise shape_error(f"pad: pad_width {pad_width} does not fit {ndim} dimensions") from None
    widths = [(static_int(low, "pad", "pad_width"), static_int(high, "pad", "pad_width")) for low, high in pairs]
    if any(n < 0 for pair in widths for n in pair):
        raise shape_error("pad: pad_width holds a negative number")
    return widths


def _pad_constant(x: Any, widths: list[tuple[int, int]], values: Any) -> Any:
    if not is_tracer(values) and not _holds_tracer(values):
        pairs = np.broadcast_to(np.asarray(values), (x.ndim, 2)) if x.ndim else np.zeros((0, 2))
        if np.all(pairs == pairs[:1, :1]) or not pairs.size:
            fill = pairs.ravel()[0] if pairs.size else 0
            grown = pad(x, [low for low, _ in widths], [high for _, high in widths], _converted(fill, x.dtype))
            return ordered_as(grown, x)
        ends = [(pair[0], pair[1]) for pair in pairs]
    else:
        ends = _pairs(values, x.ndim)
    for axis, ((low, high), (first, last)) in enumerate(zip(widths, ends, strict=True)):
        parts = [_filled(x, axis, low, first), x, _filled(x, axis, high, last)]
        x = concatenate([part for part in parts if part is not None], axis)
    return x


def _holds_tracer(values: Any) -> bool:
    return is_tracer(values) or (isinstance(values, list | tuple) and any(map(_holds_tracer, values)))


def _pairs(values: Any, ndim: int) -> list[tuple[Any, Any]]:
    """Values for both ends of each axis, as NumPy broadcasts them: one, (first, last), or a pair for each axis."""
    if is_tracer(values):
        if values.ndim:
            raise trace_error("np.pad: traced `constant_values` are scalars, or tuples of scalars")
        return [(values, values)] * ndim
    if len(values) == 1:
        return _pairs(values[0], ndim) if isinstance(values[0], list | tuple) else [(values[0], values[0])] * ndim
    if not any(isinstance(v, list | tuple) for v in values):
        return [(values[0], values[1])] * ndim
    return [(pair[0], pair[-1]) for pair in values]


def _converted(value: Any, dtype: np.dtype) -> Any:
    """A number as an element of `dtype`; NumPy's own assignment says which do not fit."""
    made = np.zeros(1, dtype)
    try:
        with np.errstate(all="ignore"):
            made[:] = value
    except (OverflowError, ValueError) as error:
        raise located(
            WeakOverflowError, f"np.pad: constant_values={value} in an array of {dtype.name}: {error}"
        ) from None
    return made.item()


def _filled(x: Any, axis: int, width: int, value: Any) -> Any:
    if not width:
        return None
    filler = value if is_tracer(value) else _converted(value, x.dtype)
    return broadcast_to(cast(as_tracer(filler), x.dtype), (*x.shape[:axis], width, *x.shape[axis + 1 :]))


def _pad_axis(x: Any, axis: int, low: int, high: int, mode: str) -> Any:
    n = x.shape[axis]
    if n == 0:
        raise shape_error(f"pad: axis {axis} of {x.type} is empty and cannot be extended with mode={mode!r}")
    if mode in ("maximum", "minimum", "mean"):
        reduce: Any = {"maximum": np.max, "minimum": np.min, "mean": np.mean}[mode]
        border = reduce(x, axis=axis, keepdims=True)
        if mode == "mean" and x.dtype.kind != "f":
            border = np.round(border)
        parts = [_filled(x, axis, low, border), x, _filled(x, axis, high, border)]
        return concatenate([part for part in parts if part is not None], axis)
    return gather_static(x, axis, _positions(mode, np.arange(-low, n + high), n))


def _positions(mode: str, at: np.ndarray, n: int) -> Any:
    """Which element of an axis of n stands at each place, also outside of it."""
    if mode == "edge":
        return np.clip(at, 0, n - 1)
    if mode == "wrap":
        return at % n
    if mode == "symmetric":
        folded = at % (2 * n)
        return np.where(folded < n, folded, 2 * n - 1 - folded)
    if n == 1:
        return np.zeros_like(at)
    folded = at % (2 * n - 2)
    return np.where(folded < n, folded, 2 * n - 2 - folded)
