"""A loop over tiles of rows: `tiled`, which the pass of that name makes of a step whose loss is a sum over rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.op import OPS, Attrs, register
from adjit.ir.types import Array, Tuple, Type
from adjit.ops.declare import Binding, Bodied
from adjit_runtime.errors import ShapeError

COMBINED = {"sum": "add", "any": "or", "all": "and", "max": "maximum", "min": "minimum"}
"""The reductions over rows that a loop over tiles may take part by part, each with the op that combines two parts."""


def combiners(combine: str) -> list[str]:
    """The ops of an attribute `combine`."""
    return [COMBINED[name] for name in combine.split(",")]


def _tiled_type(types: tuple[Array, ...], attrs: Attrs) -> Type:
    body, count, sliced = (attrs[name] for name in ("body", "count", "sliced"))
    sums = len(combiners(attrs["combine"]))
    if len(types) != len(body.inputs):
        raise ShapeError(f"tiled: {len(types)} operands for a body with {len(body.inputs)} inputs")
    for i, (outer, node) in enumerate(zip(types, body.inputs, strict=True)):
        inner = node.array_type
        shape = (inner.shape[0] * count, *inner.shape[1:]) if i < sliced else inner.shape
        if (outer.dtype, outer.shape) != (inner.dtype, shape):
            raise ShapeError(f"tiled: operand {i} is {outer}, the body takes {inner} of each of {count} tiles")
    results = [node.array_type.strong for node in body.outputs]
    stacked = [Array(t.dtype, (t.shape[0] * count, *t.shape[1:])) for t in results[sums:]]
    return Tuple((*results[:sums], *stacked))


def _evaluate_tiled(*arrays: np.ndarray, body: Graph, count: int, sliced: int, combine: str) -> tuple[np.ndarray, ...]:
    rules = [OPS[name].evaluate for name in combiners(combine)]
    sums = len(rules)
    totals: list[Any] = []
    parts: list[list[np.ndarray]] = []
    for tile in range(count):
        rows = [node.shape[0] for node in body.inputs[:sliced]]
        cut = [array[tile * n : (tile + 1) * n] for array, n in zip(arrays[:sliced], rows, strict=True)]
        results = evaluate(body, *cut, *arrays[sliced:])
        part = results[:sums]
        totals = [rule(a, b) for rule, a, b in zip(rules, totals, part, strict=True)] if tile else part
        parts.append(results[sums:])
    return (*totals, *(np.concatenate(column) for column in zip(*parts, strict=True)))


def _entering(attrs: Attrs) -> tuple[Binding, ...]:
    return tuple(Binding(i, "part" if i < attrs["sliced"] else "whole") for i in range(len(attrs["body"].inputs)))


def _leaving(attrs: Attrs) -> tuple[Binding, ...]:
    sums = len(combiners(attrs["combine"]))
    return tuple(Binding(i, "combined" if i < sums else "part") for i in range(len(attrs["body"].outputs)))


tiled = register(
    Bodied(
        name="tiled", kind="tiled", arity=None, infer=_tiled_type, evaluate=_evaluate_tiled,
        attr_kinds={"count": "int", "sliced": "int", "combine": "str", "body": "graph"},
        entering=_entering, leaving=_leaving,
        exempt="a pass makes it after the graph was differentiated",
    )
)  # fmt: skip
"""`body` for each of `count` tiles. The first `sliced` operands are cut along their first axis, the others whole. The
body's first results are combined over the tiles as `combine` says ("sum,sum,any"), the others stacked along their first
axis."""
