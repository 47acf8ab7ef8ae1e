"""The accumulators of reductions: where they start, how a value joins them, how lanes and partial results combine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from adjit.codegen.analysis import reduction_identity
from adjit.codegen.lanes import Lane, Lanes
from adjit.codegen.llvm import I64, Value, int_literal, literal, register_type
from adjit.codegen.vectorized import Scope, Vectorized
from adjit.ir.op import OPS
from adjit.schedule.instructions import Apply, Reduce, operands

FUSED = (np.dtype(np.float32), np.dtype(np.float64))
"""What has a fused multiply-add of its own."""

Accumulator = tuple[Value, ...]
"""One value for most reductions; value and position for argmax and argmin."""


class Accumulators:
    """Accumulators of a body's reductions, which the loops carry as flat lists: those of the numbers `reduces`, in that
    order. A wide one has a lane for each lane of the vector dimension.

    `fresh` is what they start from, `accumulate` adds one element, `join` combines two lists of them, `row_values` is
    what the reductions have found. `fused` are the products that are added as they are computed, rounded once: nothing
    else may compute them."""

    def __init__(self, work: Vectorized) -> None:
        self.work = work
        self.fused = _products_summed(work)

    def fresh(self, reduces: Sequence[int]) -> list[Value]:
        """What reductions start from."""
        return [value for i in reduces for value in self._identity(i)]

    def accumulate(self, reduces: Sequence[int], totals: Sequence[Value], scope: Scope) -> list[Value]:
        """The totals with the values of this scope. One that runs is a value of the scope, too."""
        result: list[Value] = []
        for i, parts in self._split(reduces, totals).items():
            result.extend(self._accumulated(i, parts, scope))
            if self.work.running:
                scope.values[i] = self._kit(i).wrap(result[-1], self.work.code[i].dtype)
        return result

    def join(self, reduces: Sequence[int], a: Sequence[Value], b: Sequence[Value]) -> list[Value]:
        """Combine the accumulators of several copies, copy by copy; `a` comes before `b`."""
        width = sum(2 if self._is_position(i) else 1 for i in reduces)
        result: list[Value] = []
        for at in range(0, len(a), width or 1):
            second = self._split(reduces, b[at : at + width])
            for i, parts in self._split(reduces, a[at : at + width]).items():
                result.extend(self._joined(i, self._kit(i), parts, second[i]))
        return result

    def row_values(self, reduces: Sequence[int], totals: Sequence[Value]) -> dict[int, Lane]:
        """What the reductions have found: lanes are combined where they lie along the row."""
        return {i: self._across(i, parts) for i, parts in self._split(reduces, totals).items()}

    # -- one reduction ------------------------------------------------------------------------------------------------

    def _split(self, reduces: Sequence[int], values: Sequence[Value]) -> dict[int, Accumulator]:
        result: dict[int, Accumulator] = {}
        at = 0
        for i in reduces:
            width = 2 if self._is_position(i) else 1
            result[i] = tuple(values[at : at + width])
            at += width
        return result

    def _is_position(self, number: int) -> bool:
        return self.work.reduction(number).op in ("argmax", "argmin")

    def _is_wide(self, number: int) -> bool:
        """Whether the accumulator of a reduction is a vector."""
        if self.work.vector is None:
            return False
        return self.work.reduces_lanes or self.work.is_wide(self.work.reduction(number).arg)

    def _kit(self, number: int) -> Lanes:
        return self.work.vectors if self._is_wide(number) else self.work.scalar

    def _reduced_dtype(self, number: int) -> np.dtype:
        return self.work.code[self.work.reduction(number).arg].dtype

    def _identity(self, number: int) -> list[Value]:
        dtype = self._reduced_dtype(number)
        lanes = self.work.lanes if self._is_wide(number) else 0
        first = reduction_identity(self.work.reduction(number).op, dtype)
        start = literal(register_type(dtype).vector(lanes), first)
        if not self._is_position(number):
            return [start]
        positions = I64.vector(lanes)
        if lanes and self.work.reduces_lanes:
            return [start, self.work.function.iota(positions)]
        return [start, literal(positions, 0)]

    def _accumulated(self, number: int, parts: Accumulator, scope: Scope) -> list[Value]:
        instruction = self.work.reduction(number)
        kit = self._kit(number)
        dtype = self._reduced_dtype(number)
        if instruction.arg in self.fused:
            return [self._multiply_add(kit, instruction.arg, kit.wrap(parts[0], dtype), scope).value]
        x = self._operand(kit, instruction.arg, scope)
        mask = scope.mask if self.work.reduces_lanes else None
        if mask is not None:
            rest = kit.const(x, reduction_identity(instruction.op, dtype))
            x = kit.select(kit.wrap(mask, np.dtype(np.bool_)), x, rest)
        if not self._is_position(number):
            return [_combine(instruction.op)(kit, kit.wrap(parts[0], dtype), x).value]
        position = self._position(kit, scope)
        if mask is not None:
            # A lane beyond the end never wins: its position is the largest.
            last = literal(position.ty, np.iinfo(np.int64).max)
            position = self.work.function.select(mask, position, last)
        return self._better(instruction.op, kit, dtype, parts, (x.value, position))

    def _operand(self, kit: Lanes, number: int, scope: Scope) -> Lane:
        return self.work.widened(number, scope) if kit is self.work.vectors else scope.values[number]

    def _multiply_add(self, kit: Lanes, number: int, total: Lane, scope: Scope) -> Lane:
        """The total and a product, rounded once; as it was in lanes that are masked."""
        a, b = (self._operand(kit, arg, scope) for arg in operands(self.work.code[number]))
        result = kit.fma(a, b, total)
        if scope.mask is not None and self.work.reduces_lanes:
            return kit.select(kit.wrap(scope.mask, np.dtype(np.bool_)), result, total)
        return result

    def _position(self, kit: Lanes, scope: Scope) -> Value:
        f = self.work.function
        at = int_literal(0)
        for d in self.work.body.reduced:
            at = f.add(f.mul(at, self.work.body.domain[d]), scope.index[d])
        if kit is self.work.scalar:
            return at
        wide = f.splat(at, self.work.lanes)
        return f.binary("add", wide, f.iota(wide.ty)) if self.work.reduces_lanes else wide

    def _better(self, op: str, kit: Lanes, dtype: np.dtype, old: Accumulator, new: Accumulator) -> list[Value]:
        """The better of two (value, position): the extremum, or the first NaN; of equals the earlier."""
        f = self.work.function
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

    def _joined(self, number: int, kit: Lanes, a: Accumulator, b: Accumulator) -> list[Value]:
        op, dtype = self.work.reduction(number).op, self._reduced_dtype(number)
        if self._is_position(number):
            return self._better(op, kit, dtype, a, b)
        return [_combine(op)(kit, kit.wrap(a[0], dtype), kit.wrap(b[0], dtype)).value]

    def _across(self, number: int, parts: Accumulator) -> Lane:
        """A row's value: lanes are combined in a tree where the vector lies along the row."""
        f = self.work.function
        result_dtype = self.work.code[number].dtype
        if not (self._is_wide(number) and self.work.reduces_lanes):
            return self._kit(number).wrap(parts[-1], result_dtype)
        lanes = self.work.lanes
        while lanes > 1:
            lanes //= 2
            low = tuple(f.shuffle(part, None, range(lanes)) for part in parts)
            high = tuple(f.shuffle(part, None, range(lanes, 2 * lanes)) for part in parts)
            parts = tuple(self._joined(number, Lanes(f, lanes), low, high))
        return self.work.scalar.wrap(f.extract(parts[-1], 0), result_dtype)


def _products_summed(work: Vectorized) -> frozenset[int]:
    """The products that nothing but sums of their own pass reads: they are fused with the additions."""
    target = work.function.module.target
    if target is None or not target.fuses or work.running:
        return frozenset()
    code, passes = work.code, work.passes
    summed: set[int] = set()
    read: set[int] = set()
    for number, instruction in enumerate(code):
        for arg in operands(instruction):
            one = code[arg]
            product = isinstance(one, Apply) and one.op == "mul" and one.dtype in FUSED
            is_sum = isinstance(instruction, Reduce) and instruction.op == "sum" and instruction.dtype == one.dtype
            (summed if product and is_sum and passes[arg] == passes[number] else read).add(arg)
    return frozenset(summed - read)


def _combine(op: str) -> Callable[[Lanes, Lane, Lane], Lane]:
    op = {"cumsum": "sum", "cumprod": "prod"}.get(op, op)
    rule = getattr(OPS[op], "combine", None)
    assert rule is not None
    return rule  # type: ignore[no-any-return]
