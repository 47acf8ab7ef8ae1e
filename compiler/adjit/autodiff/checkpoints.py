"""A loop that keeps some of its states, and what the loop backward computes again from them.

    %2 = scan %h, %x, %w length=100 checkpoints=7 body=(h, x, w) -> h'
    =>
    %2 = scan %h, %steps, %x, %w length=8 body=(h, ...) -> (h', h)          # 8 stretches of turns; %k: how each begins
      %h' = scan %h, %x, %w: %steps                                         # turns 0 to 36, 36 to 64 ...
    %3 = scan %dh, %k, %row, %some, %x, %w length=100 reverse=true body=(dh, k, ...) -> (dh', k'):
      %h, %k' = scan %h, %k, %steps, %into, %x, %w: %some                   # from row %row of %k on; mostly none or one
        %h' = scan %h, %x, %w: %steps
        %k' = scatter %k, %into, %h'
      and the adjoint of a turn that begins with %h

`revolve` says what is kept when, as integers: the size of the code does not depend on the number of turns, nor does
what is kept, but for these, of up to 36 bytes a turn. Where a loop stacks results, it goes forward turn by turn, and
writes each state to a row: to the last one where it is not to be kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adjit.autodiff.cut import Cut
from adjit.autodiff.maker import ScanMaker
from adjit.autodiff.revolve import forward_steps, stretches
from adjit.autodiff.states import States
from adjit.autodiff.turn import Loop
from adjit.autodiff.walk import Walk
from adjit.ir.builder import ITEM, Builder
from adjit.ir.graph import Graph, closed
from adjit.ir.node import Node
from adjit.ir.types import I64, Array
from adjit.ops.loops import marks


class Checkpoints(States):
    """The loop, whose place in the graph of `walk` one takes that keeps states, too."""

    turns = None

    def __init__(self, walk: Walk, loop: Loop, cut: Cut) -> None:
        super().__init__(walk, loop, cut)
        self._is_reverse = bool(loop.node.attrs.get("reverse", False))
        self._plan = stretches(loop.length, loop.checkpoints)
        self._rows = loop.checkpoints + 1
        self._node = self._turn_by_turn() if loop.stacked else self._in_stretches()

    # -- the loop forward ---------------------------------------------------------------------------------------------

    def _in_stretches(self) -> Node:
        """A loop over stretches of turns, which stacks the states that they begin with."""
        loop, last = self._loop, self._loop.length - 1
        # The last turn is a stretch by itself: the loop backward begins with its state.
        begins = np.concatenate([self._plan.kept, np.full(self._rows - len(self._plan.kept), last)])
        steps = np.stack([begins, np.append(begins[1:], loop.length)], 1)
        ways = {"checkpoints": self._rows, "stretches": True}
        scan = ScanMaker(Builder(loop.node.loc), f"{loop.body.name}_stretches", self._rows, False, None, **ways)
        inputs = []
        for i, (node, operand) in enumerate(zip(loop.body.inputs, loop.node.args, strict=True)):
            enter = scan.carried if i in loop.carried else scan.whole
            inputs.append(enter(loop.name(i), operand.array_type if i in loop.parts else node.array_type, operand))
        some = _part(scan, "steps", self._elements(steps))
        made = self._steps(scan.b, loop.body, (len(loop.carried), len(loop.parts)), inputs, some)
        for i in loop.carried:
            scan.hand_on(inputs[i], scan.b.emit(ITEM, made, index=i))
        for i in self._numbers:
            scan.stack(inputs[i])
        new = scan.made()
        self._walk.replace(loop.node, new, 0, 0)
        return new

    def _turn_by_turn(self) -> Node:
        """The loop with rows of states as more values that it carries."""
        loop, old = self._loop, self._loop.node
        rows = np.full(loop.length, self._rows - 1)
        rows[self._plan.kept] = np.arange(len(self._plan.kept))
        b, around = Builder.after(loop.body), Builder(old.loc)
        row = _index(b, b.input("row", Array(_STORED)))
        kept = [b.input(f"kept_{loop.name(i)}", self._rows_type(i, self._rows)) for i in self._numbers]
        new = [b.emit("scatter", node, row, loop.body.inputs[i], axis=0)
               for node, i in zip(kept, self._numbers, strict=True)]  # fmt: skip
        count, sliced = len(loop.carried), old.attrs["sliced"]
        inputs, args, outputs = list(loop.body.inputs), list(old.args), list(loop.body.outputs)
        inputs.insert(count + sliced, b.inputs[len(inputs)])
        args.insert(count + sliced, around.array(self._by_element(rows).astype(_STORED), "rows"))
        inputs[count:count] = kept
        args[count:count] = [around.splat(0, node.array_type) for node in kept]
        outputs[count:count] = new
        sizes = {"carried": count + len(kept), "sliced": sliced + 1}
        body = closed(loop.body.name, inputs, b.nodes, outputs)
        made = around.emit(old.op, *args, **{**old.attrs, **sizes, "body": body})
        self._walk.replace(old, made, count, len(kept))
        return made

    # -- in the loop backward -----------------------------------------------------------------------------------------

    def states(self, scan: ScanMaker) -> dict[Node, Node]:
        """What a turn begins with, in the body of the loop backward that `scan` makes."""
        loop, b, plan = self._loop, scan.b, self._plan
        first = len(loop.carried)
        kept = {i: scan.carried(f"kept_{loop.name(i)}", self._rows_type(i, self._rows),
                                self._walk.b.emit(ITEM, self._node, index=first + n))
                for n, i in enumerate(self._numbers)}  # fmt: skip
        row = _part(scan, "row", self._by_element(plan.row))
        some = _part(scan, "some", self._by_element(plan.stretches))
        again = ScanMaker(
            b, f"{loop.body.name}_forward_{forward_steps(loop.length, loop.checkpoints)}_steps", len(plan.steps), False,
            some, ranged=True, checkpoints=len(plan.steps), stretches=True,
        )  # fmt: skip
        now, rows = {}, {}
        for i, node in kept.items():
            type = loop.body.inputs[i].array_type
            start = b.emit("take", node, row, axis=0)
            now[i] = again.carried(loop.name(i), type, start)
            rows[i] = again.carried(f"kept_{loop.name(i)}", node.array_type, node)
        into = _part(again, "into", plan.into)
        steps = _part(again, "steps", self._elements(plan.steps))
        turn, parts, whole = self._turn()
        inputs = [*now.values(), *(self._handed_in(scan, again, i) for i in (*parts, *whole))]
        made = self._steps(again.b, turn, (len(now), len(parts)), inputs, steps)
        for n, (i, node) in enumerate(now.items()):
            value = again.b.emit(ITEM, made, index=n)
            again.hand_on(node, value)
            again.hand_on(rows[i], again.b.emit("scatter", rows[i], into, value, axis=0))
        for i, node in kept.items():
            scan.hand_on(node, again.result(rows[i]))
        return {loop.body.inputs[i]: again.result(now[i]) for i in self._wanted}

    def _handed_in(self, scan: ScanMaker, again: ScanMaker, i: int) -> Node:
        """What the turns forward read, through two loops: all elements where a turn has one."""
        node, operand = self._loop.body.inputs[i], self._loop.node.args[i]
        type = operand.array_type if i in self._loop.parts else node.array_type
        return again.whole(self._loop.name(i), type, scan.whole(self._loop.name(i), type, operand))

    # -- both ---------------------------------------------------------------------------------------------------------

    def _steps(self, b: Builder, turn: Graph, sizes: tuple[int, int], inputs: Sequence[Node], some: Node) -> Node:
        """Some of the turns, in the body of another loop; `sizes`: how many are carried, and read part by part."""
        node, length = self._loop.node, self._loop.length
        return b.emit(
            node.op, *inputs, some, length=length, carried=sizes[0], sliced=sizes[1], **marks(node, "reverse"),
            counted=True, ranged=True, checkpoints=length, body=turn,
        )  # fmt: skip

    def _by_element(self, table: np.ndarray) -> np.ndarray:
        """What is known of each turn, at the number of its element."""
        return table[::-1] if self._is_reverse else table

    def _elements(self, steps: np.ndarray) -> np.ndarray:
        """Ranges of turns as ranges of elements."""
        return self._loop.length - steps[:, ::-1] if self._is_reverse else steps


_STORED = np.dtype(np.int32)
"""The integers that say what is kept when: half the memory of those that index."""


def _part(scan: ScanMaker, name: str, table: np.ndarray) -> Node:
    """A turn's part of a table of integers."""
    operand = scan.around.array(table.astype(_STORED), name)
    return _index(scan.b, scan.part(name, Array(_STORED, table.shape[1:]), operand))


def _index(b: Builder, node: Node) -> Node:
    return b.emit("cast", node, dtype=I64)
