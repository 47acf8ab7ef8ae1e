"""Products of integers: one plain loop nest, four rows by one vector, wrap-around; any strides by gathers.

The signature is that of the floating products. Integer sums do not depend on their order, so there are no variants.
"""

from __future__ import annotations

import numpy as np

from adjit.codegen.gemm.macro import PARAMETERS, bit, call_epilogue
from adjit.codegen.gemm.variants import ACCUMULATE
from adjit.codegen.llvm import I64, VOID, Function, Module, Ty, Value, int_literal, literal, register_type
from adjit.ir.types import dtype_name
from adjit.tuned import INTEGER_TILE_ROWS
from adjit_runtime.target import Target


def emit_integer(module: Module, dtype: np.dtype, target: Target) -> None:
    """Write the product for one integer type."""
    f = module.function(f"adjit_gemm_{dtype_name(dtype)}", VOID, PARAMETERS)
    m, n, _, a, a_row, _, _, _, b_col, c, c_row, _, _, _, epilogue, context = f.params
    ty = register_type(dtype)
    lanes = target.vector_bytes // dtype.itemsize
    unit = f.compare("eq", b_col, literal(I64, 1))

    def strip(j: Value, _: list[Value]) -> list[Value]:
        mask = f.mask_below(lanes, f.sub(n, j))

        def rows(i: Value, _: list[Value]) -> list[Value]:
            # Rows beyond the end stand for the last one again: all of a tile is read before any of it is written.
            numbers = [f.minimum(f.add(i, r), f.sub(m, 1)) for r in range(INTEGER_TILE_ROWS)]
            a_rows = [f.element(a, ty, f.mul(number, a_row)) for number in numbers]
            c_rows = [f.element(c, ty, f.add(f.mul(number, c_row), j)) for number in numbers]
            return f.branch(
                unit,
                lambda: _tile(f, ty.vector(lanes), a_rows, c_rows, j, mask, unit=True),
                lambda: _tile(f, ty.vector(lanes), a_rows, c_rows, j, mask, unit=False),
            )

        f.loop(0, m, INTEGER_TILE_ROWS, [], rows)
        return []

    f.loop(0, n, lanes, [], strip)
    empty = f.binary("or", f.compare("sle", m, literal(I64, 0)), f.compare("sle", n, literal(I64, 0)))
    f.return_if(empty)
    zero = int_literal(0)
    call_epilogue(f, epilogue, (context, c, c_row, zero, m, zero, n))
    f.ret()


def _tile(
    f: Function, vector: Ty, a_rows: list[Value], c_rows: list[Value], j: Value, mask: Value, *, unit: bool
) -> list[Value]:
    """A few rows x one vector of C, summed over k in registers."""
    _, _, k, _, _, a_col, b, b_row, b_col, _, _, _, flags, *_ = f.params
    ty, lanes = vector.scalar, vector.lanes
    b = f.element(b, ty, f.mul(j, b_col))
    spread = vector.with_kind("i", 64)
    lane_offsets = f.binary("mul", f.iota(spread), f.splat(b_col, lanes)) if not unit else None

    def step(_: Value, carried: list[Value]) -> list[Value]:
        at, b_at, *sums = carried
        row = f.masked_load(b_at, vector, mask) if lane_offsets is None else f.gather(b_at, vector, lane_offsets, mask)
        for r, a_row in enumerate(a_rows):
            scalar = f.splat(f.load(f.element(a_row, ty, at), ty), lanes)
            sums[r] = f.binary("add", sums[r], f.binary("mul", scalar, row))
        return [f.add(at, a_col), f.element(b_at, ty, b_row), *sums]

    _, _, *sums = f.loop(0, k, 1, [int_literal(0), b, *[literal(vector, 0)] * len(a_rows)], step)
    sums = f.branch(
        bit(f, flags, ACCUMULATE),
        lambda: [f.binary("add", f.masked_load(p, vector, mask), s) for p, s in zip(c_rows, sums, strict=True)],
        lambda: sums,
    )
    for place, value in zip(c_rows, sums, strict=True):
        f.masked_store(value, place, mask)
    return []
