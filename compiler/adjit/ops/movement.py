"""Movement: reshape, transpose, broadcast, slice, pad, concatenate, flip, after, iota. No data moves unless it must."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from adjit.ir.axes import Along, Ints, Relation, along, inverse, linear
from adjit.ir.builder import Builder, Value
from adjit.ir.op import Attrs, register
from adjit.ir.types import BOOL, Array
from adjit.ops.declare import Movement, Ordered, check_axes
from adjit_runtime.errors import DTypeError, ShapeError


def _reshape_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    (x,) = types
    shape = attrs["shape"]
    if math.prod(shape) != x.size:
        raise ShapeError(f"reshape: {x} has {x.size} elements, {shape} has {math.prod(shape)}")
    return x.with_shape(shape)


def _transpose_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    (x,) = types
    axes = attrs["axes"]
    if sorted(axes) != list(range(x.ndim)):
        raise ShapeError(f"transpose: {axes} is no permutation of the {x.ndim} axes of {x}")
    return x.with_shape(tuple(x.shape[i] for i in axes))


def _broadcast_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    (x,) = types
    shape, axes = attrs["shape"], attrs["axes"]
    check_axes("broadcast", axes, len(shape))
    if len(axes) != x.ndim or any(shape[axis] != n for axis, n in zip(axes, x.shape, strict=True)):
        raise ShapeError(f"broadcast: {x} does not stand at axes {axes} of {shape}")
    return x.with_shape(shape)


def _slice_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    (x,) = types
    start, stop, step = attrs["start"], attrs["stop"], attrs["step"]
    if not len(start) == len(stop) == len(step) == x.ndim:
        raise ShapeError(f"slice: bounds for {len(start)} axes on {x}")
    for i, j, s, n in zip(start, stop, step, x.shape, strict=True):
        if not (0 <= i <= j <= n and s > 0):
            raise ShapeError(f"slice: [{i}:{j}:{s}] on an axis of {n}")
    return x.with_shape(tuple(-(-(j - i) // s) for i, j, s in zip(start, stop, step, strict=True)))


def _pad_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    (x,) = types
    low, high, interior = attrs["low"], attrs["high"], attrs["interior"]
    if not len(low) == len(high) == len(interior) == x.ndim or min((*low, *high, *interior, 0)) < 0:
        raise ShapeError(f"pad: low {low}, high {high}, interior {interior} on {x}")
    grown = (lo + hi + n + max(n - 1, 0) * mid for lo, hi, mid, n in zip(low, high, interior, x.shape, strict=True))
    return x.with_shape(tuple(grown))


def _concatenate_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    axis = attrs["axis"]
    first = types[0]
    check_axes("concatenate", (axis,), first.ndim)
    for other in types[1:]:
        if other.dtype != first.dtype:
            raise DTypeError(f"concatenate: dtypes differ, {first} and {other}")
        if other.ndim != first.ndim or any(
            m != n for i, (m, n) in enumerate(zip(other.shape, first.shape, strict=True)) if i != axis
        ):
            raise ShapeError(f"concatenate: {first} and {other} differ outside axis {axis}")
    return first.with_shape((*first.shape[:axis], sum(t.shape[axis] for t in types), *first.shape[axis + 1 :]))


def _flip_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    (x,) = types
    check_axes("flip", attrs["axes"], x.ndim)
    return x.strong


def _iota_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    check_axes("iota", (attrs["axis"],), len(attrs["shape"]))
    return Array(attrs["dtype"], attrs["shape"])


def _evaluate_broadcast(x: np.ndarray, *, shape: tuple[int, ...], axes: tuple[int, ...]) -> np.ndarray:
    spread = [1] * len(shape)
    for axis, n in zip(axes, np.shape(x), strict=True):
        spread[axis] = n
    return np.broadcast_to(np.reshape(x, spread), shape)


def _slices(start: tuple[int, ...], stop: tuple[int, ...], step: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(i, j, s) for i, j, s in zip(start, stop, step, strict=True))


def _interior(
    shape: tuple[int, ...], low: tuple[int, ...], interior: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Where the elements of an operand of `shape` lie after padding: start, stop, step."""
    step = tuple(mid + 1 for mid in interior)
    stop = tuple(lo + (n - 1) * s + 1 if n else lo for lo, n, s in zip(low, shape, step, strict=True))
    return low, stop, step


def _evaluate_pad(
    x: np.ndarray, *, low: tuple[int, ...], high: tuple[int, ...], interior: tuple[int, ...], value: Any
) -> np.ndarray:
    shape = _pad_type((Array(x.dtype, x.shape),), {"low": low, "high": high, "interior": interior}).shape
    result = np.full(shape, value, dtype=x.dtype)
    result[_slices(*_interior(x.shape, low, interior))] = x
    return result


def _broadcast_vjp(b: Builder, g: Value, y: Value, x: Value, shape: Ints, axes: Ints) -> tuple[Value]:
    gone = tuple(i for i in range(len(shape)) if i not in axes)
    return (b.sum(g, axes=gone) if g.dtype != BOOL else b.any(g, axes=gone),)


def _slice_vjp(b: Builder, g: Value, y: Value, x: Value, start: Ints, stop: Ints, step: Ints) -> tuple[Value]:
    ends = tuple(i + (n - 1) * s + 1 if n else i for i, n, s in zip(start, y.shape, step, strict=True))
    high = tuple(n - end for n, end in zip(x.shape, ends, strict=True))
    return (b.pad(g, low=start, high=high, interior=tuple(s - 1 for s in step), value=g.dtype.type(0).item()),)


def _pad_vjp(
    b: Builder, g: Value, y: Value, x: Value, low: Ints, high: Ints, interior: Ints, value: Any
) -> tuple[Value]:
    start, stop, step = _interior(x.shape, low, interior)
    return (b.slice(g, start=start, stop=stop, step=step),)


def _concatenate_vjp(b: Builder, g: Value, y: Value, *xs: Value, axis: int) -> tuple[Value, ...]:
    parts = []
    at = 0
    ones = (1,) * len(g.shape)
    for x in xs:
        start = tuple(at if i == axis else 0 for i in range(len(g.shape)))
        stop = tuple(at + x.shape[axis] if i == axis else n for i, n in enumerate(g.shape))
        parts.append(b.slice(g, start=start, stop=stop, step=ones))
        at += x.shape[axis]
    return tuple(parts)


def _evaluate_iota(*, shape: tuple[int, ...], axis: int, dtype: np.dtype) -> np.ndarray:
    return _evaluate_broadcast(np.arange(shape[axis], dtype=dtype), shape=shape, axes=(axis,))


def _reshaped(attrs: Attrs, shape: Ints) -> Attrs:
    return {**attrs, "shape": shape}


def _sliced(attrs: Attrs, shape: Ints) -> Attrs:
    bounds = zip(attrs["start"], attrs["step"], shape, strict=True)
    return {**attrs, "stop": tuple(i + (n - 1) * s + 1 if n else i for i, s, n in bounds)}


def _lifted_axes(attrs: Attrs, n: int) -> Attrs:
    return {"axes": (0, *(axis + 1 for axis in attrs["axes"]))}


def _lifted_broadcast(attrs: Attrs, n: int) -> Attrs:
    return {"shape": (n, *attrs["shape"]), **_lifted_axes(attrs, n)}


def _lifted_slice(attrs: Attrs, n: int) -> Attrs:
    return {"start": (0, *attrs["start"]), "stop": (n, *attrs["stop"]), "step": (1, *attrs["step"])}


def _lifted_pad(attrs: Attrs, n: int) -> Attrs:
    return {**attrs, **{side: (0, *attrs[side]) for side in ("low", "high", "interior")}}


def _transpose_axes(shapes: Sequence[Ints], shape: Ints, attrs: Attrs) -> Relation:
    return Relation((along(inverse(attrs["axes"])),))


def _broadcast_axes(shapes: Sequence[Ints], shape: Ints, attrs: Attrs) -> Relation:
    return Relation((along(attrs["axes"]),))


def _slice_axes(shapes: Sequence[Ints], shape: Ints, attrs: Attrs) -> Relation:
    # The step from an only element is none.
    steps = zip(attrs["start"], attrs["step"], shape, strict=True)
    return Relation((tuple(Along(i, start, step if n > 1 else 1) for i, (start, step, n) in enumerate(steps)),))


def _pad_axes(shapes: Sequence[Ints], shape: Ints, attrs: Attrs) -> Relation:
    sides = zip(attrs["low"], attrs["interior"], strict=True)
    axes = tuple(Along(i, -low, 1, interior + 1) for i, (low, interior) in enumerate(sides))
    return Relation((axes,), filled=True)


def _concatenate_axes(shapes: Sequence[Ints], shape: Ints, attrs: Attrs) -> Relation:
    axis = attrs["axis"]
    starts = itertools.accumulate((own[axis] for own in shapes), initial=0)
    dims = range(len(shape))
    return Relation(
        tuple(tuple(Along(i, -start if i == axis else 0) for i in dims) for start in [*starts][: len(shapes)])
    )


def _flip_axes(shapes: Sequence[Ints], shape: Ints, attrs: Attrs) -> Relation:
    return Relation((tuple(Along(i, n - 1, -1) if i in attrs["axes"] else Along(i) for i, n in enumerate(shape)),))


def _after_axes(shapes: Sequence[Ints], shape: Ints, attrs: Attrs) -> Relation:
    return Relation((along(range(len(shape))), ()))


def _no_axes(shapes: Sequence[Ints], shape: Ints, attrs: Attrs) -> Relation:
    return Relation(())


reshape = register(
    Movement(
        name="reshape", kind="movement", arity=1, infer=_reshape_type, attr_kinds={"shape": "ints"},
        axes=linear, resize=_reshaped, lift=lambda attrs, n: {"shape": (n, *attrs["shape"])},
        evaluate=lambda x, *, shape: np.reshape(x, shape),
        vjp=lambda b, g, y, x, shape: (b.reshape(g, shape=x.shape),),
    )
)  # fmt: skip
transpose = register(
    Movement(
        name="transpose", kind="movement", arity=1, infer=_transpose_type, attr_kinds={"axes": "ints"},
        axes=_transpose_axes, lift=_lifted_axes, evaluate=lambda x, *, axes: np.transpose(x, axes),
        vjp=lambda b, g, y, x, axes: (b.transpose(g, axes=inverse(axes)),),
    )
)  # fmt: skip
broadcast = register(
    Movement(
        # Operand axis i stands at result axis axes[i]; sizes match exactly, so a size 1 is reshaped away first.
        name="broadcast", kind="movement", arity=1, infer=_broadcast_type,
        attr_kinds={"shape": "ints", "axes": "ints"}, axes=_broadcast_axes, resize=_reshaped, lift=_lifted_broadcast,
        evaluate=_evaluate_broadcast,
        vjp=_broadcast_vjp,
    )
)  # fmt: skip
slice_ = register(
    Movement(
        name="slice", kind="movement", arity=1, infer=_slice_type,
        attr_kinds={"start": "ints", "stop": "ints", "step": "ints"},
        axes=_slice_axes, resize=_sliced, lift=_lifted_slice,
        evaluate=lambda x, *, start, stop, step: x[_slices(start, stop, step)], vjp=_slice_vjp,
    )
)  # fmt: skip
pad = register(
    Movement(
        # `interior` elements stand between neighbours; the adjoint of a strided slice needs it.
        name="pad", kind="movement", arity=1, infer=_pad_type,
        attr_kinds={"low": "ints", "high": "ints", "interior": "ints", "value": "scalar"},
        axes=_pad_axes, lift=_lifted_pad, evaluate=_evaluate_pad, vjp=_pad_vjp,
        homogeneous=lambda attrs: {**attrs, "value": 0.0},
    )
)  # fmt: skip
concatenate = register(
    Movement(
        name="concatenate", kind="movement", arity=None, infer=_concatenate_type, attr_kinds={"axis": "int"},
        axes=_concatenate_axes, lift=lambda attrs, n: {"axis": attrs["axis"] + 1},
        evaluate=lambda *xs, axis: np.concatenate(xs, axis=axis), vjp=_concatenate_vjp,
    )
)  # fmt: skip
flip = register(
    Movement(
        name="flip", kind="movement", arity=1, infer=_flip_type, attr_kinds={"axes": "ints"},
        axes=_flip_axes, lift=lambda attrs, n: {"axes": tuple(axis + 1 for axis in attrs["axes"])},
        evaluate=lambda x, *, axes: np.flip(x, axes),
        vjp=lambda b, g, y, x, axes: (b.flip(g, axes=axes),),
    )
)  # fmt: skip
after = register(
    Ordered(
        # What a plan computes again waits so for what comes ahead of its use; made when all else is done.
        name="after", kind="movement", arity=2, infer=lambda types, attrs: types[0], axes=_after_axes,
        evaluate=lambda x, gate: x, linear=((0,),),
        exempt="orders what a plan computes again, when all derivatives have been taken",
    )
)  # fmt: skip
iota = register(
    Movement(
        name="iota", kind="creation", arity=0, infer=_iota_type,
        attr_kinds={"shape": "ints", "axis": "int", "dtype": "dtype"}, axes=_no_axes, resize=_reshaped,
        evaluate=_evaluate_iota,
        exempt="has no operand",
    )
)  # fmt: skip
