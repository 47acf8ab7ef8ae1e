"""Loop nests from bodies: the one place where instructions over scalars become vectors in loops.

Each instruction is computed in the outermost loop in which it is known, as no later pass of LLVM moves it; every load
of an iteration comes before its stores, so that a result may lie in the place of an operand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from adjit.codegen.access import Access, Scope, TileAccess
from adjit.codegen.analysis import Analysis, analyse, cost_of, operands, reduction_identity
from adjit.codegen.lanes import Lane, Lanes
from adjit.codegen.llvm import (
    I1,
    I64,
    Function,
    Value,
    int_literal,
    literal,
    memory_type,
    register_type,
)
from adjit.ir.op import OPS
from adjit.schedule.plan import (
    Apply,
    Body,
    Const,
    Gather,
    Index,
    Inside,
    Load,
    Reduce,
    Store,
    Tile,
)

STASH_COST = 10
"""A value of an earlier pass that costs more than this is kept in scratch memory, a cheaper one computed again."""
STASH_BYTES = 32 << 10
"""Scratch memory of one row at most: it lies on the stack and should stay in L1."""
CHUNK = 256
"""A sum over more than four times as many steps is cut into partial sums of this many, so that errors grow slowly."""

Range = tuple[Value | int, Value | int]
Accumulator = tuple[Value, ...]


class Nest(Access):
    """Emits one body as loops into `function`. `sink`, where given, is called in the innermost scope."""

    def __init__(
        self,
        function: Function,
        body: Body,
        pointers: dict[int, Value],
        lanes: int,
        vector: int | None,
        *,
        ranges: dict[int, Range] | None = None,
        masked_only: bool = False,
        tile: TileAccess | None = None,
        running: bool = False,
        reverse: bool = False,
        sink: Callable[[Nest, Scope], None] | None = None,
    ) -> None:
        super().__init__(function, body, pointers, lanes, vector, tile)
        self.ranges = ranges or {}
        self.masked_only = masked_only
        self.running = running
        self.reverse = reverse
        self.sink = sink
        self.analysis: Analysis = analyse(body, running)
        self.reduced = frozenset(body.reduced)
        self._needed: list[set[int]] = []
        self._stashed: dict[int, tuple[Value, int]] = {}
        self._reloads: dict[int, Store] = {}
        self._current = 0
        self._plan_passes()

    # -- what each pass computes --------------------------------------------------------------------------------------

    def _full(self, number: int) -> bool:
        return bool(self.analysis.varies[number] & self.reduced)

    def _plan_passes(self) -> None:
        code, passes = self.body.code, self.analysis.passes
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
        lanes = self.lanes if self.vector is not None and self.vector not in self.reduced else 1
        return (count + 64) * lanes * self.body.code[number].dtype.itemsize

    def _place_stash(self, number: int) -> None:
        store = self._stored_as(number)
        if store is not None:
            self._reloads[number] = store
            return
        dtype = self.body.code[number].dtype
        size = self._stash_size(number) // dtype.itemsize
        self._stashed[number] = (self.function.alloca(memory_type(dtype), size), self.analysis.passes[number])

    # -- loops --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Emit everything."""
        scope = Scope()
        outer = [d for d in range(len(self.body.domain)) if d not in self.reduced and d != self.vector]
        if self.vector is not None and self.vector not in self.reduced:
            outer.append(self.vector)
        self._prepare(scope, self._early())
        self._outer(outer, scope)

    def _early(self) -> list[int]:
        """Instructions that no pass has to precede and that vary along no reduced dimension."""
        return [
            i
            for i, c in enumerate(self.body.code)
            if not self._full(i) and self.analysis.passes[i] == -1 and not isinstance(c, (Store, Reduce))
        ]

    def _outer(self, dims: Sequence[int], scope: Scope) -> None:
        if not dims:
            self._row(scope)
            return

        def inside(inner: Scope) -> None:
            self._prepare(inner, self._early())
            self._outer(dims[1:], inner)

        self._loop(dims[0], scope, [], lambda inner, _: (inside(inner), [])[1])

    def _row(self, scope: Scope) -> None:
        code, passes = self.body.code, self.analysis.passes
        for p in range(self.analysis.count):
            known = [i for i in range(len(code)) if not self._full(i) and passes[i] == p - 1 and self._is_value(i)]
            self._prepare(scope, known)
            self._current = p
            self._pass(p, scope)
        last = [i for i in range(len(code)) if not self._full(i) and self._is_value(i)]
        self._prepare(scope, last)
        self._finish(scope, [i for i, c in enumerate(code) if isinstance(c, Store) and not self._full(i)])
        if self.analysis.count == 0 and self.sink is not None:
            self.sink(self, scope)

    def _is_value(self, number: int) -> bool:
        return not isinstance(self.body.code[number], (Store, Reduce))

    def _loop(
        self,
        dim: int,
        scope: Scope,
        carried: list[Value],
        inside: Callable[[Scope, list[Value]], list[Value]],
        bounds: Range | None = None,
    ) -> list[Value]:
        """Loop over one dimension; the vector dimension by whole vectors, then a masked tail."""
        f = self.function
        start, stop = bounds or self.ranges.get(dim, (0, self.body.domain[dim]))
        if dim != self.vector:
            if start == 0 and stop == 1:
                return inside(scope.enter(dim, int_literal(0), None), carried)
            backwards = self.reverse and dim in self.reduced

            def step(i: Value, values: list[Value]) -> list[Value]:
                at = f.sub(int_literal(self.body.domain[dim] - 1), i) if backwards else i
                return inside(scope.enter(dim, at, None), values)

            return f.loop(start, stop, 1, carried, step)
        if isinstance(start, int) and isinstance(stop, int):
            return self._static_vector_loop(dim, scope, carried, inside, start, stop)
        first = start if isinstance(start, Value) else int_literal(start)
        end = stop if isinstance(stop, Value) else int_literal(stop)
        if self.masked_only:

            def masked(i: Value, values: list[Value]) -> list[Value]:
                return inside(scope.enter(dim, i, f.mask_below(self.lanes, f.sub(end, i))), values)

            return f.loop(first, end, self.lanes, carried, masked)
        whole = f.binary("and", f.sub(end, first), int_literal(-self.lanes))
        middle = f.add(first, whole)
        carried = f.loop(first, middle, self.lanes, carried, lambda i, v: inside(scope.enter(dim, i, None), v))

        def tail() -> list[Value]:
            mask = f.mask_below(self.lanes, f.sub(end, middle))
            return inside(scope.enter(dim, middle, mask), list(carried))

        return f.branch(f.compare("slt", middle, end), tail, lambda: carried)

    def _static_vector_loop(
        self,
        dim: int,
        scope: Scope,
        carried: list[Value],
        inside: Callable[[Scope, list[Value]], list[Value]],
        start: int,
        stop: int,
    ) -> list[Value]:
        f = self.function
        whole = (stop - start) // self.lanes * self.lanes
        if whole == self.lanes:
            carried = inside(scope.enter(dim, int_literal(start), None), carried)
        elif whole:
            carried = f.loop(
                start, start + whole, self.lanes, carried, lambda i, v: inside(scope.enter(dim, i, None), v)
            )
        rest = stop - start - whole
        if rest:
            bits = ", ".join(f"i1 {'true' if lane < rest else 'false'}" for lane in range(self.lanes))
            mask = Value(I1.vector(self.lanes), f"<{bits}>")
            carried = inside(scope.enter(dim, int_literal(start + whole), mask), carried)
        return carried

    def _pass(self, p: int, scope: Scope) -> None:
        code = self.body.code
        reduces = [i for i in sorted(self._needed[p]) if isinstance(code[i], Reduce)]
        dims = self._inner()
        start = [value for i in reduces for value in self._identity(i)]
        result = self._reduce_loops(p, dims, scope, start, reduces)
        for i, parts in self._split(reduces, result).items():
            if not self.running:
                scope.values[i] = self._across(i, parts)

    def _inner(self) -> list[int]:
        """The reduced dimensions in the order of their loops: the vector is innermost."""
        dims = [d for d in self.body.reduced if d != self.vector]
        if self.vector is not None and self.vector in self.reduced:
            dims.append(self.vector)
        return dims

    def _reduce_loops(
        self, p: int, dims: Sequence[int], scope: Scope, accumulators: list[Value], reduces: list[int]
    ) -> list[Value]:
        if not dims:
            return self._leaf(p, scope, accumulators, reduces)

        def inside(inner: Scope, values: list[Value]) -> list[Value]:
            self._prepare(inner, sorted(i for i in self._needed[p] if self._is_value(i) and not self._running_uses(i)))
            if len(dims) == 1 or self.running or not reduces:
                return self._reduce_loops(p, dims[1:], inner, values, reduces)
            fresh = [value for i in reduces for value in self._identity(i)]
            return self._join(reduces, values, self._reduce_loops(p, dims[1:], inner, fresh, reduces))

        dim = dims[0]
        step = self.lanes if dim == self.vector else 1
        n = self.body.domain[dim]
        if len(dims) > 1 or not reduces or self.running or n <= 4 * CHUNK * step:
            return self._loop(dim, scope, accumulators, inside)
        chunk = CHUNK * step
        whole = n // chunk * chunk

        def partial(start: Value, values: list[Value]) -> list[Value]:
            fresh = [value for i in reduces for value in self._identity(i)]
            return self._join(reduces, values, self._chunk(dim, scope, fresh, inside, start, step))

        accumulators = self.function.loop(0, whole, chunk, accumulators, partial)
        return self._loop(dim, scope, accumulators, inside, (whole, n)) if whole < n else accumulators

    def _chunk(
        self,
        dim: int,
        scope: Scope,
        carried: list[Value],
        inside: Callable[[Scope, list[Value]], list[Value]],
        start: Value,
        step: int,
    ) -> list[Value]:
        stop = self.function.add(start, CHUNK * step)
        return self.function.loop(start, stop, step, carried, lambda i, v: inside(scope.enter(dim, i, None), v))

    def _running_uses(self, number: int) -> bool:
        """Whether an instruction reads a running value, which is known only in the innermost scope."""
        if not self.running:
            return False
        stack = [number]
        while stack:
            i = stack.pop()
            if isinstance(self.body.code[i], Reduce):
                return True
            stack.extend(operands(self.body.code[i]))
        return False

    def _leaf(self, p: int, scope: Scope, accumulators: list[Value], reduces: list[int]) -> list[Value]:
        code = self.body.code
        values = sorted(i for i in self._needed[p] if self._is_value(i))
        self._prepare(scope, [i for i in values if not self._running_uses(i)])
        result: list[Value] = []
        for i, parts in self._split(reduces, accumulators).items():
            result.extend(self._accumulate(i, parts, scope))
            if self.running:
                scope.values[i] = self._kit(i).wrap(result[-1], code[i].dtype)
        self._prepare(scope, values)
        for i, (pointer, when) in self._stashed.items():
            if when == p:
                self._store_stash(i, pointer, scope)
        self._finish(scope, sorted(i for i in self._needed[p] if isinstance(code[i], Store)))
        if self.sink is not None:
            self.sink(self, scope)
        return result

    # -- reductions ---------------------------------------------------------------------------------------------------

    def _split(self, reduces: list[int], values: Sequence[Value]) -> dict[int, Accumulator]:
        result: dict[int, Accumulator] = {}
        at = 0
        for i in reduces:
            width = 2 if self._is_position(i) else 1
            result[i] = tuple(values[at : at + width])
            at += width
        return result

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
        result: list[Value] = []
        second = self._split(reduces, b)
        for i, parts in self._split(reduces, a).items():
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

    # -- instructions -------------------------------------------------------------------------------------------------

    def _prepare(self, scope: Scope, numbers: Sequence[int]) -> None:
        """Compute what is known in this scope, and the addresses that inner scopes go on from."""
        entered = frozenset(scope.entered)
        for instruction in self.body.code:
            if isinstance(instruction, (Load, Gather, Store)):
                self._address(instruction.param, instruction.coefficients, scope)
        for i in numbers:
            if i not in scope.values and self.analysis.varies[i] <= entered and self._is_ready(i, scope):
                scope.values[i] = self._compute(i, scope)

    def _is_ready(self, number: int, scope: Scope) -> bool:
        if number in self._stashed or number in self._reloads:
            return True
        return all(arg in scope.values for arg in operands(self.body.code[number]))

    def _is_vector(self, number: int) -> bool:
        return self.vector is not None and self.vector in self.analysis.varies[number]

    def _widened(self, number: int, scope: Scope) -> Lane:
        """An instruction's value in every lane."""
        value = scope.values[number]
        if self.vector is None or value.value.ty.lanes:
            return value
        if number not in scope.wide:
            scope.wide[number] = self.vectors.wrap(self.function.splat(value.value, self.lanes), value.dtype)
        return scope.wide[number]

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
            at = f.mul(at, self.lanes)
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


def _combine(op: str) -> Callable[[Lanes, Lane, Lane], Lane]:
    op = {"cumsum": "sum", "cumprod": "prod"}.get(op, op)
    rule = getattr(OPS[op], "combine", None)
    assert rule is not None
    return rule  # type: ignore[no-any-return]
