"""What the functions of `nn` take: numbers, arrays and traced values, axes and positions of them, dicts of parameters.

Everything else is refused here, by name, in place of what NumPy would say of it somewhere inside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adjit.trace import apply, asarray, is_tracer, lower
from adjit_runtime import checks
from adjit_runtime.errors import AdjitError, ArgumentError, DTypeError, IndexOutOfRange, ShapeError


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


def scalar(what: str, value: Any) -> Any:
    """One number: a float of Python, which widens no float32, or a traced scalar."""
    if not is_tracer(value):
        return checks.real(what, value)
    if np.ndim(value) != 0:
        raise ShapeError(f"{what} is a number, not an array of shape {np.shape(value)}")
    return floats(value)


def floats(x: Any) -> Any:
    """An operand whose integers and bools are floats: they have a negative."""
    return x if dtype_of(x).kind == "f" else x * 1.0


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


def dtype_of(x: Any) -> np.dtype:
    """The dtype of an operand; of a number of Python that of the array that NumPy makes of it."""
    dtype: np.dtype = x.dtype if is_tracer(x) else np.asarray(x).dtype
    return dtype


def numbers(what: str, x: Any) -> Any:
    """An operand of floats, those that were integers or bools as float64, as in NumPy."""
    return floats(operand(what, x))


def like(x: Any, other: Any) -> Any:
    """An operand of integers or bools in the float dtype of another one: NumPy would make a float64 of both."""
    dtype = dtype_of(other)
    if dtype.kind != "f" or dtype_of(x).kind not in "biu":
        return x
    return x.astype(dtype) if is_tracer(x) else np.asarray(x, dtype=dtype)


def one_axis(what: str, axis: Any, x: Any, of: str = "x") -> int:
    """One axis of `x`, from the front; errors as of `axes`."""
    (found,) = axes(what, checks.integer(what, axis), x, of)
    return found


def within(what: str, x: Any, shape: tuple[int, ...], of: str) -> Any:
    """An operand that broadcasts to `shape`, which is that of `of`, and makes nothing larger of it."""
    x = operand(what, x)
    given = np.shape(x)
    fits = len(given) <= len(shape) and all(n in (1, m) for n, m in zip(given[::-1], shape[::-1], strict=False))
    if not fits:
        raise ShapeError(f"{what} of shape {given} does not broadcast to {of}, {shape}")
    return x


def of_shape(what: str, x: Any, shape: tuple[int, ...], why: str) -> Any:
    """An operand of one shape alone; `why` says where that comes from."""
    x = operand(what, x)
    if np.shape(x) != shape:
        raise ShapeError(f"{what} has the shape {np.shape(x)}, not {shape}: {why}")
    return x


def same_shape(what: str, y: Any, x: Any) -> Any:
    """What a function of the user's gives for each element of `x`: numbers of its shape."""
    y = numbers(what, y)
    if np.shape(y) != np.shape(x):
        raise ShapeError(f"{what} has the shape {np.shape(y)}, not that of what it was given, {np.shape(x)}")
    return y


def positions(what: str, x: Any, size: int, axis: int, kind: str) -> Any:
    """Integers as int64, each at least 0 and below `size`, which is that of an axis; `kind` is what one is called.

    Raises DTypeError for others, and IndexOutOfRange, of traced ones when the program runs."""
    x = operand(what, x)
    if dtype_of(x).kind not in "iu":
        raise DTypeError(f"{what} are integers, not {dtype_of(x)}")
    if is_tracer(x):
        # As unsigned numbers negative ones are too large; counting from the end would hide a wrong one.
        return apply("check_index", x.astype(np.uint64), size=size, axis=axis)
    known = np.asarray(x)
    bad = known[(known < 0) | (known >= size)]
    if bad.size:
        raise IndexOutOfRange(f"{what}: {kind} {bad[0]} is out of bounds for axis {axis} with size {size}")
    return known.astype(np.int64)


def counted(size: int, axis: int, rank: int, beside: Any) -> Any:
    """The numbers 0 to size - 1 along one axis of `rank`, the others 1: no constant of a program where `beside` is
    traced."""
    shape = tuple(size if i == axis else 1 for i in range(rank))
    return lower.iota(shape, axis, np.int64) if is_tracer(beside) else np.arange(size).reshape(shape)


def parameters(what: str, given: Any, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    """The parameters of a layer by their names, None for an optional one that is not there; ArgumentError for what is
    no dict with these."""
    names = ", ".join([*map(repr, required), *(f"{name!r} (or none)" for name in optional)])
    if not isinstance(given, Mapping):
        raise ArgumentError(f"{what} is a dict with {names}, not {checks.shown(given)}")
    missing = [name for name in required if name not in given]
    if missing:
        raise ArgumentError(f"{what} has no {missing[0]!r}: it is a dict with {names}")
    strange = [name for name in given if name not in required and name not in optional]
    if strange:
        raise ArgumentError(
            f"{what} has {checks.shown(strange[0])}, which means nothing here: it is a dict with {names}"
        )
    return {name: given.get(name) for name in (*required, *optional)}
