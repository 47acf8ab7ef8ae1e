"""`fixed_point`: x = f(x, p) by iteration, in one loop of the program.

With A = f_x at the fixed point, dx = A dx + f_p dp: an iteration again, and so is the adjoint, w = A^T w + g, of which
p's gradient is f_p^T w. Both converge where f's does. Each is linear in what is added, and its derivative is one of the
two again:

    s = A s + t:   ds = A ds + (dt + dA s)         t's gradient w = A^T w + g,  A's: of <w, A s>
    w = A^T w + g: dw = A^T dw + (dg + dA^T w)     g's gradient s = A s + t,    A's: of <s, A^T w>
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from adjit.custom import CustomRule
from adjit.implicit.called import called
from adjit.implicit.converged import iterate
from adjit.implicit.equation import Equation, equation
from adjit.ir.graph import Graph
from adjit.trace import current_trace, inline
from adjit_runtime import checks
from adjit_runtime.public import public


@public({"fun": "f", "func": "f", "function": "f", "init": "x0", "x_init": "x0", "z_init": "x0", "maxiter": "max_steps",
         "maxiters": "max_steps", "max_iter": "max_steps", "rtol": "tol", "atol": "tol", "xtol": "tol",
         "args": "write the arguments of f after x0"})  # fmt: skip
def fixed_point(
    f: Callable[..., Any], x0: Any, *args: Any, max_steps: int = 1000, tol: float | None = None, check: bool = True
) -> Any:
    """x with `x = f(x, *args)`, by calling f with what it gave, from `x0` on; like x0: a pytree of floats.

    It converges where f is a contraction near x, whose derivative has eigenvalues smaller than 1. It stops where no
    element changes by more than `tol` times (1 + the largest of x); that of float64 is 1.8e-12, that of float32 6.4e-6.
    Where `max_steps` do not do, or x is no longer finite, it raises ConvergenceError, with the line; with
    `check=False` it gives what the last step gave.

    The derivative is that of the implicit function theorem, by args and by all that f reads from outside, and not that
    of the steps: an iteration for the adjoint, which takes no memory for them and converges as fast as f; it is 0 by
    x0. It can be differentiated again, in either mode, batched (`vmap`), and stand in loops.

        >>> import numpy as np, adjit
        >>> dottie = adjit.jit(lambda a: adjit.fixed_point(lambda x: np.cos(a * x), 1.0))
        >>> round(float(dottie(1.0)), 9), round(float(adjit.grad(dottie)(1.0)), 9)
        (0.739085133, -0.297474342)

    Outside of a traced function it is compiled for each call; in a loop write a `jit` around it, as above. Raises
    ShapeError, DTypeError and ArgumentError where f does not give what is like x0."""
    checks.function("fixed_point: f", f)
    max_steps = checks.integer("fixed_point: max_steps", max_steps, 1)
    tol = None if tol is None else checks.real("fixed_point: tol", tol, 0.0)
    check = checks.flag("fixed_point: check", check)
    if current_trace() is None:
        return called("fixed_point", lambda x0, *args: _fixed(f, x0, args, max_steps, tol, check), x0, args)
    return _fixed(f, x0, args, max_steps, tol, check)


def _fixed(
    f: Callable[..., Any], x0: Any, args: tuple[Any, ...], max_steps: int, tol: float | None, check: bool
) -> Any:
    found = equation("fixed_point", f, x0, args)
    if not any(leaf.size for leaf in found.x):
        return optree.tree_unflatten(found.tree, found.x)
    if tol is None:
        tol = max(float(np.finfo(leaf.dtype).eps) for leaf in found.x) ** 0.75
    solver = _Solver(found, max_steps, tol, check)
    return optree.tree_unflatten(found.tree, solver.fixed(found.x, found.parameters))


class _Solver:
    """The three iterations, as functions with rules: of x, parameters and what is added, as flat arguments."""

    def __init__(self, found: Equation, max_steps: int, tol: float, check: bool) -> None:
        self._found, self._max_steps, self._tol, self._check = found, max_steps, tol, check
        self._count = found.size + len(found.parameters)
        self._fixed = CustomRule(self._iterated, self._fixed_jvp, self._fixed_vjp)
        self._fixed.__name__ = "fixed_point"
        self._along, self._against = self._linear("along", found.along_x), self._linear("against", found.against_x)

    def fixed(self, x: Sequence[Any], parameters: Sequence[Any]) -> list[Any]:
        """The fixed point."""
        return list(self._fixed(*x, *parameters))

    def _split(self, leaves: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        return list(leaves[: self._found.size]), list(leaves[self._found.size :])

    def _text(self, what: str) -> str:
        if not self._check:
            return ""
        return (
            f"fixed_point: {what} did not converge in {self._max_steps} steps: start with another x0, give more "
            "max_steps or a larger tol; with check=False the result is what the last step gave"
        )

    # -- the fixed point --

    def _iterated(self, *leaves: Any) -> list[Any]:
        x, parameters = self._split(leaves)

        def step(now: list[Any]) -> list[Any]:
            return list(self._found.at(now, parameters))

        return iterate(step, x, self._tol, 1.0, self._max_steps, self._text("the iteration"))

    def _fixed_jvp(self, primals: Any, tangents: Any) -> tuple[Any, Any]:
        _, parameters = self._split(primals)
        x = self.fixed(*self._split(primals))
        change = self._found.along(self._found.graph, [*x, *parameters], tangents[self._found.size :])
        return x, list(self._along(*x, *parameters, *change))

    def _fixed_vjp(self, *leaves: Any) -> tuple[Any, Any]:
        _, parameters = self._split(leaves)
        x = self.fixed(*self._split(leaves))

        def pullback(g: Any) -> tuple[Any, ...]:
            w = self._against(*x, *parameters, *g)
            gradients = self._found.against(self._found.graph, [*x, *parameters], w, len(parameters))
            return (*[None] * len(x), *gradients)

        return x, pullback

    # -- the linear ones --

    def _linear(self, name: str, graph: Graph) -> CustomRule:
        """`s = t + graph(x, parameters, s)` of x, parameters and t."""
        found, count = self._found, self._count
        text = self._text("the iteration for its derivative")

        def iterated(*leaves: Any) -> list[Any]:
            at, t = leaves[:count], leaves[count:]

            def step(s: list[Any]) -> list[Any]:
                return [a + b for a, b in zip(t, inline(graph, [*at, *s]), strict=True)]

            return iterate(step, t, self._tol, 0.0, self._max_steps, text)

        def jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
            at = primals[:count]
            s = ruled(*primals)
            change = found.along(graph, [*at, *s], tangents[:count])
            added = [a + b for a, b in zip(tangents[count:], change, strict=True)]
            return list(s), list(ruled(*at, *added))

        def vjp(*leaves: Any) -> tuple[Any, Any]:
            at = leaves[:count]
            s = ruled(*leaves)

            def pullback(g: Any) -> tuple[Any, ...]:
                other = self._against if ruled is self._along else self._along
                w = list(other(*at, *g))
                return (*found.against(graph, [*at, *s], w, count), *w)

            return list(s), pullback

        ruled = CustomRule(iterated, jvp, vjp)
        ruled.__name__ = f"fixed_point_{name}"
        return ruled
