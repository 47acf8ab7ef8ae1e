"""Numbers and keys of many models: an array with one for each of them, or one for all.

`models` is the shape of the models that a state is of, () for a single one."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, ShapeError, WeakOverflowError


def numbers_for(what: str, value: Any, models: tuple[int, ...]) -> np.ndarray:
    """A number for each of the models, which is the same for all where one is given."""
    given = checks.reals(what, value)
    return _for_each(what, np.asarray(given), models, "number")


def keys_for(what: str, value: Any, models: tuple[int, ...]) -> np.ndarray:
    """A key for each of the models, which is the same for all where one is given."""
    several = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim)
    if not several:
        return _for_each(what, np.asarray(checks.integer(what, value), np.int64), models, "key")
    array = checks.array_of(value)
    if array.dtype.kind not in "iu":
        raise ArgumentError(
            f"{what} is an integer, or an array of them with one for each model, not {checks.shown(value)}"
        )
    if array.dtype.kind == "u" and array.size and array.max() > checks.HIGHEST:
        raise WeakOverflowError(f"{what} is an array of integers, and {array.max()} does not fit int64")
    return _for_each(what, array.astype(np.int64), models, "key")


def _for_each(what: str, given: np.ndarray, models: tuple[int, ...], kind: str) -> np.ndarray:
    if given.ndim and not models:
        raise ArgumentError(
            f"{what} is an array of shape {given.shape}, with a {kind} for each of several models, and this is a step "
            "of one: adjit.vmap(step) trains several"
        )
    try:
        return np.broadcast_to(given, models)
    except ValueError:
        raise ShapeError(
            f"{what} is an array of shape {given.shape}, and the shape of the models is {models}: give a {kind} for "
            "each, or one for all"
        ) from None
