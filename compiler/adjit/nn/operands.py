"""What the functions of `nn` take: numbers, arrays and traced values, and axes of them.

Everything else is refused here, by name, in place of what NumPy would say of it somewhere inside."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjit.trace import asarray, is_tracer
from adjit_runtime import checks
from adjit_runtime.errors import AdjitError, DTypeError, ShapeError


def operand(what: str, x: Any) -> Any:
    """`x` where it is traced, a number, or an array of numbers; lists as arrays. Raises DTypeError, and ShapeError for
    lists of different lengths."""
    if is_tracer(x):
        return x
    try:
        array = asarray(x) if isinstance(x, list | tuple) else np.asarray(x)
    except AdjitError:
        raise
    except (TypeError, OverflowError):
        raise DTypeError(f"{what} is an array of numbers, not {checks.shown(x)}") from None
    except ValueError as error:
        raise ShapeError(f"{what} is no array: {error}") from None
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"{what} is an array of numbers, not {checks.shown(x)} of dtype {array.dtype}")
    return x if isinstance(x, np.ndarray | np.generic | float | int) else array


def scalar(what: str, x: Any) -> Any:
    """A traced value, an array, or a number, which is not NaN."""
    x = operand(what, x)
    if not is_tracer(x) and np.ndim(x) == 0:
        checks.real(what, x.item() if isinstance(x, np.generic) else x)
    return x


def axes(what: str, axis: Any, x: Any) -> tuple[int, ...]:
    """The axes of `x` that `axis` names (an int, several, or None for all), from the front. ArgumentError for what is
    no axis; ShapeError for one that is not there, or where nothing lies along them."""
    shape = np.shape(x)
    rank = len(shape)
    if axis is None:
        found = tuple(range(rank))
    else:
        given = axis if isinstance(axis, tuple | list) else (axis,)
        numbers = [checks.integer(what, i) for i in given]
        if any(not -rank <= i < rank for i in numbers) or len({i % rank for i in numbers}) < len(numbers):
            raise ShapeError(f"{what}={axis} is out of bounds, or stands twice, for an array of {rank} dimensions")
        found = tuple(i % rank for i in numbers)
    rest = math.prod(n for i, n in enumerate(shape) if i not in found)
    if rest and 0 in (shape[i] for i in found):
        raise ShapeError(f"{what}={axis}: an array of shape {shape} has nothing along it")
    return found
