"""Systems of linear equations with few unknowns, in plain NumPy: Gauss-Jordan elimination with partial pivoting."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjit.control import fori_loop
from adjit.custom import custom_rule


def _jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    a, b = primals
    da, db = tangents
    x = solve(a, b)
    return x, solve(a, db - da @ x)


def _vjp(a: Any, b: Any) -> tuple[Any, Any]:
    x = solve(a, b)

    def pullback(g: Any) -> tuple[Any, Any]:
        u = solve(a.T, g)
        return -u[:, None] * x, u

    return x, pullback


def _eliminated(a: Any, b: Any) -> Any:
    n = len(b)
    if n == 1:
        return b / a[0]
    rows = np.arange(n)

    def step(k: Any, system: Any) -> Any:
        """Make the column k that of the identity."""
        size = np.where(rows < k, -1.0, np.abs(system[:, k]))
        pivot = np.argmax(size)
        upper, lower = system[k], system[pivot] / system[pivot, k]
        system[pivot] = upper
        system[k] = lower
        factors = np.where(rows == k, 0.0, system[:, k])
        return system - factors[:, None] * lower

    return fori_loop(0, n, step, np.concatenate([a, b[:, None]], axis=1))[:, n]


solve = custom_rule(_eliminated, jvp=_jvp, vjp=_vjp)
"""x of `a @ x = b`, of a (n, n) and b (n,), in a traced function; n turns of n * n operations. Not finite where a is
singular."""
