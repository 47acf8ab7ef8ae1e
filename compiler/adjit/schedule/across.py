"""The kind of work that runs a small graph for each of many places, several at a time, one in each lane of a vector."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ops.across import cost_of_body, factors_in
from adjit.schedule.buffer import Buffer, Params
from adjit.schedule.counts import operations_of_graph
from adjit.schedule.touches import Touch
from adjit.schedule.work import Single, Work
from adjit.tuned import ACROSS_ELEMENTS, ACROSS_PLACES, ACROSS_WORK
from adjit_runtime.target import LINE


@dataclass(frozen=True, slots=True)
class Across(Single):
    """A graph for each of `count` places, which need nothing of one another. Parameters are its inputs, then its
    outputs; at the next place, parameter i is `turns[i]` elements on, and 0 where all places read the same."""

    graph: Graph
    count: int
    turns: tuple[int, ...]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """What the parameters are."""
        return (*self.graph.inputs, *self.graph.outputs)

    @property
    def reads(self) -> Collection[int]:
        """Numbers of the parameters that are read: the inputs."""
        return set(range(len(self.graph.inputs)))

    @property
    def writes(self) -> Collection[int]:
        """Numbers of the parameters that are written: the outputs."""
        return set(range(len(self.graph.inputs), len(self.turns)))

    @property
    def operands(self) -> int:  # type: ignore[override]
        """All are."""
        return len(self.turns)

    @property
    def extents(self) -> tuple[int, ...]:
        """Places."""
        return (self.count,)

    def takes(self, given: tuple[np.dtype, ...]) -> bool:
        """Whether these are its inputs and outputs."""
        return given == tuple(node.dtype for node in self.nodes)

    def touches(self) -> Iterator[Touch]:
        """Each parameter whole, at each place."""
        written = self.writes
        for param, (node, step) in enumerate(zip(self.nodes, self.turns, strict=True)):
            size = node.dtype.itemsize
            extents, strides = (self.count, node.array_type.size), (step * size, size)
            yield Touch(param, node.dtype, 0, extents, strides, param in written)

    def overwrites_safely(self, params: Params, buffer: Buffer) -> bool:
        """The last places may be computed twice."""
        return False

    def head(self, places: Sequence[str]) -> str:
        """The first line of its text."""
        moving = (f"{place} by {step}" if step else place for place, step in zip(places, self.turns, strict=True))
        return f"across {self.count} on {' '.join(moving)}"

    def describe(self) -> str:
        """It in a few words."""
        return f"{self.count} x {len(self.graph.nodes)} operations on small matrices"

    def explain(self) -> str:
        """What became one kernel, in a sentence."""
        return "Works on small matrices, one in each lane of a vector: what lies between them stays there."

    def why_apart(self, writer: Work, mine: Collection[int]) -> str:
        """Why it is not joined to its writer."""
        return "works on small matrices, in lanes"

    @property
    def flops(self) -> float:
        """Floating-point operations of all places."""
        return self.count * operations_of_graph(self.graph)

    @property
    def cost(self) -> float:
        """Vector instructions of one place for all lanes, about."""
        return float(cost_of_body(self.graph) or 0)

    @property
    def instructions(self) -> float:
        """Of vectors, about."""
        return self.cost * self.count * self.itemsize / LINE

    @property
    def itemsize(self) -> int:
        """Bytes of the numbers that it computes with."""
        return max((node.dtype.itemsize for node in self.nodes if node.dtype.kind == "f"), default=8)


def runs_across(body: Graph, count: int) -> bool:
    """Whether a loop over so many places, of which none needs another one, has a place in each lane."""
    nodes = (*body.inputs, *body.nodes)
    if count < ACROSS_PLACES or not factors_in(body):
        return False
    if any(not 0 < node.array_type.size <= ACROSS_ELEMENTS for node in nodes):
        return False
    cost = cost_of_body(body)
    return cost is not None and cost <= 2 * ACROSS_WORK
