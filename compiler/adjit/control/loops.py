"""`scan`, `fori_loop` and `map`: loops whose body is traced once, and whose program does not grow with the turns.

Outside of a traced function they are loops of Python over NumPy arrays, with the same results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adjit.control import carry, plain, traced
from adjit.control.call import Call, length_of, tree
from adjit.trace import current_trace, is_tracer
from adjit.trace.refuse import trace_error
from adjit.trace.tracer import plain_of
from adjit_runtime import checks
from adjit_runtime.public import public

_NOT_YET = "how much of a loop is kept for its gradient cannot be chosen yet: leave it out"
_UNROLLED = "a loop is unrolled as the compiler sees fit: leave it out"


def _run(call: Call) -> tuple[Any, Any]:
    return plain.run(call) if current_trace() is None else traced.run(call)


@public({"body": "f", "fn": "f", "body_fun": "f", "init_val": "init", "carry": "init", "sequences": "xs",
         "n_steps": "length", "unroll": _UNROLLED, "checkpoint": _NOT_YET})  # fmt: skip
def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """`carry, y = f(carry, x)` for each element x of `xs` along axis 0: (the last carry, the ys stacked along axis 0).

    `init`, `xs` and what f gives are pytrees of arrays and numbers; None stands for nothing. All arrays in `xs` have
    the same extent along axis 0, which is the number of turns; without any it is `length`. With `reverse` the last
    element comes first, and the y of element i still stands at [i]. A carry has the structure, shapes and dtypes of
    `init` in each turn, but for Python's numbers, which take the dtype that f gives: 0.0 becomes float32 beside
    float32. f may write into arrays that are carried, not into those of x or from outside.

    In a traced function f is traced once, and the loop is one of the program; elsewhere it is a loop of Python.
    Raises ShapeError for extents that differ and for a carry that changes its shape, DTypeError for one that changes
    its dtype, ArgumentError for one that changes its structure and for a result of f that is no pair.

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
        )
    )


@public({"body_fun": "body", "f": "body", "fn": "body", "init_val": "init", "carry": "init", "start": "lower",
         "stop": "upper", "unroll": _UNROLLED, "checkpoint": _NOT_YET})  # fmt: skip
def fori_loop(lower: int, upper: int, body: Callable[[int, Any], Any], init: Any) -> Any:
    """`carry = body(i, carry)` for each i in range(lower, upper): the last carry, `init` where there is none.

    `init` is a pytree of arrays and numbers, and so is what body gives; `scan` says what a carry is. i is an integer as
    in a loop of Python: it indexes arrays (x[i]), and takes the dtype of the array that it meets. The bounds are known
    integers; raises TraceError for traced ones, and what `scan` raises.

    >>> import numpy as np, adjit
    >>> def body(i, x):
    ...     x[i] = x[i - 1] + x[i - 2]
    ...     return x
    >>> adjit.fori_loop(2, 8, body, np.ones(8)).tolist()
    [1.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0]
    """
    checks.function("fori_loop: body", body)
    counter = range(_bound("lower", lower), _bound("upper", upper))
    call = Call(
        "fori_loop",
        body,
        lambda now, i: (body(i, now), None),
        tree("fori_loop", "init", init).at("carry"),
        tree("fori_loop", "xs", None),
        len(counter),
        counter=counter,
    )
    return _run(call)[0]


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


def _bound(name: str, value: Any) -> int:
    if is_tracer(value) and plain_of(value) is None:
        raise trace_error(
            f"fori_loop: {name} is a traced {value.type}; bounds that are known only when the program runs are not "
            "supported yet: give an integer of Python (an argument is one by static_argnames), or go up to the largest "
            "bound and write np.where(i < bound, new, old)"
        )
    return checks.integer(f"fori_loop: {name}", value)
