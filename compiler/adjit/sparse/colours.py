"""Which columns of a pattern share a product, and which rows: lines of one colour have no two entries in one place.

Columns of one colour go into one product of forward mode, rows of one colour into one of reverse mode. A few lines that
would take a colour for each of theirs are taken apart and go the other way, so that an arrowhead has few colours. A
symmetric matrix needs less: a star colouring, where each entry can be read from its column's product or from its row's
(Coleman and More 1984; Gebremedhin, Manne and Pothen 2005). Colours are given greedily, the largest lines first, or by
the number of a line modulo as little as does, which is best for stencils (Goldfarb and Toint 1984)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from adjit.tuned import PATTERN_ENTRIES
from adjit_runtime.errors import InternalError


class Pattern(NamedTuple):
    """Entries row by row: those of row i are in `columns[starts[i]:starts[i + 1]]`, in order."""

    starts: np.ndarray
    columns: np.ndarray
    width: int

    @property
    def height(self) -> int:
        """How many rows."""
        return len(self.starts) - 1

    @property
    def counts(self) -> np.ndarray:
        """Entries of each row."""
        return np.diff(self.starts)

    @property
    def rows(self) -> np.ndarray:
        """The row of each entry."""
        return np.repeat(np.arange(self.height), self.counts)

    def least(self) -> int:
        """The least number of products that all entries may take."""
        return min(_apart(self.counts)[0], _apart(np.bincount(self.columns, minlength=self.width))[0])

    def transposed(self) -> Pattern:
        """Rows and columns exchanged."""
        order = np.argsort(self.columns, kind="stable")
        counts = np.bincount(self.columns, minlength=self.width)
        return Pattern(np.concatenate([[0], np.cumsum(counts)]), self.rows[order], self.height)

    def without(self, gone: np.ndarray) -> Pattern:
        """The rows that are marked, empty."""
        counts = np.where(gone, 0, self.counts)
        return Pattern(np.concatenate([[0], np.cumsum(counts)]), self.columns[~gone[self.rows]], self.width)

    def symmetric(self) -> Pattern:
        """With each entry the one across the diagonal."""
        across = self.transposed()
        if np.array_equal(self.starts, across.starts) and np.array_equal(self.columns, across.columns):
            return self
        keys = np.sort(np.concatenate([each.rows * self.width + each.columns for each in (self, across)]))
        keys = keys[np.append(True, keys[1:] != keys[:-1])]
        rows, columns = np.divmod(keys, self.width)
        return Pattern(np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=self.height))]), columns, self.width)


class Colouring(NamedTuple):
    """`columns` and `rows` have the colour of each, of `forward` and `reverse` many; -1 is in no product. `places` says
    where each entry is: in the products by columns, (forward, height), then those by rows, (reverse, width), flat."""

    columns: np.ndarray
    rows: np.ndarray
    forward: int
    reverse: int
    places: np.ndarray

    @property
    def total(self) -> int:
        """How many products."""
        return self.forward + self.reverse


def colouring(pattern: Pattern) -> Colouring:
    """By columns or by rows, whichever needs fewer products."""
    across = pattern.transposed()
    columns, rows = _one_way(pattern, across)
    by_row = rows[pattern.rows] >= 0
    if _count(columns) + _count(rows) > _apart(across.counts)[0]:
        others = _one_way(across, pattern)
        if sum(map(_count, others)) < _count(columns) + _count(rows):
            rows, columns = others
            by_row = columns[pattern.columns] < 0
    forward, reverse = _count(columns), _count(rows)
    at, to = pattern.rows, pattern.columns
    places = np.where(
        by_row, forward * pattern.height + rows[at] * pattern.width + to, columns[to] * pattern.height + at
    )
    return Colouring(columns, rows, forward, reverse, places)


def star_colouring(pattern: Pattern) -> Colouring:
    """Of a symmetric pattern, by columns."""
    cyclic = _modulus(pattern)
    # Three are as few as there are where four vertices are in a row.
    colours = _star(pattern) if cyclic is None or cyclic > 3 else None
    if cyclic is not None and (colours is None or cyclic <= _count(colours)):
        colours = np.arange(pattern.width) % cyclic
    assert colours is not None
    count = _count(colours)
    rows, columns = pattern.rows, pattern.columns
    ahead, across = rows * count + colours[columns], columns * count + colours[rows]
    met = np.bincount(ahead, minlength=pattern.height * count)
    own = met[ahead] == 1
    if not (own | (met[across] == 1)).all():
        raise InternalError("a star colouring in which an entry cannot be read")
    places = np.where(own, colours[columns] * pattern.height + rows, colours[rows] * pattern.height + columns)
    return Colouring(colours, np.full(pattern.height, -1), count, 0, places)


def _apart(counts: np.ndarray) -> tuple[int, int]:
    """The least number of colours that there can be, and how many of the largest lines are taken apart for it: none, if
    that does not save half."""
    falling = np.sort(counts)[::-1]
    needed = np.arange(len(falling) + 1) + np.append(falling, 0)
    best = int(np.argmin(needed))
    if 2 * needed[best] > needed[0]:
        best = 0
    return int(needed[best]), best


def _one_way(pattern: Pattern, across: Pattern) -> tuple[np.ndarray, np.ndarray]:
    """Colours of columns, and of the rows that are taken apart."""
    _, apart = _apart(pattern.counts)
    gone = np.zeros(pattern.height, bool)
    gone[np.argsort(-pattern.counts, kind="stable")[:apart]] = True
    rest = pattern.without(gone) if apart else pattern
    columns = _coloured(rest, rest.transposed() if apart else across)
    rows = np.full(pattern.height, -1)
    if apart:
        dense = pattern.without(~gone)
        rows[gone] = _greedy(dense.transposed(), dense)[gone]
    return columns, rows


def _count(colours: np.ndarray) -> int:
    return int(colours.max(initial=-1)) + 1


def _coloured(pattern: Pattern, across: Pattern) -> np.ndarray:
    """A colour for each column."""
    least = int(pattern.counts.max(initial=0))
    if not least:
        return np.full(pattern.width, -1)
    cyclic = _modulus(pattern)
    if cyclic == least:
        return np.arange(pattern.width) % cyclic
    colours = _greedy(pattern, across)
    if cyclic is not None and cyclic < _count(colours):
        return np.arange(pattern.width) % cyclic
    return colours


def _modulus(pattern: Pattern) -> int | None:
    """The least number by which no two columns of a row have the same remainder, if there is a small one."""
    least = int(pattern.counts.max(initial=0))
    rows, columns = pattern.rows, pattern.columns
    apart = np.zeros(pattern.width, bool)
    if least * len(columns) > PATTERN_ENTRIES:
        return None
    for step in range(1, least):
        distance = columns[step:] - columns[:-step]
        apart[distance[rows[step:] == rows[:-step]]] = True
    distances = np.flatnonzero(apart)
    return next((k for k in range(max(least, 1), 2 * least + 8) if (distances % k).all()), None)


def _greedy(pattern: Pattern, across: Pattern) -> np.ndarray:
    """A colour for each column that has entries, the largest first; -1 for the others."""
    # The colours that each row has met are the bits of an integer.
    met = [0] * pattern.height
    starts, rows = across.starts.tolist(), across.columns.tolist()
    colours = [-1] * pattern.width
    for column in np.argsort(-across.counts, kind="stable").tolist():
        own = rows[starts[column] : starts[column + 1]]
        if not own:
            break
        used = 0
        for row in own:
            used |= met[row]
        free = ~used & (used + 1)
        colours[column] = free.bit_length() - 1
        for row in own:
            met[row] |= free
    return np.array(colours, np.int64)


def _star(pattern: Pattern) -> np.ndarray:
    """Colours of the vertices of a graph such that neighbours differ, and each path of four vertices has three.

    Taken bits: `met` has the colours among a vertex's neighbours, `twice` those that are there twice or more, and
    `barred`, of a coloured vertex, those of neighbours that have its colour twice: its other neighbours have another
    one."""
    counts = pattern.counts
    starts, columns = pattern.starts.tolist(), pattern.columns.tolist()
    n = pattern.height
    colours, bits = [-1] * n, [0] * n
    met, twice, barred = [0] * n, [0] * n, [0] * n
    for v in np.argsort(-counts, kind="stable").tolist():
        near = [w for w in columns[starts[v] : starts[v + 1]] if w != v]
        used = met[v]
        for w in near:
            used |= barred[w] if bits[w] else met[w]
        bit = ~used & (used + 1)
        colours[v], bits[v] = bit.bit_length() - 1, bit
        for x in near:
            if not met[x] & bit:
                met[x] |= bit
                continue
            first = not twice[x] & bit
            twice[x] |= bit
            if first and bits[x]:
                for w in columns[starts[x] : starts[x + 1]]:
                    if bits[w] == bit and w != x:
                        barred[w] |= bits[x]
            elif bits[x]:
                barred[v] |= bits[x]
        for w in near:
            if twice[v] & bits[w]:
                barred[w] |= bit
    return np.array(colours, np.int64)
