"""The libraries that all programs share: each is made once a process for each target."""

from __future__ import annotations

import functools

from adjit.codegen.constructors import emit_constructors_library
from adjit.codegen.factoring import lapack
from adjit.codegen.gemm import GEMM_LIBRARIES, emit_gemm_library, gemm_needs
from adjit.codegen.guards import emit_guard_library
from adjit.codegen.llvm import Module
from adjit.codegen.native_call import emit_call_library
from adjit.codegen.objects import compile_text
from adjit.codegen.peaks import emit_peaks_library
from adjit.codegen.pool import SYMBOLS, pool_text
from adjit.codegen.run_loop import emit_run_library
from adjit.codegen.signals import emit_python_library, emit_signals_library
from adjit.codegen.sorting import SORTING_LIBRARIES, emit_sorting_library
from adjit_runtime.errors import InternalError
from adjit_runtime.lapack import addresses
from adjit_runtime.program import Library
from adjit_runtime.target import Target

EMITTERS = {
    "run": emit_run_library,
    "call": emit_call_library,
    "guard": emit_guard_library,
    "constructors": emit_constructors_library,
    "signals": emit_signals_library,
    "python": emit_python_library,
}
"""What writes the functions of each library that is the same for all targets."""


@functools.cache
def library(name: str, target: Target) -> Library:
    """The object code of a library."""
    if name == "pool":
        return Library(name, compile_text(pool_text(target), target), SYMBOLS)
    if name == lapack.LIBRARY:
        # SciPy has its code.
        return Library(name, b"", tuple(addresses()))
    module = Module(name, target)
    if name in GEMM_LIBRARIES:
        emit_gemm_library(module, target, name)
    elif name in SORTING_LIBRARIES:
        emit_sorting_library(module, target, *SORTING_LIBRARIES[name])
    elif name == "peaks":
        emit_peaks_library(module, target)
    elif name in EMITTERS:
        EMITTERS[name](module)
    else:
        raise InternalError(f"no library is called {name!r}")
    symbols = tuple(function.name for function in module.functions if function.is_public)
    needs = gemm_needs(name) if name in GEMM_LIBRARIES else ()
    return Library(name, compile_text(str(module), target, in_turn=name == "guard"), symbols, needs)
