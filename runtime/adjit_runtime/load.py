"""Object code becomes something that can be called: linking, constants, arenas.

One session serves the process. Shared libraries are linked once; a program is unlinked when the last reference to its
`Loaded` goes, and with the last program of one of LLVM's JITs what that kept of the others.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from adjit_runtime import errors, lapack
from adjit_runtime.errors import AdjitError, InternalError, OutOfMemory
from adjit_runtime.fork import calls_llvmlite, in_child
from adjit_runtime.link import Image, is_linked_here
from adjit_runtime.program import ALIGN, Library, Program
from adjit_runtime.target import Target, host_target, initialize
from adjit_runtime.tuned import LINKS_PER_JIT, RESULT_PAGE_OFFSET, REUSE_BYTES, REUSED_RESULTS

LibrarySource = Callable[[str, Target], Library]

_ENTRY = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
# `adjit_enter` gives the GIL back itself; PYFUNCTYPE raises the exception that it leaves.
_ENTER = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
_ENTER_RUN = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
_RUN = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)


def aligned_bytes(nbytes: int) -> np.ndarray:
    """Zeroed memory that begins on 64 bytes: uint8[nbytes]. Raises OutOfMemory."""
    try:
        memory = np.zeros(nbytes + ALIGN, dtype=np.uint8)
    except (MemoryError, ValueError):
        # NumPy has a ValueError for sizes beyond int64.
        raise OutOfMemory(f"{nbytes} bytes of memory are needed, and there are not as many to be had") from None
    start = -address_of(memory) % ALIGN
    return memory[start : start + nbytes]


_DATA = 16
"""Where an array object of CPython and NumPy has the address of its first element."""


def _address_by_interface(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _address_in_place(array: np.ndarray) -> int:
    return _WORD(id(array) + _DATA).value


_WORD = ctypes.c_size_t.from_address
_SAMPLE = np.empty((2, 3), np.float32)
address_of: Callable[[np.ndarray], int] = (
    _address_in_place
    if sys.implementation.name == "cpython"
    and all(_address_in_place(array) == _address_by_interface(array) for array in (_SAMPLE, _SAMPLE[1:, 1]))
    else _address_by_interface
)
"""The address of the first element. NumPy's own interface takes a microsecond, so its result is read where it lies, if
it does lie there."""


_SOURCES: list[LibrarySource] = []


def provide_libraries(source: LibrarySource) -> None:
    """Say where the object code of shared libraries comes from; the compiler's driver does."""
    _SOURCES.append(source)


_HOOKS: dict[str, Callable[[], None]] = {}


def on_library(name: str, hook: Callable[[], None]) -> None:
    """Call `hook` before a program that needs a library is linked."""
    _HOOKS[name] = hook


OF_PROCESS = frozenset({"pool", "signals"})
"""Libraries that hold what a process has one of, its workers and who runs its handlers: programs of all targets share
them, though ADJIT_CPU changes between two."""


class Session:
    """The process's JIT: links programs and libraries. Safe to use from several threads, without a lock that an
    interrupt or a fork could leave taken: where two threads link a library at once, both use what the first one made.
    """

    def __init__(self) -> None:
        self._jits: list[llvm.LLJIT] = []
        self._numbers = itertools.count()
        self._libraries: dict[tuple[str, str], tuple[Any, dict[str, int]]] = {}

    def library(self, name: str, target: Target | None = None) -> dict[str, int]:
        """The addresses of a library's functions; made and linked at the first call, for each target: that of the
        process, where none is given."""
        if name == "lapack":
            return lapack.addresses()
        target = target or host_target()
        key = (name, "" if name in OF_PROCESS else target.key)
        known = self._libraries.get(key)
        if known is None:
            library = _SOURCES[-1](name, target)
            imports: dict[str, int] = {}
            for needed in library.needs:
                imports.update(self.library(needed, target))
            known = self._libraries.setdefault(key, self._link(library.code, library.symbols, imports, library.name))
        return known[1]

    def program(self, program: Program, target: Target | None = None) -> tuple[Any, int]:
        """Link a program with libraries of its target; what keeps its code alive, and the address of its entry."""
        imports: dict[str, int] = {}
        for name in program.libraries:
            imports.update(self.library(name, target))
            if name in _HOOKS:
                _HOOKS[name]()
        tracker, addresses = self._link(program.code, (program.entry,), imports, program.name)
        return tracker, addresses[program.entry]

    def _link(
        self, code: bytes, exports: tuple[str, ...], imports: dict[str, int], name: str
    ) -> tuple[Any, dict[str, int]]:
        """What keeps the code alive, and the addresses of `exports`."""
        try:
            if is_linked_here(code):
                image = Image(code, exports, imports)
                return image, image.addresses
            return self._linked_by_llvm(code, exports, imports, name)
        except (RuntimeError, OSError, InternalError) as error:
            raise InternalError(f"the code of {name} cannot be linked: {error}") from error

    @calls_llvmlite
    def _linked_by_llvm(
        self, code: bytes, exports: tuple[str, ...], imports: dict[str, int], name: str
    ) -> tuple[llvm.ResourceTracker, dict[str, int]]:
        builder = llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
        for symbol in exports:
            builder = builder.export_symbol(symbol)
        for symbol, address in imports.items():
            # LLVM keeps some 100 bytes of each, and a library has many that this code does not call.
            if symbol.encode() in code:
                builder = builder.import_symbol(symbol, address)
        number = next(self._numbers)
        tracker = builder.link(self._jit_of(number), f"{name}.{number}")
        return tracker, {symbol: tracker[symbol] for symbol in exports}

    def _jit_of(self, number: int) -> llvm.LLJIT:
        """The JIT for the program of a number. Trackers keep theirs alive."""
        if number % LINKS_PER_JIT == 0:
            initialize()
            self._jits = [llvm.create_lljit_compiler(use_jit_link=True)]
        return self._jits[0]


_SESSIONS: dict[None, Session] = {}


def session() -> Session:
    """The process's session, made at the first call."""
    known = _SESSIONS.get(None)
    return known if known is not None else _SESSIONS.setdefault(None, Session())


PAGE = 4096


class _Block:
    """The memory of a large result: the base of the array, and so alive as long as any view of it."""

    __slots__ = ("__array_interface__", "home", "memory")

    def __init__(self, memory: np.ndarray, shape: tuple[int, ...], dtype: np.dtype, home: deque[np.ndarray]) -> None:
        self.memory = memory
        self.home = home
        self.__array_interface__ = {
            "shape": shape,
            "typestr": dtype.str,
            "data": (address_of(memory), False),
            "version": 3,
        }

    def __del__(self) -> None:
        self.home.append(self.memory)


class Arenas:
    """Scratch memory between calls, for all programs that need about as much: a power of two, or up to twice that.

    It lives as long as one of them. What comes back is used again; deque is safe between threads."""

    __slots__ = ("__weakref__", "_free")

    def __init__(self) -> None:
        self._free: deque[np.ndarray] = deque()

    def __len__(self) -> int:
        return len(self._free)

    def borrow(self, nbytes: int) -> np.ndarray:
        """At least so many bytes, for one call: uint8[n] that begins on 64 bytes. Raises OutOfMemory."""
        try:
            arena = self._free.pop()
        except IndexError:
            return aligned_bytes(nbytes)
        if len(arena) >= nbytes:
            return arena
        # One that was made for a smaller program goes before the next one is made.
        del arena
        return aligned_bytes(nbytes)

    def give_back(self, arena: np.ndarray) -> None:
        """Put it where the next call finds it."""
        self._free.append(arena)


_ARENAS: weakref.WeakValueDictionary[int, Arenas] = weakref.WeakValueDictionary()


def _arenas_for(nbytes: int) -> Arenas:
    # Two threads that make the same ones at once both work, each with its own.
    size = nbytes.bit_length()
    known = _ARENAS.get(size)
    if known is None:
        known = _ARENAS[size] = Arenas()
    return known


class Loaded:
    """A program that can run. `entry(table, arena, report)` is the native function, as `program` describes it; it
    raises what a handler of a signal raised meanwhile. `target` is the one that the program was made for: that of the
    process, where none is given."""

    def __init__(self, program: Program, target: Target | None = None) -> None:
        # Linked, its code lies elsewhere.
        self.program = replace(program, code=b"", target=sys.intern(program.target))
        self._tracker, self.address = session().program(program, target)
        self.entry = _entry_of(self)
        self.constants = {number: np.ascontiguousarray(array) for number, array in program.constants.items()}
        self.constant_addresses = {number: address_of(array) for number, array in self.constants.items()}
        self._arenas = _arenas_for(program.arena_bytes)
        self._spare: dict[int, deque[np.ndarray]] = {}

    def result(self, number: int) -> np.ndarray:
        """An array for the result in a slot, not filled."""
        slot = self.program.slots[number]
        dtype = np.dtype(slot.dtype)
        nbytes = math.prod(slot.shape) * dtype.itemsize
        if nbytes < REUSE_BYTES:
            return np.empty(slot.shape, dtype)
        home = self._spare.setdefault(nbytes, deque(maxlen=REUSED_RESULTS))
        try:
            memory = home.pop()
        except IndexError:
            whole = aligned_bytes(nbytes + PAGE)
            start = (RESULT_PAGE_OFFSET - address_of(whole)) % PAGE
            memory = whole[start : start + nbytes]
        return np.asarray(_Block(memory, slot.shape, dtype, home))

    def borrow_arena(self) -> np.ndarray:
        """Scratch memory for one call; give it back with `return_arena`."""
        return self._arenas.borrow(self.program.arena_bytes)

    def return_arena(self, arena: np.ndarray) -> None:
        """Put an arena where the next call finds it."""
        self._arenas.give_back(arena)

    def failure(self, status: int, report: Any) -> AdjitError:
        """The error of a check that failed: `status` is the entry's result, `report` what it wrote."""
        check = self.program.checks[status - 1]
        kind: type[AdjitError] = getattr(errors, check.error)
        return kind(check.message(int(report[0]), int(report[1])))

    @property
    def polls(self) -> bool:
        """Whether it looks for signals as it runs."""
        return POLLING and "signals" in self.program.libraries


POLLING = sys.implementation.name == "cpython"
"""Whether long programs look for signals: it takes the C functions of CPython."""


def _entry_of(loaded: Loaded) -> Callable[[int, int, int], int]:
    if not loaded.polls:
        return _ENTRY(loaded.address)
    return functools.partial(_ENTER(session().library("python")["adjit_enter"]), loaded.address)


@functools.cache
def run_function(polls: bool) -> Callable[[int], int]:
    """The native loop over minibatches, `adjit_run`, for programs of which one `polls` or none does."""
    address = session().library("run")["adjit_run"]
    if not polls:
        return _RUN(address)
    return functools.partial(_ENTER_RUN(session().library("python")["adjit_enter_run"]), address)


_POLL: list[Callable[[int], None]] = []
"""Once a program polls: what says which thread may."""


def _begin_polls() -> None:
    """Let programs that look for signals find them in the main thread, the only one that runs their handlers."""
    if not POLLING or _POLL:
        return
    set_poll = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(session().library("signals")["adjit_set_poll"])
    begin = functools.partial(set_poll, session().library("python")["adjit_handle"])
    begin(threading.main_thread().ident or 0)
    _POLL.append(begin)


def _poll_in_child() -> None:
    # The thread that forked is the child's main thread.
    for set_thread in _POLL:
        set_thread(threading.get_ident())


on_library("signals", _begin_polls)
in_child(_poll_in_child)
