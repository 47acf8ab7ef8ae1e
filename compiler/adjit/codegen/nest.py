"""Loop nests from bodies: the one place where instructions over scalars become vectors in loops.

Each instruction is computed in the outermost loop in which it is known, as no later pass of LLVM moves it; every load
of an iteration comes before its stores, so that a result may lie in the place of an operand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adjit.codegen.access import Scope, TileAccess
from adjit.codegen.analysis import total_cost
from adjit.codegen.instructions import Instructions
from adjit.codegen.llvm import (
    I1,
    Function,
    Value,
    int_literal,
)
from adjit.schedule.plan import (
    Body,
    Prefetch,
    Reduce,
    Store,
    operands,
)
from adjit.tuned import (
    BLOCKED_ROWS,
    GLUE_JAM,
    HOISTED_ROW_COST,
    HOISTED_SHARE,
    REDUCTION_JAM,
    REDUCTION_JAM_COST,
    ROWS_COST,
    ROWS_FROM,
    SUM_CHUNK,
    SUM_CHUNKS,
)
from adjit_runtime.target import LINE

Range = tuple[Value | int, Value | int]


class Nest(Instructions):
    """Emits one body as loops into `function`. `sink`, where given, is called in the innermost scope.

    Where the range of the vector dimension is known at run time only, `whole_only` promises that it is a multiple of
    the lanes, and `masked_only` takes one loop with masks for a loop without and a tail: less code, slower stores. Of
    `most_copies` vectors that a reduction takes together across columns it is a multiple, too, then."""

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
        whole_only: bool = False,
        most_copies: int = REDUCTION_JAM,
        tile: TileAccess | None = None,
        prefetches: Sequence[Prefetch] = (),
        running: bool = False,
        reverse: bool = False,
        sink: Callable[[Nest, Scope], None] | None = None,
    ) -> None:
        super().__init__(function, body, pointers, lanes, vector, tile, running)
        self.ranges = ranges or {}
        self.prefetches = prefetches
        self.hoisted: list[Scope] = []
        self.masked_only = masked_only
        self.whole_only = whole_only
        self.most_copies = most_copies
        self.running = running
        self.reverse = reverse
        self.sink = sink
        self.rows = self._blocked_rows()
        self._plan_passes(max(1, self._jam_factor() // self.rows))

    def _jam_factor(self) -> int:
        """How many vectors go through the inner loops of a reduction together: it hides the latency of sums."""
        if self.vector is None or not self.reduced or self.running:
            return 1
        n = self.body.domain[self.vector]
        inner = (c for c, dims in zip(self.body.code, self.analysis.varies, strict=True) if dims & self.reduced)
        cost = total_cost(inner)
        most = min(self.most_copies, GLUE_JAM if self.function.is_glue else REDUCTION_JAM)
        vectors = -(-n // self.lanes)
        most = max(1, min(most, REDUCTION_JAM_COST // max(cost, 1), vectors))
        if self.vector in self.reduced:
            return most
        # Across columns the order of no sum depends on it: one of the largest that leave nothing over.
        is_promised = self.whole_only and self.vector in self.ranges
        least, unit = (0, self.most_copies) if is_promised else (most // 2, vectors)
        return next((copies for copies in range(most, least, -1) if unit % copies == 0), most)

    def _blocked_rows(self) -> int:
        """How many rows go through the inner loop of a reduction along them together: that hides the latency of its
        sums, and rows far apart come faster from memory, which is read in several places then; but not those that are
        prefetched in their order."""
        rows = [d for d in range(len(self.body.domain)) if d not in self.reduced]
        plain = self.analysis.count == 1 and not (self.running or self.prefetches or self.sink or self.function.is_glue)
        if not plain or not rows or self.body.reduced != (self.vector,) or self.body.domain[rows[-1]] < ROWS_FROM:
            return 1
        return BLOCKED_ROWS if total_cost(self.body.code) <= ROWS_COST else 1

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
            self._row([scope])
            return

        def inside(inner: Scope, _: list[Value]) -> list[Value]:
            self._prepare(inner, self._early())
            self._outer(dims[1:], inner)
            return []

        if len(dims) == 1:
            self._hold(scope)
        if dims[0] == self.vector and self.copies > 1:
            self._columns(scope)
        elif len(dims) == 1 and self.rows > 1:
            self._rows(dims[0], scope)
        else:
            self._loop(dims[0], scope, [], inside)

    def _hold(self, scope: Scope) -> None:
        """Where a row is a few vectors, what is the same in all rows is hoisted ahead of them into registers;
        the loop along a row is written out."""
        dim = self.vector
        if dim is None or self.body.reduced != (dim,) or self.running or self.function.is_glue or dim in self.ranges:
            return
        n = self.body.domain[dim]
        known = {dim, *scope.entered}
        same = [i for i, varies in enumerate(self.analysis.varies) if dim in varies <= known and self._is_value(i)]
        target = self.function.module.target
        most = target.registers // HOISTED_SHARE if target is not None else 0
        vectors = -(-n // self.lanes)
        if not same or vectors * len(same) > most or vectors * total_cost(self.body.code) > HOISTED_ROW_COST:
            return
        hoisted = []
        for at in range(0, n, self.lanes):
            mask = self._tail_mask(n - at) if n - at < self.lanes else None
            inner = scope.enter(dim, int_literal(at), mask)
            self._prepare(inner, same)
            hoisted.append(inner)
        self.hoisted = hoisted

    def _columns(self, scope: Scope) -> None:
        """The vector dimension several vectors at a time, so that each pass reads whole pieces of a row."""
        assert self.vector is not None
        f, lanes, n = self.function, self.lanes, self.body.domain[self.vector]

        def together(start: Value, count: int, rest: int) -> None:
            copies = []
            for u in range(count + (rest > 0)):
                mask = self._tail_mask(rest) if u == count else None
                copies.append(scope.enter(self.vector or 0, f.add(start, u * lanes), mask))
                copies[-1].copy = u
                self._prepare(copies[-1], self._early())
            self._row(copies)

        def all_copies(start: Value, _: list[Value]) -> list[Value]:
            together(start, self.copies, 0)
            return []

        block = self.copies * lanes
        if self.vector in self.ranges:
            self._columns_in_range(scope, self.ranges[self.vector], block, all_copies)
            return
        if n <= block:
            together(int_literal(0), n // lanes, n % lanes)
            return
        whole = n // block * block
        if whole == block:
            together(int_literal(0), self.copies, 0)
        elif whole:
            f.loop(0, whole, block, [], all_copies)
        if whole < n:
            together(int_literal(whole), (n - whole) // lanes, (n - whole) % lanes)

    def _columns_in_range(
        self, scope: Scope, bounds: Range, block: int, all_copies: Callable[[Value, list[Value]], list[Value]]
    ) -> None:
        """Blocks of several vectors, then one vector after the other."""
        f, dim = self.function, self.vector
        assert dim is not None
        first, end = (bound if isinstance(bound, Value) else int_literal(bound) for bound in bounds)
        middle = f.add(first, f.mul(f.binary("sdiv", f.sub(end, first), int_literal(block)), block))
        f.loop(first, middle, block, [], all_copies)
        if self.whole_only:
            return

        def single(inner: Scope, _: list[Value]) -> list[Value]:
            self._prepare(inner, self._early())
            self._row([inner])
            return []

        self._loop(dim, scope, [], single, (middle, end))

    def _rows(self, dim: int, scope: Scope) -> None:
        """Some rows at a time, each from a range of its own, then those that are left one by one."""
        f = self.function
        bounds = self.ranges.get(dim, (0, self.body.domain[dim]))
        start, stop = (bound if isinstance(bound, Value) else int_literal(bound) for bound in bounds)
        each = f.binary("sdiv", f.sub(stop, start), int_literal(self.rows))

        def write(numbers: Sequence[Value]) -> list[Value]:
            rows = [scope.enter(dim, number, None) for number in numbers]
            for row in rows:
                self._prepare(row, self._early())
            self._row(rows)
            return []

        f.loop(
            start, f.add(start, each), 1, [], lambda i, _: write([f.add(i, f.mul(each, u)) for u in range(self.rows)])
        )
        f.loop(f.add(start, f.mul(each, self.rows)), stop, 1, [], lambda i, _: write([i]))

    def _prefetch(self, dim: int, index: Value) -> None:
        """Prefetch for an index of a dimension, after what the index itself reads."""
        f = self.function
        for prefetch in self.prefetches:
            if prefetch.dim == dim:
                row = f.offset(
                    self.pointers[prefetch.param], f.add(f.mul(index, prefetch.lines * LINE), prefetch.start)
                )
                for line in range(prefetch.lines):
                    f.prefetch(f.offset(row, line * LINE), 1)

    def _tail_mask(self, rest: int) -> Value:
        bits = ", ".join(f"i1 {'true' if lane < rest else 'false'}" for lane in range(self.lanes))
        return Value(I1.vector(self.lanes), f"<{bits}>")

    def _row(self, copies: list[Scope]) -> None:
        code, passes = self.body.code, self.analysis.passes
        for p in range(self.analysis.count):
            known = [i for i in range(len(code)) if not self._full(i) and passes[i] == p - 1 and self._is_value(i)]
            for scope in copies:
                self._prepare(scope, known)
            self._current = p
            self._pass(p, copies)
        last = [i for i in range(len(code)) if not self._full(i) and self._is_value(i)]
        for scope in copies:
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
                values = inside(scope.enter(dim, at, None), values)
                self._prefetch(dim, i)
                return values

            return f.loop(start, stop, 1, carried, step)
        if isinstance(start, int) and isinstance(stop, int):
            return self._static_vector_loop(dim, scope, carried, inside, start, stop)
        first = start if isinstance(start, Value) else int_literal(start)
        end = stop if isinstance(stop, Value) else int_literal(stop)
        if self.whole_only:
            return f.loop(first, end, self.lanes, carried, lambda i, v: inside(scope.enter(dim, i, None), v))
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
            carried = inside(scope.enter(dim, int_literal(start + whole), self._tail_mask(rest)), carried)
        return carried

    def _pass(self, p: int, copies: list[Scope]) -> None:
        code = self.body.code
        reduces = [i for i in sorted(self._needed[p]) if isinstance(code[i], Reduce)]
        start = self._fresh(reduces) * len(copies)
        result = self._reduce_loops(p, self._inner(), copies, start, reduces)
        width = len(result) // len(copies)
        for u, scope in enumerate(copies):
            for i, parts in self._split(reduces, result[u * width : (u + 1) * width]).items():
                if not self.running:
                    scope.values[i] = self._across(i, parts)

    def _reduce_loops(
        self, p: int, dims: Sequence[int], copies: list[Scope], accumulators: list[Value], reduces: list[int]
    ) -> list[Value]:
        """The inner loops of one pass over all copies; `accumulators` has those of one copy after those of another."""
        if not dims:
            width = len(accumulators) // len(copies)
            result: list[Value] = []
            for u, scope in enumerate(copies):
                result.extend(self._leaf(p, scope, accumulators[u * width : (u + 1) * width], reduces))
            return result
        early = sorted(i for i in self._needed[p] if self._is_value(i) and not self._running_uses(i))

        def inside(inner: list[Scope], values: list[Value]) -> list[Value]:
            for scope in inner:
                self._prepare(scope, early)
            if len(dims) == 1 or self.running or not reduces:
                return self._reduce_loops(p, dims[1:], inner, values, reduces)
            fresh = self._fresh(reduces) * len(inner)
            return self._join(reduces, values, self._reduce_loops(p, dims[1:], inner, fresh, reduces))

        dim = dims[0]
        if len(dims) > 1 or not reduces or self.running:
            return self._inner_loop(dim, copies, accumulators, inside)
        return self._sum_loop(dim, copies, accumulators, reduces, inside)

    def _inner_loop(
        self,
        dim: int,
        copies: list[Scope],
        carried: list[Value],
        inside: Callable[[list[Scope], list[Value]], list[Value]],
        bounds: Range | None = None,
    ) -> list[Value]:
        """Loop over one reduced dimension, with the bodies of all copies in it (unroll and jam)."""
        if self.hoisted and dim == self.vector:
            for known in self.hoisted:
                inner = [scope.enter(dim, known.index[dim], known.mask) for scope in copies]
                for one in inner:
                    one.values.update({i: v for i, v in known.values.items() if i not in one.values})
                carried = inside(inner, carried)
            return carried
        others = copies[1:]

        def step(first: Scope, values: list[Value]) -> list[Value]:
            at, mask = first.index[dim], first.mask if dim == self.vector else None
            return inside([first, *(scope.enter(dim, at, mask) for scope in others)], values)

        return self._loop(dim, copies[0], carried, step, bounds)

    def _sum_loop(
        self,
        dim: int,
        copies: list[Scope],
        accumulators: list[Value],
        reduces: list[int],
        inside: Callable[[list[Scope], list[Value]], list[Value]],
    ) -> list[Value]:
        """The innermost loop of a reduction: several accumulators along a row, partial sums where it is long."""
        f = self.function
        n = self.body.domain[dim]
        along = self.copies if dim == self.vector and not self.hoisted else 1
        step = self.lanes * along if dim == self.vector else 1
        if along > 1 and n < 2 * step:
            along, step = 1, self.lanes

        def block(i: Value, values: list[Value]) -> list[Value]:
            places = [f.add(i, u * self.lanes) for u in range(along)]
            return inside([scope.enter(dim, place, None) for scope in copies for place in places], values)

        def blocks(start: Value | int, stop: Value | int, values: list[Value]) -> list[Value]:
            width = len(values) // len(copies)
            others = self._fresh(reduces) * (along - 1)
            spread = [v for at in range(0, len(values), width) for v in (*values[at : at + width], *others)]
            spread = f.loop(start, stop, step, spread, block)
            totals: list[Value] = []
            for first in range(0, len(spread), along * width):
                total = spread[first : first + width]
                for at in range(first + width, first + along * width, width):
                    total = self._join(reduces, total, spread[at : at + width])
                totals += total
            return totals

        done = 0
        chunk = SUM_CHUNK * step
        if n > SUM_CHUNKS * chunk:

            def partial(start: Value, values: list[Value]) -> list[Value]:
                fresh = self._fresh(reduces) * len(copies)
                return self._join(reduces, values, blocks(start, f.add(start, chunk), fresh))

            done = n // chunk * chunk
            accumulators = f.loop(0, done, chunk, accumulators, partial)
        elif along > 1:
            done = n // step * step
            accumulators = blocks(0, done, accumulators)
        if done == n:
            return accumulators
        return self._inner_loop(dim, copies, accumulators, inside, (done, n))

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
