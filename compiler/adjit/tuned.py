"""The tuned numbers of the compiler, each with what was measured: another value gives the same function at another
speed, or in code of another size. What a contract or the mathematics fixes stands where it is used.

One leaf module, that every layer may import and that imports none; the runtime, which imports nothing of the compiler,
has `adjit_runtime/tuned` for what it reads itself.

Nothing here is read at run time of a program and nothing is measured when a program is compiled: the same target
gives the same code, and the order of every sum follows from these numbers and the sizes alone. Those that decide such
an order, and so the last bits of results, say so.

Figures chose the number or were taken since, of it and of values around it; where those show a better one, it has yet
to be tried on all workloads. They are of one thread with AVX-512 on Zen 4 unless they say otherwise, best of many on a
shared machine: a few percent are noise.
"""

from __future__ import annotations

from dataclasses import dataclass

# -- fusion: what becomes one kernel -----------------------------------------------------------------------------------

LIGHT_COST = 6
"""Instructions that may be computed again rather than stored: about what a load from L2 costs. (At most 1, 6 and 30:
Burgers' residual 0.89, 0.85, 1.04 ms, layer normalisation of 512 x 768 99, 99, 105 us.)"""
LIGHT_LEAVES = 3
"""Values that what is computed again may read. (A sum of four arrays that three results read, at most 1, 3 and 12: 31,
32 and 56 us.)"""
HOISTED_COST = 1 << 14
"""Operations and loads that storing a light value of several axes must spare where broadcasts repeat it."""
KERNEL_MEMBERS = 48
"""Heavy members of one kernel: more would not stay in registers. (Black-Scholes prices with five gradients, at most 12,
48 and 200: 20.8, 15.6, 15.2 ms.)"""
ROW_COST = 10
"""Instructions that a row's value may take where no element of the row reads it: the values of rows are computed one by
one, those of a loop of their own in vectors. (exp, log1p of 100,000 products of 100: 3.1 ms in the row, 1.4 beside.)"""
TRANSPOSE_COPY_READS = 4
"""How often each element of a transpose is read, from which it is copied first: a strided load costs about so much more
than one of a whole vector (`GATHER_WEIGHT`), and the copy costs one."""
SHORT_ROW = 16
"""Elements of a row below which reducing it counts as a move of it, so that the logits of a product may lie class by
class. (Cross-entropy of 10 classes and its gradient in the steps of a network 64-32-10: 4.52 and 4.21 us a step, of 3
classes and 1024 rows 24.0 and 22.1; logsumexp of 4096 products of 8: 127 and 131.)"""
TINY_PRODUCT = 1024
"""Multiplications up to which a matrix product is a loop among others: the call of the common code and its packing cost
more (xor's 4x2x8 in 0.4 in place of 1 us), and what has no larger product needs no library."""
GATHER_PIECES = 32
"""Arithmetic runs of constant positions that are taken piece by piece and joined; more become one gather. (256 x 512 by
a gather and in pieces: without some columns 61 and 25 us in 2 pieces, 61 and 28 in 8, 59 and 43 in 40; but without some
of 512 rows of 256 12 and 23 in 8, and 24 columns three times each 8.9 and 17.3.)"""

# -- loops -------------------------------------------------------------------------------------------------------------

STACKED_CACHE_BYTES = 1 << 22
"""Bytes of the values of all turns up to which they are stacked so that a product leaves its loop: they stay in the
cache. (64 turns of 32x65x512, 4 MB, ahead of the loop 695 and 698 us in it and out of it, a sum of such products 941
and 843; 100 turns of 32x64x64 133 and 131, 134 and 121; 200 of 64x128x128, 6 MB, 2182 and 2691, 2724 and 3404. One
thread of Zen 5 for all of these; several share a product out of the loop better.)"""
LEAVING_GAIN = 4
"""Bytes of the matrix that each turn reads, or of the sum that it writes, from which a byte that is stacked beyond that
pays. (Turns of 1x256x1024, where a byte spares 256, ahead of the loop 1837 and 500 us, as a sum 1777 and 608; 16x256x
1024, 16 bytes, 2282 and 1939, 8897 and 2466; 64x256x1024, 4 bytes, 4418 and 3985, 8262 and 8714; 1000 turns of
32x64x512, 2 bytes, 14.4 and 16.7 ms, 18.7 and 30.7.)"""
STACKED_BYTES = 1 << 27
"""Bytes that are stacked so at most, which is memory of the program. (4000 turns of 8x128x1024, 128 MB, ahead of the
loop 97 and 99 ms, as a sum 404 and 114.)"""

# -- straight lines: graphs too small for kernels ----------------------------------------------------------------------

STRAIGHT_ELEMENTS = 256
"""Elements of a value at most. (Two tanh layers of 8 on 8 rows, whose products have 512 terms: 0.43 us and 25 ms to the
first result by kernels, 0.32 us and 82 ms as a line; on 16 rows 0.90 us and 15 ms, 0.46 us and 171 ms.)"""
STRAIGHT_WORK = 4096
"""Instructions for vectors of `STRAIGHT_LANES` elements, roughly: thirteen times what a network of 2-8-1 and Adam take.
(Tanh layers of 4 x 4 on 4 rows as kernels and as a line: 30 layers 2.09 and 1.28 us, 60 layers 4.07 and 2.44; 200
layers, beyond the bound, 13.5 and 7.45.)"""
STRAIGHT_LANES = 16
"""Elements that one instruction of that estimate works on: a vector of AVX-512."""
STRAIGHT_EFFORT = 3000
"""Instructions of its code for vectors of the target's own registers, with those of paths that are seldom taken, for
each of which LLVM takes 15 to 37 us: 100 ms at most. (The gradient of sums over 40, 128 and 200 float64s: of sines
11,200, 22,400 and 44,800 of them, 0.19, 0.48 and 1.40 s; of powers 1,400, 2,800 and 5,900, 48, 105 and 290 ms. Kernels,
which do not depend on the size, take 20 and 8 ms.)"""
GATHER_EFFORT = 20
"""What a gather of a register counts among them: it is an instruction for each element, or two."""

# -- rolling: loops that Python unrolled ------------------------------------------------------------------------------

ROLL_NODES = 150
"""Nodes that loops must spare, slices, reshapes and constants not counted. (Gradients of as many turns as take so many
nodes, unrolled and as a loop, to the first result and a call: 24 steps of a heat equation, 422 and 142 ms, 1.25 and
0.56 us; 60 terms of an autoregression 227 and 33 ms, 0.52 and 0.43 us; 24 turns of a network of 4 396 and 70 ms, 1.62
and 0.86 us; of fewer, 10 steps of that equation, 167 and 187 ms, 0.28 and 0.37 us.)"""
ROLL_SHARE = 3
"""Loops that together spare as many; each spares at least this part of them. (Sums of the rows of a triangle of 120,
whose loops are of 1 to 119 turns.)"""
ROLL_TURNS = 4
"""Turns that a loop has at least: those ahead of it and behind it, which may differ, are nodes of their own."""
ROLL_LAG = 8
"""Turns that a value may be carried, from one to the next: each is a move."""
ROLL_JOINED = 8
"""Elements of a window of an array that the next turn's window overlaps: each is an operand of the loop."""
ROLL_PERIODS = 16
"""Lengths of turns that are tried, of those by which the most nodes repeat. (Each takes 0.2 us a node of a graph whose
operations repeat and whose operands do not: 18,000 nodes, 120 ms, where tracing takes 950.)"""
ROLL_KEPT_BYTES = 1 << 20
"""Bytes of values that nothing reads, up to which the values of all turns are kept for some that are read: what an L2
cache holds."""
ROLL_SCAN = 100
"""Nodes that a loop counts as, beside those of its body, where it lies in another one: compiling it takes about so
long."""
ROLL_LOOKS = 6
"""How often a graph is looked through: loops in loops are found from the inside out."""

# -- branches ----------------------------------------------------------------------------------------------------------

FLAT_COST = 32
"""Instructions, for each vector of its results, of a side of a branch that is computed whether it is taken or not.
(Two sides of 3, 9, 17, 33 and 49 instructions, one after the other, in the body of a loop. Of 16 elements: a branch
8.8, 14, 20, 33, 57 ns a turn, both sides 3.9, 7.3, 13, 25, 40; of 64 elements 12, 20, 31, 55, 80 and 4.4, 8.4, 15, 26,
39. exp and sin of scalars: 28 and 26.)"""
FLAT_ELEMENTS = 256
"""Elements of the largest value of such a side: that is in registers, or nearly so."""

# -- tiles: steps that work row by row ---------------------------------------------------------------------------------

TILING_BYTES = 1 << 20
"""Bytes of rows from which tiles pay: what an L2 cache holds. (Logistic regression without and with tiles: 1000 x 100,
9.7 and 10.2 us; 2000 x 100, 21.0 and 20.8; 4000 x 100, 43.9 and 38.8; 400 x 1000, 48.5 and 41.8.)"""
TILING_GAIN = 0.05
"""Least share of the time of the products that tiles must spare. (Burgers' residual, share 0.06, on Zen 2: 1.11 ms in
tiles, 1.22 without, on two threads 0.79 and 1.22.)"""
MEMORY_BYTES, MEMORY_BYTE_COST, CACHE_BYTE_COST = 16 << 20, 3, 1
"""Bytes that no cache holds, and what a byte costs from there and from the cache, in operations: 30 and 100 GB/s beside
100 GFLOP/s."""
TILE_BYTES = 256 << 10
"""Bytes of one tile's rows. (64 and 256 KB and 1 MB: 1.61, 1.63, 1.62 ms for logistic regression. A mixture of
Gaussians took 0.93, 1.15, 1.14: there 64 KB makes tiles of 24 rows and the others of 25, so it is the rows that
count.)"""
TILE_ROWS = (24, 32)
"""Fewest and most rows of a tile. At most 32, 64, 128 and 256 rows: 1.50, 1.57, 1.88, 1.95 ms for a mixture of 25
Gaussians in 10 dimensions (2.3 without tiles), 1.79, 2.14, 2.03, 1.94 for logistic regression (2.65)."""
STREAM_TILE_ROWS = (32, 96)
"""The same where rows come from memory and are multiplied by vectors alone. (Logistic regression of 100,000 rows of
100, of which 32, 96 and 256 at most give tiles of 32, 80 and 160: on Zen 2 3.27, 2.74 and 2.85 ms; of 10,000 rows of
1000 on Zen 5, in tiles of 32 and 64: 1.22 and 1.03.)"""
STREAM_ROW_BYTES, STREAM_AHEAD_ROWS = {32: 1 << 10}, (16, 32)
"""Vector registers -> bytes of rows up to which a tile and what is prefetched ahead of it (`STREAM_AHEAD`) stay in
L1, and the rows of such a tile. (The same regression on Zen 5, with rows of 400 bytes, in tiles of 32 and 80, 0.77 and
1.05 ms, and 1.55 with nothing prefetched; of 800 bytes 0.92 and 1.77, of 4 KB 1.15 and 1.22, of 16 KB 1.21 and
0.96.)"""
STREAM_TILE_UNIT = 16
"""What the rows of such a tile are a multiple of: whole vectors."""
STREAM_AHEAD, STREAM_AHEAD_FIRST = 0.4, 0.5
"""How far ahead of where such rows are read others are prefetched, as a share of L1, and how much of it the first
loop of a tile does that reads them, which itself waits for memory; the others do the rest. (That regression on Zen 5,
whose L1 has 48 KB: 12.5, 15.6, 18.8, 23.4, 32 KB ahead 0.86, 0.79, 0.77, 0.89, 1.02 ms; shares of 0.4, 0.5, 0.6, 0.75
and 1: 0.79, 0.77, 0.77, 0.86, 0.91; into L2, 32 to 64 KB ahead, 1.04 to 1.09.)"""
STREAM_AHEAD_LINES = {16: 6}
"""Vector registers -> lines of the next tile that are prefetched before each step of a tile but the first, at each
place where its rows begin, so that memory is not idle meanwhile. (Zen 2, 0, 4, 6, 10 lines: 3.06, 2.67, 2.74, 2.93 ms.
A line for each row of the tile at the same place of its next one is slower than none.)"""
INNER_TILE_ROWS, INNER_TILE_BYTES = (64, 256), 512 << 10
"""The same where rows are the last axis of what is kept, so that vectors run along them, as do the sums of products
over rows: in whole lines of the cache. (40, 80, 104, 128, 200, 250, 500 rows of a mixture of 25 Gaussians, so written:
487, 434, 421, 416, 404, 431, 413 us; 439 without tiles.)"""
LAYER_COLUMNS, LAYER_TILE_ROWS = 16, (64, 128)
"""The same where rows are multiplied by matrices of so many rows and columns, which takes whole tiles of products.
(Burgers' residual, 1024 rows of 32 on Zen 2, in tiles of 32, 64, 128, 256 rows: 1.23, 1.13, 1.11, 1.14 ms, and 1.22
without.)"""
LOOP_TILE_ROWS = (1 << 12, 1 << 14)
"""The same where rows are short, single elements as a rule, and there are no products: a loop that needs no tiles for
the cache's sake, but is cut for several threads so, sums and all. (Mean of a million exp(sx) tanh(x) and its derivative
on one thread, at most 2^11, 2^14 and 2^18 rows: 1.35, 1.36, 1.38 ms, and 1.43 without tiles.)"""
TILE_MATRIX_BYTES = 128 << 10
"""Bytes of all matrices that each tile reads or adds to: half of what an L2 cache has for them. (Three tanh layers of
100 x 100 on 2048 rows, their gradients: 4.40 ms in tiles, 3.92 without.)"""
FEWEST_TILES = 4
"""Tiles below which there are none. (It hardly matters: logistic regression on 100 rows of 4000 takes 43 to 48 us in
four tiles, 46 without; on 200 rows 76 to 86 in eight, 91 without.)"""
TILE_GROUPS = 8
"""Groups of tiles: what several threads can share. It decides the order of sums, so it depends on nothing. (On two
threads 2, 8 and 64 groups: 0.59, 0.59, 0.64 ms for a mixture of Gaussians.)"""

SHARED_TURNS_ELEMENTS = 1 << 18
"""Elements that the turns of a loop compute, from which threads share them where none needs another one: some tens of
microseconds, as for other kernels."""
SHARED_SCRATCH_BYTES = 16 << 10
"""Bytes of a group's scratch memory from which one thread uses that of the first group for all: half of an L1 cache.
(Logistic regression, whose tiles have 128 bytes of it: 1.62 ms apart, 1.69 together; a mixture of Gaussians, whose
tiles have 400 KB, gains.)"""
INPLACE_REDUCTION_BYTES = 16 << 10
"""Bytes from which a kernel that reduces, too, writes in place of an operand: half of what an L1 cache has. (Logistic
regression, whose tiles have 128 bytes of it: 1.69 ms in place, 1.65 beside.)"""

# -- loops: vectors, sums, passes --------------------------------------------------------------------------------------

GATHER_WEIGHT = 10
"""What a strided or gathered access costs against a contiguous one, per lane that it fills. (Sums of products and
softmax of 2000 rows on Zen 5 with weights 4 and 10, us: 16 columns 6.5 and 1.6, 30.6 and 17.6, 32 columns 13.2 and 1.9,
61.7 and 31.1, 10 columns the same; with AVX2 8 columns 3.4 and 1.2 from 12 on. Steps of a softmax regression 69.8 and
66.8, of a mixture of Gaussians 188.9 and 186.5.)"""
VECTOR_APPLY_WEIGHT, VECTOR_FOLD_WEIGHT = 0.25, 8.0
"""In the choice of the dimension that fills the vectors: what an instruction of an elementwise op costs beside a
contiguous access, and what it costs to fold a vector to the sum of a row. (Softmax of 4096 rows of 10 with weights 0,
8, 32 of a fold: 90, 66, 65 us. Weights 0, 0.25, 1 of an instruction gave the same for it, for sums with a transposed
operand and for a mixture of Gaussians.)"""
LONG_BODY: dict[int, tuple[tuple[int, int], ...]] = {32: ((128, 4), (5, 2)), 16: ((12, 2),)}
"""Vector registers -> costs from which a loop takes so many vectors together, the highest first: one iteration of a
long body fills the machine's window, so that its own latencies show. (Black-Scholes prices with gradients by one, two
and four vectors, ns a price: Zen 5 6.4, 4.9, 3.9; Zen 4 11.1, 9.6, 9.1, for twice the code; Zen 2 by one and two 20.5
and 15.7. On Zen 5 exp alone 0.134, 0.119, 0.113, tan 0.54, 0.43, 0.39, sinh 0.73, 0.63, 0.46; from 12 on by two, steps
of Burgers' residual 386 and 377 us, of 24 tanh layers 203 and 198; from 5 on, 352 and 347 us, of mlp 1295 and 1286;
from 48, 30 or 18 on by four the same. On Zen 2 exp 0.83 and 0.78, of float64 2.31 and 1.83, tanh 1.19 and 1.00; on Zen
4 exp gained nothing.)"""
LONG_LOOP = 32
"""Vectors that such a loop has at least: what remains beyond those that go together is masked."""
REDUCTION_JAM = 8
"""Vectors that a reduction takes through its inner loop together (unroll and jam): 8 cover the latency of an addition
(measured: 2.2 times one on sums from L2, 5 times on columns of tall arrays). Along a row it decides the order of the
sum."""
REDUCTION_JAM_COST = 48
"""Instructions of all copies together: code that grows further costs more to compile than it saves. (12, 48, 200:
standardised columns of 512 x 256 12.6, 9.7, 12.6 us, sums of tanh along columns of 2000 x 100 167, 165, 160.)"""
BLOCKED_ROWS, ROWS_FROM, ROWS_COST = 4, 16, 24
"""Rows that go through a reduction along them together (register blocking), where there are so many and the body has no
more instructions. (Zen 2, one, two and four rows: products of 2000 x 100 by a vector 20.0, 13.1, 12.1 us, maxima of
such rows 48.9, 22.2, 20.5, sums of 200 x 4000 46.8, 44.7, 42.3.)"""
HOISTED_SHARE, HOISTED_ROW_COST = 4, 128
"""A row that is no more than a few vectors is written out, and what all rows read is hoisted into registers: one of so
many of them at most, and so many instructions. (Products of 400 x 100 by a vector on Zen 5: 3.2 and 2.1 ns a row, in
fours 2.05 and 1.85; the logistic regression above 0.91 and 0.78 ms.)"""
SUM_CHUNK, SUM_CHUNKS = 256, 4
"""A sum over more than `SUM_CHUNKS` times as many steps is cut into partial sums of `SUM_CHUNK`, so that errors grow
slowly. They decide the order of the sum. (Largest relative error of sums of 2^18 float32 along columns, in chunks of
32, 256 and 2048 and in one: 2.7e-6, 8.9e-7, 3.1e-7, 1.3e-5.)"""
STASH_COST = 10
"""A value of an earlier pass that costs more than this is kept in scratch memory, a cheaper one computed again.
(Softmax of 512 rows of 1000 with 0, 10, 1000: 343, 343, 496 us; standardised columns of 512 x 256: 11.7, 10.3,
10.1.)"""
STASH_BYTES = 32 << 10
"""Scratch memory of one row at most: it lies on the stack and should stay in L1. (1, 32, 256 KB: softmax of 512 rows of
1000 586, 345, 373 us, of 16 rows of 16384 266, 256, 204.)"""

# -- matrix products: tiles and blocks ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GemmBlocking:
    """Blocking of a matrix product: a tile is `rows` x (`vectors` vectors), `kc`, `mc`, `nc` are the cache blocks.
    `pack_turned`: whether A is packed where it is contiguous along m; `pack_plain`: whether it is in large products
    where it is contiguous along k.

    `kc` is part of the meaning of a result: sums run over k in even blocks of at most `kc`. The others are speed
    alone."""

    rows: int
    vectors: int
    kc: int
    mc: int
    nc: int
    pack_turned: bool = True
    pack_plain: bool = True


GEMM_BLOCKING: dict[tuple[int, int], GemmBlocking] = {
    (64, 4): GemmBlocking(rows=8, vectors=2, kc=512, mc=128, nc=2048, pack_turned=False, pack_plain=False),
    (64, 8): GemmBlocking(rows=8, vectors=2, kc=512, mc=96, nc=1024, pack_turned=False, pack_plain=False),
    (32, 4): GemmBlocking(rows=6, vectors=2, kc=400, mc=144, nc=2048),
    (32, 8): GemmBlocking(rows=6, vectors=2, kc=256, mc=96, nc=1024),
    (16, 4): GemmBlocking(rows=4, vectors=2, kc=256, mc=128, nc=2048),
    (16, 8): GemmBlocking(rows=4, vectors=2, kc=256, mc=96, nc=1024),
}
"""(vector bytes, element bytes) -> blocking. GFLOP/s at 1024 cubed beside OpenBLAS on one thread in the same process:
AVX-512 f32 8x32 with KC 512: 107 against 100 (12x32, 14x32, 8x48 the same within 3%, KC 256: 2% less); AVX2 f32 6x16
with KC 256: 1.03 to 1.17 of it (4x24: 3% less), on Zen 2 over fifteen shapes KC 256, 384, 512: 1.119, 1.130, 1.137
(where blocks of A and B must share 512 KB of L2, so not the most), and in even blocks 384 and 400, which cuts 784 in
two, 1.147 and 1.151; f64 8x16 with KC 256: 1.01 to 1.13; on Zen 5 with KC 256, 344, 400, 512 1024 cubed 121.6, 122.9,
123.3, 126.5 GFLOP/s, 2048 122.9, 125.4, 124.9, 127.3, eight shapes 1, 1.005, 1.006, 1.015. A in place beside a packed B
with AVX-512 on Zen 5: f32 1024 cubed 240 and 251, 256x4096x1024 218 and 225, f64 2048 cubed 121 and 123. MC and NC
hardly matter as long as MC x KC stays within half of L2. 128-bit vectors: by register count alone."""
GEMM_CACHE_SHARE = 2
"""A block of A takes one of so many parts of L2 at most, a block of packed B one of the last cache. (With the sizes
above that bounds them where L2 has less than 0.8 MB with AVX-512, 450 KB without.)"""
GEMM_BLOCK_BYTES: dict[int, int] = {16: 32 << 10, 32: 128 << 10}
"""Vector registers -> bytes of C that an epilogue is given at once. It is read back from L1 or L2, and a call per block
costs nothing against 8192 elements of at least some tens of flops each (epilogue against a separate pass over a C in
cache: 0.5% to 3%; below 4 KB the calls show); wider rows of what lies beside it are read faster. (mlp on two threads
of Zen 5 with 32, 128, 256 KB: 725, 705, 709 us, on one 1316, 1312, 1310; mlp_wide with 32 and 128 48.5 and 47.3 ms,
with 256 as with 128.)"""
GEMM_SMALL_BLOCK_BYTES = 32 << 10
"""Bytes of C of a product whose sizes are in the code, and of a block in the form of dots: L1, as few sums go into each
element."""
GEMM_PACK_FROM = (192, 512, 256)
"""Rows, columns and sums from which both operands are packed even where they could be used in place. Against OpenBLAS
in the same process, in place and packed: 384x1024x1536 (m x k x n) 0.84 and 0.94, 300x784x1024 0.88 and 0.99, 2048
cubed 0.80 and 1.03, 512 cubed 0.98 and 1.06, 128x784x1024 1.02 and 1.01; smaller ones are a few percent faster in
place."""
GEMM_PACK_TURNED = (12, 64)
"""Panels of C, each as wide as a tile, and sums from which A is packed where it is contiguous along m: that often its
copy is used. (Such products on Zen 2, in place and packed, GFLOP/s: 64x64x64 84 and 78, 256x64x64 86 and 76, 128
cubed 78 and 77, 256x64x256 82 and 85, 512x64x512 80 and 89, f64 64 cubed 39 and 38, 128 cubed 38 and 40. AVX-512,
which takes longer for each step along k, 512x128x784 in place and packed, against OpenBLAS's: f32 1.06 and 1.04, f64
0.99 and 1.02.)"""
GEMM_PACK_SPAN, GEMM_PACK_ROWS = 256 << 10, 96
"""Bytes that a block of B spans from which it is packed, so that a panel's lines neither fall into a few sets of L1 nor
take more pages than its translation buffer has; and rows of C that pay for that at this span, fewer at a longer one.
(Zen 2, in place and packed, GFLOP/s: 128x784x512 64 and 82, f64 256 cubed 33 and 44, 48x784x512 66 and 73, 128x128x512
81 and 84; but 64x128x512 81 and 79, 128 cubed 87 and 85, 32x784x512 61 and 61.)"""
GEMM_PACK_STRIDE: dict[int, int] = {32: 4096}
"""Vector registers -> what the bytes of a row of such a B are a multiple of, where all do not take the same: then its
lines fall into one set of L1. (Zen 5, in place and packed: f32 128x784x512 254 and 241, 128x784x768 252 and 235,
128x784x1024 214 and 232, 128x1024x4096 85 and 189; f64 128x512x384 122 and 115, 128x512x640 122 and 113, 128x784x512 93
and 110.)"""
GEMM_PACK_PANELS, GEMM_PACK_AHEAD = 8, 8
"""Panels of B that are packed together, a row after the other, and rows ahead that are prefetched meanwhile. (Zen 5,
one panel, eight, and eight with rows ahead, GFLOP/s: f32 128x1024x4096 205, 218, 223, 256x1024x4096 223, 234, 239, 1024
cubed 244, 248, 250; f64 256x1024x4096 106, 113, 116, 384x1024x1536TN 114, 115, 119, 2048 cubed 118, 119, 123.)"""
GEMM_SMALL_ROWS = 32
"""Rows up to which a product of one block is nothing but panels, without the loops over blocks. (With 32 and 64: 24 x
64 x 64 2.01 and 2.05 us, 48 x 64 x 64 3.78 and 3.78.)"""
DIRECT_ROWS, DIRECT_SUMS = 16, 12
"""Rows and sums at most of a product whose sizes are in the code. (Batches on Zen 2, so and by the shared functions:
500 of 3x16x3 7.5 and 27 us, 100 of 4x64x4 9.0 and 16.4, 25 of 10x200x10 33.9 and 36.3, 50 of 16x64x12 40.7 and
40.6.)"""
INTEGER_TILE_ROWS = 4
"""Rows of a tile of a product of integers, by one vector. (2, 4, 8 rows: 256 cubed in 417, 367, 368 us, 64 cubed in
7.2, 6.0, 6.0.)"""

# -- matrix products: epilogues ----------------------------------------------------------------------------------------

EPILOGUE_MASKED_VECTORS = 4
"""Vectors in a row of C below which the epilogue's loop is masked throughout: half the code, and no more than a few
slow stores a row. (tanh(a @ b + c) of 256 rows and 64 sums, masked and not: 32 columns 16.3 and 15.6 us, 48 columns
24.1 and 22.9.)"""
EPILOGUE_PREFETCH_BYTES: dict[int, int] = {16: 256 << 10, 32: 4 << 20}
"""Vector registers -> bytes of C from which a product prefetches what its epilogue will read: what half of L2 holds,
or, where blocks of C are wide enough for the machine to read ahead, what comes from memory. (The update of 784 x 512
weights by Adam in the product of their gradient, in blocks of 64 columns on Zen 4: 1.26 ms against 1.34. Zen 5, from
256 KB and from 4 MB: mlp 1336 and 1316 us, on two threads 789 and 725; mlp_wide, whose largest is 16 MB, with it and
without 47.3 and 48.1 ms.)"""

# -- matrix products: thin sides ---------------------------------------------------------------------------------------

THIN_COLUMNS = 16
"""Columns up to which a product may be taken in the form of dots, or swapped. Like the other bounds of the form of dots
it decides the order of sums. (128 rows and 512 sums, in dots and in tiles: 10 columns 14.6 and 20.2 us, 16 columns 22.8
and 20.4; but 24 columns 34.6 and 38.8.)"""
DOTS_FOLD_COST = 7
"""Vector instructions that it takes to fold the sums of one element in the form of dots, which is taken where it costs
less than whole vectors in a tile. (In dots and in tiles, m x n x k: 512x3x24 4.69 and 3.81 us, 128x3x64 1.80 and 2.58,
128x10x100 4.61 and 3.87, 512x10x64 12.2 and 9.4, 32x10x32 in the steps of a network 0.37 more.)"""
THIN_PACKED_COLUMNS = 12
"""Columns up to which it is taken where they must be packed first, which needs as many rows to pay. (128 rows and 512
sums, in dots and in tiles: 8 columns 12.1 and 18.3 us, 10 15.5 and 18.8, 12 17.9 and 18.2, 14 21.2 and 18.2.)"""
THIN_PACKED_SUMS = 4096
"""Sums up to which packed columns are kept whole. It bounds the packing memory. (128 x 8192 by 8192 x 8, beyond it: 291
us in tiles, 201 in dots.)"""
DOTS_TILE_ROWS: dict[int, int] = {32: 4, 16: 5}
"""Vector registers -> rows of a tile of dots. (With 32: 128 rows by 16 columns, 512 sums, 2 rows 29.1 us, 4 rows 22.9.
With 16 on Zen 2, GFLOP/s with 4, 5, 6 rows: 256x784x10 51, 57, 54, 128x512x10 56, 62, 60, 10x200x10 in float64 24, 32,
25.)"""
DOTS_TILE_COLUMNS: dict[int, tuple[int, ...]] = {32: (4, 2), 16: (2,)}
"""Vector registers -> columns of its tiles, the last for the rest: as many sums as fit beside the operands. (The same
with tiles of 2 columns alone 26.2 us in place of 22.9.)"""
DOTS_SQUARE: dict[int, int] = {32: 5}
"""Vector registers -> rows and columns of a tile that is taken where it fills the columns: 10 loads for 25
multiplications, where 4 x 4 takes 8 for 16. (Batches of 25 products of 10 x 10 with 200 sums: 31.5 and 24.3 us.)"""
DOTS_REST_APART = 20
"""Sums of a tile from which a mask, which takes two registers, is made for the rest alone; below, one loop is less
code. (The library of a dtype took 170 ms to compile with squares in two loops and 145 without squares.)"""
DOTS_PREFETCH_BYTES = 512 << 10
"""Bytes of rows from which a tile of dots prefetches those of the next one while it computes: half of an L2 cache.
(256 x 784 by 784 x 10 from memory, in the steps of a softmax regression: 219 us a step without, 166 with; in small
products, where it is of no use, 5 to 9% more.)"""
SWAPPED_ROWS = 256
"""Rows of C that are computed at once, transposed. (64, 256, 1024 rows: 784 x 10 from 512 sums 88, 90, 92 us; 4096 x 10
from 128 sums 158, 156, 129.)"""

# -- threads: what is cut, and into how many parts ---------------------------------------------------------------------

# A job that is handed to another thread that looks for one costs about 0.1 us, and one to a thread that sleeps 40 to
# 100; so what takes less than some 4 us stays on one. None of these decides the order of a sum.
PARALLEL_FLOPS = 400_000
"""Floating-point operations from which a matrix product is cut, an instruction of its epilogue counted as two: 4 us of
one core. (24 layers whose products have 524,288, on two threads of Zen 2 from a million and from 400,000: 590 and 414
us.)"""
WAKE_FLOPS = 10_000_000
"""Floating-point operations of a whole step from which it wakes the workers when it begins: 100 us."""
PARALLEL_COST = 12_000
"""Vector instructions from which a loop is cut: about 4 us of one core."""
PARALLEL_BYTES_COST = 4
"""What a loop costs for each vector beside its instructions: loads and stores beyond the cache. (Sums of two arrays on
two threads with 0, 4, 32: 64 K elements 10.3, 5.1, 4.8 us, 512 K 107, 59, 65.)"""
SHORT_JOBS = 8
"""Kernels shorter than so many times the least that is cut are short: whether threads share them is tried. (24 layers
of products of 64 cubed on two threads of Zen 5, where the cores share a cache and where not: shared 142 and 390 us a
step, alone 185.)"""
TRIAL_CALLS, TRIAL_PERIOD = 4, 512
"""Calls of each sort in a trial, and calls from one trial to the next: at twice the time, a trial costs 1%."""
PARTS_PER_THREAD = 2
"""Parts of a kernel for each thread: where other programs run, too, one thread may come late by a millisecond."""
WHOLE_PARTS_FLOPS = 16_000_000
"""Operations of a product from which each thread gets one part of it: a sixth of a millisecond. (On two threads of Zen
2, two parts and one for each, medians of processes in turn, GFLOP/s: 512 cubed 73 and 110, 1024 cubed 87 and 131,
784x128x512 transposed 67 and 110, 128x784x512 71 and 108.)"""
TURNED_PACK_COST = 3
"""What it costs to pack an element that is transposed beside one that is copied: it decides whether parts are rows or
columns. (On two threads of Zen 2, parts of a square product in columns and in rows, best of processes in turn,
GFLOP/s: 256 137 and 171, 512 85 and 130, 1024 128 and 164.)"""
PRODUCT_PARTS = 8
"""Parts of a product at most: packing memory is set aside for each. (2, 8, 32 on two threads: 128 cubed 20.1, 19.6,
21.2 us.)"""
LOOP_PARTS = 16
"""Parts of a loop at most. (tanh on two threads, 2, 16, 64 parts: 128 K elements 57, 46, 58 us, 512 K 265, 206,
254.)"""
PRODUCT_PART_UNIT = 32
"""Rows or columns of C that stay together: a multiple of every tile of a product. (32, 64, 128 on two threads: 128
cubed 20.2, 19.9, 37.7 us, 256 cubed 153, 150, 148.)"""
LOOP_PART_UNIT = 64
"""Elements along the vector that stay together: whole vectors of the smallest type, and whole lines of cache."""
WORKER_SPINS = 3000
"""Looks of a worker before it sleeps, each a `pause` of 40 to 140 cycles. To wake it costs 40 to 100 us, a look none of
that; kernels of one step come closer together than 50 us."""
CALLER_SPINS = 1000
"""Looks of the caller, when all indices are taken, before it lets another thread have its core. (10, 1000, 100,000 on
two threads: 128 cubed 23.6, 20.2, 20.0 us, 256 cubed 221, 147, 152.)"""

# -- signals -----------------------------------------------------------------------------------------------------------

POLL_EFFORT = 10_000_000
"""Vector instructions of a program from one poll for signals to the next. A poll takes 26 ns; so many instructions 1.4
ms in products and 16 in loops over memory on Zen 5 (6.7 and 0.6 a nanosecond), and half a second in the slowest loop
there is, over a transposed array of 64 MB: little beside `POLL_NANOSECONDS`, and programs below it have no polls."""
POLL_NANOSECONDS = 50_000_000
"""How long a poll only looks at the clock once one has asked Python, as to ask it may wait 5 ms for another thread that
has the GIL. A bound of how long Ctrl-C waits, as the runtime's `RUN_SLICE_SECONDS`."""

TURN_EFFORT = 250_000_000
"""Vector instructions of a range of a long kernel, which is taken in turns, with a poll after each: some 40 to 400 ms
of one thread, where a turn costs a job, 10 us."""
TURN_PRODUCT_EFFORT = 1_000_000_000
"""The same for products, to which turns cost more: of half a second and above."""
TURN_EXTENT = 1024
"""Rows or columns of such a range of a product, each of which packs the other operand anew. (One thread of Zen 5, whole
and in ranges of 256, 512 and 1024 rows: f32 4096x4096x1024 246, 225, 237, 241 GFLOP/s, 8192x1024x2048 247, 227, 239,
238; f64 4096x2048x1024 122, 112, 118, 119.)"""

# -- compile time ------------------------------------------------------------------------------------------------------

GLUE_SHARE = 1 / 256
"""Work of a program, in its lightest kernels, whose code is generated without optimisation: that takes a fifth of the
time and runs one to three times as long. (With 0 and 1/256: 784-512-256-10 with Adam 80 and 55 ms, its steps 2,989 and
2,993 us; a step of 64-32-10 5.15 and 5.05 us.)"""
ENTRY_LINES = 1000
"""Lines of LLVM of the function that runs the kernels, without optimisation, beyond which another one goes on. (The
machine code of Runge and Kutta's method of 100 steps, 30,800 such lines, in one function 6.2 s, in several of 4000,
2000, 1000, 500 lines 0.46, 0.38, 0.34, 0.33; of 50 steps 0.88, 0.30, 0.23, 0.21, 0.22.)"""
GLUE_JAM = 2
"""`REDUCTION_JAM` of such kernels. (1, 2, 8: the code of 784-512-256-10 with Adam in 48, 52 and 58 ms; with 2 its
steps and those of 64-32-10 take what they took.)"""
THREADED_ELEMENTS = 1 << 14
"""Elements of an array from which a program is taken for one with work for threads, whose library then begins beside
the passes; it is made later where that was wrong. (10 ms of a first start.)"""
COMPILER_SWITCH_SECONDS = 0.0002
"""How long a thread of Python runs at most while another one waits, during a compilation. (5 ms, Python's own value,
and 0.2 ms: the library of products of a network of 24 layers goes to LLVM after 192 and 36 ms.)"""

# -- patterns of sparse derivatives -----------------------------------------------------------------------------------

PATTERN_ENTRIES = 1 << 25
"""Entries of a pattern, and of what is united for it, from which it is refused: they take 0.5 GB and some seconds."""
PATTERN_PARTS = 8
"""Parts of a set, beyond which they become one: a part costs as much as an element's row wherever it is read, 2 ns, and
what becomes one is sorted, 40 ns for each entry."""
PATTERN_TURNS = 20_000
"""Turns of a loop times nodes of its body up to which the pattern is found turn by turn: 0.5 s at 25 us for a node."""
PATTERN_ROUNDS = 32
"""Rounds in which what a longer loop carries settles, before all of it counts as depending on all."""
PRODUCT_ELEMENTS = 1 << 24
"""Elements of the products of a sparse derivative that are computed at once, each step of them in memory."""
SEEDS_APART = 4
"""Products of a sparse derivative that stand side by side, where all of it is elementwise, rather than in one batch:
what they share is then computed in the same loop. (100,000 unknowns, batched and apart: three products of a tridiagonal
Jacobian 231 and 211 us, of a tridiagonal Hessian 335 and 280; five of a Laplacian 356 and 415.)"""

# -- peaks: the loops that measure the machine -------------------------------------------------------------------------

PEAK_CHAINS = 12
"""Independent accumulators of multiply-adds: more than their latency times the two that begin in each cycle. (4, 12,
20: 117, 116, 117 GFLOP/s with AVX-512 on Zen 4, which begins one in each cycle.)"""
READ_STREAMS = 8
"""Vectors that are read in one round, each with a sum of its own. (2, 8, 16: 143, 217, 215 GB/s from 16 KB, 103, 117,
108 from 512 KB, 28, 29, 30 from 128 MB.)"""
