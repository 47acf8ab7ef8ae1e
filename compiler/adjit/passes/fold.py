"""fold: what depends on constants alone is computed now, by NumPy.

    %0 = constant [1.0, 2.0] : f32[2]
    %1 = mul %0, 2.0 : f32[2]           =>  %1 = constant [2.0, 4.0] : f32[2]
    %2 = exp 0.0:f32[800] : f32[800]        (users of %2 use 1.0:f32[800])

Splats stay splats through elementwise ops, movement and extrema, whatever their size, and through sums that are exact.
Arrays are read up to 16 elements, and none longer is made: the bytes of large constants are opaque. An op that
raises is left for the run."""

from __future__ import annotations

import numpy as np

from adjit.ir.builder import CONSTANT, SMALL_CONSTANT
from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.types import Array
from adjit.passes.rewrite import Rewriter, rewrite

_MOVES = frozenset({"reshape", "transpose", "broadcast", "slice", "flip"})
_EXTREMA = frozenset({"max", "min", "any", "all"})


def fold(graph: Graph) -> Graph:
    """The graph with constants in place of what is computed from constants."""
    return rewrite(graph, fold_node)


def fold_node(node: Node, rewriter: Rewriter) -> Node | None:
    """The constant that `node` is, if it is one."""
    if node.op.kind == "leaf" or not isinstance(node.type, Array):
        return _plain_array(node, rewriter) if node.op is CONSTANT else None
    for arg in node.args:
        if arg.op is not CONSTANT:
            return None
    if node.args and all(arg.is_splat for arg in node.args):
        value = _splat_value(node)
        if value is not None:
            return rewriter.splat(value, node.type)
    return _fold_array(node, rewriter) if node.args else None


def _plain_array(node: Node, rewriter: Rewriter) -> Node | None:
    """A small array whose elements are all alike is a splat."""
    if node.is_splat or node.attrs["data"].array is None or not 0 < node.array_type.size <= SMALL_CONSTANT:
        return None
    made = rewriter.array(node.attrs["data"].array)
    return made if made.is_splat else None


def _splat_value(node: Node) -> object | None:
    """The value of every element of a node whose args are splats; None where they differ or are not known."""
    name, operand = node.op.name, node.args[0]
    value = operand.attrs["value"]
    if node.op.kind == "elementwise":
        if name == "stop_gradient":
            return None
        return _evaluate(node, [np.asarray(arg.attrs["value"], arg.dtype) for arg in node.args])
    if name in _MOVES or (name in _EXTREMA and operand.array_type.size):
        return np.asarray(value, operand.dtype)
    if name in ("concatenate", "pad"):
        bits = {np.asarray(arg.attrs["value"], arg.dtype).tobytes() for arg in node.args}
        if name == "pad":
            bits.add(np.asarray(node.attrs["value"]).astype(operand.dtype).tobytes())
        return np.asarray(value, operand.dtype) if len(bits) == 1 else None
    if name == "sum":
        return _sum(node, value)
    return None


def _sum(node: Node, value: float) -> object | None:
    """n times an integer that is small enough that every order of summation is exact."""
    operand = node.args[0].array_type
    if not operand.size:
        return None
    total = value * (operand.size // max(node.array_type.size, 1))
    largest = 2 ** (np.finfo(operand.dtype).nmant if operand.dtype.kind == "f" else 31)
    exact = abs(total) < largest and float(value).is_integer() and (value != 0 or not np.signbit(value))
    return np.asarray(total).astype(operand.dtype) if exact else None


def _evaluate(node: Node, operands: list[np.ndarray]) -> np.ndarray | None:
    try:
        with np.errstate(all="ignore"):
            return np.asarray(node.op.evaluate(*operands, **node.attrs))
    except (ArithmeticError, ValueError, IndexError):
        return None


def _fold_array(node: Node, rewriter: Rewriter) -> Node | None:
    if node.array_type.size > SMALL_CONSTANT or node.op.name == "stop_gradient":
        return None
    operands = []
    for arg in node.args:
        if arg.array_type.size > SMALL_CONSTANT:
            return None
        array = np.full(arg.shape, arg.attrs["value"], arg.dtype) if arg.is_splat else arg.attrs["data"].array
        if array is None:
            return None
        operands.append(array)
    value = _evaluate(node, operands)
    if value is None:
        return None
    if node.array_type.weak:
        return rewriter.splat(value, node.array_type)
    return rewriter.array(np.ascontiguousarray(value).reshape(node.shape))
