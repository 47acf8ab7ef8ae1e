"""Helpers: a function with loops, traced and run, gives what it gives in plain Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optree

import adjit
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.text import parse
from adjit.ir.types import Array
from adjit.ir.verify import verify
from adjit.trace import Traced, trace_flat
from adjit.trace.promote import type_of


def trace_of(function: Callable[..., Any], *args: Any) -> Traced:
    """`function` traced for arguments like these, whose leaves are named x0, x1, ..."""
    leaves, tree = optree.tree_flatten(args)
    types: list[Array] = [type_of(leaf) for leaf in leaves]
    arrays = [i for i, leaf in enumerate(leaves) if isinstance(leaf, np.ndarray)]

    def call(tracers: list[Any]) -> Any:
        return function(*optree.tree_unflatten(tree, tracers))  # type: ignore[misc]

    traced = trace_flat("f", call, types, [f"x{i}" for i in range(len(types))], arrays)
    verify(traced.graph)
    assert str(parse(str(traced.graph))) == str(traced.graph)
    return traced


def run(function: Callable[..., Any], *args: Any) -> Any:
    """What a call of the compiled function gives; evaluating the graph gives the same."""
    found = adjit.jit(function)(*args)
    traced = trace_of(function, *args)
    evaluated = optree.tree_unflatten(traced.out_tree, evaluate(traced.graph, *optree.tree_leaves(args)))
    agree(found, evaluated)
    return found


def same(function: Callable[..., Any], *args: Any) -> Any:
    """Trace and plain Python give the same trees, dtypes, shapes and values, and leave `args` as they are; gives what
    the trace gives."""
    kept = optree.tree_map(np.array, args)
    plain = function(*args)
    for before, after in zip(optree.tree_leaves(kept), optree.tree_leaves(args), strict=True):
        np.testing.assert_array_equal(before, after)
    found = run(function, *args)
    agree(found, plain)
    return found


def agree(found: Any, expected: Any) -> None:
    """Two results have the same trees, dtypes, shapes and, but for rounding, values."""
    leaves, tree = optree.tree_flatten(found)
    wanted, expected_tree = optree.tree_flatten(expected)
    assert tree == expected_tree
    for have, want in zip(map(np.asarray, leaves), map(np.asarray, wanted), strict=True):
        assert (have.dtype, have.shape) == (want.dtype, want.shape)
        if want.dtype.kind == "f":
            # Sums are taken in another order, and functions differ from libm's in the last bits.
            np.testing.assert_allclose(have, want, rtol=1e-5 if want.dtype == np.float32 else 1e-12, atol=1e-12)
        else:
            np.testing.assert_array_equal(have, want)


def scans(graph: Graph) -> list[Node]:
    """The loops of a graph, those in bodies not among them."""
    return [node for node in graph.nodes if node.op.name == "scan"]


def scan_of(function: Callable[..., Any], *args: Any) -> Node:
    """The one loop of a traced function."""
    (node,) = scans(trace_of(function, *args).graph)
    return node


def ops(graph: Graph) -> list[str]:
    """The names of the ops of a graph, splats not among them."""
    return [node.op.name for node in graph.nodes if not node.is_splat]
