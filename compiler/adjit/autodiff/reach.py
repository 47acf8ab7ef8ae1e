"""Which nodes a derivative flows through, and below which of them it may be singular; into the bodies of loops, too."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from adjit.autodiff.signs import made_of_poles
from adjit.ir.builder import ITEM
from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.types import Tuple, is_float
from adjit.ops.declare import Bodied, Differentiable


class Reach:
    """`active`: what depends on the targets in a differentiable way. `singular`: where the rule of that node, or of one
    between it and the targets, may make anything but zero of a cotangent of zero; of targets, those of `singular`.
    `bodies` has the same of the body of each loop that is active, which is that of a turn."""

    def __init__(
        self, graph: Graph, targets: Iterable[Node], singular: Iterable[Node] = (), of_turn: bool = False
    ) -> None:
        self._graph = graph
        self._of_turn = of_turn
        self.active: set[Node] = set(targets)
        self.singular: set[Node] = set(singular)
        self.bodies: dict[Node, Reach] = {}
        self._ends: dict[Node, list[list[Node]]] = {}
        for node in graph.nodes:
            if isinstance(node.type, Tuple):
                self._enter(node)
            elif node.op is ITEM:
                self._enter_item(node)
            elif node.op.name != "stop_gradient" and is_float(node.dtype):
                self._enter_value(node)

    def _enter_value(self, node: Node) -> None:
        active = [arg for arg in node.args if arg in self.active]
        if not active:
            return
        self.active.add(node)
        if _is_singular(node) or any(arg in self.singular for arg in active):
            self.singular.add(node)

    @functools.cached_property
    def _poles(self) -> set[Node]:
        """What is made of what has poles; found when it is first asked for. What a turn is given may have come from
        anything."""
        return made_of_poles(self._graph, self._graph.inputs if self._of_turn else ())

    def matters(self, node: Node, holds: bool) -> bool:
        """Whether it matters below a product where a cotangent of the node is dead: of a guard that `holds`, of a
        rectifier, only on account of poles, as what is there is no NaN."""
        return node in self.singular and (not holds or node in self._poles)

    def _enter(self, node: Node) -> None:
        """A node with several results."""
        if not any(arg in self.active for arg in node.args):
            return
        self.active.add(node)
        if isinstance(node.op, Bodied) and not node.op.exempt:
            self.bodies[node] = self._of_body(node, node.op)
            self._ends[node] = _ends_of(node, node.op)

    def _enter_item(self, item: Node) -> None:
        (of,) = item.args
        if of not in self.active or not is_float(item.dtype):
            return
        inner = self.bodies.get(of)
        if inner is None:
            self.active.add(item)
            self.singular.add(item)
            return
        ends = self._ends[of][item.attrs["index"]]
        if any(node in inner.active for node in ends):
            self.active.add(item)
        if any(node in inner.singular for node in ends):
            self.singular.add(item)

    def _of_body(self, node: Node, op: Bodied) -> Reach:
        """What is active in a turn, if what an earlier turn hands over is."""
        body: Graph = node.attrs["body"]
        inputs = {bound: body.inputs[i] for i, bound in enumerate(op.entering(node.attrs))}
        active = {inner for bound, inner in inputs.items() if node.args[bound.at] in self.active}
        singular = {inner for bound, inner in inputs.items() if node.args[bound.at] in self.singular}
        handed = [
            (inner, body.outputs[bound.at]) for bound, inner in inputs.items()
            if bound.how == "carried" and is_float(inner.dtype)
        ]  # fmt: skip
        while True:
            found = Reach(body, active, singular & active, of_turn=True)
            more = {inner for inner, left in handed if left in found.active} - active
            worse = {inner for inner, left in handed if left in found.singular} - singular
            if not more and not worse:
                return found
            active |= more
            singular |= worse


def _ends_of(loop: Node, op: Bodied) -> list[list[Node]]:
    """For each result of a loop the nodes of its body whose values it has: an output; and where there may be no turn,
    the input."""
    body: Graph = loop.attrs["body"]
    assert isinstance(loop.type, Tuple)
    ends: list[list[Node]] = [[] for _ in loop.type.items]
    for i, bound in enumerate(op.leaving(loop.attrs)):
        ends[bound.at].append(body.outputs[i])
        if bound.how == "carried":
            ends[bound.at].append(body.inputs[i])
    return ends


def _is_singular(node: Node) -> bool:
    """Whether the rule of `node` can make anything but zero of a cotangent of zero."""
    op = node.op
    return isinstance(op, Differentiable) and op.singular and not (op.regular is not None and op.regular(node))
