"""Indexing by values: check_index, take, scatter_add, scatter; check_fits, for integers that come from Python, and
check_holds, for what else must be true.

Indices are checked once, by `check_index`, which also counts negative ones from the end; `take` and the scatters
then assume 0 <= index < size. The tracer lowers NumPy's indexing by several arrays to one linear index.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from adjit.ir.axes import Axis, Indexed, Ints, Relation, along
from adjit.ir.op import Attrs, register
from adjit.ir.types import BOOL, I64, Array
from adjit.ops.declare import Checked, Condition, Indexing, check_axes
from adjit_runtime import errors
from adjit_runtime.errors import DTypeError, IndexOutOfRange, ShapeError, WeakOverflowError


def _check_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    (index,) = types
    if index.dtype.kind not in "iu":
        raise DTypeError(f"check_index: an index is an integer, not {index}")
    return Array(I64, index.shape)


def _evaluate_check(index: Any, *, size: int, axis: int) -> np.ndarray:
    bad = (index < -size) | (index >= size)
    if np.any(bad):
        first = np.asarray(index)[bad].ravel()[0]
        raise IndexOutOfRange(f"index {int(first)} is out of bounds for axis {axis} with size {size}")
    signed = np.asarray(index).astype(np.int64)
    return np.where(signed < 0, signed + size, signed)


def _fits_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    (x,) = types
    dtype = attrs["dtype"]
    if x.dtype != I64 or dtype.kind not in "iu":
        raise DTypeError(f"check_fits: from i64 to another integer, not {x} to {dtype}")
    return Array(dtype, x.shape)


def _evaluate_fits(x: Any, *, dtype: np.dtype) -> np.ndarray:
    limits = np.iinfo(dtype)
    values = np.asarray(x)
    bad = (values < limits.min) | (values > limits.max)
    if np.any(bad):
        found = int(values[bad].ravel()[0])
        raise WeakOverflowError(f"Python integer {found} out of bounds for {dtype.name}: cast the array with .astype")
    return values.astype(dtype)


def _holds_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    x, holds = types
    if x.dtype.kind not in "iu":
        raise DTypeError(f"check_holds: of an integer, not {x}")
    if holds.dtype != BOOL or holds.shape != ():
        raise DTypeError(f"check_holds: asks one bool, not {holds}")
    return x


def _evaluate_holds(x: Any, holds: Any, *, error: str, text: str) -> np.ndarray:
    if not holds:
        raise getattr(errors, error)(text)
    return np.asarray(x)


def _take_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    x, index = types
    axis = attrs["axis"]
    check_axes("take", (axis,), x.ndim)
    if index.dtype != I64:
        raise DTypeError(f"take: the index is i64, not {index}")
    return x.with_shape(x.shape[:axis] + index.shape + x.shape[axis + 1 :])


def _scatter_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    x, index, update = types
    axis = attrs["axis"]
    check_axes("scatter", (axis,), x.ndim)
    if index.dtype != I64:
        raise DTypeError(f"scatter: the index is i64, not {index}")
    if update.dtype != x.dtype or update.shape != x.shape[:axis] + index.shape + x.shape[axis + 1 :]:
        raise ShapeError(f"scatter: {update} does not fit {x} at {index} along axis {axis}")
    return x.strong


def _at(axis: int, index: Any) -> tuple[Any, ...]:
    return (slice(None),) * axis + (index,)


def _evaluate_scatter_add(x: Any, index: Any, update: Any, *, axis: int) -> np.ndarray:
    result = np.array(x)
    np.add.at(result, _at(axis, index), update)
    return result


def _evaluate_scatter(x: Any, index: Any, update: Any, *, axis: int) -> np.ndarray:
    result = np.array(x)
    # One after another, so that the last of several updates of one element stands, as in machine code.
    lead: tuple[Any, ...] = (slice(None),) * axis
    for position in np.ndindex(*np.shape(index)):
        result[(*lead, int(index[position]))] = update[(*lead, *position)]
    return result


def _take_vjp(b: Any, g: Any, y: Any, x: Any, index: Any, axis: int) -> tuple[Any, None]:
    return (b.scatter_add(b.full(0.0, x), index, g, axis=axis), None)


def _scatter_vjp(b: Any, g: Any, y: Any, x: Any, index: Any, update: Any, axis: int) -> tuple[Any, None, Any]:
    """x where nothing was written; an update where it is the last one of its element."""
    n = x.shape[axis]
    count = math.prod(index.shape)
    flat = b.reshape(index, shape=(count,))
    order = b.iota(shape=(count,), axis=0, dtype=I64)
    winner = b.scatter(b.full(-1, Array(I64, (n,))), flat, order, axis=0)
    kept = b.broadcast(winner < 0, shape=x.shape, axes=(axis,))
    last = b.reshape(b.take(winner, flat, axis=0).eq(order), shape=index.shape)
    axes = tuple(range(axis, axis + len(index.shape)))
    alive = b.broadcast(last, shape=update.shape, axes=axes)
    return (b.select(kept, g, 0.0), None, b.select(alive, b.take(g, index, axis=axis), 0.0))


def _index_condition(attrs: Attrs, dtype: np.dtype) -> Condition:
    size, axis = attrs["size"], attrs["axis"]
    return Condition("IndexOutOfRange", "index ", f" is out of bounds for axis {axis} with size {size}", -size, size)


def _fits_condition(attrs: Attrs, dtype: np.dtype) -> Condition:
    limits = np.iinfo(dtype)
    after = f" out of bounds for {dtype.name}: cast the array with .astype"
    # The operand is int64: one above its largest would wrap.
    most = min(int(limits.max) + 1, 2**63 - 1)
    return Condition("WeakOverflowError", "Python integer ", after, int(limits.min), most)


def _holds_condition(attrs: Attrs, dtype: np.dtype) -> Condition:
    return Condition(attrs["error"], attrs["text"], None, 1, 2)


def _take_axes(shapes: Sequence[Ints], shape: Ints, attrs: Attrs) -> Relation:
    (x, index), axis = shapes, attrs["axis"]
    behind = axis + len(index)
    source: tuple[Axis, ...] = (*along(range(axis)), Indexed(by=1), *along(range(behind, behind + len(x) - axis - 1)))
    return Relation((source, along(range(axis, behind))))


def _scatter_axes(shapes: Sequence[Ints], shape: Ints, attrs: Attrs) -> Relation:
    (x, index, _), axis = shapes, attrs["axis"]
    # An update, wherever it goes: its axes of the index are dimensions of their own.
    block = range(len(x), len(x) + len(index))
    update = along([*range(axis), *block, *range(axis + 1, len(x))])
    return Relation((along(range(len(x))), along(block), update), index)


check_index = register(
    Checked(
        name="check_index", kind="check", arity=1, infer=_check_type, attr_kinds={"size": "int", "axis": "int"},
        condition=_index_condition, counts_back=True, evaluate=_evaluate_check, exempt="an index",
    )
)  # fmt: skip
check_fits = register(
    Checked(
        name="check_fits", kind="check", arity=1, infer=_fits_type, attr_kinds={"dtype": "dtype"},
        condition=_fits_condition, evaluate=_evaluate_fits, exempt="an integer",
    )
)  # fmt: skip
check_holds = register(
    Checked(
        name="check_holds", kind="check", arity=2, infer=_holds_type, attr_kinds={"error": "str", "text": "str"},
        condition=_holds_condition, evaluate=_evaluate_holds, exempt="an integer",
    )
)  # fmt: skip
take = register(
    Indexing(
        name="take", kind="gather", arity=2, infer=_take_type, attr_kinds={"axis": "int"},
        axes=_take_axes, evaluate=lambda x, index, *, axis: np.take(x, index, axis=axis), vjp=_take_vjp,
    )
)  # fmt: skip
scatter_add = register(
    Indexing(
        name="scatter_add", kind="scatter", arity=3, infer=_scatter_type, attr_kinds={"axis": "int"},
        axes=_scatter_axes, adds=True, evaluate=_evaluate_scatter_add,
        vjp=lambda b, g, y, x, index, update, axis: (g, None, b.take(g, index, axis=axis)),
    )
)  # fmt: skip
scatter = register(
    Indexing(
        name="scatter", kind="scatter", arity=3, infer=_scatter_type, attr_kinds={"axis": "int"},
        axes=_scatter_axes, evaluate=_evaluate_scatter, vjp=_scatter_vjp,
    )
)  # fmt: skip
