"""The engine under the local passes: one forward walk, in which a step looks at a node and may give a better one.

A step is a function `step(node, rewriter) -> Node | None`. Its node has rewritten args; what it returns has the same
type and is looked at again, as is every node that it makes with `rewriter.emit`, so that one walk reaches the end of
every chain. Nodes that are made carry the loc of the node that they replace. Dead nodes stay: eliminate_dead.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import replace
from typing import Any

import numpy as np

from adjit.ir.builder import CONSTANT
from adjit.ir.graph import Graph
from adjit.ir.node import Data, Loc, Node
from adjit.ir.op import OPS
from adjit.ir.types import Array, Tuple, Type
from adjit_runtime.errors import InternalError

Rewrite = Callable[[Node, "Rewriter"], Node | None]

FUEL = 64
"""Rewrites of one node in a row; more mean that two rules undo each other."""


class Rewriter:
    """The graph that is being made: its nodes so far, and how steps add to it.

    A walk that finds nothing must be cheap, as most are: what only rewriting needs is made when it is first asked for.
    """

    def __init__(self, graph: Graph, step: Rewrite) -> None:
        self.graph = graph
        self.step = step
        self.nodes: list[Node] = []
        self.loc: Loc | None = None
        self._new: dict[Node, Node] = {}
        self._present: set[Node] | None = None
        self._readers: dict[Node, int] | None = None

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
        """Whether `node`, or what it replaces, had more than one reader in the graph that is rewritten."""
        if self._readers is None:
            self._readers = {}
            for user in self.graph.nodes:
                for arg in user.args:
                    self._count(arg)
            for root in self.graph.roots:
                self._count(root)
        return self._readers.get(node, 1) > 1

    def _count(self, read: Node) -> None:
        assert self._readers is not None
        # Counted for the old node and for its replacement, as far as there is one by now.
        for node in {read, self._new.get(read, read)}:
            self._readers[node] = self._readers.get(node, 0) + 1

    def settle(self, node: Node) -> Node:
        """What is left when the step finds nothing more to do at `node`."""
        better = self.step(node, self)
        if better is None:
            return self._place(node)
        if self._present is None:
            self._present = {*self.graph.inputs, *self.nodes}
        for _ in range(FUEL):
            if better.type != node.type:
                if _strong(better.type) == _strong(node.type):
                    # A weak value is no replacement for a strong one: it would change what it meets.
                    return self._place(node)
                raise InternalError(f"a rewrite of {node.op.name} changes {node.type} into {better.type}")
            if better in self._present:
                return better
            node = better
            better = self.step(node, self)
            if better is None:
                return self._place(node)
        raise InternalError(f"the rewrites of {node.op.name} at {node.loc} do not end")

    def _place(self, node: Node) -> Node:
        if self._present is None:
            self.nodes.append(node)
        elif node not in self._present:
            self._present.add(node)
            self.nodes.append(node)
        return node

    def walk(self, interest: Container[str] | None) -> Graph:
        """The rewritten graph, or the graph itself where nothing was found."""
        graph, new = self.graph, self._new
        for node in graph.nodes:
            moved = node
            if new:
                for arg in node.args:
                    if arg in new:
                        args = tuple([new.get(arg, arg) for arg in node.args])
                        moved = Node(node.op, args, node.attrs, node.type, node.loc)
                        break
            if interest is not None and node.op.name not in interest:
                result = self._place(moved)
            else:
                self.loc = node.loc
                result = self.settle(moved)
            if result is not node:
                new[node] = result
                if self._readers is not None and node in self._readers:
                    self._readers[result] = self._readers.get(result, 0) + self._readers[node]
        if not new:
            return graph
        outputs = tuple(new.get(node, node) for node in graph.outputs)
        updates = tuple((target, new.get(value, value)) for target, value in graph.updates)
        return replace(graph, nodes=tuple(self.nodes), outputs=outputs, updates=updates)


def rewrite(graph: Graph, step: Rewrite, interest: Container[str] | None = None) -> Graph:
    """`graph` after `step` has looked at every node, or at those of the ops of `interest`."""
    return Rewriter(graph, step).walk(interest)


def _strong(type: Type) -> Type:
    return type if isinstance(type, Tuple) else type.strong
