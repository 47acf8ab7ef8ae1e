"""make_plan: a graph becomes a plan.

The plan is made as often as it takes: a value that turns out to need memory (`NeedsStorage`), an epilogue whose
operands do not follow the product's tiles, is noted and the plan is made again with it: only a group's body shows that,
and writing bodies ahead costs all plans more than a second round costs a few. A round goes on after that, so that it
notes what all kernels lack; each notes something new, so the rounds end."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from adjit.ir.axes import joins
from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.subscripts import Subscripts
from adjit.ops.contraction import sizes_of, subscripts_of
from adjit.ops.declare import Bodied, Checked, Factoring, Indexing, Sorting, condition_of
from adjit.schedule.arena import finish
from adjit.schedule.body import (
    BodyBuilder,
    NeedsStorage,
    Placement,
    all_of,
    collapse,
    collapse_greedily,
    permuted,
)
from adjit.schedule.buffer import Buffer, Params
from adjit.schedule.factors import factored
from adjit.schedule.group import Group
from adjit.schedule.instructions import Apply, Body, Gather, Load, Reduce, Store
from adjit.schedule.loops import LoopPlanner
from adjit.schedule.maps import contiguous_strides
from adjit.schedule.memory import CodeRules, Notes, alike, transposed_copies
from adjit.schedule.normalize import normalize
from adjit.schedule.order import delay_small, order_groups
from adjit.schedule.plan import Kernel, Plan
from adjit.schedule.products import may_reduce
from adjit.schedule.recompute import Timeline, recompute
from adjit.schedule.slots import slots_of
from adjit.schedule.sorts import Sorted
from adjit.schedule.spare import spared
from adjit.schedule.windowed import Split, reads_windows, split
from adjit.schedule.work import CheckRange, Product, Running, Scatter, Work
from adjit.tuned import WINDOW_WIDTH
from adjit_runtime.errors import InternalError
from adjit_runtime.program import Check, Slot
from adjit_runtime.target import Target

ROUNDS_ALONE = 4
"""Rounds after which what is like a node that needs memory is given some, too."""


CHAIN = 16
"""Members of a group that are computed of one another, by a recursion that takes up to thirty calls for each."""


class _Again(Exception):
    """Something was noted; make the plan once more."""


def make_plan(
    graph: Graph,
    target: Target,
    slots: tuple[Slot, ...],
    rules: CodeRules | None = None,
    of_turn: bool = False,
    spares: bool = True,
) -> Plan:
    """The plan of `graph`; `slots` are inputs, then outputs, in the graph's order (constants are added). Where it is
    `of_turn`, one of a loop, state may be written ahead of checks. `spares`: values may be computed again."""
    rules = rules or CodeRules()
    flat = normalize(graph)
    notes = Notes(stored=transposed_copies(flat))
    spares = spares and not of_turn
    number = 0
    while True:
        planner = _Planner(flat, target, slots, notes, rules, of_turn)
        order = planner.arranged()
        if spares:
            spares, time = False, Timeline(flat, planner.grouping, order, late_at_peak=True)
            if again := spared(time):
                flat = recompute(time, again)
                notes = Notes(stored=transposed_copies(flat))
                continue
        plan = planner.plan(order)
        if plan is not None:
            return plan
        number += 1
        if number > ROUNDS_ALONE:
            notes.stored.update(alike(flat, planner.needed))


def timeline_of(graph: Graph, target: Target, slots: tuple[Slot, ...], rules: CodeRules) -> Timeline:
    """When the values of `graph` are made and read, about as its plan has it."""
    flat = normalize(graph)
    planner = _Planner(flat, target, slots, Notes(stored=transposed_copies(flat)), rules, of_turn=False)
    return Timeline(flat, planner.grouping, planner.arranged())


class _Planner(LoopPlanner):
    """Kernels for the groups of a graph."""

    def __init__(
        self, graph: Graph, target: Target, slots: tuple[Slot, ...], notes: Notes, rules: CodeRules, of_turn: bool
    ) -> None:
        super().__init__(graph, target, slots, notes, rules, of_turn)
        self.needed: set[Node] = set()
        self._again = False

    def arranged(self) -> list[Group]:
        """The groups in order, when all has its place."""
        self._assign_roots()
        return order_groups(self.grouping)

    def plan(self, order: Sequence[Group]) -> Plan | None:
        """One round, in the order of `arranged`: None where something was noted."""
        known = self.notes.count
        for node, _ in self.copies + self.commits:
            if node in self.grouping.group_of:
                self._claim(node)
        tail = [kernel for node, place in self.copies for kernel in self._tried(self._copies, node, place, False)]
        tail += [kernel for node, place in self.commits for kernel in self._tried(self._copies, node, place, True)]
        made = [self._tried(self._kernels, group) for group in reversed(order)]
        if self.needs or self._again:
            self._note_needs()
            if self.notes.count == known:
                # All of it was known, so that this would go on for ever. (No need that is raised: whoever plans a loop
                # would take that of its body for one of its own, and go on for ever, too.)
                lacking = ", ".join(map(str, self.needs))
                raise InternalError(
                    f"no plan of @{self.graph.name} is found{f', which lacks memory for {lacking}' if lacking else ''}"
                )
            return None
        # Equal kernels have one work, so that what asks for their code finds that without a comparison.
        works: dict[Work, Work] = {}
        kernels = [
            kernel
            if (work := works.setdefault(kernel.work, kernel.work)) is kernel.work
            else replace(kernel, work=work)
            for each in reversed(made)
            for kernel in each
        ]
        state = {self.placements[target].buffer for target, _ in self.graph.updates}
        kernels = delay_small(kernels + tail, state)
        return finish(self.graph, tuple(kernels), self.buffers, tuple(self.slots), self.constants, tuple(self.checks))

    def _plan_of_turn(self, graph: Graph, alone: bool) -> Plan:
        rules = self.rules if alone else replace(self.rules, alone=False)
        return make_plan(graph, self.target, slots_of(graph), rules, of_turn=True)

    def _tried(self, make: Callable[..., list[Kernel]], *args: Any) -> list[Kernel]:
        """What `make` makes of `args`; nothing where that needs something to be noted."""
        try:
            return make(*args)
        except NeedsStorage as need:
            self.needs.append(need)
        except _Again:
            self._again = True
        return []

    def _note_needs(self) -> None:
        """Note the needs of this round."""
        for need in self.needs:
            self.needed.update(need.nodes)
            for node, dense in need.nodes.items():
                # What has memory that does not serve lies in a concatenation, with the strides of that.
                (self.notes.dense if dense or node in self.placements else self.notes.stored).add(node)

    def _kernels(self, group: Group) -> list[Kernel]:
        if group.kind == "loop":
            return self._loop(group)
        if group.kind == "product":
            return self._product(group)
        if any(isinstance(node.op, Bodied) for node in group.members):
            return self._loop_kernels(group)
        (node,) = group.members
        if group.kind == "running":
            kernels = self._running(group, node)
        elif group.kind == "scatter":
            kernels = self._scatter(node)
        elif group.kind == "check":
            kernels = self._check(node)
        elif group.kind == "sorting":
            kernels = [self._sorted(node)]
        elif group.kind == "factoring":
            kernels = self._factored(node)
        else:
            kernels = self._side_by_side(node)
        return kernels + [self._copy(node, place, commits=False) for place in self.extra.get(node, ())]

    def _stores(self, group: Group, builder: BodyBuilder, skip: Node | None = None) -> None:
        """Store every member that has somewhere to go."""
        self._shorten(group, builder)
        for node in group.members:
            map_ = builder.map_of(node)
            places = list(self.extra.get(node, ()))
            if node in self.placements and node is not skip and (node in self.wanted or self._is_fixed(node)):
                places.insert(0, self.placements[node])
            for place in places:
                builder.store(builder.value(node, map_), place, map_, node.dtype)
        for node, place in self.beside.get(group, ()):
            builder.store(builder.constant(node.attrs["value"], node.dtype), place, builder.full, node.dtype)

    def _shorten(self, group: Group, builder: BodyBuilder) -> None:
        """Write the values in the midst of long chains of members, so that none is reached by a deep recursion."""
        if len(group.members) < CHAIN:
            return
        depth: dict[Node, int] = {}
        for node in sorted(group.members, key=self.grouping.position.__getitem__):
            read = (leaf for arg in node.args for leaf in self.grouping.leaves(arg))
            depth[node] = 1 + max((depth[leaf] for leaf in read if leaf in depth), default=0)
            if depth[node] % CHAIN == 0:
                builder.value(node, builder.map_of(node))

    def _is_fixed(self, node: Node) -> bool:
        """Whether the memory of `node` is not its own: a slot, or a part of another value."""
        placement = self.placements[node]
        return (
            placement.buffer.slot is not None
            or not placement.is_dense(node.shape)
            or placement.offset != 0
            or (placement.buffer.size != math.prod(node.shape))
        )

    def _loop(self, group: Group) -> list[Kernel]:
        builder = self._builder(group.space, group)
        self._stores(group, builder)
        if not any(isinstance(instruction, Store) for instruction in builder.code):
            return []
        return [self._loop_of(builder, tuple(group.members), group.reduced or ())]

    def _copies(self, node: Node, place: Placement, commits: bool) -> list[Kernel]:
        return [self._copy(node, place, commits)]

    def _running(self, group: Group, node: Node) -> list[Kernel]:
        axis = node.attrs["axis"]
        place = self._claim(node)
        builder = self._builder(group.space, group)
        arg = builder.value(node.args[0], builder.full)
        from_arg = builder.emit(_reduce(node, arg))
        builder.store(from_arg, place, builder.full, node.dtype)
        work = Running(self._body(builder, (axis,)), node.attrs["reverse"])
        return [Kernel(work, tuple(builder.params), (node,))]

    def _sorted(self, node: Node) -> Kernel:
        """Rows are found by strides that follow from the shape, so both sides lie dense."""
        (arg,) = node.args
        source, place = self._operand_place(arg), self._claim(node)
        for which, at in ((arg, source), (node, place)):
            if not at.is_dense(node.shape):
                raise NeedsStorage({which: False})
        assert isinstance(node.op, Sorting)
        axis = node.attrs["axis"]
        outer, inner = math.prod(node.shape[:axis]), math.prod(node.shape[axis + 1 :])
        work = Sorted(arg.dtype, outer, node.shape[axis], inner, node.op.gives_positions)
        return Kernel(work, ((source.buffer, source.offset), (place.buffer, place.offset)), (node,))

    def _factored(self, node: Node) -> list[Kernel]:
        """Matrices are found by strides that follow from the shapes, so all lie dense."""
        assert isinstance(node.op, Factoring)
        given = [arg for i, arg in enumerate(node.args) if i not in node.op.unread]
        before: list[Kernel] = []
        places = [self._operand(arg, before) for arg in given]
        place = self._claim(node)
        if not place.is_dense(node.shape):
            raise NeedsStorage({node: False})
        return [*before, Kernel(factored(node), (*places, (place.buffer, place.offset)), (node,))]

    def _scatter(self, node: Node) -> list[Kernel]:
        source, index, update = node.args
        place = self._claim(node)
        axis, batch = node.attrs["axis"], node.attrs.get("batch", 0)
        builder = self._builder(update.shape, first_param=1)
        after = axis + len(index.shape) - batch
        at = builder.value(index, builder.full[:batch] + builder.full[axis:after])
        value = builder.value(update, builder.full)
        outer = place.strides[:axis] + (0,) * (after - axis) + place.strides[axis + 1 :]
        assert isinstance(node.op, Indexing)
        work = Scatter(self._body(builder), at, value, outer, place.strides[axis], node.shape[axis], node.op.adds)
        params = ((place.buffer, place.offset), *builder.params)
        written = Kernel(work, params, (node,))
        if self._lies_in(source, place):
            return [written]
        copy = self._copy(source, place, commits=False)
        return [Kernel(copy.work, copy.params, (node,)), written]

    def _check(self, node: Node) -> list[Kernel]:
        index, asked = node.args[0], node.args[-1]
        builder = self._builder(asked.shape)
        at = builder.value(asked, builder.full)
        where = f"{node.loc}: " if node.loc is not None else ""
        error, before, after, low, high = condition_of(node)
        self.checks.append(Check(error, where + before, after))
        work = CheckRange(collapse_greedily(self._body(builder)), at, low, high, len(self.checks) - 1)
        kernels = [Kernel(work, tuple(builder.params), (node,))]
        if node in self.wanted or (node in self.placements and self._is_fixed(node)):
            place = self.placements[node]
            kernels.append(self._checked_value(node, index, place))
        return kernels

    def _checked_value(self, node: Node, index: Node, place: Placement) -> Kernel:
        """The operand in the dtype of the result; an index counts from the front."""
        builder = self._builder(index.shape)
        raw = builder.value(index, builder.full)
        wide = builder.emit(Apply("cast", (raw,), (("dtype", node.dtype),), node.dtype))
        assert isinstance(node.op, Checked)
        if not node.op.counts_back:
            builder.store(wide, place, builder.full, node.dtype)
            return self._loop_of(builder, (node,))
        zero = builder.constant(0, node.dtype)
        negative = builder.emit(Apply("lt", (wide, zero), (), np.dtype(np.bool_)))
        size = builder.constant(node.attrs["size"], node.dtype)
        wrapped = builder.emit(Apply("add", (wide, size), (), node.dtype))
        result = builder.emit(Apply("select", (negative, wrapped, wide), (), node.dtype))
        builder.store(result, place, builder.full, node.dtype)
        return self._loop_of(builder, (node,))

    def _side_by_side(self, node: Node) -> list[Kernel]:
        """A concatenation's parts that no kernel computes; a pad with gaps."""
        if joins(node):
            in_place = node in self.joined_in_place
            return [
                self._copy(part, place, commits=False)
                for part, place in self._parts(node)
                if (in_place or part not in self.grouping.group_of)
                and (place.buffer, place.offset) not in self._with_loops
                and not self._lies_in(part, place)
            ]
        whole = self._claim(node)
        (arg,) = node.args
        low, steps = node.attrs["low"], [gap + 1 for gap in node.attrs["interior"]]
        offset = whole.offset + sum(lo * s for lo, s in zip(low, whole.strides, strict=True))
        inner = Placement(whole.buffer, offset, tuple(s * t for s, t in zip(whole.strides, steps, strict=True)))
        fill = self._builder(node.shape)
        fill.store(fill.constant(node.attrs["value"], node.dtype), whole, fill.full, node.dtype)
        return [self._loop_of(fill, (node,)), self._copy(arg, inner, commits=False)]

    # -- contractions -------------------------------------------------------------------------------------------------

    def _product(self, group: Group) -> list[Kernel]:
        node = next(n for n in group.members if n.op.kind == "contraction")
        spec, sizes = subscripts_of(node), sizes_of(node)
        found = all_of(*(partial(self._operand_place, arg) for arg in node.args))
        operands = [
            (place.buffer, place.offset, dict(zip(letters, place.strides, strict=True)))
            for place, letters in zip(found, spec.operands, strict=True)
        ]
        # The operand whose letter is the result's last one has the columns, so that these are adjacent.
        rows_of = 1 if spec.result[-1] in spec.rows else 0
        spec = spec if rows_of == 0 else spec.swapped()
        a, b = operands[rows_of], operands[1 - rows_of]
        a_node, b_node = node.args[rows_of], node.args[1 - rows_of]
        strides = dict(zip(spec.result, contiguous_strides(node.shape), strict=True))
        parts = Split(spec.batch, spec.rows, spec.columns, (), spec.summed)
        if node.dtype.kind == "f" and any(map(reads_windows, node.args)):
            parts = self._split(spec, sizes, (a_node, a[2]), (b_node, b[2]), strides)
        a_row, a_col, b_row, b_col = all_of(
            partial(_run, parts.rows, a[2], sizes, a_node),
            partial(_run, parts.sums, a[2], sizes, a_node),
            partial(_run, parts.sums, b[2], sizes, b_node),
            partial(_run, parts.columns, b[2], sizes, b_node),
        )
        m, n, k = (math.prod(sizes[c] for c in part) for part in (parts.rows, parts.columns, parts.sums))
        runs = tuple((math.prod(sizes[c] for c in run), a[2][run[-1]], b[2][run[-1]]) for run in parts.runs)
        if parts.lines and not runs:
            runs = ((1, 0, 0),)
        fused = [member for member in group.members if member is not node]
        keep = node in self.wanted or node in self.extra or (node in self.placements and self._is_fixed(node))
        c_row = _run(parts.rows, strides, sizes, node)
        groups = [[spec.result.index(c) for c in part] for part in (parts.batch, parts.rows, parts.columns)]
        # What an epilogue could not write, as its places are no rows and columns of products, loops copy.
        copied = self.extra.get(node, ()) if node in self.notes.unfused else ()
        epilogue = self._epilogue(group, node, groups) if (fused or keep) and not copied else None
        if not fused and not keep:
            return []
        place = self._claim(node) if keep else None
        if place is not None and not place.is_dense(node.shape):
            raise NeedsStorage({node: True})
        if place is None and epilogue is not None:
            place = self._overwritten(node, _one_stride(parts.batch, strides, sizes), c_row, *epilogue)
        block = 0
        if place is None:
            place = self._own(node)
            buffer = self._enter(place.buffer)
            # All sums of a block of windows are made at once, if its rows are not too wide.
            block = self.rules.scratch(node.dtype, 1 if runs else k) if not runs or n <= WINDOW_WIDTH else 0
            if block and block < buffer.nbytes:
                buffer.size = block // node.dtype.itemsize
            else:
                block = 0
        # All matrices of a batch have their blocks in one place.
        batches = tuple((sizes[c], a[2].get(c, 0), b[2].get(c, 0), 0 if block else strides[c]) for c in parts.batch)
        params: tuple[tuple[Buffer, int], ...] = ((a[0], a[1]), (b[0], b[1]), (place.buffer, place.offset))
        body = None
        if epilogue is not None:
            body = epilogue[0]
            params += epilogue[1]
        work = Product(node.dtype, m, n, k, (a_row, a_col), (b_row, b_col), c_row, batches, bool(block), body, runs)
        if group.reduced is not None and not may_reduce(work, self.target):
            self.notes.unfused.add(node)
            raise _Again
        return [
            Kernel(work, params, tuple(group.members)),
            *(self._copy(node, place, commits=False) for place in copied),
        ]

    def _split(
        self,
        spec: Subscripts,
        sizes: dict[str, int],
        a: tuple[Node, dict[str, int]],
        b: tuple[Node, dict[str, int]],
        c: dict[str, int],
    ) -> Split:
        """How a contraction of windows is done where its operands lie; those that do not suit it are copied."""
        found = split(spec, sizes, a[1], b[1], c)
        if found is None:
            lacks_columns = b[1][spec.result[-1]] != 1
            raise NeedsStorage({b[0] if lacks_columns or not reads_windows(a[0]) else a[0]: False})
        return found

    def _overwritten(
        self, node: Node, batch: int | None, c_row: int, body: Body, params: tuple[tuple[Buffer, int], ...]
    ) -> Placement | None:
        """Where the product may be made so that the epilogue overwrites it, element by element, with its result."""
        if batch is None:
            return None
        read = {id(params[i.param - 3][0]) for i in body.code if isinstance(i, (Load, Gather))}
        own = (batch, c_row, 1)
        for instruction in body.code:
            if not isinstance(instruction, Store) or instruction.dtype != node.dtype:
                continue
            buffer, offset = params[instruction.param - 3]
            is_ours = buffer.slot is None or self.slots[buffer.slot].role == "output"
            same = all(a == b for a, b, n in zip(instruction.coefficients, own, body.domain, strict=True) if n != 1)
            if is_ours and same and id(buffer) not in read:
                return Placement(buffer, offset, contiguous_strides(node.shape))
        return None

    def _epilogue(self, group: Group, node: Node, groups: list[list[int]]) -> tuple[Body, Params] | None:
        """The body over (batch, m, n), each made of a group of dimensions of the result."""
        builder = self._builder(group.space, group, first_param=3)
        builder.tile_of = node
        self._stores(group, builder, skip=node)
        for place in self.extra.get(node, ()):
            builder.store(builder.value(node, builder.full), place, builder.full, node.dtype)
        if not any(isinstance(instruction, Store) for instruction in builder.code):
            return None
        runs, at = [], 0
        for dims in groups:
            runs.append(list(range(at, at + len(dims))))
            at += len(dims)
        whole = permuted(self._body(builder, group.reduced or ()), [d for dims in groups for d in dims])
        body = collapse(whole, runs)
        if body is None:
            self.notes.unfused.add(node)
            raise _Again
        return body, tuple(builder.params)


def _reduce(node: Node, arg: int) -> Reduce:
    return Reduce(node.op.name, arg, node.dtype)


def _one_stride(letters: str, strides: dict[str, int], sizes: dict[str, int]) -> int | None:
    """One stride for several letters, or None where there is none."""
    if any(strides[a] != strides[b] * sizes[b] for a, b in itertools.pairwise(letters)):
        return None
    return strides[letters[-1]] if letters else 0


def _run(letters: str, strides: dict[str, int], sizes: dict[str, int], node: Node) -> int:
    """One stride for several letters; the operand is copied where there is none."""
    if 0 in (sizes[c] for c in letters):
        return 0
    stride = _one_stride(letters, strides, sizes)
    if stride is None:
        raise NeedsStorage({node: False})
    return stride
