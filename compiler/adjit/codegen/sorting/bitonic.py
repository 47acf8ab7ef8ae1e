"""Bitonic networks in registers: a block of records, over several vectors, in order.

A record is a key, or a key and the position that it comes from, by which records of one key are in order: no two of
them are equal then. Record p of a block is lane p % lanes of vector p // lanes."""

from __future__ import annotations

from collections.abc import Sequence

from adjit.codegen.llvm import I1, Function, Value, vector_literal

Record = tuple[Value, ...]
"""A vector of keys, and one of positions where there are such."""


def is_less(f: Function, a: Record, b: Record) -> Value:
    """Whether records of a come before those of b."""
    less = f.compare("slt", a[0], b[0])
    if len(a) == 1:
        return less
    same = f.compare("eq", a[0], b[0])
    return f.binary("or", less, f.binary("and", same, f.compare("slt", a[1], b[1])))


def exchange(f: Function, a: Record, b: Record) -> tuple[Record, Record]:
    """The first and the second of each two records."""
    if len(a) == 1:
        return tuple((f.intrinsic(name, a[0].ty, (a[0], b[0])),) for name in ("smin", "smax"))  # type: ignore[return-value]
    less = is_less(f, b, a)
    low = tuple(f.select(less, y, x) for x, y in zip(a, b, strict=True))
    high = tuple(f.select(less, x, y) for x, y in zip(a, b, strict=True))
    return low, high


def sort_block(f: Function, block: Sequence[Record]) -> list[Record]:
    """All records of some vectors, a power of two, in order."""
    found, lanes = list(block), block[0][0].ty.lanes
    count = lanes * len(found)
    run = 2
    while run <= count:
        step = run // 2
        while step:
            _step(f, found, run, step)
            step //= 2
        run *= 2
    return found


def _step(f: Function, block: list[Record], run: int, step: int) -> None:
    """Records `step` apart are exchanged, so that runs of `run` records rise and fall in turns, or are on their way."""
    lanes = block[0][0].ty.lanes
    if step < lanes:
        for v, record in enumerate(block):
            block[v] = _within(f, record, v * lanes, run, step)
        return
    apart = step // lanes
    for v in range(len(block)):
        if v & apart:
            continue
        low, high = exchange(f, block[v], block[v + apart])
        rises = not v * lanes & run
        block[v], block[v + apart] = (low, high) if rises else (high, low)


def _within(f: Function, record: Record, first: int, run: int, step: int) -> Record:
    """The exchange of lanes of one vector, whose first record has the number `first`."""
    lanes = record[0].ty.lanes
    other = tuple(f.shuffle(x, None, [lane ^ step for lane in range(lanes)]) for x in record)
    takes_low = [(lane & step == 0) == ((first + lane) & run == 0) for lane in range(lanes)]
    lows = vector_literal(I1.vector(lanes), takes_low)
    if len(record) == 1:
        low, high = exchange(f, record, other)
        return (f.select(lows, low[0], high[0]),)
    takes = f.compare("eq", is_less(f, other, record), lows)
    return tuple(f.select(takes, y, x) for x, y in zip(record, other, strict=True))
