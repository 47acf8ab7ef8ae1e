"""Products with a thin side: few columns of a transposed A, and the dots variant.

`swapped` computes the transpose of C, so that the long side lies along the vectors, and adds in the order of the
tiles variant; `dots_product` is the dots variant, either side thin. Programs have no products of a single row or
column: those are loops, which fuse (`schedule/normalize`).
"""

from __future__ import annotations

from adjit.codegen.gemm.dots import dots_name
from adjit.codegen.gemm.macro import PARAMETERS, bit, call_epilogue, call_panel, k_blocks
from adjit.codegen.gemm.microkernel import LaneMask
from adjit.codegen.gemm.packing import pack_name
from adjit.codegen.gemm.variants import ACCUMULATE, DOTS_B, SCRATCH, KernelSizes
from adjit.codegen.llvm import I64, PTR, VOID, Module, Value, int_literal, literal
from adjit.tuned import SWAPPED_ROWS, THIN_COLUMNS


def emit_swapped(module: Module, sizes: KernelSizes) -> None:
    """Write the product for a_row = 1 and few columns: panels of the transpose of C, then transposed into C."""
    f = module.function(f"adjit_swapped_{sizes.suffix}", VOID, PARAMETERS)
    m, n, k, a, _, a_col, b, b_row, b_col, c, c_row, workspace, flags, edge, epilogue, context = f.params
    ty, lanes, one = sizes.ty, sizes.lanes, literal(I64, 1)
    steps, each = k_blocks(f, sizes, k)
    in_scratch = bit(f, flags, SCRATCH)
    accumulate = f.binary("and", flags, literal(I64, ACCUMULATE))
    transposed = f.element(workspace, ty, THIN_COLUMNS * SWAPPED_ROWS)
    tile_row = f.select(in_scratch, n, c_row)
    b_step, null = f.mul(b_col, sizes.rows), literal(PTR, 0)

    def block(i: Value, _: list[Value]) -> list[Value]:
        height = f.minimum(f.sub(m, i), int_literal(SWAPPED_ROWS))
        tile = f.select(in_scratch, c, f.element(c, ty, f.mul(i, c_row)))

        def old() -> list[Value]:
            def column(j: Value, _: list[Value]) -> list[Value]:
                def element(r: Value, _: list[Value]) -> list[Value]:
                    value = f.load(f.element(tile, ty, f.add(f.mul(r, c_row), j)), ty)
                    f.store(value, f.element(workspace, ty, f.add(f.mul(j, SWAPPED_ROWS), r)))
                    return []

                f.loop(0, height, 1, [], element)
                return []

            f.loop(0, n, 1, [], column)
            return []

        f.branch(f.compare("ne", accumulate, literal(I64, 0)), old)

        def k_block(step: Value, _: list[Value]) -> list[Value]:
            p = f.mul(step, each)
            depth = f.minimum(f.sub(k, p), each)
            add = f.select(f.compare("eq", step, literal(I64, 0)), accumulate, one)
            x_at, y_at = f.element(b, ty, f.mul(p, b_row)), f.element(a, ty, f.add(i, f.mul(p, a_col)))

            def panel(j: Value, _: list[Value]) -> list[Value]:
                rest = f.minimum(f.sub(height, j), int_literal(sizes.columns))
                call_panel(
                    f,
                    sizes,
                    edge,
                    (
                        *(n, depth, x_at, b_col, b_row, b_step, f.element(y_at, ty, j), a_col),
                        *(f.element(workspace, ty, j), int_literal(SWAPPED_ROWS), null, null, add, rest),
                    ),
                )
                return []

            f.loop(0, height, sizes.columns, [], panel)
            return []

        f.loop(0, steps, 1, [], k_block)
        f.call(
            pack_name(sizes),
            VOID,
            (n, height, workspace, int_literal(SWAPPED_ROWS), one, transposed, int_literal(lanes)),
        )

        def group(j: Value, _: list[Value]) -> list[Value]:
            mask = LaneMask(f, sizes, f.sub(n, j))
            from_, to = f.element(transposed, ty, f.mul(j, height)), f.element(tile, ty, j)

            def row(_: Value, carried: list[Value]) -> list[Value]:
                source, target = carried
                f.masked_store(f.load(source, sizes.vector), target, mask.bits)
                return [f.element(source, ty, lanes), f.element(target, ty, tile_row)]

            f.loop(0, height, 1, [from_, to], row)
            return []

        f.loop(0, n, lanes, [], group)
        call_epilogue(f, epilogue, (context, tile, tile_row, i, f.add(i, height), literal(I64, 0), n))
        return []

    f.loop(0, m, SWAPPED_ROWS, [], block)
    f.ret()


def emit_dots_product(module: Module, sizes: KernelSizes) -> None:
    """Write the product in the dots variant; `flags` says which side is thin."""
    f = module.function(f"adjit_dots_{sizes.suffix}", VOID, PARAMETERS, glue=True)
    m, n, k, a, a_row, a_col, b, b_row, b_col, c, c_row, workspace, flags, _, epilogue, context = f.params
    ty, lanes = sizes.ty, sizes.lanes
    one, zero = literal(I64, 1), literal(I64, 0)
    swap = f.compare("eq", f.binary("and", flags, literal(I64, DOTS_B)), literal(I64, DOTS_B))
    in_scratch = bit(f, flags, SCRATCH)
    accumulate = f.binary("and", flags, literal(I64, ACCUMULATE))

    def chosen(straight: Value, swapped: Value) -> Value:
        return f.select(swap, swapped, straight)

    rows, columns = chosen(m, n), chosen(n, m)
    x, x_row = chosen(a, b), chosen(a_row, b_col)
    w, w_column, w_k = chosen(b, a), chosen(b_col, a_row), chosen(b_row, a_col)
    row_block = f.select(
        f.compare("sgt", columns, literal(I64, 4)), int_literal(sizes.dot_rows), int_literal(sizes.dot_rows * 4)
    )
    # A scratch block is as wide as the block; in C, rows are what they are.
    c_step = f.select(in_scratch, f.select(swap, row_block, n), c_row)
    out_row, out_column = chosen(c_step, one), chosen(one, c_step)

    def packed() -> list[Value]:
        f.call(pack_name(sizes), VOID, (k, columns, w, w_k, w_column, workspace, int_literal(lanes)))
        return [workspace, int_literal(lanes), f.mul(columns, lanes)]

    w, w_column, w_step = f.branch(f.compare("ne", w_k, one), packed, lambda: [w, w_column, int_literal(lanes)])

    def block(i: Value, _: list[Value]) -> list[Value]:
        height = f.minimum(f.sub(rows, i), row_block)
        x_at = f.element(x, ty, f.mul(i, x_row))
        out = f.select(in_scratch, c, f.element(c, ty, f.mul(i, out_row)))

        f.call(
            dots_name(sizes),
            VOID,
            (height, columns, k, x_at, x_row, w, w_column, w_step, out, out_row, out_column, accumulate),
        )
        end = f.add(i, height)
        bounds = (chosen(i, zero), chosen(end, m), chosen(zero, i), chosen(n, end))
        call_epilogue(f, epilogue, (context, out, c_step, *bounds))
        return []

    f.loop(0, rows, row_block, [], block)
    f.ret()
