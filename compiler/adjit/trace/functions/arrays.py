"""Compositions over whole arrays, in the notation of rules: kept axes, diagonals, triangles, products of any operands.

`b` is a builder; operands are its Values of one dtype. NumPy's arguments are normalised before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from adjit.ir.subscripts import Subscripts
from adjit.ir.types import I64


def with_kept(b: Any, y: Any, axes: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """A reduced value with its axes back as ones."""
    return b.reshape(y, shape=tuple(1 if i in axes else n for i, n in enumerate(shape)))


def spread(b: Any, y: Any, axes: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """A reduced value in the shape before the reduction."""
    return b.broadcast(y, shape=shape, axes=tuple(i for i in range(len(shape)) if i not in axes))


def count(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    """How many elements each result of a reduction combines."""
    return math.prod(shape[i] for i in axes)


def reduced_shape(shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    """The shape after a reduction."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape) if keepdims or i not in axes)


def diagonal_length(rows: int, columns: int, offset: int) -> int:
    """Length of the diagonal number `offset` of a matrix."""
    return max(0, min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns))


def diagonal(b: Any, x: Any, offset: int, axis1: int, axis2: int) -> Any:
    """A diagonal of the two axes as a new last axis: one strided slice of the matrix laid out flat."""
    rest = tuple(i for i in range(len(x.shape)) if i not in (axis1, axis2))
    order = (*rest, axis1, axis2)
    if order != tuple(range(len(order))):
        x = b.transpose(x, axes=order)
    lead, (rows, columns) = x.shape[:-2], x.shape[-2:]
    length = diagonal_length(rows, columns, offset)
    flat = b.reshape(x, shape=(*lead, rows * columns))
    first = offset if offset >= 0 else -offset * columns
    start = first if length else 0
    stop = start + (length - 1) * (columns + 1) + 1 if length else start
    return b.slice(flat, start=(0,) * len(lead) + (start,), stop=(*lead, stop), step=(1,) * len(lead) + (columns + 1,))


def from_diagonal(b: Any, x: Any, offset: int) -> Any:
    """The square matrix with the vector x on its diagonal number `offset`."""
    (length,) = x.shape
    n = length + abs(offset)
    if length == 0:
        return b.full(0, x.type.with_shape((n, n)))
    first = offset if offset >= 0 else -offset * n
    last = first + (length - 1) * (n + 1) + 1
    flat = b.pad(x, low=(first,), high=(n * n - last,), interior=(n,), value=0)
    return b.reshape(flat, shape=(n, n))


def below(b: Any, shape: tuple[int, ...], offset: int) -> Any:
    """Where the column is at most row + offset, over the last two axes."""
    row = b.iota(shape=shape, axis=len(shape) - 2, dtype=I64)
    column = b.iota(shape=shape, axis=len(shape) - 1, dtype=I64)
    return column <= (row + offset if offset else row)


def product(b: Any, spec: str, x: Any, y: Any) -> Any:
    """contract, or a plain product where nothing is summed."""
    found = Subscripts.of(spec)
    if found.summed:
        return b.contract(x, y, spec=found)
    sizes = found.sizes(x.shape, y.shape)
    shape = tuple(sizes[letter] for letter in found.result)
    return _laid(b, x, found.left, found.result, shape) * _laid(b, y, found.right, found.result, shape)


def _laid(b: Any, x: Any, letters: str, result: str, shape: tuple[int, ...]) -> Any:
    """x with its axes in the order of `result`, spread over `shape`."""
    order = tuple(sorted(range(len(letters)), key=lambda i: result.index(letters[i])))
    if order != tuple(range(len(order))):
        x = b.transpose(x, axes=order)
    axes = tuple(result.index(letters[i]) for i in order)
    return x if axes == tuple(range(len(shape))) else b.broadcast(x, shape=shape, axes=axes)


def contract_all(
    b: Any, terms: Sequence[str], result: str, operands: Sequence[Any], sizes: dict[str, int], path: Sequence[Any]
) -> Any:
    """A contraction of any number of operands, pair after pair along `path` (as `np.einsum_path` gives it)."""
    items = [_own(b, term, x, sizes) for term, x in zip(terms, operands, strict=True)]
    for positions in path:
        chosen = [items.pop(position) for position in sorted(positions, reverse=True)][::-1]
        while len(chosen) > 1:
            others = "".join(term for term, _ in items + chosen[2:]) + result
            chosen = [_pair(b, chosen[0], chosen[1], others, result), *chosen[2:]]
        items.append(chosen[0])
    ((term, x),) = items
    term, x = _summed(b, term, x, result)
    order = tuple(term.index(letter) for letter in result if letter in term)
    if order != tuple(range(len(order))):
        x = b.transpose(x, axes=order)
    if len(term) == len(result):
        return x
    # A letter of size 1 that was dropped everywhere comes back.
    return b.reshape(x, shape=tuple(sizes[letter] for letter in result))


def _own(b: Any, term: str, x: Any, sizes: dict[str, int]) -> tuple[str, Any]:
    """An operand whose letters are distinct and have their full size: diagonals taken, stretched axes dropped."""
    keep = [i for i, letter in enumerate(term) if x.shape[i] == sizes[letter]]
    if len(keep) < len(term):
        x = b.reshape(x, shape=tuple(x.shape[i] for i in keep))
        term = "".join(term[i] for i in keep)
    while len(set(term)) < len(term):
        letter = next(c for c in term if term.count(c) > 1)
        first = term.index(letter)
        second = term.index(letter, first + 1)
        x = diagonal(b, x, 0, first, second)
        term = term[:first] + term[first + 1 : second] + term[second + 1 :] + letter
    return term, x


def _summed(b: Any, term: str, x: Any, needed: str) -> tuple[str, Any]:
    """x without the letters that nothing else needs."""
    axes = tuple(i for i, letter in enumerate(term) if letter not in needed)
    if not axes:
        return term, x
    return "".join(letter for letter in term if letter in needed), b.sum(x, axes=axes)


def _pair(b: Any, first: tuple[str, Any], second: tuple[str, Any], others: str, last: str) -> tuple[str, Any]:
    left, x = _summed(b, *first, second[0] + others)
    right, y = _summed(b, *second, left + others)
    # Letters of both that are kept lead, then those of the left operand, then those of the right one.
    both = [c for c in left if c in right and c in others]
    mine = [c for c in left if c not in right]
    theirs = [c for c in right if c not in left]
    result = "".join(both + mine + theirs)
    # The last pair gives the axes in the order that is asked for.
    result = last if sorted(last) == sorted(result) else result
    return result, product(b, f"{left},{right}->{result}", x, y)


def chain_order(shapes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """For each product of a chain of matrices (innermost first) the pair of operand numbers; results count on."""
    n = len(shapes)
    sizes = [shape[0] for shape in shapes] + [shapes[-1][1]]
    cost = np.zeros((n, n))
    cut = np.zeros((n, n), dtype=int)
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            tries = [cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1] for k in range(i, j)]
            cut[i, j] = i + int(np.argmin(tries))
            cost[i, j] = min(tries)
    pairs: list[tuple[int, int]] = []

    def split(i: int, j: int) -> int:
        if i == j:
            return i
        k = int(cut[i, j])
        left, right = split(i, k), split(k + 1, j)
        pairs.append((left, right))
        return n + len(pairs) - 1

    split(0, n - 1)
    return pairs
