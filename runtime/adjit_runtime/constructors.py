"""Classes that ask us first when they are called with one of our values: `float(x)`, `np.float32(x)`.

A call of a class goes through a word in it, its vectorcall function, which no subclass inherits. `install` puts one of
ours there (codegen/constructors.py): where the only argument is of one of our classes it asks a function of Python;
every other call goes on as before, after a few comparisons of words, in whatever thread. The classes stay what they
are. That word stays for good, so it is right at every moment, and everything that it leads to lives as long as the
process; from `atexit` on it asks nobody. Where classes do not have the layout that is known, they are left alone.
"""

from __future__ import annotations

import atexit
import ctypes
import sys
from collections.abc import Callable, Sequence
from typing import Any

from adjit_runtime.guard import Lock
from adjit_runtime.load import session
from adjit_runtime.program import CONSTRUCTOR_HEAD, CONSTRUCTOR_RECORD, MOST_CONSTRUCTORS

Convert = Callable[[type, Any], Any]

_NEW, _FINALIZE, _VECTORCALL = 312, 392, 400
"""Where PyTypeObject has tp_new, tp_finalize and tp_vectorcall in the CPythons from 3.11 on."""
_SLOT_CALL, _SLOT_NEW, _SLOT_FINALIZE, _SLOT_VECTORCALL = 50, 65, 80, 82
"""The numbers of slots in CPython's stable interface; that of tp_vectorcall is there from 3.14 on."""

_word = ctypes.c_size_t.from_address
_LOCK = Lock()
_KEPT: list[Any] = []
"""What machine code has the address of."""
_WORDS: list[int] = []
"""The address of the library's words, once it is linked."""


def install(classes: Sequence[type], values: Sequence[type], convert: Convert) -> None:
    """Let calls of `classes` with one argument that is exactly of one of the `values`, which are as many as the library
    looks for, give what `convert(class, argument)` gives, unless that is NotImplemented. Once a process; a later call
    does nothing."""
    if not _KEPT:
        _LOCK.run(_install, classes, values, convert)


def _install(classes: Sequence[type], values: Sequence[type], convert: Convert) -> None:
    if _KEPT:
        return
    known = [kind for kind in classes if _is_known(kind)][:MOST_CONSTRUCTORS]
    # Objects that C code has the address of are never given back; an attempt that an interrupt ended is made anew.
    kept = (*values, convert, *known, session())
    for x in kept:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(x))
    if known:
        _write(known, values, convert)
    _KEPT[:] = [kept]


def _write(classes: Sequence[type], values: Sequence[type], convert: Convert) -> None:
    library = session().library("constructors")
    at = ctypes.PYFUNCTYPE(ctypes.c_size_t)(library["adjit_constructors"])()
    _WORDS[:] = [at]
    head = (*map(id, values), id(convert), id(NotImplemented), _slot(type, _SLOT_CALL))
    for number, value in zip(range(len(CONSTRUCTOR_HEAD)), head, strict=True):
        _word(at + 8 * number).value = value
    at += 8 * len(CONSTRUCTOR_HEAD)
    ours = library["adjit_construct"]
    for kind in classes:
        function = _word(id(kind) + _VECTORCALL)
        if function.value != ours:
            for number, value in enumerate((id(kind), function.value)):
                _word(at + 8 * number).value = value
            # The last step, as from here on it is called.
            function.value = ours
        at += 8 * len(CONSTRUCTOR_RECORD)


def _slot(kind: type, number: int) -> int:
    get = ctypes.pythonapi.PyType_GetSlot
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_int]
    return get(kind, number) or 0


def _is_known(kind: type) -> bool:
    """Whether a class has its slots where they are known to be."""
    if sys.implementation.name != "cpython" or getattr(sys, "_is_gil_enabled", lambda: True)() is False:
        return False
    if object.__basicsize__ != 16 or sys.maxsize != 2**63 - 1 or type(kind) is not type:
        return False
    generator = type(_ for _ in ())
    slots = [(kind, _NEW, _SLOT_NEW), (generator, _FINALIZE, _SLOT_FINALIZE)]
    if sys.version_info >= (3, 14):
        slots.append((kind, _VECTORCALL, _SLOT_VECTORCALL))
    return all(_word(id(owner) + place).value == _slot(owner, number) for owner, place, number in slots)


def _end() -> None:
    """From now on nobody is asked."""
    for at in _WORDS:
        for number in range(CONSTRUCTOR_HEAD.index("convert")):
            _word(at + 8 * number).value = 0


atexit.register(_end)
