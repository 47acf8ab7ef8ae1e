"""What a matrix product's code needs to know of type and machine: tile, blocks, variants, memory. Plain data, no code.

The order in which the k products of one element of C are added is fixed by its *variant*:

- tiles: k is cut into even blocks of `kc` at most; within a block one chain of fused multiply-adds from zero, k
  ascending; the blocks' sums are added to C in order (to the old C first, where the product accumulates);
- swapped: the same sums, for few columns where A is transposed: the tiles are of the transpose of C;
- dots: each lane of a vector along k is one chain, then the lanes are folded; see dots.py. For thin products whose
  rows are contiguous in k.

Tile sizes, row and column blocks, packing and the number of threads do not enter: a part of C computed by a call of
its own has the bits of the whole, as long as both calls carry the same variant (`gemm_flags` of the whole problem).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adjit.codegen.llvm import Ty, register_type
from adjit.ir.types import dtype_name
from adjit.schedule.products import gemm_blocking
from adjit.tuned import (
    DOTS_FOLD_COST,
    GEMM_BLOCK_BYTES,
    GEMM_PACK_L2,
    GEMM_SMALL_BLOCK_BYTES,
    SWAPPED_ROWS,
    THIN_COLUMNS,
    THIN_PACKED_COLUMNS,
    THIN_PACKED_SUMS,
)
from adjit_runtime.target import Target

ACCUMULATE = 1
SCRATCH = 2
PREFETCH = 64
"""The words before `context` name arrays laid out as C that the epilogue will read: context[-1] is their number, the
pointers are context[-2] to context[-1 - MOST_PREFETCHED]. The tiles variant prefetches them meanwhile."""
MOST_PREFETCHED = 4

# The variant, and with dots the side whose rows are streamed (A's rows, or B's columns). DOTS_B has the bit of DOTS_A.
REGISTER_TILES, SWAPPED, DOTS_A, DOTS_B = 4, 32, 8, 8 | 16


@dataclass(frozen=True, slots=True)
class KernelSizes:
    """Sizes of one dtype's kernels on one target; `rows` x `columns` is the register tile. `keeps_lines`: L2 is large
    enough for lines of B that lie far apart."""

    dtype: np.dtype
    rows: int
    vectors: int
    lanes: int
    kc: int
    mc: int
    nc: int
    registers: int
    masks: bool
    pack_transposed: bool
    pack_plain: bool
    fused: bool
    unroll: int
    ahead: bool
    keeps_lines: bool

    @property
    def ty(self) -> Ty:
        """The scalar type."""
        return register_type(self.dtype)

    @property
    def vector(self) -> Ty:
        """One full vector."""
        return self.ty.vector(self.lanes)

    @property
    def columns(self) -> int:
        """Width of the register tile."""
        return self.vectors * self.lanes

    @property
    def narrow(self) -> int:
        """Columns of the widest panel that the widest panel function does not fit: it takes whole vectors, of which
        the last one may have a mask, if there are masks."""
        return (self.vectors - 1) * self.lanes if self.masks else self.columns - 1

    @property
    def suffix(self) -> str:
        """`f32`, `f64`: how symbols end."""
        return dtype_name(self.dtype)

    @property
    def dot_rows(self) -> int:
        """Rows of a block in the dots variant; four times as many where there are at most four columns."""
        return GEMM_SMALL_BLOCK_BYTES // (2 * THIN_COLUMNS * self.dtype.itemsize)

    @property
    def block(self) -> int:
        """Elements of a block of C."""
        return GEMM_BLOCK_BYTES[self.registers] // self.dtype.itemsize

    @property
    def block_columns(self) -> tuple[tuple[int, int], ...]:
        """(rows up to, columns of a block of C): the fewer the rows, the wider, at about `GEMM_BLOCK_BYTES`."""
        limits = (self.mc // 8, self.mc // 4, self.mc // 2, self.mc)
        return tuple((rows, max(1, self.block // (rows * self.columns)) * self.columns) for rows in limits)


def sizes_for(dtype: np.dtype, target: Target) -> KernelSizes:
    """The kernels' sizes for `dtype` on `target`."""
    found = gemm_blocking(dtype, target)
    return KernelSizes(
        dtype=dtype,
        rows=found.rows,
        vectors=found.vectors,
        lanes=target.vector_bytes // dtype.itemsize,
        kc=found.kc,
        mc=found.mc,
        nc=found.nc,
        registers=target.registers,
        masks=target.masks,
        pack_transposed=found.pack_transposed,
        pack_plain=found.pack_plain,
        fused=target.fuses,
        unroll=found.unroll,
        ahead=found.ahead,
        keeps_lines=not target.l2 or target.l2 >= GEMM_PACK_L2,
    )


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


PACKED_UNIT = 64
"""Elements of which packed B takes whole numbers, as packed A lies after it."""


def packed_b_bytes(sizes: KernelSizes, n: int, k: int) -> int:
    """Packing memory for B: whole panels, and what a transposed panel's last block writes beyond its end."""
    columns, depth = _round_up(min(n, sizes.nc), sizes.columns), min(k, sizes.kc)
    return _round_up(columns * depth + sizes.columns * sizes.lanes, PACKED_UNIT) * sizes.dtype.itemsize


def packed_a_bytes(sizes: KernelSizes, m: int, k: int) -> int:
    """Packing memory for A, likewise."""
    rows, depth = _round_up(min(m, sizes.mc), sizes.rows), min(k, sizes.kc)
    return _round_up((rows * depth + sizes.rows * sizes.lanes + sizes.lanes) * sizes.dtype.itemsize, 64)


def gemm_workspace_bytes(dtype: np.dtype, m: int, n: int, k: int, target: Target) -> int:
    """Bytes of packing memory that a product of these extents may use, whatever its strides.

    It grows with m, n and k, so that the workspace of a problem serves each of its parts."""
    if dtype.kind != "f":
        return 0
    sizes = sizes_for(dtype, target)
    return max(packed_b_bytes(sizes, n, k) + packed_a_bytes(sizes, m, k), _thin_bytes(sizes, m, n, k))


def _thin_bytes(sizes: KernelSizes, m: int, n: int, k: int) -> int:
    """Memory of the thin products: C transposed twice, or the packed columns."""
    lanes, thin = sizes.lanes, THIN_COLUMNS
    whole = _round_up(thin, lanes)
    swapped = thin * SWAPPED_ROWS + whole * _round_up(SWAPPED_ROWS, lanes) + lanes * lanes
    packed = whole * _round_up(min(k, THIN_PACKED_SUMS), lanes) + lanes * lanes
    return _round_up(max(swapped, packed) * sizes.dtype.itemsize, 64)


def scratch_allowed(dtype: np.dtype, k: int, target: Target) -> bool:
    """Whether flag SCRATCH may be given: all of k must be one block, as a block of C is kept no longer."""
    return dtype.kind == "f" and k <= sizes_for(dtype, target).kc


def gemm_scratch_bytes(dtype: np.dtype, target: Target) -> int:
    """Bytes that `c` points to under flag SCRATCH: the largest block. A small product (dispatch.py) is one block, of up
    to `sizes.block` elements, however wide."""
    sizes = sizes_for(dtype, target)
    blocks = [sizes.block, *(rows * columns for rows, columns in sizes.block_columns)]
    return max(*blocks, THIN_COLUMNS * sizes.dot_rows, THIN_COLUMNS * SWAPPED_ROWS) * dtype.itemsize


def blocks_are_wide(dtype: np.dtype, n: int, target: Target) -> bool:
    """Whether every block that an epilogue is given has all n columns of C, in whatever variant."""
    if dtype.kind != "f":
        return False
    sizes = sizes_for(dtype, target)
    return n <= min(sizes.dot_rows, *(columns for _, columns in sizes.block_columns))


def gemm_flags(
    dtype: np.dtype,
    m: int,
    n: int,
    k: int,
    a_strides: tuple[int, int],
    b_strides: tuple[int, int],
    target: Target,
    *,
    accumulate: bool = False,
    scratch: bool = False,
) -> int:
    """The `flags` argument for the whole problem, to be passed with each of its parts too (strides in elements)."""
    flags = (ACCUMULATE if accumulate else 0) | (SCRATCH if scratch else 0)
    return (
        flags | choose_variant(sizes_for(dtype, target), m, n, k, a_strides, b_strides) if dtype.kind == "f" else flags
    )


def choose_variant(
    sizes: KernelSizes, m: int, n: int, k: int, a_strides: tuple[int, int], b_strides: tuple[int, int]
) -> int:
    """The fastest variant for a problem: dots where one side is thin and the other contiguous in k, swapped where
    columns are few and A has its rows in the vectors' direction."""
    (a_row, a_col), (b_row, b_col) = a_strides, b_strides
    a_row, b_col = (1 if m == 1 else a_row), (1 if n == 1 else b_col)

    def side(x: int, w: int, w_other: int, thin: int, rows: int) -> bool:
        plain = w == 1 and thin <= THIN_COLUMNS
        packed = w_other == 1 and thin <= THIN_PACKED_COLUMNS <= rows and k <= THIN_PACKED_SUMS
        # In vector instructions a row: the sums along k and their folding, against a tile's whole vectors.
        dots, tile = thin * (k / sizes.lanes + DOTS_FOLD_COST), k * -(-thin // sizes.lanes)
        return x == 1 and dots < tile and (plain or packed)

    if side(a_col, b_row, b_col, n, m):
        return DOTS_A
    if side(b_row, a_col, a_row, m, n):
        return DOTS_B
    swapped = a_row == 1 and n <= min(THIN_COLUMNS, sizes.columns - 1) and m >= sizes.columns
    return SWAPPED if swapped else REGISTER_TILES


def product_symbols(dtype: np.dtype, m: int, n: int, flags: int, target: Target, unit: int = 0) -> tuple[str, str]:
    """The function that computes a product of these flags, and what it needs at narrower panels, "" where it has none.

    With `unit` C is cut into parts whose bounds are its multiples."""
    suffix = dtype_name(dtype)
    if dtype.kind != "f" or flags & DOTS_A:
        return f"adjit_{'dots' if flags & DOTS_A else 'gemm'}_{suffix}", ""
    sizes = sizes_for(dtype, target)
    extent, block = (m, SWAPPED_ROWS) if flags & SWAPPED else (n, sizes.nc)
    cut = unit % sizes.columns or block % sizes.columns
    narrow = cut or 0 < extent % sizes.columns <= sizes.narrow
    return f"adjit_{'swapped' if flags & SWAPPED else 'gemm'}_{suffix}", f"adjit_edge_{suffix}" if narrow else ""
