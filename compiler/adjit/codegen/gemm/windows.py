"""A product whose sums are loops around k, as those of windows are: operands are read where they lie, not packed.

    void adjit_windows_f32(m, n, k, a, a_row, a_col, line, a_line, b, b_row, c, c_row, runs, flags, epilogue, context)

B has unit column stride. Rows come in lines of `line` rows, in A `a_row` elements apart, the lines `a_line`; in C all
rows have one stride, and a block has whole lines where there are several. `runs` points to three times (count, stride
of A, stride of B) in elements: each element of C is the sum over all of these, and over k, of A and B moved on by the
strides. With each turn of the first loop sums are added to C, in order; those of the others and of k are one chain of
fused multiply-adds from zero. So parts of C have the bits of the whole. Flags and epilogue are those of `adjit_gemm`; a
block of C has all n columns.
"""

from __future__ import annotations

from adjit.codegen.gemm.macro import bit, call_epilogue
from adjit.codegen.gemm.microkernel import LaneMask, Sums, write_tile
from adjit.codegen.gemm.variants import ACCUMULATE, SCRATCH, KernelSizes
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Value, int_literal, literal
from adjit.schedule.work import Product

PARAMETERS = (
    (I64, "m"),
    (I64, "n"),
    (I64, "k"),
    (PTR, "a"),
    (I64, "a_row"),
    (I64, "a_col"),
    (I64, "line"),
    (I64, "a_line"),
    (PTR, "b"),
    (I64, "b_row"),
    (PTR, "c"),
    (I64, "c_row"),
    (PTR, "runs"),
    (I64, "flags"),
    (PTR, "epilogue"),
    (PTR, "context"),
)
PANEL_PARAMETERS = (
    *((I64, f"{name}{level}") for level in range(Product.RUNS - 1) for name in ("count", "a_run", "b_run")),
    (I64, "m"),
    (I64, "k"),
    (PTR, "a"),
    (I64, "a_row"),
    (I64, "a_k"),
    (I64, "line"),
    (I64, "a_line"),
    (PTR, "b"),
    (I64, "b_row"),
    (PTR, "c"),
    (I64, "c_row"),
    (I64, "add"),
    (I64, "width"),
)


def emit_windows(module: Module, sizes: KernelSizes) -> None:
    """Write `adjit_windows`."""
    variants = _variants(sizes)
    for vectors, masked in variants:
        _emit_panel(module, sizes, vectors, masked)
    f = module.function(f"adjit_windows_{sizes.suffix}", VOID, PARAMETERS)
    m, n, k, a, a_row, a_col, line, a_line, b, b_row, c, c_row, runs, flags, epilogue, context = f.params
    ty, one, zero = sizes.ty, literal(I64, 1), literal(I64, 0)
    f.return_if(f.compare("sle", f.minimum(m, n), zero))
    count, a_run, b_run, *inner = (f.load(f.element(runs, I64, i), I64) for i in range(3 * Product.RUNS))
    in_scratch = bit(f, flags, SCRATCH)
    tile_row = f.select(in_scratch, n, c_row)
    accumulate = f.binary("and", flags, literal(I64, ACCUMULATE))
    several = f.compare("slt", line, m)
    unit = f.select(several, line, int_literal(sizes.rows))
    units = f.binary("udiv", int_literal(sizes.block), f.mul(n, unit))
    height = f.mul(f.intrinsic("smax", I64, (units, one)), unit)
    a_unit = f.select(several, a_line, f.mul(a_row, unit))

    def block(i: Value, _: list[Value]) -> list[Value]:
        rows = f.minimum(f.sub(m, i), height)
        tile = f.select(in_scratch, c, f.element(c, ty, f.mul(i, c_row)))

        def run(number: Value, carried: list[Value]) -> list[Value]:
            a_at, b_at = carried
            add = f.select(f.compare("eq", number, zero), accumulate, one)

            def panel(j: Value, _: list[Value]) -> list[Value]:
                width = f.minimum(f.sub(n, j), int_literal(sizes.columns))
                places = f.element(b_at, ty, j), b_row, f.element(tile, ty, j), tile_row
                own = (rows, k, a_at, a_row, a_col, line, a_line, *places, add, width)
                _call_panel(f, sizes, variants, (*inner, *own))
                return []

            f.loop(0, n, sizes.columns, [], panel)
            return [f.element(a_at, ty, a_run), f.element(b_at, ty, b_run)]

        f.loop(0, count, 1, [f.element(a, ty, f.mul(f.binary("udiv", i, unit), a_unit)), b], run)
        call_epilogue(f, epilogue, (context, tile, tile_row, i, f.add(i, rows), zero, n))
        return []

    f.loop(0, m, height, [], block)
    f.ret()


def _panel_name(sizes: KernelSizes, vectors: int, masked: bool) -> str:
    return f"windows_panel_{sizes.suffix}_{vectors}{'m' * masked}"


def _emit_panel(module: Module, sizes: KernelSizes, vectors: int, masked: bool) -> None:
    """Write the function of a panel: m rows of so many vectors, of which the last one may have a mask.

    Rows go by whole tiles, and by half ones. The last tile reaches back over rows that are done, which it computes once
    more and writes beside: so there are no tiles of one or two rows, too few for the latency of an addition."""
    f = module.function(_panel_name(sizes, vectors, masked), VOID, PANEL_PARAMETERS, internal=True)
    *run, m, k, a, a_row, a_k, line, a_line, b, b_row, c, c_row, add, width = f.params
    ty = sizes.ty
    last = LaneMask(f, sizes, f.sub(width, (vectors - 1) * sizes.lanes)) if masked else None
    sums = Sums(k, a_k, b, b_row, ((run[0], run[1], run[2]), (run[3], run[4], run[5])))
    whole = sizes.rows * (2 if vectors == 1 else 1)
    half = whole // 2
    beside = f.alloca(sizes.vector, vectors)

    # From the last row of a line to the first of the next one.
    turn = f.sub(a_line, f.mul(a_row, f.sub(line, 1)))

    def offsets_from(first: Value, rows: int) -> list[Value]:
        """How far the rows of a tile are from the start of A."""
        number = f.binary("udiv", first, line)
        left = f.sub(line, f.sub(first, f.mul(number, line)))
        offset = f.add(f.mul(number, a_line), f.mul(a_row, f.sub(line, left)))
        found = [offset]
        for _ in range(rows - 1):
            left = f.sub(left, 1)
            ends = f.compare("eq", left, int_literal(0))
            offset = f.add(offset, f.select(ends, turn, a_row))
            left = f.select(ends, line, left)
            found.append(offset)
        return found

    def tiles(rows: int, start: Value, stop: Value) -> None:
        def tile(i: Value, _: list[Value]) -> list[Value]:
            first = f.minimum(i, f.sub(m, rows))
            done = f.sub(i, first)
            at = f.element(c, ty, f.mul(c_row, first))
            places = [f.element(at, ty, f.mul(c_row, r)) for r in range(rows)]
            places = [f.select(f.compare("slt", int_literal(r), done), beside, place) for r, place in enumerate(places)]
            write_tile(f, sizes, vectors, last, a, offsets_from(first, rows), places, sums, add)
            return []

        f.loop(start, stop, rows, [], tile)

    def few() -> list[Value]:
        numbers = [f.minimum(int_literal(r), f.sub(m, 1)) for r in range(half)]
        offsets = [offsets_from(r, 1)[0] for r in numbers]
        places = [f.element(c, ty, f.mul(c_row, r)) for r in numbers]
        write_tile(f, sizes, vectors, last, a, offsets, places, sums, add)
        return []

    def many() -> list[Value]:
        rest = f.binary("urem", m, int_literal(whole))
        reaches_back = f.binary(
            "and", f.compare("sgt", rest, int_literal(half)), f.compare("sge", m, int_literal(whole))
        )
        stop = f.select(reaches_back, m, f.sub(m, rest))
        tiles(whole, int_literal(0), stop)
        tiles(half, stop, m)
        return []

    f.branch(f.compare("slt", m, int_literal(half)), few, many)
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
        f.call(_panel_name(sizes, vectors, masked), VOID, arguments)
        return []

    def others() -> list[Value]:
        _call_panel(f, sizes, wider, arguments)
        return []

    if not wider:
        call()
        return
    most = vectors * sizes.lanes - (0 if wider[0][0] > vectors else 1)
    f.branch(f.compare("sle", arguments[-1], int_literal(most)), call, others)
