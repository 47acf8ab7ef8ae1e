"""Reductions along axes, positions of extrema, and running sums and products."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

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


def broadcast_back(b: Any, reduced: Any, axes: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """A reduced Value back in the shape before the reduction."""
    kept = tuple(i for i in range(len(shape)) if i not in axes)
    return b.broadcast(reduced, shape=shape, axes=kept)


def _extremum_vjp(b: Any, g: Any, y: Any, x: Any, axes: tuple[int, ...]) -> tuple[Any]:
    """Elements that equal the extremum share its cotangent equally."""
    hit = x.eq(broadcast_back(b, y, axes, x.shape))
    count = b.sum(b.cast(hit, dtype=x.dtype), axes=axes)
    return (b.select(hit, broadcast_back(b, g / count, axes, x.shape), 0.0),)


def _prod_vjp(b: Any, g: Any, y: Any, x: Any, axes: tuple[int, ...]) -> tuple[Any]:
    """Products of all other elements from both sides, so that zeros are right."""
    kept = tuple(i for i in range(len(x.shape)) if i not in axes)
    sizes = tuple(x.shape[i] for i in kept)
    length = math.prod(x.shape[i] for i in axes)
    turned = b.reshape(b.transpose(x, axes=kept + axes), shape=(*sizes, length))
    others = _others(b, turned)
    spread = b.broadcast(g, shape=(*sizes, length), axes=tuple(range(len(kept)))) * others
    back = b.reshape(spread, shape=sizes + tuple(x.shape[i] for i in axes))
    inverse = tuple(int(i) for i in np.argsort(kept + axes))
    return (b.transpose(back, axes=inverse),)


def _others(b: Any, x: Any) -> Any:
    """For each element of the last axis, the product of the others."""
    last = len(x.shape) - 1
    n = x.shape[last]
    if n == 0:
        return x
    zeros = (0,) * last
    ones = tuple(x.shape)
    shifted_up = b.pad(
        b.slice(x, start=(*zeros, 0), stop=(*ones[:last], n - 1), step=(1,) * (last + 1)),
        low=(*zeros, 1), high=(*zeros, 0), interior=(0,) * (last + 1), value=1.0,
    )  # fmt: skip
    shifted_down = b.pad(
        b.slice(x, start=(*zeros, 1), stop=(*ones[:last], n), step=(1,) * (last + 1)),
        low=(*zeros, 0), high=(*zeros, 1), interior=(0,) * (last + 1), value=1.0,
    )  # fmt: skip
    before = b.cumprod(shifted_up, axis=last, reverse=False)
    after = b.cumprod(shifted_down, axis=last, reverse=True)
    return before * after


def _cumprod_vjp(b: Any, g: Any, y: Any, x: Any, axis: int, reverse: bool) -> tuple[Any]:
    """dL/dx_i = sum_j>=i g_j prod_{k<=j, k!=i} x_k, by the n x n table of partial products: right where x is 0."""
    n = x.shape[axis]
    last = len(x.shape) - 1
    order = (*(i for i in range(len(x.shape)) if i != axis), axis)
    turned, cotangent = b.transpose(x, axes=order), b.transpose(g, axes=order)
    if reverse:
        turned, cotangent = b.flip(turned, axes=(last,)), b.flip(cotangent, axes=(last,))
    lead = turned.shape[:last]
    table = b.broadcast(turned, shape=(*lead, n, n), axes=(*range(last), last + 1))
    row = b.iota(shape=(*lead, n, n), axis=last, dtype=np.dtype(np.int64))
    column = b.iota(shape=(*lead, n, n), axis=last + 1, dtype=np.dtype(np.int64))
    partial = b.cumprod(b.select(row.eq(column), 1.0, table), axis=last + 1, reverse=False)
    weights = b.broadcast(cotangent, shape=(*lead, n, n), axes=(*range(last), last + 1))
    result = b.sum(b.select(column >= row, weights * partial, 0.0), axes=(last + 1,))
    if reverse:
        result = b.flip(result, axes=(last,))
    return (b.transpose(result, axes=tuple(int(i) for i in np.argsort(order))),)


def _flip_along(x: np.ndarray, axis: int, reverse: bool) -> np.ndarray:
    return np.flip(x, axis) if reverse else x


sum_ = register(
    Reduction(
        name="sum", kind="reduction", arity=1, infer=_reduced("sum", "iuf"), attr_kinds={"axes": "ints"},
        evaluate=lambda x, *, axes: np.sum(x, axis=axes, dtype=x.dtype),
        identity=lambda dtype: 0, combine=lambda k, x, y: x + y,
        vjp=lambda b, g, y, x, axes: (broadcast_back(b, g, axes, x.shape),),
    )
)  # fmt: skip
prod = register(
    Reduction(
        name="prod", kind="reduction", arity=1, infer=_reduced("prod", "iuf"), attr_kinds={"axes": "ints"},
        evaluate=lambda x, *, axes: np.prod(x, axis=axes, dtype=x.dtype),
        identity=lambda dtype: 1, combine=lambda k, x, y: x * y, vjp=_prod_vjp,
    )
)  # fmt: skip
max_ = register(
    Reduction(
        name="max", kind="reduction", arity=1, infer=_reduced("max", "iuf"), attr_kinds={"axes": "ints"},
        evaluate=lambda x, *, axes: np.max(x, axis=axes), combine=lambda k, x, y: k.maximum(x, y),
        identity=lambda dtype: -np.inf if dtype.kind == "f" else np.iinfo(dtype).min, vjp=_extremum_vjp,
    )
)  # fmt: skip
min_ = register(
    Reduction(
        name="min", kind="reduction", arity=1, infer=_reduced("min", "iuf"), attr_kinds={"axes": "ints"},
        evaluate=lambda x, *, axes: np.min(x, axis=axes), combine=lambda k, x, y: k.minimum(x, y),
        identity=lambda dtype: np.inf if dtype.kind == "f" else np.iinfo(dtype).max, vjp=_extremum_vjp,
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
        evaluate=lambda x, *, axis, reverse: _flip_along(
            np.cumsum(_flip_along(x, axis, reverse), axis=axis, dtype=x.dtype), axis, reverse
        ),
        identity=lambda dtype: 0, combine=lambda k, x, y: x + y,
        vjp=lambda b, g, y, x, axis, reverse: (b.cumsum(g, axis=axis, reverse=not reverse),),
    )
)  # fmt: skip
cumprod = register(
    Reduction(
        name="cumprod", kind="running", arity=1, infer=_running_type, attr_kinds={"axis": "int", "reverse": "bool"},
        evaluate=lambda x, *, axis, reverse: _flip_along(
            np.cumprod(_flip_along(x, axis, reverse), axis=axis, dtype=x.dtype), axis, reverse
        ),
        identity=lambda dtype: 1, combine=lambda k, x, y: x * y, vjp=_cumprod_vjp,
    )
)  # fmt: skip
