"""The quicksort that the libraries for sorting share: keys in place, and with them their positions.

    void quick(keys, n)
    void quick(keys, positions, n)

A part is split at a pivot by vectors, from both ends at once (after Bramas, "A novel hybrid quicksort algorithm
vectorized using AVX-512", 2017). Parts of a few vectors are sorted by a network in registers. A pivot is the median of
records at random places, from a generator that begins alike in every call, so that the time is n log n for any operand,
and no two calls differ. With positions no two records are equal; keys that equal the pivot are split off at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from adjit.codegen.llvm import (
    I64,
    PTR,
    VOID,
    Function,
    Module,
    Ty,
    Value,
    int_literal,
    literal,
    type_of,
    vector_literal,
)
from adjit.codegen.sorting.bitonic import Record, is_less, sort_block
from adjit.codegen.sorting.keys import largest
from adjit.codegen.x86 import parting
from adjit.tuned import SAMPLED_ELEMENTS, SORT_BLOCK_VECTORS
from adjit_runtime.target import Target

DEPTH = 64
"""Parts that wait: the smaller of two is sorted first, so there are at most as many as a size has bits."""
MULTIPLIER, INCREMENT = 6364136223846793005, 1442695040888963407
"""Knuth's linear congruential generator for 64 bits."""


class Quicksort:
    """Writes the functions for one type of keys, alone or with positions."""

    def __init__(self, module: Module, key: Ty, positions: bool, target: Target) -> None:
        self.module = module
        self.types = (key, I64) if positions else (key,)
        self.lanes = target.vector_bytes * 8 // key.bits
        self.vectors = SORT_BLOCK_VECTORS // len(self.types)
        self._is_below: Callable[[Record], Value]
        self.name = f"quick_{key}" + ("_positions" if positions else "")

    def emit(self) -> str:
        """Write all functions; the name of the one that sorts."""
        self._emit_block()
        self._emit_split(or_equal=False)
        if len(self.types) == 1:
            self._emit_split(or_equal=True)
        self._emit_sort()
        return self.name

    @property
    def _vectors(self) -> list[Ty]:
        return [ty.vector(self.lanes) for ty in self.types]

    def _function(self, name: str, result: Ty, *others: tuple[Ty, str]) -> Function:
        arrays = ["keys", "positions"][: len(self.types)]
        return self.module.function(name, result, [*((PTR, array) for array in arrays), *others], internal=True)

    # -- small parts --------------------------------------------------------------------------------------------------

    def _emit_block(self) -> None:
        """`block(arrays, low, n)` for n of at most as many records as the largest network has."""
        f = self._function(f"{self.name}_block", VOID, (I64, "low"), (I64, "n"))
        *arrays, low, n = f.params
        places = [f.element(array, ty, low) for array, ty in zip(arrays, self.types, strict=True)]
        vectors = 1
        while vectors < self.vectors:
            sort = functools.partial(self._call_network, f, self._network(vectors), [*places, n])
            f.return_if(f.compare("sle", n, int_literal(vectors * self.lanes)), None, sort)
            vectors *= 2
        self._call_network(f, self._network(vectors), [*places, n])
        f.ret()

    def _call_network(self, f: Function, network: str, args: Sequence[Value]) -> None:
        f.call(network, VOID, args)

    def _network(self, vectors: int) -> str:
        """A function that sorts more records than half of so many vectors have."""
        f = self._function(f"{self.name}_{vectors}", VOID, (I64, "n"))
        *arrays, n = f.params
        whole, block, masks = vectors // 2, [], {}
        for v in range(vectors):
            places = [f.element(array, ty, v * self.lanes) for array, ty in zip(arrays, self.types, strict=True)]
            if v < whole:
                block.append(tuple(f.load(at, ty) for at, ty in zip(places, self._vectors, strict=True)))
                continue
            masks[v] = f.mask_below(self.lanes, f.sub(n, v * self.lanes))
            block.append(
                tuple(
                    f.masked_load(at, ty, masks[v], largest(ty)) for at, ty in zip(places, self._vectors, strict=True)
                )
            )
        for v, record in enumerate(sort_block(f, block)):
            for array, value in zip(arrays, record, strict=True):
                at = f.element(array, value.ty, v * self.lanes)
                if v < whole:
                    f.store(value, at)
                else:
                    f.masked_store(value, at, masks[v])
        f.ret()
        return f.name

    # -- large parts --------------------------------------------------------------------------------------------------

    def _emit_split(self, or_equal: bool) -> None:
        """`split(arrays, low, high, bound)`: records of [low, high) that are below the bound, or equal to it, come
        first; how many there are. There are more of them than a block has.

        Half a block at each end is held back, so that there is room on both sides for what is read of one. Where that
        is depends on how much room each has: several vectors are read at once, so that this is not waited for."""
        lanes, half = self.lanes, self.vectors // 2
        bounds = [(ty, f"bound_{i}") for i, ty in enumerate(self.types)]
        name = f"{self.name}_split" + ("_equal" if or_equal else "")
        f = self._function(name, I64, (I64, "low"), (I64, "high"), *bounds)
        count = len(self.types)
        arrays, (low, high), bound = f.params[:count], f.params[count : count + 2], f.params[count + 2 :]
        bounds_of_lanes = tuple(f.splat(x, lanes) for x in bound)
        self._is_below = lambda record: is_less(f, record, bounds_of_lanes, or_equal)
        held = self._load(f, arrays, low, half) + self._load(f, arrays, f.sub(high, half * lanes), half)
        ends = [f.add(low, half * lanes), f.sub(high, half * lanes), low, high]
        for vectors in dict.fromkeys((half, 1)):
            ends = self._split_by(f, arrays, vectors, ends)
        left, right, to_left, to_right = ends
        to_left, to_right = self._put_rest(f, arrays, left, f.sub(right, left), (to_left, to_right))
        for record in held:
            to_left, to_right = self._put(f, arrays, record, to_left, to_right)
        f.ret(f.sub(to_left, low))

    def _split_by(self, f: Function, arrays: Sequence[Value], vectors: int, ends: list[Value]) -> list[Value]:
        """Split all of which so many vectors are left; `ends` are those of what is not read, and of the room."""
        many = self.lanes * vectors

        def more(carried: list[Value]) -> Value:
            return f.compare("sge", f.sub(carried[1], carried[0]), int_literal(many))

        def some(carried: list[Value]) -> list[Value]:
            left, right, to_left, to_right = carried
            from_left = f.compare("sle", f.sub(left, to_left), f.sub(to_right, right))
            at = f.select(from_left, left, f.sub(right, many))
            left = f.select(from_left, f.add(left, many), left)
            right = f.select(from_left, right, f.sub(right, many))
            for record in self._load(f, arrays, at, vectors):
                to_left, to_right = self._put(f, arrays, record, to_left, to_right)
            return [left, right, to_left, to_right]

        return f.while_loop(ends, more, some)

    def _put(
        self, f: Function, arrays: Sequence[Value], record: Record, to_left: Value, to_right: Value
    ) -> tuple[Value, Value]:
        """Records that are below the bound from `to_left` on, the others up to `to_right`: the vector that has both is
        written at both places, as there is room."""
        below = self._is_below(record)
        fewer = self._count(f, below)
        part = parting(f, below, fewer, record[0].ty)
        ordered = tuple(part(x) for x in record)
        self._store(f, ordered, arrays, to_left)
        self._store(f, ordered, arrays, f.sub(to_right, self.lanes))
        to_left = f.add(to_left, fewer)
        return to_left, f.sub(to_right, f.sub(int_literal(self.lanes), fewer))

    def _put_rest(
        self, f: Function, arrays: Sequence[Value], at: Value, count: Value, ends: tuple[Value, Value]
    ) -> tuple[Value, Value]:
        """The same for less than a vector."""
        (to_left, to_right), lanes = ends, self.lanes
        (record,) = self._load(f, arrays, at, 1)
        valid, below = f.mask_below(lanes, count), self._is_below(record)
        low = f.binary("and", below, valid)
        fewer = self._count(f, low)
        part = parting(f, low, fewer, record[0].ty)
        self._store(f, tuple(part(x) for x in record), arrays, to_left)
        # What is not there counts as below, too, and so the others come last.
        others = f.binary("or", below, f.binary("xor", valid, literal(valid.ty, True)))
        part = parting(f, others, self._count(f, others), record[0].ty)
        self._store(f, tuple(part(x) for x in record), arrays, f.sub(to_right, lanes))
        return f.add(to_left, fewer), f.sub(to_right, f.sub(count, fewer))

    def _load(self, f: Function, arrays: Sequence[Value], at: Value, vectors: int) -> list[Record]:
        places = [f.element(array, ty, at) for array, ty in zip(arrays, self._vectors, strict=True)]
        return [
            tuple(
                f.load(f.element(place, ty, v * self.lanes), ty)
                for place, ty in zip(places, self._vectors, strict=True)
            )
            for v in range(vectors)
        ]

    def _store(self, f: Function, record: Record, arrays: Sequence[Value], at: Value) -> None:
        for array, value in zip(arrays, record, strict=True):
            f.store(value, f.element(array, value.ty, at))

    def _count(self, f: Function, mask: Value) -> Value:
        bits = f.convert("bitcast", mask, type_of("i", self.lanes, 0))
        return f.intrinsic("ctpop", I64, (f.convert("zext", bits, I64),))

    # -- all ----------------------------------------------------------------------------------------------------------

    def _emit_sort(self) -> None:
        f = self._function(self.name, VOID, (I64, "n"))
        *arrays, n = f.params
        waiting = f.alloca(I64, 2 * DEPTH)
        zero = int_literal(0)
        self._push(f, waiting, zero, zero, n)

        def part(carried: list[Value]) -> list[Value]:
            state, depth = carried[0], f.sub(carried[1], 1)
            at = f.element(waiting, I64, f.mul(depth, 2))
            low, high = f.load(at, I64), f.load(f.element(at, I64, 1), I64)
            size = f.sub(high, low)

            def small() -> list[Value]:
                f.call(f"{self.name}_block", VOID, [*arrays, low, size])
                return [state, depth]

            def large() -> list[Value]:
                following = f.add(f.mul(state, int_literal(MULTIPLIER)), INCREMENT)
                return [following, self._split_at_pivot(f, arrays, waiting, (low, high), following, depth)]

            is_small = f.compare("sle", size, int_literal(self.vectors * self.lanes))
            return f.branch(is_small, small, large)

        f.while_loop([int_literal(1), int_literal(1)], lambda carried: f.compare("sgt", carried[1], zero), part)
        f.ret()

    def _split_at_pivot(
        self,
        f: Function,
        arrays: Sequence[Value],
        waiting: Value,
        ends: tuple[Value, Value],
        state: Value,
        depth: Value,
    ) -> Value:
        """Split a part, and have its parts wait; how many wait then."""
        (low, high), split = ends, f"{self.name}_split"
        size = f.sub(high, low)
        pivot = self._pivot(f, arrays, low, size, state)
        fewer = f.call(split, I64, [*arrays, low, high, *pivot])

        def both() -> list[Value]:
            middle = f.add(low, fewer)
            is_smaller = f.compare("slt", fewer, f.sub(size, fewer))
            parts = [(low, middle), (middle, high)]
            for number, (first, second) in enumerate((parts[::-1], parts)):
                chosen = [f.select(is_smaller, a, b) for a, b in zip(first, second, strict=True)]
                self._push(f, waiting, f.add(depth, number), *chosen)
            return [f.add(depth, 2)]

        if len(self.types) == 2:
            # No two records are equal, and a pivot is in the middle of several.
            return both()[0]

        def equal() -> list[Value]:
            # The pivot is the smallest: what equals it is in order.
            at = f.add(low, f.call(f"{split}_equal", I64, [*arrays, low, high, *pivot]))
            self._push(f, waiting, depth, at, high)
            return [f.add(depth, 1)]

        return f.branch(f.compare("sgt", fewer, int_literal(0)), both, equal)[0]

    def _push(self, f: Function, waiting: Value, depth: Value, low: Value, high: Value) -> None:
        at = f.element(waiting, I64, f.mul(depth, 2))
        f.store(low, at)
        f.store(high, f.element(at, I64, 1))

    def _pivot(self, f: Function, arrays: Sequence[Value], low: Value, size: Value, state: Value) -> list[Value]:
        """The median of one record of each of as many stretches as there are lanes, or, of a large part, many more."""
        fraction = f.binary("lshr", state, int_literal(33))
        return f.branch(
            f.compare("sgt", size, int_literal(SAMPLED_ELEMENTS)),
            lambda: self._median(f, arrays, low, size, fraction, self.lanes),
            lambda: self._median(f, arrays, low, size, fraction, 1),
        )

    def _median(
        self, f: Function, arrays: Sequence[Value], low: Value, size: Value, fraction: Value, vectors: int
    ) -> list[Value]:
        lanes = self.lanes
        stretch = f.binary("sdiv", size, int_literal(lanes * vectors))
        within = f.binary("lshr", f.mul(fraction, stretch), int_literal(31))
        steps, begin = f.splat(stretch, lanes), f.splat(f.add(low, within), lanes)
        sample = []
        for v in range(vectors):
            numbers = vector_literal(I64.vector(lanes), range(v * lanes, (v + 1) * lanes))
            at = f.binary("add", f.binary("mul", numbers, steps), begin)
            places = zip(arrays, self._vectors, strict=True)
            sample.append(tuple(f.gather(array, ty, at, None) for array, ty in places))
        middle = sort_block(f, sample)[vectors // 2]
        return [f.extract(x, 0 if vectors > 1 else lanes // 2) for x in middle]
