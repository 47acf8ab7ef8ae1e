"""Matrix products that all programs share: functions with run-time sizes and strides, as LLVM text.

    void adjit_gemm_f32(m, n, k, a, a_row, a_col, b, b_row, b_col, c, c_row, workspace, flags, epilogue, context)
    void adjit_gemm_batch_f32(count, m, n, k, a, a_row, a_col, b, b_row, b_col, c, c_row,
                              a_batch, b_batch, c_batch, workspace, flags, epilogue, context)

and the same for f64, i32 and i64. Integers are i64, strides count elements (any value, zero and negative ones too;
C has unit column stride), `workspace` is 64-byte aligned and holds `gemm_workspace_bytes`. Flags: ACCUMULATE adds to C;
SCRATCH says that `c` is memory for one block (`gemm_scratch_bytes`), which only the epilogue sees, and is legal where
`scratch_allowed`; NEAR names what the epilogue reads; the rest comes from `gemm_flags`. `epilogue`, unless null, is

    void epilogue(context, batch, tile, tile_row, i0, i1, j0, j1)

called once for each finished block; the blocks partition C and come in a fixed order; element (i, j) lies at
tile[(i - i0) * tile_row + j - j0] and may be overwritten. k = 0 gives zeros; m = 0 or n = 0 does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adjit.codegen.gemm.dispatch import emit_gemm, gemm_name
from adjit.codegen.gemm.dots import emit_dots
from adjit.codegen.gemm.forms import (
    ACCUMULATE,
    MOST_NEAR,
    NEAR,
    SCRATCH,
    TILES,
    Tiles,
    blocks_are_wide,
    gemm_flags,
    gemm_scratch_bytes,
    gemm_workspace_bytes,
    scratch_allowed,
    tiles_for,
)
from adjit.codegen.gemm.integers import emit_integer, integer_name
from adjit.codegen.gemm.macro import PRODUCT, TAIL, emit_tiles
from adjit.codegen.gemm.microkernel import emit_panel
from adjit.codegen.gemm.packing import emit_pack
from adjit.codegen.gemm.thin import emit_dots_product, emit_swapped
from adjit.codegen.llvm import I64, VOID, Module, Value, int_literal, register_type
from adjit_runtime.target import Target

__all__ = [
    "ACCUMULATE",
    "GEMM_DTYPES",
    "MOST_NEAR",
    "NEAR",
    "SCRATCH",
    "TILES",
    "blocks_are_wide",
    "emit_gemm_library",
    "gemm_flags",
    "gemm_scratch_bytes",
    "gemm_workspace_bytes",
    "scratch_allowed",
    "tiles_for",
]


GEMM_DTYPES = tuple(np.dtype(name) for name in ("float32", "float64", "int32", "int64"))


def emit_gemm_library(module: Module, target: Target, dtypes: Sequence[np.dtype] = GEMM_DTYPES) -> None:
    """Write every function that this module's docstring names, and their helpers, into `module`."""
    for dtype in dtypes:
        if dtype.kind == "f":
            tiles = tiles_for(dtype, target)
            _emit_helpers(module, tiles)
            for emit in (emit_tiles, emit_swapped, emit_dots_product, emit_gemm):
                emit(module, tiles)
            _emit_entries(module, dtype, gemm_name(tiles))
        else:
            emit_integer(module, dtype, target)
            _emit_entries(module, dtype, integer_name(dtype))


def _emit_helpers(module: Module, tiles: Tiles) -> None:
    if not tiles.masks:
        emit_panel(module, tiles, tiles.vectors, masked=False)
    for vectors in range(1, tiles.vectors + 1):
        emit_panel(module, tiles, vectors, masked=True)
    emit_dots(module, tiles)
    emit_pack(module, tiles)


def _emit_entries(module: Module, dtype: np.dtype, inner: str) -> None:
    """The two symbols that programs call."""
    ty = register_type(dtype)
    suffix = f"{ty.kind}{ty.bits}"
    f = module.function(f"adjit_gemm_{suffix}", VOID, (*PRODUCT, *TAIL))
    f.call(inner, VOID, (int_literal(0), *f.params))
    f.ret()

    batches = ((I64, "a_batch"), (I64, "b_batch"), (I64, "c_batch"))
    f = module.function(f"adjit_gemm_batch_{suffix}", VOID, ((I64, "count"), *PRODUCT, *batches, *TAIL), glue=True)
    named = {value.ref: value for value in f.params}

    def one(index: Value, _: list[Value]) -> list[Value]:
        moved = {
            f"%{name}": f.element(named[f"%{name}"], ty, f.mul(index, named[f"%{name}_batch"]))
            for name in ("a", "b", "c")
        }
        arguments = [moved.get(f"%{name}", named[f"%{name}"]) for _, name in (*PRODUCT, *TAIL)]
        f.call(inner, VOID, (index, *arguments))
        return []

    f.loop(0, named["%count"], 1, [], one)
    f.ret()
