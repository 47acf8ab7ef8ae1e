"""The engine under the local passes: one forward walk, in which a step looks at a node and may give a better one.

A step is a function `step(node, rewriter) -> Node | None`. Its node has rewritten args; what it returns has the same
type and is looked at again, as is every node that it makes with `rewriter.emit`, so that one walk reaches the end of
every chain. Nodes that are made carry the loc of the node that they replace. Dead nodes stay: eliminate_dead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from adjit.ir.builder import CONSTANT
from adjit.ir.graph import Graph
from adjit.ir.node import Data, Loc, Node
from adjit.ir.op import OPS
from adjit.ir.types import Array, Tuple, Type
from adjit_runtime.errors import InternalError

Step = Callable[[Node, "Rewriter"], Node | None]

FUEL = 64
"""Rewrites of one node in a row; more mean that two rules undo each other."""


class Rewriter:
    """The graph that is being made: its nodes so far, and how steps add to it."""

    def __init__(self, graph: Graph, step: Step) -> None:
        self.step = step
        self.nodes: list[Node] = []
        self.loc: Loc | None = None
        self.allow_inexact = False
        self._present = set(graph.inputs)
        self._uses: dict[Node, int] = {}

    def emit(self, op: str, *args: Node, **attrs: Any) -> Node:
        """A new node of the op, or what the step makes of it."""
        declared = OPS[op]
        type = declared.infer(tuple(arg.type for arg in args), attrs)  # type: ignore[misc]
        return self.settle(Node(declared, args, attrs, type, self.loc))

    def splat(self, value: Any, type: Array) -> Node:
        """A splat constant of a value that is rounded to the dtype."""
        with np.errstate(all="ignore"):
            scalar = np.asarray(value).astype(type.dtype).item()
        return self._place(Node(CONSTANT, (), {"value": scalar}, type, self.loc))

    def array(self, array: np.ndarray) -> Node:
        """An array constant; a splat where all elements have the same bytes."""
        type = Array(array.dtype, array.shape)
        flat = np.ascontiguousarray(array).reshape(-1)
        if flat.size and flat.tobytes() == flat[:1].tobytes() * flat.size:
            return self.splat(flat[0], type)
        data = Data.of(array, "folded")
        return self._place(Node(CONSTANT, (), {"data": data}, type, self.loc))

    def is_shared(self, node: Node) -> bool:
        """Whether `node` had more than one reader in the graph that is rewritten."""
        return self._uses.get(node, 1) > 1

    def settle(self, node: Node) -> Node:
        """What is left when the step finds nothing more to do at `node`."""
        for _ in range(FUEL):
            better = self.step(node, self)
            if better is None:
                return self._place(node)
            if better.type != node.type:
                if _strong(better.type) == _strong(node.type):
                    # A weak value is no replacement for a strong one: it would change what it meets.
                    return self._place(node)
                raise InternalError(f"a rewrite of {node.op.name} changes {node.type} into {better.type}")
            if better in self._present:
                return better
            node = better
        raise InternalError(f"the rewrites of {node.op.name} at {node.loc} do not end")

    def _place(self, node: Node) -> Node:
        if node not in self._present:
            self._present.add(node)
            self.nodes.append(node)
        return node

    def walk(self, graph: Graph) -> Graph:
        """The rewritten graph; `graph` itself where nothing was found."""
        uses: dict[Node, int] = {}
        for node in graph.nodes:
            for arg in node.args:
                uses[arg] = uses.get(arg, 0) + 1
        for node in graph.roots:
            uses[node] = uses.get(node, 0) + 1
        new: dict[Node, Node] = {node: node for node in graph.inputs}
        self._uses = {node: uses.get(node, 0) for node in graph.inputs}
        changed = False
        for node in graph.nodes:
            self.loc = node.loc
            moved = node
            for arg in node.args:
                if new[arg] is not arg:
                    moved = Node(node.op, tuple([new[arg] for arg in node.args]), node.attrs, node.type, node.loc)
                    break
            result = self.settle(moved)
            new[node] = result
            self._uses[result] = self._uses.get(result, 0) + uses.get(node, 0)
            changed = changed or result is not node
        if not changed:
            return graph
        outputs = tuple(new[node] for node in graph.outputs)
        updates = tuple((target, new[value]) for target, value in graph.updates)
        return replace(graph, nodes=tuple(self.nodes), outputs=outputs, updates=updates)


def rewrite(graph: Graph, step: Step) -> Graph:
    """`graph` after `step` has looked at every node."""
    return Rewriter(graph, step).walk(graph)


def _strong(type: Type) -> Type:
    return type if isinstance(type, Tuple) else type.strong
