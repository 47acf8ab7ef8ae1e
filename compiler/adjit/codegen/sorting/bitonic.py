"""Networks in registers: a block of records, over several vectors, in order.

Lanes of many vectors are sorted one beside the other, turned into runs of whole vectors, and these merged, bitonic
sequence by sequence; a few vectors are sorted as a bitonic sequence from the start.

A record is a key, an integer or a float, or a key and the position that it comes from, by which records of one key are
in order: no two of them are equal then. Record p of a block is lane p % lanes of vector p // lanes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adjit.codegen.llvm import I1, Function, Value, vector_literal

Record = tuple[Value, ...]
"""A vector of keys, and one of positions where there are such."""


def is_less(f: Function, a: Record, b: Record, or_equal: bool = False) -> Value:
    """Whether records of a come before those of b; of keys alone, also where they are `or_equal`."""
    order = "le" if or_equal else "lt"
    less = f.compare(("o" if a[0].ty.kind == "f" else "s") + order, a[0], b[0])
    if len(a) == 1:
        return less
    same = f.compare("eq", a[0], b[0])
    return f.binary("or", less, f.binary("and", same, f.compare("slt", a[1], b[1])))


def exchange(f: Function, a: Record, b: Record) -> tuple[Record, Record]:
    """The first and the second of each two records."""
    if len(a) == 1 and a[0].ty.kind == "f":
        # As comparisons, which are one instruction each: the keys are no NaN, and no -0.0.
        (x,), (y,) = a, b
        return (f.select(f.compare("olt", x, y), x, y),), (f.select(f.compare("ogt", x, y), x, y),)
    if len(a) == 1:
        return tuple((f.intrinsic(name, a[0].ty, (a[0], b[0])),) for name in ("smin", "smax"))  # type: ignore[return-value]
    less = is_less(f, b, a)
    low = tuple(f.select(less, y, x) for x, y in zip(a, b, strict=True))
    high = tuple(f.select(less, x, y) for x, y in zip(a, b, strict=True))
    return low, high


def exchanges(n: int) -> Iterator[tuple[int, int]]:
    """Batcher's odd-even merge sort of n places, halves first: (a, b) puts the smaller one at a."""
    size = 1
    while size < n:
        size *= 2
    for a, b in _sorted(0, size):
        if b < n:
            yield a, b


def _sorted(first: int, count: int) -> list[tuple[int, int]]:
    if count == 1:
        return []
    half = count // 2
    return _sorted(first, half) + _sorted(first + half, half) + _merged(first, count, 1)


def _merged(first: int, count: int, step: int) -> list[tuple[int, int]]:
    if 2 * step >= count:
        return [(first, first + step)]
    inner = [(a, a + step) for a in range(first + step, first + count - step, 2 * step)]
    return _merged(first, count, 2 * step) + _merged(first + step, count, 2 * step) + inner


def transposed(f: Function, rows: Sequence[Value]) -> list[Value]:
    """Lane j of vector i as lane i of vector j, of as many vectors as they have lanes."""
    found, count = list(rows), len(rows)
    step = 1
    while step < count:
        for i in range(count):
            if i & step:
                continue
            a, b = found[i], found[i + step]
            low = [lane if not lane & step else count + lane - step for lane in range(count)]
            high = [lane + step if not lane & step else count + lane for lane in range(count)]
            found[i], found[i + step] = f.shuffle(a, b, low), f.shuffle(a, b, high)
        step *= 2
    return found


def sort_block(f: Function, block: Sequence[Record]) -> list[Record]:
    """All records of some vectors, a power of two, in order."""
    found, lanes = list(block), block[0][0].ty.lanes
    if len(found) >= lanes:
        return _sort_lanes_first(f, found)
    count = lanes * len(found)
    run = 2
    while run <= count:
        step = run // 2
        while step:
            _step(f, found, run, step)
            step //= 2
        run *= 2
    return found


def _sort_lanes_first(f: Function, block: list[Record]) -> list[Record]:
    for a, b in exchanges(len(block)):
        block[a], block[b] = exchange(f, block[a], block[b])
    lanes, count = block[0][0].ty.lanes, len(block)
    block = _runs_of_lanes(f, block)
    run = 2 * count
    while run <= lanes * count:
        step = run // 2
        while step >= lanes:
            _step(f, block, run, step)
            step //= 2
        for v in range(0, count, 2):
            block[v : v + 2] = _merge_within(f, block[v], block[v + 1], not v * lanes & run)
        run *= 2
    return block


def _runs_of_lanes(f: Function, block: Sequence[Record]) -> list[Record]:
    """What is in a lane of all vectors, one lane after the other; every second one backwards."""
    lanes = block[0][0].ty.lanes
    pieces = [
        [transposed(f, [record[part] for record in block[v : v + lanes]]) for part in range(len(block[0]))]
        for v in range(0, len(block), lanes)
    ]
    found: list[Record] = []
    for lane in range(lanes):
        run: list[Record] = [tuple(part[lane] for part in piece) for piece in pieces]
        if lane % 2:
            run = [tuple(f.shuffle(x, None, range(lanes - 1, -1, -1)) for x in record) for record in reversed(run)]
        found += run
    return found


def _merge_within(f: Function, a: Record, b: Record, rises: bool) -> tuple[Record, Record]:
    """The last steps of a merge, within vectors: two at once, so that what is exchanged stands in one lane of both."""
    lanes = a[0].ty.lanes
    at = list(range(2 * lanes))
    step = lanes // 2
    while step:
        firsts = [p for p in range(2 * lanes) if not p & step]
        a, b = _picked(f, a, b, [at.index(p) for p in firsts]), _picked(f, a, b, [at.index(p + step) for p in firsts])
        at = [*firsts, *(p + step for p in firsts)]
        low, high = exchange(f, a, b)
        a, b = (low, high) if rises else (high, low)
        step //= 2
    order = [at.index(p) for p in range(2 * lanes)]
    return _picked(f, a, b, order[:lanes]), _picked(f, a, b, order[lanes:])


def _picked(f: Function, a: Record, b: Record, lanes: Sequence[int]) -> Record:
    return tuple(f.shuffle(x, y, lanes) for x, y in zip(a, b, strict=True))


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
