"""Differences, integrals, polynomials, convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from adjit.ir.types import BOOL, F64
from adjit.trace.functions.calling import cast as cast_value
from adjit.trace.functions.calling import dtype_of, shape_of, static_int, value, wrap_c
from adjit.trace.functions.shaping import along
from adjit.trace.lower import as_tracer, broadcast_to, cast, is_tracer, normalize_axes, normalize_axis, pad, reshape
from adjit.trace.refuse import shape_error, trace_error
from adjit.trace.table import implements


@implements(np.diff)
def _diff(a: Any, n: Any = 1, axis: Any = -1, prepend: Any = None, append: Any = None) -> Any:
    x: Any = as_tracer(a)
    times = static_int(n, "diff", "n")
    if times < 0:
        raise shape_error(f"diff: order must be non-negative but got {times}")
    if times == 0:
        return x
    if x.ndim == 0:
        raise shape_error("diff: needs an array of at least one dimension")
    at = normalize_axis(axis, x.ndim)
    if prepend is not None or append is not None:
        x = np.concatenate([_end(x, at, prepend), x, _end(x, at, append)][prepend is None : 3 - (append is None)], at)
    for _ in range(times):
        size = x.shape[at]
        later, earlier = along(x, at, 1, max(size, 1)), along(x, at, 0, max(size - 1, 0))
        x = later != earlier if x.dtype == BOOL else later - earlier
    return x


def _end(x: Any, axis: int, v: Any) -> Any:
    if v is None:
        return None
    y = as_tracer(v)
    return broadcast_to(y, (*x.shape[:axis], 1, *x.shape[axis + 1 :])) if y.ndim == 0 else y


@implements(np.ediff1d)
def _ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    x = reshape(as_tracer(ary), -1)
    y = along(x, 0, 1, max(x.size, 1)) - along(x, 0, 0, max(x.size - 1, 0))
    for v in (to_end, to_begin):
        if v is not None and not np.can_cast(dtype_of(v), x.dtype, "same_kind") and is_tracer(v):
            raise shape_error(f"ediff1d: an end of {dtype_of(v)} does not fit {x.type}")
    ends = [None if v is None else reshape(cast(as_tracer(v), x.dtype), -1) for v in (to_begin, to_end)]
    parts = [part for part in (ends[0], y, ends[1]) if part is not None]
    return np.concatenate(parts) if len(parts) > 1 else y


@implements(np.gradient)
def _gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: Any = 1) -> Any:
    x = as_tracer(f)
    x = x if x.dtype.kind == "f" else cast(x, F64)
    axes = (
        [normalize_axis(i, x.ndim) for i in axis]
        if isinstance(axis, tuple | list)
        else list(normalize_axes(axis, x.ndim))
    )
    spacings: Sequence[Any] = varargs or (1.0,)
    if len(spacings) == 1:
        spacings = list(spacings) * len(axes)
    if len(spacings) != len(axes):
        raise shape_error(f"gradient: {len(spacings)} spacings for {len(axes)} axes")
    if any(len(shape_of(h)) for h in spacings):
        raise trace_error("np.gradient: an array of coordinates is not supported on traced arrays; give the spacing")
    if edge_order not in (1, 2):
        raise shape_error("gradient: 'edge_order' greater than 2 is not supported")
    results = [_slope(x, at, h, edge_order) for at, h in zip(axes, spacings, strict=True)]
    return results[0] if len(axes) == 1 else tuple(results)


def _slope(x: Any, axis: int, h: Any, edge_order: int) -> Any:
    n = x.shape[axis]
    if n < edge_order + 1:
        raise shape_error(f"gradient: axis {axis} of {x.type} has fewer than {edge_order + 1} elements")
    inner = (along(x, axis, 2, n) - along(x, axis, 0, n - 2)) / (2.0 * h)

    def at(i: int) -> Any:
        return along(x, axis, i % n, i % n + 1)

    if edge_order == 1:
        first, last = (at(1) - at(0)) / h, (at(-1) - at(-2)) / h
    else:
        first = (-1.5 / h) * at(0) + (2.0 / h) * at(1) + (-0.5 / h) * at(2)
        last = (0.5 / h) * at(-3) + (-2.0 / h) * at(-2) + (1.5 / h) * at(-1)
    return np.concatenate([first, inner, last], axis)


@implements(np.trapezoid)
def _trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: Any = -1) -> Any:
    v = as_tracer(y)
    at = normalize_axis(axis, v.ndim)
    n = v.shape[at]
    d: Any
    if x is None:
        d = dx
    else:
        points = as_tracer(x)
        d = np.diff(points, axis=0 if points.ndim == 1 else at)
        if points.ndim == 1:
            d = reshape(d, tuple(-1 if i == at else 1 for i in range(v.ndim)))
    return np.sum(d * (along(v, at, 1, n) + along(v, at, 0, max(n - 1, 0))) / 2.0, axis=at)


@implements(np.unwrap)
def _unwrap(p: Any, discont: Any = None, axis: Any = -1, period: Any = 2 * math.pi) -> Any:
    x = as_tracer(p)
    at = normalize_axis(axis, x.ndim)
    d: Any = np.diff(x, axis=at)
    whole = d.dtype.kind in "iu" and not is_tracer(period) and isinstance(period, int)
    high, odd = divmod(period, 2) if whole else (period / 2, 0)
    turned = np.mod(d + high, period) - high
    if not odd:
        turned = np.where((turned == -high) & (d > 0), high, turned)
    limit = period / 2 if discont is None else discont
    fixed = np.where(np.abs(d) < limit, 0, turned - d)
    tail = along(x, at, 1, max(x.shape[at], 1)) + np.cumsum(fixed, axis=at)
    return np.concatenate([along(x, at, 0, 1), tail], axis=at)


@implements(np.polyval)
def _polyval(p: Any, x: Any) -> Any:
    coefficients = list(as_tracer(p)) if is_tracer(p) else [v if is_tracer(v) else np.asarray(v)[()] for v in p]
    at = as_tracer(x)
    y: Any = np.zeros_like(at)
    for c in coefficients:
        y = y * at + c
    return y


def _poly_add(a1: Any, a2: Any, sign: int) -> Any:
    x, y = (reshape(as_tracer(v), -1) for v in (a1, a2))
    n = max(x.size, y.size)
    u, v = (pad(w, (n - w.size,), (0,)) if w.size < n else w for w in (x, y))
    return u + v if sign > 0 else u - v


@implements(np.polyadd)
def _polyadd(a1: Any, a2: Any) -> Any:
    return _poly_add(a1, a2, 1)


@implements(np.polysub)
def _polysub(a1: Any, a2: Any) -> Any:
    return _poly_add(a1, a2, -1)


@implements(np.polyder)
def _polyder(p: Any, m: Any = 1) -> Any:
    y = as_tracer(p)
    for _ in range(static_int(m, "polyder", "m")):
        n = y.shape[0] - 1
        y = along(y, 0, 0, max(n, 0)) * np.arange(n, 0, -1)
    return y


@implements(np.polyint)
def _polyint(p: Any, m: Any = 1, k: Any = None) -> Any:
    times = static_int(m, "polyint", "m")
    constants = [0.0] * times if k is None else list(k) if isinstance(k, list | tuple) or np.ndim(k) else [k] * times
    if len(constants) != times:
        if len(constants) != 1:
            raise shape_error(f"polyint: {len(constants)} constants for {times} integrations")
        constants = constants * times
    y: Any = as_tracer(p)
    for c in constants:
        y = np.concatenate([y / np.arange(y.shape[0], 0, -1), reshape(as_tracer(c, like=y), (1,))])
    return y


@implements(np.vander)
def _vander(x: Any, N: Any = None, increasing: Any = False) -> Any:
    v = as_tracer(x)
    if v.ndim != 1:
        raise shape_error(f"vander: {v.type} is no vector")
    n = v.size if N is None else static_int(N, "vander", "N")
    v = cast(v, np.result_type(v.dtype, np.int64))
    powers: list[Any] = [np.ones_like(v)]
    while len(powers) < n:
        powers.append(powers[-1] * v)
    if n == 0:
        return np.zeros_like(v, shape=(v.size, 0))
    return np.stack(powers if increasing else powers[::-1], axis=1)


def _convolution(function: str, a: Any, v: Any, mode: Any, turned: bool) -> Any:
    """Each result is a product of the shorter operand with a window of the longer one."""
    x, y = value(a), value(v)
    b = x.builder
    for w in (x, y):
        if len(w.shape) > 1 or math.prod(w.shape) == 0:
            raise shape_error(f"{function}: operands are vectors, not empty: {x.type} and {y.type}")
    x, y = (b.reshape(w, shape=(math.prod(w.shape),)) for w in (x, y))
    dtype = np.result_type(x.dtype, y.dtype)
    x, y = cast_value(x, dtype), cast_value(y, dtype)
    if turned:
        y = b.flip(y, axes=(0,))
    swapped = y.shape[0] > x.shape[0]
    if swapped:
        x, y = y, x
    n, m = x.shape[0], y.shape[0]
    full = n + m - 1
    low, count = {"full": (0, full), "same": ((m - 1) // 2, n), "valid": (m - 1, n - m + 1)}.get(mode, (0, -1))
    if count < 0:
        raise shape_error(f"{function}: mode {mode!r} is none of 'full', 'same', 'valid'")
    if mode == "same" and turned and swapped:
        # correlate counts the middle of an even window from the other end.
        low = m // 2
    padded = b.pad(x, low=(m - 1,), high=(m - 1,), interior=(0,), value=0)
    part = b.slice(padded, start=(low,), stop=(low + count + m - 1,), step=(1,))
    windows = b.windows(part, axes=(0,), size=(m,), step=(1,), dilation=(1,))
    return wrap_c(b.contract(windows, b.flip(y, axes=(0,)), spec="ij,j->i"))


@implements(np.convolve)
def _convolve(a: Any, v: Any, mode: Any = "full") -> Any:
    return _convolution("convolve", a, v, mode, turned=False)


@implements(np.correlate)
def _correlate(a: Any, v: Any, mode: Any = "valid") -> Any:
    return _convolution("correlate", a, v, mode, turned=True)
