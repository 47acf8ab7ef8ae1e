"""x[key] by NumPy's rules, as steps that read and write: integers, slices, None, Ellipsis, arrays of integers (plain or
traced), plain masks, and mixtures of them.

Static positions are checked here; traced ones by `check_index`. Integers and slices give views, also where an
integer is traced; an array gives a copy.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adjit.ir.builder import Builder
from adjit.ir.node import Node
from adjit.ir.types import BOOL, I64, Array
from adjit.trace import refuse
from adjit.trace.handle import Reshape, Step, Strides, broadcasted, common_shape
from adjit.trace.regions import ArrayIndex, Box, Ints
from adjit.trace.tracer import Tracer, node_of


@dataclass(frozen=True, slots=True)
class Parsed:
    """What `x[key]` means: steps, the result's shape, whether it is a view, and whether a scalar in NumPy."""

    steps: tuple[Step, ...]
    shape: Ints
    view: bool
    scalar: bool

    def strides(self, strides: Strides) -> Strides | None:
        """The strides of the view; None where they depend on values or are not followed."""
        for step in self.steps:
            if isinstance(step, Box):
                strides = step.strides(strides)
            elif isinstance(step, Reshape):
                strides = _with_ones(strides, step)
            else:
                return None
        return strides


def _with_ones(strides: Strides, step: Reshape) -> Strides:
    """Strides after axes of size 1 are put in."""
    left = [s for n, s in zip(step.source, strides, strict=True) if n != 1]
    return tuple(1 if n == 1 else left.pop(0) for n in step.shape)


@dataclass(frozen=True, slots=True)
class _Slice:
    start: int
    stop: int
    step: int
    flipped: bool


@dataclass(frozen=True, slots=True)
class _Position:
    """A static integer; beside arrays it counts as one."""

    at: int


@dataclass(frozen=True, slots=True, eq=False)
class _Positions:
    """An array of static positions, counted from the front."""

    array: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class _Traced:
    """A traced integer or array of integers."""

    node: Node


_Entry = _Slice | _Position | _Positions | _Traced | None
"""What stands at an axis; None is a new axis."""


def parse(b: Builder, type: Array, key: Any, lift: Callable[[Any], Node]) -> Parsed:
    """The meaning of `key` for an array of `type`."""
    items = list(key) if isinstance(key, tuple) else [key]
    items = [_simplified(item, lift) for item in items]
    entries = _entries(_expanded(items, type), type)
    dotted = any(item is Ellipsis for item in items)
    advanced = any(isinstance(entry, _Positions | _Traced) for entry in entries)
    if not advanced:
        return _boxed(entries, type, dotted)
    run = _as_slice(entries)
    if run is not None:
        found = _boxed(run, type, dotted)
        return Parsed(found.steps, found.shape, False, False)
    # An Ellipsis that stands for no axis still parts two arrays.
    arrays = [i for i, item in enumerate(items) if not (item is None or item is Ellipsis or isinstance(item, slice))]
    return _gathered(b, entries, type, dotted, first=arrays[-1] - arrays[0] + 1 != len(arrays))


def _simplified(item: Any, lift: Callable[[Any], Node]) -> Any:
    """An index item as one of: None, Ellipsis, slice, int, integer or boolean array, integer node."""
    if item is None or item is Ellipsis or isinstance(item, slice):
        return item
    if isinstance(item, Tracer):
        if item.dtype.kind == "b":
            raise refuse.noted(refuse.mask(node_of(item)))
        if item.dtype.kind not in "iu":
            raise refuse.dtype_error(f"an index is an integer, not {item.type}: write i.astype(np.int64)")
        return node_of(item)
    if isinstance(item, bool | np.bool_):
        raise refuse.trace_error(
            f"an array is indexed by {item}: write x[None] for an axis more, np.where for a choice"
        )
    if isinstance(item, list | tuple | range):
        item = _listed(item, lift)
        if isinstance(item, Node):
            return item
    if isinstance(item, np.ndarray):
        if item.dtype.kind not in "iub":
            raise refuse.index_error(f"arrays used as indices must be of integer (or boolean) type, not {item.dtype}")
        if item.ndim:
            return item
        if item.dtype.kind == "b":
            raise refuse.trace_error("an array is indexed by a 0-d mask: write x[None] for an axis more")
        return int(item)
    try:
        return operator.index(item)
    except TypeError:
        raise refuse.index_error(
            f"an index is an integer, a slice, None, ... or an array of integers, not {item!r}"
        ) from None


def _listed(item: Sequence[Any], lift: Callable[[Any], Node]) -> Any:
    """A list as an index: a plain array, or where it holds tracers the node of their stack."""
    if _holds_tracer(item):
        return lift(list(item))
    array = np.asarray(item)
    return array.astype(np.int64) if array.size == 0 else array


def _holds_tracer(item: Any) -> bool:
    return isinstance(item, Tracer) or (isinstance(item, list | tuple) and any(map(_holds_tracer, item)))


def _consumed(item: Any) -> int:
    """How many axes an item stands for."""
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if isinstance(item, np.ndarray) and item.dtype == BOOL else 1


def _expanded(items: list[Any], type: Array) -> list[Any]:
    """The items with Ellipsis, and axes that were left out, as full slices."""
    count = sum(map(_consumed, items))
    if count > type.ndim:
        raise refuse.index_error(f"too many indices: {type} has {type.ndim} dimensions, but {count} were indexed")
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise refuse.index_error("an index can only have a single ellipsis ('...')")
    at = dots[0] if dots else len(items)
    return [*items[:at], *(slice(None),) * (type.ndim - count), *items[at + 1 :]]


def _entries(items: list[Any], type: Array) -> list[_Entry]:
    """The items with static positions checked and counted from the front."""
    entries: list[_Entry] = []
    axis = 0
    for item in items:
        if item is None:
            entries.append(None)
        elif isinstance(item, np.ndarray) and item.dtype == BOOL:
            entries.extend(_mask_entries(item, type, axis))
        else:
            entries.append(_entry(item, type.shape[axis], axis))
        axis += _consumed(item)
    return entries


def _mask_entries(mask: np.ndarray, type: Array, axis: int) -> list[_Entry]:
    for i, (m, n) in enumerate(zip(mask.shape, type.shape[axis : axis + mask.ndim], strict=True)):
        if m != n:
            raise refuse.index_error(
                f"boolean index did not match indexed array along axis {axis + i}; size of axis is {n} but size of "
                f"corresponding boolean axis is {m}"
            )
    return [_Positions(positions) for positions in np.nonzero(mask)]


def _entry(item: Any, size: int, axis: int) -> _Entry:
    if isinstance(item, slice):
        return _slice(item, size)
    if isinstance(item, Node):
        return _Traced(item)
    if isinstance(item, np.ndarray):
        bad = (item < -size) | (item >= size)
        if bad.any():
            raise _out_of_range(int(item[bad][0]), axis, size)
        positions = item.astype(np.int64)
        return _Positions(np.where(positions < 0, positions + size, positions))
    if not -size <= item < size:
        raise _out_of_range(item, axis, size)
    return _Position(item % size)


def _out_of_range(index: int, axis: int, size: int) -> Exception:
    return refuse.index_error(f"index {index} is out of bounds for axis {axis} with size {size}")


def _slice(item: slice, size: int) -> _Slice:
    for bound in (item.start, item.stop, item.step):
        if isinstance(bound, Tracer):
            raise refuse.slice_bound(node_of(bound))
    try:
        start, stop, step = item.indices(size)
    except TypeError:
        raise refuse.index_error(f"the bounds of a slice are integers or None, not {item}") from None
    except ValueError:
        raise refuse.shape_error("the step of a slice cannot be zero") from None
    count = len(range(start, stop, step))
    if count == 0:
        return _Slice(0, 0, 1, False)
    last = start + (count - 1) * step
    if count == 1:
        return _Slice(start, start + 1, 1, False)
    if step < 0:
        return _Slice(last, start + 1, -step, True)
    # The last element, not `stop`: so a slice has one spelling.
    return _Slice(start, last + 1, step, False)


def _box(entries: list[_Entry], type: Array, drop: bool) -> Box:
    """The box of the slices and integers; an axis of an array is whole."""
    start, stop, step, flips, dropped = [], [], [], [], []
    there = [entry for entry in entries if entry is not None]
    for axis, entry in enumerate(there):
        lo, hi, by = 0, type.shape[axis], 1
        if isinstance(entry, _Slice):
            lo, hi, by = entry.start, entry.stop, entry.step
            if entry.flipped:
                flips.append(axis)
        elif isinstance(entry, _Position):
            lo, hi = entry.at, entry.at + 1
            if drop:
                dropped.append(axis)
        start.append(lo)
        stop.append(hi)
        step.append(by)
    return Box(type.shape, tuple(start), tuple(stop), tuple(step), tuple(flips), tuple(dropped))


def _boxed(entries: list[_Entry], type: Array, dotted: bool) -> Parsed:
    """A key of integers, slices and new axes."""
    box = _box(entries, type, drop=True)
    sizes = iter(box.shape)
    shape = tuple(1 if entry is None else next(sizes) for entry in entries if not isinstance(entry, _Position))
    steps: list[Step] = [] if box.is_whole else [box]
    if shape != box.shape:
        steps.append(Reshape(box.shape, shape))
    scalar = not dotted and all(isinstance(entry, _Position) for entry in entries)
    return Parsed(tuple(steps), shape, True, scalar)


def _as_slice(entries: list[_Entry]) -> list[_Entry] | None:
    """The entries with one static array of evenly spaced positions as a slice, which needs no gather."""
    arrays = [entry for entry in entries if isinstance(entry, _Positions | _Traced | _Position)]
    if len(arrays) != 1 or not isinstance(arrays[0], _Positions):
        return None
    array = arrays[0].array
    if array.ndim != 1 or array.size == 0:
        return None
    step = int(array[1] - array[0]) if array.size > 1 else 1
    if step == 0 or not np.array_equal(array, array[0] + step * np.arange(array.size)):
        return None
    ends = (int(array[0]), int(array[-1]))
    run = _Slice(min(ends), max(ends) + 1, abs(step), step < 0)
    return [run if entry is arrays[0] else entry for entry in entries]


def _gathered(b: Builder, entries: list[_Entry], type: Array, dotted: bool, first: bool) -> Parsed:
    """A key with arrays: NumPy puts their axes where they stand if they are neighbours, else first."""
    box = _box(entries, type, drop=False)
    places = [i for i, entry in enumerate(entries) if isinstance(entry, _Positions | _Traced | _Position)]
    axes = tuple(sum(entry is not None for entry in entries[:place]) for place in places)
    chosen = [entries[place] for place in places]
    index = _linear(b, chosen, axes, type.shape, box.sliced)
    identity = tuple(entry.node if isinstance(entry, _Traced) else entry for entry in chosen)
    gather = ArrayIndex(box.sliced, axes, first, index, identity)
    shape = _result_shape(entries, places, first, index.shape, box.sliced)
    plain = tuple(n for entry, n in _dims(entries, places, first, index.shape, box.sliced) if entry is not None)
    steps: list[Step] = [] if box.is_whole else [box]
    steps.append(gather)
    if plain != shape:
        steps.append(Reshape(plain, shape))
    # Traced integers alone give views, as integers do.
    view = all(isinstance(e, _Position) or (isinstance(e, _Traced) and not e.node.shape) for e in chosen)
    scalar = view and not dotted and len(places) == len(entries)
    return Parsed(tuple(steps), shape, view, scalar)


def _dims(entries: list[_Entry], places: list[int], first: bool, block: Ints, sliced: Ints) -> list[tuple[_Entry, int]]:
    """The axes of the result in order, each with the entry that it comes from and its size."""
    arrays: list[tuple[_Entry, int]] = [(entries[places[0]], n) for n in block]
    result = list(arrays) if first else []
    axis = 0
    for place, entry in enumerate(entries):
        if place == places[0] and not first:
            result.extend(arrays)
        if place not in places:
            result.append((entry, 1 if entry is None else sliced[axis]))
        axis += entry is not None
    return result


def _result_shape(entries: list[_Entry], places: list[int], first: bool, block: Ints, sliced: Ints) -> Ints:
    return tuple(n for _, n in _dims(entries, places, first, block, sliced))


def checked_index(b: Builder, index: Node, size: int, axis: int) -> Node:
    """Positions along an axis, in [0, size) once the check has passed."""
    if size == 0 and index.array_type.size:
        raise refuse.index_error(f"every index is out of bounds for axis {axis} with size 0")
    return b.emit("check_index", index, size=size, axis=axis)


def _linear(b: Builder, chosen: list[_Entry], axes: Ints, shape: Ints, sliced: Ints) -> Node:
    """One index into the axes joined: the sum of each position times the sizes after it."""
    weights = [math.prod(sliced[axis] for axis in axes[i + 1 :]) for i in range(len(axes))]
    fixed: np.ndarray = np.zeros((), np.int64)
    terms: list[Node] = []
    shapes: list[Ints] = []
    for entry, axis, weight in zip(chosen, axes, weights, strict=True):
        if isinstance(entry, _Traced):
            term = checked_index(b, entry.node, shape[axis], axis)
            if weight != 1:
                term = b.emit("mul", term, b.splat(weight, term.array_type))
            terms.append(term)
            shapes.append(term.shape)
        elif isinstance(entry, _Positions):
            shapes.append(entry.array.shape)
            fixed = _sum(fixed, entry.array * weight, shapes)
    try:
        common = common_shape(*shapes)
    except ValueError:
        raise _mismatch(shapes) from None
    if not terms:
        return _constant(b, np.broadcast_to(fixed, common))
    if fixed.ndim or fixed != 0:
        terms.append(_constant(b, fixed))
    total = broadcasted(b, terms[0], common)
    for term in terms[1:]:
        total = b.emit("add", total, broadcasted(b, term, common))
    return total


def _sum(x: np.ndarray, y: np.ndarray, shapes: list[Ints]) -> np.ndarray:
    try:
        return np.asarray(x + y)
    except ValueError:
        raise _mismatch(shapes) from None


def _mismatch(shapes: list[Ints]) -> Exception:
    listed = " ".join(map(str, shapes))
    return refuse.index_error(f"indexing arrays could not be broadcast together with shapes {listed}")


def _constant(b: Builder, index: np.ndarray) -> Node:
    """Static positions: a splat, a count, or an array."""
    index = np.ascontiguousarray(index, dtype=np.int64)
    type = Array(I64, index.shape)
    if index.size and (index == index.ravel()[0]).all():
        return b.splat(index.ravel()[0], type)
    if index.ndim == 1 and np.array_equal(index, np.arange(index.size)):
        return b.emit("iota", shape=index.shape, axis=0, dtype=I64)
    return b.array(index)
