"""Loops for tests: made of traced bodies, and taken apart again into their turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adjit.autodiff.reverse import vjp
from adjit.ir.builder import CONSTANT, ITEM, Builder
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph, computed
from adjit.ir.node import Node
from adjit.ir.types import Array, is_float
from adjit.ir.verify import verify
from adjit.trace.promote import type_of
from tests.trace.check import trace_of


@dataclass(frozen=True)
class Loop:
    """`body(*carried, *elements of parts, *whole)` gives a tuple: what is carried on, then what is stacked. A body may
    be a graph, too."""

    name: str
    body: Callable[..., Any] | Graph
    carried: Sequence[Any] = ()
    parts: Sequence[Any] = ()
    whole: Sequence[Any] = ()
    length: int = 4
    reverse: bool = False
    stops: bool = False
    turns: int | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def inputs(self) -> list[np.ndarray]:
        turns = [] if self.turns is None else [np.int64(self.turns)]
        return [np.asarray(x) for x in (*self.carried, *self.parts, *self.whole, *turns)]

    def graph(self) -> Graph:
        """One scan of the inputs; the outputs are all of its results."""
        b = Builder()
        nodes = [b.input(f"x{i}", type_of(array)) for i, array in enumerate(self.inputs)]
        return b.graph("loop", self.enter(b, nodes))

    def enter(self, b: Builder, operands: Sequence[Node]) -> list[Node]:
        """The scan of these operands; its results."""
        first, last = len(self.carried), len(self.carried) + len(self.parts)
        types = [
            Array(x.dtype, x.shape[1:]) if first <= i < last else Array(x.dtype, x.shape)
            for i, x in enumerate(self.inputs[: last + len(self.whole)])
        ]
        body = self.body if isinstance(self.body, Graph) else trace_of(self.body, *types).graph
        scan = b.emit(
            "scan", *operands, body=body, length=self.length, carried=first,
            sliced=len(self.parts), reverse=self.reverse, stops=self.stops, counted=self.turns is not None,
        )  # fmt: skip
        return [b.emit(ITEM, scan, index=i) for i in range(len(scan.type.items))]  # type: ignore[union-attr]


def floats_of(graph: Graph) -> list[int]:
    """The inputs that a derivative is taken by."""
    return [i for i, node in enumerate(graph.inputs) if is_float(node.dtype)]


def adjoint(graph: Graph) -> Graph:
    """The vjp by all floats, verified."""
    made = vjp(graph, floats_of(graph))
    verify(made)
    return made


def unroll(graph: Graph) -> Graph:
    """The graph with the turns of each scan in a row, those of scans in bodies, too."""
    b = Builder()
    outputs = tuple(_inline(b, graph, graph.inputs))
    # A constant of the body stands once for all turns.
    unrolled = Graph(graph.name, graph.inputs, computed(outputs, graph.inputs), outputs)
    verify(unrolled)
    return unrolled


def _inline(b: Builder, graph: Graph, inputs: Sequence[Node]) -> list[Node]:
    """The outputs of a graph for these inputs."""
    image = dict(zip(graph.inputs, inputs, strict=True))
    turns: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        args = [image[arg] for arg in node.args if arg in image]
        if node.op.name == "scan":
            turns[node] = _turns(b, args, **node.attrs)
        elif node.op is ITEM:
            image[node] = turns[node.args[0]][node.attrs["index"]]
        else:
            image[node] = _again(b, node, args)
    return [image[node] for node in graph.outputs]


def _again(b: Builder, node: Node, args: Sequence[Node]) -> Node:
    # Made anew, as a body's inputs may be weak where the operands are not.
    return b.keep(node) if node.op is CONSTANT else b.emit(node.op, *args, **node.attrs)


def _turns(
    b: Builder, args: Sequence[Node], *, body: Graph, length: int, carried: int = 0, sliced: int = 0,
    reverse: bool = False, **ways: bool,
) -> list[Node]:  # fmt: skip
    assert not any(ways.values()), "how many turns there are is not known"
    now, parts, whole = args[:carried], args[carried : carried + sliced], args[carried + sliced :]
    stacked: list[dict[int, Node]] = [{} for _ in body.outputs[carried:]]
    for i in reversed(range(length)) if reverse else range(length):
        elements = [_element(b, part, i) for part in parts]
        made = _inline(b, body, [*now, *elements, *whole])
        now = made[:carried]
        for column, value in zip(stacked, made[carried:], strict=True):
            column[i] = value
    types = [node.array_type for node in body.outputs[carried:]]
    return [*now, *(_stack(b, column, type) for column, type in zip(stacked, types, strict=True))]


def _element(b: Builder, x: Node, i: int) -> Node:
    value, rest = b.value(x), x.shape[1:]
    zeros = (0,) * len(rest)
    row = b.slice(value, start=(i, *zeros), stop=(i + 1, *rest), step=(1,) * len(x.shape))
    element: Node = b.reshape(row, shape=rest).node
    return element


def _stack(b: Builder, values: dict[int, Node], type: Array) -> Node:
    if not values:
        return b.splat(0, Array(type.dtype, (0, *type.shape)))
    rows = [b.reshape(b.value(values[i]), shape=(1, *type.shape)) for i in sorted(values)]
    whole: Node = b.concatenate(*rows, axis=0).node
    return whole


def scans(graph: Graph) -> list[Node]:
    """The scans of a graph, those in bodies left out."""
    return [node for node in graph.nodes if node.op.name == "scan"]


def points(graph: Graph, given: Sequence[np.ndarray], seed: int = 0) -> list[np.ndarray]:
    """`given`, and random arrays for the graph's further inputs, which are cotangents."""
    rng = np.random.default_rng(seed)
    more = [np.asarray(rng.normal(size=node.shape), node.dtype) for node in graph.inputs[len(given) :]]
    return [*given, *more]


def differences(graph: Graph, at: Sequence[np.ndarray], weights: Sequence[np.ndarray], wrt: int) -> np.ndarray:
    """Central differences of the sum of the float outputs, weighted, by input `wrt`."""

    def total(x: np.ndarray) -> float:
        outputs = evaluate(graph, *at[:wrt], x, *at[wrt + 1 :])
        return float(
            sum(np.sum(w * y) for w, y in zip(weights, (y for y in outputs if y.dtype.kind == "f"), strict=True))
        )

    step, found = 1e-6, np.zeros(at[wrt].shape)
    for index in np.ndindex(*at[wrt].shape):
        moved = np.zeros(at[wrt].shape)
        moved[index] = step
        found[index] = (total(at[wrt] + moved) - total(at[wrt] - moved)) / (2 * step)
    return found
