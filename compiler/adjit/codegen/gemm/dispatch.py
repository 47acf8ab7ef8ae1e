"""Which function computes a product: by the form in `flags`, or by `choose`, and by what is fast for these strides.

    void gemm(batch, m, n, k, a, a_row, a_col, b, b_row, b_col, c, c_row, workspace, flags, epilogue, context)

`choose` is `forms.choose_form` on run-time values; both follow the same lines in the same order; a test compares them.
"""

from __future__ import annotations

from adjit.codegen.gemm.forms import (
    ACCUMULATE,
    DOTS_A,
    DOTS_B,
    FORM_MASK,
    SCRATCH,
    SINGLE,
    TILES,
    Tiles,
)
from adjit.codegen.gemm.macro import at_least, bit, both, call_epilogue, call_panel, tiles_name
from adjit.codegen.gemm.thin import PARAMETERS, dots_product_name, row_product_name, swapped_name
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Value, int_literal, literal
from adjit.tuned import GEMM_SMALL_ROWS, THIN_COLUMNS, THIN_PACKED_COLUMNS, THIN_PACKED_SUMS, THIN_SUMS


def gemm_name(tiles: Tiles) -> str:
    """Symbol of the product of one pair of matrices."""
    return f"gemm_{tiles.suffix}"


def emit_gemm(module: Module, tiles: Tiles) -> None:
    """Write the dispatch."""
    f = module.function(gemm_name(tiles), VOID, PARAMETERS, internal=True)
    batch, m, n, k, a, a_row, a_col, b, b_row, b_col, c, c_row, workspace, flags, epilogue, context = f.params
    one = literal(I64, 1)
    empty = f.compare("sle", f.minimum(m, n), literal(I64, 0))
    f.return_if(empty)
    single_row, single_column = f.compare("eq", m, one), f.compare("eq", n, one)
    a_row, b_col = f.select(single_row, one, a_row), f.select(single_column, one, b_col)
    form = f.branch(
        bit(f, flags, FORM_MASK),
        lambda: [flags],
        lambda: [f.binary("or", flags, _choose(f, tiles, m, n, k, a_row, a_col, b_row, b_col))],
    )[0]
    arguments = (
        *(batch, m, n, k, a, a_row, a_col, b, b_row, b_col),
        *(c, c_row, workspace, form, epilogue, context),
    )

    def call(name: str) -> list[Value]:
        f.call(name, VOID, arguments)
        return []

    def in_tiles() -> list[Value]:
        unit_b, unit_a = f.compare("eq", b_col, one), f.compare("eq", a_row, one)
        unit_c = f.binary("or", f.compare("eq", c_row, one), bit(f, flags, SCRATCH))
        row = f.binary("or", both(f, single_row, unit_b), both(f, single_column, unit_a, unit_c))
        swap = both(
            f,
            unit_a,
            f.compare("sle", n, int_literal(min(THIN_COLUMNS, tiles.columns - 1))),
            at_least(f, m, tiles.columns),
        )
        # In place, one block of k and of C: nothing but panels.
        small = both(
            *(f, unit_b, f.compare("sle", m, int_literal(GEMM_SMALL_ROWS))),
            *(f.compare("sle", n, int_literal(tiles.small_columns)), f.compare("sle", k, int_literal(tiles.kc))),
        )

        def tiled() -> list[Value]:
            f.branch(small, lambda: _panels(f, tiles), lambda: call(tiles_name(tiles)))
            return []

        f.branch(
            row,
            lambda: call(row_product_name(tiles)),
            lambda: f.branch(swap, lambda: call(swapped_name(tiles)), tiled),
        )
        return []

    f.branch(bit(f, form, DOTS_A), lambda: call(dots_product_name(tiles)), in_tiles)
    f.ret()


def _panels(f: Function, tiles: Tiles) -> list[Value]:
    """A small product in the form of tiles with unit b_col: the panels, then one epilogue."""
    batch, m, n, k, a, a_row, a_col, b, b_row, _, c, c_row, _, flags, epilogue, context = f.params
    tile_row = f.select(bit(f, flags, SCRATCH), n, c_row)
    add = f.binary("and", flags, literal(I64, ACCUMULATE))
    a_step = f.mul(a_row, tiles.rows)

    def panel(j: Value, _: list[Value]) -> list[Value]:
        width = f.minimum(f.sub(n, j), int_literal(tiles.columns))
        places = f.element(b, tiles.ty, j), b_row, f.element(c, tiles.ty, j), tile_row
        call_panel(f, tiles, (m, k, a, a_row, a_col, a_step, *places, literal(PTR, 0), add, width))
        return []

    f.loop(0, n, tiles.columns, [], panel)
    zero = literal(I64, 0)
    call_epilogue(f, epilogue, (context, batch, c, tile_row, zero, m, zero, n))
    return []


def _choose(
    f: Function, tiles: Tiles, m: Value, n: Value, k: Value, a_row: Value, a_col: Value, b_row: Value, b_col: Value
) -> Value:
    """`forms.choose_form`, with unit a_row where m = 1 and unit b_col where n = 1."""
    one = literal(I64, 1)

    def unit(stride: Value) -> Value:
        return f.compare("eq", stride, one)

    def at_most(value: Value, bound: int) -> Value:
        return f.compare("sle", value, int_literal(bound))

    def side(x: Value, w: Value, w_other: Value, thin: Value, rows: Value) -> Value:
        plain = both(f, unit(w), at_most(thin, THIN_COLUMNS))
        packed = both(
            f,
            unit(w_other),
            at_most(thin, THIN_PACKED_COLUMNS),
            at_least(f, rows, THIN_PACKED_COLUMNS),
            at_most(k, THIN_PACKED_SUMS),
        )
        return both(f, unit(x), f.binary("or", plain, packed))

    deep = at_least(f, k, THIN_SUMS)
    first = both(f, deep, side(a_col, b_row, b_col, n, m))
    second = both(f, deep, side(b_row, a_col, a_row, m, n))

    def with_single(form: int, thin: Value) -> Value:
        return f.select(f.compare("eq", thin, one), literal(I64, form | SINGLE), literal(I64, form))

    otherwise = f.select(second, with_single(DOTS_B, m), literal(I64, TILES))
    return f.select(first, with_single(DOTS_A, n), otherwise)
