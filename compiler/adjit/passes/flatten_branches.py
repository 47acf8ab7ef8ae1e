"""flatten_branches: where both sides of a branch are cheap, both are computed, and the results selected.

    %1 = cast %p dtype=i64 : i64[]                        =>   %1 = mul %x, 2.0 : f64[]
    %2 = scan %y, %x, %1 length=1 carried=1 counted=true       %2 = select %p, %1, %y : f64[]
         body=(%before, %x) { return mul %x, 2.0 }
    %3 = item %2 index=0 : f64[]

So a loop with such a branch in its body may keep what it carries in registers. A branch is a loop that is counted and
has one turn at most. Bodies that may fail, or that do more than elementwise work on few elements, stay branches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from adjit.ir.builder import Builder
from adjit.ir.graph import Graph, copy_node
from adjit.ir.node import Node
from adjit.ir.types import BOOL, Array
from adjit.ops.declare import Elementwise
from adjit.passes.loops import fitted
from adjit.tuned import FLAT_COST, FLAT_ELEMENTS, STRAIGHT_LANES


def flatten_branches(graph: Graph) -> Graph:
    """The graph with cheap branches computed whether they are taken or not."""
    flat = {node for node in graph.nodes if node.op.name == "scan" and _is_cheap(node)}
    if not flat:
        return graph
    b = Builder()
    new = {node: node for node in graph.inputs}
    results: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        args = [new.get(arg, arg) for arg in node.args]
        b.loc = node.loc
        if node in flat:
            results[node] = _Flat(b, node, args).results()
        elif node.args and node.args[0] in flat:
            new[node] = fitted(b, results[node.args[0]][node.attrs["index"]], node.array_type)
        else:
            new[node] = b.keep(copy_node(node, args))
    outputs = tuple(new[node] for node in graph.outputs)
    updates = tuple((target, new[value]) for target, value in graph.updates)
    return replace(graph, nodes=tuple(b.nodes), outputs=outputs, updates=updates)


def _is_cheap(scan: Node) -> bool:
    """Whether a loop is a branch that may be computed for nothing."""
    attrs = scan.attrs
    if attrs["length"] != 1 or not attrs.get("counted", False) or attrs.get("stops", False):
        return False
    body = attrs["body"]
    most = FLAT_COST * sum(_vectors(node.array_type) for node in body.outputs)
    total = 0
    for node in body.nodes:
        cost = _cost(node)
        if cost is None:
            return False
        total += cost
        if total > most:
            return False
    return all(0 < node.array_type.size <= FLAT_ELEMENTS for node in (*body.inputs, *body.outputs))


def _cost(node: Node) -> int | None:
    """Instructions of a node, roughly; None where it is no light work."""
    if not isinstance(node.type, Array) or node.type.size > FLAT_ELEMENTS:
        return None
    if isinstance(node.op, Elementwise):
        return node.op.cost * _vectors(node.type)
    return _vectors(node.type) if node.op.kind in ("leaf", "creation", "movement") else None


def _vectors(type: Array) -> int:
    return -(-type.size // STRAIGHT_LANES)


class _Flat:
    """One branch, whose nodes go to `b`."""

    def __init__(self, b: Builder, scan: Node, args: Sequence[Node]) -> None:
        self.b = b
        self.scan = scan
        *self.operands, count = args
        is_flag = count.op.name == "cast" and count.args[0].dtype == BOOL
        self.taken = count.args[0] if is_flag else (b.value(count) > 0).node
        self.masks: dict[tuple[Node, tuple[int, ...]], Node] = {}

    def results(self) -> list[Node]:
        """What stands for each result of the loop."""
        body, carried = self.scan.attrs["body"], self.scan.attrs["carried"]
        inputs = [self._input(i, node.array_type) for i, node in enumerate(body.inputs)]
        made = self._inlined(body, inputs)
        # What is stacked is arbitrary where the branch is not taken.
        stacked = [self.b.emit("reshape", x, shape=(1, *x.shape)) for x in made[carried:]]
        return [*map(self._selected, made[:carried], inputs), *stacked]

    def _inlined(self, body: Graph, inputs: Sequence[Node]) -> list[Node]:
        new = dict(zip(body.inputs, inputs, strict=True))
        for node in body.nodes:
            # Bodies share nodes without args: each has its own here.
            made = copy_node(node, [new[arg] for arg in node.args]) if node.args else _again(node)
            new[node] = self.b.keep(made)
        return [new[node] for node in body.outputs]

    def _input(self, number: int, type: Array) -> Node:
        operand = self.operands[number]
        if operand.shape != type.shape:
            operand = self.b.emit("reshape", operand, shape=type.shape)
        return fitted(self.b, operand, type)

    def _selected(self, made: Node, before: Node) -> Node:
        """`made` where the branch is taken, else `before`, which may be what the opposite branch gives."""
        if self.taken.op.name != "not":
            return self.b.emit("select", self._mask(self.taken, made.shape), made, before)
        mask = self._mask(self.taken.args[0], made.shape)
        if before.op.name == "select" and _is_same_mask(before.args[0], mask):
            before = before.args[1]
        return self.b.emit("select", mask, before, made)

    def _mask(self, flag: Node, shape: tuple[int, ...]) -> Node:
        if not shape:
            return flag
        key = flag, shape
        if key not in self.masks:
            self.masks[key] = self.b.emit("broadcast", flag, shape=shape, axes=())
        return self.masks[key]


def _again(node: Node) -> Node:
    return Node(node.op, (), node.attrs, node.type, node.loc)


def _is_same_mask(x: Node, y: Node) -> bool:
    return x is y or (x.op.name == y.op.name == "broadcast" and x.args == y.args and x.attrs == y.attrs)
