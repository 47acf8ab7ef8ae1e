"""across: what works on small matrices, one for each place of a batch, becomes a loop over the places.

    %1 = cholesky %x : f64[1000,4,4]                     %1 = scan %x, %g length=1000 sliced=2 body=graph ... {
    %2 = transpose %1 axes=(0,2,1) : f64[1000,4,4]   =>    %2 = cholesky %0 : f64[1,4,4] ...
    %3 = contract %2, %g [abc,acd->abd]                  %2 = item %1 index=0 : f64[1000,4,4]

A **region** has factorisations of matrices of few rows and what lies between them, comes after them or is computed for
them alone, as long as every place is independent of the others. A turn of its loop is so small that machine code runs
it for many places at once, one in each lane of a vector: nothing of it goes through memory. A region ends where
something needs all places, and where a turn has `ACROSS_WORK` vector instructions. What is cheap and read by nothing of
a region stays outside, where it is a part of what reads it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from adjit.ir.axes import is_linear, relation_of
from adjit.ir.builder import CONSTANT, Builder
from adjit.ir.graph import Graph, computed, copy_node, substitute_roots
from adjit.ir.node import Node
from adjit.ir.types import Array
from adjit.ops.across import cost_across, factors_in
from adjit.ops.contraction import extents_of
from adjit.ops.declare import Elementwise, Factoring, Movement, Reduction
from adjit.ops.lowered import lowered
from adjit.passes.tile import is_uniform
from adjit.tuned import ACROSS_ELEMENTS, ACROSS_PLACES, ACROSS_WORK, LIGHT_COST, SMALL_ROWS

Shape = tuple[int, ...]


def across(graph: Graph) -> Graph:
    """The graph with its regions as loops."""
    graph = lowered(graph)
    kinds = dict.fromkeys(
        (node.args[0].shape[:-2], node.args[0].dtype) for node in graph.nodes if isinstance(node.op, Factoring)
    )
    for lead, dtype in kinds:
        if math.prod(lead) >= ACROSS_PLACES:
            graph = _Regions(_with_sums_by_place(_Regions(graph, lead, dtype)), lead, dtype).as_loops()
    return graph


def _with_sums_by_place(regions: _Regions) -> Graph:
    """The graph in which what is summed over places and more of a region is summed at each place first: that is little
    to store."""
    graph, places = regions.graph, range(len(regions.lead))
    some = {node for node in graph.nodes if isinstance(node.op, Reduction) and regions.is_summed_whole(node)}
    if not some:
        return graph
    b = Builder()
    new: dict[Node, Node] = {node: node for node in graph.inputs}
    for node in graph.nodes:
        args = [new[arg] for arg in node.args]
        if node not in some:
            new[node] = copy_node(node, args)
            continue
        b.loc = node.loc
        each = b.emit(node.op, *args, axes=tuple(axis for axis in node.attrs["axes"] if axis not in places))
        new[node] = b.emit(node.op, each, axes=tuple(places))
    return substitute_roots(graph, new)


class _Regions:
    """The regions of one batch. Each node has a level: that of a region is the number of those that lie on a way to it,
    so that none depends on one of a higher level, nor on itself."""

    def __init__(self, graph: Graph, lead: Shape, dtype: np.dtype) -> None:
        self.graph = graph
        self.lead = lead
        self.places = math.prod(lead)
        self.dtype = dtype
        self.users = graph.users()
        self.roots = set(graph.roots)
        self.level: dict[Node, int] = {}
        self.hot: dict[Node, None] = {}
        self.working: set[Node] = set()
        self.spent: dict[int, int] = {}
        self.free: dict[Node, int] = {}
        self.at: dict[int, list[Node]] = {}
        for number, node in enumerate(graph.nodes):
            self._enter(node)
            self.at.setdefault(self.level[node], []).append(node)
            if self._is_free(node):
                self.free[node] = number

    # -- which nodes --------------------------------------------------------------------------------------------------

    def _enter(self, node: Node) -> None:
        base = max((self.level.get(arg, 0) for arg in node.args), default=0)
        is_hot = any(arg in self.hot and self.level[arg] == base for arg in node.args)
        cost = self._cost(node)
        if cost is None:
            self.level[node] = base + is_hot
            return
        self.working.add(node)
        if is_hot or isinstance(node.op, Factoring):
            while self.spent.get(base, 0) + cost > ACROSS_WORK:
                base += 1
            self.spent[base] = self.spent.get(base, 0) + cost
            self.hot[node] = None
        self.level[node] = base

    def _cost(self, node: Node) -> int | None:
        """Vector instructions for a place, of what works place by place."""
        if not isinstance(node.type, Array) or node.shape[: len(self.lead)] != self.lead or 0 in node.shape:
            return None
        if not all(isinstance(arg.type, Array) for arg in node.args) or not self._is_small(node):
            return None
        whole = cost_across(node)
        cost = None if whole is None else whole // self.places
        return cost if cost is not None and cost <= ACROSS_WORK and self._works(node) else None

    def _is_small(self, node: Node) -> bool:
        size = node.array_type.size
        return 0 < (size // self.places if self._has_places(node) else size) <= ACROSS_ELEMENTS

    def _has_places(self, node: Node) -> bool:
        return node.shape[: len(self.lead)] == self.lead

    def _works(self, node: Node) -> bool:
        """Whether each place of a node is made of the same place of its operands."""
        if isinstance(node.op, Factoring):
            rows = node.args[0].shape[-1]
            return node.dtype == self.dtype and rows <= SMALL_ROWS and node.args[0].shape[:-2] == self.lead
        if node.op.kind == "contraction":
            _, *sizes = extents_of(node)
            if max(sizes) > SMALL_ROWS or not all(self._by_place(node, i) for i in range(2)):
                return False
        return bool(node.args) and all(
            self._is_small(arg) and (self._by_place(node, i) or self._reads_whole(node, i))
            for i, arg in enumerate(node.args)
        )

    def _by_place(self, node: Node, operand: int) -> bool:
        """Whether a place reads the same place of an operand."""
        if isinstance(node.op, Factoring):
            return True
        if len(node.args[operand].shape) < len(self.lead):
            return False
        relation = relation_of(node)
        return relation is not None and all(relation.dimension(operand, a) == a for a in range(len(self.lead)))

    def _reads_whole(self, node: Node, operand: int) -> bool:
        """Whether all places read the same of an operand."""
        relation = relation_of(node)
        return relation is not None and not any(relation.meets(operand, a) for a in range(len(self.lead)))

    def _is_free(self, node: Node) -> bool:
        """Whether a node is made of nothing and the same at all places, as masks are: regions make it anew."""
        if not isinstance(node.type, Array) or not self._has_places(node) or not self._is_small(node):
            return False
        if node.op.kind == "creation":
            return all(is_uniform(node, axis) for axis in range(len(self.lead)))
        is_cheap = isinstance(node.op, Movement) or (isinstance(node.op, Elementwise) and node.op.cost <= LIGHT_COST)
        return is_cheap and node in self.working and all(arg in self.free or arg.is_splat for arg in node.args)

    def is_summed_whole(self, node: Node) -> bool:
        """Whether a reduction is over all places of a region, and over axes of each."""
        places = set(range(len(self.lead)))
        return node.args[0] in self.hot and cost_across(node) is not None and places < set(node.attrs["axes"])

    def _members(self, level: int) -> dict[Node, None]:
        """The nodes of the region of a level, args before users: what is made of nothing comes first."""
        here = self.at[level]
        found = {node for node in here if node in self.hot}
        kept: set[Node] = set()
        for node in reversed(here):
            if node in found and self._stays_outside(node, found, kept):
                found.discard(node)
            elif node in found and self._is_read_outside(node, found):
                kept.add(node)
        for node in reversed(here):
            if node in self.working and self._is_for(node, found):
                found.add(node)
        if not any(isinstance(node.op, Factoring) for node in found):
            return {}
        masks = self._free_of(found)
        return dict.fromkeys([*masks, *(node for node in here if node in found and node not in masks)])

    def _free_of(self, members: set[Node]) -> dict[Node, None]:
        """What is made of nothing and read by members, in order."""
        found: set[Node] = set()
        waiting = list(members)
        while waiting:
            some = {arg for arg in waiting.pop().args if arg in self.free} - found
            found |= some
            waiting += some
        return dict.fromkeys(sorted(found, key=self.free.__getitem__))

    def _is_read_outside(self, node: Node, members: set[Node]) -> bool:
        return node in self.roots or any(user not in members for user in self.users.get(node, ()))

    def _stays_outside(self, node: Node, members: set[Node], kept: set[Node]) -> bool:
        """Whether a node that no member reads is a part of what reads it instead, which takes no more memory."""
        if any(user in members for user in self.users.get(node, ())):
            return False
        if node.dtype != self.dtype or is_linear(node):
            return True
        if not isinstance(node.op, Elementwise | Movement):
            return False
        made_of = {arg for arg in node.args if arg in members and not self._is_read_outside(arg, members)}
        size = sum(arg.array_type.size for arg in made_of - kept)
        return size < node.array_type.size or (node not in self.roots and size <= node.array_type.size)

    def _is_for(self, node: Node, members: set[Node]) -> bool:
        """Whether a node that is cheap is computed for members alone."""
        users = self.users.get(node)
        if node in members or node in self.roots or not users or not all(user in members for user in users):
            return False
        return isinstance(node.op, Movement) or (isinstance(node.op, Elementwise) and node.op.cost <= LIGHT_COST)

    # -- the new graph ------------------------------------------------------------------------------------------------

    def as_loops(self) -> Graph:
        """The graph with each region as a loop."""
        new: dict[Node, Node] = {node: node for node in self.graph.inputs}
        changed = False
        for level in sorted(self.at):
            members = self._members(level) if level in self.spent else {}
            others = [node for node in self.at[level] if node not in members or node in self.free]
            self._copy(others, new)
            if members:
                changed = True
                self._loop(members, new)
                self._copy(others, new)
        return substitute_roots(self.graph, new) if changed else self.graph

    def _copy(self, nodes: Iterable[Node], new: dict[Node, Node]) -> None:
        """Those of the nodes whose operands are there."""
        for node in nodes:
            if node not in new and all(arg in new for arg in node.args):
                new[node] = copy_node(node, [new[arg] for arg in node.args])

    def _loop(self, members: dict[Node, None], new: dict[Node, Node]) -> None:
        body = _Turn(self, members)
        inside = set(members)
        read = [node for node in members if node not in self.free and self._is_read_outside(node, inside)]
        graph = body.graph(read)
        assert factors_in(graph)
        b = Builder(next(iter(members)).loc)
        parts = [self._reshaped(b, new[node], (self.places, *self._each(node))) for node in body.parts]
        whole = [new[node] for node in body.whole]
        loop = b.emit("scan", *parts, *whole, length=self.places, carried=0, sliced=len(parts), body=graph)
        for i, node in enumerate(read):
            b.loc = node.loc
            new[node] = self._reshaped(b, b.emit("item", loop, index=i), node.shape)

    def _each(self, node: Node) -> Shape:
        return node.shape[len(self.lead) :]

    @staticmethod
    def _reshaped(b: Builder, node: Node, shape: Shape) -> Node:
        return node if node.shape == shape else b.emit("reshape", node, shape=shape)


class _Turn:
    """What a region does at one place, and the nodes outside that its inputs stand for."""

    def __init__(self, regions: _Regions, members: dict[Node, None]) -> None:
        self.regions = regions
        self.builder = Builder()
        self.one = (1,) * len(regions.lead)
        self.parts: dict[Node, Node] = {}
        self.whole: dict[Node, Node] = {}
        self._new: dict[Node, Node] = {}
        for node in members:
            self.builder.loc = node.loc
            args = [self._operand(node, i) for i in range(len(node.args))]
            self._new[node] = self.builder.emit(node.op, *args, **self._attrs(node))

    def graph(self, read: list[Node]) -> Graph:
        """The body, whose results are those that something else reads."""
        results = []
        for node in read:
            self.builder.loc = node.loc
            shape = self.regions._each(node)
            results.append(self.builder.emit("reshape", self._new[node], shape=shape))
        inputs = (*self.parts.values(), *self.whole.values())
        return Graph("place", inputs, computed(results, inputs), tuple(results))

    def _attrs(self, node: Node) -> dict[str, object]:
        resize = node.op.resize if isinstance(node.op, Movement) else None
        return dict(node.attrs if resize is None else resize(node.attrs, (*self.one, *self.regions._each(node))))

    def _operand(self, user: Node, operand: int) -> Node:
        node = user.args[operand]
        if node in self._new:
            return self._new[node]
        if not self.regions._by_place(user, operand):
            return self._of_all(node)
        shape = (*self.one, *self.regions._each(node))
        if node.is_splat:
            return self.builder.splat(node.attrs["value"], node.array_type.with_shape(shape))
        if node.op.kind != "leaf" and all(is_uniform(node, axis) for axis in range(len(self.one))):
            return self.builder.emit(node.op, *map(self._of_all, node.args), **self._attrs(node))
        if node not in self.parts:
            type = Array(node.dtype, self.regions._each(node))
            self.parts[node] = Builder(node.loc).input(f"x{len(self.parts)}", type)
        return self.builder.emit("reshape", self.parts[node], shape=shape)

    def _of_all(self, node: Node) -> Node:
        """What all places read."""
        if node.op is CONSTANT:
            # What is known when code is written costs nothing.
            return self.builder.keep(Node(node.op, (), node.attrs, node.array_type.strong, node.loc))
        if node not in self.whole:
            self.whole[node] = Builder(node.loc).input(f"w{len(self.whole)}", node.array_type.strong)
        return self.whole[node]
