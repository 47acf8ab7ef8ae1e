"""Patterns and derivatives as dense matrices, computed one column at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adjit.autodiff.forward_mode import jvp
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.roll import roll
from adjit.sparse.colours import Pattern
from adjit.sparse.loops import pattern_of
from adjit.sparse.sets import Sets, end_to_end
from adjit.trace.promote import type_of
from tests.autodiff.loops import floats_of
from tests.trace.check import trace_of


def float_outputs(graph: Graph) -> list[int]:
    return [i for i, node in enumerate(graph.outputs) if node.dtype.kind == "f"]


def values_alone(graph: Graph) -> Graph:
    """The graph with its float outputs alone."""
    return Graph(graph.name, graph.inputs, graph.nodes, tuple(graph.outputs[i] for i in float_outputs(graph)))


def marked(sets: Sets, width: int) -> np.ndarray:
    """Sets as a matrix of bools."""
    found = np.zeros((sets.size, width), bool)
    for table, rows in sets.parts:
        for element in np.flatnonzero(rows >= 0):
            row = rows[element]
            found[element, table.columns[table.starts[row] : table.starts[row + 1]]] = True
    return found


def proved(graph: Graph) -> np.ndarray:
    """The pattern of all float outputs by all float inputs."""
    graph = values_alone(graph)
    wrt = floats_of(graph)
    sets = end_to_end(pattern_of(graph, wrt, len(graph.outputs)))
    return marked(sets, sum(graph.inputs[i].array_type.size for i in wrt))


def pattern_for(function: Callable[..., Any], *args: Any) -> np.ndarray:
    """The pattern of a function of arrays, loops rolled up."""
    return proved(roll(trace_of(function, *map(type_of, args)).graph))


def jacobian(graph: Graph, at: Sequence[Any]) -> np.ndarray:
    """Of all float outputs by all float inputs, column by column, by the interpreter."""
    graph = values_alone(graph)
    wrt = floats_of(graph)
    made = jvp(graph, wrt)
    sizes = [graph.inputs[i].array_type.size for i in wrt]
    columns = []
    for column in range(sum(sizes)):
        unit = np.zeros(sum(sizes))
        unit[column] = 1
        parts = np.split(unit, np.cumsum(sizes)[:-1])
        tangents = [part.reshape(graph.inputs[i].shape) for part, i in zip(parts, wrt, strict=True)]
        found = evaluate(made, *at, *(x.astype(graph.inputs[i].dtype) for x, i in zip(tangents, wrt, strict=True)))
        columns.append(np.concatenate([np.zeros(0), *(x.ravel() for x in found[len(graph.outputs) :])]))
    rows = sum(node.array_type.size for node in graph.outputs)
    return np.array(columns).reshape(len(columns), rows).T


def pattern_of_matrix(x: np.ndarray) -> Pattern:
    """Where a matrix is other than 0."""
    rows, columns = np.nonzero(x)
    counts = np.bincount(rows, minlength=len(x))
    return Pattern(np.concatenate([[0], np.cumsum(counts)]), columns, x.shape[1])
