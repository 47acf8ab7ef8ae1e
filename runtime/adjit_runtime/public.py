"""What users call: errors of ours reach them with frames of their own alone, and arguments that a function does not
have are told with the right call.

`ADJIT_TRACEBACK=full` keeps all frames; so does an InternalError, which is for a report.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar, cast

from adjit_runtime import environment
from adjit_runtime.errors import AdjitError, ArgumentError, InternalError

F = TypeVar("F", bound=Callable[..., Any])

_INNER = frozenset({"adjit", "adjit_runtime", "numpy", "optree", "scipy"})
"""Packages whose frames between two of the user's say nothing to the user."""


def shorten(error: AdjitError) -> None:
    """Take our frames out of the traceback of an error.

    Where it is caught: a bare `raise` behind it adds no frame of its own. Raises ArgumentError for an ADJIT_TRACEBACK
    that has no meaning."""
    shown = environment.value("ADJIT_TRACEBACK") or "user"
    if shown not in ("user", "full"):
        raise environment.refusal("ADJIT_TRACEBACK", "'user' (frames of your own alone) or 'full'") from error
    if shown == "full" or isinstance(error, InternalError):
        return
    kept: list[TracebackType] = []
    at = error.__traceback__
    while at is not None:
        if str(at.tb_frame.f_globals.get("__name__", "")).partition(".")[0] not in _INNER:
            kept.append(at)
        at = at.tb_next
    following: TracebackType | None = None
    for frame in reversed(kept):
        frame.tb_next = following
        following = frame
    error.__traceback__ = following


def public(known: Mapping[str, str] | None = None, name: str = "") -> Callable[[F], F]:
    """A function that users call: the decorator of those that are not called often.

    `name` is what users call it where that is not its own name. `known` are names of arguments that people know from
    other libraries, and what to write here: the name of an argument of ours, or a text. Raises ArgumentError where the
    arguments of a call do not fit."""

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        shown = name or function.__name__

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return _call(args, kwargs)
            except AdjitError as error:
                shorten(error)
                raise

        def _call(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
            try:
                return function(*args, **kwargs)
            except AdjitError:
                raise
            except TypeError:
                # Looked at now alone: a call that fits pays nothing.
                _fit(shown, signature, known or {}, args, kwargs)
                raise

        return cast(F, call)

    return decorate


def _fit(
    function: str,
    signature: inspect.Signature,
    known: Mapping[str, str],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> None:
    """Raise ArgumentError where a function cannot be called so."""
    names = [name for name in signature.parameters if name != "self"]
    takes_all = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for key in kwargs:
        if key not in names and not takes_all:
            raise ArgumentError(f"{function} has no argument {key!r}: {_instead(key, known, names)}") from None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ArgumentError(f"{function}: {error}; it is {function}({', '.join(names)})") from None


def _instead(key: str, known: Mapping[str, str], names: list[str]) -> str:
    """What to write in place of an argument that is not there."""
    if key in known:
        instead = known[key]
        return f"it is {instead!r} here" if instead.isidentifier() else instead
    near = difflib.get_close_matches(key, names, 1)
    return f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names)}"
