"""A scan in the making: its body's inputs come one by one, each with its operand, in any order."""

from __future__ import annotations

from adjit.ir.builder import ITEM, Builder
from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.types import Array

End = Node | int
"""An input that is carried, or the number of what is stacked."""


class ScanMaker:
    """`b` has the body's nodes, `around` those around the loop. An input that is carried needs a value that it hands
    on, of exactly its type. `turns` says how many there are, or which, where that is not `length`; `marks` are further
    attributes."""

    def __init__(
        self, around: Builder, name: str, length: int, reverse: bool, turns: Node | None = None, **marks: int
    ) -> None:
        self.b = Builder(around.loc)
        self.around = around
        self._name, self._length, self._turns = name, length, turns
        self._ways: dict[str, int] = {"reverse": reverse, **marks}
        self._carried: list[tuple[Node, Node]] = []
        self._parts: list[tuple[Node, Node]] = []
        self._whole: list[tuple[Node, Node]] = []
        self._next: dict[Node, Node] = {}
        self._stacked: list[Node] = []
        self._numbers: dict[Node, int] = {}
        self._made: Node | None = None

    def carried(self, name: str, type: Array, initial: Node) -> Node:
        """An input that is carried."""
        node = self._enter(self._carried, name, type, initial)
        self._numbers[node] = len(self._numbers)
        return node

    def part(self, name: str, type: Array, operand: Node) -> Node:
        """An input that is the turn's element of an operand."""
        return self._enter(self._parts, name, type, operand)

    def whole(self, name: str, type: Array, operand: Node) -> Node:
        """An input that is the same for all turns."""
        return self._enter(self._whole, name, type, operand)

    def _enter(self, kind: list[tuple[Node, Node]], name: str, type: Array, operand: Node) -> Node:
        node = self.b.input(name, type)
        kind.append((node, operand))
        return node

    def hand_on(self, carried: Node, value: Node) -> None:
        """What an input that is carried is for the next turn."""
        self._next[carried] = value

    def stack(self, value: Node) -> int:
        """Have the value of each turn; gives what `result` takes."""
        self._stacked.append(value)
        return len(self._stacked) - 1

    def result(self, end: End) -> Node:
        """Around the loop, when its body is whole: what the last turn handed on, or the values of all turns."""
        index = len(self._carried) + end if isinstance(end, int) else self._numbers[end]
        return self.around.emit(ITEM, self.made(), index=index)

    def made(self) -> Node:
        """The loop, when its body is whole."""
        if self._made is None:
            self._made = self._emit()
        return self._made

    def _emit(self) -> Node:
        entered = [*self._carried, *self._parts, *self._whole]
        outputs = (*(self._next[node] for node, _ in self._carried), *self._stacked)
        body = Graph(self._name, tuple(node for node, _ in entered), tuple(self.b.nodes), outputs)
        operands = [operand for _, operand in entered]
        ways = dict(self._ways)
        if self._turns is not None:
            operands.append(self._turns)
            ways["counted"] = True
        sizes = {"length": self._length, "carried": len(self._carried), "sliced": len(self._parts)}
        return self.around.emit("scan", *operands, **sizes, **ways, body=body)
