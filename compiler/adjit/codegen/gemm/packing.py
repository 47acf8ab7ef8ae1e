"""Packing: an operand's block copied into panels that a tile reads from end to end.

    void pack(n, k, source, s_n, s_k, target, width)

Panel j holds source elements (w, p), w = j*width .. j*width + width - 1, as target[(j*k + p) * width + w - j*width].
Elements beyond n repeat the last one or are zero: they are multiplied, never stored, never an invented NaN. Unit s_n
copies a row of all panels that are as wide or as high as a tile after the other, unit s_k transposes blocks in
registers, any other pair goes element by element. Up to one block is written beyond the end of the last panel; nothing
outside of the source is read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from adjit.codegen.gemm.microkernel import LaneMask
from adjit.codegen.gemm.variants import KernelSizes
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Value, int_literal, literal
from adjit.tuned import GEMM_PACK_AHEAD
from adjit_runtime.target import LINE


def pack_name(sizes: KernelSizes) -> str:
    """Symbol of the packing function."""
    return f"adjit_pack_{sizes.suffix}"


def emit_pack(module: Module, sizes: KernelSizes) -> None:
    """Write the packing function."""
    params = ((I64, "n"), (I64, "k"), (PTR, "source"), (I64, "s_n"), (I64, "s_k"), (PTR, "target"), (I64, "width"))
    f = module.function(pack_name(sizes), VOID, params)
    n, k, source, s_n, s_k, target, width = f.params
    one = literal(I64, 1)

    def panel(start: Value, _: list[Value]) -> list[Value]:
        rest = f.minimum(f.sub(n, start), width)
        from_ = f.element(source, sizes.ty, f.mul(start, s_n))
        to = f.element(target, sizes.ty, f.mul(start, k))

        def strided() -> list[Value]:
            f.branch(
                f.compare("eq", s_k, one),
                lambda: _transpose_panel(f, sizes, rest, from_, to),
                lambda: _gather_panel(f, sizes, rest, from_, to),
            )
            return []

        f.branch(f.compare("eq", s_n, one), lambda: _copy_panel(f, sizes, rest, from_, to), strided)
        return []

    # `swapped` packs vectors, which are few.
    panels = f.sub(n, f.binary("urem", n, width))
    whole = literal(I64, 0)
    for size in dict.fromkeys((sizes.columns, sizes.rows)):
        fits = f.binary("and", f.compare("eq", s_n, one), f.compare("eq", width, int_literal(size)))
        fitting = f.select(fits, panels, literal(I64, 0))
        f.branch(f.compare("sgt", fitting, literal(I64, 0)), functools.partial(_copy_rows, f, sizes, size, fitting))
        whole = f.add(whole, fitting)
    f.loop(whole, n, width, [], panel)
    f.ret()


def _descending(f: Function, size: int, body: Callable[[Value], None]) -> None:
    """Groups of `size` in a panel, the last one first: what one writes beyond the panel's width is written again."""
    width = f.params[6]
    groups = f.binary("udiv", f.add(width, size - 1), int_literal(size))

    def group(index: Value, _: list[Value]) -> list[Value]:
        body(f.mul(f.sub(f.sub(groups, 1), index), size))
        return []

    f.loop(0, groups, 1, [], group)


def _copy_rows(f: Function, sizes: KernelSizes, width: int, whole: Value) -> list[Value]:
    """Unit s_n and `whole` columns in panels as wide as a tile, or as high. Row by row, as lines of rows that are far
    from each other fall into a few sets of a cache, which does not keep them until a second panel wants their
    neighbours."""
    _, k, source, _, s_k, target, _ = f.params
    panel, later = f.mul(k, width), f.mul(s_k, GEMM_PACK_AHEAD)
    lanes = sizes.lanes if width % sizes.lanes == 0 else width
    lines = -(-width * sizes.dtype.itemsize // LINE)

    def row(_: Value, carried: list[Value]) -> list[Value]:
        def part(_: Value, places: list[Value]) -> list[Value]:
            from_, to = places
            for line in range(lines):
                f.prefetch(f.offset(f.element(from_, sizes.ty, later), line * LINE), 2)
            for start in range(0, width, lanes):
                loaded = f.load(f.element(from_, sizes.ty, start), sizes.ty.vector(lanes))
                f.store(loaded, f.element(to, sizes.ty, start))
            return [f.element(from_, sizes.ty, width), f.element(to, sizes.ty, panel)]

        f.loop(0, whole, width, carried, part)
        from_, to = carried
        return [f.element(from_, sizes.ty, s_k), f.element(to, sizes.ty, width)]

    f.loop(0, k, 1, [source, target], row)
    return []


def _copy_panel(f: Function, sizes: KernelSizes, rest: Value, source: Value, target: Value) -> list[Value]:
    """Unit s_n, and a panel that is not whole: its row is contiguous in the source."""
    _, k, _, _, s_k, _, width = f.params

    def group(first: Value) -> None:
        mask = LaneMask(f, sizes, f.sub(rest, first))

        def row(_: Value, carried: list[Value]) -> list[Value]:
            from_, to = carried
            f.store(f.masked_load(from_, sizes.vector, mask.bits), to)
            return [f.element(from_, sizes.ty, s_k), f.element(to, sizes.ty, width)]

        f.loop(0, k, 1, [f.element(source, sizes.ty, first), f.element(target, sizes.ty, first)], row)

    _descending(f, sizes.lanes, group)
    return []


def _gather_panel(f: Function, sizes: KernelSizes, rest: Value, source: Value, target: Value) -> list[Value]:
    """Any strides: element by element."""
    _, k, _, s_n, s_k, _, width = f.params
    last = f.sub(rest, 1)

    def row(_: Value, carried: list[Value]) -> list[Value]:
        from_, to = carried

        def element(w: Value, _: list[Value]) -> list[Value]:
            place = f.element(from_, sizes.ty, f.mul(f.minimum(w, last), s_n))
            f.store(f.load(place, sizes.ty), f.element(to, sizes.ty, w))
            return []

        f.loop(0, width, 1, [], element)
        return [f.element(from_, sizes.ty, s_k), f.element(to, sizes.ty, width)]

    f.loop(0, k, 1, [source, target], row)
    return []


def _transpose_panel(f: Function, sizes: KernelSizes, rest: Value, source: Value, target: Value) -> list[Value]:
    """Unit s_k: square blocks are transposed in registers."""
    _, k, _, s_n, _, _, width = f.params
    size, ty = sizes.lanes, sizes.ty
    vector = ty.vector(size)
    last = f.sub(rest, 1)

    def group(first: Value) -> None:
        rows = [f.element(source, ty, f.mul(f.minimum(f.add(first, r), last), s_n)) for r in range(size)]
        to = f.element(target, ty, first)

        def block(start: Value, carried: list[Value]) -> list[Value]:
            place = carried[0]
            mask = LaneMask(f, sizes, f.sub(k, start), size)
            loaded = [f.masked_load(f.element(row, ty, start), vector, mask.bits) for row in rows]
            for row in transpose(f, loaded):
                f.store(row, place)
                place = f.element(place, ty, width)
            return [place]

        f.loop(0, k, size, [to], block)

    _descending(f, size, group)
    return []


def transpose(f: Function, rows: list[Value]) -> list[Value]:
    """The transpose of a square block of full vectors: unpacks within 128-bit lanes, then exchanges of lanes."""
    size, bits = len(rows), rows[0].ty.bits
    unit = min(size, 128 // bits)
    distance = 1
    while distance < unit:
        rows = _interleave(f, rows, distance, unit)
        distance *= 2
    if unit == 4:
        # Two rounds of unpacking leave the columns in the order of their bits reversed.
        rows = [rows[first + q] for first in range(0, size, 4) for q in (0, 2, 1, 3)]
    distance = unit
    while distance < size:
        rows = _exchange(f, rows, distance)
        distance *= 2
    return rows


def _interleave(f: Function, rows: list[Value], distance: int, unit: int) -> list[Value]:
    """Unpack low and high halves of each 128-bit lane of row pairs, in chunks of `distance` elements."""
    size, chunk = len(rows), distance
    result: list[Value] = [*rows]
    for first in range(size):
        if first & distance:
            continue
        a, b = rows[first], rows[first + distance]
        for half in (0, 1):
            mask: list[int] = []
            for lane in range(0, size, unit):
                for part in range(unit // (2 * chunk)):
                    start = lane + half * (unit // 2) + part * chunk
                    mask += [*range(start, start + chunk), *range(size + start, size + start + chunk)]
            result[first + half * distance] = f.shuffle(a, b, mask)
    return result


def _exchange(f: Function, rows: list[Value], distance: int) -> list[Value]:
    """Blocks off the diagonal of each 2 x 2 arrangement of blocks change places."""
    size = len(rows)
    result = [*rows]
    for first in range(size):
        if first & distance:
            continue
        a, b = rows[first], rows[first + distance]
        low = [lane if not lane & distance else size + lane - distance for lane in range(size)]
        high = [size + lane if lane & distance else lane + distance for lane in range(size)]
        result[first] = f.shuffle(a, b, low)
        result[first + distance] = f.shuffle(a, b, high)
    return result
