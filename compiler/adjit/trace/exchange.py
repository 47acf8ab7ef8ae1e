"""While a function is traced, functions that do not dispatch (np.array, math.cos, max) are exchanged in their modules.

An exchanged function calls the original unless the thread that calls it is tracing and the call stands in the user's
own code: adjit, NumPy, SciPy and code in C keep the originals, and so do other installed packages where no argument is
traced, for all of them hand arrays to code in C. Modules are restored by the death of a `_Session`, which only the
contexts of traces hold: in C, so that nothing can come between, however the last trace ends.
"""

from __future__ import annotations

import contextvars
import functools
import sys
import weakref
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any

from adjit.trace.callee import called
from adjit.trace.context import current_trace
from adjit.trace.known import holds_traced
from adjit.trace.locate import origin
from adjit_runtime import fork, guard

Replacement = Callable[..., Any]

_EXCHANGED: dict[ModuleType, dict[str, Any]] = {}
_ORIGINALS: dict[ModuleType, dict[str, Any]] = {}
_RESTORERS: list[tuple[ModuleType, Any]] = []
_LOCK = guard.Lock()


def exchange(module: ModuleType, name: str, replacement: Replacement | None = None) -> Callable[[Replacement], Any]:
    """Register what stands for a function of a module: a function of the original and the arguments of the call."""

    def register(replacement: Replacement) -> Replacement:
        original = getattr(module, name)
        _ORIGINALS.setdefault(module, {})[name] = original
        _EXCHANGED.setdefault(module, {})[name] = Exchanged(original, replacement, module.__name__.startswith("numpy"))
        return replacement

    if replacement is not None:
        register(replacement)
    return register


class Exchanged:
    """A function that sees tracers in calls of the user's code, and is the original for all others."""

    def __init__(self, original: Any, replacement: Replacement, makes_arrays: bool) -> None:
        # Code in C takes what NumPy gives it for arrays, without a look.
        self._adjit_makes_arrays = makes_arrays
        self._adjit_original = original
        self._adjit_replacement = replacement
        # Libraries that are imported meanwhile look at these.
        functools.update_wrapper(self, original)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if self._is_users(sys._getframe(1), (args, kwargs)):
            return self._adjit_replacement(self._adjit_original, *args, **kwargs)
        return self._adjit_original(*args, **kwargs)

    def __getitem__(self, key: Any) -> Any:
        if self._is_users(sys._getframe(1), key):
            return self._adjit_replacement(self._adjit_original, key)
        return self._adjit_original[key]

    def _is_users(self, frame: FrameType, given: Any) -> bool:
        """Whether a call is one that a trace under way must see."""
        trace = current_trace()
        if trace is None or not trace.alive:
            return False
        code = frame.f_code
        # What a module makes at its import lives on, whatever trace imported it.
        if code.co_name == "<module>":
            return False
        whose = origin(code.co_filename)
        if whose == "ours" or (whose != "user" and not holds_traced(given)):
            return False
        if not self._adjit_makes_arrays:
            return True
        target = called(frame)
        return target is self or (isinstance(target, functools.partial) and target.func is self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adjit_original, name)

    def __eq__(self, other: object) -> bool:
        return other is self or other is self._adjit_original

    def __hash__(self) -> int:
        return hash(self._adjit_original)

    def __repr__(self) -> str:
        return repr(self._adjit_original)


class _Session:
    """As long as one lives, functions are exchanged."""

    __slots__ = ("__weakref__",)


def _none() -> None:
    return None


_LAST: list[Callable[[], _Session | None]] = [_none]
_HELD: contextvars.ContextVar[_Session] = contextvars.ContextVar("adjit exchanged functions")


def install() -> None:
    """Exchange functions as long as the current context lives."""
    _HELD.set(_LAST[0]() or _LOCK.run(_started))


def _started() -> _Session:
    session = _LAST[0]()
    if session is not None:
        return session
    session = _Session()
    # A function that the user has exchanged stays as it is.
    chosen = {
        module: {name: x for name, x in names.items() if vars(module).get(name) is _ORIGINALS[module][name]}
        for module, names in _EXCHANGED.items()
    }
    _RESTORERS[:] = [
        (module, _restorer({name: _ORIGINALS[module][name] for name in names})(session, vars(module).update))
        for module, names in chosen.items()
    ]
    _LAST[0] = weakref.ref(session)
    for module, names in chosen.items():
        vars(module).update(names)
    return session


def _restorer(originals: dict[str, Any]) -> Any:
    """A class of weak references that are mappings to `dict.update`, which so can be their callback: all of it in C,
    where no interrupt comes between."""
    return type("Restorer", (weakref.ref,), {"keys": originals.keys, "__getitem__": originals.__getitem__})


def _in_child() -> None:
    """A child process has no traces but those of the thread that forked."""
    if _HELD.get(None) is not None or _LAST[0]() is None:
        return
    for module, originals in _RESTORERS:
        vars(module).update(originals)
    _LAST[0] = _none


fork.in_child(_in_child)
