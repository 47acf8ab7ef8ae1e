"""Products of integers: one plain loop nest, four rows by one vector, wrap-around; any strides by gathers.

The signature is that of the floating products. Integer sums do not depend on their order, so there are no forms.
"""

from __future__ import annotations

import numpy as np

from adjit.codegen.gemm.forms import ACCUMULATE
from adjit.codegen.gemm.macro import PRODUCT, TAIL, bit, call_epilogue
from adjit.codegen.llvm import I64, VOID, Function, Module, Ty, Value, int_literal, literal, register_type
from adjit_runtime.target import Target

ROWS = 4


def integer_name(dtype: np.dtype) -> str:
    """Symbol of the product of one pair of integer matrices."""
    return f"gemm_integer_{_suffix(dtype)}"


def _suffix(dtype: np.dtype) -> str:
    return f"i{dtype.itemsize * 8}"


def emit_integer(module: Module, dtype: np.dtype, target: Target) -> None:
    """Write the product for one integer type."""
    params: tuple[tuple[Ty, str], ...] = ((I64, "batch"), *PRODUCT, *TAIL)
    f = module.function(integer_name(dtype), VOID, params, internal=True)
    batch, m, n, _, a, a_row, _, _, _, b_col, c, c_row, _, flags, epilogue, context = f.params
    ty = register_type(dtype)
    lanes = target.vector_bytes // dtype.itemsize
    unit = f.compare("eq", b_col, literal(I64, 1))

    def strip(j: Value, _: list[Value]) -> list[Value]:
        mask = f.mask_below(lanes, f.sub(n, j))

        def rows(count: int, i: Value) -> None:
            a_at, c_at = f.element(a, ty, f.mul(i, a_row)), f.element(c, ty, f.add(f.mul(i, c_row), j))
            f.branch(
                unit,
                lambda: _tile(f, ty.vector(lanes), count, a_at, c_at, j, mask, unit=True),
                lambda: _tile(f, ty.vector(lanes), count, a_at, c_at, j, mask, unit=False),
            )

        whole = f.binary("and", m, literal(I64, -ROWS))
        f.loop(0, whole, ROWS, [], lambda i, _: (rows(ROWS, i), [])[1])
        f.loop(whole, m, 1, [], lambda i, _: (rows(1, i), [])[1])
        return []

    f.loop(0, n, lanes, [], strip)
    empty = f.binary("or", f.compare("sle", m, literal(I64, 0)), f.compare("sle", n, literal(I64, 0)))
    f.return_if(empty)
    zero = int_literal(0)
    call_epilogue(f, epilogue, (context, batch, c, c_row, zero, m, zero, n))
    f.ret()


def _tile(
    f: Function, vector: Ty, rows: int, a: Value, c: Value, j: Value, mask: Value, *, unit: bool
) -> list[Value]:
    """`rows` x one vector of C, summed over k in registers."""
    _, _, _, k, _, a_row, a_col, b, b_row, b_col, _, c_row, _, flags, _, _ = f.params
    ty, lanes = vector.scalar, vector.lanes
    b = f.element(b, ty, f.mul(j, b_col))
    spread = vector.with_kind("i", 64)
    lane_offsets = f.binary("mul", f.iota(spread), f.splat(b_col, lanes)) if not unit else None

    def step(_: Value, carried: list[Value]) -> list[Value]:
        a_at, b_at, *sums = carried
        row = (
            f.masked_load(b_at, vector, mask)
            if lane_offsets is None
            else f.gather(b_at, vector, lane_offsets, mask)
        )
        for r in range(rows):
            scalar = f.splat(f.load(f.element(a_at, ty, f.mul(a_row, r)), ty), lanes)
            sums[r] = f.binary("add", sums[r], f.binary("mul", scalar, row))
        return [f.element(a_at, ty, a_col), f.element(b_at, ty, b_row), *sums]

    _, _, *sums = f.loop(0, k, 1, [a, b, *[literal(vector, 0)] * rows], step)
    places = [f.element(c, ty, f.mul(c_row, r)) for r in range(rows)]
    sums = f.branch(
        bit(f, flags, ACCUMULATE),
        lambda: [f.binary("add", f.masked_load(p, vector, mask), s) for p, s in zip(places, sums, strict=True)],
        lambda: sums,
    )
    for place, value in zip(places, sums, strict=True):
        f.masked_store(value, place, mask)
    return []
