"""A cache of keys and values: what earlier tokens left, beside what new ones write at their places."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjit.nn.operands import counted, dtype_of, operand, parameters, positions
from adjit.trace import apply, is_tracer
from adjit_runtime.errors import ArgumentError, DTypeError, IndexOutOfRange, ShapeError


def extended(cache: Any, position: Any, q: Any, k: Any, v: Any) -> tuple[dict[str, Any], Any]:
    """A cache with k and v of new tokens from `position` on, and the bools (time, places) of what queries see there."""
    if cache is None:
        raise ArgumentError("attention: position is that of the first token in a cache, and there is no cache")
    found = parameters("attention: cache", cache, ("keys", "values"))
    time = np.shape(k)[-2]
    if np.shape(q)[-2] != time:
        raise ShapeError(
            f"attention: q has {np.shape(q)[-2]} tokens, and k and v have {time}: with a cache they are those of the "
            "same tokens"
        )
    keys, values = _fitting("keys", found["keys"], k, "k"), _fitting("values", found["values"], v, "v")
    most = np.shape(keys)[-2]
    if np.shape(values)[-2] != most:
        raise ShapeError(f"attention: cache['keys'] has {most} places, and cache['values'] {np.shape(values)[-2]}")
    places = _places(position, time, most)
    seen = counted(most, 1, 2, places) <= places[:, None]
    return {"keys": _written(keys, places, k), "values": _written(values, places, v)}, seen


def _fitting(part: str, kept: Any, new: Any, of: str) -> Any:
    """Kept keys or values of the shape of new ones, but for how many there are."""
    what = f"attention: cache[{part!r}]"
    kept = operand(what, kept)
    shape, (*lead, _, size) = np.shape(kept), np.shape(new)
    if len(shape) != len(lead) + 2 or shape[:-2] != tuple(lead) or shape[-1] != size:
        right = ", ".join(map(str, (*lead, "places", size)))
        raise ShapeError(f"{what} is of shape {shape}, not ({right}), for {of} of shape {np.shape(new)}")
    if dtype_of(kept) != dtype_of(new):
        raise DTypeError(
            f"{what} is of {dtype_of(kept)}, and {of} of {dtype_of(new)}: make the cache with this dtype, or cast what "
            "the layer is given"
        )
    return kept


def _places(position: Any, time: int, most: int) -> Any:
    """The places of so many tokens from `position` on; IndexOutOfRange where they are not all in the cache."""
    what = "attention: position"
    if position is None:
        raise ArgumentError(f"{what} is that of the first token in the cache, an integer, not None")
    position = operand(what, position)
    if dtype_of(position).kind not in "iu":
        raise DTypeError(f"{what} is an integer, not of {dtype_of(position)}")
    if np.ndim(position) != 0:
        raise ShapeError(f"{what} is one integer, not an array of shape {np.shape(position)}")
    if is_tracer(position):
        # As int64 before anything is added: uint64 and int64 make a float64, and what wraps is negative, so refused.
        return positions(what, position.astype(np.int64) + counted(time, 0, 1, position), most, 0, "place")
    first = int(position)
    if not 0 <= first <= most - time:
        raise IndexOutOfRange(f"{what} {first} is out of bounds: the cache has {most} places, and {time} are written")
    return first + np.arange(time)


def _written(kept: Any, places: Any, new: Any) -> Any:
    """A new array, which a program makes in the place of the old one where nothing else reads that."""
    if any(map(is_tracer, (kept, places, new))):
        return apply("scatter", kept, places, new, axis=np.ndim(kept) - 2)
    written = np.array(kept)
    written[..., places, :] = new
    return written
