"""Loop nests from bodies: the one place where instructions over scalars become vectors in loops.

Each instruction is computed in the outermost loop in which it is known, as no later pass of LLVM moves it; every load
of an iteration comes before its stores, so that a result may lie in the place of an operand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from adjit.codegen.analysis import Analysis, analyse, cost_of, operands, reduction_identity
from adjit.codegen.lanes import Lane, Lanes
from adjit.codegen.llvm import (
    I1,
    I8,
    I64,
    Function,
    Ty,
    Value,
    int_literal,
    literal,
    memory_type,
    register_type,
    vector_literal,
)
from adjit.ir.op import OPS
from adjit.schedule.plan import (
    Apply,
    Body,
    Bounds,
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


@dataclass(frozen=True, slots=True)
class TileAccess:
    """Where the finished product lies in an epilogue: element (i, j) at pointer[(i - i0) * row + (j - j0)]."""

    pointer: Value
    row: Value
    i0: Value
    j0: Value
    m_dim: int
    n_dim: int


@dataclass(eq=False, slots=True)
class Scope:
    """What is known inside some loops: values of instructions, indices, addresses, and the mask of a tail."""

    entered: tuple[int, ...] = ()
    index: dict[int, Value] = field(default_factory=dict)
    values: dict[int, Lane] = field(default_factory=dict)
    addresses: dict[tuple[int, tuple[int, ...]], Value] = field(default_factory=dict)
    wide: dict[int, Lane] = field(default_factory=dict)
    mask: Value | None = None

    def enter(self, dim: int, index: Value, mask: Value | None) -> Scope:
        """The scope inside one more loop."""
        return Scope(
            (*self.entered, dim),
            {**self.index, dim: index},
            dict(self.values),
            dict(self.addresses),
            dict(self.wide),
            mask if mask is not None else self.mask,
        )


class Nest:
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
        self.function = function
        self.body = body
        self.pointers = pointers
        self.lanes = lanes
        self.vector = vector
        self.ranges = ranges or {}
        self.masked_only = masked_only
        self.tile = tile
        self.running = running
        self.reverse = reverse
        self.sink = sink
        self.analysis: Analysis = analyse(body, running)
        self.scalar = Lanes(function, 0)
        self.vectors = Lanes(function, lanes) if vector is not None else self.scalar
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
                if isinstance(code[i], Reduce) and not self._sinks(i):
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
        dims = [d for d in self.body.reduced if d != self.vector]
        if self.vector in self.reduced:
            dims.append(self.vector)  # type: ignore[arg-type]
        start = [value for i in reduces for value in self._identity(i)]
        result = self._reduce_loops(p, dims, scope, start, reduces)
        for i, parts in self._split(reduces, result).items():
            if not self.running:
                scope.values[i] = self._across(i, parts)

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

    def _address(self, param: int, coefficients: tuple[int, ...], scope: Scope) -> Value:
        """The address of an access as far as the loops that are entered say."""
        f = self.function
        dtype = self.body.params[param - min(self.pointers, default=0)]
        key: tuple[int, ...] = (0,) * len(coefficients)
        address = self.pointers[param]
        for d in scope.entered:
            if coefficients[d] == 0:
                continue
            key = (*key[:d], coefficients[d], *key[d + 1 :])
            known = scope.addresses.get((param, key))
            if known is None:
                known = f.element(address, memory_type(dtype), f.mul(scope.index[d], coefficients[d]))
                scope.addresses[param, key] = known
            address = known
        return address

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

    def _affine(self, constant: int, coefficients: Sequence[int], scope: Scope, wide: bool) -> Value:
        f = self.function
        at = int_literal(constant)
        for d, c in enumerate(coefficients):
            if c:
                at = f.add(f.mul(scope.index[d], c), at)
        if not wide:
            return at
        assert self.vector is not None
        lanes = f.splat(at, self.lanes)
        stride = coefficients[self.vector]
        if stride == 0:
            return lanes
        return f.binary("add", lanes, self._steps(stride))

    def _within(self, bounds: Bounds, scope: Scope, wide: bool) -> Value:
        """Whether all bounds hold, in each lane where `wide`."""
        f = self.function
        result: Value | None = None
        for constant, coefficients, n in bounds:
            at = self._affine(constant, coefficients, scope, wide)
            test = f.compare("ult", at, literal(at.ty, n))
            result = test if result is None else f.binary("and", result, test)
        assert result is not None
        return result

    def _mask(self, bounds: Bounds, scope: Scope) -> Value | None:
        """The lanes that may be touched; None for all."""
        mask = scope.mask
        if bounds:
            within = self._within(bounds, scope, True)
            mask = within if mask is None else self.function.binary("and", mask, within)
        return mask

    def _load(self, instruction: Load, scope: Scope, wide: bool) -> Lane:
        f = self.function
        address = self._address(instruction.param, instruction.coefficients, scope)
        dtype = instruction.dtype
        memory = memory_type(dtype)
        if not wide:
            if instruction.bounds:
                address = self._safe(address, instruction.bounds, scope, dtype)
            return self.scalar.wrap(self._from_memory(f.load(address, memory), dtype), dtype)
        assert self.vector is not None
        stride = instruction.coefficients[self.vector]
        raw = self._load_lanes(address, memory.vector(self.lanes), stride, self._mask(instruction.bounds, scope))
        return self.vectors.wrap(self._from_memory(raw, dtype), dtype)

    def _load_lanes(self, address: Value, ty: Ty, stride: int, mask: Value | None) -> Value:
        f = self.function
        if stride == 1:
            return f.load(address, ty) if mask is None else f.masked_load(address, ty, mask)
        return f.gather(address, ty, self._steps(stride), mask)

    def _steps(self, stride: int) -> Value:
        """0, stride, 2 stride, ... in the lanes."""
        return vector_literal(
            I64.vector(self.lanes), range(0, stride * self.lanes, stride) if stride else [0] * self.lanes
        )

    def _safe(self, address: Value, bounds: Bounds, scope: Scope, dtype: np.dtype) -> Value:
        """An address that may be read whether or not the bounds hold."""
        f = self.function
        nowhere = f.alloca(memory_type(dtype), 1)
        f.store(literal(memory_type(dtype), 0), nowhere)
        return f.select(self._within(bounds, scope, False), address, nowhere)

    def _gather(self, instruction: Gather, scope: Scope, wide: bool) -> Lane:
        f = self.function
        dtype = instruction.dtype
        memory = memory_type(dtype)
        address = self._address(instruction.param, instruction.coefficients, scope)
        at = scope.values[instruction.at].value
        if not at.ty.lanes:
            # Held within the axis, whatever another thread does to the index after its check.
            at = f.intrinsic("umin", at.ty, (at, literal(at.ty, max(instruction.size - 1, 0))))
            address = f.element(address, memory, f.mul(at, instruction.stride))
            if not wide:
                if instruction.bounds:
                    address = self._safe(address, instruction.bounds, scope, dtype)
                return self.scalar.wrap(self._from_memory(f.load(address, memory), dtype), dtype)
            assert self.vector is not None
            mask = self._mask(instruction.bounds, scope)
            raw = self._load_lanes(address, memory.vector(self.lanes), instruction.coefficients[self.vector], mask)
            return self.vectors.wrap(self._from_memory(raw, dtype), dtype)
        assert self.vector is not None
        at = f.intrinsic("umin", at.ty, (at, literal(at.ty, max(instruction.size - 1, 0))))
        offsets = f.binary("mul", at, literal(at.ty, instruction.stride))
        stride = instruction.coefficients[self.vector]
        offsets = f.binary("add", offsets, self._steps(stride))
        raw = f.gather(address, memory.vector(self.lanes), offsets, self._mask(instruction.bounds, scope))
        return self.vectors.wrap(self._from_memory(raw, dtype), dtype)

    def _load_tile(self, instruction: Tile, scope: Scope) -> Lane:
        f = self.function
        assert self.tile is not None
        tile = self.tile
        row = f.mul(f.sub(scope.index[tile.m_dim], tile.i0), tile.row)
        at = f.add(row, f.sub(scope.index[tile.n_dim], tile.j0))
        memory = memory_type(instruction.dtype)
        address = f.element(tile.pointer, memory, at)
        if self.vector is None:
            return self.scalar.wrap(f.load(address, memory), instruction.dtype)
        ty = memory.vector(self.lanes)
        raw = f.load(address, ty) if scope.mask is None else f.masked_load(address, ty, scope.mask)
        return self.vectors.wrap(raw, instruction.dtype)

    def _from_memory(self, raw: Value, dtype: np.dtype) -> Value:
        if dtype.kind != "b":
            return raw
        return self.function.compare("ne", raw, literal(raw.ty, 0))

    def to_memory(self, value: Value, dtype: np.dtype) -> Value:
        """A register's value as it lies in memory: a bool is a byte."""
        return self.function.convert("zext", value, I8.vector(value.ty.lanes)) if dtype.kind == "b" else value

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

    def store_lanes(self, value: Value, address: Value, stride: int, mask: Value | None) -> None:
        """Write lanes `stride` elements apart."""
        f = self.function
        if stride == 1:
            if mask is None:
                f.store(value, address)
            else:
                f.masked_store(value, address, mask)
            return
        f.scatter(value, address, self._steps(stride), mask)

    def _stash_address(self, pointer: Value, scope: Scope, dtype: np.dtype) -> Value:
        f = self.function
        at = int_literal(0)
        for d in self.body.reduced:
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
