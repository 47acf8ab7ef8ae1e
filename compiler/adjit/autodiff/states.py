"""The states of a loop of which some are kept: those that the loop backward reads, and the turns that make them."""

from __future__ import annotations

from collections.abc import Sequence

from adjit.autodiff.cut import Cut
from adjit.autodiff.turn import Loop
from adjit.autodiff.walk import Walk
from adjit.ir.graph import Graph, closed, topological
from adjit.ir.node import Node
from adjit.ir.types import Array


class States:
    """`numbers` are those of what is carried and needed turn by turn, `wanted` those among them that are read."""

    def __init__(self, walk: Walk, loop: Loop, cut: Cut) -> None:
        self._walk, self._loop, self._steady = walk, loop, cut.steady
        self._wanted, self._numbers = cut.states, self._needed(cut.states)

    def result(self, index: int) -> Node:
        """A result of the loop."""
        return self._walk.item(self._loop.node, index)

    def _needed(self, numbers: Sequence[int]) -> list[int]:
        """What of the carried is needed for these, turn by turn."""
        body, found = self._loop.body, set(numbers)
        while True:
            read = set(topological([body.outputs[i] for i in found]))
            more = {i for i in self._loop.carried if body.inputs[i] in read and body.inputs[i] not in self._steady}
            if more <= found:
                return sorted(found)
            found |= more

    def _type(self, i: int) -> Array:
        return self._loop.body.inputs[i].array_type

    def _rows_type(self, i: int, rows: int) -> Array:
        """That of so many of the states of a number."""
        type = self._type(i).strong
        return type.with_shape((rows, *type.shape))

    def _turn(self) -> tuple[Graph, list[int], list[int]]:
        """A turn that gives the next of the states that are needed; beside them it has these parts and invariants."""
        loop, body = self._loop, self._loop.body
        outputs = [body.outputs[i] for i in self._numbers]
        read = set(topological(outputs))
        others = [i for i, node in enumerate(body.inputs) if node in read and i not in self._numbers]
        parts, whole = [i for i in others if i in loop.parts], [i for i in others if i not in loop.parts]
        inputs = [body.inputs[i] for i in (*self._numbers, *parts, *whole)]
        return closed(body.name, inputs, body.nodes, outputs), parts, whole
