"""A solver that is called outside of a trace is compiled for that call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optree

from adjit.driver import jit
from adjit.implicit.equation import leaves_of
from adjit_runtime.guests import tree_flatten


def called(name: str, solver: Callable[..., Any], x0: Any, args: tuple[Any, ...]) -> Any:
    """`solver(x0, *args)`; what is no float and no array stays what it is, so that it may decide about shapes."""
    leaves_of(name, x0)
    leaves, tree = tree_flatten((x0, args))
    moving = [i for i, leaf in enumerate(leaves) if isinstance(leaf, float | np.floating | np.ndarray)]

    def run(arguments: list[Any]) -> Any:
        found = list(leaves)
        for i, value in zip(moving, arguments, strict=True):
            found[i] = value
        start, rest = optree.tree_unflatten(tree, found)
        return solver(start, *rest)

    run.__name__ = name
    return jit(run)([leaves[i] for i in moving])
