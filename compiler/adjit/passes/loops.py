"""Loops taken apart: what the passes that rewrite loops work on, and the walk that shows them each loop of a graph.

A pass gets a `Loop`, changes its lists, writes the new loop with `emit` and says what stands for each result that is
read. Body nodes are those of the old body as long as nothing replaces them (`substitute`): the new body holds what its
outputs need, in the order that it had, as that is the order of checks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from adjit.ir.builder import INPUT, Builder
from adjit.ir.graph import Graph, copy_node, topological
from adjit.ir.node import Node
from adjit.ir.types import Array
from adjit.ops.declare import Bodied


@dataclass(eq=False, slots=True)
class Entry:
    """An operand, and the input of the body that it is: a part of it for each turn, or the whole."""

    operand: Node
    input: Node


@dataclass(eq=False, slots=True)
class Carry:
    """A value that is carried: what it is before the first turn, in a turn, and after it."""

    operand: Node
    input: Node
    output: Node


@dataclass(eq=False, slots=True)
class Stack:
    """An output of the body whose values of all turns are a result."""

    output: Node


Result = Carry | Stack
Results = dict[int, Node]
"""By the number of a result that is read, the node that stands for it."""
LoopRewrite = Callable[["Loop", Builder], Results | None]


@dataclass(eq=False, slots=True)
class Loop:
    """A scan: `results` are its carries and its stacks by their numbers, `read` the numbers of those that are read.

    `turns` is the operand of a loop that is counted. The first carry of one that `stops` says whether it goes on."""

    node: Node
    read: frozenset[int]
    length: int
    turns: Node | None
    carries: list[Carry]
    parts: list[Entry]
    wholes: list[Entry]
    stacks: list[Stack]
    results: tuple[Result, ...]
    _order: tuple[Node, ...]
    _names: set[str] = field(default_factory=set)

    @property
    def body(self) -> Graph:
        """The body as it was."""
        body: Graph = self.node.attrs["body"]
        return body

    @property
    def stops(self) -> bool:
        """Whether it ends where its first carry is false."""
        return bool(self.node.attrs.get("stops", False))

    @property
    def runs_all(self) -> bool:
        """Whether each of its turns runs."""
        return self.turns is None and not self.stops

    def of(self, index: int) -> Array:
        """The type of a result."""
        type: Array = self.node.type.items[index]  # type: ignore[union-attr]
        return type

    def made(self) -> list[Result]:
        """What the loop gives now, in order."""
        return [*self.carries, *self.stacks]

    def taken(self) -> list[Carry | Entry]:
        """What the loop takes now, in order."""
        return [*self.carries, *self.parts, *self.wholes]

    def outputs(self) -> list[Node]:
        """The outputs of the body."""
        return [result.output for result in self.made()]

    def inputs(self) -> list[Node]:
        """The inputs of the body."""
        return [entry.input for entry in self.taken()]

    def nodes(self) -> tuple[Node, ...]:
        """What the body computes."""
        outputs = self.outputs()
        needed = ancestors(outputs)
        order = topological([*(node for node in self._order if node in needed), *outputs])
        return tuple(node for node in order if node.op is not INPUT)

    def whole(self, b: Builder, operand: Node, type: Array) -> Node:
        """The input of the body that is `operand` in each turn."""
        operand = fitted(b, operand, type)
        for entry in self.wholes:
            if entry.operand is operand and entry.input.type == type:
                return entry.input
        self.wholes.append(Entry(operand, self._input(type)))
        return self.wholes[-1].input

    def part(self, operand: Node, type: Array) -> Node:
        """The input of the body that is a turn's part of `operand`."""
        self.parts.append(Entry(operand, self._input(type)))
        return self.parts[-1].input

    def _input(self, type: Array) -> Node:
        if not self._names:
            self._names.update(str(node.attrs["name"]) for node in self.body.inputs)
        name = next(name for i in itertools.count() if (name := f"v{i}") not in self._names)
        self._names.add(name)
        return Builder(self.node.loc).input(name, type)

    def substitute(self, new: Mapping[Node, Node]) -> None:
        """Have the body use the values of `new` in place of its keys."""
        images = dict(new)
        order = []
        for node in self.nodes():
            if node not in images:
                images[node] = copy_node(node, [images.get(arg, arg) for arg in node.args])
            order.append(images[node])
        self._order = tuple(order)
        for result in self.made():
            result.output = images.get(result.output, result.output)

    def emit(self, b: Builder) -> Mapping[Result, Node]:
        """The loop as it is now; its results."""
        inputs, outputs = tuple(self.inputs()), tuple(self.outputs())
        body = self.body
        if inputs != body.inputs or outputs != body.outputs:
            body = Graph(body.name, inputs, self.nodes(), outputs)
        operands = [entry.operand for entry in self.taken()]
        if self.turns is not None:
            operands.append(self.turns)
        attrs = {**self.node.attrs, "carried": len(self.carries), "sliced": len(self.parts), "body": body}
        if "counted" in attrs:
            attrs["counted"] = self.turns is not None
        made = b.emit(self.node.op, *operands, **attrs)
        return {result: b.emit("item", made, index=i) for i, result in enumerate(self.made())}

    def emitted(self, b: Builder) -> Results:
        """The loop as it is now, for a pass that leaves the results what they are."""
        made = self.emit(b)
        return {index: made[self.results[index]] for index in self.read}


def fitted(b: Builder, node: Node, type: Array) -> Node:
    """`node` as a value of exactly this type: an operand may be weak where the body's input is not, or the other way
    round."""
    if node.type == type:
        return node
    if node.is_splat:
        return b.splat(node.attrs["value"], type)
    return b.emit("cast", node, dtype=type.dtype, weak=type.weak)


def has_loops(graph: Graph) -> bool:
    """Whether any node has a body."""
    return any(isinstance(node.op, Bodied) for node in graph.nodes)


def rewrite_loops(graph: Graph, step: LoopRewrite) -> Graph:
    """`graph` after `step` has looked at each of its loops; itself where none is changed."""
    read = _results_read(graph)
    if not read:
        return graph
    new: dict[Node, Node] = {node: node for node in graph.inputs}
    rewritten: dict[Node, Results] = {}
    order: list[Node] = []
    for node in graph.nodes:
        if node.args and node.args[0] in rewritten:
            new[node] = rewritten[node.args[0]][node.attrs["index"]]
            continue
        new[node] = moved = copy_node(node, [new[arg] for arg in node.args])
        b = Builder(node.loc)
        found = step(_taken_apart(moved, frozenset(read[node])), b) if node in read else None
        if found is None:
            order.append(moved)
        else:
            rewritten[node] = found
            order += b.nodes
    return substituted(graph, new, order) if rewritten else graph


def substituted(graph: Graph, new: Mapping[Node, Node], order: Iterable[Node]) -> Graph:
    """The graph whose roots are the images of this one's; its nodes are those of `order` that they need."""
    outputs = tuple(new[node] for node in graph.outputs)
    updates = tuple((target, new[value]) for target, value in graph.updates)
    roots = (*outputs, *(value for _, value in updates))
    needed = ancestors(roots)
    nodes = topological([*(node for node in order if node in needed), *roots])
    return Graph(graph.name, graph.inputs, tuple(node for node in nodes if node.op is not INPUT), outputs, updates)


def _results_read(graph: Graph) -> dict[Node, set[int]]:
    """The loops of a graph, each with the numbers of the results that are read."""
    found: dict[Node, set[int]] = {node: set() for node in graph.nodes if node.op.kind == "scan"}
    if found:
        for node in graph.nodes:
            if node.args and node.args[0] in found:
                found[node.args[0]].add(node.attrs["index"])
    return found


def _taken_apart(node: Node, read: frozenset[int]) -> Loop:
    body: Graph = node.attrs["body"]
    carried, sliced = node.attrs.get("carried", 0), node.attrs.get("sliced", 0)
    turns = node.args[-1] if node.attrs.get("counted", False) else None
    entries = list(zip(node.args, body.inputs, strict=turns is None))
    carries = [Carry(*entry, output) for entry, output in zip(entries[:carried], body.outputs, strict=False)]
    parts = [Entry(*entry) for entry in entries[carried : carried + sliced]]
    wholes = [Entry(*entry) for entry in entries[carried + sliced :]]
    stacks = [Stack(output) for output in body.outputs[carried:]]
    results: tuple[Result, ...] = (*carries, *stacks)
    return Loop(node, read, node.attrs["length"], turns, carries, parts, wholes, stacks, results, body.nodes)


def ancestors(nodes: Iterable[Node], stop: Iterable[Node] = ()) -> set[Node]:
    """The nodes and all that they are computed from, up to those of `stop`, which are left out."""
    found, left_out = set[Node](), set(stop)
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found and node not in left_out:
            found.add(node)
            waiting.extend(node.args)
    return found


def may_fail(node: Node) -> bool:
    """Whether a node may leave the program, or never end: it is not computed where it was not."""
    if not isinstance(node.op, Bodied):
        return node.op.kind == "check"
    inner = (node, *node.attrs["body"].all_nodes())
    return any(at.op.kind == "check" or at.attrs.get("stops", False) for at in inner)
