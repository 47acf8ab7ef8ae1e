"""Fork: a child process has the memory of its parent and of its threads only the one that forked.

What Python code keeps is made anew in the child, by functions that `in_child` registers: locks of threads that are not
there, what they were about to set back. Nothing could be made anew inside LLVM, so nobody is inside it at a fork:
llvmlite's calls hold its lock, which is taken ahead, and calls without it stand in `INSIDE` and are waited for. That is
one call, the code of one module at most, and not the compilation that it belongs to.
"""

from __future__ import annotations

import _thread
import functools
import operator
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Generic, TypeVar

from llvmlite.binding import ffi

from adjit_runtime.tuned import FORK_LOOK_SECONDS

GATE = threading.RLock()
"""Held for a moment by who enters LLVM without llvmlite's lock, and ahead of a fork until it is done."""
INSIDE: set[object] = set()
"""One token for each call into LLVM that is under way without llvmlite's lock."""
LLVMLITE: Any = ffi.lib._lock._lock
"""The re-entrant lock that llvmlite takes around each of its calls."""

_RENEW: list[Callable[[], None]] = []

T = TypeVar("T")
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class Living(Generic[T]):
    """The objects of a kind that are alive, for a function of `in_child`. Unlike a WeakSet's, the upkeep when one goes
    is written in C: an interrupt in a callback of Python's would be printed and forgotten."""

    def __init__(self) -> None:
        self._known: set[weakref.ref[T]] = set()

    def add(self, member: T) -> None:
        """From now on until it goes."""
        self._known.add(weakref.ref(member, self._known.discard))

    def __iter__(self) -> Iterator[T]:
        return iter([member for known in list(self._known) if (member := known()) is not None])


def in_child(renew: Callable[[], None]) -> None:
    """Call `renew` in every child process that is forked, in the order in which they were registered."""
    _RENEW.append(renew)


def calls_llvmlite(function: FunctionT) -> FunctionT:
    """A function that calls llvmlite, as a decorator: llvmlite takes its lock in Python code, so that an interrupt may
    leave it taken; then it is given back here."""

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if LLVMLITE._is_owned():
            return function(*args, **kwargs)
        try:
            return function(*args, **kwargs)
        finally:
            _let_go(LLVMLITE)

    return called  # type: ignore[return-value]


def _let_go(lock: Any) -> None:
    while lock._is_owned():
        lock.release()


class _Fork:
    """The fork that this process is about to make: `GATE` says whose it is."""

    had_llvmlite = False
    interrupts: ClassVar[list[Callable[[], None]]] = []


def _before() -> None:
    _Fork.interrupts.clear()
    while True:
        try:
            _wait()
            return
        except KeyboardInterrupt:
            # Python forks all the same after an exception here, and forgets it: it comes again when that is done.
            _Fork.interrupts.append(_thread.interrupt_main)


def _wait() -> None:
    """Take both locks and wait until nobody is inside LLVM; as good as once where it is done twice."""
    if not GATE._is_owned():  # type: ignore[attr-defined]
        GATE.acquire()
        _Fork.had_llvmlite = LLVMLITE._is_owned()
    LLVMLITE.acquire()
    while INSIDE:
        time.sleep(FORK_LOOK_SECONDS)


def _after() -> None:
    if _Fork.had_llvmlite:
        LLVMLITE.release()
    else:
        _let_go(LLVMLITE)
    _let_go(GATE)


def _after_in_child() -> None:
    _after()
    for renew in _RENEW:
        renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
    # Calls each of the list without a bytecode of Python, at which the interrupt would come at once, and be forgotten.
    _interrupt = functools.partial(max, _Fork.interrupts, key=operator.call, default=None)
    os.register_at_fork(after_in_parent=_interrupt)
