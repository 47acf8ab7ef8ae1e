"""The vocabulary in which the function table is written: IR ops on tracers, with NumPy's broadcasting and promotion.

Operands are tracers, arrays, NumPy or Python scalars. What is a view in NumPy is a view here (`reshape`, `transpose`,
`getitem`, `flip`, `expand_dims`, `squeeze`, `broadcast_to`); the rest gives arrays of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from adjit.ir.builder import Builder
from adjit.ir.node import Node
from adjit.ir.types import BOOL, Array, Tuple, dtype_name
from adjit.trace import refuse
from adjit.trace.context import Trace, current_trace
from adjit.trace.handle import (
    Broadcast,
    Opaque,
    Reshape,
    Step,
    Strides,
    Transpose,
    broadcasted,
    c_strides,
    is_c_ordered,
    merges_axes,
    reshape_strides,
)
from adjit.trace.indexing import Gather, Parsed, parse
from adjit.trace.locate import locate
from adjit.trace.promote import check_dtype, check_fits, resolve, type_of
from adjit.trace.tracer import Tracer, fresh, is_tracer, localize, make, maybe_of, node_of
from adjit_runtime.errors import AdjitError

__all__ = [
    "as_tracer", "broadcast_shapes", "broadcast_to", "c_ordered", "cast", "common", "concatenate", "constant",
    "convert", "copy", "dtype_of", "elementwise", "emit", "expand_dims", "flip", "full", "getitem", "iota", "is_tracer",
    "lift", "maybe_view", "normalize_axes", "normalize_axis", "pad", "promote", "reshape", "select", "shape_of",
    "slice_", "squeeze", "store", "strong", "transpose", "type_of",
]  # fmt: skip


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
    if type(array) is not np.ndarray and not isinstance(array, np.memmap):
        raise refuse.trace_error(
            f"{type(array).__module__}.{type(array).__name__} has rules of its own, which a trace does not know: "
            "write np.asarray(a)"
        )
    if array.dtype.kind not in "biuf":
        raise refuse.dtype_error(f"a constant of dtype {array.dtype} cannot meet a traced array")
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
    return concatenate([expand_dims(part, (0,)) for part in parts], axis=0)


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
        node = builder().splat(value, Array(dtype, shape))
    return fresh(node, c_strides(shape))


def iota(shape: Sequence[int], axis: int, dtype: Any) -> Tracer:
    """The position along `axis` in every element."""
    return c_ordered(emit("iota", shape=tuple(shape), axis=axis, dtype=np.dtype(dtype)))


def cast(x: Any, dtype: Any) -> Tracer:
    """An operand in another dtype, not weak; itself where it has it already."""
    dtype = np.dtype(dtype)
    x = as_tracer(x)
    if x.type.dtype == dtype and not x.type.weak:
        return x
    if dtype.kind not in "biuf":
        raise refuse.dtype_error(f"a cast of {x.type} to {dtype} is not supported")
    check_dtype(f"a cast to {dtype_name(dtype)}", dtype, (x,))
    return fresh(_cast_node(builder(), node_of(x), dtype), _c_strides_if(x))


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
    return c_strides(np.broadcast_shapes(*shapes))


def c_ordered(x: Tracer) -> Tracer:
    """Say of an array of its own that NumPy gives it in C order, so that a reshape of it is certainly a view."""
    x._adjit_strides = c_strides(x.type.shape)
    return x


def broadcast_shapes(*shapes: Sequence[int]) -> tuple[int, ...]:
    """NumPy's common shape; raises ShapeError."""
    try:
        return np.broadcast_shapes(*map(tuple, shapes))
    except ValueError:
        listed = ", ".join("x".join(map(str, shape)) if shape else "()" for shape in shapes)
        raise refuse.shape_error(f"broadcast: shapes do not fit each other: {listed}") from None


def convert(x: Any, dtype: np.dtype, shape: tuple[int, ...], weak: bool = False) -> Tracer:
    """An operand in the dtype and shape that an op computes in. A number becomes a constant of that type at once."""
    b = builder()
    if not isinstance(x, Tracer) and np.ndim(x) == 0:
        if isinstance(x, int) and not isinstance(x, bool):
            check_fits(x, dtype)
        return fresh(b.splat(x, Array(dtype, shape, weak)))
    node = _cast_node(b, lift(x), dtype, weak)
    if node.shape == shape and isinstance(x, Tracer) and node is x._adjit_node:
        return x
    return fresh(broadcasted(b, node, shape))


def promote(ufunc: np.ufunc, *operands: Any) -> list[Tracer]:
    """The operands in the dtypes that a ufunc computes in, and in one shape; weak where all are."""
    operands = tuple(as_tracer(x) if isinstance(x, list | tuple) else x for x in operands)
    types = [type_of(x) for x in operands]
    dtypes = resolve(ufunc, types)
    shape = broadcast_shapes(*(type.shape for type in types))
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
        dtype = np.result_type(*(_sample(type) for type in types))
    except TypeError as error:
        raise refuse.dtype_error(f"{' and '.join(map(str, types))}: {error}") from None
    check_dtype("the common dtype", dtype, types)
    return [convert(x, dtype, type.shape, weak) for x, type in zip(operands, types, strict=True)]


def _sample(type: Array) -> Any:
    """What `np.result_type` takes for an operand: its dtype, or a Python number where it is weak."""
    if not type.weak:
        return type.dtype
    return {"b": np.dtype(bool), "i": 0, "f": 0.0}[type.dtype.kind]


def select(condition: Any, x: Any, y: Any) -> Tracer:
    """`np.where`: broadcast all three, promote x and y; weak where all three are."""
    condition = as_tracer(condition)
    if condition.type.dtype != BOOL:
        condition = elementwise("ne", condition, 0, ufunc=np.not_equal)
    x, y = common(x, y)
    shape = broadcast_shapes(condition.type.shape, x.type.shape, y.type.shape)
    weak = condition.type.weak and x.type.weak
    parts = (convert(condition, BOOL, shape, weak), convert(x, x.type.dtype, shape, weak),
             convert(y, y.type.dtype, shape, weak))  # fmt: skip
    result: Tracer = emit("select", *parts)
    result._adjit_strides = _c_strides_if(condition, x, y)
    return result


def normalize_axis(axis: Any, ndim: int) -> int:
    """An axis counted from the front; raises ShapeError (NumPy's AxisError is a ValueError too)."""
    if isinstance(axis, Tracer):
        raise refuse.index(node_of(axis))
    try:
        position = int(axis.__index__())
    except (AttributeError, TypeError):
        raise refuse.trace_error(f"an axis is an integer, not {axis!r}") from None
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


def _view(x: Tracer, *steps: Step, strides: Strides | None, scalar: bool = False) -> Tracer:
    """A view of `x` by further steps."""
    b = builder()
    node = node_of(x)
    try:
        for step in steps:
            node = step.apply(b, node)
    except AdjitError as error:
        raise refuse.relocated(error) from None
    if scalar and not node.shape:
        return fresh(node)
    return make(x._adjit_root, x._adjit_path + steps, node, strides, scalar=False)


def broadcast_to(x: Any, shape: Sequence[int]) -> Tracer:
    """A read-only view of `x` in a larger shape."""
    x, shape = localize(as_tracer(x)), tuple(shape)
    found = x.type.shape
    if len(found) > len(shape) or any(m not in (1, n) for m, n in zip(found[::-1], shape[::-1], strict=False)):
        raise refuse.shape_error(f"broadcast_to: {x.type} cannot be broadcast to {shape}")
    return _view(x, Broadcast(shape), strides=None)


def full_shape(x: Tracer, shape: Any) -> tuple[int, ...]:
    """The shape of a reshape, with -1 filled in."""
    dims = list(shape) if isinstance(shape, tuple | list) else [shape]
    sizes = [n if isinstance(n, int) else _dimension(n) for n in dims]
    unknown = [i for i, n in enumerate(sizes) if n == -1]
    rest = math.prod(n for n in sizes if n != -1)
    if len(unknown) > 1:
        raise refuse.shape_error(f"reshape: only one dimension of {tuple(sizes)} can be unknown")
    if unknown and rest and x.type.size % rest == 0:
        sizes[unknown[0]] = x.type.size // rest
    if min(sizes, default=0) < 0 or math.prod(sizes) != x.type.size:
        raise refuse.shape_error(f"reshape: {x.type} has {x.type.size} elements and cannot have the shape {tuple(dims)}")
    return tuple(sizes)


def _dimension(n: Any) -> int:
    if isinstance(n, Tracer):
        raise refuse.index(node_of(n))
    try:
        return int(n.__index__())
    except (AttributeError, TypeError):
        raise refuse.trace_error(f"a dimension is an integer, not {n!r}") from None


def reshape(x: Any, shape: Any, order: str | None = "C") -> Tracer:
    """NumPy's reshape: a view, a copy, or where that depends on an unknown memory order, a maybe."""
    x = localize(as_tracer(x))
    new = full_shape(x, shape)
    if order == "F":
        return transpose(reshape(transpose(x), new[::-1]))
    if order not in ("C", None):
        raise refuse.function_argument("np.reshape", "order")
    old, strides = x.type.shape, x._adjit_strides
    if strides is not None:
        viewed = reshape_strides(old, strides, new)
        if viewed is None:
            return fresh(_reshape_node(x, new), c_strides(new))
        return _view(x, Reshape(old, new), strides=viewed)
    if x.type.size == 0 or not merges_axes(old, new):
        return _view(x, Reshape(old, new), strides=None)
    return _view(x, Reshape(old, new, maybe=locate()), strides=None)


def _reshape_node(x: Tracer, shape: tuple[int, ...]) -> Node:
    return Reshape(x.type.shape, shape).apply(builder(), node_of(x))


def ravel(x: Any, order: str | None = "C") -> Tracer:
    """NumPy's ravel: a view of a contiguous array, a copy of another, a maybe where the order is unknown."""
    x = localize(as_tracer(x))
    if order == "F":
        return ravel(transpose(x))
    if order not in ("C", None):
        raise refuse.function_argument("np.ravel", "order")
    old, new = x.type.shape, (x.type.size,)
    if is_c_ordered(old, x._adjit_strides):
        return _view(x, Reshape(old, new), strides=(1,))
    if x._adjit_strides is not None:
        return fresh(_reshape_node(x, new), (1,))
    return _view(x, Reshape(old, new, maybe=locate()), strides=None)


def transpose(x: Any, axes: Sequence[int] | None = None) -> Tracer:
    """A view with permuted axes; reversed ones for None."""
    x = localize(as_tracer(x))
    ndim = x.type.ndim
    order = tuple(reversed(range(ndim))) if axes is None else tuple(normalize_axis(axis, ndim) for axis in axes)
    if sorted(order) != list(range(ndim)):
        raise refuse.shape_error(f"transpose: axes {axes} do not fit the {ndim} dimensions of {x.type}")
    strides = x._adjit_strides
    return _view(x, Transpose(order), strides=None if strides is None else tuple(strides[axis] for axis in order))


def flip(x: Any, axes: Any = None) -> Tracer:
    """A view with the elements along `axes` in reverse; along all for None."""
    x = as_tracer(x)
    turned = normalize_axes(axes, x.type.ndim)
    return getitem(x, (*(slice(None, None, -1 if i in turned else 1) for i in range(x.type.ndim)), Ellipsis))


def expand_dims(x: Any, axes: Sequence[int]) -> Tracer:
    """A view with axes of size 1 at the places `axes` of the result."""
    x = localize(as_tracer(x))
    ndim = x.type.ndim + len(axes)
    places = normalize_axes(tuple(axes), ndim)
    shape = list(x.type.shape)
    for place in places:
        shape.insert(place, 1)
    return reshape(x, tuple(shape))


def squeeze(x: Any, axes: Sequence[int]) -> Tracer:
    """A view without the axes `axes`, which have size 1."""
    x = localize(as_tracer(x))
    places = normalize_axes(tuple(axes), x.type.ndim)
    if any(x.type.shape[place] != 1 for place in places):
        raise refuse.shape_error(f"squeeze: an axis of {places} of {x.type} has not the size 1")
    return reshape(x, tuple(n for i, n in enumerate(x.type.shape) if i not in places))


def maybe_view(result: Tracer, base: Any) -> Tracer:
    """`result`, computed from `base`, where NumPy gives a view that has no path here: not to be written or outlived."""
    if not isinstance(base, Tracer) or base._adjit_root.readonly or result._adjit_root is base._adjit_root:
        return result
    node = node_of(result)
    step = Opaque(node, locate())
    return make(base._adjit_root, (*base._adjit_path, step), node, None, scalar=False)


def copy(x: Any) -> Tracer:
    """An array of its own, in C order."""
    x = as_tracer(x)
    return fresh(node_of(x), c_strides(x.type.shape))


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
        return copy(xs[0])
    known = all(is_c_ordered(x.type.shape, x._adjit_strides) for x in xs)
    joined: Tracer = emit("concatenate", *xs, axis=axis)
    return c_ordered(joined) if known else joined


def slice_(x: Any, start: Sequence[int], stop: Sequence[int], step: Sequence[int] | None = None) -> Tracer:
    """A box of `x`, with bounds already counted from the front; an array of its own."""
    steps = (1,) * len(start) if step is None else tuple(step)
    result: Tracer = emit("slice", x, start=tuple(start), stop=tuple(stop), step=steps)
    return result


def getitem(x: Any, key: Any) -> Tracer:
    """`x[key]`: a view where the key has integers, slices, None and Ellipsis alone."""
    x = localize(as_tracer(x))
    parsed = _parse(x, key)
    if not parsed.view:
        b = builder()
        node = node_of(x)
        for step in parsed.steps:
            node = step.apply(b, node)
        return fresh(node)
    strides = None if x._adjit_strides is None else parsed.strides(x._adjit_strides)
    return _view(x, *parsed.steps, strides=strides, scalar=parsed.scalar)


def _parse(x: Tracer, key: Any) -> Parsed:
    b = builder()
    try:
        return parse(b, x.type, key, lift)
    except AdjitError as error:
        raise refuse.relocated(error) from None


def setitem(x: Tracer, key: Any, value: Any) -> None:
    """`x[key] = value`, with NumPy's cast to the dtype of `x`."""
    check_writable(x)
    if x._adjit_scalar:
        raise refuse.trace_error("a traced scalar does not support item assignment: write s = value")
    if _is_mask(x, key):
        return _write_masked(x, key, value)
    parsed = _parse(x, key)
    if _is_same_place(x, parsed, value):
        return None
    _write(x, parsed.steps, _fitted(value, x.type.dtype, parsed.shape))
    return None


def add_at(x: Tracer, key: Any, value: Any) -> None:
    """`np.add.at(x, key, value)`: an element that is named twice is added to twice."""
    check_writable(x)
    parsed = _parse(x, key)
    node = _fitted(value, x.type.dtype, parsed.shape)
    if not any(isinstance(step, Gather) for step in parsed.steps):
        return setitem(x, key, elementwise("add", getitem(x, key), fresh(node)))
    _write(x, tuple(replace(step, adds=True) if isinstance(step, Gather) else step for step in parsed.steps), node)
    return None


def _is_mask(x: Tracer, key: Any) -> bool:
    return isinstance(key, Tracer) and key.type.dtype == BOOL and key.type.shape == x.type.shape


def _write_masked(x: Tracer, mask: Tracer, value: Any) -> None:
    """`x[mask] = value` for one value is a select; several would have to be counted."""
    if math.prod(shape_of(value)) != 1:
        raise refuse.mask(node_of(mask))
    _write(x, (), lift(select(mask, convert(_one(value), x.type.dtype, x.type.shape), x)))


def _one(value: Any) -> Any:
    return reshape(value, ()) if shape_of(value) else value


def _is_same_place(x: Tracer, parsed: Parsed, value: Any) -> bool:
    """Whether `value` is the very view that is written: `x[1:] += v` has changed it already."""
    if not isinstance(value, Tracer) or value._adjit_root is not x._adjit_root or not parsed.view:
        return False
    return value._adjit_path == x._adjit_path + parsed.steps


def _fitted(value: Any, dtype: np.dtype, shape: tuple[int, ...]) -> Node:
    """A value to be written, in the dtype and shape of its place."""
    if isinstance(value, list | tuple):
        value = as_tracer(value)
    found = shape_of(value)
    # NumPy takes a value with extra leading axes of size 1.
    extra = len(found) - len(shape)
    if extra > 0 and all(n == 1 for n in found[:extra]):
        value = reshape(value, found[extra:])
        found = found[extra:]
    if len(found) > len(shape) or any(m not in (1, n) for m, n in zip(found[::-1], shape[::-1], strict=False)):
        raise refuse.shape_error(f"a value of shape {found} is written into a place of shape {shape}")
    return lift(convert(value, dtype, shape))


def check_writable(x: Tracer) -> None:
    """Raise where an in-place change of `x` could not mean what it means in NumPy."""
    root = x._adjit_root
    current = current_trace()
    if not root.trace.alive:
        node_of(x)
    if root.trace is not current:
        raise refuse.argument_write("a value that the function closes over")
    if root.readonly:
        raise refuse.argument_write(root.readonly)
    for step in x._adjit_path:
        if step.frozen:
            raise refuse.read_only(step.frozen)
    maybe = maybe_of(x)
    if maybe is not None:
        raise refuse.maybe_write(maybe)


def _write(x: Tracer, steps: tuple[Step, ...], value: Node) -> None:
    """Put `value` at the end of the path of `x` and `steps`, and so a new node into the root."""
    root = x._adjit_root
    b = builder()
    path = x._adjit_path + steps
    bases = [root.node]
    for step in path[:-1]:
        bases.append(step.apply(b, bases[-1]))
    for step, base in zip(reversed(path), reversed(bases), strict=True) if path else ():
        value = step.put(b, base, value)
    root.node = value
    root.version += 1
    root.written = b.loc


def check_out(name: str, target: Any) -> None:
    """Raise where a result cannot be written into `target`."""
    if not isinstance(target, Tracer):
        raise refuse.plain_out(name)
    check_writable(target)


def store(out: Any, value: Any, name: str = "out=", casting: str = "same_kind") -> Tracer:
    """Write a result into a traced array in place: NumPy's rule for casts, and the shape of `out` never grows."""
    check_out(name, out)
    if out._adjit_scalar:
        raise refuse.trace_error(f"{name}: out= is a traced scalar, which cannot be written: write s = ...")
    found = type_of(value)
    source = found.dtype if not found.weak else _sample(found)
    # A weak value has no dtype to lose; its kind still has to fit.
    source = np.result_type(source) if not isinstance(source, np.dtype) else source
    if not np.can_cast(source, out.type.dtype, casting=casting):  # type: ignore[arg-type]
        raise refuse.dtype_error(
            f"{name}: a result of {found} cannot be written into {out.type} under the rule {casting!r}: "
            f"write x = x + v, or cast the result with .astype"
        )
    if broadcast_shapes(found.shape, out.type.shape) != out.type.shape:
        raise refuse.shape_error(f"{name}: a result of {found} does not fit into {out.type}, whose shape never grows")
    _write(out, (), _fitted(value, out.type.dtype, out.type.shape))
    return out

