"""Places in the arena: the largest buffer first, each at the lowest place that is free as long as it is alive.

Time is a tree of halves. Each part of it has the bytes that are taken there at some time (`touched`) and those that are
taken all the while (`covered`), as intervals that are merged where they meet: what is packed without gaps is one, so
that a place is found in about the logarithm of the number of buffers."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence

from adjit.schedule.buffer import Buffer
from adjit_runtime.program import ALIGN


def padded(nbytes: int) -> int:
    """Bytes that a buffer takes in the arena."""
    return max(ALIGN, -(-nbytes // ALIGN) * ALIGN)


def assign_places(roots: Sequence[Buffer], spans: Mapping[Buffer, tuple[int, int]], count: int) -> int:
    """Set the offset of each of `roots`, alive at the kernels `spans[root]` of `count`; returns the arena's size."""
    time = _Time(count)
    total = 0
    for buffer in sorted(roots, key=lambda b: (-b.nbytes, spans[b])):
        size = padded(buffer.nbytes)
        buffer.offset = time.take(*spans[buffer], size)
        total = max(total, buffer.offset + size)
    return total


class _Intervals:
    """Disjoint intervals in order, which do not meet."""

    __slots__ = ("ends", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []

    def add(self, start: int, end: int) -> None:
        """Add an interval, one with those that it meets."""
        first, last = bisect_left(self.ends, start), bisect_right(self.starts, end)
        if first < last:
            start, end = min(start, self.starts[first]), max(end, self.ends[last - 1])
        self.starts[first:last] = [start]
        self.ends[first:last] = [end]

    def free_from(self, at: int, size: int) -> int:
        """The lowest place from `at` on where so many bytes are free."""
        i = bisect_right(self.ends, at)
        while i < len(self.starts) and self.starts[i] < at + size:
            at = self.ends[i]
            i += 1
        return at


class _Time:
    """What is taken at which kernel; part 1 is all, the parts 2 i and 2 i + 1 are halves of part i."""

    def __init__(self, count: int) -> None:
        self.leaves = 1 << max(count - 1, 0).bit_length()
        self.touched: dict[int, _Intervals] = {}
        self.covered: dict[int, _Intervals] = {}

    def take(self, first: int, last: int, size: int) -> int:
        """The lowest place of so many bytes that is free from `first` to `last`, which is taken then."""
        parts = list(self._parts(first, last))
        around = {part >> up for part in parts for up in range(1, part.bit_length())}
        taken = [self.touched[part] for part in parts if part in self.touched]
        taken += [self.covered[part] for part in around if part in self.covered]
        at, before = 0, -1
        while at != before:
            before = at
            for intervals in taken:
                at = intervals.free_from(at, size)
        for part in parts:
            self.covered.setdefault(part, _Intervals()).add(at, at + size)
        for part in around.union(parts):
            self.touched.setdefault(part, _Intervals()).add(at, at + size)
        return at

    def _parts(self, first: int, last: int) -> Iterator[int]:
        """The fewest parts that make up the kernels from `first` to `last`."""
        low, high = first + self.leaves, last + self.leaves + 1
        while low < high:
            if low & 1:
                yield low
                low += 1
            if high & 1:
                high -= 1
                yield high
            low >>= 1
            high >>= 1
