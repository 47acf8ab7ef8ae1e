"""`assert` and `raise` under traced conditions: checks of the program, which raise when it runs.

    if x.min() < 0:                          %1 = check_holds 0, not (x.min() < 0) error="ValueError" text="negative"
        raise ValueError("negative")    =>   ... the other side, as it stands in the function
    ...

The error is an AdjitError as well as the exception that was written, which is one of Python's own, and its text is
known while the function is traced."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import optree

from adjit.ir.node import Loc
from adjit.trace import Tracer, checks, current_trace, is_tracer
from adjit.trace.locate import locate
from adjit.trace.refuse import located
from adjit_runtime.errors import TraceError

_HANDLED = (
    "an error is raised under a traced condition where a handler (try) may catch it, and a program catches none: "
    "give back a flag or np.nan, or move it out of the try"
)


class Raised(BaseException):
    """What a side of a branch ends with: the name of the error, its text, and the line. No handler of users sees it."""

    def __init__(self, error: str, text: str, loc: Loc | None) -> None:
        super().__init__(error, text)
        self.error, self.text, self.loc = error, text, loc


def check(holds: Tracer, message: Callable[[], Any], guarded: bool) -> None:
    """`assert holds, message()`"""
    if guarded:
        raise located(TraceError, _HANDLED)
    found = message()
    text = "what is asserted does not hold" if found is None else _text((found,), found)
    checks.note(holds, "AssertionError", text, locate())


def begin(error: Callable[[], Any] | None) -> None:
    """Ahead of `raise error()`, which is left to Python where it is sure to come."""
    trace = current_trace()
    if trace is None or not trace.part:
        return
    if error is None:
        raise located(TraceError, _HANDLED)
    if not trace.may_raise:
        raise located(
            TraceError,
            f"an error is raised in each run of this {trace.part}, and whether it runs is traced: raise it under a "
            "condition of its own (if ...: raise)",
        )
    found = error()
    kind = found if isinstance(found, type) else type(found)
    name = kind.__name__
    if getattr(builtins, name, None) is not kind or not issubclass(kind, Exception):
        raise located(
            TraceError,
            f"{name} is raised under a traced condition: a program raises exceptions of Python's own, such as "
            "ValueError, alone",
        )
    args = () if isinstance(found, type) else found.args
    raise Raised(name, _text(args, found) if args else f"{name} is raised", locate())


def _text(args: tuple[Any, ...], shown: Any) -> str:
    # A text that was made of one shows it as the trace does.
    if any(map(is_tracer, optree.tree_leaves(args))) or "<traced " in str(shown):  # type: ignore[arg-type]
        raise located(
            TraceError,
            "the text of an error under a traced condition has a traced value in it, and a program makes no texts: "
            "give one that is known",
        )
    return str(shown)
