"""Native entries: calls that no Python code of ours sees.

A compiled function is an instance of a class of its own, whose `__call__` is a chain of builtins, one for each of the
last few signatures that fit (plain arrays and Python numbers by position); the last one falls through to the Python
path. Where the layout of Python's or NumPy's objects is not the one that the code knows, there are no native entries.
"""

from __future__ import annotations

import ctypes
import functools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adjit_runtime.guard import MethodDef, builtin, zero_at_death
from adjit_runtime.load import Loaded, address_of, session
from adjit_runtime.program import (
    CALL_ARGUMENT,
    CALL_ARRAY,
    CALL_FLOAT,
    CALL_HEAD,
    CALL_INT,
    CALL_LOSS32,
    CALL_LOSS64,
    CALL_RESULT,
    CALL_STATE,
    MOST_DIMENSIONS,
    is_narrow,
)
from adjit_runtime.trees import LeafType
from adjit_runtime.tuned import REUSE_BYTES

MOST_ARGUMENTS = 64
MOST_RESULTS = 8
_METH = 0x0002 | 0x0080  # keywords, fastcall
_NEW_FROM_DESCR, _RETURN = 94, 76


@functools.cache
def available() -> bool:
    """Whether objects have the layout that the native code reads."""
    if sys.implementation.name != "cpython" or getattr(sys, "_is_gil_enabled", lambda: True)() is False:
        return False
    if (object.__basicsize__, float.__basicsize__) != (16, 24) or sys.maxsize != 2**63 - 1:
        return False
    x = np.empty((3, 5), np.float32)
    word = ctypes.c_int64.from_address
    twice, number = (None, x, x), 2.5
    dims = word(id(x) + 32).value
    return (
        word(id(x) + 8).value == id(np.ndarray)
        and word(id(x) + 16).value == address_of(x)
        and ctypes.c_int32.from_address(id(x) + 24).value == 2
        and (word(dims).value, word(dims + 8).value) == x.shape
        and word(id(x) + 56).value == id(x.dtype)
        and ctypes.c_int32.from_address(id(x) + 64).value & 0x101 == 0x101
        and word(id(twice) + 40).value == id(x)
        and ctypes.c_double.from_address(id(number) + 16).value == number
        and _numpy_functions()[0] != 0
    )


@functools.cache
def _numpy_functions() -> tuple[int, int, int]:
    """The addresses of PyArray_NewFromDescr and PyArray_Return, and slot 2, which is ndarray where all is known."""
    capsule = np._core._multiarray_umath._ARRAY_API  # type: ignore[attr-defined]
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = pointer(capsule, None)
    slot = [ctypes.c_int64.from_address(table + 8 * number).value for number in (_NEW_FROM_DESCR, _RETURN, 2)]
    if slot[2] != id(np.ndarray):
        return 0, 0, 0
    return slot[0], slot[1], slot[2]


class Entry:
    """One native entry: a builtin, the words that it reads, and what must live as long."""

    def __init__(
        self,
        loaded: Loaded,
        types: Sequence[LeafType],
        *,
        single: bool,
        losses: int = 0,
        state: Any = None,
        release: bool = False,
    ) -> None:
        program = loaded.program
        self.loaded = loaded
        self.busy = state.busy if state is not None else np.zeros(1, np.int64)
        self.table = np.zeros(max(len(program.slots), 1), np.int64)
        self.arena = loaded.borrow_arena()
        self.report = np.zeros(2, np.int64)
        for number, address in loaded.constant_addresses.items():
            self.table[number] = address
        bound = list(state.addresses) if state is not None else []
        for number, address in zip(program.inputs, bound, strict=False):
            self.table[number] = address
        new_array, as_scalar, _ = _numpy_functions()
        count = len(types) + (state is not None)
        head = {
            "arguments": count, "results": len(program.outputs), "single": int(single), "entry": loaded.address,
            "table": address_of(self.table), "arena": address_of(self.arena), "report": address_of(self.report),
            "release": int(release), "busy": address_of(self.busy), "block": bound[0] if bound else 0,
            "slow": 0, "block_end": bound[0] + state.nbytes if bound else 0,
            "state": id(state) if state is not None else 0,
            "array_type": id(np.ndarray), "float_type": id(float), "int_type": id(int), "new_array": new_array,
            "as_scalar": as_scalar,
        }  # fmt: skip
        words = [head[name] for name in CALL_HEAD]
        self.dtypes: list[np.dtype] = []
        if state is not None:
            words += self._record(CALL_ARGUMENT, kind=CALL_STATE)
        for number, type in zip(program.inputs[len(bound) :], types, strict=True):
            words += self._argument(number, type)
        for i, number in enumerate(program.outputs):
            words += self._result(number, program.slots[number], i < losses)
        self.words = np.array(words, dtype=np.int64)
        # The state's address may be given to another object once it is gone.
        at_death = zero_at_death(state, self._address_of("state")) if state is not None else None
        self._method = MethodDef(b"__call__", session().library("call")["adjit_call"], _METH, None)
        # The garbage collector sees the next path through the list.
        self._next: list[Any] = [None]
        owner = (
            self._next,
            self.words,  # twice: the items of a tuple begin where they began before CPython 3.14, or a word later
            self.words,
            self.table,
            self.arena,
            self.report,
            self.busy,
            self.dtypes,
            self._method,
            loaded,
            at_death,
        )
        self.function: Callable[..., Any] = builtin(self._method, owner)

    def fall_through_to(self, path: Callable[..., Any]) -> None:
        """What is called with arguments that do not fit."""
        # Both are kept until the word has changed: an interrupt, or another thread's call, may come in between.
        self._next.append(path)
        self.words[CALL_HEAD.index("slow")] = id(path)
        del self._next[:-1]

    def bind(self, state: Any) -> None:
        """Take steps of the state that this was made for."""
        self.words[CALL_HEAD.index("state")] = id(state)

    def unbind(self) -> None:
        """Take no steps: Python has to look at the state first."""
        self.words[CALL_HEAD.index("state")] = 0

    def _address_of(self, name: str) -> int:
        return address_of(self.words) + self.words.itemsize * CALL_HEAD.index(name)

    def _record(self, fields: Sequence[str], shape: Sequence[int] = (), **values: int) -> list[int]:
        return [values.get(name, 0) for name in fields] + [*shape, *[0] * (MOST_DIMENSIONS - len(shape))]

    def _argument(self, slot: int, type: LeafType) -> list[int]:
        if type.weak:
            return self._record(CALL_ARGUMENT, kind=CALL_FLOAT if type.dtype.kind == "f" else CALL_INT, slot=slot)
        self.dtypes.append(type.dtype)
        nbytes = math.prod(type.shape) * type.dtype.itemsize
        return self._record(
            CALL_ARGUMENT,
            type.shape,
            kind=CALL_ARRAY,
            slot=slot,
            descr=id(type.dtype),
            ndim=len(type.shape),
            nbytes=nbytes,
        )

    def _result(self, number: int, slot: Any, is_loss: bool) -> list[int]:
        dtype = np.dtype(slot.dtype)
        self.dtypes.append(dtype)
        if is_loss:
            return self._record(CALL_RESULT, kind=CALL_LOSS32 if dtype.itemsize == 4 else CALL_LOSS64, slot=number)
        return self._record(
            CALL_RESULT, slot.shape, kind=CALL_ARRAY, slot=number, descr=id(dtype), ndim=len(slot.shape)
        )


def fits(types: Sequence[LeafType], loaded: Loaded) -> bool:
    """Whether a native entry can take these arguments and give these results."""
    slots = [loaded.program.slots[number] for number in loaded.program.outputs]
    return (
        available()
        and len(types) < MOST_ARGUMENTS
        and 1 <= len(slots) <= MOST_RESULTS
        and all(math.prod(slot.shape) * np.dtype(slot.dtype).itemsize < REUSE_BYTES for slot in slots)
        and all(not type.weak or type.dtype.kind in "if" for type in types)
        and not any(is_narrow(type.dtype) for type in types)
        and all(len(shape) <= MOST_DIMENSIONS for shape in [*(t.shape for t in types), *(s.shape for s in slots)])
    )
