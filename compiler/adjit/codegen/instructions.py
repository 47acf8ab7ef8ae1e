"""The instructions of a body in their scopes: what each pass computes, what is kept from one pass to the next.

A value that two passes need is computed again where that is cheap, read back where it was stored, or kept on the stack.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adjit.codegen.access import Scope
from adjit.codegen.accumulate import Accumulators
from adjit.codegen.analysis import cost_of
from adjit.codegen.lanes import Lane
from adjit.codegen.llvm import Value, int_literal, literal, memory_type, register_type
from adjit.ir.op import OPS
from adjit.schedule.plan import (
    Apply,
    Const,
    Gather,
    Index,
    Inside,
    Load,
    Reduce,
    Store,
    Tile,
    operands,
)
from adjit.tuned import STASH_BYTES, STASH_COST


class Instructions(Accumulators):
    """Values of one body's instructions; its loops are unrolled and jammed: `copies` scopes go through the inner
    ones at once, each with accumulators of its own."""

    copies: int
    _needed: list[set[int]]
    _stashed: dict[int, tuple[Value, int]]
    _reloads: dict[int, Store]
    _current: int

    # -- what each pass computes --------------------------------------------------------------------------------------

    def _full(self, number: int) -> bool:
        return bool(self.analysis.varies[number] & self.reduced)

    def _plan_passes(self, copies: int) -> None:
        code, passes = self.body.code, self.analysis.passes
        self.copies, self._current, self._stashed, self._reloads = copies, 0, {}, {}
        self._needed = [set() for _ in range(self.analysis.count)]
        stash: set[int] = set()
        for p in reversed(range(self.analysis.count)):
            stack = [
                i for i, c in enumerate(code) if isinstance(c, (Store, Reduce)) and passes[i] == p and self._sinks(i)
            ]
            stack += [i for i in stash if passes[i] == p]
            while stack:
                i = stack.pop()
                if i in self._needed[p] or (not self._full(i) and not isinstance(code[i], Reduce)):
                    continue
                if isinstance(code[i], Reduce) and passes[i] != p:
                    continue
                self._needed[p].add(i)
                if passes[i] < p and not isinstance(code[i], (Store, Reduce)) and self._keeps(i):
                    stash.add(i)
                    continue
                stack.extend(operands(code[i]))
        for i in sorted(stash):
            self._place_stash(i)

    def _sinks(self, number: int) -> bool:
        """Whether a store or reduction belongs to the inner loops."""
        instruction = self.body.code[number]
        return isinstance(instruction, Reduce) or self._full(number)

    def _keeps(self, number: int) -> bool:
        if self.function.is_glue and self.body.code[number].dtype.kind == "b":
            # Bools are kept as bytes, of which glue has no vectors.
            return False
        cost, stack, seen = 0, [number], set()
        while stack:
            i = stack.pop()
            if i in seen or not self._full(i):
                continue
            seen.add(i)
            cost += cost_of(self.body.code[i])
            stack.extend(operands(self.body.code[i]))
        return cost > STASH_COST and (self._stored_as(number) is not None or self._stash_size(number) <= STASH_BYTES)

    def _stored_as(self, number: int) -> Store | None:
        for i, instruction in enumerate(self.body.code):
            if isinstance(instruction, Store) and instruction.arg == number and self._full(i):
                return instruction
        return None

    def _stash_size(self, number: int) -> int:
        count = 1
        for d in self.reduced:
            count *= self.body.domain[d]
        lanes = self.lanes * self.copies if self.vector is not None and self.vector not in self.reduced else 1
        return (count + 64) * lanes * self.body.code[number].dtype.itemsize

    def _place_stash(self, number: int) -> None:
        store = self._stored_as(number)
        if store is not None:
            self._reloads[number] = store
            return
        dtype = self.body.code[number].dtype
        size = self._stash_size(number) // dtype.itemsize
        self._stashed[number] = (self.function.alloca(memory_type(dtype), size), self.analysis.passes[number])

    def _inner(self) -> list[int]:
        """The reduced dimensions in the order of their loops: the vector is innermost."""
        dims = [d for d in self.body.reduced if d != self.vector]
        if self.vector is not None and self.vector in self.reduced:
            dims.append(self.vector)
        return dims

    # -- instructions -------------------------------------------------------------------------------------------------

    def _prepare(self, scope: Scope, numbers: Sequence[int]) -> None:
        """Compute what is known in this scope, and the addresses that inner scopes go on from."""
        entered = frozenset(scope.entered)
        for instruction in self.body.code:
            if isinstance(instruction, (Load, Gather, Store)):
                self._address(instruction.param, instruction.coefficients, scope)
        for i in numbers:
            if (
                i not in scope.values
                and i not in self.fused
                and self.analysis.varies[i] <= entered
                and self._is_ready(i, scope)
            ):
                scope.values[i] = self._compute(i, scope)

    def _is_ready(self, number: int, scope: Scope) -> bool:
        if number in self._stashed or number in self._reloads:
            return True
        return all(arg in scope.values for arg in operands(self.body.code[number]))

    def _is_vector(self, number: int) -> bool:
        return self.vector is not None and self.vector in self.analysis.varies[number]

    def _compute(self, number: int, scope: Scope) -> Lane:
        instruction = self.body.code[number]
        wide = self._is_vector(number)
        kit = self.vectors if wide else self.scalar
        if number in self._reloads and self._was_computed(number, scope):
            store = self._reloads[number]
            again = Load(store.param, store.coefficients, (), store.dtype)
            return self._load(again, scope, wide)
        if number in self._stashed and self._was_computed(number, scope):
            return self._load_stash(number, scope)
        if isinstance(instruction, Const):
            ty = register_type(instruction.dtype).vector(self.lanes if wide else 0)
            return kit.wrap(literal(ty, instruction.value), instruction.dtype)
        if isinstance(instruction, Load):
            return self._load(instruction, scope, wide)
        if isinstance(instruction, Gather):
            return self._gather(instruction, scope, wide)
        if isinstance(instruction, Tile):
            return self._load_tile(instruction, scope)
        if isinstance(instruction, Index):
            at = self._affine(instruction.constant, instruction.coefficients, scope, wide)
            return kit.cast(kit.wrap(at, np.dtype(np.int64)), instruction.dtype)
        if isinstance(instruction, Inside):
            return kit.wrap(self._within(instruction.bounds, scope, wide), instruction.dtype)
        assert isinstance(instruction, Apply)
        args = [self._widened(a, scope) if wide else scope.values[a] for a in instruction.args]
        rule = getattr(OPS[instruction.op], "scalar", None)
        assert rule is not None
        result: Lane = rule(kit, *args, **dict(instruction.attrs))
        return result

    def _was_computed(self, number: int, scope: Scope) -> bool:
        """Whether this pass comes after the one that computed a kept value."""
        return self._current > self.analysis.passes[number]

    # -- stores -------------------------------------------------------------------------------------------------------

    def _finish(self, scope: Scope, numbers: Sequence[int]) -> None:
        f = self.function
        for i in numbers:
            store = self.body.code[i]
            assert isinstance(store, Store)
            address = self._address(store.param, store.coefficients, scope)
            if not self._is_vector(i):
                f.store(self.to_memory(scope.values[store.arg].value, store.dtype), address)
                continue
            assert self.vector is not None
            value = self.to_memory(self._widened(store.arg, scope).value, store.dtype)
            self.store_lanes(value, address, store.coefficients[self.vector], scope.mask)

    def _stash_address(self, pointer: Value, scope: Scope, dtype: np.dtype) -> Value:
        f = self.function
        at = int_literal(0)
        for d in self._inner():
            at = f.add(f.mul(at, self.body.domain[d]), scope.index[d])
        if self.vector is not None and self.vector not in self.reduced:
            at = f.add(f.mul(at, self.lanes * self.copies), self.lanes * scope.copy)
        return f.element(pointer, memory_type(dtype), at)

    def _store_stash(self, number: int, pointer: Value, scope: Scope) -> None:
        dtype = self.body.code[number].dtype
        address = self._stash_address(pointer, scope, dtype)
        value = self.to_memory(scope.values[number].value, dtype)
        if scope.mask is not None and value.ty.lanes:
            self.function.masked_store(value, address, scope.mask)
        else:
            self.function.store(value, address)

    def _load_stash(self, number: int, scope: Scope) -> Lane:
        dtype = self.body.code[number].dtype
        address = self._stash_address(self._stashed[number][0], scope, dtype)
        wide = self._is_vector(number)
        ty = memory_type(dtype).vector(self.lanes if wide else 0)
        if scope.mask is not None and wide:
            raw = self.function.masked_load(address, ty, scope.mask)
        else:
            raw = self.function.load(address, ty)
        return (self.vectors if wide else self.scalar).wrap(self._from_memory(raw, dtype), dtype)
