"""Short rows, as many at once as a vector has lanes: a network of exchanges between vectors, one for each place.

Values of floats are exchanged as such; a block of rows in which -0.0 or NaN stands goes to the library instead, row by
row. Positions go beside keys, or below them where elements have 32 bits."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from adjit.codegen.llvm import (
    I1,
    I64,
    Function,
    Value,
    int_literal,
    literal,
    register_type,
    type_of,
    vector_literal,
)
from adjit.codegen.sorting.bitonic import Record, exchange, exchanges, transposed
from adjit.codegen.sorting.keys import key_type, smallest, to_key
from adjit.schedule.sorts import Sorted
from adjit_runtime.target import Target


def emit_rows(
    f: Function,
    work: Sorted,
    places: tuple[Value, Value],
    rows: tuple[Value, Value],
    target: Target,
    one: Callable[[Value, Value], None],
) -> None:
    """Sort the rows of a range, numbered through (outer, inner); `one(x, out)` sorts the row that begins there."""
    _Rows(f, work, places, target, one).emit(*rows)


class _Rows:
    def __init__(
        self,
        f: Function,
        work: Sorted,
        places: tuple[Value, Value],
        target: Target,
        one: Callable[[Value, Value], None],
    ) -> None:
        self.f = f
        self.work = work
        self.x, self.out = places
        self.one = one
        self.bits = key_type(work.dtype)
        self.kept = I64 if work.positions else self.bits
        self.lanes = target.vector_bytes * 8 // self.kept.bits

    def emit(self, low: Value, high: Value) -> None:
        """Blocks of as many rows as there are lanes; the last one has some rows twice, or thrice."""
        self.f.loop(low, high, self.lanes, [], lambda first, _: self._block(first, self.f.sub(high, 1)))

    def _block(self, first: Value, last: Value) -> list[Value]:
        f, work = self.f, self.work
        starts = [self._start(f.minimum(f.add(first, lane), last)) for lane in range(self.lanes)]
        # Rows of one outer index lie side by side.
        together = f.compare("eq", f.sub(starts[-1], starts[0]), int_literal(self.lanes - 1))
        columns = self._columns(starts, together)
        if work.positions or work.dtype.kind != "f":
            self._store(self._network(columns), starts, together)
            return []
        mask = type_of("i", self.lanes, 0)
        is_plain = f.compare("eq", f.convert("bitcast", self._special(columns), mask), literal(mask, 0))

        def all_at_once() -> list[Value]:
            self._store(self._network(columns), starts, together)
            return []

        def one_by_one() -> list[Value]:
            for start in starts:
                self.one(f.element(self.x, self.bits, start), f.element(self.out, self.bits, start))
            return []

        f.branch(is_plain, all_at_once, one_by_one)
        return []

    def _special(self, columns: Sequence[Value]) -> Value:
        """In which lanes there is -0.0, whose bits are the smallest integer, or NaN, which is unordered."""
        f = self.f
        least = functools.reduce(lambda a, b: f.intrinsic("smin", a.ty, (a, b)), columns)
        special = f.compare("eq", least, smallest(least.ty))
        numbers = [f.convert("bitcast", x, register_type(self.work.dtype).vector(self.lanes)) for x in columns]
        for a, b in zip(numbers[::2], [*numbers[1::2], numbers[-1]], strict=False):
            special = f.binary("or", special, f.compare("uno", a, b))
        return special

    def _start(self, row: Value) -> Value:
        """The element at which a row begins, in both arrays."""
        f, n, inner = self.f, self.work.n, self.work.inner
        if inner == 1:
            return f.mul(row, n)
        outer = f.binary("udiv", row, int_literal(inner))
        return f.add(row, f.mul(outer, (n - 1) * inner))

    # -- memory -------------------------------------------------------------------------------------------------------

    def _columns(self, starts: Sequence[Value], together: Value) -> list[Value]:
        """For each place of a row a vector with that of all rows."""
        if self.work.inner == 1:
            return self._turned_in(starts)
        f, ty, steps = self.f, self.bits.vector(self.lanes), range(0, self.work.n * self.work.inner, self.work.inner)

        def adjacent() -> list[Value]:
            return [f.load(f.element(self.x, ty, f.add(starts[0], step)), ty) for step in steps]

        def apart() -> list[Value]:
            at = self._vector(starts)
            return [f.gather(f.element(self.x, ty, step), ty, at, None) for step in steps]

        return f.branch(together, adjacent, apart)

    def _vector(self, starts: Sequence[Value]) -> Value:
        at = literal(I64.vector(self.lanes), 0)
        for lane, start in enumerate(starts):
            at = self.f.insert(at, start, lane)
        return at

    def _turned_in(self, starts: Sequence[Value]) -> list[Value]:
        f, n, columns = self.f, self.work.n, []
        ty = self.bits.vector(self.lanes)
        for place in range(0, n, self.lanes):
            count = min(self.lanes, n - place)
            mask = vector_literal(I1.vector(self.lanes), [lane < count for lane in range(self.lanes)])
            rows = []
            for start in starts:
                at = f.element(self.x, ty, f.add(start, place))
                rows.append(f.load(at, ty) if count == self.lanes else f.masked_load(at, ty, mask))
            columns += transposed(f, rows)[:count]
        return columns

    def _store(self, columns: Sequence[Value], starts: Sequence[Value], together: Value) -> None:
        f, n = self.f, self.work.n
        if self.work.inner != 1:
            places = [f.element(self.out, self.kept, place * self.work.inner) for place in range(n)]

            def adjacent() -> list[Value]:
                for column, place in zip(columns, places, strict=True):
                    f.store(column, f.element(place, self.kept, starts[0]))
                return []

            def apart() -> list[Value]:
                at = self._vector(starts)
                for column, place in zip(columns, places, strict=True):
                    f.scatter(column, place, at, None)
                return []

            f.branch(together, adjacent, apart)
            return
        for place in range(0, n, self.lanes):
            count = min(self.lanes, n - place)
            some = [*columns[place : place + count], *[columns[0]] * (self.lanes - count)]
            mask = vector_literal(I1.vector(self.lanes), [lane < count for lane in range(self.lanes)])
            for start, row in zip(starts, transposed(f, some), strict=True):
                f.masked_store(row, f.element(self.out, self.kept, f.add(start, place)), mask)

    # -- the network --------------------------------------------------------------------------------------------------

    def _network(self, columns: Sequence[Value]) -> list[Value]:
        """The columns in order, or the positions that they come from."""
        f, work = self.f, self.work
        if not work.positions:
            return self._sorted_values(columns)
        wide = I64.vector(self.lanes)
        numbers = [literal(wide, place) for place in range(work.n)]
        keys = [to_key(f, column, work.dtype) for column in columns]
        if self.bits == I64:
            records: list[Record] = list(zip(keys, numbers, strict=True))
            return [record[1] for record in self._exchanged(records, lambda a, b: exchange(f, a, b))]
        above = [f.binary("shl", f.convert("sext", key, wide), literal(wide, 32)) for key in keys]
        both = [(f.binary("or", key, number),) for key, number in zip(above, numbers, strict=True)]
        found = self._exchanged(both, lambda a, b: exchange(f, a, b))
        return [f.binary("and", record[0], literal(wide, 0xFFFFFFFF)) for record in found]

    def _sorted_values(self, columns: Sequence[Value]) -> list[Value]:
        f, dtype = self.f, self.work.dtype
        number = register_type(dtype).vector(self.lanes)
        records = [(f.convert("bitcast", column, number) if dtype.kind == "f" else column,) for column in columns]
        found = self._exchanged(records, lambda a, b: _exchange_values(f, dtype, a, b))
        return [f.convert("bitcast", x, columns[0].ty) if dtype.kind == "f" else x for (x,) in found]

    def _exchanged(
        self, records: Sequence[Record], rule: Callable[[Record, Record], tuple[Record, Record]]
    ) -> list[Record]:
        found = list(records)
        for a, b in exchanges(self.work.n):
            found[a], found[b] = rule(found[a], found[b])
        return found


def _exchange_values(f: Function, dtype: np.dtype, a: Record, b: Record) -> tuple[Record, Record]:
    (x,), (y,) = a, b
    if dtype.kind == "f":
        low = f.select(f.compare("olt", x, y), x, y)
        return (low,), (f.select(f.compare("ogt", x, y), x, y),)
    names = ("smin", "smax") if dtype.kind == "i" else ("umin", "umax")
    low, high = (f.intrinsic(name, x.ty, (x, y)) for name in names)
    return (low,), (high,)
