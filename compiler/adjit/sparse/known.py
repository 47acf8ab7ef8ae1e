"""Values in a graph that depend on no input, or on inputs that are known: indices, masks, factors. Computed with NumPy
where they are asked for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from adjit.ir.builder import CONSTANT
from adjit.ir.evaluate import array_of
from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.types import Tuple
from adjit_runtime.errors import AdjitError


class Known:
    """`of(node)` is the value of a node of `graph`; None where it is not known, or an error when it is computed."""

    def __init__(self, graph: Graph, inputs: Mapping[Node, np.ndarray]) -> None:
        self._values: dict[Node, np.ndarray | None] = dict(inputs)
        self._can: set[Node] = set(inputs)
        self.asked: set[Node] = set()
        """Inputs that values which were asked for were computed of."""
        self._inputs = frozenset(inputs)
        for node in graph.nodes:
            if not isinstance(node.type, Tuple) and all(arg in self._can for arg in node.args):
                self._can.add(node)

    def of(self, node: Node) -> np.ndarray | None:
        """The value of a node."""
        if node not in self._can:
            return None
        waiting = [node]
        while waiting:
            now = waiting[-1]
            if now in self._inputs:
                self.asked.add(now)
            missing = [arg for arg in now.args if arg not in self._values]
            self.asked.update(arg for arg in now.args if arg in self._inputs)
            if now not in self._values and missing:
                waiting += missing
                continue
            waiting.pop()
            if now not in self._values:
                self._values[now] = self._computed(now)
        return self._values[node]

    def _computed(self, node: Node) -> np.ndarray | None:
        if node.op is CONSTANT:
            return _constant(node)
        args = [self._values[arg] for arg in node.args]
        if any(arg is None for arg in args):
            return None
        try:
            with np.errstate(all="ignore"):
                return np.asarray(node.op.evaluate(*args, **node.attrs))
        except AdjitError:
            # An index out of range: the program says so when it runs.
            return None


def _constant(node: Node) -> np.ndarray:
    if node.is_splat:
        return np.broadcast_to(np.asarray(node.attrs["value"], node.dtype), node.shape)
    return array_of(node.attrs["data"])
