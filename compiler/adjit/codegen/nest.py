"""Loop nests from bodies: the one place where instructions over scalars become vectors in loops.

Each instruction is computed in the outermost loop in which it is known, as no later pass of LLVM moves it; every load
of an iteration comes before its stores, so that a result may lie in the place of an operand.

A nest is made of parts, each of which knows those above it alone:

    Vectorized     the body, and which of its dimensions fills vectors            (vectorized)
    Access         addresses of parameters, loads and stores                      (access)
    Kept           what each pass computes, and what it keeps for a later one     (kept)
    Accumulators   the accumulators of reductions                                 (accumulate)
    Instructions   the values of a scope                                          (instructions)
    Loops          the loop over one dimension                                    (loops)
    InnerLoops     the passes over the reduced dimensions                         (inner)
    Nest           the loops over the others, which drive all of them
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from adjit.codegen.access import Access, TileAccess
from adjit.codegen.accumulate import Accumulators
from adjit.codegen.analysis import total_cost
from adjit.codegen.inner import InnerLoops
from adjit.codegen.instructions import Instructions
from adjit.codegen.kept import Kept
from adjit.codegen.llvm import Function, Value, int_literal
from adjit.codegen.loops import Loops, Range, as_value
from adjit.codegen.vectorized import Scope, Vectorized
from adjit.schedule.instructions import Body, Load
from adjit.schedule.work import Prefetch
from adjit.tuned import (
    BLOCKED_ROWS,
    COLUMNS_FROM,
    COLUMNS_TOGETHER,
    GLUE_JAM,
    HOISTED_ROW_COST,
    HOISTED_SHARE,
    MOST_REPEATED,
    REDUCTION_JAM,
    REDUCTION_JAM_COST,
    REPEATED_LOADS,
    ROWS_COST,
    ROWS_FROM,
)


class Nest:
    """Emits one body as loops into `function`. `sink`, where given, is called in the innermost scope.

    For `ranges`, `masked_only`, `whole_only`, `reverse` and `prefetches` see `Loops`. Of `most_copies` vectors that a
    reduction takes together across columns a range that is `whole_only` is a multiple, too."""

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
        work = self.work = Vectorized(function, body, lanes, vector, running)
        self.access = Access(work, pointers, tile)
        self.loops = Loops(
            *(work, self.access, ranges or {}),
            masked_only=masked_only,
            whole_only=whole_only,
            reverse=reverse,
            prefetches=prefetches,
        )
        self.rows = 1 if prefetches or sink else _blocked_rows(work)
        self.copies = max(1, _jam_factor(work, self.loops, most_copies) // self.rows)
        kept = Kept(work, self.access, self.copies)
        accumulators = Accumulators(work)
        self.instructions = Instructions(work, self.access, kept, accumulators.fused)
        self.inner = InnerLoops(
            *(work, self.loops, self.instructions, accumulators, kept),
            sink=None if sink is None else lambda scope: sink(self, scope),
        )
        # What no pass has to precede and varies along no reduced dimension.
        self._early = [
            i for i in range(len(work.code)) if not work.is_full(i) and work.passes[i] == -1 and work.is_value(i)
        ]

    def run(self) -> None:
        """Emit everything."""
        work = self.work
        outer = [d for d in range(len(work.body.domain)) if d not in work.reduced and d != work.vector]
        if work.vector is not None and not work.reduces_lanes:
            outer.insert(len(outer) - (not work.reduced and self._repeats(outer)), work.vector)
        scope = Scope()
        self.instructions.prepare(scope, self._early)
        self._outer(outer, scope)

    def _repeats(self, outer: Sequence[int]) -> bool:
        """Whether much is read once for all of the innermost other dimension, if vectors are around that."""
        work = self.work
        if not outer or work.running or work.body.domain[outer[-1]] < work.lanes:
            return False
        pairs = zip(work.varies, work.code, strict=True)
        columns = sum(varies == {work.vector} and isinstance(instruction, Load) for varies, instruction in pairs)
        return REPEATED_LOADS <= columns <= MOST_REPEATED

    def _outer(self, dims: Sequence[int], scope: Scope) -> None:
        if not dims:
            self.inner.run([scope])
            return

        def inside(inner: Scope, _: list[Value]) -> list[Value]:
            self.instructions.prepare(inner, self._early)
            self._outer(dims[1:], inner)
            return []

        if len(dims) == 1:
            self.inner.hoisted = self._hoisted(scope)
        if dims[0] == self.work.vector and self.copies > 1:
            self._columns(scope)
        elif len(dims) == 1 and self.rows > 1:
            self._rows(dims[0], scope)
        else:
            self.loops.over(dims[0], scope, [], inside)

    def _hoisted(self, scope: Scope) -> list[Scope]:
        """Where a row is a few vectors, what is the same in all rows is hoisted ahead of them into registers; the loop
        along a row is written out. The scopes of the row."""
        work, dim = self.work, self.work.vector
        if dim is None or work.body.reduced != (dim,) or work.running or work.function.is_glue:
            return []
        if dim in self.loops.ranges:
            return []
        n = work.body.domain[dim]
        known = {dim, *scope.entered}
        same = [i for i, varies in enumerate(work.varies) if dim in varies <= known and work.is_value(i)]
        target = work.function.module.target
        most = target.registers // HOISTED_SHARE if target is not None else 0
        vectors = -(-n // work.lanes)
        if not same or vectors * len(same) > most or vectors * total_cost(work.code) > HOISTED_ROW_COST:
            return []
        hoisted = []
        for at in range(0, n, work.lanes):
            mask = work.tail_mask(n - at) if n - at < work.lanes else None
            inner = scope.enter(dim, int_literal(at), mask)
            self.instructions.prepare(inner, same)
            hoisted.append(inner)
        return hoisted

    # -- several vectors of columns, several rows ---------------------------------------------------------------------

    def _columns(self, scope: Scope) -> None:
        """The vector dimension several vectors at a time, so that each pass reads whole pieces of a row."""
        f, lanes, dim = self.work.function, self.work.lanes, self.work.vector
        assert dim is not None
        n = self.work.body.domain[dim]

        def all_copies(start: Value, _: list[Value]) -> list[Value]:
            self._together(scope, start, self.copies, 0)
            return []

        block = self.copies * lanes
        if dim in self.loops.ranges:
            self._columns_in_range(scope, self.loops.ranges[dim], block, all_copies)
            return
        if n <= block:
            self._together(scope, int_literal(0), n // lanes, n % lanes)
            return
        whole = n // block * block
        if whole == block:
            self._together(scope, int_literal(0), self.copies, 0)
        elif whole:
            f.loop(0, whole, block, [], all_copies)
        if whole < n:
            self._together(scope, int_literal(whole), (n - whole) // lanes, (n - whole) % lanes)

    def _together(self, scope: Scope, start: Value, count: int, rest: int) -> None:
        """So many vectors from a column on, and the rest of one."""
        assert self.work.vector is not None
        copies = []
        for u in range(count + (rest > 0)):
            mask = self.work.tail_mask(rest) if u == count else None
            at = self.work.function.add(start, u * self.work.lanes)
            copies.append(scope.enter(self.work.vector, at, mask))
            copies[-1].copy = u
            self.instructions.prepare(copies[-1], self._early)
        self.inner.run(copies)

    def _columns_in_range(
        self, scope: Scope, bounds: Range, block: int, all_copies: Callable[[Value, list[Value]], list[Value]]
    ) -> None:
        """Blocks of several vectors, then one vector after the other."""
        f, dim = self.work.function, self.work.vector
        assert dim is not None
        first, end = map(as_value, bounds)
        middle = f.add(first, f.mul(f.binary("sdiv", f.sub(end, first), int_literal(block)), block))
        f.loop(first, middle, block, [], all_copies)
        if self.loops.whole_only:
            return

        def single(inner: Scope, _: list[Value]) -> list[Value]:
            self.instructions.prepare(inner, self._early)
            self.inner.run([inner])
            return []

        self.loops.over(dim, scope, [], single, (middle, end))

    def _rows(self, dim: int, scope: Scope) -> None:
        """Some rows at a time, each from a range of its own, then those that are left one by one."""
        f = self.work.function
        start, stop = map(as_value, self.loops.range_of(dim))
        each = f.binary("sdiv", f.sub(stop, start), int_literal(self.rows))

        def write(numbers: Sequence[Value]) -> list[Value]:
            rows = [scope.enter(dim, number, None) for number in numbers]
            for row in rows:
                self.instructions.prepare(row, self._early)
            self.inner.run(rows)
            return []

        f.loop(
            start, f.add(start, each), 1, [], lambda i, _: write([f.add(i, f.mul(each, u)) for u in range(self.rows)])
        )
        f.loop(f.add(start, f.mul(each, self.rows)), stop, 1, [], lambda i, _: write([i]))


def _jam_factor(work: Vectorized, loops: Loops, most_copies: int) -> int:
    """How many vectors go through the inner loops of a reduction together: it hides the latency of sums."""
    if work.vector is None or not work.reduced or work.running:
        return 1
    n = work.body.domain[work.vector]
    cost = total_cost(c for i, c in enumerate(work.code) if work.is_full(i))
    most = min(most_copies, GLUE_JAM if work.function.is_glue else REDUCTION_JAM)
    vectors = -(-n // work.lanes)
    most = max(1, min(most, REDUCTION_JAM_COST // max(cost, 1), vectors))
    if work.reduces_lanes:
        return most
    if math.prod(work.body.domain) >= COLUMNS_FROM:
        # Of rows in memory whole lines are read, several after one another.
        most = max(most, min(COLUMNS_TOGETHER // work.lanes, most_copies, vectors))
    # Across columns the order of no sum depends on it: one of the largest that divide evenly.
    is_promised = loops.whole_only and work.vector in loops.ranges
    least, unit = (0, most_copies) if is_promised else (most // 2, vectors)
    return next((copies for copies in range(most, least, -1) if unit % copies == 0), most)


def _blocked_rows(work: Vectorized) -> int:
    """How many rows go through the inner loop of a reduction along them together: that hides the latency of its sums,
    and rows far apart come faster from memory, which is read in several places then; but not those that are prefetched
    in their order."""
    rows = [d for d in range(len(work.body.domain)) if d not in work.reduced]
    plain = work.analysis.count == 1 and not (work.running or work.function.is_glue)
    if not plain or not rows or work.body.reduced != (work.vector,) or work.body.domain[rows[-1]] < ROWS_FROM:
        return 1
    return BLOCKED_ROWS if total_cost(work.code) <= ROWS_COST else 1
