"""A graph as rows of numbers, in which repetition is found: what each node does, and what each operand reads.

%3 = slice %x start=(4) stop=(5) step=(1) : f64[1]
%4 = reshape %3 shape=() : f64[]                        %4 reads %x, cut and reshaped, at (4)
%5 = add %4, 0.5 : f64[]                                the nodes are %5 alone: a token, and two operands

Slices and reshapes are no nodes here, and neither are constants and inputs: they say where an operand lies. So a value
that is read in one turn of a loop and kept for another does not tell these turns apart."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from adjit.ir.builder import CONSTANT
from adjit.ir.equal import attribute_key, equal
from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.op import OPS
from adjit.tuned import ROLL_SCAN

Ints = tuple[int, ...]
Place = tuple[Ints, ...]
"""Where the cuts of a form begin."""

SLICE, RESHAPE = OPS["slice"], OPS["reshape"]
MOST_STEPS = 6
"""Cuts and reshapes one after the other that an operand may have; the next one is a node."""


class Cut(NamedTuple):
    """A slice, wherever it begins."""

    extent: Ints
    step: Ints


class Shaped(NamedTuple):
    """A reshape."""

    shape: Ints


Form = tuple[Cut | Shaped, ...]


class Interned:
    """Numbers for values, in the order in which they come."""

    def __init__(self, *values: Any) -> None:
        self.values = list(values)
        self._numbers = {value: i for i, value in enumerate(values)}

    def number(self, value: Any) -> int:
        """The number of a value."""
        found = self._numbers.setdefault(value, len(self.values))
        if found == len(self.values):
            self.values.append(value)
        return found


@dataclass(eq=False, slots=True)
class Reading:
    """The nodes that compute, and their operands one after the other: those of node i are at [first[i]:first[i + 1]],
    and what leaves the graph is read by one node more.

    tokens    per node a number for what it does: op, attributes, type, number of operands, line
    operands  the nodes that are read
    base      per operand the number of the node that it comes from; -1 - i for the i-th of the `leaves`
    form      per operand how it is cut and reshaped, as a number of `forms`
    place     per operand where its cuts begin, as a number of `places`
    sorts     per leaf a number for its type where it is a constant that is known, else -1
    weights   per node how many nodes lie before it, a loop counted as many as `ROLL_SCAN` and its body; then of all"""

    graph: Graph
    nodes: list[Node]
    numbers: dict[Node, int]
    tokens: np.ndarray
    first: np.ndarray
    operands: list[Node]
    base: np.ndarray
    form: np.ndarray
    place: np.ndarray
    leaves: list[Node]
    sorts: np.ndarray
    weights: np.ndarray
    forms: list[Form]
    places: list[Place]

    def weight(self, start: int, stop: int) -> int:
        """Nodes from one up to another, as `weights` counts them."""
        return int(self.weights[stop] - self.weights[start])

    def source(self, operand: int) -> Node:
        """The node, or the leaf, that an operand comes from."""
        base = int(self.base[operand])
        return self.nodes[base] if base >= 0 else self.leaves[-1 - base]

    def key(self, operand: int) -> tuple[int, int, int]:
        """What an operand reads, as numbers: equal for operands that are the same value."""
        return int(self.base[operand]), int(self.form[operand]), int(self.place[operand])


class _Reader:
    def __init__(self) -> None:
        self.where: dict[Node, tuple[int, int, int]] = {}
        self.leaves: list[Node] = []
        self.constants: dict[Any, int] = {}
        self.forms, self.places = Interned(()), Interned(())
        self.graphs: list[Graph] = []

    def leaf(self, node: Node) -> None:
        if node.op is CONSTANT:
            number = self.constants.setdefault(_constant_key(node), len(self.leaves))
        else:
            number = len(self.leaves)
        if number == len(self.leaves):
            self.leaves.append(node)
        self.where[node] = (-1 - number, 0, 0)

    def moves(self, node: Node) -> bool:
        """Whether a node says where an operand lies; then it is noted as that."""
        (x,) = node.args
        base, form, place = self.where[x]
        steps: Form = self.forms.values[form]
        if len(steps) >= MOST_STEPS:
            return False
        starts: Place = self.places.values[place]
        if node.op is RESHAPE:
            steps = (*steps, Shaped(node.attrs["shape"]))
        else:
            start, stop, step = node.attrs["start"], node.attrs["stop"], node.attrs["step"]
            extent = tuple(j - i for i, j in zip(start, stop, strict=True))
            if len(start) > 1 and all(n == 1 for n in extent):
                # An element by its number in C order: rows of a matrix that are read element by element are one way.
                flat = 0
                for i, n in zip(start, x.shape, strict=True):
                    flat = flat * n + i
                steps = (*steps, Shaped((math.prod(x.shape),)), Cut((1,), (1,)), Shaped(node.shape))
                starts = (*starts, (flat,))
            else:
                steps, starts = (*steps, Cut(extent, step)), (*starts, start)
        self.where[node] = (base, self.forms.number(steps), self.places.number(starts))
        return True

    def attributes(self, node: Node) -> Any:
        if not node.attrs:
            return None
        return tuple(self.same(value) if isinstance(value, Graph) else value for value in attribute_key(node))

    def same(self, graph: Graph) -> Graph:
        """The first graph that is equal to this one."""
        for known in self.graphs:
            if known is graph or (len(known.nodes) == len(graph.nodes) and equal(known, graph)):
                return known
        self.graphs.append(graph)
        return graph


def _constant_key(node: Node) -> Any:
    data = node.attrs.get("data")
    if data is not None:
        return data.digest, node.type
    value = node.attrs["value"]
    return struct.pack("d", value) if isinstance(value, float) else value, type(value), node.type


def _weight(node: Node) -> int:
    return 1 if node.op.kind != "scan" else ROLL_SCAN + len(node.attrs["body"].nodes)


def _is_known(leaf: Node) -> bool:
    """Whether a leaf is a constant whose elements are there."""
    return leaf.is_splat or (leaf.op is CONSTANT and leaf.attrs["data"].array is not None)


def read(graph: Graph) -> Reading:
    """The graph as numbers; some microseconds a node."""
    reader = _Reader()
    where, tokens = reader.where, Interned()
    nodes: list[Node] = []
    numbers: dict[Node, int] = {}
    found: list[int] = []
    counts: list[int] = []
    operands: list[Node] = []
    for node in graph.inputs:
        reader.leaf(node)
    for node in graph.nodes:
        op = node.op
        if op is CONSTANT:
            reader.leaf(node)
            continue
        if (op is SLICE or op is RESHAPE) and reader.moves(node):
            continue
        loc = node.loc
        number = where[node] = (len(nodes), 0, 0)
        numbers[node] = number[0]
        nodes.append(node)
        line = None if loc is None else (loc.line, loc.column)
        found.append(tokens.number((op, node.type, len(node.args), line, reader.attributes(node))))
        counts.append(len(node.args))
        operands += node.args
    operands += graph.roots
    counts.append(len(graph.roots))
    spots = np.array([where[operand] for operand in operands], np.int64).reshape(-1, 3)
    base, form, place = (np.ascontiguousarray(column) for column in spots.T)
    sorts = Interned()
    return Reading(
        graph=graph, nodes=nodes, numbers=numbers, operands=operands, leaves=reader.leaves,
        tokens=np.array(found, np.int64), first=_sums(counts), base=base, form=form, place=place,
        sorts=np.array([sorts.number(leaf.type) if _is_known(leaf) else -1 for leaf in reader.leaves], np.int64),
        weights=_sums([_weight(node) for node in nodes]), forms=reader.forms.values, places=reader.places.values,
    )  # fmt: skip


def _sums(counts: list[int]) -> np.ndarray:
    """How many there are before each place."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
