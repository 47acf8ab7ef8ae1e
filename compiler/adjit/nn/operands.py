"""What the functions of `nn` take: numbers, arrays and traced values, and axes of them.

Everything else is refused here, by name, in place of what NumPy would say of it somewhere inside."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjit.trace import asarray, is_tracer, lower
from adjit_runtime import checks
from adjit_runtime.errors import AdjitError, DTypeError, ShapeError


def operand(what: str, x: Any) -> Any:
    """`x` where it is traced, a number, or an array of numbers; lists as arrays. Raises DTypeError, and ShapeError for
    lists of different lengths."""
    if is_tracer(x):
        return x
    try:
        array = asarray(x) if isinstance(x, list | tuple) else np.asarray(x)
    except ShapeError as error:
        raise ShapeError(f"{what}: {error}") from None
    except AdjitError:
        raise
    except (TypeError, OverflowError):
        raise DTypeError(f"{what} is an array of numbers, not {checks.shown(x)}") from None
    except ValueError as error:
        raise ShapeError(f"{what} is no array: {error}") from None
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"{what} is an array of numbers, not {checks.shown(x)} of dtype {array.dtype}")
    return x if isinstance(x, np.ndarray | np.generic | float | int) else array


def factor(what: str, value: Any, x: Any) -> Any:
    """A number that is not NaN, or an operand that broadcasts against `x`."""
    value = operand(what, value)
    if not is_tracer(value) and np.ndim(value) == 0:
        checks.real(what, value.item() if isinstance(value, np.generic) else value)
    try:
        lower.broadcast_shapes(what, np.shape(value), np.shape(x))
    except ShapeError:
        raise ShapeError(f"{what} of shape {np.shape(value)} does not broadcast against {np.shape(x)}") from None
    return value


def floats(x: Any) -> Any:
    """An operand whose integers and bools are floats: they have a negative."""
    return x if (x.dtype if is_tracer(x) else np.asarray(x).dtype).kind == "f" else x * 1.0


def axes(what: str, axis: Any, x: Any, of: str = "x") -> tuple[int, ...]:
    """The axes of `x`, which is called `of`, that `axis` names (an int, several, or None for all), from the front.

    ArgumentError for what is no axis; ShapeError for one that is not there, or where nothing lies along them."""
    shape = np.shape(x)
    rank = len(shape)
    if axis is None:
        found = tuple(range(rank))
    else:
        given = axis if isinstance(axis, tuple | list) else (axis,)
        numbers = [checks.integer(what, i) for i in given]
        for i in numbers:
            if not -rank <= i < rank:
                raise ShapeError(f"{what}: {of} of shape {shape} has no axis {i}")
        if len({i % rank for i in numbers}) < len(numbers):
            raise ShapeError(f"{what}: one stands twice in {axis}")
        found = tuple(i % rank for i in numbers)
    rest = math.prod(n for i, n in enumerate(shape) if i not in found)
    if rest and 0 in (shape[i] for i in found):
        raise ShapeError(f"{what}={axis}: {of} of shape {shape} is zero-size along it")
    return found
