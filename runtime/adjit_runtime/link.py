"""An object file of ELF for x86-64 in memory: laid out, relocated and executable.

Knows what LLVM writes for code that is position-independent in the small code model: sections of code and data, and
references by distance, by way of a stub to what is far away, by way of a slot with the address, and by address. Raises
InternalError for all else. LLVM's own linker keeps 50 KB of each file, of which five are code.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import struct
import sys
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from adjit_runtime.errors import InternalError

# Layouts and numbers of the System V ABI and its supplement for AMD64.
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_WORD, _HALF = struct.Struct("<Q"), struct.Struct("<i")
_ELF64_LITTLE = b"\x7fELF\x02\x01\x01"
_RELOCATABLE, _X86_64 = 1, 62
_PROGBITS, _SYMTAB, _RELA, _NOBITS, _UNWIND = 1, 2, 4, 8, 0x70000001
_WRITE, _ALLOC, _THREADS_OWN = 1, 2, 0x400
_UNDEFINED = 0
_ADDRESS, _DISTANCE, _CALL, _SLOTS = 1, 2, 4, (9, 41, 42)

_JUMP = b"\xff\x25\x02\0\0\0\0\0"
"""`jmp` to the address that lies two bytes past it: the stub of a function, ahead of its slot."""
_STUB = len(_JUMP) + 8


def is_linked_here(code: bytes) -> bool:
    """Whether this is an object file of the kind that is known here, for this system."""
    if sys.platform != "linux" or len(code) < _HEADER.size:
        return False
    ident, kind, machine = _HEADER.unpack_from(code)[:3]
    return bool(ident.startswith(_ELF64_LITTLE) and (kind, machine) == (_RELOCATABLE, _X86_64))


class _Section(NamedTuple):
    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry: int


class _Symbol(NamedTuple):
    name: str
    section: int
    value: int


class _File:
    """What an object file has. A reference is a section, a place in it, the number of a symbol, how it is referred to,
    and what is added."""

    def __init__(self, code: bytes) -> None:
        header = _HEADER.unpack_from(code)
        start, size, count = header[6], header[11], header[12]
        self.sections = [_Section(*_SECTION.unpack_from(code, start + size * i)) for i in range(count)]
        for section in self.sections:
            odd = section.type not in (_PROGBITS, _NOBITS, _UNWIND) or section.flags & _THREADS_OWN
            if section.flags & _ALLOC and odd:
                raise InternalError(f"a section of type {section.type} and flags {section.flags} is not known")
        (table,) = [section for section in self.sections if section.type == _SYMTAB]
        names = self.sections[table.link].offset
        self.symbols = [
            _Symbol(code[names + name : code.index(b"\0", names + name)].decode(), section, value)
            for name, _, _, section, value, _ in _SYMBOL.iter_unpack(_bytes_of(table, code))
        ]
        self.references = [
            (section.info, offset, info >> 32, info & 0xFFFFFFFF, addend)
            for section in self.sections
            if section.type == _RELA and self._is_loaded(section.info)
            for offset, info, addend in _RELOCATION.iter_unpack(_bytes_of(section, code))
        ]
        for number in {number for _, _, number, _, _ in self.references}:
            symbol = self.symbols[number]
            if symbol.section != _UNDEFINED and not self._is_loaded(symbol.section):
                raise InternalError(f"{symbol.name} lies in no section that is loaded")
        # Functions that are elsewhere are called by way of a stub, as they may be far away.
        self.by_slot = dict.fromkeys(
            number
            for _, _, number, kind, _ in self.references
            if kind in _SLOTS or (kind == _CALL and self.symbols[number].section == _UNDEFINED)
        )

    def _is_loaded(self, section: int) -> bool:
        return section < len(self.sections) and bool(self.sections[section].flags & _ALLOC)


def _bytes_of(section: _Section, code: bytes) -> bytes:
    return code[section.offset : section.offset + section.size]


class Image:
    """A linked file. `addresses` has those of `exports`; the memory lasts as long as this does.

    `imports` says where symbols are that the file does not have; those of C and of Python are found in the process."""

    __slots__ = ("_memory", "addresses")

    def __init__(self, code: bytes, exports: Collection[str], imports: Mapping[str, int]) -> None:
        file = _File(code)
        places, stubs, writable, size = _layout(file)
        self._memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        for number, place in places.items():
            section = file.sections[number]
            if section.type != _NOBITS:
                self._memory[place : place + section.size] = _bytes_of(section, code)
        symbols = [_address_of(symbol, base, places, imports) for symbol in file.symbols]
        self._relocate(file, base, places, stubs, symbols)
        numbers = {symbol.name: i for i, symbol in enumerate(file.symbols) if symbol.section != _UNDEFINED}
        for name in exports:
            if name not in numbers:
                raise InternalError(f"there is no {name} in it")
        self.addresses = {name: symbols[numbers[name]] for name in exports}
        if _protect()(base, writable, mmap.PROT_READ | mmap.PROT_EXEC):
            raise InternalError("the system does not let memory be executed")

    def _relocate(self, file: _File, base: int, places: Mapping[int, int], stubs: int, symbols: list[int]) -> None:
        memory = self._memory
        slots = {number: stubs + _STUB * i for i, number in enumerate(file.by_slot)}
        for number, at in slots.items():
            memory[at : at + _STUB] = _JUMP + symbols[number].to_bytes(8, "little")
        for section, offset, number, kind, addend in file.references:
            at = places[section] + offset
            if kind in _SLOTS:
                to = base + slots[number] + len(_JUMP)
            elif kind == _CALL and file.symbols[number].section == _UNDEFINED:
                to = base + slots[number]
            elif kind in (_CALL, _DISTANCE, _ADDRESS):
                to = symbols[number]
            else:
                raise InternalError(f"{file.symbols[number].name} is referred to in a way that is not known: {kind}")
            try:
                if kind == _ADDRESS:
                    _WORD.pack_into(memory, at, to + addend)
                else:
                    _HALF.pack_into(memory, at, to + addend - base - at)
            except struct.error:
                raise InternalError(f"{file.symbols[number].name} is too far away") from None


def _layout(file: _File) -> tuple[dict[int, int], int, int, int]:
    """Where each section lies, where stubs with their slots do, where what may be written begins, and the end."""
    places: dict[int, int] = {}

    def put(at: int, written: int) -> int:
        for number, section in enumerate(file.sections):
            if section.flags & _ALLOC and section.flags & _WRITE == written:
                places[number] = _up(at, max(section.align, 1))
                at = places[number] + section.size
        return at

    stubs = _up(put(0, 0), _STUB)
    writable = _up(max(stubs + _STUB * len(file.by_slot), 1), mmap.PAGESIZE)
    return places, stubs, writable, put(writable, _WRITE)


def _up(at: int, align: int) -> int:
    return -(-at // align) * align


def _address_of(symbol: _Symbol, base: int, places: Mapping[int, int], imports: Mapping[str, int]) -> int:
    """Where a symbol is; 0 for one that nothing can refer to."""
    if symbol.section in places:
        return base + places[symbol.section] + symbol.value
    if symbol.section != _UNDEFINED or not symbol.name:
        return 0
    return imports[symbol.name] if symbol.name in imports else _in_process(symbol.name)


@functools.cache
def _process() -> ctypes.CDLL:
    return ctypes.CDLL(None)


@functools.cache
def _protect() -> Callable[[int, int, int], int]:
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return prototype(("mprotect", _process()))


def _in_process(name: str) -> int:
    try:
        found = ctypes.cast(_process()[name], ctypes.c_void_p).value
    except AttributeError:
        found = None
    if not found:
        raise InternalError(f"there is no function {name}")
    return found
