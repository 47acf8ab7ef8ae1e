"""Which elements of an operand an element of the result may depend on, by the relation that the op declares.

The elements of an operand are laid out on a grid of the dimensions that the operand goes along: those of the result,
then those that are reduced, which are united. What the operand does not go along reads the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from adjit.ir.axes import Along, Axis, Ints, Linear, Mixed, Relation, Running
from adjit.sparse.sets import Sets, check_entries, collected


class Places(NamedTuple):
    """`at`: the operand's element at each point of the grid, -1 for none; None where they are the operand's. `each`:
    how many points that follow one another are united. `spread`: for each element of the result its point among those;
    None where they are the same."""

    at: np.ndarray | None
    each: int
    spread: np.ndarray | None


def seen(relation: Relation, operand: int, sets: Sets, reverse: bool, cache: dict[object, Places]) -> Sets:
    """The sets of a result, as far as they come from one operand. `reverse` is the direction of a running op."""
    axes = relation.operands[operand]
    if isinstance(axes, Linear):
        return sets
    key = (axes, relation.shapes[operand], relation.shape, relation.reduced)
    if key not in cache:
        cache[key] = _places(relation, operand)
    at, count, spread = cache[key]
    if at is not None:
        sets = sets.taken(at)
    if count != 1:
        sets = sets.grouped(count) if count else Sets(math.prod(relation.shape))
    if spread is not None:
        sets = sets.taken(spread)
    for axis in axes:
        if isinstance(axis, Running):
            sets = _running(sets, relation.shape, axis.dim, reverse)
    return sets


def _places(relation: Relation, operand: int) -> Places:
    axes, own, shape = relation.operands[operand], relation.shapes[operand], relation.shape
    assert not isinstance(axes, Linear)
    extents = [*shape, *relation.reduced]
    # An axis that is read at positions known at run time alone may be read anywhere.
    dims = [_dims(at, len(extents) + i) for i, at in enumerate(axes)]
    grid = sorted({dim for own in dims for dim in own})
    sizes = {dim: extents[dim] if dim < len(extents) else own[dim - len(extents)] for dim in grid}
    result = [dim for dim in grid if dim < len(shape)]
    count = math.prod(sizes[dim] for dim in grid[len(result) :])
    at = _elements(axes, own, dims, grid, sizes)
    points = tuple(sizes[dim] for dim in result)
    spread = None
    if len(result) != len(shape):
        numbers = np.arange(math.prod(points)).reshape(points)
        spread = _laid(numbers, result, range(len(shape)), shape)
        if count == 1:
            return Places(spread if at is None else at[spread], 1, None)
    return Places(at, count, spread)


def _dims(at: Axis, beyond: int) -> Ints:
    """The dimensions that an axis goes along; `beyond` is its own where it may be read anywhere."""
    if isinstance(at, Mixed):
        return at.dims
    return (at.dim,) if isinstance(at, Along | Running) else (beyond,)


def _elements(
    axes: Sequence[Axis], own: Ints, dims: Sequence[Ints], grid: Sequence[int], sizes: dict[int, int]
) -> np.ndarray | None:
    """The number of the operand's element at each point of the grid; None for all in their order."""
    total, missing = np.zeros((1,) * len(grid), np.int64), np.zeros((1,) * len(grid), bool)
    stride = 1
    plain = list(dims) == [(dim,) for dim in grid]
    for axis, n, along in reversed(list(zip(axes, own, dims, strict=True))):
        column = _column(axis, along, grid, sizes)
        plain = plain and column.size == n and bool((column.ravel() == np.arange(n)).all())
        missing = missing | (column < 0) | (column >= n)
        total = total + column * stride
        stride *= n
    if plain:
        return None
    found = np.broadcast_to(np.where(missing, -1, total), [sizes[dim] for dim in grid])
    return found.ravel()


def _column(axis: Axis, along: Ints, grid: Sequence[int], sizes: dict[int, int]) -> np.ndarray:
    """An axis's index at each point of the dimensions that it goes along, -1 for none; of length 1 along the others."""
    start, steps, gap = 0, (1,) * len(along), 1
    if isinstance(axis, Along):
        start, steps, gap = axis.start, (axis.step,), axis.gap
    if isinstance(axis, Mixed):
        steps, gap = axis.steps, axis.gap
    here = np.full((1,) * len(grid), start)
    for dim, step in zip(along, steps, strict=True):
        here = here + step * np.arange(sizes[dim]).reshape([-1 if d == dim else 1 for d in grid])
    return here if gap == 1 else np.where(here % gap == 0, here // gap, -1)


def _laid(x: np.ndarray, dims: Sequence[int], grid: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """An array whose axes go along some of the dimensions of a grid, repeated along the others; flat."""
    sizes = dict(zip(dims, x.shape, strict=True))
    return np.broadcast_to(x.reshape([sizes.get(dim, 1) for dim in grid]), shape).ravel()


def _running(sets: Sets, shape: Ints, axis: int, reverse: bool) -> Sets:
    """The union of each element with all ahead of it along an axis; with `reverse`, after it."""
    n = shape[axis]
    check_entries(sets.size * (n + 1) // 2)
    first, second = np.tril_indices(n) if not reverse else np.triu_indices(n)
    numbers = np.moveaxis(np.arange(sets.size).reshape(shape), axis, 0).reshape(n, sets.size // n if n else 0)
    return collected(sets.taken(numbers[second].ravel()), numbers[first].ravel(), sets.size)
