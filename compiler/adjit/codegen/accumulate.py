"""The accumulators of reductions: where they start, how a value joins them, how lanes and partial results combine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from adjit.codegen.access import Access, Scope, TileAccess
from adjit.codegen.analysis import Analysis, analyse, reduction_identity
from adjit.codegen.lanes import Lane, Lanes
from adjit.codegen.llvm import I64, Function, Value, int_literal, literal, register_type
from adjit.ir.op import OPS
from adjit.schedule.plan import Apply, Body, Reduce, operands

FUSED = (np.dtype(np.float32), np.dtype(np.float64))
"""What has a fused multiply-add of its own."""

Accumulator = tuple[Value, ...]
"""One value for most reductions; value and position for argmax and argmin."""


class Accumulators(Access):
    """Accumulators of one body's reductions; a wide one has a lane for each lane of the vector dimension."""

    def __init__(
        self,
        function: Function,
        body: Body,
        pointers: dict[int, Value],
        lanes: int,
        vector: int | None,
        tile: TileAccess | None = None,
        running: bool = False,
    ) -> None:
        super().__init__(function, body, pointers, lanes, vector, tile)
        self.analysis: Analysis = analyse(body, running)
        self.reduced = frozenset(body.reduced)
        target = function.module.target
        self.fused = self._products_summed() if target is not None and target.fuses and not running else frozenset()

    def _products_summed(self) -> frozenset[int]:
        """The products that nothing but sums of their own pass reads: they are fused with the additions."""
        code, passes = self.body.code, self.analysis.passes
        summed: set[int] = set()
        read: set[int] = set()
        for number, instruction in enumerate(code):
            for arg in operands(instruction):
                one = code[arg]
                product = isinstance(one, Apply) and one.op == "mul" and one.dtype in FUSED
                is_sum = isinstance(instruction, Reduce) and instruction.op == "sum" and instruction.dtype == one.dtype
                (summed if product and is_sum and passes[arg] == passes[number] else read).add(arg)
        return frozenset(summed - read)

    def _split(self, reduces: list[int], values: Sequence[Value]) -> dict[int, Accumulator]:
        result: dict[int, Accumulator] = {}
        at = 0
        for i in reduces:
            width = 2 if self._is_position(i) else 1
            result[i] = tuple(values[at : at + width])
            at += width
        return result

    def _fresh(self, reduces: list[int]) -> list[Value]:
        return [value for i in reduces for value in self._identity(i)]

    def _is_position(self, number: int) -> bool:
        instruction = self.body.code[number]
        return isinstance(instruction, Reduce) and instruction.op in ("argmax", "argmin")

    def _is_wide(self, number: int) -> bool:
        """Whether the accumulator of a reduction is a vector."""
        instruction = self.body.code[number]
        assert isinstance(instruction, Reduce)
        if self.vector is None:
            return False
        return self.vector in self.reduced or self.vector in self.analysis.varies[instruction.arg]

    def _kit(self, number: int) -> Lanes:
        return self.vectors if self._is_wide(number) else self.scalar

    def _identity(self, number: int) -> list[Value]:
        instruction = self.body.code[number]
        assert isinstance(instruction, Reduce)
        dtype = self.body.code[instruction.arg].dtype
        lanes = self.lanes if self._is_wide(number) else 0
        start = literal(register_type(dtype).vector(lanes), reduction_identity(instruction.op, dtype))
        if not self._is_position(number):
            return [start]
        positions = I64.vector(lanes)
        if lanes and self.vector in self.reduced:
            return [start, self.function.iota(positions)]
        return [start, literal(positions, 0)]

    def _accumulate(self, number: int, parts: Accumulator, scope: Scope) -> list[Value]:
        instruction = self.body.code[number]
        assert isinstance(instruction, Reduce)
        kit = self._kit(number)
        dtype = self.body.code[instruction.arg].dtype
        if instruction.arg in self.fused:
            return [self._multiply_add(kit, instruction.arg, kit.wrap(parts[0], dtype), scope).value]
        x = self._widened(instruction.arg, scope) if self._is_wide(number) else scope.values[instruction.arg]
        if scope.mask is not None and self.vector in self.reduced:
            rest = kit.const(x, reduction_identity(instruction.op, dtype))
            x = kit.select(kit.wrap(scope.mask, np.dtype(np.bool_)), x, rest)
        if self._is_position(number):
            position = self._position(kit, scope)
            if scope.mask is not None and self.vector in self.reduced:
                # A lane beyond the end never wins: its position is the largest.
                last = literal(position.ty, np.iinfo(np.int64).max)
                position = self.function.select(scope.mask, position, last)
            return self._better(instruction.op, kit, dtype, parts, (x.value, position))
        combine = _combine(instruction.op)
        return [combine(kit, kit.wrap(parts[0], dtype), x).value]

    def _multiply_add(self, kit: Lanes, number: int, total: Lane, scope: Scope) -> Lane:
        """The total and a product, rounded once; as it was in lanes that are masked."""
        a, b = (
            self._widened(arg, scope) if kit is self.vectors else scope.values[arg]
            for arg in operands(self.body.code[number])
        )
        result = kit.fma(a, b, total)
        if scope.mask is not None and self.vector in self.reduced:
            return kit.select(kit.wrap(scope.mask, np.dtype(np.bool_)), result, total)
        return result

    def _position(self, kit: Lanes, scope: Scope) -> Value:
        f = self.function
        at = int_literal(0)
        for d in self.body.reduced:
            at = f.add(f.mul(at, self.body.domain[d]), scope.index[d])
        if kit is self.scalar:
            return at
        wide = f.splat(at, self.lanes)
        return f.binary("add", wide, f.iota(wide.ty)) if self.vector in self.reduced else wide

    def _better(self, op: str, kit: Lanes, dtype: np.dtype, old: Accumulator, new: Accumulator) -> list[Value]:
        """The better of two (value, position): the extremum, or the first NaN; of equals the earlier."""
        f = self.function
        a, b = kit.wrap(old[0], dtype), kit.wrap(new[0], dtype)
        wins = (b > a) if op == "argmax" else (b < a)
        ties = b == a
        if dtype.kind == "f":
            b_nan, a_nan = b != b, a != a
            wins = wins | (b_nan & ~a_nan)
            ties = ties | (b_nan & a_nan)
        earlier = kit.wrap(f.compare("slt", new[1], old[1]), np.dtype(np.bool_))
        take = (wins | (ties & earlier)).value
        return [f.select(take, new[0], old[0]), f.select(take, new[1], old[1])]

    def _join(self, reduces: list[int], a: Sequence[Value], b: Sequence[Value]) -> list[Value]:
        """Combine two sets of accumulators, copy by copy; `a` comes before `b`."""
        width = sum(2 if self._is_position(i) else 1 for i in reduces)
        result: list[Value] = []
        for at in range(0, len(a), width or 1):
            second = self._split(reduces, b[at : at + width])
            for i, parts in self._split(reduces, a[at : at + width]).items():
                result.extend(self._join_one(i, self._kit(i), parts, second[i]))
        return result

    def _join_one(self, number: int, kit: Lanes, a: Accumulator, b: Accumulator) -> list[Value]:
        instruction = self.body.code[number]
        assert isinstance(instruction, Reduce)
        dtype = self.body.code[instruction.arg].dtype
        if self._is_position(number):
            return self._better(instruction.op, kit, dtype, a, b)
        return [_combine(instruction.op)(kit, kit.wrap(a[0], dtype), kit.wrap(b[0], dtype)).value]

    def _across(self, number: int, parts: Accumulator) -> Lane:
        """A row's value: lanes are combined in a tree where the vector lies along the row."""
        f = self.function
        result_dtype = self.body.code[number].dtype
        if not (self._is_wide(number) and self.vector in self.reduced):
            return self._kit(number).wrap(parts[-1], result_dtype)
        lanes = self.lanes
        while lanes > 1:
            lanes //= 2
            low = tuple(f.shuffle(part, None, range(lanes)) for part in parts)
            high = tuple(f.shuffle(part, None, range(lanes, 2 * lanes)) for part in parts)
            parts = tuple(self._join_one(number, Lanes(f, lanes), low, high))
        return self.scalar.wrap(f.extract(parts[-1], 0), result_dtype)

    def _widened(self, number: int, scope: Scope) -> Lane:
        """An instruction's value in every lane."""
        value = scope.values[number]
        if self.vector is None or value.value.ty.lanes:
            return value
        if number not in scope.wide:
            scope.wide[number] = self.vectors.wrap(self.function.splat(value.value, self.lanes), value.dtype)
        return scope.wide[number]


def _combine(op: str) -> Callable[[Lanes, Lane, Lane], Lane]:
    op = {"cumsum": "sum", "cumprod": "prod"}.get(op, op)
    rule = getattr(OPS[op], "combine", None)
    assert rule is not None
    return rule  # type: ignore[no-any-return]
