"""Which function computes a product: by the form in `flags`, and by what is fast for these strides.

void gemm(batch, m, n, k, a, a_row, a_col, b, b_row, b_col, c, c_row, workspace, flags, epilogue, context)
"""

from __future__ import annotations

from adjit.codegen.gemm.forms import (
    ACCUMULATE,
    DOTS_A,
    SCRATCH,
    Tiles,
)
from adjit.codegen.gemm.macro import at_least, bit, both, call_epilogue, call_panel, tiles_name
from adjit.codegen.gemm.thin import PARAMETERS, dots_product_name, swapped_name
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Value, int_literal, literal
from adjit.tuned import GEMM_SMALL_ROWS, THIN_COLUMNS


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
    a_row = f.select(f.compare("eq", m, one), one, a_row)
    b_col = f.select(f.compare("eq", n, one), one, b_col)
    arguments = (
        *(batch, m, n, k, a, a_row, a_col, b, b_row, b_col),
        *(c, c_row, workspace, flags, epilogue, context),
    )

    def call(name: str) -> list[Value]:
        f.call(name, VOID, arguments)
        return []

    def in_tiles() -> list[Value]:
        unit_b, unit_a = f.compare("eq", b_col, one), f.compare("eq", a_row, one)
        swap = both(
            f,
            unit_a,
            f.compare("sle", n, int_literal(min(THIN_COLUMNS, tiles.columns - 1))),
            at_least(f, m, tiles.columns),
        )
        # In place, one block of k and of C: nothing but panels.
        small = both(
            *(f, unit_b, f.compare("sle", m, int_literal(GEMM_SMALL_ROWS))),
            *(f.compare("sle", f.mul(m, n), int_literal(tiles.block)), f.compare("sle", k, int_literal(tiles.kc))),
        )

        def tiled() -> list[Value]:
            f.branch(small, lambda: _panels(f, tiles), lambda: call(tiles_name(tiles)))
            return []

        f.branch(swap, lambda: call(swapped_name(tiles)), tiled)
        return []

    f.branch(bit(f, flags, DOTS_A), lambda: call(dots_product_name(tiles)), in_tiles)
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
