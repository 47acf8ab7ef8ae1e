"""Matrix products that all programs share: functions with run-time sizes and strides, as LLVM text.

    void adjit_gemm_f32(m, n, k, a, a_row, a_col, b, b_row, b_col, c, c_row, workspace, flags, edge, epilogue, context)

the same as `adjit_swapped_f32` and `adjit_dots_f32` for thin products, and for f64; for i32 and i64 there is `gemm`
alone. `product_symbols` says which function computes a product and what `edge` is (null where panels are whole).
Integers are i64, strides count elements (any value, zero and negative ones too;
C has unit column stride), `workspace` is 64-byte aligned and holds `gemm_workspace_bytes`. Flags: ACCUMULATE adds to C;
SCRATCH says that `c` is memory for one block (`gemm_scratch_bytes`), which only the epilogue sees, and is legal where
`scratch_allowed`; PREFETCH names what the epilogue reads; the rest comes from `gemm_flags`. `epilogue`, unless null, is

    void epilogue(context, tile, tile_row, i0, i1, j0, j1)

called once for each finished block; the blocks partition C and come in a fixed order; element (i, j) lies at
tile[(i - i0) * tile_row + j - j0] and may be overwritten. k = 0 gives zeros; m = 0 or n = 0 does nothing.

Products of windows, whose sums are loops around k, have `adjit_windows_f32`, see windows.py.

Each function has a library of its own, so that a program pays for the code that it calls.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from adjit.codegen.gemm.dispatch import emit_gemm
from adjit.codegen.gemm.dots import emit_dots
from adjit.codegen.gemm.integers import emit_integer
from adjit.codegen.gemm.macro import emit_edge, emit_tiles
from adjit.codegen.gemm.microkernel import emit_panel
from adjit.codegen.gemm.packing import emit_pack
from adjit.codegen.gemm.thin import emit_dots_product, emit_swapped
from adjit.codegen.gemm.variants import (
    ACCUMULATE,
    MOST_PREFETCHED,
    PREFETCH,
    REGISTER_TILES,
    SCRATCH,
    KernelSizes,
    blocks_are_wide,
    gemm_flags,
    gemm_scratch_bytes,
    gemm_workspace_bytes,
    product_symbols,
    scratch_allowed,
    sizes_for,
)
from adjit.codegen.gemm.windows import emit_windows
from adjit.codegen.llvm import Module
from adjit.ir.types import dtype_name
from adjit_runtime.target import Target

__all__ = [
    "ACCUMULATE",
    "GEMM_DTYPES",
    "GEMM_LIBRARIES",
    "MOST_PREFETCHED",
    "PREFETCH",
    "REGISTER_TILES",
    "SCRATCH",
    "blocks_are_wide",
    "emit_gemm_library",
    "gemm_flags",
    "gemm_needs",
    "gemm_scratch_bytes",
    "gemm_workspace_bytes",
    "product_symbols",
    "scratch_allowed",
    "sizes_for",
]


GEMM_DTYPES = tuple(np.dtype(name) for name in ("float32", "float64", "int32", "int64"))


def _emit_main(module: Module, sizes: KernelSizes) -> None:
    emit_panel(module, sizes, sizes.vectors, masked=sizes.masks)
    emit_pack(module, sizes)
    emit_tiles(module, sizes)
    emit_gemm(module, sizes)


def _emit_dots(module: Module, sizes: KernelSizes) -> None:
    emit_dots(module, sizes)
    emit_dots_product(module, sizes)


_EMITTERS: dict[str, Callable[[Module, KernelSizes], None]] = {
    "gemm": _emit_main,
    "edge": emit_edge,
    "swapped": emit_swapped,
    "dots": _emit_dots,
    "windows": emit_windows,
}

GEMM_LIBRARIES = {
    f"{part}_{dtype_name(dtype)}": (part, dtype)
    for dtype in GEMM_DTYPES
    for part in _EMITTERS
    if dtype.kind == "f" or part == "gemm"
}
"""Each library's name, which is that of its function without `adjit_`: what is in it, and for what dtype."""


def gemm_needs(name: str) -> tuple[str, ...]:
    """The libraries whose functions a library calls."""
    part, dtype = GEMM_LIBRARIES[name]
    return (f"gemm_{dtype_name(dtype)}",) if part in ("swapped", "dots") else ()


def emit_gemm_library(module: Module, target: Target, name: str) -> None:
    """Write the functions of a library of `GEMM_LIBRARIES`; in one module, after those of the ones that it needs."""
    part, dtype = GEMM_LIBRARIES[name]
    if dtype.kind == "f":
        _EMITTERS[part](module, sizes_for(dtype, target))
    else:
        emit_integer(module, dtype, target)
