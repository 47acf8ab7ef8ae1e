"""The tuned numbers of the compiler: another value gives the same function at another speed, or in code of another
size. What was measured for each, where, and of which alternatives stands in docs/tuning.md. What a contract or the
mathematics fixes stands where it is used.

One leaf module, that every layer may import and that imports none; the runtime, which imports nothing of the compiler,
has `adjit_runtime/tuned` for what it reads itself.

Nothing here is read at run time of a program and nothing is measured when a program is compiled: the same target
gives the same code, and the order of every sum follows from these numbers and the sizes alone. Those that decide such
an order, and so the last bits of results, say so.
"""

from __future__ import annotations

from dataclasses import dataclass

# -- fusion: what becomes one kernel -----------------------------------------------------------------------------------

LIGHT_COST = 6
"""Instructions that may be computed again rather than stored: about what a load from L2 costs."""
LIGHT_LEAVES = 3
"""Values that what is computed again may read."""
MOST_PLACES = 2
"""Places of windows of which a value may be computed more than once."""
HOISTED_COST = 1 << 14
"""Operations and loads that storing a light value of several axes must spare where broadcasts repeat it."""
KERNEL_MEMBERS = 48
"""Heavy members of one kernel: more would not stay in registers."""
ROW_COST = 10
"""Instructions that a row's value may take where no element of the row reads it: the values of rows are computed one by
one, those of a loop of their own in vectors."""
TRANSPOSE_COPY_READS = 4
"""How often each element of a transpose is read, from which it is copied first: a strided load costs about so much more
than one of a whole vector (`GATHER_WEIGHT`), and the copy costs one."""
SHORT_ROW = 16
"""Elements of a row below which reducing it counts as a move of it, so that the logits of a product may lie class by
class."""
APART_COLUMNS = 16
"""Columns of each of many matrices from which their products with one matrix are made one by one, and not as one
product of a copy in which they lie side by side."""
TINY_PRODUCT = 1024
"""Multiplications up to which a matrix product is a loop among others: the call of the common code and its packing cost
more (xor's 4x2x8 in 0.4 in place of 1 us), and what has no larger product needs no library."""
WINDOW_TERMS = 32
"""Places in a window up to which windows that overlap are added up place by place; longer ones are windows of
windows."""
WINDOW_PLACES = 128
"""Places in a window up to which a convolution of each channel by itself is written out place by place."""
FEW_CHANNELS = 2
"""Channels of an image up to which the lines of a window are laid side by side for its products."""
FEW_COLUMNS, MOST_PLACED = 8, 4
"""Channels of an image's gradient up to which a product has those of all places along a line beside one another, if
these are no more than so many times its sums, and adds them up: else more than half of a vector would be empty."""
GROUPED_RESULT = 1 << 13
"""Elements of a sum of products of windows up to which it is made in groups, a result for each, which threads share."""
GROUPED_SUMS = 1024
"""Sums of such a group at least."""
WINDOW_ROWS = 8
"""Rows of a contraction of windows from which those beside the columns are taken, whose results lie together."""
WINDOW_WIDTH = 512
"""Columns of a contraction of windows up to which its blocks need no memory of their own in the result."""
GATHER_PIECES = 32
"""Arithmetic runs of constant positions that are taken piece by piece and joined; more become one gather."""

# -- loops -------------------------------------------------------------------------------------------------------------

STACKED_CACHE_BYTES = 1 << 22
"""Bytes of the values of all turns up to which they are stacked so that a product leaves its loop: they stay in the
cache."""
LEAVING_GAIN = 4
"""Bytes of the matrix that each turn reads, or of the sum that it writes, from which a byte that is stacked beyond that
pays."""
STACKED_BYTES = 1 << 27
"""Bytes that are stacked so at most, which is memory of the program."""

# -- straight lines: graphs too small for kernels ----------------------------------------------------------------------

STRAIGHT_ELEMENTS = 256
"""Elements of a value at most."""
STRAIGHT_WORK = 4096
"""Instructions for vectors of `STRAIGHT_LANES` elements, roughly: thirteen times what a network of 2-8-1 and Adam
take."""
STRAIGHT_LANES = 16
"""Elements that one instruction of that estimate works on: a vector of AVX-512."""
STRAIGHT_EFFORT = 3000
"""Instructions of its code for vectors of the target's own registers, with those of paths that are seldom taken, for
each of which LLVM takes 15 to 37 us: 100 ms at most."""
GATHER_EFFORT = 20
"""What a gather of a register counts among them: it is an instruction for each element, or two."""

# -- rolling: loops that Python unrolled ------------------------------------------------------------------------------

ROLL_NODES = 150
"""Nodes that loops must spare, slices, reshapes and constants not counted."""
ROLL_SHARE = 3
"""Loops that together spare as many; each spares at least this part of them."""
ROLL_TURNS = 4
"""Turns that a loop has at least: those before and after it, which may differ, are nodes of their own."""
ROLL_LAG = 8
"""Turns that a value may be carried, from one to the next: each is a move."""
ROLL_JOINED = 8
"""Elements of a window of an array that the next turn's window overlaps: each is an operand of the loop."""
ROLL_PERIODS = 16
"""Lengths of turns that are tried, of those by which the most nodes repeat."""
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
"""Instructions, for each vector of its results, of a side of a branch that is computed whether it is taken or not."""
FLAT_ELEMENTS = 256
"""Elements of the largest value of such a side: that is in registers, or nearly so."""

# -- conditions of derivatives -----------------------------------------------------------------------------------------

CERTAIN_ELEMENTS, CERTAIN_NODES = 1 << 22, 32
"""Elements of a condition that no value decides, and nodes that it is made of, up to which a derivative has it computed
to know whether it ever fails: some milliseconds."""

# -- tiles: steps that work row by row ---------------------------------------------------------------------------------

TILING_BYTES = 1 << 20
"""Bytes of rows from which tiles pay: what an L2 cache holds."""
TILING_GAIN = 0.05
"""Least share of the time of the products that tiles must spare."""
MEMORY_BYTES, MEMORY_BYTE_COST, CACHE_BYTE_COST = 16 << 20, 3, 1
"""Bytes that no cache holds, and what a byte costs from there and from the cache, in operations: 30 and 100 GB/s beside
100 GFLOP/s."""
TOGETHER_KERNELS = 8
"""Values that are read within so many kernels are computed again together, where they share operations: the last one
lies in memory meanwhile."""
MOST_AGAIN_COST = 12
"""Operations for each byte of a value that is computed again at most, some of them for others as well: a long chain is
cut."""
TILE_BYTES = 256 << 10
"""Bytes of one tile's rows."""
TILE_ROWS = (24, 32)
"""Fewest and most rows of a tile."""
STREAM_TILE_ROWS = (32, 96)
"""The same where rows come from memory and are multiplied by vectors alone."""
STREAM_ROW_BYTES, STREAM_AHEAD_ROWS = {32: 1 << 10}, (16, 32)
"""Vector registers -> bytes of rows up to which a tile and what is prefetched ahead of it (`STREAM_AHEAD`) stay in L1,
and the rows of such a tile."""
STREAM_TILE_UNIT = 16
"""What the rows of such a tile are a multiple of: whole vectors."""
STREAM_AHEAD, STREAM_AHEAD_FIRST = 0.4, 0.5
"""How far ahead of where such rows are read others are prefetched, as a share of L1, and how much of it the first loop
of a tile does that reads them, which itself waits for memory; the others do the rest."""
STREAM_AHEAD_LINES = {16: 6}
"""Vector registers -> lines of the next tile that are prefetched before each step of a tile but the first, at each
place where its rows begin, so that memory is not idle meanwhile."""
INNER_TILE_ROWS, INNER_TILE_BYTES = (64, 256), 512 << 10
"""The same where rows are the last axis of what is kept, so that vectors run along them, as do the sums of products
over rows: in whole lines of the cache."""
LAYER_COLUMNS, LAYER_TILE_ROWS = 16, (64, 128)
"""The same where rows are multiplied by matrices of so many rows and columns, which takes whole tiles of products."""
LOOP_TILE_ROWS = (1 << 12, 1 << 14)
"""The same where rows are short, single elements as a rule, and there are no products: a loop that needs no tiles for
the cache's sake, but is cut for several threads so, sums and all."""
TILE_MATRIX_BYTES = 128 << 10
"""Bytes of all matrices that each tile reads or adds to: half of what an L2 cache has for them."""
FEWEST_TILES = 4
"""Tiles below which there are none."""
TILE_GROUPS = 8
"""Groups of tiles: what several threads can share. It decides the order of sums, so it depends on nothing."""

SMALL_ROWS, UNROLLED_ROWS = 16, 8
"""Rows of a matrix up to which code of ours factors it, and up to which that is written out."""
IDENTITY_BYTES = 128
"""Bytes of a constant from which it is computed where it is read, if it is a multiple of the identity."""
ACROSS_PLACES, ACROSS_ELEMENTS, ACROSS_WORK = 4, 320, 12288
"""Places of a batch from which small matrices are worked on with one in each lane, from their load to the last store;
elements of a value of one of them at most; vector instructions of all of that, which are written out."""
ADJOINT_ROWS = 64
"""Rows of a block of Cholesky's algorithm, backwards: what is no product is of one block."""
FACTOR_COST = 2.0
"""What an operation of a factorisation costs, in the units of `PARALLEL_COST`."""
ATTENTION_BLOCKS, ATTENTION_UNIT = (128, 128), 16
"""Queries and keys of a tile of attention, and what both are a multiple of."""
ATTENTION_PARTS = 8
"""Parts of the keys of one head whose gradients of the queries are summed apart, so that threads share them."""
ATTENTION_SCORES = 1 << 15
"""Scores of a head from which attention is computed in tiles."""

SHARED_TURNS_ELEMENTS = 1 << 18
"""Elements that the turns of a loop compute, from which threads share them where none needs another one: some tens of
microseconds, as for other kernels."""
SHARED_SCRATCH_BYTES = 16 << 10
"""Bytes of a group's scratch memory from which one thread uses that of the first group for all: half of an L1 cache."""
INPLACE_REDUCTION_BYTES = 16 << 10
"""Bytes from which a kernel that reduces, too, writes in place of an operand: half of what an L1 cache has."""

# -- loops: vectors, sums, passes --------------------------------------------------------------------------------------

GATHER_WEIGHT = 10
"""What a strided or gathered access costs against a contiguous one, per lane that it fills."""
STORES_BESIDE = 8
"""Stores that fill memory together up to which their lanes are put in the order of memory, n (n - 1) shuffles of
vectors for n of them."""
VECTOR_APPLY_WEIGHT, VECTOR_FOLD_WEIGHT = 0.25, 8.0
"""In the choice of the dimension that fills the vectors: what an instruction of an elementwise op costs beside a
contiguous access, and what it costs to fold a vector to the sum of a row."""
LONG_BODY: dict[int, tuple[tuple[int, int], ...]] = {32: ((128, 4), (5, 2)), 16: ((12, 2),)}
"""Vector registers -> costs from which a loop takes so many vectors together, the highest first: one iteration of a
long body fills the machine's window, so that its own latencies show."""
LONG_LOOP = 32
"""Vectors that such a loop has at least: what remains beyond those that go together is masked."""
REDUCTION_JAM = 8
"""Vectors that a reduction takes through its inner loop together (unroll and jam): 8 cover the latency of an addition.
Along a row it decides the order of the sum."""
REDUCTION_JAM_COST = 48
"""Instructions of all copies together: code that grows further costs more to compile than it saves."""
REPEATED_LOADS, MOST_REPEATED = 4, 32
"""Loads of columns alone, at least and at most, with which a loop goes column by column and keeps them in registers
along rows: the kernels of a convolution of each channel by itself."""
COLUMNS_TOGETHER, COLUMNS_FROM = 64, 1 << 16
"""Columns that a reduction takes through its rows together at least, and elements from which it does so: of rows in
memory it reads four cache lines after one another, not a part of one. The code of a long body is so much longer."""
BLOCKED_ROWS, ROWS_FROM, ROWS_COST = 4, 16, 24
"""Rows that go through a reduction along them together (register blocking), where there are so many and the body has no
more instructions."""
HOISTED_SHARE, HOISTED_ROW_COST = 4, 128
"""A row that is no more than a few vectors is written out, and what all rows read is hoisted into registers: one of so
many of them at most, and so many instructions."""
SUM_CHUNK, SUM_CHUNKS = 256, 4
"""A sum over more than `SUM_CHUNKS` times as many steps is cut into partial sums of `SUM_CHUNK`, so that errors grow
slowly. They decide the order of the sum."""
STASH_COST = 10
"""A value of an earlier pass that costs more than this is kept in scratch memory, a cheaper one computed again."""
STASH_BYTES = 32 << 10
"""Scratch memory of one row at most: it lies on the stack and should stay in L1."""

# -- matrix products: tiles and blocks ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GemmBlocking:
    """Blocking of a matrix product: a tile is `rows` x (`vectors` vectors), `kc`, `mc`, `nc` are the cache blocks.
    `pack_transposed`: whether A is packed where it is contiguous along m; `pack_plain`: whether it is in large products
    where it is contiguous along k. `unroll`: steps along k in one turn of a whole tile's loop. `ahead`: whether a tile
    prefetches its share of what later panels read of B.

    `kc` is part of the meaning of a result: sums run over k in even blocks of at most `kc`. The others are speed
    alone."""

    rows: int
    vectors: int
    kc: int
    mc: int
    nc: int
    pack_transposed: bool = True
    pack_plain: bool = True
    unroll: int = 1
    ahead: bool = False


GEMM_BLOCKING: dict[tuple[int, int], GemmBlocking] = {
    (64, 4): GemmBlocking(rows=8, vectors=2, kc=512, mc=128, nc=2048, pack_transposed=False, pack_plain=False),
    (64, 8): GemmBlocking(rows=8, vectors=2, kc=512, mc=96, nc=1024, pack_plain=False),
    (32, 4): GemmBlocking(rows=6, vectors=2, kc=400, mc=144, nc=2048, pack_plain=False, unroll=4, ahead=True),
    (32, 8): GemmBlocking(rows=6, vectors=2, kc=256, mc=96, nc=1024, pack_plain=False, unroll=2, ahead=True),
    (16, 4): GemmBlocking(rows=4, vectors=2, kc=256, mc=128, nc=2048),
    (16, 8): GemmBlocking(rows=4, vectors=2, kc=256, mc=96, nc=1024),
}
"""(vector bytes, element bytes) -> blocking, whose blocks of A stay within half of L2."""
GEMM_CACHE_SHARE = 2
"""A block of A takes one of so many parts of L2 at most, a block of packed B one of the last cache."""
GEMM_BLOCK_BYTES: dict[int, int] = {16: 32 << 10, 32: 128 << 10}
"""Vector registers -> bytes of C that an epilogue is given at once. It is read back from L1 or L2, and a call per block
costs nothing against 8192 elements of at least some tens of flops each; wider rows of what lies beside it are read
faster."""
GEMM_SMALL_BLOCK_BYTES = 32 << 10
"""Bytes of C of a product whose sizes are in the code, and of a block in the dots variant: L1, as few sums go into each
element."""
GEMM_PACK_FROM = (192, 512, 256)
"""Rows, columns and sums from which both operands are packed even where they could be used in place."""
GEMM_PACK_TRANSPOSED = (12, 64)
"""Panels of C, each as wide as a tile, and sums from which A is packed where it is contiguous along m: that often its
copy is used."""
GEMM_PACK_SPAN, GEMM_PACK_ROWS = 256 << 10, 64
"""Bytes that a block of B spans from which it is packed, so that a panel's lines neither fall into a few sets of L1 nor
take more pages than its translation buffer has; and rows of C that pay for that at this span, fewer at a longer one."""
GEMM_PACK_STRIDE, GEMM_PACK_L2 = 4096, 1 << 20
"""What the bytes of a row of such a B are a multiple of, so that its lines fall into one set of L1; and bytes of L2
from which other strides need no packing: a smaller one does not keep the lines of a panel whose rows lie 2 KB apart."""
GEMM_PACK_PANELS, GEMM_PACK_AHEAD = 8, 8
"""Panels of B that are packed together, a row after the other, and rows ahead that are prefetched meanwhile."""
GEMM_SMALL_ROWS = 32
"""Rows up to which a product of one block is nothing but panels, without the loops over blocks."""
DIRECT_ROWS, DIRECT_SUMS = 16, 12
"""Rows and sums at most of a product whose sizes are in the code."""
INTEGER_TILE_ROWS = 4
"""Rows of a tile of a product of integers, by one vector."""

# -- matrix products: epilogues ----------------------------------------------------------------------------------------

EPILOGUE_MASKED_VECTORS = 4
"""Vectors in a row of C below which the epilogue's loop is masked throughout: half the code, and no more than a few
slow stores a row."""
EPILOGUE_PREFETCH_BYTES: dict[int, int] = {16: 256 << 10, 32: 4 << 20}
"""Vector registers -> bytes of C from which a product prefetches what its epilogue will read: what half of L2 holds,
or, where blocks of C are wide enough for the machine to read ahead, what comes from memory."""

# -- matrix products: thin sides ---------------------------------------------------------------------------------------

THIN_COLUMNS = 16
"""Columns up to which a product may be taken in the dots variant, or swapped. Like the other bounds of the dots variant
it decides the order of sums."""
DOTS_FOLD_COST = 7
"""Vector instructions that it takes to fold the sums of one element in the dots variant, which is taken where it costs
less than whole vectors in a tile."""
THIN_PACKED_COLUMNS = 12
"""Columns up to which it is taken where they must be packed first, which needs as many rows to pay."""
THIN_PACKED_SUMS = 4096
"""Sums up to which packed columns are kept whole. It bounds the packing memory."""
DOTS_TILE_ROWS: dict[int, int] = {32: 4, 16: 5}
"""Vector registers -> rows of a tile of dots."""
DOTS_TILE_COLUMNS: dict[int, tuple[int, ...]] = {32: (4, 2), 16: (2,)}
"""Vector registers -> columns of its tiles, the last for the rest: as many sums as fit beside the operands."""
DOTS_SQUARE: dict[int, int] = {32: 5}
"""Vector registers -> rows and columns of a tile that is taken where it fills the columns: 10 loads for 25
multiplications, where 4 x 4 takes 8 for 16."""
DOTS_REST_APART = 20
"""Sums of a tile from which a mask, which takes two registers, is made for the rest alone; below, one loop is less
code."""
DOTS_PREFETCH_BYTES = 512 << 10
"""Bytes of rows from which a tile of dots prefetches those of the next one while it computes: half of an L2 cache."""
SWAPPED_ROWS = 256
"""Rows of C that are computed at once, transposed."""

# -- threads: what is cut, and into how many parts ---------------------------------------------------------------------

# A job that is handed to another thread that looks for one costs about 0.1 us, and one to a thread that sleeps 40 to
# 100; so what takes less than some 4 us stays on one. None of these decides the order of a sum.
PARALLEL_FLOPS = 400_000
"""Floating-point operations from which a matrix product is cut, an instruction of its epilogue counted as two: 4 us of
one core."""
WAKE_FLOPS = 10_000_000
"""Floating-point operations of a whole step from which it wakes the workers when it begins: 100 us."""
PARALLEL_COST = 12_000
"""Vector instructions from which a loop is cut: about 4 us of one core."""
PARALLEL_BYTES_COST = 4
"""What a loop costs for each vector beside its instructions: loads and stores beyond the cache."""
SORT_COST = 4
"""Vector instructions of a sort for each comparison of a whole vector of elements."""
NETWORK_ELEMENTS = 64
"""Elements of a row up to which many rows are sorted at once by a network, whose exchanges stand in the code."""
SORT_BLOCK_VECTORS = 16
"""Vectors that a network of a long sort has in registers, or beside them, keys and positions together."""
SAMPLED_ELEMENTS = 4096
"""Elements of a part that is sorted from which its pivot is the median of a square of vectors, and not of one."""
SHORT_JOBS = 8
"""Kernels shorter than so many times the least that is cut are short: whether threads share them is tried."""
TRIAL_CALLS, TRIAL_PERIOD = 4, 512
"""Calls of each sort in a trial, and calls from one trial to the next: at twice the time, a trial costs 1%."""
PARTS_PER_THREAD = 2
"""Parts of a kernel for each thread: where other programs run, too, one thread may come late by a millisecond."""
WHOLE_PARTS_FLOPS = 16_000_000
"""Operations of a product from which each thread gets one part of it: a sixth of a millisecond."""
TRANSPOSED_PACK_COST = 3
"""What it costs to pack an element that is transposed beside one that is copied: it decides whether parts are rows or
columns."""
MOST_CHAINED = 4096
"""Products of windows that are added up in one chain: of longer sums the outermost part is added to C, in order, so
that rounding stays small and what is read stays in the cache."""
PRODUCT_PARTS = 8
"""Parts of a product at most: packing memory is set aside for each."""
WINDOW_PART_ROWS = 24
"""Rows of a product of windows that stay together: whole tiles, of 8 or of 6 rows."""
LOOP_PARTS = 16
"""Parts of a loop at most."""
PRODUCT_PART_UNIT = 32
"""Rows or columns of C that stay together: a multiple of every tile of a product."""
LOOP_PART_UNIT = 64
"""Elements along the vector that stay together: whole vectors of the smallest type, and whole lines of cache."""
WORKER_SPINS = 3000
"""Looks of a worker before it sleeps, each a `pause` of 40 to 140 cycles. To wake it costs 40 to 100 us, a look none of
that; kernels of one step come closer together than 50 us."""
CALLER_SPINS = 1000
"""Looks of the caller, when all indices are taken, before it lets another thread have its core."""

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
"""Rows or columns of such a range of a product, each of which packs the other operand anew."""

# -- compile time ------------------------------------------------------------------------------------------------------

GLUE_SHARE = 1 / 256
"""Work of a program, in its lightest kernels, whose code is generated without optimisation: that takes a fifth of the
time and runs one to three times as long."""
ENTRY_LINES = 1000
"""Lines of LLVM of the function that runs the kernels, without optimisation, beyond which another one goes on."""
GLUE_JAM = 2
"""`REDUCTION_JAM` of such kernels."""
THREADED_ELEMENTS = 1 << 14
"""Elements of an array from which a program is taken for one with work for threads, whose library then begins beside
the passes; it is made later where that was wrong."""
COMPILER_SWITCH_SECONDS = 0.0002
"""How long a thread of Python runs at most while another one waits, during a compilation."""

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
what they share is then computed in the same loop."""
ROWS_RUNS = 8
"""Runs of rows alike whose entries are made one by one, without products: both ends of a stencil of seven points."""
ROWS_NODES = 2000
"""Nodes of the graph that does so, beyond which there are products: LLVM takes no longer for it up to there."""
ROWS_REPEATED = 2
"""How often it computes a costly function of the same element at most, where products compute it once."""

# -- peaks: the loops that measure the machine -------------------------------------------------------------------------

PEAK_CHAINS = 12
"""Independent accumulators of multiply-adds: more than their latency times the two that begin in each cycle."""
READ_STREAMS = 8
"""Vectors that are read in one round, each with a sum of its own."""
