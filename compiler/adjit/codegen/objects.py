"""LLVM text to object code, on several threads at a time.

llvmlite takes one lock around each call into LLVM, so that threads that generate code take turns. LLVM itself asks only
that no two threads work in one context: each module here has a context and a code generator of its own, and its code is
made by the C function that `TargetMachine.emit_object` calls, without the lock, while a fork waits. (Shared products of
f32 and a step's own code on two cores: 265 ms in turns, 190 together.)
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import llvmlite.binding as llvm
from llvmlite.utils import get_library_name

from adjit_runtime.errors import InternalError
from adjit_runtime.guard import unforked, uninterrupted
from adjit_runtime.target import Target, target_machine


def compile_text(text: str, target: Target, in_turn: bool = False) -> bytes:
    """LLVM text to a relocatable object. No optimisation pipeline: the text is vectorised and in SSA form already.

    What `guard` itself is made of is compiled `in_turn`, with llvmlite's lock. llvmlite is not to be interrupted: a
    string of its `OutputString` would be freed twice."""
    return uninterrupted(_compile, text, target, in_turn)


def _compile(text: str, target: Target, in_turn: bool) -> bytes:
    machine, module = _prepared(text, target)
    if in_turn:
        code: bytes = machine.emit_object(module)
        return code
    return unforked(_emit_object, machine, module)


def assembly(text: str, target: Target) -> str:
    """The machine code of LLVM text as assembly."""
    return uninterrupted(_assembly, text, target)


def _assembly(text: str, target: Target) -> str:
    machine, module = _prepared(text, target)
    return str(machine.emit_assembly(module))


def _prepared(text: str, target: Target) -> tuple[llvm.TargetMachine, llvm.ModuleRef]:
    try:
        module = llvm.parse_assembly(text, llvm.create_context())
        module.verify()
    except RuntimeError as error:
        raise InternalError(f"code generation wrote LLVM text that is invalid: {error}\n{text}") from error
    machine = target_machine(target)
    module.triple = target.triple
    module.data_layout = str(machine.target_data)
    return machine, module


@functools.cache
def _library() -> ctypes.CDLL:
    """llvmlite's C functions, without its lock."""
    library = ctypes.CDLL(str(Path(llvm.__file__).with_name(get_library_name())))
    library.LLVMPY_TargetMachineEmitToMemory.argtypes = [
        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_char_p),
    ]  # fmt: skip
    library.LLVMPY_TargetMachineEmitToMemory.restype = ctypes.c_void_p
    library.LLVMPY_GetBufferStart.argtypes = [ctypes.c_void_p]
    library.LLVMPY_GetBufferStart.restype = ctypes.c_void_p
    library.LLVMPY_GetBufferSize.argtypes = [ctypes.c_void_p]
    library.LLVMPY_GetBufferSize.restype = ctypes.c_size_t
    library.LLVMPY_DisposeMemoryBuffer.argtypes = [ctypes.c_void_p]
    library.LLVMPY_DisposeMemoryBuffer.restype = None
    return library


def _emit_object(machine: llvm.TargetMachine, module: llvm.ModuleRef) -> bytes:
    library = _library()
    message = ctypes.c_char_p()
    memory = library.LLVMPY_TargetMachineEmitToMemory(machine, module, 1, ctypes.byref(message))
    if not memory:
        raise InternalError(f"LLVM generates no code: {(message.value or b'').decode(errors='replace')}")
    try:
        return ctypes.string_at(library.LLVMPY_GetBufferStart(memory), library.LLVMPY_GetBufferSize(memory))
    finally:
        library.LLVMPY_DisposeMemoryBuffer(memory)
