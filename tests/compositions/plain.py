"""What stands for `adjit` where a program is to run as plain Python: functions that give what compiled ones give, by
calling them as they are. What has no meaning without a compiler (derivatives, equations, formulas) is adjit's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import adjit
from adjit.trace import current_trace


def jit(function: Callable[..., Any], control_flow: bool = False) -> Callable[..., Any]:
    """The function itself; what decides by values that are traced is the compiler's, where a trace is under way."""
    if not control_flow:
        return function

    def called(*args: Any) -> Any:
        return function(*args) if current_trace() is None else adjit.jit(function, control_flow=True)(*args)

    return called


def checkpoint(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def vmap(function: Callable[..., Any], in_axes: Any = 0, out_axes: int = 0, chunk: int | None = None) -> Any:
    """A loop over the values, for functions of arrays that give an array."""

    def mapped(*args: Any) -> Any:
        axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
        size = next(np.shape(a)[axis] for a, axis in zip(args, axes, strict=True) if axis is not None)
        taken = [[a if axis is None else np.moveaxis(a, axis, 0)[i] for a, axis in zip(args, axes, strict=True)]
                 for i in range(size)]  # fmt: skip
        return np.stack([function(*each) for each in taken], axis=out_axes)

    return mapped


def __getattr__(name: str) -> Any:
    return getattr(adjit, name)
