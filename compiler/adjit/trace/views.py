"""Views: what NumPy gives without a copy has a path to the array behind it; what may be one is a maybe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from adjit.ir.node import Node
from adjit.ir.types import BOOL
from adjit.trace import refuse
from adjit.trace.chosen import Chosen
from adjit.trace.handle import (
    Broadcast,
    Opaque,
    Reshape,
    Step,
    Strides,
    Transpose,
    c_strides,
    is_c_ordered,
    merges_axes,
    reshape_strides,
)
from adjit.trace.indexing import Parsed, parse
from adjit.trace.known import holds_traced, known, known_view, settled, wrapped
from adjit.trace.locate import locate
from adjit.trace.tracer import (
    Tracer,
    array_of,
    fresh,
    localize,
    made_local,
    make,
    maybe_of,
    node_of,
    plain_of,
    showing,
)
from adjit.trace.values import as_tracer, builder, lift, normalize_axes, normalize_axis
from adjit_runtime.errors import AdjitError


def _view(
    x: Tracer, *steps: Step, strides: Strides | None, scalar: bool = False, plain: np.ndarray | None = None
) -> Tracer:
    """A view of `x` by further steps; `plain` is its memory where it is known."""
    if plain is not None:
        return known_view(plain, x._adjit_root, x._adjit_path + steps)
    b = builder()
    try:
        if maybe_of(x) is None:
            node = x._adjit_root.read(x._adjit_path + steps)
        else:
            node = node_of(x)
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
    plain = plain_of(x)
    found = x.type.shape
    if len(found) > len(shape) or any(m not in (1, n) for m, n in zip(found[::-1], shape[::-1], strict=False)):
        raise refuse.shape_error(f"broadcast_to: {x.type} cannot be broadcast to {shape}")
    viewed = None if plain is None else np.broadcast_to(plain, shape)
    return _view(x, Broadcast(shape), strides=None, plain=viewed)


def full_shape(x: Tracer, shape: Any) -> tuple[int, ...]:
    """The shape of a reshape, with -1 filled in."""
    shape = settled(shape)
    several = isinstance(shape, tuple | list) or (isinstance(shape, np.ndarray) and shape.ndim > 0)
    dims = list(shape) if several else [shape]
    sizes = [n if type(n) is int else _dimension(n) for n in dims]
    unknown = [i for i, n in enumerate(sizes) if n == -1]
    rest = math.prod(n for n in sizes if n != -1)
    if len(unknown) > 1:
        raise refuse.shape_error(f"reshape: only one dimension of {tuple(sizes)} can be unknown")
    if unknown and rest and x.type.size % rest == 0:
        sizes[unknown[0]] = x.type.size // rest
    if min(sizes, default=0) < 0 or math.prod(sizes) != x.type.size:
        raise refuse.shape_error(
            f"reshape: {x.type} has {x.type.size} elements and cannot have the shape {tuple(dims)}"
        )
    return tuple(sizes)


def _dimension(n: Any) -> int:
    if isinstance(n, Tracer):
        raise refuse.index(node_of(n))
    try:
        return int(n.__index__())
    except (AttributeError, TypeError):
        raise refuse.trace_error(f"a dimension is an integer, not {n!r}", numpy_too=True) from None


def reshape(x: Any, shape: Any, order: str | None = "C") -> Tracer:
    """NumPy's reshape: a view, a copy, or where that depends on an unknown memory order, a maybe."""
    x = localize(as_tracer(x))
    new = full_shape(x, shape)
    if order == "F":
        return transpose(reshape(transpose(x), new[::-1]))
    if order not in ("C", None):
        raise refuse.function_argument("np.reshape", "order")
    old, strides = x.type.shape, x._adjit_strides
    plain = plain_of(x)
    if plain is not None:
        return _known_or_copy(x, plain, plain.reshape(new), new)
    if strides is not None:
        viewed = reshape_strides(old, strides, new)
        if viewed is None:
            return fresh(_reshape_node(x, new), c_strides(new))
        return _view(x, Reshape(old, new), strides=viewed)
    if x.type.size == 0 or not merges_axes(old, new):
        return _view(x, Reshape(old, new), strides=None)
    return _view(x, Reshape(old, new, maybe=locate()), strides=None)


def _known_or_copy(x: Tracer, plain: np.ndarray, reshaped: np.ndarray, shape: tuple[int, ...]) -> Tracer:
    """A reshape of a known array: a view where NumPy gave one."""
    if not np.may_share_memory(plain, reshaped):
        return known(reshaped)
    return _view(x, Reshape(x.type.shape, shape), strides=None, plain=reshaped)


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
    plain = plain_of(x)
    if plain is not None:
        return _known_or_copy(x, plain, plain.ravel(), new)
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
    plain = plain_of(x)
    if plain is not None:
        return _view(x, Transpose(order), strides=None, plain=plain.transpose(order))
    return _view(x, Transpose(order), strides=None if strides is None else tuple(strides[axis] for axis in order))


def flip(x: Any, axes: Any = None) -> Tracer:
    """A view with the elements along `axes` in reverse; along all for None."""
    x = as_tracer(x)
    turned = normalize_axes(axes, x.type.ndim)
    flipped: Tracer = getitem(x, (*(slice(None, None, -1 if i in turned else 1) for i in range(x.type.ndim)), Ellipsis))
    return flipped


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
    plain = plain_of(x)
    if plain is not None:
        made: Tracer = wrapped(np.array(plain, order="C"))
        return made
    made = fresh(node_of(x), c_strides(x.type.shape))
    return showing(made, x._adjit_shown) if x._adjit_scalar else array_of(made)


def getitem(x: Any, key: Any) -> Any:
    """`x[key]`: a view where the key has integers, slices, None and Ellipsis alone. Of a known array, by a known key,
    what NumPy gives: a known array, or a scalar."""
    x, key = as_tracer(x), settled(key)
    plain = plain_of(x)
    if plain is not None and not holds_traced(key):
        return _known_item(x, plain, key)
    x = made_local(x)
    if isinstance(key, Tracer) and key.dtype == BOOL and key.shape == x.shape != ():
        return Chosen(x, key)
    parsed = parsed_key(x, key)
    if not parsed.view:
        b = builder()
        node = node_of(x)
        for step in parsed.steps:
            node = step.apply(b, node)
        return fresh(node)
    strides = None if x._adjit_strides is None else parsed.strides(x._adjit_strides)
    return _view(x, *parsed.steps, strides=strides, scalar=parsed.scalar)


def _known_item(x: Tracer, plain: np.ndarray, key: Any) -> Any:
    found = plain[key]
    if not isinstance(found, np.ndarray):
        return found
    if not np.may_share_memory(found, plain):
        return wrapped(found)
    parsed = parse(x._adjit_root.trace.builder, x.type, key, lift)
    return _view(x, *parsed.steps, strides=None, plain=found)


def parsed_key(x: Tracer, key: Any) -> Parsed:
    """What `x[key]` means."""
    b = builder()
    try:
        return parse(b, x.type, key, lift)
    except AdjitError as error:
        raise refuse.relocated(error) from None
