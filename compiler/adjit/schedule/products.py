"""What is decided of a product by its sizes: whether these stand in its code, how it is blocked, what its epilogue may
do. Planning and code generation ask the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from adjit.schedule.work import Product
from adjit.tuned import (
    DIRECT_ROWS,
    DIRECT_SUMS,
    GEMM_BLOCKING,
    GEMM_CACHE_SHARE,
    GEMM_SMALL_BLOCK_BYTES,
    GemmBlocking,
)
from adjit_runtime.target import Target


def is_small(dtype: np.dtype, m: int, n: int, k: int, vector_bytes: int) -> bool:
    """Whether the sizes of a product may stand in its code: few rows and sums, and whole vectors of columns.

    All of C is one block then, so that its epilogue may reduce."""
    size = dtype.itemsize
    few = m <= DIRECT_ROWS and 0 < k <= DIRECT_SUMS
    return dtype.kind == "f" and few and n * size >= vector_bytes and m * n * size <= GEMM_SMALL_BLOCK_BYTES


def may_be_direct(m: int, n: int, k: int) -> bool:
    """Whether a product of these sizes, either way round, may have them in its code, as far as sums and rows go."""
    return k <= DIRECT_SUMS and min(m, n) <= DIRECT_ROWS


def is_direct(work: Product, vector_bytes: int) -> bool:
    """Whether a product is written with its sizes in the code: a small one whose B has adjacent columns."""
    return not work.runs and work.b_strides[1] == 1 and is_small(work.dtype, work.m, work.n, work.k, vector_bytes)


def rows_of_block(dtype: np.dtype) -> int:
    """Rows up to which each block that an epilogue is given has all rows of the product, if the caches allow it."""
    return min(
        (b.mc for (_, size), b in GEMM_BLOCKING.items() if dtype.kind == "f" and size == dtype.itemsize), default=0
    )


def gemm_blocking(dtype: np.dtype, target: Target) -> GemmBlocking:
    """The blocking of products of a float dtype: a block of A fits into a part of L2, one of packed B into a part of
    the last cache."""
    found = GEMM_BLOCKING[target.vector_bytes, dtype.itemsize]
    row = found.kc * dtype.itemsize
    columns = found.vectors * target.vector_bytes // dtype.itemsize

    def fitting(most: int, cache: int, unit: int) -> int:
        if not cache:
            return most
        return max(unit, min(most, cache // GEMM_CACHE_SHARE // row // unit * unit))

    mc, nc = fitting(found.mc, target.l2, found.rows), fitting(found.nc, max(target.l2, target.l3), columns)
    return replace(found, mc=mc, nc=nc)


def may_reduce(work: Product, target: Target) -> bool:
    """Whether the epilogue of a product may reduce its rows."""
    if is_direct(work, target.vector_bytes):
        return True
    return (
        not work.batch
        and not work.runs
        and work.m <= min(rows_of_block(work.dtype), gemm_blocking(work.dtype, target).mc)
    )
