"""The scan that a loop becomes: what its turns are given, their graph, and what they leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from adjit.ir.builder import Builder
from adjit.ir.graph import Graph, copy_node, topological
from adjit.ir.node import Node
from adjit.ir.types import Array
from adjit.roll.loops import DIFFERS, FOLLOWS, STAYS, Finder, Loop
from adjit.roll.moving import Parts, applied, parts
from adjit.roll.reading import Form, Ints, Place, Reading

Key = tuple[int, int, int]


class Outer(Protocol):
    """What a loop asks of the graph that it becomes a part of."""

    reading: Reading
    finder: Finder
    b: Builder

    def get(self, node: Node) -> Node:
        """The image of a node that is read from outside of the loop."""

    def stack(self, nodes: list[Node]) -> tuple[Node, Ints]:
        """Constants of all turns as one array, and the shape of one in a turn."""


@dataclass(eq=False, slots=True)
class Carry:
    """A value of a turn, and those of the turns before it, that later turns read.

    node     its number in a turn; of a value that is read `cut`, in another form in which alone the first turns have
             it, an operand of the last turn says which
    before   by how many turns before the first one: what they would have left, as keys, and nodes
    depth    how many turns back it is read"""

    node: int
    cut: int | None
    before: dict[int, Key]
    nodes: dict[int, Node]
    depth: int
    first: int = 0


@dataclass(frozen=True, slots=True)
class Inside:
    """An operand from the same turn."""

    node: int


@dataclass(frozen=True, slots=True)
class Carried:
    """An operand from an earlier turn."""

    carry: Carry
    back: int


@dataclass(frozen=True, slots=True)
class Whole:
    """An operand that is the same in all turns: the number of an input, or a constant."""

    at: int | None
    constant: Node | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """An operand that is a part of arrays, the inputs from one number on, and in which form of it."""

    at: int
    parts: Parts
    form: Form
    place: Place


@dataclass(frozen=True, slots=True)
class Constant:
    """An operand that is another constant in each turn: the number of the input, and the type."""

    at: int
    type: Array


Source = Inside | Carried | Whole | Part | Constant


@dataclass(eq=False, slots=True)
class Entering:
    """Operands of the scan of one kind, with the types that they have in a turn."""

    nodes: list[Node] = field(default_factory=list)
    types: list[Array] = field(default_factory=list)
    known: dict[object, int] = field(default_factory=dict)

    def enter(self, node: Node, type: Array) -> int:
        """One more."""
        self.nodes.append(node)
        self.types.append(type)
        return len(self.nodes) - 1


class Results:
    """The results of a scan, entered where they are read."""

    def __init__(self, b: Builder, scan: Node) -> None:
        self._b, self._scan = b, scan
        self._items: dict[int, Node] = {}

    def __getitem__(self, index: int) -> Node:
        if index not in self._items:
            here, self._b.loc = self._b.loc, self._scan.loc
            self._items[index] = self._b.emit("item", self._scan, index=index)
            self._b.loc = here
        return self._items[index]


class Body:
    """One loop on its way to a scan."""

    def __init__(self, outer: Outer, loop: Loop) -> None:
        self.outer, self.loop, self.reading = outer, loop, outer.reading
        first = self.reading.first
        # Operand i of turn t is begin + t * size + i.
        self.begin, self.last = int(first[loop.start]), int(first[loop.last])
        self.size = int(first[loop.stop]) - self.last
        self._carries: list[Carry] = []
        self._parts, self._wholes = Entering(), Entering()
        self._known: dict[object, Parts] = {}
        self._sources = [self._source(i, way) for i, way in enumerate(loop.ways.tolist())]
        self.b = Builder()
        self._values: list[Node] = []
        self._cut: dict[object, Node] = {}

    @property
    def carried(self) -> int:
        """How many values are carried."""
        return sum(carry.depth for carry in self._carries)

    # -- what the turns are given -------------------------------------------------------------------------------------

    def _source(self, i: int, way: int) -> Source:
        if way == FOLLOWS:
            return self._following(i)
        if way == STAYS:
            return self._staying(i)
        return self._constants(i) if way == DIFFERS else self._moving(i, way)

    def _following(self, i: int) -> Inside | Carried:
        loop = self.loop
        base = int(self.reading.base[self.last + i])
        if base >= loop.last:
            return Inside(base - loop.last)
        back = -(-(loop.last - base) // loop.period)
        return Carried(self._carry(i, (base - loop.start) % loop.period, back), back)

    def _carry(self, i: int, node: int, back: int) -> Carry:
        """What carries a node to an operand so many turns later; in the first turns the operand has other values."""
        reading = self.reading
        last, early = self.last + i, [self.begin + t * self.size + i for t in range(back)]
        type = reading.nodes[self.loop.last + node].type
        _, form, place = reading.key(last)
        alike = all(reading.key(at)[1:] == (form, place) and reading.source(at).type == type for at in early)
        if alike:
            before = {back - t: (int(reading.base[at]), 0, 0) for t, at in enumerate(early)}
            nodes = {back - t: reading.source(at) for t, at in enumerate(early)}
        else:
            before = {back - t: reading.key(at) for t, at in enumerate(early)}
            nodes = {back - t: reading.operands[at] for t, at in enumerate(early)}
        # What is read as it is may begin as any form of something else.
        cut = None if alike or not form else last
        for carry in self._carries:
            if carry.node == node and self._same_cut(carry.cut, cut) and _agree(carry.before, before):
                carry.before |= before
                carry.nodes |= nodes
                carry.depth = max(carry.depth, back)
                return carry
        self._carries.append(Carry(node, cut, before, nodes, back))
        return self._carries[-1]

    def _same_cut(self, a: int | None, b: int | None) -> bool:
        if a is None or b is None:
            return a is b
        return self.reading.key(a)[1:] == self.reading.key(b)[1:]

    def _staying(self, i: int) -> Whole:
        at = self.begin + i
        node = self.reading.operands[at]
        if node.is_splat:
            return Whole(None, node)
        known = self._wholes.known
        key = self.reading.key(at)
        if key not in known:
            image = self.outer.get(node)
            known[key] = self._wholes.enter(image, image.array_type)
        return Whole(known[key])

    def _constants(self, i: int) -> Whole | Constant:
        bases = self.reading.base[self.begin + i : self.begin + i + self.loop.turns * self.size : self.size]
        numbers = tuple(bases.tolist())
        if len(set(numbers)) == 1:
            return self._staying(i)
        nodes = [self.reading.leaves[-1 - base] for base in numbers]
        type = nodes[0].array_type
        known = self._parts.known
        if numbers not in known:
            self.outer.b.loc = self.reading.nodes[self.loop.start].loc
            array, shape = self.outer.stack(nodes)
            known[numbers] = self._parts.enter(array, Array(type.dtype, shape, type.weak))
        return Constant(known[numbers], type)

    def _moving(self, i: int, way: int) -> Part:
        reading, at = self.reading, self.begin + i
        how, by = self.outer.finder.motions[way]
        form, place = reading.forms[int(reading.form[at])], reading.places[int(reading.place[at])]
        known = self._parts.known
        key = (*reading.key(at), way)
        if key not in known:
            b = self.outer.b
            b.loc = reading.operands[at].loc
            made = parts(b, self.outer.get(reading.source(at)), form, how, place, by, self.loop.turns)
            numbers = [self._parts.enter(each, each.array_type.with_shape(each.shape[1:])) for each in made.arrays]
            known[key], self._known[key] = numbers[0], made
        return Part(known[key], self._known[key], form[how.step + 1 :], place[how.cut + 1 :])

    # -- what they leave ----------------------------------------------------------------------------------------------

    def depth(self, node: int) -> int:
        """The values of how many last turns of a node are carried out."""
        return max((carry.depth for carry in self._carries if carry.node == node and carry.cut is None), default=0)

    def carry_out(self, node: int) -> None:
        """Carry a value that no turn reads, so that the last one is left."""
        type = self.reading.nodes[self.loop.last + node].array_type
        self._carries.append(Carry(node, None, {}, {1: self.outer.b.splat(0, type)}, 1))

    def carries(self) -> dict[tuple[int, int], int]:
        """The result that is the value of a node so many turns before the end."""
        found: dict[tuple[int, int], int] = {}
        for carry in self._carries:
            if carry.cut is None:
                found |= {(carry.node, back): carry.first + back - 1 for back in range(1, carry.depth + 1)}
        return found

    # -- the scan -----------------------------------------------------------------------------------------------------

    def scan(self, stacked: Sequence[int]) -> Results:
        """Enter the scan, whose results are what is carried, then the values of the nodes to be stacked."""
        reading, loop = self.reading, self.loop
        carried = self._before()
        names = (("carried", carried), ("part", self._parts), ("whole", self._wholes))
        self.b.loc = loc = reading.nodes[loop.start].loc
        inputs = {kind: [self.b.input(kind, type) for type in entering.types] for kind, entering in names}
        for i in range(loop.period):
            self._turn(i, inputs)
        outputs: list[Node] = []
        for carry in self._carries:
            outputs.append(self._left(carry))
            outputs += inputs["carried"][carry.first : carry.first + carry.depth - 1]
        outputs += [self._values[node] for node in stacked]
        live = set(topological(outputs))
        body = Graph("turn", tuple(self.b.inputs), tuple(each for each in self.b.nodes if each in live), tuple(outputs))
        self.outer.b.loc = loc
        operands = [node for _, entering in names for node in entering.nodes]
        made = self.outer.b.emit(
            "scan",
            *operands,
            body=body,
            length=loop.turns,
            carried=self.carried,
            sliced=len(self._parts.nodes),
            reverse=False,
        )
        return Results(self.outer.b, made)

    def _before(self) -> Entering:
        """What is carried before the first turn: of each value that of the turn before, then of the one before that."""
        found = Entering()
        for carry in self._carries:
            carry.first = len(found.nodes)
            for back in range(1, carry.depth + 1):
                node = carry.nodes[back]
                image = self.outer.get(node) if carry.before else node
                found.enter(image, image.array_type)
        return found

    def _turn(self, i: int, inputs: dict[str, list[Node]]) -> None:
        """Node i of a turn."""
        first = self.reading.first
        number = self.loop.start + i
        node = self.reading.nodes[number]
        begin = int(first[number]) - self.begin
        self.b.loc = node.loc
        args = [self._operand(begin + j, inputs) for j in range(len(node.args))]
        new = copy_node(node, args)
        self.b.nodes.append(new)
        self._values.append(new)

    def _operand(self, i: int, inputs: dict[str, list[Node]]) -> Node:
        match self._sources[i]:
            case Inside(node):
                return self._formed(self._values[node], self.last + i)
            case Carried(carry, back):
                value = inputs["carried"][carry.first + back - 1]
                return value if carry.cut is not None else self._formed(value, self.last + i)
            case Whole(None, constant):
                assert constant is not None
                return self._once(constant, lambda: self.b.splat(constant.attrs["value"], constant.array_type))
            case Whole(at):
                assert at is not None
                return inputs["whole"][at]
            case Constant(at, type):
                value = inputs["part"][at]
                if value.shape == type.shape:
                    return value
                return self._once((at, type), lambda: self.b.emit("broadcast", value, shape=type.shape, axes=()))
            case Part(at, made, form, place) as part:
                turn = inputs["part"][at : at + len(made.arrays)]
                return self._once(part, lambda: applied(self.b, made.part(self.b, turn), form, place)[0])

    def _once(self, key: object, make: Callable[[], Node]) -> Node:
        if key not in self._cut:
            self._cut[key] = make()
        return self._cut[key]

    def _formed(self, value: Node, operand: int) -> Node:
        """A value in the form in which an operand of the last turn has it."""
        reading = self.reading
        _, form, place = reading.key(operand)
        if not form:
            return value
        key = value, form, place
        if key not in self._cut:
            source, node, steps = reading.source(operand), reading.operands[operand], []
            while node is not source:
                steps.append(node)
                node = node.args[0]
            for step in reversed(steps):
                value = copy_node(step, [value])
                self.b.nodes.append(value)
            self._cut[key] = value
        return self._cut[key]

    def _left(self, carry: Carry) -> Node:
        """What a turn leaves to the next one."""
        value = self._values[carry.node]
        return value if carry.cut is None else self._formed(value, carry.cut)


def _agree(a: dict[int, Key], b: dict[int, Key]) -> bool:
    """Whether what two carries begin with may be the same."""
    return all(b[back] == key for back, key in a.items() if back in b)
