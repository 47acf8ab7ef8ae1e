"""The adjoint of one turn of a loop: of its body, with the cotangents that a turn has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from adjit.autodiff.cotangent import Cotangent
from adjit.autodiff.reach import Reach
from adjit.autodiff.walk import Walk
from adjit.ir.graph import Graph, topological
from adjit.ir.node import Node
from adjit.ir.types import BOOL, Array
from adjit.ops.declare import Bodied
from adjit.tuned import STRAIGHT_ELEMENTS


class Loop:
    """A loop: the numbers of the inputs of its body, which are those of its operands, and of the outputs that are
    stacked, which are those of its results. What is carried has the same number among all. `checkpoints` says how many
    states are kept where the node does not."""

    def __init__(self, node: Node, checkpoints: int = 0) -> None:
        assert isinstance(node.op, Bodied)
        self.node = node
        self.body: Graph = node.attrs["body"]
        entering = node.op.entering(node.attrs)
        self.carried = [bound.at for bound in entering if bound.how == "carried"]
        self.parts = [bound.at for bound in entering if bound.how == "part"]
        self.whole = [bound.at for bound in entering if bound.how == "whole"]
        self.stacked = [bound.at for bound in node.op.leaving(node.attrs) if bound.how == "part"]
        self.length: int = node.attrs["length"]
        self.checkpoints: int = node.attrs.get("checkpoints", checkpoints)
        # One turn begins with operands, so it keeps nothing; what is computed again in it must not be kept around it.
        self.is_closed = self.length == 1 and self.checkpoints > 0
        self.keeps_states = self.length > 1 and self.checkpoints >= self.length - 1

    def name(self, i: int) -> str:
        """That of an input."""
        return str(self.body.inputs[i].attrs["name"])


class Guarded(NamedTuple):
    """A cotangent and where it is alive, as nodes."""

    value: Node
    guard: Node | None

    @property
    def nodes(self) -> list[Node]:
        """Those that there are."""
        return [node for node in self if node is not None]


@dataclass(frozen=True, slots=True)
class Turn:
    """`seeds`: by the number of an output of the body, its cotangent, an input of the adjoint. `sums`: by the number of
    a large input that is the same in all turns, what turns before it added up to its cotangent, an input. `found`: by
    the number of an input, its cotangent: with what `sums` has of it, where that has something; else what a turn adds.
    `guarded` are those of `sums` for which it matters where they are dead. `nodes` are all that are computed, in the
    body's order, with what loops in it keep; `outputs` are the body's."""

    seeds: dict[int, Guarded]
    sums: dict[int, Node]
    guarded: frozenset[int]
    found: dict[int, Guarded]
    nodes: tuple[Node, ...]
    outputs: tuple[Node, ...]


def adjoint_of_turn(walk: Walk, loop: Loop, cts: Sequence[Cotangent | None]) -> Turn:
    """The adjoint of a turn of a loop that has these cotangents of its results.

    The cotangent of what is carried has a guard where that of the result has one, and where a turn makes one for the
    turn before it."""
    useful = _useful(loop, walk.reach.bodies[loop.node], cts)
    guarded = {i for i in useful if (ct := cts[i]) is not None and ct.guard is not None}
    # What large invariants get is summed up in place, save where it matters which elements are dead. What smaller ones
    # get in a turn is one value, added in registers, or made for all turns past the loop.
    summed = {i for i in loop.whole if loop.body.inputs[i].array_type.size > STRAIGHT_ELEMENTS}
    while True:
        made = _adjoint(walk, loop, useful, guarded, summed)
        more = {i for i in loop.carried if i in made.found and made.found[i][1] is not None} - guarded
        if not more and not made.guarded:
            return made
        guarded |= more
        summed -= made.guarded


def _useful(loop: Loop, reach: Reach, cts: Sequence[Cotangent | None]) -> list[int]:
    """The outputs of the body that have a cotangent: that of a result, or of what a later turn makes of it."""
    body = loop.body
    found = {i for i, ct in enumerate(cts) if ct is not None}
    while True:
        read = {body.outputs[i] for i in found} & reach.active
        for node in reversed(body.nodes):
            if node in read:
                read.update(arg for arg in node.args if arg in reach.active)
        more = {i for i in loop.carried if body.inputs[i] in read} - found
        if not more:
            return sorted(found)
        found |= more


def _adjoint(walk: Walk, loop: Loop, useful: Sequence[int], guarded: set[int], summed: set[int]) -> Turn:
    body = loop.body
    inner = Walk(body, walk.reach.bodies[loop.node], walk.rule, of_turn=True)
    b = inner.b
    seeds: dict[int, Guarded] = {}
    for i in useful:
        output = body.outputs[i]
        b.loc = output.loc
        value = b.input(f"cotangent{i}", output.array_type.strong)
        guard = b.input(f"alive{i}", Array(BOOL, output.shape)) if i in guarded else None
        seeds[i] = Guarded(value, guard)
        inner.seed(output, Cotangent(b.value(value), None if guard is None else b.value(guard)))
    sums = _seed_sums(inner, loop, summed)
    inner.run()
    lost = frozenset(i for i in sums if inner.has_guards(body.inputs[i]))
    totals = [inner.total(node) for node in body.inputs]
    found = {
        i: Guarded(ct.value.node, None if ct.guard is None else ct.guard.node)
        for i, ct in enumerate(totals)
        if ct is not None and ct.value.node is not sums.get(i)
    }
    roots = [*body.outputs, *(node for pair in found.values() for node in pair.nodes)]
    nodes, closed = inner.closed(roots)
    image = dict(zip(roots, closed, strict=True))
    found = {i: Guarded(image[value], None if guard is None else image[guard]) for i, (value, guard) in found.items()}
    needed = set(topological(closed))
    sums = {i: node for i, node in sums.items() if i in found}
    return Turn(
        seeds, sums, lost & sums.keys(), found, tuple(n for n in nodes if n in needed), closed[: len(body.outputs)]
    )


def _seed_sums(inner: Walk, loop: Loop, summed: set[int]) -> dict[int, Node]:
    """Begin with what the turns before gave invariants, so that a turn adds to that in place."""
    sums: dict[int, Node] = {}
    for i in sorted(summed):
        node = loop.body.inputs[i]
        if node in inner.reach.active:
            sums[i] = inner.b.input(f"sum{i}", node.array_type.strong)
            inner.seed(node, Cotangent(inner.b.value(sums[i])))
    return sums
