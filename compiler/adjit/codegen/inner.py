"""The inner loops of a body: its reduced dimensions, once for each pass, several rows or columns at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adjit.codegen.accumulate import Accumulators
from adjit.codegen.instructions import Instructions
from adjit.codegen.kept import Kept
from adjit.codegen.llvm import Value
from adjit.codegen.loops import Loops, Range
from adjit.codegen.vectorized import Scope, Vectorized
from adjit.schedule.instructions import Reduce, Store, operands
from adjit.tuned import SUM_CHUNK, SUM_CHUNKS

Sink = Callable[[Scope], None]
"""What else is done in the innermost scope."""
InsideAll = Callable[[list[Scope], list[Value]], list[Value]]
"""What a loop does in the scopes of all copies."""


class InnerLoops:
    """`run` emits the passes of one row, or of several `copies` at once: their bodies lie in one loop (unroll and jam),
    each with accumulators of its own. `hoisted` has the scopes of a row that is written out, if it is."""

    def __init__(
        self,
        work: Vectorized,
        loops: Loops,
        instructions: Instructions,
        accumulators: Accumulators,
        kept: Kept,
        sink: Sink | None,
    ) -> None:
        self.work = work
        self.loops = loops
        self.instructions = instructions
        self.accumulators = accumulators
        self.kept = kept
        self.sink = sink
        self.hoisted: list[Scope] = []

    def run(self, copies: list[Scope]) -> None:
        """Everything of these rows: pass by pass, then what is stored of the row itself."""
        work = self.work
        of_row = [i for i in range(len(work.code)) if not work.is_full(i)]
        values = [i for i in of_row if work.is_value(i)]
        for p in range(work.analysis.count):
            known = [i for i in values if work.passes[i] == p - 1]
            for scope in copies:
                self.instructions.prepare(scope, known)
            self.instructions.current = p
            self._pass(p, copies)
        for scope in copies:
            self.instructions.prepare(scope, values)
            self.instructions.finish(scope, [i for i in of_row if isinstance(work.code[i], Store)])
            if work.analysis.count == 0 and self.sink is not None:
                self.sink(scope)

    def _pass(self, p: int, copies: list[Scope]) -> None:
        reduces = [i for i in sorted(self.kept.needed[p]) if isinstance(self.work.code[i], Reduce)]
        start = self.accumulators.fresh(reduces) * len(copies)
        totals = self._over(p, self.kept.inner, copies, start, reduces)
        if self.work.running:
            return
        width = len(totals) // len(copies)
        for u, scope in enumerate(copies):
            scope.values.update(self.accumulators.row_values(reduces, totals[u * width : (u + 1) * width]))

    def _over(
        self, p: int, dims: Sequence[int], copies: list[Scope], totals: list[Value], reduces: list[int]
    ) -> list[Value]:
        """The loops of one pass over all copies; `totals` has the accumulators of one copy after those of another."""
        if not dims:
            width = len(totals) // len(copies)
            result: list[Value] = []
            for u, scope in enumerate(copies):
                result.extend(self._leaf(p, scope, totals[u * width : (u + 1) * width], reduces))
            return result
        early = [i for i in self._values(p) if not self._follows_running(i)]
        is_plain = self.work.running or not reduces

        def inside(inner: list[Scope], values: list[Value]) -> list[Value]:
            for scope in inner:
                self.instructions.prepare(scope, early)
            if len(dims) == 1 or is_plain:
                return self._over(p, dims[1:], inner, values, reduces)
            fresh = self.accumulators.fresh(reduces) * len(inner)
            return self.accumulators.join(reduces, values, self._over(p, dims[1:], inner, fresh, reduces))

        if len(dims) > 1 or is_plain:
            return self._loop(dims[0], copies, totals, inside)
        return self._sum_loop(dims[0], copies, totals, reduces, inside)

    def _loop(
        self, dim: int, copies: list[Scope], carried: list[Value], inside: InsideAll, bounds: Range | None = None
    ) -> list[Value]:
        """Loop over one reduced dimension, with the bodies of all copies in it."""
        if self.hoisted and dim == self.work.vector:
            return self._written_out(dim, copies, carried, inside)
        others = copies[1:]

        def step(first: Scope, values: list[Value]) -> list[Value]:
            at, mask = first.index[dim], first.mask if dim == self.work.vector else None
            return inside([first, *(scope.enter(dim, at, mask) for scope in others)], values)

        return self.loops.over(dim, copies[0], carried, step, bounds)

    def _written_out(self, dim: int, copies: list[Scope], carried: list[Value], inside: InsideAll) -> list[Value]:
        for known in self.hoisted:
            inner = [scope.enter(dim, known.index[dim], known.mask) for scope in copies]
            for one in inner:
                one.values.update({i: v for i, v in known.values.items() if i not in one.values})
            carried = inside(inner, carried)
        return carried

    def _sum_loop(
        self, dim: int, copies: list[Scope], totals: list[Value], reduces: list[int], inside: InsideAll
    ) -> list[Value]:
        """The innermost loop of a reduction: several accumulators along a row, partial sums where it is long."""
        f, lanes = self.work.function, self.work.lanes
        is_vector = dim == self.work.vector
        n = self.work.body.domain[dim]
        along = self.kept.copies if is_vector and not self.hoisted else 1
        step = lanes * along if is_vector else 1
        if along > 1 and n < 2 * step:
            along, step = 1, lanes

        def block(i: Value, values: list[Value]) -> list[Value]:
            places = [f.add(i, u * lanes) for u in range(along)]
            return inside([scope.enter(dim, place, None) for scope in copies for place in places], values)

        def blocks(start: Value | int, stop: Value | int, values: list[Value]) -> list[Value]:
            width = len(values) // len(copies)
            others = self.accumulators.fresh(reduces) * (along - 1)
            spread = [v for at in range(0, len(values), width) for v in (*values[at : at + width], *others)]
            spread = f.loop(start, stop, step, spread, block)
            return [
                value
                for at in range(0, len(spread), along * width)
                for value in self._joined(reduces, spread[at : at + along * width], width)
            ]

        done = 0
        chunk = SUM_CHUNK * step
        if n > SUM_CHUNKS * chunk:

            def partial(start: Value, values: list[Value]) -> list[Value]:
                fresh = self.accumulators.fresh(reduces) * len(copies)
                return self.accumulators.join(reduces, values, blocks(start, f.add(start, chunk), fresh))

            done = n // chunk * chunk
            totals = f.loop(0, done, chunk, totals, partial)
        elif along > 1:
            done = n // step * step
            totals = blocks(0, done, totals)
        if done == n:
            return totals
        return self._loop(dim, copies, totals, inside, (done, n))

    def _joined(self, reduces: list[int], spread: list[Value], width: int) -> list[Value]:
        """The accumulators along one row, as one."""
        total = spread[:width]
        for at in range(width, len(spread), width):
            total = self.accumulators.join(reduces, total, spread[at : at + width])
        return total

    def _leaf(self, p: int, scope: Scope, totals: list[Value], reduces: list[int]) -> list[Value]:
        values = self._values(p)
        self.instructions.prepare(scope, [i for i in values if not self._follows_running(i)])
        result = self.accumulators.accumulate(reduces, totals, scope)
        self.instructions.prepare(scope, values)
        self.kept.save(p, scope)
        needed = sorted(self.kept.needed[p])
        self.instructions.finish(scope, [i for i in needed if isinstance(self.work.code[i], Store)])
        if self.sink is not None:
            self.sink(scope)
        return result

    def _values(self, p: int) -> list[int]:
        return sorted(i for i in self.kept.needed[p] if self.work.is_value(i))

    def _follows_running(self, number: int) -> bool:
        """Whether an instruction reads a running value, which is known only in the innermost scope."""
        if not self.work.running:
            return False
        stack = [number]
        while stack:
            i = stack.pop()
            if isinstance(self.work.code[i], Reduce):
                return True
            stack.extend(operands(self.work.code[i]))
        return False
