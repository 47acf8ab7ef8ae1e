"""What a plan keeps in memory, and where: slots for inputs, outputs and state, buffers for what kernels hand on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from adjit.ir.axes import base, is_linear, joins, leads_to
from adjit.ir.changes import all_changes, changed, changed_in_place, is_left, place_before
from adjit.ir.graph import Graph
from adjit.ir.node import Data, Node
from adjit.ir.quote import printable
from adjit.ir.types import Array
from adjit.ops.declare import Bodied
from adjit.schedule.body import (
    BodyBuilder,
    NeedsStorage,
    Placement,
    collapse_greedily,
    operand_strides,
    unshaped,
)
from adjit.schedule.buffer import Buffer
from adjit.schedule.group import Group, Grouping
from adjit.schedule.hand_over import hand_over
from adjit.schedule.instructions import Body
from adjit.schedule.maps import contiguous_strides, cut_strides
from adjit.schedule.plan import Kernel, Plan
from adjit.schedule.updates import Overwriting
from adjit.schedule.windowed import below_windows, reads_windows
from adjit.schedule.work import Loop
from adjit.tuned import TRANSPOSE_COPY_READS
from adjit_runtime.program import Check, Slot
from adjit_runtime.target import Target

INLINE = ("loop", "product", "check")
"""Kinds of groups whose members may stay in registers."""


@dataclass(eq=False, slots=True)
class Notes:
    """What the rounds have learnt."""

    stored: set[Node] = field(default_factory=set)
    dense: set[Node] = field(default_factory=set)
    unfused: set[Node] = field(default_factory=set)
    turns: dict[Node, Plan] = field(default_factory=dict)
    alike: dict[tuple[object, ...], Plan] = field(default_factory=dict)
    lines: dict[Node, bool] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How much is known."""
        return len(self.stored) + len(self.dense) + len(self.unfused)


@dataclass(frozen=True, slots=True)
class CodeRules:
    """What a plan asks of code generation.

    scratch  (dtype, k) -> bytes of memory in which a product that only its epilogue reads is made by blocks; 0: it
             cannot be
    line     whether LLVM is quick with a graph as a straight line
    memory   the bytes that the program of a plan needs: its arena, and what code needs beside
    alone    whether threads may share what the plan has: not in what they share already"""

    scratch: Callable[[np.dtype, int], int] = lambda dtype, k: 0
    line: Callable[[Graph], bool] = lambda graph: False
    memory: Callable[[Plan], int] = lambda plan: plan.arena_bytes
    alone: bool = True


class Memory:
    """The memory of one round of planning: who must have some (`stored`), who may have which (`placements`, all known
    ahead of the kernels), who needs it (`wanted`, as kernels claim it: theirs alone is part of the plan)."""

    def __init__(
        self, graph: Graph, target: Target, slots: tuple[Slot, ...], notes: Notes, rules: CodeRules, of_turn: bool
    ) -> None:
        self.graph = graph
        self.target = target
        # The state of a turn is what a loop carries: when the program is left in its midst, nobody reads that.
        self.of_turn = of_turn
        self.notes = notes
        self.rules = rules
        self.slots = list(slots)
        self.checks: list[Check] = []
        self.constants: dict[int, Data] = {}
        self.placements: dict[Node, Placement] = {}
        self.buffers: list[Buffer] = []
        self.wanted: set[Node] = set()
        self.extra: dict[Node, list[Placement]] = {}
        # Constants that a loop writes beside what it makes.
        self.beside: dict[Group, list[tuple[Node, Placement]]] = {}
        self._with_loops: set[tuple[Buffer, int]] = set()
        self._users = graph.users()
        self.joined_in_place: set[Node] = set()
        # By a value that gives way, what is written where it lies.
        self._next: dict[Node, Node] = {}
        self.needs: list[NeedsStorage] = []
        self.commits: list[tuple[Node, Placement]] = []
        self.copies: list[tuple[Node, Placement]] = []
        self.grouping = Grouping(graph, self._must_store(), self.notes.unfused)
        hand_over(self.grouping)
        self._readers: dict[Node, list[Group]] = {}
        for group in self.grouping.groups:
            for node in self.grouping.reads(group):
                self._readers.setdefault(node, []).append(group)
        self._checks = [group for group in self.grouping.groups if any(map(may_fail, group.members))]
        self._order_checks()
        self._overwriting = Overwriting(self.grouping, [(target, unshaped(value)) for target, value in graph.updates])
        # State whose old value is a result, or is still to be read when its new one is copied to it.
        self._kept = {unshaped(node) for node in graph.outputs}

    def _must_store(self) -> set[Node]:
        stored = {unshaped(root) for root in self.graph.roots} | self.notes.stored
        for node in self.graph.nodes:
            if node.op.kind == "contraction":
                stored.update(below_windows(arg) if reads_windows(arg) else self._strided(arg) for arg in node.args)
            elif node.op.kind == "movement" and len(self._users.get(node, ())) > 1 and reads_windows(node):
                # They are read place by place, each by itself.
                stored.add(below_windows(node))
            elif node.op.kind == "gather":
                stored.add(base(node.args[0]))
            elif joins(node):
                stored.update(
                    changed_in_place(node, i) or whole_part(arg)
                    for i, arg in enumerate(node.args)
                    if not is_left(node, i)
                )
            elif isinstance(node.op, Bodied):
                stored.update(self._laid_out(node, number) for number in range(len(node.args)))
        return {node for node in stored if node.op.kind != "leaf"}

    def _laid_out(self, loop: Node, number: int) -> Node:
        """What must have memory for an operand of a loop, which lies in C order: what it is a view of, or what it is a
        reshape of. First values are copied."""
        arg = loop.args[number]
        if number < loop.attrs.get("carried", 0):
            return base(arg)
        found = operand_strides(arg, {base(arg): self._own(base(arg))})
        return base(arg) if found is not None and found[1].is_dense(arg.shape) else unshaped(arg)

    def _strided(self, arg: Node) -> Node:
        """The same for an operand of a product, which has a stride along each axis."""
        return base(arg) if operand_strides(arg, {base(arg): self._own(base(arg))}) is not None else unshaped(arg)

    def _own(self, node: Node) -> Placement:
        """Memory of its own for a value; that of a constant is a slot, which has no line."""
        loc = None if "data" in node.attrs else node.loc
        return self._dense(node, Buffer("", node.dtype, math.prod(node.shape), loc=loc))

    def _enter(self, buffer: Buffer) -> Buffer:
        """Make a buffer one of the plan's."""
        buffer.name = f"t{len(self.buffers)}"
        self.buffers.append(buffer)
        return buffer

    def _slot_buffer(self, number: int) -> Buffer:
        slot = self.slots[number]
        size = math.prod(slot.shape)
        buffer = Buffer(printable(slot.name), np.dtype(slot.dtype), size, slot=number)
        self.buffers.append(buffer)
        return buffer

    def _dense(self, node: Node, buffer: Buffer) -> Placement:
        return Placement(buffer, 0, contiguous_strides(node.shape))

    def _assign_roots(self) -> None:
        """Inputs and outputs have slots; a new value of state goes to the state's own memory where that is safe."""
        for number, node in enumerate(self.graph.inputs):
            self.placements[node] = self._dense(node, self._slot_buffer(number))
        for target, shaped in self.graph.updates:
            if shaped is target:
                continue
            value = unshaped(shaped)
            home = self._dense(value, self.placements[target].buffer)
            in_place = value in self.grouping.group_of and value not in self.placements
            chain = self._renewed_in_place(target, value) if in_place else []
            for node in chain:
                self.placements[node] = self._dense(node, home.buffer)
            if not chain:
                self.commits.append((value, home))
                self._kept.add(value)
        first_output = len(self.graph.inputs)
        for position, shaped in enumerate(self.graph.outputs):
            node = unshaped(shaped)
            place = self._dense(node, self._slot_buffer(first_output + position))
            if node not in self.grouping.group_of:
                self.copies.append((node, place))
            elif node in self.placements:
                self.extra.setdefault(node, []).append(place)
            else:
                self.placements[node] = place
        self._assign_changed()
        # The outermost first: a part that is a concatenation itself lies there, and its parts with it.
        for node in reversed(self.graph.nodes):
            if joins(node) and node in self.grouping.group_of and node not in self.joined_in_place:
                self._assign_parts(node)
        self._assign_rest()

    def _assign_changed(self) -> None:
        """What another value is with parts changed lies where that goes, if nothing reads it later."""
        for node in reversed(self.graph.nodes):
            before = changed(node) if node in self.grouping.group_of else None
            if before is None:
                continue
            if self._gives_way(before, node):
                if node not in self.placements:
                    self.placements[node] = self._own(node)
                place = self.placements[node]
                if place.is_dense(node.shape):
                    place = Placement(place.buffer, place.offset, contiguous_strides(before.shape))
                if place.is_dense(before.shape) or before.shape == node.shape:
                    self.placements[before] = place
            if joins(node) and node in self.placements and self._lie_together(before, node):
                self.joined_in_place.add(node)
                self._assign_parts_in_place(node, before)

    def _assign_rest(self) -> None:
        """What is handed on by one kernel to another, or to a copy, has memory of its own where it has none yet."""
        group_of = self.grouping.group_of
        handed = (
            node
            for node, readers in self._readers.items()
            if node not in group_of or any(group is not group_of[node] for group in readers)
        )
        made = (node for group in self.grouping.groups if group.kind not in INLINE for node in group.members)
        copied = (node for node, _ in self.copies + self.commits)
        for node in (*handed, *made, *copied):
            has_memory = "data" in node.attrs or (node in group_of and isinstance(node.type, Array))
            if has_memory and node not in self.placements:
                self.placements[node] = self._own(node)

    def _assign_parts(self, node: Node) -> None:
        """Each part of a concatenation that a kernel computes is written where it belongs, a constant beside it."""
        if node not in self.placements:
            self.placements[node] = self._own(node)
        made, constants = list[Group](), list[tuple[Node, Placement]]()
        for part, place in self._parts(node):
            group = self.grouping.group_of.get(part)
            if part.is_splat:
                constants.append((part, place))
            if group is None:
                continue
            made.append(group)
            # Others read it element after element.
            apart = len(self._users[part]) > 1 and place.strides != contiguous_strides(part.shape)
            if apart or part in self.placements or part in self.notes.dense or not self._is_read_ahead(part, node):
                self.extra.setdefault(part, []).append(place)
            else:
                self.placements[part] = place
        for part, place in constants:
            self._beside(part, place, made)

    def _assign_parts_in_place(self, node: Node, before: Node) -> None:
        """Of a concatenation that lies where the rest of it does: elements are changed there, if nothing reads them
        later as they were. Other parts have memory of their own, and are written there when all is read."""
        for number, (part, place) in enumerate(self._parts(node)):
            changes = changed_in_place(node, number)
            in_place = changes is part and part not in self.placements and place_before(part) is before
            if in_place and self._is_read_ahead(part, node) and self._comes_last(before, all_changes(part)[-1], node):
                self.placements[part] = place
            elif part in self.grouping.group_of and part not in self.placements:
                self.placements[part] = self._own(part)

    def _beside(self, part: Node, place: Placement, made: list[Group]) -> None:
        """A constant that lies between what a loop writes is written by that loop."""
        for group in made:
            strides = cut_strides(part.shape, place.strides, group.space)
            if strides is None or strides[-1:] == (1,):
                continue
            if group.kind == "loop" and group.reduced is None:
                self.beside.setdefault(group, []).append((part, replace(place, strides=strides)))
                self._with_loops.add((place.buffer, place.offset))
                return

    def _parts(self, node: Node) -> Iterator[tuple[Node, Placement]]:
        """What is written for each part of a concatenation, and where."""
        whole, axis, at = self._claim(node), node.attrs["axis"], 0
        for arg in node.args:
            place = Placement(whole.buffer, whole.offset + at * whole.strides[axis], whole.strides)
            at += arg.shape[axis]
            part = whole_part(arg)
            strides = cut_strides(arg.shape, place.strides, part.shape)
            assert strides is not None
            yield part, replace(place, strides=strides)

    def _lie_together(self, before: Node, node: Node) -> bool:
        """Whether a value lies where the one lies that it is with parts changed."""
        old, new = self.placements.get(before), self.placements[node]
        return old is not None and (old.buffer, old.offset) == (new.buffer, new.offset) and new.is_dense(node.shape)

    def _renewed_in_place(self, target: Node, value: Node) -> list[Node]:
        """A new value of state, and those of which it is one with parts changed, if they may lie where the old value
        does; none, if not."""
        chain = [value]
        while (before := changed(chain[-1])) not in (None, target):
            assert before is not None
            if not self._gives_way(before, chain[-1]):
                return []
            chain.append(before)
        return chain if self._order_update(target, chain[-1]) else []

    def _gives_way(self, before: Node, node: Node) -> bool:
        """Whether `before`, of which `node` is one with parts changed, may lie in its memory: all others read it ahead
        of that."""
        group = self.grouping.group_of.get(before)
        if group is None or before in self._kept or before in self.placements or group is self.grouping.group_of[node]:
            return False
        if not self._comes_last(before, node):
            return False
        self._next[before] = node
        return True

    def _is_read_ahead(self, part: Node, join: Node) -> bool:
        """Whether all that reads a part may do so ahead of what is written over the `join` in which it lies."""
        later = self._next.get(join)
        if later is None:
            return True
        if part in self._kept:
            return False
        # A part that is a join itself has its own parts there, too.
        self._next.setdefault(part, later)
        writers = {self.grouping.group_of[later]}
        for number in range(len(later.args)) if later in self.joined_in_place else ():
            changes = changed_in_place(later, number)
            writers |= {self.grouping.group_of[node] for node in (() if changes is None else all_changes(changes))}
        readers = [group for group in self._readers.get(part, ()) if group is not self.grouping.group_of[join]]
        if any(group in writers or self.grouping.depends_on(group, w) for group in readers for w in writers):
            return False
        for group, writer in itertools.product(readers, writers):
            self.grouping.order_after(writer, group)
        return True

    def _comes_last(self, before: Node, node: Node, join: Node | None = None) -> bool:
        """Whether what makes `node` may write where `before` lies: other readers come ahead of it, save that of the
        `join` that it is a part of, and those that read of `before` but other parts that they change."""
        writer = self.grouping.group_of[node]
        apart = {writer} if join is None else {writer, *self._apart(before, join)}
        others = [group for group in self._readers.get(before, ()) if group not in apart]
        if any(self.grouping.depends_on(group, writer) for group in others):
            return False
        if not self._overwriting.is_safe(before, node):
            self._ask_for_memory(before, node)
            return False
        for group in others:
            self.grouping.order_after(writer, group)
        return True

    def _apart(self, before: Node, join: Node) -> Iterator[Group]:
        """The groups of a join and of what changes its parts in place, reading nothing else of the value before."""
        yield self.grouping.group_of[join]
        for number in range(len(join.args)):
            part = changed_in_place(join, number)
            for node in () if part is None else all_changes(part):
                if not any(before in self.grouping.read_for(arg) for arg in node.args[1:]):
                    yield self.grouping.group_of[node]

    def _ask_for_memory(self, before: Node, node: Node) -> None:
        """What a scatter writes has memory of its own where it is read from what is written."""
        if node.op.kind != "scatter":
            return
        read = [arg for arg in node.args[1:] if before in self.grouping.read_for(arg) and arg.op.kind != "leaf"]
        if read:
            self.needs.append(NeedsStorage(dict.fromkeys(read, False)))

    def _order_update(self, target: Node, value: Node) -> bool:
        """Make every reader of the old value, and every check, come before the kernel that writes the new one."""
        writer = self.grouping.group_of[value]
        bodied = [node for node in writer.members if isinstance(node.op, Bodied)]
        # Nothing looks for signals in the midst of what writes to state, so that a long loop leaves it to a copy.
        into = changed(value) is target and (self.of_turn or all(_is_branch(node, target) for node in bodied))
        if (writer.kind not in ("loop", "product") and not into) or target in self._kept:
            return False
        checks = () if self.of_turn else self._checks
        if any(self.grouping.depends_on(group, writer) for group in checks if group is not writer):
            return False
        if not self._comes_last(target, value):
            return False
        for group in checks:
            if group is not writer:
                self.grouping.order_after(writer, group)
        return True

    def _order_checks(self) -> None:
        """A loop that may fail comes after the checks that stand ahead of it, and before those after it: the error is
        the first one, as far as groups allow."""
        for earlier, later in itertools.pairwise(self._checks):
            if {earlier.kind, later.kind} != {"check"} and not self.grouping.depends_on(earlier, later):
                self.grouping.order_after(later, earlier)

    def _claim(self, node: Node) -> Placement:
        """Where a value lies that a kernel reads there, or writes: its memory is needed."""
        placement = self.placements[node]
        if node not in self.wanted:
            self.wanted.add(node)
            if "data" in node.attrs:
                self._enter_constant(placement.buffer, node.attrs["data"], node.array_type)
            elif not placement.buffer.name:
                self._enter(placement.buffer)
        return placement

    def _operand_place(self, node: Node) -> Placement:
        """Where an operand is read element after element, by strides."""
        found = operand_strides(node, self.placements)
        if found is None:
            raise NeedsStorage({node: False})
        self._claim(found[0])
        return found[1]

    def _lies_in(self, node: Node, place: Placement) -> bool:
        """Whether a value lies in a place by itself, or as a part of another one; its memory is needed then."""
        found = operand_strides(node, self.placements)
        if found is None or (found[1].buffer, found[1].offset) != (place.buffer, place.offset):
            return False
        strides = zip(found[1].strides, place.strides, node.shape, strict=True)
        if not all(there == wanted or n == 1 for there, wanted, n in strides):
            return False
        self._claim(found[0])
        return True

    def _enter_constant(self, buffer: Buffer, data: Data, type: Array) -> Buffer:
        """Make the memory of a constant, a slot of its own, one of the plan's."""
        buffer.name, buffer.slot = printable(data.name), len(self.slots)
        self.slots.append(Slot(data.name, "constant", type.dtype.str, type.shape))
        self.constants[buffer.slot] = data
        self.buffers.append(buffer)
        return buffer

    def _builder(self, domain: tuple[int, ...], group: Group | None = None, first_param: int = 0) -> BodyBuilder:
        return BodyBuilder(group, domain, self.placements, first_param)

    def _body(self, builder: BodyBuilder, reduced: tuple[int, ...] = ()) -> Body:
        """Close a body: what it reads must have memory."""
        for node in builder.reads:
            self._claim(node)
        return builder.body(reduced)

    def _loop_of(self, builder: BodyBuilder, nodes: tuple[Node, ...], reduced: tuple[int, ...] = ()) -> Kernel:
        """The loop over a body."""
        return Kernel(Loop(collapse_greedily(self._body(builder, reduced))), tuple(builder.params), nodes)

    def _copy(self, node: Node, place: Placement, commits: bool) -> Kernel:
        """A kernel that writes a value to a place, too."""
        builder = self._builder(node.shape)
        builder.store(builder.value(node, builder.full), place, builder.full, node.dtype)
        return replace(self._loop_of(builder, (node,)), commits=commits)


def whole_part(arg: Node) -> Node:
    """What is written for an operand of a concatenation: what it is a reshape of, where that lies by strides."""
    part = arg
    while is_linear(part) and cut_strides(arg.shape, (0,) * len(arg.shape), part.args[0].shape) is not None:
        part = part.args[0]
    return arg if part.op.kind == "leaf" else part


def _is_branch(node: Node, target: Node) -> bool:
    """Whether a loop has one turn that cannot fail, and reads of `target` what it carries alone."""
    return node.attrs.get("length") == 1 and not may_fail(node) and sum(leads_to(arg, target) for arg in node.args) == 1


def may_fail(node: Node) -> bool:
    """Whether a node is a check, or has one in a body."""
    graphs = [value for value in node.attrs.values() if isinstance(value, Graph)]
    return node.op.kind == "check" or any(inner.op.kind == "check" for graph in graphs for inner in graph.all_nodes())


def transposed_copies(graph: Graph) -> set[Node]:
    """Transposes that are copied, as what reads them reads each row several times, where each element lies far from the
    next."""
    found = set()
    for node in graph.nodes:
        (x, *_) = node.args or (node,)
        if (
            node.op.name != "broadcast"
            or x.op.name != "transpose"
            or node.array_type.size < TRANSPOSE_COPY_READS * x.array_type.size
        ):
            continue
        last = len(x.shape) - 1
        if node.attrs["axes"][-1] == len(node.shape) - 1 and x.attrs["axes"][-1] != last:
            found.add(x)
    return found


def alike(graph: Graph, needed: set[Node]) -> set[Node]:
    """The nodes that are made and read as one of `needed` is: in a chain of equal links, where memory for one shows
    that the next one needs some, they will be needed, too."""
    users = graph.users()

    def key(node: Node) -> tuple[Any, ...]:
        readers = sorted({user.op.name for user in users.get(node, ())})
        return node.op.name, node.type, tuple(node.attrs.items()), tuple(arg.op.name for arg in node.args), *readers

    wanted = {key(node) for node in needed}
    return {node for node in graph.nodes if node.op.kind != "leaf" and key(node) in wanted}
