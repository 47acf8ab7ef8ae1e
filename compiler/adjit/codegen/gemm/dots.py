"""Thin products by dot products along k: C[i, j] = x_i . w_j, where the rows x_i and w_j are contiguous in k.

    void dots(rows, columns, k, x, x_row, w, w_column, w_step, out, out_row, out_column, add)
    void dot(rows, k, x, x_row, w, out, out_row, add)

`w_step` is how far w moves on while k moves on by one vector: the vector's lanes, or more where w was packed.
An element's sum: each lane a chain of multiply-adds over its share of k (in `dot` four such chains, every fourth vector
each, while there are four), then lanes folded in halves. Tiles do not enter, so neither do cuts of rows or columns.
"""

from __future__ import annotations

from collections.abc import Sequence

from adjit.codegen.gemm.forms import Tiles
from adjit.codegen.gemm.microkernel import LaneMask, multiply_add
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Value, int_literal, literal

TILE = 4
CHAINS = 4
MASKED_SUMS = 20
"""Sums from which a mask, which takes two registers, is made for the rest alone; below, one loop is less code."""


def dots_name(tiles: Tiles) -> str:
    """Symbol of the products of several columns."""
    return f"dots_{tiles.suffix}"


def dot_name(tiles: Tiles) -> str:
    """Symbol of the product of one column."""
    return f"dot_{tiles.suffix}"


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


def _store(f: Function, tiles: Tiles, values: Sequence[Value], places: Sequence[Value], add: Value) -> None:
    accumulate = f.compare("ne", add, literal(I64, 0))
    added = f.branch(
        accumulate,
        lambda: [f.binary("fadd", f.load(p, tiles.ty), v) for p, v in zip(places, values, strict=True)],
        lambda: values,
    )
    for value, place in zip(added, places, strict=True):
        f.store(value, place)


def emit_dots(module: Module, tiles: Tiles) -> None:
    """Write `dots`: blocks of five rows by five columns where fives fill the columns, else of four by four, the rest of
    the columns by two.

    Rows and columns beyond the end stand for the last one again: what is computed twice is the same, and all of a tile
    is read before any of it is written."""
    parameters = (
        *((I64, "rows"), (I64, "columns"), (I64, "k"), (PTR, "x"), (I64, "x_row")),
        *((PTR, "w"), (I64, "w_column"), (I64, "w_step")),
        *((PTR, "out"), (I64, "out_row"), (I64, "out_column"), (I64, "add")),
    )
    f = module.function(dots_name(tiles), VOID, parameters, internal=True)
    _, columns, *_ = f.params
    # As many sums as fit the registers beside the operands.
    if tiles.registers < 32:
        _dots_strips(f, tiles, TILE, (2,))
    else:
        fives = f.compare("eq", f.binary("urem", columns, literal(I64, 5)), literal(I64, 0))
        f.branch(fives, lambda: _dots_strips(f, tiles, 5, (5,)), lambda: _dots_strips(f, tiles, TILE, (4, 2)))
    f.ret()


def _dots_strips(f: Function, tiles: Tiles, height: int, widths: Sequence[int]) -> list[Value]:
    """Strips of `height` rows, cut into blocks of the first of `widths` while there are so many columns, then of the
    next."""
    rows, columns, *_ = f.params

    def strip(i: Value, _: list[Value]) -> list[Value]:
        numbers = [f.minimum(f.add(i, r), f.sub(rows, 1)) for r in range(height)]
        done = int_literal(0)
        for width in widths:
            whole = columns if width == widths[-1] else f.binary("and", columns, literal(I64, -width))

            def tile(j: Value, _: list[Value], width: int = width) -> list[Value]:
                _dots_tile(f, tiles, numbers, [f.minimum(f.add(j, c), f.sub(columns, 1)) for c in range(width)])
                return []

            f.loop(done, whole, width, [], tile)
            done = whole
        return []

    f.loop(0, rows, height, [], strip)
    return []


def _dots_tile(f: Function, tiles: Tiles, rows: list[Value], columns: list[Value]) -> None:
    _, _, k, x, x_row, w, w_column, w_step, out, out_row, out_column, add = f.params
    ty, lanes, vector = tiles.ty, tiles.lanes, tiles.vector
    x_rows = [f.element(x, ty, f.mul(row, x_row)) for row in rows]
    w_rows = [f.mul(column, w_column) for column in columns]

    def products(p: Value, carried: list[Value], mask: LaneMask | None) -> list[Value]:
        w_at, *sums = carried

        def load(pointer: Value) -> Value:
            return f.load(pointer, vector) if mask is None else f.masked_load(pointer, vector, mask.bits)

        w_vectors = [load(f.element(w_at, ty, row)) for row in w_rows]
        for r, x_at in enumerate(x_rows):
            x_vector = load(f.element(x_at, ty, p))
            for c, w_vector in enumerate(w_vectors):
                place = r * len(columns) + c
                sums[place] = multiply_add(f, tiles, x_vector, w_vector, sums[place])
        return [f.element(w_at, ty, w_step), *sums]

    sums = [literal(vector, 0)] * (len(rows) * len(columns))
    carried = [w, *sums]
    if tiles.masks and len(sums) < MASKED_SUMS:
        carried = f.loop(0, k, lanes, carried, lambda p, now: products(p, now, LaneMask(f, tiles, f.sub(k, p))))
    else:
        whole = f.binary("and", k, literal(I64, -lanes))
        carried = f.loop(0, whole, lanes, carried, lambda p, now: products(p, now, None))
        rest = f.sub(k, whole)
        last = carried
        carried = f.branch(
            f.compare("sgt", rest, literal(I64, 0)),
            lambda: products(whole, last, LaneMask(f, tiles, rest)),
            lambda: last,
        )
    places = [
        f.element(out, ty, f.add(f.mul(row, out_row), f.mul(column, out_column))) for row in rows for column in columns
    ]
    _store(f, tiles, fold(f, carried[1:]), places, add)


def emit_dot(module: Module, tiles: Tiles) -> None:
    """Write `dot`: one row after another, since memory is read fastest along one stream."""
    parameters = (
        *((I64, "rows"), (I64, "k"), (PTR, "x"), (I64, "x_row"), (PTR, "w")),
        *((PTR, "out"), (I64, "out_row"), (I64, "add")),
    )
    f = module.function(dot_name(tiles), VOID, parameters, internal=True)
    rows, k, x, x_row, w, out, out_row, add = f.params
    ty, lanes, vector = tiles.ty, tiles.lanes, tiles.vector
    zero = literal(vector, 0)
    whole, quads = f.binary("and", k, literal(I64, -lanes)), f.binary("and", k, literal(I64, -lanes * CHAINS))
    rest = f.sub(k, whole)
    mask = LaneMask(f, tiles, rest)

    def row(_: Value, carried: list[Value]) -> list[Value]:
        x_at, out_at = carried

        def chains(p: Value, sums: list[Value]) -> list[Value]:
            result = []
            for number, total in enumerate(sums):
                at = f.add(p, number * lanes)
                left = f.load(f.element(x_at, ty, at), vector)
                result.append(multiply_add(f, tiles, left, f.load(f.element(w, ty, at), vector), total))
            return result

        first, *others = f.loop(0, quads, lanes * CHAINS, [zero] * CHAINS, chains)
        (first,) = f.loop(quads, whole, lanes, [first], chains)

        def tail() -> list[Value]:
            left = f.masked_load(f.element(x_at, ty, whole), vector, mask.bits)
            right = f.masked_load(f.element(w, ty, whole), vector, mask.bits)
            return [multiply_add(f, tiles, left, right, first)]

        (first,) = f.branch(f.compare("sgt", rest, literal(I64, 0)), tail, lambda: [first])
        total = f.binary("fadd", f.binary("fadd", first, others[0]), f.binary("fadd", others[1], others[2]))
        _store(f, tiles, fold(f, [total]), [out_at], add)
        return [f.element(x_at, ty, x_row), f.element(out_at, ty, out_row)]

    f.loop(0, rows, 1, [x, out], row)
    f.ret()
