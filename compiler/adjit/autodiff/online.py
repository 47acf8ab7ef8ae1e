"""Checkpoints of a loop whose number of turns no one knows while it is compiled, in room for k states.

    %2 = scan %goes, %h, %w stops body=(goes, h, w) -> (goes', h')
    =>
    %2 = scan %goes, %goes, %h, 0, 1, %k, %w stops:                     # a stretch of turns, its state kept ahead of it
      %k' = scatter %k, %turn % a, %h                                   # a of the k; the stretches grow with the loop
      %goes', %h', %turn' = scan %goes, %h, %turn, %w stops: %turn to %turn + %stride
    %3 = scan %dh, %left, %k, %at, %top, %w reverse: %turn              # as many turns as there were
      %h, %k', %at', %top' = scan %h, %k, %at, %top, %w stops:          # from the last state that is kept
        %h' = scan %h, %w: %steps                                       # the split of `revolve`, found as it runs
        %k' = scatter %k, %top + 1, %h'
      and the adjoint of a turn that begins with %h

Where the loop is told how many turns there are, all k states are kept as `revolve` says from the first turn on, by the
same loop as backward. One that stops keeps every stride-th state, and only every other one of these when there are
a; the others of the k serve between them on the way back. `revolve` has the numbers of turns that it takes.

Memory and code do not grow with the number of turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from adjit.autodiff.cut import Cut
from adjit.autodiff.forward import Forward
from adjit.autodiff.maker import ScanMaker
from adjit.autodiff.revolve import online_rooms
from adjit.autodiff.states import States
from adjit.autodiff.turn import Loop, Turn
from adjit.autodiff.walk import Walk
from adjit.ir.builder import ITEM, Builder, Value
from adjit.ir.graph import Graph, closed
from adjit.ir.node import Node
from adjit.ir.types import BOOL, I64, Array
from adjit.ops.loops import MOST_TURNS


class _Stack(NamedTuple):
    """States by number, one above the other: the turns ahead of which they are, and the place of the last one. Those
    above that are arbitrary. There is a place more than states that are kept: for one that is taken back at once.
    `stride` is None where place i is row i; else it says where the first ones lie (`_row`)."""

    rows: Mapping[int, Node]
    at: Node
    top: Node
    stride: Node | None = None


class _Range(NamedTuple):
    """The number that the first turn has, None for 0, and how many there are at most, None for any number."""

    first: Node | None
    most: Node | None


class Online(States):
    """The loop, whose place in the graph of `walk` one takes that keeps states, too; `turns` says how many there are,
    counted from the first one."""

    turns: Node

    def __init__(self, walk: Walk, loop: Loop, turn: Turn, cut: Cut) -> None:
        super().__init__(walk, loop, cut)
        self._rooms = loop.checkpoints
        stops, has_one = loop.node.attrs.get("stops", False), online_rooms(self._rooms) == 1
        # What is computed for the loop stands ahead of it; one that stays as it was has no such.
        self._around = walk.b if stops and has_one else Builder(loop.node.loc)
        told = self._told()
        self._first = told.first
        if not stops:
            assert told.most is not None
            self._stack = self._of_known_number(told.most)
        elif has_one:
            self._stack = self._of_first_state(turn, cut)
        else:
            self._stack = self._in_stretches(told)

    # -- the loop forward ---------------------------------------------------------------------------------------------

    def _told(self) -> _Range:
        """What the loop is told of its turns; the first one counts as 0 from here on."""
        node, b = self._loop.node, self._around
        length = None if self._loop.length == MOST_TURNS else self._loop.length
        if not node.attrs.get("counted", False):
            return _Range(None, None if length is None else b.splat(length, Array(I64)))
        end, first = b.value(node.args[-1]), None
        if node.attrs.get("ranged", False):
            begin, end = (b.reshape(b.slice(end, start=(i,), stop=(i + 1,), step=(1,)), shape=()) for i in (0, 1))
            first = b.maximum(begin, 0)
            end = end - first
        most = b.maximum(end if length is None else b.minimum(end, length), 0)
        return _Range(None if first is None else first.node, most.node)

    def _of_known_number(self, most: Node) -> _Stack:
        """One turn after the state ahead of it, on the way to which others were kept."""
        loop, b = self._loop, self._around
        number = b.value(most)
        operands = loop.node.args
        index = Array(I64, (self._rooms + 1,))
        rows = {i: _spread(b, operands[i], self._rooms + 1) for i in self._numbers}
        stack = _Stack(rows, b.splat(0, index), b.splat(0, Array(I64)))
        now = {i: operands[i] for i in loop.carried}
        whole = {i: operands[i] for i in loop.whole}
        now, stack = self._climbed(b, loop.body, now, whole, stack, (number - 1).node, self._first)
        last = b.select(number > 0, number - 1, 0)
        bounds = self._range(b, last, number, self._first)
        new = self._turns(b, loop.body, [*now.values()], [*whole.values()], bounds)
        self._walk.replace(loop.node, new, 0, 0, b.nodes[:-1])
        self.turns = most
        return stack

    def _of_first_state(self, turn: Turn, cut: Cut) -> _Stack:
        """The loop with the number of its turns: what it began with is the one state that there is."""
        forward = Forward.of(self._walk, self._loop, turn, cut)
        assert forward.turns is not None
        self.turns = forward.turns
        b = self._walk.b
        rows = {i: _spread(b, self._loop.node.args[i], self._rooms + 1) for i in self._numbers}
        return _Stack(rows, b.splat(0, Array(I64, (self._rooms + 1,))), b.splat(0, Array(I64)))

    def _in_stretches(self, told: _Range) -> _Stack:
        """A loop over stretches of turns. Stride s: states are kept ahead of turns 0, s, 2 s ... (a - 1) s, then of
        (a + 1) s with twice the stride, in the place of one that this does not keep: that of turn t is t % a."""
        loop, a, around = self._loop, online_rooms(self._rooms), self._around
        node, number = loop.node, Array(I64)
        ways = {"stops": True, "checkpoints": self._rooms, "stretches": True}
        scan = ScanMaker(around, f"{loop.body.name}_stretches", MOST_TURNS, False, None, **ways)
        b = scan.b
        goes_on = around.value(node.args[0])
        if told.most is not None:
            goes_on = goes_on & (around.value(told.most) > 0)
        more = scan.carried("more", Array(BOOL), goes_on.node)
        now = {i: scan.carried(loop.name(i), self._type(i), node.args[i]) for i in loop.carried}
        turn = scan.carried("turn", number, around.splat(0, number))
        stride = scan.carried("stride", number, around.splat(1, number))
        types = {i: self._rows_type(i, self._rooms + 1) for i in self._numbers}
        rows = {i: scan.carried(f"kept_{loop.name(i)}", type, around.splat(0, type)) for i, type in types.items()}
        whole = [scan.whole(loop.name(i), self._type(i), node.args[i]) for i in loop.whole]
        most = None if told.most is None else b.value(scan.whole("most", number, told.most))
        first = None if told.first is None else scan.whole("first", number, told.first)

        at, step = b.value(turn), b.value(stride)
        for i in self._numbers:
            scan.hand_on(rows[i], b.scatter(b.value(rows[i]), b.remainder(at, a), b.value(now[i]), axis=0).node)
        step = b.select(at >= step * a, step * 2, step)
        end = at + b.select((at + step).eq(step * a), step * 2, step)
        if most is not None:
            end = b.minimum(end, most)
        bounds = self._range(b, at, end, first)
        made = self._turns(b, _counting(loop), [*now.values(), turn], whole, bounds, stops=True)
        results = [b.value(b.emit(ITEM, made, index=i)) for i in range(len(now) + 1)]
        scan.hand_on(more, (results[0] if most is None else results[0] & (results[-1] < most)).node)
        for each, value in zip((*now.values(), turn), results, strict=True):
            scan.hand_on(each, value.node)
        scan.hand_on(stride, step.node)
        self._walk.replace(node, scan.made(), 0, 1, [each for each in around.nodes if each is not scan.made()])
        return self._kept_in_stretches(scan.made())

    def _kept_in_stretches(self, made: Node) -> _Stack:
        """What the loop over stretches kept, in order."""
        b, a, carried = self._walk.b, online_rooms(self._rooms), len(self._loop.carried)
        turns, stride, *rows = (b.emit(ITEM, made, index=carried + 1 + i) for i in range(2 + len(self._numbers)))
        self.turns = turns
        step = b.value(stride)
        places = b.iota(shape=(self._rooms + 1,), axis=0, dtype=I64)
        at = b.minimum(places, a - 1) * b.broadcast(step, shape=places.shape, axes=())
        top = b.minimum(b.maximum(b.floor_divide(b.value(turns) - 1, step), 0), a - 1)
        kept = dict(zip(self._numbers, rows, strict=True))
        return _Stack(kept, at.node, top.node, b.remainder(step, a).node)

    # -- in the loop backward -----------------------------------------------------------------------------------------

    def states(self, scan: ScanMaker) -> dict[Node, Node]:
        """What a turn begins with, in the body of the loop backward that `scan` makes."""
        loop, b, given = self._loop, scan.b, self._stack
        number = Array(I64)
        left = scan.carried("left", number, self.turns)
        rows = {i: scan.carried(f"kept_{loop.name(i)}", row.array_type, row) for i, row in given.rows.items()}
        at = scan.carried("at", given.at.array_type, given.at)
        top = scan.carried("top", number, given.top)
        turn, _, others = self._turn()
        whole = {i: scan.whole(loop.name(i), self._type(i), loop.node.args[i]) for i in others}
        first = None if self._first is None else scan.whole("first", number, self._first)
        stride = None if given.stride is None else scan.whole("stride", number, given.stride)

        goal = b.value(left) - 1
        # The state of the turn that was taken back before is done with, if it lies there.
        last = b.value(top) - b.cast(b.take(b.value(at), b.value(top), axis=0) > goal, dtype=I64)
        place = self._row(b, last, stride)
        now = {i: b.take(b.value(row), place, axis=0).node for i, row in rows.items()}
        now, stack = self._climbed(b, turn, now, whole, _Stack(rows, at, last.node, stride), goal.node, first)
        scan.hand_on(left, goal.node)
        for i, row in rows.items():
            scan.hand_on(row, stack.rows[i])
        scan.hand_on(at, stack.at)
        scan.hand_on(top, stack.top)
        return {loop.body.inputs[i]: now[i] for i in self._wanted}

    # -- both ---------------------------------------------------------------------------------------------------------

    def _climbed(
        self, around: Builder, turn: Graph, state: Mapping[int, Node], others: Mapping[int, Node], stack: _Stack,
        goal: Node, first: Node | None,
    ) -> tuple[dict[int, Node], _Stack]:  # fmt: skip
        """From a state that lies at the top to that ahead of turn `goal`, and what is kept on the way to it.

        `turn` gives the next one of what is carried, of that and of the others."""
        loop, number = self._loop, Array(I64)
        ways = {"stops": True, "checkpoints": self._rooms, "stretches": True}
        scan = ScanMaker(around, f"{loop.body.name}_again", MOST_TURNS, False, None, **ways)
        b = scan.b
        begin = around.take(around.value(stack.at), around.value(stack.top), axis=0)
        more = scan.carried("more", Array(BOOL), (begin < around.value(goal)).node)
        now = {i: scan.carried(loop.name(i), self._type(i), node) for i, node in state.items()}
        rows = {i: scan.carried(f"kept_{loop.name(i)}", row.array_type, row) for i, row in stack.rows.items()}
        at = scan.carried("at", stack.at.array_type, stack.at)
        top = scan.carried("top", number, stack.top)
        whole = [scan.whole(loop.name(i), self._type(i), node) for i, node in others.items()]
        aim = b.value(scan.whole("goal", number, goal))
        offset = None if first is None else scan.whole("first", number, first)
        stride = None if stack.stride is None else scan.whole("stride", number, stack.stride)

        place = b.value(top)
        start = b.take(b.value(at), place, axis=0)
        end = start + _steps(b, aim + 1 - start, self._rooms - place, self._rooms)
        made = self._turns(b, turn, [*now.values()], whole, self._range(b, start, end, offset))
        new = {i: b.value(b.emit(ITEM, made, index=n)) for n, i in enumerate(now)}
        place = place + 1
        lies = self._row(b, place, stride)
        scan.hand_on(more, (end < aim).node)
        for i, value in new.items():
            scan.hand_on(now[i], value.node)
        for i, row in rows.items():
            scan.hand_on(row, b.scatter(b.value(row), lies, new[i], axis=0).node)
        scan.hand_on(at, b.scatter(b.value(at), place, end, axis=0).node)
        scan.hand_on(top, place.node)
        found = _Stack({i: scan.result(row) for i, row in rows.items()}, scan.result(at), scan.result(top))
        return {i: scan.result(node) for i, node in now.items()}, found

    def _row(self, b: Builder, place: Value, stride: Node | None) -> Value:
        """Where the state at a place of the stack lies."""
        if stride is None:
            return place
        # That of turn t is t % a, and a stride is nothing that a is a multiple of: it goes through all of them.
        a = online_rooms(self._rooms)
        row: Value = b.select(place < a, b.remainder(place * b.value(stride), a), place)
        return row

    def _turns(
        self, b: Builder, turn: Graph, carried: Sequence[Node], whole: Sequence[Node], bounds: Node, **ways: bool
    ) -> Node:
        """Some of the turns, in the body of another loop."""
        return b.emit(
            self._loop.node.op, *carried, *whole, bounds, length=MOST_TURNS, carried=len(carried), sliced=0,
            **ways, counted=True, ranged=True, checkpoints=self._rooms, body=turn,
        )  # fmt: skip

    def _range(self, b: Builder, begin: Value, end: Value, first: Node | None) -> Node:
        """Turns, by the numbers that they have in the loop: errors tell them."""
        if first is not None:
            begin, end = begin + b.value(first), end + b.value(first)
        pair = [b.reshape(each, shape=(1,)) for each in (begin, end)]
        joined: Value = b.concatenate(*pair, axis=0)
        return joined.node


def _steps(b: Builder, turns: Value, rooms: Value, most: int) -> Value:
    """How many turns after a state the next one is kept, where `turns` are to be taken back, and with the first state
    there is room for `rooms`: `revolve` says where, or it is the state ahead of the last turn."""
    number = Array(I64)
    if most == 1:
        return turns - 1
    scan = ScanMaker(b, "repetitions", MOST_TURNS, False, stops=True)
    inner, one, zero = scan.b, b.splat(1, number), b.splat(0, number)
    more = scan.carried("more", Array(BOOL), ((turns > 1) & (rooms > 1)).node)
    r, reached, before = (scan.carried(name, number, start) for name, start in
                          (("r", zero), ("reached", one), ("before", zero)))  # fmt: skip
    goal, k = (inner.value(scan.whole(name, number, node.node)) for name, node in (("turns", turns), ("rooms", rooms)))
    # beta(k, r) = beta(k, r - 1) (k + r) / r
    count = inner.value(r) + 1
    reach = inner.floor_divide(inner.value(reached) * (k + count), count)
    scan.hand_on(more, (reach < goal).node)
    scan.hand_on(r, count.node)
    scan.hand_on(reached, reach.node)
    scan.hand_on(before, reached)
    least, low = b.value(scan.result(r)), b.value(scan.result(before))
    # beta(k - 1, r - 1) = beta(k, r - 1) k / (k + r - 1)
    rest = b.floor_divide(low * rooms, b.maximum(rooms + least - 1, 1))
    split: Value = b.select(rooms > 1, b.minimum(low, turns - rest), turns - 1)
    return split


def _counting(loop: Loop) -> Graph:
    """The body of a loop with the number of its turn as the last value that it carries."""
    b, place = Builder.after(loop.body), len(loop.carried)
    count = b.value(b.input("turn", Array(I64)))
    b.inputs.insert(place, b.inputs.pop())
    outputs = [*loop.body.outputs, (count + 1).node]
    return closed(loop.body.name, b.inputs, b.nodes, outputs)


def _spread(b: Builder, node: Node, rows: int) -> Node:
    """A state in the first of so many rows; what lies in the others is arbitrary."""
    return b.emit("broadcast", node, shape=(rows, *node.shape), axes=tuple(range(1, 1 + len(node.shape))))
