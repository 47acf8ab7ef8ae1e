"""The panel function: rows x k of A times one panel of B, k x (at most `vectors` vectors), into a strip of C.

    void panel(m, k, a, a_row, a_k, a_step, b, b_row, c, c_row, prefetched, ahead, add, width)

Element A[i, p] of a tile lies at a[i * a_row + p * a_k], the next tile of `rows` rows starts `a_step` further on;
row p of B at b[p * b_row], `width` columns, unit stride. So packed and plain operands take the same code. The
accumulators are phi nodes of the k loop and start at zero; `add` != 0 adds the old C at the end, else C is written.
The last vector of each row is masked by `width`: nothing outside of the operands is read or written.

`prefetched`, unless null, is what the epilogue will read beside C: words (count, bytes between rows, pointers ...) of
arrays laid out as C, from the panel's first element on. Each tile prefetches its part of them before it multiplies.

`ahead`, unless null, is what will be read of B later: words (address, rows, bytes from row to row, bytes from tile to
tile). Each whole tile prefetches so many rows, as wide as a panel, from its own place on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from adjit.codegen.gemm.variants import KernelSizes
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Value, literal
from adjit_runtime.target import LINE

PARAMETERS = (
    (I64, "m"),
    (I64, "k"),
    (PTR, "a"),
    (I64, "a_row"),
    (I64, "a_k"),
    (I64, "a_step"),
    (PTR, "b"),
    (I64, "b_row"),
    (PTR, "c"),
    (I64, "c_row"),
    (PTR, "prefetched"),
    (PTR, "ahead"),
    (I64, "add"),
    (I64, "width"),
)


class LaneMask:
    """The lanes below a run-time count, kept in the form that survives a loop's head without being made again.

    A vector of i1 is a register only where there are mask registers; elsewhere the lanes' sign bits are kept."""

    def __init__(self, f: Function, sizes: KernelSizes, count: Value, lanes: int = 0) -> None:
        self._f = f
        lanes = lanes or sizes.lanes
        if sizes.masks:
            self._bits = f.mask_below(lanes, count)
            return
        wide = sizes.ty.with_kind("i", sizes.ty.bits).vector(lanes)
        limit = f.minimum(count, literal(I64, lanes))
        if wide.bits != 64:
            limit = f.convert("trunc", limit, wide.scalar)
        self._bits = f.binary("sub", f.iota(wide), f.splat(limit, lanes))

    @property
    def bits(self) -> Value:
        """The i1 vector, to be asked for where it is used."""
        if self._bits.ty.bits == 1:
            return self._bits
        return self._f.compare("slt", self._bits, literal(self._bits.ty, 0))


def multiply_add(f: Function, sizes: KernelSizes, a: Value, b: Value, c: Value) -> Value:
    """a * b + c, rounded once where the machine can."""
    return f.fma(a, b, c) if sizes.fused else f.binary("fadd", f.binary("fmul", a, b), c)


def _is_widest(sizes: KernelSizes, vectors: int, masked: bool) -> bool:
    return vectors == sizes.vectors and masked == sizes.masks


def panel_name(sizes: KernelSizes, vectors: int, *, masked: bool) -> str:
    """Symbol of the panel function; the widest one is shared."""
    if _is_widest(sizes, vectors, masked):
        return f"adjit_panel_{sizes.suffix}"
    return f"panel_{sizes.suffix}_{vectors}"


def emit_panel(module: Module, sizes: KernelSizes, vectors: int, *, masked: bool) -> None:
    """Write the panel function for panels of `vectors` vectors; unmasked, `width` must fill them all."""
    is_shared = _is_widest(sizes, vectors, masked)
    f = module.function(panel_name(sizes, vectors, masked=masked), VOID, PARAMETERS, internal=not is_shared)
    m, _, a, a_row, _, a_step, _, _, c, c_row, prefetched, ahead, _, width = f.params
    last = LaneMask(f, sizes, f.sub(width, (vectors - 1) * sizes.lanes)) if masked else None
    full = f.binary("udiv", m, literal(I64, sizes.rows))
    if sizes.rows == 6:
        # Two rows left over have too few sums to hide each other's latency: four and four take less than six and two.
        # (A packed tile is not four rows and two.)
        two = f.compare("eq", f.sub(m, f.mul(full, 6)), literal(I64, 2))
        plain = f.compare("eq", a_step, f.mul(a_row, 6))
        fewer = f.intrinsic("smax", I64, (f.sub(full, 1), literal(I64, 0)))
        full = f.select(f.binary("and", two, plain), fewer, full)
    c_step = f.mul(c_row, sizes.rows)

    def tile(i: Value, carried: list[Value]) -> list[Value]:
        a_tile, c_tile = carried
        f.branch(f.compare("ne", prefetched, literal(PTR, 0)), lambda: _prefetch(f, sizes, vectors, prefetched, i))
        if sizes.ahead:
            f.branch(f.compare("ne", ahead, literal(PTR, 0)), lambda: _prefetch_ahead(f, sizes, ahead, i))
        _emit_tile(f, sizes, sizes.rows, vectors, last, a_tile, c_tile, unroll=sizes.unroll if is_shared else 1)
        return [f.element(a_tile, sizes.ty, a_step), f.element(c_tile, sizes.ty, c_step)]

    a, c = f.loop(0, full, 1, [a, c], tile)
    rest = f.sub(m, f.mul(full, sizes.rows))
    if sizes.rows > 4:

        def four(_: Value, carried: list[Value]) -> list[Value]:
            a_tile, c_tile = carried
            _emit_tile(f, sizes, 4, vectors, last, a_tile, c_tile)
            return [f.element(a_tile, sizes.ty, f.mul(a_row, 4)), f.element(c_tile, sizes.ty, f.mul(c_row, 4))]

        fours = f.binary("and", rest, literal(I64, -4))
        a, c = f.loop(0, fours, 4, [a, c], four)
        rest = f.sub(rest, fours)

    def pair(i: Value, _: list[Value]) -> list[Value]:
        # A single row is computed twice over: all of a tile is read before any of it is written.
        second = f.minimum(literal(I64, 1), f.sub(f.sub(rest, i), 1))
        at_a, at_c = f.element(a, sizes.ty, f.mul(a_row, i)), f.element(c, sizes.ty, f.mul(c_row, i))
        _emit_tile(f, sizes, 2, vectors, last, at_a, at_c, second)
        return []

    f.loop(0, rest, 2, [], pair)
    f.ret()


def _lines(sizes: KernelSizes, vectors: int) -> int:
    """Lines that a row of so many vectors takes where it begins one."""
    return -(-vectors * sizes.lanes * sizes.dtype.itemsize // LINE)


def _prefetch(f: Function, sizes: KernelSizes, vectors: int, prefetched: Value, tile: Value) -> list[Value]:
    """Prefetch what lies beside a tile of C into L2: it is read when the block is done, some 10 us later."""
    count, step = (f.load(f.element(prefetched, I64, number), I64) for number in range(2))
    lines = _lines(sizes, vectors)

    def array(u: Value, _: list[Value]) -> list[Value]:
        start = f.load(f.element(prefetched, PTR, f.add(u, 2)), PTR)
        row = f.offset(start, f.mul(f.mul(tile, sizes.rows), step))
        for r in range(sizes.rows):
            for line in range(lines):
                f.prefetch(f.offset(f.offset(row, f.mul(step, r)), line * LINE), 2)
        return []

    f.loop(0, count, 1, [], array)
    return []


def _prefetch_ahead(f: Function, sizes: KernelSizes, ahead: Value, tile: Value) -> list[Value]:
    """Prefetch a tile's share of what later panels read of B. Into L1, where the rows of A that go by leave it, and so
    into L2."""
    start = f.load(ahead, PTR)
    count, step, tile_step = (f.load(f.element(ahead, I64, number), I64) for number in range(1, 4))

    def row(_: Value, carried: list[Value]) -> list[Value]:
        for line in range(_lines(sizes, sizes.vectors)):
            f.prefetch(f.offset(carried[0], line * LINE), 1)
        return [f.offset(carried[0], step)]

    f.loop(0, count, 1, [f.offset(start, f.mul(tile, tile_step))], row)
    return []


def _emit_tile(
    f: Function,
    sizes: KernelSizes,
    rows: int,
    vectors: int,
    last: LaneMask | None,
    a: Value,
    c: Value,
    second: Value | None = None,
    unroll: int = 1,
) -> None:
    """One register tile over all of k, from `a` and the panel to `c`; `second` is 0 to compute one row twice."""
    _, k, _, a_row, a_k, _, b, b_row, _, c_row, _, _, add, _ = f.params
    numbers: list[Value | int] = [*range(rows)] if second is None else [0, second]
    a_rows = [f.mul(a_row, r) for r in numbers]
    c_rows = [f.element(c, sizes.ty, f.mul(c_row, r)) for r in numbers]
    write_tile(f, sizes, vectors, last, a, a_rows, c_rows, Sums(k, a_k, b, b_row), add, unroll)


class Sums(NamedTuple):
    """What each element of a tile is the sum of: k products, in A and in B so many elements apart, from `b` on. With
    `runs`, so many of them as these say, the outer loop first: counts, and how far A and B move on."""

    k: Value
    a_k: Value
    b: Value
    b_row: Value
    runs: tuple[tuple[Value, Value, Value], ...] = ()


def write_tile(
    f: Function,
    sizes: KernelSizes,
    vectors: int,
    last: LaneMask | None,
    a: Value,
    a_rows: Sequence[Value],
    c_rows: Sequence[Value],
    sums: Sums,
    add: Value,
    unroll: int = 1,
) -> None:
    """Write the sums of a tile, whose rows are `a_rows` elements from `a` on, to `c_rows`; `add` to what is there.
    `unroll` steps of k stand in one turn of its loop, which leaves their order as it is."""
    k, a_k, b, b_row, runs = sums
    rows, lanes, ty, vector = len(a_rows), sizes.lanes, sizes.ty, sizes.vector
    if rows > 1:
        for pointer in c_rows:
            for line in range(_lines(sizes, vectors)):
                f.prefetch(f.offset(pointer, line * LINE), 1, write=True)

    def load(pointer: Value, v: int) -> Value:
        place = f.element(pointer, ty, v * lanes)
        if last is not None and v == vectors - 1:
            return f.masked_load(place, vector, last.bits)
        return f.load(place, vector)

    def step(_: Value, carried: list[Value]) -> list[Value]:
        a_at, b_at, *chains = carried
        b_vectors = [load(b_at, v) for v in range(vectors)]
        # Else LLVM goes from row to row by additions, each of which waits for the one before.
        place = f.opaque(a_at)
        for r in range(rows):
            scalar = f.splat(f.load(f.element(place, ty, a_rows[r]), ty), lanes)
            for v in range(vectors):
                at = r * vectors + v
                chains[at] = multiply_add(f, sizes, scalar, b_vectors[v], chains[at])
        return [f.element(a_at, ty, a_k), f.element(b_at, ty, b_row), *chains]

    def together(p: Value, carried: list[Value]) -> list[Value]:
        for _ in range(unroll):
            carried = step(p, carried)
        return carried

    def over(runs: Sequence[tuple[Value, Value, Value]], carried: list[Value]) -> list[Value]:
        if not runs:
            whole: Value | int = 0
            if unroll > 1:
                whole = f.sub(k, f.binary("urem", k, literal(I64, unroll)))
                carried = f.loop(0, whole, unroll, carried, together)
            return f.loop(whole, k, 1, carried, step)[2:]
        (count, a_run, b_run), *inner = runs

        def turn(_: Value, carried: list[Value]) -> list[Value]:
            a_at, b_at = carried[:2]
            return [f.element(a_at, ty, a_run), f.element(b_at, ty, b_run), *over(inner, carried)]

        return f.loop(0, count, 1, carried, turn)[2:]

    zero = literal(vector, 0)
    totals = over(runs, [a, b, *[zero] * (rows * vectors)])

    def added() -> list[Value]:
        return [
            f.binary("fadd", load(c_rows[r], v), totals[r * vectors + v]) for r in range(rows) for v in range(vectors)
        ]

    totals = f.branch(f.compare("ne", add, literal(I64, 0)), added, lambda: totals)
    for r in range(rows):
        for v in range(vectors):
            place = f.element(c_rows[r], ty, v * lanes)
            if last is not None and v == vectors - 1:
                f.masked_store(totals[r * vectors + v], place, last.bits)
            else:
                f.store(totals[r * vectors + v], place)
