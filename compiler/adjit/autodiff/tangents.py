"""The tangents of a loop: carried, cut and stacked as its values are.

    %2 = scan %h, %x, %w body=(h, x, w) -> (h', y)
    %3 = scan %h, %dh, %x, %dx, %w, %dw body=(h, dh, x, dx, w, dw) -> (h', dh', y, dy)      # joint
    %3 = scan %dh, %dx, %k, %w, %dw body=(dh, dx, k, w, dw) -> (dh', dy)                    # beside %2, which keeps %k

Only what moves has a tangent; what is carried moves if a turn makes it move. Beside the loop, tangents read inputs
where they lie, and what depends on invariants alone is computed ahead of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from adjit.autodiff.maker import End, ScanMaker
from adjit.autodiff.reach import Reach
from adjit.autodiff.split import cut, dependents
from adjit.autodiff.turn import Loop
from adjit.ir.builder import ITEM, Builder, Value
from adjit.ir.graph import Graph, closed, computed
from adjit.ir.node import Node
from adjit.ops.loops import marks, may_stack, runs_all


class Pushed(NamedTuple):
    """A result of a loop, and its tangent where it moves."""

    value: Node
    tangent: Node | None


Push = Callable[[Graph, Reach, Sequence[int], Sequence[int]], Graph]
"""`push(body, reach, inputs, outputs)`: the body with tangents of inputs and outputs of these numbers."""


def through_loop(
    b: Builder, node: Node, tangents: Sequence[Value | None], reach: Reach, push: Push, joint: bool
) -> list[Pushed]:
    """The results of a loop whose operands have these tangents, `reach` being that of its body."""
    loop = Loop(node)
    body = loop.body
    inputs = [i for i, each in enumerate(body.inputs) if each in reach.active]
    handed = [i for i in loop.carried if i in inputs]
    outputs = [i for i, each in enumerate(body.outputs) if each in reach.active or i in handed]
    turn = push(body, reach, inputs, outputs)
    making = _Making(b, loop, turn, inputs, outputs, tangents)
    if joint:
        return making.joint()
    if runs_all(node) and may_stack(node):
        return making.beside()
    # How many turns there are is known when they have run, or nothing is to be kept of them: tangents go through a loop
    # of both.
    values = [b.emit(ITEM, node, index=i) for i in range(len(body.outputs))]
    return [Pushed(value, tangent) for value, (_, tangent) in zip(values, making.joint(), strict=True)]


@dataclass(frozen=True, slots=True)
class _Making:
    """`turn` has the body's inputs, then the tangents of `inputs`; its outputs, then the tangents of `outputs`."""

    b: Builder
    loop: Loop
    turn: Graph
    inputs: Sequence[int]
    outputs: Sequence[int]
    tangents: Sequence[Value | None]

    def joint(self) -> list[Pushed]:
        """One loop of both."""
        scan = self._scan("jvp")
        values = {i: self._enter_value(scan, i) for i in range(len(self.loop.body.inputs))}
        moving = self._enter_tangents(scan)
        made = scan.b.inline(self.turn, [*values.values(), *moving.values()])
        count = len(self.loop.body.outputs)
        ends = self._ends(scan, values, dict(enumerate(made[:count])))
        changes = self._ends(scan, moving, dict(zip(self.outputs, made[count:], strict=True)))
        return self._pushed([scan.result(ends[i]) for i in range(count)], scan, changes)

    def beside(self) -> list[Pushed]:
        """The loop as it is, with what it keeps as further results, and a loop of tangents."""
        turn, loop = self.turn, self.loop
        count, given = len(loop.body.outputs), len(loop.body.inputs)
        roots = turn.outputs[count:]
        kept, again = cut(turn, roots, dependents(turn.nodes, turn.inputs[given:]))
        varying = dependents(turn.nodes, [turn.inputs[i] for i in (*loop.carried, *loop.parts)])
        parts = {turn.inputs[i] for i in loop.parts}
        forward, at = self._keeping([node for node in kept if node in varying and node not in parts])
        steady = self._ahead([node for node in kept if node not in varying])
        scan = self._scan("tangents")
        image: dict[Node, Node] = {}
        for node in kept:
            if node in parts:
                image[node] = self._enter_value(scan, turn.inputs.index(node))
            elif node in at:
                image[node] = scan.part("kept", node.array_type, self.b.emit(ITEM, forward, index=at[node]))
            else:
                image[node] = scan.whole("ahead", node.array_type, steady[node])
        moving = self._enter_tangents(scan)
        image.update(zip(turn.inputs[given:], moving.values(), strict=True))
        made = scan.b.inline(Graph(turn.name, tuple(image), tuple(again), roots), list(image.values()))
        changes = self._ends(scan, moving, dict(zip(self.outputs, made, strict=True)))
        return self._pushed([self.b.emit(ITEM, forward, index=i) for i in range(count)], scan, changes)

    def _keeping(self, kept: Sequence[Node]) -> tuple[Node, dict[Node, int]]:
        """The loop that keeps these values of all turns, and the numbers of the results that have them."""
        node, body = self.loop.node, self.loop.body
        outputs = self.turn.outputs[: len(body.outputs)]
        at = {outputs[i]: i for i in self.loop.stacked}
        missing = [value for value in kept if value not in at]
        at.update((value, len(outputs) + i) for i, value in enumerate(missing))
        outputs = (*outputs, *missing)
        kept_body = closed(body.name, body.inputs, self.turn.nodes, outputs)
        return self.b.emit(node.op, *node.args, **{**node.attrs, "body": kept_body}), at

    def _ahead(self, steady: Sequence[Node]) -> dict[Node, Node]:
        """What no turn changes, as it stands around the loop."""
        image = {self.turn.inputs[i]: self.loop.node.args[i] for i in self.loop.whole}
        for node in computed(steady, self.turn.inputs):
            # Made anew, as operands of the loop may be strong where the body's inputs are weak.
            args = [image[arg] for arg in node.args]
            again = Node(node.op, (), node.attrs, node.type, node.loc)
            image[node] = self.b.emit(node.op, *args, **node.attrs) if args else self.b.keep(again)
        return image

    # -- into the body, and out of it --

    def _scan(self, suffix: str) -> ScanMaker:
        node = self.loop.node
        length, reverse = node.attrs["length"], node.attrs.get("reverse", False)
        turns = node.args[-1] if node.attrs.get("counted", False) else None
        ways = marks(node, "stops", "ranged", "checkpoints", "closed", "stretches")
        return ScanMaker(self.b, f"{self.loop.body.name}_{suffix}", length, reverse, turns, **ways)

    def _enter_value(self, scan: ScanMaker, i: int) -> Node:
        return self._way_in(scan, i)(self.loop.name(i), self.loop.body.inputs[i].type, self.loop.node.args[i])

    def _enter_tangents(self, scan: ScanMaker) -> dict[int, Node]:
        """The tangents of the inputs of the body, by their numbers."""
        found = {}
        for i in self.inputs:
            tangent = self.tangents[i]
            type = self.loop.node.args[i].array_type.strong
            operand = self.b.splat(0.0, type) if tangent is None else tangent.node
            inner = self.loop.body.inputs[i].array_type.strong
            found[i] = self._way_in(scan, i)(f"tangent_{self.loop.name(i)}", inner, operand)
        return found

    def _way_in(self, scan: ScanMaker, i: int) -> Callable[..., Node]:
        if i in self.loop.carried:
            return scan.carried
        return scan.part if i in self.loop.parts else scan.whole

    def _ends(self, scan: ScanMaker, inputs: dict[int, Node], outputs: dict[int, Node]) -> dict[int, End]:
        """Hand on what is carried, stack the rest."""
        found: dict[int, End] = {}
        for i, node in outputs.items():
            if i in self.loop.carried:
                scan.hand_on(inputs[i], node)
                found[i] = inputs[i]
            else:
                found[i] = scan.stack(node)
        return found

    def _pushed(self, values: Sequence[Node], scan: ScanMaker, changes: dict[int, End]) -> list[Pushed]:
        return [
            Pushed(value, scan.result(changes[i]) if i in changes else None) for i, value in enumerate(values)
        ]  # fmt: skip
