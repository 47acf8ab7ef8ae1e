"""Native entries: calls that no Python code of ours sees.

A compiled function is an instance of a class of its own, whose `__call__` is a chain of builtins, one for each of the
last few signatures that fit (arrays, numbers, and trees of them, by position and by keyword; dataclasses are such
trees); the last one falls through to the Python path. Where the layout of Python's or NumPy's objects is not the one
that the code knows, there are no native entries.
"""

from __future__ import annotations

import ctypes
import functools
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import optree

from adjit_runtime.call_trees import Makers, Places
from adjit_runtime.guard import MethodDef, builtin, zero_at_death
from adjit_runtime.load import Loaded, address_of, session
from adjit_runtime.program import (
    CALL_ARRAY,
    CALL_BOOL,
    CALL_FLOAT,
    CALL_HEAD,
    CALL_INT,
    CALL_LEAF,
    CALL_LOSS32,
    CALL_LOSS64,
    CALL_NODE,
    CALL_RESULT,
    CALL_STATE,
    MOST_DIMENSIONS,
    is_narrow,
)
from adjit_runtime.trees import DTYPES, LeafType
from adjit_runtime.tuned import REUSE_BYTES, SHARED_ARENA_BYTES

MOST_LEAVES = 1024
_METH = 0x0002 | 0x0080  # keywords, fastcall
_NEW_FROM_DESCR, _RETURN, _NEW_COPY = 94, 76, 85
_KINDS_OF_NUMBERS = {"f": CALL_FLOAT, "i": CALL_INT, "b": CALL_BOOL}


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
        and all(map(_is_known_dtype, DTYPES))
        and _numpy_functions()[0] != 0
    )


def _is_known_dtype(dtype: np.dtype) -> bool:
    """Whether a descriptor has its type's number, and a NumPy scalar its value, where the native code reads them."""
    x = dtype.type(1)
    order, number = ctypes.string_at(id(dtype) + 26, 1), ctypes.c_int32.from_address(id(dtype) + 28).value
    return (
        (order.decode(), number) == (dtype.byteorder, dtype.num)
        and ctypes.string_at(id(x) + 16, dtype.itemsize) == x.tobytes()
        and dtype.type.__basicsize__ >= 24
    )


@functools.cache
def _numpy_functions() -> tuple[int, int, int]:
    """The addresses of PyArray_NewFromDescr, PyArray_Return and PyArray_NewCopy; zeros where they are not known."""
    capsule = np._core._multiarray_umath._ARRAY_API  # type: ignore[attr-defined]
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = pointer(capsule, None)
    slot = [ctypes.c_int64.from_address(table + 8 * number).value for number in (_NEW_FROM_DESCR, _RETURN, _NEW_COPY)]
    if ctypes.c_int64.from_address(table + 8 * 2).value != id(np.ndarray):
        return 0, 0, 0
    return slot[0], slot[1], slot[2]


class Entry:
    """One native entry: a builtin, the words that it reads, and what must live as long.

    `places` says where the leaves of the arguments, which have the `types`, are in a call; the first argument of a step
    is its state and no tree. Results are a tree of the structure `out_tree`, of a step the loss and, where there is a
    tree, that. One that is `busy` is not entered again; `others`, entries of the same function or state, may share that
    word and the arena with it."""

    def __init__(
        self,
        loaded: Loaded,
        types: Sequence[LeafType],
        places: Places,
        out_tree: optree.PyTreeSpec,
        *,
        others: Iterable[Entry] = (),
        state: Any = None,
        release: bool = False,
    ) -> None:
        program = loaded.program
        self.loaded = loaded
        self.shape = places.shape
        # Steps of a state take turns as it is; other calls of this length do not mind Python's path while one is busy.
        shared = [e for e in others if len(e.arena) >= program.arena_bytes] if self._may_share(state) else []
        self.busy: np.ndarray = state.busy if state is not None else shared[0].busy if shared else np.zeros(1, np.int64)
        self.table = np.zeros(max(len(program.slots), 1), np.int64)
        self.arena: np.ndarray = shared[0].arena if shared else loaded.borrow_arena()
        self.report = np.zeros(2, np.int64)
        for number, address in loaded.constant_addresses.items():
            self.table[number] = address
        bound = list(state.addresses) if state is not None else []
        for number, address in zip(program.inputs, bound, strict=False):
            self.table[number] = address
        results = len(program.outputs)
        makers = _makers(results, out_tree, state is not None)
        # What the code reads beside the words, and the memory of a call; each lives as long as the entry.
        names, nodes, made = (
            np.array([*numbers, 0], np.int64) for numbers in (map(id, places.names), places.records, makers.records)
        )
        objects, held = (np.zeros(places.count + len(types) + 1, np.int64) for _ in range(2))
        parts = np.zeros(results + makers.count, np.int64)
        new_array, as_scalar, copy = _numpy_functions()
        head = {
            "arguments": places.arguments, "keywords": len(places.names), "plain": int(places.plain),
            "leaves": len(types) + (state is not None), "results": results, "entry": loaded.address,
            "table": address_of(self.table), "arena": address_of(self.arena), "report": address_of(self.report),
            "release": int(release), "busy": address_of(self.busy), "block": bound[0] if bound else 0,
            "slow": 0, "block_end": bound[0] + state.nbytes if bound else 0,
            "state": id(state) if state is not None else 0,
            "array_type": id(np.ndarray), "float_type": id(float), "int_type": id(int), "true": id(True),
            "false": id(False), "new_array": new_array, "as_scalar": as_scalar, "copy": copy,
            "names": address_of(names), "nodes": len(places.records) // len(CALL_NODE),
            "node_records": address_of(nodes), "makers": makers.count, "maker_records": address_of(made),
            "objects": address_of(objects), "held": address_of(held), "parts": address_of(parts),
            "guests": int(places.guests or makers.guests),
        }  # fmt: skip
        words = [head[name] for name in CALL_HEAD]
        kept: list[Any] = [places.names, places.kept, makers.kept, names, nodes, made, objects, held, parts]
        if state is not None:
            words += _record(CALL_LEAF, kind=CALL_STATE)
        for number, source, type in zip(program.inputs[len(bound) :], places.sources, types, strict=True):
            words += _leaf(number, source, type)
            kept.append(type.dtype)
        for i, number in enumerate(program.outputs):
            slot = program.slots[number]
            dtype = np.dtype(slot.dtype)
            # The losses of many models are an array like others.
            words += _result(number, dtype, slot.shape, is_loss=state is not None and i == 0 and not slot.shape)
            kept.append(dtype)
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
            kept,
            self._method,
            loaded,
            at_death,
        )
        self.function: Callable[..., Any] = builtin(self._method, owner)

    def _may_share(self, state: Any) -> bool:
        return state is not None or self.loaded.program.arena_bytes >= SHARED_ARENA_BYTES

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


def _makers(results: int, out_tree: optree.PyTreeSpec, is_step: bool) -> Makers:
    makers = Makers(results)
    if not is_step:
        makers.tree(out_tree, 0)
    elif out_tree.num_leaves:
        makers.tuple([0, makers.tree(out_tree, 1)])
    return makers


def _record(fields: Sequence[str], shape: Sequence[int] = (), **values: int) -> list[int]:
    return [values.get(name, 0) for name in fields] + [*shape, *[0] * (MOST_DIMENSIONS - len(shape))]


def _leaf(slot: int, source: int, type: LeafType) -> list[int]:
    dtype, shape = type.dtype, type.shape
    if type.weak:
        return _record(CALL_LEAF, kind=_KINDS_OF_NUMBERS[dtype.kind], slot=slot, source=source)
    # What no object has: an array's class is no scalar's, and a scalar no array of that many dimensions.
    scalar, ndim = (0, len(shape)) if shape or type.is_array else (id(dtype.type), -1)
    return _record(
        CALL_LEAF, shape, kind=CALL_ARRAY, slot=slot, source=source, descr=id(dtype), number=dtype.num,
        ndim=ndim, nbytes=math.prod(shape) * dtype.itemsize, scalar=scalar,
    )  # fmt: skip


def _result(slot: int, dtype: np.dtype, shape: Sequence[int], *, is_loss: bool) -> list[int]:
    if is_loss:
        return _record(CALL_RESULT, kind=CALL_LOSS32 if dtype.itemsize == 4 else CALL_LOSS64, slot=slot)
    return _record(CALL_RESULT, shape, kind=CALL_ARRAY, slot=slot, descr=id(dtype), ndim=len(shape))


def fits(types: Sequence[LeafType], leaves: Sequence[Any], places: Places, loaded: Loaded) -> bool:
    """Whether a native entry can take these arguments, whose leaves are where `places` looks, and give these results.

    A container of a class that only optree knows has leaves elsewhere."""
    slots = [loaded.program.slots[number] for number in loaded.program.outputs]
    return (
        available()
        and places.complete
        and len(leaves) == len(places.leaves)
        and all(a is b for a, b in zip(leaves, places.leaves, strict=True))
        and max(places.count, len(slots)) <= MOST_LEAVES
        and bool(slots)
        and all(math.prod(slot.shape) * np.dtype(slot.dtype).itemsize < REUSE_BYTES for slot in slots)
        and all(not type.weak or type.dtype.kind in _KINDS_OF_NUMBERS for type in types)
        and not any(is_narrow(type.dtype) for type in types)
        and all(len(shape) <= MOST_DIMENSIONS for shape in [*(t.shape for t in types), *(s.shape for s in slots)])
    )
