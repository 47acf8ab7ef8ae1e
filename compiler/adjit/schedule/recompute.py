"""recompute: late readers of a value have it computed again, so that it takes no memory meanwhile.

    %2 = tanh %1                      %2 = tanh %1
    %3 = contract %2, %w              %3 = contract %2, %w
    ...                          =>   ...
    %8 = mul %7, %2                   %4 = after %1, %7             # %1 is there anyhow
                                      %5 = tanh %4
                                      %8 = mul %7, %5

`after` has it wait for what comes ahead of the reader. From a graph that the planner has normalised, and the order of
its kernels, to such a graph; bits do not change. `ways` lists what may be computed again, by how long that takes about:
first what operations on elements make of other values that are there, then all between two cuts through the graph
(Chen, Xu, Zhang, Guestrin 2016), of ever more and shorter stretches. What checks an index is not computed again, and
neither is what the program gives or writes to state, which lies in memory of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from adjit.ir.builder import INPUT
from adjit.ir.graph import Graph, computed, copy_node
from adjit.ir.node import Node
from adjit.ir.op import OPS
from adjit.ir.types import Array
from adjit.ops.declare import Elementwise
from adjit.schedule.body import unshaped
from adjit.schedule.group import Group, Grouping
from adjit.schedule.memory import may_fail
from adjit.schedule.places import padded
from adjit.tuned import LIGHT_COST

STRETCHES = ((8, 1), (4, 1), (8, 3), (2, 1), (3, 2), (4, 3), (6, 5), (8, 7), (12, 11), (16, 15), (24, 23), (32, 31),
             (48, 47), (64, 63), (96, 95), (128, 127))  # fmt: skip
"""Into how many stretches what is kept is cut, of the same bytes about, and how many of them, from the first on, are
computed again. The last one is needed at once."""
SMALL = 512
"""A value of which this part of all that is kept is larger is kept: it would spare nothing."""


@dataclass(frozen=True, eq=False, slots=True)
class Stretch:
    """`values` that are computed again together, for the kernel at the place `at` in the order, the first that reads
    one of them late; `nodes` are all that this takes, in their order."""

    values: frozenset[Node]
    at: int
    nodes: tuple[Node, ...]


class Timeline:
    """When the values of a graph are made and read, in an order of its groups, and where most memory is in use: what
    is read past that place is read late, and there as well where it is `late_at_peak`."""

    def __init__(self, graph: Graph, grouping: Grouping, order: Sequence[Group], late_at_peak: bool = False) -> None:
        self.graph, self.grouping, self.order = graph, grouping, tuple(order)
        self.place = {group: number for number, group in enumerate(self.order)}
        self.uses: dict[Node, list[int]] = {}
        for number, group in enumerate(self.order):
            read = [node for node in grouping.reads(group) if grouping.group_of.get(node, group) is not group]
            # In their order, so that the same graph always has the same ways.
            for node in sorted(read, key=grouping.position.__getitem__):
                self.uses.setdefault(node, []).append(number)
        self.given = {unshaped(root) for root in graph.roots}
        self.peak = max(self._peak() - late_at_peak, 0)
        crossing = [n for n in self.uses if self._may_move(n) and self.made(n) < self.peak < self.uses[n][-1]]
        self.kept = sorted(crossing, key=self.made)
        self.total = sum(map(_bytes, self.kept))

    def made(self, node: Node) -> int:
        """The place of the kernel that makes a value."""
        return self.place[self.grouping.group_of[node]]

    def _may_move(self, node: Node) -> bool:
        """Whether a value may be computed at another place: one that is given may not, one that is made of nothing
        is there at no cost."""
        return node not in self.given and node.op.kind != "creation"

    def late(self, node: Node) -> int:
        """The first place past the peak at which a value is read."""
        return next(use for use in self.uses[node] if use > self.peak)

    def _peak(self) -> int:
        gained = [0] * (len(self.order) + 1)
        for node, uses in self.uses.items():
            if node not in self.given:
                gained[self.made(node)] += _bytes(node)
                gained[uses[-1] + 1] -= _bytes(node)
        alive = list(itertools.accumulate(gained))
        return alive.index(max(alive))

    # -- what may be computed later -----------------------------------------------------------------------------------

    def later(self) -> tuple[Stretch, ...]:
        """Values that nothing reads up to the peak, made of what lies there when they are read first, by nodes of
        their own: computed then, they and all that their kernel is the last to read take no memory until then."""
        users = self.graph.users()
        found = []
        for node, uses in self.uses.items():
            if not self._may_move(node) or not self.made(node) <= self.peak < uses[0] or self._is_read_at_once(node):
                continue
            nodes = self.needed({node}, self.uses.keys() - {node})
            if nodes is None or not all(self._lies_there(arg, uses[0]) for each in nodes for arg in each.args):
                continue
            own = {node, *nodes}
            if all(each is node or _is_light(each) or own.issuperset(users[each]) for each in nodes):
                found.append(Stretch(frozenset({node}), uses[0], nodes))
        return tuple(found)

    def _is_read_at_once(self, node: Node) -> bool:
        """Whether the kernel that makes a value reads it, too: it would be made twice."""
        return node in self.grouping.reads(self.grouping.group_of[node])

    def _lies_there(self, node: Node, place: int) -> bool:
        return node not in self.uses or node in self.given or self.uses[node][-1] >= place

    # -- what may be computed again -----------------------------------------------------------------------------------

    def ways(self) -> Iterator[tuple[Stretch, ...]]:
        """What to compute again, each way once, about by the time that it takes: first nothing."""
        cheap = self._cheap()
        seen: set[frozenset[Node]] = set()
        for stretches in itertools.chain([(), cheap], (self._cut(*sizes, cheap) for sizes in STRETCHES)):
            values = frozenset().union(*(stretch.values for stretch in stretches))
            if values not in seen:
                seen.add(values)
                yield stretches

    def _cheap(self) -> tuple[Stretch, ...]:
        """Values that operations on elements make of others that are kept, or of those: each when it is needed."""
        found: dict[Node, Stretch] = {}
        others = set(self.kept)
        for node in self.kept:
            if self.peak in self.uses[node]:
                continue
            nodes = self.needed({node}, others - {node})
            if nodes is not None and all(map(is_cheap, nodes)):
                found[node] = Stretch(frozenset({node}), self.late(node), nodes)
                others.discard(node)
        return tuple(found.values())

    def _cut(self, count: int, again: int, cheap: Sequence[Stretch]) -> tuple[Stretch, ...]:
        """The first `again` of `count` stretches of what is kept, and what is `cheap` beyond them."""
        if count > len(self.kept):
            return ()
        cuts = self._cuts(count)[:again]
        crossing = self._crossing(cuts)
        stretches = []
        for begin, end in itertools.pairwise([-1, *cuts]):
            values = {node for node in self.kept if begin < self.made(node) <= end and node not in crossing}
            values = {
                node for node in values if SMALL * _bytes(node) >= self.total and self.peak not in self.uses[node]
            }
            stretch = self._stretch(values, (set(self.kept) - values) | crossing)
            stretches += [stretch] if stretch is not None else []
        taken = frozenset().union(crossing, *(stretch.values for stretch in stretches))
        return (*stretches, *(each for each in cheap if not each.values & taken and not taken & set(each.nodes)))

    def _stretch(self, values: set[Node], there: set[Node]) -> Stretch | None:
        if not values:
            return None
        nodes = self.needed(values, there)
        return None if nodes is None else Stretch(frozenset(values), min(map(self.late, values)), nodes)

    def _cuts(self, count: int) -> list[int]:
        """Places at which stretches end: of those about where as many bytes are kept ahead of each, where least goes
        across."""
        ends: list[int] = []
        sums = list(itertools.accumulate(map(_bytes, self.kept)))
        across = self._across()
        for number in range(1, count):
            low, high = ((number + side / 4) * self.total / count for side in (-1, 1))
            places = [self.made(node) for node, total in zip(self.kept, sums, strict=True) if low <= total <= high]
            goal = next(self.made(node) for node, s in zip(self.kept, sums, strict=True) if s >= (low + high) / 2)
            at = min(places or [goal], key=lambda place: (across[place], abs(place - goal)))
            if (not ends or at > ends[-1]) and at < self.peak:
                ends.append(at)
        return ends

    def _across(self) -> list[int]:
        """Bytes that are made up to each place and read after it, up to the peak."""
        gained = [0] * (len(self.order) + 1)
        for node in self.uses:
            last = self._last_early(node)
            if node not in self.given and last > self.made(node):
                gained[self.made(node)] += _bytes(node)
                gained[last] -= _bytes(node)
        return list(itertools.accumulate(gained))

    def _crossing(self, cuts: Sequence[int]) -> set[Node]:
        """The values that are made up to one of these places and read after it, up to the peak: they are kept."""
        return {node for node in self.uses if any(self.made(node) <= cut < self._last_early(node) for cut in cuts)}

    def _last_early(self, node: Node) -> int:
        return max((use for use in self.uses[node] if use <= self.peak), default=-1)

    def needed(self, values: set[Node], there: AbstractSet[Node]) -> tuple[Node, ...] | None:
        """What must be computed for `values` where those of `there` are there; None where that may fail."""
        found: set[Node] = set()
        waiting = list(values)
        while waiting:
            node = waiting.pop()
            if node in found or node.op.kind in ("leaf", "creation") or node in self.given or node in there:
                continue
            if may_fail(node):
                return None
            found.add(node)
            waiting += node.args
        return tuple(sorted(found, key=self.grouping.position.__getitem__))


def _bytes(node: Node) -> int:
    return padded(node.array_type.nbytes)


def _is_constant(node: Node) -> bool:
    return node.op.kind == "leaf" and node.op is not INPUT


def _is_light(node: Node) -> bool:
    return node.op.kind == "movement" or (isinstance(node.op, Elementwise) and node.op.cost <= LIGHT_COST)


def is_cheap(node: Node) -> bool:
    """Whether a node is an operation on elements, or moves them."""
    return isinstance(node.op, Elementwise) or node.op.kind == "movement"


# -- the graph ---------------------------------------------------------------------------------------------------------


def recompute(time: Timeline, stretches: Sequence[Stretch]) -> Graph:
    """The graph of a timeline in which late readers have what `stretches` compute again."""
    return _Rewriting(time, stretches).graph()


class _Rewriting:
    """All nodes anew, kernel by kernel in their order; ahead of the one at which a stretch begins, what it takes."""

    def __init__(self, time: Timeline, stretches: Sequence[Stretch]) -> None:
        self._time = time
        self._starting: dict[int, list[Stretch]] = {}
        for stretch in stretches:
            self._starting.setdefault(stretch.at, []).append(stretch)
        self._new: dict[Node, Node] = {node: node for node in time.graph.inputs}
        self._again: dict[Node, Node] = {}
        self._light: tuple[dict[Node, Node], dict[Node, Node]] = ({}, {})
        self._nodes: list[Node] = []

    def graph(self) -> Graph:
        """The graph."""
        time, graph = self._time, self._time.graph
        position = time.grouping.position
        for number, group in enumerate(time.order):
            for stretch in self._starting.get(number, ()):
                self._compute_again(stretch, self._gate(number))
            for node in sorted(group.members, key=position.__getitem__):
                args = [self._image(arg, number > time.peak) for arg in node.args]
                self._new[node] = self._keep(copy_node(node, args))
        outputs = tuple(self._image(node, True) for node in graph.outputs)
        updates = tuple((target, self._image(value, True)) for target, value in graph.updates)
        results = (*outputs, *(value for _, value in updates))
        self._nodes += filter(_is_constant, results)
        needed = set(computed(results, graph.inputs))
        nodes = tuple(node for node in dict.fromkeys(self._nodes) if node in needed)
        return replace(graph, nodes=nodes, outputs=outputs, updates=updates)

    def _keep(self, node: Node) -> Node:
        self._nodes += filter(_is_constant, node.args)
        self._nodes.append(node)
        return node

    def _gate(self, number: int) -> Node:
        """A value of the kernel ahead of a place."""
        members = self._time.order[number - 1].members
        return self._new[next(node for node in members if isinstance(node.type, Array))]

    def _image(self, node: Node, is_late: bool) -> Node:
        """A value as a kernel reads it; light nodes are made for those that are late and for the others."""
        made = self._light[is_late]
        waiting = [node]
        while waiting:
            at = waiting[-1]
            if self._known(at, is_late) is not None:
                waiting.pop()
                continue
            lacking = [arg for arg in at.args if self._known(arg, is_late) is None]
            waiting += lacking
            if not lacking:
                args = [self._known(arg, is_late) or arg for arg in at.args]
                made[at] = self._keep(copy_node(at, args))
        return self._known(node, is_late) or node

    def _known(self, node: Node, is_late: bool) -> Node | None:
        if is_late and node in self._again:
            return self._again[node]
        if node in self._time.grouping.group_of or node.op is INPUT:
            return self._new[node]
        if node.op.kind == "leaf":
            return node
        return self._light[is_late].get(node)

    def _compute_again(self, stretch: Stretch, gate: Node) -> None:
        image: dict[Node, Node] = {}
        waits: dict[Node, Node] = {}
        for node in stretch.nodes:
            args = [image.get(arg) or self._image(arg, False) for arg in node.args]
            if not any(arg in image for arg in node.args):
                args = self._waiting(args, gate, waits)
            image[node] = self._keep(Node(node.op, tuple(args), node.attrs, node.type, node.loc))
        self._again.update((node, image[node]) for node in stretch.values)

    def _waiting(self, args: list[Node], gate: Node, waits: dict[Node, Node]) -> list[Node]:
        """Operands of which the first one that is no constant waits for `gate`."""
        first = next((i for i, arg in enumerate(args) if not arg.is_splat), None)
        if first is not None:
            arg = args[first]
            if arg not in waits:
                waits[arg] = self._keep(Node(OPS["after"], (arg, gate), {}, arg.type, arg.loc))
            args[first] = waits[arg]
        return args
