"""How kernels are cut for threads: along which dimension, in what units, into how many parts.

The emitters write what stands here, and `races` proves from the same data that no part meets another one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from adjit.codegen.analysis import lanes_of, total_cost, vector_dimension
from adjit.codegen.gemm import blocks_are_wide, sizes_for
from adjit.schedule.across import Across
from adjit.schedule.factors import Factored
from adjit.schedule.products import is_direct
from adjit.schedule.sorts import Sorted
from adjit.schedule.work import Loop, Product, Work
from adjit.tuned import (
    FACTOR_COST,
    LOOP_PART_UNIT,
    LOOP_PARTS,
    PARALLEL_BYTES_COST,
    PARALLEL_COST,
    PARALLEL_FLOPS,
    PARTS_PER_THREAD,
    PRODUCT_PART_UNIT,
    PRODUCT_PARTS,
    SHORT_JOBS,
    SORT_COST,
    TRANSPOSED_PACK_COST,
    WHOLE_PARTS_FLOPS,
    WINDOW_PART_ROWS,
)
from adjit_runtime.target import Target

BATCH, ROWS, COLUMNS = 0, 1, 2
"""Dimensions of a product, whose domain is (batch, m, n). Of the batch it is the outermost loop that is cut."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Parts of a kernel: ranges of dimension `dim` of its domain, `extent` long, of whole `unit`s.

    There are `each` parts for each thread and `parts` at most. A `short` kernel is cut only while its program finds
    that this is faster."""

    dim: int
    extent: int
    unit: int
    parts: int
    each: int
    short: bool


def cut_of(work: Work, target: Target) -> Cut | None:
    """How a kernel of a program is cut; None where it stays whole. (Tiles are cut into their groups.)"""
    cut = CUTS.get(type(work))
    return cut(work, target) if cut is not None else None


def is_divided(cut: Cut | None) -> bool:
    """Whether parts of a product have some of a matrix's rows or columns: those of a batch have whole matrices."""
    return cut is not None and cut.dim != BATCH


def follows_columns(work: Product, cut: Cut | None, target: Target) -> bool:
    """Whether the loops of a product's epilogue run over the columns of the block that it is given, and not over all
    columns of C, which stand in the code then: every block has them all."""
    if cut is not None and cut.dim == COLUMNS:
        return True
    is_one_block = not is_divided(cut) and is_direct(work, target.vector_bytes)
    return not (is_one_block or has_wide_blocks(work, target))


def has_wide_blocks(work: Product, target: Target) -> bool:
    """Whether every block that the epilogue is given has all columns of C."""
    return bool(work.runs) or blocks_are_wide(work.dtype, work.n, target)


def joins_lines(work: Product, cut: Cut | None, target: Target) -> bool:
    """Whether the rows of a product of windows go on from one turn of the innermost loop over products to the next, as
    lines of one: it is the same B, and they follow one another in C."""
    if not work.runs or not work.batch or is_divided(cut):
        return False
    count, _, b, c = work.batch[-1]
    follows = work.scratch or c == work.m * work.c_row
    return count > 1 and b == 0 and follows and work.m * work.n <= sizes_for(work.dtype, target).block


# -- loops ----------------------------------------------------------------------------------------------------------


def _cut_of_loop(work: Loop, target: Target) -> Cut | None:
    body = work.body
    cost = loop_cost(work, target)
    if cost < PARALLEL_COST:
        return None
    vector = vector_dimension(body, lanes_of(body, target.vector_bytes), range(len(body.domain)))
    free = [d for d in range(len(body.domain)) if d not in body.reduced and body.domain[d] >= LOOP_PARTS]
    # Columns of a reduction are unrolled and jammed, several vectors at a time, which stay together.
    free = [d for d in free if not (d == vector and body.reduced and body.domain[d] < 2 * LOOP_PART_UNIT)]
    if not free:
        return None
    unit = LOOP_PART_UNIT if free[0] == vector else 1
    is_short = cost < SHORT_JOBS * PARALLEL_COST
    return Cut(free[0], body.domain[free[0]], unit, LOOP_PARTS, PARTS_PER_THREAD, is_short)


def loop_cost(work: Loop, target: Target) -> float:
    """Vector instructions, and what loads and stores beyond the cache take."""
    vectors = math.prod(work.body.domain) / lanes_of(work.body, target.vector_bytes)
    return vectors * (total_cost(work.body.code) + PARALLEL_BYTES_COST)


# -- sorts ----------------------------------------------------------------------------------------------------------


def _cut_of_sorted(work: Sorted, target: Target) -> Cut | None:
    """Along the outer axis, or the inner one where there is no other; blocks of a network stay whole."""
    dim, extent = (0, work.outer) if work.outer > 1 else (1, work.inner)
    cost = work.flops * work.itemsize / target.vector_bytes * SORT_COST
    unit = target.vector_bytes // work.result.itemsize if work.by_network else 1
    if cost < PARALLEL_COST or extent < 2 * unit:
        return None
    return Cut(dim, extent, unit, min(LOOP_PARTS, extent // unit), PARTS_PER_THREAD, cost < SHORT_JOBS * PARALLEL_COST)


# -- factors --------------------------------------------------------------------------------------------------------


def _cut_of_factored(work: Factored, target: Target) -> Cut | None:
    """Some matrices each; small ones in whole vectors."""
    lanes = target.vector_bytes // work.itemsize if work.is_small else 1
    cost = work.flops * FACTOR_COST / lanes
    if cost < PARALLEL_COST or work.count < 2 * lanes:
        return None
    parts = min(LOOP_PARTS, work.count // lanes)
    return Cut(0, work.count, lanes, parts, PARTS_PER_THREAD, cost < SHORT_JOBS * PARALLEL_COST)


def lanes_across(work: Across, target: Target) -> int:
    """Places that are worked on at a time: as many as a vector has lanes, no more than there are."""
    return min(target.vector_bytes // work.itemsize, 1 << (work.count.bit_length() - 1))


def _cut_of_across(work: Across, target: Target) -> Cut | None:
    """Some places each: at least two blocks, as the last one may have to be filled from the one ahead."""
    lanes = lanes_across(work, target)
    blocks, cost = work.count // lanes, work.cost * work.count / lanes
    if cost < PARALLEL_COST or blocks < 4:
        return None
    parts = min(LOOP_PARTS, blocks // 2)
    return Cut(0, work.count, lanes, parts, PARTS_PER_THREAD, cost < SHORT_JOBS * PARALLEL_COST)


# -- products -------------------------------------------------------------------------------------------------------


def _cut_of_product(work: Product, _: Target) -> Cut | None:
    if work.runs:
        return _cut_of_windows(work)
    if work.batch:
        return _cut_of_batch(work)
    dim = COLUMNS if _by_columns(work) else ROWS
    extent = work.n if dim == COLUMNS else work.m
    flops = product_flops(work)
    if work.dtype.kind != "f" or flops < PARALLEL_FLOPS or extent < 2 * PRODUCT_PART_UNIT:
        return None
    # Each part packs what the others pack, too.
    each = 1 if 2 * work.m * work.n * work.k >= WHOLE_PARTS_FLOPS else PARTS_PER_THREAD
    parts = min(PRODUCT_PARTS, extent // PRODUCT_PART_UNIT)
    return Cut(dim, extent, PRODUCT_PART_UNIT, parts, each, flops < SHORT_JOBS * PARALLEL_FLOPS)


def _cut_of_batch(work: Product) -> Cut | None:
    """Along the first axis of the batch, which a sum of the epilogue does not run over."""
    count = work.batch[0][0]
    flops = product_flops(work) * math.prod(entry[0] for entry in work.batch)
    reduced = work.epilogue.reduced if work.epilogue is not None else ()
    if work.dtype.kind != "f" or flops < PARALLEL_FLOPS or count < 2 or BATCH in reduced:
        return None
    return Cut(BATCH, count, 1, min(PRODUCT_PARTS, count), PARTS_PER_THREAD, flops < SHORT_JOBS * PARALLEL_FLOPS)


def _cut_of_windows(work: Product) -> Cut | None:
    """Parts of the outermost loop over products, or else rows of each product."""
    flops = work.product_flops
    dim, extent, unit = ROWS, work.m, WINDOW_PART_ROWS
    outer = work.batch[0][0] if work.batch else 1
    if outer >= PRODUCT_PARTS or outer % 2 == 0 or extent < 2 * unit:
        dim, extent, unit = BATCH, outer, 1
    if flops < PARALLEL_FLOPS or extent < 2 * unit:
        return None
    parts = min(PRODUCT_PARTS, extent // unit)
    return Cut(dim, extent, unit, parts, PARTS_PER_THREAD, flops < SHORT_JOBS * PARALLEL_FLOPS)


def _by_columns(work: Product) -> bool:
    """Whether parts are columns of C: each packs all of A then, as rows pack all of B; what is transposed while it is
    packed takes longer."""
    if work.epilogue is not None and work.epilogue.reduced:
        # A part has all rows.
        return True
    if 2 * work.m * work.n * work.k < WHOLE_PARTS_FLOPS:
        return work.n > work.m
    a, b = (
        extent * (1 if stride == 1 else TRANSPOSED_PACK_COST)
        for extent, stride in ((work.m, work.a_strides[0]), (work.n, work.b_strides[1]))
    )
    return a <= b


def product_flops(work: Product) -> int:
    """Floating-point operations of one matrix; an instruction of the epilogue takes as long as a multiply-add."""
    each = work.sums + (total_cost(work.epilogue.code) if work.epilogue is not None else 0)
    return 2 * work.m * work.n * each


CUTS: dict[type[Work], Callable[[Any, Target], Cut | None]] = {
    Product: _cut_of_product,
    Loop: _cut_of_loop,
    Sorted: _cut_of_sorted,
    Factored: _cut_of_factored,
    Across: _cut_of_across,
}
"""How each kind of work is cut; others stay whole."""
