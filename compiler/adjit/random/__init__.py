"""Random numbers from counters: same key, same numbers, on every machine and for any number of threads.

A key is an int64 scalar. Each function is pure: it takes a key and gives arrays; draw twice with one key and the
numbers are the same, so `split` or `fold_in` first. Works on traced keys inside a compiled function and on plain ones
outside.
The generator is Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3,
SC 2011).

    >>> from adjit import random
    >>> first, second = random.split(random.key(0), 2)
    >>> random.uniform(first, (2, 3)).shape
    (2, 3)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from adjit.ir.types import F32, F64, I64
from adjit.trace import apply, is_tracer, lower
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, DTypeError, OutOfMemory, ShapeError
from adjit_runtime.public import public

__all__ = ["bernoulli", "bits", "fold_in", "key", "normal", "permutation", "split", "uniform"]

# Counters of numbers are below 2**61, those of new keys above: a stream never meets the keys made from its own.
_FOLD = 1 << 61
_SPLIT = 1 << 62
_LOWEST = -(1 << 63)
# More keys than a list has room for.
_MOST_KEYS = (1 << 32) - 1
_DTYPES = (F32, F64)
_KNOWN = {
    "size": "shape",
    "p": "probability",
    "minval": "low",
    "maxval": "high",
    "num": "count",
    "n": "count",
    "rng": "key",
    "loc": "numbers are of mean 0: loc + scale * normal(key, shape)",
    "scale": "numbers are of deviation 1: loc + scale * normal(key, shape)",
}
"""Arguments that other libraries have, and what they are here."""


@public(_KNOWN, "random.key")
def key(seed: Any) -> Any:
    """The key of an integer seed: int64, shape (). Every seed in the range of int64 has its own stream.

    One from 2**63 to 2**64 - 1 is read as the int64 of the same bits, as a traced uint64 is. Raises ArgumentError for
    what is no integer and WeakOverflowError (an OverflowError) for one of more than 64 bits.

    >>> from adjit import random
    >>> random.key(7)
    np.int64(7)
    """
    if not is_tracer(seed) and isinstance(seed, int | np.unsignedinteger) and checks.HIGHEST < seed < 1 << 64:
        seed = int(seed) - (1 << 64)
    return _int("random.key: seed", seed)


@public(_KNOWN, "random.fold_in")
def fold_in(key: Any, data: Any) -> Any:
    """A new key from a key and an integer 0 <= data < 2**61, such as a step count. int64, shape ()."""
    number = _int("random.fold_in: data", data, 0, _FOLD - 1)
    return apply("random_bits", _checked(key), number | np.int64(_FOLD))


@public(_KNOWN, "random.split")
def split(key: Any, count: int = 2) -> list[Any]:
    """`count` new keys, independent of each other and of the numbers that `key` gives."""
    key, count = _checked(key), checks.integer("random.split: count", count, 0, _MOST_KEYS)
    return [apply("random_bits", key, np.int64(_SPLIT | i)) for i in range(count)]


@public(_KNOWN, "random.bits")
def bits(key: Any, shape: Sequence[int] | int = ()) -> Any:
    """64 random bits for each element: int64 of `shape`."""
    key, shape = _checked(key), _shape(shape)
    return apply("random_bits", key, _counters(key, shape))


@public(_KNOWN, "random.uniform")
def uniform(key: Any, shape: Sequence[int] | int = (), low: Any = 0.0, high: Any = 1.0, dtype: Any = np.float32) -> Any:
    """Uniform on [low, high): `dtype` (float32 or float64) of `shape`. 24 or 53 random bits an element.

    Finite for all finite bounds; what rounding would make `high` is `low`."""
    dtype, shape = _dtype(dtype), _shape(shape)
    _check_numbers(shape, low=low, high=high)
    unit = _unit(bits(key, shape), dtype)
    if not (is_tracer(low) or is_tracer(high) or np.ndim(low) or np.ndim(high)) and (low, high) == (0, 1):
        return unit
    first, last = _number(low, dtype), _number(high, dtype)
    known = not any(is_tracer(x) or np.ndim(x) for x in (first, last))
    with np.errstate(over="ignore"):
        plain = known and np.isfinite(last - first)
    value = unit * (last - first) + first if plain else _between(unit, first, last)
    outside = np.where(first < last, value >= last, value <= last)
    return np.where(outside, first, value)[()]


@public(_KNOWN, "random.normal")
def normal(key: Any, shape: Sequence[int] | int = (), dtype: Any = np.float32) -> Any:
    """Standard normal: `dtype` (float32 or float64) of `shape`, by the transform of Box and Muller (1958).

    Logarithm and cosine are the compiler's in a compiled function and NumPy's outside: they may differ in the last bit.
    """
    dtype, shape = _dtype(dtype), _shape(shape)
    words = bits(key, (*shape, 2))
    radius = np.sqrt(-2 * np.log1p(-_unit(words[..., 0], dtype)))
    return radius * np.cos(_number(2 * math.pi, dtype) * _unit(words[..., 1], dtype))


@public(_KNOWN, "random.bernoulli")
def bernoulli(key: Any, probability: Any = 0.5, shape: Sequence[int] | int = ()) -> Any:
    """True with the given probability: bool of `shape`; as `uniform(key, shape, dtype=np.float64) < probability`.

    Raises ArgumentError for a known probability outside [0, 1]."""
    _check_numbers(_shape(shape), probability=probability)
    if is_tracer(probability) or np.ndim(probability):
        return uniform(key, shape, dtype=F64) < probability
    return chosen(
        key, checks.real("random.bernoulli: probability", probability, 0.0, 1.0), _counters(key, _shape(shape))
    )


def chosen(key: Any, probability: float, places: Any) -> Any:
    """What `bernoulli` gives at these places of an array, counted in C order: bool of the shape of `places`."""
    # The comparison of `bernoulli` in integers: the top 53 bits of the word, as unsigned, below probability * 2**53.
    bound = math.ceil(probability * 2.0**53) << 11
    words = apply("random_bits", _checked(key), places)
    if bound == 1 << 64:
        return words == words
    return (words ^ np.int64(_LOWEST)) < np.int64(bound + _LOWEST)


@public(_KNOWN, "random.permutation")
def permutation(key: Any, count: int) -> np.ndarray:
    """The numbers 0 to count - 1 in random order: int64[count], by Fisher and Yates (Durstenfeld 1964).

    Not for traced keys. `step.run` shuffles with `permutation(fold_in(seed, step count), rows)`."""
    if is_tracer(key):
        raise DTypeError("adjit.random.permutation takes a key that is known, not a traced one")
    count = checks.integer("random.permutation: count", count, 0)
    order: np.ndarray = _counters(_checked(key), checks.extents("random.permutation: count", count))
    words = bits(key, count).view(np.uint64)
    # Position i swaps with floor(word * (i + 1) / 2**64), in exact integers.
    for i in range(count - 1, 0, -1):
        j = int(words[i]) * (i + 1) >> 64
        order[i], order[j] = order[j], order[i]
    return order


def _checked(key: Any) -> Any:
    """A key that is one; raises DTypeError, and WeakOverflowError for a number outside int64."""
    if is_tracer(key):
        if key.dtype != I64 or key.shape != ():
            raise DTypeError(
                f"a key is an int64 scalar, not {key.dtype} of shape {key.shape}; adjit.random.key makes one"
            )
        return key
    try:
        return np.int64(checks.integer("a key", key))
    except ArgumentError:
        raise DTypeError(f"a key is an int64 scalar, not {checks.shown(key)}; adjit.random.key makes one") from None


def _int(what: str, data: Any, low: int = checks.LOWEST, high: int = checks.HIGHEST) -> Any:
    """An integer as int64; of a traced one the type alone is checked."""
    if not is_tracer(data):
        return np.int64(checks.integer(what, data, low, high))
    if data.dtype.kind not in "iu" or data.shape != ():
        raise DTypeError(f"{what} is an integer scalar, not {data.dtype} of shape {data.shape}")
    return lower.cast(data, I64)


def _shape(shape: Sequence[int] | int) -> tuple[int, ...]:
    return checks.extents("shape", shape)


def _check_numbers(shape: tuple[int, ...], **given: Any) -> None:
    """Refuse what is neither traced nor made of real numbers, or does not broadcast against the shape."""
    for name, x in given.items():
        if is_tracer(x):
            continue
        try:
            dtype = np.asarray(x).dtype
        except ValueError:
            dtype = np.dtype(object)
        if dtype.kind not in "biuf":
            raise DTypeError(f"random: {name} is a number or an array of numbers, not {checks.shown(x)}")
        if np.ndim(x) == 0:
            checks.real(f"random: {name}", x.item() if isinstance(x, np.generic) else x)
        try:
            lower.broadcast_shapes("random", np.shape(x), shape)
        except ShapeError:
            raise ShapeError(f"random: {name} of shape {np.shape(x)} does not broadcast against {shape}") from None


def _dtype(dtype: Any) -> np.dtype:
    try:
        wanted: np.dtype = np.dtype(dtype)
    except Exception:
        # NumPy shows what is no dtype, and that may raise what it likes.
        raise DTypeError(f"dtype is float32 or float64, not {checks.shown(dtype)}") from None
    if wanted not in _DTYPES:
        raise DTypeError(f"dtype of random numbers is float32 or float64, not {wanted}")
    return wanted


def _counters(key: Any, shape: tuple[int, ...]) -> Any:
    size = math.prod(shape)
    if is_tracer(key):
        return np.reshape(lower.iota((size,), 0, I64), shape)
    try:
        return np.arange(size, dtype=np.int64).reshape(shape)
    except MemoryError:
        raise OutOfMemory(f"there is no memory for random numbers of shape {shape}") from None


def _number(x: Any, dtype: np.dtype) -> Any:
    return x.astype(dtype) if is_tracer(x) else dtype.type(x)


def _between(unit: Any, first: Any, last: Any) -> Any:
    """As unit * (last - first) + first, to the bit but for subnormal numbers, where last - first would overflow."""
    return (unit * (last * 0.5 - first * 0.5) + first * 0.5) * 2.0


def _unit(words: Any, dtype: np.dtype) -> Any:
    """The top bits of each word as a float in [0, 1)."""
    digits = 24 if dtype == F32 else 53
    # The shift of a signed word drags its sign along; the mask takes it off.
    top = (words >> np.int64(64 - digits)) & np.int64((1 << digits) - 1)
    return top.astype(dtype) * dtype.type(2.0**-digits)
