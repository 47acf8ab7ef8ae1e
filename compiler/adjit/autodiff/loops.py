"""The derivative of a loop: another loop, whose turns go the other way.

    %2 = scan %h, %x, %w body=(h, x, w) -> (h', y)      # turn i makes h' and y of h, x[i] and w
    %3 = scan %dh, %0, %dy, %x, %k, %w reverse=true body=(dh', sum, dy, x, k, w) -> (dh, sum + dw, dx)

Its body is the adjoint of the body, so far as cotangents have part in it. What that reads of the turns forward is
read where it lies, computed again, or kept by the loop forward as one more result (%k): `kept.choose` says what. What
depends on invariants alone is computed ahead of the loop. Gradients of invariants are summed up over the turns. A guard
goes with its cotangent into the body, from turn to turn and out again, as if the turns stood in a row. As many turns
are taken back as there were: what a loop was told, or has counted. With checkpoints all is computed again, from states
of which the loop forward keeps some (`checkpoints`, and `online` where it has no most number of turns).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adjit.autodiff.checkpoints import Checkpoints
from adjit.autodiff.cotangent import Cotangent, alive, both
from adjit.autodiff.cut import Cut
from adjit.autodiff.forward import Forward
from adjit.autodiff.maker import End, ScanMaker
from adjit.autodiff.online import Online
from adjit.autodiff.states import States
from adjit.autodiff.turn import Loop, Turn, adjoint_of_turn
from adjit.autodiff.walk import Walk
from adjit.ir.builder import Value
from adjit.ir.graph import copy_node
from adjit.ir.node import Node
from adjit.ir.types import BOOL, I64, Array
from adjit.ops.loops import MOST_TURNS, marks, runs_all

STATES = 32
"""How many states are kept, where nobody says it, of a loop that has no most number of turns."""

_Forward = Forward | Checkpoints | Online


def through_loop(walk: Walk, node: Node, cts: Sequence[Cotangent | None]) -> list[Cotangent | None]:
    """What a loop hands to its operands. One that keeps what this reads takes its place when the walk is closed."""
    loop = Loop(node)
    if node.attrs["length"] == 0:
        return [cts[i] if i in loop.carried else None for i in range(len(node.args))]
    turn = adjoint_of_turn(walk, loop, cts)
    cut = Cut(loop, turn)
    if cut.kept and loop.length == MOST_TURNS:
        # No array has an element for each turn.
        loop = Loop(node, STATES)
        cut = Cut(loop, turn)
    forward: _Forward
    if not cut.states or loop.length == 1 or cut.kept:
        forward = Forward.of(walk, loop, turn, cut)
    elif runs_all(node):
        forward = Checkpoints(walk, loop, cut)
    else:
        forward = Online(walk, loop, turn, cut)
    return _Backward(walk, loop, turn, cut, forward).contributions(cts)


class _Backward:
    """The loop backward in the making; `_image` has nodes of the adjoint of a turn as they stand in its body."""

    def __init__(self, walk: Walk, loop: Loop, turn: Turn, cut: Cut, forward: _Forward) -> None:
        self._walk = walk
        self._b, self._loop, self._turn, self._cut, self._forward = walk.b, loop, turn, cut, forward
        ways = {"checkpoints": loop.checkpoints} if loop.checkpoints else {}
        ways |= {"closed": True} if loop.is_closed else {}
        ways |= {"stretches": True} if isinstance(forward, States) else {}
        # What has counted its turns tells their number.
        ways |= marks(loop.node, "ranged") if forward.turns is loop.node.args[-1] else {}
        backwards = not loop.node.attrs.get("reverse", False)
        self._scan = ScanMaker(walk.b, f"{loop.body.name}_vjp", loop.length, backwards, forward.turns, **ways)
        self._image: dict[Node, Node] = {}
        # What no turn changes is the same for all: none, where only what has the derivative 0 reads what is carried.
        self._passing = {i for i in loop.carried if i in turn.seeds and turn.found.get(i) == turn.seeds[i]}

    def contributions(self, cts: Sequence[Cotangent | None]) -> list[Cotangent | None]:
        """What the loop hands to each operand, of the cotangents of its results."""
        for i in self._turn.seeds:
            self._enter_cotangent(i, cts[i])
        for i in self._turn.sums:
            self._enter_sum(i)
        self._enter_values()
        for node in self._turn.nodes:
            if node in self._cut.again:
                self._image[node] = self._scan.b.keep(copy_node(node, [self._image[arg] for arg in node.args]))
        for i in self._loop.carried:
            if i in self._turn.seeds and i not in self._passing:
                self._hand_on(i)
        # Where there may be no turn, a cotangent may be left of what no turn reads.
        some = set() if runs_all(self._loop.node) else {i for i in self._loop.carried if i in self._turn.seeds}
        ends = {i: self._end(i) for i in sorted((some | set(self._turn.found)) - self._passing)}
        return [cts[i] if i in self._passing else self._contribution(ends[i]) if i in ends else None
                for i in range(len(self._loop.node.args))]  # fmt: skip

    # -- into the body --

    def _enter_cotangent(self, i: int, ct: Cotangent | None) -> None:
        """That of output `i`: an element for each turn, or what the turn before left, at first that of the result."""
        seed, name = self._turn.seeds[i], self._name(i)
        for node, prefix, otherwise in ((seed[0], "d", 0.0), (seed[1], "alive", True)):
            if node is None:
                continue
            given = None if ct is None else ct.value if node is seed[0] else ct.guard
            operand = self._b.splat(otherwise, node.array_type) if given is None else given.node
            self._image[node] = self._way_in(i)(f"{prefix}_{name}", node.array_type, operand)

    def _enter_sum(self, i: int) -> None:
        """What is summed up over the turns: it begins with what is there of the operand's cotangent."""
        type = self._loop.body.inputs[i].array_type.strong
        before = self._walk.taken(self._loop.node.args[i])
        first = self._b.splat(0.0, type) if before is None else before.node
        self._image[self._turn.sums[i]] = self._scan.carried(f"sum_{self._loop.name(i)}", type, first)

    def _way_in(self, i: int) -> Callable[[str, Array, Node], Node]:
        if i in self._loop.stacked:
            return self._scan.part
        return self._scan.whole if i in self._passing else self._scan.carried

    def _name(self, i: int) -> str:
        return self._loop.name(i) if i in self._loop.carried else str(i)

    def _enter_values(self) -> None:
        """What it reads of the turns forward and of invariants."""
        loop, cut, scan = self._loop, self._cut, self._scan
        kept = {node: len(self._turn.outputs) + n for n, node in enumerate(cut.kept)}
        around = self._ahead()
        for i, node in enumerate(loop.body.inputs):
            if node not in cut.read or node in kept or node in cut.results or node in cut.left:
                continue
            if i in loop.parts:
                self._image[node] = scan.part(loop.name(i), node.array_type, loop.node.args[i])
            elif node in cut.steady or loop.is_closed:
                self._image[node] = scan.whole(loop.name(i), node.array_type, loop.node.args[i])
        for node in self._turn.nodes:
            if node in cut.read and node in around:
                self._image[node] = scan.whole("ahead", node.array_type, around[node])
        for node, index in ({**cut.results, **kept}).items():
            if node in cut.read:
                self._image[node] = scan.part("kept", node.array_type, self._forward.result(index))
        if isinstance(self._forward, States):
            self._image.update(self._forward.states(scan))
        left = {node: i for node, i in cut.left.items() if node in cut.read}
        for node, i in left.items():
            name, type = loop.name(i), loop.body.inputs[i].array_type
            self._image[node] = scan.carried(f"{name}_after", type, self._forward.result(i))
        for node, i in left.items():
            scan.hand_on(self._image[node], self._image[loop.body.inputs[i]])

    def _ahead(self) -> dict[Node, Node]:
        """What is computed ahead of the loop, as it stands around it."""
        image = {node: self._loop.node.args[i] for node, i in self._cut.steady.items()}
        for node in self._cut.ahead:
            # Made anew, as operands of the loop may be strong where the body's inputs are weak.
            args = [image[arg] for arg in node.args]
            self._b.loc = node.loc
            image[node] = self._b.emit(node.op, *args, **node.attrs) if args else self._b.keep(node)
        self._b.loc = self._loop.node.loc
        return image

    # -- out of the body --

    def _hand_on(self, i: int) -> None:
        """The cotangent of what is carried, to the turn before; zeros where a turn does not read it."""
        for seed, found, otherwise in zip(
            self._turn.seeds[i], self._turn.found.get(i, (None, None)), (0.0, True), strict=True
        ):
            if seed is not None:
                value = self._scan.b.splat(otherwise, seed.array_type) if found is None else self._image[found]
                self._scan.hand_on(self._image[seed], value)

    def _end(self, i: int) -> tuple[End, End | None]:
        """What is left of the cotangent of input `i`, and of where it is alive."""
        if i in self._loop.carried:
            value, guard = self._turn.seeds[i]
            return self._image[value], None if guard is None else self._image[guard]
        value, guard = self._turn.found[i]
        if i in self._loop.parts:
            return self._scan.stack(self._image[value]), None if guard is None else self._scan.stack(self._image[guard])
        return self._sum(i, value, guard)

    def _sum(self, i: int, value: Node, guard: Node | None) -> tuple[Node, Node | None]:
        """The sum over all turns, alive where any turn's is."""
        if i in self._turn.sums:
            total = self._image[self._turn.sums[i]]
            self._scan.hand_on(total, self._image[value])
            return total, None
        b, name = self._scan.b, self._loop.name(i)
        type = self._loop.body.inputs[i].array_type.strong
        total = self._scan.carried(f"sum_{name}", type, self._b.splat(0.0, type))
        found = b.value(self._image[value])
        if guard is None:
            self._scan.hand_on(total, (b.value(total) + found).node)
            return total, None
        at = b.value(self._image[guard])
        any_type = type.with_dtype(BOOL)
        alive_anywhere = self._scan.carried(f"any_{name}", any_type, self._b.splat(False, any_type))
        self._scan.hand_on(total, (b.value(total) + alive(b, Cotangent(found, at))).node)
        self._scan.hand_on(alive_anywhere, (b.value(alive_anywhere) | at).node)
        return total, alive_anywhere

    def _contribution(self, end: tuple[End, End | None]) -> Cotangent:
        value, guard = (None if one is None else self._b.value(self._scan.result(one)) for one in end)
        assert value is not None
        if isinstance(end[0], int) and self._forward.turns is not None:
            guard = both(guard, self._ran(value, self._b.value(self._forward.turns)))
        return Cotangent(value, guard)

    def _ran(self, stacked: Value, turns: Value) -> Value:
        """Where what is stacked is of a turn that ran."""
        b, (length, *_) = self._b, stacked.shape
        number = b.iota(shape=(length,), axis=0, dtype=I64)
        ends = [turns]
        if turns.shape:
            ends = [b.reshape(b.slice(turns, start=(i,), stop=(i + 1,), step=(1,)), shape=()) for i in range(2)]
        ran: Value = number < b.broadcast(ends[-1], shape=(length,), axes=())
        if turns.shape:
            ran = ran & (number >= b.broadcast(ends[0], shape=(length,), axes=()))
        return ran if len(stacked.shape) == 1 else b.broadcast(ran, shape=stacked.shape, axes=(0,))
