"""What each pass of a body's inner loops computes, and what it keeps for a later one.

A value that two passes need is computed again where that is cheap, read back where it was stored, or kept on the stack.
"""

from __future__ import annotations

from adjit.codegen.access import Access
from adjit.codegen.analysis import cost_of
from adjit.codegen.lanes import Lane
from adjit.codegen.llvm import Value, int_literal, memory_type
from adjit.codegen.vectorized import Scope, Vectorized
from adjit.schedule.instructions import Load, Reduce, Store, operands
from adjit.tuned import STASH_BYTES, STASH_COST


class Kept:
    """The values that passes keep. `copies` scopes go through the inner loops at once, each with values of its own.

    `needed` has what each pass computes; `has` says whether a value is kept, `save` writes those of a pass that go to
    the stack, `load` reads a value back."""

    def __init__(self, work: Vectorized, access: Access, copies: int) -> None:
        self.work = work
        self.access = access
        self.copies = copies
        self.inner = inner_dimensions(work)
        self.needed, kept = self._needs()
        self._stored: dict[int, Store] = {}
        self._stack: dict[int, Value] = {}
        for number in sorted(kept):
            store = self._stored_as(number)
            if store is not None:
                self._stored[number] = store
                continue
            dtype = work.code[number].dtype
            size = self._stack_bytes(number) // dtype.itemsize
            self._stack[number] = work.function.alloca(memory_type(dtype), size)

    def has(self, number: int) -> bool:
        """Whether passes after the one that computes a value take it from memory."""
        return number in self._stack or number in self._stored

    def save(self, number_of_pass: int, scope: Scope) -> None:
        """Put what this pass has computed on the stack."""
        for number, pointer in self._stack.items():
            if self.work.passes[number] == number_of_pass:
                address = self._stack_address(number, pointer, scope)
                value = self.access.to_memory(scope.values[number].value, self.work.code[number].dtype)
                self.access.store_lanes(value, address, 1, scope.mask if value.ty.lanes else None)

    def load(self, number: int, scope: Scope) -> Lane:
        """A value that an earlier pass has kept."""
        wide = self.work.is_wide(number)
        store = self._stored.get(number)
        if store is not None:
            return self.access.load(Load(store.param, store.coefficients, (), store.dtype), scope, wide)
        dtype = self.work.code[number].dtype
        address = self._stack_address(number, self._stack[number], scope)
        if wide:
            return self.access.load_lanes(address, dtype, 1, scope.mask)
        return self.access.load_element(address, dtype)

    # -- what is kept -------------------------------------------------------------------------------------------------

    def _needs(self) -> tuple[list[set[int]], set[int]]:
        """What each pass computes, and what a later one takes from memory."""
        work, code, passes = self.work, self.work.code, self.work.passes
        needed: list[set[int]] = [set() for _ in range(work.analysis.count)]
        kept: set[int] = set()
        for p in reversed(range(work.analysis.count)):
            stack = [i for i in range(len(code)) if passes[i] == p and self._ends_pass(i)]
            stack += [i for i in kept if passes[i] == p]
            while stack:
                i = stack.pop()
                if i in needed[p] or (not work.is_full(i) and not isinstance(code[i], Reduce)):
                    continue
                if isinstance(code[i], Reduce) and passes[i] != p:
                    continue
                needed[p].add(i)
                if passes[i] < p and work.is_value(i) and self._pays(i):
                    kept.add(i)
                    continue
                stack.extend(operands(code[i]))
        return needed, kept

    def _ends_pass(self, number: int) -> bool:
        """Whether an instruction is a store or a reduction of the inner loops."""
        return isinstance(self.work.code[number], Reduce) or (
            isinstance(self.work.code[number], Store) and self.work.is_full(number)
        )

    def _pays(self, number: int) -> bool:
        """Whether a value is kept, not computed again."""
        code = self.work.code
        if self.work.function.is_glue and code[number].dtype.kind == "b":
            # Bools are kept as bytes, of which glue has no vectors.
            return False
        cost, stack, seen = 0, [number], set()
        while stack:
            i = stack.pop()
            if i in seen or not self.work.is_full(i):
                continue
            seen.add(i)
            cost += cost_of(code[i])
            stack.extend(operands(code[i]))
        return cost > STASH_COST and (self._stored_as(number) is not None or self._stack_bytes(number) <= STASH_BYTES)

    def _stored_as(self, number: int) -> Store | None:
        for i, instruction in enumerate(self.work.code):
            if isinstance(instruction, Store) and instruction.arg == number and self.work.is_full(i):
                return instruction
        return None

    # -- the stack ----------------------------------------------------------------------------------------------------

    @property
    def _lanes_beside(self) -> int:
        """Elements that lie side by side: lanes across rows, of all copies."""
        across = self.work.vector is not None and not self.work.reduces_lanes
        return self.work.lanes * self.copies if across else 1

    def _stack_bytes(self, number: int) -> int:
        count = 1
        for d in self.work.reduced:
            count *= self.work.body.domain[d]
        return (count + 64) * self._lanes_beside * self.work.code[number].dtype.itemsize

    def _stack_address(self, number: int, pointer: Value, scope: Scope) -> Value:
        f, work = self.work.function, self.work
        at = int_literal(0)
        for d in self.inner:
            # It is read back ahead of the loops along which it is the same.
            if d in work.varies[number]:
                at = f.add(f.mul(at, work.body.domain[d]), scope.index[d])
        if work.vector is not None and not work.reduces_lanes:
            at = f.add(f.mul(at, self._lanes_beside), work.lanes * scope.copy)
        return f.element(pointer, memory_type(work.code[number].dtype), at)


def inner_dimensions(work: Vectorized) -> list[int]:
    """The reduced dimensions in the order of their loops: the vector is innermost."""
    dims = [d for d in work.body.reduced if d != work.vector]
    return [*dims, work.vector] if work.vector is not None and work.reduces_lanes else dims
