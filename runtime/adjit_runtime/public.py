"""What users call: errors reach them with frames of their own alone, and arguments that a function does not have are
told with the right call.

`ADJIT_TRACEBACK=full` keeps all frames; so does what is a fault of ours and for a report: an InternalError, and an
error of no class of ours that our own code raised.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar, cast

from adjit_runtime import environment
from adjit_runtime.errors import AdjitError, ArgumentError, InternalError

F = TypeVar("F", bound=Callable[..., Any])

_INNER = frozenset({"adjit", "adjit_runtime", "numpy", "optree", "scipy"})
"""Packages whose frames between two of the user's say nothing to the user."""
_OURS = frozenset({"adjit", "adjit_runtime"})


def shorten(error: Exception) -> None:
    """Take our frames out of the traceback of an error, of one that the user's code raised as well (a NameError in the
    function that is traced).

    Where it is caught: a bare `raise` after it adds no frame of its own. Raises ArgumentError for an ADJIT_TRACEBACK
    that has no meaning."""
    shown = environment.value("ADJIT_TRACEBACK") or "user"
    if shown not in ("user", "full"):
        raise environment.refusal("ADJIT_TRACEBACK", "'user' (frames of your own alone) or 'full'") from error
    frames: list[TracebackType] = []
    at = error.__traceback__
    while at is not None:
        frames.append(at)
        at = at.tb_next
    if shown == "full" or _is_a_fault_of_ours(error, frames):
        return
    following: TracebackType | None = None
    for frame in reversed([frame for frame in frames if _package(frame) not in _INNER]):
        frame.tb_next = following
        following = frame
    error.__traceback__ = following


def _package(frame: TracebackType) -> str:
    return str(frame.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


def _is_a_fault_of_ours(error: Exception, frames: list[TracebackType]) -> bool:
    """Whether all frames are of use: those of an error that our code raised, and did not mean to."""
    if isinstance(error, AdjitError):
        return isinstance(error, InternalError)
    for frame in reversed(frames):
        # The attribute that is not there is one that another frame asked for.
        asked = isinstance(error, AttributeError) and frame.tb_frame.f_code.co_name == "__getattr__"
        if not asked and _package(frame) not in _INNER - _OURS:
            return _package(frame) in _OURS
    return False


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
            except Exception as error:
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
        raise ArgumentError(f"{function}: {error}; it is {function}({_written(signature, names)})") from None


def _written(signature: inspect.Signature, names: list[str]) -> str:
    """Parameters as a call has them: what stands after the * goes by its name."""
    shown, behind = [], False
    for name in names:
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.KEYWORD_ONLY and not behind:
            shown.append("*")
        behind = behind or kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_POSITIONAL)
        shown.append(
            str(signature.parameters[name].replace(annotation=inspect.Parameter.empty, default=inspect.Parameter.empty))
        )
    return ", ".join(shown)


def _instead(key: str, known: Mapping[str, str], names: list[str]) -> str:
    """What to write in place of an argument that is not there."""
    if key in known:
        instead = known[key]
        return f"it is {instead!r} here" if instead.isidentifier() else instead
    near = difflib.get_close_matches(key, names, 1)
    return f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names)}"


def late(namespace: dict[str, Any], modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package that imports some names when they are first asked for, so that
    programs without them start sooner: `namespace` are its globals, `modules` says where each name is."""

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {namespace['__name__']!r} has no attribute {name!r}")
        found = namespace[name] = getattr(importlib.import_module(modules[name]), name)
        return found

    return find, lambda: sorted({*namespace, *modules})
