"""The plan of a graph whose program needs at most so many bytes: the first one of a list in which ever more is computed
again.

The list is the graph's (`recompute.ways`) and no matter of the limit: so a smaller limit never needs more memory."""

from __future__ import annotations

from dataclasses import dataclass

from adjit.ir.graph import Graph
from adjit.ir.node import Loc
from adjit.schedule.build import make_plan, timeline_of
from adjit.schedule.cost import time_of
from adjit.schedule.memory import CodeRules
from adjit.schedule.plan import Plan
from adjit.schedule.recompute import recompute
from adjit_runtime.errors import OutOfMemory
from adjit_runtime.program import Slot
from adjit_runtime.target import Target

MOST_WORSE = 4
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
    smallest, worse = rules.memory(first), 0
    if smallest <= limit:
        return first, None
    time = timeline_of(graph, target, slots, rules)
    for stretches in time.ways():
        plan = make_plan(recompute(time, stretches), target, slots, rules)
        nbytes = rules.memory(plan)
        if nbytes <= limit:
            values = [node for stretch in stretches for node in stretch.nodes if node in stretch.values]
            locs = tuple({str(node.loc): node.loc for node in values if node.loc is not None}.values())
            spared = sum(node.array_type.nbytes for node in values)
            return plan, Recomputed(len(values), spared, locs, time_of(first), time_of(plan))
        worse = 0 if nbytes < smallest else worse + 1
        smallest = min(smallest, nbytes)
        if worse == MOST_WORSE:
            break
    raise Unreached(smallest, time_of(first))
