"""A product whose sums are loops around k, as those of windows are: operands are read where they lie, not packed.

    void adjit_windows_f32(m, n, k, a, a_row, a_col, b, b_row, c, c_row, runs, flags, epilogue, context)

B has unit column stride. `runs` points to three times (count, stride of A, stride of B) in elements: each element of C
is the sum over all of these, and over k, of A and B moved on by the strides. With each turn of the first loop sums are
added to C, in order; those of the others and of k are one chain of fused multiply-adds from zero. So parts of C have
the bits of the whole. Flags and epilogue are those of `adjit_gemm`; a block of C has all n columns.
"""

from __future__ import annotations

from adjit.codegen.gemm.macro import bit, call_epilogue
from adjit.codegen.gemm.microkernel import emit_panel, panel_name
from adjit.codegen.gemm.variants import ACCUMULATE, SCRATCH, KernelSizes
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Value, int_literal, literal

PARAMETERS = (
    (I64, "m"),
    (I64, "n"),
    (I64, "k"),
    (PTR, "a"),
    (I64, "a_row"),
    (I64, "a_col"),
    (PTR, "b"),
    (I64, "b_row"),
    (PTR, "c"),
    (I64, "c_row"),
    (PTR, "runs"),
    (I64, "flags"),
    (PTR, "epilogue"),
    (PTR, "context"),
)
RUNS = 3
"""Loops around k."""


def emit_windows(module: Module, sizes: KernelSizes) -> None:
    """Write `adjit_windows`."""
    variants = _variants(sizes)
    for vectors, masked in variants:
        emit_panel(module, sizes, vectors, masked=masked, runs=True)
    f = module.function(f"adjit_windows_{sizes.suffix}", VOID, PARAMETERS)
    m, n, k, a, a_row, a_col, b, b_row, c, c_row, runs, flags, epilogue, context = f.params
    ty, one, zero = sizes.ty, literal(I64, 1), literal(I64, 0)
    f.return_if(f.compare("sle", f.minimum(m, n), zero))
    count, a_run, b_run, *inner = (f.load(f.element(runs, I64, i), I64) for i in range(3 * RUNS))
    in_scratch = bit(f, flags, SCRATCH)
    tile_row = f.select(in_scratch, n, c_row)
    accumulate = f.binary("and", flags, literal(I64, ACCUMULATE))
    tiles = f.binary("udiv", int_literal(sizes.block // sizes.rows), n)
    height = f.mul(f.intrinsic("smax", I64, (tiles, one)), sizes.rows)
    a_step = f.mul(a_row, sizes.rows)

    def block(i: Value, _: list[Value]) -> list[Value]:
        rows = f.minimum(f.sub(m, i), height)
        tile = f.select(in_scratch, c, f.element(c, ty, f.mul(i, c_row)))

        def run(number: Value, carried: list[Value]) -> list[Value]:
            a_at, b_at = carried
            add = f.select(f.compare("eq", number, zero), accumulate, one)

            def panel(j: Value, _: list[Value]) -> list[Value]:
                width = f.minimum(f.sub(n, j), int_literal(sizes.columns))
                places = f.element(b_at, ty, j), b_row, f.element(tile, ty, j), tile_row
                own = (rows, k, a_at, a_row, a_col, a_step, *places, literal(PTR, 0), add, width)
                _call_panel(f, sizes, variants, (*inner, *own))
                return []

            f.loop(0, n, sizes.columns, [], panel)
            return [f.element(a_at, ty, a_run), f.element(b_at, ty, b_run)]

        f.loop(0, count, 1, [f.element(a, ty, f.mul(i, a_row)), b], run)
        call_epilogue(f, epilogue, (context, tile, tile_row, i, f.add(i, rows), zero, n))
        return []

    f.loop(0, m, height, [], block)
    f.ret()


def _variants(sizes: KernelSizes) -> list[tuple[int, bool]]:
    """The panels' numbers of vectors, and whether the last vector has a mask; the narrowest first."""
    masked = [(vectors, True) for vectors in range(1, sizes.vectors + 1)]
    return masked if sizes.masks else [*masked, (sizes.vectors, False)]


def _call_panel(
    f: Function, sizes: KernelSizes, variants: list[tuple[int, bool]], arguments: tuple[Value, ...]
) -> None:
    """Call the panel function that fits the width, the last argument."""
    (vectors, masked), *wider = variants

    def call() -> list[Value]:
        f.call(panel_name(sizes, vectors, masked=masked, runs=True), VOID, arguments)
        return []

    def others() -> list[Value]:
        _call_panel(f, sizes, wider, arguments)
        return []

    if not wider:
        call()
        return
    most = vectors * sizes.lanes - (0 if wider[0][0] > vectors else 1)
    f.branch(f.compare("sle", arguments[-1], int_literal(most)), call, others)
