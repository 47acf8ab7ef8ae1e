"""A product in the tiles variant: where it is small nothing but panels, else the loops of macro.py."""

from __future__ import annotations

from adjit.codegen.gemm.macro import PARAMETERS, bit, both, call_epilogue, call_panel, tiles_name
from adjit.codegen.gemm.variants import ACCUMULATE, SCRATCH, KernelSizes
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Value, int_literal, literal
from adjit.tuned import GEMM_SMALL_ROWS


def emit_gemm(module: Module, sizes: KernelSizes) -> None:
    """Write `adjit_gemm`."""
    f = module.function(f"adjit_gemm_{sizes.suffix}", VOID, PARAMETERS)
    m, n, k, _, _, _, _, _, b_col, *_ = f.params
    empty = f.compare("sle", f.minimum(m, n), literal(I64, 0))
    f.return_if(empty)

    def in_blocks() -> list[Value]:
        f.call(tiles_name(sizes), VOID, f.params)
        return []

    # In place, one block of k and of C.
    small = both(
        *(f, f.compare("eq", b_col, literal(I64, 1)), f.compare("sle", m, int_literal(GEMM_SMALL_ROWS))),
        *(f.compare("sle", f.mul(m, n), int_literal(sizes.block)), f.compare("sle", k, int_literal(sizes.kc))),
    )
    f.branch(small, lambda: _panels(f, sizes), in_blocks)
    f.ret()


def _panels(f: Function, sizes: KernelSizes) -> list[Value]:
    """A small product with unit b_col: the panels, then one epilogue."""
    m, n, k, a, a_row, a_col, b, b_row, _, c, c_row, _, flags, edge, epilogue, context = f.params
    tile_row = f.select(bit(f, flags, SCRATCH), n, c_row)
    add = f.binary("and", flags, literal(I64, ACCUMULATE))
    a_step, null = f.mul(a_row, sizes.rows), literal(PTR, 0)

    def panel(j: Value, _: list[Value]) -> list[Value]:
        width = f.minimum(f.sub(n, j), int_literal(sizes.columns))
        places = f.element(b, sizes.ty, j), b_row, f.element(c, sizes.ty, j), tile_row
        call_panel(f, sizes, edge, (m, k, a, a_row, a_col, a_step, *places, null, null, add, width))
        return []

    f.loop(0, n, sizes.columns, [], panel)
    zero = literal(I64, 0)
    call_epilogue(f, epilogue, (context, c, tile_row, zero, m, zero, n))
    return []
