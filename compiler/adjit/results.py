"""What a traced function gave back: a pytree of arrays and numbers, or for a gradient one scalar.

An error about it points at the `return`, which no traceback has: the function has ended by then."""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Callable
from types import CodeType
from typing import Any, TypeVar

from adjit.ir.node import Loc
from adjit.ir.types import is_float
from adjit.trace import is_tracer
from adjit.trace.locate import is_skipped, place
from adjit.trace.promote import type_of
from adjit.trace.refuse import located
from adjit_runtime import checks
from adjit_runtime.errors import AdjitError, ArgumentError, DTypeError, ShapeError
from adjit_runtime.guests import tree_flatten

E = TypeVar("E", bound=AdjitError)


def checked(function: Any, result: Any) -> Any:
    """The result of a function, whose leaves can be results of a program; ArgumentError for another."""
    try:
        leaves, _ = tree_flatten(result)
    except RecursionError:
        # Whoever flattens it next says so.
        return result
    for leaf in leaves:
        if not (is_tracer(leaf) or isinstance(leaf, bool | int | float | complex) or hasattr(leaf, "dtype")):
            raise _returned(
                ArgumentError,
                function,
                f"{function.__name__} returns {_shown(leaf)}{'' if leaf is result else ' in its result'}; a compiled "
                "function returns arrays and numbers, in dicts, lists and tuples: return the rest from a function "
                "around it",
            )
    return result


def split_aux(function: Any, result: Any) -> tuple[Any, Any]:
    """(loss, aux) of what a loss returned; aux is None where there is none. The loss is one float."""
    name, kind = function.__name__, function.kind
    if function.has_aux:
        if not (isinstance(result, tuple) and len(result) == 2):
            raise _returned(
                ArgumentError,
                function,
                f"{kind}: with has_aux=True {name} returns (loss, aux), not {_shown(result)}",
            )
        value, aux = result
    else:
        value, aux = result, None
    if not (is_tracer(value) or isinstance(value, float | int) or hasattr(value, "dtype")):
        hint = "" if function.has_aux else "; if it returns (loss, aux), pass has_aux=True"
        raise _returned(ArgumentError, function, f"{kind}: {name} returns one scalar, not {_shown(value)}{hint}")
    type = type_of(value)
    if type.shape:
        raise _returned(
            ShapeError,
            function,
            f"{kind}: {name} returns {type}, and a gradient is that of one scalar: return its np.sum or np.mean "
            "(docs/gotchas.md has the Jacobian of a vector)",
        )
    if not is_float(type.dtype):
        raise _returned(DTypeError, function, f"{kind}: {name} returns {type}; only floats have a gradient")
    return value, aux


def _shown(x: Any) -> str:
    if isinstance(x, str | bytes):
        return f"{checks.kind(x)}, {checks.shown(x)}"
    return checks.kind(x) + (f" of {len(x)}" if isinstance(x, tuple | list | dict) else "")


def _returned(kind: type[E], function: Any, message: str) -> E:
    """An error that shows where a function returns."""
    code = _code_of(function.__wrapped__)
    if code is None or is_skipped(code.co_filename):
        return kind(message)
    found = list(dict.fromkeys(returns(code)))
    if len(found) == 1:
        return located(kind, message, found[0])
    lines = ", ".join(str(loc.line) for loc in found)
    return located(kind, f"{message} (it returns in lines {lines})", Loc(code.co_filename, code.co_firstlineno))


def returns(code: CodeType) -> list[Loc]:
    """The places where a function returns."""
    return [
        place(code, instruction.offset, code.co_firstlineno)
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("RETURN_VALUE", "RETURN_CONST")
    ]


def _code_of(function: Callable[..., Any]) -> CodeType | None:
    """The code of a function, of what a partial calls, of a method or a callable object; None where it has none."""
    plain: Any = inspect.unwrap(function)
    while isinstance(plain, functools.partial):
        plain = inspect.unwrap(plain.func)
    plain = getattr(plain, "__func__", plain)
    if not hasattr(plain, "__code__"):
        plain = getattr(type(plain).__call__, "__func__", type(plain).__call__) if callable(plain) else plain
    code = getattr(plain, "__code__", None)
    return code if isinstance(code, CodeType) else None
