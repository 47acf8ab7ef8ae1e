"""What a loop keeps of each turn for its derivative: `choose`, from data to data.

The turns of the adjoint go the other way, and read values of the turns forward. Such a value lies there anyhow, or is
computed again from others that are read, or the loop forward keeps it: an array with an element for each turn. The
fewest bytes are a minimum cut: between what cannot be computed again and what is read, the values that are kept cut
each path, and each costs its bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence, Set
from typing import NamedTuple


class Candidate(NamedTuple):
    """A value of one turn that no cotangent has part in.

    `args`    the numbers of those that it is computed from, which are smaller than its own
    `nbytes`  what it takes to keep it for one turn; None where it cannot be kept (several results in one)
    `here`    it is read where it lies: of this turn an input, a result of the loop, or the same for all turns
    `again`   it may be computed again: it costs little, or the loop forward does not compute it at all
    `made`    the loop forward computes it anyhow
    `before`  of what a turn leaves to the next one: the value that it had before the turn"""

    args: tuple[int, ...]
    nbytes: int | None
    here: bool = False
    again: bool = False
    made: bool = True
    before: int | None = None


class Choice(NamedTuple):
    """The numbers of the values that are `kept`, and of those that are `left`: what a turn leaves is what the one
    after it began with, which is there, so the adjoint has it from the turn that it took before."""

    kept: frozenset[int]
    left: frozenset[int]


def choose(candidates: Sequence[Candidate], wanted: Sequence[int]) -> Choice:
    """What to keep, so that each of `wanted` is here, or kept, or had from such: the fewest bytes, and among equals
    what is computed last, so that least is computed again."""
    reached = _reached(candidates, wanted, set())
    forced = {i for i in wanted if _had_from(candidates[i]) is None}
    costs: dict[int, int | None] = {}
    free: set[int] = set()
    for i in reached - forced:
        one = candidates[i]
        if one.here:
            continue
        # What the loop forward makes for this alone costs a little more than what it has.
        costs[i] = None if one.nbytes is None else 2 * len(candidates) * one.nbytes + (not one.made)
        if one.before is not None and (one.before in forced or candidates[one.before].here):
            costs[i] = 0
            free.add(i)
    cut = forced | _minimum_cut(candidates, costs, [i for i in wanted if i in costs])
    free &= cut
    needed = _reached(candidates, wanted, cut)
    left = {i for i in needed - cut if _is_left(candidates[i])}
    return Choice(frozenset(cut - free), frozenset(left | free))


def _is_left(one: Candidate) -> bool:
    """Whether what is not kept must be what a turn leaves."""
    return not one.here and not one.again and one.before is not None


def _had_from(one: Candidate) -> tuple[int, ...] | None:
    """The values that one is had from, for nothing that would be kept; None where there are none such."""
    if one.here:
        return ()
    if one.again:
        return one.args
    return None if one.before is None else (one.before,)


def _reached(candidates: Sequence[Candidate], wanted: Sequence[int], there: Set[int]) -> set[int]:
    """`wanted`, and what they are had from, as far as what is `there`."""
    found, waiting = set(wanted), list(wanted)
    while waiting:
        at = waiting.pop()
        if at not in there:
            new = set(_had_from(candidates[at]) or ()) - found
            found |= new
            waiting += new
    return found


def _minimum_cut(candidates: Sequence[Candidate], costs: dict[int, int | None], wanted: Sequence[int]) -> set[int]:
    """The values that cut all paths from what must be kept to `wanted`, at least cost, the last such."""
    starts = [i for i in costs if _had_from(candidates[i]) is None]
    if not starts:
        return set()
    number = {i: n for n, i in enumerate(costs)}
    source, sink = 2 * len(number), 2 * len(number) + 1
    network = _Network(sink + 1)
    endless = 1 + sum(cost for cost in costs.values() if cost is not None)
    for i, cost in costs.items():
        network.edge(2 * number[i], 2 * number[i] + 1, endless if cost is None else cost)
        for arg in dict.fromkeys(_had_from(candidates[i]) or ()):
            if arg in number:
                network.edge(2 * number[arg] + 1, 2 * number[i], endless)
    for i in starts:
        network.edge(source, 2 * number[i], endless)
    for i in wanted:
        network.edge(2 * number[i] + 1, sink, endless)
    network.fill(source, sink)
    reaching = network.leading_to(sink)
    return {i for i, n in number.items() if 2 * n not in reaching and 2 * n + 1 in reaching}


class _Network:
    """Edges with capacities, and the largest flow through them (Dinic 1970: along shortest paths, level by level)."""

    def __init__(self, size: int) -> None:
        self.edges: list[list[int]] = [[] for _ in range(size)]
        self.to: list[int] = []
        self.room: list[int] = []

    def edge(self, a: int, b: int, capacity: int) -> None:
        """An edge, and its reverse as the next number."""
        for start, end, room in ((a, b, capacity), (b, a, 0)):
            self.edges[start].append(len(self.to))
            self.to.append(end)
            self.room.append(room)

    def fill(self, source: int, sink: int) -> None:
        """Send as much as there is room for."""
        while (levels := self._levels(source))[sink] >= 0:
            untried = [list(edges) for edges in self.edges]
            path: list[int] = []
            at = source
            while True:
                if at == sink:
                    self._send(path)
                    path, at = [], source
                elif untried[at]:
                    edge = untried[at][-1]
                    if self.room[edge] and levels[self.to[edge]] == levels[at] + 1:
                        path.append(edge)
                        at = self.to[edge]
                    else:
                        untried[at].pop()
                elif path:
                    # No way on from here: back, and not here again.
                    at = self.to[path.pop() ^ 1]
                    untried[at].pop()
                else:
                    break

    def _send(self, path: Sequence[int]) -> None:
        amount = min(self.room[edge] for edge in path)
        for edge in path:
            self.room[edge] -= amount
            self.room[edge ^ 1] += amount

    def _levels(self, source: int) -> list[int]:
        levels = [-1] * len(self.edges)
        levels[source] = 0
        waiting = deque([source])
        while waiting:
            at = waiting.popleft()
            for edge in self.edges[at]:
                if self.room[edge] and levels[self.to[edge]] < 0:
                    levels[self.to[edge]] = levels[at] + 1
                    waiting.append(self.to[edge])
        return levels

    def leading_to(self, sink: int) -> set[int]:
        """The nodes from which more could flow to the sink."""
        found, waiting = {sink}, [sink]
        while waiting:
            for edge in self.edges[waiting.pop()]:
                if self.room[edge ^ 1] and self.to[edge] not in found:
                    found.add(self.to[edge])
                    waiting.append(self.to[edge])
        return found
