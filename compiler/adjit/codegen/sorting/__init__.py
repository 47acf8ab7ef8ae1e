"""Sorting, as LLVM text: functions that all programs share, and networks with their sizes in the code.

    void adjit_sort_f64(x, x_step, out, out_step, n, workspace)
    void adjit_argsort_f64(x, x_step, out, out_step, n, workspace)

for f32, f64, i32, i64 and u64: one row of n elements, `x_step` elements apart, into `out`; `workspace` holds
`workspace_bytes`. Both are stable. What is sorted are keys, signed integers in the order of the elements; the sort is
a quicksort by vectors (`quick`) down to blocks that bitonic networks sort in registers (`bitonic`). Many short rows at
once, one in each lane, are what `rows` writes."""

from __future__ import annotations

import numpy as np

from adjit.codegen.sorting.library import emit_sorting_library, workspace_bytes
from adjit.codegen.sorting.rows import emit_rows
from adjit.ir.types import dtype_name
from adjit.ops.sorting import SORTED

__all__ = ["SORTING_LIBRARIES", "emit_rows", "emit_sorting_library", "sorting_library", "workspace_bytes"]


def sorting_library(dtype: np.dtype, positions: bool) -> str:
    """The name of the library that sorts one dtype, which is that of its function without `adjit_`."""
    return f"{'argsort' if positions else 'sort'}_{dtype_name(dtype)}"


SORTING_LIBRARIES = {
    sorting_library(np.dtype(name), positions): (np.dtype(name), positions)
    for name in SORTED
    for positions in (False, True)
}
"""Each library's name: what it sorts, and whether it gives positions."""
