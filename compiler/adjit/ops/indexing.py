"""Indexing by values: check_index, take, scatter_add, scatter; check_fits, for integers that come from Python, and
check_holds, for what else must be true.

The first `batch` axes of take and the scatters belong to operand and index alike: each entry has an index of its own.
Indices are checked once, by `check_index`, which also counts negative ones from the end; `take` and the scatters
then assume 0 <= index < size. The tracer lowers NumPy's indexing by several arrays to one linear index.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from adjit.ir.axes import Axis, Indexed, Ints, Relation, along
from adjit.ir.builder import Builder, Value
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


def _evaluate_check(index: np.ndarray, *, size: int, axis: int) -> np.ndarray:
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


def _evaluate_fits(x: np.ndarray, *, dtype: np.dtype) -> np.ndarray:
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


def _evaluate_holds(x: np.ndarray, holds: np.ndarray, *, error: str, text: str) -> np.ndarray:
    if not holds:
        raise getattr(errors, error)(text)
    return np.asarray(x)


def _shapes_of_take(x: Ints, index: Ints, axis: int, batch: int) -> Ints:
    """The shape of what is taken: the batch, what stands before the axis, the index, what stands after it."""
    return (*x[:axis], *index[batch:], *x[axis + 1 :])


def _check_batch(name: str, x: Array, index: Array, axis: int, batch: int) -> None:
    check_axes(name, (axis,), x.ndim)
    if index.dtype != I64:
        raise DTypeError(f"{name}: the index is i64, not {index}")
    if not 0 <= batch <= min(axis, index.ndim) or x.shape[:batch] != index.shape[:batch]:
        raise ShapeError(f"{name}: {x} and {index} do not share {batch} axes ahead of axis {axis}")


def _take_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    x, index = types
    axis, batch = attrs["axis"], attrs.get("batch", 0)
    _check_batch("take", x, index, axis, batch)
    return x.with_shape(_shapes_of_take(x.shape, index.shape, axis, batch))


def _scatter_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    x, index, update = types
    axis, batch = attrs["axis"], attrs.get("batch", 0)
    _check_batch("scatter", x, index, axis, batch)
    if update.dtype != x.dtype or update.shape != _shapes_of_take(x.shape, index.shape, axis, batch):
        raise ShapeError(f"scatter: {update} does not fit {x} at {index} along axis {axis}")
    return x.strong


def _places(x: np.ndarray, index: np.ndarray, axis: int, batch: int) -> tuple[Any, ...]:
    """The index of NumPy that names, for each element of what is taken, where it stands."""
    shape, rank = _shapes_of_take(np.shape(x), np.shape(index), axis, batch), np.ndim(index) - batch
    along = [n for i, n in enumerate(shape) if not axis <= i < axis + rank]
    grids = np.ix_(*map(np.arange, along)) if along else ()
    stretched = [np.reshape(grid, (*np.shape(grid)[:axis], *(1,) * rank, *np.shape(grid)[axis:])) for grid in grids]
    at = np.reshape(index, (*np.shape(index)[:batch], *(1,) * (axis - batch), *np.shape(index)[batch:],
                            *(1,) * (np.ndim(x) - axis - 1)))  # fmt: skip
    return (*stretched[:axis], at, *stretched[axis:])


def _evaluate_take(x: np.ndarray, index: np.ndarray, *, axis: int, batch: int = 0) -> np.ndarray:
    return np.asarray(x)[_places(x, index, axis, batch)] if batch else np.take(x, index, axis=axis)


def _evaluate_scatter_add(
    x: np.ndarray, index: np.ndarray, update: np.ndarray, *, axis: int, batch: int = 0
) -> np.ndarray:
    result = np.array(x)
    np.add.at(result, _places(x, index, axis, batch), update)
    return result


def _evaluate_scatter(x: np.ndarray, index: np.ndarray, update: np.ndarray, *, axis: int, batch: int = 0) -> np.ndarray:
    result = np.array(x)
    places = np.broadcast_arrays(*_places(x, index, axis, batch))
    # One after another, so that the last of several updates of one element stands, as in machine code.
    for position in np.ndindex(*np.shape(update)):
        result[tuple(int(place[position]) for place in places)] = update[position]
    return result


def _take_vjp(b: Builder, g: Value, y: Value, x: Value, index: Value, axis: int, batch: int = 0) -> tuple[Value, None]:
    return (b.scatter_add(b.full(0.0, x), index, g, axis=axis, batch=batch), None)


def _scatter_vjp(
    b: Builder, g: Value, y: Value, x: Value, index: Value, update: Value, axis: int, batch: int = 0
) -> tuple[Value, None, Value]:
    """x where nothing was written; an update where it is the last one of its element.

    What a single place is written with takes as many steps as it has elements, however large x is."""
    kept = b.scatter(g, index, b.full(0.0, update), axis=axis, batch=batch)
    taken = b.take(g, index, axis=axis, batch=batch)
    if math.prod(index.shape[batch:]) <= 1:
        return (kept, None, taken)
    last = _are_last(b, index, x.shape[axis], batch)
    axes = (*range(batch), *range(axis, axis + len(index.shape) - batch))
    return (kept, None, b.select(b.broadcast(last, shape=update.shape, axes=axes), taken, 0.0))


def _are_last(b: Builder, index: Value, size: int, batch: int) -> Value:
    """Whether no later one of the indices of a row of the batch, each of `size`, is the same."""
    lead, count = index.shape[:batch], math.prod(index.shape[batch:])
    flat = b.reshape(index, shape=(*lead, count))
    if count * count <= size:
        # Each with each: so few are compared sooner than an array of the whole size is filled.
        pairs = (*lead, count, count)
        ahead, behind = (b.broadcast(flat, shape=pairs, axes=(*range(batch), batch + k)) for k in range(2))
        number, other = (b.iota(shape=pairs, axis=batch + k, dtype=I64) for k in range(2))
        last = ~b.any(ahead.eq(behind) & (number < other), axes=(batch + 1,))
    else:
        order = b.iota(shape=flat.shape, axis=batch, dtype=I64)
        winner = b.scatter(b.full(-1, Array(I64, (*lead, size))), flat, order, axis=batch, batch=batch)
        last = b.take(winner, flat, axis=batch, batch=batch).eq(order)
    return b.reshape(last, shape=index.shape)


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
    (x, index), axis, batch = shapes, attrs["axis"], attrs.get("batch", 0)
    after = axis + len(index) - batch
    source: tuple[Axis, ...] = (*along(range(axis)), Indexed(by=1), *along(range(after, after + len(x) - axis - 1)))
    return Relation((source, along([*range(batch), *range(axis, after)])))


def _scatter_axes(shapes: Sequence[Ints], shape: Ints, attrs: Attrs) -> Relation:
    (x, index, _), axis, batch = shapes, attrs["axis"], attrs.get("batch", 0)
    # An update, wherever it goes: its axes of the index are dimensions of their own.
    block = range(len(x), len(x) + len(index) - batch)
    update = along([*range(axis), *block, *range(axis + 1, len(x))])
    return Relation((along(range(len(x))), along([*range(batch), *block]), update), index[batch:])


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
        name="take", kind="gather", arity=2, infer=_take_type, attr_kinds={"axis": "int", "batch": "count"},
        axes=_take_axes, evaluate=_evaluate_take, vjp=_take_vjp, linear=((0,),),
    )
)  # fmt: skip
scatter_add = register(
    Indexing(
        name="scatter_add", kind="scatter", arity=3, infer=_scatter_type,
        attr_kinds={"axis": "int", "batch": "count"},
        axes=_scatter_axes, adds=True, evaluate=_evaluate_scatter_add, linear=((0, 2),),
        vjp=lambda b, g, y, x, index, update, axis, batch=0: (g, None, b.take(g, index, axis=axis, batch=batch)),
    )
)  # fmt: skip
scatter = register(
    Indexing(
        name="scatter", kind="scatter", arity=3, infer=_scatter_type,
        attr_kinds={"axis": "int", "batch": "count"},
        axes=_scatter_axes, evaluate=_evaluate_scatter, vjp=_scatter_vjp, linear=((0, 2),),
    )
)  # fmt: skip
