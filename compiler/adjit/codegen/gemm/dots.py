"""Thin products by dot products along k: C[i, j] = x_i . w_j, where the rows x_i and w_j are contiguous in k.

    void dots(rows, columns, k, x, x_row, w, w_column, w_step, out, out_row, out_column, add)

`w_step` is how far w moves on while k moves on by one vector: the vector's lanes, or more where w was packed.
An element's sum: each lane a chain of multiply-adds over its share of k, then lanes folded in halves. Tiles do not
enter, so neither do cuts of rows or columns.
"""

from __future__ import annotations

from collections.abc import Sequence

from adjit.codegen.gemm.microkernel import LaneMask, multiply_add
from adjit.codegen.gemm.variants import KernelSizes
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Value, int_literal, literal
from adjit.tuned import DOTS_PREFETCH_BYTES, DOTS_REST_APART, DOTS_SQUARE, DOTS_TILE_COLUMNS, DOTS_TILE_ROWS


def dots_name(sizes: KernelSizes) -> str:
    """Symbol of the function."""
    return f"dots_{sizes.suffix}"


def fold(f: Function, sums: Sequence[Value]) -> list[Value]:
    """The sum of each vector's lanes, as scalars: halves are added until one is left, several vectors at a time."""
    vectors, width = list(sums), sums[0].ty.lanes
    while width > 1:
        half = width // 2
        pairs: list[tuple[Value, Value | None]]
        if len(vectors) % 2 and len(vectors) > 1:
            vectors.append(vectors[-1])
        pairs = [(vectors[0], None)] if len(vectors) == 1 else list(zip(vectors[::2], vectors[1::2], strict=True))
        vectors = []
        for a, b in pairs:
            starts = range(0, a.ty.lanes * (1 if b is None else 2), width)
            low = [start + lane for start in starts for lane in range(half)]
            first, second = f.shuffle(a, b, low), f.shuffle(a, b, [lane + half for lane in low])
            vectors.append(f.binary("fadd", first, second))
        width = half
    folded = [f.extract(vector, lane) for vector in vectors for lane in range(vector.ty.lanes)]
    return folded[: len(sums)]


def _store(f: Function, sizes: KernelSizes, values: Sequence[Value], places: Sequence[Value], add: Value) -> None:
    accumulate = f.compare("ne", add, literal(I64, 0))
    added = f.branch(
        accumulate,
        lambda: [f.binary("fadd", f.load(p, sizes.ty), v) for p, v in zip(places, values, strict=True)],
        lambda: values,
    )
    for value, place in zip(added, places, strict=True):
        f.store(value, place)


def emit_dots(module: Module, sizes: KernelSizes) -> None:
    """Write `dots`: where there are registers for them, squares of `DOTS_SQUARE` if they fill the columns; else blocks
    of `DOTS_TILE_ROWS` by `DOTS_TILE_COLUMNS`.

    Rows and columns beyond the end stand for the last one again: what is computed twice is the same, and all of a tile
    is read before any of it is written."""
    parameters = (
        *((I64, "rows"), (I64, "columns"), (I64, "k"), (PTR, "x"), (I64, "x_row")),
        *((PTR, "w"), (I64, "w_column"), (I64, "w_step")),
        *((PTR, "out"), (I64, "out_row"), (I64, "out_column"), (I64, "add")),
    )
    f = module.function(dots_name(sizes), VOID, parameters, internal=True)
    _, columns, *_ = f.params
    height, widths = DOTS_TILE_ROWS[sizes.registers], DOTS_TILE_COLUMNS[sizes.registers]
    square = DOTS_SQUARE.get(sizes.registers)
    if square is None:
        _dots_strips(f, sizes, height, widths)
    else:
        fills = f.compare("eq", f.binary("urem", columns, literal(I64, square)), literal(I64, 0))
        f.branch(
            fills,
            lambda: _dots_strips(f, sizes, square, (square,)),
            lambda: _dots_strips(f, sizes, height, widths),
        )
    f.ret()


def _dots_strips(f: Function, sizes: KernelSizes, height: int, widths: Sequence[int]) -> list[Value]:
    """Strips of `height` rows, cut into blocks of the first of `widths` while there are so many columns, then of the
    next."""
    rows, columns, _, _, x_row, *_ = f.params
    far = f.compare("sgt", f.mul(rows, x_row), int_literal(DOTS_PREFETCH_BYTES // sizes.dtype.itemsize))

    def strip(i: Value, _: list[Value]) -> list[Value]:
        numbers = [f.minimum(f.add(i, r), f.sub(rows, 1)) for r in range(height)]
        following = [f.minimum(f.add(number, height), f.sub(rows, 1)) for number in numbers]
        done = int_literal(0)
        for width in widths:
            whole = columns if width == widths[-1] else f.binary("and", columns, literal(I64, -width))

            def tile(j: Value, _: list[Value], width: int = width) -> list[Value]:
                chosen = [f.minimum(f.add(j, c), f.sub(columns, 1)) for c in range(width)]

                first = f.binary("and", far, f.compare("eq", j, literal(I64, 0)))
                _dots_tile(f, sizes, numbers, chosen, (first, following) if width == widths[0] else None)
                return []

            f.loop(done, whole, width, [], tile)
            done = whole
        return []

    f.loop(0, rows, height, [], strip)
    return []


def _dots_tile(
    f: Function, sizes: KernelSizes, rows: list[Value], columns: list[Value], ahead: tuple[Value, list[Value]] | None
) -> None:
    """One tile over all of k. `ahead`: whether to prefetch rows meanwhile, and which."""
    _, _, k, x, x_row, w, w_column, w_step, out, out_row, out_column, add = f.params
    ty, lanes, vector = sizes.ty, sizes.lanes, sizes.vector
    x_rows = [f.element(x, ty, f.mul(row, x_row)) for row in rows]
    w_rows = [f.mul(column, w_column) for column in columns]
    sums = [literal(vector, 0)] * (len(rows) * len(columns))
    # A mask takes two registers, which the largest tiles do not have: there it is made for the rest alone.
    apart = not sizes.masks or len(sums) >= DOTS_REST_APART
    whole = f.binary("and", k, literal(I64, -lanes)) if apart else k

    def products(p: Value, carried: list[Value], mask: LaneMask | None) -> list[Value]:
        w_at, *sums = carried

        def load(pointer: Value) -> Value:
            return f.load(pointer, vector) if mask is None else f.masked_load(pointer, vector, mask.bits)

        w_vectors = [load(f.element(w_at, ty, row)) for row in w_rows]
        for r, x_at in enumerate(x_rows):
            x_vector = load(f.element(x_at, ty, p))
            for c, w_vector in enumerate(w_vectors):
                place = r * len(columns) + c
                sums[place] = multiply_add(f, sizes, x_vector, w_vector, sums[place])
        return [f.element(w_at, ty, w_step), *sums]

    def over_k(later: list[Value]) -> list[Value]:
        places = [f.element(x, ty, f.mul(row, x_row)) for row in later]

        def vectors(p: Value, now: list[Value]) -> list[Value]:
            for place in places:
                f.prefetch(f.element(place, ty, p), 2)
            return products(p, now, None if apart else LaneMask(f, sizes, f.sub(k, p)))

        return f.loop(0, whole, lanes, [w, *sums], vectors)

    if ahead is None:
        carried = over_k([])
    else:
        flag, later = ahead
        carried = f.branch(flag, lambda: over_k(later), lambda: over_k([]))
    if apart:
        rest, last = f.sub(k, whole), carried
        carried = f.branch(
            f.compare("sgt", rest, literal(I64, 0)),
            lambda: products(whole, last, LaneMask(f, sizes, rest)),
            lambda: last,
        )
    places = [
        f.element(out, ty, f.add(f.mul(row, out_row), f.mul(column, out_column))) for row in rows for column in columns
    ]
    _store(f, sizes, fold(f, carried[1:]), places, add)
