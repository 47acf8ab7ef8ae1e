"""Writing into traced arrays: `x[key] = v`, `ufunc.at`, `out=`, and what may not be written."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from adjit.ir.node import Node
from adjit.ir.types import BOOL, Array
from adjit.trace import refuse
from adjit.trace.chosen import Chosen
from adjit.trace.context import current_trace
from adjit.trace.handle import Step
from adjit.trace.indexing import Parsed
from adjit.trace.known import holds_traced, is_known, memory, settled
from adjit.trace.promote import type_of
from adjit.trace.regions import ArrayIndex
from adjit.trace.tracer import Tracer, fresh, maybe_of, node_of
from adjit.trace.values import (
    as_tracer,
    broadcast_shapes,
    builder,
    convert,
    elementwise,
    emit,
    lift,
    select,
    shape_of,
)
from adjit.trace.views import getitem, parsed_key, reshape


def check_writable(x: Tracer) -> None:
    """Raise where an in-place change of `x` could not mean what it means in NumPy."""
    root = x._adjit_root
    current = current_trace()
    if not root.trace.alive:
        node_of(x)
    if root.trace is not current:
        part = root.trace.part_inside()
        if part:
            raise refuse.write_in_part(part)
        raise refuse.argument_write("a value that the function closes over")
    if root.readonly:
        raise refuse.argument_write(root.readonly)
    for step in x._adjit_path:
        if step.frozen:
            raise refuse.read_only(step.frozen)
    maybe = maybe_of(x)
    if maybe is not None:
        raise refuse.maybe_write(maybe)


def check_out(name: str, target: Any) -> None:
    """Raise where a result cannot be written into `target`."""
    if not isinstance(target, Tracer):
        raise refuse.plain_out(name)
    check_writable(target)


def setitem(x: Tracer, key: Any, value: Any) -> None:
    """`x[key] = value`, with NumPy's cast to the dtype of `x`."""
    key = settled(key)
    if is_known(x) and not holds_traced((key, value)):
        _write_plainly(x, key, settled(value))
        return None
    check_writable(x)
    if x._adjit_scalar:
        raise refuse.trace_error("a traced scalar does not support item assignment: write s = value", numpy_too=True)
    if _is_mask(x, key):
        return _write_masked(x, key, value)
    parsed = parsed_key(x, key)
    if _is_same_place(x, parsed, value):
        return None
    _write(x, parsed.steps, _fitted(value, x.type.dtype, parsed.shape))
    return None


def _write_plainly(x: Tracer, key: Any, value: Any) -> None:
    """A write of what is known into a known array."""
    if x._adjit_root.readonly:
        raise refuse.read_only(x._adjit_root.readonly)
    plain = memory(x)
    if plain is not None:
        plain[key] = value


def add_at(x: Tracer, key: Any, value: Any) -> None:
    """`np.add.at(x, key, value)`: an element that is named twice is added to twice."""
    check_writable(x)
    key = settled(key)
    parsed = parsed_key(x, key)
    node = _fitted(value, x.type.dtype, parsed.shape)
    if not any(isinstance(step, ArrayIndex) for step in parsed.steps):
        return setitem(x, key, elementwise("add", getitem(x, key), fresh(node)))
    _write(x, tuple(replace(step, adds=True) if isinstance(step, ArrayIndex) else step for step in parsed.steps), node)
    return None


def extremum_at(x: Tracer, key: Any, value: Any, largest: bool) -> None:
    """`np.maximum.at(x, key, value)`, or of the minimum: values are written in order, so that the last one stands; NaN
    comes last in both."""
    check_writable(x)
    shape, dtype = x.type.shape, x.type.dtype
    places = getitem(as_tracer(np.arange(math.prod(shape)).reshape(shape)), settled(key))
    given = reshape(fresh(_fitted(value, dtype, places.type.shape)), (-1,))
    order: Any = np.argsort(given if largest or dtype.kind != "f" else -given)
    order = np.flip(order) if not largest and dtype.kind != "f" else order
    at, values = reshape(places, (-1,))[order], given[order]
    old = reshape(as_tracer(x[...]), (-1,))
    best = elementwise("maximum" if largest else "minimum", emit("take", old, at, axis=0), values, ufunc=np.maximum)
    _write(x, (), lift(reshape(emit("scatter", old, at, best, axis=0), shape)))


def store(out: Any, value: Any, name: str = "out=", casting: str = "same_kind") -> Tracer:
    """Write a result into a traced array in place: NumPy's rule for casts, and the shape of `out` never grows."""
    check_out(name, out)
    if out._adjit_scalar:
        raise refuse.trace_error(
            f"{name}: out= is a traced scalar, which cannot be written: write s = ...", numpy_too=True
        )
    found = type_of(value)
    if not np.can_cast(found.dtype, out.type.dtype, casting=casting):  # type: ignore[arg-type]
        raise refuse.dtype_error(
            f"{name}: a result of {found} cannot be written into {out.type} under the rule {casting!r}: "
            f"write x = x + v, or cast the result with .astype"
        )
    if broadcast_shapes(name, found, out.type) != out.type.shape:
        raise refuse.shape_error(f"{name}: a result of {found} does not fit into {out.type}, whose shape never grows")
    target: Tracer = out
    if is_known(target) and not holds_traced(value):
        _write_plainly(target, ..., settled(value))
        return target
    _write(target, (), _fitted(value, target.type.dtype, target.type.shape))
    return target


def _is_mask(x: Tracer, key: Any) -> bool:
    return isinstance(key, Tracer) and key.type.dtype == BOOL and key.type.ndim > 0


def _write_masked(x: Tracer, mask: Tracer, value: Any) -> None:
    """`x[mask] = value` for one value is a select; several would have to be counted."""
    shape, extra = mask.type.shape, x.type.ndim - mask.type.ndim
    if isinstance(value, Chosen) and shape == x.type.shape and value.is_chosen_by(mask):
        _write(x, (), lift(select(mask, convert(value._adjit_whole, x.type.dtype, shape), x)))
        return
    if math.prod(shape_of(value)) != 1:
        raise refuse.noted(refuse.mask(node_of(mask)))
    if extra < 0 or shape != x.type.shape[: len(shape)]:
        raise refuse.index_error(f"boolean index did not match indexed array: {mask.type} on {x.type}")
    whole = convert(reshape(mask, (*shape, *(1,) * extra)), BOOL, x.type.shape)
    _write(x, (), lift(select(whole, convert(_one(value), x.type.dtype, x.type.shape), x)))


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
        raise refuse.shape_error(f"x[...] = value: {type_of(value)} is written into a place of {Array(dtype, shape)}")
    return lift(convert(value, dtype, shape))


def _write(x: Tracer, steps: tuple[Step, ...], value: Node) -> None:
    """Put `value` at the end of the path of `x` and `steps`, and so a new node into the root."""
    x._adjit_root.write(x._adjit_path + steps, value, builder().loc)
