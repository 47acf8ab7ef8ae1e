"""orient: elementwise work is done in the order of axes in which fewest elements are moved.

    %1 = transpose %x axes=(1,0) : f64[1000,25]     =>  %1 = exp %x : f64[25,1000]
    %2 = exp %1 : f64[1000,25]                          %2 = mul %1, %y : f64[25,1000]
    %3 = transpose %2 axes=(1,0) : f64[25,1000]
    %4 = mul %3, %y : f64[25,1000]

A **region** is elementwise nodes that read each other. What it reads and what reads it either has an order of axes (a
value of another op, a result of the program) or follows any (broadcasts of vectors, reductions, contractions). All
orders that a transpose at its border suggests are tried, and both of the last two axes; the region takes the one that
moves fewest elements, its own where that is as good. A reduction along short rows counts as a move: vectors that run
across the rows need no folding. The transposes that are left stand at the border; compose_moves joins them with those
there."""

from __future__ import annotations

import math

from adjit.ir.axes import inverse
from adjit.ir.builder import Builder
from adjit.ir.graph import Graph, copy_node, substitute_roots
from adjit.ir.node import Node
from adjit.tuned import SHORT_ROW

Order = tuple[int, ...]
"""How a value is found in what is computed in its place: value = transpose(computed, order)."""


def orient(graph: Graph) -> Graph:
    """The graph with the regions in another order where it pays."""
    users = {arg: list(dict.fromkeys(read)) for arg, read in graph.users().items()}
    roots = frozenset(graph.roots)
    orders: dict[Node, Order] = {}
    for region in _regions(graph):
        best = _best_order(region, users, roots)
        if best is not None:
            orders.update(dict.fromkeys(region, best))
    return _transposed(graph, orders) if orders else graph


def _is_member(node: Node) -> bool:
    return node.op.kind == "elementwise" and sum(n > 1 for n in node.shape) > 1


def _regions(graph: Graph) -> list[set[Node]]:
    """The members, joined where one reads another."""
    region_of: dict[Node, set[Node]] = {}
    for node in graph.nodes:
        if not _is_member(node):
            continue
        region = {node}
        for arg in node.args:
            other = region_of.get(arg)
            if other is not None and other is not region:
                small, region = sorted((region, other), key=len)
                region |= small
                region_of.update(dict.fromkeys(small, region))
        region_of[node] = region
    return list({id(region): region for region in region_of.values()}.values())


def _best_order(region: set[Node], users: dict[Node, list[Node]], roots: frozenset[Node]) -> Order | None:
    """The order that moves fewest elements; None where that is the one that the region has."""
    entries = list(dict.fromkeys(arg for node in region for arg in node.args if arg not in region))
    exits = [(node, user) for node in region for user in users.get(node, ()) if user not in region]
    same = tuple(range(len(entries[0].shape if entries else next(iter(region)).shape)))
    candidates = {arg.attrs["axes"] for arg in entries if arg.op.name == "transpose"}
    candidates |= {inverse(user.attrs["axes"]) for _, user in exits if user.op.name == "transpose"}
    if len(same) > 1:
        candidates.add((*same[:-2], same[-1], same[-2]))

    def is_free(arg: Node) -> bool:
        """Whether the product can be made in any order."""
        return arg.op.kind == "contraction" and arg not in roots and all(user in region for user in users[arg])

    def cost(order: Order) -> int:
        return (
            sum(_cost_of_reading(arg, order) for arg in entries if not is_free(arg))
            + sum(_cost_of_short_rows(node, user, order) for node, user in exits)
            + sum(_cost_of_use(node, user, order) for node, user in exits)
            # A result that is transposed takes a kernel of its own.
            + sum(2 * node.array_type.size for node in region if node in roots and order != same)
        )

    best = min((same, *sorted(candidates)), key=cost)
    return None if best == same else best


def _cost_of_reading(arg: Node, order: Order) -> int:
    """Elements that are moved so that `arg` can be read in an order."""
    if arg.is_splat or arg.op.kind == "creation":
        return 0
    if arg.op.name == "broadcast":
        places = [order[axis] for axis in arg.attrs["axes"]]
        return _moved(arg.args[0].shape, tuple(sorted(range(len(places)), key=places.__getitem__)))
    back = inverse(order)
    if arg.op.name == "transpose":
        return _moved(arg.args[0].shape, tuple(arg.attrs["axes"][axis] for axis in back))
    return _moved(arg.shape, back)


def _cost_of_use(node: Node, user: Node, order: Order) -> int:
    """Elements that are moved so that `user` can read `node`, which is computed in an order."""
    if user.op.kind == "contraction":
        return 0
    if user.op.kind == "reduction":
        left = [order[axis] for axis in range(len(order)) if axis not in user.attrs["axes"]]
        return _moved(user.shape, tuple(sorted(range(len(left)), key=left.__getitem__)))
    if user.op.name == "transpose":
        return _moved(user.shape, inverse(tuple(order[axis] for axis in user.attrs["axes"])))
    return _moved(node.shape, inverse(order))


def _cost_of_short_rows(node: Node, user: Node, order: Order) -> int:
    """What it takes to reduce along the last axis in memory where that does not fill a vector: about as much as to move
    the elements."""
    last = order.index(len(order) - 1)
    horizontal = user.op.kind == "reduction" and last in user.attrs["axes"]
    return node.array_type.size if horizontal and 1 < node.shape[last] < SHORT_ROW else 0


def _moved(shape: tuple[int, ...], axes: Order) -> int:
    """Elements that a transpose of this shape moves: none where all axes longer than 1 stay in order."""
    long = [axis for axis in axes if shape[axis] != 1]
    return 0 if long == sorted(long) else math.prod(shape)


def _transposed(graph: Graph, orders: dict[Node, Order]) -> Graph:
    """The graph in which each node of `orders` is computed in its order."""
    new: dict[Node, Node] = {node: node for node in graph.inputs}
    computed: dict[Node, Node] = {}
    for node in graph.nodes:
        order = orders.get(node)
        if order is None:
            new[node] = copy_node(node, [new[arg] for arg in node.args])
            continue
        b = Builder(node.loc)
        back = inverse(order)
        args = []
        for arg in node.args:
            if arg in computed and orders[arg] == order:
                args.append(computed[arg])
            elif arg.is_splat:
                transposed = tuple(arg.shape[axis] for axis in back)
                args.append(b.splat(arg.attrs["value"], arg.array_type.with_shape(transposed)))
            else:
                args.append(b.emit("transpose", new[arg], axes=back))
        computed[node] = b.emit(node.op, *args, **node.attrs)
        new[node] = b.emit("transpose", computed[node], axes=order)
    return substitute_roots(graph, new)
