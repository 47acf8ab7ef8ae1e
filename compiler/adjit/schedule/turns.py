"""Kinds of work that have others in them, or a graph: plans in plans, straight lines, and loops over these."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from adjit.ir.graph import Graph
from adjit.schedule.buffer import Buffer, Params
from adjit.schedule.counts import line_cost, operations_of_graph
from adjit.schedule.notation import plural
from adjit.schedule.touches import Touch
from adjit.schedule.work import Single, Work


@dataclass(frozen=True, slots=True)
class Place:
    """Where a parameter of a nested kernel points: `start` bytes past parameter `param` of the whole, `turn` bytes
    more for each turn and `group` more for each group of turns."""

    param: int
    start: int
    turn: int = 0
    group: int = 0


@dataclass(frozen=True, slots=True)
class NestedStep:
    """A kernel of a nested plan, and where its parameters point."""

    work: Work
    params: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Nested(Work):
    """A plan in a plan: the steps for each of `count` turns. Turns are in `groups`, each with sums and scratch memory
    of its own, so that groups may run at the same time; those of one group come one after the other.

    `read` and `written` are numbers of parameters, `turns` the bytes by which each moves on with a turn, `extents`
    those that are reached from where it points: the first, and the one after the last. After these comes, where turns
    are `counted`, how many there are, `count` at most; where they are `ranged`, too, the first one and the one after
    the last. In `reverse` the last turn comes first. A loop that `stops` ends where parameter 0, a bool, is false ahead
    of a turn. The checks of the steps are numbered from `first_check` on, where there are any. All of these have one
    group. A turn of `stretches` goes through several turns of one and the same loop, by steps that do the same or are
    ranged, and tell errors the number."""

    count: int
    groups: int
    steps: tuple[NestedStep, ...]
    read: tuple[int, ...]
    written: tuple[int, ...]
    turns: tuple[int, ...]
    extents: tuple[tuple[int, int], ...]
    reverse: bool = False
    stops: bool = False
    counted: bool = False
    ranged: bool = False
    stretches: bool = False
    first_check: int | None = None

    packs: ClassVar[bool] = True

    @property
    def reads(self) -> Collection[int]:
        """Numbers of the parameters that are read."""
        return self.read

    @property
    def writes(self) -> Collection[int]:
        """Numbers of the parameters that are written."""
        return self.written

    @property
    def scratch(self) -> int:
        """The number of the parameter that is scratch memory."""
        return len(self.extents) - 1

    @property
    def may_fail(self) -> bool:
        """Whether it may leave the program, by a check."""
        return self.first_check is not None

    @property
    def reports(self) -> bool:
        """Whether a step may fail: the turn goes into the report."""
        return self.may_fail

    @property
    def tells_turn(self) -> bool:
        """Whether it reports the turn in which a check fails: a branch has but one."""
        return self.count > 1

    @property
    def tells_turns(self) -> bool:
        """Whether it goes through turns of the loop around it."""
        return self.ranged or self.stretches

    def tells_turn_of(self, step: NestedStep) -> bool:
        """Whether it does so for a check in a step: one that goes through turns of the same loop has told which."""
        return self.tells_turn and not (self.stretches and step.work.tells_turns)

    @property
    def is_shared(self) -> bool:
        """Whether its groups run on the threads of the pool: threads may share each step else."""
        return self.groups > 1

    @property
    def has_turns(self) -> bool:
        """Whether its turns come one after the other."""
        return not self.is_shared

    def takes(self, given: tuple[np.dtype, ...]) -> bool:
        """Whether there are as many as the slots of a turn, scratch memory, and the number of turns."""
        return len(given) == len(self.extents) + self.counted

    def touches(self) -> Iterator[Touch]:
        """What the steps touch, in all turns of all groups."""
        for step in self.steps:
            for touch in step.work.touches():
                place = step.params[touch.param]
                moved = touch.shifted(place.param, place.start)
                yield moved.repeated(self.count, place.turn).repeated(self.groups, place.group)

    def singles(self, alone: bool = True, times: int = 1) -> Iterator[tuple[Single, bool, int]]:
        """Those of the steps."""
        for step in self.steps:
            yield from step.work.singles(alone and not self.is_shared, times * self.count)

    def overwrites_safely(self, params: Params, buffer: Buffer) -> bool:
        """What is carried, and nothing else that it takes: each turn's plan says how that is read and written."""
        return sum(other is buffer for other, _ in params) == 1

    def describe(self) -> str:
        """It in a few words."""
        turns = "tiles" if self.is_shared else "turns"
        return f"{self.count} {turns} of {len(self.steps)} kernel{plural(len(self.steps))}"

    def explain(self) -> str:
        """What became one kernel, in a sentence."""
        steps = f"{len(self.steps)} kernel{plural(len(self.steps))}."
        if not self.is_shared:
            return f"A loop of {self.count} turns, one after the other, each {steps}"
        return (
            "Runs tile by tile over the rows, so that data are read once and what lies between stays in the cache; "
            f"each tile is {steps}"
        )

    def why_apart(self, writer: Work, mine: Collection[int]) -> str:
        """Why it is not joined to its writer."""
        return "reads it in tiles" if self.is_shared else "reads it in a loop"

    @property
    def flops(self) -> float:
        """Floating-point operations of all turns."""
        return self.count * sum(step.work.flops for step in self.steps)

    @property
    def instructions(self) -> float:
        """Those of straight lines, in all turns."""
        return self.count * sum(step.work.instructions for step in self.steps)

    @property
    def itemsize(self) -> int:
        """Bytes of the largest numbers that a step computes with."""
        return max((step.work.itemsize for step in self.steps), default=4)

    def nbytes(self, params: Params) -> float:
        """Bytes of what it reads and writes, not of what its turns hand on among each other."""
        both = {params[number][0] for number in (*self.reads, *self.writes)} - {params[self.scratch][0]}
        return sum(buffer.nbytes for buffer in both)


class _Line(Work):
    """What kinds of work have in common that are a graph in registers. Parameters are its inputs, then its outputs."""

    __slots__ = ()
    graph: Graph

    @property
    def reads(self) -> Collection[int]:
        """Numbers of the parameters that are read: the inputs."""
        return set(range(len(self.graph.inputs)))

    @property
    def writes(self) -> Collection[int]:
        """Numbers of the parameters that are written: the outputs."""
        first = len(self.graph.inputs)
        return set(range(first, first + len(self.graph.outputs)))

    def _touches(self, count: int, turns: tuple[int, ...]) -> Iterator[Touch]:
        """Each parameter whole, in `count` turns with each of which it moves on by so many elements."""
        nodes = (*self.graph.inputs, *self.graph.outputs)
        written = self.writes
        for param, (node, step) in enumerate(zip(nodes, turns, strict=True)):
            size = node.dtype.itemsize
            extents, strides = (count, node.array_type.size), (step * size, size)
            yield Touch(param, node.dtype, 0, extents, strides, param in written)

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return 4

    def why_apart(self, writer: Work, mine: Collection[int]) -> str:
        """A line is alone, or is a loop."""
        return "reads it in a loop"


@dataclass(frozen=True, slots=True)
class Straight(_Line):
    """A whole graph without loops, in registers; its parameters are the program's slots."""

    graph: Graph

    @property
    def writes(self) -> Collection[int]:
        """Numbers of the parameters that are written: the outputs, and inputs that have a new value."""
        inputs = self.graph.inputs
        renewed = {target for target, _ in self.graph.updates}
        return {i for i, node in enumerate(inputs) if node in renewed} | {
            len(inputs) + i for i in range(len(self.graph.outputs))
        }

    def takes(self, given: tuple[np.dtype, ...]) -> bool:
        """Whether there is one for each input and output."""
        return len(given) == len(self.graph.inputs) + len(self.graph.outputs)

    def touches(self) -> Iterator[Touch]:
        """Each slot whole."""
        return self._touches(1, (0,) * (len(self.graph.inputs) + len(self.graph.outputs)))

    def overwrites_safely(self, params: Params, buffer: Buffer) -> bool:
        """Everything is loaded before anything is stored."""
        return True

    def describe(self) -> str:
        """It in a few words."""
        return f"straight line of {len(self.graph.nodes)}"

    def explain(self) -> str:
        """What became one kernel, in a sentence."""
        return "The whole program is so small that its values stay in registers: no loops, no arena, no calls."

    @property
    def flops(self) -> float:
        """Floating-point operations."""
        return operations_of_graph(self.graph)


@dataclass(frozen=True, slots=True)
class StraightLoop(_Line):
    """A straight line for each of `count` turns, one after the other; the first `carried` of its outputs are its first
    inputs in the next turn, in registers. Parameters are the inputs, then the outputs, of which what is carried is
    written once, at the end; then, where turns are `counted`, how many there are, `count` at most, and where they are
    `ranged`, too, the first one and the one after the last. In each turn, parameter i moves on by `turns[i]` elements;
    one that does not move is read before the first. In `reverse` the last turn comes first. A loop that `stops` ends
    where the first value that it carries, a bool, is false ahead of a turn. Checks are numbered from `first_check` on,
    where there are any."""

    graph: Graph
    count: int
    carried: int
    turns: tuple[int, ...]
    reverse: bool = False
    stops: bool = False
    counted: bool = False
    ranged: bool = False
    first_check: int | None = None

    @property
    def may_fail(self) -> bool:
        """Whether it may leave the program, by a check."""
        return self.first_check is not None

    @property
    def has_turns(self) -> bool:
        """Turns come one after the other."""
        return True

    @property
    def tells_turns(self) -> bool:
        """Whether it goes through turns of the loop around it."""
        return self.ranged

    @property
    def reads(self) -> Collection[int]:
        """Numbers of the parameters that are read: the inputs, and how many turns there are."""
        return set(range(len(self.graph.inputs))) | ({len(self.turns)} if self.counted else set())

    def takes(self, given: tuple[np.dtype, ...]) -> bool:
        """Whether there is one for each input and output, and the number of turns."""
        return len(given) == len(self.graph.inputs) + len(self.graph.outputs) + self.counted

    def touches(self) -> Iterator[Touch]:
        """What each turn reads and writes."""
        return self._touches(self.count, self.turns)

    def overwrites_safely(self, params: Params, buffer: Buffer) -> bool:
        """Whether what is read of a buffer is read before the first turn, and what is written is written after the
        last."""
        ends = range(len(self.graph.inputs), len(self.graph.inputs) + self.carried)
        places = [number for number, (other, _) in enumerate(params) if other is buffer]
        return all(number in ends or (number in self.reads and not any(self.turns[number:][:1])) for number in places)

    def describe(self) -> str:
        """It in a few words."""
        return f"{self.count} turns of a straight line of {len(self.graph.nodes)}"

    def explain(self) -> str:
        """What became one kernel, in a sentence."""
        carried = f"{self.carried} value{plural(self.carried)} that it carries"
        return (
            f"A loop of {self.count} turns, one after the other; a turn is so small that its values stay in registers"
            + (f", with the {carried}." if self.carried else ".")
        )

    @property
    def flops(self) -> float:
        """Floating-point operations of all turns."""
        return self.count * operations_of_graph(self.graph)

    @property
    def instructions(self) -> float:
        """Those of all turns."""
        return self.count * float(line_cost(self.graph) or 0)
