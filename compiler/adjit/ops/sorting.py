"""sort and argsort along one axis, both stable: what is equal stays in order, as -0.0 and 0.0 are; NaN is last.

    %1 = argsort %0 axis=1 : i64[8,5]     of f64[8,5]: where in its row each element of the sorted row comes from
    %2 = sort %0 axis=1 : f64[8,5]        %2[i,j] = %0[i,%1[i,j]], to the bit

Sorting is a permutation that stays the same as long as no two elements pass each other, so its derivative is that
permutation: tangents are taken along it, cotangents go back along it. Where elements are equal this is the limit of one
of the orders that they may come in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from adjit.ir.builder import Builder, Value
from adjit.ir.op import Attrs, register
from adjit.ir.types import BOOL, I32, I64, Array, dtype_name
from adjit.ops.declare import Sorting, check_axes
from adjit_runtime.errors import DTypeError

SORTED = ("float32", "float64", "int32", "int64", "uint64")
"""The dtypes that machine code sorts; the tracer casts what is narrower."""


def _sorted_type(name: str, positions: bool) -> Callable[[tuple[Array, ...], Attrs], Array]:
    def infer(types: tuple[Array, ...], attrs: Attrs) -> Array:
        (x,) = types
        check_axes(name, (attrs["axis"],), x.ndim)
        if x.dtype == BOOL or x.dtype == np.dtype(np.uint8):
            raise DTypeError(f"{name}: does not take {dtype_name(x.dtype)}; cast it to int32")
        return Array(I64, x.shape) if positions else x.strong

    return infer


def along_permutation(b: Builder, x: Value, order: Value, axis: int) -> Value:
    """What stands at the positions `order` along an axis of x, for each index of the other axes."""
    last = len(x.shape) - 1
    moved, at = (_with_last(b, value, axis, last) for value in (x, order))
    return _with_last(b, b.take(moved, at, axis=last, batch=last), last, axis)


def _back_along(b: Builder, g: Value, order: Value, axis: int) -> Value:
    """The array of which g is what stands at the positions `order`, each position once."""
    last = len(g.shape) - 1
    moved, at = (_with_last(b, value, axis, last) for value in (g, order))
    back = b.scatter_add(b.full(0, moved), at, moved, axis=last, batch=last)
    return _with_last(b, back, last, axis)


def _with_last(b: Builder, x: Value, axis: int, to: int) -> Value:
    if axis == to:
        return x
    order = [i for i in range(len(x.shape)) if i != axis]
    order.insert(to, axis)
    return b.transpose(x, axes=tuple(order))


def _sort_vjp(b: Builder, g: Value, y: Value, x: Value, axis: int) -> tuple[Value]:
    order = b.argsort(x, axis=axis)
    if g.dtype == BOOL:
        return (_back_along(b, b.cast(g, dtype=I32), order, axis) > 0,)
    return (_back_along(b, g, order, axis),)


def _sort_jvp(b: Builder, tangents: Sequence[Value], y: Value, x: Value, axis: int) -> Value:
    (dx,) = tangents
    return along_permutation(b, dx, b.argsort(x, axis=axis), axis)


sort = register(
    Sorting(
        name="sort", kind="sorting", arity=1, infer=_sorted_type("sort", False), attr_kinds={"axis": "int"},
        evaluate=lambda x, *, axis: np.sort(x, axis=axis, kind="stable"), vjp=_sort_vjp, jvp=_sort_jvp,
    )
)  # fmt: skip
argsort = register(
    Sorting(
        name="argsort", kind="sorting", arity=1, infer=_sorted_type("argsort", True), attr_kinds={"axis": "int"},
        evaluate=lambda x, *, axis: np.argsort(x, axis=axis, kind="stable"), gives_positions=True, exempt="positions",
    )
)  # fmt: skip
