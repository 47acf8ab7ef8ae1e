"""What a traced function gave back: a pytree of arrays and numbers, or for a gradient one scalar."""

from __future__ import annotations

from typing import Any

from adjit.ir.types import is_float
from adjit.trace import is_tracer
from adjit.trace.promote import type_of
from adjit.trace.returned import returned
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, DTypeError, ShapeError
from adjit_runtime.guests import tree_flatten


def checked(function: Any, result: Any) -> Any:
    """The result of a function, whose leaves can be results of a program; ArgumentError for another."""
    try:
        leaves, _ = tree_flatten(result)
    except RecursionError:
        # Whoever flattens it next says so.
        return result
    for leaf in leaves:
        if not (is_tracer(leaf) or isinstance(leaf, bool | int | float | complex) or hasattr(leaf, "dtype")):
            raise returned(
                ArgumentError,
                function.__wrapped__,
                f"{function.__name__} returns {_shown(leaf)}{'' if leaf is result else ' in its result'}; a compiled "
                "function returns arrays and numbers, in dicts, lists and tuples: return the rest from a function "
                "around it",
            )
    return result


def unpack_aux(function: Any, result: Any, what: str = "value") -> tuple[Any, Any]:
    """(value, aux) of what a function returned; aux is None where there is none."""
    if not function.has_aux:
        return result, None
    if not (isinstance(result, tuple) and len(result) == 2):
        raise returned(
            ArgumentError,
            function.__wrapped__,
            f"{function.kind}: with has_aux=True {function.__name__} returns ({what}, aux), not {_shown(result)}",
        )
    return result[0], result[1]


def check_differentiable(function: Any, value: Any) -> None:
    """Raise DTypeError where a leaf of what a function returned is no float."""
    for leaf in tree_flatten(value)[0]:
        type = type_of(leaf)
        if not is_float(type.dtype):
            raise returned(
                DTypeError,
                function.__wrapped__,
                f"{function.kind}: {function.__name__} returns {type}; only floats have a derivative: return the rest "
                "as aux, with has_aux=True",
            )


def split_aux(function: Any, result: Any) -> tuple[Any, Any]:
    """(loss, aux) of what a loss returned; aux is None where there is none. The loss is one float."""
    name, kind = function.__name__, function.kind
    value, aux = unpack_aux(function, result, "loss")
    if not (is_tracer(value) or isinstance(value, float | int) or hasattr(value, "dtype")):
        hint = "" if function.has_aux else "; if it returns (loss, aux), pass has_aux=True"
        raise returned(
            ArgumentError, function.__wrapped__, f"{kind}: {name} returns one scalar, not {_shown(value)}{hint}"
        )
    type = type_of(value)
    if type.shape:
        raise returned(
            ShapeError,
            function.__wrapped__,
            f"{kind}: {name} returns {type}, and a gradient is that of one scalar: return its np.sum or np.mean "
            "(docs/gotchas.md has the Jacobian of a vector)",
        )
    if not is_float(type.dtype):
        raise returned(DTypeError, function.__wrapped__, f"{kind}: {name} returns {type}; only floats have a gradient")
    return value, aux


def _shown(x: Any) -> str:
    if isinstance(x, str | bytes):
        return f"{checks.kind(x)}, {checks.shown(x)}"
    return checks.kind(x) + (f" of {len(x)}" if isinstance(x, tuple | list | dict) else "")
