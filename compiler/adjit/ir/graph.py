"""Graph: a name, inputs, nodes in topological order, outputs, and updates of state; and how nodes become one.

`updates` says which value replaces which input at the end of a step, so that state is part of the graph and a
plan can prove its in-place writes. A graph that is nested in an attribute has explicit inputs, no captures.
"""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from adjit.ir.node import Node
from adjit_runtime.errors import FormatError


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Graph:
    """A static, typed, immutable SSA graph.

    `inputs` are nodes of op `input` (attr `name`); `nodes` are all other nodes, each after its args;
    `outputs` are what `return` names; `updates` pairs an input with the node whose value replaces it.
    """

    name: str
    inputs: tuple[Node, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Node, ...]
    updates: tuple[tuple[Node, Node], ...] = ()

    @property
    def roots(self) -> tuple[Node, ...]:
        """Every node whose value leaves the graph: outputs, then new values of state."""
        return self.outputs + tuple(value for _, value in self.updates)

    def users(self) -> dict[Node, list[Node]]:
        """For each node the nodes that read it, once for each operand; the roots are not counted."""
        found: dict[Node, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for arg in node.args:
                found[arg].append(node)
        return dict(found)

    def with_nodes(self, nodes: Iterable[Node]) -> Graph:
        """The same graph with another list of nodes."""
        return replace(self, nodes=tuple(nodes))

    def __str__(self) -> str:
        # The printer imports the graph; a graph prints itself through the hook that the printer sets.
        return _PRINTER[0](self)

    def __repr__(self) -> str:
        """Its text, for terminals: of a long graph the first lines."""
        lines = str(self).splitlines()
        if len(lines) <= MOST_SHOWN:
            return "\n".join(lines)
        return "\n".join([*lines[:MOST_SHOWN], f"... and {len(lines) - MOST_SHOWN} more lines; print(graph) shows all"])

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        return f"<pre>{html.escape(repr(self))}</pre>"

    def check_nesting(self) -> None:
        """Raise FormatError where graphs in attributes of graphs lie deeper than `MOST_NESTED`; a loop."""
        level, depth = [self], 0
        while level := list({id(graph): graph for outer in level for graph in outer.nested()}.values()):
            depth += 1
            if depth > MOST_NESTED:
                raise too_deep(self.name)

    def nested(self) -> list[Graph]:
        """The graphs in attributes of its nodes."""
        return [value for node in self.nodes for value in node.attrs.values() if isinstance(value, Graph)]

    def all_nodes(self) -> Iterator[Node]:
        """Its nodes, and those of the graphs in their attributes; a loop."""
        waiting = [self]
        while waiting:
            graph = waiting.pop()
            yield from graph.nodes
            waiting += graph.nested()


MOST_SHOWN = 60
"""Lines of a graph that are shown where nobody asked for its text."""
MOST_NESTED = 32
"""How deep graphs may lie in one another: text, printer and evaluator go down by recursion."""


def too_deep(name: str) -> FormatError:
    """The error of a graph with more in one another than `MOST_NESTED`."""
    return FormatError(f"@{name}: graphs lie more than {MOST_NESTED} deep in one another")


_PRINTER: list[Callable[[Graph], str]] = [lambda graph: f"<graph @{graph.name}, {len(graph.nodes)} nodes>"]


def set_printer(printer: Callable[[Graph], str]) -> None:
    """Called once by `ir.text`."""
    _PRINTER[0] = printer


def copy_node(node: Node, args: Sequence[Node]) -> Node:
    """`node` with other args, which have the types of its own; itself where they are its own."""
    if all(a is b for a, b in zip(node.args, args, strict=True)):
        return node
    return Node(node.op, tuple(args), node.attrs, node.type, node.loc)


def substitute_roots(graph: Graph, new: Mapping[Node, Node]) -> Graph:
    """The graph whose roots are the images of this one's; its nodes are found from the roots."""
    outputs = tuple(new[node] for node in graph.outputs)
    updates = tuple((target, new[value]) for target, value in graph.updates)
    nodes = computed((*outputs, *(value for _, value in updates)), graph.inputs)
    return Graph(graph.name, graph.inputs, nodes, outputs, updates)


def closed(name: str, inputs: Sequence[Node], nodes: Iterable[Node], outputs: Sequence[Node]) -> Graph:
    """The graph of those of `nodes` that the outputs need, in the order in which they are given: that of checks."""
    needed = set(topological(outputs))
    return Graph(name, tuple(inputs), tuple(node for node in nodes if node in needed), tuple(outputs))


def computed(roots: Iterable[Node], inputs: Iterable[Node]) -> tuple[Node, ...]:
    """The nodes that `roots` are computed by from `inputs`, args before users: what a graph of them holds."""
    given = frozenset(inputs)
    return tuple(node for node in topological(roots) if node not in given)


def with_updates(graph: Graph, count: int, targets: Sequence[int]) -> Graph:
    """The graph whose outputs after the first `count` replace the inputs numbered `targets`."""
    outputs, values = graph.outputs[:count], graph.outputs[count:]
    updates = tuple((graph.inputs[number], value) for number, value in zip(targets, values, strict=True))
    return replace(graph, nodes=computed(graph.outputs, graph.inputs), outputs=outputs, updates=updates)


def topological(roots: Iterable[Node]) -> list[Node]:
    """Every node reachable from `roots`, args before users, in a stable order; a loop with its own stack."""
    order: list[Node] = []
    seen: set[Node] = set()
    for root in roots:
        if root in seen:
            continue
        stack: list[tuple[Node, int]] = [(root, 0)]
        seen.add(root)
        while stack:
            node, position = stack.pop()
            if position == len(node.args):
                order.append(node)
                continue
            stack.append((node, position + 1))
            arg = node.args[position]
            if arg not in seen:
                seen.add(arg)
                stack.append((arg, 0))
    return order
