"""The loops around the panels: blocks of columns, of k and of rows, packing where it pays, the epilogue on each block.

    void gemm_tiles(m, n, k, a, a_row, a_col, b, b_row, b_col, c, c_row, workspace, flags, edge, epilogue, context)

The epilogue is called once for each block of C, right after the block's last sums, in the order of the loops:
columns in steps of `nc`, rows in steps of `mc` within, then the block's columns. See variants.py for what is promised.
"""

from __future__ import annotations

from adjit.codegen.gemm.microkernel import PARAMETERS as PANEL_PARAMETERS
from adjit.codegen.gemm.microkernel import emit_panel, panel_name
from adjit.codegen.gemm.packing import pack_name
from adjit.codegen.gemm.variants import ACCUMULATE, MOST_PREFETCHED, PACKED_UNIT, PREFETCH, SCRATCH, KernelSizes
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Ty, Value, int_literal, literal
from adjit.tuned import (
    GEMM_PACK_FROM,
    GEMM_PACK_PANELS,
    GEMM_PACK_ROWS,
    GEMM_PACK_SPAN,
    GEMM_PACK_STRIDE,
    GEMM_PACK_TRANSPOSED,
)
from adjit_runtime.target import LINE

PARAMETERS: tuple[tuple[Ty, str], ...] = (
    (I64, "m"),
    (I64, "n"),
    (I64, "k"),
    (PTR, "a"),
    (I64, "a_row"),
    (I64, "a_col"),
    (PTR, "b"),
    (I64, "b_row"),
    (I64, "b_col"),
    (PTR, "c"),
    (I64, "c_row"),
    (PTR, "workspace"),
    (I64, "flags"),
    (PTR, "edge"),
    (PTR, "epilogue"),
    (PTR, "context"),
)


def bit(f: Function, flags: Value, mask: int) -> Value:
    """Whether one of the bits of `mask` is set."""
    return f.compare("ne", f.binary("and", flags, literal(I64, mask)), literal(I64, 0))


def call_epilogue(f: Function, epilogue: Value, arguments: tuple[Value, ...]) -> None:
    """Call the epilogue unless it is null."""

    def present() -> list[Value]:
        f.call_pointer(epilogue, VOID, arguments)
        return []

    f.branch(f.compare("ne", epilogue, literal(PTR, 0)), present)


def both(f: Function, *conditions: Value) -> Value:
    """All of the conditions."""
    result = conditions[0]
    for condition in conditions[1:]:
        result = f.binary("and", result, condition)
    return result


def at_least(f: Function, value: Value, bound: int) -> Value:
    """value >= bound."""
    return f.compare("sge", value, int_literal(bound))


def tiles_name(sizes: KernelSizes) -> str:
    """Symbol of the product in the tiles variant."""
    return f"gemm_tiles_{sizes.suffix}"


def emit_tiles(module: Module, sizes: KernelSizes) -> None:
    """Write the product in the tiles variant."""
    f = module.function(tiles_name(sizes), VOID, PARAMETERS, internal=True, glue=True)
    m, n, k, a, a_row, a_col, b, b_row, b_col, c, c_row, workspace, flags, edge, epilogue, context = f.params
    ty, rows, columns = sizes.ty, sizes.rows, sizes.columns
    one = literal(I64, 1)

    in_scratch = bit(f, flags, SCRATCH)
    record, record_ahead = f.alloca(PTR, 2 + MOST_PREFETCHED), f.alloca(PTR, 4)
    accumulate = f.binary("and", flags, literal(I64, ACCUMULATE))
    bounds = zip((m, n, k), GEMM_PACK_FROM, strict=True)
    large = both(f, *(at_least(f, size, bound) for size, bound in bounds))
    pack_a, pack_b = large, f.binary("or", large, f.compare("ne", b_col, one))
    if not sizes.pack_plain:
        pack_a = f.binary("and", large, f.compare("ne", a_col, one))
    if sizes.pack_transposed:
        panels, sums = GEMM_PACK_TRANSPOSED
        transposed = f.compare("ne", a_col, one), at_least(f, n, panels * columns), at_least(f, k, sums)
        pack_a = f.binary("or", pack_a, both(f, *transposed))
    # In place, a panel of B has one line of cache in each of so many bytes.
    b_bytes = f.mul(b_row, sizes.dtype.itemsize)
    span = f.mul(b_bytes, f.minimum(k, int_literal(sizes.kc)))
    far = both(f, at_least(f, span, GEMM_PACK_SPAN), at_least(f, f.mul(m, span), GEMM_PACK_SPAN * GEMM_PACK_ROWS))
    if sizes.keeps_lines:
        beyond = f.binary("and", b_bytes, int_literal(GEMM_PACK_STRIDE - 1))
        far = both(f, far, f.compare("eq", beyond, literal(I64, 0)))
    pack_b = f.binary("or", pack_b, far)
    row_block = _row_block(f, sizes, m)
    column_block = _column_block(f, sizes, f.minimum(m, row_block))
    steps, each = k_blocks(f, sizes, k)

    def column_loop(j: Value, _: list[Value]) -> list[Value]:
        width = f.minimum(f.sub(n, j), int_literal(sizes.nc))

        def k_loop(step: Value, _: list[Value]) -> list[Value]:
            p = f.mul(step, each)
            depth = f.minimum(f.sub(k, p), each)
            last = f.compare("eq", f.add(step, 1), steps)
            add = f.select(f.compare("eq", step, literal(I64, 0)), accumulate, one)
            b_block = f.element(b, ty, f.add(f.mul(p, b_row), f.mul(j, b_col)))
            a_column = f.element(a, ty, f.mul(p, a_col))
            packed_a = f.element(workspace, ty, _packed_b_elements(f, sizes, width, depth))

            b_panel = f.select(pack_b, f.mul(depth, columns), f.mul(b_col, columns))
            b_stride = f.select(pack_b, int_literal(columns), b_row)

            def row_loop(i: Value, _: list[Value]) -> list[Value]:
                height = f.minimum(f.sub(m, i), row_block)
                a_block = f.element(a_column, ty, f.mul(i, a_row))

                def packed() -> list[Value]:
                    f.call(pack_name(sizes), VOID, (height, depth, a_block, a_row, a_col, packed_a, int_literal(rows)))
                    return [packed_a, one, int_literal(rows), f.mul(depth, rows)]

                a_tiles, a_unit, a_next, a_step = f.branch(
                    pack_a, packed, lambda: [a_block, a_row, a_col, f.mul(a_row, rows)]
                )

                def block_loop(jb: Value, _: list[Value]) -> list[Value]:
                    block = f.minimum(f.sub(width, jb), column_block)
                    offset = f.add(f.mul(i, c_row), f.add(j, jb))
                    tile = f.select(in_scratch, c, f.element(c, ty, offset))
                    tile_row = f.select(in_scratch, column_block, c_row)

                    def panel_loop(jr: Value, carried: list[Value]) -> list[Value]:
                        panel, to = carried
                        rest = f.minimum(f.sub(block, jr), int_literal(columns))
                        at = f.add(jb, jr)

                        def packed_b() -> list[Value]:
                            together = f.minimum(f.sub(width, at), int_literal(GEMM_PACK_PANELS * columns))
                            source = f.element(b_block, ty, f.mul(at, b_col))
                            shape = (together, depth, source, b_col, b_row, panel, int_literal(columns))
                            f.call(pack_name(sizes), VOID, shape)
                            return []

                        # Just before they are used for the first time, so that they are in the cache.
                        others = f.binary("urem", at, int_literal(GEMM_PACK_PANELS * columns))
                        begins = f.compare("eq", f.binary("or", i, others), literal(I64, 0))
                        f.branch(f.binary("and", pack_b, begins), packed_b)

                        def beside() -> list[Value]:
                            _note_prefetched(f, sizes, record, context, f.add(offset, jr), c_row)
                            return [record]

                        prefetched = f.branch(
                            both(f, last, bit(f, flags, PREFETCH)), beside, lambda: [literal(PTR, 0)]
                        )[0]
                        ahead = _note_ahead(
                            f, sizes, record_ahead, panel, (i, height, depth), (at, width), pack_b, b_block
                        )
                        arguments = (
                            *(height, depth, a_tiles, a_unit, a_next, a_step),
                            *(panel, b_stride, to, tile_row, prefetched, ahead, add, rest),
                        )
                        call_panel(f, sizes, edge, arguments)
                        return [f.element(panel, ty, b_panel), f.element(to, ty, columns)]

                    first = f.binary("udiv", jb, int_literal(columns))
                    start = f.element(f.select(pack_b, workspace, b_block), ty, f.mul(first, b_panel))
                    f.loop(0, block, columns, [start, tile], panel_loop)

                    def finished() -> list[Value]:
                        left = f.add(j, jb)
                        bounds = (i, f.add(i, height), left, f.add(left, block))
                        call_epilogue(f, epilogue, (context, tile, tile_row, *bounds))
                        return []

                    f.branch(last, finished)
                    return []

                f.loop(0, width, column_block, [], block_loop)
                return []

            f.loop(0, m, row_block, [], row_loop)
            return []

        f.loop(0, steps, 1, [], k_loop)
        return []

    f.loop(0, n, sizes.nc, [], column_loop)
    f.ret()


def _note_prefetched(
    f: Function, sizes: KernelSizes, record: Value, context: Value, offset: Value, c_row: Value
) -> None:
    """Fill a panel's record of what the epilogue will read: the arrays that are named before `context`."""
    f.store(f.load(f.element(context, I64, -1), I64), record)
    f.store(f.mul(c_row, sizes.dtype.itemsize), f.element(record, I64, 1))
    for number in range(MOST_PREFETCHED):
        start = f.load(f.element(context, PTR, -2 - number), PTR)
        f.store(f.element(start, sizes.ty, offset), f.element(record, PTR, 2 + number))


def _note_ahead(
    f: Function,
    sizes: KernelSizes,
    record: Value,
    panel: Value,
    rows: tuple[Value, Value, Value],
    columns: tuple[Value, Value],
    pack_b: Value,
    b_block: Value,
) -> Value:
    """What is read of B after this panel, for its tiles to prefetch: its next packed panel, or while B is packed what
    will lie in the one of the same number of those that are packed together next. Null where there is none."""
    if not sizes.ahead:
        return literal(PTR, 0)
    b_row, b_col = f.params[7:9]
    (i, height, depth), (at, width) = rows, columns
    size, unit = sizes.dtype.itemsize, sizes.columns
    wide = unit * size
    first = f.compare("eq", i, literal(I64, 0))
    next_ = f.add(at, f.select(first, int_literal(GEMM_PACK_PANELS * unit), int_literal(unit)))

    def noted() -> list[Value]:
        tiles = f.intrinsic("smax", I64, (f.binary("udiv", height, int_literal(sizes.rows)), literal(I64, 1)))
        each = f.binary("udiv", f.add(depth, f.sub(tiles, 1)), tiles)
        adjacent = f.compare("eq", b_col, literal(I64, 1))
        source = f.element(b_block, sizes.ty, f.mul(next_, b_col))
        start = f.select(first, source, f.element(panel, sizes.ty, f.mul(depth, unit)))
        by_rows = f.binary("or", adjacent, f.compare("ne", i, literal(I64, 0)))
        step = f.select(first, f.mul(f.select(adjacent, b_row, b_col), size), int_literal(wide))
        count = f.select(by_rows, each, int_literal(unit))
        tile_step = f.select(by_rows, f.mul(count, step), int_literal(-(-wide // LINE) * LINE))
        f.store(start, record)
        for number, word in enumerate((count, step, tile_step), 1):
            f.store(word, f.element(record, I64, number))
        return [record]

    there = f.compare("sle", f.add(next_, unit), width)
    return f.branch(f.binary("and", pack_b, there), noted, lambda: [literal(PTR, 0)])[0]


def call_panel(f: Function, sizes: KernelSizes, edge: Value, arguments: tuple[Value, ...]) -> None:
    """Call the panel function that fits the width, the last argument; `edge` is the one for narrower panels."""
    widest = panel_name(sizes, sizes.vectors, masked=sizes.masks)

    def wide() -> list[Value]:
        f.call(widest, VOID, arguments)
        return []

    def narrow() -> list[Value]:
        f.call_pointer(edge, VOID, arguments)
        return []

    f.branch(f.compare("sgt", arguments[-1], int_literal(sizes.narrow)), wide, narrow)


def emit_edge(module: Module, sizes: KernelSizes) -> None:
    """Write `adjit_edge`, a panel function for all widths that the widest one does not fit."""
    masked = range(1, sizes.vectors + (0 if sizes.masks else 1))
    for vectors in masked:
        emit_panel(module, sizes, vectors, masked=True)
    f = module.function(f"adjit_edge_{sizes.suffix}", VOID, PANEL_PARAMETERS)

    def fitting(vectors: int) -> list[Value]:
        def call() -> list[Value]:
            f.call(panel_name(sizes, vectors, masked=True), VOID, f.params)
            return []

        if vectors == 1:
            return call()
        wide = f.compare("sgt", f.params[-1], int_literal((vectors - 1) * sizes.lanes))
        f.branch(wide, call, lambda: fitting(vectors - 1))
        return []

    if masked:
        fitting(masked[-1])
    f.ret()


def k_blocks(f: Function, sizes: KernelSizes, k: Value) -> tuple[Value, Value]:
    """How many blocks k is cut into, one at least, and how long each is but the last: up to `kc`, all nearly alike, as
    a short one takes as many turns around C as a long one."""
    count = f.binary("udiv", f.add(k, sizes.kc - 1), int_literal(sizes.kc))
    count = f.intrinsic("smax", I64, (count, literal(I64, 1)))
    each = f.binary("udiv", f.add(k, f.sub(count, 1)), count)
    return count, f.binary("and", f.add(each, 3), int_literal(-4))


def _row_block(f: Function, sizes: KernelSizes, m: Value) -> Value:
    """Rows of a block: up to `mc`, all blocks nearly alike, whole tiles."""

    def even() -> list[Value]:
        blocks = f.binary("udiv", f.add(m, sizes.mc - 1), int_literal(sizes.mc))
        each = f.binary("udiv", f.add(m, f.sub(blocks, 1)), blocks)
        whole = f.binary("udiv", f.add(each, sizes.rows - 1), int_literal(sizes.rows))
        return [f.mul(whole, sizes.rows)]

    return f.branch(f.compare("sgt", m, int_literal(sizes.mc)), even, lambda: [int_literal(sizes.mc)])[0]


def _column_block(f: Function, sizes: KernelSizes, height: Value) -> Value:
    """Columns of a block of C, by its rows."""
    (_, result), *others = reversed(sizes.block_columns)
    chosen = int_literal(result)
    for most_rows, columns in others:
        chosen = f.select(f.compare("sle", height, int_literal(most_rows)), int_literal(columns), chosen)
    return chosen


def _packed_b_elements(f: Function, sizes: KernelSizes, width: Value, depth: Value) -> Value:
    """Elements that packed B takes, as `packed_b_bytes` counts them."""
    whole = f.mul(f.binary("udiv", f.add(width, sizes.columns - 1), int_literal(sizes.columns)), sizes.columns)
    elements = f.add(f.mul(whole, depth), sizes.columns * sizes.lanes + PACKED_UNIT - 1)
    return f.binary("and", elements, literal(I64, -PACKED_UNIT))
