"""The instructions of a body in their scopes: each is computed in the outermost one in which it is known."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from adjit.codegen.access import Access
from adjit.codegen.kept import Kept
from adjit.codegen.lanes import Lane
from adjit.codegen.llvm import literal, register_type
from adjit.codegen.vectorized import Scope, Vectorized
from adjit.ir.op import OPS
from adjit.schedule.instructions import Apply, Const, Gather, Index, Inside, Load, ProductElement, Store, operands


class Instructions:
    """The values of a body's instructions, but for the `fused` ones, which the accumulators compute.

    `prepare` computes what a scope knows of some instructions, `finish` writes some stores. `current` is the pass that
    is being emitted: what an earlier one has kept is read."""

    def __init__(self, work: Vectorized, access: Access, kept: Kept, fused: Collection[int]) -> None:
        self.work = work
        self.access = access
        self.kept = kept
        self.fused = fused
        self.current = 0

    def prepare(self, scope: Scope, numbers: Iterable[int]) -> None:
        """Compute what is known in this scope, and the addresses that inner scopes go on from."""
        entered = frozenset(scope.entered)
        for instruction in self.work.code:
            if isinstance(instruction, (Load, Gather, Store)):
                self.access.address(instruction.param, instruction.coefficients, scope)
        for i in numbers:
            if (
                i not in scope.values
                and i not in self.fused
                and self.work.varies[i] <= entered
                and self._is_ready(i, scope)
            ):
                scope.values[i] = self._compute(i, scope)

    def finish(self, scope: Scope, numbers: Iterable[int]) -> None:
        """Write stores of these numbers, those that fill memory together as whole vectors."""
        left = list(numbers)
        for group in self.work.body.beside:
            if self.access.fills([self.work.stores(i) for i in group], scope) and all(i in left for i in group):
                self.access.store_beside([self.work.stores(i) for i in group], scope)
                left = [i for i in left if i not in group]
        for i in left:
            self.access.store(self.work.stores(i), scope, self.work.is_wide(i))

    def _is_ready(self, number: int, scope: Scope) -> bool:
        return self.kept.has(number) or all(arg in scope.values for arg in operands(self.work.code[number]))

    def _compute(self, number: int, scope: Scope) -> Lane:
        instruction = self.work.code[number]
        wide = self.work.is_wide(number)
        kit = self.work.vectors if wide else self.work.scalar
        if self.current > self.work.passes[number] and self.kept.has(number):
            return self.kept.load(number, scope)
        if isinstance(instruction, Const):
            ty = register_type(instruction.dtype).vector(self.work.lanes if wide else 0)
            return kit.wrap(literal(ty, instruction.value), instruction.dtype)
        if isinstance(instruction, Load):
            return self.access.load(instruction, scope, wide)
        if isinstance(instruction, Gather):
            return self.access.gather(instruction, scope, wide)
        if isinstance(instruction, ProductElement):
            return self.access.load_product(instruction, scope)
        if isinstance(instruction, Index):
            at = self.access.affine(instruction.constant, instruction.coefficients, scope, wide)
            return kit.cast(kit.wrap(at, np.dtype(np.int64)), instruction.dtype)
        if isinstance(instruction, Inside):
            return kit.wrap(self.access.within(instruction.bounds, scope, wide), instruction.dtype)
        assert isinstance(instruction, Apply)
        args = [self.work.widened(a, scope) if wide else scope.values[a] for a in instruction.args]
        rule = getattr(OPS[instruction.op], "scalar", None)
        assert rule is not None
        result: Lane = rule(kit, *args, **dict(instruction.attrs))
        return result
