"""The adjoint of a turn, cut into what depends on primal values alone and what cotangents have part in: what the loop
backward reads of the turns forward, and what the loop forward keeps for it."""

from __future__ import annotations

from collections.abc import Iterable

from adjit.autodiff.kept import Candidate, choose
from adjit.autodiff.turn import Loop, Turn
from adjit.ir.builder import ITEM
from adjit.ir.graph import computed
from adjit.ir.node import Node
from adjit.ir.types import Tuple
from adjit.ops.declare import Checked, Elementwise, Movement
from adjit.ops.loops import runs_all
from adjit.tuned import LIGHT_COST


class Cut:
    """For values of the turns forward that the adjoint of a turn needs, where it has them from.

    `steady`   inputs that are the same for all turns -> their numbers
    `results`  what varies and is a result of the loop, stacked -> its number
    `kept`     what the loop forward keeps
    `states`   with checkpoints: the numbers of what is carried and read, of which some are kept
    `left`     what a turn leaves as the next one's beginning, which is there -> the number of what is carried
    `ahead`    what the loop backward reads and depends on invariants alone: it is computed before it
    `again`    what is computed in it, cotangents included"""

    def __init__(self, loop: Loop, turn: Turn) -> None:
        self._loop, self._turn = loop, turn
        inputs, outputs = loop.body.inputs, turn.outputs
        # What each turn hands on as it got it is the same for all.
        self.steady = {inputs[i]: i for i in loop.whole}
        self.steady |= {inputs[i]: i for i in loop.carried if outputs[i] is inputs[i]}
        self._moving = self._closure([*turn.sums.values(), *(n for seed in turn.seeds.values() for n in seed.nodes)])
        self._varying = self._closure(node for node in inputs if node not in self.steady) - self._moving
        self._invariant = self._closure(self.steady) - self._varying - self._moving
        self.results = {outputs[i]: i for i in loop.stacked if outputs[i] in self._varying}
        self._after = {outputs[i]: i for i in loop.carried if outputs[i] in self._varying}
        self.kept: list[Node] = []
        self.left: dict[Node, int] = {}
        self.states: list[int] = []
        self.ahead: list[Node] = []
        self.again: set[Node] = set()
        self.read: set[Node] = set()
        if loop.checkpoints:
            # Nor are results read, which may be there for this alone.
            self.results = {}
            self._place()
            self.states = [i for i in loop.carried if inputs[i] in self.read and inputs[i] not in self.steady]
            self.kept = [inputs[i] for i in self.states] if loop.keeps_states else []
        else:
            self.kept, self.left = self._chosen()
            self._place()

    def _closure(self, roots: Iterable[Node]) -> set[Node]:
        """The roots and what depends on them."""
        found = set(roots)
        for node in self._turn.nodes:
            if any(arg in found for arg in node.args):
                found.add(node)
        return found

    @property
    def _gives(self) -> list[Node]:
        """What the adjoint of a turn gives."""
        return [node for pair in self._turn.found.values() for node in pair.nodes]

    def _chosen(self) -> tuple[list[Node], dict[Node, int]]:
        inputs = self._loop.body.inputs
        given = {inputs[i] for i in self._loop.parts} | set(self.results)
        forward = set(computed(self._turn.outputs, ()))
        order = [node for node in (*inputs, *self._turn.nodes) if node in self._varying]
        number = {node: i for i, node in enumerate(order)}
        candidates = []
        for node in order:
            made = not node.args or node in forward or (node.op is ITEM and node.args[0] in forward)
            candidates.append(
                Candidate(
                    args=tuple(number[arg] for arg in node.args if arg in number),
                    nbytes=None if isinstance(node.type, Tuple) else node.type.nbytes,
                    here=node in given,
                    again=bool(node.args) and (not made or _is_light(node)),
                    made=made,
                    before=number.get(inputs[self._after[node]]) if node in self._after else None,
                )
            )
        read = [arg for node in self._turn.nodes if node in self._moving for arg in node.args]
        wanted = [number[node] for node in dict.fromkeys([*read, *self._gives]) if node in number]
        kept, left = choose(candidates, wanted)
        return [order[i] for i in sorted(kept)], {order[i]: self._after[order[i]] for i in sorted(left)}

    def _place(self) -> None:
        """Go from what the adjoint of a turn gives to what is read."""
        there = {*self.results, *self.kept, *self.left}
        needed = set(self._gives)
        # What a turn leaves is read as the beginning of the next one.
        needed.update(self._loop.body.inputs[i] for i in self.left.values())
        sizes = self._sizes()
        outside: set[Node] = set()
        # Where there may be no turn, nothing is computed that none would: a check might fail.
        early = runs_all(self._loop.node) and not self._loop.is_closed
        for node in reversed(self._turn.nodes):
            if node in needed and node in there:
                self.read.add(node)
            elif node in needed and early and node in self._invariant and _leaves(node, sizes[node]):
                self.read.add(node)
                outside.add(node)
            elif node in needed:
                self.again.add(node)
                needed.update(node.args)
            if node in outside:
                outside.update(node.args)
        self.read.update(node for node in self._loop.body.inputs if node in needed)
        self.ahead = [node for node in self._turn.nodes if node in outside]

    def _sizes(self) -> dict[Node, int]:
        """For what depends on invariants alone, the elements of the largest that it does."""
        found = {node: node.array_type.size for node in self.steady}
        for node in self._turn.nodes:
            if node in self._invariant:
                found[node] = max(found[arg] for arg in node.args if arg in found)
        return found


def _is_light(node: Node) -> bool:
    """Whether to compute a value again costs no more than to read it."""
    if isinstance(node.op, Elementwise):
        return node.op.cost <= LIGHT_COST
    # A check that held forward holds again.
    return isinstance(node.op, Movement | Checked) or node.op is ITEM


def _leaves(node: Node, size: int) -> bool:
    """Whether an invariant is computed ahead of the loop: not what only moves elements, or makes more of them than
    there are at little cost."""
    if isinstance(node.type, Tuple) or isinstance(node.op, Movement):
        return False
    return not isinstance(node.op, Elementwise) or not _is_light(node) or node.array_type.size <= size
