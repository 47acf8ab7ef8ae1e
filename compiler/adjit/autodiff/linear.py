"""The linear part of a derivative, apart from what it is computed of.

    (x) -> (value, aux)     early: (x) -> (value, aux, kept)     late, forward: (kept, tangents) -> those of the value
                                                                 late, reverse: (kept, cotangents) -> those of x

Only values have derivatives; what is beside them (aux) is stopped."""

from __future__ import annotations

from collections.abc import Sequence

from adjit.autodiff.forward_mode import jvp
from adjit.autodiff.reverse import vjp
from adjit.autodiff.split import Split, split
from adjit.ir.builder import Builder
from adjit.ir.graph import Graph, closed
from adjit.ir.types import is_float


def forward_part(graph: Graph, wrt: Sequence[int], values: int) -> Split:
    """From tangents of the inputs `wrt` to those of the first `values` outputs, of the floats among them."""
    made = jvp(stopped(graph, values), wrt, joint=False)
    outputs = made.outputs[: len(graph.outputs) + _floats(graph, values)]
    return _split(graph, closed(made.name, made.inputs, made.nodes, outputs))


def reverse_part(graph: Graph, wrt: Sequence[int], values: int) -> Split:
    """From cotangents of the floats among the first `values` outputs to those of the inputs `wrt`."""
    made = vjp(stopped(graph, values), wrt)
    inputs = made.inputs[: len(graph.inputs) + _floats(graph, values)]
    return _split(graph, closed(made.name, inputs, made.nodes, made.outputs))


def stopped(graph: Graph, values: int) -> Graph:
    """The graph, whose outputs after the first `values` have no derivative."""
    b = Builder.after(graph)
    rest = [
        b.emit("stop_gradient", node) if is_float(node.dtype) else node for node in graph.outputs[values:]
    ]  # fmt: skip
    return closed(graph.name, graph.inputs, b.nodes, (*graph.outputs[:values], *rest))


def _floats(graph: Graph, values: int) -> int:
    return sum(is_float(node.dtype) for node in graph.outputs[:values])


def _split(graph: Graph, made: Graph) -> Split:
    late = range(len(graph.inputs), len(made.inputs))
    return split(made, late, range(len(graph.outputs), len(made.outputs)))
