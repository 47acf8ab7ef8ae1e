"""windows: what a window that moves along some axes sees, and add_windows, its adjoint, which adds windows up again.

    %1 = windows %0 axes=(1) size=(3) step=(2) dilation=(1) : f32[8,4,3]      of f32[8,9]: %1[n,i,j] = %0[n,2i+j]
    %2 = add_windows %1 axes=(1) extents=(9) step=(2) dilation=(1) : f32[8,9]

Axis i of the operand becomes the number of the window; the places in the window are the last axes of the result, in the
order of `axes`. A window is always inside of the operand, which is padded before. A convolution is a contraction of
windows with weights, a pooling a reduction of them: no window is ever an array in memory there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from adjit.ir.axes import Along, Axis, Ints, Mixed, Relation
from adjit.ir.op import Attrs, register
from adjit.ir.types import BOOL, I32, Array, dtype_name
from adjit.ops.declare import Movement, Overlap, check_axes
from adjit_runtime.errors import DTypeError, ShapeError


def windows_in(n: int, size: int, step: int, dilation: int) -> int:
    """How many windows lie in n elements."""
    return max((n - (size - 1) * dilation - 1) // step + 1, 0)


def _check(name: str, x: Array, attrs: Attrs, lists: tuple[str, ...]) -> None:
    axes = attrs["axes"]
    check_axes(name, axes, x.ndim)
    for which in lists:
        found = attrs[which]
        if len(found) != len(axes):
            raise ShapeError(f"{name}: {which} {found} for axes {axes}")
        if min(found, default=1) < (0 if which == "extents" else 1):
            raise ShapeError(f"{name}: {which} {found} must be positive")


def _windows_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    (x,) = types
    _check("windows", x, attrs, ("size", "step", "dilation"))
    shape = list(x.shape)
    for axis, *how in zip(attrs["axes"], attrs["size"], attrs["step"], attrs["dilation"], strict=True):
        shape[axis] = windows_in(x.shape[axis], *how)
    return x.strong.with_shape((*shape, *attrs["size"]))


def _add_windows_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    (g,) = types
    axes = attrs["axes"]
    if g.dtype.kind not in "iuf":
        raise DTypeError(f"add_windows: does not take {dtype_name(g.dtype)}")
    ndim = g.ndim - len(axes)
    if ndim < 0:
        raise ShapeError(f"add_windows: {g} has no windows along axes {axes}")
    shape = list(g.shape[:ndim])
    _check("add_windows", Array(g.dtype, tuple(shape)), attrs, ("extents", "step", "dilation"))
    ways = zip(axes, g.shape[ndim:], attrs["extents"], attrs["step"], attrs["dilation"], strict=True)
    for axis, size, n, step, dilation in ways:
        if shape[axis] != windows_in(n, size, step, dilation):
            raise ShapeError(f"add_windows: {g} has other windows than an axis of {n} has")
        shape[axis] = n
    return g.strong.with_shape(tuple(shape))


def _evaluate_windows(x: Any, *, axes: Ints, size: Ints, step: Ints, dilation: Ints) -> np.ndarray:
    shape, strides = list(x.shape), list(x.strides)
    for axis, *how in zip(axes, size, step, dilation, strict=True):
        shape[axis] = windows_in(x.shape[axis], *how)
        strides[axis] *= how[1]
    inner = [x.strides[axis] * d for axis, d in zip(axes, dilation, strict=True)]
    view = np.lib.stride_tricks.as_strided(x, (*shape, *size), (*strides, *inner), writeable=False)
    return np.array(view)


def _evaluate_add_windows(g: Any, *, axes: Ints, extents: Ints, step: Ints, dilation: Ints) -> np.ndarray:
    ndim = g.ndim - len(axes)
    shape = list(g.shape[:ndim])
    for axis, n in zip(axes, extents, strict=True):
        shape[axis] = n
    total = np.zeros(shape, g.dtype)
    for place in np.ndindex(*g.shape[ndim:]):
        where = [slice(None)] * ndim
        for axis, j, s, d in zip(axes, place, step, dilation, strict=True):
            where[axis] = slice(j * d, j * d + (g.shape[axis] - 1) * s + 1 if g.shape[axis] else j * d, s)
        total[tuple(where)] += g[(..., *place)]
    return total


def _windows_vjp(b: Any, g: Any, y: Any, x: Any, axes: Ints, size: Ints, step: Ints, dilation: Ints) -> tuple[Any]:
    extents = tuple(x.shape[axis] for axis in axes)
    how: dict[str, Ints] = {"axes": axes, "extents": extents, "step": step, "dilation": dilation}
    if g.dtype == BOOL:
        return (b.add_windows(b.cast(g, dtype=I32), **how) > 0,)
    return (b.add_windows(g, **how),)


def _add_windows_vjp(
    b: Any, g: Any, y: Any, x: Any, axes: Ints, extents: Ints, step: Ints, dilation: Ints
) -> tuple[Any]:
    size = x.shape[len(x.shape) - len(axes) :]
    return (b.windows(g, axes=axes, size=size, step=step, dilation=dilation),)


def _windows_axes(shapes: Sequence[Ints], shape: Ints, attrs: Attrs) -> Relation:
    (own,) = shapes
    at: list[Axis] = [Along(i) for i in range(len(own))]
    ways = zip(attrs["axes"], attrs["step"], attrs["dilation"], strict=True)
    for j, (axis, step, dilation) in enumerate(ways, len(own)):
        at[axis] = Mixed((axis, j), (step, dilation))
    return Relation((tuple(at),))


def _add_windows_axes(shapes: Sequence[Ints], shape: Ints, attrs: Attrs) -> Relation:
    (own,) = shapes
    at: list[Axis] = [Along(i) for i in range(len(own))]
    ways = zip(attrs["axes"], attrs["step"], attrs["dilation"], strict=True)
    for j, (axis, step, dilation) in enumerate(ways, len(shape)):
        at[axis] = Mixed((axis, j), (1, -dilation), gap=step)
    return Relation((tuple(at),), own[len(shape) :], filled=True)


def _lifted(attrs: Attrs, n: int) -> Attrs:
    return {**attrs, "axes": tuple(axis + 1 for axis in attrs["axes"])}


windows = register(
    Movement(
        name="windows", kind="movement", arity=1, infer=_windows_type,
        attr_kinds={"axes": "ints", "size": "ints", "step": "ints", "dilation": "ints"},
        axes=_windows_axes, lift=_lifted, evaluate=_evaluate_windows, vjp=_windows_vjp,
    )
)  # fmt: skip
add_windows = register(
    Overlap(
        name="add_windows", kind="overlap", arity=1, infer=_add_windows_type,
        attr_kinds={"axes": "ints", "extents": "ints", "step": "ints", "dilation": "ints"},
        axes=_add_windows_axes, lift=_lifted, evaluate=_evaluate_add_windows, vjp=_add_windows_vjp,
    )
)  # fmt: skip
