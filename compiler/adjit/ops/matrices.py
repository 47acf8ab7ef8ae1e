"""What ops on whole matrices, the last two axes, are written in: types, NumPy's meaning by matrix, rules."""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adjit.ir.builder import Builder, Value
from adjit.ir.types import I64, Array
from adjit_runtime.errors import DTypeError, ShapeError

Shape = tuple[int, ...]


def matrices(name: str, x: Array) -> tuple[Shape, int, int]:
    """The axes in front, rows and columns of an operand; raises ShapeError and DTypeError for what are no matrices."""
    if x.ndim < 2 or x.dtype.kind != "f" or x.dtype.itemsize < 4:
        raise (ShapeError if x.ndim < 2 else DTypeError)(f"{name}: of matrices of float32 or float64, not {x}")
    return x.shape[:-2], x.shape[-2], x.shape[-1]


def square(name: str, x: Array) -> tuple[Shape, int]:
    """The axes in front and the rows; raises ShapeError where there are not as many columns."""
    lead, m, n = matrices(name, x)
    if m != n:
        raise ShapeError(f"{name}: of square matrices, not {x}")
    return lead, n


def each(function: Callable[..., Any], shape: Shape, *arrays: np.ndarray) -> np.ndarray:
    """`function` of the matrices at each place in front."""
    lead = arrays[0].shape[:-2]
    result = np.empty((*lead, *shape), arrays[0].dtype)
    with np.errstate(all="ignore"):
        for place in np.ndindex(*lead):
            result[place] = function(*(x[place] for x in arrays))
    return result


def turned(b: Builder, x: Value) -> Value:
    """Each matrix transposed."""
    rank = len(x.shape)
    turned: Value = b.transpose(x, axes=(*range(rank - 2), rank - 1, rank - 2))
    return turned


def product(b: Builder, x: Value, y: Value) -> Value:
    """The product of each matrix with its own."""
    lead = string.ascii_letters[3 : 1 + len(x.shape)]
    found: Value = b.contract(x, y, spec=f"{lead}ab,{lead}bc->{lead}ac")
    return found


def triangle(b: Builder, x: Value, *, lower: bool, diagonal: float = 1.0) -> Value:
    """The lower or upper triangle of each matrix, with the diagonal times a number, and zeros elsewhere."""
    rank = len(x.shape)
    row, column = (b.iota(shape=x.shape, axis=axis, dtype=I64) for axis in (rank - 2, rank - 1))
    kept = b.select(row > column if lower else row < column, x, 0.0)
    on_it: Value = x if diagonal == 1.0 else diagonal * x
    found: Value = b.select(row.eq(column), on_it, kept) if diagonal else kept
    return found


def parts(b: Builder, x: Value, shapes: Sequence[Shape]) -> list[Value]:
    """The parts of each flat result."""
    found, start, lead = [], 0, x.shape[:-1]
    for shape in shapes:
        size = math.prod(shape)
        zeros, ones = (0,) * len(lead), (1,) * len(lead)
        part = b.slice(x, start=(*zeros, start), stop=(*lead, start + size), step=(*ones, 1))
        found.append(b.reshape(part, shape=(*lead, *shape)))
        start += size
    return found


def symmetric(b: Builder, x: Value) -> Value:
    """The symmetric matrix of which this is the lower triangle."""
    return triangle(b, x, lower=True) + turned(b, triangle(b, x, lower=True, diagonal=0.0))


def as_lower(b: Builder, x: Value) -> Value:
    """The gradient by a lower triangle, of one by a symmetric matrix, which need not be symmetric itself."""
    return triangle(b, x + turned(b, x), lower=True, diagonal=0.5)
