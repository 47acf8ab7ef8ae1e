"""Loops: turn by turn where there are not too many, so that what a turn reads at its own positions is told apart.

Otherwise what is carried is found as what no further turn adds to, from all parts at once; then the results of all
turns come of the body, batched over the turns. So it is for a loop that carries nothing, too, where this is exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from adjit.autodiff.batch import batch
from adjit.autodiff.forward_mode import jvp
from adjit.autodiff.reach import Reach
from adjit.ir.graph import Graph, closed
from adjit.ir.node import Node
from adjit.ops.declare import Bodied, Called
from adjit.ops.loops import runs_all
from adjit.sparse.sets import Sets, end_to_end, identity, union
from adjit.sparse.walk import Walk
from adjit.tuned import PATTERN_ROUNDS, PATTERN_TURNS

Found = dict[int, Sets]
"""Sets by the number of an input or output of a body; what depends on nothing is not there."""


def pattern_of(graph: Graph, wrt: Sequence[int], outputs: int) -> list[Sets]:
    """For each of the first `outputs` outputs the sets of its elements. Columns are the elements of the inputs `wrt`,
    side by side. Raises TooDense."""
    if any(isinstance(node.op, Called) for node in graph.all_nodes()):
        # Rules say what a derivative reads, not the function that is called: forward mode has put them in its place.
        given, alone = len(graph.inputs), closed(graph.name, graph.inputs, graph.nodes, graph.outputs[:outputs])
        graph = jvp(alone, wrt)
        graph = closed(graph.name, graph.inputs, graph.nodes, graph.outputs[outputs:])
        wrt = range(given, len(graph.inputs))
    targets = [graph.inputs[i] for i in wrt]
    width = sum(node.array_type.size for node in targets)
    found: dict[Node, Sets] = {}
    start = 0
    for node in targets:
        found[node] = identity(node.array_type.size, start, width)
        start += node.array_type.size
    walk = Walk(graph, Reach(graph, targets), found, {}, {}, through_loop)
    walk.run()
    return [walk.of(node) for node in graph.outputs[:outputs]]


def through_loop(walk: Walk, node: Node) -> list[Sets | None]:
    """The sets of the results of a loop."""
    return _Loop(walk, node).results()


class _Loop:
    """A loop in a walk. What is carried has the same number among inputs, outputs, operands and results."""

    def __init__(self, walk: Walk, node: Node) -> None:
        assert isinstance(node.op, Bodied)
        self.walk = walk
        self.node = node
        self.body: Graph = node.attrs["body"]
        self.entering = node.op.entering(node.attrs)
        self.leaving = node.op.leaving(node.attrs)
        self.length: int = node.attrs["length"]
        self.given: Found = {
            i: walk.found[node.args[at]] for i, (at, _) in enumerate(self.entering) if node.args[at] in walk.found
        }
        values = {i: walk.known.of(node.args[at]) for i, (at, _) in enumerate(self.entering)}
        self.values = {i: value for i, value in values.items() if value is not None}
        self.carried = [i for i, bound in enumerate(self.entering) if bound.how == "carried"]
        self.batches = True
        self.stacked = [i for i, bound in enumerate(self.leaving) if bound.how == "part"]

    def results(self) -> list[Sets | None]:
        """By their numbers."""
        few = self.length * len(self.body.nodes) <= PATTERN_TURNS
        # Batched, a loop in the body that may stop would be one of this kind again.
        self.batches = all(runs_all(node) for node in self.body.all_nodes() if isinstance(node.op, Bodied))
        in_turn = few and runs_all(self.node) and (self.carried or not self.batches)
        found = self._by_turns() if in_turn else self._at_once()
        return [found.get(i) for i in range(len(self.leaving))]

    def _turn(self, given: Found, known: Mapping[int, np.ndarray]) -> Walk:
        body = self.body
        walk = Walk(
            body,
            self.walk.reach.bodies[self.node],
            {body.inputs[i]: sets for i, sets in given.items() if sets.parts},
            {body.inputs[i]: value for i, value in known.items()},
            self.walk.cache,
            self.walk.loop,
        )
        walk.run()
        return walk

    # -- turn by turn -------------------------------------------------------------------------------------------------

    def _by_turns(self) -> Found:
        now = {i: sets for i, sets in self.given.items() if i in self.carried}
        values = {i: value for i, value in self.values.items() if self._hands_on(i)}
        stacked: dict[int, dict[int, Sets]] = {i: {} for i in self.stacked}
        turns = list(range(self.length))
        if self.node.attrs.get("reverse", False):
            turns.reverse()
        for done, turn in enumerate(turns):
            given = {**now, **{i: s for i, s in self.given.items() if i not in self.carried}}
            known = {**{i: v for i, v in self.values.items() if i not in self.carried}, **values}
            for i, (_, how) in enumerate(self.entering):
                if how == "part" and i in given:
                    given[i] = self._part(given[i], i, turn)
                if how == "part" and i in known:
                    known[i] = known[i][turn]
            walk = self._turn(given, known)
            after = {i: walk.of(self.body.outputs[i]) for i in self.carried}
            after = {i: sets.single() for i, sets in after.items() if sets.parts}
            values = {i: v for i in values if (v := walk.known.of(self.body.outputs[i])) is not None}
            for i in self.stacked:
                stacked[i][turn] = walk.of(self.body.outputs[i])
            settled = _same(now, after)
            now = after
            if settled and not self._varies(walk):
                for i in self.stacked:
                    stacked[i] |= dict.fromkeys(turns[done + 1 :], stacked[i][turn])
                break
        found: Found = dict(now)
        for i in self.stacked:
            found[i] = end_to_end([stacked[i][turn] for turn in range(self.length)])
        return found

    def _hands_on(self, i: int) -> bool:
        """Whether the value of what is carried is followed: counters, positions, masks."""
        return i in self.carried and self.body.inputs[i].dtype.kind in "iub"

    def _varies(self, walk: Walk) -> bool:
        """Whether another turn may be another one, though what is carried has settled."""
        whole = {self.body.inputs[i] for i, (_, how) in enumerate(self.entering) if how == "whole"}
        parts = any(how == "part" and i in self.given for i, (_, how) in enumerate(self.entering))
        return parts or bool(walk.known.asked - whole)

    def _part(self, sets: Sets, i: int, turn: int) -> Sets:
        size = self.body.inputs[i].array_type.size
        return sets.taken(np.arange(turn * size, (turn + 1) * size))

    # -- all turns at once --------------------------------------------------------------------------------------------

    def _at_once(self) -> Found:
        carried = self._settled()
        given = {**{i: s for i, s in self.given.items() if i not in self.carried}, **carried}
        found: Found = dict(carried)
        if not self.stacked or not self.length:
            return found
        axes = [0 if how == "part" else None for _, how in self.entering]
        if not self.batches or not any(axis == 0 for axis in axes):
            walk = self._turn({**given, **self._of_all_parts()}, self._steady_values())
            for i in self.stacked:
                found[i] = _repeated(walk.of(self.body.outputs[i]), self.length)
            return found
        made = batch(self.body, axes, self.length)
        inputs = made.graph.inputs
        sets = {inputs[i]: each for i, each in given.items() if each.parts}
        known = {inputs[i]: value for i, value in self.values.items() if i not in self.carried}
        walk = Walk(made.graph, Reach(made.graph, list(sets)), sets, known, self.walk.cache, self.walk.loop)
        walk.run()
        for i in self.stacked:
            here = walk.of(made.graph.outputs[i])
            found[i] = here if made.outputs[i] else _repeated(here, self.length)
        return found

    def _settled(self) -> Found:
        """What is carried, whichever turn is the last: that ahead of all turns, with all that turns add to it."""
        now = {i: sets for i, sets in self.given.items() if i in self.carried}
        if not self.carried:
            return now
        steady = {i: s for i, s in self.given.items() if self.entering[i].how == "whole"} | self._of_all_parts()
        known = self._steady_values()
        for done in range(self.length):
            if done == PATTERN_ROUNDS:
                return self._anything(now, steady)
            walk = self._turn({**now, **steady}, known)
            after = {}
            for i in self.carried:
                more = walk.of(self.body.outputs[i])
                both = [sets for sets in (now.get(i), more) if sets is not None and sets.parts]
                if both:
                    after[i] = union(both).single()
            if _same(now, after):
                break
            now = after
        return now

    def _steady_values(self) -> dict[int, np.ndarray]:
        return {i: value for i, value in self.values.items() if self.entering[i].how == "whole"}

    def _anything(self, now: Found, steady: Found) -> Found:
        """For all that is carried and active: everything that anything in the loop depends on."""
        everything = union([sets.grouped(sets.size) for sets in (*now.values(), *steady.values()) if sets.size])
        found = {}
        for i in self.carried:
            node = self.body.inputs[i]
            if node in self.walk.reach.bodies[self.node].active or i in now:
                found[i] = everything.taken(np.zeros(node.array_type.size, np.int64))
        return found

    def _of_all_parts(self) -> Found:
        """For what a turn gets a part of: that of any turn."""
        found = {}
        for i, (_, how) in enumerate(self.entering):
            if how == "part" and i in self.given and self.length:
                sets = self.given[i]
                order = np.arange(sets.size).reshape(self.length, sets.size // self.length).T.ravel()
                found[i] = sets.taken(order).grouped(self.length)
        return found


def _same(a: Found, b: Found) -> bool:
    return a.keys() == b.keys() and all(sets.equals(b[i]) for i, sets in a.items())


def _repeated(sets: Sets, count: int) -> Sets:
    return sets.taken(np.tile(np.arange(sets.size), count))
