"""One walk backwards over a graph, which hands cotangents from results to operands; what rules do is up to `rule`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from adjit.autodiff.cotangent import Cotangent, alive, total_of
from adjit.autodiff.reach import Reach
from adjit.ir.builder import CONSTANT, ITEM, Builder, Value
from adjit.ir.graph import Graph, copy_node
from adjit.ir.node import Node
from adjit.ir.types import Tuple
from adjit.ops.calls import fitted

Rule = Callable[["Walk", Node, Sequence[Cotangent | None]], list[Cotangent | None]]
"""`rule(walk, node, a cotangent or None for each result)`: a contribution or None for each operand."""


_NOTHING = math.inf, 0


class Walk:
    """`b` goes on where the graph ended. A walk `of_turn` is one over the body of a loop."""

    def __init__(self, graph: Graph, reach: Reach, rule: Rule, of_turn: bool = False) -> None:
        self.graph = graph
        self.reach = reach
        self.rule = rule
        self._of_turn = of_turn
        self.b = Builder.after(graph)
        self._replaced: dict[Node, Node] = {}
        self._added: dict[Node, tuple[int, int]] = {}
        self._ahead: dict[Node, Sequence[Node]] = {}
        self._opened: dict[Node, Node] = {}
        self._waiting: dict[Node, list[Cotangent]] = {}
        self._results: dict[Node, list[list[Cotangent]]] = {}
        self._items: dict[tuple[Node, int], Node] = {}

    def seed(self, node: Node, ct: Cotangent) -> None:
        """Add a contribution, if anything is differentiated that the node depends on."""
        if node in self.reach.active:
            self._waiting.setdefault(node, []).append(ct)

    def run(self) -> None:
        """Hand on from the last node to the first."""
        for node in reversed(self.graph.nodes):
            if node not in self.reach.active:
                continue
            self.b.loc = node.loc
            cts = self._cotangents(node)
            if not any(cts):
                continue
            if node.op is ITEM:
                self._enter_result(node, cts[0])
                continue
            for arg, contribution in zip(node.args, self.rule(self, node, cts), strict=True):
                if contribution is not None:
                    self.seed(arg, contribution)

    def total(self, node: Node) -> Cotangent | None:
        """What a node was handed and did not hand on; None where that is nothing."""
        if node not in self._waiting:
            return None
        total = total_of(self.b, self._waiting[node], self._of_turn)
        return Cotangent(alive(self.b, total)) if total.guard is not None and node not in self.reach.singular else total

    def has_guards(self, node: Node) -> bool:
        """Whether it matters where what a node was handed is dead, and it is somewhere."""
        return node in self.reach.singular and any(part.guard is not None for part in self._waiting.get(node, ()))

    def taken(self, node: Node) -> Value | None:
        """The cotangent that a node has so far, for who will give it back with more in it; None where there is none, or
        it is known where that is dead."""
        if node not in self._waiting or self.has_guards(node):
            return None
        return alive(self.b, total_of(self.b, self._waiting.pop(node), self._of_turn))

    def _cotangents(self, node: Node) -> list[Cotangent | None]:
        if not isinstance(node.type, Tuple):
            return [self.total(node)]
        parts = self._results.pop(node, [])
        return [total_of(self.b, part, self._of_turn) if part else None for part in parts]

    def _enter_result(self, item: Node, ct: Cotangent | None) -> None:
        """What an item gets is of the result that it reads."""
        (of,) = item.args
        assert isinstance(of.type, Tuple)
        assert ct is not None
        if of not in self._results:
            self._results[of] = [[] for _ in of.type.items]
        self._results[of][item.attrs["index"]].append(ct)

    def item(self, of: Node, index: int) -> Node:
        """A result of a node of the graph: the node that reads it, if there is one."""
        if not self._items:
            self._items = {(node.args[0], node.attrs["index"]): node for node in self.graph.nodes if node.op is ITEM}
        if (of, index) not in self._items:
            self._items[of, index] = self.b.emit(ITEM, of, index=index)
        return self._items[of, index]

    def replace(self, old: Node, new: Node, place: int, added: int, ahead: Sequence[Node] = ()) -> None:
        """Have a node take another one's place when the graph is closed. Its results are those of the old one, with
        `added` more of them ahead of that at `place`, and any after them. The nodes `ahead` stand before it, in that
        order; they may be new, and depend on what the old one could."""
        self._replaced[old] = new
        self._ahead[old] = ahead
        if added:
            self._added[old] = place, added

    def open(self, old: Node, new: Node) -> None:
        """Have the body of a call stand in the place of another one, whose results are the first of its own."""
        self._opened[old] = new

    def closed(self, outputs: Iterable[Node]) -> tuple[list[Node], tuple[Node, ...]]:
        """All nodes, in their order, and the outputs, as they are where each node that was replaced has given way."""
        if not self._replaced and not self._opened:
            return self.b.nodes, tuple(outputs)
        image: dict[Node, Node] = {}
        order: dict[Node, None] = {}
        results: dict[Node, list[Node]] = {}
        for node in self.b.nodes:
            now = self._replaced.get(node, node)
            for each in self._ahead.get(node, ()):
                image[each] = copy_node(each, [image.get(arg, arg) for arg in each.args])
                order[image[each]] = None
            args = [image.get(arg, arg) for arg in now.args]
            if node.op is ITEM and node.args[0] in results:
                image[node] = results[node.args[0]][node.attrs["index"]]
                continue
            if node in self._opened:
                opened = self._opened[node]
                b = Builder(node.loc)
                results[node] = results[opened] = fitted(b, opened.attrs["body"], args)
                order.update(dict.fromkeys(b.nodes))
                continue
            place, added = self._added.get(node.args[0], _NOTHING) if node.op is ITEM else _NOTHING
            if node.op is ITEM and node.attrs["index"] >= place:
                image[node] = Node(ITEM, tuple(args), {"index": node.attrs["index"] + added}, node.type, node.loc)
            else:
                # An operand that the old one did not have is a constant.
                order.update(dict.fromkeys(arg for arg in args if arg.op is CONSTANT))
                image[node] = image[now] = copy_node(now, args)
            order[image[node]] = None
        return list(order), tuple(image.get(node, node) for node in outputs)
