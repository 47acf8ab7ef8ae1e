"""What must be undone whatever happens: a state's busy word, locks, settings of the interpreter.

An interrupt may come between any two bytecodes, so also between taking and the `try` or `with` that gives back. Here
one call of machine code (codegen/guards.py) takes, calls the function and gives back; the function may do anything,
what is called before and after it must be written in C, so that it has no bytecodes.
"""

from __future__ import annotations

import ctypes
import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from adjit_runtime import fork
from adjit_runtime.load import session

ResultT = TypeVar("ResultT")

_FASTCALL, _ONE_ARGUMENT = 0x0080, 0x0008


class MethodDef(ctypes.Structure):
    """CPython's PyMethodDef; must live as long as the builtins that were made of it."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


def builtin(method: MethodDef, owner: Any) -> Any:
    """A builtin whose machine code gets `owner` as its first argument, and keeps it alive."""
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    return make(ctypes.addressof(method), owner, None)


@functools.cache
def _method(name: str, flags: int) -> MethodDef:
    return MethodDef(name.encode(), session().library("guard")[name], flags, None)


@functools.cache
def _function(name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = builtin(_method(name, _FASTCALL), None)
    return function


def held(before: Callable[[], Any], after: Callable[[], Any], function: Callable[..., ResultT], *args: Any) -> ResultT:
    """`function(*args)` between `before()` and `after()`, which are written in C. Where `before` raises, nothing else
    is called; where it does not, `after` is called however the function ends."""
    result: ResultT = _function("adjit_held")(before, after, function, *args)
    return result


def exclusive(word: int, refuse: Callable[[], Any], function: Callable[..., ResultT], *args: Any) -> ResultT:
    """`function(*args)` while the word at an address, 0 before, has the number of this thread; `refuse()` where it is
    not 0. It becomes 0 again, unless the function gave it another value."""
    result: ResultT = _function("adjit_exclusive")(word, refuse, function, *args)
    return result


def exchange(word: int, value: int) -> int:
    """Set the word at an address to `value` in one atomic step, if it is 0; what it was."""
    result: int = _exchange()(word, value)
    return result


@functools.cache
def _exchange() -> Callable[[int, int], int]:
    # PYFUNCTYPE keeps the GIL, which costs less than to give it back.
    kind = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)
    return kind(session().library("guard")["adjit_exchange"])


def zero_at_death(what: Any, word: int) -> weakref.ref[Any]:
    """The word at an address becomes 0 when an object goes, as long as the result is kept."""
    return weakref.ref(what, builtin(_method("adjit_zero", _ONE_ARGUMENT), word))


_LOCKS: fork.Living[Lock] = fork.Living()


class Lock:
    """A re-entrant lock that no interrupt leaves taken, and that is free in a child process, as who held it is not
    there."""

    def __init__(self) -> None:
        self._lock: Any = threading.RLock()
        _LOCKS.add(self)

    def run(self, function: Callable[..., ResultT], *args: Any) -> ResultT:
        """`function(*args)` with the lock."""
        return held(self._lock.acquire, self._lock.release, function, *args)

    def renew(self) -> None:
        """In a child process: free, unless the thread that forked has it."""
        if not self._lock._is_owned():
            self._lock._at_fork_reinit()


def _renew_locks() -> None:
    for lock in _LOCKS:
        lock.renew()


fork.in_child(_renew_locks)


def uninterrupted(function: Callable[..., ResultT], *args: Any) -> ResultT:
    """`function(*args)`, on a thread of its own, as handlers of signals run in the main thread alone: for what others
    wrote and an interrupt would break. The caller can be interrupted while it waits; the function ends all the same."""
    if threading.current_thread() is not threading.main_thread():
        return function(*args)
    done = threading.Event()
    results: list[ResultT] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(function(*args))
        except BaseException as error:
            errors.append(error)
        done.set()

    threading.Thread(target=work, name=f"adjit {function.__name__}").start()
    done.wait()
    if errors:
        raise errors[0]
    return results[0]


def unforked(function: Callable[..., ResultT], *args: Any) -> ResultT:
    """Call a function of LLVM that takes locks of its own and not llvmlite's: a fork waits for it."""
    token = object()
    # Before the call there is nothing to leave, which does no harm.
    leave = functools.partial(fork.INSIDE.discard, token)
    result: ResultT = held(leave, leave, _enter, token, function, args)
    return result


def _enter(token: object, function: Callable[..., ResultT], args: tuple[Any, ...]) -> ResultT:
    held(fork.GATE.acquire, fork.GATE.release, fork.INSIDE.add, token)
    return function(*args)
