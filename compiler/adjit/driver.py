"""What users call: `jit`, `grad` and `value_and_grad`, and what their options are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from adjit.functions import GradFunction, JitFunction
from adjit.stages import Options
from adjit_runtime import checks, log
from adjit_runtime.public import public

_KNOWN = {
    "argnum": "argnums",
    "static_argnum": "static_argnums",
    "static_argname": "static_argnames",
    "static": "static_argnames",
    "aux": "has_aux",
    "wrt": "argnums counts the positional arguments, as argnums=(0, 1)",
    "donate_argnums": "results are new arrays; a training step updates its state in place",
    "donate_argnames": "results are new arrays; a training step updates its state in place",
    "fastmath": "inexact",
    "fast_math": "inexact",
    "backend": "adjit compiles for this CPU",
    "device": "adjit compiles for this CPU",
}
"""Arguments that other libraries have."""


@public(_KNOWN)
def jit(
    function: Callable[..., Any] | None = None,
    *,
    static_argnames: str | Iterable[str] = (),
    static_argnums: int | Iterable[int] = (),
    tile: str = "auto",
    inexact: bool = False,
    control_flow: bool = False,
    memory_limit: int | str | None = None,
) -> Any:
    """A function of NumPy arrays, compiled to machine code at the first call of each signature.

    Arguments and results are pytrees of arrays and numbers: float32, float64, int32, int64, uint8, bool (uint64 too).
    Dataclasses and classes that are registered with optree are pytrees; array.array, a Series and a DataFrame of one
    dtype are the arrays of their values. Arrays of other integers and float16 are taken, too, and promoted as in NumPy
    where they meet others; what NumPy computes in such a dtype wants a cast.
    Arguments named in `static_argnames`, or numbered in `static_argnums`, are part of the signature and stay plain
    Python values inside. Results are new arrays, scalars where they have no dimensions. With `tile="off"` nothing runs
    tile by tile over rows, as it otherwise does where the plan finds that it pays. With `inexact=True` rewrite rules
    run that hold on the reals alone, such as x / 3.0 = x * (1 / 3.0) and x - x = 0: results agree to rounding, but NaN,
    infinities and the sign of zero may be lost (docs/performance.md has the rules). With `control_flow=True` the source
    of the function, and of those of the user's own that it calls, is rewritten ahead of the trace: if, while, for, and,
    or, not and their like run as Python while their values are known, and are branches and loops of the program where
    they are traced (docs/control_flow.md). With `memory_limit`, a number of bytes or a text such as "200MB", a call
    needs no more memory than that beside its arguments, results and state (ADJIT_LOG=compile says how much it needs):
    what gradients read late is computed again, as far as that takes (docs/performance.md; `ir("plan")` begins with
    what). Also a decorator:

        >>> import numpy as np, adjit
        >>> @adjit.jit
        ... def norm(x):
        ...     return np.sqrt(np.sum(x * x))
        >>> float(norm(np.array([3.0, 4.0])))
        5.0

    Raises TraceError, with the line, for what cannot be compiled; ShapeError, DTypeError and IndexOutOfRange where
    NumPy would raise ValueError, TypeError and IndexError; ArgumentError for an argument that is no array; OutOfMemory,
    a MemoryError, for a limit that is out of reach, with the least that is not."""
    if function is None:
        return functools.partial(
            jit, static_argnames=static_argnames, static_argnums=static_argnums, tile=tile, inexact=inexact,
            control_flow=control_flow, memory_limit=memory_limit,
        )  # fmt: skip
    names, numbers = statics_of("jit", static_argnames, static_argnums)
    options = options_of("jit", tile, inexact, memory_limit=memory_limit)
    return JitFunction(function, options, names, numbers, control_flow)


@public(_KNOWN)
def value_and_grad(
    function: Callable[..., Any] | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    static_argnames: str | Iterable[str] = (),
    static_argnums: int | Iterable[int] = (),
    tile: str = "auto",
    inexact: bool = False,
    control_flow: bool = False,
    memory_limit: int | str | None = None,
) -> Any:
    """A compiled function that gives the value of `function` and its gradient by the arguments `argnums`.

    `function` returns one float scalar, or (scalar, aux) with `has_aux`. The result is (value, gradient) or ((value,
    aux), gradient); the gradient has the pytree, shapes and dtypes of the argument, and is a tuple for several argnums.
    Argnums count positional arguments; the arguments after `has_aux` are those of `jit`.

        >>> import numpy as np, adjit
        >>> value, slope = adjit.value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
        >>> float(value), slope.tolist()
        (5.0, [2.0, 4.0])

    Inside another traced function it differentiates there, so gradients of gradients work. Raises what `jit` raises,
    DTypeError for an argument that is no float, ShapeError where the result is no scalar."""
    return _gradient_function(
        "value_and_grad", function, argnums, has_aux, static_argnames, static_argnums, control_flow,
        options_of("value_and_grad", tile, inexact, memory_limit=memory_limit),
    )  # fmt: skip


@public(_KNOWN)
def grad(
    function: Callable[..., Any] | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    static_argnames: str | Iterable[str] = (),
    static_argnums: int | Iterable[int] = (),
    tile: str = "auto",
    inexact: bool = False,
    control_flow: bool = False,
    memory_limit: int | str | None = None,
) -> Any:
    """A compiled function that gives the gradient of `function`, as `value_and_grad` without the value.

    With `has_aux` the result is (gradient, aux).

        >>> import numpy as np, adjit
        >>> cube = lambda x: x**3
        >>> float(adjit.grad(adjit.grad(cube))(2.0))
        12.0
    """
    return _gradient_function(
        "grad", function, argnums, has_aux, static_argnames, static_argnums, control_flow,
        options_of("grad", tile, inexact, memory_limit=memory_limit),
    )  # fmt: skip


def _gradient_function(
    kind: str,
    function: Callable[..., Any] | None,
    argnums: int | Sequence[int],
    has_aux: bool,
    static_argnames: str | Iterable[str],
    static_argnums: int | Iterable[int],
    control_flow: bool,
    options: Callable[[], Options],
) -> Any:
    """The compiled gradient of a function; without one, the decorator that makes it."""
    names, numbers = statics_of(kind, static_argnames, static_argnums)
    with_aux = checks.flag(f"{kind}: has_aux", has_aux)

    def decorate(function: Callable[..., Any]) -> GradFunction:
        return GradFunction(kind, function, options, argnums, with_aux, names, numbers, control_flow)

    return decorate if function is None else decorate(function)


def options_of(
    kind: str, tile: str, inexact: bool, flush: bool = False, memory_limit: int | str | None = None
) -> Callable[[], Options]:
    """What a user chose; each program gets it with the target of the moment in which it is made."""
    in_tiles = checks.choice(f"{kind}: tile", tile, ("auto", "off")) == "auto"
    exact = checks.flag(f"{kind}: inexact", inexact)
    limit = checks.nbytes(f"{kind}: memory_limit", memory_limit)
    return functools.partial(Options, in_tiles, flush, exact, memory_limit=limit)


def statics_of(
    kind: str, names: str | Iterable[str], numbers: int | Iterable[int]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The names and numbers of static arguments."""
    return (
        checks.several(f"{kind}: static_argnames", names, str),
        checks.several(f"{kind}: static_argnums", numbers, int),
    )


log.configure()
