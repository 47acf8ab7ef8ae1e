"""Operands become nodes, and nodes tracers: constants, casts, promotion, broadcasting, and ops that give new arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from adjit.ir.builder import Builder
from adjit.ir.node import Node
from adjit.ir.ranges import reshaped
from adjit.ir.types import BOOL, COMPILED_DTYPES, Array, Tuple, dtype_name
from adjit.trace import refuse
from adjit.trace.context import Trace, current_trace
from adjit.trace.handle import Strides, broadcasted, c_strides, common_shape, is_c_ordered
from adjit.trace.known import known
from adjit.trace.locate import locate
from adjit.trace.promote import check_dtype, check_fits, log_weak, resolve, type_of
from adjit.trace.table import name_of
from adjit.trace.tracer import Tracer, fresh, node_of, plain_of
from adjit_runtime.errors import AdjitError
from adjit_runtime.program import is_narrow


def active() -> Trace:
    """The trace under way."""
    trace = current_trace()
    if trace is None:
        raise refuse.trace_error("there is no trace under way: traced values live inside the function that is traced")
    return trace


def builder() -> Builder:
    """The builder of the trace under way; its next nodes carry the user's place."""
    b = active().builder
    b.loc = locate()
    return b


def shape_of(x: Any) -> tuple[int, ...]:
    """The shape of an operand."""
    return type_of(x).shape


def dtype_of(x: Any) -> np.dtype:
    """The dtype of an operand; bool, int64 or float64 for a Python number."""
    return type_of(x).dtype


def lift(x: Any) -> Node:
    """The node of an operand; a Python number is a weak constant."""
    if isinstance(x, Tracer):
        return node_of(x)
    if isinstance(x, list | tuple):
        return node_of(as_tracer(x))
    found = type_of(x)
    if isinstance(x, int) and not isinstance(x, bool):
        check_fits(x, found.dtype)
    if isinstance(x, np.ndarray) and x.ndim:
        return _constant_node(x)
    check_dtype("a constant", found.dtype)
    return builder().splat(x, found)


def _constant_node(array: np.ndarray) -> Node:
    if array.dtype.kind not in "biuf":
        raise refuse.no_code(f"a constant of dtype {array.dtype} cannot meet a traced array")
    check_dtype("a constant", array.dtype.newbyteorder("="))
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return active().constant(array, locate())


def emit(op: str, *operands: Any, **attrs: Any) -> Any:
    """Record an op; its operands fit its type rule. A Tracer, or a list of them for an op with several results."""
    nodes = [lift(x) for x in operands]
    b = builder()
    try:
        node = b.emit(op, *nodes, **attrs)
    except AdjitError as error:
        raise refuse.relocated(error) from None
    if isinstance(node.type, Tuple):
        return [fresh(b.emit("item", node, index=i)) for i in range(len(node.type.items))]
    return fresh(node)


def as_tracer(x: Any, like: Any = None) -> Tracer:
    """An operand as a tracer. Nested lists are stacked. `like` gives its dtype to a weak value."""
    if isinstance(x, list | tuple):
        result = _from_nested(x)
    else:
        result = x if isinstance(x, Tracer) else fresh(lift(x), _strides_of_plain(x))
    if like is not None and result.type.weak:
        target = type_of(like)
        return cast(result, target.dtype) if not target.weak else result
    return result


def _strides_of_plain(x: Any) -> Strides | None:
    if not isinstance(x, np.ndarray):
        return None
    return c_strides(x.shape) if x.flags.c_contiguous else None


def _from_nested(items: Sequence[Any]) -> Tracer:
    if not any(map(_holds_tracer, items)):
        return as_tracer(np.asarray(items))
    parts = common(*(as_tracer(item) for item in items))
    shape = parts[0].type.shape
    if any(part.type.shape != shape for part in parts):
        raise refuse.shape_error(f"a list of arrays of different shapes: {', '.join(str(p.type) for p in parts)}")
    b = builder()
    rows = [reshaped(b, node_of(part), (1, *shape)) for part in parts]
    return fresh(rows[0] if len(rows) == 1 else b.emit("concatenate", *rows, axis=0), c_strides((len(rows), *shape)))


def _holds_tracer(x: Any) -> bool:
    return isinstance(x, Tracer) or (isinstance(x, list | tuple) and any(map(_holds_tracer, x)))


def constant(array: Any) -> Tracer:
    """An array as a constant of the graph."""
    return fresh(lift(np.asarray(array)), c_strides(np.shape(array)))


def full(value: Any, shape: Sequence[int], dtype: Any) -> Tracer:
    """An array with one value in every element; `value` may be a traced scalar."""
    shape, dtype = tuple(shape), np.dtype(dtype)
    check_dtype("np.full", dtype)
    if isinstance(value, Tracer):
        node = broadcasted(builder(), lift(cast(value, dtype)), shape)
    else:
        if type(value) is int:
            check_fits(value, dtype)
        node = builder().splat(value, Array(dtype, shape))
    return fresh(node, c_strides(shape))


def iota(shape: Sequence[int], axis: int, dtype: Any) -> Tracer:
    """The position along `axis` in every element."""
    return c_ordered(emit("iota", shape=tuple(shape), axis=axis, dtype=np.dtype(dtype)))


def cast(x: Any, dtype: Any) -> Tracer:
    """An operand in another dtype, not weak; itself where it has it already."""
    dtype = np.dtype(dtype)
    source = as_tracer(x)
    plain = plain_of(source)
    if plain is not None and dtype in COMPILED_DTYPES:
        return source if plain.dtype == dtype else known(plain.astype(dtype))
    if source.type.dtype == dtype and not source.type.weak:
        return source
    if dtype.kind not in "biuf":
        raise refuse.no_code(f"a cast of {source.type} to {dtype} is not supported")
    check_dtype(f"a cast to {dtype_name(dtype)}", dtype, (source,))
    return fresh(_cast_node(builder(), node_of(source), dtype), _c_strides_if(source))


def _cast_node(b: Builder, node: Node, dtype: np.dtype, weak: bool = False) -> Node:
    found = node.array_type
    if found.dtype == dtype and found.weak == weak:
        return node
    if node.is_splat:
        return b.splat(node.attrs["value"], Array(dtype, found.shape, weak))
    return b.emit("cast", node, dtype=dtype, weak=True) if weak else b.emit("cast", node, dtype=dtype)


def strong(x: Any) -> Tracer:
    """An operand that no longer takes the dtype of the array that it meets."""
    return cast(x, dtype_of(x))


def weak_cast(x: Any, dtype: np.dtype) -> Tracer:
    """A weak scalar in another of Python's dtypes, still weak."""
    return fresh(_cast_node(builder(), lift(x), dtype, weak=True))


def _c_strides_if(*operands: Any) -> Strides | None:
    """C order for what is computed element by element from C-ordered operands; None where one has an unknown order."""
    shapes = []
    for x in operands:
        found = type_of(x)
        strides = x._adjit_strides if isinstance(x, Tracer) else _strides_of_plain(x)
        if not is_c_ordered(found.shape, strides):
            return None
        shapes.append(found.shape)
    return c_strides(common_shape(*shapes))


def c_ordered(x: Tracer) -> Tracer:
    """Say of an array of its own that NumPy gives it in C order, so that a reshape of it is certainly a view."""
    x._adjit_strides = c_strides(x.type.shape)
    return x


def broadcast_shapes(what: str, *operands: Array | Sequence[int]) -> tuple[int, ...]:
    """NumPy's common shape of types, or of shapes; raises ShapeError, which names `what` and all of them."""
    try:
        return common_shape(*(x.shape if isinstance(x, Array) else x for x in operands))
    except ValueError as error:
        raise refuse.broadcast(what, [x if isinstance(x, Array) else tuple(x) for x in operands], str(error)) from None


def convert(x: Any, dtype: np.dtype, shape: tuple[int, ...], weak: bool = False) -> Tracer:
    """An operand in the dtype and shape that an op computes in. A number becomes a constant of that type at once."""
    b = builder()
    if not isinstance(x, Tracer) and np.ndim(x) == 0:
        if isinstance(x, int) and not isinstance(x, bool):
            check_fits(x, dtype)
        return fresh(b.splat(x, Array(dtype, shape, weak)))
    node = lift(x)
    if node.array_type.weak and node.dtype.kind == "i" and dtype.kind in "iu" and node.dtype != dtype:
        node = b.emit("check_fits", node, dtype=dtype)
    return fresh(broadcasted(b, _cast_node(b, node, dtype, weak), shape))


def promote(ufunc: np.ufunc, *operands: Any) -> list[Tracer]:
    """The operands in the dtypes that a ufunc computes in, and in one shape; weak where all are."""
    operands = tuple(as_tracer(x) if isinstance(x, list | tuple) else x for x in operands)
    types = [type_of(x) for x in operands]
    dtypes = resolve(ufunc, types)
    shape = broadcast_shapes(name_of(ufunc), *types)
    weak = all(type.weak for type in types)
    return [convert(x, dtype, shape, weak) for x, dtype in zip(operands, dtypes, strict=False)]


def elementwise(op: str, *operands: Any, ufunc: np.ufunc = np.add) -> Tracer:
    """Broadcast and promote by the ufunc's rule, then record the op."""
    result: Tracer = emit(op, *promote(ufunc, *operands))
    result._adjit_strides = _c_strides_if(*operands)
    return result


def common(*operands: Any) -> list[Tracer]:
    """The operands in their common dtype (`np.result_type`), each in its own shape; weak where all are."""
    types = [type_of(x) for x in operands]
    weak = all(type.weak for type in types)
    try:
        dtype = np.result_type(*(sample(type) for type in types))
    except TypeError as error:
        raise refuse.dtype_error(f"{' and '.join(map(str, types))}: {error}") from None
    if not is_narrow(dtype) or all(type.dtype != dtype for type in types):
        # A narrow dtype that operands have is carried as the wide one, if nothing computes in it.
        check_dtype("the common dtype", dtype, types)
    return [convert(x, dtype, type.shape, weak) for x, type in zip(operands, types, strict=True)]


def sample(type: Array) -> Any:
    """What `np.result_type` takes for an operand: its dtype, or a Python number where it is weak."""
    if not type.weak:
        return type.dtype
    return {"b": np.dtype(bool), "i": 0, "f": 0.0}[type.dtype.kind]


def select(condition: Any, x: Any, y: Any) -> Tracer:
    """`np.where`: broadcast all three, promote x and y; weak where all three are."""
    condition = as_tracer(condition)
    if condition.type.dtype != BOOL:
        condition = elementwise("ne", condition, 0, ufunc=np.not_equal)
    log_weak("np.where", (condition, x, y))
    given = [type_of(x), type_of(y)]
    x, y = common(x, y)
    shape = broadcast_shapes("np.where", condition.type, *given)
    weak = condition.type.weak and x.type.weak
    parts = (convert(condition, BOOL, shape, weak), convert(x, x.type.dtype, shape, weak),
             convert(y, y.type.dtype, shape, weak))  # fmt: skip
    result: Tracer = emit("select", *parts)
    result._adjit_strides = _c_strides_if(condition, x, y)
    return result


def pad(
    x: Any, low: Sequence[int], high: Sequence[int], value: Any = 0, interior: Sequence[int] | None = None
) -> Tracer:
    """`x` with `low` and `high` elements of `value` around it, and `interior` ones between neighbours."""
    within = (0,) * len(low) if interior is None else tuple(interior)
    padding: Tracer = emit("pad", x, low=tuple(low), high=tuple(high), interior=within, value=value)
    return c_ordered(padding)


def concatenate(xs: Sequence[Any], axis: int) -> Tracer:
    """Arrays of one dtype, one after another along `axis`."""
    xs = [as_tracer(x) for x in xs]
    if len(xs) == 1:
        return fresh(node_of(xs[0]), c_strides(xs[0].type.shape))
    known = all(is_c_ordered(x.type.shape, x._adjit_strides) for x in xs)
    joined: Tracer = emit("concatenate", *xs, axis=axis)
    return c_ordered(joined) if known else joined


def slice_(x: Any, start: Sequence[int], stop: Sequence[int], step: Sequence[int] | None = None) -> Tracer:
    """A box of `x`, with bounds already counted from the front; an array of its own."""
    steps = (1,) * len(start) if step is None else tuple(step)
    result: Tracer = emit("slice", x, start=tuple(start), stop=tuple(stop), step=steps)
    return result


def normalize_axis(axis: Any, ndim: int) -> int:
    """An axis counted from the front; raises ShapeError (NumPy's AxisError is a ValueError too)."""
    if isinstance(axis, Tracer):
        raise refuse.index(node_of(axis))
    try:
        position = int(axis.__index__())
    except (AttributeError, TypeError):
        raise refuse.trace_error(f"an axis is an integer, not {axis!r}", numpy_too=True) from None
    if not -ndim <= position < ndim:
        raise refuse.shape_error(f"axis {position} is out of bounds for array of dimension {ndim}")
    return position % ndim


def normalize_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Axes counted from the front, sorted; all of them for None."""
    if axis is None:
        return tuple(range(ndim))
    axes = [normalize_axis(i, ndim) for i in (axis if isinstance(axis, tuple | list) else (axis,))]
    if len(set(axes)) != len(axes):
        raise refuse.shape_error(f"an axis stands twice in {axis}")
    return tuple(sorted(axes))
