"""The quicksort that the libraries for sorting share: keys in place, and with them their positions.

    void quick(keys, spare, n)
    void quick(keys, positions, spare, spare_positions, n)

A part is split at a pivot by vectors: what is smaller goes forward in place, the rest to the spare memory and back, so
that both keep their order. Parts of a few vectors are sorted by a network in registers, by key and position. A pivot is
the median of elements at random places, from a generator that begins alike in every call, so that the time is n log n
for any operand, and no two calls differ; equal elements are split off at once."""

from __future__ import annotations

from collections.abc import Sequence

from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Ty, Value, int_literal, literal, type_of
from adjit.codegen.sorting.bitonic import Record, sort_block
from adjit.codegen.sorting.keys import largest
from adjit.codegen.x86 import compress
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
        self.vectors = target.registers // (2 * len(self.types))
        self.name = f"quick_{key}" + ("_positions" if positions else "")

    def emit(self) -> str:
        """Write all functions; the name of the one that sorts."""
        self._emit_block()
        self._emit_split()
        self._emit_sort()
        return self.name

    @property
    def _vectors(self) -> list[Ty]:
        return [ty.vector(self.lanes) for ty in self.types]

    def _function(self, name: str, result: Ty, spare: bool, *others: tuple[Ty, str]) -> Function:
        arrays = ["keys", "positions"][: len(self.types)]
        arrays += [f"spare_{array}" for array in arrays] if spare else []
        return self.module.function(name, result, [*((PTR, array) for array in arrays), *others], internal=True)

    # -- small parts --------------------------------------------------------------------------------------------------

    def _emit_block(self) -> None:
        """`block(arrays, low, n)` for n of at most as many records as the largest network has."""
        f = self._function(f"{self.name}_block", VOID, False, (I64, "low"), (I64, "n"))
        *arrays, low, n = f.params
        places = [f.element(array, ty, low) for array, ty in zip(arrays, self.types, strict=True)]
        vectors = 1
        while vectors < self.vectors:
            network = self._network(vectors)
            f.return_if(
                f.compare("sle", n, int_literal(vectors * self.lanes)),
                None,
                lambda network=network: f.call(network, VOID, [*places, n]),  # type: ignore[misc]
            )
            vectors *= 2
        f.call(self._network(vectors), VOID, [*places, n])
        f.ret()

    def _network(self, vectors: int) -> str:
        """A function that sorts more records than half of so many vectors have."""
        f = self._function(f"{self.name}_{vectors}", VOID, False, (I64, "n"))
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

    def _emit_split(self) -> None:
        """`split(arrays, spare, low, high, bound)`: records of [low, high) whose keys are below the bound come ahead of
        the others; how many there are."""
        lanes = self.lanes
        others = ((I64, "low"), (I64, "high"), (self.types[0], "bound"))
        f = self._function(f"{self.name}_split", I64, True, *others)
        count = len(self.types)
        arrays, spare, (low, high, bound) = f.params[:count], f.params[count : 2 * count], f.params[2 * count :]
        bounds = f.splat(bound, lanes)

        def one(i: Value, carried: list[Value]) -> list[Value]:
            left, right = carried
            record = self._load(f, arrays, i)
            below = f.compare("slt", record[0], bounds)
            fewer = self._count(f, below)
            self._store(f, self._packed(f, record, below), arrays, left)
            self._store(f, self._packed(f, record, self._not(f, below)), spare, right)
            return [f.add(left, fewer), f.sub(f.add(right, lanes), fewer)]

        whole = f.binary("and", f.sub(high, low), int_literal(-lanes))
        last = f.add(low, whole)
        left, right = f.loop(low, last, lanes, [low, int_literal(0)], one)
        left, right = self._split_rest(f, arrays, spare, (last, high), bounds, (left, right))
        self._copy_back(f, arrays, spare, left, right)
        f.ret(f.sub(left, low))

    def _split_rest(
        self,
        f: Function,
        arrays: Sequence[Value],
        spare: Sequence[Value],
        part: tuple[Value, Value],
        bounds: Value,
        ends: tuple[Value, Value],
    ) -> tuple[Value, Value]:
        """The same for less than a vector: nothing beyond is written."""
        (first, last), (left, right) = part, ends
        valid = f.mask_below(self.lanes, f.sub(last, first))
        places = [f.element(array, ty, first) for array, ty in zip(arrays, self.types, strict=True)]
        record = tuple(f.masked_load(at, ty, valid) for at, ty in zip(places, self._vectors, strict=True))
        below = f.compare("slt", record[0], bounds)
        low, high = f.binary("and", below, valid), f.binary("and", self._not(f, below), valid)
        fewer = self._count(f, low)
        self._store(f, self._packed(f, record, low), arrays, left, f.mask_below(self.lanes, fewer))
        self._store(f, self._packed(f, record, high), spare, right)
        return f.add(left, fewer), f.add(right, self._count(f, high))

    def _copy_back(
        self, f: Function, arrays: Sequence[Value], spare: Sequence[Value], left: Value, count: Value
    ) -> None:
        """Put `count` records of the spare memory behind those on the left."""

        def one(i: Value, _: list[Value]) -> list[Value]:
            self._store(f, self._load(f, spare, i), arrays, f.add(left, i))
            return []

        whole = f.binary("and", count, int_literal(-self.lanes))
        f.loop(0, whole, self.lanes, [], one)
        rest = f.mask_below(self.lanes, f.sub(count, whole))
        self._store(f, self._load(f, spare, whole), arrays, f.add(left, whole), rest)

    def _load(self, f: Function, arrays: Sequence[Value], at: Value) -> Record:
        return tuple(
            f.load(f.element(array, ty, at), ty) for array, ty in zip(arrays, self._vectors, strict=True)
        )

    def _store(
        self, f: Function, record: Record, arrays: Sequence[Value], at: Value, mask: Value | None = None
    ) -> None:
        for array, value in zip(arrays, record, strict=True):
            place = f.element(array, value.ty, at)
            if mask is None:
                f.store(value, place)
            else:
                f.masked_store(value, place, mask)

    def _packed(self, f: Function, record: Record, mask: Value) -> Record:
        return tuple(compress(f, value, mask) for value in record)

    def _count(self, f: Function, mask: Value) -> Value:
        bits = f.convert("bitcast", mask, type_of("i", self.lanes, 0))
        wide = f.convert("zext", bits, I64)
        return f.intrinsic("ctpop", I64, (wide,))

    def _not(self, f: Function, mask: Value) -> Value:
        return f.binary("xor", mask, literal(mask.ty, True))

    # -- all ----------------------------------------------------------------------------------------------------------

    def _emit_sort(self) -> None:
        f = self._function(self.name, VOID, True, (I64, "n"))
        *memory, n = f.params
        arrays = memory[: len(self.types)]
        waiting = f.alloca(I64, 2 * DEPTH)
        zero, key = int_literal(0), self.types[0]
        self._push(f, waiting, zero, zero, n)

        def large(low: Value, high: Value, size: Value, state: Value, depth: Value) -> list[Value]:
            state = f.add(f.mul(state, int_literal(MULTIPLIER)), INCREMENT)
            pivot = self._pivot(f, arrays[0], low, size, state)
            fewer = f.call(f"{self.name}_split", I64, [*memory, low, high, pivot])
            middle = f.add(low, fewer)

            def both() -> list[Value]:
                is_smaller = f.compare("slt", fewer, f.sub(size, fewer))
                ends = [(low, middle), (middle, high)]
                larger, smaller = (
                    [f.select(is_smaller, a, b) for a, b in zip(ends[i], ends[1 - i], strict=True)] for i in (1, 0)
                )
                self._push(f, waiting, depth, *larger)
                self._push(f, waiting, f.add(depth, 1), *smaller)
                return [f.add(depth, 2)]

            def equal() -> list[Value]:
                # The pivot is the smallest: what equals it is in order.
                (at,) = f.branch(
                    f.compare("eq", pivot, largest(key)),
                    lambda: [high],
                    lambda: [
                        f.add(
                            low,
                            f.call(
                                f"{self.name}_split",
                                I64,
                                [*memory, low, high, f.binary("add", pivot, literal(key, 1))],
                            ),
                        )
                    ],
                )
                self._push(f, waiting, depth, at, high)
                return [f.add(depth, 1)]

            return [state, *f.branch(f.compare("sgt", fewer, zero), both, equal)]

        def part(carried: list[Value]) -> list[Value]:
            state, depth = carried[0], f.sub(carried[1], 1)
            at = f.element(waiting, I64, f.mul(depth, 2))
            low, high = f.load(at, I64), f.load(f.element(at, I64, 1), I64)
            size = f.sub(high, low)

            def small() -> list[Value]:
                f.call(f"{self.name}_block", VOID, [*arrays, low, size])
                return [state, depth]

            is_small = f.compare("sle", size, int_literal(self.vectors * self.lanes))
            return f.branch(is_small, small, lambda: large(low, high, size, state, depth))

        f.while_loop([int_literal(1), int_literal(1)], lambda carried: f.compare("sgt", carried[1], zero), part)
        f.ret()

    def _push(self, f: Function, waiting: Value, depth: Value, low: Value, high: Value) -> None:
        at = f.element(waiting, I64, f.mul(depth, 2))
        f.store(low, at)
        f.store(high, f.element(at, I64, 1))

    def _pivot(self, f: Function, keys: Value, low: Value, size: Value, state: Value) -> Value:
        """The median of one element of each of as many stretches as there are lanes."""
        stretch = f.binary("sdiv", size, int_literal(self.lanes))
        fraction = f.binary("lshr", state, int_literal(33))
        within = f.binary("lshr", f.mul(fraction, stretch), int_literal(31))
        numbers = f.iota(I64.vector(self.lanes))
        starts = f.binary("mul", numbers, f.splat(stretch, self.lanes))
        at = f.binary("add", starts, f.splat(f.add(low, within), self.lanes))
        sample = f.gather(keys, self._vectors[0], at, None)
        ((ordered,),) = sort_block(f, [(sample,)])
        return f.extract(ordered, self.lanes // 2)


