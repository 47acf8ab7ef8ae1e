"""A graph with loops in place of the nodes that are their turns.

Values of a loop that are read outside of it leave it in one of three ways: those of the last turns as what it carries;
those of other turns as parts of all turns' values, stacked; and where a concatenation has those of many turns in order,
the stacked values themselves are that part of it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from adjit.ir.builder import CONSTANT, Builder
from adjit.ir.graph import Graph, copy_node
from adjit.ir.node import Node
from adjit.ir.ranges import reshaped
from adjit.roll.body import Body, Results
from adjit.roll.joins import OUTSIDE, Join, Member, joined, joins, of_loop, of_outside, turns_of
from adjit.roll.loops import Finder, Loop
from adjit.roll.reading import Ints, Reading
from adjit.tuned import ROLL_KEPT_BYTES


@dataclass(eq=False, slots=True)
class Left:
    """What leaves a loop: per node of a turn the turns whose values are read one by one, and those whose values are
    read as parts of them all."""

    singles: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    joined: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))


@dataclass(eq=False, slots=True)
class Rolled:
    """A loop that was built, and which of the scan's results are what: the values of a node so many turns before the
    end, and those of all turns."""

    loop: Loop
    results: Results
    last: dict[tuple[int, int], int]
    stacked: dict[int, int]


class Rebuild:
    """Makes the graph with loops."""

    def __init__(self, reading: Reading, finder: Finder, loops: list[Loop]) -> None:
        self.reading, self.finder, self.loops = reading, finder, loops
        self.b = Builder()
        self.b.inputs.extend(reading.graph.inputs)
        self._new: dict[Node, Node] = {node: node for node in reading.graph.inputs}
        self._loop_of = np.full(len(reading.nodes) + 1, -1)
        for number, loop in enumerate(loops):
            self._loop_of[loop.start : loop.stop] = number
        self._left = [Left() for _ in loops]
        self._joins: dict[Node, list[Join | int]] = {}
        self._rolled: list[Rolled] = []
        self._find_what_leaves()

    def spared(self) -> list[Loop]:
        """The loops, those cut in several that would keep the values of many turns for few that are read.

        What is cut ends where a value is read, so that the last turn leaves it, and is a loop in a loop at the next
        look."""
        found: list[Loop] = []
        for loop, left in zip(self.loops, self._left, strict=True):
            read: set[int] = set()
            for node in {*left.singles, *left.joined}:
                turns = left.singles.get(node, set()) | left.joined.get(node, set())
                size = self.reading.nodes[loop.start + node].array_type.nbytes
                if size * (loop.turns - len(turns)) > ROLL_KEPT_BYTES and min(turns) < loop.turns - 1:
                    read |= turns
            found += loop.cut(sorted({0, *(turn + 1 for turn in read), loop.turns}))
        return found

    def graph(self) -> Graph:
        """The whole of it."""
        for number, node in enumerate(self.reading.nodes):
            at = int(self._loop_of[number])
            if at < 0:
                self._copy(node)
            elif number == self.loops[at].start:
                self._rolled.append(self._roll(self.loops[at], self._left[at]))
        old = self.reading.graph
        outputs = tuple(self.get(node) for node in old.outputs)
        updates = tuple((target, self.get(value)) for target, value in old.updates)
        return Graph(old.name, old.inputs, tuple(self.b.nodes), outputs, updates)

    def get(self, node: Node) -> Node:
        """The image of a node; what says where an operand lies, and constants, are entered where they are needed."""
        found = self._new.get(node)
        if found is not None:
            return found
        number = self.reading.numbers.get(node)
        if number is None:
            image = copy_node(node, [self.get(arg) for arg in node.args])
            self.b.nodes.append(image)
        else:
            loop = int(self._loop_of[number])
            image = self._value(self._rolled[loop], number)
        self._new[node] = image
        return image

    def _copy(self, node: Node) -> None:
        parts = self._joins.get(node)
        if parts is None:
            args = [self.get(arg) for arg in node.args]
        else:
            self.b.loc = node.loc
            args = [self._joined(part) if isinstance(part, Join) else self.get(node.args[part]) for part in parts]
        if len(args) == len(node.args):
            image = copy_node(node, args)
        else:
            image = Node(node.op, tuple(args), node.attrs, node.type, node.loc)
        if len(args) == 1 and parts is not None:
            image = args[0]
        else:
            self.b.nodes.append(image)
        self._new[node] = image

    # -- what leaves a loop -------------------------------------------------------------------------------------------

    def _find_what_leaves(self) -> None:
        reading = self.reading
        reader = np.searchsorted(reading.first, np.arange(len(reading.base)), side="right") - 1
        # A leaf is of no loop, as the last row is.
        source = self._loop_of[np.maximum(reading.base, -1)]
        outside = np.flatnonzero((source >= 0) & (source != self._loop_of[reader]))
        readers = reader[outside]
        edges = np.flatnonzero(np.diff(readers, prepend=-1, append=-2))
        for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            self._note(int(readers[begin]), outside[begin:end].tolist())

    def _note(self, reader: int, operands: list[int]) -> None:
        """Operands of a node that come from loops."""
        reading = self.reading
        begin = int(reading.first[reader])
        found: list[Join | int] = []
        if reader < len(reading.nodes) and self._loop_of[reader] < 0 and reading.nodes[reader].op.name == "concatenate":
            found = joins(reading, self.loops, self._loop_of, reader)
        if any(isinstance(part, Join) for part in found):
            self._joins[reading.nodes[reader]] = found
            for part in found:
                for member, turns in part.turns() if isinstance(part, Join) else ():
                    self._left[member.loop].joined[member.node].update(turns)
            kept = {begin + part for part in found if isinstance(part, int)}
            operands = [operand for operand in operands if operand in kept]
        for operand in operands:
            base = int(reading.base[operand])
            at = int(self._loop_of[base])
            turn, node = divmod(base - self.loops[at].start, self.loops[at].period)
            self._left[at].singles[node].add(turn)

    # -- the loop itself ----------------------------------------------------------------------------------------------

    def _roll(self, loop: Loop, left: Left) -> Rolled:
        body = Body(self, loop)
        stacked = list(left.joined)
        for node, turns in left.singles.items():
            if node in left.joined or all(turn >= loop.turns - body.depth(node) for turn in turns):
                continue
            if turns == {loop.turns - 1}:
                body.carry_out(node)
            else:
                stacked.append(node)
        stacked.sort()
        results = body.scan(stacked)
        return Rolled(loop, results, body.carries(), {node: body.carried + i for i, node in enumerate(stacked)})

    def _value(self, rolled: Rolled, number: int) -> Node:
        """The value of a node of a loop, outside of it."""
        loop = rolled.loop
        turn, node = divmod(number - loop.start, loop.period)
        carried = rolled.last.get((node, loop.turns - turn))
        if carried is not None:
            return rolled.results[carried]
        type = self.reading.nodes[number].array_type
        all_turns = rolled.results[rolled.stacked[node]]
        self.b.loc = self.reading.nodes[number].loc
        value = reshaped(self.b, turns_of(self.b, all_turns, turn, 1, 1), type.shape)
        return self.b.emit("cast", value, dtype=type.dtype, weak=True) if type.weak else value

    def _joined(self, join: Join) -> Node:
        return joined(self.b, join, [self._member(member, join.count) for member in join.members])

    def _member(self, member: Member, count: int) -> Node:
        reading = self.reading
        form = reading.forms[member.form]
        if member.loop == OUTSIDE:
            return of_outside(self.b, member, count, self.get(reading.source(member.node)), form)
        rolled = self._rolled[member.loop]
        whole = rolled.results[rolled.stacked[member.node]]
        return of_loop(self.b, member, count, whole, form, reading.places[member.cuts])

    def stack(self, nodes: list[Node]) -> tuple[Node, Ints]:
        """Constants, one for each turn, as an array, and the shape that one has in a turn: of splats the value."""
        type = nodes[0].array_type
        if all(node.is_splat for node in nodes):
            array = np.array([node.attrs["value"] for node in nodes], type.dtype)
            return self.b.array(array), ()
        return self.b.array(np.stack([_array(node) for node in nodes])), type.shape


def _array(node: Node) -> np.ndarray:
    assert node.op is CONSTANT
    if node.is_splat:
        return np.full(node.shape, node.attrs["value"], node.dtype)
    array = node.attrs["data"].array
    assert array is not None
    return np.asarray(array)
