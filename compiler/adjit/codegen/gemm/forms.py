"""What a matrix product's code needs to know of type and machine: tile, blocks, forms, memory. Plain data, no code.

The order in which the k products of one element of C are added is fixed by its *form*:

- tiles: k is cut into blocks of `kc`; within a block one chain of fused multiply-adds from zero, k ascending; the
  blocks' sums are added to C in order (to the old C first, where the product accumulates).

Tile sizes, row and column blocks, packing and the number of threads do not enter: a part of C computed by a call of
its own has the bits of the whole, as long as both calls carry the same form (`gemm_flags` of the whole problem).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adjit.codegen.constants import GEMM, GEMM_BLOCK_BYTES, GEMM_PACK_FROM
from adjit.codegen.llvm import Ty, register_type
from adjit_runtime.target import Target

ACCUMULATE = 1
SCRATCH = 2


@dataclass(frozen=True, slots=True)
class Tiles:
    """Sizes of one dtype's kernels on one target; `rows` x `columns` is the register tile."""

    dtype: np.dtype
    rows: int
    vectors: int
    lanes: int
    kc: int
    mc: int
    nc: int
    masks: bool
    fused: bool
    l2: int

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
    def suffix(self) -> str:
        """`f32`, `f64`: how symbols end."""
        return f"{self.ty.kind}{self.ty.bits}"

    @property
    def pack_from(self) -> int:
        """Extent from which an operand is packed although it could be used in place."""
        return GEMM_PACK_FROM

    @property
    def block_columns(self) -> tuple[tuple[int, int], ...]:
        """(rows up to, columns of a block of C): the fewer the rows, the wider, at about `GEMM_BLOCK_BYTES`."""
        elements = GEMM_BLOCK_BYTES // self.dtype.itemsize
        limits = (self.mc // 8, self.mc // 4, self.mc // 2, self.mc)
        return tuple((rows, max(1, elements // (rows * self.columns)) * self.columns) for rows in limits)


def tiles_for(dtype: np.dtype, target: Target) -> Tiles:
    """The kernels' sizes for `dtype` on `target`."""
    found = GEMM[target.vector_bytes, dtype.itemsize]
    return Tiles(
        dtype=dtype,
        rows=found.rows,
        vectors=found.vectors,
        lanes=target.vector_bytes // dtype.itemsize,
        kc=found.kc,
        mc=found.mc,
        nc=found.nc,
        masks=target.masks,
        # Without the instruction, llvm.fma is a call of the C library for each lane.
        fused=target.vector_bytes > 16 or target.triple.startswith("aarch64"),
        l2=target.l2,
    )


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def packed_b_bytes(tiles: Tiles, n: int, k: int) -> int:
    """Packing memory for B: whole panels, and what a transposed panel's last block writes beyond its end."""
    columns, depth = _round_up(min(n, tiles.nc), tiles.columns), min(k, tiles.kc)
    return _round_up((columns * depth + tiles.columns * tiles.lanes) * tiles.dtype.itemsize, 64)


def packed_a_bytes(tiles: Tiles, m: int, k: int) -> int:
    """Packing memory for A, likewise."""
    rows, depth = _round_up(min(m, tiles.mc), tiles.rows), min(k, tiles.kc)
    return _round_up((rows * depth + tiles.rows * tiles.lanes + tiles.lanes) * tiles.dtype.itemsize, 64)


def gemm_workspace_bytes(dtype: np.dtype, m: int, n: int, k: int, target: Target) -> int:
    """Bytes of packing memory that a product of these extents may use, whatever its strides.

    It grows with m, n and k, so that the workspace of a problem serves each of its parts."""
    if dtype.kind != "f":
        return 0
    tiles = tiles_for(dtype, target)
    return packed_b_bytes(tiles, n, k) + packed_a_bytes(tiles, m, k)


def scratch_allowed(dtype: np.dtype, k: int, target: Target) -> bool:
    """Whether flag SCRATCH may be given: all of k must be one block, as a block of C is kept no longer."""
    return dtype.kind == "f" and k <= tiles_for(dtype, target).kc


def gemm_scratch_bytes(dtype: np.dtype, target: Target) -> int:
    """Bytes that `c` points to under flag SCRATCH: the largest block."""
    tiles = tiles_for(dtype, target)
    return max(rows * columns for rows, columns in tiles.block_columns) * dtype.itemsize


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
    return (ACCUMULATE if accumulate else 0) | (SCRATCH if scratch else 0)
