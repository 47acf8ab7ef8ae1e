"""`minimize`: L-BFGS, in one loop of the program.

    direction  -H g, H made of the last pairs of s = change of x and y = change of g  (two loops over the pairs)
    step       along it by `search`, which has the one evaluation of value and gradient that there is
    pairs      the oldest one is replaced in place

The first turn of the loop makes no step: its search evaluates at x0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import optree

from adjit.control import fori_loop, while_loop
from adjit.driver import value_and_grad
from adjit.functions import name_of
from adjit.implicit.called import called
from adjit.implicit.converged import holding
from adjit.implicit.equation import leaves_of
from adjit.minimizing.minimum import GOING_ON, GRADIENT, NOT_FINITE, STEPS, STUCK, VALUE, Minimum
from adjit.minimizing.search import Found, Point, along, search
from adjit.raveling import ravel
from adjit.trace import asarray, current_trace
from adjit.trace.refuse import located
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, DTypeError
from adjit_runtime.program import is_narrow
from adjit_runtime.public import public


class _Options(NamedTuple):
    max_steps: int
    tol: float
    value_tol: float
    history: int
    max_trials: int


@public({"fun": "f", "func": "f", "function": "f", "loss": "f", "init": "x0", "params": "x0", "init_params": "x0",
         "maxiter": "max_steps", "max_iter": "max_steps", "max_iterations": "max_steps", "gtol": "tol",
         "tolerance_grad": "tol", "ftol": "value_tol", "tolerance_change": "value_tol", "maxcor": "history",
         "history_size": "history", "memory_size": "history", "maxls": "max_trials",
         "max_linesearch_steps": "max_trials", "jac": "the gradient is taken from f: leave it out",
         "method": "it is L-BFGS: leave it out", "args": "write the arguments of f after x0",
         "bounds": "minimise over numbers without bounds, such as np.log(x) for an x above 0"})  # fmt: skip
def minimize(
    f: Callable[..., Any],
    x0: Any,
    *args: Any,
    max_steps: int = 500,
    tol: float = 1e-5,
    value_tol: float = 0.0,
    history: int = 10,
    max_trials: int = 25,
) -> Minimum:
    """A local minimum of `f(x, *args)`, one float, over x: a pytree of floats like x0, from which it is searched.

    It ends where no element of the gradient is larger than `tol`, where a step changes the value by no more than
    `value_tol` times the larger of 1 and the values (0: that is not asked), after `max_steps`, or where rounding hides
    each lower value: `Minimum` says which. `history` is how many of the last steps the directions are made of, and
    `max_trials` how often a step may be tried. A trial at which value or gradient are not finite is too long a step;
    where they are so at x0, NotFiniteError is raised.

    All of it is one native call: directions, steps by the strong Wolfe conditions, value and gradient of f. It takes
    memory for 2 * history arrays like x.

        >>> import numpy as np, adjit
        >>> def rosenbrock(x):
        ...     return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
        >>> found = adjit.minimize(rosenbrock, np.zeros(4))
        >>> found.x.round(4).tolist(), bool(found.converged), found.why
        ([1.0, 1.0, 1.0, 1.0], True, 'no element of the gradient is larger than tol')

    Outside of a traced function it is compiled for each call; in a loop write a `jit` around it, whose arguments are
    data: `adjit.jit(lambda x0, data: adjit.minimize(f, x0, data))`. It can be batched (`vmap`). A derivative of what it
    gives is that of its steps; that of the minimum itself is that of `adjit.root(adjit.grad(f), x)`.

    Raises ArgumentError and DTypeError where x0 is no tree of floats, or f gives none; DTypeError, ShapeError where f
    does not give one float. Source: Liu, Nocedal 1989; Nocedal, Wright, Numerical Optimization, 2006, chapters 3.5 and
    7.2."""
    checks.function("minimize: f", f)
    options = _Options(
        checks.integer("minimize: max_steps", max_steps, 0),
        checks.real("minimize: tol", tol, 0.0),
        checks.real("minimize: value_tol", value_tol, 0.0),
        checks.integer("minimize: history", history, 1),
        checks.integer("minimize: max_trials", max_trials, 1),
    )
    if current_trace() is None:
        found: Minimum = called("minimize", lambda x0, *args: _minimized(f, x0, args, options), x0, args)
        return found
    return _minimized(f, x0, args, options)


def _minimized(f: Callable[..., Any], x0: Any, args: tuple[Any, ...], options: _Options) -> Minimum:
    leaves, types, tree = leaves_of("minimize", x0)
    narrow = next((type for type in types if is_narrow(type.dtype)), None)
    if narrow is not None:
        raise located(
            DTypeError, f"minimize: x0 is {narrow}, and x is found among float32 and float64: x0.astype(np.float32)"
        )
    floats = [asarray(float(x) if isinstance(x, int) else x) for x in leaves]
    given: Any = optree.tree_unflatten(tree, [x.astype(t.dtype) for x, t in zip(floats, types, strict=True)])
    start, unravel = ravel(given)
    if not start.size:
        raise located(ArgumentError, "minimize: x0 has no numbers, of which f could have a least value")

    def of_vector(x: Any) -> Any:
        return f(unravel(x), *args)

    of_vector.__name__ = name_of(f)
    evaluate = value_and_grad(of_vector)
    size, kept = start.size, options.history
    zeros, number = start * 0, np.float64(0)
    last = while_loop(
        lambda now: now["status"] == GOING_ON,
        lambda now: _turn(evaluate, now, options),
        {
            "x": start,
            "value": number,
            "gradient": zeros,
            "s": np.zeros((kept, size), start.dtype),
            "y": np.zeros((kept, size), start.dtype),
            "rho": np.zeros(kept, start.dtype),
            "pairs": np.int64(0),
            "steps": np.int64(0),
            "evaluations": np.int64(0),
            "status": np.int64(GOING_ON),
        },
    )
    x, status = holding(
        [last["x"], last["status"]],
        last["status"] != NOT_FINITE,
        "minimize: the value or the gradient of f at x0 is not finite: start with another x0",
        "NotFiniteError",
    )
    largest = np.max(np.abs(last["gradient"])).astype(np.float64)
    return Minimum(unravel(x), last["value"], largest, last["steps"], last["evaluations"], status)


def _turn(evaluate: Callable[[Any], tuple[Any, Any]], now: Any, options: _Options) -> Any:
    """One direction, the step along it, and the pair that follows."""
    begins = now["evaluations"] == 0
    x, gradient, pairs = now["x"], now["gradient"], now["pairs"]
    direction, pairs = _direction(now, pairs, options.history)
    slope = along(gradient, direction)
    first = np.minimum(1.0, 1.0 / np.maximum(np.sum(np.abs(gradient)).astype(np.float64), 1e-300))
    trial = np.where(begins, 0.0, np.where(pairs == 0, first, 1.0))
    found = search(
        evaluate, x, direction, Point(now["value"] * 0.0, now["value"], slope), gradient, trial, begins,
        options.max_trials,
    )  # fmt: skip
    moved = found.point.at > 0
    change = found.point.at.astype(x.dtype) * direction
    turn = {
        "x": x + change,
        "value": found.point.value,
        "gradient": found.gradient,
        "steps": now["steps"] + moved,
        "evaluations": now["evaluations"] + found.evaluations,
    }
    turn["status"] = _status(now["value"], found, turn, moved, pairs, begins, options)
    return {**turn, **_pairs(now, change, found.gradient - gradient, np.where(moved | begins, pairs, 0), options)}


def _direction(now: Any, pairs: Any, history: int) -> tuple[Any, Any]:
    """-H g by the two loops, and of how many pairs: none where it would go up."""
    gradient, s, y, rho = now["gradient"], now["s"], now["y"], now["rho"]
    used = np.minimum(pairs, history)

    def down(i: Any, carry: Any) -> Any:
        q, factors = carry
        place = (pairs - 1 - i) % history
        factor = rho[place] * np.sum(s[place] * q)
        factors[place] = factor
        return q - factor * y[place], factors

    def up(i: Any, r: Any) -> Any:
        place = (pairs - used + i) % history
        factor = rho[place] * np.sum(y[place] * r)
        return r + (factors[place] - factor) * s[place]

    q, factors = fori_loop(0, used, down, (gradient, rho * 0), max_steps=history)
    newest = (pairs - 1) % history
    square = np.sum(y[newest] * y[newest])
    is_known = (pairs > 0) & (square > 0)
    scale = np.where(is_known, 1 / np.where(is_known, rho[newest] * square, 1), 1)
    direction = -fori_loop(0, used, up, scale.astype(q.dtype) * q, max_steps=history)
    goes_down = along(gradient, direction) < 0
    return np.where(goes_down, direction, -gradient), np.where(goes_down, pairs, 0)


def _pairs(now: Any, s: Any, y: Any, pairs: Any, options: _Options) -> dict[str, Any]:
    """The pairs with that of this turn in the place of the oldest one, where its curvature is positive."""
    curvature, square = np.sum(s * y), np.sum(y * y)
    is_kept = (curvature > np.finfo(s.dtype).eps * square) & np.isfinite(square) & (curvature > 0)
    place = pairs % options.history
    kept = {"s": now["s"], "y": now["y"], "rho": now["rho"]}
    for name, value in (("s", s), ("y", y), ("rho", 1 / np.where(is_kept, curvature, 1))):
        kept[name][place] = np.where(is_kept, value, kept[name][place])
    return {**kept, "pairs": pairs + is_kept}


def _status(before: Any, found: Found, turn: Any, moved: Any, pairs: Any, begins: Any, options: _Options) -> Any:
    value = found.point.value
    is_finite = np.isfinite(value) & np.isfinite(found.point.slope)
    within = options.value_tol * np.maximum(1.0, np.maximum(np.abs(before), np.abs(value)))
    status = np.where(turn["steps"] >= options.max_steps, STEPS, GOING_ON)
    status = np.where(~moved & ~begins & (pairs == 0), STUCK, status)
    if options.value_tol:
        status = np.where(moved & (np.abs(value - before) <= within), VALUE, status)
    status = np.where(np.max(np.abs(found.gradient)) <= options.tol, GRADIENT, status)
    return np.where(begins & ~is_finite, NOT_FINITE, status)
