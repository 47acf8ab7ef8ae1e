"""`equal`: whether two graphs are the same up to the names and the order of their nodes; a loop, never a recursion.

Nodes correspond one to one, except splat constants, which are compared by value (bits; any NaN is any NaN) however
often they occur. Inputs and outputs correspond by position; op, attributes and type agree; arrays agree by digest.
Names, lines of source and nodes that no output needs are ignored. Operands are not reordered: x + y is not y + x.
"""

from __future__ import annotations

import struct
from typing import Any

from adjit.ir.graph import Graph
from adjit.ir.node import Data, Node

Key = tuple[Any, ...]


_LEFT_OUT = {"bool": False, "count": 0}
"""What an attribute of a kind is that is not there."""


def attribute_key(node: Node) -> Key:
    """The attributes as a hashable value: floats by their bits, arrays by digest, nested graphs by identity; a bool
    that is not there is false, a count 0. The name of an input is no part of it."""
    if node.op.name == "input":
        return ()
    return tuple(_key(node.attrs.get(name, _LEFT_OUT.get(kind))) for name, kind in node.op.attr_kinds.items())


def _key(value: Any) -> Any:
    if isinstance(value, float):
        return "nan" if value != value else struct.pack("d", value)
    if isinstance(value, Data):
        return value.digest
    return value


def equal(a: Graph, b: Graph) -> bool:
    """Whether `a` and `b` compute the same values by the same nodes."""
    graphs, seen = [(a, b)], {(a, b)}
    while graphs:
        nested: list[tuple[Graph, Graph]] = []
        if not _correspond(*graphs.pop(), nested):
            return False
        graphs += [pair for pair in dict.fromkeys(nested) if pair not in seen]
        seen.update(nested)
    return True


def _correspond(a: Graph, b: Graph, nested: list[tuple[Graph, Graph]]) -> bool:
    """One pair of graphs; pairs of graphs in attributes are left in `nested`."""
    lengths = [(len(g.inputs), len(g.outputs), len(g.updates)) for g in (a, b)]
    if lengths[0] != lengths[1]:
        return False
    places = [{node: i for i, node in enumerate(g.inputs)} for g in (a, b)]
    targets = [[place[target] for target, _ in g.updates] for place, g in zip(places, (a, b), strict=True)]
    if sorted(targets[0]) != sorted(targets[1]):
        return False
    values = [[value for _, (_, value) in sorted(zip(t, g.updates, strict=True), key=lambda pair: pair[0])]
              for t, g in zip(targets, (a, b), strict=True)]  # fmt: skip
    pairs = list(zip(a.inputs, b.inputs, strict=True))
    pairs += zip(a.outputs, b.outputs, strict=True)
    pairs += zip(*values, strict=True)
    image: dict[Node, Node] = {}
    origin: dict[Node, Node] = {}
    while pairs:
        x, y = pairs.pop()
        if x in image or y in origin:
            if image.get(x) is not y or origin.get(y) is not x:
                return False
            continue
        if not _alike(x, y, nested):
            return False
        if not x.is_splat:
            image[x], origin[y] = y, x
        pairs += zip(x.args, y.args, strict=True)
    return True


def _alike(x: Node, y: Node, nested: list[tuple[Graph, Graph]]) -> bool:
    if x.op is not y.op or x.type != y.type or len(x.args) != len(y.args):
        return False
    for one, other in zip(attribute_key(x), attribute_key(y), strict=True):
        if isinstance(one, Graph) and isinstance(other, Graph):
            nested.append((one, other))
        elif one != other or type(one) is not type(other):
            return False
    return True
