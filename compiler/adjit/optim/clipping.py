"""Clipping by the norm of all gradients together. Plain NumPy, traced into the training step."""

from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np


def clipped(gradients: list[Any], limit: Any) -> list[Any]:
    """Gradients scaled so that the norm of all together is at most `limit` (Pascanu, Mikolov, Bengio 2013).

    Nothing overflows on the way: see `_norm`; and a norm too large for its inverse to be a normal number of float32
    scales twice."""
    norm = _norm(gradients)
    down = np.where(norm > 2.0**64, 2.0**-64, 1.0)
    # Not limit / max(norm, limit) alone: 0 / 0 where the limit is 0.
    scale = np.where(norm > limit, limit / (norm * down), 1.0)
    down = np.where(norm > limit, down, 1.0)
    return [g * down.astype(g.dtype) * scale.astype(g.dtype) for g in gradients]


def _norm(gradients: list[Any]) -> Any:
    """The norm of all elements, float64. Squares of float32 are summed in float64, in which they are numbers; where
    there is float64, all are summed once more, times a power of two where the first sum was infinite or tiny."""
    wide = [g.astype(np.float64) for g in gradients]
    total = _squares(wide)
    if all(g.dtype.itemsize < 8 for g in gradients):
        return np.sqrt(total)
    down = np.where(total == np.inf, 2.0**-600, np.where(total < 2.0**-900, 2.0**600, 1.0))
    return np.sqrt(_squares([g * down for g in wide])) / down


def _squares(arrays: list[Any]) -> Any:
    return functools.reduce(operator.add, [np.sum(a * a) for a in arrays])
