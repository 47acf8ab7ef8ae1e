"""Loops over one dimension of a body: its whole extent, or a range that is known at run time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from adjit.codegen.access import Access
from adjit.codegen.llvm import Value, int_literal
from adjit.codegen.vectorized import Scope, Vectorized
from adjit.schedule.work import Prefetch
from adjit_runtime.target import LINE

Range = tuple[Value | int, Value | int]
Inside = Callable[[Scope, list[Value]], list[Value]]
"""What a loop does in the scope of an index: it takes what is carried, and gives the next values of that."""


class Loops:
    """`over` is a loop over a dimension: of the vector's, by whole vectors and then a masked tail.

    `ranges` are those of some dimensions. Where the range of the vector dimension is known at run time only,
    `whole_only` promises that it is a multiple of the lanes, and `masked_only` takes one loop with masks for a loop
    without and a tail: less code, slower stores. In `reverse` the reduced dimensions run backwards. Each row of what
    `prefetches` name is prefetched with its index."""

    def __init__(
        self,
        work: Vectorized,
        access: Access,
        ranges: Mapping[int, Range],
        *,
        masked_only: bool = False,
        whole_only: bool = False,
        reverse: bool = False,
        prefetches: Sequence[Prefetch] = (),
    ) -> None:
        self.work = work
        self.access = access
        self.ranges = ranges
        self.masked_only = masked_only
        self.whole_only = whole_only
        self.reverse = reverse
        self.prefetches = prefetches

    def range_of(self, dim: int) -> Range:
        """The first index of a dimension, and the one after the last."""
        return self.ranges.get(dim, (0, self.work.body.domain[dim]))

    def over(
        self, dim: int, scope: Scope, carried: list[Value], inside: Inside, bounds: Range | None = None
    ) -> list[Value]:
        """Loop over one dimension, or the part of it within `bounds`."""
        start, stop = bounds or self.range_of(dim)
        if dim != self.work.vector:
            return self._by_one(dim, scope, carried, inside, start, stop)
        if isinstance(start, int) and isinstance(stop, int):
            return self._by_vectors(dim, scope, carried, inside, start, stop)
        return self._by_vectors_in_range(dim, scope, carried, inside, as_value(start), as_value(stop))

    def _by_one(
        self, dim: int, scope: Scope, carried: list[Value], inside: Inside, start: Value | int, stop: Value | int
    ) -> list[Value]:
        f = self.work.function
        if start == 0 and stop == 1:
            return inside(scope.enter(dim, int_literal(0), None), carried)
        backwards = self.reverse and dim in self.work.reduced

        def step(i: Value, values: list[Value]) -> list[Value]:
            at = f.sub(int_literal(self.work.body.domain[dim] - 1), i) if backwards else i
            values = inside(scope.enter(dim, at, None), values)
            self._prefetch(dim, i)
            return values

        return f.loop(start, stop, 1, carried, step)

    def _by_vectors(
        self, dim: int, scope: Scope, carried: list[Value], inside: Inside, start: int, stop: int
    ) -> list[Value]:
        f, lanes = self.work.function, self.work.lanes
        whole = (stop - start) // lanes * lanes
        if whole == lanes:
            carried = inside(scope.enter(dim, int_literal(start), None), carried)
        elif whole:
            carried = f.loop(start, start + whole, lanes, carried, lambda i, v: inside(scope.enter(dim, i, None), v))
        rest = stop - start - whole
        if rest:
            carried = inside(scope.enter(dim, int_literal(start + whole), self.work.tail_mask(rest)), carried)
        return carried

    def _by_vectors_in_range(
        self, dim: int, scope: Scope, carried: list[Value], inside: Inside, first: Value, end: Value
    ) -> list[Value]:
        f, lanes = self.work.function, self.work.lanes

        def whole(i: Value, values: list[Value]) -> list[Value]:
            return inside(scope.enter(dim, i, None), values)

        def masked(i: Value, values: list[Value]) -> list[Value]:
            return inside(scope.enter(dim, i, f.mask_below(lanes, f.sub(end, i))), values)

        if self.whole_only or self.masked_only:
            return f.loop(first, end, lanes, carried, whole if self.whole_only else masked)
        middle = f.add(first, f.binary("and", f.sub(end, first), int_literal(-lanes)))
        carried = f.loop(first, middle, lanes, carried, whole)
        return f.branch(f.compare("slt", middle, end), lambda: masked(middle, list(carried)), lambda: carried)

    def _prefetch(self, dim: int, index: Value) -> None:
        """Prefetch for an index of a dimension, after what the index itself reads."""
        f = self.work.function
        for prefetch in self.prefetches:
            if prefetch.dim != dim:
                continue
            start = f.add(f.mul(index, prefetch.lines * LINE), prefetch.start)
            row = f.offset(self.access.pointers[prefetch.param], start)
            for line in range(prefetch.lines):
                f.prefetch(f.offset(row, line * LINE), 1)


def as_value(bound: Value | int) -> Value:
    """A bound as an operand."""
    return bound if isinstance(bound, Value) else int_literal(bound)
