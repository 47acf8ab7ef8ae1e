"""What is known of the signs of values, and where rules have poles: found by trying each op once, not by names.

`sqrt(mean(x * x) + eps)` is larger than 0 whatever x is, as long as that is no NaN, so that a division by it makes zero
of zero: of what a rectifier leaves dead no guard need be kept on its account."""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Iterable, Mapping

import numpy as np

from adjit.ir.axes import joins, relation_of
from adjit.ir.builder import CONSTANT, Builder
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.types import F64, Array, Tuple, is_float
from adjit.ops.declare import Differentiable, Elementwise


class Sign(enum.IntEnum):
    """What is known of all elements that are no NaN; of two values, the smaller is known of both."""

    ANY = 0
    NOT_NEGATIVE = 1
    POSITIVE = 2


_EXTREMES = {
    Sign.ANY: (-1e300, -2.0, -1.0, -0.5, -1e-300, 0.0, 1e-300, 0.5, 1.0, 2.0, 1e300),
    Sign.NOT_NEGATIVE: (0.0, 1e-300, 0.5, 1.0, 2.0, 1e300),
    Sign.POSITIVE: (1e-300, 0.5, 1.0, 2.0, 1e300),
}
"""Where an op is tried for its sign: what is too large or too small for a number is among them."""
_POINTS = {
    Sign.ANY: (-1000.0, -2.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.0, 1000.0),
    Sign.NOT_NEGATIVE: (0.0, 0.5, 1.0, 2.0, 1000.0),
    Sign.POSITIVE: (0.5, 1.0, 2.0, 1000.0),
}
"""Where an op is tried for poles: they lie at the ends of domains, at -1, 0 and 1, and exp overflows soon."""


def made_of_poles(graph: Graph, given: Iterable[Node]) -> set[Node]:
    """The nodes that have poles, or are made of one that has, or of what is `given`."""
    found, known = set(given), dict[Node, Sign]()
    for node in graph.nodes:
        known[node] = sign_of(node, known)
        if has_pole(node, known) or not found.isdisjoint(node.args):
            found.add(node)
    return found


def sign_of(node: Node, known: Mapping[Node, Sign]) -> Sign:
    """The sign of a node, by those of its operands."""
    if isinstance(node.type, Tuple) or not is_float(node.dtype):
        return Sign.ANY
    if node.is_splat:
        return _sign(np.asarray(node.attrs["value"]))
    found = [known.get(arg, Sign.ANY) for arg in node.args]
    if node.op.kind == "reduction":
        # A sum of nothing is 0.
        return min(found[0], Sign.NOT_NEGATIVE)
    if node.op.kind == "movement":
        relation = relation_of(node)
        moves = joins(node) or (relation is not None and not relation.filled)
        return min(found, default=Sign.ANY) if moves else Sign.ANY
    if isinstance(node.op, Elementwise) and node.args:
        return _sign_by_trial(node.op, tuple(found), len(set(node.args)) == 1)
    return Sign.ANY


def has_pole(node: Node, known: Mapping[Node, Sign]) -> bool:
    """Whether operands of a usual size may give infinity or NaN, or the rule may make anything but zero of a cotangent
    of zero there. (Neither is so of what multiplies and adds.)"""
    if isinstance(node.type, Tuple):
        return True
    if not is_float(node.dtype):
        return False
    if node.op is CONSTANT:
        return not is_finite(node)
    op = node.op
    if op.kind in ("leaf", "movement", "contraction"):
        return False
    if isinstance(op, Elementwise) and node.args:
        return _pole_by_trial(op, tuple(known.get(arg, Sign.ANY) for arg in node.args))
    return not isinstance(op, Differentiable) or op.singular


def is_finite(node: Node) -> bool:
    """Whether all elements are known to be finite."""
    if node.is_splat:
        return math.isfinite(node.attrs["value"])
    if "data" in node.attrs:
        array = node.attrs["data"].array
        return array is not None and bool(np.isfinite(array).all())
    return node.op.name == "cast" and not is_float(node.args[0].dtype)


def _sign(values: np.ndarray) -> Sign:
    if not values.size or not bool(np.all(values >= 0)):
        return Sign.ANY
    return Sign.POSITIVE if bool(np.all(values > 0)) else Sign.NOT_NEGATIVE


@functools.cache
def _sign_by_trial(op: Elementwise, signs: tuple[Sign, ...], is_same: bool) -> Sign:
    """The sign of an op of operands of these signs, all of them the same one where it says so."""
    if op.attr_kinds or "f" not in op.accepts or len(signs) > 2:
        return Sign.ANY
    points = [np.array(_EXTREMES[sign]) for sign in signs]
    if not is_same and len(points) == 2:
        points = [grid.ravel() for grid in np.meshgrid(*points)]
    with np.errstate(all="ignore"):
        return _sign(np.asarray(op.evaluate(*points)))


@functools.cache
def _pole_by_trial(op: Elementwise, signs: tuple[Sign, ...]) -> bool:
    if op.vjp is None or op.attr_kinds or "f" not in op.accepts or len(signs) > 2:
        return op.singular
    points = [grid.ravel() for grid in np.meshgrid(*(np.array(_POINTS[sign]) for sign in signs))]
    b = Builder()
    type = Array(F64, points[0].shape)
    operands = [b.value(b.input(f"x{i}", type)) for i in range(len(points))]
    cotangent = b.value(b.input("cotangent", type))
    made = op.vjp(b, cotangent, b.value(b.emit(op, *(operand.node for operand in operands))), *operands)
    outputs = tuple(value.node for value in made if value is not None)
    graph = Graph("rule", tuple(b.inputs), tuple(b.nodes), outputs)
    with np.errstate(all="ignore"):
        if not np.all(np.isfinite(op.evaluate(*points))):
            return True
        return any(bool(np.any(found != 0)) for found in evaluate(graph, *points, np.zeros(type.shape)))
