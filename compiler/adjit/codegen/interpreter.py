"""What the Python interpreter is set to while something is compiled."""

from __future__ import annotations

import functools
import gc
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from adjit.tuned import COMPILER_SWITCH_SECONDS
from adjit_runtime import fork
from adjit_runtime.guard import held

ResultT = TypeVar("ResultT")

_CHANGED: dict[Callable[[], Any], int] = {}
"""What will set the interpreter back, and the thread that is going to call it."""


def undisturbed(function: Callable[..., ResultT], *args: Any) -> ResultT:
    """`function(*args)`, for a compilation: the interpreter does not look for garbage meanwhile, and threads take turns
    more often.

    The cyclic collector finds nothing in graphs and plans that are alive until the end, and takes up to a tenth of a
    compilation to look. A thread that comes back from LLVM waits for its turn, 5 ms as a rule, which it does some dozen
    times for a shared library. Who finds a setting changed by another compilation leaves it to that one."""
    interval = sys.getswitchinterval()
    if interval > COMPILER_SWITCH_SECONDS:
        faster = functools.partial(sys.setswitchinterval, COMPILER_SWITCH_SECONDS)
        back = functools.partial(sys.setswitchinterval, interval)
        result: ResultT = _changed(faster, back, _without_collector, function, *args)
        return result
    return _without_collector(function, *args)


def _without_collector(function: Callable[..., ResultT], *args: Any) -> ResultT:
    if gc.isenabled():
        return _changed(gc.disable, functools.partial(gc.enable), function, *args)
    return function(*args)


def _changed(
    change: Callable[[], Any], back: Callable[[], Any], function: Callable[..., ResultT], *args: Any
) -> ResultT:
    """`function(*args)` between two calls, of which a child process knows the second."""
    note = functools.partial(_CHANGED.__setitem__, back, threading.get_ident())
    forget = functools.partial(_CHANGED.pop, back, None)
    result: ResultT = held(note, forget, held, change, back, function, *args)
    return result


def _set_back() -> None:
    """A child process has none of the other threads, which would have set the interpreter back."""
    for back, thread in list(_CHANGED.items()):
        if thread != threading.get_ident():
            back()
            del _CHANGED[back]


fork.in_child(_set_back)
