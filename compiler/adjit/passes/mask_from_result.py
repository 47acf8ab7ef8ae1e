"""mask_from_result: what a rectifier let through is read from its result where that is kept anyway.

    %1 = le %0, 0.0 : bool[8]                  =>  %1 = le %0, 0.0 : bool[8]
    %2 = select %1, 0.0, %0 : f32[8]               %2 = select %1, 0.0, %0 : f32[8]
    %3 = select %1, 0.0, %g : f32[8]               %3 = le %2, 0.0 : bool[8]
                                                   %4 = select %3, 0.0, %g : f32[8]

The adjoint asks for the mask when all of the forward work is done, so that the value before the rectifier would be
stored beside the one after it, which the next layer's product wants. Both masks are the same bits, NaN and both zeros
included: for `x <= 0`, where zero or a positive multiple of x is selected, and for `x > 0`, where x is. Done where the
result is read by a product or leaves the graph, and the value before has no other reader."""

from __future__ import annotations

import math

from adjit.ir.graph import Graph, copy_node, substitute_roots
from adjit.ir.node import Node

Users = dict[Node, list[Node]]


def mask_from_result(graph: Graph) -> Graph:
    """The graph with masks of rectifiers that others read made from what the rectifiers give."""
    users, roots = graph.users(), frozenset(graph.roots)
    results: dict[Node, Node] = {}
    for node in graph.nodes:
        if node.op.name == "select" and _is_rectifier(node) and _pays(node, users, roots):
            results[node.args[0]] = node
    if not results:
        return graph
    new: dict[Node, Node] = {node: node for node in graph.inputs}
    masks: dict[Node, Node] = {}
    for node in graph.nodes:
        if node in new:
            continue
        found = [masks.get(arg, new[arg]) for arg in node.args]
        new[node] = copy_node(node, found)
        if node in results:
            # Made early: a reader of the mask may come before its result, which needs nothing of it.
            result = results[node]
            new[result] = copy_node(result, [new.get(arg, arg) for arg in result.args])
            masks[node] = Node(node.op, (new[result], node.args[1]), node.attrs, node.type, node.loc)
    return substitute_roots(graph, new)


def _is_rectifier(node: Node) -> bool:
    """Whether comparing the result with zero says what comparing the argument said."""
    mask, chosen, other = node.args
    if mask.op.name not in ("le", "gt") or not _is_zero(mask.args[1]):
        return False
    x = mask.args[0]
    return _is_zero(other) and chosen is x if mask.op.name == "gt" else other is x and _is_below(chosen, x)


def _is_below(value: Node, x: Node) -> bool:
    """Whether `value` is at most 0 where x is."""
    if value.op.name == "mul" and x in value.args:
        factor = value.args[1 if value.args[0] is x else 0]
        return factor.is_splat and 0 < factor.attrs["value"] < math.inf
    return _is_zero(value)


def _is_zero(node: Node) -> bool:
    return node.is_splat and node.attrs["value"] == 0


def _pays(node: Node, users: Users, roots: frozenset[Node]) -> bool:
    mask, *values = node.args
    x = mask.args[0]
    own = {mask, node, *(value for value in values if x in value.args)}
    spared = x.op.kind != "leaf" and x not in roots and own.issuperset(users[x])
    read_elsewhere = mask not in roots and any(user is not node for user in users[mask])
    return spared and read_elsewhere and (node in roots or _is_factor(node, users))


def _is_factor(node: Node, users: Users) -> bool:
    """Whether a product reads `node`, moved or not."""
    return any(
        user.op.kind == "contraction" or (user.op.kind == "movement" and _is_factor(user, users))
        for user in users.get(node, ())
    )
