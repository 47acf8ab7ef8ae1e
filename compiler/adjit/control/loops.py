"""`scan`, `fori_loop`, `while_loop` and `map`: loops whose body is traced once, and whose program does not grow with
the turns.

Outside of a traced function they are loops of Python over NumPy arrays, with the same results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from adjit.control import carry, plain, traced
from adjit.control.bounds import Between, bound_of
from adjit.control.call import Call, length_of, tree
from adjit.control.flags import flag_of
from adjit.control.kept import kept_of
from adjit.ops.loops import MOST_TURNS
from adjit.trace import Tracer, current_trace
from adjit.trace.refuse import located
from adjit.trace.returned import returned
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError
from adjit_runtime.public import public

_UNROLLED = "a loop is unrolled as the compiler sees fit: leave it out"


def _run(call: Call) -> tuple[Any, Any]:
    return plain.run(call) if current_trace() is None and call.count is None else traced.run(call)


@public({"body": "f", "fn": "f", "body_fun": "f", "init_val": "init", "carry": "init", "sequences": "xs",
         "n_steps": "length", "unroll": _UNROLLED, "checkpoints": "checkpoint"})  # fmt: skip
def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    checkpoint: int | str | None = None,
) -> tuple[Any, Any]:
    """`carry, y = f(carry, x)` for each element x of `xs` along axis 0: (the last carry, the ys stacked along axis 0).

    `init`, `xs` and what f gives are pytrees of arrays and numbers; None stands for nothing. All arrays in `xs` have
    the same extent along axis 0, which is the number of turns; without any it is `length`. With `reverse` the last
    element comes first, and the y of element i still stands at [i]. A carry has the structure, shapes and dtypes of
    `init` in each turn, but for Python's numbers, which take the dtype that f gives: 0.0 becomes float32 beside
    float32. f may write into arrays that are carried, not into those of x or from outside.

    `checkpoint` says how many of the carries a gradient keeps; what lies between them it computes again, in as few
    turns as can be. It is their number (the first one counts), "sqrt" for the square root of the number of turns, or
    bytes for all of them ("64MB"); "all", as None, keeps what the gradient needs of each turn.

    In a traced function f is traced once, and the loop is one of the program; elsewhere it is a loop of Python.
    Raises ShapeError for extents that differ and for a carry that changes its shape, DTypeError for one that changes
    its dtype, ArgumentError for one that changes its structure, for a result of f that is no pair, and for a
    `checkpoint` that is none of these, or fewer bytes than a gradient can do with.

    >>> import numpy as np, adjit
    >>> def f(total, x):
    ...     total = total + x
    ...     return total, total * 2
    >>> last, doubled = adjit.scan(f, 0.0, np.array([1.0, 2.0, 3.0]))
    >>> float(last), doubled.tolist()
    (6.0, [2.0, 6.0, 12.0])
    """
    checks.function("scan: f", f)
    elements = tree("scan", "xs", xs)
    return _run(
        Call(
            "scan",
            f,
            lambda now, x: carry.pair("scan", f, f(now, x)),
            tree("scan", "init", init).at("carry"),
            elements.at("x"),
            length_of("scan", elements, length),
            checks.flag("scan: reverse", reverse),
            kept=kept_of("scan", checkpoint),
        )
    )


@public({"body_fun": "body", "f": "body", "fn": "body", "init_val": "init", "carry": "init", "start": "lower",
         "stop": "upper", "unroll": _UNROLLED, "checkpoints": "checkpoint"})  # fmt: skip
def fori_loop(
    lower: Any,
    upper: Any,
    body: Callable[[Any, Any], Any],
    init: Any,
    max_steps: int | None = None,
    checkpoint: int | str | None = None,
) -> Any:
    """`carry = body(i, carry)` for each i in range(lower, upper): the last carry, `init` where there is none.

    `init` is a pytree of arrays and numbers, and so is what body gives; `scan` says what a carry is. i is an integer as
    in a loop of Python: it indexes arrays (x[i]), and takes the dtype of the array that it meets. The bounds are
    integers, which may be traced: then the turns are counted when the program runs. A gradient keeps what it needs of
    each where it is known how many there are at most, as `max_steps` says; else `checkpoint` carries, 32 if that is not
    given, and computes again what lies between them (`scan`). Raises ArgumentError for bounds that are no integers, for
    more turns than `max_steps`, and for a `checkpoint` of "sqrt" or "all" where there is no most number of turns, and
    what `scan` raises.

    >>> import numpy as np, adjit
    >>> def body(i, x):
    ...     x[i] = x[i - 1] + x[i - 2]
    ...     return x
    >>> adjit.fori_loop(2, 8, body, np.ones(8)).tolist()
    [1.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0]
    """
    checks.function("fori_loop: body", body)
    low, high = bound_of("fori_loop: lower", lower), bound_of("fori_loop: upper", upper)
    most = None if max_steps is None else checks.integer("fori_loop: max_steps", max_steps, 0)
    given = tree("fori_loop", "init", init).at("carry")
    call = Call("fori_loop", body, lambda now, i: (body(i, now), None), given, tree("fori_loop", "xs", None), 0)
    if isinstance(low, Tracer) or isinstance(high, Tracer):
        between = Between(low, high, most)
        return _run(counted(replace(call, kept=kept_of("fori_loop", checkpoint, between.turns)), between))[0]
    call = replace(call, kept=kept_of("fori_loop", checkpoint))
    counter = range(low, high)
    if most is not None and len(counter) > most:
        raise located(
            ArgumentError, f"fori_loop: more turns from lower to upper than max_steps, {most}: {len(counter)}"
        )
    limits = (low, high - 1) if counter else None
    return _run(replace(call, length=len(counter), counter=counter, limits=limits))[0]


def counted(call: Call, between: Between) -> Call:
    """A loop over integers that are known when the program runs. The counter is one of known integers, of which the
    first ones run, where the first one is known, and there is a most number of turns, each of which may keep something.
    """
    turns, first = between.turns, between.lower
    found = replace(call, length=turns, count=between.count, limits=between.ends)
    if isinstance(first, Tracer) or turns == MOST_TURNS or call.kept is not None:
        return replace(found, first=first)
    return replace(found, counter=range(first, first + turns))


@public({"cond_fun": "cond", "body_fun": "body", "init_val": "init", "carry": "init", "loop_vars": "init",
         "carried_inputs": "init", "cond_fn": "cond", "body_fn": "body", "maximum_iterations": "max_steps",
         "max_iter": "max_steps", "unroll": _UNROLLED, "checkpoints": "checkpoint"})  # fmt: skip
def while_loop(
    cond: Callable[[Any], Any],
    body: Callable[[Any], Any],
    init: Any,
    max_steps: int | None = None,
    checkpoint: int | str | None = None,
) -> Any:
    """`while cond(carry): carry = body(carry)`: the last carry, `init` where cond does not hold of it.

    `init` is a pytree of arrays and numbers, and so is what body gives; `scan` says what a carry is. cond gives one
    bool, and does not write into the carry. With `max_steps` the loop ends after so many turns though cond still holds,
    and gives the carry that it has then: carry what tells both ends apart, such as the error of an iteration. A
    gradient then keeps what it needs of each turn, and has memory for so many.

    Without it, or with `checkpoint`, a gradient keeps that many carries (32, or bytes for all of them, "64MB"; with
    `max_steps` also "sqrt" and "all"), and computes again what lies between them; at first every one is kept, then
    every other one, every fourth and so on, so that memory does not grow with the turns.

    In a traced function cond and body are traced once; elsewhere this is a loop of Python. Raises DTypeError where cond
    gives something else than a bool, ShapeError where it gives several, ArgumentError for a `checkpoint` that is none
    of these, and what `scan` raises.

    >>> import numpy as np, adjit
    >>> def unsure(carry):
    ...     x, change = carry
    ...     return change > 1e-9
    >>> def newton(carry):
    ...     x, _ = carry
    ...     better = 0.5 * (x + 2 / x)
    ...     return better, np.abs(better - x)
    >>> root, _ = adjit.while_loop(unsure, newton, (1.0, 1.0), max_steps=50)
    >>> round(float(root), 9)
    1.414213562
    """
    checks.function("while_loop: cond", cond)
    checks.function("while_loop: body", body)

    def goes_on(now: Any) -> Any:
        return flag_of(
            "while_loop: cond gives one bool",
            cond(now),
            lambda kind, text: returned(kind, cond, text),
            " (a return is missing?)",
        )

    call = Call(
        "while_loop",
        body,
        lambda now, _: (body(now), None),
        tree("while_loop", "init", init).at("carry"),
        tree("while_loop", "xs", None),
        MOST_TURNS if max_steps is None else min(checks.integer("while_loop: max_steps", max_steps, 0), MOST_TURNS),
        goes_on=goes_on,
    )
    call = replace(call, kept=kept_of("while_loop", checkpoint, call.length))
    return plain.run_while(call) if current_trace() is None else traced.run(call)[0]


@public({"fun": "f", "func": "f", "fn": "f", "function": "f", "iterable": "xs", "elems": "xs",
         "chunk": "how many elements run together cannot be chosen yet: leave it out",
         "batch_size": "how many elements run together cannot be chosen yet: leave it out"})  # fmt: skip
def map(f: Callable[[Any], Any], xs: Any) -> Any:
    """f of each element of `xs` along axis 0, stacked along axis 0.

    `xs` and what f gives are pytrees of arrays and numbers; all arrays in `xs` have the same extent along axis 0. For
    a function of several arguments `xs` is a tuple. Raises ShapeError for extents that differ, or where there is no
    array.

    >>> import numpy as np, adjit
    >>> adjit.map(lambda pair: pair[0] @ pair[1], (np.ones((4, 3)), np.ones((4, 3)))).tolist()
    [3.0, 3.0, 3.0, 3.0]
    """
    checks.function("map: f", f)
    elements = tree("map", "xs", xs)
    call = Call(
        "map",
        f,
        lambda _, x: (None, f(x)),
        tree("map", "carry", None),
        elements.at("x"),
        length_of("map", elements),
    )
    return _run(call)[1]
