"""`checkpoint`: a function whose values a gradient computes again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import optree

from adjit.control import traced
from adjit.control.call import Call, tree
from adjit.control.kept import Kept
from adjit.trace import current_trace
from adjit_runtime import checks
from adjit_runtime.public import public

P = ParamSpec("P")
R = TypeVar("R")


@public({"fn": "f", "fun": "f", "func": "f", "function": "f"})
def checkpoint(f: Callable[P, R]) -> Callable[P, R]:
    """f, whose gradient keeps nothing of what it computes, and computes it again from its arguments.

    Takes and gives what f does: pytrees of arrays and numbers, with whatever other arguments; the results are arrays.
    A gradient runs f twice, and needs memory for the values of one call at a time: wrap the layers of a deep network,
    or the body of a long loop. Calls without a gradient are those of f. Raises ArgumentError where f is no function.

    >>> import numpy as np, adjit
    >>> @adjit.checkpoint
    ... def layer(h, w):
    ...     return np.tanh(h @ w)
    >>> @adjit.grad
    ... def slope(w):
    ...     return layer(layer(np.ones(2), w), w).sum()
    >>> slope(np.zeros((2, 2))).tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    checks.function("checkpoint: f", f)

    @functools.wraps(f)
    def checkpointed(*args: P.args, **kwargs: P.kwargs) -> R:
        if current_trace() is None:
            return f(*args, **kwargs)
        # A loop of one turn: what it reads from outside, f's arguments among it, are its operands.
        call = Call(
            "checkpoint",
            f,
            lambda _, x: (None, f(*args, **kwargs)),
            tree("checkpoint", "carry", None),
            tree("checkpoint", "xs", None),
            1,
            kept=Kept("checkpoint", 1),
        )
        return cast(R, optree.tree_map(lambda stacked: stacked[0], traced.run(call)[1]))

    return checkpointed
