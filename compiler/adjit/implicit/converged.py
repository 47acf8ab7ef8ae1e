"""How an iteration ends: what it carries beside x says so, and a check at run time, where that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adjit.control import while_loop
from adjit.trace import lower

Leaves = list[Any]


def iterate(
    step: Callable[[Leaves], Leaves], start: Sequence[Any], tol: float, floor: float, max_steps: int, text: str
) -> Leaves:
    """`x = step(x)` until no element of x changes by more than `tol` times (`floor` + the largest element of x).

    ConvergenceError with `text`, where there is one, when `max_steps` did not do; then what is there is not finite, or
    the iteration goes on. Without it what the last step gave."""

    def unsure(carry: Any) -> Any:
        _, change, bound = carry
        return change > bound

    def body(carry: Any) -> Any:
        x, change, _ = carry
        new = step(x)
        change = _largest([a - b for a, b in zip(new, x, strict=True)])
        return new, change, tol * (floor + _largest(new))

    dtype = np.result_type(*(lower.dtype_of(leaf) for leaf in start))
    some, none = (lower.full(value, (), dtype) for value in (1.0, 0.0))
    x, change, bound = while_loop(unsure, body, (list(start), some, none), max_steps=max_steps)
    return holding(x, (change <= bound) & (change < np.inf), text) if text else list(x)


def _largest(leaves: Sequence[Any]) -> Any:
    found = [np.max(np.abs(leaf)) for leaf in leaves if lower.type_of(leaf).size]
    total = found[0]
    for one in found[1:]:
        total = np.maximum(total, one)
    return total


def holding(leaves: Sequence[Any], holds: Any, text: str, error: str = "ConvergenceError") -> Leaves:
    """The leaves, after a check: the place where each is read is known when that held."""
    place = lower.emit("check_holds", lower.full(0, (), np.int64), holds, error=error, text=text)
    return [lower.emit("take", lower.reshape(leaf, (1, *lower.shape_of(leaf))), place, axis=0) for leaf in leaves]
