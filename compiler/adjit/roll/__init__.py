"""roll: what Python unrolled becomes loops.

%2 = tanh %x                          %0 = scan %x length=40 carried=1 sliced=0 body=graph @turn(%carried: f64[3]) ... {
%3 = mul %2, 0.5                        %0 = tanh %carried
%4 = tanh %3              =>            %1 = mul %0, 0.5
%5 = mul %4, 0.5                        return %1
...                                   }
%81 = mul %80, 0.5                    %1 = item %0 index=0

The values of all turns are computed by the same nodes in the same order, so that no bit changes. What differs from turn
to turn may be carried, or a part of an array that moves by a constant step, or a constant. Loops that spare few nodes
stay as they are: a graph that is small enough is a straight line, without a loop and its counter."""

from __future__ import annotations

from dataclasses import dataclass

from adjit.ir.graph import Graph, copy_node
from adjit.ir.node import Loc, Node
from adjit.roll.loops import Finder
from adjit.roll.reading import read
from adjit.roll.rebuild import Rebuild
from adjit.tuned import ROLL_LOOKS, ROLL_NODES, ROLL_SHARE

__all__ = ["LoopFound", "describe_rolls", "roll"]


@dataclass(frozen=True, slots=True)
class LoopFound:
    """A loop of a graph: the line of its first node, its turns, the nodes of a turn without constants, how many values
    are carried and how many bytes they have, and how deep in other loops it lies."""

    loc: Loc | None
    turns: int
    nodes: int
    carried: int
    carried_bytes: int
    depth: int

    def __str__(self) -> str:
        values = "value" if self.carried == 1 else "values"
        return (
            f"{self.loc or '?'}: a loop of {self.turns} turns, each of {self.nodes} nodes; it carries {self.carried} "
            f"{values}, {self.carried_bytes} bytes"
        )


def roll(graph: Graph, least: int = ROLL_NODES) -> Graph:
    """The graph with loops in place of nodes that repeat, in the bodies of its loops, too; itself where they do not
    spare at least so many nodes."""
    for _ in range(ROLL_LOOKS):
        if len(graph.nodes) < least and all(node.op.kind != "scan" for node in graph.nodes):
            break
        new = _look(graph, least)
        if new is graph:
            break
        graph = new
    return _rolled_bodies(graph, least)


def _look(graph: Graph, least: int) -> Graph:
    """The graph with the loops that are found at one look, if together they spare so many nodes."""
    reading = read(graph)
    finder = Finder(reading, max(least // ROLL_SHARE, 1))
    loops = finder.loops()
    if sum(reading.weight(loop.start, loop.last) for loop in loops) < least:
        return graph
    rebuild = Rebuild(reading, finder, loops)
    spared = rebuild.spared()
    if not spared:
        return graph
    return (rebuild if len(spared) == len(loops) else Rebuild(reading, finder, spared)).graph()


def _rolled_bodies(graph: Graph, least: int) -> Graph:
    bodies = {node.attrs["body"] for node in graph.nodes if node.op.kind == "scan"}
    rolled = {body: roll(body, least) for body in bodies}
    if all(body is new for body, new in rolled.items()):
        return graph
    new: dict[Node, Node] = {node: node for node in graph.inputs}
    for node in graph.nodes:
        new[node] = copy_node(node, [new[arg] for arg in node.args])
        if node.op.kind == "scan":
            attrs = {**node.attrs, "body": rolled[node.attrs["body"]]}
            new[node] = Node(node.op, new[node].args, attrs, node.type, node.loc)
    outputs = tuple(new[node] for node in graph.outputs)
    updates = tuple((target, new[value]) for target, value in graph.updates)
    return Graph(graph.name, graph.inputs, tuple(new[node] for node in graph.nodes), outputs, updates)


def describe_rolls(graph: Graph) -> list[LoopFound]:
    """The scans of a graph, outer ones ahead of those in them."""
    found: list[LoopFound] = []
    inside = [(node, 0) for node in reversed(graph.nodes) if node.op.kind == "scan"]
    while inside:
        node, depth = inside.pop()
        body, carried = node.attrs["body"], node.attrs.get("carried", 0)
        nodes = [each for each in body.nodes if not each.is_splat]
        sizes = [value.array_type.nbytes for value in body.inputs[:carried]]
        loc = nodes[0].loc if nodes else node.loc
        found.append(LoopFound(loc, node.attrs["length"], len(nodes), carried, sum(sizes), depth))
        inside += [(each, depth + 1) for each in reversed(nodes) if each.op.kind == "scan"]
    return found
