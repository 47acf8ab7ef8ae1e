"""widen: what is narrower than machine code computes in is carried as the next wider dtype.

    graph @f(%x: i8[3]) {                              graph @f(%x: i32[3]) {
      %0 = slice %x start=(0) stop=(2) step=(1)     =>   %0 = slice %x start=(0) stop=(2) step=(1)
      %1 = cast %0 dtype=f64 : f64[2]                    %1 = cast %0 dtype=f64 : f64[2]
      return %1                                          return %1
    }                                                  }

Every value of the narrow dtype is one of the wide, so moving, comparing, choosing, casting and indexing give what they
gave. Raises DTypeError for arithmetic, which would wrap or round in the narrow dtype, and for a narrow result: a
stage of its own, ahead of the passes, as what it refuses is the user's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adjit.ir.graph import Graph
from adjit.ir.node import Data, Node
from adjit.ir.types import Array, Tuple, dtype_name
from adjit.ops.declare import Bodied
from adjit_runtime.errors import DTypeError
from adjit_runtime.program import is_narrow, wide_dtype

_EXACT = frozenset(
    (
        "input", "constant", "reshape", "transpose", "broadcast", "slice", "concatenate", "flip", "pad", "take",
        "scatter", "select", "stop_gradient", "cast", "eq", "ne", "lt", "le", "gt", "ge", "isnan", "isfinite",
        "signbit", "maximum", "minimum", "max", "min", "argmax", "argmin", "check_index", "item", "sort", "argsort",
    )
)  # fmt: skip
"""The ops that give in the wide dtype what they give in the narrow one."""


def widen(graph: Graph) -> Graph:
    """The graph without narrow dtypes, in bodies of loops neither; itself where it has none."""
    wide = _wide(graph)
    for node in graph.outputs:
        if _is_narrow(node):
            raise _refused(node, "a result")
    return wide


def _wide(graph: Graph) -> Graph:
    if not _has_narrow(graph):
        return graph
    new: dict[Node, Node] = {}
    for node in (*graph.inputs, *graph.nodes):
        new[node] = _widened(node, [new[arg] for arg in node.args])
    return Graph(
        graph.name,
        tuple(new[node] for node in graph.inputs),
        tuple(new[node] for node in graph.nodes),
        tuple(new[node] for node in graph.outputs),
        tuple((new[target], new[value]) for target, value in graph.updates),
    )


def _is_narrow(node: Node) -> bool:
    return isinstance(node.type, Array) and is_narrow(node.type.dtype)


def _has_narrow(graph: Graph) -> bool:
    waiting = [graph]
    for at in waiting:
        if any(map(_is_narrow, (*at.inputs, *at.nodes))):
            return True
        waiting += [node.attrs["body"] for node in at.nodes if isinstance(node.op, Bodied)]
    return False


def _widened(node: Node, args: Sequence[Node]) -> Node:
    if isinstance(node.op, Bodied):
        return _widened_loop(node, args)
    if node.op.name not in _EXACT and any(map(_is_narrow, (node, *node.args))):
        narrow = next(x for x in (node, *node.args) if _is_narrow(x))
        raise _refused(narrow, node.op.name)
    if not _is_narrow(node):
        return Node(node.op, tuple(args), node.attrs, node.type, node.loc)
    type = _wide_type(node.array_type)
    attrs = node.attrs
    data = attrs.get("data")
    if data is not None and data.array is not None:
        attrs = {**attrs, "data": Data.of(np.asarray(data.array, type.dtype), data.name)}
    return Node(node.op, tuple(args), attrs, type, node.loc)


def _widened_loop(node: Node, args: Sequence[Node]) -> Node:
    """The body takes and gives wide values where its operands and results are such: what is narrow is so on both
    sides."""
    assert isinstance(node.type, Tuple)
    attrs = {**node.attrs, "body": _wide(node.attrs["body"])}
    return Node(node.op, tuple(args), attrs, Tuple(tuple(map(_wide_type, node.type.items))), node.loc)


def _wide_type(type: Array) -> Array:
    return Array(wide_dtype(type.dtype), type.shape, type.weak)


def _refused(node: Node, what: str) -> DTypeError:
    where = f"{node.loc}: " if node.loc is not None else ""
    wide = wide_dtype(node.dtype).name
    return DTypeError(
        f"{where}{what} is {dtype_name(node.dtype)} in NumPy, which no machine code exists for: write "
        f"x.astype(np.{wide}) before"
    )
