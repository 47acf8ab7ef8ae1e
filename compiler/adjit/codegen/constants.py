"""The tuned numbers of code generation, each with the measurement that chose it.

Nothing here is read at run time of a program and nothing is measured when a program is compiled: the same target
gives the same code, and the order of every sum follows from these numbers and the sizes alone.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GemmConstants:
    """Blocking of a matrix product: a tile is `rows` x (`vectors` vectors), `kc`, `mc`, `nc` are the cache blocks.

    `kc` is part of the meaning of a result: sums run over k in blocks of `kc`. The others are speed alone.
    """

    rows: int
    vectors: int
    kc: int
    mc: int
    nc: int


# (vector bytes, element bytes) -> blocking. GFLOP/s at 1024 cubed against OpenBLAS's single thread in the same process:
# AVX-512 f32 8x32 with KC 512: 107 against 100 (12x32, 14x32, 8x48 the same within 3%, KC 256: 2% less);
# AVX2 f32 6x16 with KC 256: 1.03 to 1.17 of it (4x24: 3% less); f64 8x16 with KC 256: 1.01 to 1.13 of it.
# MC and NC hardly matter as long as MC x KC stays within half of L2. 128-bit vectors: by register count alone.
GEMM: dict[tuple[int, int], GemmConstants] = {
    (64, 4): GemmConstants(rows=8, vectors=2, kc=512, mc=128, nc=2048),
    (64, 8): GemmConstants(rows=8, vectors=2, kc=256, mc=96, nc=1024),
    (32, 4): GemmConstants(rows=6, vectors=2, kc=256, mc=144, nc=2048),
    (32, 8): GemmConstants(rows=6, vectors=2, kc=256, mc=96, nc=1024),
    (16, 4): GemmConstants(rows=4, vectors=2, kc=256, mc=128, nc=2048),
    (16, 8): GemmConstants(rows=4, vectors=2, kc=256, mc=96, nc=1024),
}

# Bytes of C that an epilogue is given at once: it is read back from L1 or L2, and a call per block costs nothing
# against 8192 elements of at least some tens of flops each. (Epilogue against a separate pass over a C in cache: 0.5%
# to 3%, so the exact size does not matter; below 4 KB the calls show.)
GEMM_BLOCK_BYTES = 32 << 10

# Rows, columns and sums from which both operands are packed even where they could be used in place. Against OpenBLAS in
# the same process, in place and packed: 384x1024x1536 (m x k x n) 0.84 and 0.94, 300x784x1024 0.88 and 0.99, 2048 cubed
# 0.80 and 1.03, 512 cubed 0.98 and 1.06, 128x784x1024 1.02 and 1.01; smaller ones are a few percent faster in place.
GEMM_PACK_FROM = (192, 512, 256)

FEW_VECTORS = 4
"""Vectors in a row of C below which the epilogue's loop is masked throughout: half the code, and no more than a few
slow stores a row."""
NEAR_BYTES = 256 << 10
"""Bytes of C from which a product brings near what its epilogue will read: what half of L2 holds. (The update of 784 x
512 weights by Adam in the product of their gradient: 1.26 ms against 1.34.)"""

# Threads. A job that is handed to another thread that looks for one costs about 0.1 us, and one to a thread that sleeps
# 40 to 100; so what takes less than some 10 us stays on one. None of these decides the order of a sum.
PARALLEL_FLOPS = 1_000_000
"""Floating-point operations from which a matrix product is cut: 10 us of one core."""
WAKE_FLOPS = 10_000_000
"""Floating-point operations of a whole step from which it wakes the workers when it begins: 100 us."""
PARALLEL_COST = 30_000
"""Vector instructions from which a loop is cut: about 10 us of one core."""
LOOP_BYTES_COST = 4
"""What a loop costs for each vector beside its instructions: loads and stores beyond the cache."""
PARTS_PER_THREAD = 2
"""Parts of a kernel for each thread: where other programs run, too, one thread may come late by a millisecond."""
MOST_PARTS = 8
"""Parts of a product at most: packing memory is set aside for each."""
LOOP_PARTS = 16
"""Parts of a loop at most."""
PART_UNIT = 32
"""Rows or columns of C that stay together: a multiple of every tile of a product."""
LOOP_UNIT = 64
"""Elements along the vector that stay together: whole vectors of the smallest type, and whole lines of cache."""

LIGHT_SHARE = 1 / 256
"""Work of a program whose code is generated without optimisation, which makes it one to three times as slow."""
