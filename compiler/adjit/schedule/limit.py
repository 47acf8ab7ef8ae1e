"""The plan of a graph whose program needs at most so many bytes: the first one of a list in which ever more is computed
again.

The list is the graph's (`recompute.ways`) and no matter of the limit: so a smaller limit never needs more memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from adjit.ir.graph import Graph
from adjit.ir.node import Loc
from adjit.schedule.cost import time_of
from adjit.schedule.memory import CodeRules
from adjit.schedule.plan import Plan
from adjit.schedule.planner import make_plan, timeline_of
from adjit.schedule.recompute import Stretch, recompute
from adjit_runtime.errors import OutOfMemory
from adjit_runtime.program import Slot
from adjit_runtime.target import Target

MOST_WORSE = 3
"""After so many plans in a row that are no smaller than one before, no other one is made: stretches are too short."""


class Unreached(OutOfMemory):
    """No plan has at most the bytes that were asked for; `smallest` are those of the one that has the fewest, `before`
    is the time of the one that computes nothing again."""

    def __init__(self, smallest: int, before: float) -> None:
        super().__init__(f"{smallest} bytes are needed")
        self.smallest, self.before = smallest, before


@dataclass(frozen=True, slots=True)
class Recomputed:
    """What a plan computes again: so many values, which do not lie in memory meanwhile, of so many bytes and these
    lines; `before` and `after` are the times of the plans without and with that (`cost.time_of`)."""

    values: int
    nbytes: int
    locs: tuple[Loc, ...]
    before: float
    after: float


def plan_within(
    limit: int, graph: Graph, target: Target, slots: tuple[Slot, ...], rules: CodeRules
) -> tuple[Plan, Recomputed | None]:
    """The plan, and what it computes again. Raises Unreached."""
    first = make_plan(graph, target, slots, rules)
    smallest = rules.memory(first)
    if smallest <= limit:
        return first, None
    for tried in _ways(graph, target, slots, rules):
        smallest = min(smallest, rules.memory(tried.plan))
        if smallest <= limit:
            return tried.plan, _recomputed(first, tried)
    raise Unreached(smallest, time_of(first))


@dataclass(frozen=True, eq=False, slots=True)
class _Tried:
    plan: Plan
    stretches: tuple[Stretch, ...]


def _ways(graph: Graph, target: Target, slots: tuple[Slot, ...], rules: CodeRules) -> Iterator[_Tried]:
    """Plans in which ever more is computed again; then the same where what is late already is computed later, as its
    readers may be in the way of what could be computed again."""
    time = timeline_of(graph, target, slots, rules)
    later = time.later()
    times = [time, timeline_of(recompute(time, later), target, slots, rules)] if later else [time]
    for at in times:
        smallest, worse = math.inf, 0
        for stretches in at.ways():
            if at is time and not stretches:
                continue
            plan = make_plan(recompute(at, stretches), target, slots, rules, spares=False)
            yield _Tried(plan, stretches)
            worse = 0 if rules.memory(plan) < smallest else worse + 1
            smallest = min(smallest, rules.memory(plan))
            if worse == MOST_WORSE:
                break


def _recomputed(first: Plan, tried: _Tried) -> Recomputed:
    values = [node for stretch in tried.stretches for node in stretch.nodes if node in stretch.values]
    locs = tuple({str(node.loc): node.loc for node in values if node.loc is not None}.values())
    nbytes = sum(node.array_type.nbytes for node in values)
    return Recomputed(len(values), nbytes, locs, time_of(first), time_of(tried.plan))
