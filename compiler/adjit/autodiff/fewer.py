"""Loops keep fewer states for their gradients: `keep_fewer`, from graph to graph, ahead of the adjoint.

    %2 = scan %h, %x, %w length=100 body=...     =>     %2 = scan %h, %x, %w length=100 checkpoints=25 body=...

At level 1 a loop keeps the state ahead of each turn, at each further one half as many, down to the fewest with which no
turn runs more than `MOST_RUNS` times; all else is computed again (`checkpoints`). A loop whose number of turns is not
known stays at level 1, one whose user said what is kept stays as it is. With `inside` this holds for loops in loops,
too, else for those that lie in none. What is said of checkpoints says nothing of results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from adjit.autodiff.revolve import beta, forward_steps
from adjit.ir.graph import Graph, copy_node
from adjit.ir.node import Node
from adjit.ops.declare import Bodied
from adjit.ops.loops import MOST_TURNS, known_turns, runs_all

MOST_RUNS = 8
"""How often a turn may run forward: as few states as that takes are few enough."""


class Fewer(NamedTuple):
    """How far loops go; level 0: they keep what they like."""

    level: int = 0
    inside: bool = False


class Kept(NamedTuple):
    """A loop whose turns run `runs` times in all, with those of loops around it; it keeps `states` of its `length`
    turns, and takes `again` turns more for its gradient than one that keeps what it likes."""

    node: Node
    runs: int
    length: int
    states: int
    again: int


def keep_fewer(graph: Graph, fewer: Fewer) -> Graph:
    """The graph whose loops keep fewer states."""
    if not fewer.level:
        return graph
    new: dict[Node, Node] = {node: node for node in graph.inputs}
    for node in graph.nodes:
        new[node] = _with_fewer(copy_node(node, [new[arg] for arg in node.args]), fewer)
    outputs = tuple(new[node] for node in graph.outputs)
    updates = tuple((target, new[value]) for target, value in graph.updates)
    return Graph(graph.name, graph.inputs, tuple(new[node] for node in graph.nodes), outputs, updates)


def _with_fewer(node: Node, fewer: Fewer) -> Node:
    if not isinstance(node.op, Bodied):
        return node
    attrs = dict(node.attrs)
    if _may_keep_fewer(node):
        attrs["checkpoints"] = _states(node, fewer.level)
    if fewer.inside or attrs.get("length") == 1:
        attrs["body"] = keep_fewer(attrs["body"], fewer)
    return node if attrs == node.attrs else Node(node.op, node.args, attrs, node.type, node.loc)


def _may_keep_fewer(node: Node) -> bool:
    length = node.attrs.get("length", 0)
    return 2 <= length < MOST_TURNS and node.attrs.get("carried", 0) > 0 and not node.attrs.get("checkpoints", 0)


def _states(node: Node, level: int) -> int:
    length: int = node.attrs["length"]
    if not runs_all(node):
        return length
    return max(_fewest(length), -(-(length - 1) // (1 << (level - 1))))


def _fewest(length: int) -> int:
    """The fewest states with which no turn runs more than `MOST_RUNS` times."""
    states = 1
    while beta(states, MOST_RUNS) < length:
        states += 1
    return states


def loops_of(graphs: Sequence[Graph], level: int, inside: bool) -> Iterator[Kept]:
    """The loops that keep fewer states at a level, `keep_fewer` not having run."""
    waiting = [(graph, 1) for graph in graphs]
    while waiting:
        at, runs = waiting.pop()
        for node in at.nodes:
            if not isinstance(node.op, Bodied):
                continue
            length = node.attrs.get("length", 1)
            if _may_keep_fewer(node):
                states = _states(node, level)
                again = length + forward_steps(length, states) - (length - 1)
                yield Kept(node, runs * length, length, states, runs * again)
            if inside or length == 1:
                waiting.append((node.attrs["body"], runs * known_turns(length)))


def levels_of(graphs: Sequence[Graph]) -> Iterator[Fewer]:
    """All levels at which loops of some graphs keep fewer states than at the one before."""
    outer, every = ({each.node for each in loops_of(graphs, 1, inside)} for inside in (False, True))
    for inside in (False, True) if every - outer else (False,):
        level = 1
        while outer if not inside else every:
            yield Fewer(level, inside)
            before, after = ([each.states for each in loops_of(graphs, n, inside)] for n in (level, level + 1))
            if before == after:
                break
            level += 1
