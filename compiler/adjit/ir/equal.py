"""`equal`: whether two graphs are the same up to the names and the order of their nodes; a loop, never a recursion.

Nodes correspond one to one, except splat constants, which are compared by value (bits; any NaN is any NaN) however
often they occur. Inputs and outputs correspond by position; op, attributes and type agree; arrays agree by digest.
Names, lines of source and nodes that no output needs are ignored. Operands are not reordered: x + y is not y + x.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any
from weakref import WeakKeyDictionary

from adjit.ir.graph import Graph, topological
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


_KEYS: WeakKeyDictionary[Graph, str] = WeakKeyDictionary()


def graph_key(graph: Graph) -> str:
    """A digest that two graphs share where they are `equal`, and else do not; made once for each graph."""
    found = _KEYS.get(graph)
    if found is None:
        found = _KEYS[graph] = _digest(graph)
    return found


def _digest(graph: Graph) -> str:
    places: dict[Node, int | str] = {node: i for i, node in enumerate(graph.inputs)}
    updates = sorted(graph.updates, key=lambda update: graph.inputs.index(update[0]))
    lines = [str(node.type) for node in graph.inputs]
    for node in topological((*graph.outputs, *(value for _, value in updates))):
        if node in places:
            continue
        line = f"{node.op.name} {_attribute_text(node)} {[places[arg] for arg in node.args]} {node.type}"
        if node.is_splat:
            # By value, however often it occurs.
            places[node] = line
        else:
            places[node] = len(lines)
            lines.append(line)
    lines.append(str([places[node] for node in graph.outputs]))
    lines.append(str([(places[target], places[value]) for target, value in updates]))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _attribute_text(node: Node) -> str:
    return str([graph_key(value) if isinstance(value, Graph) else value for value in attribute_key(node)])
