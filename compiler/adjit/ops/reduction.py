"""Reductions along axes, positions of extrema, and running sums and products."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from adjit.ir.axes import Along, Ints, Relation, Running
from adjit.ir.builder import Builder, Value
from adjit.ir.op import Attrs, register
from adjit.ir.types import I64, Array, dtype_name
from adjit.ops.declare import Reduction, check_axes
from adjit_runtime.errors import DTypeError, ShapeError


def _reduced(name: str, accepts: str) -> Callable[[tuple[Array, ...], Attrs], Array]:
    def infer(types: tuple[Array, ...], attrs: Attrs) -> Array:
        (x,) = types
        axes = attrs["axes"]
        check_axes(name, axes, x.ndim)
        if x.dtype.kind not in accepts:
            raise DTypeError(f"{name}: does not take {dtype_name(x.dtype)}")
        return Array(x.dtype, tuple(n for i, n in enumerate(x.shape) if i not in axes))

    return infer


def _arg_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    (x,) = types
    axis = attrs["axis"]
    check_axes("argmax", (axis,), x.ndim)
    if x.shape[axis] == 0:
        raise ShapeError("argmax: attempt to get the position of an extremum of an empty axis")
    return Array(I64, x.shape[:axis] + x.shape[axis + 1 :])


def _running_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    (x,) = types
    check_axes("running sum", (attrs["axis"],), x.ndim)
    return x.strong


def broadcast_back(b: Builder, reduced: Value, axes: tuple[int, ...], shape: tuple[int, ...]) -> Value:
    """A reduced Value back in the shape before the reduction."""
    kept = tuple(i for i in range(len(shape)) if i not in axes)
    return b.broadcast(reduced, shape=shape, axes=kept)


def _extremum_vjp(b: Builder, g: Value, y: Value, x: Value, axes: tuple[int, ...]) -> tuple[Value]:
    """Elements that equal the extremum share its cotangent equally."""
    hit = x.eq(broadcast_back(b, y, axes, x.shape))
    count = b.sum(b.cast(hit, dtype=x.dtype), axes=axes)
    return (b.select(hit, broadcast_back(b, g / count, axes, x.shape), 0.0),)


def _extremum_jvp(b: Builder, tangents: Sequence[Value], y: Value, x: Value, axes: tuple[int, ...]) -> Value:
    """The mean of the tangents of all that equal the extremum."""
    (dx,) = tangents
    hit = x.eq(broadcast_back(b, y, axes, x.shape))
    return b.sum(b.select(hit, dx, 0.0), axes=axes) / b.sum(b.cast(hit, dtype=x.dtype), axes=axes)


def _prod_vjp(b: Builder, g: Value, y: Value, x: Value, axes: tuple[int, ...]) -> tuple[Value]:
    """Products of all other elements from both sides, so that zeros are right."""
    kept = tuple(i for i in range(len(x.shape)) if i not in axes)
    sizes = tuple(x.shape[i] for i in kept)
    length = math.prod(x.shape[i] for i in axes)
    transposed = b.reshape(b.transpose(x, axes=kept + axes), shape=(*sizes, length))
    others = _others(b, transposed)
    spread = b.broadcast(g, shape=(*sizes, length), axes=tuple(range(len(kept)))) * others
    back = b.reshape(spread, shape=sizes + tuple(x.shape[i] for i in axes))
    inverse = tuple(int(i) for i in np.argsort(kept + axes))
    return (b.transpose(back, axes=inverse),)


def _prod_jvp(b: Builder, tangents: Sequence[Value], y: Value, x: Value, axes: tuple[int, ...]) -> Value:
    """Each element is a factor of one product alone, so its derivative is what a cotangent of 1 gives it."""
    (dx,) = tangents
    (slope,) = _prod_vjp(b, b.full(1.0, y), y, x, axes)
    return b.sum(dx * slope, axes=axes)


def _others(b: Builder, x: Value) -> Value:
    """For each element of the last axis, the product of the others."""
    last = len(x.shape) - 1
    before = b.cumprod(_shifted(b, x, last, 1, 1.0), axis=last, reverse=False)
    after = b.cumprod(_shifted(b, x, last, -1, 1.0), axis=last, reverse=True)
    return before * after


def _cumprod_vjp(b: Builder, g: Value, y: Value, x: Value, axis: int, reverse: bool) -> tuple[Value]:
    """dL/dx_i is the product before i times R_i = g_i + x_(i+1) R_(i+1), so that it is right where x is 0."""
    if reverse:
        g, y, x = (b.flip(v, axes=(axis,)) for v in (g, y, x))
    result = _shifted(b, y, axis, 1, 1.0) * _recurrence(b, _shifted(b, x, axis, -1, 0.0), g, axis)
    return (b.flip(result, axes=(axis,)) if reverse else result,)


def _cumprod_jvp(b: Builder, tangents: Sequence[Value], y: Value, x: Value, axis: int, reverse: bool) -> Value:
    """dy_i is dx_i times the product before i, and x_i dy_(i-1)."""
    (dx,) = tangents
    factor, total = x, dx * _shifted(b, y, axis, -1 if reverse else 1, 1.0)
    if reverse:
        return _recurrence(b, factor, total, axis)
    return b.flip(_recurrence(b, b.flip(factor, axes=(axis,)), b.flip(total, axes=(axis,)), axis), axes=(axis,))


def _recurrence(b: Builder, factor: Value, total: Value, axis: int) -> Value:
    """R_i = total_i + factor_i R_(i+1), by doubling: after a step R_i has the terms up to i + 2s - 1 and the factor is
    the product of as many, in memory for n numbers and log2 n steps."""
    n = total.shape[axis]
    step = 1
    while step < n:
        ahead = _part(b, factor, axis, 0, n - step)
        total = total + _padded(b, ahead * _part(b, total, axis, step, n), axis, 0, step, 0.0)
        # What is left of the last `step` factors has no term to multiply.
        factor = _padded(b, ahead * _part(b, factor, axis, step, n), axis, 0, step, 0.0)
        step *= 2
    return total


def _shifted(b: Builder, x: Value, axis: int, by: int, value: float) -> Value:
    """Every element one place later (by 1) or earlier (by -1) along an axis, with `value` at the end that is free."""
    n = x.shape[axis]
    if n == 0:
        return x
    if by > 0:
        return _padded(b, _part(b, x, axis, 0, n - 1), axis, 1, 0, value)
    return _padded(b, _part(b, x, axis, 1, n), axis, 0, 1, value)


def _part(b: Builder, x: Value, axis: int, start: int, stop: int) -> Value:
    first = tuple(start if i == axis else 0 for i in range(len(x.shape)))
    last = tuple(stop if i == axis else n for i, n in enumerate(x.shape))
    return b.slice(x, start=first, stop=last, step=(1,) * len(x.shape))


def _padded(b: Builder, x: Value, axis: int, low: int, high: int, value: float) -> Value:
    none = (0,) * len(x.shape)
    before, after = (tuple(n if i == axis else 0 for i in range(len(x.shape))) for n in (low, high))
    return b.pad(x, low=before, high=after, interior=none, value=value)


def _flip_along(x: np.ndarray, axis: int, reverse: bool) -> np.ndarray:
    return np.flip(x, axis) if reverse else x


def _running_axes(shapes: Sequence[Ints], shape: Ints, attrs: Attrs) -> Relation:
    return Relation((tuple(Running(i) if i == attrs["axis"] else Along(i) for i in range(len(shape))),))


sum_ = register(
    Reduction(
        name="sum", kind="reduction", arity=1, infer=_reduced("sum", "iuf"), attr_kinds={"axes": "ints"},
        evaluate=lambda x, *, axes: np.sum(x, axis=axes, dtype=x.dtype),
        identity=lambda dtype: 0, combine=lambda k, x, y: x + y,
        vjp=lambda b, g, y, x, axes: (broadcast_back(b, g, axes, x.shape),), linear=((0,),),
    )
)  # fmt: skip
prod = register(
    Reduction(
        name="prod", kind="reduction", arity=1, infer=_reduced("prod", "iuf"), attr_kinds={"axes": "ints"},
        evaluate=lambda x, *, axes: np.prod(x, axis=axes, dtype=x.dtype),
        identity=lambda dtype: 1, combine=lambda k, x, y: x * y, vjp=_prod_vjp, jvp=_prod_jvp,
        singular=True,
    )
)  # fmt: skip
max_ = register(
    Reduction(
        name="max", kind="reduction", arity=1, infer=_reduced("max", "iuf"), attr_kinds={"axes": "ints"},
        evaluate=lambda x, *, axes: np.max(x, axis=axes), combine=lambda k, x, y: k.maximum(x, y),
        identity=lambda dtype: -np.inf if dtype.kind == "f" else np.iinfo(dtype).min, vjp=_extremum_vjp,
        jvp=_extremum_jvp,
    )
)  # fmt: skip
min_ = register(
    Reduction(
        name="min", kind="reduction", arity=1, infer=_reduced("min", "iuf"), attr_kinds={"axes": "ints"},
        evaluate=lambda x, *, axes: np.min(x, axis=axes), combine=lambda k, x, y: k.minimum(x, y),
        identity=lambda dtype: np.inf if dtype.kind == "f" else np.iinfo(dtype).max, vjp=_extremum_vjp,
        jvp=_extremum_jvp,
    )
)  # fmt: skip
any_ = register(
    Reduction(
        name="any", kind="reduction", arity=1, infer=_reduced("any", "b"), attr_kinds={"axes": "ints"},
        evaluate=lambda x, *, axes: np.any(x, axis=axes), identity=lambda dtype: False,
        combine=lambda k, x, y: x | y, exempt="a truth value",
    )
)  # fmt: skip
all_ = register(
    Reduction(
        name="all", kind="reduction", arity=1, infer=_reduced("all", "b"), attr_kinds={"axes": "ints"},
        evaluate=lambda x, *, axes: np.all(x, axis=axes), identity=lambda dtype: True,
        combine=lambda k, x, y: x & y, exempt="a truth value",
    )
)  # fmt: skip
argmax = register(
    Reduction(
        name="argmax", kind="argreduction", arity=1, infer=_arg_type, attr_kinds={"axis": "int"},
        evaluate=lambda x, *, axis: np.argmax(x, axis=axis), exempt="a position",
    )
)  # fmt: skip
argmin = register(
    Reduction(
        name="argmin", kind="argreduction", arity=1, infer=_arg_type, attr_kinds={"axis": "int"},
        evaluate=lambda x, *, axis: np.argmin(x, axis=axis), exempt="a position",
    )
)  # fmt: skip
cumsum = register(
    Reduction(
        name="cumsum", kind="running", arity=1, infer=_running_type, attr_kinds={"axis": "int", "reverse": "bool"},
        axes=_running_axes,
        evaluate=lambda x, *, axis, reverse: _flip_along(
            np.cumsum(_flip_along(x, axis, reverse), axis=axis, dtype=x.dtype), axis, reverse
        ),
        identity=lambda dtype: 0, combine=lambda k, x, y: x + y,
        vjp=lambda b, g, y, x, axis, reverse: (b.cumsum(g, axis=axis, reverse=not reverse),), linear=((0,),),
    )
)  # fmt: skip
cumprod = register(
    Reduction(
        name="cumprod", kind="running", arity=1, infer=_running_type, attr_kinds={"axis": "int", "reverse": "bool"},
        axes=_running_axes,
        evaluate=lambda x, *, axis, reverse: _flip_along(
            np.cumprod(_flip_along(x, axis, reverse), axis=axis, dtype=x.dtype), axis, reverse
        ),
        identity=lambda dtype: 1, combine=lambda k, x, y: x * y, vjp=_cumprod_vjp,
        jvp=_cumprod_jvp,
        singular=True,
    )
)  # fmt: skip
