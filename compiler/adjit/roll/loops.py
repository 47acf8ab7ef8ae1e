"""Where nodes repeat: loops of turns that do the same to operands which correspond.

Equal tokens at a distance say how long a turn may be. In a run of nodes whose tokens are those of the nodes one turn
later, an operand corresponds to that of the turn before where it

    follows    comes from a node that is one turn later, too: of the same turn, or of an earlier one
    stays      is the same value from outside
    moves      is the same array from outside, cut elsewhere, by the same distance as from the turn before that
    differs    is a constant, as that one is

A loop is a stretch of the run in which each operand corresponds in one of these ways all along, from the node on
where what it carries comes from outside, and which is cut into turns where the least is carried."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from adjit.ir.types import Array
from adjit.roll.moving import Motion, motion, moves
from adjit.roll.reading import Place, Reading
from adjit.tuned import ROLL_LAG, ROLL_PERIODS, ROLL_TURNS

FOLLOWS, STAYS, DIFFERS, NOT = -1, -2, -3, -4
"""How an operand corresponds to that of the turn before; a number from 0 on is a motion."""

NEAR = 4
"""How many occurrences of a token further the next one of the same place in a turn is looked for."""
MOST_TRIED = 64
"""How many lengths of turns are tried, those of loops in loops among them."""


@dataclass(frozen=True, eq=False, slots=True)
class Loop:
    """Turns of `period` nodes from node `start` on; `ways` has how each operand of a turn corresponds."""

    start: int
    period: int
    turns: int
    ways: np.ndarray

    @property
    def stop(self) -> int:
        """The node after the last turn."""
        return self.start + self.period * self.turns

    @property
    def last(self) -> int:
        """The first node of the last turn."""
        return self.stop - self.period

    def cut(self, turns: list[int]) -> list[Loop]:
        """The loops between some turns; itself where these are the first and the end, none where most are too short."""
        if len(turns) == 2:
            return [self]
        pairs = list(itertools.pairwise(turns))
        short = [stop - start < ROLL_TURNS for start, stop in pairs]
        if sum(short) > len(pairs) // 2:
            return []
        return [
            Loop(self.start + start * self.period, self.period, stop - start, self.ways)
            for (start, stop), left in zip(pairs, short, strict=True)
            if not left
        ]


@dataclass(frozen=True, eq=False, slots=True)
class Steady:
    """The last turn of a stretch in which operands correspond: it ends ahead of a node. `operands` are their numbers,
    `ways` how they correspond, `distances` how far from their node those lie that they come from."""

    end: int
    period: int
    operands: np.ndarray
    ways: np.ndarray
    distances: np.ndarray


class Finder:
    """Finds loops in a graph that spare at least so many nodes.

    `motions` has for each way from 0 on the motion and by how much it moves."""

    def __init__(self, reading: Reading, least: int) -> None:
        self.reading, self.least = reading, least
        self.motions: list[tuple[Motion, Place]] = []
        self._ways: dict[tuple[int, int, int], int] = {}
        self._numbers: dict[tuple[int, Place], int] = {}
        tuples = [i for i, node in enumerate(reading.nodes) if not isinstance(node.type, Array)]
        self._tuples = np.array(tuples, np.int64)
        self._taken = np.zeros(len(reading.nodes) + 1, bool)
        self._reader = np.searchsorted(reading.first, np.arange(len(reading.base)), side="right") - 1
        self._last_read = np.zeros(len(reading.nodes), np.int64)
        read = reading.base >= 0
        np.maximum.at(self._last_read, reading.base[read], self._reader[read])

    def loops(self) -> list[Loop]:
        """Loops that spare enough nodes, none of which meets another one, in order."""
        found: list[Loop] = []
        periods = _periods(self.reading.tokens, self.reading.weights, self.least)
        tried = set[int]()
        while periods and len(tried) < MOST_TRIED:
            period = periods.pop(0)
            tried.add(period)
            for start, stop in self._runs(period):
                inside = list(self._within(start, stop, period))
                for loop in inside:
                    self._taken[loop.start : loop.stop] = True
                found += inside
                longer = [] if inside else self._longer(start, stop, period)
                periods = sorted({*periods, *longer} - tried)
        return sorted(found, key=lambda loop: loop.start)

    def _runs(self, period: int) -> Iterator[tuple[int, int]]:
        """Stretches in which each node does what the one a turn later does."""
        tokens, free = self.reading.tokens, ~self._taken[:-1]
        same = (tokens[period:] == tokens[:-period]) & free[period:] & free[:-period]
        for start, stop in _stretches(same):
            if self._pays(start, stop, period):
                yield start, stop + period

    def _pays(self, start: int, stop: int, period: int) -> bool:
        """Whether it pays to have a loop in place of nodes from one up to another, and of one turn more."""
        return stop - start >= (ROLL_TURNS - 1) * period and self.reading.weight(start, stop) >= self.least

    def _longer(self, start: int, stop: int, period: int) -> list[int]:
        """Longer turns of a run whose tokens are the same, but not how operands correspond: loops in loops."""
        first = self.reading.first
        middle, end = int(first[start + period]), int(first[stop])
        ways = self._correspondence(start, stop, period).astype(np.uint64)
        nodes = self._reader[middle:end]
        which = (np.arange(middle, end) - first[nodes]).astype(np.uint64)
        # A sum with factors that differ is as good as a number for the ways of a node's operands.
        sums = np.concatenate([[0], np.cumsum((ways + np.uint64(9)) * (which * np.uint64(2) + np.uint64(1)) ** 5)])
        ends = first[start + period : stop + 1] - middle
        kinds = sums[ends[1:]] - sums[ends[:-1]] + self.reading.tokens[start + period : stop].astype(np.uint64) * 17
        _, tokens = np.unique(kinds, return_inverse=True)
        found = _periods(tokens, self.reading.weights[start + period : stop + 1], self.least)
        return [longer for longer in found if longer > period]

    def _within(self, start: int, stop: int, period: int) -> Iterator[Loop]:
        """The loops of a run."""
        first = self.reading.first
        per_turn = int(first[start + period] - first[start])
        if not per_turn:
            return
        ways = self._correspondence(start, stop, period)
        # Way i is that of operand i of the second turn; it holds where it is the one of the turn before.
        steady = np.zeros(len(ways), bool)
        steady[per_turn:] = (ways[per_turn:] == ways[:-per_turn]) & (ways[per_turn:] != NOT)
        wrong = np.concatenate([[0], np.cumsum(~steady)])
        ends = first[start + period : stop + 1] - first[start + period]
        holds = wrong[ends[1:]] == wrong[ends[:-1]]
        holds[:period] = False
        before = start
        for begin, end in _stretches(holds):
            begin, end = begin + start + period, end + start + period
            if not self._pays(begin - period, end, period):
                continue
            loop = self._loop(before, begin, self._steady(end, period, ways, int(first[start]) + per_turn))
            if loop is not None:
                yield loop
                before = loop.stop

    def _correspondence(self, start: int, stop: int, period: int) -> np.ndarray:
        """How each operand from the second turn on corresponds to that of the turn before."""
        reading = self.reading
        begin, end = int(reading.first[start]), int(reading.first[stop])
        turn = int(reading.first[start + period]) - begin
        base, form, place = (column[begin:end] for column in (reading.base, reading.form, reading.place))
        before, after = base[:-turn], base[turn:]
        same_form = form[:-turn] == form[turn:]
        same_place = place[:-turn] == place[turn:]
        ways = np.full(end - begin - turn, NOT)
        ways[same_form & same_place & (after - before == period) & (before >= 0)] = FOLLOWS
        ways[same_form & same_place & (after == before)] = STAYS
        sort = np.full(len(base), -1)
        sort[base < 0] = reading.sorts[-1 - base[base < 0]]
        constant = (sort[:-turn] == sort[turn:]) & (sort[turn:] >= 0) & same_form & (form[turn:] == 0)
        ways[constant] = DIFFERS
        elsewhere = np.flatnonzero(same_form & ~same_place & (after == before))
        for i in elsewhere.tolist():
            ways[i] = self._motion(int(form[i]), int(place[i]), int(place[i + turn]))
        return ways

    def _motion(self, form: int, before: int, after: int) -> int:
        known = self._ways.get((form, before, after))
        if known is not None:
            return known
        places = self.reading.places
        by = moves(places[before], places[after])
        number = self._numbers.get((form, by))
        if number is None:
            how = motion(self.reading.forms[form], by)
            number = NOT if how is None else len(self.motions)
            self._numbers[form, by] = number
            if how is not None:
                self.motions.append((how, by))
        self._ways[form, before, after] = number
        return number

    def _steady(self, end: int, period: int, ways: np.ndarray, begin: int) -> Steady:
        """The last turn of a stretch; the first of the ways is that of operand `begin`."""
        operands = np.arange(self.reading.first[end - period], self.reading.first[end])
        distances = self.reading.base[operands] - self._reader[operands]
        return Steady(end, period, operands, ways[operands - begin], distances)

    def _loop(self, before: int, begin: int, steady: Steady) -> Loop | None:
        """The loop of a stretch that holds from node `begin` on, from node `before` on at the earliest."""
        end, period, first = steady.end, steady.period, self.reading.first
        cut = self._cut(self._lowest(before, begin, steady), steady)
        if cut is None:
            return None
        turns = (end - cut) // period
        if not self._pays(cut, cut + (turns - 1) * period, period):
            return None
        # The operands of a turn in the order from its first node on.
        shift = int(first[end] - first[cut + turns * period])
        loop = Loop(cut, period, turns, np.roll(steady.ways, shift))
        return loop if self._carries_arrays(loop) else None

    def _lowest(self, before: int, begin: int, steady: Steady) -> int:
        """The first node that a loop may begin at: its operands correspond to those of the last turn, or come from
        outside where those are carried."""
        reading, first = self.reading, self.reading.first
        size = len(steady.operands)
        outside = (steady.ways != FOLLOWS) & (steady.ways != DIFFERS)
        lowest = max(
            before, begin - (ROLL_LAG + 2) * steady.period,
            int(np.max(reading.base[steady.operands][outside], initial=-1)) + 1,
        )  # fmt: skip
        early = np.arange(first[lowest], first[begin])
        if not len(early):
            return lowest
        column = (early - first[steady.end]) % size
        node, last, distance = self._reader[early], steady.operands[column], steady.distances[column]
        follows = steady.ways[column] == FOLLOWS
        same = (reading.form[early] == reading.form[last]) & (reading.place[early] == reading.place[last])
        there = reading.base[early] == node + distance
        for i in np.flatnonzero(follows & ~(same & there)).tolist():
            fits = reading.operands[int(early[i])].type == reading.operands[int(last[i])].type
            ahead = int(node[i] + distance[i]) if fits else int(node[i])
            lowest = max(lowest, ahead + 1, int(reading.base[early[i]]) + 1)
        # The others are what they are one turn later.
        stop = int(self._reader[early[-1] + size]) + 1
        ways = self._correspondence(int(node[0]), stop, steady.period)[: len(early)]
        wrong = ~follows & (ways != steady.ways[column])
        return max(lowest, int(np.max(node[wrong], initial=-1)) + 1)

    def _cut(self, lowest: int, steady: Steady) -> int | None:
        """Where the turns of a loop begin: with as many turns as there can be, the place where the least is carried."""
        end, period = steady.end, steady.period
        if (end - lowest) // period < ROLL_TURNS:
            return None
        spare = (end - lowest) % period
        follows = steady.ways == FOLLOWS
        base = self.reading.base[steady.operands][follows]
        reach: dict[int, int] = {}
        for x, distance in zip(((base - lowest) % period).tolist(), (-steady.distances[follows]).tolist(), strict=True):
            reach[x] = max(reach.get(x, 0), distance)
        cost = np.zeros(period + 1)
        for x, distance in reach.items():
            if distance > ROLL_LAG * period:
                return None
            weight = self._weight(lowest + x, end)
            if distance >= period:
                cost += weight * (distance // period)
            # The cuts at x + 1 ... x + rest lie between the node and its last reader, once more.
            stop = x + distance % period
            cost[x + 1 : min(stop, period) + 1] += weight
            if stop >= period:
                cost[: stop - period + 1] += weight
        best = int(np.argmin(cost[: spare + 1]))
        return None if cost[best] == np.inf else lowest + best

    def _weight(self, node: int, end: int) -> float:
        """What it costs to carry a value: its bytes, of one that leaves the loop anyway half of them. A tuple is not
        carried."""
        type = self.reading.nodes[node].type
        if not isinstance(type, Array):
            return np.inf
        return (type.nbytes + 1.0) / (2 if self._last_read[node] >= end else 1)

    def _carries_arrays(self, loop: Loop) -> bool:
        """Whether no tuple is read by another turn than the one that it comes from."""
        first, base = self.reading.first, self.reading.base
        turn = slice(int(first[loop.last]), int(first[loop.stop]))
        if np.any(np.isin(base[turn][loop.ways == STAYS], self._tuples)):
            return False
        inside = self._tuples[(self._tuples >= loop.start) & (self._tuples < loop.stop)]
        if not len(inside):
            return True
        read = np.isin(base, inside)
        reader, source = self._reader[read] - loop.start, base[read] - loop.start
        return bool(np.all(reader // loop.period == source // loop.period))


def _periods(tokens: np.ndarray, weights: np.ndarray, least: int) -> list[int]:
    """Distances between equal tokens that enough nodes have, the shortest first."""
    order = np.argsort(tokens, kind="stable")
    among = tokens[order]
    cover = np.zeros(len(tokens))
    for further in range(1, NEAR + 1):
        same = among[further:] == among[:-further]
        after, before = order[further:][same], order[:-further][same]
        cover += np.bincount(after - before, weights[after] - weights[before], len(tokens))
    best = np.argsort(cover, kind="stable")[::-1][:ROLL_PERIODS]
    return sorted(int(i) for i in best if cover[i] >= least)


def _stretches(holds: np.ndarray) -> list[tuple[int, int]]:
    """The stretches of true elements."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], holds, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
