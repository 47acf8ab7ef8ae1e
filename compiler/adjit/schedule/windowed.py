"""Contractions of windows as matrix products: which letters are rows, columns and sums of one product, and which are
loops around it.

The letters of a window have strides that no single stride stands for: `x[n,h+i,w+j,c]` of a convolution has a row of
pixels along w, and sums along i apart from those along (j,c), which lie side by side. So a product is one row of
pixels, and around it are loops over what is left: over the result (batch) and over the sums (runs)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from adjit.ir.axes import joins, relation_of, sees_windows
from adjit.ir.node import Node
from adjit.ir.subscripts import Subscripts
from adjit.schedule.maps import Map, contiguous_strides, identity, linear, operand_map
from adjit.schedule.work import Product
from adjit.tuned import GROUPED_RESULT, GROUPED_SUMS, TRANSPOSE_COPY_READS, WINDOW_ROWS

Strides = Mapping[str, int]


class Split(NamedTuple):
    """The letters of a product: `columns` are adjacent in B and in the result, `rows` have one stride in A and in the
    result, `sums` one in A and in B; `batch` are loops over products, `runs` over the sums of one, outermost first.
    There are `lines` where the rows are those of a line of many, which follow one another in the result."""

    batch: str
    rows: str
    columns: str
    runs: tuple[str, ...]
    sums: str
    lines: bool = False


def reads_windows(node: Node) -> bool:
    """Whether an operand is a view of windows that overlap."""
    while node.op.kind == "movement" and not joins(node):
        if sees_windows(node):
            return True
        node = node.args[0]
    return False


def below_windows(node: Node) -> Node:
    """What must have memory so that windows are read where they lie: what is below them, padding included."""
    seen = False
    while node.op.kind == "movement" and not joins(node):
        seen = seen or sees_windows(node)
        relation = relation_of(node)
        if seen and relation is not None and relation.filled:
            return node
        node = node.args[0]
    return node


def view_strides(node: Node) -> tuple[int, ...]:
    """How far apart the elements along each axis lie, where what is below the movement lies in C order."""
    extents = node.shape
    map_: Map = identity(len(extents), range(len(extents)))
    while node.op.kind == "movement" and not joins(node):
        inner, bounds = operand_map(node, map_, extents)
        if inner is None or bounds:
            break
        map_, node = inner, node.args[0]
    return linear(map_, contiguous_strides(node.shape))[1] or (0,) * len(extents)


def groups_of(spec: Subscripts, sizes: Mapping[str, int]) -> int:
    """Into how many groups the outermost sums of both operands are cut, which have a result each: where this is small,
    its parts alone are too few, or too thin, for threads."""
    first = spec.left[0]
    if first != spec.right[0] or first not in spec.summed or math.prod(sizes[c] for c in spec.result) > GROUPED_RESULT:
        return 1
    each = math.prod(sizes[c] for c in spec.summed) // GROUPED_SUMS
    return next((n for n in (8, 4, 2) if sizes[first] % n == 0 and each >= n), 1)


class Orientation(NamedTuple):
    """How a contraction of windows is done: the letters of the other operand in a good order, which is `copied`
    so where that pays, and those of the result, whose last one has the columns."""

    other: str
    result: str
    copied: bool


def orientation(spec: Subscripts, sizes: Mapping[str, int], strides: Strides, windowed: int, lanes: int) -> Orientation:
    """That of a contraction whose operand `windowed` has these strides, on vectors of so many lanes."""
    own, other = spec.operands[windowed], spec.operands[1 - windowed]
    free = "".join(c for c in spec.result if c in other and c not in own)
    sums = "".join(sorted(spec.summed, key=lambda c: -strides[c]))
    batch = "".join(c for c in spec.result if c in own and c in other)
    along = _adjacent(spec, sizes, strides, own, other)
    wide, few = (math.prod(sizes[c] for c in letters) for letters in (along, free))
    copied = False
    if along and few < wide and few * -(-wide // lanes) < wide * -(-few // lanes):
        letters, last = other, along
    else:
        uses = math.prod(sizes[c] for c in own if c not in other)
        copied = uses >= TRANSPOSE_COPY_READS and _runs(own, sums, sizes, strides) < _runs(
            own, "".join(c for c in other if c in sums), sizes, strides
        )
        letters, last = other if other[-1] in free and not copied else batch + sums + free, free
    if spec.result[-1] in last:
        return Orientation(letters, spec.result, copied)
    return Orientation(letters, "".join(c for c in spec.result if c not in last) + last, copied)


def _runs(own: str, sums: str, sizes: Mapping[str, int], strides: Strides) -> int:
    """How many loops it takes to go over these sums in this order."""
    return sum(strides[before] != strides[letter] * sizes[letter] for before, letter in itertools.pairwise(sums))


def _adjacent(spec: Subscripts, sizes: Mapping[str, int], strides: Strides, own: str, other: str) -> str:
    """The free letters of the windowed operand that lie side by side, outermost first."""
    found, step = "", 1
    left = {c for c in own if c in spec.result and c not in other}
    while True:
        letter = next((c for c in left if strides[c] == step), "")
        if not letter:
            return found
        left.remove(letter)
        found, step = letter + found, step * sizes[letter]


def split(spec: Subscripts, sizes: Mapping[str, int], a: Strides, b: Strides, c: Strides) -> Split | None:
    """How a contraction whose left operand has the rows is done; None where B has no adjacent columns, or the sums
    would take more loops than there are."""
    result = spec.result
    if result[-1] not in spec.columns or b[result[-1]] != 1:
        return None
    columns = _merged(result, spec.columns, sizes, (b, c))[-1]
    # The last ones, which lie beside the columns, if they are no few.
    inner = _merged(result, spec.rows, sizes, (a, c))[::-1]
    rows = max(inner, key=lambda run: min(math.prod(sizes[x] for x in run), WINDOW_ROWS))
    batch = "".join(x for x in result if x not in rows + columns)
    order = "".join(sorted(spec.summed, key=lambda x: -abs(a[x])))
    *runs, sums = _merged(order, spec.summed, sizes, (a, b))
    lines = batch != "" and batch[-1] not in b and c[batch[-1]] == c[rows[0]] * sizes[rows[0]]
    return Split(batch, rows, columns, tuple(runs), sums, lines) if len(runs) <= Product.RUNS else None


def _merged(order: str, wanted: str, sizes: Mapping[str, int], strides: Sequence[Strides]) -> list[str]:
    """The letters of `order` that are wanted, those together that have one stride everywhere."""
    found: list[str] = []
    for before, letter in itertools.pairwise(" " + order):
        if letter not in wanted:
            continue
        if before in wanted and all(each[before] == each[letter] * sizes[letter] for each in strides):
            found[-1] += letter
        else:
            found.append(letter)
    return found
