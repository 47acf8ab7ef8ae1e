"""untie: a derivative does not wait for checks that what it is of has been tied to.

    %2 = check_holds 0, %1 ... : i64[]
    %3 = reshape %x shape=(1) : f64[1]
    %4 = take %3, %2 axis=0 : f64[]                      (stays: the check is read by it)
    %5 = scatter_add 0.0 : f64[1], %2, %g axis=0     =>  %5 = reshape %g shape=(1) : f64[1]

A place along an axis of one element is known, whatever gives it. Of a whole program only, whose results are all wanted,
and only where each check is still read by something: else the check would not be made."""

from __future__ import annotations

from adjit.ir.builder import Builder
from adjit.ir.graph import Graph, copy_node, substitute_roots
from adjit.ir.node import Node
from adjit.ops.declare import Elementwise, Indexing


def untie(graph: Graph) -> Graph:
    """The graph whose derivatives are made of cotangents alone."""
    places = _places_of_checks(graph)
    tied = [node for node in graph.nodes if _is_tied(node, places)]
    if not tied:
        return graph
    new: dict[Node, Node] = {node: node for node in graph.inputs}
    b = Builder()
    some = set(tied)
    for node in graph.nodes:
        args = [new[arg] for arg in node.args]
        b.loc = node.loc
        new[node] = b.emit("reshape", args[2], shape=node.shape) if node in some else copy_node(node, args)
    found = substitute_roots(graph, new)
    return found if _checks(found) == _checks(substitute_roots(graph, {node: node for node in new})) else graph


def _places_of_checks(graph: Graph) -> set[Node]:
    """What is known when some checks have held, and has no other value than 0."""
    found: set[Node] = set()
    for node in graph.nodes:
        is_joined = isinstance(node.op, Elementwise) and node.args and all(arg in found for arg in node.args)
        if node.op.kind == "check" or is_joined:
            found.add(node)
    return found


def _is_tied(node: Node, places: set[Node]) -> bool:
    """Whether a node adds to the one element along an axis of zeros, at a place that checks give."""
    if not isinstance(node.op, Indexing) or not node.op.adds or node.args[1] not in places or node.args[1].shape:
        return False
    zeros = node.args[0]
    return zeros.is_splat and zeros.attrs["value"] == 0 and zeros.shape[node.attrs["axis"]] == 1


def _checks(graph: Graph) -> int:
    return sum(node.op.kind == "check" for node in graph.nodes)
