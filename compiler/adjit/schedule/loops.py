"""Loops of a plan: `tiled` and `scan`, whose bodies become plans of their own or straight lines.

What a loop carries lies in the memory of its result, where its first value is copied to ahead of the loop; or where
that lies, if nothing else reads it. The plan of a turn has it as state, so it is renewed in place where that is safe,
as the state of a step is, by a loop in the turn, too. Inputs that are read part by part are read where they lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from adjit.ir.axes import leads_to
from adjit.ir.builder import Builder
from adjit.ir.equal import graph_key
from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.op import OPS
from adjit.ir.types import Array, Tuple
from adjit.ops.declare import Reduction
from adjit.ops.loops import known_turns, runs_all
from adjit.ops.tiles import combiners
from adjit.schedule.across import Across, runs_across
from adjit.schedule.body import NeedsStorage, Placement, all_of, operand_strides, unshaped
from adjit.schedule.buffer import Buffer
from adjit.schedule.group import Group
from adjit.schedule.instructions import Reduce
from adjit.schedule.maps import contiguous_strides, identity
from adjit.schedule.memory import Memory
from adjit.schedule.nested import inner_nodes, nested, tiles_of
from adjit.schedule.plan import Kernel, Plan
from adjit.schedule.straight import checks_of, fits
from adjit.schedule.turns import StraightLoop
from adjit.schedule.work import Loop
from adjit.tuned import SHARED_TURNS_ELEMENTS, TILE_GROUPS
from adjit_runtime.program import Check

Where = tuple[Buffer, int]
"""A buffer, and the element of it where something begins."""


class LoopPlanner(Memory):
    """Kernels for the loops of a graph."""

    def _plan_of_turn(self, graph: Graph, alone: bool) -> Plan:
        """The plan of a turn, which threads may share where it is `alone`."""
        raise NotImplementedError

    def _is_fixed(self, node: Node) -> bool:
        """Whether the memory of `node` is not its own."""
        raise NotImplementedError

    def _loop_kernels(self, group: Group) -> list[Kernel]:
        """The kernels of a loop, and copies of its results to where they are wanted as well."""
        node, *items = group.members
        results = self._results(node, items)
        kernels = (self._tiles if node.op.kind == "tiled" else self._scan)(node, results)
        for item in items:
            kernels += [self._copy(item, place, commits=False) for place in self.extra.get(item, ())]
        return kernels

    def _results(self, node: Node, items: Sequence[Node]) -> list[Where]:
        """Where each result lies: what nothing reads is written, too."""
        assert isinstance(node.type, Tuple)
        found: dict[int, Where] = {}
        for item in items:
            place = self._claim(item)
            if not place.is_dense(item.shape):
                raise NeedsStorage({item: True})
            found[item.attrs["index"]] = (place.buffer, place.offset)
        for index in range(node.attrs.get("carried", 0)):
            if index not in found and self._dying(node, index) is not None:
                place = self._claim(node.args[index])
                found[index] = (place.buffer, place.offset)
        types = enumerate(node.type.items)
        return [found.get(i) or (self._own_buffer(node, type.dtype, type.size), 0) for i, type in types]

    def _dying(self, loop: Node, index: int) -> Placement | None:
        """The memory of the first value of what a loop carries, where nothing else reads that: it may be written."""
        first = loop.args[index]
        group = self.grouping.group_of.get(first)
        readers = self._readers.get(first, [])
        if group is None or first in self._kept or first in self.extra:
            return None
        if readers != [self.grouping.group_of[loop]] or sum(leads_to(arg, first) for arg in loop.args) > 1:
            return None
        if first not in self.placements:
            self.placements[first] = self._own(first)
        return None if self._is_fixed(first) else self.placements[first]

    def _lies_at(self, node: Node, place: Where) -> bool:
        """Whether a value lies at a place, C-ordered; its memory is needed then."""
        found = operand_strides(node, self.placements)
        if found is None or (found[1].buffer, found[1].offset) != place or not found[1].is_dense(node.shape):
            return False
        self._claim(found[0])
        return True

    def _own_buffer(self, node: Node, dtype: np.dtype, size: int) -> Buffer:
        return self._enter(Buffer("", dtype, size, loc=node.loc))

    def _operand(self, node: Node, kernels: list[Kernel]) -> Where:
        """Where an operand lies, C-ordered without gaps; a kernel fills memory with a constant."""
        if node.is_splat:
            buffer = self._own_buffer(node, node.dtype, math.prod(node.shape))
            kernels.append(self._copy(node, Placement(buffer, 0, contiguous_strides(node.shape)), commits=False))
            return buffer, 0
        found = operand_strides(node, self.placements)
        if found is None or not found[1].is_dense(node.shape):
            raise self._lacks(node)
        self._claim(found[0])
        return found[1].buffer, found[1].offset

    def _lacks(self, node: Node) -> NeedsStorage:
        """That an operand does not lie as it must: what it is a reshape of is to have memory, or, where that has some,
        it itself."""
        below = unshaped(node)
        return NeedsStorage({node if below in self.notes.stored | self.notes.dense else below: False})

    # -- tiles --------------------------------------------------------------------------------------------------------

    def _tiles(self, node: Node, results: list[Where]) -> list[Kernel]:
        """The plan of one tile runs on each and adds to the sums of its group, which are combined at the end."""
        count, sliced = node.attrs["count"], node.attrs["sliced"]
        combine = node.attrs["combine"].split(",")
        before: list[Kernel] = []
        inner = self._planned(node, lambda: _tile_graph(node), shared=True)
        where = all_of(*(partial(self._operand, arg, before) for arg in node.args))
        sums = range(len(where), len(where) + len(combine))
        cut = {*range(sliced), *range(sums.stop, len(where) + len(results))}
        work = tiles_of(inner, count, cut, self.target)
        types = node.type.items  # type: ignore[union-attr]
        parts = [self._own_buffer(node, t.dtype, work.groups * t.size) for t in types[: len(combine)]]
        scratch = self._own_buffer(node, np.dtype(np.uint8), work.groups * inner.arena_bytes)
        # The slots of the tile's plan: operands, then sums (its state), then stacked results.
        params = [*where, *((part, 0) for part in parts), *results[len(combine) :], (scratch, 0)]
        tiles = Kernel(work, tuple(params), (node, *inner_nodes(inner)), inner=inner)
        before += [self._start_value(node, part, name) for part, name in zip(parts, combine, strict=True)]
        after = [
            self._combined(node, part, work.groups, name, results[i])
            for i, (part, name) in enumerate(zip(parts, combine, strict=True))
        ]
        return [*before, tiles, *after]

    def _planned(self, node: Node, graph: Callable[[], Graph], shared: bool) -> Plan:
        """The plan of a turn, which all rounds share, and all turns that are the same, of the same lines; of turns that
        threads share where none may fail."""
        if node not in self.notes.turns:
            turn = graph()
            key = (graph_key(turn), shared, *(str(each.loc) for each in turn.nodes))
            if key not in self.notes.alike:
                self.notes.alike[key] = self._planned_anew(turn, shared)
            self.notes.turns[node] = self.notes.alike[key]
        return self.notes.turns[node]

    def _planned_anew(self, turn: Graph, shared: bool) -> Plan:
        plan = self._plan_of_turn(turn, alone=not shared)
        return self._plan_of_turn(turn, alone=True) if shared and plan.checks and self.rules.alone else plan

    def _start_value(self, node: Node, part: Buffer, name: str) -> Kernel:
        """What a reduction is before the first tile of each group."""
        op = OPS[name]
        assert isinstance(op, Reduction)
        assert op.identity is not None
        builder = self._builder((part.size,))
        value = builder.constant(op.identity(part.dtype), part.dtype)
        builder.store(value, Placement(part, 0, (1,)), builder.full, part.dtype)
        return self._loop_of(builder, (node,))

    def _combined(self, node: Node, part: Buffer, groups: int, name: str, place: Where) -> Kernel:
        """What the groups found, combined."""
        size = part.size // groups
        builder = self._builder((groups, size))
        each = builder.load(Placement(part, 0, (size, 1)), builder.full, (), part.dtype)
        total = builder.emit(Reduce(name, each, part.dtype))
        builder.store(total, Placement(*place, (1,)), identity(2, [1]), part.dtype)
        return self._loop_of(builder, (node,), (0,))

    # -- scans --------------------------------------------------------------------------------------------------------

    def _scan(self, node: Node, results: list[Where]) -> list[Kernel]:
        """A loop in registers where a turn is a straight line, else the plan of a turn for each."""
        count, carried, sliced = (node.attrs.get(name, 0) for name in ("length", "carried", "sliced"))
        given = node.args[: len(node.attrs["body"].inputs)]
        inits, parts, whole = given[:carried], given[carried:][:sliced], given[carried + sliced :]
        ends = results[:carried]
        if not count:
            return [self._initial(arg, place) for arg, place in zip(inits, ends, strict=True)]
        before: list[Kernel] = []
        moving = all_of(
            *(partial(self._part, arg, before) for arg in parts), *(partial(self._whole, arg, before) for arg in whole)
        )
        stacked = [
            _Moving(place, math.prod(value.shape))
            for place, value in zip(results[carried:], node.attrs["body"].outputs[carried:], strict=True)
        ]
        if self._is_across(node):
            return [*before, self._across(node, [*moving, *stacked])]
        counter = [self._operand(node.args[-1], before)] if node.attrs.get("counted", False) else []
        if self._is_line(node):
            starts = all_of(*(partial(self._operand, arg, before) for arg in inits))
            return [*before, self._line(node, starts, moving, ends, stacked, counter)]
        starts_elsewhere = [pair for pair in zip(inits, ends, strict=True) if not self._lies_at(*pair)]
        before += [self._initial(arg, place) for arg, place in starts_elsewhere]
        return [*before, self._turns(node, [*(_Moving(place, 0) for place in ends), *moving, *stacked], counter)]

    def _line(
        self,
        node: Node,
        starts: list[Where],
        moving: list[_Moving],
        ends: list[Where],
        stacked: list[_Moving],
        counter: list[Where],
    ) -> Kernel:
        """The loop in registers."""
        body, count = node.attrs["body"], node.attrs["length"]
        fixed = [0] * len(starts)
        turns = (*fixed, *(each.step for each in moving), *fixed, *(each.step for each in stacked))
        work = StraightLoop(
            body, count, len(starts), turns, **_ways(node), first_check=self._first_check(checks_of(body))
        )
        params = (*starts, *(each.where for each in moving), *ends, *(each.where for each in stacked), *counter)
        return Kernel(work, params, (node, *body.nodes))

    def _across(self, node: Node, slots: list[_Moving]) -> Kernel:
        """The loop with a turn in each lane."""
        work = Across(node.attrs["body"], node.attrs["length"], tuple(each.step for each in slots))
        return Kernel(work, tuple(each.where for each in slots), (node, *node.attrs["body"].nodes))

    def _turns(self, node: Node, slots: list[_Moving], counter: list[Where]) -> Kernel:
        """The plan of a turn, again and again; `slots` are what is carried, inputs and stacked results."""
        may_share = self.rules.alone and _may_share(node) and not _shares_more_inside(node)
        inner = self._planned(node, lambda: _turn_graph(node), may_share)
        count = node.attrs["length"]
        is_shared = may_share and not inner.checks
        groups = min(TILE_GROUPS, count) if is_shared else 1
        # Turns that threads share have no order.
        ways = {"stretches": node.attrs.get("stretches", False)}
        if not is_shared:
            ways |= _ways(node)
        moves = {n: each.step * each.where[0].dtype.itemsize for n, each in enumerate(slots) if each.step}
        work = nested(inner, count, groups, moves, self._first_check(inner.checks), **ways)
        if work.first_check is not None and work.tells_turn and node.loc is not None:
            own = slice(work.first_check, None)
            self.checks[own] = [replace(check, loop=str(node.loc)) for check in self.checks[own]]
        constants = [(self._constant_of(inner, n), 0) for n in range(len(slots), len(inner.slots))]
        scratch = self._own_buffer(node, np.dtype(np.uint8), groups * inner.arena_bytes)
        params = (*(each.where for each in slots), *constants, (scratch, 0), *counter)
        return Kernel(work, params, (node, *inner_nodes(inner)), inner=inner)

    def _constant_of(self, inner: Plan, number: int) -> Buffer:
        """The memory of a constant of a turn."""
        slot = inner.slots[number]
        buffer = Buffer("", np.dtype(slot.dtype), math.prod(slot.shape))
        return self._enter_constant(buffer, inner.constants[number], Array(buffer.dtype, slot.shape))

    def _whole(self, node: Node, kernels: list[Kernel]) -> _Moving:
        """An operand that each turn reads."""
        return _Moving(self._operand(node, kernels), 0)

    def _part(self, node: Node, kernels: list[Kernel]) -> _Moving:
        """An operand of which each turn reads a part."""
        if node.is_splat:
            size = math.prod(node.shape[1:])
            part = self._own_buffer(node, node.dtype, size)
            fill = self._builder((size,))
            fill.store(fill.constant(node.attrs["value"], node.dtype), Placement(part, 0, (1,)), fill.full, node.dtype)
            kernels.append(Kernel(Loop(self._body(fill)), tuple(fill.params), (node,)))
            return _Moving((part, 0), 0)
        found = operand_strides(node, self.placements)
        if found is None or tuple(found[1].strides[1:]) != contiguous_strides(node.shape[1:]):
            raise self._lacks(node)
        self._claim(found[0])
        return _Moving((found[1].buffer, found[1].offset), found[1].strides[0])

    def _initial(self, node: Node, place: Where) -> Kernel:
        """What is carried into the first turn, where the last one leaves it."""
        return self._copy(node, Placement(*place, contiguous_strides(node.shape)), commits=False)

    def _is_across(self, node: Node) -> bool:
        """Whether turns, of which none needs another one, are worked on several at a time."""
        if node.attrs.get("carried", 0) or not runs_all(node):
            return False
        return runs_across(node.attrs["body"], node.attrs["length"])

    def _is_line(self, node: Node) -> bool:
        """Whether the body is a straight line."""
        if node not in self.notes.lines:
            body = node.attrs["body"]
            self.notes.lines[node] = fits(body) and self.rules.line(body)
        return self.notes.lines[node]

    def _first_check(self, found: Sequence[Check]) -> int | None:
        """Note the checks of a turn: the number of the first one, if there are any."""
        first = len(self.checks)
        self.checks += found
        return first if found else None


@dataclass(frozen=True, slots=True)
class _Moving:
    """Where the first turn finds something, and by how many elements that moves with each turn."""

    where: Where
    step: int


def _ways(node: Node) -> dict[str, bool]:
    """How a loop goes through its turns."""
    return {name: node.attrs.get(name, False) for name in ("reverse", "stops", "counted", "ranged")}


def _tile_graph(node: Node) -> Graph:
    """What one tile computes: the sums are state that it adds to."""
    body, rules = node.attrs["body"], combiners(node.attrs["combine"])
    sums = len(rules)
    b = Builder()
    totals = [b.input(f"sum{i}", result.array_type.strong) for i, result in enumerate(body.outputs[:sums])]
    b.nodes.extend(body.nodes)
    added = []
    for rule, total, result in zip(rules, totals, body.outputs[:sums], strict=True):
        b.loc = result.loc
        added.append((total, b.emit(rule, total, result)))
    return Graph(body.name, (*body.inputs, *totals), tuple(b.nodes), body.outputs[sums:], tuple(added))


def _turn_graph(node: Node) -> Graph:
    """What one turn computes: what is carried is state."""
    body, carried = node.attrs["body"], node.attrs.get("carried", 0)
    renewed = tuple(zip(body.inputs[:carried], body.outputs[:carried], strict=True))
    return Graph(body.name, body.inputs, body.nodes, body.outputs[carried:], renewed)


def _may_share(node: Node) -> bool:
    """Whether threads may share the turns: none needs another one, and there is work enough."""
    if node.op.kind != "scan" or node.attrs.get("carried", 0) or not runs_all(node):
        return False
    return node.attrs["length"] > 1 and _computed(node) >= SHARED_TURNS_ELEMENTS


def _shares_more_inside(node: Node) -> bool:
    """Whether there are few turns, and a loop in them has more that threads may share."""
    count = node.attrs["length"]
    return count < TILE_GROUPS and any(
        inner.attrs["length"] > count and _may_share(inner) for inner in node.attrs["body"].nodes if inner.op is node.op
    )


def _computed(node: Node) -> int:
    """How many elements the turns of a loop compute, those of loops in them included."""
    inside = (
        _computed(value) if value.op is node.op else value.array_type.size
        for value in node.attrs["body"].nodes
        if value.op is node.op or isinstance(value.type, Array)
    )
    return known_turns(node.attrs["length"]) * sum(inside)
