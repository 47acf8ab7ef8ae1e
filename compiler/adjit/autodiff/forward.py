"""The loop forward, as its derivative needs it: with what it keeps of each turn as results after its own, and, where
it stops by itself, with the number of turns as one more value that it carries."""

from __future__ import annotations

from dataclasses import dataclass

from adjit.autodiff.cut import Cut
from adjit.autodiff.turn import Loop, Turn
from adjit.autodiff.walk import Walk
from adjit.ir.builder import ITEM, Builder
from adjit.ir.graph import closed
from adjit.ir.node import Node
from adjit.ir.types import I64, Array


@dataclass(frozen=True, slots=True)
class Forward:
    """`node` is the loop, which takes the place of `old` in the graph of `walk`. `turns` says how many there are, where
    that is not `length`."""

    walk: Walk
    old: Node
    node: Node
    results: int
    turns: Node | None

    @staticmethod
    def of(walk: Walk, loop: Loop, turn: Turn, cut: Cut) -> Forward:
        """The loop with what `cut` says is kept; itself where there is nothing to add."""
        old, stops = loop.node, loop.node.attrs.get("stops", False)
        told = old.args[-1] if old.attrs.get("counted", False) else None
        if not cut.kept and not stops:
            return Forward(walk, old, old, len(turn.outputs), told)
        b = Builder.after(loop.body)
        outputs, args, attrs = [*turn.outputs, *cut.kept], list(old.args), dict(old.attrs)
        place = len(loop.carried)
        if stops:
            count = b.value(b.input("turn", Array(I64)))
            b.inputs.insert(place, b.inputs.pop())
            outputs.insert(place, (count + 1).node)
            args.insert(place, walk.b.splat(0, Array(I64)))
            attrs["carried"] = place + 1
        # In the order of the body, which is that of its checks.
        attrs["body"] = closed(loop.body.name, b.inputs, dict.fromkeys((*turn.nodes, *b.nodes)), outputs)
        new = Builder(old.loc).emit(old.op, *args, **attrs)
        walk.replace(old, new, place, int(stops))
        turns = walk.b.emit(ITEM, new, index=place) if stops else told
        return Forward(walk, old, new, len(turn.outputs), turns)

    def result(self, index: int) -> Node:
        """A result of the old loop, or, numbered on from these, what is kept."""
        if index < self.results:
            return self.walk.item(self.old, index)
        moved = self.node.attrs["carried"] - self.old.attrs["carried"]
        return self.walk.b.emit(ITEM, self.node, index=index + moved)
