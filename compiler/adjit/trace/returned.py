"""Errors about what a function gave back: they point at its `return`, which no traceback has any more."""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Callable
from types import CodeType
from typing import Any, TypeVar

from adjit.ir.node import Loc
from adjit.trace.locate import is_skipped, place
from adjit.trace.refuse import located
from adjit_runtime.errors import AdjitError

E = TypeVar("E", bound=AdjitError)


def returned(kind: type[E], function: Callable[..., Any], message: str) -> E:
    """An error that shows where a function returns; by its text alone where that is not the user's code."""
    code = _code_of(function)
    if code is None or is_skipped(code.co_filename):
        return kind(message)
    found = list(dict.fromkeys(_returns(code)))
    if len(found) == 1:
        return located(kind, message, found[0])
    lines = ", ".join(str(loc.line) for loc in found)
    return located(kind, f"{message} (it returns in lines {lines})", Loc(code.co_filename, code.co_firstlineno))


def return_lines(function: Callable[..., Any]) -> str:
    """Where a function returns, "model.py:7" or "model.py:7, 9"; empty where that is not the user's code."""
    code = _code_of(function)
    if code is None or is_skipped(code.co_filename):
        return ""
    first, *others = dict.fromkeys((str(loc), loc.line) for loc in _returns(code))
    return ", ".join([first[0], *(str(line) for _, line in others)])


def _returns(code: CodeType) -> list[Loc]:
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
