"""`root`: Newton's method, in one loop of the program.

    x = root(f, x0, p)      f(x, p) = 0, so  f_x dx + f_p dp = 0

    jvp  dx = -f_x^-1 (f_p dp)          vjp  u = f_x^-T g,  p's gradient -f_p^T u

so a derivative takes one system of linear equations, however many steps Newton took."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optree

from adjit.autodiff.jacobian import forward_jacobian
from adjit.custom import CustomRule
from adjit.implicit.called import called
from adjit.implicit.converged import iterate
from adjit.implicit.dense import solve
from adjit.implicit.equation import Equation, equation, leaves_of
from adjit.ir.graph import Graph, closed
from adjit.trace import current_trace, inline, lower
from adjit.trace.refuse import located
from adjit_runtime import checks
from adjit_runtime.errors import ShapeError
from adjit_runtime.public import public


@public({"fun": "f", "func": "f", "function": "f", "init": "x0", "x_init": "x0", "maxiter": "max_steps",
         "maxiters": "max_steps", "max_iter": "max_steps", "rtol": "tol", "atol": "tol", "xtol": "tol",
         "fprime": "the derivative is taken from f: leave it out",
         "args": "write the arguments of f after x0"})  # fmt: skip
def root(
    f: Callable[..., Any], x0: Any, *args: Any, max_steps: int = 50, tol: float | None = None, check: bool = True
) -> Any:
    """x with `f(x, *args) = 0`, by Newton's method from `x0` on; like x0: a float, or an array of shape (n,).

    f gives an array like x. It stops after a step of which no element is larger than `tol` times (1 + the largest of
    x); that of float64 is 1.5e-8, that of float32 3.5e-4, with an error of about the square of that, as steps converge
    quadratically. Where `max_steps` do not do, or x is no longer finite, it raises ConvergenceError, with the line;
    with `check=False` it gives what the last step gave.

    The derivative is that of the implicit function theorem, by args and by all that f reads from outside, and not that
    of the steps: it takes no memory for them, and is 0 by x0. It can be differentiated again, in either mode, batched
    (`vmap`), and stand in loops. The Jacobian and its factors take n * n numbers: for n up to some hundreds.

        >>> import numpy as np, adjit
        >>> kepler = adjit.jit(lambda M, e: adjit.root(lambda E: E - e * np.sin(E) - M, M))
        >>> round(float(kepler(1.0, 0.3)), 9), round(float(adjit.grad(kepler)(1.0, 0.3)), 9)
        (1.288091313, 1.091329301)

    Outside of a traced function it is compiled for each call; in a loop write a `jit` around it, as above. Raises
    ShapeError and DTypeError where f does not give what is like x0."""
    checks.function("root: f", f)
    max_steps = checks.integer("root: max_steps", max_steps, 1)
    tol = None if tol is None else checks.real("root: tol", tol, 0.0)
    check = checks.flag("root: check", check)
    if current_trace() is None:
        return called("root", lambda x0, *args: _root(f, x0, args, max_steps, tol, check), x0, args)
    return _root(f, x0, args, max_steps, tol, check)


def _root(f: Callable[..., Any], x0: Any, args: tuple[Any, ...], max_steps: int, tol: float | None, check: bool) -> Any:
    _, types, _ = leaves_of("root", x0)
    if len(types) > 1 or len(types[0].shape) > 1:
        given = str(types[0]) if len(types) == 1 else f"{len(types)} arrays"
        raise located(
            ShapeError,
            f"root: x0 is {given}, where x is a float, or one array of shape (n,): put the parts into one with "
            "np.concatenate and .ravel()",
        )
    found = equation("root", f, x0, args)
    (x,) = found.x
    if not x.size:
        return x
    tol = float(np.sqrt(np.finfo(x.dtype).eps)) if tol is None else tol
    text = (
        f"root: Newton's method did not find a root in {max_steps} steps: start with another x0, give more max_steps "
        "or a larger tol; with check=False the result is what the last step gave"
    )
    ruled = _rules(found, max_steps, tol, text if check else "")
    return optree.tree_unflatten(found.tree, [ruled(x, *found.parameters)])


def _rules(found: Equation, max_steps: int, tol: float, text: str) -> CustomRule:
    newton = _with_jacobian(found.graph)
    count = len(found.parameters)

    def jacobian(x: Any, parameters: Any) -> Any:
        return inline(newton, [x, *parameters])[1]

    def solved(x0: Any, *parameters: Any) -> Any:
        def step(leaves: list[Any]) -> list[Any]:
            (x,) = leaves
            value, slope = inline(newton, [x, *parameters])
            new = x - _solve(slope, value)
            return [lower.convert(new, x.dtype, x.shape, x.type.weak)]

        return iterate(step, [x0], tol, 1.0, max_steps, text)[0]

    def jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
        x, parameters = ruled(*primals), primals[1:]
        (change,) = found.along(found.graph, [x, *parameters], tangents[1:])
        return x, -_solve(jacobian(x, parameters), change)

    def vjp(x0: Any, *parameters: Any) -> tuple[Any, Any]:
        x = ruled(x0, *parameters)

        def pullback(g: Any) -> tuple[Any, ...]:
            u = -_solve(np.transpose(jacobian(x, parameters)), g)
            return (None, *found.against(found.graph, [x, *parameters], [u], count))

        return x, pullback

    ruled = CustomRule(solved, jvp, vjp)
    ruled.__name__ = "root"
    return ruled


def _with_jacobian(graph: Graph) -> Graph:
    """Of x and parameters, the value and its derivative by x."""
    made = forward_jacobian(graph, [0], 1)
    return closed(made.name, made.inputs, made.nodes, made.outputs)


def _solve(a: Any, b: Any) -> Any:
    """x of a x = b, of a number or a matrix a."""
    return solve(a, b) if lower.shape_of(b) else b / a
