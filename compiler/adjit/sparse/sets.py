"""Sets of columns, one for each element of an array: which elements of the inputs it may depend on.

A set is a union of rows of shared tables. `Part` has for each element the row of a table, or -1 for none of it, so what
moves elements moves row numbers alone, and a row that many elements share is there once. Tables are made where elements
are united (`united`), with the columns of each row in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from adjit.tuned import PATTERN_ENTRIES, PATTERN_PARTS

Rows = np.ndarray
"""int64, one for each element."""


class TooDense(Exception):
    """More entries than a pattern is to have: `entries` of them at least."""

    def __init__(self, entries: int) -> None:
        super().__init__(entries)
        self.entries = entries


class Table:
    """Sets as rows: that of row i is `columns[starts[i]:starts[i + 1]]`, in order; all are below `width`."""

    def __init__(self, starts: np.ndarray, columns: np.ndarray, width: int) -> None:
        self.starts = starts
        self.columns = columns
        self.width = width

    @cached_property
    def counts(self) -> np.ndarray:
        """How many columns each row has."""
        return np.diff(self.starts)

    def entries(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The columns of these rows, one after the other, and how many each has. Raises TooDense."""
        counts = self.counts[rows]
        ends = np.cumsum(counts)
        total = int(ends[-1]) if len(ends) else 0
        check_entries(total)
        if total == len(rows) and (counts == 1).all():
            return self.columns[self.starts[rows]], counts
        at = np.arange(total) + np.repeat(self.starts[rows] - (ends - counts), counts)
        return self.columns[at], counts

    def equals(self, other: Table) -> bool:
        """Whether both have the same rows."""
        return np.array_equal(self.starts, other.starts) and np.array_equal(self.columns, other.columns)


class Part(NamedTuple):
    """For each element the row of a table, -1 for none."""

    table: Table
    rows: Rows


class Sets(NamedTuple):
    """The sets of `size` elements in C order: the union of what the parts say."""

    size: int
    parts: tuple[Part, ...] = ()

    def taken(self, at: np.ndarray) -> Sets:
        """Those of the elements `at`; -1 is an element without columns."""
        found = []
        missing = at < 0
        some = bool(missing.any())
        for table, rows in self.parts:
            moved = rows[at] if not some else np.where(missing, -1, rows[at]) if self.size else np.full(len(at), -1)
            if not some or (moved >= 0).any():
                found.append(Part(table, moved))
        return Sets(len(at), tuple(found))

    def grouped(self, count: int) -> Sets:
        """The unions of each `count` elements that follow one another."""
        if count == 1 or not self.parts:
            return Sets(self.size // count, self.parts)
        size = self.size // count
        kept: list[Part] = []
        mixed: list[Owned] = []
        for table, rows in self.parts:
            groups = rows.reshape(size, count)
            most = groups.max(axis=1) if size else rows
            same = ((groups == most[:, None]) | (groups < 0)).all()
            if same:
                kept.append(Part(table, most))
            else:
                mixed.append(Owned(table, rows, np.repeat(np.arange(size), count)))
        return joined(size, [*kept, *united(size, mixed).parts])

    def single(self) -> Sets:
        """The same with one part at most, each of whose elements has a row of its own."""
        if not self.parts:
            return self
        return collected(self, np.arange(self.size), self.size)

    def reach(self) -> int:
        """How many entries there are, those counted twice that several parts have."""
        return sum(int(table.counts[rows[rows >= 0]].sum()) for table, rows in self.parts)

    def equals(self, other: Sets) -> bool:
        """Whether all elements have the same sets."""
        if self.size != other.size:
            return False
        if len(self.parts) == len(other.parts) and all(
            a.table is b.table and np.array_equal(a.rows, b.rows) for a, b in zip(self.parts, other.parts, strict=True)
        ):
            return True
        mine, others = self.single(), other.single()
        if not mine.parts or not others.parts:
            return not mine.parts and not others.parts
        return mine.parts[0].table.equals(others.parts[0].table)


class Owned(NamedTuple):
    """Rows of a table, and the element that each belongs to."""

    table: Table
    rows: Rows
    owners: np.ndarray


def identity(size: int, start: int, width: int) -> Sets:
    """Element i depends on column start + i alone."""
    return Sets(size, (Part(Table(np.arange(width + 1), np.arange(width), width), np.arange(start, start + size)),))


def joined(size: int, parts: Iterable[Part]) -> Sets:
    """The union of parts; those of one table become one where no element has two rows of it."""
    kept: list[Part] = []
    for part in parts:
        for i, other in enumerate(kept):
            rows = _both(other.rows, part.rows) if other.table is part.table else None
            if rows is not None:
                kept[i] = Part(part.table, rows)
                break
        else:
            kept.append(part)
    if len(kept) <= PATTERN_PARTS:
        return Sets(size, tuple(kept))
    # The largest ones stay as they are: a row that all elements share would be there for each.
    kept.sort(key=lambda part: Sets(size, (part,)).reach())
    few = PATTERN_PARTS // 2
    return Sets(size, (*Sets(size, tuple(kept[:-few])).single().parts, *kept[-few:]))


def union(sets: Sequence[Sets]) -> Sets:
    """The union, element by element, of sets of as many elements."""
    first = sets[0]
    if len(sets) == 1:
        return first
    return joined(first.size, [part for each in sets for part in each.parts])


def _both(a: Rows, b: Rows) -> Rows | None:
    """Two choices of rows as one; None where they differ somewhere."""
    if a is b:
        return a
    half = len(a) // 2
    if len(a) and a[half] != b[half] and min(a[half], b[half]) >= 0:
        return None
    if ((a != b) & (a >= 0) & (b >= 0)).any():
        return None
    return np.asarray(np.maximum(a, b))


def united(size: int, owned: Sequence[Owned]) -> Sets:
    """For each of `size` elements the union of the rows that it owns, in a table of its own. Raises TooDense."""
    keys = []
    width = max((each.table.width for each in owned), default=0)
    for table, rows, owners in owned:
        there = rows >= 0
        if not there.all():
            rows, owners = rows[there], owners[there]
        # A row that an element owns twice is read once.
        pairs = _distinct(owners * max(len(table.counts), 1) + rows)
        owners, rows = np.divmod(pairs, max(len(table.counts), 1))
        columns, counts = table.entries(rows)
        keys.append(np.repeat(owners, counts) * width + columns)
    check_entries(sum(map(len, keys)))
    entries = _distinct(np.concatenate(keys)) if keys else np.zeros(0, np.int64)
    if not len(entries):
        return Sets(size)
    owners, columns = np.divmod(entries, width)
    counts = np.bincount(owners, minlength=size)
    starts = np.concatenate([[0], np.cumsum(counts)])
    return Sets(size, (Part(Table(starts, columns, width), np.where(counts > 0, np.arange(size), -1)),))


def collected(sets: Sets, owners: np.ndarray, size: int) -> Sets:
    """For each of `size` elements the union of those that it owns. Raises TooDense."""
    return united(size, [Owned(table, rows, owners) for table, rows in sets.parts])


def end_to_end(sets: Sequence[Sets]) -> Sets:
    """Those of arrays whose elements follow one another."""
    starts = np.cumsum([0, *(each.size for each in sets)])
    size = int(starts[-1])
    places: dict[tuple[int, int], list[tuple[int, Part]]] = {}
    for start, each in zip(starts, sets, strict=False):
        seen: dict[int, int] = {}
        for part in each.parts:
            number = seen[id(part.table)] = seen.get(id(part.table), -1) + 1
            places.setdefault((id(part.table), number), []).append((int(start), part))
    if len(places) > PATTERN_PARTS:
        found = [(start, part) for several in places.values() for start, part in several]
        return united(size, [Owned(*part, np.arange(start, start + len(part.rows))) for start, part in found])
    parts = []
    for several in places.values():
        rows = np.full(size, -1)
        for start, part in several:
            rows[start : start + len(part.rows)] = part.rows
        parts.append(Part(several[0][1].table, rows))
    return Sets(size, tuple(parts))


def _distinct(numbers: np.ndarray) -> np.ndarray:
    """Each number once, in order."""
    if not (numbers[1:] > numbers[:-1]).all():
        numbers = np.sort(numbers)
        keep = np.ones(len(numbers), bool)
        np.not_equal(numbers[1:], numbers[:-1], out=keep[1:])
        numbers = numbers[keep]
    return numbers


def check_entries(count: int) -> None:
    """Raise TooDense for more entries than memory and patience are for."""
    if count > PATTERN_ENTRIES:
        raise TooDense(count)
