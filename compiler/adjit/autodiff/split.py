"""A graph in two: what can be computed early, and what waits for the inputs that come late.

    (x, dx) -> (sin(x), cos(x) * dx)     early: (x) -> (sin(x), cos(x))     late: (kept, dx) -> (kept * dx)

The late graph reads what the early one keeps for it. Constants, and what only spreads a smaller value, are made again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from adjit.ir.builder import INPUT, Builder
from adjit.ir.graph import Graph, closed
from adjit.ir.node import Node
from adjit.ops.declare import Movement


class Split(NamedTuple):
    """`early` has the inputs that do not come late; its outputs are those of the graph that are asked for early, then
    what is kept. `late` takes what is kept, then the late inputs."""

    early: Graph
    late: Graph


def split(graph: Graph, inputs: Collection[int], outputs: Sequence[int]) -> Split:
    """`graph`, whose inputs of these numbers come late, and with them the outputs of these numbers.

    No other output depends on a late input."""
    late = [node for i, node in enumerate(graph.inputs) if i in inputs]
    roots = [graph.outputs[i] for i in outputs]
    kept, again = cut(graph, roots, dependents(graph.nodes, late))
    early_inputs = tuple(node for i, node in enumerate(graph.inputs) if i not in inputs)
    early_outputs = (*(node for i, node in enumerate(graph.outputs) if i not in set(outputs)), *kept)
    early = closed(graph.name, early_inputs, graph.nodes, early_outputs)
    b = Builder()
    images = [b.input(str(node.attrs["name"]) if node.op is INPUT else "kept", node.type) for node in [*kept, *late]]
    body = Graph(graph.name, (*kept, *late), tuple(again), tuple(roots))
    return Split(early, b.graph(f"{graph.name}_late", b.inline(body, images)))


def dependents(nodes: Iterable[Node], sources: Iterable[Node]) -> set[Node]:
    """The sources, and those of `nodes` that are computed from them."""
    found = set(sources)
    for node in nodes:
        if any(arg in found for arg in node.args):
            found.add(node)
    return found


def cut(graph: Graph, roots: Iterable[Node], late: Collection[Node]) -> tuple[list[Node], list[Node]]:
    """What to keep for `roots`, and what is computed of it late: both in the order of the graph."""
    needed = set(roots)
    kept: list[Node] = []
    again: list[Node] = []
    for node in reversed(graph.nodes):
        if node not in needed:
            continue
        if node in late or _is_cheap(node):
            again.append(node)
            needed.update(node.args)
        else:
            kept.append(node)
    kept += [node for node in reversed(graph.inputs) if node in needed and node not in late]
    return kept[::-1], again[::-1]


def _is_cheap(node: Node) -> bool:
    """Whether to make a value again takes less memory than to keep it, and no work."""
    if not node.args:
        return True
    return isinstance(node.op, Movement) and sum(arg.array_type.size for arg in node.args) < node.array_type.size
