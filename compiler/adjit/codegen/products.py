"""Kernels of matrix products: calls of the shared functions with sizes and strides, the epilogue, parts for threads."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from adjit.codegen.access import TileAccess
from adjit.codegen.analysis import lanes_of, vectors_together
from adjit.codegen.cuts import BATCH, COLUMNS, Cut, cut_of, follows_columns, is_divided, joins_lines
from adjit.codegen.direct import emit_direct
from adjit.codegen.emitter import Emitter, How
from adjit.codegen.gemm import (
    MOST_PREFETCHED,
    PREFETCH,
    REGISTER_TILES,
    SCRATCH,
    gemm_flags,
    gemm_scratch_bytes,
    gemm_workspace_bytes,
    product_symbols,
    sizes_for,
)
from adjit.codegen.jobs import open_job, parts_for, range_of, range_of_turn, run_job
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Value, int_literal, literal, memory_type
from adjit.codegen.nest import Nest
from adjit.codegen.signals import effort, emit_poll
from adjit.ir.types import dtype_name
from adjit.schedule.instructions import Load
from adjit.schedule.products import is_direct
from adjit.schedule.work import Product
from adjit.tuned import (
    EPILOGUE_MASKED_VECTORS,
    EPILOGUE_PREFETCH_BYTES,
    MOST_CHAINED,
    POLL_EFFORT,
    PRODUCT_PART_UNIT,
    REDUCTION_JAM,
    TILE_GROUPS,
    TURN_EXTENT,
    TURN_PRODUCT_EFFORT,
)
from adjit_runtime.target import Target


class ProductEmitter(Emitter[Product]):
    """Calls of the library for products, or of a function with its sizes in the code."""

    def write(self, f: Function, params: Sequence[Value], name: str, work: Product, how: How) -> None:
        """Write the calls; the epilogue, and the job of one thread, are functions of their own."""
        module, target = f.module, how.target
        cut = cut_of(work, target) if how.parallel else None
        # A loop over lines alone that may be left between two of them is one.
        joined = joins_lines(work, cut, target) and not (cut is None and how.ranges and len(work.batch) == 1)
        epilogue = None
        if work.epilogue is not None:
            epilogue = _emit_epilogue(module, f"{name}_epilogue", work, cut, target, how.light, joined)
        if cut is not None:
            job = _part_of_product(module, f"{name}_part", work, cut, target, epilogue, how.ranges > 0, joined)
            run_job(f, params, job, parts_for(f, cut), how.ranges)
        else:
            direct = emit_direct(module, name, work, target) if is_direct(work, target.vector_bytes) else None
            start, polls = (int_literal(0), int_literal(0)), how.ranges > 0
            _multiply(f, params, work, target, epilogue, start, None, direct, polls, joined=joined)

    def is_glue(self, work: Product, how: How) -> bool:
        """It only calls."""
        return True

    def ranges(self, work: Product, target: Target) -> int:
        """None where it is short, or where they would be so narrow that packing shows."""
        whole = effort(work, target)
        if whole < 2 * TURN_PRODUCT_EFFORT:
            return 0
        cut = cut_of(work, target)
        if cut is None:
            return work.batch[0][0] if work.batch and whole >= POLL_EFFORT * work.batch[0][0] else 0
        ranges = min(int(whole // TURN_PRODUCT_EFFORT), cut.extent // (1 if cut.dim == BATCH else TURN_EXTENT))
        return ranges if ranges > 1 else 0

    def packing_bytes(self, work: Product, target: Target, parallel: bool) -> int:
        """For each part that threads may take of a product, or of the loop that it is in."""
        if work.runs:
            return 0
        cut = cut_of(work, target)
        parts = TILE_GROUPS if not parallel else cut.parts if cut is not None else 1
        return gemm_workspace_bytes(work.dtype, work.m, work.n, work.k, target) * parts

    def libraries(self, work: Product, target: Target, parallel: bool) -> list[str]:
        """Those of its variant; none where it stands in the code."""
        cut = parallel and is_divided(cut_of(work, target))
        if 0 in work.extents or (not cut and is_direct(work, target.vector_bytes)):
            return []
        return [symbol.removeprefix("adjit_") for symbol in _symbols(work, target, cut) if symbol]


def _beside(work: Product, target: Target) -> list[int]:
    """The epilogue's parameters that are read element by element along a large C; MOST_PREFETCHED of them at most."""
    is_large = work.m * work.n * work.dtype.itemsize >= EPILOGUE_PREFETCH_BYTES[target.registers]
    if work.epilogue is None or work.batch or work.runs or not is_large:
        return []
    found = {
        i.param - 3
        for i in work.epilogue.code
        if isinstance(i, Load)
        and not i.bounds
        and i.dtype.itemsize == work.dtype.itemsize
        and i.coefficients[1:] == (work.c_row, 1)
    }
    return sorted(found)[:MOST_PREFETCHED]


def _part_of_product(
    module: Module,
    name: str,
    work: Product,
    cut: Cut,
    target: Target,
    epilogue: Function | None,
    in_turns: bool,
    joined: bool,
) -> Function:
    """The job of one thread: some of the rows or columns of C, or some matrices of a batch; tiles stay whole.

    Each element is the same sum whatever the parts, as the variant of the whole product is passed with each."""
    count = work.operands + (len(work.epilogue.params) if work.epilogue is not None else 0) + work.packs
    f, params, part, parts = open_job(module, name, count, glue=True)
    at, ranges = range_of_turn(f, count, part, parts) if in_turns else (part, parts)
    low, high = range_of(f, at, ranges, cut)
    if not work.runs:
        nbytes = gemm_workspace_bytes(work.dtype, work.m, work.n, work.k, target)
        params[-1] = f.offset(params[-1], f.mul(part, nbytes))
    if work.scratch:
        params[2] = f.offset(params[2], f.mul(part, gemm_scratch_bytes(work.dtype, target)))
    zero, length = int_literal(0), f.sub(high, low)
    if cut.dim == BATCH:
        direct = emit_direct(module, name, work, target) if is_direct(work, target.vector_bytes) else None
        _multiply(f, params, work, target, epilogue, (zero, zero), None, direct, outer=(low, high), joined=joined)
    elif cut.dim == COLUMNS:
        _multiply(f, params, work, target, epilogue, (zero, low), (int_literal(work.m), length))
    else:
        _multiply(f, params, work, target, epilogue, (low, zero), (length, int_literal(work.n)))
    f.ret()
    return f


def _flags(work: Product, target: Target) -> int:
    if work.runs:
        return SCRATCH if work.scratch else 0
    return gemm_flags(work.dtype, work.m, work.n, work.k, work.a_strides, work.b_strides, target, scratch=work.scratch)


def _symbols(work: Product, target: Target, cut: bool) -> tuple[str, str]:
    if work.runs:
        return f"adjit_windows_{dtype_name(work.dtype)}", ""
    unit = PRODUCT_PART_UNIT if cut else 0
    return product_symbols(work.dtype, work.m, work.n, _flags(work, target), target, unit)


def _multiply(
    f: Function,
    params: Sequence[Value],
    work: Product,
    target: Target,
    epilogue: Function | None,
    start: tuple[Value, Value],
    part: tuple[Value, Value] | None,
    direct: Function | None = None,
    polls: bool = False,
    outer: tuple[Value, Value] | None = None,
    joined: bool = False,
) -> None:
    """Call the library for each pair of matrices, or `direct` where that is given; of C the `part` (rows, columns) from
    `start` on where it is cut, or the range `outer` of the outermost loop over pairs. Where it `polls`, `f` may be left
    between two pairs. The innermost loop is one of lines in the library where these are `joined`."""
    a, b, c, *others, workspace = params
    row, column = start
    context = literal(PTR, 0)
    beside = _beside(work, target)
    if epilogue is not None:
        context = f.element(f.alloca(PTR, MOST_PREFETCHED + len(others) + 4), PTR, MOST_PREFETCHED + 1)
        for i, value in enumerate((*others, row, column)):
            f.store(value, f.element(context, PTR, i + 1))
        f.store(int_literal(len(beside)), f.element(context, I64, -1))
        for i in range(MOST_PREFETCHED):
            array = literal(PTR, 0)
            if i < len(beside):
                at = f.add(f.mul(row, work.c_row), column)
                array = f.element(others[beside[i]], memory_type(work.dtype), at)
            f.store(array, f.element(context, PTR, -2 - i))
    memory = memory_type(work.dtype)
    flags = _flags(work, target) | (PREFETCH if beside else 0)
    symbol, edge = _symbols(work, target, part is not None)
    if edge:
        f.module.declare(edge, VOID, ())
    m, n = part or (int_literal(work.m), int_literal(work.n))
    runs = _runs(f, work) if work.runs else None
    ranges = [(int_literal(0), int_literal(entry[0])) for entry in work.batch]
    if outer is not None:
        ranges[0] = outer
    line, lines = m, []
    if joined:
        low, high = ranges.pop()
        m, lines = f.mul(f.sub(high, low), line), [low]

    def multiply(indices: list[Value]) -> None:
        places, indices = [], indices + lines
        block = int_literal(0) if work.scratch else f.add(f.mul(row, work.c_row), column)
        skipped = (f.mul(row, work.a_strides[0]), f.mul(column, work.b_strides[1]), block)
        for pointer, which, offset in zip((a, b, c), (1, 2, 3), skipped, strict=True):
            for index, entry in zip(indices, work.batch, strict=True):
                offset = f.add(offset, f.mul(index, entry[which]))
            places.append(f.element(pointer, memory, offset))
        if epilogue is not None:
            linear = int_literal(0)
            for index, entry in zip(indices, work.batch, strict=True):
                linear = f.add(f.mul(linear, entry[0]), index)
            f.store(linear, context)
        if direct is not None:
            f.call(direct.name, VOID, places)
            if epilogue is not None:
                zero, tile_row = int_literal(0), int_literal(work.n if work.scratch else work.c_row)
                f.call(epilogue.name, VOID, [context, places[2], tile_row, zero, m, zero, n])
            return
        after = Value(PTR, f"@{epilogue.name}") if epilogue is not None else literal(PTR, 0)
        if runs is not None:
            arguments = [
                m, n, int_literal(work.k),
                places[0], *(int_literal(stride) for stride in work.a_strides),
                line, int_literal(work.batch[-1][1] if joined else 0),
                places[1], int_literal(work.b_strides[0]), places[2], int_literal(work.c_row),
                runs, int_literal(flags), after, context,
            ]  # fmt: skip
            f.call(symbol, VOID, arguments)
            return
        arguments = [
            m, n, int_literal(work.k),
            places[0], *(int_literal(stride) for stride in work.a_strides),
            places[1], *(int_literal(stride) for stride in work.b_strides),
            places[2], int_literal(work.c_row), workspace, int_literal(flags),
            Value(PTR, f"@{edge}") if edge else literal(PTR, 0),
            after, context,
        ]  # fmt: skip
        f.call(symbol, VOID, arguments)

    _nested(f, ranges, multiply, (lambda: emit_poll(f)) if polls else lambda: None)


def _runs(f: Function, work: Product) -> Value:
    """The loops around the sums of a product, as `adjit_windows` takes them."""
    once = (1, 0, 0)
    runs = [*(once,) * (Product.RUNS - len(work.runs)), *work.runs]
    if len(work.runs) < Product.RUNS and work.sums > MOST_CHAINED:
        # Long sums go to C part by part, which keeps both operands' parts in the cache.
        runs = [work.runs[0], *(once,) * (Product.RUNS - len(work.runs)), *work.runs[1:]]
    record = f.alloca(I64, 3 * Product.RUNS)
    for i, number in enumerate(itertools.chain(*runs)):
        f.store(int_literal(number), f.element(record, I64, i))
    return record


def _nested(
    function: Function,
    ranges: list[tuple[Value, Value]],
    body: Callable[[list[Value]], None],
    after: Callable[[], None],
) -> None:
    """Plain loops over ranges, with `after` called after each turn of the outermost one."""

    def level(depth: int, indices: list[Value]) -> None:
        if depth == len(ranges):
            body(indices)
        else:

            def inside(i: Value, _: list[Value]) -> list[Value]:
                level(depth + 1, [*indices, i])
                if not depth:
                    after()
                return []

            function.loop(*ranges[depth], 1, [], inside)

    level(0, [])


def _blocks_are_whole(work: Product, lanes: int, target: Target) -> bool:
    """Whether the columns of all blocks that the library hands to the epilogue are whole vectors: in the tiles variant
    they begin and end at tiles or at the end."""
    if work.dtype.kind != "f" or work.m == 1 or work.n % lanes or PRODUCT_PART_UNIT % lanes:
        return False
    if work.runs:
        return True
    sizes = sizes_for(work.dtype, target)
    return bool(_flags(work, target) & REGISTER_TILES) and work.n >= sizes.columns and sizes.columns % lanes == 0


def _whole_vectors(work: Product, lanes: int, most: int, target: Target) -> int:
    """How many vectors may go together, `most` or a half of it and so on, so that they divide blocks evenly."""
    while most > 1 and not _blocks_are_whole(work, most * lanes, target):
        most //= 2
    return most


def _emit_epilogue(
    module: Module, name: str, work: Product, cut: Cut | None, target: Target, light: bool, joined: bool
) -> Function:
    body = work.epilogue
    assert body is not None
    signature = [
        (PTR, "context"), (PTR, "tile"), (I64, "row"), (I64, "i0"), (I64, "i1"), (I64, "j0"), (I64, "j1"),
    ]  # fmt: skip
    function = module.function(name, VOID, signature, internal=True, glue=light)
    context, tile, row, i0, i1, j0, j1 = function.params
    batch = function.load(context, I64) if work.batch else int_literal(0)
    count = len(body.params)
    pointers = {3 + i: function.load(function.element(context, PTR, i + 1), PTR) for i in range(count)}
    # A part of C has its first row and column elsewhere.
    row0, column0 = (function.load(function.element(context, PTR, count + i), I64) for i in (1, 2))
    i0, i1 = function.add(i0, row0), function.add(i1, row0)
    j0, j1 = function.add(j0, column0), function.add(j1, column0)
    lanes = lanes_of(body, target.vector_bytes)
    follows = follows_columns(work, cut, target)
    ranges: dict[int, tuple[Value | int, Value | int]] = {
        0: (batch, function.add(batch, 1)) if work.batch else (0, 1),
        1: (i0, i1),
    }
    if follows:
        ranges[2] = (j0, j1)
    access = TileAccess(tile, row, i0, j0, 1, 2)
    if joined:
        first, last = (function.add(batch, function.binary("udiv", i, int_literal(work.m))) for i in (i0, i1))
        ranges.update({0: (first, last), 1: (0, work.m)})
        access = TileAccess(tile, row, int_literal(0), j0, 1, 2, line_dim=0, line0=first, height=work.m)
    # Masked stores are slow on Zen 4: without them a step of 784-512-256-10 takes 3.35 ms in place of 3.5, and one of
    # 64-32-10, whose columns are known as no block is narrower than C, 4.76 us in place of 5.11.
    whole = _blocks_are_whole(work, lanes, target)
    copies = _whole_vectors(work, lanes, REDUCTION_JAM, target) if whole and follows else REDUCTION_JAM
    lanes *= 1 if body.reduced else _whole_vectors(work, lanes, vectors_together(body, target), target)
    few = target.masks and not body.reduced and not whole and follows and work.n < EPILOGUE_MASKED_VECTORS * lanes
    Nest(
        *(function, body, pointers, lanes, 2),
        ranges=ranges,
        masked_only=few,
        whole_only=whole,
        most_copies=copies,
        tile=access,
    ).run()
    function.ret()
    return function
